"""The variational autoencoder: the divergence, the sample, and a linear model whose optimum is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import autoencoders as ae
import minigrad as mg
from minigrad.errors import DTypeError, ShapeError
from minigrad.testing import check_grad

SETTINGS = settings(max_examples=60, deadline=None)
values = st.floats(-4, 4)
pairs = array_shapes(min_dims=2, max_dims=2, max_side=4).flatmap(
    lambda shape: st.tuples(arrays(np.float64, shape, elements=values), arrays(np.float64, shape, elements=values))
)


@SETTINGS
@given(pairs)
def test_the_divergence_is_the_integral(pair):
    """E_q[log q - log p] by Gauss-Hermite quadrature, exact for the polynomial of degree 2 that is integrated."""
    mean, log_variance = pair
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    total = 0.0
    for node, weight in zip(nodes, weights / math.sqrt(2 * math.pi), strict=True):
        h = mean + np.exp(log_variance / 2) * node
        total += weight * (-0.5 * node**2 - 0.5 * log_variance + 0.5 * h**2).sum()
    found = ae.gaussian_kl(mg.tensor(mean), mg.tensor(log_variance)).item()
    # rounding of terms as large as h^2, variance and log-variance
    np.testing.assert_allclose(found, total / len(mean), rtol=1e-12, atol=1e-12 * mean.shape[1])
    assert found >= -1e-15  # rounding


def test_the_divergence_is_zero_at_the_standard_normal_alone_and_keeps_digits_near_it():
    zero = mg.zeros((2, 3))
    assert ae.gaussian_kl(zero, zero).item() == 0
    small = mg.full((1, 1), 1e-3)  # (exp(t) - 1 - t) / 2 = t^2/4 + t^3/12 + ..; the naive form has no digit left
    np.testing.assert_allclose(ae.gaussian_kl(zero[:1, :1], small).item(), 2.5008e-7, rtol=1e-3)


def test_derivatives_of_the_divergence():
    rng = np.random.default_rng(0)
    mean, log_variance = (mg.tensor(rng.normal(size=(3, 2)), requires_grad=True) for _ in range(2))
    check_grad(ae.gaussian_kl, mean.detach(), log_variance.detach())
    ae.gaussian_kl(mean, log_variance).backward()
    np.testing.assert_allclose(mean.grad.numpy(), mean.detach().numpy() / 3, rtol=1e-14)
    np.testing.assert_allclose(log_variance.grad.numpy(), np.expm1(log_variance.detach().numpy()) / 6, rtol=1e-13)


def test_samples_have_the_mean_and_variance_asked_for():
    model = ae.VariationalAutoencoder((4,), 2)
    mean = mg.tensor([[1.0, -2.0]] * 20000)
    log_variance = mg.tensor([[0.0, math.log(0.25)]] * 20000)
    mg.random.seed(1)
    h = model.sample(mean, log_variance).numpy()
    # four standard errors of 20000 draws
    np.testing.assert_allclose(h.mean(axis=0), [1.0, -2.0], atol=4 / math.sqrt(20000))
    np.testing.assert_allclose(h.var(axis=0), [1.0, 0.25], rtol=4 * math.sqrt(2 / 20000))
    assert abs(np.corrcoef(h.T)[0, 1]) < 4 / math.sqrt(20000)
    mg.random.seed(1)
    again = model.sample(mean, log_variance).numpy()
    own = model.sample(mean, log_variance, mg.random.Generator(1)).numpy()
    assert (again == h).all() and (own == h).all()
    assert (model.sample(mean, log_variance).numpy() != h).any()


def test_gradients_flow_through_a_sample():
    model = ae.VariationalAutoencoder((4,), 2)

    def draw(mean, log_variance):
        return model.sample(mean, log_variance, mg.random.Generator(3))

    check_grad(draw, np.ones((3, 2)), np.full((3, 2), 0.5))


def test_the_code_is_the_mean_and_nothing_is_drawn():
    model = ae.VariationalAutoencoder((4, 3), 2)
    x = np.random.default_rng(0).random((5, 4))
    before = mg.random.default_generator().state()
    h, (mean, log_variance) = model.encode(x), model.distribution(x)
    assert (h.numpy() == mean.numpy()).all() and log_variance.shape == (5, 2)
    assert (mean.numpy() != log_variance.numpy()).all()
    assert (model(x).numpy() == model.decode(mean).numpy()).all()
    assert mg.random.default_generator().state() == before


def test_generated_data_are_decoded_standard_normal_codes():
    model = ae.VariationalAutoencoder((4, 3), 2, dtype="float64")
    codes = mg.random.Generator(7).normal((6, 2), "float64")
    assert (model.generate(6, mg.random.Generator(7)).numpy() == model.decode(codes).numpy()).all()
    mg.random.seed(7)
    assert (model.generate(6).numpy() == model.decode(codes).numpy()).all()


def test_a_linear_model_reaches_the_optimum_of_probabilistic_pca():
    """With a linear decoder of known noise variance v the bound is tight at the optimum, where it is the likelihood.

    M. Tipping and C. Bishop, "Probabilistic principal component analysis" (1999): the largest likelihood has
    C = sum_{i<=k} max(lambda_i, v) u_i u_i' + v (the rest), and -log p = (n log 2 pi + log|C| + tr(C^-1 S)) / 2.
    """
    rng = np.random.default_rng(0)
    v, m = 0.1, 200
    x = rng.normal(size=(m, 2)) @ np.array([[1.5, 0.5, 0.0], [0.0, 1.0, -1.0]]) + math.sqrt(v) * rng.normal(size=(m, 3))
    x -= x.mean(axis=0)
    eigenvalues = np.linalg.eigvalsh(x.T @ x / m)
    variances = np.array([v, *np.maximum(eigenvalues[1:], v)])
    best = 0.5 * (3 * math.log(2 * math.pi) + np.log(variances).sum() + (eigenvalues / variances).sum())
    model = ae.VariationalAutoencoder((3,), 2, output="linear", dtype="float64")
    generator = mg.random.Generator(5)

    def bound(x, draws=1):
        mean, log_variance = model.distribution(x)
        error = sum(
            ae.squared_error(model.decode(model.sample(mean, log_variance, generator)), x) for _ in range(draws)
        )
        normal = 1.5 * math.log(2 * math.pi * v)
        return error / (2 * v * draws) + normal + ae.gaussian_kl(mean, log_variance)

    data = mg.tensor(x)
    optimizer = mg.optim.Adam(model.parameters(), lr=0.03)

    @mg.compile
    def step(data):
        optimizer.zero_grad()
        loss = bound(data)
        loss.backward()
        optimizer.step()
        return loss

    for i in range(1500):
        optimizer.lr = 0.03 * (1 - i / 1500)
        step(data)
    with mg.no_grad():
        found = bound(data, draws=200).item()
    assert best - 0.02 < found < best + 0.05, (found, best)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ae.VariationalAutoencoder((), 2), ShapeError, "sizes=.*one or more"),
        (lambda: ae.VariationalAutoencoder((4,), 0), ShapeError, "code=0"),
        (lambda: ae.VariationalAutoencoder((4,), 2.5), DTypeError, "code=2.5"),
        (lambda: ae.VariationalAutoencoder((4,), 2, dtype="int64"), DTypeError, "int64"),
        (lambda: ae.VariationalAutoencoder((4,), 2).generate(0), ShapeError, "generate: got n=0"),
        (lambda: ae.VariationalAutoencoder((4,), 2).decode(np.zeros((1, 4))), ShapeError, r"expected \(..., 2\)"),
        (lambda: ae.gaussian_kl(mg.zeros((1, 2)), mg.zeros((1, 1))), ShapeError, "same shape"),
        (lambda: ae.gaussian_kl(mg.zeros((0, 2)), mg.zeros((0, 2))), ShapeError, "at least one"),
        (lambda: ae.gaussian_kl(mg.zeros((2,)), mg.zeros((2,))), ShapeError, r"expected \(m, k\)"),
        (lambda: ae.gaussian_kl(np.zeros((1, 2)), mg.zeros((1, 2))), DTypeError, "mean is ndarray"),
        (lambda: ae.gaussian_kl(mg.zeros((1, 2)), mg.zeros((1, 2), "int64")), DTypeError, "log_variance is int64"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
