"""Primitives that move values without changing them: shapes, axes, joining, writing to memory."""

from __future__ import annotations

from typing import Any

from ..devices import memory
from .domains import REAL
from .registry import Samples, primitive

reshape = primitive(
    "reshape",
    forward=lambda xp, x, /, *, shape: xp.reshape(x, shape),
    vjps=[lambda F, g, y, x, shape: F.reshape(g, shape=x.shape)],
    view=True,
    samples=Samples("reshape", (REAL,)),
    doc="x with another shape of the same size; one length may be -1.",
)


def _inverse(axes: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if axes is None:  # reversed
        return None
    order = [a % len(axes) for a in axes]
    return tuple(order.index(i) for i in range(len(axes)))


permute_dims = primitive(
    "permute_dims",
    forward=lambda xp, x, /, *, axes: xp.transpose(x, axes),
    vjps=[lambda F, g, y, x, axes: F.permute_dims(g, axes=_inverse(axes))],
    view=True,
    samples=Samples("permute_dims", (REAL,)),
    doc="x with its axes in the order `axes` (None: reversed).",
)

matrix_transpose = primitive(
    "matrix_transpose",
    forward=lambda xp, x, /: xp.swapaxes(x, -1, -2),
    vjps=[lambda F, g, y, x: F.matrix_transpose(g)],
    view=True,
    samples=Samples("matrices", (REAL,)),
    doc="x with its last two axes exchanged.",
)

broadcast_to = primitive(
    "broadcast_to",
    forward=lambda xp, x, /, *, shape: xp.broadcast_to(x, shape),
    vjps=[lambda F, g, y, x, shape: g],  # the engine sums it back to the shape of x
    view=True,
    samples=Samples("broadcast_to", (REAL,)),
    doc="x stretched to `shape` by the rules of broadcasting.",
)

expand_dims = primitive(
    "expand_dims",
    forward=lambda xp, x, /, *, axis: xp.expand_dims(x, axis),
    vjps=[lambda F, g, y, x, axis: F.reshape(g, shape=x.shape)],
    view=True,
    samples=Samples("expand_dims", (REAL,)),
    doc="x with new axes of length 1 at the positions `axis` of the result.",
)

squeeze = primitive(
    "squeeze",
    forward=lambda xp, x, /, *, axis=None: xp.squeeze(x, axis=axis),
    vjps=[lambda F, g, y, x, axis: F.reshape(g, shape=x.shape)],
    view=True,
    samples=Samples("squeeze", (REAL,)),
    doc="x without the axes of length 1 (all of them, or those in `axis`).",
)


def _concat_rule(position: int, F: Any, g: Any, y: Any, *xs: Any, axis: int | None) -> Any:
    if axis is None:
        start = sum(x.size for x in xs[:position])
        own = F.getitem(g, index=(slice(start, start + xs[position].size),))
        return F.reshape(own, shape=xs[position].shape)
    axis %= g.ndim
    start = sum(x.shape[axis] for x in xs[:position])
    return F.getitem(g, index=(slice(None),) * axis + (slice(start, start + xs[position].shape[axis]),))


concat = primitive(
    "concat",
    forward=lambda xp, *x, axis=0: xp.concatenate(x, axis=axis),
    vjps=_concat_rule,
    samples=Samples("concat", (REAL,)),
    doc="The arrays of a sequence joined along an existing axis (None: as flat arrays).",
)


def _stack_rule(position: int, F: Any, g: Any, y: Any, *xs: Any, axis: int) -> Any:
    return F.getitem(g, index=(slice(None),) * (axis % g.ndim) + (position,))


stack = primitive(
    "stack",
    forward=lambda xp, *x, axis=0: xp.stack(x, axis=axis),
    vjps=_stack_rule,
    samples=Samples("stack", (REAL,)),
    doc="The arrays of a sequence joined along a new axis.",
)

stop_gradient = primitive(
    "stop_gradient",
    forward=lambda xp, x, /: x[...],
    vjps=None,
    view=True,
    samples=Samples("any", (REAL,)),
    doc="x, through which no gradient flows: what `detach` is in a recorded program.",
)


def _assign(xp: Any, x: Any, v: Any, /) -> Any:
    if v is not x and v.__class__ is x.__class__ and memory(v) is memory(x):
        v = v.copy()  # NumPy sees to it by itself; CuPy would overwrite elements before it has read them
    x[...] = v
    return x


assign = primitive(
    "assign",
    forward=_assign,
    vjps=None,
    effect=True,
    samples=Samples("broadcast", (REAL, REAL)),
    doc="Write v into the memory of x, and return x: see `Tensor.assign`, which checks and calls it.",
)
