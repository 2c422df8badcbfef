"""The table of primitives: every operation with its derivative, a file per family."""

from .elementwise import (
    abs,
    add,
    astype,
    clip,
    divide,
    equal,
    exp,
    expm1,
    greater,
    greater_equal,
    isfinite,
    less,
    less_equal,
    log,
    log1p,
    logical_and,
    logical_not,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    relu,
    sigmoid,
    sign,
    softplus,
    sqrt,
    square,
    subtract,
    tanh,
    where,
    zeros_like,
)
from .indexing import getitem, index_set, scatter_add
from .linalg import matmul
from .reductions import logsumexp, max, mean, min, sum, sum_to
from .registry import primitive, primitives
from .shaping import (
    assign,
    broadcast_to,
    concat,
    expand_dims,
    matrix_transpose,
    permute_dims,
    reshape,
    squeeze,
    stack,
    stop_gradient,
)

# a row with an effect is applied by the method that checks its arguments, not called by itself
__all__ = [*(name for name, row in primitives.items() if not row.effect), "primitive", "primitives"]
