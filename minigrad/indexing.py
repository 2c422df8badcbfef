"""Indexing of tensors: the parts of an index, and `x.at[index].set(v)` and `.add(v)`."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from . import modes, observers, tape
from . import primitives as P
from . import tensor as tensors
from .devices import guarded, refuse_guarded
from .ranges import check_holds

if TYPE_CHECKING:
    from .tensor import Tensor


class At:
    """The first half of `x.at[index].set(v)`."""

    __slots__ = ("_tensor",)

    def __init__(self, x: Tensor) -> None:
        self._tensor = x

    def __getitem__(self, index: Any) -> AtIndex:
        return AtIndex(self._tensor, index)


class AtIndex:
    """A tensor and an index, waiting for `set` or `add`."""

    __slots__ = ("_index", "_tensor")

    def __init__(self, x: Tensor, index: Any) -> None:
        self._tensor = x
        self._index = index

    def set(self, value: Any) -> Tensor:
        """Return a copy with x[index] = value.

        Where an index repeats, which of its values stays is not defined, and each of them gets the gradient of the
        element. Give every index once where gradients of `value` matter.

        Raises
        ------
        DTypeError
            The dtype of x does not hold the value.
        """
        _check_holds(self._tensor, value, "set")
        static, arrays = split_index(self._tensor, self._index)
        return tape.apply(P.index_set, self._tensor, value, *arrays, index=static)

    def add(self, value: Any) -> Tensor:
        """Return a copy with value added at index; repeated indices accumulate.

        Raises
        ------
        DTypeError
            The dtype of x does not hold the value; a sum out of its range wraps around, as NumPy's does.
        """
        x = self._tensor
        _check_holds(x, value, "add")
        static, arrays = split_index(x, self._index)
        chosen = tape.apply(P.getitem, x.detach(), *arrays, index=static)
        value = value if isinstance(value, tensors.Tensor) else tensors.tensor(value, dtype=x.dtype, device=x.device)
        spread = tape.apply(P.broadcast_to, value, shape=chosen.shape)
        return x + tape.apply(P.scatter_add, spread, *arrays, shape=x.shape, index=static)


def _check_holds(x: Tensor, value: Any, name: str) -> None:
    check_holds(x.dtype, value, f"at[...].{name}() got", "convert the tensor first, or round the value and convert it")


def split_index(x: Tensor, index: Any) -> tuple[tuple, list[Tensor]]:
    """Split an index into its static part and its index arrays, as the indexing primitives take them."""
    parts = index if isinstance(index, tuple) else (index,)
    masks: list[tuple[int, tuple[int, ...]]] = []  # where they stand in the static part, and their shapes
    static: list[Any] = []
    arrays: list[Tensor] = []
    given: list[Any] = []  # the same arrays as they came: those of the host can be looked at without waiting
    for part in parts:
        if isinstance(part, int | np.integer | slice) or part is None or part is Ellipsis:
            static.append(int(part) if isinstance(part, np.integer) else part)
            continue
        array = part if isinstance(part, tensors.Tensor) else tensors.tensor(np.asarray(part), device=x.device)
        if array.dtype.kind == "f" and array.size == 0:
            array = tensors.tensor(np.zeros(array.shape, np.int64), device=x.device)
        if array.dtype.kind == "b" and array.ndim == 0:
            static.append(bool(array.item()))
            continue
        if array.dtype.kind == "b":
            observers.refuse_while_recording("indexing by a mask reads its values", "use mg.where")
            if array.device.type != "cpu":  # how many there are decides the shape
                refuse_guarded("a mask is read for indexing")
            masks.append((len(static), array.shape))
            for positions in array._array.nonzero():
                static.append(P.indexing.ARRAY)
                arrays.append(tensors.Tensor._wrap(positions, x.device, None))
                given.append(None)
            continue
        if array.dtype.kind not in "iu":
            raise IndexError(
                f"an index is an integer, a slice or an array of integers or bools, got {array.dtype.name}"
            )
        static.append(P.indexing.ARRAY)
        arrays.append(array)
        given.append(array if array is part else np.asarray(part))
    if masks:
        _check_masks(x, static, masks)
    if x.device.type != "cpu" and arrays:
        _check_bounds(x, static, given)
    return tuple(static), arrays


def _axes(x: Tensor, static: list[Any]) -> list[int]:
    """Return the axis of x at which each part of an index stands."""
    lengths = [0 if part is None or part is Ellipsis or isinstance(part, bool) else 1 for part in static]
    lengths = [x.ndim - sum(lengths) if part is Ellipsis else n for part, n in zip(static, lengths, strict=True)]
    return list(itertools.accumulate(lengths[:-1], initial=0))


def _check_masks(x: Tensor, static: list[Any], masks: list[tuple[int, tuple[int, ...]]]) -> None:
    """Raise for masks of another shape than what they choose from, whose positions may fit by accident."""
    axes = _axes(x, static)
    for place, shape in masks:
        axis = axes[place]
        chosen = x.shape[axis : axis + len(shape)]
        if chosen != shape:
            raise IndexError(f"a mask of shape {shape} does not fit axis {axis} of shape {x.shape}: expected {chosen}")


def _check_bounds(x: Tensor, static: list[Any], given: list[Any]) -> None:
    """Raise for positions that x does not have: CuPy would wrap them around.

    The host waits for positions that are on the device, so they are looked at only where values are.
    """
    remaining = iter(given)
    for axis, part in zip(_axes(x, static), static, strict=True):
        positions = next(remaining) if part is P.indexing.ARRAY else None
        on_device = isinstance(positions, tensors.Tensor) and positions.device.type != "cpu"
        if positions is not None and positions.size and not (on_device and not reads_allowed()):
            low, high = (int(bound.item()) for bound in (positions.min(), positions.max()))
            if axis < x.ndim and not -x.shape[axis] <= low <= high < x.shape[axis]:
                wrong = low if low < -x.shape[axis] else high
                raise IndexError(f"index {wrong} is out of bounds for axis {axis} with size {x.shape[axis]}")


def reads_allowed() -> bool:
    """Return whether the host may wait for values of a device, only to check them."""
    return modes.checks_values() and not guarded()
