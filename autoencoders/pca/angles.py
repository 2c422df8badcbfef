"""The angles between two subspaces: how far what was learned is from what PCA finds."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from autoencoders.pca.checks import Array, check_matrix
from minigrad.errors import DataError, ShapeError


def principal_angles(A: ArrayLike, B: ArrayLike) -> Array:
    """The angles between the subspaces that the columns of A and of B span, in radians, smallest first.

    All are 0 where one subspace contains the other, and some are pi/2 where a direction of one is orthogonal to all
    of the other.

    Parameters
    ----------
    A : array_like, shape (n, p)
    B : array_like, shape (n, q)
        Linearly independent columns; they need not be orthonormal.

    Returns
    -------
    ndarray of float64, shape (min(p, q),)
        Each in [0, pi/2], right to about 1e-15 times the condition numbers of A and B, however small it is.

    Raises
    ------
    ShapeError, DTypeError, DataError
        A or B is not a finite real matrix, their row counts differ, or the columns of one are linearly dependent.

    Notes
    -----
    The cosines are the singular values of Q_A^T Q_B, the sines those of Q_B - Q_A Q_A^T Q_B. The arc cosine is blind
    to angles below 1e-8, and the arc sine to what is as near to pi/2, so each serves its half of the range.
    Source: Å. Björck and G. H. Golub, "Numerical methods for computing angles between linear subspaces", Mathematics
    of Computation 27 (1973).

    Examples
    --------
    >>> principal_angles([[1.0], [0.0]], [[2.0], [2e-12]]).tolist()
    [1e-12]
    """
    A, B = (check_matrix(M, "principal_angles", name, squares=False) for M, name in ((A, "A"), (B, "B")))
    if len(A) != len(B):
        raise ShapeError(
            f"principal_angles: A has shape {A.shape} and B has shape {B.shape}; expected the same number of rows, "
            "the dimension of the space that both subspaces lie in."
        )
    larger, smaller = _orthonormal_basis(A, "A"), _orthonormal_basis(B, "B")
    if larger.shape[1] < smaller.shape[1]:
        larger, smaller = smaller, larger
    overlap = larger.T @ smaller
    cosines = np.linalg.svd(overlap, compute_uv=False)
    sines = np.linalg.svd(smaller - larger @ overlap, compute_uv=False)[::-1]
    angles = np.where(sines**2 < 0.5, np.arcsin(np.minimum(sines, 1)), np.arccos(np.minimum(cosines, 1)))
    return np.sort(angles)  # the two formulas may disagree by a rounding where they meet


def _orthonormal_basis(A: Array, name: str) -> Array:
    """Orthonormal columns that span what the columns of A span."""
    n, p = A.shape
    largest = np.abs(A).max(axis=0)
    scaled = A / np.where(largest > 0, largest, 1)  # a short column counts as much as a long one
    basis, values, _ = np.linalg.svd(scaled, full_matrices=False)
    if p > n or values[-1] <= values[0] * n * np.finfo(np.float64).eps:
        raise DataError(
            f"principal_angles: the {p} columns of {name} are linearly dependent in {n} dimensions; "
            "expected columns that form a basis of the subspace."
        )
    return np.asarray(basis)
