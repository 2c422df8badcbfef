"""Compositions that choose values by position or by order: take, take_along_axis, sort, topk, one_hot."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from . import primitives as P
from .errors import DTypeError, ShapeError
from .tensor import Tensor, as_tensor, tensor


def integer(value: Any, name: str, what: str) -> int:
    """Return an integer of Python or NumPy as an int, or raise in the name of a function."""
    try:
        return operator.index(value)
    except TypeError:
        raise DTypeError(f"{name} got {what}={value!r}; expected an integer") from None


def integers(values: Any, name: str, what: str) -> tuple[int, ...]:
    """Return one integer or several as a tuple of int, or raise in the name of a function."""
    if isinstance(values, int):
        return (values,)
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        array = np.asarray(None)
    if array.ndim > 1 or (array.size and array.dtype.kind not in "biu"):
        raise DTypeError(f"{name} got {what}={values!r}; expected an integer, or a sequence of integers")
    return tuple(int(value) for value in array.reshape(-1).tolist())


def axis_of(x: Tensor, axis: int, name: str) -> int:
    """Return `axis` counted from the front."""
    axis = integer(axis, name, "axis")
    if not -x.ndim <= axis < x.ndim:
        raise ShapeError(f"{name} got axis {axis} for a tensor of shape {x.shape}, which has {x.ndim} axes")
    return axis % x.ndim


def positions(values: Any, like: Tensor) -> Tensor:
    """Return an index tensor on the device of `like`."""
    result = values if isinstance(values, Tensor) else tensor(np.asarray(values), device=like.device)
    if result.size == 0 and result.dtype.kind == "f":  # an empty list
        return result.detach().to("int64")
    if result.dtype.kind not in "iu":
        raise DTypeError(f"positions must be integers, got {result.dtype.name}")
    return result


def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """Return the values of x at the positions `indices` along `axis` (None: of the flattened x).

    Parameters
    ----------
    x : Tensor
        Any shape.
    indices : Tensor, array or list of integers
        Any shape, which replaces `axis` in the result. Where a position repeats, its gradients add up.
    axis : int or None
        Along which axis.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.take(mg.tensor([[1.0, 2.0, 3.0]]), [2, 0], axis=1)
    tensor([[3., 1.]])
    """
    x = as_tensor(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    return x[(*(slice(None),) * axis_of(x, axis, "take"), positions(indices, x))]


def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Tensor:
    """Return for each place of `indices` the value of x at that position along `axis` and that place otherwise.

    Parameters
    ----------
    x : Tensor
        Any shape.
    indices : Tensor or array of integers
        As many axes as x; the lengths of the axes other than `axis` broadcast. `argsort` and (with keepdims)
        `argmax` give such indices.
    axis : int or None
        Along which axis; None: of the flattened x.

    Examples
    --------
    >>> import minigrad as mg
    >>> x = mg.tensor([[1.0, 3.0], [5.0, 4.0]])
    >>> mg.take_along_axis(x, mg.argmax(x, axis=1, keepdims=True), axis=1)
    tensor([[3.],
            [5.]])
    """
    x = as_tensor(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = axis_of(x, axis, "take_along_axis")
    along = positions(indices, x)
    if along.ndim != x.ndim:
        raise ShapeError(f"take_along_axis needs indices with {x.ndim} axes, as x has, got shape {along.shape}")
    places: list[Tensor] = []
    for i, n in enumerate(x.shape):
        column = (1,) * i + (n,) + (1,) * (x.ndim - i - 1)
        places.append(along if i == axis else positions(np.arange(n).reshape(column), x))
    return x[tuple(places)]


def sort(x: Any, axis: int | None = -1, descending: bool = False) -> Tensor:
    """Return x with its values along `axis` (None: of the flattened x) in order; NaN counts as the largest.

    Each value takes its gradient along. Equal values keep their order, so each has a gradient of its own.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.sort(mg.tensor([2.0, 3.0, 1.0]))
    tensor([1., 2., 3.])
    """
    x = as_tensor(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = axis_of(x, axis, "sort")
    return take_along_axis(x, P.argsort(x, axis=axis, descending=descending), axis)


def topk(x: Any, k: int, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """Return the k largest (or smallest) values along `axis`, the first ahead of the others, and their positions.

    Examples
    --------
    >>> import minigrad as mg
    >>> values, indices = mg.topk(mg.tensor([1.0, 3.0, 2.0]), 2)
    >>> values, indices
    (tensor([3., 2.]), tensor([1, 2], dtype=int64))
    """
    x = as_tensor(x)
    axis, k = axis_of(x, axis, "topk"), integer(k, "topk", "k")
    if not 0 <= k <= x.shape[axis]:
        raise ShapeError(f"topk needs 0 <= k <= {x.shape[axis]}, the length of axis {axis}, got k={k}")
    order = P.argsort(x, axis=axis, descending=largest)
    chosen = order[(*(slice(None),) * axis, slice(k))]
    return take_along_axis(x, chosen, axis), chosen


def one_hot(indices: Any, classes: int, dtype: Any = "float32") -> Tensor:
    """Return rows with 1 at the position of each index and 0 elsewhere.

    Parameters
    ----------
    indices : Tensor, array or list of integers
        Class numbers from 0 to `classes` - 1, any shape; any other number gives a row of zeros.
    classes : int
        The length of the new last axis.
    dtype : optional
        Of the result.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.one_hot([2, 0], 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    indices = as_tensor(indices)
    if indices.dtype.kind not in "iu":
        raise DTypeError(f"one_hot needs integers, got {indices.dtype.name}")
    numbers = positions(np.arange(integer(classes, "one_hot", "classes")), indices)
    return P.astype(P.equal(P.expand_dims(indices, axis=-1), numbers), dtype=np.dtype(dtype))
