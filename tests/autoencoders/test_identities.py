"""The exact identities of autoencoders, 8 to 13, as laws about the public functions, in float64; and where the rest is.

1 to 7, on linear autoencoders, are in test_identities_linear.py. What is the law of one function is tested with it:

9   derivative, zeros and published value of the sparsity penalty: test_regularizers.py
10  derivatives of losses, and the entropy below which no cross entropy goes: test_losses.py
11  the input that excites a unit most: test_models.py
12  the sigmoid network that equals a tanh network, and the free order of hidden units: test_models.py
13  noise drawn anew for every batch: test_training.py; how often: test_corruption.py
"""

from itertools import product
from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import autoencoders as ae
import minigrad as mg

SETTINGS = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)
activations = st.sampled_from(["sigmoid", "tanh", "linear"])


# ---------------------------------------------------------------- 8: the contractive penalty


@st.composite
def encoders(draw):
    """An encoder with one layer and random weights, and samples for it."""
    n, k, m = draw(st.integers(1, 5)), draw(st.integers(2, 4)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(seeds))
    model = ae.Autoencoder((n, k), activation=draw(activations), dtype="float64")
    for p in model.parameters():
        p.assign(rng.standard_normal(p.shape))
    return model, rng.standard_normal((m, n))


def jacobians(model, X):
    """J of every sample, shape (m, k, n), with mg.jacobian."""
    one = mg.jacobian(lambda row: model.encode(row.reshape(1, -1))[0])
    return np.stack([one(mg.tensor(row)).numpy() for row in X])


@SETTINGS
@given(encoders())
def test_8_the_penalty_is_the_norm_of_the_jacobian_and_no_other(case):
    model, X = case
    J, h, W = jacobians(model, X), model.encode(X).numpy(), model.encoder_weights[0].detach().numpy()
    slope = {"sigmoid": h * (1 - h), "tanh": 1 - h**2, "linear": np.ones_like(h)}[model.activation]
    np.testing.assert_allclose(J, slope[:, :, None] * W.T, rtol=1e-12, atol=1e-15)
    expected = (J**2).sum() / len(X)
    for method in ("auto", "closed", "exact"):
        np.testing.assert_allclose(ae.contractive(model.encode, mg.tensor(X), method).item(), expected, rtol=1e-12)
    # the mean over all signs v of |J^T v|^2: the estimate is unbiased, exactly
    k, estimates = h.shape[1], []
    for positive in product([0.0, 1.0], repeat=k):
        draw = mg.tensor(np.tile(positive, (len(X), 1)))
        with mock.patch.object(mg.random, "uniform", lambda *_, draw=draw: draw):
            estimates.append(ae.contractive(model.encode, mg.tensor(X), "hutchinson").item())
    signs = np.array(list(product([-1.0, 1.0], repeat=k)))
    np.testing.assert_allclose(estimates, ((signs @ J) ** 2).sum(axis=(0, 2)) / len(X), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(np.mean(estimates), expected, rtol=1e-12)


@SETTINGS
@given(encoders())
def test_8_its_gradient_reaches_the_weights_directly_and_through_the_code(case):
    """(2/m) sum_i [f'(a_il)^2 W_jl + x_ij f'(a_il) f''(a_il) |W_l|^2]"""
    model, X = case
    W, b = model.encoder_weights[0], model.encoder_layers[0].bias
    h, w = model.encode(X).numpy(), W.detach().numpy()
    first, second = {
        "sigmoid": (h * (1 - h), h * (1 - h) * (1 - 2 * h)),
        "tanh": (1 - h**2, -2 * h * (1 - h**2)),
        "linear": (np.ones_like(h), np.zeros_like(h)),
    }[model.activation]
    direct = 2 / len(X) * w * (first**2).sum(axis=0)
    through = 2 / len(X) * first * second * (w**2).sum(axis=0)
    for method in ("closed", "exact"):
        gradients = mg.autograd.grad(
            ae.contractive(model.encode, mg.tensor(X), method), [W, b], allow_unused=model.activation == "linear"
        )
        np.testing.assert_allclose(gradients[0].numpy(), direct + X.T @ through, rtol=1e-11, atol=1e-13)
        if model.activation != "linear":
            np.testing.assert_allclose(gradients[1].numpy(), through.sum(axis=0), rtol=1e-11, atol=1e-13)


# ---------------------------------------------------------------- 9, 10, 13: penalties, losses, corruption


@SETTINGS
@given(
    arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.floats(0, 1, width=32)),
    st.floats(0.001, 0.999),
)
def test_9_the_sparsity_penalty_is_zero_only_at_its_target(h, rho):
    """By Pinsker's inequality KL(rho || r) >= 2 (rho - r)^2 in nats, and it is 0 where they are equal."""
    penalty = ae.kl_sparsity(mg.tensor(h), rho).item()
    assert penalty >= 2 * ((rho - h.mean(axis=0)) ** 2).sum() - 1e-14 * h.shape[1]
    # on average over the samples, units at rho: what single samples do is free
    spread = np.clip(min(rho, 1 - rho) * (h - h.mean(axis=0)), -rho, 1 - rho)
    assert abs(ae.kl_sparsity(mg.tensor(rho + spread), rho).item()) <= 1e-13 * h.shape[1]


@SETTINGS
@given(encoders(), st.floats(0.015625, 4))
def test_10_weight_decay_adds_its_multiple_of_the_weights_and_nothing_to_the_biases(case, strength):
    model, X = case
    x = mg.tensor(X)
    names, parameters = zip(*model.named_parameters(), strict=True)
    plain = mg.autograd.grad(ae.squared_error(model(x), x), list(parameters))
    decayed = mg.autograd.grad(ae.squared_error(model(x), x) + 0.5 * strength * ae.l2(model), list(parameters))
    for name, p, before, after in zip(names, parameters, plain, decayed, strict=True):
        weight = p.detach().numpy() if name.endswith("weight") else np.zeros(p.shape)
        assert p.ndim == (2 if name.endswith("weight") else 1)
        scale = max(1, np.abs(before.numpy()).max())
        np.testing.assert_allclose(after.numpy() - before.numpy(), strength * weight, rtol=1e-13, atol=1e-14 * scale)


@SETTINGS
@given(encoders(), st.sampled_from([ae.masking_noise, ae.gaussian_noise, ae.salt_and_pepper_noise]))
def test_13_only_the_objective_draws_noise_and_the_target_is_clean(case, noise):
    model, X = case
    x, generator = mg.tensor(X), mg.random.default_generator()
    before = generator.counter
    assert (model.encode(x).numpy() == model.encode(x).numpy()).all()
    assert (model(x).numpy() == model.decode(model.encode(x)).numpy()).all()
    assert generator.counter == before
    loss = ae.squared_error(model(noise(x, 0.5)), x)
    assert generator.counter > before
    generator.set_state({**generator.state(), "counter": before})
    noisy = noise(x, 0.5).numpy()  # the same once more
    by_hand = ((model(noisy).numpy() - X) ** 2).sum() / len(X)
    np.testing.assert_allclose(loss.item(), by_hand, rtol=1e-13, atol=1e-300)
    assert (x.numpy() == X).all()
