"""The stacked autoencoder: pretraining layer by layer, one set of weights in three uses."""

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from minigrad import optim
from minigrad.errors import DataError, DTypeError, ShapeError

X = np.random.default_rng(0).random((40, 8)).astype(np.float32)


def plain(layer, x):
    return ae.squared_error(layer(x), x)


def denoising(layer, x):
    return ae.squared_error(layer(ae.masking_noise(x, 0.25)), x)


def arrays(model):
    return {name: a.tobytes() for name, a in model.state_dict().items()}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("compile", [True, False])
def test_pretraining_is_training_layer_by_layer_on_clean_codes(tied, compile):
    model = ae.StackedAutoencoder((8, 6, 4, 3), "sigmoid", "linear", tied)
    start = model.state_dict()
    histories = model.pretrain(X, denoising, epochs=3, batch_size=16, seed=5, compile=compile)
    x, expected = X, []
    for i, output in enumerate(("linear", "sigmoid", "sigmoid")):
        layer = ae.Autoencoder(model.sizes[i : i + 2], "sigmoid", output, tied)
        layer.encoder_layers[0].load_state_dict({n: start[f"encoder_layers.{i}.{n}"] for n in ("weight", "bias")})
        names = ("bias",) if tied else ("weight", "bias")
        layer.decoder_layers[0].load_state_dict({n: start[f"decoder_layers.{2 - i}.{n}"] for n in names})
        expected.append(ae.fit(layer, x, denoising, epochs=3, batch_size=16, seed=5 + i))
        assert arrays(layer.encoder_layers[0]) == arrays(model.encoder_layers[i])
        assert arrays(layer.decoder_layers[0]) == arrays(model.decoder_layers[2 - i])
        x = np.concatenate([layer.encode(x[j : j + 16]).detach().numpy() for j in range(0, len(x), 16)])
    assert [history.terms for history in histories] == [history.terms for history in expected]
    np.testing.assert_allclose(model.encode(X).detach().numpy(), x, rtol=1e-6)


@pytest.mark.parametrize("tied", [False, True])
def test_a_layer_is_one_with_the_model(tied):
    model = ae.StackedAutoencoder((8, 6, 4), "tanh", "sigmoid", tied, dtype="float64")
    below, above = model.layer(0), model.layer(1)
    assert below.training and not model.eval().layer(0).training and model.train().layer(0).training
    assert repr(below) == f"Autoencoder(8-6-8, activation='tanh', output='sigmoid', tied={tied})"
    assert repr(above) == f"Autoencoder(6-4-6, activation='tanh', output='tanh', tied={tied})"
    assert below.encoder_layers[0] is model.encoder_layers[0] and below.decoder_layers[0] is model.decoder_layers[1]
    assert above.encoder_layers[0] is model.encoder_layers[1] and above.decoder_layers[0] is model.decoder_layers[0]
    assert {id(p) for m in (below, above) for p in m.parameters()} == {id(p) for p in model.parameters()}
    h = above.encode(below.encode(X))
    assert (h.numpy() == model.encode(X).numpy()).all()
    assert (below.decode(above.decode(h)).numpy() == model.decode(h).numpy()).all()  # unrolled
    for i in (-1, 2):
        with pytest.raises(DataError, match=f"got i={i}; expected 0 to 1"):
            model.layer(i)


@pytest.mark.cpu_only
def test_tied_weights_of_a_stack_are_one_array():
    model = ae.StackedAutoencoder((8, 6, 4), tied=True)
    for encoder, decoder in zip(model.encoder_weights, reversed(model.decoder_weights), strict=True):
        assert np.shares_memory(encoder.detach().numpy(), decoder.detach().numpy())
    model.pretrain(X, plain, epochs=1)
    for encoder, decoder in zip(model.encoder_weights, reversed(model.decoder_weights), strict=True):
        assert (decoder.detach().numpy() == encoder.detach().numpy().T).all()


def test_each_layer_may_have_its_own_objective_and_optimizer():
    seen = []

    def noting(width):
        def objective(layer, x):
            assert x.shape[1] == width
            return plain(layer, x)

        return objective

    def optimizer(parameters):
        seen.append(mg.optim.SGD(parameters, lr=0.05))
        return seen[-1]

    model = ae.StackedAutoencoder((8, 6, 4))
    before = arrays(model)
    model.pretrain(mg.tensor(X), [noting(8), noting(6)], epochs=2, optimizer=optimizer)
    assert len(seen) == 2
    assert all(before[name] != after for name, after in arrays(model).items())


def test_pretraining_refuses_before_anything_changes():
    model = ae.StackedAutoencoder((8, 6, 4))
    before = arrays(model)
    with pytest.raises(DataError, match="got 3 objectives; expected one, or one for each of 2 layers"):
        model.pretrain(X, [plain] * 3, epochs=1)
    with pytest.raises(ShapeError, match="fit: X has shape"):
        model.pretrain(X[:, :5], plain, epochs=1)
    with pytest.raises(DataError, match="epochs=0"):
        model.pretrain(X, plain, epochs=0)
    with pytest.raises(DataError, match=r"pretrain: X has \d+ masked values"):
        model.pretrain(np.ma.masked_less(X, 0.1), plain, epochs=1)
    with pytest.raises(DTypeError, match="pretrain: X is list_iterator, an iterable of batches; expected an array of"):
        model.pretrain(iter([X]), plain, epochs=1)
    with pytest.raises(DTypeError, match="got Adam for optimizer, and each layer needs its own; expected a callable"):
        model.pretrain(X, plain, epochs=1, optimizer=optim.Adam(model.parameters()))
    assert arrays(model) == before


def test_pretraining_starts_a_deep_model_ahead():
    """Five sigmoid layers: the gradient of the first is tiny, so training from scratch stays near the mean."""
    x = ae.datasets.digits().x_train[:300]
    losses = []
    for pretrained in (False, True):
        model = ae.StackedAutoencoder((64, 40, 30, 20, 10), "sigmoid", "sigmoid")
        if pretrained:
            how = {"batch_size": 20, "optimizer": lambda p: mg.optim.Adam(p, lr=0.01)}
            model.pretrain(x, plain, epochs=6, **how)
        optimizer = mg.optim.Adam(model.parameters(), lr=3e-3)
        losses.append(ae.fit(model, x, plain, epochs=4, batch_size=20, optimizer=optimizer).loss[-1])
    assert losses[1] < 0.9 * losses[0]


def test_one_layer_is_a_stack_too():
    model = ae.StackedAutoencoder((8, 4))
    assert len(model.pretrain(X, plain, epochs=1)) == 1
