"""Further elementwise primitives: other bases, rounding, the error function, tests for NaN and infinity."""

from __future__ import annotations

import math
from typing import Any

from .domains import ANY_BOOL, POSITIVE, REAL
from .registry import Domain, Samples, primitive

LN2, LN10 = math.log(2.0), math.log(10.0)

# Other bases

log2 = primitive(
    "log2",
    forward=lambda xp, x, /, *, out=None: xp.log2(x, out=out),
    vjps=[lambda F, g, y, x: g / (x * LN2)],
    saves="x",
    elementwise=True,
    samples=Samples("any", (POSITIVE,)),
    doc="Logarithm to base 2, elementwise.",
)

log10 = primitive(
    "log10",
    forward=lambda xp, x, /, *, out=None: xp.log10(x, out=out),
    vjps=[lambda F, g, y, x: g / (x * LN10)],
    saves="x",
    elementwise=True,
    samples=Samples("any", (POSITIVE,)),
    doc="Logarithm to base 10, elementwise.",
)

exp2 = primitive(
    "exp2",
    forward=lambda xp, x, /, *, out=None: xp.exp2(x, out=out),
    vjps=[lambda F, g, y, x: g * (y * LN2)],
    saves="y",
    elementwise=True,
    samples=Samples("any", (REAL,)),
    doc="2 ** x, elementwise.",
)


def _logaddexp_share(F: Any, y: Any, a: Any, b: Any) -> Any:
    """e^a / (e^a + e^b); two equal infinities share evenly."""
    zeros = F.zeros_like(y)
    a, b = a + zeros, b + zeros  # a number among the inputs becomes an array of the right dtype
    undefined = F.logical_and(F.equal(a, b), F.logical_not(F.isfinite(a)))  # inf - inf
    return F.sigmoid(F.where(undefined, 0.0, a) - F.where(undefined, 0.0, b))


logaddexp = primitive(
    "logaddexp",
    forward=lambda xp, a, b, /, *, out=None: xp.logaddexp(a, b, out=out),
    vjps=[
        lambda F, g, y, a, b: g * _logaddexp_share(F, y, a, b),
        lambda F, g, y, a, b: g * _logaddexp_share(F, y, b, a),
    ],
    saves="yab",
    elementwise=True,
    samples=Samples("broadcast", (REAL, REAL), analytic=False),
    doc="log(e ** a + e ** b), elementwise, without overflow; equal infinities split the gradient in half.",
)

# Rounding: steps, with derivative 0 between them and (by convention) on them

_BETWEEN_STEPS = Domain(-2.4, 2.4, avoid=(-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0))

floor = primitive(
    "floor",
    forward=lambda xp, x, /, *, out=None: xp.floor(x, out=out),
    vjps=[lambda F, g, y, x: F.zeros_like(g)],
    elementwise=True,
    samples=Samples("any", (_BETWEEN_STEPS,), analytic=False),
    doc="The largest integer <= x, elementwise; its derivative is 0.",
)

ceil = primitive(
    "ceil",
    forward=lambda xp, x, /, *, out=None: xp.ceil(x, out=out),
    vjps=[lambda F, g, y, x: F.zeros_like(g)],
    elementwise=True,
    samples=Samples("any", (_BETWEEN_STEPS,), analytic=False),
    doc="The smallest integer >= x, elementwise; its derivative is 0.",
)

round = primitive(
    "round",
    forward=lambda xp, x, /, *, decimals=0, out=None: xp.round(x, decimals, out=out),
    vjps=[lambda F, g, y, x, decimals: F.zeros_like(g)],
    elementwise=True,
    samples=Samples("round", (_BETWEEN_STEPS,), analytic=False),
    doc="x rounded to `decimals` places, halves to even, elementwise; its derivative is 0.",
)

# The error function: rational approximations of W. J. Cody, "Rational Chebyshev approximations for the error
# function", Math. Comp. 23 (1969). Coefficients from the highest power down.

_NEAR = 0.46875  # below: erf(x) = x P(x^2) / Q(x^2); above: erf(x) = 1 - e^(-x^2) P(x) / Q(x)
_FAR = 6.0  # 1 - erf(6) = 2e-17
_NEAR_P = (
    1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3,
)  # fmt: skip
_NEAR_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_TAIL_P = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1, 2.98635138197400131e2,
    8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3,
)  # fmt: skip
_TAIL_Q = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
    3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
)  # fmt: skip


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    value = x * coefficients[0] + coefficients[1]
    for c in coefficients[2:]:
        value = value * x + c
    return value


def _erf(xp: Any, x: Any, /, *, out: Any = None) -> Any:
    if x.dtype.kind not in "fc" or x.dtype.itemsize < 4:  # the coefficients overflow float16
        x = x.astype("float64" if x.dtype.kind != "f" else "float32")
    # branches look at the real part alone, so that complex-step derivatives pass through the polynomials
    sign = xp.where(x.real < 0, -1.0, 1.0).astype(x.dtype)
    size = x * sign
    size = xp.where(size.real > _FAR, _FAR, size).astype(x.dtype, copy=False)
    squared = size * size
    tail = 1.0 - xp.exp(-squared) * _polynomial(_TAIL_P, size) / _polynomial(_TAIL_Q, size)
    near = size * _polynomial(_NEAR_P, squared) / _polynomial(_NEAR_Q, squared)
    return xp.multiply(sign, xp.where(size.real <= _NEAR, near, tail), out=out)


erf = primitive(
    "erf",
    forward=_erf,
    vjps=[lambda F, g, y, x: g * (F.exp(-(x * x)) * (2.0 / math.sqrt(math.pi)))],
    saves="x",
    elementwise=True,
    samples=Samples("any", (REAL,)),
    doc="The error function 2 / sqrt(pi) * (integral of e ** -t ** 2 from 0 to x), elementwise.",
)

# Tests: no gradient

isnan = primitive(
    "isnan",
    forward=lambda xp, x, /, *, out=None: xp.isnan(x, out=out),
    vjps=None,
    elementwise=True,
    keeps_dtype=False,
    samples=Samples("any", (REAL,), analytic=False),
    doc="Whether x is NaN, elementwise.",
)

isinf = primitive(
    "isinf",
    forward=lambda xp, x, /, *, out=None: xp.isinf(x, out=out),
    vjps=None,
    elementwise=True,
    keeps_dtype=False,
    samples=Samples("any", (REAL,), analytic=False),
    doc="Whether x is inf or -inf, elementwise.",
)

logical_or = primitive(
    "logical_or",
    forward=lambda xp, a, b, /, *, out=None: xp.logical_or(a, b, out=out),
    vjps=None,
    elementwise=True,
    keeps_dtype=False,
    samples=Samples("broadcast", (ANY_BOOL, ANY_BOOL), analytic=False),
    doc="a or b, elementwise.",
)
