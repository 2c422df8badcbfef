"""Indexing: `getitem` and its transpose `scatter_add`, and `index_set` for `x.at[i].set(v)`.

`index` is the static part (slices, integers, None, Ellipsis) in which `ARRAY` marks where an index array stands;
the index arrays are inputs, so that a recorded program can be given others.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ..determinism import is_deterministic
from .domains import REAL
from .registry import Samples, primitive


class _ArrayMark:
    def __repr__(self) -> str:
        return "ARRAY"


ARRAY = _ArrayMark()


def _index(index: tuple, arrays: tuple) -> tuple:
    remaining = iter(arrays)
    return tuple(next(remaining) if part is ARRAY else part for part in index)


def _scatter_add(xp: Any, v: Any, /, *i: Any, shape: tuple[int, ...], index: tuple) -> Any:
    result = xp.zeros(shape, v.dtype)
    if not i:
        result[index] = v
    elif xp is np or (v.dtype.name in ATOMIC and not is_deterministic()):
        xp.add.at(result, _index(index, i), v)  # repeated indices accumulate
    else:
        _write_in_order(xp, result, _index(index, i), v, add=True)
    return result


ATOMIC = ("float16", "float32", "float64", "int32", "uint32", "uint64")  # what CuPy's add.at can add


def _index_set(xp: Any, x: Any, v: Any, /, *i: Any, index: tuple) -> Any:
    if xp is np:
        result = xp.array(x)
        result[_index(index, i)] = v
        return result
    result = xp.array(x, order="C")
    if getattr(v, "ndim", 0):
        # NumPy drops leading axes of length 1, CuPy only adds them
        v = v.reshape(tuple(itertools.dropwhile(lambda n: n == 1, v.shape)))
    if i and is_deterministic():
        _write_in_order(xp, result, _index(index, i), v, add=False)
    else:
        result[_index(index, i)] = v
    return result


def _write_in_order(xp: Any, result: Any, index: tuple, v: Any, add: bool) -> None:
    """Write v to result[index]; of values with one place the sum in a fixed order (add), or the last, stays.

    Values are sorted by their places, so those of one place are neighbours. All of them are then written, each with
    what its place is to hold: nothing depends on which comes last, and nothing has to be read by the host.
    """
    places = xp.arange(result.size).reshape(result.shape)[index]
    if not places.size:
        return
    values = xp.empty(places.shape, result.dtype)
    values[...] = v
    order = xp.argsort(places.reshape(-1), kind="stable")
    places, v = places.reshape(-1)[order], values.reshape(-1)[order]
    if add:
        # after the step of width d every value is the sum of the up to 2 d values from it on that have its place
        width = 1
        while width < v.size:
            same = places[width:] == places[:-width]
            v = xp.concatenate([v[:-width] + xp.where(same, v[width:], v.dtype.type(0)), v[-width:]])
            width *= 2
        chosen = xp.searchsorted(places, places, side="left")
    else:
        chosen = xp.searchsorted(places, places, side="right") - 1
    flat = result.reshape(-1)  # a view: result is new, and in C order
    flat[places] = v[chosen]


def _getitem_rule(position: int, F: Any, g: Any, y: Any, x: Any, *i: Any, index: tuple) -> Any:
    return F.scatter_add(g, *i, shape=x.shape, index=index) if position == 0 else None


def _scatter_add_rule(position: int, F: Any, g: Any, y: Any, v: Any, *i: Any, shape: tuple, index: tuple) -> Any:
    return F.getitem(g, *i, index=index) if position == 0 else None


def _index_set_rule(position: int, F: Any, g: Any, y: Any, x: Any, v: Any, *i: Any, index: tuple) -> Any:
    if position == 0:
        return F.index_set(g, 0.0, *i, index=index)
    picked = F.getitem(g, *i, index=index)
    if v.ndim > picked.ndim:  # v had leading axes of length 1
        return F.reshape(picked, shape=(1,) * (v.ndim - picked.ndim) + picked.shape)
    return picked


getitem = primitive(
    "getitem",
    forward=lambda xp, x, /, *i, index: x[_index(index, i)],
    vjps=_getitem_rule,
    saves="i",
    view=True,
    samples=Samples("getitem", (REAL,)),
    doc="x[index], with NumPy's rules.",
)

scatter_add = primitive(
    "scatter_add",
    forward=_scatter_add,
    vjps=_scatter_add_rule,
    saves="i",
    samples=Samples("scatter_add", (REAL,)),
    doc="Zeros of `shape` with v added at index; repeated indices accumulate. The transpose of getitem.",
)

index_set = primitive(
    "index_set",
    forward=_index_set,
    vjps=_index_set_rule,
    saves="i",
    samples=Samples("index_set", (REAL, REAL)),
    doc="A copy of x with x[index] = v. Where an index repeats, which of its values stays is not defined, and each "
    "gets the gradient of the element.",
)
