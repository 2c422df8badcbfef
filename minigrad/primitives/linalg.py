"""Linear algebra: products, inverses, determinants. Decompositions have their own file."""

from __future__ import annotations

from string import ascii_letters as LETTERS
from typing import Any

import numpy as np

from ..devices import checked_linalg
from ..errors import ShapeError
from . import products
from .domains import REAL, SMALL, UNIT
from .registry import Samples, primitive


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
    forward=products.matmul,
    vjps=[_matmul_a, _matmul_b],
    saves="ab",
    samples=Samples("matmul", (SMALL, SMALL)),
    doc="Matrix product of the last two axes; others broadcast; a vector is a row on the left, a column on the right.",
)


# Sums of products


def _einsum(xp: Any, *x: Any, subscripts: str) -> Any:
    inputs, output = subscripts.split("->")
    operands, terms, kept = list(x), inputs.split(","), ""
    sizes = {letter: n for term, a in zip(terms, x, strict=True) for letter, n in zip(term, a.shape, strict=True)}
    for letter in output:
        if letter in kept:  # a second occurrence becomes its own letter, tied to the first by an identity matrix
            fresh = next(c for c in LETTERS if c not in subscripts + kept)
            operands.append(xp.eye(sizes[letter], dtype=x[0].dtype))
            terms.append(letter + fresh)
            letter = fresh
        kept += letter
    result = xp.einsum(",".join(terms) + "->" + kept, *operands, optimize=len(operands) > 1)
    return result.copy() if len(operands) == 1 and result.base is not None else result  # one operand may give a view


def _einsum_rule(position: int, F: Any, g: Any, y: Any, *x: Any, subscripts: str) -> Any:
    inputs, output = subscripts.split("->")
    terms = inputs.split(",")
    term = terms.pop(position)
    others = [a for i, a in enumerate(x) if i != position]
    own = "".join(dict.fromkeys(term))
    reached = "".join(letter for letter in own if any(letter in t for t in (output, *terms)))
    part = F.einsum(g, *others, subscripts=",".join((output, *terms)) + "->" + reached)
    # a letter that only this operand has was summed over, and a length 1 was stretched: both spread g evenly
    lengths = dict(zip(reached, part.shape, strict=True))
    sizes = dict(zip(term, x[position].shape, strict=True))
    spread = tuple(sizes[letter] if lengths.get(letter, 1) == 1 else lengths[letter] for letter in own)
    if part.shape != spread:
        part = F.reshape(part, shape=tuple(lengths.get(letter, 1) for letter in own))
        part = F.broadcast_to(part, shape=spread)
    return part if own == term else F.einsum(part, subscripts=f"{own}->{term}")


einsum = primitive(
    "einsum",
    forward=_einsum,
    vjps=_einsum_rule,
    saves="x",
    samples=Samples("einsum", (SMALL,)),
    doc="""Sum of products by explicit subscripts of letters, 'ij,jk->ik' (`mg.einsum` also takes '...').

    Beyond NumPy, a letter may repeat in the output: 'i->ii' puts a vector on a diagonal. That is the transpose of
    'ii->i', so that the derivative of an einsum is always another one.""",
)


def _matrices(name: str, x: Any) -> Any:
    """Return x, or raise unless it is a matrix or a stack of them."""
    if x.ndim < 2:
        raise ShapeError(f"{name} takes matrices (..., m, n), got shape {x.shape}")
    return x


tril = primitive(
    "tril",
    forward=lambda xp, x, /, *, k=0: xp.tril(_matrices("tril", x), k),
    vjps=[lambda F, g, y, x, k: F.tril(g, k=k)],
    samples=Samples("triangle", (REAL,)),
    doc="x with zeros above the k-th diagonal of its last two axes.",
)

triu = primitive(
    "triu",
    forward=lambda xp, x, /, *, k=0: xp.triu(_matrices("triu", x), k),
    vjps=[lambda F, g, y, x, k: F.triu(g, k=k)],
    samples=Samples("triangle", (REAL,)),
    doc="x with zeros below the k-th diagonal of its last two axes.",
)

# Inverses and determinants of square matrices, or stacks of them. A singular matrix is an error here or in backward.


def square_matrices(name: str, x: Any) -> Any:
    """Return x, or raise unless it is a stack of square matrices."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"{name} takes square matrices (..., n, n), got shape {x.shape}")
    return x


def _inv(xp: Any, x: Any, /) -> Any:
    with checked_linalg(xp):
        return xp.linalg.inv(square_matrices("inv", x))


inv = primitive(
    "inv",
    forward=_inv,
    vjps=[lambda F, g, y, x: -(F.matrix_transpose(y) @ g @ F.matrix_transpose(y))],
    saves="y",
    samples=Samples("invertible", (UNIT,)),
    doc="Inverse of each matrix.",
)


def _solve(xp: Any, a: Any, b: Any, /) -> Any:
    square_matrices("solve", a)
    if b.ndim == 1:
        return _solve(xp, a, b[:, None])[..., 0]
    if a.shape[:-2] != b.shape[:-2]:  # CuPy does not stretch stacks by itself
        stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a = xp.broadcast_to(a, stack + a.shape[-2:])
        b = xp.broadcast_to(b, stack + b.shape[-2:])
    if b.size == 0:  # CuPy divides by 0
        return xp.empty(b.shape, xp.result_type(a, b))
    with checked_linalg(xp):
        return xp.linalg.solve(a, b)


def _solve_b(F: Any, g: Any, y: Any, a: Any, b: Any) -> Any:
    g = F.expand_dims(g, axis=-1) if b.ndim == 1 else g
    result = F.solve(F.matrix_transpose(a), g)
    return F.squeeze(result, axis=-1) if b.ndim == 1 else result


def _solve_a(F: Any, g: Any, y: Any, a: Any, b: Any) -> Any:
    if b.ndim == 1:
        g, y = F.expand_dims(g, axis=-1), F.expand_dims(y, axis=-1)
    return -(F.solve(F.matrix_transpose(a), g) @ F.matrix_transpose(y))


solve = primitive(
    "solve",
    forward=_solve,
    vjps=[_solve_a, _solve_b],
    saves="ya",
    samples=Samples("solve", (UNIT, SMALL)),
    doc="The x with a @ x = b. b is a vector if it has one axis, otherwise a matrix or a stack of them, as in NumPy 2.",
)


def _times_inverse_transposed(F: Any, factor: Any, x: Any) -> Any:
    return F.expand_dims(factor, axis=(-2, -1)) * F.matrix_transpose(F.inv(x))


det = primitive(
    "det",
    forward=lambda xp, x, /: xp.linalg.det(square_matrices("det", x)),
    vjps=[lambda F, g, y, x: _times_inverse_transposed(F, g * y, x)],
    saves="yx",
    samples=Samples("invertible", (UNIT,)),
    doc="Determinant of each matrix. Its derivative needs the inverse: a singular matrix is a LinAlgError in backward.",
)

slogdet = primitive(
    "slogdet",
    forward=lambda xp, x, /: xp.stack(xp.linalg.slogdet(square_matrices("slogdet", x)), axis=-1),
    # the sign is constant where it has a derivative at all
    vjps=[lambda F, g, y, x: _times_inverse_transposed(F, F.getitem(g, index=(Ellipsis, 1)), x)],
    saves="x",
    samples=Samples("invertible", (UNIT,), analytic=False),
    doc="Sign and log |det| of each matrix, side by side in the last axis (`mg.slogdet` returns the two).",
)
