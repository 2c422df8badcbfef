"""Kernels: runs of arithmetic inside a tile as one compiled loop each, where llvmlite is installed.

A kernel makes one pass over its arrays where NumPy makes one per operation. It is written as LLVM's assembly, which
llvmlite turns into machine code. Only operations that IEEE 754 defines to the last bit are compiled
(+, -, *, /, sqrt, comparisons, choices), and LLVM may not reorder them; exp, log and the like stay NumPy's, whose last
bits another library would not give. So results are the same with and without kernels.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from .. import native
from ..assembly import FLOATS, WIDEST, module

ARITHMETIC = {"add": "fadd", "subtract": "fsub", "multiply": "fmul", "divide": "fdiv"}
COMPARISONS = {
    "equal": "oeq", "not_equal": "une", "less": "olt", "less_equal": "ole", "greater": "ogt", "greater_equal": "oge",
}  # fmt: skip
LOGIC = {"logical_and": "and", "logical_or": "or", "logical_not": "xor"}
ONE_INPUT = {"negative", "square", "sqrt", "abs"}
BOOLEAN = np.dtype(bool)
TYPES = {**FLOATS, BOOLEAN: "i1"}
DECLARED = "\n".join(
    f"declare {t} @llvm.{f}.f{n}({t})" for f in ("sqrt", "fabs") for t, n in (("float", 32), ("double", 64))
)


def compilable(name: str, inputs: list[Any], dtype: np.dtype) -> bool:
    """Return whether one call has defined bits; `inputs` are a dtype for each array and None for each number.

    Examples
    --------
    >>> f32 = np.dtype("float32")
    >>> compilable("add", [f32, None], f32), compilable("exp", [f32], f32)
    (True, False)
    """
    kinds = {d for d in inputs if d is not None}
    floats = kinds - {BOOLEAN}
    if not kinds or not kinds <= set(TYPES) or dtype not in TYPES:
        return False
    if name == "astype":
        return dtype != BOOLEAN
    if name in LOGIC:
        return kinds == {BOOLEAN} and None not in inputs
    if len(floats) > 1:
        return False
    if name == "where":
        return inputs[0] == BOOLEAN and dtype != BOOLEAN and all(d in (None, dtype, BOOLEAN) for d in inputs[1:])
    if name in COMPARISONS:
        return bool(floats)
    return (name in ARITHMETIC or name in ONE_INPUT) and floats == {dtype}


class Source:
    """The text of a kernel as it grows: scalars are loaded, computed from each other and stored, in a loop.

    Parameters
    ----------
    flat : bool
        Whether the arrays have one axis, or two.

    Examples
    --------
    >>> f32 = np.dtype("float32")
    >>> kernel = Source(flat=True)
    >>> x = kernel.load("full", f32)
    >>> y = kernel.compute("multiply", [x, 2.0], f32)
    >>> kernel.store(y)
    >>> [line for line in kernel.function('f').splitlines() if "fmul" in line]
    ['  %v1 = fmul float %v0, 0x4000000000000000']
    """

    def __init__(self, flat: bool) -> None:
        self._flat = flat
        self._once: list[str] = []  # before the loops
        self._per_row: list[str] = []
        self._body: list[str] = []
        self._scalars = 0
        self.arrays: list[tuple[str, str]] = []  # how each spans the loops, and what LLVM calls its elements

    def load(self, kind: str, dtype: np.dtype) -> tuple[str, np.dtype]:
        """Return a scalar from the next array, which is "full", a "row", a "column" or a "single" number."""
        lines = {"single": self._once, "column": self._per_row}.get(kind, self._body)
        n = len(self.arrays)
        index = {"single": "0", "column": "%i", "row": "%j"}.get(kind, f"%k{n}")
        if kind == "full":
            self._index(n)
        self.arrays.append((kind, _stored(dtype)))
        return self._load(lines, n, index, dtype), dtype

    def compute(self, name: str, inputs: list[Any], dtype: np.dtype) -> tuple[str, np.dtype]:
        """Return the result of one call on scalars (pairs of text and dtype) and numbers."""
        floats = [x[1] for x in inputs if isinstance(x, tuple) and x[1] != BOOLEAN]
        working = dtype if name in ("astype", "where") or not floats else floats[0]
        kind = TYPES[working]
        if name == "where":
            condition = inputs[0][0]
            a, b = (self._converted(x, working) for x in inputs[1:])
            return self._add(f"select i1 {condition}, {kind} {a}, {kind} {b}"), dtype
        values = [self._converted(x, working) for x in inputs]
        if name == "astype":
            return values[0], dtype
        if name in COMPARISONS:
            return self._add(f"fcmp {COMPARISONS[name]} {kind} {values[0]}, {values[1]}"), dtype
        if name in LOGIC:
            return self._add(f"{LOGIC[name]} i1 {values[0]}, {values[1] if len(values) > 1 else 'true'}"), dtype
        if name in ARITHMETIC:
            return self._add(f"{ARITHMETIC[name]} {kind} {values[0]}, {values[1]}"), dtype
        (x,) = values
        if name == "negative":
            return self._add(f"fneg {kind} {x}"), dtype
        if name == "square":
            return self._add(f"fmul {kind} {x}, {x}"), dtype
        function = {"sqrt": "sqrt", "abs": "fabs"}[name]
        return self._add(f"call {kind} @llvm.{function}.f{8 * working.itemsize}({kind} {x})"), dtype

    def store(self, value: tuple[str, np.dtype], array: int | None = None) -> None:
        """Write a scalar into the next array, or into one that was read (its number)."""
        text, dtype = value
        if array is None:
            array = len(self.arrays)
            self._index(array)
            self.arrays.append(("full", _stored(dtype)))
        kind = _stored(dtype)
        if dtype == BOOLEAN:
            text = self._add(f"zext i1 {text} to i8")
        self._body.append(f"%s{array} = getelementptr inbounds {kind}, ptr %a{array}, i64 %k{array}")
        self._body.append(f"store {kind} {text}, ptr %s{array}, align 1")

    def function(self, name: str, linkage: str = "") -> str:
        """Return the function of pointers to arrays, rows, columns, and for each array the elements from row to row."""
        arrays = ", ".join(f"ptr noalias %a{i}" for i in range(len(self.arrays)))
        widths = ", ".join(f"i64 %w{i}" for i in range(len(self.arrays)))
        rows = "1" if self._flat else "%rows"
        return "\n".join([
            f"define {linkage} void @{name}({arrays}, i64 %rows, i64 %columns, {widths}) nounwind {WIDEST} {{",
            "start:",
            *(f"  {line}" for line in self._once),
            "  br label %row",
            "row:",
            "  %i = phi i64 [0, %start], [%next_i, %row_end]",
            *(f"  {line}" for line in self._per_row),
            "  br label %column",
            "column:",
            "  %j = phi i64 [0, %row], [%next_j, %column]",
            *(f"  {line}" for line in self._body),
            "  %next_j = add nuw nsw i64 %j, 1",
            "  %more_j = icmp ult i64 %next_j, %columns",
            "  br i1 %more_j, label %column, label %row_end",
            "row_end:",
            "  %next_i = add nuw nsw i64 %i, 1",
            f"  %more_i = icmp ult i64 %next_i, {rows}",
            "  br i1 %more_i, label %row, label %end",
            "end:",
            "  ret void",
            "}",
        ])  # fmt: skip

    def call(self, arrays: list[Any], shape: tuple[int, ...]) -> native.Call:
        """Return the call of the compiled kernel for arrays, in the order in which they were named.

        Parameters
        ----------
        arrays : list of array
        shape : tuple of int
            Of what the loops go over, at least 1 in each direction.
        """
        n = len(self.arrays)
        widths = (a.strides[0] // a.itemsize if a.ndim == 2 else 0 for a in arrays)
        parameters = ["ptr"] * n + ["i64"] * (2 + n)
        text = module(f"{DECLARED}\n{self.function('loops', 'internal')}", "loops", parameters)
        return native.Call(text, arrays, [*(1, *shape)[-2:], *widths])

    def _index(self, array: int) -> None:
        """Compute the place in an array that has rows, each `w` elements behind the one before: w may be negative."""
        self._per_row.append(f"%f{array} = mul nsw i64 %i, %w{array}")
        self._body.append(f"%k{array} = add nsw i64 %f{array}, %j")

    def _add(self, instruction: str) -> str:
        self._scalars += 1
        self._body.append(f"%v{self._scalars - 1} = {instruction}")
        return f"%v{self._scalars - 1}"

    def _load(self, lines: list[str], array: int, index: str, dtype: np.dtype) -> str:
        kind = _stored(dtype)
        name = f"%v{self._scalars}"
        self._scalars += 1
        lines.append(f"%p{array} = getelementptr inbounds {kind}, ptr %a{array}, i64 {index}")
        lines.append(f"{name}{'.byte' * (dtype == BOOLEAN)} = load {kind}, ptr %p{array}, align 1")
        if dtype == BOOLEAN:
            lines.append(f"{name} = icmp ne i8 {name}.byte, 0")
        return name

    def _converted(self, x: Any, to: np.dtype) -> str:
        if not isinstance(x, tuple):
            return _literal(x, to)
        text, dtype = x
        if dtype == to:
            return text
        if dtype == BOOLEAN:
            return self._add(f"uitofp i1 {text} to {TYPES[to]}")
        return self._add(
            f"{'fpext' if to.itemsize > dtype.itemsize else 'fptrunc'} {TYPES[dtype]} {text} to {TYPES[to]}"
        )


def _literal(x: Any, dtype: np.dtype) -> str:
    """Return a number as LLVM writes it, exactly: the bits of the double that has its value in `dtype`."""
    if dtype == BOOLEAN:
        return "true" if x else "false"
    with np.errstate(over="ignore"):
        value = float(dtype.type(x))
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def _stored(dtype: np.dtype) -> str:
    """Return the type of an element in memory."""
    return "i8" if dtype == BOOLEAN else TYPES[dtype]
