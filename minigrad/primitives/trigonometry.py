"""Trigonometric and hyperbolic primitives with their inverses; angles are in radians."""

from __future__ import annotations

from typing import Any

from .domains import INSIDE_ONE, NONZERO, REAL
from .registry import Domain, Samples, primitive


def _over_square(x: Any, h: Any) -> Any:
    """Return x / h^2, where h^2 itself might overflow or underflow."""
    return (x / h) / h


sin = primitive(
    "sin",
    forward=lambda xp, x, /, *, out=None: xp.sin(x, out=out),
    vjps=[lambda F, g, y, x: g * F.cos(x)],
    saves="x",
    elementwise=True,
    samples=Samples("any", (REAL,)),
    doc="Sine, elementwise.",
)

cos = primitive(
    "cos",
    forward=lambda xp, x, /, *, out=None: xp.cos(x, out=out),
    vjps=[lambda F, g, y, x: -(g * F.sin(x))],
    saves="x",
    elementwise=True,
    samples=Samples("any", (REAL,)),
    doc="Cosine, elementwise.",
)

tan = primitive(
    "tan",
    forward=lambda xp, x, /, *, out=None: xp.tan(x, out=out),
    vjps=[lambda F, g, y, x: g * (y * y + 1.0)],
    saves="y",
    elementwise=True,
    samples=Samples("any", (Domain(-1.2, 1.2),)),
    doc="Tangent, elementwise.",
)

arcsin = primitive(
    "arcsin",
    forward=lambda xp, x, /, *, out=None: xp.arcsin(x, out=out),
    vjps=[lambda F, g, y, x: g / F.sqrt((1.0 - x) * (x + 1.0))],  # 1 - x^2 would cancel near 1
    saves="x",
    elementwise=True,
    samples=Samples("any", (INSIDE_ONE,)),
    doc="Inverse sine in [-pi/2, pi/2], elementwise; its derivative at -1 and 1 is inf.",
)

arccos = primitive(
    "arccos",
    forward=lambda xp, x, /, *, out=None: xp.arccos(x, out=out),
    vjps=[lambda F, g, y, x: -g / F.sqrt((1.0 - x) * (x + 1.0))],
    saves="x",
    elementwise=True,
    samples=Samples("any", (INSIDE_ONE,)),
    doc="Inverse cosine in [0, pi], elementwise; its derivative at -1 and 1 is -inf.",
)

arctan = primitive(
    "arctan",
    forward=lambda xp, x, /, *, out=None: xp.arctan(x, out=out),
    vjps=[lambda F, g, y, x: _over_square(g, F.hypot(x, 1.0))],
    saves="x",
    elementwise=True,
    samples=Samples("any", (REAL,)),
    doc="Inverse tangent in [-pi/2, pi/2], elementwise.",
)

sinh = primitive(
    "sinh",
    forward=lambda xp, x, /, *, out=None: xp.sinh(x, out=out),
    vjps=[lambda F, g, y, x: g * F.cosh(x)],
    saves="x",
    elementwise=True,
    samples=Samples("any", (REAL,)),
    doc="Hyperbolic sine, elementwise.",
)

cosh = primitive(
    "cosh",
    forward=lambda xp, x, /, *, out=None: xp.cosh(x, out=out),
    vjps=[lambda F, g, y, x: g * F.sinh(x)],
    saves="x",
    elementwise=True,
    samples=Samples("any", (REAL,)),
    doc="Hyperbolic cosine, elementwise.",
)

arcsinh = primitive(
    "arcsinh",
    forward=lambda xp, x, /, *, out=None: xp.arcsinh(x, out=out),
    vjps=[lambda F, g, y, x: g / F.hypot(x, 1.0)],
    saves="x",
    elementwise=True,
    samples=Samples("any", (REAL,)),
    doc="Inverse hyperbolic sine, elementwise.",
)

arccosh = primitive(
    "arccosh",
    forward=lambda xp, x, /, *, out=None: xp.arccosh(x, out=out),
    vjps=[lambda F, g, y, x: g / F.sqrt((x - 1.0) * (x + 1.0))],
    saves="x",
    elementwise=True,
    samples=Samples("any", (Domain(1.2, 4.0),)),
    doc="Inverse hyperbolic cosine of x >= 1, elementwise; its derivative at 1 is inf.",
)

arctanh = primitive(
    "arctanh",
    forward=lambda xp, x, /, *, out=None: xp.arctanh(x, out=out),
    vjps=[lambda F, g, y, x: g / ((1.0 - x) * (x + 1.0))],
    saves="x",
    elementwise=True,
    samples=Samples("any", (INSIDE_ONE,)),
    doc="Inverse hyperbolic tangent of -1 < x < 1, elementwise.",
)

# Two arguments: radius and angle of the point (b, a)


def _nonzero(F: Any, x: Any) -> Any:
    """Replace 0 by 1: at the origin, where no derivative exists, the quotients 0 / x are then 0."""
    return F.where(F.equal(x, 0), 1.0, x)


arctan2 = primitive(
    "arctan2",
    forward=lambda xp, a, b, /, *, out=None: xp.arctan2(a, b, out=out),
    vjps=[
        lambda F, g, y, a, b: g * _over_square(b, _nonzero(F, F.hypot(a, b))),
        lambda F, g, y, a, b: -g * _over_square(a, _nonzero(F, F.hypot(a, b))),
    ],
    saves="ab",
    elementwise=True,
    samples=Samples("broadcast", (NONZERO, REAL), analytic=False),  # a = 0, b < 0 is the cut
    doc="The angle of the point (b, a) in [-pi, pi], elementwise; its derivative at the origin is 0.",
)

hypot = primitive(
    "hypot",
    forward=lambda xp, a, b, /, *, out=None: xp.hypot(a, b, out=out),
    vjps=[lambda F, g, y, a, b: g * (a / _nonzero(F, y)), lambda F, g, y, a, b: g * (b / _nonzero(F, y))],
    saves="yab",
    elementwise=True,
    samples=Samples("broadcast", (NONZERO, REAL), analytic=False),
    doc="sqrt(a ** 2 + b ** 2), elementwise, without overflow; its derivative at the origin is 0.",
)
