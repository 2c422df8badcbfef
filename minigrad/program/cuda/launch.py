"""From a launch of the schedule to its kernels, and from a program to a text that shows them all."""

from __future__ import annotations

from collections.abc import Mapping

from ..memory import Plan, is_view
from ..program import Program, Variable
from . import elementwise, reductions, rows
from .kernel import Kernel, Unsupported
from .schedule import Launch, launches


def kernels_of(
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
    >>> [kernel] = kernels_of(plan.groups[0], set(plan.buffers), plan.roots)
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


def listing(program: Program) -> str:
    """Return what a GPU does in one run of a program, as CUDA C++: the kernels in order, with comments between them.

    Above a kernel stand its equations and how it is launched; where there is none, a comment says who does it instead.

    Examples
    --------
    >>> import minigrad as mg
    >>> program = mg.record(lambda x, w: x @ w)(mg.ones((2, 3)), mg.ones((3, 4)))
    >>> print(listing(program))
    // launch 1, left to a library
    //   a:f32[2,4] = matmul x w
    """
    order = launches(program)
    plan = Plan(program, order)
    lines = []
    for number, launch in enumerate((launch for launch in order if not is_view(launch)), 1):
        found: list[Kernel] = []
        title = f"// launch {number}"
        try:
            if launch.kind:
                found = kernels_of(launch, set(plan.buffers), plan.roots)
            else:
                title += ", left to a library"
        except Unsupported as reason:
            title += f", one by one by CuPy, because {reason}"
        lines += [title, *(f"//   {e!r}" for e in launch.equations)]
        for kernel in found:
            arrays = ", ".join(map(repr, kernel.parameters))
            lines.append(f"// {kernel.name}<<<{kernel.grid}, {kernel.block}>>>({arrays})")
            lines.append(kernel.source)
    return "\n".join(lines)
