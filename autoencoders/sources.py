"""What `fit` trains on, as a source of batches: arrays in memory, arrays on disk, or batches that come one by one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

import minigrad as mg
from autoencoders.inputs import as_array, converted, sample_array, samples_of, stays
from minigrad import data, nn
from minigrad.errors import DataError, DTypeError, ShapeError
from minigrad.random import Generator

Batch = tuple[mg.Tensor, ...]  # x, or x and y
END = object()  # of an iterable of batches, which may give None by mistake
SHARE = 3  # how often samples must fit into a GPU's free memory to stay there: as given, shuffled, and room to train


class InMemory:
    """Samples that live on the device of the model as a whole.

    Attributes
    ----------
    count : int or None
        How many samples there are, where that is known.
    first : tuple of Tensor
        The batch that comes first without shuffling.
    extremes : list of tuples of Tensor, or None
        Batches of the size of the first with the smallest and the largest number of all x, and of all y, where all are
        known.
    """

    def __init__(self, tensors: Batch, batch_size: int) -> None:
        self._tensors = tensors
        self._batch_size = batch_size
        self.count: int | None = len(tensors[0])
        self.first = tuple(t[:batch_size] for t in tensors)

    @cached_property
    def extremes(self) -> list[Batch] | None:
        """Found when it is asked for: only a compiled training asks."""
        place = self._tensors[0].device
        return [
            tuple(mg.take(t, mg.tensor(rows, device=place), axis=0) for t in self._tensors)
            for rows in _extreme_rows(mg, self._tensors, self._batch_size)
        ]

    def whole(self) -> InMemory:
        """Return the same samples as one batch."""
        return InMemory(self._tensors, len(self._tensors[0]))

    def batches(self, generator: Generator | None, shuffle: bool) -> Iterator[Batch]:
        """Go once through all samples. On a GPU all are brought into their order at once; batches are parts of that."""
        tensors, place = self._tensors, self._tensors[0].device
        if shuffle and place.type != "cpu":
            order = (generator or mg.random.default_generator()).permutation(len(tensors[0]), place)
            with mg.modes.unchecked():  # a permutation is within bounds
                tensors = tuple(mg.take(t, order, axis=0) for t in tensors)
            shuffle = False
        return data.batches(*tensors, batch_size=self._batch_size, generator=generator, shuffle=shuffle)


class OnHost:
    """Arrays on disk, or too large for the GPU: each batch is taken when it is needed. Attributes as `InMemory`."""

    def __init__(self, arrays: Sequence[np.ndarray], batch_size: int, convert: _Convert, checked: bool) -> None:
        self._arrays = arrays
        self._batch_size = batch_size
        self._convert = convert
        self._checked = checked  # all of them, beforehand
        self.count: int | None = len(arrays[0])
        self.first = convert(*(a[:batch_size] for a in arrays))

    @cached_property
    def extremes(self) -> list[Batch] | None:
        """Not known of arrays on disk."""
        if not self._checked:
            return None
        return [
            self._convert(*(a[rows] for a in self._arrays))
            for rows in _extreme_rows(np, self._arrays, self._batch_size)
        ]

    def batches(self, generator: Generator | None, shuffle: bool) -> Iterator[Batch]:
        """Go once through all samples, in the order that `InMemory` would use."""
        arrays = self._arrays if self._checked else (np.arange(len(self._arrays[0])), *self._arrays)
        parts = data.batches(*arrays, batch_size=self._batch_size, generator=generator, shuffle=shuffle)
        if not self._checked:
            parts = (self._convert.arrays(*given, rows=rows) for rows, *given in parts)
        return data.sent(parts, self._convert.place)


class Stream:
    """An iterable of batches; the order and the sizes are its own. Attributes as `InMemory`."""

    def __init__(self, source: Iterable[Any], convert: _Convert, epochs: int) -> None:
        self._source = source
        self._convert = convert
        self.count: int | None = None
        begun = iter(source)
        if epochs > 1 and begun is source:
            raise DataError(
                f"fit: {convert.name} is an iterator, which ends after one epoch, and epochs={epochs}; expected an "
                "iterable that begins anew each time, such as an object with __iter__"
            )
        head = next(begun, END)
        if head is END:
            raise DataError(f"fit: {convert.name} is an iterable without a batch")
        self._begun: Iterator[Any] | None = itertools.chain([head], begun)
        self._in_lists = _is_list_of_parts(head)
        self.first = convert.of_batch(1)(*self._split(head))
        self.extremes: list[Batch] | None = None

    def batches(self, generator: Generator | None, shuffle: bool) -> Iterator[Batch]:
        """Go once through the iterable; the batch that was looked at beforehand is still the first."""
        source, self._begun = self._begun or iter(self._source), None
        head = next(source, END)
        if head is END:
            raise DataError(
                f"fit: {self._convert.name} gave no batch when it was gone through again; expected an iterable that "
                "begins anew each time, such as an object with __iter__, not a generator"
            )
        items = enumerate(itertools.chain([head], source), start=1)
        batches = ((self._convert.of_batch(number), self._parts(number, item)) for number, item in items)
        if self._convert.stays(self._split(head)[0]):
            yield from (convert(*parts) for convert, parts in batches)
        else:
            yield from data.sent((convert.arrays(*parts) for convert, parts in batches), self._convert.place)

    def _parts(self, number: int, item: Any) -> tuple[Any, ...]:
        """Return x, or x and y, as the first batch has them."""
        parts = self._split(item)
        if len(parts) != len(self.first):
            raise DataError(
                f"fit: batch {number} of {self._convert.name} has {_named(len(parts))}, and the first one "
                f"{_named(len(self.first))}; give the same in each"
            )
        return parts

    def _split(self, item: Any) -> tuple[Any, ...]:
        """Return the parts of what the iterable gave."""
        if isinstance(item, tuple) or (self._in_lists and isinstance(item, list)):
            return tuple(item)
        return (item,)


def _named(parts: int) -> str:
    return {1: "x alone", 2: "x and y"}.get(parts, f"{parts} parts")


def _is_list_of_parts(item: Any) -> bool:
    """Whether a batch is [x] or [x, y], as PyTorch's DataLoader gives it, and not a list of samples or of numbers."""
    if not isinstance(item, list) or not 1 <= len(item) <= 2:
        return False
    x, y = item[0], item[-1]
    return getattr(x, "ndim", 0) >= 2 and getattr(y, "ndim", 0) >= 1


def _extreme_rows(xp: Any, parts: Sequence[Any], batch_size: int) -> Iterator[list[int]]:
    """Yield the rows of `extremes` of tensors or arrays, `xp` being mg or np; there are none if one batch has all."""
    if batch_size >= len(parts[0]):
        return
    for part in (x.reshape(len(x), -1) for x in parts if x.size):
        for row in (xp.argmin(part.min(axis=1)), xp.argmax(part.max(axis=1))):
            yield [int(row.item()), *range(batch_size - 1)]


Source = InMemory | OnHost | Stream


def source_of(
    X: Any, y: Any, name: str, model: nn.Module, dtype: np.dtype, place: mg.Device, batch_size: int, epochs: int
) -> Source:
    """Return X, with y where it is given, as a source of batches.

    Raises
    ------
    ShapeError, DTypeError, DataError
        X or y is unusable, or X can be gone through only once and there is more than one epoch.
    """
    convert = _Convert(name, model, dtype, place)
    if is_stream(X):
        if y is not None:
            raise DataError(f"fit: {name} is an iterable of batches; let it give pairs (x, y), and leave y out")
        return Stream(X, convert, epochs)
    if isinstance(X, np.memmap):
        arrays = [X] if y is None else [X, np.atleast_1d(as_array(y, f"fit: y of {name}"))]
        if X.ndim < 2 or X.size == 0:
            raise ShapeError(f"fit: {name} has shape {X.shape}; expected (samples, ...), at least one of each")
        if y is not None and len(arrays[1]) != len(X):
            raise ShapeError(f"fit: y of {name} has {len(arrays[1])} entries; expected {len(X)}, one per sample")
        return OnHost(arrays, batch_size, convert, checked=False)
    given = (X,) if y is None else (X, y)
    if place.type != "cpu" and not convert.stays(X):
        arrays = list(convert.arrays(*given))
        free = place.free_memory()
        if free is not None and SHARE * sum(a.nbytes for a in arrays) > free:
            return OnHost(arrays, batch_size, convert, checked=True)
        return InMemory(tuple(mg.tensor(a, device=place) for a in arrays), batch_size)
    return InMemory(convert(*given), batch_size)


def steps_of(source: Source, batch_size: int) -> int | None:
    """Return how many batches an epoch has, where that is known."""
    return None if source.count is None else math.ceil(source.count / batch_size)


class Ranges:
    """Which values of x, and of y, an objective has been checked with: a recorded step does not check them."""

    def __init__(self) -> None:
        self._ranges: dict[int, tuple[float, float]] = {}

    def widens(self, batch: Batch) -> bool:
        """Return whether a part of the batch goes beyond what came before, and take it in."""
        beyond = False
        for position, part in enumerate(batch):
            if not part.size:
                continue
            low, high = self._ranges.get(position, (math.inf, -math.inf))
            least, most = float(part.min().item()), float(part.max().item())
            beyond = beyond or least < low or most > high
            self._ranges[position] = min(low, least), max(high, most)
        return beyond


class _Convert:
    """Turns what was given for samples, and for their labels, into arrays and tensors that the model can take."""

    def __init__(self, name: str, model: nn.Module, dtype: np.dtype, place: mg.Device) -> None:
        self.name = name
        self.place = place
        self._model = model
        self._dtype = dtype

    def __call__(self, *given: Any) -> Batch:
        """Return tensors on the device of the training."""
        if not self.stays(given[0]):
            return tuple(mg.tensor(a, device=self.place) for a in self.arrays(*given))
        x = samples_of(given[0], self.name, self._model, self._dtype, self.place)
        self._check_parts(given)
        return (x,) if len(given) == 1 else (x, mg.tensor(self._labels(given[1], len(x)), device=self.place))

    def arrays(self, *given: Any, rows: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        """Return arrays of the host; errors name the rows that a batch has in the data."""
        self._check_parts(given)
        x = sample_array(given[0], self.name, self._model, self._dtype, rows=rows)
        return (x,) if len(given) == 1 else (x, self._labels(given[1], len(x), rows))

    def of_batch(self, number: int) -> _Convert:
        """Return the same for a batch of an iterable, which errors then name."""
        return _Convert(f"batch {number} of {self.name}", self._model, self._dtype, self.place)

    def stays(self, x: Any) -> bool:
        """Whether samples are on the GPU already."""
        return stays(x, self._dtype, self.place)

    def _check_parts(self, given: tuple[Any, ...]) -> None:
        if len(given) > 2:
            raise DataError(f"fit: {self.name} gave a batch of {len(given)} parts; expected x, or x and y")

    def _labels(self, y: Any, samples: int, rows: np.ndarray | None = None) -> np.ndarray:
        """Labels, which are integers, stay what they are; other numbers get the dtype of the model."""
        array = as_array(y, f"fit: y of {self.name}")
        if array.dtype.kind not in "biuf":
            raise DTypeError(f"fit: y of {self.name} has dtype {array.dtype}; expected real numbers")
        if array.ndim == 0 or len(array) != samples:
            raise ShapeError(
                f"fit: y of {self.name} has shape {array.shape}; expected {samples} entries, one per sample"
            )
        if array.dtype.kind in "iu":
            if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
                raise DataError(f"fit: y of {self.name} contains {array.max()}; expected integers below 2**63")
            return array.astype(np.int64)
        return converted(array, self._dtype, f"fit: y of {self.name}", rows)


def is_stream(X: Any) -> bool:
    """Whether X is an iterable that NumPy would not take for an array."""
    array_like = isinstance(X, mg.Tensor | np.ndarray | Sequence) or hasattr(X, "__array__") or hasattr(X, "toarray")
    return isinstance(X, Iterable) and not array_like
