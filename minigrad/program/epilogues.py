"""Epilogues: elementwise groups that run as the end of the matrix product that they read, in one kernel.

The product then goes from registers to the first-level cache and no further. So the update of a parameter needs no
memory for its gradient, and the slope of an activation none for what came back through the weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..primitives import product_kernel, products
from .groups import Group, schedule
from .operations import Fused, fused, operations_of
from .program import Equation, Program, Variable
from .tiles import single, span


def with_products(program: Program) -> list[Group]:
    """Return the groups of a program as `schedule` does, but those that can run as the end of a product, with it.

    Examples
    --------
    >>> import minigrad as mg
    >>> x, w = mg.ones((64, 100)), mg.ones((100, 64))
    >>> program = mg.record(lambda x, w: (x @ w) * 2.0 + 1.0)(x, w)
    >>> groups = with_products(program)  # with llvmlite [<group matmul multiply add>]
    >>> len(groups) in (1, 2)
    True
    """
    return schedule(program, _joins)


def _joins(product: Equation, equations: list[Equation]) -> bool:
    """Return whether one kernel can multiply and do the rest."""
    shape = product.output.shape
    if equations[0].output.shape != shape or [len(v.shape) for v in product.variables] != [2, 2]:
        return False
    a, b = map(_like, product.variables)
    how = products.cut(a, b)
    if how is None or not how.by_kernel or a.shape[1] > product_kernel.DEPTH:
        return False
    operations, targets = operations_of(Group(equations, shape), {e.output for e in equations})
    stages = fused(operations, targets)
    if len(stages) != 1 or not isinstance(stages[0], Fused):
        return False
    read = [x for x in stages[0].inputs if x is not product.output]
    return all(span(single(_like(x)), shape) for x in (*read, *targets))


def _like(v: Variable) -> Any:
    """Return an array of the layout of a variable, to be asked for that and not to be read."""
    return as_strided(np.empty(1, v.dtype), v.shape, v.strides, writeable=False)
