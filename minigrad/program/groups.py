"""Groups: which equations of a program run together, and in which order.

Elementwise equations of one shape that belong together form a group, which then runs tile by tile: what only the group
itself reads never leaves the cache. All other equations stand alone, but for products that `joins` lets join.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from heapq import heapify, heappop, heappush
from math import prod

from ..primitives import primitives
from .program import Equation, Program, Variable
from .roles import storage_roots

TINY = 64  # elements
LINEAR_ALGEBRA = ("inv", "solve", "cholesky", "eigh", "svd")  # a matrix may be singular, say
INDEXING = ("getitem", "scatter_add", "index_set")


class Group:
    """Equations that run together, in program order, and the shape over which they are tiled (None: one equation).

    One of them may be a matrix product (`epilogues`); all others are elementwise.
    """

    __slots__ = ("equations", "product", "shape")

    def __init__(
        self, equations: list[Equation], shape: tuple[int, ...] | None, product: Equation | None = None
    ) -> None:
        self.equations = equations
        self.shape = shape
        self.product = product

    @property
    def elementwise(self) -> list[Equation]:
        """The equations without the product."""
        return [e for e in self.equations if e is not self.product]

    def __repr__(self) -> str:
        return f"<group {' '.join(e.primitive.name for e in self.equations)}>"


def schedule(
    program: Program, joins: Callable[[Equation, list[Equation]], bool] | None = None, raises: bool = True
) -> list[Group]:
    """Return the groups of a program in an order in which every value is there before it is read.

    Equations that read a memory come before the `assign` that changes it, and those that read it afterwards after it.

    Parameters
    ----------
    program : Program
    joins : callable, optional
        Says whether a matrix product may join a group of elementwise equations, the only one that reads it.
    raises : bool
        Whether what runs the groups raises errors that depend on values, as NumPy does.

    Examples
    --------
    >>> import minigrad as mg
    >>> program = mg.record(lambda x: (mg.exp(x) * 2.0 + 1.0).sum())(mg.tensor([1.0, 2.0]))
    >>> schedule(program)
    [<group exp multiply add>, <group sum>]
    """
    equations = program.equations
    raising = {i for i, e in enumerate(equations) if may_raise(e)} if raises else set()
    before = dependencies(program, raising)
    roots = storage_roots(program)
    member = _grow(equations, before, roots, raising)
    members: dict[int, list[int]] = defaultdict(list)
    for i, g in enumerate(member):
        members[g].append(i)
    products = _join(program, before, member, members, roots, joins) if joins else {}
    waiting = {g: {member[j] for i in indices for j in before[i]} - {g} for g, indices in members.items()}
    followers: dict[int, list[int]] = defaultdict(list)
    for g, needed in waiting.items():
        for h in needed:
            followers[h].append(g)
    # first what frees memory, or hardly takes time: updates while the gradients are in the cache, and single numbers
    urgent = {g: _is_urgent([equations[i] for i in indices]) for g, indices in members.items()}
    ready = [(not urgent[g], members[g][0], g) for g, needed in waiting.items() if not needed]
    heapify(ready)
    order = []
    while ready:
        *_, g = heappop(ready)
        own, product = [equations[i] for i in members[g]], products.get(g)
        shape = own[0].output.shape if product or _groupable(own[0]) else None
        order.append(Group(own, shape, product))
        for h in followers[g]:
            waiting[h].discard(g)
            if not waiting[h]:
                heappush(ready, (not urgent[h], members[h][0], h))
    return order


def _is_urgent(equations: list[Equation]) -> bool:
    return any(e.primitive.effect for e in equations) or max(prod(e.output.shape) for e in equations) <= TINY


def _groupable(e: Equation) -> bool:
    """Return whether an equation computes each element of its result from the elements at the same place."""
    return e.primitive.elementwise or e.primitive.name in ("astype", "assign")


def may_raise(e: Equation) -> bool:
    """Return whether NumPy may refuse an equation for the values that it finds, which the recording did not see."""
    name, others = e.primitive.name, e.variables[1:]
    if primitives.get(name) is not e.primitive:  # of the user: nothing is known
        return not e.primitive.elementwise
    if name == "power":  # of an integer to a negative one
        return e.output.dtype.kind in "iu" and isinstance(e.inputs[1], Variable)
    return name in LINEAR_ALGEBRA or (name in INDEXING and any(v.dtype.kind in "iu" for v in others))


def dependencies(program: Program, raising: Collection[int] = ()) -> list[set[int]]:
    """Return for each equation the positions of those that must run before it.

    When one of those at the positions `raising` raises an error, as much has been assigned as in the function.
    """
    roots = storage_roots(program)
    last_error: int | None = None  # the last equation that may raise one
    effects: list[int] = []  # since that one
    made_by: dict[Variable, int] = {}
    readers: dict[Variable, list[int]] = defaultdict(list)  # of a memory, since it was last assigned to
    written: dict[Variable, int] = {}
    result = []
    for i, e in enumerate(program.equations):
        before = {made_by[v] for v in e.variables if v in made_by}
        before.update(written[roots[v]] for v in e.variables if roots[v] in written)
        if e.primitive.effect:
            root = roots[e.output]
            before.update(readers.pop(root, ()))
            written[root] = i
        for v in e.variables:
            readers[roots[v]].append(i)
        if raising and (e.primitive.effect or i in raising):
            before.update(() if last_error is None else (last_error,))
            if e.primitive.effect:
                effects.append(i)
            else:
                before.update(effects)
                last_error, effects = i, []
        made_by[e.output] = i
        result.append(before - {i})
    return result


def _grow(
    equations: list[Equation], before: list[set[int]], roots: dict[Variable, Variable], raising: set[int]
) -> list[int]:
    """Return a group number for each equation. From the last equation to the first, each joins those that read it.

    Two groups merge only when no path leads from one to the other through a third: then one could not run as a whole.
    """
    member = list(range(len(equations)))
    groups = {i: {i} for i in member}
    readers: dict[int, set[int]] = defaultdict(set)
    for i, needed in enumerate(before):
        for j in needed:
            readers[j].add(i)
    for i in reversed(range(len(equations))):
        if not _groupable(equations[i]):
            continue
        for j in sorted(readers[i]):
            g, h = member[i], member[j]
            if g == h or not _groupable(equations[j]) or equations[i].output.shape != equations[j].output.shape:
                continue
            if _conflict(groups[g] | groups[h], equations, roots, raising):
                continue
            if _connected_outside(groups[g], groups[h], before, member, groups):
                continue
            for k in groups[g]:
                member[k] = h
            groups[h] |= groups.pop(g)
    # a group is known by its first equation
    return [min(groups[g]) for g in member]


def _join(
    program: Program,
    before: list[set[int]],
    member: list[int],
    members: dict[int, list[int]],
    roots: dict[Variable, Variable],
    joins: Callable[[Equation, list[Equation]], bool],
) -> dict[int, Equation]:
    """Let products become members of the groups that read them; return the product of each group that has one."""
    equations = program.equations
    readers: dict[Variable, set[int]] = defaultdict(set)
    for i, e in enumerate(equations):
        for v in e.variables:
            readers[roots[v]].add(i)
    results = {roots[v] for v in program.outputs}
    found: dict[int, Equation] = {}
    for i, e in enumerate(equations):
        following = {member[j] for j in readers[e.output]}
        if e.primitive.name != "matmul" or e.output in results or len(following) != 1:
            continue
        (g,) = following
        own = [equations[j] for j in members[g]]
        if g in found or not _groupable(own[0]) or not joins(e, own):
            continue
        assigned = {roots[other.output] for other in own if other.primitive.effect}
        if any(roots[v] in assigned for v in e.variables):  # what is computed later needs it as it was
            continue
        groups = {k: set(indices) for k, indices in members.items()}
        if _connected_outside({i}, groups[g], before, member, groups):
            continue
        members[g] = sorted([*members[g], i])
        del members[member[i]]
        member[i] = g
        found[g] = e
    return found


def _conflict(
    together: set[int], equations: list[Equation], roots: dict[Variable, Variable], raising: set[int]
) -> bool:
    """Return whether tiles would see values of the wrong moment: one memory is assigned twice, or read in another form.

    Within a tile an assigned tensor may be read at the same place, so only under its own name, not as a view. And an
    error in a later tile would find a part assigned.
    """
    assigned: dict[Variable, Equation] = {}
    for i in together:
        e = equations[i]
        if e.primitive.effect:
            if roots[e.output] in assigned:
                return True
            assigned[roots[e.output]] = e
    if not assigned:
        return False
    if not raising.isdisjoint(together):
        return True
    for i in together:
        for v in equations[i].variables:
            e = assigned.get(roots[v])  # type: ignore[assignment]
            if e is not None and v is not e.variables[0] and v is not e.output:
                return True
    return False


def _connected_outside(
    a: set[int], b: set[int], before: list[set[int]], member: list[int], groups: dict[int, set[int]]
) -> bool:
    """Return whether one of two groups depends on the other by way of a third one."""
    for start, goal in ((a, b), (b, a)):
        pending = [j for i in start for j in before[i] if j not in start and j not in goal]
        seen: set[int] = set()
        while pending:
            g = member[pending.pop()]
            if g in seen:
                continue
            seen.add(g)
            for i in groups[g]:
                for j in before[i]:
                    if j in goal:
                        return True
                    if j not in start:
                        pending.append(j)
    return False
