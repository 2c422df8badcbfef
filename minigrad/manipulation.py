"""Compositions of primitives that move values: flip, roll, pad, split, diagonal and the like, named as in NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import primitives as P
from .creation import full
from .errors import DTypeError, GraphError, ShapeError
from .selection import axis_of, integer, integers, positions, take
from .tensor import Tensor, as_tensor


def _axes_of(x: Tensor, axis: int | Sequence[int] | None, name: str) -> tuple[int, ...]:
    given = tuple(range(x.ndim)) if axis is None else integers(axis, name, "axis")
    axes = tuple(axis_of(x, a, name) for a in given)
    if len(set(axes)) < len(axes):
        raise ShapeError(f"{name} got the axes {given} for shape {x.shape}, in which one repeats")
    return axes


def _slice_along(axis: int, part: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (part,)


# Axes


def ravel(x: Any) -> Tensor:
    """Return the values as one axis, in row-major order.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.ravel(mg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([1., 2., 3., 4.])
    """
    return as_tensor(x).reshape(-1)


def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Return x with the axes `source` moved to the positions `destination`; the others keep their order.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.moveaxis(mg.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    x = as_tensor(x)
    sources, destinations = _axes_of(x, source, "moveaxis"), _axes_of(x, destination, "moveaxis")
    if len(sources) != len(destinations):
        raise ShapeError(f"moveaxis needs as many destinations as sources, got {source} and {destination}")
    order = [i for i in range(x.ndim) if i not in sources]
    for to, start in sorted(zip(destinations, sources, strict=True)):
        order.insert(to, start)
    return P.permute_dims(x, axes=tuple(order))


def flip(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """Return x with the order of the values along `axis` (None: along all axes) reversed.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.flip(mg.tensor([1.0, 2.0, 3.0]))
    tensor([3., 2., 1.])
    """
    x = as_tensor(x)
    axes = _axes_of(x, axis, "flip")
    return x[tuple(slice(None, None, -1 if i in axes else 1) for i in range(x.ndim))]


def roll(x: Any, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """Return x with the values moved `shift` places along `axis`, round the end (axis None: of the flattened x).

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.roll(mg.tensor([1.0, 2.0, 3.0]), 1)
    tensor([3., 1., 2.])
    """
    x = as_tensor(x)
    if axis is None:
        if np.ndim(shift):
            raise ShapeError(f"roll needs one shift where axis is None, got {shift!r}")
        return roll(ravel(x), shift, 0).reshape(x.shape)
    axes, shifts = integers(axis, "roll", "axis"), integers(shift, "roll", "shift")
    if np.ndim(shift) == 0:
        shifts *= len(axes)
    if len(shifts) != len(axes):
        raise ShapeError(f"roll needs a shift for each axis, got {shift!r} for axis {axis!r}")
    for a, by in zip(axes, shifts, strict=True):
        a = axis_of(x, a, "roll")
        cut = -by % x.shape[a] if x.shape[a] else 0
        if cut:
            x = P.concat([x[_slice_along(a, slice(cut, None))], x[_slice_along(a, slice(None, cut))]], axis=a)
    return x


# Repeating and padding


def tile(x: Any, repetitions: int | Sequence[int]) -> Tensor:
    """Return x laid out `repetitions` times along each axis (given for the last axes first, as in NumPy).

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.tile(mg.tensor([1.0, 2.0]), 2)
    tensor([1., 2., 1., 2.])
    """
    x = as_tensor(x)
    counts = integers(repetitions, "tile", "repetitions")
    counts = (1,) * (x.ndim - len(counts)) + counts
    shape = (1,) * (len(counts) - x.ndim) + x.shape
    apart = tuple(n for length in shape for n in (1, length))
    wide = tuple(n for count, length in zip(counts, shape, strict=True) for n in (count, length))
    result = tuple(count * length for count, length in zip(counts, shape, strict=True))
    return P.broadcast_to(x.reshape(apart), shape=wide).reshape(result)


def repeat(x: Any, repeats: int | Sequence[int], axis: int | None = None) -> Tensor:
    """Return x with each value along `axis` (None: of the flattened x) repeated.

    Parameters
    ----------
    x : Tensor
        Any shape.
    repeats : int or sequence of int
        How often: for all values, or for each one along `axis`.
    axis : int or None
        Along which axis.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.repeat(mg.tensor([1.0, 2.0]), [1, 3])
    tensor([1., 2., 2., 2.])
    """
    x = as_tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    axis = axis_of(x, axis, "repeat")
    length = x.shape[axis]
    counts = integers(repeats, "repeat", "repeats")
    if any(count < 0 for count in counts):
        raise ShapeError(f"repeat cannot repeat a value fewer than 0 times, got {repeats!r}")
    if np.ndim(repeats) == 0:
        front, back = x.shape[: axis + 1], x.shape[axis + 1 :]
        wide = P.broadcast_to(P.expand_dims(x, axis=axis + 1), shape=(*front, counts[0], *back))
        return wide.reshape((*front[:-1], length * counts[0], *back))
    if len(counts) != length:
        raise ShapeError(f"repeat needs {length} counts for axis {axis} of shape {x.shape}, got {len(counts)}")
    return take(x, np.repeat(np.arange(length), counts), axis)


def pad(x: Any, width: int | Sequence[Any], mode: str = "constant", value: float | Tensor = 0.0) -> Tensor:
    """Return x with values added before and after along each axis.

    Parameters
    ----------
    x : Tensor
        Any shape.
    width : int, (before, after), or a pair for each axis
        How many values to add.
    mode : "constant", "edge", "reflect", "symmetric" or "wrap"
        What to add: `value`, or values of x as numpy.pad defines it.
    value : float, or 0-d Tensor without gradient
        For mode "constant".

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.pad(mg.tensor([1.0, 2.0]), (1, 2))
    tensor([0., 1., 2., 0., 0.])
    >>> mg.pad(mg.tensor([1.0, 2.0, 3.0]), 1, mode="reflect")
    tensor([2., 1., 2., 3., 2.])
    """
    x = as_tensor(x)
    if isinstance(value, Tensor) and value.requires_grad:
        raise GraphError("pad would lose the gradient of its value; join parts with mg.concat, or give t.detach()")
    try:
        counts = np.asarray(width)
        if counts.size and counts.dtype.kind not in "iu":
            raise DTypeError(f"pad got width={width!r}; expected integers")
        widths = np.broadcast_to(counts.astype(np.int64), (x.ndim, 2)).tolist()
    except ValueError as error:
        raise ShapeError(
            f"pad takes a width, (before, after) or a pair for each of {x.ndim} axes, got {width!r}"
        ) from error
    if any(n < 0 for pair in widths for n in pair):
        raise ShapeError(f"pad cannot add fewer than 0 values, got {width!r}")
    if mode == "constant":
        shape = tuple(n + before + after for n, (before, after) in zip(x.shape, widths, strict=True))
        inside = tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, widths, strict=True))
        if value == 0.0:
            return P.scatter_add(x, shape=shape, index=inside)
        return full(shape, value, x.dtype, x.device).at[inside].set(x)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise ShapeError(f"pad knows the modes constant, edge, reflect, symmetric and wrap, got {mode!r}")
    for axis, pair in enumerate(widths):
        if any(pair):
            # which value stands where: pad the positions instead of the values
            x = take(x, np.pad(np.arange(x.shape[axis]), pair, mode=mode), axis)  # type: ignore[call-overload]
    return x


def split(x: Any, sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Return the parts of x along `axis`: `sections` equal ones, or cut before the given positions.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.split(mg.tensor([1.0, 2.0, 3.0]), [1])
    [tensor([1.]), tensor([2., 3.])]
    """
    x = as_tensor(x)
    axis = axis_of(x, axis, "split")
    length = x.shape[axis]
    cuts = integers(sections, "split", "sections")
    if np.ndim(sections) == 0:
        parts = cuts[0]
        if parts < 1 or length % parts:
            raise ShapeError(f"split cannot cut axis {axis} of shape {x.shape} into {parts} equal parts")
        cuts = tuple(length // parts * i for i in range(1, parts))
    bounds = [0, *cuts, length]
    return [x[_slice_along(axis, slice(a, b))] for a, b in itertools.pairwise(bounds)]


# Diagonals of matrices


def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Return the diagonals of the matrices in the axes `axis1` and `axis2`, as the last axis of the result.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.diagonal(mg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([1., 4.])
    """
    x, offset = as_tensor(x), integer(offset, "diagonal", "offset")
    if x.ndim < 2:
        raise ShapeError(f"diagonal takes matrices, with two axes or more, got shape {x.shape}")
    pair = axis_of(x, axis1, "diagonal"), axis_of(x, axis2, "diagonal")
    if pair[0] == pair[1]:
        raise ShapeError(f"diagonal needs two different axes, got axis1={axis1} and axis2={axis2} for shape {x.shape}")
    x = moveaxis(x, pair, (-2, -1))
    rows, columns = x.shape[-2:]
    first_row, first_column = max(-offset, 0), max(offset, 0)
    places = np.arange(max(min(rows - first_row, columns - first_column), 0))
    return x[..., positions(places + first_row, x), positions(places + first_column, x)]


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Return the sum of each diagonal: see `diagonal`.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.trace(mg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor(5.)
    """
    return P.sum(diagonal(x, offset, axis1, axis2), axis=-1)
