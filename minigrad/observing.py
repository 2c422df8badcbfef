"""Observers: what may be told of the operations of a thread, and of what else concerns who repeats them.

`tape.observing` makes one the observer of a thread; `tape` tells it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .primitives.registry import Primitive
    from .tape import Node
    from .tensor import Tensor


class Observer:
    """What can be told to an observer. This one does nothing with it: override what is of interest.

    Attributes
    ----------
    made_inside : list of Tensor or None
        Where an observer of a recording wants leaves that are made meanwhile: a program makes them once.
    """

    made_inside: list[Tensor] | None = None

    def __call__(self, primitive: Primitive, inputs: tuple, result: Tensor, metadata: dict[str, Any]) -> None:
        """Look at an operation that was applied to these inputs and gave this result."""

    def before_assign(self, x: Tensor) -> None:
        """Look at a tensor whose value is about to be replaced."""

    def note(self, owner: Any, attribute: str) -> None:
        """Take note of an attribute of `owner` on which what follows depends, such as whether a module trains."""

    def note_seed(self, x: Tensor) -> None:
        """Take note of a cotangent from which a backward pass starts: the user's code may have no name for it."""

    def note_gradient(self, leaf: Node, added: bool) -> None:
        """Take note, of a recording, of a leaf whose gradient is about to be set, or added to."""

    def note_no_gradient(self, leaf: Node) -> None:
        """Take note of a leaf on which what follows depends: that it has no gradient."""

    def knows(self, gradient: Tensor) -> bool:
        """Return, of a recording, whether a gradient that is read is from it. One from before is refused."""
        return True


class Callback(Observer):
    """An observer that calls a function for every operation."""

    def __init__(self, callback: Callable[..., None]) -> None:
        self._callback = callback

    def __call__(self, primitive: Primitive, inputs: tuple, result: Tensor, metadata: dict[str, Any]) -> None:
        self._callback(primitive, inputs, result, metadata)


class InnerObserver(Observer):
    """An observer inside of another one, to which it passes on all that it is told."""

    def __init__(self, outer: Observer | None) -> None:
        self._outer = Observer() if outer is None else outer

    @property
    def made_inside(self) -> list[Tensor] | None:  # type: ignore[override]
        """Where the outer one wants leaves that are made."""
        return self._outer.made_inside

    def __call__(self, primitive: Primitive, inputs: tuple, result: Tensor, metadata: dict[str, Any]) -> None:
        self._outer(primitive, inputs, result, metadata)

    def before_assign(self, x: Tensor) -> None:
        self._outer.before_assign(x)

    def note(self, owner: Any, attribute: str) -> None:
        self._outer.note(owner, attribute)

    def note_seed(self, x: Tensor) -> None:
        self._outer.note_seed(x)

    def note_gradient(self, leaf: Node, added: bool) -> None:
        self._outer.note_gradient(leaf, added)

    def note_no_gradient(self, leaf: Node) -> None:
        self._outer.note_no_gradient(leaf)

    def knows(self, gradient: Tensor) -> bool:
        return self._outer.knows(gradient)
