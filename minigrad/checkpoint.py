"""checkpoint: keep the inputs of a function, not all that it computes, and compute it again in backward."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from . import tape
from .errors import DTypeError
from .primitives.registry import Domain, Primitive, Samples
from .program import trees
from .sweep import sweep
from .tensor import Tensor

ANYTHING = Samples("any", (Domain(-1.0, 1.0),))


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return `f` as a function that trades time for memory: its intermediate values are not kept for backward.

    Backward runs `f` again, once, with the same random numbers and the same state. Values and gradients, of any order,
    are those of `f`; tensors that `f` uses without getting them as arguments receive theirs too.

    Parameters
    ----------
    f : callable
        Takes tensors (also in lists, tuples and dicts) and anything else; returns tensors of one dtype. It must do the
        same when it is called again.

    Notes
    -----
    Source: T. Chen, B. Xu, C. Zhang and C. Guestrin, "Training deep nets with sublinear memory cost" (2016).

    Examples
    --------
    >>> import minigrad as mg
    >>> w = mg.Parameter([1.0, 2.0])
    >>> block = mg.checkpoint(lambda x: mg.exp(x * w))
    >>> block(mg.tensor([0.0, 0.0])).sum().backward()
    >>> w.grad
    tensor([0., 0.])
    """

    if not callable(f):
        raise DTypeError(f"mg.checkpoint takes a function, got {type(f).__name__}")

    @wraps(f)
    def checkpointed(*args: Any) -> Any:
        if tape.recording() or not tape.grad_enabled():
            return f(*args)
        given = [x for x in trees.leaves(args) if isinstance(x, Tensor)]
        watcher = _Watcher(given)
        with tape.no_grad(), tape.observing(watcher):
            result = f(*args)
        outputs = [x for x in trees.leaves(result) if isinstance(x, Tensor)]
        inputs = [*given, *watcher.captured]
        if not any(x.requires_grad for x in inputs) or not outputs:
            return result
        if len({x.dtype for x in outputs}) > 1:
            kinds = ", ".join(sorted(x.dtype.name for x in outputs))
            raise DTypeError(f"checkpoint: the function returned tensors of {kinds}; expected one dtype")
        again = _Again(f, args, watcher)
        xp = outputs[0].device.xp
        joined = xp.concatenate([x._array.reshape(-1) for x in outputs])
        row = Primitive(
            "checkpoint", forward=lambda xp, *x: joined, vjps=again, saves="x", keeps_dtype=False, samples=ANYTHING
        )
        flat = tape.apply(row, *inputs)
        parts, start = [], 0
        for x in outputs:
            parts.append(flat[start : start + x.size].reshape(x.shape))
            start += x.size
        remaining = iter(parts)
        return trees.transform(lambda x: next(remaining) if isinstance(x, Tensor) else x, result)

    return checkpointed


class _Watcher:
    """An observer that finds what a function uses besides its arguments, and what it assigns to."""

    def __init__(self, given: list[Tensor]) -> None:
        self.captured: list[Tensor] = []
        self.assigned: list[tuple[Tensor, Any]] = []  # with what was there before
        self._known = {id(x) for x in given}
        self._alive: list[Tensor] = []  # so that no identity is used twice
        self._outer = tape.observer()

    def __call__(self, primitive: Primitive, inputs: tuple, result: Tensor, metadata: dict[str, Any]) -> None:
        if self._outer is not None:
            self._outer(primitive, inputs, result, metadata)
        for x in inputs:
            if isinstance(x, Tensor) and id(x) not in self._known:
                self._known.add(id(x))
                self._alive.append(x)
                if x.requires_grad:
                    self.captured.append(x)
        self._known.add(id(result))
        self._alive.append(result)

    def before_assign(self, x: Tensor) -> None:
        """Keep the value that is about to be replaced."""
        if all(x is not known for known, _ in self.assigned):
            self.assigned.append((x, x._array.copy()))


class _Again:
    """The derivative rule of a checkpoint: for the first input that asks, it runs the function again."""

    def __init__(self, f: Callable, args: tuple, watcher: _Watcher) -> None:
        self._f = f
        self._args = args
        self._captured = watcher.captured
        self._assigned = watcher.assigned
        self._cotangent: Any = None
        self._gradients: dict[int, Any] = {}

    def __call__(self, position: int, F: Any, g: Any, y: Any, *inputs: Any) -> Any:
        if g is not self._cotangent:
            self._cotangent, self._gradients = g, self._compute(g)
        return self._gradients.pop(position, None)

    def _compute(self, g: Any) -> dict[int, Any]:
        """Return the gradient of every input that wants one."""
        as_tensors = isinstance(g, Tensor)
        fresh: list[Tensor] = []

        def variable(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            fresh.append(_variable(x, as_tensors))
            return fresh[-1]

        with tape.enable_grad(), _state_of(self._assigned), tape.observing(tape.observer() if as_tensors else None):
            args = trees.transform(variable, self._args)
            result = self._f(*args)
            outputs = [x for x in trees.leaves(result) if isinstance(x, Tensor)]
            wanted = {i: x._node for i, x in enumerate([*fresh, *self._captured]) if x._node is not None}
            cotangents: dict[tape.Node, Any] = {}
            start = 0
            for x in outputs:
                part = g[start : start + x.size].reshape(x.shape)
                start += x.size
                if x._node is not None:
                    known = cotangents.get(x._node)
                    cotangents[x._node] = part if known is None else known + part
            create_graph = as_tensors and tape.grad_enabled()
            with contextlib.nullcontext() if create_graph else tape.no_grad():
                # what is captured is the end: the graph behind it is swept by whoever sweeps this checkpoint
                found = sweep(cotangents, set(wanted.values()), create_graph, as_tensors, beyond=False)
        return {i: found[node][0] for i, node in wanted.items() if node in found}


def _variable(x: Tensor, connected: bool) -> Tensor:
    """Return a stand-in for x: a leaf of its own, or one that further derivatives can pass."""
    if x._node is None:
        return x
    if connected:
        return x + 0.0
    return Tensor._wrap(x._array, x.device, tape.Node(x._array, x.device), x._version)


@contextmanager
def _state_of(assigned: list[tuple[Tensor, Any]]) -> Iterator[None]:
    """Put back what the first run found in the tensors that it assigned to (random counters, running means)."""
    now = [x._array.copy() for x, _ in assigned]
    try:
        for x, before in assigned:
            x._array[...] = before
        yield
    finally:
        for (x, _), value in zip(assigned, now, strict=True):
            x._array[...] = value
