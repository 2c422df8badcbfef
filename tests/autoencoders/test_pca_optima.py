"""Linear autoencoders with weight decay and noise: limits, invariances, and what is refused.

That they are the optima is tested in test_identities_linear.py. All in float64, on matrices of a few rows; 1e-12 is
some thousand eps.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autoencoders import pca
from minigrad.errors import DataError, DTypeError, ShapeError

SETTINGS = settings(max_examples=40, deadline=None)
OPTIMA = {
    "l2": (pca.l2_autoencoder, pca.l2_floor),
    "gaussian": (pca.gaussian_noise_autoencoder, pca.gaussian_noise_floor),
    "masking": (pca.masking_noise_autoencoder, pca.masking_noise_floor),
}
each_optimum = pytest.mark.parametrize(("autoencoder", "floor"), OPTIMA.values(), ids=OPTIMA)


@st.composite
def matrices_and_widths(draw):
    m, n = draw(st.integers(1, 9)), draw(st.integers(1, 6))
    X = draw(arrays(np.float64, (m, n), elements=st.floats(-9, 9, width=32)))
    return X, draw(st.integers(1, min(m, n)))


def assert_close(a, b, X):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * max(1, (X**2).sum() / len(X)))


def loss(x_hat, x):
    return ((x_hat - x) ** 2).sum() / len(x)


@SETTINGS
@given(case=matrices_and_widths())
def test_components_that_were_found_once_answer_as_the_data_do_to_the_last_bit(case):
    X, k = case
    found = pca.principal_components(X)
    for answer in (
        pca.explained_variance,
        lambda data: pca.principal_directions(data, k),
        lambda data: pca.reconstruction_floor(data, k),
        lambda data: pca.linear_autoencoder(data, k)(X),
        lambda data: pca.l2_autoencoder(data, k, 0.5)(X),
        lambda data: pca.l2_floor(data, k, 0.5),
        lambda data: pca.gaussian_noise_autoencoder(data, k, 0.5)(X),
        lambda data: pca.gaussian_noise_floor(data, k, 0.5),
    ):
        np.testing.assert_array_equal(answer(found), answer(X))
    pca.explained_variance(found)[:] = 0  # the caller's, as all that is returned
    np.testing.assert_array_equal(pca.explained_variance(found), pca.explained_variance(X))


def test_components_are_found_once_and_widths_are_checked_before(monkeypatch):
    X = np.arange(12.0).reshape(4, 3) ** 2
    found = pca.principal_components(X)
    monkeypatch.setattr(np.linalg, "qr", lambda *args, **kwargs: pytest.fail("decomposed again"))
    assert pca.l2_floor(found, 2, 0.0) == pca.reconstruction_floor(found, 2)
    with pytest.raises(ShapeError, match=r"got k=4 for X of shape \(4, 3\)"):
        pca.linear_autoencoder(found, 4)
    with pytest.raises(ShapeError, match="got k=4"):
        pca.linear_autoencoder(X, 4)
    with pytest.raises(DTypeError, match="masking_noise_floor"):  # it needs the samples
        pca.masking_noise_floor(found, 2, 0.5)


@each_optimum
@SETTINGS
@given(case=matrices_and_widths())
def test_without_penalty_or_noise_they_are_principal_components(autoencoder, floor, case):
    X, k = case
    least = pca.reconstruction_floor(X, k)
    assert_close(floor(X, k, 0), least, X)
    assert_close(loss(autoencoder(X, k, 0)(X), X), least, X)


@each_optimum
@SETTINGS
@given(case=matrices_and_widths(), levels=st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted))
def test_floors_rise_with_the_disturbance_to_the_total_variance_and_fall_with_the_width(
    autoencoder, floor, case, levels
):
    (X, k), (low, high) = case, levels
    total, slack = pca.explained_variance(X).sum(), 1e-12 * max(1, (X**2).sum() / len(X))
    assert pca.reconstruction_floor(X, k) - slack <= floor(X, k, low) <= floor(X, k, high) + slack <= total + 2 * slack
    if k > 1:
        assert floor(X, k, low) <= floor(X, k - 1, low) + slack


@each_optimum
@pytest.mark.parametrize("level", [1.0, 1e6])
def test_where_nothing_can_be_learned_the_mean_is_the_answer(autoencoder, floor, level):
    X = np.random.default_rng(0).standard_normal((9, 3)) / 1e6 + 1
    if autoencoder is pca.masking_noise_autoencoder:
        level = 1.0
    best = autoencoder(X, 2, level)
    np.testing.assert_allclose(best(X), np.broadcast_to(X.mean(axis=0), X.shape), rtol=1e-11)
    np.testing.assert_allclose(floor(X, 2, level), pca.explained_variance(X).sum(), rtol=1e-9)


@each_optimum
@pytest.mark.parametrize("shape", [(8, 3), (3, 8), (1500, 3)], ids=["tall", "wide", "blocks"])
def test_shapes_types_and_repeated_samples(autoencoder, floor, shape):
    X = np.random.default_rng(1).integers(0, 9, shape).astype(np.float32)
    n = shape[1]
    best = autoencoder(X, 2, 0.25)
    assert (best.encoder_weight.shape, best.decoder_weight.shape) == ((n, 2), (2, n))
    assert (best.encoder_bias.shape, best.decoder_bias.shape) == ((2,), (n,))
    assert best.encoder_weight.dtype == best.decoder_weight.dtype == best.decoder_bias.dtype == np.float64
    np.testing.assert_allclose(autoencoder(np.concatenate([X, X]), 2, 0.25)(X), best(X), rtol=1e-10)
    np.testing.assert_allclose(floor(np.concatenate([X, X]), 2, 0.25), floor(X, 2, 0.25), rtol=1e-12)


@each_optimum
@SETTINGS
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-150, 1e-8, 1e8, 1e150]))
def test_units_do_not_matter(autoencoder, floor, seed, scale):
    """A strength is in squared units of X, a standard deviation in units, and a probability has none."""
    X, level = np.random.default_rng(seed).standard_normal((9, 4)), 0.25
    scaled = {"l2": level * scale**2, "gaussian": level * scale, "masking": level}
    kind = next(name for name in OPTIMA if OPTIMA[name][0] is autoencoder)
    best, same = autoencoder(X, 2, level), autoencoder(scale * X, 2, scaled[kind])
    np.testing.assert_allclose(
        same.encoder_weight @ same.decoder_weight, best.encoder_weight @ best.decoder_weight, atol=1e-11
    )
    np.testing.assert_allclose(floor(scale * X, 2, scaled[kind]), scale**2 * floor(X, 2, level), rtol=1e-11)


def test_a_pixel_that_is_always_black_or_always_the_same_does_no_harm():
    rng = np.random.default_rng(2)
    Z = rng.standard_normal((20, 3))
    X = np.column_stack([Z, np.zeros(20), np.full(20, 5.0)])
    for k in (2, 5):
        best, without = pca.masking_noise_autoencoder(X, k, 0.3), pca.masking_noise_autoencoder(Z, min(k, 3), 0.3)
        np.testing.assert_allclose(best(X)[:, :3], without(Z), atol=1e-12)
        np.testing.assert_allclose(best(X)[:, 3:], [[0.0, 5.0]] * 20, atol=1e-12)
        np.testing.assert_allclose(pca.masking_noise_floor(X, k, 0.3), pca.masking_noise_floor(Z, min(k, 3), 0.3))


def test_a_dim_pixel_tells_as_much_as_a_bright_one():
    """Two columns that differ by a factor of 1e-20 only: the dim one says what the bright one was, if that is lost."""
    z = np.random.default_rng(3).standard_normal((20, 1))
    dim, even = z * [1.0, 1e-20], z * [1.0, 1.0]
    best = pca.masking_noise_autoencoder(dim, 1, 0.5)
    expected = pca.masking_noise_autoencoder(even, 1, 0.5)
    np.testing.assert_allclose(best([0.0, 1e-20])[0], expected([0.0, 1.0])[0], rtol=1e-12)
    np.testing.assert_allclose(
        pca.masking_noise_floor(dim, 1, 0.5), pca.masking_noise_floor(even, 1, 0.5) / 2, rtol=1e-12
    )


@SETTINGS
@given(matrices_and_widths())
def test_the_shares_of_the_variance_add_up_to_1(case):
    X, k = case
    total = pca.explained_variance(X).sum()
    if total == 0:
        with pytest.raises(DataError, match=rf"the {len(X)} samples are all equal"):
            pca.explained_variance_ratio(X)
        return
    shares = pca.explained_variance_ratio(X)
    np.testing.assert_allclose(shares.sum(), 1, rtol=1e-14)
    np.testing.assert_allclose(shares[k:].sum() * total, pca.reconstruction_floor(X, k), rtol=1e-12, atol=1e-300)


# ---------------------------------------------------------------- bad input

GOOD = np.arange(12.0).reshape(4, 3) ** 2
FUNCTIONS = [function for pair in OPTIMA.values() for function in pair]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_bad_arguments_are_refused(function):
    name = function.__name__
    for arguments, error, words in [
        ((GOOD[0], 1, 0.1), ShapeError, r"shape \(3,\); expected a matrix"),
        ((GOOD * np.nan, 1, 0.1), DataError, r"X\[0, 0\] is nan"),
        ((GOOD.astype(str), 1, 0.1), DTypeError, "expected real numbers"),
        ((GOOD, 0, 0.1), ShapeError, "expected 1 <= k <= 3"),
        ((GOOD, 4, 0.1), ShapeError, "expected 1 <= k <= 3"),
        ((GOOD, 1.5, 0.1), DTypeError, "expected an integer"),
        ((GOOD, 1, -0.1), DataError, "-0.1; expected a"),
        ((GOOD, 1, float("nan")), DataError, "nan; expected a"),
        ((GOOD, 1, float("inf")), DataError, "inf; expected a"),
        ((GOOD, 1, "much"), DTypeError, "'much'; expected a number"),
    ]:
        with pytest.raises(error, match=f"{name}: .*{words}"):
            function(*arguments)


@pytest.mark.parametrize("strength", [1e10, 1e308, np.finfo(np.float64).max])
def test_a_decay_that_nothing_withstands_costs_all_variance(strength):
    assert pca.l2_floor(GOOD, 2, strength) == pca.explained_variance(GOOD).sum()
    autoencoder = pca.l2_autoencoder(GOOD, 2, strength)
    assert not autoencoder.encoder_weight.any() and not autoencoder.decoder_weight.any()


def test_a_probability_is_at_most_1():
    for function in OPTIMA["masking"]:
        with pytest.raises(DataError, match=r"q=1.5; expected a finite number in \[0, 1\]"):
            function(GOOD, 1, 1.5)
    with pytest.raises(ShapeError, match="expected a matrix"):
        pca.explained_variance_ratio(GOOD[0])
