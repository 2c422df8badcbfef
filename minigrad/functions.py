"""Compositions of primitives: reductions, activations and losses. Their derivatives follow from the table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import primitives as P
from .errors import DataError, DTypeError, ShapeError
from .indexing import reads_allowed
from .manipulation import moveaxis
from .selection import axis_of, integers, take_along_axis
from .tensor import Tensor, as_tensor

Axis = int | tuple[int, ...] | None


# Elementwise


def reciprocal(x: Any) -> Tensor:
    """Return 1 / x, elementwise.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.reciprocal(mg.tensor([2.0, 4.0]))
    tensor([0.5 , 0.25])
    """
    return 1.0 / as_tensor(x)


def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """Return x with NaN and the infinities replaced; the gradient there is 0.

    Parameters
    ----------
    x : Tensor
        Any shape.
    nan, posinf, neginf : float
        What replaces NaN, inf and -inf; by default 0, the largest and the smallest finite number of the dtype.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.nan_to_num(mg.tensor([float("nan"), 2.0, float("inf")]), posinf=9.0)
    tensor([0., 2., 9.])
    """
    x = as_tensor(x)
    if x.dtype.kind != "f":
        return x
    largest = float(x.device.xp.finfo(x.dtype).max)
    x = P.where(P.isnan(x), nan, x)
    x = P.where(x == math.inf, largest if posinf is None else posinf, x)
    return P.where(x == -math.inf, -largest if neginf is None else neginf, x)


# Reductions


def wide(x: Any) -> Any:
    """Return float16 as float32, in which its squares have room: in float16 they overflow from 256 on."""
    return P.astype(x, dtype=np.dtype("float32")) if x.dtype == "float16" else x


def narrow(y: Tensor, x: Any) -> Tensor:
    """Return a result that was computed of `wide(x)` in the dtype of x."""
    return y.to(x.dtype) if x.dtype == "float16" else y


def _sqrt_or_zero(x: Tensor) -> Tensor:
    """Return sqrt(x) with derivative 0 at 0: sqrt sees 1 there, and the outer `where` passes no gradient on."""
    zero = x == 0.0
    return P.where(zero, 0.0, P.sqrt(P.where(zero, 1.0, x)))


def norm(x: Any, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """Return the vector norm of the values over `axis` (a tuple or None: of all of them as one vector).

    Parameters
    ----------
    x : Tensor
        Any shape.
    axis : int, tuple of int or None
        What to reduce.
    keepdims : bool
        Keep reduced axes with length 1.
    ord : 1, 2 or inf
        Sum of magnitudes, Euclidean norm, or largest magnitude.

    Notes
    -----
    The derivative at x = 0 is 0, where the written-out form `mg.sqrt((x * x).sum())` gives NaN. Squares of float16 are
    added up in float32. As in NumPy, those of float32 values above 1e19 are infinite; divide by the largest one first.
    Integers and bools are converted to float32.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.norm(mg.tensor([3.0, 4.0]))
    tensor(5.)
    >>> mg.grad(mg.norm)(mg.tensor([0.0, 0.0]))
    tensor([0., 0.])
    """
    x = as_tensor(x)
    if x.dtype.kind in "biu":  # which have no squares as large, and -128 has no magnitude
        x = x.to("float32")
    if ord == 2:
        return narrow(_sqrt_or_zero(P.sum(P.square(wide(x)), axis=axis, keepdims=keepdims)), x)
    if ord == 1:
        return P.sum(P.abs(x), axis=axis, keepdims=keepdims)
    if ord == math.inf:
        return P.max(P.abs(x), axis=axis, keepdims=keepdims)
    raise ShapeError(f"norm knows ord=1, 2 and inf, got {ord!r}; write others as sums of powers")


def var(x: Any, axis: Axis = None, keepdims: bool = False, correction: float = 0) -> Tensor:
    """Return the variance over `axis`: the sum of (x - mean)^2 over the count minus `correction`.

    Parameters
    ----------
    x : Tensor
        Any shape; float32 stays float32, and float16 is computed in float32.
    axis : int, tuple of int or None
        What to reduce.
    keepdims : bool
        Keep reduced axes with length 1.
    correction : float
        0 divides by the count, 1 by the count minus 1 (the unbiased estimate).

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.var(mg.tensor([1.0, 2.0, 3.0]), correction=1)
    tensor(1.)
    """
    x = as_tensor(x)
    return narrow(_var(wide(x), axis, keepdims, correction), x)


def _var(x: Tensor, axis: Axis, keepdims: bool, correction: float) -> Tensor:
    deviations = P.square(x - P.mean(x, axis=axis, keepdims=True))
    if correction == 0:
        return P.mean(deviations, axis=axis, keepdims=keepdims)
    total = P.sum(deviations, axis=axis, keepdims=keepdims)
    count = x.size / total.size if total.size else 1.0
    return total / float(max(count - correction, 0.0))


def std(x: Any, axis: Axis = None, keepdims: bool = False, correction: float = 0) -> Tensor:
    """Return the standard deviation over `axis`: the root of `var`, with derivative 0 where all values are equal.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.std(mg.tensor([1.0, 3.0]))
    tensor(1.)
    >>> mg.grad(mg.std)(mg.tensor([2.0, 2.0]))
    tensor([0., 0.])
    """
    x = as_tensor(x)
    return narrow(_sqrt_or_zero(_var(wide(x), axis, keepdims, correction)), x)


def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the product over `axis`; the product of nothing is 1.

    Parameters
    ----------
    x : Tensor
        Any shape; bools and small integers are multiplied as int64.
    axis : int, tuple of int or None
        What to reduce.
    keepdims : bool
        Keep reduced axes with length 1.

    Notes
    -----
    Neighbouring halves are multiplied until one value is left: log2(n) steps, and derivatives of every order are
    right where factors are 0, because nothing is divided by x.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.grad(mg.prod)(mg.tensor([0.0, 2.0, 3.0]))
    tensor([6., 0., 0.])
    """
    x = _wide(as_tensor(x))
    axes = tuple(range(x.ndim)) if axis is None else integers(axis, "prod", "axis")
    axes = tuple(axis_of(x, a, "prod") for a in axes)
    kept = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    length = math.prod(x.shape[a] for a in axes)
    y = moveaxis(x, axes, tuple(range(len(axes)))).reshape(length, *kept)
    while y.shape[0] > 1:
        half = y.shape[0] // 2
        products = y[:half] * y[half : 2 * half]
        y = products if y.shape[0] % 2 == 0 else P.concat([products, y[2 * half :]])
    y = y[0] if length else P.sum(y, axis=0) + 1
    return y.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape))) if keepdims else y


def cumprod(x: Any, axis: int | None = None) -> Tensor:
    """Return the running product along `axis` (None: of the flattened tensor).

    Notes
    -----
    Each step multiplies every value by the one 1, 2, 4, ... places before it: log2(n) steps, and right derivatives
    of every order where values are 0.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.cumprod(mg.tensor([1.0, 2.0, 3.0]))
    tensor([1., 2., 6.])
    """
    x = _wide(as_tensor(x))
    if axis is None:
        x, axis = x.reshape(-1), 0
    before = (slice(None),) * axis_of(x, axis, "cumprod")
    step, length = 1, x.shape[axis]
    while step < length:
        products = x[(*before, slice(step, None))] * x[(*before, slice(None, -step))]
        x = P.concat([x[(*before, slice(None, step))], products], axis=axis)
        step *= 2
    return x


def _wide(x: Tensor) -> Tensor:
    """Return bools and small integers as the 64-bit integers in which NumPy multiplies them."""
    if x.dtype.kind in "bi":
        return x.to("int64")
    return x.to("uint64") if x.dtype.kind == "u" else x


# Activations


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """Return x Phi(x), where Phi is the distribution function of the standard normal (Hendrycks and Gimpel 2016).

    Parameters
    ----------
    x : Tensor
        Any shape.
    approximate : "none" or "tanh"
        Phi by the error function, or by 1/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.gelu(mg.tensor([0.0, 10.0]))
    tensor([ 0., 10.])
    """
    x = as_tensor(x)
    if approximate == "none":
        return x * ((P.erf(x * math.sqrt(0.5)) + 1.0) * 0.5)
    if approximate == "tanh":
        z = P.clip(x, low=-10.0, high=10.0)  # tanh is 1 there already, and z^3 is finite: inf * 0 would be NaN
        return x * ((P.tanh((z + z * z * z * 0.044715) * math.sqrt(2.0 / math.pi)) + 1.0) * 0.5)
    raise ShapeError(f"gelu knows approximate='none' and 'tanh', got {approximate!r}")


def silu(x: Any) -> Tensor:
    """Return x sigmoid(x), elementwise.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.silu(mg.tensor([0.0, 100.0]))
    tensor([  0., 100.])
    """
    x = as_tensor(x)
    return x * P.sigmoid(x)


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """Return x where x > 0, else alpha (e^x - 1); the derivative at 0 is alpha (Clevert et al. 2015).

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.elu(mg.tensor([2.0, -1000.0]))
    tensor([ 2., -1.])
    """
    x = as_tensor(x)
    positive = x > 0.0
    return P.where(positive, x, P.expm1(P.where(positive, 0.0, x)) * alpha)


# Losses


def huber(x: Any, delta: float = 1.0) -> Tensor:
    """Return x^2 / 2 where |x| <= delta, else delta (|x| - delta / 2), elementwise (Huber 1964).

    Parameters
    ----------
    x : Tensor
        Residuals, any shape.
    delta : float
        Where the parabola goes over into straight lines.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.huber(mg.tensor([1.0, 10.0]))
    tensor([0.5, 9.5])
    """
    if not delta > 0:
        raise ShapeError(f"huber needs delta > 0, got {delta!r}")
    x = as_tensor(x)
    clipped = P.clip(x, low=-delta, high=delta)
    # where x is not clipped its excess is 0, where it is the slope is a constant: inf times 0 is nowhere
    return P.square(clipped) * 0.5 + clipped.detach() * (x - clipped)


def cross_entropy(logits: Any, targets: Any, axis: int = -1) -> Tensor:
    """Return the mean over all samples of - sum_k t_k log softmax(logits)_k, in nats.

    Parameters
    ----------
    logits : Tensor
        Scores with the classes along `axis`.
    targets : Tensor
        Class numbers (integers from 0, the shape of `logits` without `axis`) or probabilities (the shape of `logits`).
    axis : int
        Where the classes are.

    Raises
    ------
    ShapeError, DTypeError
        The targets are neither.
    DataError
        There is no class of such a number. A compiled step does not look at numbers: there a negative one counts from
        the last class.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.cross_entropy(mg.tensor([[0.0, 0.0], [0.0, 1000.0]]), mg.tensor([0, 1]))
    tensor(0.3465736)
    """
    logits, targets = as_tensor(logits), as_tensor(targets)
    axis = axis_of(logits, axis, "cross_entropy")
    log_p = P.log_softmax(logits, axis=axis)
    samples = logits.shape[:axis] + logits.shape[axis + 1 :]
    if targets.dtype.kind in "iu" and targets.shape == samples:
        _check_classes(targets, logits.shape[axis])
        return -P.mean(take_along_axis(log_p, P.expand_dims(targets, axis=axis), axis))
    if targets.dtype.kind == "f" and targets.shape == logits.shape:
        return -P.mean(P.sum(targets * log_p, axis=axis))
    expected = f"integers of shape {samples} or probabilities of shape {logits.shape}"
    got = f"{targets.dtype.name} of shape {targets.shape}"
    error: Callable[[str], Exception] = DTypeError if targets.shape in (samples, logits.shape) else ShapeError
    raise error(f"cross_entropy needs targets that are {expected}, got {got}")


def _check_classes(targets: Tensor, classes: int) -> None:
    """Raise for a class number that there is not: a negative one would count from the last class."""
    if targets.size == 0 or not reads_allowed():
        return
    numbers = targets.detach()
    low, high = int(numbers.min().item()), int(numbers.max().item())
    if low < 0 or high >= classes:
        raise DataError(
            f"cross_entropy: targets contain {low if low < 0 else high}, but logits have {classes} classes; expected "
            f"class numbers from 0 to {classes - 1}. Number the classes from 0, as np.unique(y, return_inverse=True) "
            "does, and leave out samples without a class: no number means that one is ignored"
        )
