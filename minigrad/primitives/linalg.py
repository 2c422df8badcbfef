"""Linear algebra."""

from __future__ import annotations

from typing import Any

from .registry import Domain, Samples, primitive


def _matrix_cotangent(F: Any, g: Any, a: Any, b: Any) -> Any:
    """A vector stands for a matrix with one row (a) or one column (b); give g the axes that it then would have."""
    if b.ndim == 1:
        g = F.expand_dims(g, axis=-1)
    if a.ndim == 1:
        g = F.expand_dims(g, axis=-2)
    return g


def _matmul_a(F: Any, g: Any, y: Any, a: Any, b: Any) -> Any:
    g = _matrix_cotangent(F, g, a, b)
    b = F.expand_dims(b, axis=-1) if b.ndim == 1 else b
    result = F.matmul(g, F.matrix_transpose(b))
    return F.squeeze(result, axis=-2) if a.ndim == 1 else result


def _matmul_b(F: Any, g: Any, y: Any, a: Any, b: Any) -> Any:
    g = _matrix_cotangent(F, g, a, b)
    if b.ndim == 2 and a.ndim > 2 and a.size and g.size:  # one product over all batches, not a sum of products
        a, g = F.reshape(a, shape=(-1, a.shape[-1])), F.reshape(g, shape=(-1, g.shape[-1]))
    a = F.expand_dims(a, axis=0) if a.ndim == 1 else a
    result = F.matmul(F.matrix_transpose(a), g)
    return F.squeeze(result, axis=-1) if b.ndim == 1 else result


matmul = primitive(
    "matmul",
    forward=lambda xp, a, b, /, *, out=None: xp.matmul(a, b, out=out),
    vjps=[_matmul_a, _matmul_b],
    saves="ab",
    samples=Samples("matmul", (Domain(-2.0, 2.0), Domain(-2.0, 2.0))),
    doc="Matrix product of the last two axes; others broadcast; a vector is a row on the left, a column on the right.",
)
