"""Whitening: a linear map after which the features are uncorrelated and of equal variance, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autoencoders.inputs import number
from autoencoders.pca.checks import Array, check_matrix, check_rows, check_width
from autoencoders.pca.spectrum import decomposed
from minigrad.errors import DataError


@dataclass(frozen=True, eq=False)
class Whitening:
    """The map z = (x - mean) matrix and its inverse x = z inverse_matrix + mean.

    Attributes
    ----------
    mean : ndarray of float64, shape (n,)
        Of the data it was made from.
    matrix : ndarray of float64, shape (n, k)
    inverse_matrix : ndarray of float64, shape (k, n)
        Where k < n the way back loses what the way there left out.
    """

    mean: Array
    matrix: Array
    inverse_matrix: Array

    def __call__(self, x: ArrayLike) -> NDArray[Any]:
        """The whitened samples z, shape (..., k), of x, shape (..., n); float32 stays float32."""
        samples = check_rows(x, len(self.mean), "Whitening")
        return _like(x, (samples - self.mean) @ self.matrix)

    def inverse(self, z: ArrayLike) -> NDArray[Any]:
        """The samples x, shape (..., n), of whitened z, shape (..., k); float32 stays float32."""
        return _like(z, check_rows(z, len(self.inverse_matrix), "Whitening.inverse") @ self.inverse_matrix + self.mean)


def zca_whitening(X: ArrayLike, epsilon: float) -> Whitening:
    """The whitening that changes the data least: V diag(1 / sqrt(lambda + epsilon)) V^T.

    Of all maps that whiten, this one keeps z nearest to x, so that a whitened patch still looks like a picture, with
    its edges drawn out.

    Parameters
    ----------
    X : array_like, shape (m, n)
        One sample per row; need not be centred.
    epsilon : float, at least 0
        Added to the variance lambda_i along every principal direction, in squared units of X: directions with much less
        variance, which hold little but noise, are not blown up to variance 1. (UFLDL: 0.1 for patches in [0, 1].)

    Returns
    -------
    Whitening
        With a symmetric matrix, k = n. Along direction i the variance of the whitened data is
        lambda_i / (lambda_i + epsilon).

    Raises
    ------
    ShapeError, DTypeError, DataError
        X is not a non-empty matrix of finite real numbers, epsilon is negative or not finite, or it is 0 where X has no
        variance along some direction.

    Notes
    -----
    Source: A. J. Bell and T. J. Sejnowski, "The 'independent components' of natural scenes are edge filters", Vision
    Research 37 (1997); A. Ng et al., UFLDL tutorial, "Whitening".

    Examples
    --------
    >>> X = np.array([[2.0, 1.0], [-2.0, 1.0], [0.0, 2.0], [0.0, 0.0]])
    >>> whiten = zca_whitening(X, epsilon=0.0)
    >>> np.cov(whiten(X).T, bias=True).round(12).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    >>> bool(np.allclose(whiten.inverse(whiten(X)), X))
    True
    """
    resolution = _resolution(X)
    X = check_matrix(X, "zca_whitening", "X")
    epsilon = number(epsilon, "epsilon", "zca_whitening")
    components = decomposed(X)
    V, variances = components.directions(min(X.shape)), components.variances
    width = X.shape[1]
    _check_variances(variances, width, epsilon, resolution, "zca_whitening")
    # directions beyond the rank of X, which V does not hold, have variance 0
    deviations, rest = np.sqrt(variances + epsilon), np.sqrt(epsilon) if len(variances) < width else 1.0
    identity = np.eye(width)
    return Whitening(
        components.mean,
        identity / rest + (V * (1 / deviations - 1 / rest)) @ V.T,
        identity * rest + (V * (deviations - rest)) @ V.T,
    )


def pca_whitening(X: ArrayLike, epsilon: float, k: int | None = None) -> Whitening:
    """The whitening that takes the principal directions as axes: V_k diag(1 / sqrt(lambda + epsilon)).

    Parameters
    ----------
    X : array_like, shape (m, n)
        One sample per row; need not be centred.
    epsilon : float, at least 0
        As for `zca_whitening`.
    k : int, 1 <= k <= min(m, n), optional
        How many directions to keep, those of most variance; by default all of them.

    Returns
    -------
    Whitening
        ``inverse(z)`` is the sample without what lies outside of the first k directions.

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `zca_whitening`; also where k is out of range.

    Notes
    -----
    Source: A. Ng et al., UFLDL tutorial, "Whitening".

    Examples
    --------
    >>> whiten = pca_whitening([[4.0, 0.0], [-4.0, 0.0], [0.0, 2.0], [0.0, -2.0]], epsilon=0.0, k=1)
    >>> whiten([[4.0, 2.0]]).round(6).tolist()
    [[1.414214]]
    """
    resolution = _resolution(X)
    X = check_matrix(X, "pca_whitening", "X")
    epsilon = number(epsilon, "epsilon", "pca_whitening")
    k = min(X.shape) if k is None else check_width(k, X.shape, "pca_whitening")
    components = decomposed(X)
    V, variances = components.directions(k), components.variances
    _check_variances(variances[:k], k, epsilon, resolution, "pca_whitening")
    deviations = np.sqrt(variances[:k] + epsilon)
    return Whitening(components.mean, V / deviations, deviations[:, None] * V.T)


def _resolution(X: ArrayLike) -> float:
    """The relative rounding error of the numbers given."""
    dtype = np.asarray(X).dtype
    return float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps)


def _check_variances(variances: Array, wanted: int, epsilon: float, resolution: float, caller: str) -> None:
    """No direction may be divided by 0, nor by what rounding left there."""
    noise = variances[0] * (wanted * resolution) ** 2
    flat = wanted - int((variances > noise).sum())
    if flat and epsilon <= noise:
        raise DataError(
            f"{caller}: got epsilon={epsilon:g}, but along {flat} of {wanted} directions the data have no variance; "
            "expected a larger epsilon, such as a hundredth of the mean variance"
            + (", or a smaller k." if caller == "pca_whitening" else ".")
        )


def _like(given: ArrayLike, result: Array) -> NDArray[Any]:
    """The result as float32 where that is what was given."""
    return result.astype(np.float32) if getattr(given, "dtype", None) == np.float32 else result
