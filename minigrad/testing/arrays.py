"""Hypothesis strategies for shapes, arrays in all layouts, axes and indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import numpy as np

from ..errors import DataError
from ..primitives.domains import REAL
from ..primitives.indexing import ARRAY
from ..primitives.registry import Domain

Shape = tuple[int, ...]

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
    return laid_out(draw, drawn_values(rng, size, dtype, domain), layouts)


def laid_out(draw: st.DrawFn, array: np.ndarray, layouts: Sequence[str]) -> np.ndarray:
    axis = draw(st.integers(0, array.ndim - 1)) if array.ndim > 1 else 0
    return in_layout(array, draw(st.sampled_from(layouts)), axis)


def drawn_values(rng: np.random.Generator, shape: Shape, dtype: Any, domain: Domain) -> np.ndarray:
    if domain.kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if domain.kind == "int":
        return rng.integers(int(domain.low), int(domain.high), shape, endpoint=True)
    allowed = _allowed(domain)
    lengths = np.array([high - low for low, high in allowed])
    ends = np.cumsum(lengths)
    x = np.asarray(rng.uniform(0.0, ends[-1], shape))  # a place on the intervals, laid end to end
    which = np.minimum(np.searchsorted(ends, x, side="right"), len(allowed) - 1)
    return np.asarray(x + np.array([high for _, high in allowed])[which] - ends[which], dtype)


def _allowed(domain: Domain) -> list[tuple[float, float]]:
    """Return the intervals of a domain that are away from its kinks."""
    low, found = domain.low, []
    for kink in sorted(k for k in domain.avoid if domain.low - KINK_MARGIN < k < domain.high + KINK_MARGIN):
        found.append((low, kink - KINK_MARGIN))
        low = max(low, kink + KINK_MARGIN)
    found = [(a, b) for a, b in [*found, (low, domain.high)] if a < b]
    if not found:
        if not domain.avoid and domain.low == domain.high:
            return [(domain.low, domain.high)]
        raise DataError(f"{domain} has no values {KINK_MARGIN} away from what it avoids; make it larger")
    return found


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
    return [draw(broadcasts_to(whole)) for _ in range(count)]


@st.composite
def broadcasts_to(draw: st.DrawFn, shape: Shape) -> Shape:
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
            chosen.append(rng.integers(-n, n, draw(broadcasts_to(common))).astype(draw(st.sampled_from("il"))))
            static.append(ARRAY)
    if draw(st.booleans()):
        static.insert(draw(st.integers(0, len(static))), None)
    if draw(st.booleans()):
        static.append(Ellipsis)
    return tuple(static), chosen
