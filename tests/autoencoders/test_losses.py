"""Losses: against NumPy, against derivatives derived by hand, and at the ends of their ranges.

All in float64; two ways to compute one sum of a few dozen terms agree to some hundred eps (1e-13 relative).
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import autoencoders as ae
import minigrad as mg
from minigrad.errors import DataError, DTypeError, ShapeError

SETTINGS = settings(max_examples=50, deadline=None)
shapes = array_shapes(min_dims=1, max_dims=3, max_side=5)


@st.composite
def pairs(draw, low, high, target_low=0.0, target_high=1.0):
    shape = draw(shapes)
    first = draw(arrays(np.float64, shape, elements=st.floats(low, high, width=32)))
    return first, draw(arrays(np.float64, shape, elements=st.floats(target_low, target_high, width=32)))


def value_and_gradient(loss, x_hat, x):
    x_hat = mg.tensor(x_hat, requires_grad=True)
    value = loss(x_hat, mg.tensor(x))
    value.backward()
    assert value.shape == () and value.dtype == np.float64
    return value.item(), x_hat.grad.numpy()


def assert_close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# ---------------------------------------------------------------- values and gradients


@SETTINGS
@given(pairs(-10, 10, -10, 10))
def test_squared_error_sums_over_features_and_averages_over_samples(pair):
    x_hat, x = pair
    value, gradient = value_and_gradient(ae.squared_error, x_hat, x)
    assert_close(value, sum(((a - b) ** 2).sum() for a, b in zip(x_hat, x, strict=True)) / len(x))
    assert_close(gradient, 2 * (x_hat - x) / len(x))


@SETTINGS
@given(pairs(-10, 10, -10, 10), st.floats(0.125, 8))
def test_huber_by_hand(pair, delta):
    x_hat, x = pair
    value, gradient = value_and_gradient(lambda a, b: ae.huber(a, b, delta), x_hat, x)
    r = np.abs(x_hat - x)
    assert_close(value, np.where(r <= delta, r**2 / 2, delta * (r - delta / 2)).sum() / len(x))
    assert_close(gradient, np.clip(x_hat - x, -delta, delta) / len(x))


@SETTINGS
@given(pairs(2**-10, 1 - 2**-10))
def test_binary_cross_entropy_by_hand(pair):
    p, x = pair
    value, gradient = value_and_gradient(ae.binary_cross_entropy, p, x)
    expected = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum() / len(x)
    np.testing.assert_allclose(value, expected, rtol=1e-12)  # log(1 - p) itself loses 1e-13 for p near 2**-10
    np.testing.assert_allclose(gradient, (p - x) / (p * (1 - p)) / len(x), rtol=1e-11, atol=1e-11)


@SETTINGS
@given(pairs(-20, 20))
def test_cross_entropy_on_logits_by_hand(pair):
    z, x = pair
    value, gradient = value_and_gradient(ae.binary_cross_entropy_with_logits, z, x)
    assert_close(value, (np.logaddexp(0, z) - x * z).sum() / len(x))
    assert_close(gradient, (sigmoid(z) - x) / len(x))


@SETTINGS
@given(pairs(-6, 6))
def test_the_two_cross_entropies_are_one_function_of_the_logits(pair):
    z, x = pair
    on_logits = value_and_gradient(ae.binary_cross_entropy_with_logits, z, x)
    on_probabilities = value_and_gradient(lambda z, x: ae.binary_cross_entropy(mg.sigmoid(z), x), z, x)
    for a, b in zip(on_logits, on_probabilities, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)  # 1 - sigmoid(6) = 0.0025 costs 400 eps


@SETTINGS
@given(pairs(-20, 20, 2**-10, 1 - 2**-10))
def test_cross_entropy_never_goes_below_the_entropy_of_x(pair):
    z, x = pair
    entropy = -(x * np.log(x) + (1 - x) * np.log(1 - x)).sum() / len(x)
    value, _ = value_and_gradient(ae.binary_cross_entropy_with_logits, z, x)
    assert value >= entropy - 1e-12
    best, gradient = value_and_gradient(ae.binary_cross_entropy_with_logits, np.log(x / (1 - x)), x)
    np.testing.assert_allclose(best, entropy, rtol=1e-11)
    assert np.abs(gradient).max() < 1e-14


# ---------------------------------------------------------------- weights

LOSSES = [ae.squared_error, ae.huber, ae.binary_cross_entropy, ae.binary_cross_entropy_with_logits]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", [(4, 3), (3,), (4, 1), (1, 3), ()])
def test_weights_multiply_the_error_of_each_entry(loss, shape):
    rng = np.random.default_rng(0)
    x_hat, x, w = rng.uniform(0.1, 0.9, (4, 3)), rng.random((4, 3)), rng.uniform(0, 2, shape)
    value, gradient = value_and_gradient(lambda a, b: loss(a, b, weights=mg.tensor(w)), x_hat, x)
    expected, slopes = 0.0, np.zeros((4, 3))
    for i, j in np.ndindex(4, 3):  # the loss of one entry alone, of one sample
        part = value_and_gradient(loss, x_hat[i : i + 1, j : j + 1], x[i : i + 1, j : j + 1])
        weight = np.broadcast_to(w, (4, 3))[i, j]
        expected += weight * part[0] / 4
        slopes[i, j] = weight * part[1].item() / 4
    assert_close(value, expected)
    assert_close(gradient, slopes)


def test_emphasis_weighs_what_noise_changed():
    x = mg.tensor(np.linspace(0.5, 1, 40).reshape(4, 10))
    x_tilde = ae.masking_noise(x, 0.5, mg.random.Generator(0))
    lost = x_tilde.numpy() == 0
    assert 0 < lost.sum() < 40
    assert (ae.emphasis(x_tilde, x, 2.0, 0.25).numpy() == np.where(lost, 2.0, 0.25)).all()
    only = ae.squared_error(mg.zeros((4, 10), dtype="float64"), x, weights=ae.emphasis(x_tilde, x, 1.0, 0.0))
    assert_close(only.item(), (x.numpy()[lost] ** 2).sum() / 4)


def test_emphasis_is_compiled_with_the_objective():
    def objective(model, x):
        x_tilde = ae.masking_noise(x, 0.25)
        return ae.squared_error(model(x_tilde), x, weights=ae.emphasis(x_tilde, x, 1.0, 0.1))

    X, curves = np.random.default_rng(0).random((40, 6)), []
    for compile in (True, False):
        curves.append(ae.fit(ae.Autoencoder((6, 3)), X, objective, epochs=3, batch_size=10, compile=compile).loss)
    assert curves[0] == curves[1]


def test_wrong_weights_are_refused():
    x = mg.full((3, 2), 0.5)
    with pytest.raises(ShapeError, match=r"weights of shape \(3,\); expected one that fits \(3, 2\)"):
        ae.squared_error(x, x, weights=mg.ones((3,)))
    with pytest.raises(ShapeError, match="weights of shape"):
        ae.squared_error(x, x, weights=mg.ones((1, 3, 2)))  # would make a larger sum
    with pytest.raises(DTypeError, match="weights are float"):
        ae.squared_error(x, x, weights=2.0)
    with pytest.raises(DataError, match="clean=-1"):
        ae.emphasis(x, x, 1.0, -1.0)
    with pytest.raises(DataError, match="delta=0"):
        ae.huber(x, x, delta=0)


# ---------------------------------------------------------------- the ends of the range


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probabilities_of_exactly_0_and_1_give_a_finite_loss_and_no_gradient(dtype):
    x_hat = mg.tensor(np.array([[0.0, 1.0, 0.0, 1.0]], dtype), requires_grad=True)
    loss = ae.binary_cross_entropy(x_hat, mg.tensor(np.array([[1.0, 0.0, 0.0, 1.0]], dtype)))
    loss.backward()
    limits = np.finfo(dtype)
    assert loss.dtype == dtype
    # the two right answers cost at most eps; the wrong ones are the logarithms of the limits in the docstring
    np.testing.assert_allclose(loss.item(), -np.log(float(limits.tiny)) - np.log(float(limits.epsneg)), rtol=1e-6)
    assert (x_hat.grad.numpy() == 0).all()


def test_a_tiny_probability_keeps_its_gradient():
    z = mg.tensor(np.array([[-60.0]], np.float32), requires_grad=True)  # sigmoid(-60) = 9e-27, far below eps
    ae.binary_cross_entropy(mg.sigmoid(z), mg.ones((1, 1))).backward()
    np.testing.assert_allclose(z.grad.numpy(), [[-1.0]], rtol=1e-6)  # sigmoid(z) - x


def test_huge_logits_are_exact_and_keep_their_gradient():
    value, gradient = value_and_gradient(
        ae.binary_cross_entropy_with_logits, np.array([[1e4, -1e4, 1e4]]), np.array([[0.0, 1.0, 1.0]])
    )
    assert value == 2e4
    assert gradient.tolist() == [[1.0, -1.0, 0.0]]


def test_nan_is_passed_on_for_the_training_loop_to_name():
    loss = ae.binary_cross_entropy(mg.tensor([[np.nan, 0.5]]), mg.tensor([[0.0, 1.0]]))
    assert np.isnan(loss.item())


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("loss", LOSSES)
def test_shapes_and_dtypes_must_agree(loss):
    x = mg.full((3, 2), 0.5)
    with pytest.raises(ShapeError, match=r"\(3, 2\) and \(3, 1\)"):
        loss(x, mg.zeros((3, 1)))  # would broadcast
    with pytest.raises(ShapeError, match="at least one sample"):
        loss(mg.zeros((0, 2)), mg.zeros((0, 2)))
    with pytest.raises(DTypeError, match="float32 and float64"):
        loss(x, mg.zeros((3, 2), dtype="float64"))
    with pytest.raises(DTypeError, match="int64"):
        loss(x, mg.zeros((3, 2), dtype="int64"))
    with pytest.raises(DTypeError, match="the first argument is ndarray; expected a tensor"):
        loss(np.zeros((3, 2), np.float32), x)
    with pytest.raises(DTypeError, match="the second argument has dtype <U1; expected real numbers"):
        loss(x, np.array([["a", "b"]] * 3))
    with pytest.raises(DTypeError, match="the first argument is int64"):
        loss(mg.zeros((3, 2), dtype="int64"), np.zeros((3, 2)))
    with pytest.raises(DataError, match="masked"):
        loss(x, np.ma.masked_array(np.zeros((3, 2)), mask=[[True, False]] * 3))


@pytest.mark.parametrize("loss", [*LOSSES, lambda x_hat, x: ae.emphasis(x_hat, x, 1.0, 0.5)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", ["float32", "float64", "uint8", "bool"])
def test_the_data_may_be_an_array(loss, dtype, given):
    """It is converted as models convert theirs: to the dtype of the reconstruction."""
    x = np.array([[0, 1], [1, 1], [0, 0]], given)
    x_hat = mg.tensor([[0.25, 1.0], [0.5, 0.75], [0.0, 0.125]], dtype=dtype, requires_grad=True)
    value, expected = loss(x_hat, x), loss(x_hat, mg.tensor(x, dtype=dtype))
    assert value.dtype == expected.dtype == dtype
    np.testing.assert_array_equal(value.detach().numpy(), expected.detach().numpy())
    assert isinstance(loss(x_hat, x.tolist()), mg.Tensor)


def test_a_model_and_a_loss_take_the_same_array():
    model = ae.Autoencoder((3, 2), seed=0)
    X = np.random.default_rng(0).random((4, 3))  # float64
    assert ae.squared_error(model(X), X).item() == ae.squared_error(model(X), mg.tensor(X, dtype="float32")).item()


@pytest.mark.parametrize("loss", LOSSES[2:])
@pytest.mark.parametrize("bad", [-0.01, 1.5, 255.0])
def test_cross_entropy_refuses_targets_outside_0_1(loss, bad):
    with pytest.raises(DataError, match=rf"x contains {bad:g}; expected targets in \[0, 1\]"):
        loss(mg.full((1, 2), 0.5), mg.tensor([[0.5, bad]]))


def test_cross_entropy_refuses_what_is_not_a_probability():
    with pytest.raises(DataError, match="x_hat contains -0.25.*output='sigmoid'"):
        ae.binary_cross_entropy(mg.tensor([[0.5, -0.25]]), mg.tensor([[0.0, 1.0]]))


def test_a_recorded_loss_says_that_its_lines_are_of_this_package():
    line = str(mg.record(ae.squared_error)(mg.ones((2, 3)), mg.zeros((2, 3)))).splitlines()[1]
    assert "# autoencoders/losses.py:" in line, line
