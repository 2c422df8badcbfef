"""Loops: the inner loops of NumPy's functions as native calls.

A function such as `np.exp` has a loop in C for each dtype, which works on one row of elements. The loops make no use of
Python, and to call them here gives the bits that NumPy gives. Their addresses are in the object of the function, where
NumPy's C interface says (PyUFuncObject in numpy/ufuncobject.h).
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from functools import cache
from typing import Any

import numpy as np

from .. import native
from ..assembly import Code, module
from ..native import start_of
from ..parallel import Calls
from .phases import overlap, region

KINDS = "biuf"  # of dtypes: what NumPy computes with complex numbers may depend on how it was called
FIELDS = 8 + ctypes.sizeof(ctypes.c_void_p)  # of an object of Python come before those of the function


def elementwise(function: Any, inputs: list[Any], out: Any) -> native.Call | None:
    """Return the call of a NumPy function on arrays that broadcast to `out`, or None where there is none.

    There is one where NumPy too goes along rows whose elements lie one behind the other, or are one element: the last
    bits of some functions depend on that.

    Examples
    --------
    >>> x, y = np.linspace(0.0, 1.0, 12).reshape(3, 4), np.empty((3, 4))
    >>> call = elementwise(np.exp, [x], y)
    >>> call and call()
    >>> bool(call is None or (y == np.exp(x)).all())
    True
    """
    found = _loop(function, tuple(x.dtype for x in inputs), out.dtype)
    if found is None or out.size == 0:
        return None
    arrays = [*(np.broadcast_to(x, out.shape) for x in inputs), out]
    if not all(a.flags.aligned for a in arrays):
        return None
    if all(a.flags.c_contiguous or not any(a.strides) for a in arrays):  # NumPy takes that as one row
        row = (1, out.size)
        arrays = [a.reshape(row) if any(a.strides) else np.broadcast_to(a.reshape(-1)[:1], row) for a in arrays]
    elif out.ndim != 2:
        return None
    rows, columns = arrays[-1].shape
    if columns == 1 < rows or (columns > 1 and any(a.strides[1] not in (0, a.itemsize) for a in arrays)):
        return None
    written = region(arrays[-1])
    for a in arrays[:-1]:  # NumPy copies what it would write over before it is read
        same = start_of(a) == start_of(out) and a.strides == arrays[-1].strides and a.dtype == out.dtype
        if not same and overlap(region(a), written):
            return None
    return _call(found, [(a, *a.strides) for a in arrays], rows, columns)


def total(x: Any, out: Any, axes: tuple[int, ...]) -> Calls | None:
    """Return the calls that write the sums along an axis of a matrix, or along all axes, or None where there are none.

    As NumPy does: it begins with 0, and adds rows one after the other, or sums within a row in pairs.

    Examples
    --------
    >>> from minigrad.parallel import make
    >>> x, sums = np.arange(12.0).reshape(3, 4), np.empty(4)
    >>> make(total(x, sums, (0,)) or [(np.sum, (x, 0, None, sums))])
    >>> sums
    array([12., 15., 18., 21.])
    """
    found = _loop(np.add, (x.dtype, x.dtype), out.dtype)
    one = len(axes) == 1 and x.ndim == 2
    in_rows = x.flags.c_contiguous or (one and x.strides[1] == x.itemsize)
    if found is None or x.dtype.kind != "f" or not in_rows or not out.flags.c_contiguous or x.size == 0 or x.ndim == 0:
        return None
    if (one and x.shape[1] == 1) or not x.flags.aligned:
        return None  # NumPy sums a single column as it does a row
    step = out.itemsize
    if len(axes) == x.ndim:
        shape, to, read = (1, x.size), (0, 0), (0, step)
    elif one:
        shape, to, read = x.shape, ((0, step) if axes == (0,) else (step, 0)), x.strides
    else:
        return None
    zero = elementwise(np.positive, [np.zeros((), out.dtype)], out.reshape(-1))
    if zero is None:
        return None
    return [(zero, ()), (_call(found, [(out, *to), (x, *read), (out, *to)], *shape), ())]


def _call(found: tuple[int, int], operands: list[tuple[Any, int, int]], rows: int, columns: int) -> native.Call:
    strides = [n for _, *steps in operands for n in steps]
    return native.Call(_text(len(operands)), [a for a, *_ in operands], [*found, rows, columns, *strides])


@cache
def _loop(function: Any, inputs: tuple[np.dtype, ...], out: np.dtype) -> tuple[int, int] | None:
    """Return the addresses of a function's loop for these dtypes, and of what it is passed."""
    if not isinstance(function, np.ufunc) or (len(inputs), 1) != (function.nin, function.nout) or function.signature:
        return None
    if function is np.power and out.kind in "iu":  # whose loop may raise an error
        return None
    if not native.available() or any(d.kind not in KINDS or not d.isnative for d in (*inputs, out)):
        return None
    kind = f"{''.join(d.char for d in inputs)}->{out.char}"
    if kind not in function.types or not _laid_out_as_known(function):
        return None
    i = function.types.index(kind)
    loops, data = (ctypes.c_void_p.from_address(id(function) + FIELDS + n).value for n in (16, 24))
    if not loops:
        return None
    size = ctypes.sizeof(ctypes.c_void_p)
    loop = ctypes.c_void_p.from_address(loops + size * i).value
    passed = ctypes.c_void_p.from_address(data + size * i).value if data else None
    return (loop, passed or 0) if loop else None


def _laid_out_as_known(function: Any) -> bool:
    """Return whether the numbers of inputs, results and types are where they are expected."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    start = id(function) + FIELDS
    counts = (ctypes.c_int * 3).from_address(start)
    types = ctypes.c_int.from_address(start + 32)
    return (*counts, types.value) == (function.nin, function.nout, function.nargs, function.ntypes)


@cache
def _text(operands: int) -> str:
    """Return the source that calls a loop for each row."""
    code = Code("i64")
    addresses, count, strides = (code.slot(f"[{n} x i64]") for n in (operands, 1, operands))
    code.store("%columns", count, "i64", 8)
    for n in range(operands):
        code.store(f"%e{n}", code.at(strides, n), "i64", 8)
    with code.loop(0, "%rows") as i:
        for n in range(operands):
            place = code.at(f"%x{n}", code.times(i, f"%r{n}"), "i8")
            code.store(place, code.at(addresses, n), "ptr", 8)
        code.run(f"call void %loop(ptr {addresses}, ptr {count}, ptr {strides}, ptr %data)")
    arrays = ", ".join(f"ptr %x{n}" for n in range(operands))
    steps = ", ".join(f"i64 %r{n}, i64 %e{n}" for n in range(operands))
    text = code.define(f"internal void @rows({arrays}, ptr %loop, ptr %data, i64 %rows, i64 %columns, {steps})")
    return module(text, "rows", ["ptr"] * (operands + 2) + ["i64"] * (2 + 2 * operands))
