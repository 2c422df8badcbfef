"""Programs as pictures: SVG made here, and text for Graphviz.

The layout has three columns. Forward operations go down on the left, one to a band. The operations of the backward
pass that are the derivative of a forward operation stand beside it, in the same band, and go up. What only serves to
compute an assigned value, an optimizer's update, is on the right, folded into one box for each assignment or not.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from ..atomic import write_atomically
from ..errors import DataError, GraphError
from ..node import Node
from ..sweep import reachable
from ..tensor import Tensor
from .program import Equation, Program, Variable
from .roles import roles, targets_of

WIDTH, HEIGHT, GAP = 250, 40, 22  # of a box, and between boxes one above the other
STEP = HEIGHT + GAP
INPUT_WIDTH, COLUMN_GAP, MARGIN = 150, 90, 30
TOP = MARGIN + 30  # below the headings
FILL = {
    "argument": "#e8eef7",
    "captured": "#fdf1d7",
    "forward": "#ffffff",
    "backward": "#fbe6e4",
    "update": "#e4f2e6",
}
INK, EDGE, SAVED = "#222222", "#5b6b7b", "#b9c2cb"


@dataclass
class Box:
    """What is drawn: one equation, one input, or a folded update."""

    kind: str
    title: str
    detail: str
    tooltip: str = ""
    x: float = 0.0
    y: float = 0.0
    width: float = WIDTH
    sources: list[Box] = field(default_factory=list)


def draw(what: Program | Tensor, path: str | os.PathLike | None = None, fold_updates: bool = True) -> str:
    """Return the graph of a program, or the graph that made a tensor, as SVG text.

    Parameters
    ----------
    what : Program or Tensor
        A tensor that requires grad shows the operations that backward would run through.
    path : optional
        A .svg file to write to as well; any browser shows it.
    fold_updates : bool
        Draw an optimizer's update of a parameter as one box that says how many operations it is, of its own and shared
        with other boxes.

    Raises
    ------
    DataError
        The path is not the name of a .svg file.
    OSError
        The folder does not exist, or the file cannot be written.

    Examples
    --------
    >>> import minigrad as mg
    >>> program = mg.record(mg.grad(lambda x: (x * x).sum()))(mg.tensor([1.0, 2.0]))
    >>> mg.draw(program)[:4]
    '<svg'
    """
    if path is not None and Path(path).suffix.lower() != ".svg":
        raise DataError(
            f"draw: {os.fspath(path)}: expected the name of a .svg file; any browser shows it and prints it to a PDF"
        )
    program = what if isinstance(what, Program) else of_tensor(what)
    layout = _Layout(program, fold_updates)
    text = _svg(list(layout.boxes.values()), layout.width, layout.height)
    if path is not None:
        write_atomically(path, text.encode())
    return text


def dot(program: Program) -> str:
    """Return the graph of a program as text for Graphviz: `dot -Tsvg`.

    Examples
    --------
    >>> import minigrad as mg
    >>> print(mg.record(lambda x: x + 1)(mg.tensor([1.0])).dot())
    digraph "lambda" {
      node [shape=box style=filled fontname=Helvetica]
      "x" [label="x:f32[1]" fillcolor="#e8eef7"]
      "a" [label="add x 1\\na:f32[1]" fillcolor="#ffffff"]
      "x" -> "a"
    }
    """
    role = roles(program)
    lines = [f"digraph {_quoted(program.name)} {{", "  node [shape=box style=filled fontname=Helvetica]"]
    inputs = [(v, "argument") for v in program.arguments] + [(v, "captured") for v in program.captured]
    lines += [f'  {_quoted(v.name)} [label={_quoted(repr(v))} fillcolor="{FILL[kind]}"]' for v, kind in inputs]
    for e in program.equations:
        label = f"{repr(e).partition(' = ')[2]}\n{e.output!r}"
        lines.append(f'  {_quoted(e.output.name)} [label={_quoted(label)} fillcolor="{FILL[role[e.output]]}"]')
        lines += [f"  {_quoted(v.name)} -> {_quoted(e.output.name)}" for v in dict.fromkeys(e.variables)]
    return "\n".join([*lines, "}"])


def of_tensor(x: Tensor) -> Program:
    """Return the operations that made a tensor, as far as its graph remembers them, as a program without values."""
    if x._node is None:
        raise GraphError("this tensor requires no gradient, so it does not remember what made it")
    variables: dict[int, Variable] = {}
    arguments: list[Variable] = []
    equations: list[Equation] = []

    def variable(node: Any, leaf: bool) -> Variable:
        if id(node) not in variables:
            name = f"x{len(arguments)}" if leaf else f"v{len(equations)}"
            variables[id(node)] = Variable(name, node.shape, node.dtype, x.device)
            if leaf:
                arguments.append(variables[id(node)])
        return variables[id(node)]

    for node in reversed(reachable([x._node], None)):
        if node.primitive is None:
            variable(node, leaf=True)
            continue
        saved = node.inputs if node.inputs is not None else node.parents
        inputs = tuple(
            variable(parent, leaf=False)
            if parent is not None
            else variable(value, leaf=True)
            if isinstance(value, Tensor | Node)
            else value
            for parent, value in zip(node.parents, saved, strict=True)
        )
        equations.append(Equation(variable(node, leaf=False), node.primitive, inputs, node.metadata, ""))
    return Program("graph", tuple(arguments), {}, equations, variables[id(x._node)])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


# Layout


class _Layout:
    """Where everything stands: `boxes`, and the `width` and `height` of the picture."""

    def __init__(self, program: Program, fold_updates: bool) -> None:
        self.program = program
        self.role = roles(program)
        self.folded = fold_updates
        self.boxes: dict[Variable, Box] = {}
        self.hidden: dict[Variable, Equation] = {}  # the equations that a folded update stands for
        shown = [*program.arguments, *(v for v in program.captured if v not in program.literals)]
        self.inputs = {v: _input_box(v, program) for v in shown}
        self.next_input = self.height = float(TOP)
        self.width = 0.0
        beside = self._derivatives()
        x = MARGIN + INPUT_WIDTH + COLUMN_GAP / 2
        self._place_operations(beside, x, x + WIDTH + COLUMN_GAP)
        self._place_updates(x + (WIDTH + COLUMN_GAP) * (2 if beside else 1))
        # those that only backward or unfolded updates use, or nothing: from where they are used on
        rest = [v for v in self.inputs if v not in self.boxes and not self._is_folded_away(v)]
        for v in sorted(rest, key=self._first_use):
            self._place_input(v, max(self.next_input, self._first_use(v)))
        self._connect()
        self.width = max(box.x + box.width for box in self.boxes.values()) + COLUMN_GAP if self.boxes else MARGIN
        self.height = max((box.y for box in self.boxes.values()), default=0.0) + HEIGHT + MARGIN

    def _derivatives(self) -> dict[Variable | None, list[Equation]]:
        """Return the backward equations that stand beside each forward one: its derivative, and theirs.

        None stands for those that a pass dropped.
        """
        beside: dict[Variable | None, list[Equation]] = {}
        origin = {e.output: e.of for e in self.program.equations}
        for e in self.program.equations:
            of = e.of
            while of is not None and origin.get(of) is not None:
                of = origin[of]
            if e.of is not None:
                beside.setdefault(of if of in origin else None, []).append(e)
        return beside

    def _place_operations(
        self, beside: dict[Variable | None, list[Equation]], x_forward: float, x_backward: float
    ) -> None:
        y = float(TOP)
        for e in self.program.equations:
            if self.role[e.output] != "forward":
                continue
            for v in e.variables:  # an input stands beside its first use
                if v in self.inputs and v not in self.boxes:
                    self._place_input(v, max(y, self.next_input))
            self.boxes[e.output] = _equation_box(e, "forward", x_forward, y)
            derivative = beside.get(e.output, [])
            for i, b in enumerate(reversed(derivative)):
                self.boxes[b.output] = _equation_box(b, "backward", x_backward, y + i * STEP)
            y = max(y + STEP * max(1, len(derivative)), self.next_input)
        for i, b in enumerate(reversed(beside.get(None, []))):
            self.boxes[b.output] = _equation_box(b, "backward", x_backward, y + i * STEP)

    def _place_input(self, v: Variable, y: float) -> None:
        box = self.boxes[v] = self.inputs[v]
        box.x, box.y = MARGIN, y
        self.next_input = y + STEP

    def _place_updates(self, x: float) -> None:
        y = float(TOP)
        targets = targets_of(self.program)
        updates = [e for e in self.program.equations if self.role[e.output] == "update"]
        if self.folded:
            self.hidden = {e.output: e for e in updates if not e.primitive.effect}
        boxed = {e.output: _behind(e, self.hidden) for e in updates if e.output not in self.hidden}
        boxes_of = Counter(part.output for parts in boxed.values() for part in parts)
        for e in updates:
            if e.output in self.hidden:
                continue
            box = self.boxes[e.output] = _equation_box(e, "update", x, y)
            if self.folded:
                parts = boxed[e.output]
                own = sum(boxes_of[part.output] == 1 for part in parts)
                shared = f" + {len(parts) - own} shared" if own < len(parts) else ""
                box.title = f"update of {targets[e.output].name}"
                box.detail = f"{own} operation{'s' * (own != 1)}{shared}, {e.line}"
                box.tooltip = "\n".join(f"{part!r}  # {part.line}" for part in parts)
                used = [v for part in parts for v in part.variables]
                box.y = max([y, *(self.boxes[v].y for v in used if self.role.get(v) == "backward")])
            y = box.y + STEP

    def _first_use(self, v: Variable) -> float:
        """Return how far down the first box stands that uses an input, or 0 if none does."""
        users = [self.boxes[e.output] for e in self.program.equations if v in e.variables and e.output in self.boxes]
        return min((box.y for box in users), default=0.0)

    def _is_folded_away(self, v: Variable) -> bool:
        """Return whether only folded updates use an input: then their titles name what there is to say."""
        users = [e for e in self.program.equations if v in e.variables]
        return self.folded and bool(users) and all(self.role[e.output] == "update" for e in users)

    def _connect(self) -> None:
        for e in self.program.equations:
            if e.output not in self.boxes:
                continue
            needed = e.variables
            if self.role[e.output] == "update" and self.folded:
                own = e.variables[0]  # its title says what it updates
                needed = [v for part in _behind(e, self.hidden) for v in part.variables if v is not own]
            self.boxes[e.output].sources = [self.boxes[v] for v in dict.fromkeys(needed) if v in self.boxes]
        for v in self.program.outputs:
            if v in self.boxes:
                self.boxes[v].detail += "  → result"


def _behind(e: Equation, hidden: dict[Variable, Equation]) -> list[Equation]:
    """Return `e` and the hidden equations that it depends on."""
    found: dict[Variable, Equation] = {}
    stack = [e]
    while stack:
        one = stack.pop()
        if one.output not in found:
            found[one.output] = one
            stack += [hidden[v] for v in one.variables if v in hidden]
    return list(reversed(found.values()))


def _input_box(v: Variable, program: Program) -> Box:
    kind = "captured" if v in program.captured else "argument"
    return Box(kind, v.name, repr(v).partition(":")[2], kind, width=INPUT_WIDTH)


def _equation_box(e: Equation, kind: str, x: float, y: float) -> Box:
    title = repr(e).partition(" = ")[2]
    return Box(kind, title, f"{e.output!r}", f"{e!r}\n{e.line}", x, y)


# SVG


def _svg(boxes: list[Box], width: float, height: float) -> str:
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{EDGE}"/></marker></defs>',
    ]
    heads = {"argument": "inputs", "captured": "inputs", "forward": "forward ↓", "backward": "backward ↑"}
    shown: dict[str, float] = {}
    for box in boxes:
        shown.setdefault(heads.get(box.kind, "update"), box.x)
    lines += [
        f'<text x="{x:.0f}" y="{MARGIN + 8}" font-size="15" font-weight="bold" fill="{INK}">{name}</text>'
        for name, x in shown.items()
    ]
    edges = [_edge(source, box, boxes) for box in boxes for source in box.sources]
    lines += sorted(edges, key=lambda edge: SAVED not in edge)  # the pale ones below
    for box in boxes:
        radius = 18 if box.kind in ("argument", "captured") else 4
        lines.append(
            f'<g><title>{escape(box.tooltip)}</title><rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" '
            f'height="{HEIGHT}" rx="{radius}" fill="{FILL[box.kind]}" stroke="{EDGE}"/>'
            f'<text x="{box.x + box.width / 2:.0f}" y="{box.y + 17:.0f}" text-anchor="middle" fill="{INK}">'
            f"{escape(_cut(box.title, box.width, 12))}</text>"
            f'<text x="{box.x + box.width / 2:.0f}" y="{box.y + 32:.0f}" text-anchor="middle" font-size="10" '
            f'fill="{EDGE}">{escape(_cut(box.detail, box.width, 10))}</text></g>'
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


def _cut(text: str, width: float, font_size: int) -> str:
    most = int(width / (0.55 * font_size))
    return text if len(text) <= most else text[: most - 1] + "…"


def _edge(a: Box, b: Box, boxes: list[Box]) -> str:
    """Return the arrow from a to b: straight between neighbours, a bow past other boxes in one column."""
    color, extra = EDGE, ""
    if a.x == b.x:
        down = b.y > a.y
        start, end = (a.y + HEIGHT, b.y) if down else (a.y, b.y + HEIGHT)
        top, bottom = min(start, end), max(start, end)
        if not any(c.x == a.x and top < c.y < bottom for c in boxes):
            x = a.x + a.width / 2
            d = f"M{x:.0f} {start:.0f}L{x:.0f} {end:.0f}"
        else:
            bow = min(16 + abs(b.y - a.y) * 0.06, COLUMN_GAP * 0.7)
            side = a.x + a.width
            y0, y1 = a.y + HEIGHT / 2, b.y + HEIGHT / 2
            d = f"M{side:.0f} {y0:.0f}C{side + bow:.0f} {y0:.0f} {side + bow:.0f} {y1:.0f} {side:.0f} {y1:.0f}"
    else:
        right = b.x > a.x
        x0, x1 = (a.x + a.width, b.x) if right else (a.x, b.x + b.width)
        y0, y1 = a.y + HEIGHT / 2, b.y + HEIGHT / 2
        bend = (x1 - x0) * 0.5
        d = f"M{x0:.0f} {y0:.0f}C{x0 + bend:.0f} {y0:.0f} {x1 - bend:.0f} {y1:.0f} {x1:.0f} {y1:.0f}"
        if a.kind != b.kind and b.kind == "backward":  # a value that forward keeps for backward
            color, extra = SAVED, ' stroke-dasharray="4 3"'
    return f'<path d="{d}" fill="none" stroke="{color}"{extra} marker-end="url(#arrow)"/>'
