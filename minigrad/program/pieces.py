"""Pieces: the parts of arrays that one thread computes, the tiles that they are computed in, and memory for tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from typing import Any

import numpy as np

from ..parallel import splits
from .blocks import aligned


class Piece:
    """Some rows, and of matrices perhaps only some columns, of all arrays of a group of a shape."""

    def __init__(self, shape: tuple[int, ...], rows: slice, columns: slice | None = None) -> None:
        self._whole = shape
        self.rows = rows
        self.columns = columns
        self.shape = shape
        if shape:
            self.shape = (rows.stop - rows.start, *shape[1:])
        if columns is not None:
            self.shape = (self.shape[0], columns.stop - columns.start)
        self.size = prod(self.shape)

    def __str__(self) -> str:
        """Return which part it is: "rows 0:64"."""
        cut, what = (self.rows, "rows") if self.columns is None else (self.columns, "columns")
        return part_of(cut, what if len(self._whole) > 1 else "elements")

    def cut(self, a: Any) -> Any:
        """Return the part of an array that belongs to the piece."""
        if self.columns is not None and a.ndim and a.shape[-1] == self._whole[-1]:
            a = a[..., self.columns]
        return a[self.rows] if a.ndim and a.ndim == len(self._whole) and a.shape[0] == self._whole[0] else a

    def cut_flat(self, a: Any, start: int, stop: int) -> Any:
        """Return some of the elements of the piece, as a vector."""
        a = self.cut(a).reshape(-1)
        return a if a.size == 1 else a[start:stop]

    def some_rows(self, step: int) -> Iterator[Piece]:
        """Yield pieces of this one, of `step` rows."""
        for start in range(self.rows.start, self.rows.stop, step):
            yield Piece(self._whole, slice(start, min(start + step, self.rows.stop)), self.columns)


def part_of(cut: slice, what: str) -> str:
    """Return how a slice is shown: "rows 0:64"."""
    return f"{what} {cut.start}:{cut.stop}"


def pieces(shape: tuple[int, ...], parts: int, by_columns: bool) -> list[Piece]:
    """Return the pieces of arrays of a shape for so many threads: rows, or columns of a matrix.

    Examples
    --------
    >>> [piece.shape for piece in pieces((8, 100), 2, by_columns=True)]
    [(8, 52), (8, 48)]
    """
    if not shape:
        return [Piece(shape, slice(0, 1))]
    if not prod(shape):  # nothing to compute, where a kernel's loop would begin all the same
        return []
    if by_columns:
        return [Piece(shape, slice(0, shape[0]), columns) for columns in splits(shape[1], parts)]
    return [Piece(shape, rows) for rows in splits(shape[0], parts)]


def tiles(piece: Piece, flat: bool, most: int) -> Iterator[tuple[Callable, int, tuple[int, ...]]]:
    """Yield for each tile of a piece, of at most `most` elements: how to cut an array, its size and its shape."""
    if flat:
        for start in range(0, piece.size, most):
            stop = min(start + most, piece.size)
            yield partial(piece.cut_flat, start=start, stop=stop), stop - start, (stop - start,)
    elif piece.size <= most:
        yield piece.cut, piece.size, piece.shape
    else:
        for tile in piece.some_rows(max(1, most // prod(piece.shape[1:]))):
            yield tile.cut, tile.size, tile.shape


class Registers:
    """Memory for the values that stay inside a tile; every tile of a share uses the same."""

    def __init__(self) -> None:
        self._blocks: list[tuple[int, Any]] = []
        self._free: list[int] = []
        self._held: dict[Any, int] = {}

    def clear(self) -> None:
        """Forget what the last tile held."""
        self._free = list(range(len(self._blocks)))
        self._held = {}

    def take(self, key: Any, dtype: np.dtype, size: int, shape: tuple[int, ...]) -> Any:
        """Return an array for the value `key`."""
        needed = size * dtype.itemsize
        fitting = next((b for b in self._free if self._blocks[b][0] >= needed), None)
        if fitting is None:
            fitting = len(self._blocks)
            self._blocks.append((needed, aligned(needed)))
        else:
            self._free.remove(fitting)
        self._held[key] = fitting
        return np.ndarray(shape, dtype, self._blocks[fitting][1])

    def release(self, keys: list[Any]) -> None:
        """Take back the memory of values that nobody reads any more."""
        for key in keys:
            if key in self._held:
                self._free.append(self._held.pop(key))
