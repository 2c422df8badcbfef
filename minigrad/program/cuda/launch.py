"""From a launch of the schedule to its kernels."""

from __future__ import annotations

from collections.abc import Mapping

from ..program import Variable
from . import elementwise, reductions, rows
from .kernel import Kernel, Unsupported
from .schedule import Launch


def kernels(
    launch: Launch,
    stored: set[Variable],
    roots: Mapping[Variable, Variable],
    strides: Mapping[Variable, tuple[int, ...]] | None = None,
) -> list[Kernel]:
    """Return the kernels of a launch, in order: none where there is nothing to compute.

    Parameters
    ----------
    launch : Launch
        With `launch.kind` other than "".
    stored : set of Variable
        The results that need memory: `set(plan.buffers)`.
    roots : dict from Variable to Variable
        The variable in whose memory each one lives: `plan.roots`.
    strides : dict from Variable to tuple of int, optional
        In bytes, for arrays that lie otherwise than `Variable.strides` says.

    Raises
    ------
    Unsupported
        There is no kernel for an equation of the launch.

    Examples
    --------
    >>> import minigrad as mg
    >>> from minigrad.program.cuda import launches
    >>> from minigrad.program.memory import Plan
    >>> program = mg.record(lambda x: (mg.exp(x) * 2.0).sum())(mg.tensor([1.0, 2.0]))
    >>> plan = Plan(program, launches(program))
    >>> [kernel] = kernels(plan.groups[0], set(plan.buffers), plan.roots)
    >>> kernel.parameters, kernel.grid
    ((x:f32[2], c:f32[]), (1, 1, 1))
    """
    if launch.kind == "elementwise":
        return elementwise.kernels(launch.parts, stored, roots, strides)
    if launch.kind == "reduction":
        return reductions.kernels(launch.parts[0], stored, roots, strides)
    if launch.kind == "rows":
        return rows.kernels(launch.equations[0], stored, strides)
    raise Unsupported(f"{launch!r} is left to a library")
