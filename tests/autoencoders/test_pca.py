"""The exact facts about linear autoencoders, on random matrices in float64 and on MNIST.

That the optimum is one, for all kinds of linear autoencoders, is tested in test_identities_linear.py.

Tolerances: the singular values of X are right to a few eps * s_1, so squared errors are compared on the scale of the
total variance, at 1e-12 (some thousand eps, for matrices of at most a few thousand rows) unless a test says otherwise.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autoencoders import pca
from autoencoders.datasets import mnist
from minigrad.errors import DataError, DTypeError, ShapeError

SETTINGS = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def matrices(draw, min_rows=2):
    """Any small matrix, of any rank, with columns that may be constant."""
    m, n = draw(st.integers(min_rows, 12)), draw(st.integers(1, 8))
    return draw(arrays(np.float64, (m, n), elements=st.floats(-10, 10, width=32)))


@st.composite
def matrices_and_widths(draw):
    X = draw(matrices())
    return X, draw(st.integers(1, min(X.shape)))


def loss(x_hat, x):
    """Squared error per sample."""
    return ((x_hat - x) ** 2).sum() / len(x)


def scale_of(X):
    """What rounding errors of a loss on X are proportional to."""
    return 1e-12 * max((X**2).sum() / len(X), 1e-300)


def orthonormal(rng, n, k):
    return np.linalg.qr(rng.standard_normal((n, k)))[0]


def with_spectrum(rng, m, n, singular_values):
    """X with these singular values once centred, its mean, and its right singular vectors."""
    k = len(singular_values)
    U = np.linalg.qr(np.column_stack([np.ones(m), rng.standard_normal((m, k))]))[0][:, 1:]  # orthogonal to ones
    V, mean = orthonormal(rng, n, k), rng.standard_normal(n)
    return mean + (U * singular_values) @ V.T, mean, V


# ---------------------------------------------------------------- the optimum


@SETTINGS
@given(matrices_and_widths())
def test_the_linear_autoencoder_reaches_the_floor(case):
    X, k = case
    assert abs(loss(pca.linear_autoencoder(X, k)(X), X) - pca.reconstruction_floor(X, k)) <= scale_of(X)


@SETTINGS
@given(matrices_and_widths())
def test_the_weights_are_tied_and_orthonormal_and_the_bias_is_what_the_mean_loses(case):
    X, k = case
    best = pca.linear_autoencoder(X, k)
    W, D, n = best.encoder_weight, best.decoder_weight, X.shape[1]
    assert (W.shape, best.encoder_bias.shape, D.shape, best.decoder_bias.shape) == ((n, k), (k,), (k, n), (n,))
    np.testing.assert_array_equal(W, pca.principal_directions(X, k))
    np.testing.assert_array_equal(D, W.T)
    np.testing.assert_allclose(W.T @ W, np.eye(k), atol=1e-14)
    expected_bias = X.mean(axis=0) @ (np.eye(n) - W @ D)
    np.testing.assert_allclose(best.decoder_bias + best.encoder_bias @ D, expected_bias, atol=1e-13)


def test_encode_decode_and_call_are_the_affine_maps_of_the_lecture():
    rng = np.random.default_rng(0)
    W, b, D, c = (rng.standard_normal(shape) for shape in [(5, 2), 2, (2, 5), 5])
    model, x = pca.LinearAutoencoder(W, b, D, c), rng.standard_normal((3, 4, 5))
    np.testing.assert_array_equal(model.encode(x), x @ W + b)
    np.testing.assert_array_equal(model.decode(x @ W + b), (x @ W + b) @ D + c)
    np.testing.assert_array_equal(model(x), model.decode(model.encode(x)))
    assert model(x[0, 0]).shape == (5,)


# ---------------------------------------------------------------- the spectrum


@SETTINGS
@given(matrices(min_rows=1))
def test_normalized_data_have_the_covariance_matrix_as_their_gram_matrix(X):
    Z = pca.normalize(X)
    covariance = np.cov(X, rowvar=False, bias=True).reshape(X.shape[1], X.shape[1])
    np.testing.assert_allclose(Z.T @ Z, covariance, rtol=0, atol=scale_of(X))
    np.testing.assert_allclose(Z.sum(axis=0), 0, atol=1e-13)


@pytest.mark.parametrize(
    ("m", "n"), [(9, 4), (4, 9), (5000, 6), (1025, 6)], ids=["tall", "wide", "blocks", "block + 1"]
)
def test_known_directions_and_variances_are_found(m, n):
    X, mean, V = with_spectrum(np.random.default_rng(m), m, n, np.array([8.0, 2.0, 0.5]))
    np.testing.assert_allclose(pca.explained_variance(X)[:3], np.array([64, 4, 0.25]) / m, rtol=1e-12)
    np.testing.assert_allclose(pca.explained_variance(X)[3:], 0, atol=1e-26)
    found = pca.principal_directions(X, 3)
    np.testing.assert_allclose(np.abs((found * V).sum(axis=0)), 1, rtol=1e-12)
    normalized = np.linalg.svd(pca.normalize(X), full_matrices=False)[2][
        :3
    ].T  # identity 2: W is V of the normalised data
    np.testing.assert_allclose(found @ found.T, normalized @ normalized.T, atol=1e-12)
    np.testing.assert_allclose(pca.linear_autoencoder(X, 3).decoder_bias, mean - mean @ V @ V.T, atol=1e-12)


@SETTINGS
@given(matrices())
def test_the_floor_is_the_variance_that_is_left(X):
    variances = pca.explained_variance(X)
    assert abs(variances.sum() - ((X - X.mean(axis=0)) ** 2).sum() / len(X)) <= scale_of(X)
    assert (np.diff(variances) <= 0).all() and (variances >= 0).all()
    for k in range(1, min(X.shape) + 1):
        assert pca.reconstruction_floor(X, k) == pytest.approx(variances[k:].sum(), rel=1e-14, abs=0)


@pytest.mark.parametrize(("m", "n"), [(7, 5), (5, 7), (3000, 5)])
def test_small_variances_survive_beside_large_ones(m, n):
    """A covariance matrix would keep nothing of the 1e-20; s_3 is right to eps * s_1 / s_3 = 2e-6, s_3^2 to 4e-6."""
    X, _, V = with_spectrum(np.random.default_rng(m), m, n, np.array([1.0, 1e-5, 1e-10]))
    X -= X.mean(axis=0)  # a mean of 1 would drown a spread of 1e-10 when X itself is rounded
    assert pca.explained_variance(X)[2] == pytest.approx(1e-20 / m, rel=1e-4)
    assert pca.reconstruction_floor(X, 2) == pytest.approx(1e-20 / m, rel=1e-4)
    assert abs(pca.principal_directions(X, 3)[:, 2] @ V[:, 2]) == pytest.approx(1, rel=1e-8)


def test_a_mean_that_dwarfs_the_spread_is_removed():
    """The numbers are multiples of 2^-10 below 2^41, so adding the offset is exact and must change nothing."""
    X = np.random.default_rng(1).integers(-1024, 1024, (3000, 3)) / 1024
    shifted = pca.normalize(X + 2.0**40)
    np.testing.assert_allclose(shifted, pca.normalize(X), rtol=0, atol=1e-15)
    np.testing.assert_allclose(shifted.sum(axis=0), 0, atol=1e-12)


def test_a_constant_column_is_reproduced_to_the_last_digit():
    """Adding up 60,000 numbers one by one loses nearly 4 digits of their mean."""
    X = np.column_stack([np.full(60_000, 0.1), np.tile([1.0, -1.0], 30_000)])
    assert pca.linear_autoencoder(X, 1).decoder_bias == pytest.approx([0.1, 0], rel=2e-16, abs=1e-16)


# ---------------------------------------------------------------- invariances


@SETTINGS
@given(seeds, st.sampled_from([(12, 5), (5, 12), (2000, 4)]))
def test_directions_follow_the_data(seed, shape):
    """Reordered, repeated, shifted and scaled samples have the same directions, and rotated ones the rotated."""
    rng = np.random.default_rng(seed)
    X, _, _ = with_spectrum(rng, *shape, np.array([4.0, 2.0, 1.0]))
    V, variances = pca.principal_directions(X, 3), pca.explained_variance(X)[:3]
    for same in (X[rng.permutation(len(X))], np.concatenate([X, X]), X + rng.standard_normal(shape[1]), -3 * X):
        np.testing.assert_allclose(pca.principal_directions(same, 3), V, atol=1e-12)
    np.testing.assert_allclose(pca.explained_variance(-3 * X)[:3], 9 * variances, rtol=1e-12)
    rotation = orthonormal(rng, shape[1], shape[1])
    np.testing.assert_allclose(pca.explained_variance(X @ rotation)[:3], variances, rtol=1e-12)
    rotated = pca.principal_directions(X @ rotation, 3)
    np.testing.assert_allclose(np.abs((rotated * (rotation.T @ V)).sum(axis=0)), 1, atol=1e-12)


@SETTINGS
@given(matrices_and_widths())
def test_directions_are_orthonormal_with_their_largest_component_positive(case):
    X, k = case
    V = pca.principal_directions(X, k)
    np.testing.assert_allclose(V.T @ V, np.eye(k), atol=1e-14)
    assert (V.max(axis=0) >= (1 - 2e-8) * -V.min(axis=0)).all()


def test_rounding_does_not_choose_the_sign_of_a_direction_with_equal_components():
    rng = np.random.default_rng(2)
    line = np.array([1.0, -1.0, 1.0, -1.0]) / 2
    for _ in range(50):
        X = rng.standard_normal((20, 1)) * line + 1e-14 * rng.standard_normal((20, 4))
        np.testing.assert_allclose(pca.principal_directions(X, 1)[:, 0], line, atol=1e-12)


def test_the_input_is_left_alone_and_any_real_dtype_gives_float64():
    X = np.random.default_rng(3).integers(0, 9, (20, 4))
    expected = pca.principal_directions(X.astype(np.float64), 2)
    for dtype in (np.uint8, np.int64, np.float16, np.float32, np.float64):
        given_X = X.astype(dtype)
        V = pca.principal_directions(given_X, 2)
        assert V.dtype == pca.normalize(given_X).dtype == np.float64
        np.testing.assert_array_equal(V, expected)
        np.testing.assert_array_equal(given_X, X)


# ---------------------------------------------------------------- principal angles


@pytest.mark.filterwarnings("error")  # a sine or cosine that rounding pushes above 1 is no reason to warn
@SETTINGS
@given(
    seeds,
    st.lists(
        st.one_of(st.floats(0, np.pi / 2), st.sampled_from([0.0, 1e-15, 1e-12, 1e-8, np.pi / 4, np.pi / 2 - 1e-12])),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 2),
)
def test_known_angles_are_recovered_however_small(seed, angles, extra):
    """A and B share nothing but the angles between paired axes; both are then given in another basis."""
    rng, k = np.random.default_rng(seed), len(angles)
    axes = orthonormal(rng, 2 * k + extra, 2 * k + extra)
    first, second, third = axes[:, :k], axes[:, k : 2 * k], axes[:, 2 * k :]
    A = np.column_stack([first, third])
    B = first * np.cos(angles) + second * np.sin(angles)
    mixed = [M @ (orthonormal(rng, M.shape[1], M.shape[1]) * rng.uniform(0.5, 2, M.shape[1])) for M in (A, B)]
    for one, other in [(A, B), (B, A), mixed]:
        np.testing.assert_allclose(pca.principal_angles(one, other), np.sort(angles), rtol=0, atol=2e-14)


def test_angles_are_ascending_even_where_the_two_formulas_meet():
    for seed in range(100):
        axes = orthonormal(np.random.default_rng(seed), 6, 6)
        assert (np.diff(pca.principal_angles(axes[:, :3], axes[:, :3] + axes[:, 3:])) >= 0).all()  # three times pi/4


def test_a_tiny_angle_keeps_its_digits():
    """The arc cosine gives 0 here, or 1.5e-8."""
    assert pca.principal_angles([[1.0], [0.0]], [[1.0], [1e-10]]) == pytest.approx([1e-10], rel=1e-12)
    assert pca.principal_angles([[1.0], [0.0]], [[1e-10], [1.0]]) == pytest.approx([np.pi / 2 - 1e-10], abs=1e-15)


def test_the_length_of_a_basis_vector_does_not_matter():
    A = np.array([[1.0, 0.0], [0.0, 1e-200], [0.0, 0.0]])
    np.testing.assert_allclose(pca.principal_angles(A, [[0.0], [3e200], [3e200]]), [np.pi / 4], rtol=1e-14)


# ---------------------------------------------------------------- bad input

GOOD = np.arange(12.0).reshape(4, 3) ** 2
WITH_NAN = np.where(GOOD == 16, np.nan, GOOD)
TAKES_X = [
    pca.normalize,
    pca.explained_variance,
    lambda X: pca.reconstruction_floor(X, 1),
    lambda X: pca.principal_directions(X, 1),
    lambda X: pca.linear_autoencoder(X, 1),
    lambda X: pca.principal_angles(X, np.ones((4, 1))),
    lambda X: pca.principal_angles(np.ones((4, 1)), X),
]


@pytest.mark.parametrize("function", TAKES_X)
@pytest.mark.parametrize(
    ("X", "error", "words"),
    [
        (GOOD[0], ShapeError, r"shape \(3,\); expected a matrix"),
        (GOOD[None], ShapeError, r"shape \(1, 4, 3\); expected a matrix"),
        (GOOD[:0], ShapeError, r"shape \(0, 3\)"),
        (GOOD[:, :0], ShapeError, r"shape \(4, 0\)"),
        (WITH_NAN, DataError, r"\[1, 1\] is nan"),
        (np.where(GOOD > 50, -np.inf, GOOD), DataError, r"\[2, 2\] is -inf, one of 4 values"),
        (GOOD + 1j, DTypeError, "complex128"),
        (GOOD.astype(str), DTypeError, "expected real numbers"),
    ],
)
def test_a_bad_matrix_is_refused(function, X, error, words):
    with pytest.raises(error, match=words):
        function(X)


@pytest.mark.parametrize("function", [pca.reconstruction_floor, pca.principal_directions, pca.linear_autoencoder])
def test_a_bad_width_is_refused(function):
    for X, k in [(GOOD, 0), (GOOD, 4), (GOOD, -1), (GOOD.T, 4)]:
        with pytest.raises(ShapeError, match=rf"k={k} .*expected 1 <= k <= 3"):
            function(X, k)
    with pytest.raises(DTypeError, match=r"k=1\.5; expected an integer"):
        function(GOOD, 1.5)
    assert function(GOOD, np.int32(3)) is not None


def test_bases_that_make_no_sense_are_refused():
    for dependent in (np.ones((3, 2)), np.column_stack([np.ones(3), np.zeros(3)]), np.eye(3)[:, [0, 1, 2, 0]]):
        with pytest.raises(DataError, match="columns of B are linearly dependent"):
            pca.principal_angles(np.eye(3), dependent)
    with pytest.raises(ShapeError, match=r"A has shape \(3, 3\) and B has shape \(4, 4\)"):
        pca.principal_angles(np.eye(3), np.eye(4))


def test_samples_of_another_width_are_refused():
    model = pca.linear_autoencoder(GOOD, 2)
    with pytest.raises(ShapeError, match=r"encode: got shape \(4, 2\); expected \(..., 3\)"):
        model(GOOD[:, :2])
    with pytest.raises(ShapeError, match=r"decode: got shape \(\); expected \(..., 2\)"):
        model.decode(1.0)


@pytest.mark.parametrize("use", ["__call__", "encode", "decode"])
def test_samples_that_are_no_real_numbers_or_lie_under_a_mask_are_refused(use):
    model = pca.linear_autoencoder(GOOD, 3)
    np.testing.assert_array_equal(getattr(model, use)(GOOD.tolist()), getattr(model, use)(GOOD))
    for bad in (GOOD * 1j, GOOD.astype(str), GOOD.astype("datetime64[s]")):
        with pytest.raises(DTypeError, match=r"(en|de)code: got dtype [\S]*; expected real numbers"):
            getattr(model, use)(bad)
    with pytest.raises(DataError, match=r"(en|de)code: the argument has \d+ masked values"):
        getattr(model, use)(np.ma.masked_less(GOOD, 2))
    with pytest.raises(ShapeError, match=r"(en|de)code: the argument is no array"):
        getattr(model, use)([[1.0, 2.0, 3.0], [1.0]])


# ---------------------------------------------------------------- MNIST

DATA = Path(os.environ.get("AUTOENCODERS_DATA") or Path(__file__).parents[3] / "shared" / "data")


@pytest.mark.skipif(
    not (DATA / "mnist").is_dir(), reason="needs MNIST: set AUTOENCODERS_DATA to the folder above mnist/"
)
def test_the_floors_on_mnist():
    """Least squared error per image at widths 2 to 256, on the training images and on the test images."""
    widths = [2, 10, 32, 64, 100, 256]
    train_floors = [43.866919, 26.987320, 13.518389, 7.278550, 4.501212, 1.094965]
    test_losses = [43.644881, 26.713872, 13.193336, 7.092688, 4.402838, 1.084678]
    data = mnist(DATA / "mnist")
    # Pixels are k/255 rounded to float32; the figures are for k/255 in float64.
    train, test = (np.rint(x.astype(np.float64) * 255) / 255 for x in (data.x_train, data.x_test))

    variances = pca.explained_variance(train)
    assert variances.sum() == pytest.approx(52.725035, abs=1e-6)
    assert [variances[k:].sum() for k in widths] == pytest.approx(train_floors, abs=1e-6)

    widest, mean = pca.linear_autoencoder(train, 256), train.mean(axis=0)
    for k, expected in zip(widths, test_losses, strict=True):
        V = widest.encoder_weight[:, :k]
        narrow = pca.LinearAutoencoder(V, np.zeros(k), V.T, mean - mean @ V @ V.T)
        assert loss(narrow(test), test) == pytest.approx(expected, abs=1e-6)
    assert loss(widest(test), test) == pytest.approx(test_losses[-1], abs=1e-6)


def test_numbers_whose_squares_leave_the_range_are_refused():
    for scale in (1e200, 1e-200):
        with pytest.raises(DataError, match="rescale"):
            pca.explained_variance_ratio(scale * np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 0.0]]))
    floor = pca.gaussian_noise_floor([[1.0, 0.0], [2.0, 3.0]], 1, 1e200)
    assert floor == pytest.approx(pca.explained_variance([[1.0, 0.0], [2.0, 3.0]]).sum())  # nothing can be told


def test_what_needs_the_samples_says_that_it_got_their_components():
    components = pca.principal_components(np.random.default_rng(0).normal(size=(30, 5)))
    assert pca.principal_components(components) is components
    for needs_samples in (pca.normalize, lambda c: pca.masking_noise_floor(c, 2, 0.1)):
        with pytest.raises(DTypeError, match="is a PrincipalComponents .* samples in rows"):
            needs_samples(components)
