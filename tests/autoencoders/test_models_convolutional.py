"""The convolutional autoencoder: its sizes, its arithmetic, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autoencoders as ae
import minigrad as mg
from minigrad.errors import DataError, DTypeError, ShapeError

lengths = st.integers(1, 9)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 2), lengths, lengths),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.none() | st.integers(1, 3),
    st.sampled_from([1, 3, 5]),
    st.integers(1, 4),
)
def test_images_of_every_size_come_back_in_their_size(shape, channels, code, kernel, stride):
    model = ae.ConvAutoencoder(shape, channels, code, kernel, stride)
    x = np.zeros((2, *shape))
    h = model.encode(x)
    assert model(x).shape == x.shape
    assert h.shape == (2, *model.code_shape) and model.decode(h).shape == x.shape
    height, width = shape[1:]
    for _ in channels:
        height, width = -(-height // stride), -(-width // stride)
    assert model.code_shape == ((channels[-1], height, width) if code is None else (code,))


def test_the_arithmetic_is_that_of_the_two_convolutions():
    model = ae.ConvAutoencoder((1, 5, 6), (2, 3), code=4, activation="tanh", output="sigmoid", dtype="float64")
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.assign(rng.normal(size=p.shape))
    s = {name: mg.tensor(a) for name, a in model.state_dict().items()}
    x = mg.tensor(rng.normal(size=(3, 1, 5, 6)))

    def bias(name):
        return s[f"{name}.bias"].reshape(-1, 1, 1)

    h = x
    for name in ("encoder_layers.0", "encoder_layers.1"):
        h = mg.tanh(mg.conv2d(h, s[f"{name}.weight"], stride=2, padding=1) + bias(name))
    assert h.shape == (3, 3, 2, 2)
    code = mg.tanh(h.reshape(3, 12) @ s["to_code.weight"] + s["to_code.bias"])
    z = mg.tanh(code @ s["from_code.weight"] + s["from_code.bias"]).reshape(3, 3, 2, 2)
    first, last = "decoder_layers.0", "decoder_layers.1"
    how = {"stride": 2, "padding": 1}
    z = mg.tanh(mg.conv_transpose2d(z, s[f"{first}.weight"], output_padding=(0, 0), **how) + bias(first))
    assert z.shape == (3, 2, 3, 3)
    z = mg.conv_transpose2d(z, s[f"{last}.weight"], output_padding=(0, 1), **how) + bias(last)
    np.testing.assert_allclose(model.encode(x).detach().numpy(), code.numpy(), rtol=1e-13)
    np.testing.assert_allclose(model(x).detach().numpy(), mg.sigmoid(z).numpy(), rtol=1e-13)


def test_digits_as_images_are_learned_better_than_their_mean():
    digits = ae.datasets.digits()
    x = digits.x_train[:400].reshape(-1, 1, 8, 8)
    model = ae.ConvAutoencoder((1, 8, 8), (8, 16), code=16)
    optimizer = mg.optim.Adam(model.parameters(), lr=1e-2)
    history = ae.fit(model, x, lambda m, b: ae.squared_error(m(b), b), epochs=12, batch_size=50, optimizer=optimizer)
    assert history.loss[-1] < 0.9 * 64 * x.var(axis=0).mean()  # of what the mean image leaves


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (((28, 28), (4,)), ShapeError, r"input_shape=\(28, 28\); expected \(channels, height, width\)"),
        (((1, 0, 28), (4,)), ShapeError, "input_shape"),
        ((28, (4,)), DTypeError, "input_shape=28"),
        (((1, 8, 8), ()), ShapeError, "channels=.*one or more"),
        (((1, 8, 8), 4), DTypeError, "channels=4"),
        (((1, 8, 8), (4,), 0), ShapeError, "code=0"),
        (((1, 8, 8), (4,), None, 4), ShapeError, "kernel_size=4.*odd"),
        (((1, 8, 8), (4,), None, 3, 0), ShapeError, "stride=0"),
        (((1, 8, 8), (4,), None, 3, 2, "swish"), DataError, "activation='swish'"),
        (((1, 8, 8), (4,), None, 3, 2, "relu", "softmax"), DataError, "output='softmax'"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ae.ConvAutoencoder(*arguments)


def test_bad_inputs_are_refused():
    model = ae.ConvAutoencoder((1, 8, 8), (4,))
    for x in (np.zeros((3, 64)), np.zeros((1, 8, 8)), np.zeros((3, 2, 8, 8))):
        with pytest.raises(ShapeError, match=r"encode: got shape .*expected \(m, 1, 8, 8\)"):
            model.encode(x)
    with pytest.raises(ShapeError, match=r"decode: got shape \(3, 4\); expected \(m, 4, 4, 4\)"):
        model.decode(np.zeros((3, 4)))
    with pytest.raises(DTypeError, match="int32"):
        ae.ConvAutoencoder((1, 8, 8), (4,), dtype="int32")
