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
from .ordering import all, any, argmax, argmin, argsort, cumsum
from .reductions import log_softmax, logsumexp, max, mean, min, softmax, sum, sum_to
from .registry import primitive, primitives
from .shaping import (
    broadcast_to,
    concat,
    expand_dims,
    matrix_transpose,
    permute_dims,
    reshape,
    squeeze,
    stack,
)
from .special import ceil, erf, exp2, floor, isinf, isnan, log2, log10, logaddexp, logical_or, round
from .trigonometry import (
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    cos,
    cosh,
    hypot,
    sin,
    sinh,
    tan,
)

__all__ = [*primitives, "primitive", "primitives"]
