"""Replay: a program as lists of calls, made once, that write into memory laid out beforehand.

Running a step is then a loop over phases, in each of which the threads make their calls. Groups of elementwise
equations run tile by tile, so that what one call writes is still in the cache when the next one reads it; they, and
large matrix products, are shared by the threads. The calls are those of eager execution, on the same layouts, or
native ones that give the same bits.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np

from .. import openblas, parallel
from ..handover import Job
from ..native import Call, start_of
from ..parallel import Calls, splits
from ..primitives import products
from .blocks import arena, array_in, extent
from .epilogues import with_products
from .groups import Group, may_raise
from .inputs import BYTES_FOR_A_CALL, Binding
from .memory import Plan, is_view
from .phases import Share, Stage, phases, region
from .pieces import part_of
from .program import Equation, Program, Variable
from .singles import COPY_NANOSECONDS, moving, stage_of
from .tiles import TiledGroup


class Replay:
    """A program that is ready to run again and again.

    Parameters
    ----------
    program : Program
        As the passes left it.
    threads : int
        How many threads share the work.
    native : bool
        Whether to compile runs of arithmetic (`kernels.py`).

    Attributes
    ----------
    plan : Plan
        Groups and memory of what runs.
    inputs : list of (Variable, array)
        Where the calls expect the arguments that are copied in.
    outputs : dict of arrays by Variable
        Where the results are after `run`, until the next one.
    phases : list of lists of calls
        For each phase what its threads do, a list of calls for each.
    native : bool
        What was given.
    """

    def __init__(self, program: Program, threads: int, native: bool) -> None:
        self.program = program
        self.plan = Plan(program, with_products(program) if native else None)
        blocks = arena([*self.plan.sizes, *(extent(v) for v in program.arguments)])
        self._blocks = blocks[: len(self.plan.sizes)]
        self._arrays: dict[Variable, Any] = {v: t._array for v, t in program.captured.items()}
        places = blocks[len(self.plan.sizes) :]
        self.inputs = [(v, array_in(block, v)) for v, block in zip(program.arguments, places, strict=True)]
        self._arrays.update(self.inputs)
        # in whose place the array given may not be read
        self._opaque = {self.plan.roots[v] for v in program.outputs} | self.plan.assigned
        self.native = native
        self._threads = threads
        self._dtypes = [v.dtype for v, _ in self.inputs]
        self._given: list[Any] = []
        self._stages: list[Stage] = []
        self._by_columns: set[Variable] = set()  # what threads compute column by column
        stored = set(self.plan.buffers)
        number = 0  # of the group, as the plan counts them
        for group in self.plan.groups:
            number += not is_view(group)
            begun = len(self._stages)
            first = group.equations[0]
            by_columns = self._goes_by_columns(group)
            if group.shape is None:
                self._bind_one(first)
            elif first.primitive.effect and self._reads_what_it_assigns_to(first):
                self._move(first)
            else:
                tiled = TiledGroup(group, self._arrays, self._buffer, stored, threads, by_columns, native)
                self._stages.append(Stage(tiled.shares, alone=any(map(may_raise, group.equations))))
            for stage in self._stages[begun:]:
                self._name(stage, number, group)
        self._written = [region(self._arrays[v])[:2] for v in self.plan.assigned]
        self._arrange()
        self.outputs = {v: self._arrays[v] for v in program.outputs}

    def _goes_by_columns(self, group: Group) -> bool:
        """Return whether the threads share the columns of a group: where they do of a matrix that it reads."""
        equations = group.equations
        product = equations[0] if equations[0].primitive.name == "matmul" else group.product
        if product is not None:
            how = products.cut(*(self._arrays[v] for v in product.variables))
            found = how is not None and how.by_columns
        else:
            found = any(v in self._by_columns and v.shape == group.shape for e in equations for v in e.variables)
        if found:
            self._by_columns.update(e.output for e in equations)
        return found

    def _arrange(self) -> None:
        """Bind what can be bound to the arrays given, copy the others, and find the phases."""
        shares = [[share.calls for share in stage.shares] for stage in self._stages]
        bound = []
        for i, (v, place) in enumerate(self.inputs):
            may = v not in self._opaque and place.flags.c_contiguous and place.ndim
            if may and Binding(place, shares).calls * BYTES_FOR_A_CALL <= place.nbytes:
                bound.append(i)
        copies = [self._copy_in(i, place) for i, (_, place) in enumerate(self.inputs) if i not in bound]
        ordered = phases([*copies, *self._stages], self._threads)
        self._names = [(phase.names, phase.is_short) for phase in ordered]
        found = [(phase.shares, phase.is_native, phase.alone) for phase in ordered]
        self.phases = [shares for shares, _, _ in found]
        self._bindings = {i: Binding(self.inputs[i][1], self.phases) for i in bound}
        # phases of native calls as jobs; of others what threads do, and whether OpenBLAS has one thread meanwhile
        self._parts: list[Job | tuple[list[Calls], bool]] = []
        for is_native, group in groupby(found, lambda phase: phase[1]):
            if is_native:
                self._parts.append(Job([shares for shares, _, _ in group]))
            else:
                # products that parallel.py shares out are computed with one, as in eager execution; all else is not
                self._parts += [(shares, not alone and _multiplies(shares)) for shares, _, alone in group]

    def __str__(self) -> str:
        """Return the phases, and what each thread computes in them: groups by the number that the plan gives them."""
        lines = [f"replay of {self.program.name}: {len(self.phases)} phases, {self._threads} threads"]
        for i, (shares, (names, is_short)) in enumerate(zip(self.phases, self._names, strict=True), 1):
            native = all(isinstance(function, Call) for calls in shares for function, _ in calls)
            remarks = ("" if native else ", through Python") + (", too short for more threads" if is_short else "")
            lines.append(f"phase {i}{remarks}")
            for thread, some in enumerate(names, 1):
                lines += [f"  thread {thread}", *(f"  {name}" for name in some)]
        return "\n".join(lines)

    def _name(self, stage: Stage, number: int, group: Group) -> None:
        """Give shares the name of what they compute, with the rows or columns where there are several."""
        names = [e.primitive.name for e in group.equations]
        if len(names) > 4:
            names[2:-1] = ["..."]
        results = ", ".join(e.output.name for e in self.plan.stored(group))
        for share in stage.shares:
            part = f": {share.part}" if len(stage.shares) > 1 else ""
            share.names = [f"{number:4}  {' '.join(names)} -> {results}{part}"]

    def run(self, given: list[Any]) -> None:
        """Read the arrays given for the inputs, and make the calls: results are then in the outputs, and assigned."""
        given = list(given)
        for i, dtype in enumerate(self._dtypes):
            if given[i].dtype is not dtype:  # the bytes of an array of NumPy may be in another order
                given[i] = given[i].astype(dtype, copy=False)
        self._given = given
        for i, binding in self._bindings.items():
            array = given[i]
            start = start_of(array)
            # calls expect aligned elements without gaps; and the step changes its own before the last call reads them
            flags = array.flags
            if not flags.c_contiguous or not flags.aligned or self._is_written(start, start + array.nbytes):
                array = array.copy()
                given[i] = array  # alive until the last call: native ones know its address alone
                start = start_of(array)
            binding.to(array, start)
        manages = openblas.product_parts() > 1
        limited, user = False, object()
        try:
            with np.errstate(all="ignore"):  # kernels do not warn either
                for part in self._parts:
                    if isinstance(part, Job):
                        parallel.run_job(part)
                        continue
                    shares, wants_one = part
                    if manages and wants_one is not limited:
                        (openblas.use_one_thread if wants_one else openblas.threads_again)(user)
                        limited = wants_one
                    parallel.run(shares)
        finally:
            self._given = []
            openblas.threads_again(user)
            for binding in self._bindings.values():
                binding.back()

    def _is_written(self, start: int, stop: int) -> bool:
        """Return whether the step assigns to memory between two addresses."""
        for low, high in self._written:
            if low < stop and start < high:
                return True
        return False

    def _copy_in(self, position: int, place: Any) -> Stage:
        """Return the copying of one of the given arrays to where the calls expect it."""

        def copy(rows: Any) -> None:
            place[rows] = self._given[position][rows]

        shares = []
        for rows in splits(place.shape[0], self._threads) if place.ndim > 1 else [...]:
            share = Share([(copy, (rows,))], [], [place[rows]], place[rows].size * COPY_NANOSECONDS)
            part = f": {part_of(rows, 'rows')}" if isinstance(rows, slice) else ""
            share.names = [f"      copy of {self.inputs[position][0].name}{part}"]
            shares.append(share)
        return Stage(shares)

    # Single equations

    def _reads_what_it_assigns_to(self, e: Equation) -> bool:
        """Return whether an assignment is of a view of the tensor itself, as in `w.assign(w.mT)`."""
        target, value, roots = e.variables[0], e.inputs[1], self.plan.roots
        return isinstance(value, Variable) and value is not target and roots[value] is roots[target]

    def _move(self, e: Equation) -> None:
        """Assign to a tensor a view of itself."""
        target, value = (self._arrays[v] for v in e.variables)
        self._arrays[e.output] = target
        self._stages.append(moving(target, value))

    def _bind_one(self, e: Equation) -> None:
        inputs: list[Any] = [self._arrays[v] if isinstance(v, Variable) else v for v in e.inputs]
        if e.output.view:
            self._arrays[e.output] = e.primitive.forward(e.output.device.xp, *inputs, **e.metadata)
            return
        out = self._arrays[e.output] = self._buffer(e.output)
        stage = stage_of(e, inputs, out, self._threads, self.native)
        if stage.alone:
            self._opaque.update(self.plan.roots[v] for v in e.variables)
        self._stages.append(stage)

    def _buffer(self, v: Variable) -> Any:
        return array_in(self._blocks[self.plan.buffers[v]], v)


def _multiplies(shares: list[Calls]) -> bool:
    """Return whether NumPy multiplies matrices in one of the calls."""
    return any(function is products.multiply for calls in shares for function, _ in calls)
