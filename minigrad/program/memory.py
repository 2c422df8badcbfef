"""The buffer plan: which values of a program need memory, and which of them can share it.

A value needs memory from the group that makes it until the last group that reads it, itself or a view of it. What only
its own group reads needs none: it lives in a tile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .blocks import extent
from .groups import Group, schedule
from .program import Equation, Program, Variable
from .roles import storage_roots

SMALL = 1024  # bytes


class Plan:
    """Where the values of a program live while it runs.

    Parameters
    ----------
    program : Program
    groups : list of Group, optional
        In the order in which they run; by default those of `schedule`.

    Attributes
    ----------
    groups : list of Group
        In the order in which they run.
    roots : dict from Variable to Variable
        The variable in whose memory each one lives.
    assigned : set of Variable
        The roots of what the program assigns to: arguments, and captured tensors.
    buffers : dict from Variable to int
        The number of the block of each value that needs memory.
    sizes : list of int
        The bytes of each block.
    counts : dict from str to int
        How many of the program's equations are an operation, an assignment, or a view, which computes nothing.
    result_sizes : list of int
        The bytes of each value that an operation makes, whether it needs memory or not.
    argument_sizes : list of int
        The bytes of each argument: on the CPU large ones are read where they are, all others are copied.

    Examples
    --------
    >>> import minigrad as mg
    >>> program = mg.record(lambda x: (mg.exp(x) * 2.0).sum())(mg.ones((256, 1024)))
    >>> program.plan()
    <plan: 3 operations in 2 groups; 1.0 MiB for 2 of 3 results (else 2.0 MiB) in 2 blocks, 1.0 MiB for arguments>
    """

    def __init__(self, program: Program, groups: Sequence[Group] | None = None) -> None:
        self.groups = schedule(program) if groups is None else groups
        self.roots = storage_roots(program)
        self.assigned = {self.roots[e.output] for e in program.equations if e.primitive.effect}
        self._outputs = program.outputs
        self.argument_sizes = [extent(v) for v in program.arguments]
        last_use = self._last_uses(program)
        self.buffers: dict[Variable, int] = {}
        self.sizes: list[int] = []
        self.result_sizes = [extent(e.output) for e in program.equations if not e.output.view]
        effects = sum(e.primitive.effect for e in program.equations)
        self.counts = {
            "operation": len(self.result_sizes),
            "assignment": effects,
            "view": len(program.equations) - len(self.result_sizes) - effects,
        }
        free: list[int] = []
        ending: dict[int, list[int]] = {}
        for i, group in enumerate(self.groups):
            for e in group.equations:
                v = e.output
                if not e.output.view and last_use.get(v, i) != i:
                    block = self._take(extent(v), free)
                    self.buffers[v] = block
                    ending.setdefault(last_use[v], []).append(block)
                elif group.shape is None and not v.view:  # nobody reads it, but it has to be written somewhere
                    self.buffers[v] = block = self._take(extent(v), free)
                    ending.setdefault(i, []).append(block)
            free += ending.pop(i, ())

    def __str__(self) -> str:
        """Return a line for each group: what it computes, where its results are that others read, and until when."""
        numbered = list(enumerate((g for g in self.groups if not is_view(g)), 1))
        returned = {self.roots[v] for v in self._outputs}
        lines = [repr(self)]
        for number, group in numbered:
            results = []
            for e in self.stored(group):
                v = e.output
                if e.primitive.effect:
                    results.append(f"{v.name} in {self.roots[v].name}")
                else:
                    readers = [i for i, g in numbered if self._reads(g, v)]
                    until = "for the caller" if v in returned or not readers else f"until {max(readers)}"
                    results.append(f"{v!r} in block {self.buffers[v]}, {until}")
            names = " ".join(e.primitive.name for e in group.equations if not e.output.view or e.primitive.effect)
            lines.append(f"{number:4}  {names}: {'; '.join(results)}")
        return "\n".join(lines)

    def stored(self, group: Group) -> list[Equation]:
        """Return the equations of a group whose results go to memory: to a block, or to what they assign to."""
        return [e for e in group.equations if e.primitive.effect or e.output in self.buffers]

    def _reads(self, group: Group, v: Variable) -> bool:
        return any(self.roots[x] is v for e in group.equations for x in e.variables if e.output is not v)

    def _last_uses(self, program: Program) -> dict[Variable, int]:
        """Return for every memory the position of the last group that reads it; results are read after the last."""
        last_use = {}
        for i, group in enumerate(self.groups):
            for e in group.equations:
                for v in e.variables:
                    last_use[self.roots[v]] = i
        for v in program.outputs:
            last_use[self.roots[v]] = len(self.groups)
        return last_use

    def _take(self, size: int, free: list[int]) -> int:
        """Return a block for `size` bytes: the smallest free one that fits and is not four times too large.

        A few bytes get a block of their own: what shares one cannot be computed at any time.
        """
        fitting = [b for b in free if SMALL < size <= self.sizes[b] <= 4 * size]
        if fitting:
            block = min(fitting, key=lambda b: self.sizes[b])
            free.remove(block)
            return block
        self.sizes.append(size)
        return len(self.sizes) - 1

    def __repr__(self) -> str:
        counts = " and ".join(f"{n} {what}{'s' * (n != 1)}" for what, n in self.counts.items() if n)
        return (
            f"<plan: {counts or 'nothing'} in {sum(not is_view(g) for g in self.groups)} groups; "
            f"{_size(self.sizes)} for {len(self.buffers)} of {len(self.result_sizes)} results "
            f"(else {_size(self.result_sizes)}) in {len(self.sizes)} blocks, "
            f"{_size(self.argument_sizes)} for arguments>"
        )


def is_view(group: Group) -> bool:
    """Return whether a group computes nothing."""
    return all(e.output.view and not e.primitive.effect for e in group.equations)


def _size(sizes: Iterable[int]) -> str:
    total = sum(sizes)
    return f"{total / 2**20:.1f} MiB" if total >= 2**20 else f"{total / 2**10:.1f} KiB"
