"""CUDA kernels for the groups of a program, as text: nothing here needs CuPy, a compiler or a GPU.

The launcher asks for the order of launches, plans memory for it, and asks for the kernels of each launch:

    plan = Plan(program, launches(program))
    stored = set(plan.buffers)
    for launch in plan.groups:
        if launch.kernels:                                    # "elementwise", "reduction" or "rows"
            for kernel in kernels(launch, stored, plan.roots, strides): ...
        else:                                                 # one equation: a product, a view, or anything else
            ...

`launches` returns `Launch` objects, which are `Group`s (`equations`, `shape`) with `kernels` and `parts`: groups that
do not depend on each other and run side by side in one launch (the updates of all parameters). A part may begin with
random draws and end in reductions: what is drawn, and what is reduced, need not be in memory.

`kernels(launch, stored, roots, strides)` returns one `Kernel`, or up to three for reductions, to be launched in
order on one stream:

- `stored`: the variables that have memory, as in `memory.Plan`; other results exist in registers only.
- `roots`: `plan.roots`, by which it is seen that an `assign` would overwrite what the same kernel still reads.
- `strides`: dict from Variable to the strides in bytes of its array, where they differ from `Variable.strides`.

A `Kernel` has `name`, `source`, `grid`, `block` and `parameters`. `parameters` are pointers in order:
variables that are read, then those that are written (one that is read and written stands once, where it is read), then
scratch. What an `assign` writes goes by the variable that it assigns to: the pointer is that of its array, and the
`output` of the equation is the same array. A `Scratch` of `nbytes` that stands in two kernels is one piece of memory,
aligned to 16 bytes; it need not be cleared. Sizes, strides and dtypes are part of the text; values never are, except
numbers of the program itself: learning rates and counters are 0-d arrays that are read.

Launches of no elements have an empty list of kernels. `Unsupported` is raised, and says why, where there is no kernel
(complex numbers); the launcher then does each equation of the launch by CuPy, in order.
"""

from .kernel import Kernel, Scratch, Unsupported
from .launch import kernels
from .schedule import Launch, launches
