"""Primitives along an axis: running sums, positions of extremes, the order of values, any and all.

Sorting itself is a composition: the order is an integer array without gradient, and indexing with it has one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..determinism import is_deterministic
from .domains import ANY_BOOL, REAL
from .registry import Samples, primitive


def _reversed(F: Any, x: Any, axis: int) -> Any:
    return F.getitem(x, index=(slice(None),) * (axis % x.ndim) + (slice(None, None, -1),))


def _cumsum_rule(F: Any, g: Any, y: Any, x: Any, axis: int | None) -> Any:
    # x_i is part of every sum from i on: the running sum from the other end
    along = 0 if axis is None else axis
    total = _reversed(F, F.cumsum(_reversed(F, g, along), axis=along), along)
    return F.reshape(total, shape=x.shape) if axis is None else total


def _cumsum(xp: Any, x: Any, /, *, axis: int | None = None) -> Any:
    if xp is np or x.dtype.kind not in "fc" or not is_deterministic():
        return xp.cumsum(x, axis=axis)
    # in a fixed order: after the step of width d every value is the sum of the up to 2 d values that end with it
    total = xp.moveaxis(x.reshape(-1) if axis is None else x, -1 if axis is None else axis, 0)
    width = 1
    while width < total.shape[0]:
        total = xp.concatenate([total[:width], total[width:] + total[:-width]])
        width *= 2
    return xp.array(xp.moveaxis(total, 0, -1 if axis is None else axis))


cumsum = primitive(
    "cumsum",
    forward=_cumsum,
    vjps=[_cumsum_rule],
    samples=Samples("cumulative", (REAL,)),
    doc="Running sum along axis (None: of the flattened array).",
)

argmax = primitive(
    "argmax",
    forward=lambda xp, x, /, *, axis=None, keepdims=False: xp.argmax(x, axis=axis, keepdims=keepdims),
    vjps=None,
    keeps_dtype=False,
    samples=Samples("argreduce", (REAL,), analytic=False),
    doc="The position of the (first) largest value over axis, an int or None for the flattened array.",
)

argmin = primitive(
    "argmin",
    forward=lambda xp, x, /, *, axis=None, keepdims=False: xp.argmin(x, axis=axis, keepdims=keepdims),
    vjps=None,
    keeps_dtype=False,
    samples=Samples("argreduce", (REAL,), analytic=False),
    doc="The position of the (first) smallest value over axis, an int or None for the flattened array.",
)


def _argsort(xp: Any, x: Any, /, *, axis: int | None = -1, descending: bool = False) -> Any:
    if not descending:
        return xp.argsort(x, axis=axis, kind="stable")
    if axis is None or not x.ndim:
        x, axis = x.reshape(-1), 0
    # equal values keep their order: sort from the other end, and count positions from there
    return x.shape[axis] - 1 - xp.flip(xp.argsort(xp.flip(x, axis), axis=axis, kind="stable"), axis)


argsort = primitive(
    "argsort",
    forward=_argsort,
    vjps=None,
    keeps_dtype=False,
    samples=Samples("argsort", (REAL,), analytic=False),
    doc="The positions that sort x along axis (None: flat); equal values keep their order; NaN counts as the largest.",
)

any = primitive(
    "any",
    forward=lambda xp, x, /, *, axis=None, keepdims=False, out=None: xp.any(x, axis=axis, keepdims=keepdims, out=out),
    vjps=None,
    keeps_dtype=False,
    samples=Samples("reduce", (ANY_BOOL,), analytic=False),
    doc="Whether any value over axis is true (not 0).",
)

all = primitive(
    "all",
    forward=lambda xp, x, /, *, axis=None, keepdims=False, out=None: xp.all(x, axis=axis, keepdims=keepdims, out=out),
    vjps=None,
    keeps_dtype=False,
    samples=Samples("reduce", (ANY_BOOL,), analytic=False),
    doc="Whether all values over axis are true (not 0).",
)
