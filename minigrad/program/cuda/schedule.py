"""The order of launches: reductions join the group that they read, and groups that are ready together run together."""

from __future__ import annotations

from collections import defaultdict

from ..groups import Group, dependencies, schedule
from ..memory import is_view
from ..program import Equation, Program, Variable
from ..roles import storage_roots
from .body import Body
from .kernel import MOST_ARRAYS, Unsupported
from .random import RANDOM

REDUCTIONS = ("sum", "mean", "max", "min", "any", "all", "sum_to")
ROWS = ("softmax", "log_softmax", "logsumexp")


class Launch(Group):
    """A group that runs as one kernel (up to three where it ends in reductions), or one equation that has none.

    Attributes
    ----------
    kind : str
        "elementwise", "reduction" or "rows", each of which has a file that makes its kernels, or "": a product, a view,
        anything else that is left to libraries.
    parts : list of Group
        Groups that do not depend on each other. Random draws are at their beginnings; reductions are at the end of the
        only part.
    """

    __slots__ = ("kind", "parts")

    def __init__(self, parts: list[Group], kind: str) -> None:
        super().__init__([e for part in parts for e in part.equations], parts[0].shape)
        self.parts = parts
        self.kind = kind

    def __repr__(self) -> str:
        return f"<launch {' '.join(e.primitive.name for e in self.equations)}>"


def launches(program: Program) -> list[Launch]:
    """Return the launches of a program, in an order in which every value is there before it is read.

    Examples
    --------
    >>> import minigrad as mg
    >>> program = mg.record(lambda x: (mg.exp(x) * 2.0).sum())(mg.tensor([1.0, 2.0]))
    >>> launches(program)
    [<launch exp multiply sum>]
    """
    groups = _with_draws(program, _with_reductions(schedule(program, raises=False)))
    before, arrays, roots = _dependencies(program, groups), _arrays(program, groups), storage_roots(program)
    kinds = [_kind(group) for group in groups]
    followers = defaultdict(list)
    for i, needed in enumerate(before):
        for j in needed:
            followers[j].append(i)
    ready = [i for i, needed in enumerate(before) if not needed]
    result = []
    while ready:
        # first what others may wait for, and last the elementwise groups: by then many are ready
        first = min(ready, key=lambda i: (kinds[i] == "elementwise", not is_view(groups[i]), i))
        chosen = [first]
        if kinds[first] == "elementwise":
            chosen = _together(sorted(ready), arrays, [_has_kernel(groups[i], roots) for i in sorted(ready)])
        result.append(Launch([groups[i] for i in chosen], kinds[first]))
        for i in chosen:
            ready.remove(i)
            for j in followers[i]:
                before[j].discard(i)
                if not before[j]:
                    ready.append(j)
    return result


def _together(ready: list[int], arrays: list[int], supported: list[bool]) -> list[int]:
    """Return those of the groups that are ready that fit into one launch; what has no kernel stays alone."""
    if not supported[0]:
        return ready[:1]
    chosen: list[int] = []
    for i, has_kernel in zip(ready, supported, strict=True):
        if has_kernel and (not chosen or sum(arrays[j] for j in chosen) + arrays[i] <= MOST_ARRAYS):
            chosen.append(i)
    return chosen


def _has_kernel(group: Group, roots: dict[Variable, Variable]) -> bool:
    try:
        Body(group.equations, set(), roots)
    except Unsupported:
        return False
    return True


def _arrays(program: Program, groups: list[Group]) -> list[int]:
    """Return how many arrays each group reads and writes at most."""
    readers: dict[Variable, set[int]] = defaultdict(set)
    for v in program.outputs:
        readers[v].add(-1)
    for i, group in enumerate(groups):
        for e in group.equations:
            for v in e.variables:
                readers[v].add(i)
    result = []
    for i, group in enumerate(groups):
        made = {e.output for e in group.equations}
        read = {v for e in group.equations for v in e.variables} - made
        result.append(len(read) + sum(bool(readers[v] - {i}) for v in made))
    return result


def _kind(group: Group) -> str:
    last = group.equations[-1]
    if last.primitive.name in REDUCTIONS and not last.output.view and last.variables:
        return "reduction"
    if group.shape is not None:
        return "elementwise"
    rows = last.primitive.name in ROWS and len(reduced_axes(last)) == 1 and last.output.dtype.kind == "f"
    return "rows" if rows else ""


def _with_reductions(groups: list[Group]) -> list[Group]:
    """Let reductions over the same axes, or over all, join the elementwise group that computes what they reduce.

    They depend on nothing else, so they can run as early as that. What is assigned is left out: it is in memory anyway.
    """
    made_by: dict[Variable, Group] = {}
    result: list[Group] = []
    for group in groups:
        e = group.equations[-1]
        into = made_by.get(e.variables[0]) if _kind(group) == "reduction" else None
        if into is None:
            result.append(Group(list(group.equations), group.shape))
            if group.shape is not None:
                made_by.update((e.output, result[-1]) for e in group.equations if not e.output.view)
            continue
        axes = {reduced_axes(r) for r in (*into.equations, e) if r.primitive.name in REDUCTIONS}
        everything = frozenset(range(len(e.variables[0].shape)))
        if len(axes) == 1 or (len(axes - {everything}) == 1 and 0 not in e.variables[0].shape):
            into.equations.append(e)
        else:
            result.append(group)
    return result


def _with_draws(program: Program, groups: list[Group]) -> list[Group]:
    """Let random draws join the group that reads them, if it is only one and nothing that it waits for waits for them.

    The draws that stay alone are elementwise groups too: each place gets a number.
    """
    result = []
    for group in groups:
        e = group.equations[0]
        draws = group.shape is None and e.primitive.name in RANDOM
        result.append(Group(group.equations, e.output.shape) if draws else group)
    before = _dependencies(program, result)
    for i, group in enumerate(result):
        e = group.equations[0]
        if len(group.equations) > 1 or e.primitive.name not in RANDOM:
            continue
        readers = [j for j, other in enumerate(result) if any(e.output in r.variables for r in other.equations)]
        if len(readers) != 1 or result[readers[0]].shape != e.output.shape:
            continue
        [reader] = readers
        if not any(_leads(i, j, before) for j in before[reader] - {i}):
            result[reader].equations.insert(0, e)
            group.equations.clear()
            before[reader] = (before[reader] | before[i]) - {i}
            for needed in before:
                if i in needed:
                    needed.remove(i)
                    needed.add(reader)
            before[reader].discard(reader)
            before[i] = set()
    return [group for group in result if group.equations]


def _leads(start: int, end: int, before: list[set[int]]) -> bool:
    """Return whether a group has to wait for another one."""
    pending, seen = [end], {end}
    while pending:
        i = pending.pop()
        if i == start:
            return True
        pending += before[i] - seen
        seen |= before[i]
    return False


def reduced_axes(e: Equation) -> frozenset[int]:
    """Return over which axes of its input a reduction goes."""
    whole = e.variables[0].shape
    if e.primitive.name == "sum_to":
        extra = len(whole) - len(e.output.shape)
        return frozenset(i for i, n in enumerate(whole) if i < extra or n != e.output.shape[i - extra])
    axis = e.metadata.get("axis")
    if axis is None or not whole:  # NumPy accepts axis 0 of an array without axes
        return frozenset(range(len(whole)))
    return frozenset(a % len(whole) for a in ((axis,) if isinstance(axis, int) else axis))


def _dependencies(program: Program, groups: list[Group]) -> list[set[int]]:
    """Return for each group the positions of those that must run before it."""
    member = {id(e): i for i, group in enumerate(groups) for e in group.equations}
    before: list[set[int]] = [set() for _ in groups]
    for e, needed in zip(program.equations, dependencies(program), strict=True):
        i = member[id(e)]
        before[i].update(member[id(program.equations[j])] for j in needed)
    for i, needed in enumerate(before):
        needed.discard(i)
    return before
