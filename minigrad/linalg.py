"""Linear algebra whose primitives need some preparation: einsum with '...', decompositions with several results.

Matrices are the last two axes; axes before them are stacks. `matmul`, `inv`, `solve`, `det` and `cholesky` are
primitives and stand in the table.
"""

from __future__ import annotations

from string import ascii_letters as LETTERS
from typing import Any

from . import primitives as P
from . import tape
from .errors import ShapeError
from .primitives import decompositions
from .primitives import linalg as rows
from .tensor import Tensor, as_tensor


def einsum(subscripts: str, *operands: Any) -> Tensor:
    """Return a sum of products of the operands' elements, after NumPy's `einsum`.

    Parameters
    ----------
    subscripts : str
        One letter per axis: "ij,jk->ik". A letter that the output lacks is summed over; one that repeats in an operand
        takes its diagonal. "..." stands for any axes, which broadcast. Without "->" the output has the letters that
        occur once, in alphabetical order. Beyond NumPy, a letter may repeat in the output: "i->ii" fills a diagonal.
    *operands : Tensor or array
        As many as there are subscripts.

    Raises
    ------
    ShapeError
        When subscripts and operands do not fit together.

    Examples
    --------
    >>> import minigrad as mg
    >>> a = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> mg.einsum("ij,kj->ik", a, a)
    tensor([[ 5., 11.],
            [11., 25.]])
    >>> mg.einsum("...ii", a)
    tensor(5.)
    """
    if not isinstance(subscripts, str):
        raise ShapeError(f"einsum takes its subscripts first, as a string such as 'ij,jk->ik', got {subscripts!r}")
    tensors = [as_tensor(x) for x in operands]
    return tape.apply(rows.einsum, *tensors, subscripts=_explicit(subscripts, [x.ndim for x in tensors]))


def _explicit(subscripts: str, ndims: list[int]) -> str:
    """Return subscripts with '->' and with letters in place of '...', or raise."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if not ndims or len(terms) != len(ndims):
        raise ShapeError(f"einsum subscripts {subscripts!r} are for {len(terms)} operands, got {len(ndims)}")
    for part in (*terms, output):
        letters = part.replace("...", "", 1)
        if not all(letter in LETTERS for letter in letters):
            raise ShapeError(f"einsum subscripts are letters, '...', ',' and '->', got {subscripts!r}")
    counts = [n - len(term.replace("...", "")) for term, n in zip(terms, ndims, strict=True)]
    for i, (term, count) in enumerate(zip(terms, counts, strict=True)):
        if count < 0 or (count and "..." not in term):
            raise ShapeError(f"einsum subscripts {term!r} do not fit operand {i}, which has {ndims[i]} axes")
    most = max((n for term, n in zip(terms, counts, strict=True) if "..." in term), default=0)
    free = [letter for letter in LETTERS if letter not in subscripts]
    if most > len(free):
        raise ShapeError(f"einsum has too few letters for {subscripts!r} with {most} axes for '...'")
    ellipsis = "".join(free[:most])
    terms = [term.replace("...", ellipsis[most - n :]) for term, n in zip(terms, counts, strict=True)]
    if not arrow:
        given = "".join(sorted(inputs.replace("...", "").replace(",", "")))
        output = "..." * ("..." in inputs) + "".join(letter for letter in given if given.count(letter) == 1)
    elif most and "..." not in output:
        raise ShapeError(f"einsum subscripts {subscripts!r} have '...' among the inputs, so the output needs it too")
    output = output.replace("...", ellipsis)
    unknown = set(output) - set("".join(terms))
    if unknown:
        raise ShapeError(f"einsum output {output!r} has letters that no input has: {', '.join(sorted(unknown))}")
    return ",".join(terms) + "->" + output


def outer(a: Any, b: Any) -> Tensor:
    """Return the matrix of products a[i] * b[j] of two vectors.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.outer(mg.tensor([1.0, 2.0]), mg.tensor([3.0, 4.0]))
    tensor([[3., 4.],
            [6., 8.]])
    """
    a, b = as_tensor(a), as_tensor(b)
    if a.ndim != 1 or b.ndim != 1:
        raise ShapeError(f"outer takes two vectors, got shapes {a.shape} and {b.shape}; flatten with reshape(-1)")
    return P.expand_dims(a, axis=1) * b


def slogdet(x: Any) -> tuple[Tensor, Tensor]:
    """Return sign(det) and log |det| of square matrices (..., n, n), each of shape (...).

    A singular matrix has sign 0 and log -inf, and its derivative is a LinAlgError.

    Examples
    --------
    >>> import minigrad as mg
    >>> sign, log = mg.slogdet(mg.tensor([[2.0, 0.0], [0.0, -0.5]]))
    >>> sign.item(), log.item()
    (-1.0, 0.0)
    """
    pair = tape.apply(rows.slogdet, x)
    return pair[..., 0], pair[..., 1]


def qr(x: Any) -> tuple[Tensor, Tensor]:
    """Return Q (..., m, k) with orthonormal columns and upper triangular R (..., k, n), x = Q @ R, k = min(m, n).

    The first k columns of x must be linearly independent for derivatives.

    Examples
    --------
    >>> import minigrad as mg
    >>> q, r = mg.qr(mg.tensor([[3.0, 1.0], [4.0, 2.0]]))
    >>> (q @ r).shape, round(abs(r[0, 0].item()), 5)
    ((2, 2), 5.0)
    """
    x = as_tensor(x)
    if x.ndim < 2 or x.shape[-2] >= x.shape[-1]:
        stacked = tape.apply(decompositions.qr, x)
        return stacked[..., : x.shape[-2], :], stacked[..., x.shape[-2] :, :]
    rows_ = x.shape[-2]  # a wide matrix: Q and the square part of R come from its first columns, the rest is Q.mT @ x
    q, r = qr(x[..., :rows_])
    return q, P.concat([r, q.mT @ x[..., rows_:]], axis=-1)


def eigh(x: Any) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues (..., n), ascending, and eigenvectors (..., n, n), in columns, of symmetric matrices.

    Both are those of (x + x.mT) / 2. Eigenvalues that are equal up to rounding have no derivative of their vectors:
    backward raises a LinAlgError when a gradient flows to these vectors. When it flows to the values alone, it is the
    subgradient that belongs to the vectors found, right for functions that treat equal eigenvalues alike.

    Examples
    --------
    >>> import minigrad as mg
    >>> w, v = mg.eigh(mg.tensor([[2.0, 0.0], [0.0, 1.0]]))
    >>> w
    tensor([1., 2.])
    """
    stacked = tape.apply(decompositions.eigh, x)
    return stacked[..., 0, :], stacked[..., 1:, :]


def svd(x: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the thin singular value decomposition of x (..., m, n): U (..., m, k), S (..., k), Vh (..., k, n).

    x = (U * S) @ Vh with k = min(m, n); S descends. It is NumPy's `svd(x, full_matrices=False)`. Singular values that
    are equal up to rounding, or 0 unless x is square, have no derivative of their vectors: see `eigh`.

    Examples
    --------
    >>> import minigrad as mg
    >>> u, s, vh = mg.svd(mg.tensor([[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]]))
    >>> s, u.shape, vh.shape
    (tensor([3., 2.]), (3, 2), (2, 2))
    """
    x = as_tensor(x)
    stacked = tape.apply(decompositions.svd, x)
    m = x.shape[-2]
    return stacked[..., :m, :], stacked[..., m, :], stacked[..., m + 1 :, :].mT
