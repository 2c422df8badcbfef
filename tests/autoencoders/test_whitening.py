"""Whitening: the covariance that it leaves, the way back, and that ZCA changes the data least."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoencoders import pca
from autoencoders.datasets import Whitening, natural_patches, pca_whitening, zca_whitening
from minigrad.errors import DataError, DTypeError, ShapeError

SETTINGS = settings(max_examples=40, deadline=None)
both = pytest.mark.parametrize("whitening", [zca_whitening, pca_whitening])


@st.composite
def samples(draw):
    """Correlated data, with a mean, whose covariance has a condition number of at most 1e4."""
    n = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m = n + 1 + draw(st.integers(0, 20))
    U = np.linalg.qr(np.column_stack([np.ones(m), rng.standard_normal((m, n))]))[0][:, 1:]  # orthogonal to ones
    V = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return rng.standard_normal(n) + np.sqrt(m) * U * rng.uniform(0.01, 1, n) @ V.T


def covariance(Z):
    return np.cov(Z, rowvar=False, bias=True).reshape(Z.shape[1], Z.shape[1])


@both
@SETTINGS
@given(X=samples())
def test_without_epsilon_the_covariance_is_the_identity_and_nothing_is_lost(whitening, X):
    """The map multiplies rounding by up to 100, the root of the condition number, and the covariance squares it."""
    whiten = whitening(X, 0.0)
    Z = whiten(X)
    np.testing.assert_allclose(covariance(Z), np.eye(X.shape[1]), atol=1e-10)
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(whiten.inverse(Z), X, atol=1e-12)
    np.testing.assert_allclose(whiten.matrix @ whiten.inverse_matrix, np.eye(X.shape[1]), atol=1e-12)


@both
@SETTINGS
@given(X=samples(), epsilon=st.floats(0.001, 10))
def test_epsilon_leaves_the_variances_lambda_over_lambda_plus_epsilon(whitening, X, epsilon):
    whiten, variances = whitening(X, epsilon), pca.explained_variance(X)
    np.testing.assert_allclose(
        pca.explained_variance(whiten(X)), np.sort(variances / (variances + epsilon))[::-1], rtol=1e-10
    )
    np.testing.assert_allclose(whiten.inverse(whiten(X)), X, atol=1e-12)


@SETTINGS
@given(samples(), st.integers(0, 2**32 - 1))
def test_zca_is_symmetric_and_of_all_whitenings_the_nearest_to_the_data(X, seed):
    whiten = zca_whitening(X, 0.0)
    np.testing.assert_allclose(whiten.matrix, whiten.matrix.T, atol=1e-11)
    centred = X - X.mean(axis=0)
    distance = ((whiten(X) - centred) ** 2).sum()
    rotations = [np.linalg.qr(np.random.default_rng(seed).standard_normal(whiten.matrix.shape))[0]]
    rotations.append(pca.principal_directions(X, X.shape[1]))  # which is PCA whitening
    for rotation in rotations:  # every other whitening is this one, turned
        assert ((whiten(X) @ rotation - centred) ** 2).sum() >= distance - 1e-10 * (1 + distance)
    np.testing.assert_allclose(
        whiten(X) @ rotations[1], pca_whitening(X, 0.0)(X), atol=1e-9
    )  # close variances, and so directions, are told apart at 1e-16 / gap


@SETTINGS
@given(samples(), st.data())
def test_with_fewer_directions_the_way_back_is_the_projection_of_pca(X, data):
    k = data.draw(st.integers(1, X.shape[1]))
    whiten = pca_whitening(X, 0.0, k)
    assert whiten(X).shape == (len(X), k)
    np.testing.assert_allclose(whiten.inverse(whiten(X)), pca.linear_autoencoder(X, k)(X), atol=1e-12)


def test_fewer_samples_than_features():
    """ZCA whitens within the span of the data, and divides by sqrt(epsilon) what lies across."""
    X = np.random.default_rng(0).standard_normal((4, 6))
    whiten = zca_whitening(X, 0.25)
    V = np.linalg.svd(X - X.mean(axis=0))[2].T
    np.testing.assert_allclose(whiten.matrix @ V[:, 3:], V[:, 3:] / 0.5, atol=1e-12)
    variances = pca.explained_variance(X)[:3]
    np.testing.assert_allclose(whiten.matrix @ V[:, :3], V[:, :3] / np.sqrt(variances + 0.25), atol=1e-12)
    np.testing.assert_allclose(whiten.matrix @ whiten.inverse_matrix, np.eye(6), atol=1e-12)


def test_the_statistics_are_those_of_the_data_it_was_made_from():
    rng = np.random.default_rng(1)
    X, other = rng.standard_normal((30, 3)) + 5, rng.standard_normal((7, 3))
    whiten = zca_whitening(X, 0.1)
    assert isinstance(whiten, Whitening)
    np.testing.assert_allclose(whiten.mean, X.mean(axis=0), rtol=1e-14)
    np.testing.assert_array_equal(whiten(other), (other - whiten.mean) @ whiten.matrix)
    np.testing.assert_array_equal(whiten(other[0]), whiten(other)[0])
    assert whiten(other.astype(np.float32)).dtype == whiten.inverse(other.astype(np.float32)).dtype == np.float32


def test_patches_of_photographs_become_white():
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    """The grey levels of neighbours are nearly the same; whitened they tell nothing about each other."""
    X = natural_patches(2000, 6, normalize=None)
    neighbours = [np.corrcoef(Z[:, 14], Z[:, 15])[0, 1] for Z in (X, zca_whitening(X, 0.0)(X))]
    assert neighbours[0] > 0.7 and abs(neighbours[1]) < 1e-5  # rounded to float32


# ---------------------------------------------------------------- refusals


@both
def test_directions_without_variance_need_an_epsilon(whitening):
    rng = np.random.default_rng(2)
    X = rng.standard_normal((20, 3))
    for dtype, flat in [
        (np.float64, X @ [[1, 0, 1], [0, 1, 1], [0, 0, 0]]),
        (np.float32, X - X.mean(axis=1, keepdims=True)),  # as patches without their mean: flat but for rounding
    ]:
        with pytest.raises(DataError, match="along 1 of 3 directions the data have no variance; expected a larger"):
            whitening(flat.astype(dtype), 0.0)
        assert np.isfinite(whitening(flat.astype(dtype), 1e-3)(flat)).all()
    with pytest.raises(DataError, match="along 3 of 3"):
        whitening(np.ones((5, 3)), 0.0)
    assert pca_whitening(X @ [[1, 0, 1], [0, 1, 1], [0, 0, 0]], 0.0, k=2).matrix.shape == (3, 2)


@both
def test_bad_arguments_are_refused(whitening):
    X = np.eye(3)
    for arguments, error, words in [
        ((X[0], 0.1), ShapeError, "expected a matrix"),
        ((X * np.nan, 0.1), DataError, "nan"),
        ((X, -1), DataError, "epsilon=-1"),
        ((X, "little"), DTypeError, "epsilon='little'"),
    ]:
        with pytest.raises(error, match=f"{whitening.__name__}: .*{words}"):
            whitening(*arguments)
    with pytest.raises(ShapeError, match="expected 1 <= k <= 3"):
        pca_whitening(X, 0.1, 4)
    whiten = whitening(X, 0.1)
    with pytest.raises(ShapeError, match=r"Whitening: got shape \(2, 4\); expected \(..., 3\)"):
        whiten(np.ones((2, 4)))
    with pytest.raises(ShapeError, match=r"Whitening.inverse: got shape \(2,\)"):
        whiten.inverse(np.ones(2))
