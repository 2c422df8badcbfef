"""Elementwise primitives. Inputs broadcast; the engine sums a gradient back to its input's shape.

A rule reads `F, g, y, *inputs`: the namespace, the cotangent of the result, the result, and the inputs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import number_dtype
from .domains import ANY_BOOL, NONZERO, POSITIVE, REAL
from .registry import Domain, Samples, primitive

DOUBLE = np.dtype("float64")


# Arithmetic

add = primitive(
    "add",
    forward=lambda xp, a, b, /, *, out=None: xp.add(a, b, out=out),
    vjps=[lambda F, g, y, a, b: g, lambda F, g, y, a, b: g],
    elementwise=True,
    samples=Samples("broadcast", (REAL, REAL)),
    doc="a + b, elementwise.",
)

subtract = primitive(
    "subtract",
    forward=lambda xp, a, b, /, *, out=None: xp.subtract(a, b, out=out),
    vjps=[lambda F, g, y, a, b: g, lambda F, g, y, a, b: -g],
    elementwise=True,
    samples=Samples("broadcast", (REAL, REAL)),
    doc="a - b, elementwise.",
)

multiply = primitive(
    "multiply",
    forward=lambda xp, a, b, /, *, out=None: xp.multiply(a, b, out=out),
    vjps=[lambda F, g, y, a, b: g * b, lambda F, g, y, a, b: g * a],
    saves="ab",
    elementwise=True,
    samples=Samples("broadcast", (REAL, REAL)),
    doc="a * b, elementwise.",
)

divide = primitive(
    "divide",
    forward=lambda xp, a, b, /, *, out=None: xp.divide(a, b, out=out),
    vjps=[lambda F, g, y, a, b: g / b, lambda F, g, y, a, b: -(g * y) / b],
    saves="yb",
    elementwise=True,
    samples=Samples("broadcast", (REAL, NONZERO)),
    doc="a / b, elementwise.",
)

negative = primitive(
    "negative",
    forward=lambda xp, x, /, *, out=None: xp.negative(x, out=out),
    vjps=[lambda F, g, y, x: -g],
    elementwise=True,
    samples=Samples("any", (REAL,)),
    doc="-x, elementwise.",
)


def _power_base(F: Any, g: Any, y: Any, a: Any, b: Any) -> Any:
    # b a^(b-1), and 0 for b = 0 also where a = 0, where 0 * 0^-1 would give NaN
    if isinstance(b, int | float):
        return g * (a ** (b - 1) * b) if b != 0 else F.zeros_like(g)
    if b.dtype.kind in "biu":  # whole exponents stay whole: the sign of a negative base depends on them
        lower = F.astype(a ** (F.where(F.equal(b, 0), 1, b) - 1), dtype=g.dtype)
        return g * (lower * F.astype(b, dtype=g.dtype))
    return g * (a ** (F.where(b == 0, 1.0, b) - 1.0) * b)


def _power_exponent(F: Any, g: Any, y: Any, a: Any, b: Any) -> Any:
    # 0^b has derivative 0 for b > 0, where 0 * log 0 would give NaN
    if isinstance(a, int | float):
        return g * y * (math.log(a) if a > 0 else 0.0 if a == 0 else math.nan)
    if a.dtype.kind in "biu":  # in float64, since in float16 some of them are infinite
        a = F.where(F.equal(a, 0), 1.0, F.astype(a, dtype=DOUBLE))
        return g * y * F.astype(F.log(a), dtype=g.dtype)
    return g * y * F.log(F.where(F.equal(a, 0), 1.0, a))


power = primitive(
    "power",
    forward=lambda xp, a, b, /, *, out=None: xp.power(a, b, out=out),
    vjps=[_power_base, _power_exponent],
    saves="yab",
    elementwise=True,
    samples=Samples("broadcast", (POSITIVE, REAL)),
    doc="a ** b, elementwise.",
)

square = primitive(
    "square",
    forward=lambda xp, x, /, *, out=None: xp.square(x, out=out),
    vjps=[lambda F, g, y, x: g * (x * 2.0)],
    saves="x",
    elementwise=True,
    samples=Samples("any", (REAL,)),
    doc="x ** 2, elementwise.",
)

sqrt = primitive(
    "sqrt",
    forward=lambda xp, x, /, *, out=None: xp.sqrt(x, out=out),
    vjps=[lambda F, g, y, x: g / (y * 2.0)],
    saves="y",
    elementwise=True,
    samples=Samples("any", (POSITIVE,)),
    doc="Square root, elementwise; its derivative at 0 is inf.",
)

# Exponentials

exp = primitive(
    "exp",
    forward=lambda xp, x, /, *, out=None: xp.exp(x, out=out),
    vjps=[lambda F, g, y, x: g * y],
    saves="y",
    elementwise=True,
    samples=Samples("any", (REAL,)),
    doc="e ** x, elementwise.",
)

expm1 = primitive(
    "expm1",
    forward=lambda xp, x, /, *, out=None: xp.expm1(x, out=out),
    vjps=[lambda F, g, y, x: g * F.exp(x)],  # not y + 1, of which no digit is left for x << 0
    saves="x",
    elementwise=True,
    samples=Samples("any", (REAL,)),
    doc="e ** x - 1, elementwise, accurate near 0.",
)

log = primitive(
    "log",
    forward=lambda xp, x, /, *, out=None: xp.log(x, out=out),
    vjps=[lambda F, g, y, x: g / x],
    saves="x",
    elementwise=True,
    samples=Samples("any", (POSITIVE,)),
    doc="Natural logarithm, elementwise.",
)

log1p = primitive(
    "log1p",
    forward=lambda xp, x, /, *, out=None: xp.log1p(x, out=out),
    vjps=[lambda F, g, y, x: g / (x + 1.0)],
    saves="x",
    elementwise=True,
    samples=Samples("any", (Domain(-0.9, 4.0),)),
    doc="log(1 + x), elementwise, accurate near 0.",
)

# Activations

tanh = primitive(
    "tanh",
    forward=lambda xp, x, /, *, out=None: xp.tanh(x, out=out),
    vjps=[lambda F, g, y, x: g * (1.0 - y * y)],
    saves="y",
    elementwise=True,
    samples=Samples("any", (REAL,)),
    doc="Hyperbolic tangent, elementwise.",
)


def _sigmoid(xp: Any, x: Any, /, *, out: Any = None) -> Any:
    if hasattr(x, "dtype") and x.dtype.kind in "biu":  # -x may be none of their numbers
        x = x.astype("float64")
    # full relative accuracy also for x << 0; where exp(-x) is inf the quotient is 0, as it should be
    below = -x
    own = below if getattr(below, "ndim", 0) else None  # an array of this function's own, written over again and again
    with np.errstate(over="ignore"):
        below = xp.exp(below, out=own)
    below = xp.add(1.0, below, out=own)
    return xp.divide(1.0, below, out=own if out is None else out)


sigmoid = primitive(
    "sigmoid",
    forward=_sigmoid,
    vjps=[lambda F, g, y, x: g * (y * (1.0 - y))],
    saves="y",
    elementwise=True,
    samples=Samples("any", (REAL,)),
    doc="1 / (1 + e ** -x), elementwise, without overflow.",
)


def _softplus(xp: Any, x: Any, /, *, out: Any = None) -> Any:
    if hasattr(x, "dtype") and x.dtype.kind in "biu":
        x = x.astype("float64")
    return xp.add(xp.maximum(x, 0.0), xp.log1p(xp.exp(-xp.abs(x))), out=out)


softplus = primitive(
    "softplus",
    forward=_softplus,
    vjps=[lambda F, g, y, x: g * F.sigmoid(x)],
    saves="x",
    elementwise=True,
    samples=Samples("any", (REAL,), analytic=False),
    doc="log(1 + e ** x), elementwise, without overflow.",
)

relu = primitive(
    "relu",
    forward=lambda xp, x, /, *, out=None: xp.maximum(x, 0.0, out=out),
    vjps=[lambda F, g, y, x: g * F.not_equal(y, 0)],  # y is positive, 0 or NaN
    saves="y",
    elementwise=True,
    samples=Samples("any", (NONZERO,), analytic=False),
    doc="max(x, 0), elementwise; its derivative at 0 is 0.",
)

# Kinks and choices

abs = primitive(
    "abs",
    forward=lambda xp, x, /, *, out=None: xp.abs(x, out=out),
    vjps=[lambda F, g, y, x: g * F.sign(x)],
    saves="x",
    elementwise=True,
    samples=Samples("any", (NONZERO,), analytic=False),
    doc="|x|, elementwise; its derivative at 0 is 0.",
)

sign = primitive(
    "sign",
    forward=lambda xp, x, /, *, out=None: xp.sign(x, out=out),
    vjps=[lambda F, g, y, x: F.zeros_like(g)],
    elementwise=True,
    samples=Samples("any", (NONZERO,), analytic=False),
    doc="-1, 0 or 1, elementwise; its derivative is 0.",
)


def _unless_loses(F: Any, g: Any, loses: Any, ties: Any) -> Any:
    # NaN neither loses nor ties: the gradient goes through, rather than silently becoming 0
    return F.where(loses, 0.0, F.where(ties, g * 0.5, g))


maximum = primitive(
    "maximum",
    forward=lambda xp, a, b, /, *, out=None: xp.maximum(a, b, out=out),
    vjps=[
        lambda F, g, y, a, b: _unless_loses(F, g, F.less(a, b), F.equal(a, b)),
        lambda F, g, y, a, b: _unless_loses(F, g, F.greater(a, b), F.equal(a, b)),
    ],
    saves="ab",
    elementwise=True,
    samples=Samples("broadcast", (REAL, REAL), ties=True, analytic=False),
    doc="The larger of a and b, elementwise; ties split the gradient in half.",
)

minimum = primitive(
    "minimum",
    forward=lambda xp, a, b, /, *, out=None: xp.minimum(a, b, out=out),
    vjps=[
        lambda F, g, y, a, b: _unless_loses(F, g, F.greater(a, b), F.equal(a, b)),
        lambda F, g, y, a, b: _unless_loses(F, g, F.less(a, b), F.equal(a, b)),
    ],
    saves="ab",
    elementwise=True,
    samples=Samples("broadcast", (REAL, REAL), ties=True, analytic=False),
    doc="The smaller of a and b, elementwise; ties split the gradient in half.",
)


def _where(xp: Any, c: Any, a: Any, b: Any, /, *, out: Any = None) -> Any:
    for number, other in ((a, b), (b, a)):
        if type(number) is int and hasattr(other, "dtype") and other.dtype.kind in "iu":
            np.array(number, other.dtype)  # an error where it does not fit: `where` takes what is left of its bits
    result = xp.where(c, a, b)
    if out is None:
        return result
    out[...] = result
    return out


where = primitive(
    "where",
    forward=_where,
    vjps=[None, lambda F, g, y, c, a, b: F.where(c, g, 0.0), lambda F, g, y, c, a, b: F.where(c, 0.0, g)],
    saves="c",
    elementwise=True,
    samples=Samples("broadcast", (ANY_BOOL, REAL, REAL), analytic=False),
    doc="a where c, else b, elementwise. Both are computed: keep the one not chosen finite, or its gradient is NaN.",
)


def _inside(F: Any, x: Any, low: float | None, high: float | None) -> Any:
    if low is None:
        return F.less_equal(x, high)
    return F.greater_equal(x, low) if high is None else F.logical_and(F.greater_equal(x, low), F.less_equal(x, high))


def _clip(xp: Any, x: Any, /, *, low: float | None = None, high: float | None = None, out: Any = None) -> Any:
    if low is None and high is None:
        raise TypeError("clip takes low, high or both, got neither")
    return xp.clip(x, low, high, out=out)


clip = primitive(
    "clip",
    forward=_clip,
    vjps=[lambda F, g, y, x, low, high: g * _inside(F, x, low, high)],
    saves="x",
    elementwise=True,
    samples=Samples("clip", (Domain(-3.0, 3.0, avoid=(-1.0, 1.0)),), analytic=False),
    doc="x limited to [low, high] (numbers, or None for no bound); its derivative at a bound is 1.",
)

# Comparisons and logic: no gradient

_COMPARED = Samples("broadcast", (REAL, REAL), analytic=False)

equal = primitive(
    "equal",
    forward=lambda xp, a, b, /, *, out=None: xp.equal(a, b, out=out),
    vjps=None,
    elementwise=True,
    keeps_dtype=False,
    samples=_COMPARED,
    doc="a == b, elementwise.",
)

not_equal = primitive(
    "not_equal",
    forward=lambda xp, a, b, /, *, out=None: xp.not_equal(a, b, out=out),
    vjps=None,
    elementwise=True,
    keeps_dtype=False,
    samples=_COMPARED,
    doc="a != b, elementwise.",
)

less = primitive(
    "less",
    forward=lambda xp, a, b, /, *, out=None: xp.less(a, b, out=out),
    vjps=None,
    elementwise=True,
    keeps_dtype=False,
    samples=_COMPARED,
    doc="a < b, elementwise.",
)

less_equal = primitive(
    "less_equal",
    forward=lambda xp, a, b, /, *, out=None: xp.less_equal(a, b, out=out),
    vjps=None,
    elementwise=True,
    keeps_dtype=False,
    samples=_COMPARED,
    doc="a <= b, elementwise.",
)

greater = primitive(
    "greater",
    forward=lambda xp, a, b, /, *, out=None: xp.greater(a, b, out=out),
    vjps=None,
    elementwise=True,
    keeps_dtype=False,
    samples=_COMPARED,
    doc="a > b, elementwise.",
)

greater_equal = primitive(
    "greater_equal",
    forward=lambda xp, a, b, /, *, out=None: xp.greater_equal(a, b, out=out),
    vjps=None,
    elementwise=True,
    keeps_dtype=False,
    samples=_COMPARED,
    doc="a >= b, elementwise.",
)

logical_and = primitive(
    "logical_and",
    forward=lambda xp, a, b, /, *, out=None: xp.logical_and(a, b, out=out),
    vjps=None,
    elementwise=True,
    keeps_dtype=False,
    samples=Samples("broadcast", (ANY_BOOL, ANY_BOOL), analytic=False),
    doc="a and b, elementwise.",
)

logical_not = primitive(
    "logical_not",
    forward=lambda xp, x, /, *, out=None: xp.logical_not(x, out=out),
    vjps=None,
    elementwise=True,
    keeps_dtype=False,
    samples=Samples("any", (ANY_BOOL,), analytic=False),
    doc="not x, elementwise.",
)

isfinite = primitive(
    "isfinite",
    forward=lambda xp, x, /, *, out=None: xp.isfinite(x, out=out),
    vjps=None,
    elementwise=True,
    keeps_dtype=False,
    samples=Samples("any", (REAL,), analytic=False),
    doc="Whether x is neither infinite nor NaN, elementwise.",
)

# Copies in another form


def _astype(xp: Any, x: Any, /, *, dtype: Any) -> Any:
    return x.astype(number_dtype(dtype))


astype = primitive(
    "astype",
    forward=_astype,
    vjps=[lambda F, g, y, x, dtype: g],  # the engine casts it back
    keeps_dtype=False,
    samples=Samples("astype", (REAL,), analytic=False),
    doc="A copy of x with another dtype.",
)

zeros_like = primitive(
    "zeros_like",
    forward=lambda xp, x, /: xp.zeros(x.shape, x.dtype),
    vjps=None,
    samples=Samples("any", (REAL,)),
    doc="Zeros of the shape and dtype of x.",
)
