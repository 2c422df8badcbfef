"""Blocks: memory on its own, and arrays of a given layout in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .program import Variable

ALIGNMENT = 64  # bytes: a cache line, and the widest vector register


def extent(v: Variable) -> int:
    """Return the bytes from the first to behind the last element of a variable, in its layout."""
    if 0 in v.shape:
        return 0
    return v.dtype.itemsize + sum((n - 1) * abs(s) for n, s in zip(v.shape, v.strides, strict=True))


def first(v: Variable) -> int:
    """Return the bytes from the beginning of a variable's memory to its first element: more than 0 if it runs back."""
    return sum((n - 1) * -s for n, s in zip(v.shape, v.strides, strict=True) if s < 0 and n > 0)


def aligned(size: int) -> Any:
    """Return `size` bytes that begin at a cache line."""
    block = np.empty(size + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + size]


def arena(sizes: list[int]) -> list[Any]:
    """Return blocks of the given sizes that lie in one piece of memory, which is large enough for NumPy to ask for
    large pages.
    """
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + -(-size // ALIGNMENT) * ALIGNMENT)
    whole = aligned(starts[-1])
    return [whole[start : start + size] for start, size in zip(starts, sizes, strict=False)]


def array_in(block: Any, v: Variable) -> Any:
    """Return an array of a variable's type and layout in a block."""
    return np.ndarray(v.shape, v.dtype, block, first(v), v.strides)
