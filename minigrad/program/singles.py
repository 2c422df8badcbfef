"""Singles: the calls that compute an equation that stands alone, such as a reduction or a matrix product."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..parallel import Calls, splits
from ..primitives import products
from . import loops
from .operations import call_and_copy, told
from .phases import WORTH_A_WAIT, Share, Stage
from .pieces import part_of
from .program import Equation
from .tiles import PRODUCT_NANOSECONDS

# what NumPy's functions of these names call in the end
_REDUCTIONS = {"sum": np.add.reduce, "max": np.maximum.reduce, "min": np.minimum.reduce}
# for one element, roughly
COPY_NANOSECONDS, SUM_NANOSECONDS = 0.2, 0.4


def stage_of(e: Equation, inputs: list[Any], out: Any, threads: int, native: bool) -> Stage:
    """Return the calls that compute an equation, which is no view and no assignment.

    Parameters
    ----------
    e : Equation
    inputs : list of arrays and numbers
    out : array
        Where the result goes.
    threads : int
        How many may share the work.
    native : bool
        Whether to call what is compiled where there is such a call.
    """
    name, metadata = e.primitive.name, e.metadata
    forward = partial(e.primitive.forward, e.output.device.xp, **metadata)
    if any(v.dtype != e.output.dtype for v in e.variables):
        return _alone(e, call_and_copy, (forward, *inputs, out))
    if name in _REDUCTIONS:
        return _reduction(name, inputs[0], out, metadata.get("axis"), threads, native)
    if name == "mean" and out.dtype.char in "fd" and inputs[0].size < 2**24:
        return _mean(inputs[0], out, metadata.get("axis"), threads, native)
    if name == "sum_to":
        return _reduction("sum", inputs[0], out, _summed(inputs[0], out), threads, native)
    if name == "matmul" and inputs[0].ndim == inputs[1].ndim == 2:
        return _product(inputs[0], inputs[1], out, native)
    if name == "matmul":
        return _alone(e, products.multiply, (*inputs, out))
    if e.primitive.takes_out and (name != "mean" or out.itemsize > 2):
        # (np.mean of float16 adds up in what it writes to)
        return _alone(e, partial(forward, *inputs, out=out), ())
    return _alone(e, call_and_copy, (forward, *inputs, out))


def moving(target: Any, value: Any) -> Stage:
    """Return the assignment to an array of a view of itself: NumPy reads everything before it is written over."""
    return Stage([Share([(np.copyto, (target, value))], [value], [target], target.size * COPY_NANOSECONDS)])


def _product(a: Any, b: Any, out: Any, native: bool) -> Stage:
    """Multiply two matrices, in the parts of eager execution."""
    how = products.cut(a, b)
    outer = loops.elementwise(np.multiply, [a, b], out) if native and how and a.shape[1] == 1 else None
    parts: list[tuple[Calls, list[Any], Any]] = [([(products.multiply, (a, b, out))], [a, b], out)]
    labels = [""]
    if outer is not None:
        parts = [([(outer, ())], [a, b], out)]
    elif how:
        parts = products.shares(how, a, b, out)
        labels = [part_of(cut, "columns" if how.by_columns else "rows") for cut in how.slices]
    cost = prod(a.shape) * b.shape[1] * PRODUCT_NANOSECONDS / len(parts)
    return Stage(
        [Share(calls, reads, [to], cost, label) for (calls, reads, to), label in zip(parts, labels, strict=True)]
    )


def _mean(x: Any, out: Any, axis: Any, threads: int, native: bool) -> Stage:
    """Sum and divide, as np.mean does, with fewer steps in Python."""
    count = np.asarray(x.size // max(out.size, 1), out.dtype)  # exact below 2**24
    division = loops.elementwise(np.divide, [out, count], out) if native else None
    then: Calls = [(division, ())] if division else [(np.divide, (out, count, out))]
    return _reduction("sum", x, out, axis, threads, native, then)


def _summed(x: Any, out: Any) -> tuple[int, ...]:
    """Return over which axes of x `sum_to` goes."""
    extra = x.ndim - out.ndim
    kept = (1,) * extra + out.shape
    axes = tuple(i for i, n in enumerate(kept) if n != x.shape[i])
    return axes + tuple(i for i in range(extra) if i not in axes)


def _reduction(name: str, x: Any, out: Any, axis: Any, threads: int, native: bool, then: Calls | None = None) -> Stage:
    """Reduce along some axes, and make the calls that come then; threads share the columns of a matrix."""
    over_all = axis is None or not x.ndim  # NumPy accepts axis 0 of an array without axes
    axes = tuple(range(x.ndim)) if over_all else normalize_axis_tuple(axis, x.ndim)
    flat = out.reshape([n for i, n in enumerate(x.shape) if i not in axes])  # without axes that are kept with length 1
    pieces = [(x, flat, "")]
    if x.ndim == 2 and axes == (0,) and not then and x.size * SUM_NANOSECONDS > WORTH_A_WAIT:
        cuts = splits(x.shape[1], threads)
        if len(cuts) > 1 and x.shape[1] - cuts[-1].start == 1:  # NumPy sums a single column in another order
            cuts[-2:] = [slice(cuts[-2].start, x.shape[1])]
        pieces = [(x[:, columns], flat[columns], part_of(columns, "columns")) for columns in cuts]
    shares = []
    for part, to, label in pieces:
        calls: Calls | None = None
        if native and name == "sum" and x.dtype == out.dtype:
            calls = loops.total(part, to, axes)
        if calls is None:
            calls = [(_REDUCTIONS[name], (part, axes, None, to, False))]
        shares.append(Share([*calls, *(then or [])], [part], [to], part.size * SUM_NANOSECONDS, label))
    return Stage(shares)


def _alone(e: Equation, function: Callable, arguments: tuple) -> Stage:
    """Let nothing else run beside a call of which nothing is known."""
    return Stage([Share([(told(e, function), arguments)], [], [], 0.0)], alone=True)
