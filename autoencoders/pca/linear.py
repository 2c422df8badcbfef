"""The linear autoencoder, and its optima in closed form: for the squared error alone, and with weight decay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from autoencoders.inputs import number
from autoencoders.pca.checks import Array, check_rows, check_width
from autoencoders.pca.spectrum import PrincipalComponents, data_or_components, decomposed


@dataclass(frozen=True, eq=False)
class LinearAutoencoder:
    """The affine maps h = x W + b and x_hat = h W* + c.

    Attributes
    ----------
    encoder_weight : ndarray, shape (n, k)
        W.
    encoder_bias : ndarray, shape (k,)
        b.
    decoder_weight : ndarray, shape (k, n)
        W*.
    decoder_bias : ndarray, shape (n,)
        c.
    """

    encoder_weight: Array
    encoder_bias: Array
    decoder_weight: Array
    decoder_bias: Array

    def encode(self, x: ArrayLike) -> Array:
        """The codes h, shape (..., k), of samples x, shape (..., n)."""
        return check_rows(x, len(self.encoder_weight), "encode") @ self.encoder_weight + self.encoder_bias

    def decode(self, h: ArrayLike) -> Array:
        """The reconstructions x_hat, shape (..., n), of codes h, shape (..., k)."""
        return check_rows(h, len(self.decoder_weight), "decode") @ self.decoder_weight + self.decoder_bias

    def __call__(self, x: ArrayLike) -> Array:
        """``decode(encode(x))``."""
        return self.decode(self.encode(x))


def linear_autoencoder(X: ArrayLike | PrincipalComponents, k: int) -> LinearAutoencoder:
    """The linear autoencoder with k hidden units that has the least squared error on X, in closed form.

    W = V_k, W* = V_k^T, b = 0 and c = mean (I - W W*), with V_k from `principal_directions`. It is one optimum of
    many: (W G, G^-1 W*) is another for every invertible G, and so is any b if c gives up b W*.

    Parameters
    ----------
    X : array_like, shape (m, n), or PrincipalComponents
        The training set, one sample per row; need not be centred.
    k : int, 1 <= k <= min(m, n)
        The number of hidden units.

    Returns
    -------
    LinearAutoencoder
        With ``encode``, ``decode``, and both in turn when called.

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `reconstruction_floor`.

    Notes
    -----
    Source: H. Bourlard and Y. Kamp, "Auto-association by multilayer perceptrons and singular value decomposition",
    Biological Cybernetics 59 (1988).

    Examples
    --------
    >>> X = np.array([[4.0, 1.0], [-2.0, 1.0], [1.0, 2.0], [1.0, 0.0]])
    >>> autoencoder = linear_autoencoder(X, k=1)
    >>> autoencoder(X).round(12).tolist()
    [[4.0, 1.0], [-2.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """
    X = data_or_components(X, "linear_autoencoder")
    k = check_width(k, X.shape, "linear_autoencoder")
    components = decomposed(X)
    V = components.directions(k)
    return assemble(V, V.T.copy(), components.mean, components.mean)


def l2_autoencoder(X: ArrayLike | PrincipalComponents, k: int, strength: float) -> LinearAutoencoder:
    """The linear autoencoder that minimises squared error plus weight decay on both weights, in closed form.

    The objective is ``ae.squared_error(model(x), x) + strength * ae.l2(model)``; biases are not decayed. With v_i the
    principal directions and lambda_i the variances along them, W = [a_1 v_1 ... a_k v_k] and W* = W^T, where
    a_i^2 = 1 - strength / lambda_i, or 0 where the variance is not above the strength: such a direction costs more
    than it is worth.

    Weight decay breaks the symmetry of the plain problem: (W G, G^-1 W*) is as good only for orthogonal G. So the left
    singular vectors of W are the principal directions themselves, in order, and not only a basis of their span.

    Parameters
    ----------
    X : array_like, shape (m, n), or PrincipalComponents
        The training set, one sample per row; need not be centred.
    k : int, 1 <= k <= min(m, n)
        The number of hidden units.
    strength : float, at least 0
        In units of a variance of X. (For the summed error ``m * squared_error`` the decay is m times this.)

    Returns
    -------
    LinearAutoencoder

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `reconstruction_floor`; also where the strength is negative or not finite.

    Notes
    -----
    Source: D. Kunin, J. Bloom, A. Goeva and C. Seed, "Loss landscapes of regularized linear autoencoders", ICML (2019);
    E. Plaut, "From principal subspaces to principal components with linear autoencoders", arXiv:1804.10253 (2018).

    Examples
    --------
    >>> autoencoder = l2_autoencoder([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]], k=2, strength=0.5)
    >>> (autoencoder.encoder_weight**2).round(12).tolist()  # 1 - 0.5 / 2, and nothing for a variance of 0.5
    [[0.75, 0.0], [0.0, 0.0]]
    """
    X = data_or_components(X, "l2_autoencoder")
    k = check_width(k, X.shape, "l2_autoencoder")
    strength = number(strength, "strength", "l2_autoencoder")
    components = decomposed(X)
    W = components.directions(k) * np.sqrt(_kept(components.variances[:k], strength))
    return assemble(W, W.T.copy(), components.mean, components.mean)


def l2_floor(X: ArrayLike | PrincipalComponents, k: int, strength: float) -> float:
    """The least value of ``ae.squared_error(model(x), x) + strength * ae.l2(model)``, for linear models of width k.

    It is the sum over the first k directions of 2 strength - strength^2 / lambda_i, or of lambda_i where that is not
    above the strength, plus all further lambda_i.

    Parameters
    ----------
    X : array_like, shape (m, n), or PrincipalComponents
        The training set, one sample per row; need not be centred.
    k : int, 1 <= k <= min(m, n)
        The number of hidden units.
    strength : float, at least 0
        In units of a variance of X.

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `l2_autoencoder`.

    Examples
    --------
    >>> round(l2_floor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]], k=2, strength=0.5), 12)  # 0.875 + 0.5
    1.375
    """
    X = data_or_components(X, "l2_floor")
    k = check_width(k, X.shape, "l2_floor")
    strength = number(strength, "strength", "l2_floor")
    variances = decomposed(X).variances
    kept = _kept(variances[:k], strength)
    # a direction costs lambda (1 - a^2)^2 in error and 2 strength a^2 in decay
    decay = strength * (2 * kept)  # in this order: twice a strength near the largest float is infinite, and inf * 0 nan
    return float((variances[:k] * (1 - kept) ** 2 + decay).sum() + variances[k:].sum())


def assemble(W: Array, D: Array, mean: Array, mean_given: Array) -> LinearAutoencoder:
    """The autoencoder with these weights and the best biases, if `mean_given` is the mean of what it is given."""
    return LinearAutoencoder(W, np.zeros(W.shape[1]), D, mean - (mean_given @ W) @ D)


def _kept(variances: Array, strength: float) -> Array:
    """a_i^2, the share of direction i that passes both weights."""
    loss = np.divide(strength, variances, out=np.ones_like(variances), where=variances > strength)
    return 1 - loss
