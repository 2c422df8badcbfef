"""A program on a GPU: launches, CUDA kernels as text, and their replay as one graph.

Only `driver.py` and `products.py` need CuPy, a compiler or a GPU. `replay.py` (and, to show the text, `listing`) asks
for the order of launches, plans memory for it, and asks for the kernels of each launch:

    order = launches(program)
    plan = Plan(program, order)
    stored = set(plan.buffers)
    for launch in order:
        if launch.kind:                                       # "elementwise", "reduction" or "rows"
            for kernel in kernels_of(launch, stored, plan.roots, strides): ...
        else:                                                 # one equation: a product, a view, or anything else
            ...

`launches` returns `Launch` objects, which are `Group`s (`equations`, `shape`) with `kind` and `parts`: groups that
do not depend on each other and run side by side in one launch (the updates of all parameters). A part may begin with
random draws and end in reductions: what is drawn, and what is reduced, need not be in memory.

`kernels_of(launch, stored, roots, strides)` returns one `Kernel`, or up to three for reductions, to be launched in
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
(complex numbers, an array function that `source.py` lacks); each equation of the launch is then done by CuPy, in order.

The names in a kernel: `p0`, `p1`, ... point to arrays, in elementwise kernels those of one part (`q0`, `q1`, ... are
those of the kernel that calls the parts); `x` are the scalars that are read, `t` those that are computed, `u` those
that are drawn, from a block `d`; `i` counts accesses, `c` are coordinates, `k` is a neighbour within an access, whose
vectors are `a` (read) and `r` (results); `sum`, `shared` and `out` are the totals of a reduction in registers, in
shared memory, and where they go.
"""

from .kernel import Kernel, Scratch, Unsupported
from .launch import kernels_of
from .schedule import Launch, launches
