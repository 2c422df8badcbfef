"""What an objective does: the operations that it applies to a batch, by which a resumed training notices another one.

A number that stands in an objective, such as a level of noise or the weight of a penalty, comes up in an operation, so
this works for any function. Only shapes are written down of tensors; values of those that were there before are state.
"""

from __future__ import annotations

import re
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

import minigrad as mg
from autoencoders.objectives import Objective, terms_of
from autoencoders.snapshots import Assigned
from autoencoders.sources import Batch
from minigrad import nn
from minigrad.primitives.registry import Primitive
from minigrad.source import frames, in_package

LIBRARY = __name__.partition(".")[0]
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # of a function among the metadata: another in each process


class Operations:
    """The operations of an objective, as texts such as "multiply(3.0, float32[])", and the names of its terms.

    Other versions of the library, and other devices, may compute the same by other operations.
    """

    def __init__(self, texts: list[str], lines: list[str], terms: list[str], device: str) -> None:
        self.texts = texts
        self._lines = lines  # of the code, for people
        self._terms = terms
        self._on = {"version": mg.__version__, "device": device}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {**self._on, "terms": self._terms, "operations": self.texts}

    def difference(self, state: dict[str, Any]) -> str:
        """Return in words what is not as it was kept, or an empty text."""
        if any(state.get(name) != value for name, value in self._on.items()):
            return ""
        if state["terms"] != self._terms:
            return f"its terms were {state['terms']}, and are {self._terms}"
        for old, new, line in zip(state["operations"], self.texts, self._lines, strict=False):
            if old != new:
                return f"where it computed {old}, it computes {new} now, at {line}"
        if len(state["operations"]) != len(self.texts):
            return f"it was made of {len(state['operations'])} operations, and is of {len(self.texts)}"
        return ""


def operations_of(objective: Objective, model: nn.Module, batch: Batch) -> Operations | None:
    """Run an objective on a batch; return what it does, or None where that depends on values. Nothing is changed."""
    watcher = _Watcher()
    try:
        with mg.observers.observing(watcher, recording=True):
            model.zero_grad()  # as a step begins: an objective may call backward itself
            terms = terms_of(objective, model, batch)
    except Exception:  # it reads values, or it fails, which a step says better
        return None
    finally:
        watcher.restore()
    return Operations(watcher.texts, watcher.lines, list(terms), batch[0].device.type)


def repeated_operations(objective: Objective, model: nn.Module, batch: Batch) -> Operations | None:
    """Return what an objective does, or None where it does something else each time, as with ``numpy.random``."""
    first, second = (operations_of(objective, model, batch) for _ in range(2))
    return None if first is None or second is None or first.texts != second.texts else first


class _Watcher(Assigned):
    """An observer that writes operations down, and keeps what is assigned to, and gradients that are set."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.lines: list[str] = []
        self.made_inside: list[mg.Tensor] = []  # where the tape puts tensors that are made of numbers
        self._gradients: dict[mg.node.Node, mg.Tensor | None] = {}  # of leaves, before they were set

    def __call__(
        self, primitive: Primitive, inputs: tuple[Any, ...], result: mg.Tensor, metadata: dict[str, Any]
    ) -> None:
        given = [*map(self._text, inputs), *(f"{name}={value!r}" for name, value in metadata.items())]
        self.texts.append(ADDRESS.sub("", f"{primitive.name}({', '.join(given)})"))
        self.lines.append(_line())

    def note_gradient(self, leaf: mg.node.Node, added: bool) -> None:
        """Keep the gradient that is about to be replaced."""
        self._gradients.setdefault(leaf, leaf.grad)

    def restore(self) -> None:
        """Bring values and gradients back."""
        super().restore()
        for leaf, gradient in self._gradients.items():
            leaf.grad = gradient

    def _text(self, x: Any) -> str:
        if not isinstance(x, mg.Tensor):
            return repr(x)
        if x.ndim == 0 and x.device.type == "cpu" and any(x is made for made in self.made_inside):
            with mg.observers.observing(None):
                return repr(x.item())
        return f"{x.dtype.name}{list(x.shape)}"


def _line() -> str:
    """Return "file.py:12", the innermost line of the objective that is not in a library, if there is one."""
    here = dropwhile(lambda frame: frame.f_code.co_filename == __file__, frames())
    running = takewhile(lambda frame: frame.f_code.co_filename != __file__, here)  # up to who called the objective
    found = [frame for frame in running if not in_package(frame)]
    own = [frame for frame in found if frame.f_globals.get("__name__", "").partition(".")[0] != LIBRARY]
    chosen = (own or found)[0]
    return f"{Path(chosen.f_code.co_filename).name}:{chosen.f_lineno}"
