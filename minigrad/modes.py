"""What a thread has switched on: gradients, looks at values, an observer."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from .errors import GraphError

if TYPE_CHECKING:
    from .node import Node
    from .observers import Observer

P = ParamSpec("P")
R = TypeVar("R")


class State(threading.local):
    grad_enabled = True
    checking = True  # whether functions look at values to refuse bad ones
    observer: Observer | None = None
    recording = False
    sweeping: Node | None = None  # whose derivative rules are running, while they run on tensors


state = State()


class _grad_mode:
    enabled: bool

    def __init__(self) -> None:
        self._before: dict[int, list[bool]] = {}  # by thread: several may be in it at one time

    def __enter__(self) -> None:
        self._before.setdefault(threading.get_ident(), []).append(state.grad_enabled)
        state.grad_enabled = self.enabled

    def __exit__(self, *exception: object) -> None:
        state.grad_enabled = self._before[threading.get_ident()].pop()

    def __call__(self, f: Callable[P, R]) -> Callable[P, R]:
        if isgeneratorfunction(f) or iscoroutinefunction(f) or isasyncgenfunction(f):
            # its body runs after the call; and between its parts the mode must be the caller's
            mode, name = type(self).__name__, getattr(f, "__qualname__", f)
            raise GraphError(
                f"{mode} decorates functions that run when they are called, and {name} is a generator or a coroutine; "
                f"write `with mg.{mode}():` in it, around what contains no yield and no await"
            )

        @wraps(f)
        def in_this_mode(*args: P.args, **kwargs: P.kwargs) -> R:
            before = state.grad_enabled
            try:
                state.grad_enabled = self.enabled
                return f(*args, **kwargs)
            finally:
                state.grad_enabled = before

        return in_this_mode


class no_grad(_grad_mode):
    """Context manager or decorator: operations in it leave no nodes, so their results require no gradient.

    It decorates functions, but no generators and coroutines, whose bodies run after the call.

    Examples
    --------
    >>> import minigrad as mg
    >>> x = mg.tensor([1.0], requires_grad=True)
    >>> with mg.no_grad():
    ...     (x * 2).requires_grad
    False
    """

    enabled = False


class enable_grad(_grad_mode):
    """Context manager or decorator: operations in it leave nodes again, inside of `no_grad` too.

    It decorates functions, but no generators and coroutines, whose bodies run after the call.

    Examples
    --------
    >>> import minigrad as mg
    >>> x = mg.tensor([1.0], requires_grad=True)
    >>> with mg.no_grad(), mg.enable_grad():
    ...     (x * 2).requires_grad
    True
    """

    enabled = True


def grad_enabled() -> bool:
    """Return whether operations of this thread leave nodes."""
    return state.grad_enabled


def sweeping() -> Node | None:
    """Return the node whose derivative rules are running (on tensors), if any."""
    return state.sweeping


def checks_values() -> bool:
    """Return whether functions should look at values, to refuse bad ones: neither a program nor its replay can."""
    return state.checking and not state.recording


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Let functions not look at values, for which the host would have to wait."""
    before = state.checking
    try:
        state.checking = False
        yield
    finally:
        state.checking = before
