"""Outside: what a compiled step and its caller have in common.

Tensors that the step captures, gets and returns; gradients that it sets; and the graphs that its results would have.
"""

from __future__ import annotations

from typing import Any

from .. import trees
from ..tensor import Tensor, Version
from .program import Program, Variable
from .record import Recording
from .roles import storage_roots, targets_of


class Outside:
    """What a step has in common with its caller: tensors that it captures, and leaves whose gradients it sets.

    A compiled step leaves no gradients.
    """

    def __init__(self, recording: Recording, given: list[Any]) -> None:
        self.captured = {v: t for v, t in recording.program.captured.items() if v not in recording.made}
        nodes = [x._node for x in given]
        self._arguments = [(i, recording.gradients[n][1]) for i, n in enumerate(nodes) if n in recording.gradients]
        self._leaves = [(leaf, added) for leaf, (_, added) in recording.gradients.items() if leaf not in nodes]
        self._nodes = {t._node for t in recording.program.captured.values() if t._node is not None}
        self._captured_too = [n in self._nodes for n in nodes]

    def is_other(self, given: list[Any]) -> bool:
        """Return whether the step would do something else now than when it was recorded.

        It would add to gradients that are there, or an argument is a captured variable, or is none any more.
        """
        for x, before in zip(given, self._captured_too, strict=True):
            if isinstance(x, Tensor) and x._node is not None and (x._node in self._nodes) is not before:
                return True
        for leaf, added in self._leaves:
            if added and leaf.grad is not None:
                return True
        return any(added and given[i]._node.grad is not None for i, added in self._arguments)

    def forget_gradients(self, given: list[Any]) -> None:
        for leaf, _ in self._leaves:
            leaf.grad = None
        for i, _ in self._arguments:
            given[i]._node.grad = None

    def own(self, x: Tensor, given: list[Any]) -> Tensor:
        """Return a result of the step itself without a graph, and not in memory that will change."""
        if any(x is t for t in (*self.captured.values(), *given)):
            return x if x.is_leaf else x.detach()
        return Tensor._wrap(x._array.copy("K"), x.device, None, Version())  # a base of its own may be another's, too


def updates_parameters(program: Program) -> bool:
    """Return whether a program assigns to something that requires grad: a training step, whose loss needs no graph."""
    roots = storage_roots(program)
    changed = {roots[e.output] for e in program.equations if e.primitive.effect}
    return any(roots[v] in changed and t._node is not None for v, t in program.captured.items())


def leads_outside(program: Program, args: tuple, result: Any) -> bool:
    """Return whether a result could be differentiated with respect to an argument or a captured tensor."""
    given = [x for x in trees.leaves(args) if isinstance(x, Tensor)]
    outside = {t._node for t in (*given, *program.captured.values()) if t._node is not None}
    stack = [t._node for t in trees.leaves(result) if isinstance(t, Tensor) and not t.is_leaf]
    seen = set(stack)
    while stack:
        node = stack.pop()
        if node in outside:
            return True
        if node is None or node.inputs is None:  # it is released: no derivative passes it
            continue
        stack += [parent for parent in node.parents if parent not in seen]
        seen.update(node.parents)
    return False


def callers_own(argument: int | None, captured: Tensor | None, given: list[Any]) -> Tensor | None:
    """Return the tensor that the caller has already, where a result is an argument or a captured tensor."""
    found = captured if argument is None else given[argument]
    if not isinstance(found, Tensor):  # an array of NumPy, or none of both
        return None
    return found if found.is_leaf else found.detach()


def first_result(recording: Recording, outside: Outside, given: list[Any]) -> Any:
    """Return the result of the recording as a replay would: without a graph, and not in memory that will change."""
    program = recording.program
    variables = iter(trees.leaves(program.result))
    targets = targets_of(program)
    arguments = {v: i for i, v in enumerate(program.arguments)}

    def own(x: Any) -> Any:
        v = next(variables)
        if not isinstance(v, Variable):
            return x
        whole = targets.get(v, v)
        known = callers_own(arguments.get(whole), outside.captured.get(whole), given)
        if known is not None:
            return known
        return Tensor._wrap(x._array.copy("K"), v.device, None, Version())  # others may hold x too

    return trees.transform(own, recording.result)
