"""The top-k autoencoder: what is kept, what is counted, and how dead units come back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import autoencoders as ae
import minigrad as mg
from minigrad.errors import DataError, DTypeError, ShapeError
from minigrad.testing import check_grad


def half_dead(bias=-3.0, units=128, dtype="float32", **kwargs):
    """A model of the digits whose second half of units is never among the strongest."""
    model = ae.TopKAutoencoder((64, units), 8, dtype=dtype, **kwargs)
    model.encoder_layers[0].bias.assign(np.where(np.arange(units) < units // 2, 0.0, bias).astype(dtype))
    return model


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, (4, 6), elements=st.integers(-2, 2).map(float)), st.integers(1, 6))
def test_the_k_largest_are_kept_and_of_equal_ones_the_first(z, k):
    model = ae.TopKAutoencoder((6, 6), k, dtype="float64")
    model.encoder_layers[0].weight.assign(np.eye(6))
    h = model.encode(z).detach().numpy()
    for row, code in zip(z, h, strict=True):
        kept = sorted(range(6), key=lambda i: (-row[i], i))[:k]
        expected = np.zeros(6)
        expected[kept] = row[kept]
        assert (code == expected).all()
    assert (model.idle.numpy() >= 0).all()


def test_gradients_reach_only_what_is_kept():
    model = ae.TopKAutoencoder((3, 3), 1, dtype="float64")
    model.encoder_layers[0].weight.assign(np.eye(3))
    x = mg.tensor([[3.0, 1.0, 2.0], [0.0, -1.0, 5.0]], dtype="float64", requires_grad=True)
    model.encode(x).sum().backward()
    assert x.grad.numpy().tolist() == [[1, 0, 0], [0, 0, 1]]


def test_idle_counts_samples_since_a_unit_was_last_active():
    model = ae.TopKAutoencoder((3, 3), 1)
    model.encoder_layers[0].weight.assign(np.eye(3, dtype=np.float32))
    first, second = np.eye(3)[[0, 0, 0, 0]], np.eye(3)[[0, 1]]
    model.encode(first)
    assert model.idle.numpy().tolist() == [0, 4, 4]
    model.encode(second)
    assert model.idle.numpy().tolist() == [0, 0, 6]
    assert model.dead_units(6).tolist() == [2] and model.dead_units(7).tolist() == []
    model.eval().encode(first)
    assert model.idle.numpy().tolist() == [0, 0, 6]  # only training counts
    model.train().encode(np.ones((2, 5, 3)))  # any leading axes: ten samples
    assert model.idle.numpy().tolist() == [0, 10, 16]


def test_fit_counts_each_sample_once():
    model = half_dead(-100.0)
    x = ae.datasets.digits().x_train[:90]
    for compile in (True, False):
        ae.fit(model, x, lambda m, b: ae.squared_error(m(b), b), epochs=2, batch_size=40, compile=compile)
    assert (model.idle.numpy()[64:] == 4 * 90).all()  # the last half was never active
    assert set(range(64, 128)) <= set(model.dead_units(360).tolist())
    assert len(model.dead_units(361)) == 0


# ---------------------------------------------------------------- dead units


@pytest.mark.parametrize("k", [2, 7])  # fewer and more than the five that are dead
def test_the_error_of_dead_units_by_hand(k):
    model = half_dead(units=12, dtype="float64")
    rng = np.random.default_rng(0)
    idle = np.array([0] * 6 + [50] * 5 + [49])  # the last one is not dead yet
    model.idle.assign(idle)
    model.eval()
    x = rng.normal(size=(4, 64))
    x_hat = model(x)
    found = model.dead_unit_error(mg.tensor(x), x_hat, after=50, k=k)
    state = model.state_dict()
    z = x @ state["encoder_layers.0.weight"] + state["encoder_layers.0.bias"]
    code = np.zeros_like(z)
    for row, kept in zip(z, code, strict=True):
        strongest = 6 + np.argsort(-row[6:11])[:k]
        kept[strongest] = row[strongest]
    expected = ((x - x_hat.detach().numpy() - code @ state["decoder_layers.0.weight"]) ** 2).sum() / 4
    np.testing.assert_allclose(found.item(), expected, rtol=1e-13)
    found.backward()
    for tensor, axis in ((model.encoder_weights[0], 0), (model.decoder_weights[0], 1)):
        touched = np.abs(tensor.grad.numpy()).sum(axis=axis) > 0
        assert not touched[:6].any() and touched[6:11].any() and not touched[11]
    assert model.decoder_layers[0].bias.grad is None  # e counts as given, and the dead units have no bias of their own


@pytest.mark.parametrize("tied", [False, True])
def test_derivatives_of_the_error_of_dead_units(tied):
    model = half_dead(units=12, dtype="float64", tied=tied).eval()
    model.idle.assign(np.array([0] * 6 + [50] * 6))
    rng = np.random.default_rng(0)
    x, x_hat = mg.tensor(rng.normal(size=(3, 64))), mg.tensor(rng.normal(size=(3, 64)))

    def error(W, D):
        model.encoder_layers[0].weight = W
        if not tied:
            model.decoder_layers[0].weight = D
        return model.dead_unit_error(x, x_hat, after=50, k=2) + 0.0 * D.sum()

    check_grad(error, rng.normal(size=(64, 12)), rng.normal(size=(12, 64)))


def test_without_dead_units_there_is_no_error_and_no_gradient():
    model = half_dead()
    x = mg.tensor(ae.datasets.digits().x_train[:5])
    error = model.dead_unit_error(x, model(x), after=6)
    assert error.item() == 0
    error.backward()
    assert all(p.grad is None or not p.grad.numpy().any() for p in model.parameters())


def test_dead_units_are_revived_and_then_help():
    """Without the term the dead stay dead: they get no gradient. With it most live, and the model is better for it."""
    x = ae.datasets.digits().x_train[:700]
    dead, loss = {}, {}
    for factor in (0.0, 1 / 32):
        model = half_dead()

        def objective(model, x, factor=factor):
            x_hat = model(x)
            terms = {"reconstruction": ae.squared_error(x_hat, x)}
            if factor:
                terms["revival"] = factor * model.dead_unit_error(x, x_hat, after=300)
            return terms

        optimizer = mg.optim.Adam(model.parameters(), lr=5e-3)
        history = ae.fit(model, x, objective, epochs=15, batch_size=50, optimizer=optimizer)
        dead[factor], loss[factor] = model.dead_units(len(x)), history.terms["reconstruction"][-1]
    assert set(range(64, 128)) <= set(dead[0.0].tolist())
    assert len(dead[1 / 32]) < 0.5 * len(dead[0.0])
    assert loss[1 / 32] < loss[0.0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ae.TopKAutoencoder((6, 4, 3), 2), ShapeError, r"expected two, \(inputs, units\)"),
        (lambda: ae.TopKAutoencoder((6, 4), 0), ShapeError, "k=0"),
        (lambda: ae.TopKAutoencoder((6, 4), 5), ShapeError, "k=5; expected at most the 4 units"),
        (lambda: ae.TopKAutoencoder((6, 4), 1.5), DTypeError, "k=1.5"),
        (lambda: ae.TopKAutoencoder((6, 4), 2, "softmax"), DataError, "output='softmax'"),
        (lambda: ae.TopKAutoencoder((6, 4), 2).dead_units(0), ShapeError, "after=0"),
        (
            lambda: ae.TopKAutoencoder((6, 4), 2).dead_unit_error(mg.zeros((1, 6)), mg.zeros((1, 6)), 1, 5),
            ShapeError,
            "dead_unit_error: got k=5",
        ),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
