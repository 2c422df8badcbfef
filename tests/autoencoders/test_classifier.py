"""Softmax regression: against scikit-learn's, and what it refuses."""

import numpy as np
import pytest

import autoencoders as ae
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
        ({"X": np.full((120, 5), np.inf)}, DataError, "X.*inf"),
    ],
)
def test_unusable_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ae.softmax_regression(**{"X": X, "y": Y, **arguments})
