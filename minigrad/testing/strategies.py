"""hypothesis strategies: arrays in every memory layout, shapes that fit each other, inputs of primitives.

hypothesis draws shapes and layouts, and can shrink them; values come from a seed, as drawing them singly is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import MinigradError, MissingDependencyError
from ..primitives import primitives
from ..primitives.indexing import ARRAY as ARRAY
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
from .arrays import Shape, drawn_values, laid_out
from .arrays import arrays as arrays
from .arrays import axes as axes
from .arrays import broadcastable as broadcastable
from .arrays import broadcasts_to as broadcasts_to
from .arrays import in_layout as in_layout
from .arrays import indices as indices
from .arrays import matmul_shapes as matmul_shapes
from .arrays import reshapes as reshapes
from .arrays import shapes as shapes
from .expressions import Expression as Expression
from .expressions import expressions as expressions


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
    entries, options, prepare = _family(samples.shapes, primitive)(draw)
    if len(entries) < primitive.arity or (len(entries) > primitive.arity and not primitive.variadic):
        raise MinigradError(
            f"the shape family {samples.shapes!r} of primitive {primitive.name!r} draws {len(entries)} arrays, and its "
            f"forward takes {primitive.arity}"
        )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = [x for x in entries if not isinstance(x, np.ndarray)]
    domains = [samples.domains[min(i, len(samples.domains) - 1)] for i in range(len(sizes))]
    values = [drawn_values(rng, shape, dtype, domain) for shape, domain in zip(sizes, domains, strict=True)]
    if samples.ties:
        values = _separated(rng, sizes, dtype, domains[0])
    elif primitive.vjps is None:
        values = [np.round(x) if x.dtype.kind == "f" else x for x in values]
    if prepare is not None:
        values = [x.astype(dtype) for x in prepare(values)]
    layouts = LAYOUTS[:-1] if samples.ties or prepare else LAYOUTS  # repeated values are ties, or singular
    laid = iter([laid_out(draw, x, layouts) for x in values])
    return [x if isinstance(x, np.ndarray) else next(laid) for x in entries], options


def _family(shapes_of: str | Callable, primitive: Primitive) -> families.Family:
    """Return the family of this name, or the one that is given itself."""
    if callable(shapes_of):
        return shapes_of
    if shapes_of == "broadcast":
        return lambda draw: ([*draw(broadcastable(primitive.arity))], {}, None)
    if shapes_of == "any":
        return lambda draw: ([draw(shapes()) for _ in range(primitive.arity)], {}, None)
    if shapes_of not in families.FAMILIES:
        raise MinigradError(
            f"primitive {primitive.name!r} has the shape family {shapes_of!r}, which is none: there are 'any', "
            f"'broadcast', {', '.join(map(repr, families.FAMILIES))}; or give a function (see Samples)"
        )
    return families.FAMILIES[shapes_of]


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
