"""Matrix products on a GPU: NVIDIA's cuBLASLt, called by ctypes.

CuPy's own products may not be part of a CUDA graph, since its wrappers refuse to be captured. These may: everything
that asks or allocates is done when a `Product` is made, and its `launch` only queues the kernels.

cuBLASLt offers several algorithms for a product and guesses which is the fastest. Here those that it offers are timed,
on the arrays themselves, and the fastest one stays; with `mg.deterministic(True)` its first guess is taken, so that
another process chooses the same.

Source: NVIDIA, cuBLAS documentation, "Using the cuBLASLt API".
"""

from __future__ import annotations

import ctypes
import math
from ctypes import byref, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

# numbers of the interface (cublasLt.h, library_types.h)
TYPES = {"float16": 2, "float32": 0, "float64": 1}  # cudaDataType
COMPUTE = {"float16": 68, "float32": 68, "float64": 70}  # cublasComputeType_t: products of float16 are added in float32
COMPUTE_TF32 = 77
TRANSPOSE_A, TRANSPOSE_B = 3, 4  # cublasLtMatmulDescAttributes_t
BATCH_COUNT, BATCH_OFFSET = 5, 6  # cublasLtMatrixLayoutAttribute_t
MOST_WORKSPACE = 1  # cublasLtMatmulPreferenceAttributes_t
ALIGNMENTS = (5, 6, 7, 8)

WORKSPACE = 32 * 2**20  # bytes that an algorithm may ask for: what NVIDIA advises for Hopper
CANDIDATES = 40  # algorithms that are timed
ROUNDS, REPEATS = 10, 3  # of each: launches in a graph, and how often it is timed
ALIGNED = 256  # bytes: more alignment than this does not matter


class ProductsUnavailable(Exception):
    """cuBLASLt cannot be loaded, or does not take these arrays; the message says which."""


class _Algorithm(ctypes.Structure):
    _fields_ = [("data", c_uint64 * 8)]


class _Heuristic(ctypes.Structure):
    _fields_ = [
        ("algorithm", _Algorithm),
        ("workspace", c_size_t),
        ("state", c_int),
        ("waves", c_float),
        ("reserved", c_int * 4),
    ]


class Operand(NamedTuple):
    """How cuBLASLt, which counts by columns, sees an array: of `rows` x `columns`, perhaps to be transposed."""

    rows: int
    columns: int
    leading: int
    transposed: bool
    matrices: int  # of them one behind the other
    offset: int  # elements from one of them to the next


class Product:
    """`out = a @ b` for arrays that stay where they are.

    Parameters
    ----------
    a, b, out : cupy.ndarray
        Of one floating-point dtype, two or more axes, the last two of them matrices by rows or by columns; `out` by
        rows. Leading axes are of one length, or missing.
    tf32 : bool
        Whether factors of float32 are rounded to TF32, 10 binary digits, for the tensor cores.
    tuned : bool
        Whether the offered algorithms are timed.

    Raises
    ------
    ProductsUnavailable
        cuBLASLt is missing, or these arrays are not of that form.
    """

    def __init__(self, xp: Any, a: Any, b: Any, out: Any, tf32: bool = False, tuned: bool = True) -> None:
        views = operands(a, b, out)
        name = out.dtype.name
        self._arrays = a, b, out  # what the pointers below point to lives as long as they do
        self._pointers = [c_void_p(x.data.ptr) for x in (b, a, out)]
        self._library = library()
        self._handle = _handle(self._library, xp)
        scale = c_double if name == "float64" else c_float
        self._one, self._zero = scale(1.0), scale(0.0)
        self._description = c_void_p()
        kind = COMPUTE_TF32 if tf32 and name == "float32" else COMPUTE[name]
        self._call("cublasLtMatmulDescCreate", byref(self._description), c_int(kind), c_int(int(name == "float64")))
        for attribute, view in zip((TRANSPOSE_A, TRANSPOSE_B), views, strict=False):
            self._set("MatmulDesc", self._description, attribute, c_int32(int(view.transposed)))
        self._layouts = [self._layout(TYPES[name], view) for view in views]
        self._workspace: Any = None
        key = (
            xp.cuda.runtime.getDevice(),
            name,
            kind,
            tuned,
            *views,
            *(_alignment(p.value or 0) for p in self._pointers),
        )
        self._choose(xp, key, tuned)

    def launch(self, stream: int) -> None:
        """Queue the product on a stream, given by its address."""
        self._start(self._chosen, self._workspace, stream)

    def _start(self, offer: _Heuristic, workspace: Any, stream: int) -> None:
        b, a, out = self._pointers
        layout_b, layout_a, layout_out = self._layouts
        self._call(
            "cublasLtMatmul",
            self._handle,
            self._description,
            byref(self._one),
            b,
            layout_b,
            a,
            layout_a,
            byref(self._zero),
            out,
            layout_out,
            out,
            layout_out,
            byref(offer.algorithm),
            c_void_p(workspace.ptr if workspace is not None else 0),
            c_size_t(offer.workspace),
            c_void_p(stream),
        )

    def _layout(self, kind: int, view: Operand) -> c_void_p:
        layout = c_void_p()
        rows, columns, leading = c_uint64(view.rows), c_uint64(view.columns), c_int64(view.leading)
        self._call("cublasLtMatrixLayoutCreate", byref(layout), c_int(kind), rows, columns, leading)
        if view.matrices > 1:
            self._set("MatrixLayout", layout, BATCH_COUNT, c_int32(view.matrices))
            self._set("MatrixLayout", layout, BATCH_OFFSET, c_int64(view.offset))
        return layout

    def _choose(self, xp: Any, key: tuple, tuned: bool) -> None:
        if key not in _choices:
            offers = self._offers(CANDIDATES if tuned else 1)
            times = [self._time(xp, offer) for offer in offers] if len(offers) > 1 else [0.0]
            _choices[key] = offers[times.index(min(times))]
        self._chosen = _choices[key]
        self._workspace = _memory(xp, self._chosen.workspace)

    def _time(self, xp: Any, offer: _Heuristic) -> float:
        """Return how long an algorithm takes, in a graph: queued one by one, small products wait for the host."""
        stream = xp.cuda.Stream(non_blocking=True)
        workspace = _memory(xp, offer.workspace)
        xp.cuda.get_current_stream().synchronize()  # what computes the factors, if that is still under way
        try:
            self._start(offer, workspace, stream.ptr)  # kernels are loaded when they are first used
            with stream:
                stream.begin_capture()
                try:
                    for _ in range(ROUNDS):
                        self._start(offer, workspace, stream.ptr)
                finally:
                    graph = stream.end_capture()
        except ProductsUnavailable:
            return math.inf  # an offer that does not run is no choice
        best = math.inf
        for _ in range(REPEATS):
            start, stop = xp.cuda.Event(), xp.cuda.Event()
            start.record(stream)
            graph.launch(stream)
            stop.record(stream)
            stop.synchronize()
            best = min(best, xp.cuda.get_elapsed_time(start, stop))
        return best

    def _offers(self, most: int) -> list[_Heuristic]:
        preference = c_void_p()
        self._call("cublasLtMatmulPreferenceCreate", byref(preference))
        try:
            self._set("MatmulPreference", preference, MOST_WORKSPACE, c_size_t(WORKSPACE))
            b, a, out = self._pointers
            for attribute, pointer in zip(ALIGNMENTS, (b, a, out, out), strict=True):
                self._set("MatmulPreference", preference, attribute, ctypes.c_uint32(_alignment(pointer.value or 0)))
            found, offers = c_int(), (_Heuristic * most)()
            layout_b, layout_a, layout_out = self._layouts
            self._call(
                "cublasLtMatmulAlgoGetHeuristic",
                self._handle,
                self._description,
                layout_b,
                layout_a,
                layout_out,
                layout_out,
                preference,
                c_int(most),
                offers,
                byref(found),
            )
        finally:
            self._library.cublasLtMatmulPreferenceDestroy(preference)
        usable = [offer for offer in offers[: found.value] if offer.state == 0]
        if not usable:
            raise ProductsUnavailable("cuBLASLt has no algorithm for these arrays")
        return usable

    def _set(self, kind: str, what: c_void_p, attribute: int, value: Any) -> None:
        name = f"cublasLt{kind}SetAttribute"
        self._call(name, what, c_int(attribute), byref(value), c_size_t(ctypes.sizeof(value)))

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise ProductsUnavailable(f"{name} returned status {status}")

    def __del__(self) -> None:
        found = getattr(self, "_library", None)
        if found is not None:
            for layout in getattr(self, "_layouts", ()):
                found.cublasLtMatrixLayoutDestroy(layout)
            if getattr(self, "_description", None):
                found.cublasLtMatmulDescDestroy(self._description)


def operands(a: Any, b: Any, out: Any) -> list[Operand]:
    """Return how cuBLASLt sees `out = a @ b`: by columns an array by rows is its transpose, so out.T = b.T @ a.T."""
    if len({a.dtype, b.dtype, out.dtype}) != 1 or out.dtype.name not in TYPES:
        raise ProductsUnavailable(f"dtypes {a.dtype}, {b.dtype} and {out.dtype}")
    count = int(np.prod(out.shape[:-2], dtype=int))
    views = [operand(x.shape, x.strides, x.itemsize, count) for x in (b, a, out)]
    if views[2].transposed:
        raise ProductsUnavailable("a result by columns")
    return views


def operand(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int, count: int) -> Operand:
    """Return how cuBLASLt sees an array of that layout in a product of `count` matrices.

    Examples
    --------
    >>> operand((2, 3), (12, 4), 4, 1)  # by rows: its transpose by columns
    Operand(rows=3, columns=2, leading=3, transposed=False, matrices=1, offset=0)
    >>> operand((2, 3), (4, 8), 4, 1)  # by columns
    Operand(rows=2, columns=3, leading=2, transposed=True, matrices=1, offset=0)
    """
    if len(shape) < 2 or 0 in shape:
        raise ProductsUnavailable(f"an array of shape {shape}")
    *_, m, n = shape
    *outer, down, right = (s // itemsize for s in strides)
    offset = 0
    if len(shape) > 2:
        if int(np.prod(shape[:-2])) != count or not _in_steps(shape[:-2], outer):
            raise ProductsUnavailable(f"matrices of shape {shape} and strides {strides}")
        offset = min((s for length, s in zip(shape[:-2], outer, strict=True) if length > 1), default=0)
        if offset < 0:
            raise ProductsUnavailable("matrices that lie backwards")
    if (right == 1 or n == 1) and (down >= n or m == 1):
        return Operand(n, m, max(down, n) if m > 1 else n, False, count, offset)
    if (down == 1 or m == 1) and (right >= m or n == 1):
        return Operand(m, n, max(right, m) if n > 1 else m, True, count, offset)
    raise ProductsUnavailable(f"a matrix of strides {strides}")


def _in_steps(lengths: tuple[int, ...], strides: list[int]) -> bool:
    """Return whether matrices along several axes lie one behind the other at equal distances."""
    axes = [(length, s) for length, s in zip(lengths, strides, strict=True) if length > 1]
    return all(s == length * t for (_, s), (length, t) in pairwise(axes))


def _alignment(address: int) -> int:
    """Return the largest power of two, up to `ALIGNED`, that divides an address."""
    return min(address & -address, ALIGNED) or ALIGNED


def _memory(xp: Any, size: int) -> Any:
    return xp.cuda.alloc(size) if size else None


_choices: dict[tuple, _Heuristic] = {}  # the algorithm for a kind of product
_library: Any = None
_handles: dict[int, c_void_p] = {}


def library() -> Any:
    """Return cuBLASLt, of the installation that CuPy uses.

    Raises
    ------
    ProductsUnavailable
        It is not found.
    """
    global _library
    if _library is None:
        _library = _load()
    return _library


def _load() -> Any:
    reasons = []
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib  # comes with CuPy

        return ctypes.CDLL(load_nvidia_dynamic_lib("cublasLt").abs_path)
    except (ImportError, RuntimeError, OSError) as error:
        reasons.append(str(error))
    for name in ("libcublasLt.so.13", "libcublasLt.so.12"):
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            reasons.append(str(error))
    raise ProductsUnavailable("cuBLASLt was not found: " + "; ".join(reasons))


def _handle(found: Any, xp: Any) -> c_void_p:
    """Return cuBLASLt's handle for the current device."""
    index = xp.cuda.runtime.getDevice()
    if index not in _handles:
        handle = c_void_p()
        status = found.cublasLtCreate(byref(handle))
        if status:
            raise ProductsUnavailable(f"cublasLtCreate returned status {status}")
        _handles[index] = handle
    return _handles[index]
