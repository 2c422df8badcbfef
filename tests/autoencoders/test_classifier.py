"""Softmax regression: against scikit-learn's, on top of a model, and what it refuses."""

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from minigrad.errors import DataError, DTypeError, ShapeError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 5))
Y = (X @ RNG.normal(size=(5, 3)) + RNG.gumbel(size=(120, 3))).argmax(axis=1)


def test_it_is_the_optimum_that_scikit_learn_finds():
    linear_model = pytest.importorskip("sklearn.linear_model")
    l2 = 1e-3
    ours = ae.softmax_regression(X, Y, l2=l2, max_iter=1000, dtype="float64")
    # its objective is C times the sum of the losses plus half of the squared weights
    theirs = linear_model.LogisticRegression(C=1 / (2 * l2 * len(X)), tol=1e-10, max_iter=10_000).fit(X, Y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=2e-5)
    assert ours.accuracy(X, Y) == theirs.score(X, Y)


@pytest.mark.parametrize("labels", [np.array(["b", "a", "c"]), np.array([7, -1, 3]), np.array([0.5, 1.5, 2.5])])
def test_labels_of_any_kind_come_back(labels):
    y = labels[Y]
    model = ae.softmax_regression(X, y)
    predicted = model.predict(X)
    assert predicted.dtype == labels.dtype and set(predicted) <= set(labels)
    assert model.accuracy(X, y) == np.mean(predicted == y) > 0.6
    assert model.classes.tolist() == sorted(labels.tolist())
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-6)


def test_decay_shrinks_the_weights_and_leaves_the_biases():
    free, held = (ae.softmax_regression(X, np.minimum(Y, 1), l2=l2, dtype="float64") for l2 in (0.0, 1000.0))
    assert np.abs(held.linear.weight.numpy()).max() < 1e-3 < np.abs(free.linear.weight.numpy()).max()
    # without weights all that is left are the frequencies of the classes
    np.testing.assert_allclose(held.predict_proba(X[:1])[0, 0], np.mean(Y == 0), atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"X": X[0]}, ShapeError, r"\(5,\)"),
        ({"y": Y[:5]}, ShapeError, "a label for every row"),
        ({"y": np.zeros(120)}, DataError, "at least two"),
        ({"y": np.full(120, np.nan)}, DataError, "NaN"),
        ({"y": np.array([None, "a"] * 60)}, DTypeError, "Python objects"),
        ({"l2": -1.0}, DataError, "l2=-1.0"),
        ({"X": np.full((120, 5), np.inf)}, DataError, "X contains NaN or inf"),
        ({"X": np.full((120, 5), "a")}, DTypeError, "real numbers"),
        ({"X": 1e-200 * X}, DataError, "rescale"),
    ],
)
def test_unusable_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ae.softmax_regression(**{"X": X, "y": Y, **arguments})


# ---------------------------------------------------------------- on top of a model


def images(model, x):
    return x.reshape(-1, *model.input_shape)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ae.StackedAutoencoder((64, 32, 16), "sigmoid", "sigmoid"),
        lambda: ae.Autoencoder((64, 20), "tanh", tied=True, dtype="float64"),
        lambda: ae.ConvAutoencoder((1, 8, 8), (4,)),
        lambda: ae.VariationalAutoencoder((64, 20), 8),
    ],
)
def test_fine_tuning_moves_the_encoder_of_the_model_and_nothing_else(make):
    digits = ae.datasets.digits()
    model = make()
    before = model.state_dict()
    epochs = []
    x, test = images(model, digits.x_train), images(model, digits.x_test)
    classifier = ae.fine_tune(
        model, x, digits.y_train, epochs=15, batch_size=64, learning_rate=0.02, dropout=0.1,
        corrupt=lambda x: ae.masking_noise(x, 0.1), callback=lambda net, history: epochs.append(history.epochs) or None,
    )  # fmt: skip
    assert epochs == list(range(1, 16))
    assert classifier.accuracy(test, digits.y_test) > 0.9  # guessing gives 0.1
    moved = {name for name, array in model.state_dict().items() if (array != before[name]).any()}
    with mg.no_grad():
        h = model.encode(test).numpy().reshape(len(test), -1)
    logits = h @ classifier.linear.weight.numpy() + classifier.linear.bias.numpy()
    assert (classifier.predict(test) == logits.argmax(axis=1)).all()  # in evaluation: without dropout
    assert not any("decoder" in name for name in moved)
    assert any("encoder" in name or "layer" in name or "conv" in name for name in moved)


def test_fine_tuning_is_reproducible():
    digits = ae.datasets.digits()
    found = []
    for seed in (0, 0, 1):
        model = ae.Autoencoder((64, 10))
        ae.fine_tune(model, digits.x_train[:300], digits.y_train[:300], epochs=2, dropout=0.3, seed=seed)
        found.append(model.encoder_weights[0].detach().numpy())
    assert (found[0] == found[1]).all() and (found[0] != found[2]).any()


def test_fine_tuning_begins_at_the_softmax_that_is_given_and_leaves_it():
    digits = ae.datasets.digits()
    model = ae.Autoencoder((64, 10), seed=0)
    softmax = ae.softmax_regression(ae.features.codes(model, digits.x_train), digits.y_train)
    before = softmax.state_dict()
    tuned = ae.fine_tune(  # by steps far below the rounding of its weights
        model, digits.x_train, digits.y_train, epochs=1, learning_rate=1e-30, softmax=softmax
    )
    for name, array in tuned.linear.state_dict().items():
        np.testing.assert_array_equal(array, before[f"linear.{name}"])
    assert tuned.linear.weight is not softmax.linear.weight
    ae.fine_tune(model, digits.x_train, digits.y_train, epochs=1, learning_rate=0.1, softmax=softmax)
    assert all((array == before[name]).all() for name, array in softmax.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"softmax": ae.SoftmaxRegression(4, [0, 1, 2])}, ShapeError, r"softmax has weights of shape \(4, 3\)"),
        ({"softmax": ae.SoftmaxRegression(3, ["a", "b", "c"])}, DataError, r"softmax has classes \['a'"),
        ({"y": Y[:5]}, ShapeError, "a label for every row"),
        ({"y": np.zeros(120)}, DataError, "at least two"),
        ({"epochs": 0}, DataError, "fine_tune: got epochs=0"),
        ({"learning_rate": -1}, DataError, "learning_rate=-1"),
        ({"dropout": 2.0}, DataError, "2.0"),
        ({"X": X[:, :3]}, ShapeError, "5"),
        ({"X": iter([X])}, DTypeError, "X is list_iterator, an iterable of batches; expected an array of samples"),
        ({"X": 1.0}, ShapeError, r"X has shape \(\); expected \(samples, \.\.\.\)"),
        ({"softmax": "x"}, DTypeError, "softmax='x'; expected a SoftmaxRegression"),
        ({"model": object()}, DTypeError, "method encode"),
    ],
)
def test_fine_tuning_refuses_before_anything_changes(arguments, error, message):
    model = ae.Autoencoder((5, 3))
    before = model.state_dict()
    given = {"model": model, "X": X, "y": Y, "epochs": 1, **arguments}
    with pytest.raises(error, match=message):
        ae.fine_tune(given.pop("model"), given.pop("X"), given.pop("y"), **given)
    assert all((array == before[name]).all() for name, array in model.state_dict().items())


def test_accuracy_refuses_labels_that_do_not_fit():
    model = ae.softmax_regression(X, Y)
    with pytest.raises(ShapeError, match=r"\(120, 1\); expected \(120,\)"):
        model.accuracy(X, Y[:, None])
    with pytest.raises(ShapeError, match=r"\(5,\)"):
        model.accuracy(X, Y[:5])
    with pytest.raises(DTypeError, match="expected labels such as"):
        model.accuracy(X, Y.astype(str))


@pytest.mark.parametrize("classes", [[7, 8, 9], ["a", "b", "c"], [b"a", b"b", b"c"], np.array([0, 1, 2], "M8[D]")])
def test_accuracy_refuses_labels_of_another_kind_than_the_classes(classes):
    kinds = {
        np.array(labels).dtype.kind: np.array(labels)
        for labels in (
            [7, 8, 9],
            ["a", "b", "c"],
            [b"a", b"b", b"c"],
            np.array([0, 1, 2], "M8[D]"),
            np.array([0, 1, 2], "m8[D]"),
        )
    }
    model = ae.softmax_regression(X, np.array(classes)[Y])
    own = model.classes.dtype.kind
    assert model.accuracy(X, np.array(classes)[Y]) > 0.6
    for kind, labels in kinds.items():
        if kind != own:
            with pytest.raises(DTypeError, match=r"accuracy: y has dtype .*; expected labels such as .*, of dtype"):
                model.accuracy(X, labels[Y])


def test_integers_floats_and_bools_are_labels_of_one_kind():
    model = ae.softmax_regression(X, Y > 0)
    accuracy = model.accuracy(X, Y > 0)
    for dtype in (np.float32, np.uint8):
        assert model.accuracy(X, (Y > 0).astype(dtype)) == accuracy > 0.6


def test_dates_that_are_none_are_no_labels():
    with pytest.raises(DataError, match="y contains NaN, NaT or infinity; expected labels"):
        ae.softmax_regression(X, np.where(Y > 0, np.datetime64("2020-01-01"), np.datetime64("NaT")))


def test_the_scale_of_features_does_not_end_the_fit_early():
    accuracies = [
        ae.softmax_regression(X * s, Y, l2=0.0, max_iter=500, dtype="float64").accuracy(X * s, Y) for s in (1, 1e-5)
    ]
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.02)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-25, 1e-6, 1.0, 1e25])
def test_without_decay_the_units_of_the_features_do_not_matter(scale, dtype):
    expected = ae.softmax_regression(X, Y, l2=0.0, dtype=dtype).predict_proba(X)
    found = ae.softmax_regression(X * scale, Y, l2=0.0, dtype=dtype).predict_proba(X * scale)
    # the searches differ by the rounding of the scaled features, and end where slopes are rounding errors
    np.testing.assert_allclose(found, expected, atol=1e-3 if dtype == "float32" else 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-25, 1e-6, 1e-4])
def test_weights_of_tiny_features_are_decayed_and_biases_are_the_frequencies(scale, dtype):
    y, l2 = np.minimum(Y, 1), 1e-2
    model = ae.softmax_regression(X * scale, y, l2=l2, dtype=dtype)
    frequencies = np.bincount(y) / len(y)
    # to first order in scale^2 / l2 = 1e-6 the probabilities are the frequencies, and from there weights take one step;
    # near its minimum the objective is flat, so that in float32 it stays the same for probabilities that differ by 1e-4
    np.testing.assert_allclose(model.predict_proba(X * scale), np.tile(frequencies, (len(X), 1)), atol=1e-4)
    assert model.accuracy(X * scale, y) == frequencies.max() > 0.5
    # in float32 slopes of 1e-7 are rounding, and so are weights below scale^2 / l2 / 1e-7
    if scale == 1e-4 or (scale == 1e-6 and dtype == "float64"):
        slopes = (X * scale).T @ (np.eye(2)[y] - frequencies) / len(X)
        np.testing.assert_allclose(model.linear.weight.numpy(), slopes / (2 * l2), rtol=0.02, atol=0)


def test_the_largest_decay_leaves_the_frequencies():
    model = ae.softmax_regression(X, np.minimum(Y, 1), l2=1e300)
    np.testing.assert_allclose(model.predict_proba(X[:1])[0, 0], np.mean(Y == 0), atol=1e-4)


def test_a_search_that_ends_far_from_the_minimum_says_so():
    with pytest.warns(RuntimeWarning, match="slope of 0.* far from its minimum; more than max_iter=1"):
        ae.softmax_regression(X, Y, max_iter=1)


def test_masked_values_and_labels_are_refused():
    x, y = np.random.default_rng(0).random((20, 3)), np.arange(20) % 2
    classifier = ae.softmax_regression(np.ma.masked_array(x), np.ma.masked_array(y))  # nothing is under the mask
    masked = np.ma.masked_array(y, np.arange(20) == 3)
    with pytest.raises(DataError, match="softmax_regression: y has 1 masked values"):
        ae.softmax_regression(x, masked)
    with pytest.raises(DataError, match="accuracy: y has 1 masked values"):
        classifier.accuracy(x, masked)
    with pytest.raises(DataError, match="masked values; fill them"):
        classifier.predict(np.ma.masked_less(x, 0.5))
    with pytest.raises(DataError, match="masked values; fill them"):
        ae.pca.reconstruction_floor(np.ma.masked_less(x, 0.5), 2)


def test_it_is_fitted_under_no_grad_too():
    expected = ae.softmax_regression(X, Y).predict_proba(X)
    with mg.no_grad():
        model = ae.softmax_regression(X, Y)
        assert not mg.square(mg.Parameter([1.0])).requires_grad  # which is as it was
    np.testing.assert_array_equal(model.predict_proba(X), expected)


def test_strings_in_an_array_of_objects_are_strings():
    y = np.array(["left", "right", "up"], object)[Y]  # as pandas has them
    model = ae.softmax_regression(X, y)
    np.testing.assert_array_equal(model.predict(X), ae.softmax_regression(X, y.astype(str)).predict(X))
    assert model.classes.dtype.kind == "U" and model.accuracy(X, y) == model.accuracy(X, y.astype(str)) > 0.6
    assert ae.SoftmaxRegression(5, np.array(["a", "b"], object)).classes.dtype.kind == "U"


def test_fine_tuning_begins_at_a_softmax_of_another_dtype_too():
    model = ae.Autoencoder((5, 3))
    softmax = ae.softmax_regression(ae.features.codes(model, X), Y, dtype="float64")
    tuned = ae.fine_tune(model, X, Y, epochs=1, learning_rate=1e-30, softmax=softmax)
    for name, array in tuned.linear.state_dict().items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, softmax.linear.state_dict()[name].astype(np.float32))


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ({"a", "b"}, "got classes {'.', '.'}; expected at least two in their order"),
        (["a", "a", "b"], r"got classes \['a', 'a', 'b'\]; expected each of them once"),
        ([1, 1.0], "expected each of them once"),
        (["a"], "expected at least two"),
    ],
)
def test_classes_are_different_labels_in_their_order(classes, words):
    with pytest.raises(DataError, match=words):
        ae.SoftmaxRegression(3, classes)


def test_the_shape_of_a_sample_is_not_known_on_top_of_a_model_that_has_none():
    class Halved(mg.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = mg.Parameter([0.5])

        def encode(self, x):
            return x * self.scale

    model = ae.SoftmaxRegression(5, [0, 1], Halved())
    assert model.input_shape is None and ae.SoftmaxRegression(5, [0, 1]).input_shape == (5,)
    assert model.predict(X).shape == (120,)
