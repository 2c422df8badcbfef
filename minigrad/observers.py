"""Observers: who is told of the operations of a thread, and of what else concerns who repeats them.

`observing` makes one the observer of a thread. What is not an operation is told by the functions below it, `note` and
the like; and what a recording could not repeat is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .determinism import setting
from .devices import matmul_settings
from .errors import RecordingError
from .modes import state
from .source import user_line

if TYPE_CHECKING:
    from .node import Node
    from .primitives.registry import Primitive
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

    def note_hook(self, x: Tensor, hook: Callable) -> None:
        """Take note of a tensor that has got a hook."""

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

    def note_hook(self, x: Tensor, hook: Callable) -> None:
        self._outer.note_hook(x, hook)

    def note_gradient(self, leaf: Node, added: bool) -> None:
        self._outer.note_gradient(leaf, added)

    def note_no_gradient(self, leaf: Node) -> None:
        self._outer.note_no_gradient(leaf)

    def knows(self, gradient: Tensor) -> bool:
        return self._outer.knows(gradient)


@contextlib.contextmanager
def observing(observer: Observer | Callable[..., None] | None, recording: bool = False) -> Iterator[None]:
    """Tell an observer of every operation that this thread applies in the block, and of all that `Observer` names.

    A function is called with (primitive, inputs, result, metadata) of every operation. With `recording` the operations
    are to be repeated with other values, so values may not be read into Python.
    """
    if observer is not None and not isinstance(observer, Observer):
        observer = Callback(observer)
    before = state.observer, state.recording
    try:
        state.observer, state.recording = observer, recording
        note(matmul_settings, "precision")
        note(setting, "deterministic")
        yield
    finally:
        state.observer, state.recording = before


def observer() -> Observer | None:
    """Return what observes this thread's operations."""
    return state.observer


def before_assign(x: Tensor) -> None:
    """Let an observer that repeats operations keep the value that is about to be replaced."""
    if state.observer is not None:
        state.observer.before_assign(x)


def observed() -> bool:
    """Return whether this thread's operations are observed: backward then consists of such operations."""
    return state.observer is not None


def recording() -> bool:
    """Return whether this thread records a program."""
    return state.recording


def note(owner: Any, attribute: str) -> None:
    """Let an observer know that what follows depends on an attribute of `owner`, such as whether a module trains."""
    if state.observer is not None:
        state.observer.note(owner, attribute)


def note_made(x: Tensor) -> None:
    """Let a recorder know of a leaf that the recorded function makes: a program makes it once; it must not change."""
    if state.observer is not None and state.observer.made_inside is not None:
        state.observer.made_inside.append(x)


def note_gradient(leaf: Node, added: bool) -> None:
    """Let a recorder know of a leaf whose gradient is about to be set, or added to."""
    if state.recording and state.observer is not None:
        state.observer.note_gradient(leaf, added)


def note_no_gradient(leaf: Node) -> None:
    """Let a recorder know that what follows depends on a leaf having no gradient."""
    if state.observer is not None:
        state.observer.note_no_gradient(leaf)


def note_hook(x: Tensor, hook: Callable) -> None:
    """Let a recorder know of a tensor that has got a hook, which a program does not have."""
    if state.observer is not None:
        state.observer.note_hook(x, hook)


def note_seed(x: Tensor) -> None:
    """Let a recorder know of a cotangent from which a backward pass starts: the user's code may have no name for it."""
    if state.observer is not None:
        state.observer.note_seed(x)


def refuse_from_before(gradient: Tensor) -> None:
    """Raise where a program would freeze a gradient that was there before the recording."""
    if state.recording and state.observer is not None and not state.observer.knows(gradient):
        raise RecordingError(
            f"a gradient from before the recording is used at {user_line()}: it would be frozen into the program; set "
            "t.grad = None first, and call backward inside the recorded function"
        )


def result_of(gradient: Tensor) -> Tensor:
    """Return a gradient as a result of the recording: it may be the cotangent that a backward pass began with."""
    known = state.observer is None or state.observer.knows(gradient)
    return gradient if known else gradient * 1.0  # an equation of its own, as the cotangent of the start has none


def refuse_while_recording(what: str, instead: str) -> None:
    """Raise where a program would freeze what differs from run to run."""
    if state.recording:
        raise RecordingError(
            f"{what} at {user_line()} while a program is recorded: it would be frozen into it; {instead}"
        )
