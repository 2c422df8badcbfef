"""The product kernel: a matrix product as one function in LLVM's assembly, written for the vectors of this processor.

To compute C = A @ B, some columns of B, as many as a few vectors hold, are packed, row behind row. Then a block of C of
so many columns and a few rows at a time stays in registers: for each k, a row of the packed columns is multiplied with
the elements k of those rows of A, and added (Goto and van de Geijn, "Anatomy of high-performance matrix
multiplication", 2008). A is read where it is, because a batch of training is small enough to stay in the cache; but
where its columns are in one piece, as for the gradient of a weight, its rows are copied for the first columns of B. The
memory to which a block will be written comes to the cache while the block is computed.

Each element of C is the same sum in the same order wherever its block begins: products may be cut anywhere.

Elementwise work on a product can be done on each block while it is in the first-level cache: the update of a parameter
then needs no memory for its gradient.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .. import native, parallel
from ..assembly import FLOATS, Code, module
from ..handover import Job

DEPTH = 1024  # rows of B that are packed at a time: they stay in the second-level cache
ROWS = 960  # of A that are copied at a time, where its columns are in one piece: whole blocks of each height
COLUMNS = 192  # of B from which on the copy pays
CHAIN = 256  # products that are added one after the other; sums of so many are added then, which rounds less


class After(NamedTuple):
    """What is done with every block of the product.

    Attributes
    ----------
    text : str
        Declarations and a function "after": of pointers to arrays, rows, columns, and for each array the elements from
        row to row. `kernels.Source` writes such functions.
    arrays : tuple of (str, str)
        How each array spans C ("full", "row", "column" or "single"), and the type of its elements.
    product : int
        Which of them is the product.
    """

    text: str
    arrays: tuple[tuple[str, str], ...]
    product: int


def blocks(dtype: np.dtype) -> tuple[list[int], int, int]:
    """Return the heights that blocks of C may have, the vectors in their width, and the elements of a vector.

    The largest block, a row of B and an element of A fill the registers.
    """
    registers, size = native.vector_registers()
    heights, vectors = [4], 3
    if registers == 32:
        heights, vectors = ([12, 8, 4], 2) if size == 64 else ([8, 4], 3)
    return heights, vectors, size // dtype.itemsize


class Layout(NamedTuple):
    """How a matrix lies in memory."""

    shape: tuple[int, int]
    strides: tuple[int, int]
    dtype: np.dtype


def layout(a: Any) -> Layout:
    """Return how a matrix lies in memory."""
    return Layout(a.shape, a.strides, a.dtype)


def takes(a: Layout, b: Layout) -> bool:
    """Return whether the kernel multiplies two matrices: of these dtypes, with rows or columns of b in one piece."""
    if a.dtype not in FLOATS or a.dtype != b.dtype or min(*a.shape, *b.shape) < 2 or not native.multiplies_and_adds():
        return False
    size = a.dtype.itemsize
    return size in b.strides and all(s % size == 0 for s in (*a.strides, *b.strides))


def call(a: Any, b: Any, out: Any) -> native.Call:
    """Return the call that writes `a @ b` to `out`, whose rows are in one piece."""
    source, numbers = _passed(layout(a), layout(b), out.strides[0], None)
    return native.Call(source, (a, b, out), numbers)


def call_with(a: Any, b: Any, after: After, arrays: list[Any]) -> native.Call:
    """Return the call that computes `a @ b` block by block, and does with each what comes after.

    `arrays` are those of `after` (of the product: None), each as large as the product, or a row, a column or a number.
    There may be at most DEPTH columns of a.
    """
    assert a.shape[1] <= DEPTH
    source, numbers = _passed(layout(a), layout(b), 0, after)
    others = [x for x in arrays if x is not None]
    widths = [x.strides[0] // x.itemsize if x.ndim == 2 else 0 for x in others]
    return native.Call(source, (a, b, *others), [*numbers, *widths])


class Product:
    """The products of matrices of one layout, written to new arrays in parts that threads share.

    What depends on the layout alone is found once: a call then costs a microsecond of Python.

    Parameters
    ----------
    a, b : Layout
    parts : int
        How many threads there are to share the larger matrix: the rows of a, or the columns of b.
    patient : bool
        Whether threads that sleep are worth the wait.
    """

    def __init__(self, a: Layout, b: Layout, parts: int, patient: bool) -> None:
        source, self._numbers = _passed(a, b, b.shape[1] * b.dtype.itemsize, None)
        self._function = native.Function(source, 3 + len(self._numbers))
        self._patient = patient
        m, n, *rest = self._numbers
        heights, _, lanes = blocks(a.dtype)
        by_columns = n > m
        whole, step = (n, lanes) if by_columns else (m, heights[0])
        length = -(-whole // (parts * step)) * step  # whole vectors, or blocks
        calls = []
        self._begins = []  # of each part what it is passed, and where it begins in the three matrices
        for begin in range(0, whole, length):
            size = min(length, whole - begin)
            calls.append(native.Call(source, (), (0, 0, 0, *((m, size) if by_columns else (size, n)), *rest)))
            places = (0, b.strides[1], a.dtype.itemsize) if by_columns else (a.strides[0], 0, n * a.dtype.itemsize)
            self._begins.append((calls[-1].words, *(begin * x for x in places)))
        self._job = Job([[[(call, ())] for call in calls]]) if len(calls) > 1 else None

    def __call__(self, a: Any, b: Any, out: Any) -> None:
        """Write `a @ b` to an array whose elements follow each other."""
        starts = native.start_of(a), native.start_of(b), native.start_of(out)
        job = self._job
        if job is None or not parallel.share_job(job, lambda: self._aim(*starts), self._patient):
            self._function(*starts, *self._numbers)

    def _aim(self, a: int, b: int, out: int) -> None:
        """Let the parts read and write matrices at these addresses."""
        for words, x, y, z in self._begins:
            words[0] = a + x
            words[1] = b + y
            words[2] = out + z


@lru_cache(maxsize=1024)
def _passed(a: Layout, b: Layout, row: int, after: After | None) -> tuple[str, tuple[int, ...]]:
    """Return the source for such matrices, and the numbers that are passed."""
    size = a.dtype.itemsize
    by_rows = b.strides[1] == size
    copies = size == a.strides[0] < a.strides[1] and b.shape[1] >= COLUMNS
    strides = [s // size for s in (*a.strides, b.strides[0 if by_rows else 1], row)]
    return text(a.dtype, by_rows, copies, after), (a.shape[0], b.shape[1], a.shape[1], *strides)


@lru_cache(maxsize=256)
def text(dtype: np.dtype, by_rows: bool, copies: bool = False, after: After | None = None) -> str:
    """Return the kernel in LLVM's assembly.

    It takes a, b, c, rows and columns of c, columns of a, and strides of a (two), b and c. Strides count elements. That
    of b is the one from row to row, or with `by_rows` False from column to column; the other is 1, as that within a row
    of c is. With `copies` that of a from row to row must be 1: blocks then read copies of its rows. With `after` its
    arrays take the place of c, and their widths come last.

    Examples
    --------
    >>> "@pack(" in text(np.dtype("float32"), by_rows=True)
    True
    """
    heights, vectors, lanes = blocks(dtype)
    kind = FLOATS[dtype]
    vector, bits, width = f"<{lanes} x {kind}>", 8 * dtype.itemsize, lanes * vectors
    packing = _packing_rows if by_rows else _packing_columns
    more = len(after.arrays) - 1 if after else 0
    parameters = ["ptr"] * (2 + more if after else 3) + ["i64"] * (7 + more)
    functions = "\n".join([
        "declare i64 @llvm.smin.i64(i64, i64)",
        "declare ptr @llvm.ptrmask.p0.i64(ptr, i64)",
        "declare ptr @malloc(i64)",
        "declare void @free(ptr)",
        "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
        f"declare {vector} @llvm.fma.v{lanes}f{bits}({vector}, {vector}, {vector})",
        packing(kind, vector, lanes, width, lanes * dtype.itemsize),
        *(_block(kind, bits, lanes, width, some, height) for height in heights for some in range(1, vectors + 1)),
        *([after.text] if after else []),
        _whole(kind, bits, heights, lanes, width, copies, after),
    ])  # fmt: skip
    return module(functions, "product", parameters)


def _least(code: Code, a: Any, b: Any) -> str:
    return code.let(f"call i64 @llvm.smin.i64(i64 {a}, i64 {b})")


def _whole(kind: str, bits: int, heights: list[int], lanes: int, width: int, copies: bool, after: After | None) -> str:
    """Return the function that goes over all of C, block by block."""
    code = Code(kind)
    # not on the stack, of which a thread may have too little
    room = code.let(f"call ptr @malloc(i64 {DEPTH * width * bits // 8 + 64})")
    packed = code.let(f"call ptr @llvm.ptrmask.p0.i64(ptr {code.at(room, 64, 'i8')}, i64 -64)")
    copy = ""
    if copies:
        elements = code.times(_least(code, "%m", ROWS), _least(code, "%k", DEPTH))
        copy = code.let(f"call ptr @malloc(i64 {code.times(elements, bits // 8)})")
    block = code.slot(f"[{heights[0] * width} x {kind}]", 64)
    with code.loop(0, "%k", DEPTH) as p, code.loop(0, "%m", ROWS) if copies else nullcontext("0") as begin:
        depth = _least(code, code.minus("%k", p), DEPTH)
        end = _least(code, "%m", code.plus(begin, ROWS)) if copies else "%m"
        with code.loop(0, "%n", width) as j:
            columns = _least(code, code.minus("%n", j), width)
            used = code.let(f"sdiv i64 {code.plus(columns, lanes - 1)}, {lanes}")
            code.run(f"call void @pack(ptr %b, i64 {p}, i64 {j}, i64 {depth}, i64 {columns}, i64 %bs, ptr {packed})")
            place = code.slot("i64")
            code.store(begin, place, "i64", 8)
            for height in heights:  # as many blocks of each height as there are rows left for, and of the last, all
                here = code.load(place, "i64", 8)
                left = code.minus(end, here)
                last = height == heights[-1]
                count = code.let(f"sdiv i64 {code.plus(left, height - 1) if last else left}, {height}")
                stop = code.plus(here, code.times(count, height))
                with code.loop(here, stop, height) as i:
                    rows = _least(code, code.minus(end, i), height)
                    a = code.at("%a", code.plus(code.times(i, "%ar"), code.times(p, "%ac")))
                    steps = "i64 %ar, i64 %ac"
                    if copies:
                        copied = code.at(copy, code.times(code.minus(i, begin), depth))
                        with code.when(j, "eq", 0):
                            _copy_rows(code, kind, a, copied, rows, depth, height)
                        a, steps = copied, f"i64 1, i64 {rows}"
                    _fetch(code, bits, i, j, height, width, after)
                    given = f"ptr {a}, {steps}, i64 {rows}, i64 {depth}, ptr {packed}, ptr {block}"
                    for vectors in range(1, width // lanes + 1):  # those that hold no column are left out
                        with code.when(used, "eq", vectors):
                            code.run(f"call void @block{height}x{vectors}({given})")
                    if after:
                        _go_on(code, after, block, width, i, j, rows, columns)
                    else:
                        _write(code, kind, block, width, i, j, rows, columns, p)
                code.store(stop, place, "i64", 8)
    others = [i for i in range(len(after.arrays)) if i != after.product] if after else []
    code.run(f"call void @free(ptr {room})")
    if copies:
        code.run(f"call void @free(ptr {copy})")
    results = "".join(f", ptr noalias %x{i}" for i in others) if after else ", ptr noalias %c"
    widths = "".join(f", i64 %w{i}" for i in others)
    return code.define(
        f"internal void @product(ptr noalias %a, ptr noalias %b{results}, i64 %m, i64 %n, i64 %k, i64 %ar, i64 %ac, "
        f"i64 %bs, i64 %cr{widths})"
    )


def _fetch(code: Code, bits: int, i: str, j: str, height: int, width: int, after: After | None) -> None:
    """Ask for the memory that a block is going to be written to: it comes while the block is computed."""
    places = [("%c", "%cr")]
    if after:
        full = [n for n, (span, _) in enumerate(after.arrays) if span == "full" and n != after.product]
        places = [(f"%x{n}", f"%w{n}") for n in full]
    for array, step in places:
        corner = code.at(array, code.plus(code.times(i, step), j))
        for x in range(height):
            row = code.at(corner, code.times(x, step))
            for byte in range(0, width * bits // 8 + 63, 64):
                line = code.let(f"getelementptr i8, ptr {row}, i64 {byte}")  # may lie beyond the matrix
                code.run(f"call void @llvm.prefetch.p0(ptr {line}, i32 1, i32 3, i32 1)")


def _copy_rows(code: Code, kind: str, a: str, to: str, rows: str, depth: str, height: int) -> None:
    """Copy rows of A whose columns are in one piece, column behind column: what a block reads is then in one piece."""
    whole = f"<{height} x {kind}>"
    with code.loop(0, depth) as k:
        source, target = code.at(a, code.times(k, "%ac")), code.at(to, code.times(k, rows))
        with code.when(rows, "eq", height):
            code.store(code.load(source, whole), target, whole)
        with code.when(rows, "ne", height), code.loop(0, rows) as i:
            code.store(code.load(code.at(source, i)), code.at(target, i))


def _write(code: Code, kind: str, block: str, width: int, i: str, j: str, rows: str, columns: str, p: str) -> None:
    """Write a block to its place in C, or add it to what is there from the rows of B before `p`."""
    corner = code.at("%c", code.plus(code.times(i, "%cr"), j))
    for comparison in ("eq", "ne"):
        with code.when(p, comparison, 0), code.loop(0, rows) as x, code.loop(0, columns) as y:
            value = code.load(code.at(block, code.plus(code.times(x, width), y)))
            place = code.at(corner, code.plus(code.times(x, "%cr"), y))
            if comparison == "ne":
                value = code.let(f"fadd {kind} {code.load(place)}, {value}")
            code.store(value, place)


def _go_on(code: Code, after: After, block: str, width: int, i: str, j: str, rows: str, columns: str) -> None:
    """Do with a block what comes after the product."""
    pointers, widths = [], []
    for n, (span, element) in enumerate(after.arrays):
        if n == after.product:
            pointers.append(f"ptr {block}")
            widths.append(f"i64 {width}")
            continue
        begins = {"single": "0", "row": j, "column": i}.get(span) or code.plus(code.times(i, f"%w{n}"), j)
        pointers.append(f"ptr {code.at(f'%x{n}', begins, element)}")
        widths.append(f"i64 %w{n}")
    for comparison, number in (("eq", width), ("ne", columns)):  # LLVM makes the best of a number that it knows
        with code.when(columns, comparison, width):
            code.run(f"call void @after({', '.join([*pointers, f'i64 {rows}', f'i64 {number}', *widths])})")


def _block(kind: str, bits: int, lanes: int, width: int, vectors: int, height: int) -> str:
    """Return the function that multiplies some rows of A with the packed columns that the first vectors hold."""
    code = Code(kind)
    vector = f"<{lanes} x {kind}>"
    size = lanes * bits // 8  # bytes: what a vector is aligned to, and no more where it does not fill a cache line
    sums = [[code.slot(vector, size) for _ in range(vectors)] for _ in range(height)]
    last = code.minus("%rows", 1)  # rows that are missing are computed from the last one, and not used
    rows = [code.at("%a", code.times(_least(code, i, last), "%ar")) for i in range(height)]

    def multiply(p: str) -> None:
        packed = code.at("%packed", code.times(p, width))
        b = [code.load(code.at(packed, v * lanes), vector, size) for v in range(vectors)]
        k = code.times(p, "%ac")
        for i in range(height):
            one = code.let(f"insertelement {vector} poison, {kind} {code.load(code.at(rows[i], k))}, i64 0")
            a = code.let(f"shufflevector {vector} {one}, {vector} poison, <{lanes} x i32> zeroinitializer")
            for v in range(vectors):
                given = f"{vector} {a}, {vector} {b[v]}, {vector} {code.load(sums[i][v], vector, size)}"
                code.store(code.let(f"call {vector} @llvm.fma.v{lanes}f{bits}({given})"), sums[i][v], vector, size)

    with code.loop(0, "%depth", CHAIN) as start:
        for row in sums:
            for s in row:
                code.store("zeroinitializer", s, vector, size)
        stop = code.plus(start, _least(code, code.minus("%depth", start), CHAIN))
        even = code.minus(stop, code.let(f"and i64 {stop}, 1"))
        with code.loop(start, even, 2) as p:
            multiply(p)
            multiply(code.plus(p, 1))
        with code.loop(even, stop) as p:
            multiply(p)
        places = [[code.at("%block", i * width + v * lanes) for v in range(vectors)] for i in range(height)]
        with code.when(start, "ne", 0):
            for i in range(height):
                for v in range(vectors):
                    before, s = code.load(places[i][v], vector, size), code.load(sums[i][v], vector, size)
                    code.store(code.let(f"fadd {vector} {before}, {s}"), sums[i][v], vector, size)
        for i in range(height):
            for v in range(vectors):
                code.store(code.load(sums[i][v], vector, size), places[i][v], vector, size)
    return code.define(
        f"internal void @block{height}x{vectors}(ptr noalias %a, i64 %ar, i64 %ac, i64 %rows, i64 %depth, "
        "ptr noalias %packed, ptr noalias %block)",
        "nounwind noinline",
    )


def _packing_rows(kind: str, vector: str, lanes: int, width: int, size: int) -> str:
    """Return the function that packs columns of a matrix whose rows are in one piece, and zeros beyond its edge."""
    code = Code(kind)
    with code.loop(0, "%depth") as p:
        source = code.at("%b", code.plus(code.times(code.plus(p, "%p"), "%bs"), "%j"))
        target = code.at("%packed", code.times(p, width))
        with code.when("%columns", "eq", width):
            for v in range(0, width, lanes):
                code.store(code.load(code.at(source, v), vector), code.at(target, v), vector, size)
        with code.when("%columns", "ne", width):
            for v in range(0, width, lanes):
                code.store("zeroinitializer", code.at(target, v), vector, size)
            with code.loop(0, "%columns") as j:
                code.store(code.load(code.at(source, j)), code.at(target, j))
    return code.define(_PACK)


def _packing_columns(kind: str, vector: str, lanes: int, width: int, size: int) -> str:
    """Return the function that packs columns of a matrix that are in one piece each: it transposes squares."""
    code = Code(kind)
    source = code.at("%b", code.plus(code.times("%j", "%bs"), "%p"))
    squares, whole = (code.let(f"and i64 {n}, {-lanes}") for n in ("%columns", "%depth"))
    with code.loop(0, squares, lanes) as j, code.loop(0, whole, lanes) as p:
        corner = code.at(source, code.plus(code.times(j, "%bs"), p))
        rows = [code.load(code.at(corner, code.times(i, "%bs")), vector) for i in range(lanes)]
        target = code.at("%packed", code.plus(code.times(p, width), j))
        for i, row in enumerate(_transposed(code, rows, vector, lanes)):
            code.store(row, code.at(target, i * width), vector, size)
    for start, stop, first in ((0, whole, squares), (whole, "%depth", 0)):  # columns, and rows, beyond the squares
        with code.loop(start, stop) as p:
            target = code.at("%packed", code.times(p, width))
            with code.loop(first, "%columns") as j:
                code.store(code.load(code.at(source, code.plus(code.times(j, "%bs"), p))), code.at(target, j))
            with code.loop("%columns", width) as j:
                code.store("0.0", code.at(target, j))
    return code.define(_PACK)


_PACK = "internal void @pack(ptr noalias %b, i64 %p, i64 %j, i64 %depth, i64 %columns, i64 %bs, ptr noalias %packed)"


def _transposed(code: Code, rows: list[str], vector: str, lanes: int) -> list[str]:
    """Return the columns of a square: parts of pairs of rows change places, single elements first, then two, four..."""
    step = 1
    while step < lanes:
        upper = [x if not x & step else lanes + x - step for x in range(lanes)]
        lower = [x + step if not x & step else lanes + x for x in range(lanes)]
        result = list(rows)
        for i in (i for i in range(lanes) if not i & step):
            for place, order in ((i, upper), (i + step, lower)):
                mask = ", ".join(f"i32 {x}" for x in order)
                pair = f"{vector} {rows[i]}, {vector} {rows[i + step]}"
                result[place] = code.let(f"shufflevector {pair}, <{lanes} x i32> <{mask}>")
        rows, step = result, 2 * step
    return rows
