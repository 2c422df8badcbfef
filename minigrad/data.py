"""Minibatches: go through arrays in small parts, in a new random order each time; and bring them to a GPU."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from . import modes, observers, random
from .devices import CPU, Copies, Device, device, out_of_memory
from .errors import DataError, DTypeError, ShapeError
from .tensor import Tensor, Version, tensor


def batches(
    *arrays: Any,
    batch_size: int,
    generator: random.Generator | None = None,
    shuffle: bool = True,
    drop_last: bool = False,
) -> Iterator[tuple[Any, ...]]:
    """Go once through arrays of the same length, in tuples of `batch_size` rows of each.

    Parameters
    ----------
    *arrays : ndarray or Tensor, shapes (m, ...)
        At least one; row i of one belongs to row i of the others. A memory-mapped array is read batch by batch.
    batch_size : int, at least 1
    generator : Generator, optional
        Draws the order, when batches is called; by default the thread's default generator.
    shuffle : bool
        Whether the order is random. Without shuffling, batches of an ndarray are views of it.
    drop_last : bool
        Whether to leave out a last batch that is smaller than the others.

    Returns
    -------
    iterator of tuples
        One ndarray or Tensor, as given, for each array.

    Raises
    ------
    DataError, DTypeError, ShapeError
        There is no array, an argument is neither ndarray nor Tensor, lengths differ, or batch_size is below 1. Raised
        by the call itself, before the generator is used.

    Examples
    --------
    >>> import minigrad as mg
    >>> X, y = np.arange(10.0).reshape(5, 2), np.arange(5)
    >>> [labels.tolist() for rows, labels in batches(X, y, batch_size=2, shuffle=False)]
    [[0, 1], [2, 3], [4]]
    >>> parts = [part for (part,) in batches(y, batch_size=2, generator=mg.random.Generator(0))]
    >>> sorted(np.concatenate(parts).tolist())
    [0, 1, 2, 3, 4]
    """
    length = _common_length(arrays)
    try:
        size = operator.index(batch_size)
    except TypeError:
        raise DTypeError(f"batches: got batch_size={batch_size!r}; expected an integer of at least 1") from None
    if size < 1:
        raise DataError(f"batches: got batch_size={batch_size!r}; expected at least 1")
    order = (generator or random.default_generator()).permutation(length, "cpu").numpy() if shuffle else None
    end = length - length % size if drop_last else length
    return _parts(arrays, order, size, end)


def _parts(arrays: tuple[Any, ...], order: np.ndarray | None, size: int, end: int) -> Iterator[tuple[Any, ...]]:
    # to a GPU the order goes as a whole, not batch by batch
    orders = [
        tensor(order, device=a.device) if order is not None and isinstance(a, Tensor) and a.device is not CPU else order
        for a in arrays
    ]
    for start in range(0, end, size):
        rows = slice(start, min(start + size, end))
        yield tuple(_part(a, rows if own is None else own[rows]) for a, own in zip(arrays, orders, strict=True))


def _part(a: Any, index: Any) -> Any:
    """Return a[index]; of a tensor to which no gradient flows without the cost of an operation, which batches feel."""
    if not isinstance(a, Tensor) or a._node is not None or isinstance(index, Tensor) or observers.observed():
        with modes.unchecked():  # parts of a permutation are within bounds, which the host would wait to see
            return a[index]
    return Tensor._wrap(a._array[index], a.device, None, a._version if isinstance(index, slice) else Version())


def _common_length(arrays: tuple[Any, ...]) -> int:
    if not arrays:
        raise DataError("batches: got no array; expected at least one")
    for position, array in enumerate(arrays):
        if not isinstance(array, np.ndarray | Tensor):
            raise DTypeError(f"batches: array {position} is a {type(array).__name__}; expected an ndarray or a Tensor")
        if array.ndim == 0:
            raise ShapeError(f"batches: array {position} is 0-d; expected a first axis of rows")
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        raise ShapeError(f"batches: the arrays have {lengths} rows; expected the same number in each")
    return lengths[0]


def sent(batches: Iterable[tuple[np.ndarray, ...]], place: str | Device) -> Iterator[tuple[Tensor, ...]]:
    """Bring batches of arrays to a device one by one, each while the device still computes with the one before.

    Parameters
    ----------
    batches : iterable of tuples of ndarray
        Such as ``batches(X, y, batch_size=64)``. It is asked for the next one only when that is wanted.
    place : str or Device

    Yields
    ------
    tuple of Tensor
        New tensors with the values of a batch, in its dtypes.

    Notes
    -----
    Work for a GPU is queued, so when the next batch is asked for, the GPU has yet to compute with this one. Meanwhile
    the next is copied, on a stream of its own, from one of two arrays in pinned memory. Three waits make that safe: the
    computation waits for the copy; the copy waits until nothing computes with the memory that it writes to, which was
    set aside one batch earlier; and the host waits, before it fills an array in pinned memory anew, for the copy of two
    batches ago. On the CPU a batch is copied, and that is all.

    Examples
    --------
    >>> import minigrad as mg
    >>> X = np.arange(6.0).reshape(3, 2)
    >>> [x.shape for (x,) in mg.data.sent(batches(X, batch_size=2), "cpu")]
    [(2, 2), (1, 2)]
    """
    place = device(place)
    if place is CPU:
        yield from (tuple(tensor(a, device=place) for a in arrays) for arrays in batches)
        return
    copies = place.copies()
    pinned = [_Pinned(copies), _Pinned(copies)]
    room = _Room(place, copies, ())
    try:
        for number, arrays in enumerate(batches):
            arrays = tuple(map(_native, arrays))
            held = pinned[number % 2].filled(arrays)
            if not room.fits(arrays):
                room = _Room(place, copies, arrays)
            ends = pinned[number % 2].ends  # each is known as soon as there is something to wait for
            for a, target in zip(held, room.arrays, strict=True):
                ends.append(copies.start(a, target, room.free))
            found = tuple(Tensor._wrap(target, place, None, Version()) for target in room.arrays)
            room = _Room(place, copies, arrays)  # before the step with this batch: the next copy need not await it
            for end in ends:
                copies.await_on_device(end)
            yield found
            del found
    finally:
        for own in pinned:  # before that memory serves others
            own.finish()


class _Pinned:
    """Arrays of the host that batches are copied from."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies
        self._arrays: list[np.ndarray] = []
        self.ends: list[Any] = []  # of the copies from them

    def filled(self, arrays: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        """Return them with these values, once nothing is copied from them any more."""
        self.finish()
        if len(self._arrays) != len(arrays) or not all(map(_holds, self._arrays, arrays)):
            self._arrays = [self._copies.host_array(a.shape, a.dtype) for a in arrays]
        # the last batch may be smaller
        result = [own[: len(a)] if a.ndim else own for own, a in zip(self._arrays, arrays, strict=True)]
        for own, a in zip(result, arrays, strict=True):
            np.copyto(own, a)
        return result

    def finish(self) -> None:
        """Let the host wait until nothing is copied from them."""
        for end in self.ends:
            self._copies.finish(end)
        self.ends = []


def _native(a: Any) -> np.ndarray:
    """Return an array as tensors hold it: numbers, their bytes in the order of this machine."""
    a = np.asarray(a)
    if a.dtype.kind not in "biufc":
        raise DTypeError(f"sent: tensors hold numbers and bools, got data of dtype {a.dtype}")
    return a.astype(a.dtype.newbyteorder("="), copy=False)


def _holds(own: np.ndarray, a: np.ndarray) -> bool:
    """Return whether there is room in an array for another one."""
    same = own.ndim == a.ndim and own.shape[1:] == a.shape[1:] and own.dtype == a.dtype
    return same and (a.ndim == 0 or len(own) >= len(a))


class _Room:
    """Memory of a GPU for a batch, and the mark in its work after which nothing else uses it."""

    def __init__(self, place: Device, copies: Copies, like: tuple[np.ndarray, ...]) -> None:
        try:
            self.arrays = [place.xp.empty(a.shape, a.dtype) for a in like]
        except MemoryError as error:
            raise out_of_memory(place, f"a batch of shape {like[0].shape}", error) from None
        self.free = copies.mark()

    def fits(self, arrays: tuple[np.ndarray, ...]) -> bool:
        """Return whether it is for arrays like these."""
        return [(a.shape, a.dtype) for a in self.arrays] == [(a.shape, a.dtype) for a in arrays]
