"""Reductions over `axis` (None: all, an int or a tuple), as in NumPy; the result is always an array."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .domains import REAL
from .registry import Samples, primitive

HALF, SINGLE = np.dtype("float16"), np.dtype("float32")
LARGEST_HALF = 65504


def kept_shape(shape: tuple[int, ...], axis: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """Return `shape` with 1 at every reduced axis."""
    if axis is None or not shape:  # NumPy accepts axis 0 of an array without axes
        return (1,) * len(shape)
    axes = {a % len(shape) for a in (axis if isinstance(axis, tuple) else (axis,))}
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _keep(F: Any, g: Any, x: Any, axis: Any) -> Any:
    """Give a reduced array back its reduced axes, with length 1, so that it broadcasts against x."""
    shape = kept_shape(x.shape, axis)
    return g if g.shape == shape else F.reshape(g, shape=shape)


sum = primitive(
    "sum",
    forward=lambda xp, x, /, *, axis=None, keepdims=False, out=None: xp.sum(x, axis=axis, keepdims=keepdims, out=out),
    vjps=[lambda F, g, y, x, axis, keepdims: F.broadcast_to(_keep(F, g, x, axis), shape=x.shape)],
    samples=Samples("reduce", (REAL,)),
    doc="Sum over axis.",
)


def _mean(F: Any, g: Any, y: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    count = x.size // y.size if y.size else 1
    g = _keep(F, g, x, axis)
    if count > LARGEST_HALF and x.dtype == HALF:  # the count would be inf
        g = F.astype(F.astype(g, dtype=SINGLE) / count, dtype=HALF)
    else:
        g = g / count
    return F.broadcast_to(g, shape=x.shape)


mean = primitive(
    "mean",
    forward=lambda xp, x, /, *, axis=None, keepdims=False, out=None: xp.mean(x, axis=axis, keepdims=keepdims, out=out),
    vjps=[_mean],
    samples=Samples("reduce_nonempty", (REAL,)),
    doc="Mean over axis.",
)


def _extremum(F: Any, g: Any, y: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    chosen = F.equal(x, _keep(F, y, x, axis))
    # the count is an integer: 70,000 ties overflow float16
    share = _keep(F, g, x, axis) / F.sum(chosen, axis=axis, keepdims=True)
    return chosen * share


max = primitive(
    "max",
    forward=lambda xp, x, /, *, axis=None, keepdims=False, out=None: xp.max(x, axis=axis, keepdims=keepdims, out=out),
    vjps=[_extremum],
    saves="yx",
    samples=Samples("reduce_nonempty", (REAL,), ties=True, analytic=False),
    doc="Largest value over axis; ties split the gradient evenly.",
)

min = primitive(
    "min",
    forward=lambda xp, x, /, *, axis=None, keepdims=False, out=None: xp.min(x, axis=axis, keepdims=keepdims, out=out),
    vjps=[_extremum],
    saves="yx",
    samples=Samples("reduce_nonempty", (REAL,), ties=True, analytic=False),
    doc="Smallest value over axis; ties split the gradient evenly.",
)


def _wide(x: Any) -> Any:
    """Return float16 as float32: the sum of more than 65504 exponentials would overflow."""
    return x.astype(SINGLE) if x.dtype == HALF else x


def _logsumexp(xp: Any, x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
    dtype, x = x.dtype, _wide(x)
    shift = xp.max(x, axis=axis, keepdims=True)
    shift = xp.where(xp.isfinite(shift), shift, 0.0)  # -inf - -inf would be NaN
    total = xp.sum(xp.exp(x - shift), axis=axis, keepdims=True)
    # log 0 = -inf is the right value of an all -inf row, and not worth NumPy's warning
    value = xp.where(total == 0, -xp.inf, xp.log(xp.where(total == 0, 1.0, total))) + shift
    value = value if keepdims else value.reshape(xp.sum(x, axis=axis).shape)
    return value.astype(HALF) if dtype == HALF else value


def _softmax(F: Any, g: Any, y: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    y = _keep(F, y, x, axis)
    return _keep(F, g, x, axis) * F.exp(x - F.where(F.equal(y, -math.inf), 0.0, y))


logsumexp = primitive(
    "logsumexp",
    forward=_logsumexp,
    vjps=[_softmax],
    saves="yx",
    samples=Samples("reduce_nonempty", (REAL,), analytic=False),
    doc="log(sum(exp(x))) over axis, without overflow. A row of -inf gives -inf, with gradient 0.",
)


def _shifted(xp: Any, x: Any, axis: Any) -> tuple[Any, Any]:
    """Return x minus its largest value over axis, so that no exponential overflows, and the sum of exponentials."""
    shift = xp.max(x, axis=axis, keepdims=True)
    x = x - xp.where(xp.isfinite(shift), shift, 0.0)  # -inf - -inf would be NaN
    total = xp.sum(xp.exp(x), axis=axis, keepdims=True)
    return x, xp.where(total == 0, 1.0, total)


def _softmax_forward(xp: Any, x: Any, /, *, axis: Any = -1) -> Any:
    dtype, (x, total) = x.dtype, _shifted(xp, _wide(x), axis)
    y = xp.exp(x) / total
    return y.astype(HALF) if dtype == HALF else y


# Not exp(x - logsumexp(x)): in float32 that has an error of 3e-5 at x = 1000.
softmax = primitive(
    "softmax",
    forward=_softmax_forward,
    vjps=[lambda F, g, y, x, axis: y * (g - F.sum(g * y, axis=axis, keepdims=True))],
    saves="y",
    samples=Samples("axis_nonempty", (REAL,), analytic=False),
    doc="exp(x) / sum(exp(x)) over axis (-1), without overflow. A row of -inf gives zeros.",
)


def _log_softmax_forward(xp: Any, x: Any, /, *, axis: Any = -1) -> Any:
    dtype, (x, total) = x.dtype, _shifted(xp, _wide(x), axis)
    y = x - xp.log(total)
    return y.astype(HALF) if dtype == HALF else y


def _log_softmax(F: Any, g: Any, y: Any, x: Any, axis: Any) -> Any:
    if g.dtype == HALF:  # as in the forward; the engine casts it back
        g, y = F.astype(g, dtype=SINGLE), F.astype(y, dtype=SINGLE)
    return g - F.exp(y) * F.sum(g, axis=axis, keepdims=True)


log_softmax = primitive(
    "log_softmax",
    forward=_log_softmax_forward,
    vjps=[_log_softmax],
    saves="y",
    samples=Samples("axis_nonempty", (REAL,), analytic=False),
    doc="The logarithm of softmax, finite also where a probability underflows to 0.",
)


def _sum_to(xp: Any, x: Any, /, *, shape: tuple[int, ...]) -> Any:
    extra = x.ndim - len(shape)
    if extra < 0:
        raise ValueError(f"shape {x.shape} is not one to which {shape} broadcasts")
    axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and x.shape[i + extra] != 1)
    total = xp.sum(x, axis=axes, keepdims=True) if axes else x
    if total.shape[extra:] != shape:  # of the same size it would be reshaped
        raise ValueError(f"shape {x.shape} is not one to which {shape} broadcasts")
    return total.reshape(shape)


sum_to = primitive(
    "sum_to",
    forward=_sum_to,
    vjps=[lambda F, g, y, x, shape: F.broadcast_to(g, shape=x.shape)],
    view=True,
    samples=Samples("sum_to", (REAL,)),
    doc="Sum over the axes that broadcasting added or stretched: the transpose of broadcast_to.",
)
