"""The body of a kernel: what a group computes at one place, as statements on scalars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..lower import NotLowered, is_number, lower
from ..program import Equation, Variable
from .kernel import Unsupported
from .random import RANDOM, drawing
from .source import DOUBLE, HALF, SINGLE, c_type, call, converted, literal

Text = tuple[str, np.dtype]


class Draw:
    """Random numbers, of which each place gets one.

    Attributes
    ----------
    name : str
        Of the scalar.
    count : int
        How many numbers are made at a time.
    text : str
        The definition of the function that makes them.
    """

    def __init__(self, e: Equation, number: int, counter: str) -> None:
        self.output = e.output
        self.name = f"u{number}"
        self._drawn, self._counter = f"d{number}", counter
        self._function, self.count, self.text = drawing(e)

    def make(self, place: str) -> str:
        """Return the statement that makes the numbers of the place (the number of an element) and its neighbours."""
        return f"const auto {self._drawn} = {self._function}({self._counter} + ({place}) / {self.count});"

    def take(self, place: str, width: int) -> str:
        """Return the statement that defines the scalar: of the place or, for widths above 1, of its neighbour `k`."""
        first = "" if width == self.count else f"({place}) % {self.count}"
        element = " + ".join(term for term in (first, "k" * (width > 1)) if term)
        text = f"{self._drawn}.at[{element}]"
        if self.output.dtype == HALF:
            text = converted(text, SINGLE, HALF)
        return f"const {c_type(self.output.dtype)} {self.name} = {text};"


class Body:
    """Statements for the elementwise equations of a group.

    Attributes
    ----------
    reads : dict from Variable to str
        The variables that are read, each with the name of the scalar that it is loaded into.
    lines : list of str
        Each defines a scalar.
    writes : dict from Variable to str
        The variables whose memory is written, with the scalar that goes there. An assigned tensor is written under the
        name of the variable that it was before, which may be read as well: what is read is the old value.
    draws : list of Draw
        The random numbers of the group.

    Notes
    -----
    All reads come before all writes, so unlike tiles, which pass values on through memory, a kernel needs no care for
    the order in which values are read and assigned.
    """

    def __init__(
        self, equations: Iterable[Equation], stored: set[Variable], roots: Mapping[Variable, Variable]
    ) -> None:
        self.reads: dict[Variable, str] = {}
        self.lines: list[str] = []
        self.writes: dict[Variable, str] = {}
        self.draws: list[Draw] = []
        self._values: dict[Variable, Text] = {}
        for e in equations:
            if e.primitive.effect:
                target = e.variables[0]
                self._values[e.output] = self._define(
                    "astype", [self._value(e.inputs[1], e.output.dtype)], e.output.dtype
                )
                self.writes[target] = self._values[e.output][0]
                continue
            self._values[e.output] = self._equation(e)
            if e.output in stored:
                self.writes[e.output] = self._values[e.output][0]
        overwritten = {roots.get(v, v): v for v in self.writes}
        for v in self.reads:
            if overwritten.get(roots.get(v, v), v) is not v:
                raise Unsupported(f"{v!r} is read in another form than it is assigned")

    def value(self, v: Variable) -> Text:
        """Return the scalar of a variable: computed, or read."""
        if v not in self._values:
            self.reads[v] = f"x{len(self.reads)}"
            self._values[v] = self.reads[v], v.dtype
        return self._values[v]

    def _value(self, x: Any, dtype: np.dtype) -> Text:
        return self.value(x) if isinstance(x, Variable) else (literal(x, dtype), dtype)

    def _equation(self, e: Equation) -> Text:
        inputs: list[Any] = [self.value(x) if isinstance(x, Variable) else x for x in e.inputs]
        name, dtype = e.primitive.name, e.output.dtype
        if name in RANDOM:
            draw = Draw(e, len(self.draws), inputs[0][0])
            self.draws.append(draw)
            return draw.name, dtype
        if name == "astype":
            return self._define("astype", [self._value(e.inputs[0], dtype)], dtype)
        if name == "erf":
            wide = inputs[0][1] if inputs[0][1] in (HALF, SINGLE, DOUBLE) else DOUBLE
            return self._define("astype", [self._define("erf", inputs, wide)], dtype)
        if name == "round":
            return self._round(inputs[0], e.metadata.get("decimals", 0), dtype)
        try:
            kinds = [x[1] if isinstance(x, tuple) else x for x in inputs]
            symbols, calls = lower(e.primitive.forward, kinds, e.metadata, dtype)
        except NotLowered as error:
            raise Unsupported(f"there is no kernel for {name}: {error}") from error
        named: dict[Any, Text] = {s: x for s, x in zip(symbols, inputs, strict=True) if isinstance(x, tuple)}
        for c in calls:
            inputs = [x if is_number(x) else named[x] for x in c.inputs]
            named[c.result] = self._define(c.name, inputs, c.result.dtype)
        return named[calls[-1].result]

    def _round(self, x: Text, decimals: int, dtype: np.dtype) -> Text:
        if decimals and x[1].kind != "f":
            raise Unsupported("there is no kernel for decimals of integers")
        before, after = ("multiply", "divide") if decimals > 0 else ("divide", "multiply")
        scale = 10.0 ** abs(decimals)
        if decimals:
            x = self._define(before, [x, scale], x[1])
        x = self._define("rint", [x], x[1] if x[1].kind != "b" else HALF)
        if decimals:
            x = self._define(after, [x, scale], x[1])
        return self._define("astype", [x], dtype)

    def _define(self, name: str, inputs: list, dtype: np.dtype) -> Text:
        text = call(name, inputs, dtype)
        if text.isidentifier():  # a conversion to the same type, a floor of an integer
            return text, dtype
        self.lines.append(f"const {c_type(dtype)} t{len(self.lines)} = {text};")
        return f"t{len(self.lines) - 1}", dtype
