"""Products of large matrices, cut into parts that the cores share.

A part is a call of the product kernel, where that is available and takes such matrices, else of NumPy. Every part is a
product of its own, and which parts there are depends on shapes and layouts alone, so the bits do too: eager operations
and replayed programs cut alike.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from .. import parallel
from ..parallel import Calls
from . import product_kernel

# multiplications below which OpenBLAS uses one thread by itself, so there is nothing to manage; fewer with a vector.
# Those of complex numbers count twice
MANAGED, MANAGED_VECTOR = 2**18, 2**13
PART = 2**19  # multiplications that a part has at least
SHARED = 2**22  # multiplications of a product from which another thread is worth the wait for it,
COLUMNS = 2**24  # and from which its columns may be cut
STRIP = 32


def is_managed(a: Any, b: Any) -> bool:
    """Return whether `a @ b` is computed as `shares` says, and not by one call of NumPy."""
    if a.ndim != 2 or b.ndim != 2:
        return False
    (m, k), n = a.shape, b.shape[1]
    multiplications = m * k * n * (2 if a.dtype.kind == "c" else 1)
    if multiplications < (MANAGED_VECTOR if 1 in (m, k, n) else MANAGED) or b.shape[0] != k:
        return False
    if product_kernel.takes(a, b):
        return True
    return parallel.product_parts() > 1 and a.dtype == b.dtype and a.dtype.kind in "fc" and a.dtype.itemsize > 2


def by_columns(a: Any, b: Any) -> bool:
    """Return whether `a @ b` is cut into columns, not rows.

    Rows are right for most: what is computed row by row before and after a product then needs no other part. But every
    part packs all of b, which takes a tenth of the time where there are few rows and b is large; and few rows cannot be
    cut at all.
    """
    (m, k), n = a.shape, b.shape[1]
    return m < 2 * parallel.ROWS or (m < k and n >= 16 * parallel.ROWS and m * k * n >= COLUMNS)


def shares(a: Any, b: Any, out: Any) -> list[tuple[Calls, list[Any], Any]]:
    """Return for each part of `a @ b`: its calls, the arrays that it reads, and the array that it writes."""
    if by_columns(a, b):
        pieces = [(a, b[:, columns], out[:, columns]) for columns in parallel.splits(b.shape[1], parts(a, b))]
    else:
        pieces = [(a[rows], b, out[rows]) for rows in parallel.splits(a.shape[0], parts(a, b))]
    calls = _straight
    if product_kernel.takes(a, b):
        calls = _kernel
    elif b.flags.f_contiguous and not b.flags.c_contiguous and not a.flags.f_contiguous:
        calls = _transposed
    return [(calls(x, y, to), [x, y], to) for x, y, to in pieces]


def parts(a: Any, b: Any) -> int:
    """Return into how many parts `a @ b` is cut."""
    most = parallel.cores() if product_kernel.takes(a, b) else parallel.product_parts()
    return max(1, min(most, a.shape[0] * a.shape[1] * b.shape[1] // PART))


def _kernel(a: Any, b: Any, out: Any) -> Calls:
    return [product_kernel.call(a, b, out)]


def _straight(a: Any, b: Any, out: Any) -> Calls:
    if a.shape[1] == 1:  # an outer product, for which OpenBLAS takes five times as long
        return [(np.multiply, (a, b, out))]
    return [(np.matmul, (a, b, out))]


def _transposed(a: Any, b: Any, out: Any) -> Calls:
    """Compute b.T @ a.T: what OpenBLAS has to pack is then in the order in which it packs fastest."""
    result = np.empty(out.shape[::-1], out.dtype)
    return [(np.matmul, (b.T, a.T, result)), (_transpose, (result, out))]


def _transpose(x: Any, out: Any) -> None:
    """Copy x.T to out, in strips whose lines stay in the first cache: twice as fast as at once."""
    for start in range(0, x.shape[0], STRIP):
        out[:, start : start + STRIP] = x[start : start + STRIP].T


def matmul(xp: Any, a: Any, b: Any, /, *, out: Any = None) -> Any:
    """Return `a @ b`, as `np.matmul` does."""
    if xp is not np or not is_managed(a, b):
        return xp.matmul(a, b, out=out)
    fits = out is None or (out.shape == (a.shape[0], b.shape[1]) and out.dtype == a.dtype and out.flags.writeable)
    if not fits:
        return np.matmul(a, b, out=out)  # which says what is wrong
    result = out
    if out is None or out.strides[1] != out.itemsize or np.may_share_memory(a, out) or np.may_share_memory(b, out):
        result = np.empty((a.shape[0], b.shape[1]), a.dtype)
    calls = [calls for calls, _, _ in shares(a, b, result)]
    with contextlib.nullcontext() if product_kernel.takes(a, b) else parallel.blas_in_one_thread():
        if a.size * b.shape[1] >= SHARED:
            parallel.run(calls)
        else:
            for some in calls:
                parallel.make(some)
    if out is not None and result is not out:
        np.copyto(out, result)
        return out
    return result
