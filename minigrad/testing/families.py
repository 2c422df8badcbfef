"""The table of shape families: what `samples` of primitives mean.

A family draws shapes and options that fit each other. Some also say how to turn arrays of free numbers into valid
inputs, such as matrices whose eigenvalues differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.strategies as st
import numpy as np

from ..primitives.indexing import ARRAY
from .arrays import Shape, axes, broadcasts_to, indices, matmul_shapes, reshapes, shapes

Prepare = Callable[[list[np.ndarray]], list[np.ndarray]]
# in the place of a shape may stand an array that is an input as it is, such as an index
Family = Callable[[st.DrawFn], tuple[list[Shape | np.ndarray], dict[str, Any], Prepare | None]]

# Reductions, shapes and indices


def _reduce(draw: st.DrawFn, min_side: int = 0) -> tuple:
    shape = draw(shapes(min_side=min_side))
    return [shape], {"axis": draw(axes(len(shape))), "keepdims": draw(st.booleans())}, None


def _one_axis(draw: st.DrawFn, ndim: int) -> int | None:
    return draw(st.sampled_from((None, *range(-ndim, ndim))))


def _cumulative(draw: st.DrawFn) -> tuple:
    shape = draw(shapes())
    return [shape], {"axis": _one_axis(draw, len(shape))}, None


def _argreduce(draw: st.DrawFn) -> tuple:
    shape = draw(shapes(min_side=1))
    return [shape], {"axis": _one_axis(draw, len(shape)), "keepdims": draw(st.booleans())}, None


def _argsort(draw: st.DrawFn) -> tuple:
    shape = draw(shapes(min_ndim=1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    return [shape], {"axis": axis, "descending": draw(st.booleans())}, None


def _axis_nonempty(draw: st.DrawFn) -> tuple:
    shape = draw(shapes(min_side=1))
    return [shape], {"axis": draw(axes(len(shape)))}, None


def _reshape(draw: st.DrawFn) -> tuple:
    shape = draw(shapes())
    return [shape], {"shape": draw(reshapes(shape))}, None


def _permute_dims(draw: st.DrawFn) -> tuple:
    shape = draw(shapes())
    order = draw(st.permutations(range(len(shape))))
    return [shape], {"axes": tuple(a - len(shape) if draw(st.booleans()) else a for a in order)}, None


def _broadcast_to(draw: st.DrawFn) -> tuple:
    target = draw(shapes())
    return [draw(broadcasts_to(target))], {"shape": target}, None


def _sum_to(draw: st.DrawFn) -> tuple:
    source = draw(shapes())
    return [source], {"shape": draw(broadcasts_to(source))}, None


def _expand_dims(draw: st.DrawFn) -> tuple:
    shape = draw(shapes())
    ndim = len(shape) + 1
    axis = draw(st.integers(-ndim, ndim - 1))
    return [shape], {"axis": draw(st.sampled_from((axis, (axis,), (0, -1))))}, None


def _squeeze(draw: st.DrawFn) -> tuple:
    shape = draw(shapes(max_side=2))
    single = tuple(i for i, n in enumerate(shape) if n == 1)
    return [shape], {"axis": draw(st.sampled_from((None, single, single[0] - len(shape) if single else ())))}, None


def _concat(draw: st.DrawFn) -> tuple:
    shape = draw(shapes(min_ndim=1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    at = axis % len(shape)
    lengths = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    return [(*shape[:at], n, *shape[at + 1 :]) for n in lengths], {"axis": axis}, None


def _stack(draw: st.DrawFn) -> tuple:
    shape = draw(shapes())
    axis = draw(st.integers(-len(shape) - 1, len(shape)))
    return [shape] * draw(st.integers(1, 3)), {"axis": axis}, None


def _selected(shape: Shape, static: tuple, chosen: Sequence[np.ndarray]) -> np.ndarray:
    """Return the flat positions that an index selects from an array of `shape`."""
    remaining = iter(chosen)
    index = tuple(next(remaining) if part is ARRAY else part for part in static)
    return np.asarray(np.arange(int(np.prod(shape))).reshape(shape)[index])


def _getitem(draw: st.DrawFn) -> tuple:
    shape = draw(shapes())
    static, chosen = draw(indices(shape))
    return [shape, *chosen], {"index": static}, None


def _scatter_add(draw: st.DrawFn) -> tuple:
    shape = draw(shapes())
    static, chosen = draw(indices(shape))
    return [_selected(shape, static, chosen).shape, *chosen], {"shape": shape, "index": static}, None


def _index_set(draw: st.DrawFn) -> tuple:
    shape = draw(shapes())
    static, chosen = draw(indices(shape, repeats=False))
    value = draw(broadcasts_to(_selected(shape, static, chosen).shape))
    return [shape, value, *chosen], {"index": static}, None


def _random(draw: st.DrawFn, metadata: dict[str, Any]) -> tuple:
    words = st.integers(0, 2**64 - 1)
    counter = np.asarray(draw(words), np.uint64)
    metadata = {"seed": draw(words), "stream": draw(words), "shape": draw(shapes()), **metadata}
    return [counter], metadata, None


def _random_float(draw: st.DrawFn) -> tuple:
    return _random(draw, {"dtype": np.dtype(draw(st.sampled_from(("float16", "float32", "float64"))))})


def _random_integers(draw: st.DrawFn) -> tuple:
    low = draw(st.integers(-(2**40), 2**40))
    return _random(draw, {"low": low, "high": low + draw(st.integers(1, 2**32))})


def _astype(draw: st.DrawFn) -> tuple:
    return [draw(shapes())], {"dtype": np.dtype(draw(st.sampled_from(("float32", "float64"))))}, None


# Linear algebra and convolution


def _lead(draw: st.DrawFn) -> Shape:
    return tuple(draw(st.lists(st.integers(0, 2), max_size=1)))


def _matrices(draw: st.DrawFn, change: Callable[[np.ndarray], np.ndarray], square: bool, tall: bool = False) -> tuple:
    m, n = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    if square or (tall and m < n):
        m, n = n, (n if square else m)
    return [(*_lead(draw), m, n)], {}, lambda values: [change(values[0]), *values[1:]]


def dominant(x: np.ndarray) -> np.ndarray:
    """Return x (entries within +-1) with a diagonal that makes every matrix invertible and well-conditioned."""
    return x + (x.shape[-1] + 1) * np.eye(x.shape[-1])


def symmetric_dominant(x: np.ndarray) -> np.ndarray:
    """Return positive definite matrices."""
    return dominant((x + x.swapaxes(-1, -2)) / 2)


def spread_eigenvalues(x: np.ndarray) -> np.ndarray:
    """Return symmetric matrices with the vectors of x and eigenvalues at distance 1."""
    v = np.linalg.qr(x)[0]
    return (v * (np.arange(x.shape[-1]) - x.shape[-1] / 2 + 0.3)) @ v.swapaxes(-1, -2)


def spread_singular_values(x: np.ndarray) -> np.ndarray:
    """Return matrices with the singular vectors of x and the singular values 1, 2, ..."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    return (u * np.arange(s.shape[-1], 0, -1)) @ vt


def _solve(draw: st.DrawFn) -> tuple:
    n, lead = draw(st.integers(1, 3)), _lead(draw)
    b = (n,) if draw(st.booleans()) else (*draw(st.sampled_from((lead, ()))), n, draw(st.integers(0, 2)))
    return [(*lead, n, n), b], {}, lambda values: [dominant(values[0]), values[1]]


def _einsum(draw: st.DrawFn) -> tuple:
    """Draw any subscripts: letters repeat within an operand, across operands and in the output, or occur once."""
    sizes = {letter: draw(st.integers(0, 3)) for letter in "ijk"}
    terms = draw(st.lists(st.text("ijk", max_size=3), min_size=1, max_size=3))
    known = sorted(set("".join(terms)))
    output = draw(st.text(known, max_size=3)) if known else ""
    operands = [tuple(sizes[letter] for letter in term) for term in terms]
    return operands, {"subscripts": ",".join(terms) + "->" + output}, None


def _triangle(draw: st.DrawFn) -> tuple:
    shape = (*_lead(draw), draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    return [shape], {"k": draw(st.integers(-2, 2))}, None


def _spectral_divide(draw: st.DrawFn) -> tuple:
    lead, m, n = _lead(draw), draw(st.integers(0, 3)), draw(st.integers(1, 3))
    return [(*lead, m, n), (*lead, draw(st.sampled_from((1, m))), n), (*lead, 1, 1), (*lead, 1, n)], {}, None


def _pair(draw: st.DrawFn, low: int, high: int) -> tuple[int, int]:
    return draw(st.integers(low, high)), draw(st.integers(low, high))


def _convolution(draw: st.DrawFn) -> tuple[dict[str, Shape], dict[str, Any]]:
    """Draw shapes of images x, kernels w and results y that belong together."""
    n, c, o = draw(st.integers(0, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel, stride, padding = _pair(draw, 1, 3), _pair(draw, 1, 3), _pair(draw, 0, 2)
    size = tuple(max(k - 2 * p, 1) + draw(st.integers(0, 3)) for k, p in zip(kernel, padding, strict=True))
    count = tuple((h + 2 * p - k) // s + 1 for h, k, s, p in zip(size, kernel, stride, padding, strict=True))
    sizes = {"x": (n, c, *size), "w": (o, c, *kernel), "y": (n, o, *count)}
    return sizes, {"stride": stride, "padding": padding}


def _conv2d(draw: st.DrawFn) -> tuple:
    sizes, metadata = _convolution(draw)
    return [sizes["x"], sizes["w"]], metadata, None


def _conv2d_transpose(draw: st.DrawFn) -> tuple:
    sizes, metadata = _convolution(draw)
    return [sizes["y"], sizes["w"]], {**metadata, "size": sizes["x"][2:]}, None


def _conv2d_kernel(draw: st.DrawFn) -> tuple:
    sizes, metadata = _convolution(draw)
    return [sizes["x"], sizes["y"]], {**metadata, "kernel": sizes["w"][2:]}, None


def _pooling(draw: st.DrawFn) -> tuple[Shape, Shape, tuple[int, int], tuple[int, int]]:
    lead, kernel, stride = _lead(draw), _pair(draw, 1, 3), _pair(draw, 1, 3)
    size = kernel[0] + draw(st.integers(0, 3)), kernel[1] + draw(st.integers(0, 3))
    count = (size[0] - kernel[0]) // stride[0] + 1, (size[1] - kernel[1]) // stride[1] + 1
    return (*lead, *size), (*kernel, *lead, *count), kernel, stride


def _windows2d(draw: st.DrawFn) -> tuple:
    images, _, kernel, stride = _pooling(draw)
    return [images], {"kernel": kernel, "stride": stride}, None


def _fold2d(draw: st.DrawFn) -> tuple:
    images, windows, _, stride = _pooling(draw)
    return [windows], {"size": images[-2:], "stride": stride}, None


_BOUNDS: list[dict[str, Any]] = [{"low": -1.0, "high": 1.0}, {"low": -1.0}, {"high": 1.0}]
FAMILIES: dict[str, Family] = {
    "reduce": _reduce,
    "reduce_nonempty": lambda draw: _reduce(draw, min_side=1),
    "cumulative": _cumulative,
    "argreduce": _argreduce,
    "argsort": _argsort,
    "axis_nonempty": _axis_nonempty,
    "matmul": lambda draw: ([*draw(matmul_shapes())], {}, None),
    "matrices": lambda draw: ([draw(shapes(min_ndim=2))], {}, None),
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
    "clip": lambda draw: ([draw(shapes())], draw(st.sampled_from(_BOUNDS)), None),
    "round": lambda draw: ([draw(shapes())], {"decimals": draw(st.sampled_from((0, -1)))}, None),
    "random_float": _random_float,
    "random_integers": _random_integers,
    "astype": _astype,
    "invertible": lambda draw: _matrices(draw, dominant, square=True),
    "positive_definite": lambda draw: _matrices(draw, symmetric_dominant, square=True),
    "distinct_eigenvalues": lambda draw: _matrices(draw, spread_eigenvalues, square=True),
    "distinct_singular_values": lambda draw: _matrices(draw, spread_singular_values, square=False),
    "full_rank": lambda draw: _matrices(draw, spread_singular_values, square=False, tall=True),
    "solve": _solve,
    "einsum": _einsum,
    "triangle": _triangle,
    "spectral_divide": _spectral_divide,
    "conv2d": _conv2d,
    "conv2d_transpose": _conv2d_transpose,
    "conv2d_kernel": _conv2d_kernel,
    "windows2d": _windows2d,
    "fold2d": _fold2d,
}
