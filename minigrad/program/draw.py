"""Programs as pictures: SVG made here, and text for Graphviz.

The layout has three columns. Forward operations go down on the left, one to a band. The operations of the backward
pass that are the derivative of a forward operation stand beside it, in the same band, and go up. What only serves to
compute an assigned value, an optimizer's update, is on the right, folded into one box for each assignment or not.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from .. import tape
from ..errors import GraphError
from ..tensor import Tensor
from .program import Equation, Program, Variable, is_literal

WIDTH, HEIGHT, GAP = 250, 40, 22  # of a box, and between boxes one above the other
INPUT_WIDTH, COLUMN_GAP, MARGIN = 150, 90, 30
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


def phases(program: Program) -> dict[Variable, str]:
    """Return for every equation's output whether it is "forward", "backward" or "update".

    An update is what leads to nothing but assignments, other than through the backward pass.
    """
    differentiated = {e.of for e in program.equations}
    users: dict[Variable, list[Equation]] = defaultdict(list)
    for e in program.equations:
        for v in e.variables:
            users[v].append(e)
    found: dict[Variable, str] = {}
    for e in reversed(program.equations):
        later = [found[user.output] for user in users[e.output]]
        if e.of is not None:
            found[e.output] = "backward"
        elif e.output in differentiated or e.output in program.outputs or set(later) != {"update"}:
            found[e.output] = "update" if e.primitive.effect else "forward"
        else:
            found[e.output] = "update"
    return found


def draw(what: Program | Tensor, path: str | os.PathLike | None = None, fold_updates: bool = True) -> str:
    """Return the graph of a program, or the graph that made a tensor, as SVG text.

    Parameters
    ----------
    what : Program or Tensor
        A tensor that requires grad shows the operations that backward would run through.
    path : optional
        A file to write the SVG to as well; any browser shows it.
    fold_updates : bool
        Draw an optimizer's update of a parameter as one box that says how many operations it is.

    Examples
    --------
    >>> import minigrad as mg
    >>> program = mg.record(mg.grad(lambda x: (x * x).sum()))(mg.tensor([1.0, 2.0]))
    >>> mg.draw(program)[:4]
    '<svg'
    """
    program = what if isinstance(what, Program) else of_tensor(what)
    text = _svg(*_layout(program, fold_updates))
    if path is not None:
        folder = os.path.dirname(os.path.abspath(path))
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=folder, suffix=".svg", delete=False) as file:
            file.write(text)
        os.replace(file.name, path)
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
    phase = phases(program)
    lines = [f"digraph {_quoted(program.name)} {{", "  node [shape=box style=filled fontname=Helvetica]"]
    inputs = [(v, "argument") for v in program.arguments] + [(v, "captured") for v in program.captured]
    lines += [f'  {_quoted(v.name)} [label={_quoted(repr(v))} fillcolor="{FILL[kind]}"]' for v, kind in inputs]
    for e in program.equations:
        label = f"{repr(e).partition(' = ')[2]}\n{e.output!r}"
        lines.append(f'  {_quoted(e.output.name)} [label={_quoted(label)} fillcolor="{FILL[phase[e.output]]}"]')
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

    for node in reversed(tape.reachable([x._node], None)):
        if node.primitive is None:
            variable(node, leaf=True)
            continue
        saved = node.inputs if node.inputs is not None else node.parents
        inputs = tuple(
            variable(parent, leaf=False)
            if parent is not None
            else variable(value, leaf=True)
            if isinstance(value, Tensor | tape.Node)
            else value
            for parent, value in zip(node.parents, saved, strict=True)
        )
        equations.append(Equation(variable(node, leaf=False), node.primitive, inputs, node.metadata, ""))
    return Program("graph", tuple(arguments), {}, equations, variables[id(x._node)])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


# Layout


def _layout(program: Program, fold_updates: bool) -> tuple[list[Box], float, float]:
    """Place a box for everything; return them with the width and height of the picture."""
    phase = phases(program)
    boxes: dict[Variable, Box] = {}
    forward = [e for e in program.equations if phase[e.output] == "forward"]
    beside: dict[Variable, list[Equation]] = defaultdict(list)
    origin = {e.output: e.of for e in program.equations}
    for e in program.equations:
        if phase[e.output] != "backward":
            continue
        of = e.of
        while of is not None and phase[of] == "backward":  # a derivative of a derivative: beside the first
            of = origin[of]
        assert of is not None
        beside[of].append(e)

    x_input, x_forward = MARGIN, MARGIN + INPUT_WIDTH + COLUMN_GAP / 2
    x_backward = x_forward + WIDTH + COLUMN_GAP
    x_update = x_backward + (WIDTH + COLUMN_GAP if beside else 0)
    y = float(MARGIN + 30)
    step = HEIGHT + GAP
    shown = [*program.arguments, *(v for v in program.captured if not is_literal(v))]
    inputs = {v: _input_box(v, program) for v in shown}
    lowest_input = y
    for e in forward:
        rows = beside[e.output]
        for v in e.variables:  # an input stands beside its first use
            if v in inputs and v not in boxes:
                box = boxes[v] = inputs[v]
                box.x, box.y = x_input, max(y, lowest_input)
                lowest_input = box.y + step
        boxes[e.output] = _equation_box(e, "forward", x_forward, y)
        for i, b in enumerate(reversed(rows)):
            boxes[b.output] = _equation_box(b, "backward", x_backward, y + i * step)
        y = max(y + step * max(1, len(rows)), lowest_input)
    updates = [e for e in program.equations if phase[e.output] == "update"]
    y_update = float(MARGIN + 30)
    hidden: dict[Variable, Equation] = {}
    if fold_updates:
        hidden = {e.output: e for e in updates if not e.primitive.effect}
        for e in (e for e in updates if e.primitive.effect):
            reached = _behind(e, hidden)
            title = f"{e.output.name} = update of {e.variables[0].name}"
            box = Box("update", title, f"{len(reached)} operations", "\n".join(map(repr, reached)), x_update, y_update)
            box.detail = f"{len(reached)} operation{'s' * (len(reached) != 1)}, {e.line}"
            beside_gradient = [boxes[v].y for one in reached for v in one.variables if phase.get(v) == "backward"]
            box.y = max([y_update, *beside_gradient])
            boxes[e.output] = box
            y_update = box.y + step
    else:
        for e in updates:
            boxes[e.output] = _equation_box(e, "update", x_update, y_update)
            y_update += step
    for v, box in inputs.items():  # used by backward or updates only
        used = any(v in e.variables for e in program.equations)
        folded_away = fold_updates and all(
            e.output in hidden or e.primitive.effect for e in program.equations if v in e.variables
        )
        if v in boxes or (used and folded_away and v in program.captured):
            continue
        boxes[v] = box
        box.x, box.y = x_input, lowest_input
        lowest_input += step
    for e in program.equations:
        if e.output not in boxes:
            continue
        needed = e.variables
        if e.output in boxes and fold_updates and e.primitive.effect:
            own = e.variables[0]  # its title says what it updates
            needed = [v for one in _behind(e, hidden) for v in one.variables if v is not own]
        boxes[e.output].sources = [boxes[v] for v in dict.fromkeys(needed) if v in boxes]
    for v in program.outputs:
        if v in boxes:
            boxes[v].detail += "  → result"
    width = x_update + (WIDTH if updates or not beside else -COLUMN_GAP) + MARGIN
    return list(boxes.values()), width + 60, max(y, y_update, lowest_input) + MARGIN


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
            f"{escape(_cut(box.title, box.width))}</text>"
            f'<text x="{box.x + box.width / 2:.0f}" y="{box.y + 32:.0f}" text-anchor="middle" font-size="10" '
            f'fill="{EDGE}">{escape(_cut(box.detail, box.width))}</text></g>'
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


def _cut(text: str, width: float) -> str:
    most = int(width / 6.6)
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
