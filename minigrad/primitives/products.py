"""Products of large matrices, cut into parts that the cores share.

A part is a call of the product kernel, where that is available and takes such matrices, else of NumPy. Every part is a
product of its own, and which parts there are depends, within a process, on shapes and layouts alone, so the bits do
too: eager operations and replayed programs cut alike.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .. import openblas, parallel
from ..native import start_of
from ..parallel import Calls
from . import product_kernel
from .product_kernel import Layout

# multiplications below which OpenBLAS uses one thread by itself, so there is nothing to manage; fewer with a vector.
# Those of complex numbers count four times
MANAGED, MANAGED_VECTOR = 2**18, 2**13
PART = 2**19  # multiplications that a part has at least
# multiplications of a product from which a thread that sleeps is worth the wait for it, and from which its columns may
# be cut
SHARED, COLUMNS = 2**22, 2**24
STRIP = 32


class Cut(NamedTuple):
    """How a product is computed: in which rows or columns, and by the product kernel or NumPy."""

    by_columns: bool
    slices: tuple[slice, ...]
    at_once: product_kernel.Product | None  # for eager execution, where the kernel computes it

    @property
    def by_kernel(self) -> bool:
        return self.at_once is not None


def cut(a: Any, b: Any) -> Cut | None:
    """Return how `a @ b` is cut, or None where it is one call of NumPy."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        return None
    return _cut(a.shape, a.strides, a.dtype, b.shape, b.strides, b.dtype, parallel.cores(), openblas.product_parts())


@lru_cache(maxsize=1024)
def _cut(
    a_shape: tuple[int, int],
    a_strides: tuple[int, int],
    a_dtype: np.dtype,
    b_shape: tuple[int, int],
    b_strides: tuple[int, int],
    b_dtype: np.dtype,
    cores: int,
    product_parts: int,
) -> Cut | None:
    a, b = Layout(a_shape, a_strides, a_dtype), Layout(b_shape, b_strides, b_dtype)
    (m, k), n = a.shape, b.shape[1]
    multiplications = m * k * n
    if multiplications * (4 if a.dtype.kind == "c" else 1) < (MANAGED_VECTOR if 1 in (m, k, n) else MANAGED):
        return None
    by_kernel = product_kernel.takes(a, b)
    if not by_kernel and (product_parts < 2 or a.dtype != b.dtype or a.dtype.kind not in "fc" or a.dtype.itemsize < 4):
        return None
    parts = max(1, min(cores if by_kernel else product_parts, multiplications // PART))
    # Rows are right for most: what is computed row by row before and after a product then needs no other part. But
    # every part packs all of b, which takes a tenth of the time where there are few rows and b is large; and few rows
    # cannot be cut at all.
    by_columns = m < 2 * parallel.ROWS or (m < k and n >= 16 * parallel.ROWS and multiplications >= COLUMNS)
    slices = tuple(parallel.splits(n if by_columns else m, parts))
    at_once = product_kernel.Product(a, b, parts, multiplications >= SHARED) if by_kernel else None
    return Cut(by_columns, slices, at_once)


if hasattr(os, "register_at_fork"):  # another thread of the parent may be in the middle of a job
    os.register_at_fork(after_in_child=_cut.cache_clear)


def shares(how: Cut, a: Any, b: Any, out: Any) -> list[tuple[Calls, list[Any], Any]]:
    """Return for each part of `a @ b`: its calls, the arrays that it reads, and the array that it writes."""
    calls = _straight
    if how.by_kernel:
        calls = _kernel
    elif b.flags.f_contiguous and not b.flags.c_contiguous and not a.flags.f_contiguous:
        calls = _transposed
    if how.by_columns:
        pieces = [(a, b[:, columns], out[:, columns]) for columns in how.slices]
    else:
        pieces = [(a[rows], b, out[rows]) for rows in how.slices]
    return [(calls(x, y, to), [x, y], to) for x, y, to in pieces]


def _kernel(a: Any, b: Any, out: Any) -> Calls:
    return [(product_kernel.call(a, b, out), ())]


def _straight(a: Any, b: Any, out: Any) -> Calls:
    if a.shape[1] == 1:  # an outer product, for which OpenBLAS takes five times as long
        return [(np.multiply, (a, b, out))]
    return [(multiply, (a, b, out))]


def _transposed(a: Any, b: Any, out: Any) -> Calls:
    """Compute b.T @ a.T: what OpenBLAS has to pack is then in the order in which it packs fastest."""
    result = np.empty(out.shape[::-1], out.dtype)
    return [(multiply, (b.T, a.T, result)), (_transpose, (result, out))]


def _transpose(x: Any, out: Any) -> None:
    """Copy x.T to out, in strips whose lines stay in the first cache: twice as fast as at once."""
    for start in range(0, x.shape[0], STRIP):
        out[:, start : start + STRIP] = x[start : start + STRIP].T


def multiply(a: Any, b: Any, out: Any = None) -> Any:
    """Return `np.matmul(a, b, out)`, with the bits that it has for any two arrays with these values.

    Of a matrix and its own transpose NumPy computes one half, which gives other bits, and in a compiled step equal
    matrices may or may not be one.
    """
    transposed = a.ndim > 1 and b.ndim > 1 and a.shape[-2] == b.shape[-1] and a.strides[-2:] == b.strides[:-3:-1]
    if transposed and start_of(a) == start_of(b):
        b = b.copy(order="K")  # its layout decides about bits too
    return np.matmul(a, b, out=out)


def matmul(xp: Any, a: Any, b: Any, /, *, out: Any = None) -> Any:
    """Return `a @ b`, as `np.matmul` does."""
    how = cut(a, b) if xp is np else None
    if how is None:
        return multiply(a, b, out) if xp is np else xp.matmul(a, b, out=out)
    if out is not None:
        if out.shape != (a.shape[0], b.shape[1]) or out.dtype != a.dtype or not out.flags.writeable:
            return np.matmul(a, b, out=out)  # which says what is wrong
        np.copyto(out, matmul(np, a, b))  # it may share memory with a or b
        return out
    result = np.empty((a.shape[0], b.shape[1]), a.dtype)
    if how.at_once is not None:
        how.at_once(a, b, result)
        return result
    calls = [calls for calls, _, _ in shares(how, a, b, result)]
    with openblas.in_one_thread():
        if a.size * b.shape[1] >= SHARED:
            parallel.run(calls)
        else:
            parallel.make([call for some in calls for call in some])
    return result
