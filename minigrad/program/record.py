"""The recorder: it watches every operation that `tape.apply` applies and writes it down as an equation.

Variables are found again by the identity of their arrays, not of their tensors: a derivative rule gets tensors that
were built anew around saved arrays. An array that the function drops is forgotten, before another can get its identity.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial, wraps
from itertools import count
from typing import Any

import numpy as np

from .. import modes, observers, source, trees
from ..devices import to_numpy
from ..errors import DTypeError, RecordingError
from ..node import Node
from ..observers import InnerObserver, Observer
from ..primitives.registry import Primitive
from ..tensor import Tensor, tensor
from .names import name_in_code
from .program import Equation, Program, Variable

# what a program may return besides tensors: values that do not change
CONSTANTS = (bool, int, float, complex, str, bytes, np.generic, np.dtype, Enum)


def record(f: Callable[..., Any]) -> Callable[..., Program]:
    """Return a function that runs `f(*args)` once and returns what it did, a `Program`.

    Parameters
    ----------
    f : callable
        Takes and returns tensors, also inside lists, tuples and dicts. It may call `backward`, `mg.grad` and `assign`:
        a whole training step is one program. Other arguments are static: they become part of the program.

    Raises
    ------
    RecordingError
        `f` reads a value into Python (`float(t)`, `if t:`, `t.numpy()`) or permutes at random: the program would
        repeat what it read this time. The message names the line. Or it returns something else than tensors, numbers,
        lists, tuples and dicts.

    Examples
    --------
    >>> import minigrad as mg
    >>> W = mg.Parameter([[1.0], [2.0]])
    >>> def step(x):
    ...     loss = mg.mean((x @ W) ** 2)
    ...     (g,) = mg.autograd.grad(loss, W)
    ...     W.assign(W - 0.1 * g)
    ...     return loss
    >>> program = mg.record(step)(mg.tensor([[1.0, 1.0]]))  # a first step
    >>> program(mg.tensor([[1.0, 1.0]]))  # a second one, of the same W
    tensor(3.2399998)
    """

    if not callable(f):
        raise DTypeError(f"mg.record takes a function, got {type(f).__name__}")

    @wraps(f)
    def recorded(*args: Any, **keywords: Any) -> Program:
        trees.refuse_keywords("mg.record(f)", keywords)
        observers.refuse_while_recording("mg.record(f) is called", "call f itself, or record it before")
        with modes.enable_grad():  # what the program can do does not depend on the mode in which it is recorded
            return run_and_record(f, args).program

    return recorded


@dataclass(frozen=True)
class Recording:
    """What a function did, what it returned, and what else of it concerns the caller.

    Attributes
    ----------
    gradients : dict by Node
        The leaves whose `grad` it set: what it was, and whether the first time it was added to.
    made : set of Variable
        Those captured tensors that it made itself: constants of the program.
    """

    program: Program
    result: Any
    gradients: dict[Node, tuple[Tensor | None, bool]]
    made: set[Variable]


def run_and_record(f: Callable[..., Any], args: tuple) -> Recording:
    """Run f(*args) once and record it; an observer that is there already is told of all of it too.

    After an error the gradients are what they were before. What f assigned to is not: keeping the values of all
    parameters meanwhile would take the memory of the parameters.
    """
    recorder = _Recorder(observers.observer())
    names = _parameter_names(f)[: len(args)]
    names += [f"arg{i}" for i in range(len(names), len(args))]
    called, inputs = [], []
    for name, arg in zip(names, args, strict=True):
        fresh = trees.transform(_own_identity, arg)
        called.append(fresh)
        inputs.append(recorder.argument(name, fresh))
    name = getattr(f, "__name__", "program").strip("<>")
    try:
        with observers.observing(recorder, recording=True):
            result = f(*called)
        outputs = _outputs(recorder, name, called, result)
    except BaseException:
        restore_gradients(recorder.gradients)
        raise
    recorder.name_results()
    conditions = tuple(recorder.conditions.values())
    literals = frozenset(recorder.literals)
    program = Program(
        name, tuple(inputs), recorder.captured, recorder.equations, outputs, conditions, literals, recorder.hooked()
    )
    made = {v for v, t in recorder.captured.items() if any(t is x for x in recorder.made_inside)}
    return Recording(program, result, recorder.gradients, made)


def _outputs(recorder: _Recorder, name: str, called: list[Any], result: Any) -> Any:
    """Return the result with variables for tensors, if what else is in it does not change from run to run."""
    static = trees.leaves(called)
    for tree in trees.containers(result):
        if attributes := trees.attributes(tree):
            raise RecordingError(
                f"{name} returned a {type(tree).__name__} with the attributes {', '.join(attributes)}, which every run "
                "of its program would return as they are now; return them as items"
            )

    def output(x: Any) -> Any:
        if isinstance(x, Tensor):
            return recorder.variable(x)
        if x is None or isinstance(x, CONSTANTS) or any(x is given for given in static):
            return x
        raise RecordingError(
            f"{name} returned a {type(x).__name__}, which every run of its program would return as it is now, with the "
            "values of now in it; return tensors and numbers, or lists, tuples and dicts of them"
        )

    return trees.transform(output, result)


def restore_gradients(gradients: dict[Node, tuple[Tensor | None, bool]]) -> None:
    """Let the gradients of leaves be what they were before a recording."""
    for leaf, (before, _) in gradients.items():
        leaf.grad = before


def _parameter_names(f: Callable) -> list[str]:
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _own_identity(x: Any) -> Any:
    """Return a tensor argument around a new view of its memory, so that f(a, a) has two variables."""
    if isinstance(x, np.ndarray):
        return tensor(x)
    if isinstance(x, Tensor):
        return type(x)._wrap(x._array.view(), x.device, x._node, x._version)
    return x


class _Recorder(InnerObserver):
    """The observer that writes equations."""

    def __init__(self, outer: Observer | None) -> None:
        super().__init__(outer)
        self.captured: dict[Variable, Tensor] = {}
        self.equations: list[Equation] = []
        self._variables: dict[int, Variable] = {}  # arguments and results, by the identity of the array
        self._captured_by_array: dict[tuple[int, bool], Variable] = {}  # and by whether gradients flow to it
        self._made_by: dict[int, Variable] = {}  # by the id of the node
        self._held: list[Any] = []  # arrays, so that no other gets their identity, or what tells that one is gone
        self._made_inside: list[Tensor] = []
        self._hooked: list[tuple[Variable, Node, Callable]] = []
        # of leaves whose gradient is set: what it was, and whether the first time it was added to
        self.gradients: dict[Node, tuple[Tensor | None, bool]] = {}
        self._seeds: list[Tensor] = []  # cotangents from which backward passes start, unless they are known
        self._numbers: dict[Any, Variable] = {}  # captured, by their name, value, dtype and device
        self.literals: set[Variable] = set()  # those of them that are called after their value
        # owner, attribute and value, by the identity of the owner, which may have no hash, or be equal to another
        self.conditions: dict[tuple[int, str], tuple[Any, str, Any]] = {}
        self._names: set[str] = set()

    def argument(self, name: str, arg: Any) -> Any:
        """Return an argument with variables for its tensors; what else is in it is static and stays what it is."""
        paths = (path for path, _ in trees.named_leaves(arg, name))

        def variable(x: Any) -> Any:
            path = next(paths)
            return self._new(x, self._unused(path)) if isinstance(x, Tensor) else x

        return trees.transform(variable, arg)

    @property
    def made_inside(self) -> list[Tensor]:  # type: ignore[override]
        """The leaves that the recorded function makes."""
        return self._made_inside

    def note(self, owner: Any, attribute: str) -> None:
        """Write down what an attribute was on which the program depends, when it was first read."""
        self._depend_on(owner, attribute)
        super().note(owner, attribute)

    def _depend_on(self, owner: Any, attribute: str) -> None:
        key = id(owner), attribute
        if key not in self.conditions:
            self.conditions[key] = owner, attribute, _as_it_was(getattr(owner, attribute))

    def note_seed(self, x: Tensor) -> None:
        """Remember a cotangent from which a backward pass starts."""
        if not self.knows(x):
            self._seeds.append(x)
        super().note_seed(x)

    def knows(self, x: Tensor) -> bool:
        """Return whether a tensor is an argument or a result of this recording."""
        return id(x._array) in self._variables

    def note_hook(self, x: Tensor, hook: Callable) -> None:
        """Remember a tensor that has got a hook."""
        assert x._node is not None
        self._hooked.append((self.variable(x), x._node, hook))
        super().note_hook(x, hook)

    def hooked(self) -> frozenset[Variable]:
        """Return what has a hook of the recorded function, now that it has returned."""
        return frozenset(v for v, node, hook in self._hooked if node.hooks and hook in node.hooks.values())

    def note_gradient(self, leaf: Node, added: bool) -> None:
        """Remember a leaf whose gradient is set."""
        self.gradients.setdefault(leaf, (leaf.grad, added))
        super().note_gradient(leaf, added)

    def note_no_gradient(self, leaf: Node) -> None:
        """Write down that a leaf has no gradient, unless the recorded function itself took it away."""
        if leaf not in self.gradients:
            self._depend_on(leaf, "grad")
        super().note_no_gradient(leaf)

    def variable(self, x: Tensor) -> Variable:
        """Return the variable that stands for a tensor: a known one, or a new captured one."""
        found = self._variables.get(id(x._array))
        if found is not None:
            return found
        key = id(x._array), x.requires_grad
        if key not in self._captured_by_array:
            v = self._captured_by_array[key] = self._capture(x)
            self.captured.setdefault(v, x)
            self._held.append(x._array)  # x may be given another one meanwhile
        return self._captured_by_array[key]

    def _capture(self, x: Tensor) -> Variable:
        name = name_in_code(x)
        if name is not None:
            return _typed(self._unused(name), x)
        name = "seed" if any(x is seed for seed in self._seeds) else None
        if x._version is not None:  # it may be assigned to
            return _typed(self._unused(name or "tensor"), x)
        if x.ndim or x._node is not None:
            return _typed(self._unused(name or "const"), x)
        # a number that never changes, and to which no gradient flows: it is its own name, and equal ones are one
        value = repr(to_numpy(x._array).item())
        key = name, value, x.dtype, x.device
        if key not in self._numbers:
            v = self._numbers[key] = _typed(self._unused(name or value), x)
            if name is None:
                self.literals.add(v)
        return self._numbers[key]

    def __call__(self, primitive: Primitive, inputs: tuple, result: Tensor, metadata: dict[str, Any]) -> None:
        arguments = tuple(self.variable(x) if isinstance(x, Tensor) else x for x in inputs)
        node = modes.sweeping()
        of = None if node is None else self._made_by.get(node.id)
        line = source.user_line()
        if node is not None and of is None:
            raise RecordingError(
                f"backward at {line} runs through an operation from before the recording ({node!r}); "
                "apply it in the recorded function"
            )
        if primitive.effect and any(x is inputs[0] for x in self.made_inside):
            raise RecordingError(
                f"assign() at {line} changes a tensor that the recorded function made; in the program it would be made "
                "once and keep what the last run left in it. Make it outside of the function"
            )
        # an assigned tensor keeps its array: from now on the array stands for the new value
        view = (primitive.view or primitive.effect) and _share_memory(result, inputs[0])
        output = self._new(result, "", view)
        self.equations.append(Equation(output, primitive, arguments, metadata, line, of, modes.grad_enabled()))
        if result._node is not None:
            self._made_by[result._node.id] = output
        super().__call__(primitive, inputs, result, metadata)

    def name_results(self) -> None:
        """Give letters to the results, now that it is known which names the inputs have; W' to what W is assigned."""
        letters = (letter for letter in _letters() if letter not in self._names)
        for e in self.equations:
            e.output.name = f"{e.variables[0].name}'" if e.primitive.effect else next(letters)

    def _new(self, x: Tensor, name: str, view: bool = False) -> Variable:
        array = x._array
        v = self._variables[id(array)] = _typed(name, x, view)
        if array.__class__ is np.ndarray:  # may go when the function drops it; then its identity may become another's
            self._held.append(weakref.ref(array, partial(self._forget, id(array), v)))
        else:
            self._held.append(array)
        return v

    def _forget(self, identity: int, v: Variable, _: Any) -> None:
        if self._variables.get(identity) is v:
            del self._variables[identity]

    def _unused(self, name: str) -> str:
        """Return `name`, or the first of name_2, name_3, ... that is not taken."""
        chosen, i = name, 1
        while chosen in self._names:
            i += 1
            chosen = f"{name}_{i}"
        self._names.add(chosen)
        return chosen


def _typed(name: str, x: Tensor, view: bool = False) -> Variable:
    return Variable(name, x.shape, x.dtype, x.device, x._array.strides, view)


def _share_memory(a: Tensor, b: Any) -> bool:
    """Return whether a is a view of b, as a reshape is that had nothing to copy."""
    return isinstance(b, Tensor) and bool(a.device.xp.may_share_memory(a._array, b._array))


def _letters() -> Iterator[str]:
    """Yield a, b, ..., z, a1, b1, ..."""
    for i in count():
        for letter in "abcdefghijklmnopqrstuvwxyz":
            yield f"{letter}{i or ''}"


def _as_it_was(value: Any) -> Any:
    """Return copies of containers, which may change in place."""
    if isinstance(value, dict):
        return {key: _as_it_was(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_it_was(item) for item in value]
    return set(value) if isinstance(value, set) else value
