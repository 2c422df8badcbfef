"""Names: what the user's code calls a tensor that a program captures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import source
from ..tensor import Tensor


def name_in_code(x: Tensor) -> str | None:
    """Return what the code that is running calls a captured tensor: "W1", "weights[0]", or "model.0.weight"."""
    frames = list(source.frames())
    try:
        return _name_in(frames, x)
    finally:
        frames.clear()  # this frame may be among them, and all that they hold would wait for the garbage collector


def _name_in(frames: list[Any], x: Tensor) -> str | None:
    """Return what one of these frames calls a tensor."""
    for frame in sorted(frames, key=source.in_project):  # the user's own names first
        if not source.in_package(frame):
            variables = {**frame.f_globals, **frame.f_locals}
            names = [n for name, value in variables.items() if name != "self" for n in _names(name, value, x)]
            # a dotted name says more than that of a local variable, and one letter is mostly the variable of a loop
            names = sorted(names, key=lambda n: ("." not in n, len(n) == 1, "[" in n))
            if names:
                return names[0]
    # nothing but an object whose method is running holds it; of the library's own names only these tell something
    for frame in sorted(frames, key=source.in_package):
        owner = frame.f_locals.get("self")
        names = [] if owner is x else list(_names("self", owner, x))
        if names:
            return names[0]
    return None


def _names(name: str, value: Any, x: Tensor) -> Iterator[str]:
    """Yield under which names x is held by a variable: itself, in a list or dict, or among the tensors of an object."""
    if value is x:
        yield name
    elif hasattr(type(value), "named_tensors"):
        owner = type(value).__name__.lower() if name == "self" else name
        yield from (f"{owner}.{path}" for path, held in value.named_tensors() if held is x)
    elif isinstance(value, list | tuple | dict) and len(value) <= 100 and not name.startswith("_"):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        yield from (f"{name}[{key!r}]" for key, held in items if held is x)
