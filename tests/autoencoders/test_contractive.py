"""The contractive penalty: closed form, Jacobian and estimate agree, and gradients reach W by both paths."""

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from minigrad import nn
from minigrad.errors import DataError, DTypeError, ShapeError
from minigrad.testing import check_grad

rng = np.random.default_rng(0)
X = rng.normal(size=(7, 4))
ACTIVATIONS = ["sigmoid", "tanh", "relu", "linear"]


def jacobian_norm(encode, x):
    """(1/m) sum |J|^2, sample by sample with mg.jacobian."""
    rows = [mg.jacobian(lambda t: encode(t.reshape(1, -1))[0])(mg.tensor(row)).numpy() for row in x]
    return sum((j**2).sum() for j in rows) / len(x)


def make(activation, sizes=(4, 3)):
    model = ae.Autoencoder(sizes, activation=activation, dtype="float64")
    for p in model.parameters():
        p.assign(rng.normal(size=p.shape))
    return model


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("method", ["auto", "closed", "exact"])
def test_one_layer(activation, method):
    model = make(activation)
    expected = jacobian_norm(model.encode, X)
    np.testing.assert_allclose(ae.contractive(model.encode, mg.tensor(X), method).item(), expected, rtol=1e-12)


@pytest.mark.parametrize("method", ["auto", "exact"])
def test_deep_encoders_and_any_function(method):
    model = make("tanh", (4, 5, 3))
    np.testing.assert_allclose(
        ae.contractive(model.encode, mg.tensor(X), method).item(), jacobian_norm(model.encode, X), rtol=1e-12
    )
    net = nn.Sequential(nn.Linear(4, 2, dtype="float64"), nn.Softplus())
    np.testing.assert_allclose(ae.contractive(net, mg.tensor(X), method).item(), jacobian_norm(net, X), rtol=1e-12)


def test_the_linear_penalty_is_weight_decay():
    model = make("linear")
    np.testing.assert_allclose(
        ae.contractive(model.encode, mg.tensor(X)).item(), ae.l2(model.encoder_weights[0]).item(), rtol=1e-13
    )


def test_the_estimate_is_unbiased():
    model = make("tanh", (4, 5, 3))
    mg.random.seed(0)
    x = mg.tensor(X)
    draws = np.array([ae.contractive(model.encode, x, "hutchinson").item() for _ in range(2000)])
    exact = ae.contractive(model.encode, x, "exact").item()
    assert abs(draws.mean() - exact) < 4 * draws.std() / np.sqrt(len(draws))  # four standard errors
    many = np.array([ae.contractive(model.encode, x, "hutchinson", probes=20).item() for _ in range(100)])
    assert many.std() < 0.5 * draws.std()


@pytest.mark.parametrize("method", ["closed", "exact", "hutchinson"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_gradients_of_two_orders_reach_the_weights_by_both_paths(activation, method):
    model = make(activation)

    def penalty(W, b):
        model.encoder_layers[0].weight, model.encoder_layers[0].bias = W, b
        mg.random.seed(3)
        return ae.contractive(model.encode, mg.tensor(X), method)

    check_grad(penalty, rng.normal(size=(4, 3)), rng.normal(size=3))


@pytest.mark.parametrize("method", ["auto", "exact", "hutchinson"])
def test_a_contractive_autoencoder_trains_and_compiles_to_the_same_bits(method):
    def objective(model, x):
        return {
            "reconstruction": ae.squared_error(model(x), x),
            "contraction": 0.1 * ae.contractive(model.encode, x, method),
        }

    results = []
    for compile in (True, False):
        model = ae.Autoencoder((4, 3), activation="sigmoid")
        history = ae.fit(model, X, objective, epochs=3, batch_size=4, compile=compile)
        results.append([*history.terms["contraction"], *(p.detach().numpy().tobytes() for p in model.parameters())])
    assert results[0] == results[1]


def test_refusals():
    model = make("sigmoid", (4, 3, 2))
    x = mg.tensor(X)
    for call, error, words in [
        (lambda: ae.contractive(model.encode, x, "closed"), DataError, "one encoder layer"),
        (lambda: ae.contractive(model.encode, x, "jacobian"), DataError, "method='jacobian'"),
        (lambda: ae.contractive(model.encode, x, probes=0), DataError, "probes=0"),
        (lambda: ae.contractive(model.encode, x[0]), ShapeError, "expected"),
        (lambda: ae.contractive(lambda t: t.sum(axis=1), x, "exact"), ShapeError, r"expected \(m, ...\)"),
    ]:
        with pytest.raises(error, match=words):
            call()


def test_a_sample_may_have_more_axes_than_one():
    model = ae.Autoencoder((4, 3), dtype="float64")
    x = np.random.default_rng(0).random((5, 2, 4))
    norms = ae.features.jacobian_norms(model.encode, x)
    by_rows = ae.features.jacobian_norms(model.encode, x.reshape(10, 4)).reshape(5, 2)
    np.testing.assert_allclose(norms, np.sqrt((by_rows**2).sum(axis=1)), rtol=1e-12)
    assert ae.features.singular_values_along(model.encode, x).shape == (5, 6)
    with pytest.raises(DataError, match="closed form"):
        ae.contractive(model.encode, mg.tensor(x), method="closed")


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_codes_that_are_known_are_not_computed_again(activation):
    model = ae.Autoencoder((5, 3), activation=activation, dtype="float64", seed=1)
    x = mg.tensor(np.random.default_rng(0).normal(size=(4, 5)))
    values, gradients, products = [], [], []
    for given in (False, True):
        h = model.encode(x)
        program = mg.record(lambda x, h: ae.contractive(model.encode, x, "closed", codes=h))(x, h)
        products.append(sum(e.primitive.name == "matmul" for e in program.equations))
        penalty = ae.contractive(model.encode, x, "closed", codes=h if given else None)
        values.append(penalty.item())
        gradients.append([g.numpy() for g in mg.autograd.grad(penalty, model.encoder_weights)])
    assert values[0] == values[1] and products == [1, 1]  # with the row of squared weights alone
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15)


def test_codes_of_another_shape_are_refused():
    model = ae.Autoencoder((5, 3))
    x = mg.ones((4, 5))
    with pytest.raises(ShapeError, match=r"codes of shape \(4, 5\); expected \(4, 3\)"):
        ae.contractive(model.encode, x, codes=x)


@pytest.mark.parametrize("method", ["closed", "exact"])
@pytest.mark.parametrize("given", ["float32", "float64", "int64"])
def test_an_array_is_converted_to_the_dtype_of_the_model(method, given):
    model = ae.Autoencoder((4, 3), activation="sigmoid", dtype="float32", seed=0)
    X = np.eye(4).astype(given)
    penalty = ae.contractive(model.encode, X, method)
    assert penalty.dtype == np.float32
    assert penalty.item() == ae.contractive(model.encode, mg.tensor(X, dtype="float32"), method).item()


@pytest.mark.parametrize("function", [ae.contractive, ae.features.jacobian_norms, ae.features.singular_values_along])
def test_codes_in_the_place_of_the_encoder_are_refused(function):
    model, x = ae.Autoencoder((2, 3)), mg.tensor([[1.0, 2.0]])
    with pytest.raises(DTypeError, match=f"{function.__name__}: got Tensor; expected the encoder .* model.encode"):
        function(model.encode(x), x)


def test_an_array_for_another_function_keeps_its_dtype():
    X = np.array([[1.0, 2.0]])
    penalty = ae.contractive(lambda x: x * x, X)
    assert penalty.dtype == np.float64 and penalty.item() == 20.0
    with pytest.raises(DTypeError, match="int64; expected a floating tensor, .* or a floating array"):
        ae.contractive(lambda x: x * x, np.array([[1, 2]]))
    with pytest.raises(DTypeError, match="float64"):  # tensors are not converted
        ae.contractive(ae.Autoencoder((2, 2)).encode, mg.tensor(X))
