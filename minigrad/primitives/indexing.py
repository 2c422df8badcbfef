"""Indexing: `getitem` and its transpose `scatter_add`, and `index_set` for `x.at[i].set(v)`.

`index` is the static part (slices, integers, None, Ellipsis) in which `ARRAY` marks where an index array stands;
the index arrays are inputs, so that a recorded program can be given others.
"""

from __future__ import annotations

from typing import Any

from .registry import Domain, Samples, primitive

REAL = Domain(-3.0, 3.0)


class _ArrayMark:
    def __repr__(self) -> str:
        return "ARRAY"


ARRAY = _ArrayMark()


def _index(index: tuple, arrays: tuple) -> tuple:
    remaining = iter(arrays)
    return tuple(next(remaining) if part is ARRAY else part for part in index)


def _scatter_add(xp: Any, v: Any, /, *i: Any, shape: tuple[int, ...], index: tuple) -> Any:
    result = xp.zeros(shape, v.dtype)
    if i:
        xp.add.at(result, _index(index, i), v)  # repeated indices accumulate
    else:
        result[index] = v
    return result


def _index_set(xp: Any, x: Any, v: Any, /, *i: Any, index: tuple) -> Any:
    result = xp.array(x)
    result[_index(index, i)] = v
    return result


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
    doc="A copy of x with x[index] = v. Where an index repeats, which of its values stays is not defined.",
)
