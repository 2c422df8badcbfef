"""hypothesis strategies: arrays in every memory layout, shapes that fit each other, inputs of primitives.

hypothesis draws shapes and layouts, and can shrink them; values come from a seed, as drawing them singly is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import MinigradError, MissingDependencyError
from ..primitives import primitives
from ..primitives.indexing import ARRAY
from ..primitives.registry import Domain, Primitive

try:
    import hypothesis.strategies as st
except ImportError as error:
    raise MissingDependencyError(
        "minigrad.testing.strategies needs hypothesis, which is not installed: pip install hypothesis"
    ) from error

from . import families
from .arrays import KINK_MARGIN as KINK_MARGIN
from .arrays import LAYOUTS as LAYOUTS
from .arrays import REAL as REAL
from .arrays import Shape, broadcasts_to, drawn_values, laid_out
from .arrays import arrays as arrays
from .arrays import axes as axes
from .arrays import broadcastable as broadcastable
from .arrays import in_layout as in_layout
from .arrays import indices as indices
from .arrays import matmul_shapes as matmul_shapes
from .arrays import reshapes as reshapes
from .arrays import shapes as shapes
from .expressions import Expression as Expression
from .expressions import expressions as expressions


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
    return _Call([draw(broadcasts_to(target))], {"shape": target})


def _sum_to(draw: st.DrawFn) -> _Call:
    source = draw(shapes())
    return _Call([source], {"shape": draw(broadcasts_to(source))})


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
    value = draw(broadcasts_to(selected(shape, static, chosen).shape))
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
    elif callable(samples.shapes) or samples.shapes in families.FAMILIES:
        family = samples.shapes if callable(samples.shapes) else families.FAMILIES[samples.shapes]
        sizes, metadata, prepare = family(draw)
        call = _Call(sizes, metadata, prepare=prepare)
    else:
        raise MinigradError(f"no strategy draws the shape family {samples.shapes!r} of primitive {primitive.name!r}")
    drawn = len(call.shapes) + len(call.indices)
    if drawn < primitive.arity or (drawn > primitive.arity and not primitive.variadic):
        raise MinigradError(
            f"the shape family {samples.shapes!r} of primitive {primitive.name!r} draws {drawn} arrays, and its "
            f"forward takes {primitive.arity}"
        )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    domains = [samples.domains[min(i, len(samples.domains) - 1)] for i in range(len(call.shapes))]
    values = [drawn_values(rng, shape, dtype, domain) for shape, domain in zip(call.shapes, domains, strict=True)]
    if samples.ties:
        values = _separated(rng, call.shapes, dtype, domains[0])
    elif primitive.vjps is None:
        values = [np.round(x) if x.dtype.kind == "f" else x for x in values]
    if call.prepare is not None:
        values = [x.astype(dtype) for x in call.prepare(values)]
    layouts = LAYOUTS[:-1] if samples.ties or call.prepare else LAYOUTS  # repeated values are ties, or singular
    return [*(laid_out(draw, x, layouts) for x in values), *call.indices], call.metadata


@st.composite
def matmul_operands(draw: st.DrawFn, dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Draw two arrays that `@` takes: vectors, matrices and stacks that broadcast, in every layout.

    Examples
    --------
    >>> import minigrad as mg
    >>> from hypothesis import given
    >>> @given(matmul_operands())
    ... def test(operands):
    ...     a, b = operands
    ...     assert mg.matmul(a, b).shape == np.matmul(a, b).shape
    >>> test()
    """
    (a, b), _ = draw(primitive_inputs(primitives["matmul"], dtype))
    return a, b


@st.composite
def einsum_operands(draw: st.DrawFn, dtype: Any = np.float64) -> tuple[str, list[np.ndarray]]:
    """Draw subscripts such as "ab,bc->ca", and arrays that fit them. A letter may repeat, in the output too.

    Examples
    --------
    >>> import minigrad as mg
    >>> from hypothesis import given
    >>> @given(einsum_operands())
    ... def test(drawn):
    ...     subscripts, operands = drawn
    ...     assert mg.einsum(subscripts, *operands).ndim == len(subscripts.split("->")[1])
    >>> test()
    """
    operands, metadata = draw(primitive_inputs(primitives["einsum"], dtype))
    return metadata["subscripts"], operands


def _separated(rng: np.random.Generator, sizes: Sequence[Shape], dtype: Any, domain: Domain) -> list[np.ndarray]:
    """Return arrays of which no two values are close to each other."""
    counts = [int(np.prod(shape)) for shape in sizes]
    grid = np.linspace(domain.low, domain.high, sum(counts) + 2)[1:-1]
    parts = np.split(rng.permutation(grid), np.cumsum(counts)[:-1])
    return [part.reshape(shape).astype(dtype) for part, shape in zip(parts, sizes, strict=True)]
