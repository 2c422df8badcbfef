"""checkpoint: keep the inputs of a function, not all that it computes, and compute it again in backward.

What the function finds when it runs again must be what it found at first. An observer of the first run notes it: which
tensors it uses besides its arguments, what it assigns to, and the attributes that a recorded program depends on too
(`observers.note`). Backward sets state and attributes back for the second run, and refuses where a tensor has changed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import numpy as np

from . import modes, observers, random, tape, trees
from .autograd import stand_in
from .determinism import setting
from .devices import matmul_settings
from .errors import DTypeError, GraphError, MinigradError
from .node import Node, ids
from .observers import InnerObserver
from .primitives.registry import Domain, Primitive, Samples
from .sweep import sweep
from .tensor import Tensor, Version

_ROW = Primitive(
    "checkpoint",
    forward=lambda xp, /, *x, again: again.result,
    vjps=lambda position, F, g, y, *x, again: again.gradient(position, g),
    saves="x",
    keeps_dtype=False,
    samples=Samples("any", (Domain(-1.0, 1.0),)),
)


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return `f` as a function that trades time for memory: its intermediate values are not kept for backward.

    Backward runs `f` again, once. Values and gradients, of any order, are those of `f`, up to the order in which the
    terms of a gradient are added; tensors that `f` uses without getting them as arguments receive theirs too.

    Parameters
    ----------
    f : callable
        Takes tensors (also in lists, tuples and dicts) and anything else; returns tensors of one dtype, also in lists,
        tuples and dicts. It must do the same when it is called again.

    Raises
    ------
    DTypeError
        `f` returned tensors of several dtypes, or tensors that it made inside of an object of another kind.
    GraphError
        In backward: a tensor that `f` uses was changed by `assign` meanwhile, or `f` used other parameters or returned
        other shapes than at first.

    Notes
    -----
    For the second run these are as they were for the first: tensors that `f` assigns to (random counters, running
    means), the seeds of generators, whether modules train, and the lists, tuples, dicts and NumPy arrays among the
    arguments. Afterwards they are again what they were before backward; another thread may not use them meanwhile.
    Default generators are each thread's own, so backward may run in another thread than `f` did.
    Anything else that changes between the two runs goes unnoticed: an attribute that is a number, a variable from
    outside, `numpy.random`, the inside of an object.

    The gradient of a gradient needs the values that `f` read: where one that it assigns to has changed since, a
    GraphError says so, as it does for `f` itself.

    The first run of `f` leaves no graph: `register_hook`, `backward` and `mg.autograd.grad` of what `f` computes are
    errors in it, which say that nothing requires a gradient. `mg.grad` and `mg.vjp` of another function work.

    In a recorded or compiled step this is `f` itself: nothing is computed twice, and no memory is saved. Where `f` uses
    a tensor several times, an eager step adds up the terms of its gradient in another order: the last bits may differ.

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
    def checkpointed(*args: Any, **keywords: Any) -> Any:
        trees.refuse_keywords("mg.checkpoint(f)", keywords)
        if observers.recording() or not modes.grad_enabled():
            return f(*args)
        kept = trees.transform(_as_it_is, args)  # the caller, or f, may change the containers
        given = [x for x in trees.leaves(args) if isinstance(x, Tensor)]
        watcher = _Watcher(given)
        with modes.no_grad(), observers.observing(watcher):
            result = f(*args)
        returned = trees.leaves(result)
        outputs = [x for x in returned if isinstance(x, Tensor)]
        for x in outputs:
            watcher.see(x)  # it may be one that no operation used
        variables = [x for x in given if x.requires_grad]
        # f may use an argument as a variable from outside, too
        captured = list({x._node: x for x in [*variables, *watcher.captured]}.values())
        inputs = [*variables, *captured]
        if not inputs:
            return result
        for x in returned:
            _refuse_hidden(x, watcher)
        if not outputs:
            return result
        if len({x.dtype for x in outputs}) > 1:
            kinds = ", ".join(sorted(x.dtype.name for x in outputs))
            raise DTypeError(f"checkpoint: the function returned tensors of {kinds}; expected one dtype")
        joined = outputs[0].device.xp.concatenate([x._array.reshape(-1) for x in outputs])
        again = _Again(f, kept, captured, watcher, joined, [x.shape for x in outputs])
        flat = tape.apply(_ROW, *inputs, again=again)
        parts, start = [], 0
        for x in outputs:
            parts.append(flat[start : start + x.size].reshape(x.shape))
            start += x.size
        remaining = iter(parts)
        return trees.transform(lambda x: next(remaining) if isinstance(x, Tensor) else x, result)

    return checkpointed


@dataclass(frozen=True)
class _Assigned:
    """A tensor that a function assigns to, with what was in it before."""

    tensor: Tensor
    value: Any
    count: int  # of its version


@dataclass(frozen=True)
class _Noted:
    """An attribute on which a function depends, and what it was."""

    owner: Any
    name: str
    value: Any


class _Watcher(InnerObserver):
    """An observer that finds what a function uses besides its arguments, and what it assigns to."""

    def __init__(self, given: list[Tensor]) -> None:
        super().__init__(observers.observer())
        self.captured: list[Tensor] = []  # those that require grad
        self.unchanged: dict[Version, int] = {}  # of the others, and the arguments: how often they were assigned to
        self.assigned: list[_Assigned] = []
        self.noted: list[_Noted] = []
        self.started = next(ids)  # nodes of a higher id are made by the function
        # by identity; weakly, so that the function's values go when it drops them
        self._seen: dict[int, weakref.ref] = {}
        self._made: dict[int, weakref.ref] = {}
        for x in given:
            self._seen[id(x)] = weakref.ref(x)
            self._expect_unchanged(x)

    def __call__(self, primitive: Primitive, inputs: tuple, result: Tensor, metadata: dict[str, Any]) -> None:
        super().__call__(primitive, inputs, result, metadata)
        for x in inputs:
            if isinstance(x, Tensor):
                self.see(x)
        self._made[id(result)] = weakref.ref(result)

    def see(self, x: Tensor) -> None:
        """Remember a tensor that is used, unless it is an argument or a result."""
        if self.made(x) or _is_in(self._seen, x):
            return
        self._seen[id(x)] = weakref.ref(x)
        self._expect_unchanged(x)
        # a derivative rule gets the results of the function in tensors that are built anew
        if x._node is not None and (x.is_leaf or x._node.id < self.started):
            self.captured.append(x)

    def made(self, x: Tensor) -> bool:
        """Return whether a tensor is the result of an operation of the function."""
        return _is_in(self._made, x)

    def before_assign(self, x: Tensor) -> None:
        """Keep the value that is about to be replaced."""
        if all(x is not known.tensor for known in self.assigned):
            assert x._version is not None
            self.assigned.append(_Assigned(x, x._array.copy(), x._version.count))
        super().before_assign(x)

    def note(self, owner: Any, attribute: str) -> None:
        """Keep what an attribute is on which the function depends."""
        known = any(owner is n.owner and attribute == n.name for n in self.noted)
        if not known and owner is not matmul_settings and owner is not setting:  # these are set for all threads
            self.noted.append(_Noted(owner, attribute, getattr(owner, attribute)))
        super().note(owner, attribute)

    def _expect_unchanged(self, x: Tensor) -> None:
        if x._version is not None:
            self.unchanged.setdefault(x._version, x._version.count)


def _is_in(tensors: dict[int, weakref.ref], x: Tensor) -> bool:
    """Return whether it is there, and not just one that has gone since and had its identity."""
    found = tensors.get(id(x))
    return found is not None and found() is x


class _Again:
    """What a function gave, all results in one array, and its gradient: the first input that asks has it run again."""

    def __init__(
        self,
        f: Callable,
        args: tuple,
        captured: list[Tensor],
        watcher: _Watcher,
        result: Any,
        shapes: list[tuple[int, ...]],
    ) -> None:
        self.result = result
        self._f = f
        self._args = args
        self._captured = captured
        # which the function did not make itself: it must use them again
        self._expected = {x._node for x in watcher.captured if x._node is not None and x._node.id < watcher.started}
        self._assigned = watcher.assigned
        own = {x.tensor._version for x in watcher.assigned}
        self._unchanged = [(version, count) for version, count in watcher.unchanged.items() if version not in own]
        self._noted = watcher.noted
        self._generator = random.default_generator()
        self._shapes = shapes
        self._cotangent: Any = None
        self._gradients: dict[int, Any] = {}

    def __repr__(self) -> str:
        return self._name()

    def gradient(self, position: int, g: Any) -> Any:
        """Return the gradient of the input at `position`, or None."""
        if g is not self._cotangent:
            self._cotangent, self._gradients = g, self._compute(g)
        return self._gradients.pop(position, None)

    def _compute(self, g: Any) -> dict[int, Any]:
        """Return the gradient of every input that wants one."""
        if any(version.count != count for version, count in self._unchanged):
            raise GraphError(
                f"a tensor that {self._name()} uses was changed by assign() before backward, which runs it again; call "
                "backward first, or assign to another tensor"
            )
        as_tensors = isinstance(g, Tensor)
        create_graph = as_tensors and modes.grad_enabled()
        fresh: list[Tensor] = []

        def variable(x: Any) -> Any:
            if not isinstance(x, Tensor) or x._node is None:
                return x
            fresh.append(stand_in(x, create_graph))
            return fresh[-1]

        assigned, noted = self._state_here()
        with modes.enable_grad(), _state_of(assigned):
            args = trees.transform(variable, self._args)
            outputs = self._run(args, noted)
            wanted = {i: x._node for i, x in enumerate([*fresh, *self._captured]) if x._node is not None}
            cotangents: dict[Node, Any] = {}
            start = 0
            for x in outputs:
                part = g[start : start + x.size].reshape(x.shape)
                start += x.size
                if x._node is not None:
                    known = cotangents.get(x._node)
                    cotangents[x._node] = part if known is None else known + part
            with nullcontext() if create_graph else modes.no_grad():
                # what is captured is the end: the graph behind it is swept by whoever sweeps this checkpoint
                found = sweep(cotangents, set(wanted.values()), create_graph, as_tensors, beyond=False)
        return {i: found[node][0] for i, node in wanted.items() if node in found}

    def _run(self, args: tuple, noted: list[_Noted]) -> list[Tensor]:
        """Return the tensors that the function returns now; refuse where it does not do what it did."""
        watcher = _Watcher([x for x in trees.leaves(args) if isinstance(x, Tensor)])
        try:
            with _attributes(noted), observers.observing(watcher):
                result = self._f(*args)
        except (TypeError, AttributeError) as error:
            if isinstance(error, MinigradError):
                raise
            # else it would be told as one of the derivative rule
            raise GraphError(
                f"{self._name()} failed when backward ran it again: {type(error).__name__}: {error}"
            ) from error
        there = self._generator
        if there is not random.default_generator() and any(x.tensor is there._counter for x in watcher.assigned):
            raise GraphError(
                f"{self._name()} holds the default generator of the thread that called it, and backward runs it again "
                "in another thread; call mg.random.default_generator() in the function, or give it a generator of its "
                "own: mg.random.Generator(seed)"
            )
        outputs = [x for x in trees.leaves(result) if isinstance(x, Tensor)]
        for x in outputs:
            watcher.see(x)
        used = {x._node for x in watcher.captured if x._node is not None and x._node.id < watcher.started}
        if not self._expected <= used or not used <= {x._node for x in self._captured}:
            raise GraphError(
                f"{self._name()} used other tensors that require grad when backward ran it again; it must do the same "
                "then: do not give a parameter's name to another tensor before backward, and keep no result of one "
                "call for the next"
            )
        if self._shapes != [x.shape for x in outputs]:
            raise GraphError(
                f"{self._name()} returned tensors of shapes {self._shapes} at first, and of "
                f"{[x.shape for x in outputs]} when backward ran it again; it must do the same then"
            )
        return outputs

    def _state_here(self) -> tuple[list[_Assigned], list[_Noted]]:
        """Return what to set back in this thread: its own default generator in the place of another thread's."""
        there, here = self._generator, random.default_generator()

        def other(x: Any) -> Any:
            return here if x is there else here._counter if x is there._counter else x

        return (
            [replace(x, tensor=other(x.tensor)) for x in self._assigned],
            [replace(x, owner=other(x.owner)) for x in self._noted],
        )

    def _name(self) -> str:
        return f"the function {getattr(self._f, '__name__', type(self._f).__name__)} of mg.checkpoint"


def _as_it_is(x: Any) -> Any:
    """Return an argument that stays what it is."""
    return x.copy() if isinstance(x, np.ndarray) else x


def _refuse_hidden(result: Any, watcher: _Watcher) -> None:
    """Raise where a tensor that the function made is inside of an object that is no list, tuple or dict."""
    seen: set[int] = set()
    stack = [] if isinstance(result, Tensor) else [result]
    while stack:
        x = stack.pop()
        if id(x) in seen or isinstance(x, type):
            continue
        seen.add(id(x))
        if isinstance(x, Tensor):
            if x.dtype.kind == "f" and watcher.made(x):
                raise DTypeError(
                    f"checkpoint: the function returned a tensor inside of a {type(result).__name__}, which would lose "
                    "its gradient; return tensors in lists, tuples and dicts, or t.detach() where no gradient is wanted"
                )
        elif isinstance(x, list | tuple | set | frozenset | dict):
            stack += x.values() if isinstance(x, dict) else x
        else:
            slots = [name for c in type(x).__mro__ for name in getattr(c, "__slots__", ()) if name != "__weakref__"]
            stack += [*getattr(x, "__dict__", {}).values(), *(getattr(x, name, None) for name in slots)]


@contextmanager
def _state_of(assigned: list[_Assigned]) -> Iterator[None]:
    """Put back what the first run found in the tensors that it assigned to (random counters, running means).

    Their versions go back and forth too: in the second run a version stands for the same value as in the first, and a
    graph that holds the value of now stays valid.
    """
    now = [(x.tensor, x.tensor._array.copy(), x.tensor._version) for x in assigned]
    counts = [(version, version.count) for _, _, version in now if version is not None]
    try:
        for x in reversed(assigned):  # of one memory: a view that was assigned to later has a later value
            _write(x.tensor, x.value)
            assert x.tensor._version is not None
            x.tensor._version.count = x.count
        yield
    finally:
        for tensor, value, _ in now:
            _write(tensor, value)
        for version, count in counts:
            version.count = count


def _write(x: Tensor, value: Any) -> None:
    x._array[...] = x.device.put(value)  # a generator draws on the device where numbers are wanted, and moves there


@contextmanager
def _attributes(noted: list[_Noted]) -> Iterator[None]:
    """Give attributes the values that they had."""
    now = [_Noted(x.owner, x.name, getattr(x.owner, x.name)) for x in noted]
    try:
        _set(noted)
        yield
    finally:
        _set(now)


def _set(attributes: list[_Noted]) -> None:
    for x in attributes:
        if getattr(x.owner, x.name) is not x.value:
            setattr(x.owner, x.name, x.value)
