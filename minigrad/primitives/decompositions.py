"""Matrix decompositions of real matrices or stacks of them.

A primitive returns one array, and most decompositions have several parts. Rather than give every node a list of
cotangents, a row here stacks its parts one above the other: eigh gives (n + 1, n) with eigenvalue j above eigenvector
j. The functions in `minigrad.linalg` cut the parts out again, and the cotangent of a part that nobody uses is zero.

Where eigenvalues or singular values repeat, the single vectors have no derivative. Backward then raises a LinAlgError
if a gradient flows to these vectors. If it flows to the values alone, the result is the subgradient that belongs to
the vectors found: the gradient wherever the function treats equal values alike, as their sum does.

The rules are those of M. Giles, "An extended collection of matrix derivative results" (2008), and J. Townsend,
"Differentiating the singular value decomposition" (2016).
"""

from __future__ import annotations

from typing import Any

from ..devices import checked_linalg, to_numpy
from ..errors import DTypeError, LinAlgError, ShapeError
from .domains import SMALL, UNIT
from .linalg import square_matrices
from .registry import Domain, Samples, primitive

APART = 8.0  # times the size of a matrix, its largest value and eps: equal values may come out so far from each other


def _real_matrices(name: str, x: Any) -> Any:
    if x.ndim < 2:
        raise ShapeError(f"{name} takes matrices (..., m, n), got shape {x.shape}")
    if x.dtype.kind == "c":
        raise DTypeError(f"{name} takes real matrices, got {x.dtype.name}")
    return x


def _symmetric(name: str, x: Any) -> Any:
    x = square_matrices(name, _real_matrices(name, x))
    if x.dtype.kind in "biu":  # whose sum wraps around, or is `or`
        x = x.astype("float64")
    return (x + x.swapaxes(-1, -2)) * 0.5  # so that the derivative in every direction is that of what is computed


def _rows(F: Any, x: Any, start: int | None, stop: int | None) -> Any:
    return F.getitem(x, index=(Ellipsis, slice(start, stop), slice(None)))


def _off_diagonal(F: Any, x: Any) -> Any:
    return F.tril(x, k=-1) + F.triu(x, k=1)


def _used(F: Any, g: Any) -> Any:
    """Return a row with the size of the gradient that flows to each column; 0 says that nobody uses the column."""
    return F.max(F.abs(g), axis=-2, keepdims=True)


def _divide_pairs(F: Any, m: Any, d: Any, scale: Any, used: Any) -> Any:
    """Divide by the differences of all pairs. On the diagonal, where d is 0, the result and all its derivatives are."""
    used = _off_diagonal(F, F.broadcast_to(used, shape=m.shape))
    return _off_diagonal(F, F.spectral_divide(_off_diagonal(F, m), d, scale, used))


def _spectral_divide(xp: Any, m: Any, d: Any, s: Any, u: Any, /) -> Any:
    zero = xp.abs(d) <= APART * m.shape[-1] * float(xp.finfo(m.dtype).eps) * s
    if to_numpy(xp.any(zero & ((u != 0) | (m != 0)))):
        raise LinAlgError(
            "eigenvalues or singular values repeat (or singular values vanish) up to rounding, and a gradient flows to "
            "their vectors, which have no derivative there; use the values alone, or perturb the matrix"
        )
    return xp.where(zero, 0.0, m / xp.where(zero, 1.0, d))


spectral_divide = primitive(
    "spectral_divide",
    forward=_spectral_divide,
    vjps=[
        lambda F, g, y, m, d, s, u: F.spectral_divide(g, d, s, g),
        lambda F, g, y, m, d, s, u: -F.spectral_divide(g * y, d, s, y),
        None,
        None,
    ],
    saves="yds",
    samples=Samples("spectral_divide", (SMALL, Domain(0.5, 2.0), Domain(1.0, 2.0), SMALL), analytic=False),
    doc="""m / d for derivatives of decompositions, where d holds differences of values of size s.

    Where d is 0 up to rounding of s, the result is 0 if both m and u, the gradient that flows to the vectors, are
    exactly 0; otherwise it is a LinAlgError.""",
)


def _cholesky(F: Any, g: Any, y: Any, x: Any) -> Any:
    transposed = F.matrix_transpose(y)
    m = transposed @ F.tril(g)
    m = (F.tril(m) + F.tril(m, k=-1)) * 0.5  # the lower triangle with half of the diagonal
    m = F.solve(transposed, F.matrix_transpose(F.solve(transposed, m)))
    return (m + F.matrix_transpose(m)) * 0.5


def _cholesky_forward(xp: Any, x: Any, /) -> Any:
    with checked_linalg(xp):
        return xp.linalg.cholesky(_symmetric("cholesky", x))


cholesky = primitive(
    "cholesky",
    forward=_cholesky_forward,
    vjps=[_cholesky],
    saves="y",
    samples=Samples("positive_definite", (UNIT,), analytic=False),
    doc="The lower triangular L with L @ L.mT = (x + x.mT) / 2, which must be positive definite.",
)


def _qr(F: Any, g: Any, y: Any, x: Any) -> Any:
    rows = x.shape[-2]
    q, r = _rows(F, y, None, rows), _rows(F, y, rows, None)
    gq, gr = _rows(F, g, None, rows), F.triu(_rows(F, g, rows, None))
    m = r @ F.matrix_transpose(gr) - F.matrix_transpose(gq) @ q
    m = F.tril(m) + F.matrix_transpose(F.tril(m, k=-1))
    return F.matrix_transpose(F.solve(r, F.matrix_transpose(gq + q @ m)))


def _qr_forward(xp: Any, x: Any, /) -> Any:
    if _real_matrices("qr", x).shape[-2] < x.shape[-1]:
        raise ShapeError(f"the primitive qr takes matrices of at least as many rows as columns, got shape {x.shape}")
    return xp.concatenate(xp.linalg.qr(x), axis=-2)


qr = primitive(
    "qr",
    forward=_qr_forward,
    vjps=[_qr],
    saves="y",
    samples=Samples("full_rank", (UNIT,), analytic=False),
    doc="Q above R, (m + n, n), with x = Q @ R, Q.mT @ Q = I and R upper triangular; m >= n. See `mg.qr`.",
)


def _eigh(F: Any, g: Any, y: Any, x: Any) -> Any:
    w, v = _rows(F, y, None, 1), _rows(F, y, 1, None)
    gw, gv = _rows(F, g, None, 1), _rows(F, g, 1, None)
    vt = F.matrix_transpose(v)
    if not v.shape[-1]:
        return v @ vt
    gaps = w - F.matrix_transpose(w)
    m = _divide_pairs(F, vt @ gv, gaps, F.max(F.abs(w), axis=-1, keepdims=True), _used(F, gv))
    m = (v * gw + v @ m) @ vt
    return (m + F.matrix_transpose(m)) * 0.5


def _eigh_forward(xp: Any, x: Any, /) -> Any:
    w, v = xp.linalg.eigh(_symmetric("eigh", x))
    return xp.concatenate([w[..., None, :], v], axis=-2)


eigh = primitive(
    "eigh",
    forward=_eigh_forward,
    vjps=[_eigh],
    saves="y",
    samples=Samples("distinct_eigenvalues", (SMALL,), analytic=False),
    doc="Eigenvalues of (x + x.mT) / 2, ascending, each above its eigenvector: (n + 1, n). See `mg.eigh`.",
)


def _svd(F: Any, g: Any, y: Any, x: Any) -> Any:
    rows, columns = x.shape[-2:]
    u, s, v = _rows(F, y, None, rows), _rows(F, y, rows, rows + 1), _rows(F, y, rows + 1, None)
    gu, gs, gv = _rows(F, g, None, rows), _rows(F, g, rows, rows + 1), _rows(F, g, rows + 1, None)
    ut, vt, si = F.matrix_transpose(u), F.matrix_transpose(v), F.matrix_transpose(s)
    if not s.shape[-1]:
        return u @ vt
    scale = F.max(s, axis=-1, keepdims=True)
    mu, mv, used_u, used_v = ut @ gu, vt @ gv, _used(F, gu), _used(F, gv)
    # with s_j / (s_j^2 - s_i^2) = (1 / (s_j - s_i) + 1 / (s_j + s_i)) / 2, equal and small values are told apart
    gaps = _divide_pairs(F, mu, s - si, scale, used_u) + _divide_pairs(F, mv, s - si, scale, used_v)
    difference = mu - mv
    sums = _divide_pairs(F, difference - F.matrix_transpose(difference), s + si, scale, used_u + used_v)
    result = (u * gs + u @ ((gaps + F.matrix_transpose(gaps) + sums) * 0.5)) @ vt
    if rows > columns:  # u may also turn out of the space that it spans
        result = result + F.spectral_divide(gu - u @ mu, s, scale, used_u) @ vt
    if columns > rows:
        result = result + u @ F.matrix_transpose(F.spectral_divide(gv - v @ mv, s, scale, used_v))
    return result


def _svd_forward(xp: Any, x: Any, /) -> Any:
    u, s, vt = xp.linalg.svd(_real_matrices("svd", x), full_matrices=False)
    return xp.concatenate([u, s[..., None, :], vt.swapaxes(-1, -2)], axis=-2)


svd = primitive(
    "svd",
    forward=_svd_forward,
    vjps=[_svd],
    saves="y",
    samples=Samples("distinct_singular_values", (SMALL,), analytic=False),
    doc="""Left vector, singular value and right vector j (thin) above one another: (m + 1 + n, min(m, n)).

    Singular values are descending. See `mg.svd`.""",
)
