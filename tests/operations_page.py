"""The page of all operations, `docs/operations.md`: run `python -m tests.operations_page` to write it anew."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import minigrad as mg
from minigrad.primitives.registry import Primitive

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "operations.md"
# where functions of `mg` stand that are no operations on tensors: they make tensors, differentiate, record, set or save
NO_OPERATIONS = {
    "checkpoint", "creation", "determinism", "devices", "files", "precision", "primitives", "program", "tensor",
    "transforms",
}  # fmt: skip
HEAD = """\
# The operations

Written by `python -m tests.operations_page` from the table `mg.primitives` and the docstrings of `minigrad`; a test
fails while it differs from them.

## Primitives

A primitive is a row of the table, with a derivative rule for each input
([what is in a row](custom-primitives.md#the-parts-of-a-row)). It is called `mg.<name>`, unless the last column names
the function that calls it. Before the `*` stand arrays (`[x, ...]` is a sequence of them), behind it options, which are
never differentiated. *Rules keep* says what a graph holds for the derivative: the result, or inputs by their names;
*no derivative* means that no gradient flows. A *view* may share memory with its first input.
"""
COMPOSED = """
## Functions made of them

Their derivatives follow from those of the primitives. `mg.nn` and `mg.optim` have modules and optimizers.
"""


def page() -> str:
    """Return the text of the page."""
    lines = [HEAD.rstrip()]
    for module, rows in _files():
        lines += [*_heading(module), "| Operation | Computes | Rules keep | |", "| --- | --- | --- | --- |"]
        lines += [_line(_call(row), _first_paragraph(row), _kept(row), _remark(row)) for row in rows]
    lines.append(COMPOSED.rstrip())
    for module, functions in _composed().items():
        lines += [*_heading(module), "| Function | What it does |", "| --- | --- |"]
        lines += [_line(f"{f.__name__}{_signature(f)}", _first_paragraph(f)) for f in functions]
    return "\n".join(lines) + "\n"


def _files() -> Iterator[tuple[Any, list[Primitive]]]:
    """Yield each file of primitives that has rows, with its rows in their order."""
    for file in sorted((ROOT / "minigrad" / "primitives").glob("*.py")):
        names = re.findall(r'^\w+ = primitive\(\s*"(\w+)"', file.read_text(encoding="utf-8"), re.MULTILINE)
        if names:
            yield importlib.import_module(f"minigrad.primitives.{file.stem}"), [mg.primitives[n] for n in names]


def _composed() -> dict[Any, list[Callable]]:
    """Return the public functions of `mg` that are operations, by their module."""
    found: dict[Any, list[Callable]] = {}
    for _, f in sorted(inspect.getmembers(mg, inspect.isfunction)):
        if f.__module__.split(".")[1] not in NO_OPERATIONS:
            found.setdefault(importlib.import_module(f.__module__), []).append(f)
    return dict(sorted(found.items(), key=lambda item: item[0].__name__))


def _heading(module: Any) -> list[str]:
    path = Path(module.__file__).relative_to(ROOT).as_posix()
    return [f"\n### [{path}](../{path})\n", f"{_text(_first_paragraph(module))}\n"]


def _call(row: Primitive) -> str:
    """Return how a row is called: "clip(x, *, low=None, high=None)"."""
    _, *parameters = inspect.signature(row.forward).parameters.values()
    plain = [p.replace(annotation=p.empty) for p in parameters if p.name != "out"]
    arrays = [str(p) for p in plain if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)]
    options = [str(p) for p in plain if p.kind is p.KEYWORD_ONLY]
    if row.variadic and row.arity == 0:
        arrays = [f"[{arrays[0].removeprefix('*')}, ...]"]
    return f"{row.name}({', '.join([*arrays, *(['*'] if options else []), *options])})"


def _signature(f: Callable) -> str:
    signature = inspect.signature(f)
    plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=signature.empty))


def _kept(row: Primitive) -> str:
    if row.vjps is None or (row.rule_for_any is None and not any(row.vjps)):
        return "no derivative"
    return ", ".join("the result" if letter == "y" else f"`{letter}`" for letter in row.saves) or "nothing"


def _remark(row: Primitive) -> str:
    """Return whether it is a view, or which function calls the row."""
    if row.effect:
        return f"`Tensor.{row.name}`"
    if row.name.startswith("random_"):
        return f"`mg.random.{row.name.removeprefix('random_')}`"
    if getattr(mg, row.name) is not row:
        return f"`mg.{row.name}`"
    return "view" if row.view else ""


def _line(call: str, what: str, *rest: str) -> str:
    return f"| {' | '.join([f'`{call}`', _text(what), *rest])} |"


def _first_paragraph(thing: Any) -> str:
    """Return the first paragraph of a docstring."""
    return inspect.cleandoc(thing.__doc__).partition("\n\n")[0]


def _text(paragraph: str) -> str:
    """Return a paragraph in one line of a table, in which nothing is formatted but code."""
    parts = re.split(r"(`[^`]*`)", " ".join(paragraph.split()))
    return "".join(p if p[:1] == "`" else re.sub(r"([*_<|\[])", r"\\\1", p) for p in parts)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
