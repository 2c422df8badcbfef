"""The principal directions of data, the variance along each, and the floor that is left without the rest.

The singular values come from X itself, never from the covariance X^T X, whose rounding hides every direction with a
standard deviation below 1e-8 of the largest. A tall X is first reduced, block by block, to the triangle R of its QR
factorisation (R^T R = X^T X, and the rotation that is left out does not touch S or V). That takes little memory and
3 to 5 seconds for the 60000 x 784 numbers of MNIST on one core, against 1 for the covariance and 9 for a plain SVD.
Who asks several questions about the same data therefore does it once: `principal_components`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from autoencoders.pca.checks import Array, check_matrix, check_width
from minigrad.errors import DataError


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """What `principal_components` found in data; the functions of this package take it in place of the data.

    Attributes
    ----------
    shape : (m, n)
        Of the data.
    mean : ndarray of float64, shape (n,)
        Of the samples.
    triangle : ndarray of float64, shape (min(m, n), n)
        With the singular values and the right singular vectors of the centred data.
    """

    shape: tuple[int, int]
    mean: Array
    triangle: Array

    @cached_property
    def variances(self) -> Array:
        """The variance along every principal direction, largest first, shape (min(m, n),)."""
        return np.asarray(np.linalg.svd(self.triangle, compute_uv=False) ** 2 / self.shape[0])

    @cached_property
    def _Vt(self) -> Array:
        return np.linalg.svd(self.triangle, full_matrices=False)[2]

    def directions(self, k: int) -> Array:
        """The first k principal directions, as columns, shape (n, k)."""
        return fix_signs(self._Vt[:k].T)


def principal_components(X: ArrayLike | PrincipalComponents) -> PrincipalComponents:
    """Decompose data once, for several questions about them: nearly all the time of each is the decomposition.

    Parameters
    ----------
    X : array_like, shape (m, n)
        One sample per row; need not be centred.

    Returns
    -------
    PrincipalComponents
        Whatever here takes X takes it too, and gives the same to the last bit. The exceptions are `normalize` and
        masking noise, which need the samples.

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `normalize`.

    Examples
    --------
    >>> components = principal_components([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> explained_variance(components).round(12).tolist(), round(reconstruction_floor(components, k=1), 12)
    ([4.5, 0.5], 0.5)
    """
    return decomposed(data_or_components(X, "principal_components"))


def data_or_components(X: ArrayLike | PrincipalComponents, caller: str) -> Array | PrincipalComponents:
    """X as a matrix that was checked, or as the components that it is."""
    return X if isinstance(X, PrincipalComponents) else check_matrix(X, caller, "X")


def decomposed(X: Array | PrincipalComponents) -> PrincipalComponents:
    """The components of X."""
    if isinstance(X, PrincipalComponents):
        return X
    centred, mean = centre(X)
    m, n = X.shape
    return PrincipalComponents((m, n), mean, triangle(centred))


def normalize(X: ArrayLike) -> Array:
    """Centre every column and divide by the square root of the number of rows: x_ij <- (x_ij - mean_j) / sqrt(m).

    Afterwards X^T X is the covariance matrix of the data (of the population: divided by m, not by m - 1).

    Parameters
    ----------
    X : array_like, shape (m, n)
        One sample per row.

    Returns
    -------
    ndarray of float64, shape (m, n)

    Raises
    ------
    ShapeError, DTypeError, DataError
        X is not a non-empty matrix, or not of real numbers, or not finite.

    Notes
    -----
    Source: the lecture, where this normalisation makes the optimal linear encoder W the first k columns of V.

    Examples
    --------
    >>> normalize([[1.0, 10.0], [1.0, 20.0], [1.0, 30.0], [1.0, 20.0]]).tolist()
    [[0.0, -5.0], [0.0, 0.0], [0.0, 5.0], [0.0, 0.0]]
    """
    centred, _ = centre(check_matrix(X, "normalize", "X"))
    centred /= np.sqrt(len(centred))
    return centred


def explained_variance(X: ArrayLike | PrincipalComponents) -> Array:
    """The variance along every principal direction, largest first: s_i^2 / m.

    The sum is the total variance, and the sum from index k on is ``reconstruction_floor(X, k)``.

    Parameters
    ----------
    X : array_like, shape (m, n), or PrincipalComponents
        One sample per row; need not be centred.

    Returns
    -------
    ndarray of float64, shape (min(m, n),)

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `normalize`.

    Examples
    --------
    >>> explained_variance([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).round(12).tolist()
    [4.5, 0.5]
    """
    return decomposed(data_or_components(X, "explained_variance")).variances.copy()


def explained_variance_ratio(X: ArrayLike | PrincipalComponents) -> Array:
    """The share of the total variance along every principal direction, largest first: s_i^2 / sum_j s_j^2.

    Parameters
    ----------
    X : array_like, shape (m, n), or PrincipalComponents
        One sample per row; need not be centred.

    Returns
    -------
    ndarray of float64, shape (min(m, n),)
        The sum is 1; ``1 - explained_variance_ratio(X)[:k].sum()`` is the floor for width k in units of the total.

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `normalize`; also where all samples are equal, so that there is no variance to share out.

    Examples
    --------
    >>> explained_variance_ratio([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).round(12).tolist()
    [0.9, 0.1]
    """
    X = data_or_components(X, "explained_variance_ratio")
    variances = decomposed(X).variances
    total = variances.sum()
    if not total > 0:
        raise DataError(
            f"explained_variance_ratio: the {X.shape[0]} samples are all equal; expected data that vary in some "
            "direction."
        )
    return np.asarray(variances / total)


def reconstruction_floor(X: ArrayLike | PrincipalComponents, k: int) -> float:
    """The least squared error per sample that an affine decoder of width k can reach on X: sum_{i>k} s_i^2 / m.

    It is in the units of ``ae.squared_error(x_hat, x)``: summed over the columns, averaged over the samples.

    Parameters
    ----------
    X : array_like, shape (m, n), or PrincipalComponents
        One sample per row; need not be centred.
    k : int, 1 <= k <= min(m, n)
        The number of hidden units.

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `normalize`; also where k is out of range or not an integer.

    Notes
    -----
    Source: C. Eckart and G. Young, "The approximation of one matrix by another of lower rank", Psychometrika 1 (1936);
    P. Baldi and K. Hornik, "Neural networks and principal component analysis", Neural Networks 2 (1989).

    Examples
    --------
    >>> round(reconstruction_floor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]], k=1), 12)
    0.5
    """
    X = data_or_components(X, "reconstruction_floor")
    k = check_width(k, X.shape, "reconstruction_floor")
    return float(decomposed(X).variances[k:].sum())


def principal_directions(X: ArrayLike | PrincipalComponents, k: int) -> Array:
    """The k orthonormal directions along which the data vary most, as columns, in order of decreasing variance.

    The sign of each is fixed: its largest component is positive (the first one of them, where several are as large).

    Parameters
    ----------
    X : array_like, shape (m, n), or PrincipalComponents
        One sample per row; need not be centred.
    k : int, 1 <= k <= min(m, n)
        How many.

    Returns
    -------
    ndarray of float64, shape (n, k)
        V_k. Directions of equal variance span a definite subspace, but which basis of it comes out is up to rounding.

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `reconstruction_floor`.

    Examples
    --------
    >>> principal_directions([[3.0, -3.0], [-3.0, 3.0], [1.0, 1.0], [-1.0, -1.0]], k=1).round(6).tolist()
    [[0.707107], [-0.707107]]
    """
    X = data_or_components(X, "principal_directions")
    k = check_width(k, X.shape, "principal_directions")
    return decomposed(X).directions(k)


def fix_signs(V: Array) -> Array:
    """Turn every column so that its largest component is positive."""
    size = np.abs(V)
    # Components that are equal but for rounding must not let the rounding choose the sign.
    leading = np.argmax(size >= (1 - 1e-8) * size.max(axis=0), axis=0)
    return np.asarray(V * np.sign(V[leading, np.arange(V.shape[1])]))


def triangle(X: Array) -> Array:
    """A matrix with the singular values and right singular vectors of X, and at most as many rows as columns."""
    m, n = X.shape
    rows = max(4 * n, 1024)  # large enough that the triangle carried along is a small part of each step
    R = np.empty((0, n))
    for start in range(0, m, rows):
        block = np.concatenate([R, X[start : start + rows]])
        R = np.asarray(np.linalg.qr(block, mode="r"))  # an array already; the type stubs say (Q, R)
    return R


def centre(X: Array) -> tuple[Array, Array]:
    """X minus the mean of its rows, as an array of its own, and that mean."""
    mean = X.mean(axis=0)
    centred = X - mean
    correction = centred.mean(axis=0)  # what rounding left over; it matters where the mean dwarfs the spread
    centred -= correction
    return centred, mean + correction
