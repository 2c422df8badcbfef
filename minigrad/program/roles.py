"""What each variable of a program is for: forward, backward or an update, and of what; and whose memory it lives in."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from ..devices import memory

if TYPE_CHECKING:
    from .program import Equation, Program, Variable


def storage_roots(program: Program) -> dict[Variable, Variable]:
    """Return for every variable the one whose memory it lives in: itself, unless it is a view or an assigned tensor."""
    roots: dict[Variable, Variable] = {}
    held: dict[int, Variable] = {}  # captured tensors may be views of one memory
    for v, t in program.captured.items():
        roots[v] = held.setdefault(id(memory(t._array)), v)
    for v in program.arguments:
        roots[v] = v
    for e in program.equations:
        roots[e.output] = roots[e.variables[0]] if e.output.view else e.output
    return roots


def targets_of(program: Program) -> dict[Variable, Variable]:
    """Return for what an assign returns the variable that it assigns to."""
    found: dict[Variable, Variable] = {}
    for e in program.equations:
        if e.primitive.effect:
            found[e.output] = found.get(e.variables[0], e.variables[0])
    return found


def roles(program: Program) -> dict[Variable, str]:
    """Return for every equation's output whether it is "forward", "backward" or "update".

    An update is what leads to nothing but assignments, other than through the backward pass.
    """
    differentiated = {e.of for e in program.equations}
    users: dict[Variable, list[Equation]] = defaultdict(list)
    for e in program.equations:
        for v in e.variables:
            users[v].append(e)
    found: dict[Variable, str] = {}
    for e in reversed(program.equations):
        later = [found[user.output] for user in users[e.output]]
        if e.of is not None:
            found[e.output] = "backward"
        elif e.output in differentiated or e.output in program.outputs or set(later) != {"update"}:
            found[e.output] = "update" if e.primitive.effect else "forward"
        else:
            found[e.output] = "update"
    return found


def updated(program: Program) -> dict[Variable, str]:
    """Return for the output of each equation of an update the name of what is updated in the end, or how many are.

    The new mean of an optimizer leads to the new parameter, so it belongs to the update of that. A count of steps leads
    to all parameters.
    """
    users: dict[Variable, list[Variable]] = defaultdict(list)
    role, targets = roles(program), targets_of(program)
    found: dict[Variable, set[str]] = {}
    for e in reversed(program.equations):
        if role[e.output] == "update":
            names = {name for user in users[e.output] for name in found[user]}
            found[e.output] = names or {targets[e.output].name}  # only an assignment leads nowhere
            for v in e.variables:
                users[v].append(e.output)
    return {v: min(names) if len(names) == 1 else f"{len(names)} tensors" for v, names in found.items()}
