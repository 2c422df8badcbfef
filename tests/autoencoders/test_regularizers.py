"""Penalties: against NumPy and derivatives derived by hand, in float64 (1e-12: some thousand eps)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import autoencoders as ae
import minigrad as mg
from minigrad.errors import DataError, DTypeError, ShapeError

SETTINGS = settings(max_examples=50, deadline=None)
codes_shapes = array_shapes(min_dims=2, max_dims=2, max_side=6)
# away from 0 and 1, where the penalty is steep and the comparison would lose digits
activations = arrays(np.float64, codes_shapes, elements=st.floats(0.015625, 0.984375, width=32))
rates = st.floats(0.01, 0.99)


def assert_close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def kl(rho, r):
    return rho * np.log(rho / r) + (1 - rho) * np.log((1 - rho) / (1 - r))


# ---------------------------------------------------------------- l2


@SETTINGS
@given(arrays(np.float64, array_shapes(max_dims=3, max_side=4), elements=st.floats(-9, 9, width=32)))
def test_l2_is_the_sum_of_squares_and_its_gradient_twice_the_weight(values):
    w = mg.tensor(values, requires_grad=True)
    value = ae.l2(w)
    value.backward()
    assert_close(value.item(), (values**2).sum())
    assert_close(w.grad.numpy(), 2 * values)


def test_l2_of_a_model_decays_every_weight_and_no_bias():
    model = ae.Autoencoder((5, 4, 2), dtype="float64")
    for p in model.parameters():
        p.assign(np.full(p.shape, 3.0))
    ae.l2(model).backward()
    weights = [p for p in model.parameters() if p.ndim == 2]
    assert len(weights) == 4
    assert ae.l2(model).item() == 9.0 * sum(p.size for p in weights)
    assert all((p.grad.numpy() == 6.0).all() for p in weights)
    assert all(p.grad is None for p in model.parameters() if p.ndim == 1)


def test_l2_counts_tied_weights_once():
    model = ae.Autoencoder((5, 4, 2), tied=True, dtype="float64")
    assert_close(ae.l2(model).item(), sum((w.detach().numpy() ** 2).sum() for w in model.encoder_weights))


def test_l2_of_tensors_adds_them_up():
    assert ae.l2(mg.tensor([1.0, 2.0]) for _ in range(3)).item() == 15.0


def test_l2_of_nothing_is_refused():
    with pytest.raises(DataError, match="no weights"):
        ae.l2([])


# ---------------------------------------------------------------- decoder_norm, orthogonality


@SETTINGS
@given(arrays(np.float64, codes_shapes, elements=st.floats(-9, 9, width=32)))
def test_decoder_norm_by_hand(values):
    W = mg.tensor(values, requires_grad=True)
    value = ae.decoder_norm(W)
    value.backward()
    # a scaled norm, as in the library: the squares of tiny weights would be 0
    largest = np.abs(values).max(axis=1, keepdims=True)
    safe = np.where(largest > 0, largest, 1)
    norms = largest * np.sqrt(((values / safe) ** 2).sum(axis=1, keepdims=True))
    assert_close(value.item(), ((norms - 1) ** 2).sum())
    direction = np.where(norms > 0, values / np.where(norms > 0, norms, 1), 0)
    assert_close(W.grad.numpy(), 2 * (norms - 1) * direction)


@SETTINGS
@given(arrays(np.float64, codes_shapes, elements=st.floats(-3, 3, width=32)))
def test_orthogonality_by_hand(values):
    W = mg.tensor(values, requires_grad=True)
    value = ae.orthogonality(W)
    value.backward()
    defect = values.T @ values - np.eye(values.shape[1])
    assert_close(value.item(), (defect**2).sum())
    np.testing.assert_allclose(W.grad.numpy(), 4 * values @ defect, rtol=1e-12, atol=1e-10)
    n, k = values.shape
    assert value.item() >= max(k - n, 0) - 1e-12


def test_orthonormal_columns_cost_nothing():
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 3)))[0]
    assert ae.orthogonality(mg.tensor(Q)).item() < 1e-28
    assert ae.decoder_norm(mg.tensor(Q.T)).item() < 1e-28


@pytest.mark.parametrize("penalty", [ae.decoder_norm, ae.orthogonality])
def test_penalties_on_weights_refuse_other_things(penalty):
    with pytest.raises(ShapeError, match=r"\(3,\)"):
        penalty(mg.zeros((3,)))
    with pytest.raises(ShapeError, match="at least one row"):
        penalty(mg.zeros((0, 3)))
    with pytest.raises(DTypeError, match="Autoencoder"):
        penalty(ae.Autoencoder((3, 2)))


# ---------------------------------------------------------------- l1


@SETTINGS
@given(arrays(np.float64, codes_shapes, elements=st.floats(-9, 9, width=32)))
def test_l1_averages_the_norms_of_the_codes(values):
    h = mg.tensor(values, requires_grad=True)
    value = ae.l1(h)
    value.backward()
    assert_close(value.item(), np.abs(values).sum(axis=1).mean())
    assert_close(h.grad.numpy(), np.sign(values) / len(values))


# ---------------------------------------------------------------- kl_sparsity


@SETTINGS
@given(activations, rates)
def test_kl_by_hand_with_its_derivative(values, rho):
    h = mg.tensor(values, requires_grad=True)
    value = ae.kl_sparsity(h, rho)
    value.backward()
    r = values.mean(axis=0)
    assert_close(value.item(), kl(rho, r).sum())
    assert value.item() >= -1e-13 * values.shape[1]
    slope = (-rho / r + (1 - rho) / (1 - r)) / len(values)  # every sample has its part in the mean
    np.testing.assert_allclose(h.grad.numpy(), np.broadcast_to(slope, values.shape), rtol=1e-10, atol=1e-11)


@SETTINGS
@given(st.integers(1, 5), st.integers(1, 5), rates)
def test_kl_is_zero_with_no_slope_where_the_means_are_rho(m, k, rho):
    h = mg.tensor(np.full((m, k), rho), requires_grad=True)
    value = ae.kl_sparsity(h, rho)
    value.backward()
    assert abs(value.item()) < 1e-13
    assert np.abs(h.grad.numpy()).max() < 1e-11


def test_kl_has_the_published_value():
    assert ae.kl_sparsity(mg.tensor(np.full((3, 1), 0.5)), 0.005).item() == pytest.approx(0.6616681, abs=5e-8)


def test_kl_couples_the_batch():
    rows = [np.array([[0.1]]), np.array([[0.9]])]
    together = ae.kl_sparsity(mg.tensor(np.concatenate(rows)), 0.5).item()
    apart = [ae.kl_sparsity(mg.tensor(row), 0.5).item() for row in rows]
    assert abs(together) < 1e-15 < 0.1 < min(apart)


def test_kl_stays_finite_for_units_that_are_always_off_or_on():
    h = mg.tensor(np.array([[0.0, 1.0], [0.0, 1.0]], np.float32), requires_grad=True)
    value = ae.kl_sparsity(h, 0.05)
    value.backward()
    assert np.isfinite(value.item()) and value.dtype == np.float32
    assert (h.grad.numpy() == 0).all()


def test_kl_revives_a_unit_that_is_nearly_off():
    z = mg.tensor(np.full((2, 1), -60.0, np.float32), requires_grad=True)
    ae.kl_sparsity(mg.sigmoid(z), 0.05).backward()
    np.testing.assert_allclose(z.grad.numpy(), -0.05 / 2, rtol=1e-5)  # (-rho / h) h (1 - h) / m


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("rho", [1e-320, 1e-46, 1e-40, 1e-9, 1 - 1e-16])
def test_kl_is_finite_for_a_rate_that_the_dtype_does_not_hold(rho, dtype):
    h = mg.tensor(np.array([[0.25, 0.5], [0.75, 0.0]], dtype), requires_grad=True)
    value = ae.kl_sparsity(h, rho)
    value.backward()
    nearest = ae.kl_sparsity(h, min(max(rho, float(np.finfo(dtype).tiny)), 1 - float(np.finfo(dtype).epsneg)))
    assert value.item() == nearest.item() > 0.0 and np.isfinite(h.grad.numpy()).all()


@pytest.mark.parametrize("rho", [0, 1, -0.1, 1.5, float("nan")])
def test_kl_refuses_a_rate_that_is_not_inside_0_1(rho):
    with pytest.raises(DataError, match="strictly between 0 and 1"):
        ae.kl_sparsity(mg.full((2, 2), 0.5), rho)


def test_kl_refuses_codes_of_another_range():
    with pytest.raises(DataError, match="activation='sigmoid'"):
        ae.kl_sparsity(mg.full((2, 2), -0.5), 0.1)


@pytest.mark.parametrize("penalty", [ae.l1, lambda h: ae.kl_sparsity(h, 0.1)])
def test_penalties_on_codes_refuse_other_things(penalty):
    with pytest.raises(ShapeError, match="at least one sample"):
        penalty(mg.zeros((0, 3)))
    with pytest.raises(ShapeError, match=r"\(3,\)"):
        penalty(mg.zeros((3,)))
    with pytest.raises(DTypeError, match="ndarray"):
        penalty(np.zeros((2, 2)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rho", [0.01, 0.05, 0.5, 0.9])
def test_kl_keeps_its_digits_near_rho(dtype, rho):
    """The two logarithms nearly cancel there; a difference of numbers near 1 would leave rounding, of either sign."""
    exact = np.float64(np.dtype(dtype).type(rho))
    for relative in (1e-4, 3e-4, -3e-4, 1e-2):
        h = np.full((1, 2000), exact * (1 + relative), dtype)
        r = h[0].astype(np.float64)
        expected = np.sum(-rho * np.log1p((r - rho) / rho) - (1 - rho) * np.log1p(-(r - rho) / (1 - rho)))
        value = ae.kl_sparsity(mg.tensor(h), rho).item()
        # the mean itself is rounded by eps, which is a part eps / relative of its distance from rho
        assert value == pytest.approx(
            expected, rel=20 * float(np.finfo(dtype).eps) / (abs(relative) * min(rho, 1 - rho))
        )
