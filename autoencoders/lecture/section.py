"""What a section of the report consists of: text, formulas with the code that is them, figures and tables."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Text:
    """A paragraph, as HTML."""

    html: str
    kind: str = "text"


@dataclass(frozen=True)
class Formula:
    """A formula of the lecture, and the function that is it: the report shows the source of what was run.

    Attributes
    ----------
    latex : sequence of str
        Lines in the notation that matplotlib can draw.
    code : callable
        A function of a module of the lecture.
    """

    latex: Sequence[str]
    code: Callable[..., Any]
    kind: str = "formula"

    @property
    def source(self) -> str:
        """The function as it is written, without the types of its arguments and result."""
        text = textwrap.dedent(inspect.getsource(self.code)).strip()
        tree = ast.parse(text)
        (function,) = tree.body
        assert isinstance(function, ast.FunctionDef)
        names = ", ".join(argument.arg for argument in function.args.args)
        body = text.splitlines()[function.body[0].lineno - 1 :]
        return "\n".join([f"def {function.name}({names}):", *body])


@dataclass(frozen=True)
class Plot:
    """A figure with what there is to see in it."""

    name: str
    figure: Any
    caption: str
    kind: str = "plot"


@dataclass(frozen=True)
class Table:
    """Numbers side by side: rows of texts, the first of each row its name."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    kind: str = "table"


@dataclass
class Section:
    """One module of the lecture: what is shown, and all numbers of it by name."""

    number: str
    title: str
    blocks: list[Text | Formula | Plot | Table] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
