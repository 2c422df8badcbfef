"""Shape families of linear algebra and convolution: what `samples` of these primitives mean.

Each function draws shapes and metadata; some also say how to turn arrays of free numbers into valid inputs, such as
matrices whose eigenvalues differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np

Shape = tuple[int, ...]
Prepare = Callable[[list[np.ndarray]], list[np.ndarray]]
Family = Callable[[st.DrawFn], tuple[list[Shape], dict[str, Any], Prepare | None]]


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
    shapes = [tuple(sizes[letter] for letter in term) for term in terms]
    return shapes, {"subscripts": ",".join(terms) + "->" + output}, None


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
    shapes = {"x": (n, c, *size), "w": (o, c, *kernel), "y": (n, o, *count)}
    return shapes, {"stride": stride, "padding": padding}


def _conv2d(draw: st.DrawFn) -> tuple:
    shapes, metadata = _convolution(draw)
    return [shapes["x"], shapes["w"]], metadata, None


def _conv2d_transpose(draw: st.DrawFn) -> tuple:
    shapes, metadata = _convolution(draw)
    return [shapes["y"], shapes["w"]], {**metadata, "size": shapes["x"][2:]}, None


def _conv2d_kernel(draw: st.DrawFn) -> tuple:
    shapes, metadata = _convolution(draw)
    return [shapes["x"], shapes["y"]], {**metadata, "kernel": shapes["w"][2:]}, None


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


FAMILIES: dict[str, Family] = {
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
