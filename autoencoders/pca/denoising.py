"""Linear denoising autoencoders in closed form: their expected loss over all noise has a known minimum.

A linear model x_hat = x~ A + c of a corrupted x~ is asked for the clean x. Averaged over the noise, its squared error
is that on clean data plus a penalty on A: to denoise is to decay weights. With centred X and the best c, the
expectations for gaussian noise and for masking noise are

    (1/m) |X - X A|^2 + sigma^2 |A|^2
    (1/m) |X - (1 - q) X A|^2 + q (1 - q) sum_j r_j^2 |A_j|^2

where A_j is row j of A, and r_j the root mean square of feature j before centring: masking puts zeros in place of
values, so the more there is to lose the more noise it makes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from autoencoders.inputs import number
from autoencoders.pca.checks import Array, check_matrix, check_width
from autoencoders.pca.linear import LinearAutoencoder, assemble
from autoencoders.pca.spectrum import (
    PrincipalComponents,
    centre,
    data_or_components,
    decomposed,
    fix_signs,
    triangle,
)


def gaussian_noise_autoencoder(X: ArrayLike | PrincipalComponents, k: int, sigma: float) -> LinearAutoencoder:
    """The linear autoencoder that is best at removing gaussian noise from X, in closed form.

    It minimises the expectation of ``ae.squared_error(model(ae.gaussian_noise(x, sigma)), x)`` over the noise: W = V_k,
    the principal directions, and W* = diag(lambda_i / (lambda_i + sigma^2)) V_k^T, where lambda_i are the variances
    along them. What passes is shrunk by the share of the variance that is signal, as by a Wiener filter.

    Parameters
    ----------
    X : array_like, shape (m, n), or PrincipalComponents
        The clean training set, one sample per row; need not be centred.
    k : int, 1 <= k <= min(m, n)
        The number of hidden units.
    sigma : float, at least 0
        The standard deviation of the noise, in units of X.

    Returns
    -------
    LinearAutoencoder

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `reconstruction_floor`; also where sigma is negative or not finite.

    Notes
    -----
    Source: C. M. Bishop, "Training with noise is equivalent to Tikhonov regularization", Neural Computation 7 (1995);
    the rank is limited as in `masking_noise_autoencoder`.

    Examples
    --------
    >>> X = [[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    >>> autoencoder = gaussian_noise_autoencoder(X, k=1, sigma=1.0)
    >>> autoencoder([3.0, 3.0]).round(12).tolist()  # the variance 2 of signal, 1 of noise
    [2.0, 0.0]
    """
    X = data_or_components(X, "gaussian_noise_autoencoder")
    k = check_width(k, X.shape, "gaussian_noise_autoencoder")
    sigma = number(sigma, "sigma", "gaussian_noise_autoencoder")
    components = decomposed(X)
    V = components.directions(k)
    return assemble(V, _signal(components.variances[:k], sigma)[:, None] * V.T, components.mean, components.mean)


def gaussian_noise_floor(X: ArrayLike | PrincipalComponents, k: int, sigma: float) -> float:
    """The least expected squared error per sample of a linear autoencoder of width k on X with gaussian noise.

    It is the sum over the first k directions of lambda_i sigma^2 / (lambda_i + sigma^2), plus all further lambda_i.

    Parameters
    ----------
    X : array_like, shape (m, n), or PrincipalComponents
        The clean training set, one sample per row; need not be centred.
    k : int, 1 <= k <= min(m, n)
        The number of hidden units.
    sigma : float, at least 0
        The standard deviation of the noise, in units of X.

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `gaussian_noise_autoencoder`.

    Examples
    --------
    >>> X = [[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    >>> round(gaussian_noise_floor(X, k=1, sigma=1.0), 6)  # 2 / 3 + 1 / 2
    1.166667
    """
    X = data_or_components(X, "gaussian_noise_floor")
    k = check_width(k, X.shape, "gaussian_noise_floor")
    sigma = number(sigma, "sigma", "gaussian_noise_floor")
    variances = decomposed(X).variances
    kept = variances[:k]
    # lambda sigma^2 / (lambda + sigma^2), in the form in which neither has to be squared out of range
    lost = kept * (1.0 - _signal(kept, sigma))
    return float(lost.sum() + variances[k:].sum())


def masking_noise_autoencoder(X: ArrayLike, k: int, q: float) -> LinearAutoencoder:
    """The linear autoencoder that is best at filling in masked values of X, in closed form.

    It minimises the expectation of ``ae.squared_error(model(ae.masking_noise(x, q)), x)`` over the noise. Where the
    rank is not limited, the map is A = W W* = [(1 - q) C + q diag M]^-1 C, where C is the covariance matrix and M_j the
    mean of the squares of feature j (C_jj, where X is centred): the marginalised denoising autoencoder.

    With k hidden units the columns of W*^T are the principal directions of the corrupted data as A maps them, and W is
    A W*^T: a reduced-rank regression. These are not the principal directions of X.

    Parameters
    ----------
    X : array_like, shape (m, n)
        The clean training set, one sample per row. Do not centre what is not centred when it is masked: zero is the
        value that masking puts in.
    k : int, 1 <= k <= min(m, n)
        The number of hidden units; min(m, n) does not limit the rank.
    q : float in [0, 1]
        The probability that a value is masked.

    Returns
    -------
    LinearAutoencoder
        It expects masked samples: what ``ae.masking_noise`` keeps is not rescaled by 1 / (1 - q).

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `reconstruction_floor`; also where q is not a probability.

    Notes
    -----
    Source: M. Chen, Z. Xu, K. Weinberger and F. Sha, "Marginalized denoising autoencoders for domain adaptation", ICML
    (2012), which writes samples as columns and so has the transpose; reduced rank: A. J. Izenman, "Reduced-rank
    regression for the multivariate linear model", Journal of Multivariate Analysis 5 (1975).

    Examples
    --------
    Two features that are always equal: what is lost of one can be read from the other.

    >>> X = [[1.0, 1.0], [-1.0, -1.0]]
    >>> autoencoder = masking_noise_autoencoder(X, k=1, q=0.5)
    >>> autoencoder([1.0, 0.0]).round(6).tolist()
    [0.666667, 0.666667]
    """
    X = check_matrix(X, "masking_noise_autoencoder", "X")
    k = check_width(k, X.shape, "masking_noise_autoencoder")
    q = number(q, "q", "masking_noise_autoencoder", high=1)
    centred, mean = centre(X)
    inputs, targets = _masking_problem(X, centred, q)
    return assemble(*_reduced_rank_regression(inputs, targets, k), mean, (1 - q) * mean)


def masking_noise_floor(X: ArrayLike, k: int, q: float) -> float:
    """The least expected squared error per sample of a linear autoencoder of width k on X with masking noise.

    Parameters
    ----------
    X : array_like, shape (m, n)
        The clean training set, one sample per row, not centred unless what is masked is.
    k : int, 1 <= k <= min(m, n)
        The number of hidden units.
    q : float in [0, 1]
        The probability that a value is masked.

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `masking_noise_autoencoder`.

    Examples
    --------
    >>> round(masking_noise_floor([[1.0, 1.0], [-1.0, -1.0]], k=1, q=0.5), 6)
    0.666667
    """
    X = check_matrix(X, "masking_noise_floor", "X")
    k = check_width(k, X.shape, "masking_noise_floor")
    q = number(q, "q", "masking_noise_floor", high=1)
    inputs, targets = _masking_problem(X, centre(X)[0], q)
    W, D = _reduced_rank_regression(inputs, targets, k)
    return float(((targets - inputs @ W @ D) ** 2).sum())


def _signal(variances: Array, sigma: float) -> Array:
    """lambda_i / (lambda_i + sigma^2), and 0 where there is neither signal nor noise."""
    with np.errstate(over="ignore"):  # noise so strong that no signal is left
        total = variances + np.square(np.float64(sigma))
    return np.divide(variances, total, out=np.zeros_like(total), where=total > 0)


def _masking_problem(X: Array, centred: Array, q: float) -> tuple[Array, Array]:
    """Matrices Z and Y such that |Y - Z A|^2 is the expected error of A: the penalty as further rows of data."""
    R = triangle(centred) / np.sqrt(len(X))
    rms = np.sqrt((X**2).mean(axis=0))
    inputs = np.concatenate([(1 - q) * R, np.sqrt(q * (1 - q)) * np.diag(rms)])
    return inputs, np.concatenate([R, np.zeros((len(rms), len(rms)))])


def _reduced_rank_regression(Z: Array, Y: Array, k: int) -> tuple[Array, Array]:
    """The W, shape (n, k), and D, shape (k, n), that minimise |Y - Z W D|^2."""
    length = np.sqrt((Z**2).sum(axis=0))
    scale = np.where(length > 0, length, 1)  # a dim feature counts as much as a bright one when the rank is determined
    U, s, Vt = np.linalg.svd(Z / scale, full_matrices=False)
    solid = s > s[0] * max(Z.shape) * np.finfo(np.float64).eps
    U, s, Vt = U[:, solid], s[solid], Vt[solid]
    # |Y - Z A|^2 is a constant plus |U^T Y - (s V^T A)|^2, where s V^T A may be any matrix of rank k
    best = U.T @ Y
    D = fix_signs(np.linalg.svd(best)[2][:k].T).T
    return (Vt.T / s) @ (best @ D.T) / scale[:, None], D
