"""What a model learned: every measurement equals its formula, or the Jacobian taken one sample at a time."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import autoencoders as ae
import minigrad as mg
from autoencoders import features
from autoencoders.jacobian import jacobians, one_layer
from minigrad import nn, openblas
from minigrad.errors import DataError, DTypeError, ShapeError

rng = np.random.default_rng(0)
X = rng.normal(size=(7, 4))
SHALLOW, DEEP, WIDE = (4, 3), (4, 5, 3), (4, 6, 70)  # 70 units: more than those for which "auto" is exact
codes_of_sigmoids = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(0, 1))


def make(activation="tanh", sizes=SHALLOW, dtype="float64"):
    model = ae.Autoencoder(sizes, activation=activation, dtype=dtype)
    for p in model.parameters():
        p.assign(rng.normal(size=p.shape).astype(dtype))
    return model


def explicit_jacobians(encode, x):
    """One sample at a time, by mg.jacobian."""
    return np.stack([mg.jacobian(lambda t: encode(t.reshape(1, -1))[0])(mg.tensor(row)).numpy() for row in x])


# ---------------------------------------------------------------- Jacobians


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "linear"])
@pytest.mark.parametrize("sizes", [SHALLOW, DEEP, WIDE], ids=str)
def test_norms_and_singular_values_are_those_of_the_explicit_jacobian(activation, sizes):
    model = make(activation, sizes)
    J = explicit_jacobians(model.encode, X)
    # 1e-12: a few hundred roundings of 1e-16, with terms of one sign
    np.testing.assert_allclose(features.jacobian_norms(model.encode, X), np.sqrt((J**2).sum(axis=(1, 2))), rtol=1e-12)
    expected = np.linalg.svd(J, compute_uv=False)
    found = features.singular_values_along(model.encode, X)
    assert found.shape == (7, min(4, sizes[-1]))
    np.testing.assert_allclose(found, expected, atol=1e-12 * expected.max())  # small ones are right to |J| eps
    np.testing.assert_allclose(jacobians(model.encode, mg.tensor(X)).numpy(), J, rtol=1e-12, atol=1e-12 * abs(J).max())


@pytest.mark.parametrize(("large", "cores"), [(0, 2), (10_000, 1)])
def test_the_cores_share_the_decompositions_of_large_jacobians(monkeypatch, large, cores):
    model, svd, threads = make(), np.linalg.svd, set()

    def watched(matrices, **options):
        threads.add(threading.get_ident())
        return svd(matrices, **options)

    expected = features.singular_values_along(model.encode, X)
    monkeypatch.setattr(openblas, "product_parts", lambda: 2)
    monkeypatch.setattr(features, "LARGE_JACOBIAN", large)
    monkeypatch.setattr(np.linalg, "svd", watched)
    np.testing.assert_array_equal(features.singular_values_along(model.encode, X), expected)
    assert len(threads) == cores


@pytest.mark.parametrize("sizes", [SHALLOW, DEEP], ids=str)
def test_singular_values_of_a_model_in_float16(sizes):
    half, single = make(sizes=sizes, dtype="float32").to("float16"), make(sizes=sizes, dtype="float32")
    for p, q in zip(single.parameters(), half.parameters(), strict=True):
        p.assign(q.to("float32").detach())
    found, expected = (features.singular_values_along(m.encode, X) for m in (half, single))
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, rtol=0.01, atol=0.01 * expected.max())


@pytest.mark.parametrize("sizes", [SHALLOW, DEEP, WIDE], ids=str)
def test_directional_norms_are_those_of_the_explicit_jacobian(sizes):
    model = make("sigmoid", sizes)
    d = rng.normal(size=X.shape)
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    expected = np.linalg.norm(np.einsum("mkn,mn->mk", explicit_jacobians(model.encode, X), d), axis=1)
    np.testing.assert_allclose(features.directional_norms(model.encode, X, d), expected, rtol=1e-12)


def test_the_measurements_belong_together():
    model = make("sigmoid", DEEP)
    norms, values = features.jacobian_norms(model.encode, X), features.singular_values_along(model.encode, X)
    np.testing.assert_allclose((values**2).sum(axis=1), norms**2, rtol=1e-12)
    np.testing.assert_allclose((norms**2).mean(), ae.contractive(model.encode, mg.tensor(X)).item(), rtol=1e-12)
    axes = [features.directional_norms(model.encode, X, np.tile(e, (7, 1))) for e in np.eye(4)]
    np.testing.assert_allclose(np.square(axes).sum(axis=0), norms**2, rtol=1e-12)  # the columns of J


def test_images_and_codes_of_any_shape():
    def encode(images):
        return mg.square(images) * 0.5  # J = diag(x), and the code has the shape of the images

    images = rng.normal(size=(5, 1, 2, 3))
    np.testing.assert_allclose(
        features.jacobian_norms(encode, images), np.sqrt((images**2).sum(axis=(1, 2, 3))), rtol=1e-14
    )
    np.testing.assert_allclose(
        features.singular_values_along(encode, images), -np.sort(-abs(images.reshape(5, 6)), axis=1), rtol=1e-14
    )
    d = np.zeros_like(images)
    d[:, 0, 1, 2] = 1
    np.testing.assert_allclose(features.directional_norms(encode, images, d), abs(images[:, 0, 1, 2]), rtol=1e-14)
    x = mg.tensor(images)
    np.testing.assert_allclose(ae.contractive(encode, x, "exact").item(), (images**2).sum() / 5, rtol=1e-14)


def test_only_the_encoder_of_one_layer_has_the_closed_form():
    class Doubled(ae.Autoencoder):
        def encode(self, x):
            return 2.0 * super().encode(x)

    assert one_layer(make().encode) is not None
    for encode in (make(sizes=DEEP).encode, make().forward, make().decode, Doubled((4, 3)).encode, mg.tanh):
        assert one_layer(encode) is None
    model = Doubled((4, 3), dtype="float64")
    plain = features.jacobian_norms(lambda x: ae.Autoencoder.encode(model, x), X)
    np.testing.assert_allclose(features.jacobian_norms(model.encode, X), 2 * plain, rtol=1e-12)


def test_rows_of_rows_are_exact_however_many_units_there_are():
    """Where there is no closed form: x of shape (m, k, n) has k codes a sample."""
    model = ae.Autoencoder((4, 30), dtype="float64")
    x = rng.normal(size=(5, 3, 4))
    rows = features.jacobian_norms(model.encode, x.reshape(15, 4)).reshape(5, 3)
    np.testing.assert_allclose(features.jacobian_norms(model.encode, x), np.sqrt((rows**2).sum(axis=1)), rtol=1e-12)


# ---------------------------------------------------------------- in pieces


def test_pieces_do_not_change_the_result():
    model, d = make("sigmoid", DEEP), np.tile([0.6, 0.8, 0.0, 0.0], (7, 1))
    for measure in (
        lambda n: features.codes(model, X, n),
        lambda n: features.jacobian_norms(model.encode, X, n),
        lambda n: features.singular_values_along(model.encode, X, n),
        lambda n: features.directional_norms(model.encode, X, d, n),
    ):
        whole = measure(7)
        assert len(whole) == 7
        for n in (1, 3, 100):  # a matrix product of other shape may round otherwise
            np.testing.assert_allclose(measure(n), whole, rtol=1e-12, atol=1e-14)


def test_no_more_than_a_piece_at_once_without_a_graph_in_evaluation_mode():
    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.dropout = nn.Linear(4, 3), nn.Dropout(0.5)
            self.seen = []

        def encode(self, x):
            h = self.dropout(self.layer(x))
            self.seen.append((len(x), self.training, self.dropout.training, h.requires_grad))
            return h

    model = Watched()
    model.layer.eval()
    codes = features.codes(model, X, batch_size=3)
    assert model.seen == [(n, False, False, False) for n in (3, 3, 1)]
    assert (model.training, model.layer.training, model.dropout.training) == (True, False, True)
    weight = model.layer.weight.detach().numpy()
    np.testing.assert_allclose(codes, X @ weight, rtol=1e-5, atol=1e-6)  # float32, and biases start at 0


@pytest.mark.parametrize("given", ["float32", "float64", "int64"])
def test_data_are_converted_to_the_dtype_of_the_model(given):
    data = X.astype(given)
    for dtype in ("float32", "float64"):
        model = make(dtype=dtype)
        assert features.codes(model, data).dtype == dtype
        assert features.jacobian_norms(model.encode, data).dtype == dtype
        assert features.directional_norms(model.forward, mg.tensor(data), np.eye(4)[[0] * 7]).dtype == dtype
    assert features.jacobian_norms(mg.tanh, data).dtype == ("float64" if given == "int64" else given)


# ---------------------------------------------------------------- units


@given(codes_of_sigmoids, st.floats(0.01, 0.4))
def test_statistics_of_units_are_counts_and_means(h, margin):
    m, k = h.shape
    means, fractions = features.mean_activations(h), features.saturation(h, margin=margin)
    dead = features.dead_units(h, margin)
    for l in range(k):
        assert means[l] == pytest.approx(sum(h[:, l]) / m, rel=1e-14, abs=1e-300)
        assert fractions[l] == sum(not margin < a < 1 - margin for a in h[:, l]) / m
        assert dead[l] == all(a <= margin for a in h[:, l])
    assert not (dead & (fractions < 1)).any()  # a unit below the margin everywhere is saturated everywhere


@given(arrays(np.int64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(0, 64)))
def test_a_tanh_saturates_as_the_sigmoid_that_it_is(levels):
    h = levels / 64  # 2 h - 1 is exact, and no h is at the margin
    np.testing.assert_array_equal(features.saturation(2 * h - 1, "tanh", 0.1), features.saturation(h, "sigmoid", 0.05))


def test_dead_units_count_negative_values_as_activity():
    assert features.dead_units([[0.0, -1.0, 0.0], [0.0, 0.0, 1e-30]]).tolist() == [True, False, False]


def test_means_of_many_float32_codes_are_accurate():
    h = np.full((200_000, 1), 0.1, np.float32)
    assert features.mean_activations(h)[0] == pytest.approx(float(np.float32(0.1)), rel=1e-12)


# ---------------------------------------------------------------- refusals


def test_refusals():
    model, d = make(), np.eye(4)[[0] * 7]
    h = np.full((2, 3), 0.5)
    bad = X.copy()
    bad[2, 1] = np.nan
    for call, error, words in [
        (lambda: features.codes(mg.tanh, X), DTypeError, "codes: got Primitive; expected a model with a method encode"),
        (lambda: features.codes(model, X[0]), ShapeError, r"codes: X has shape \(4,\)"),
        (lambda: features.codes(model, X[:, :3]), ShapeError, r"expected \(..., 4\)"),
        (lambda: features.codes(model, X, 0), DataError, "codes: got batch_size=0"),
        (lambda: features.codes(model, X, 1.5), DTypeError, "codes: got batch_size=1.5"),
        (lambda: features.codes(model, bad), DataError, r"codes: X\[2, 1\] is nan, one of 1 values"),
        (lambda: features.codes(model, X.astype(complex)), DTypeError, "complex"),
        (lambda: features.codes(model, [[1, 2, 3, 4], [1]]), ShapeError, "codes: X is no array .* the same length"),
        (lambda: features.codes(model, np.ma.masked_less(X, 0)), DataError, r"codes: X has \d+ masked values"),
        (
            lambda: features.directional_norms(model.encode, [[1, 2, 3, 4], [1]], d),
            ShapeError,
            "directional_norms: X is no array",
        ),
        (lambda: features.jacobian_norms(model.encode, X[:0]), ShapeError, "at least one sample"),
        (lambda: features.jacobian_norms(lambda t: t.sum(), X), ShapeError, r"jacobian_norms: .*expected \(m, ..."),
        (
            lambda: features.singular_values_along(lambda t: t.T, X),
            ShapeError,
            r"singular_values_along: .*\(m, \.\.\.\)",
        ),
        (lambda: features.directional_norms(model.encode, X, d[:3]), ShapeError, r"expected \(7, 4\), the shape of X"),
        (lambda: features.directional_norms(model.encode, X, d[0]), ShapeError, "directions has shape"),
        (lambda: features.directional_norms(model.encode, X, 2 * d), DataError, "direction 0 has length 2"),
        (lambda: features.mean_activations(h[0]), ShapeError, r"h has shape \(3,\); expected \(samples, units\)"),
        (lambda: features.mean_activations(h[:0]), ShapeError, "none of them empty"),
        (lambda: features.dead_units(h, -1.0), DataError, "threshold=-1.0"),
        (lambda: features.dead_units(h, float("nan")), DataError, "threshold=nan"),
        (lambda: features.dead_units(h * np.inf), DataError, r"h\[0, 0\] is inf, one of 6"),
        (lambda: features.saturation(h, "relu"), DataError, "activation='relu'; expected one of sigmoid, tanh"),
        (lambda: features.saturation(h, margin=0.5), DataError, "margin=0.5; expected more than 0 and less than 0.5"),
        (lambda: features.saturation(h - 1), DataError, r"from -0.5 to -0.5; expected \[0, 1\] for activation='sig"),
    ]:
        with pytest.raises(error, match=words):
            call()


def test_squared_errors_are_those_of_each_sample():
    rng = np.random.default_rng(0)
    x, inputs = rng.random((9, 4)), rng.random((9, 4))
    model = ae.Autoencoder((4, 2), dtype="float64")
    x_hat = model(mg.tensor(inputs)).detach().numpy()
    expected = ((x_hat - x) ** 2).sum(axis=1)
    np.testing.assert_allclose(features.squared_errors(model, x, inputs, batch_size=4), expected, rtol=1e-13)
    exact = ae.pca.linear_autoencoder(x, 2)
    assert features.squared_errors(exact, x, batch_size=4).mean() == pytest.approx(ae.pca.reconstruction_floor(x, 2))
    with pytest.raises(ShapeError, match="inputs have shape"):
        features.squared_errors(model, x, inputs[:3])


def test_squared_errors_of_samples_that_are_not_finite_are_refused():
    good, bad = np.ones((3, 2)), np.array([[1.0, 1.0], [1.0, 1.0], [np.nan, 1.0]])
    for reconstruct in (lambda x: 0.5 * x, ae.Autoencoder((2, 1))):
        with pytest.raises(DataError, match=r"squared_errors: X\[2, 0\] is nan"):
            features.squared_errors(reconstruct, bad, good)
        with pytest.raises(DataError, match=r"squared_errors: inputs\[2, 0\] is nan"):
            features.squared_errors(reconstruct, good, bad)
