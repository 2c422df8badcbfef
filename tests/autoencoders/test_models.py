"""The autoencoder: its arithmetic and gradients against NumPy, tied weights, its file, the unit's favourite inputs."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import autoencoders as ae
import minigrad as mg
from minigrad import files
from minigrad.errors import DataError, DTypeError, ShapeError
from minigrad.random import Generator

SETTINGS = settings(max_examples=30, deadline=None)
ACTIVATIONS = {
    "linear": lambda z: z,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
}
names = st.sampled_from(sorted(ACTIVATIONS))
sizes_ = st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple)


def assert_close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def scramble(model, seed):
    """Give every parameter, biases too, random values."""
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.assign(rng.normal(size=p.shape))
    return rng


def arrays_of(tensors):
    return [t.detach().numpy() for t in tensors]


# ---------------------------------------------------------------- arithmetic


@SETTINGS
@given(sizes_, names, names, st.booleans(), st.integers(0, 2**32 - 1))
def test_forward_is_the_formula(sizes, activation, output, tied, seed):
    model = ae.Autoencoder(sizes, activation, output, tied, dtype="float64")
    rng = scramble(model, seed)
    x = rng.normal(size=(3, sizes[0]))
    act, out = ACTIVATIONS[activation], ACTIVATIONS[output]
    state = model.state_dict()
    h = x
    for i in range(len(sizes) - 1):
        h = act(h @ state[f"encoder_layers.{i}.weight"] + state[f"encoder_layers.{i}.bias"])
    z = code = h
    last = len(sizes) - 2
    for i in range(last + 1):
        weight = state[f"encoder_layers.{last - i}.weight"].T if tied else state[f"decoder_layers.{i}.weight"]
        z = (act(z) if i else z) @ weight + state[f"decoder_layers.{i}.bias"]
    assert_close(model.encode(x).detach().numpy(), code)
    assert_close(model.decode(code).detach().numpy(), out(z))
    assert_close(model(mg.tensor(x)).detach().numpy(), out(z))
    if output == "sigmoid":
        assert_close(model.decode_logits(code).detach().numpy(), z)


@pytest.mark.parametrize("tied", [False, True])
def test_gradients_of_a_sigmoid_autoencoder_by_hand(tied):
    model = ae.Autoencoder((5, 3), "sigmoid", "linear", tied, dtype="float64")
    rng = scramble(model, 1)
    x = rng.normal(size=(7, 5))
    ae.squared_error(model(x), mg.tensor(x)).backward()
    W, b = arrays_of([model.encoder_weights[0], model.encoder_layers[0].bias])
    D, c = arrays_of([model.decoder_weights[0], model.decoder_layers[0].bias])
    h = 1 / (1 + np.exp(-(x @ W + b)))
    residual = 2 * (h @ D + c - x) / len(x)
    delta = residual @ D.T * h * (1 - h)
    encoder, decoder = x.T @ delta, h.T @ residual
    assert_close(model.encoder_weights[0].grad.numpy(), encoder + decoder.T if tied else encoder)
    assert_close(model.encoder_layers[0].bias.grad.numpy(), delta.sum(axis=0))
    assert_close(model.decoder_layers[0].bias.grad.numpy(), residual.sum(axis=0))
    if not tied:
        assert_close(model.decoder_weights[0].grad.numpy(), decoder)


@SETTINGS
@given(st.integers(0, 2**32 - 1))
def test_a_tanh_network_is_a_sigmoid_network(seed):
    tanh = ae.Autoencoder((5, 3), "tanh", dtype="float64")
    sigmoid = ae.Autoencoder((5, 3), "sigmoid", dtype="float64")
    x = scramble(tanh, seed).normal(size=(4, 5))
    W, b, D, c = arrays_of(tanh.parameters())
    assert (W.shape, b.shape, D.shape, c.shape) == ((5, 3), (3,), (3, 5), (5,))
    for p, value in zip(sigmoid.parameters(), (2 * W, 2 * b, 2 * D, c - D.sum(axis=0)), strict=True):
        p.assign(value)
    assert_close(sigmoid(x).detach().numpy(), tanh(x).detach().numpy())


@SETTINGS
@given(st.permutations(range(4)), st.integers(0, 2**32 - 1))
def test_hidden_units_can_be_renumbered(order, seed):
    a, b = (ae.Autoencoder((5, 4), dtype="float64") for _ in range(2))
    x = scramble(a, seed).normal(size=(3, 5))
    W, bias, D, c = arrays_of(a.parameters())
    for p, value in zip(b.parameters(), (W[:, order], bias[order], D[order], c), strict=True):
        p.assign(value)
    assert_close(a(x).detach().numpy(), b(x).detach().numpy())


# ---------------------------------------------------------------- weights


@pytest.mark.cpu_only
def test_tied_weights_are_one_array():
    model = ae.Autoencoder((6, 4, 2), tied=True)
    assert sorted(p.shape for p in model.parameters()) == [(2,), (4,), (4,), (4, 2), (6,), (6, 4)]
    for encoder, decoder in zip(model.encoder_weights, reversed(model.decoder_weights), strict=True):
        assert np.shares_memory(encoder.detach().numpy(), decoder.detach().numpy())
        encoder.assign(np.arange(encoder.size, dtype=np.float32).reshape(encoder.shape))
    for encoder, decoder in zip(model.encoder_weights, reversed(model.decoder_weights), strict=True):
        assert (decoder.detach().numpy() == encoder.detach().numpy().T).all()


def test_initial_weights_have_the_range_and_spread_of_glorot():
    model = ae.Autoencoder((60, 40), dtype="float64")
    for weight in arrays_of([*model.encoder_weights, *model.decoder_weights]):
        limit = np.sqrt(6 / 100)
        assert 0.99 * limit < np.abs(weight).max() <= limit  # 2400 draws: the largest is within 1 % but for 1 in 10^10
        assert abs(weight.std() - limit / np.sqrt(3)) < 0.05 * limit
    assert all((p == 0).all() for p in model.state_dict().values() if p.ndim == 1)


def test_the_seed_decides_the_initial_weights():
    def weights(**kwargs):
        return np.concatenate([p.detach().numpy().ravel() for p in ae.Autoencoder((5, 3), **kwargs).parameters()])

    assert (weights(seed=4) == weights(seed=4)).all()
    assert (weights(seed=4) == weights(generator=Generator(4))).all()
    assert (weights(seed=4) != weights(seed=5)).any()
    model = ae.Autoencoder((4, 4))
    encoder, decoder = arrays_of([model.encoder_weights[0], model.decoder_weights[0]])
    assert (encoder != decoder).all()


@SETTINGS
@given(arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(-9, 9)), st.data())
def test_no_input_of_norm_1_excites_a_unit_more(W, data):
    best = ae.max_activation_inputs(W)
    norms = np.sqrt((W**2).sum(axis=0))
    dead = ~W.any(axis=0)
    assert (best[:, dead] == 0).all()
    assert_close(np.sqrt((best[:, ~dead] ** 2).sum(axis=0)), 1)
    assert_close((W * best).sum(axis=0), norms)
    x = data.draw(arrays(np.float64, len(W), elements=st.floats(-1, 1)))
    assert (x @ W <= np.linalg.norm(x) * norms + 1e-12).all()


def test_max_activation_inputs_of_a_model_and_of_extreme_weights():
    model = ae.Autoencoder((6, 4))
    best = ae.max_activation_inputs(model.encoder_weights[0])
    assert best.dtype == np.float32 and best.shape == (6, 4)
    assert_close(ae.max_activation_inputs([[3e200, 3e-200], [4e200, 4e-200]]), [[0.6, 0.6], [0.8, 0.8]])
    with pytest.raises(ShapeError, match=r"\(3,\)"):
        ae.max_activation_inputs([1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="diverge"):
        ae.max_activation_inputs([[np.nan]])
    with pytest.raises(DTypeError, match="complex"):
        ae.max_activation_inputs([[1j]])


# ---------------------------------------------------------------- files


@settings(max_examples=15, deadline=None)
@given(sizes_, names, names, st.booleans(), st.sampled_from(["float32", "float64"]))
def test_a_saved_model_comes_back_bit_for_bit(tmp_path_factory, sizes, activation, output, tied, dtype):
    folder = tmp_path_factory.mktemp("model")
    model = ae.Autoencoder(sizes, activation, output, tied, seed=3, dtype=dtype)
    file = model.save(folder / "a.safetensors")
    again = ae.Autoencoder.load(file)
    assert repr(again) == repr(model)
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(after[k].dtype == v.dtype and (after[k] == v).all() for k, v in before.items())
    x = np.random.default_rng(0).normal(size=(3, sizes[0])).astype(dtype)
    assert (again(x).detach().numpy() == model(x).detach().numpy()).all()


def test_a_folder_holds_a_model(tmp_path):
    file = ae.save_model(ae.Autoencoder((4, 2)), tmp_path)
    assert file == tmp_path / "model.safetensors" and [p.name for p in tmp_path.iterdir()] == [file.name]
    assert ae.load_model(tmp_path).sizes == (4, 2)


def resave(file, change_state=lambda state: None, **metadata):
    state, old = files.load_with_metadata(file)
    change_state(state)
    files.save(file, state, metadata={**old, **metadata})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: resave(f, format="something else"), "not a saved autoencoder"),
        (lambda f: resave(f, config="{"), "configuration is damaged"),
        (lambda f: resave(f, config=json.dumps({"sizes": [4, 2]})), "configuration is damaged"),
        (
            lambda f: resave(
                f,
                config=json.dumps(
                    {"sizes": [4, 3], "activation": "tanh", "output": "linear", "tied": False, "dtype": "float32"}
                ),
            ),
            r"'encoder_layers.0.weight' has shape \(4, 2\), expected \(4, 3\)",
        ),
        (lambda f: resave(f, lambda s: s.pop("encoder_layers.0.bias")), "'encoder_layers.0.bias' missing"),
        (lambda f: resave(f, lambda s: s.update(extra=mg.zeros((1,)))), "'extra' not expected"),
        (
            lambda f: resave(f, lambda s: s.update({"encoder_layers.0.bias": mg.zeros((2,), dtype="float64")})),
            "is float64, expected float32",
        ),
        (lambda f: f.write_bytes(f.read_bytes()[:-3]), "model.safetensors"),
        (lambda f: f.write_bytes(b"not a model"), "model.safetensors"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, damage, message):
    file = ae.save_model(ae.Autoencoder((4, 2)), tmp_path)
    damage(file)
    with pytest.raises(DataError, match=message):
        ae.load_model(file)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        ae.load_model(tmp_path / "nothing.safetensors")


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (((4,),), ShapeError, "two or more"),
        (((4, 0),), ShapeError, "positive widths"),
        (((4, 2.5),), DTypeError, "sequence of integers"),
        ((4,), DTypeError, "sequence of integers"),
        (((4, 2), "swish"), DataError, "activation='swish'.*sigmoid"),
        (((4, 2), "tanh", "softmax"), DataError, "output='softmax'.*linear"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ae.Autoencoder(*arguments)


@pytest.mark.parametrize("dtype", ["int32", "float16", "complex64", "half a float", None])
def test_models_are_of_float32_or_float64(dtype):
    for make in (
        lambda: ae.Autoencoder((4, 2), dtype=dtype),
        lambda: ae.ConvAutoencoder((1, 8, 8), (2,), dtype=dtype),
        lambda: ae.VariationalAutoencoder((4, 2), 2, dtype=dtype),
        lambda: ae.SoftmaxRegression(4, [0, 1], dtype=dtype),
    ):
        with pytest.raises(DTypeError, match=f"got dtype={dtype!r}; expected 'float32' or 'float64'"):
            make()


def test_data_of_another_width_is_refused():
    model = ae.Autoencoder((4, 2))
    with pytest.raises(ShapeError, match=r"encode: got shape \(3, 5\); expected \(..., 4\)"):
        model(np.zeros((3, 5)))
    with pytest.raises(ShapeError, match=r"decode: got shape \(3, 4\); expected \(..., 2\)"):
        model.decode(np.zeros((3, 4)))


@pytest.mark.parametrize("use", ["__call__", "encode", "decode", "decode_linear"])
def test_data_that_are_no_real_numbers_or_lie_under_a_mask_are_refused(use):
    model = ae.Autoencoder((4, 4))
    x = np.arange(12.0).reshape(3, 4)
    with mg.no_grad():
        np.testing.assert_array_equal(getattr(model, use)(np.ma.masked_array(x)), getattr(model, use)(x))  # no mask
    with pytest.raises(DataError, match="Autoencoder: x has 2 masked values; fill them"):
        getattr(model, use)(np.ma.masked_less(x, 2))
    for bad in (x * 1j, x.astype(str), x.astype("datetime64[s]")):
        with pytest.raises(DTypeError, match=re.escape(f"Autoencoder: x has dtype {bad.dtype}; expected real numbers")):
            getattr(model, use)(bad)
    with pytest.raises(ShapeError, match="Autoencoder: x is no array .*; expected rows of the same length"):
        getattr(model, use)([[1.0, 2.0, 3.0, 4.0], [1.0]])


def test_logits_only_of_a_sigmoid_output():
    with pytest.raises(DataError, match="output='linear'"):
        ae.Autoencoder((4, 2)).decode_logits(np.zeros((3, 2)))
