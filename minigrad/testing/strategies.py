"""hypothesis strategies: arrays in every memory layout, shapes that fit each other, inputs of primitives.

hypothesis draws shapes and layouts, and can shrink them; values come from a seed, as drawing them singly is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import MinigradError, MissingDependencyError
from ..primitives.indexing import ARRAY
from ..primitives.registry import Domain, Primitive

try:
    import hypothesis.strategies as st
except ImportError as error:
    raise MissingDependencyError(
        "minigrad.testing.strategies needs hypothesis, which is not installed: pip install hypothesis"
    ) from error

from . import families
from .expressions import Expression as Expression
from .expressions import expressions as expressions

Shape = tuple[int, ...]

REAL = Domain(-3.0, 3.0)
LAYOUTS = ("C", "F", "negative", "broadcast")
KINK_MARGIN = 0.05  # differences step less far than this


def shapes(min_ndim: int = 0, max_ndim: int = 3, min_side: int = 0, max_side: int = 3) -> st.SearchStrategy[Shape]:
    """Draw shapes, 0-d and empty ones included.

    Examples
    --------
    >>> from hypothesis import given
    >>> from minigrad.testing import strategies
    >>> @given(strategies.shapes(max_ndim=2))
    ... def test(shape):
    ...     assert len(shape) <= 2
    >>> test()
    """
    return st.lists(st.integers(min_side, max_side), min_size=min_ndim, max_size=max_ndim).map(tuple)


def in_layout(array: np.ndarray, layout: str, axis: int = 0) -> np.ndarray:
    """Return an array of this shape and memory layout: "C", "F", "negative" strides, or "broadcast" along `axis`.

    The values stay the same, but for "broadcast", which repeats the first along `axis` with stride 0.
    """
    if not array.ndim:
        return array
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "negative":
        return np.flip(np.flip(array).copy())
    if layout == "broadcast" and array.shape[axis]:
        return np.broadcast_to(array.take([0], axis), array.shape)
    return array


@st.composite
def arrays(
    draw: st.DrawFn,
    shape: Shape | st.SearchStrategy[Shape],
    dtype: Any = np.float64,
    domain: Domain = REAL,
    layouts: Sequence[str] = LAYOUTS,
) -> np.ndarray:
    """Draw arrays with values in `domain`, away from its kinks, in one of `layouts`.

    Parameters
    ----------
    shape : tuple of int, or a strategy of them
    dtype : optional
        Of real values; a domain of kind "bool" or "int" gives bools or int64.
    layouts : sequence of str, see `in_layout`

    Examples
    --------
    >>> from hypothesis import given
    >>> from minigrad.testing import strategies
    >>> @given(strategies.arrays((2, 3), "float32"))
    ... def test(x):
    ...     assert x.shape == (2, 3) and x.dtype == "float32" and abs(x).max() <= 3
    >>> test()
    """
    size = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return _laid_out(draw, _values(rng, size, dtype, domain), layouts)


def _laid_out(draw: st.DrawFn, array: np.ndarray, layouts: Sequence[str]) -> np.ndarray:
    axis = draw(st.integers(0, array.ndim - 1)) if array.ndim > 1 else 0
    return in_layout(array, draw(st.sampled_from(layouts)), axis)


def _values(rng: np.random.Generator, shape: Shape, dtype: Any, domain: Domain) -> np.ndarray:
    if domain.kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if domain.kind == "int":
        return rng.integers(int(domain.low), int(domain.high), shape, endpoint=True)
    x = np.asarray(rng.uniform(domain.low, domain.high, shape))
    for kink in domain.avoid:
        side = np.where(x < kink, -1.0, 1.0)
        x = np.where(np.abs(x - kink) < KINK_MARGIN, kink + 2 * KINK_MARGIN * side, x)
    return x.astype(dtype)


@st.composite
def broadcastable(draw: st.DrawFn, count: int, max_ndim: int = 3, max_side: int = 3) -> list[Shape]:
    """Draw `count` shapes that broadcast with each other.

    Examples
    --------
    >>> import numpy as np
    >>> from hypothesis import given
    >>> from minigrad.testing import strategies
    >>> @given(strategies.broadcastable(3))
    ... def test(group):
    ...     np.broadcast_shapes(*group)
    >>> test()
    """
    whole = draw(shapes(max_ndim=max_ndim, max_side=max_side))
    return [draw(_broadcasts_to(whole)) for _ in range(count)]


@st.composite
def _broadcasts_to(draw: st.DrawFn, shape: Shape) -> Shape:
    start = draw(st.integers(0, len(shape)))
    return tuple(draw(st.sampled_from((n, 1))) for n in shape[start:])


@st.composite
def matmul_shapes(draw: st.DrawFn) -> tuple[Shape, Shape]:
    """Draw the shapes of two operands of `@`: vectors, matrices, stacks that broadcast, empty ones.

    Examples
    --------
    >>> import numpy as np
    >>> from hypothesis import given
    >>> from minigrad.testing import strategies
    >>> @given(strategies.matmul_shapes())
    ... def test(pair):
    ...     np.zeros(pair[0]) @ np.zeros(pair[1])
    >>> test()
    """
    side = st.integers(0, 3)
    inner = draw(side)
    left, right = draw(broadcastable(2, max_ndim=2, max_side=2))
    a = (inner,) if draw(st.booleans()) and not left else (*left, draw(side), inner)
    b = (inner,) if draw(st.booleans()) and not right else (*right, inner, draw(side))
    return a, b


@st.composite
def axes(draw: st.DrawFn, ndim: int) -> int | Shape | None:
    """Draw an axis argument: None, one axis or a tuple of them (possibly empty), negative ones included.

    Examples
    --------
    >>> import numpy as np
    >>> from hypothesis import given
    >>> from minigrad.testing import strategies
    >>> @given(strategies.axes(2))
    ... def test(axis):
    ...     np.sum(np.ones((2, 3)), axis=axis)
    >>> test()
    """
    chosen = draw(st.lists(st.integers(0, ndim - 1), unique=True)) if ndim else []
    signed = tuple(a - ndim if draw(st.booleans()) else a for a in chosen)
    return draw(st.sampled_from((None, signed, signed[0] if signed else ())))


@st.composite
def reshapes(draw: st.DrawFn, shape: Shape) -> Shape:
    """Draw a shape of the same size as `shape`, sometimes with a -1.

    Examples
    --------
    >>> import numpy as np
    >>> from hypothesis import given
    >>> from minigrad.testing import strategies
    >>> @given(strategies.reshapes((2, 3)))
    ... def test(target):
    ...     assert np.ones((2, 3)).reshape(target).size == 6
    >>> test()
    """
    target = list(draw(st.permutations(list(shape))))
    at = draw(st.integers(0, len(target)))
    change = draw(st.sampled_from(("insert", "join", "keep")))
    if change == "insert":
        target.insert(at, 1)
    elif change == "join" and at >= 2:
        target[at - 2 : at] = [target[at - 2] * target[at - 1]]
    if target and 0 not in target and draw(st.booleans()):
        target[draw(st.integers(0, len(target) - 1))] = -1
    return tuple(target)


@st.composite
def indices(draw: st.DrawFn, shape: Shape, repeats: bool = True) -> tuple[tuple, list[np.ndarray]]:
    """Draw an index of an array of `shape`, as `minigrad.tensor.split_index` gives it: static part, index arrays.

    The static part holds integers, slices, None and Ellipsis, and ARRAY where an index array (int32 or int64, negative
    entries included) stands. With `repeats` false the index selects no element twice.

    Examples
    --------
    >>> from hypothesis import given
    >>> from minigrad.testing import strategies
    >>> @given(strategies.indices((2, 3)))
    ... def test(index):
    ...     static, arrays = index
    ...     assert sum(part is strategies.ARRAY for part in static) == len(arrays)
    >>> test()
    """
    common = draw(shapes(1, 2))
    static: list[Any] = []
    chosen: list[np.ndarray] = []
    for n in shape[: draw(st.integers(0, len(shape)))]:
        kind = draw(st.sampled_from(["slice", "integer", "array"] if n else ["slice"]))
        if kind == "slice":
            static.append(draw(st.slices(n)))
        elif kind == "integer":
            static.append(draw(st.integers(-n, n - 1)))
        elif not repeats and chosen:  # two arrays select pairs, which may repeat
            static.append(slice(None))
        elif not repeats:
            chosen.append(np.array(draw(st.lists(st.integers(0, n - 1), unique=True)), np.int64))
            static.append(ARRAY)
        else:
            rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
            chosen.append(rng.integers(-n, n, draw(_broadcasts_to(common))).astype(draw(st.sampled_from("il"))))
            static.append(ARRAY)
    if draw(st.booleans()):
        static.insert(draw(st.integers(0, len(static))), None)
    if draw(st.booleans()):
        static.append(Ellipsis)
    return tuple(static), chosen


@dataclass
class _Call:
    """One call of a primitive: shapes of the arrays to draw, metadata, and the index arrays that follow.

    `prepare` turns the arrays drawn into valid inputs.
    """

    shapes: Sequence[Shape]
    metadata: dict[str, Any] = field(default_factory=dict)
    indices: Sequence[np.ndarray] = ()
    prepare: families.Prepare | None = None


def _reduce(draw: st.DrawFn, min_side: int = 0) -> _Call:
    shape = draw(shapes(min_side=min_side))
    return _Call([shape], {"axis": draw(axes(len(shape))), "keepdims": draw(st.booleans())})


def _one_axis(draw: st.DrawFn, ndim: int) -> int | None:
    return draw(st.sampled_from((None, *range(-ndim, ndim))))


def _cumulative(draw: st.DrawFn) -> _Call:
    shape = draw(shapes())
    return _Call([shape], {"axis": _one_axis(draw, len(shape))})


def _argreduce(draw: st.DrawFn) -> _Call:
    shape = draw(shapes(min_side=1))
    return _Call([shape], {"axis": _one_axis(draw, len(shape)), "keepdims": draw(st.booleans())})


def _argsort(draw: st.DrawFn) -> _Call:
    shape = draw(shapes(min_ndim=1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    return _Call([shape], {"axis": axis, "descending": draw(st.booleans())})


def _axis_nonempty(draw: st.DrawFn) -> _Call:
    shape = draw(shapes(min_side=1))
    return _Call([shape], {"axis": draw(axes(len(shape)))})


def _reshape(draw: st.DrawFn) -> _Call:
    shape = draw(shapes())
    return _Call([shape], {"shape": draw(reshapes(shape))})


def _permute_dims(draw: st.DrawFn) -> _Call:
    shape = draw(shapes())
    order = draw(st.permutations(range(len(shape))))
    return _Call([shape], {"axes": tuple(a - len(shape) if draw(st.booleans()) else a for a in order)})


def _broadcast_to(draw: st.DrawFn) -> _Call:
    target = draw(shapes())
    return _Call([draw(_broadcasts_to(target))], {"shape": target})


def _sum_to(draw: st.DrawFn) -> _Call:
    source = draw(shapes())
    return _Call([source], {"shape": draw(_broadcasts_to(source))})


def _expand_dims(draw: st.DrawFn) -> _Call:
    shape = draw(shapes())
    ndim = len(shape) + 1
    axis = draw(st.integers(-ndim, ndim - 1))
    return _Call([shape], {"axis": draw(st.sampled_from((axis, (axis,), (0, -1))))})


def _squeeze(draw: st.DrawFn) -> _Call:
    shape = draw(shapes(max_side=2))
    single = tuple(i for i, n in enumerate(shape) if n == 1)
    return _Call([shape], {"axis": draw(st.sampled_from((None, single, single[0] - len(shape) if single else ())))})


def _concat(draw: st.DrawFn) -> _Call:
    shape = draw(shapes(min_ndim=1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    at = axis % len(shape)
    lengths = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    return _Call([(*shape[:at], n, *shape[at + 1 :]) for n in lengths], {"axis": axis})


def _stack(draw: st.DrawFn) -> _Call:
    shape = draw(shapes())
    axis = draw(st.integers(-len(shape) - 1, len(shape)))
    return _Call([shape] * draw(st.integers(1, 3)), {"axis": axis})


def selected(shape: Shape, static: tuple, chosen: Sequence[np.ndarray]) -> np.ndarray:
    """Return the flat positions that an index selects from an array of `shape`."""
    remaining = iter(chosen)
    index = tuple(next(remaining) if part is ARRAY else part for part in static)
    return np.asarray(np.arange(int(np.prod(shape))).reshape(shape)[index])


def _getitem(draw: st.DrawFn) -> _Call:
    shape = draw(shapes())
    static, chosen = draw(indices(shape))
    return _Call([shape], {"index": static}, chosen)


def _scatter_add(draw: st.DrawFn) -> _Call:
    shape = draw(shapes())
    static, chosen = draw(indices(shape))
    return _Call([selected(shape, static, chosen).shape], {"shape": shape, "index": static}, chosen)


def _index_set(draw: st.DrawFn) -> _Call:
    shape = draw(shapes())
    static, chosen = draw(indices(shape, repeats=False))
    value = draw(_broadcasts_to(selected(shape, static, chosen).shape))
    return _Call([shape, value], {"index": static}, chosen)


def _random(draw: st.DrawFn, metadata: dict[str, Any]) -> _Call:
    words = st.integers(0, 2**64 - 1)
    counter = np.asarray(draw(words), np.uint64)
    metadata = {"seed": draw(words), "stream": draw(words), "shape": draw(shapes()), **metadata}
    return _Call([], metadata, [counter])


def _random_float(draw: st.DrawFn) -> _Call:
    return _random(draw, {"dtype": np.dtype(draw(st.sampled_from(("float16", "float32", "float64"))))})


def _random_integers(draw: st.DrawFn) -> _Call:
    low = draw(st.integers(-(2**40), 2**40))
    return _random(draw, {"low": low, "high": low + draw(st.integers(1, 2**32))})


_BOUNDS: list[dict[str, Any]] = [{"low": -1.0, "high": 1.0}, {"low": -1.0}, {"high": 1.0}]
_FAMILIES: dict[str, Callable[[st.DrawFn], _Call]] = {
    "reduce": _reduce,
    "reduce_nonempty": lambda draw: _reduce(draw, min_side=1),
    "cumulative": _cumulative,
    "argreduce": _argreduce,
    "argsort": _argsort,
    "axis_nonempty": _axis_nonempty,
    "matmul": lambda draw: _Call(draw(matmul_shapes())),
    "matrices": lambda draw: _Call([draw(shapes(min_ndim=2))]),
    "reshape": _reshape,
    "permute_dims": _permute_dims,
    "broadcast_to": _broadcast_to,
    "sum_to": _sum_to,
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "concat": _concat,
    "stack": _stack,
    "getitem": _getitem,
    "scatter_add": _scatter_add,
    "index_set": _index_set,
    "clip": lambda draw: _Call([draw(shapes())], draw(st.sampled_from(_BOUNDS))),
    "random_float": _random_float,
    "random_integers": _random_integers,
    "astype": lambda draw: _Call([draw(shapes())], {"dtype": np.dtype(draw(st.sampled_from(("float32", "float64"))))}),
}


@st.composite
def primitive_inputs(
    draw: st.DrawFn, primitive: Primitive, dtype: Any = np.float64
) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Draw valid inputs of a primitive, as its `samples` describe them: arrays in every layout, and metadata.

    Values keep away from kinks. Inputs of primitives without derivative are often equal.

    Examples
    --------
    >>> import numpy as np
    >>> import minigrad as mg
    >>> from hypothesis import given
    >>> from minigrad.testing import strategies
    >>> @given(strategies.primitive_inputs(mg.primitives["matmul"]))
    ... def test(drawn):
    ...     (a, b), metadata = drawn
    ...     assert (mg.tensor(a) @ mg.tensor(b)).shape == np.matmul(a, b).shape
    >>> test()
    """
    samples = primitive.samples
    if samples.shapes == "broadcast":
        call = _Call(draw(broadcastable(primitive.arity)))
    elif samples.shapes == "any":
        call = _Call([draw(shapes()) for _ in range(primitive.arity)])
    elif samples.shapes in _FAMILIES:
        call = _FAMILIES[samples.shapes](draw)
    elif samples.shapes in families.FAMILIES:
        sizes, metadata, prepare = families.FAMILIES[samples.shapes](draw)
        call = _Call(sizes, metadata, prepare=prepare)
    else:
        raise MinigradError(f"no strategy draws the shape family {samples.shapes!r} of primitive {primitive.name!r}")
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    domains = [samples.domains[min(i, len(samples.domains) - 1)] for i in range(len(call.shapes))]
    values = [_values(rng, shape, dtype, domain) for shape, domain in zip(call.shapes, domains, strict=True)]
    if samples.ties:
        values = _separated(rng, call.shapes, dtype, domains[0])
    elif primitive.vjps is None:
        values = [np.round(x) if x.dtype.kind == "f" else x for x in values]
    if call.prepare is not None:
        values = [x.astype(dtype) for x in call.prepare(values)]
    layouts = LAYOUTS[:-1] if samples.ties or call.prepare else LAYOUTS  # repeated values are ties, or singular
    return [*(_laid_out(draw, x, layouts) for x in values), *call.indices], call.metadata


def _separated(rng: np.random.Generator, sizes: Sequence[Shape], dtype: Any, domain: Domain) -> list[np.ndarray]:
    """Return arrays of which no two values are close to each other."""
    counts = [int(np.prod(shape)) for shape in sizes]
    grid = np.linspace(domain.low, domain.high, sum(counts) + 2)[1:-1]
    parts = np.split(rng.permutation(grid), np.cumsum(counts)[:-1])
    return [part.reshape(shape).astype(dtype) for part, shape in zip(parts, sizes, strict=True)]
