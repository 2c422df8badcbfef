"""Minibatches: go through arrays in small parts, in a new random order each time."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import random
from .devices import CPU
from .errors import DataError, DTypeError, ShapeError
from .tensor import Tensor, tensor


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
        yield tuple(a[rows if own is None else own[rows]] for a, own in zip(arrays, orders, strict=True))


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
