"""What the packages use of the array module `xp`, and what CuPy has of that: `cupy_names.json`.

Run `python -m tests.cupy_names` where CuPy is installed (no GPU is needed) to write the table anew.
"""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_name("cupy_names.json")
UFUNC_KEYWORDS = ["casting", "dtype", "out"]  # others are a TypeError in CuPy


def used_names() -> dict[str, set[str]]:
    """Return every name that is looked up in `xp` or `something.xp`, such as "linalg.inv", with the keywords given."""
    found: dict[str, set[str]] = {}
    for package in ("minigrad", "autoencoders"):
        for file in sorted((ROOT / package).rglob("*.py")):
            _Visitor(found).visit(ast.parse(file.read_text()))
    return {name: found[name] for name in sorted(found)}


class _Visitor(ast.NodeVisitor):
    def __init__(self, found: dict[str, set[str]]) -> None:
        self._found = found

    def visit_Call(self, node: ast.Call) -> None:
        name = _path(node.func)
        if name:
            self._found.setdefault(name, set()).update(k.arg for k in node.keywords if k.arg)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = _path(node)
        if name:  # the longest path alone: what is below it is part of it
            self._found.setdefault(name, set())
        else:
            self.generic_visit(node)


def _path(node: ast.AST) -> str:
    """Return "linalg.inv" for xp.linalg.inv and device.xp.linalg.inv, and "" for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute) and node.attr != "xp":
        parts.append(node.attr)
        node = node.value
    root = (isinstance(node, ast.Name) and node.id in ("xp", "cupy")) or isinstance(node, ast.Attribute)
    return ".".join(reversed(parts)) if root else ""


def keywords_of(value: Any) -> list[str] | None:
    """Return the keywords that an object of CuPy takes; None where it takes none or does not tell."""
    if hasattr(value, "nin") and hasattr(value, "at"):
        return UFUNC_KEYWORDS
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None
    if isinstance(value, type):
        return None  # a compiled class does not tell
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return ["dtype", "optimize"]  # einsum alone, whose documentation says so
    return sorted(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def lookup(module: Any, name: str) -> Any:
    """Return module.name, for a name with dots; raises AttributeError."""
    for part in name.split("."):
        module = getattr(module, part)
    return module


def main() -> None:
    """Write the table from the CuPy that is installed here."""
    import cupy

    names = {name: keywords_of(lookup(cupy, name)) for name in used_names()}
    members = [name for name in dir(cupy.ndarray) if not name.startswith("_")]
    table = {"cupy": cupy.__version__, "names": names, "ndarray": members}
    TABLE.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
