"""Assembly: the text of functions for LLVM, with loops, as `minigrad.native` builds them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

FLOATS = {np.dtype("float32"): "float", np.dtype("float64"): "double"}  # what LLVM calls them
WIDEST = '"prefer-vector-width"="512" "min-legal-vector-width"="512"'


def module(functions: str, name: str, parameters: list[str]) -> str:
    """Return functions with one called "kernel", which calls another with what lies in memory, as `native.Call` does.

    Parameters
    ----------
    functions : str
        Among them one called `name`.
    name : str
    parameters : list of str
        LLVM's types of its parameters: "ptr" or "i64".
    """
    code = Code("i64")
    values = [f"{kind} {code.load(code.at('%words', i), kind, 8)}" for i, kind in enumerate(parameters)]
    code.run(f"call void @{name}({', '.join(values)})")
    return f"{functions}\n{code.define('void @kernel(ptr %words)')}"


class Code:
    """The body of a function in LLVM's assembly as it grows. Indices are of type i64, values are LLVM's names.

    Parameters
    ----------
    kind : str
        The type of the elements of arrays, such as "float".

    Examples
    --------
    >>> code = Code("float")
    >>> with code.loop(0, "%n") as i:
    ...     code.store(code.load(code.at("%x", i)), code.at("%y", i))
    >>> text = code.define("void @kernel(ptr %x, ptr %y, i64 %n)")
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._slots: list[str] = []
        self._lines: list[str] = []
        self._names = itertools.count()

    def run(self, instruction: str) -> None:
        """Add an instruction that has no result."""
        self._lines.append(f"  {instruction}")

    def let(self, instruction: str) -> str:
        """Add an instruction, and return the name of its result."""
        name = f"%t{next(self._names)}"
        self.run(f"{name} = {instruction}")
        return name

    def slot(self, kind: str, alignment: int = 8) -> str:
        """Return the address of a new variable on the stack: LLVM keeps those that fit in registers."""
        name = f"%s{next(self._names)}"
        self._slots.append(f"  {name} = alloca {kind}, align {alignment}")
        return name

    def plus(self, a: Any, b: Any) -> str:
        """Return the sum of two indices."""
        return self.let(f"add nsw i64 {a}, {b}")

    def minus(self, a: Any, b: Any) -> str:
        """Return the difference of two indices."""
        return self.let(f"sub nsw i64 {a}, {b}")

    def times(self, a: Any, b: Any) -> str:
        """Return the product of two indices."""
        return self.let(f"mul nsw i64 {a}, {b}")

    def at(self, array: str, index: Any, kind: str | None = None) -> str:
        """Return the address of an element."""
        return self.let(f"getelementptr inbounds {kind or self._kind}, ptr {array}, i64 {index}")

    def load(self, address: str, kind: str | None = None, alignment: int = 1) -> str:
        """Return what is at an address."""
        return self.let(f"load {kind or self._kind}, ptr {address}, align {alignment}")

    def store(self, value: Any, address: str, kind: str | None = None, alignment: int = 1) -> None:
        """Write a value to an address."""
        self.run(f"store {kind or self._kind} {value}, ptr {address}, align {alignment}")

    @contextlib.contextmanager
    def loop(self, start: Any, stop: Any, step: int = 1) -> Iterator[str]:
        """Repeat the block for an index from `start` to below `stop`."""
        n, place = next(self._names), self.slot("i64")
        self.store(start, place, "i64", 8)
        self._label(f"test{n}")
        i = self.load(place, "i64", 8)
        self.run(f"br i1 {self.let(f'icmp slt i64 {i}, {stop}')}, label %turn{n}, label %end{n}")
        self._label(f"turn{n}", falls=False)
        yield i
        self.store(self.plus(i, step), place, "i64", 8)
        self.run(f"br label %test{n}")
        self._label(f"end{n}", falls=False)

    @contextlib.contextmanager
    def when(self, a: Any, comparison: str, b: Any) -> Iterator[None]:
        """Do the block where `a` and `b` compare so: "eq", "ne", "slt", "sle", "sgt", "sge"."""
        n = next(self._names)
        self.run(f"br i1 {self.let(f'icmp {comparison} i64 {a}, {b}')}, label %then{n}, label %end{n}")
        self._label(f"then{n}", falls=False)
        yield
        self._label(f"end{n}")

    def define(self, declaration: str, attributes: str = "nounwind") -> str:
        """Return the whole function."""
        lines = [f"define {declaration} {attributes} {WIDEST} {{", "start:", *self._slots, *self._lines]
        return "\n".join([*lines, "  ret void", "}"])

    def _label(self, name: str, falls: bool = True) -> None:
        if falls:  # a block ends with a jump
            self.run(f"br label %{name}")
        self._lines.append(f"{name}:")
