"""The scikit-learn estimators: scikit-learn's own checks, and what a user of pipelines and grid searches relies on."""

import builtins
import importlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

import autoencoders as ae
import minigrad as mg
from autoencoders.sklearn import (
    AutoencoderTransformer,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    LinearAutoencoder,
    SparseAutoencoder,
)
from minigrad.errors import DataError, DTypeError, MissingDependencyError, ShapeError

SHORT = {"n_components": 3, "epochs": 2, "random_state": 0}
ESTIMATORS = [
    AutoencoderTransformer(**SHORT),
    LinearAutoencoder(**SHORT),
    DenoisingAutoencoder(**SHORT),
    SparseAutoencoder(**SHORT),
    ContractiveAutoencoder(**SHORT),
]
DEEP = AutoencoderTransformer(**SHORT, hidden_layer_sizes=(4,), tied=True, weight_decay=1e-3, patience=1)
DIGITS = load_digits().data / 16


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_each_stands_in_a_pipeline_before_a_classifier():
    """Codes of 16 numbers tell digits apart far better than the 10 % of guessing; the raw pixels give 95 %."""
    labels = load_digits().target
    estimator = AutoencoderTransformer(16, epochs=20, learning_rate=5e-3, random_state=0)
    pipeline = make_pipeline(estimator, LogisticRegression(max_iter=1000)).fit(DIGITS[:1200], labels[:1200])
    assert pipeline.score(DIGITS[1200:], labels[1200:]) > 0.8


def test_a_grid_search_in_two_processes_finds_the_wider_code():
    grid = {"n_components": [1, np.int64(12)], "weight_decay": [np.float64(1e-4)]}  # numbers as np.arange makes them
    search = GridSearchCV(LinearAutoencoder(epochs=5, random_state=0), grid, cv=2, n_jobs=2).fit(DIGITS[:400])
    assert search.best_params_["n_components"] == 12
    assert search.transform(DIGITS[:3]).shape == (3, 12)


def test_the_linear_estimator_is_as_good_as_pca_and_never_better():
    """Adam stops about 1 % above the floor; nothing gets below it, whatever the rounding (float64: 1e-12)."""
    estimator = LinearAutoencoder(8, random_state=0).fit(DIGITS)
    ours = -estimator.score(DIGITS)
    exact = PCA(8).fit(DIGITS)
    floor = np.square(exact.inverse_transform(exact.transform(DIGITS)) - DIGITS).sum(axis=1).mean()
    assert floor * (1 - 1e-12) < ours < 1.03 * floor
    assert floor == pytest.approx(ae.pca.reconstruction_floor(DIGITS, 8), rel=1e-9)
    # nearly as good, for digits, would be a sigmoid in its linear range
    assert (estimator.model_.activation, estimator.model_.output) == ("linear", "linear")


@pytest.mark.parametrize("estimator", [*ESTIMATORS, DEEP], ids=lambda e: type(e).__name__)
def test_equal_random_states_give_equal_bits_and_others_do_not(estimator):
    X = DIGITS[:96]

    def codes(random_state):
        return clone(estimator).set_params(random_state=random_state, batch_size=32).fit_transform(X)

    ones = codes(1)
    np.testing.assert_array_equal(codes(1), ones)
    np.testing.assert_array_equal(codes(np.random.RandomState(1)), ones)
    assert not np.array_equal(codes(2), ones)
    assert not np.array_equal(codes(None), codes(None))


def test_the_random_state_sets_both_the_initial_weights_and_the_training(monkeypatch):
    seeds = []
    estimator = AutoencoderTransformer(3, epochs=1, learning_rate=0.0)
    monkeypatch.setattr(
        "autoencoders.sklearn.base.fit",
        lambda *args, seed, **rest: seeds.append(seed) or ae.fit(*args, seed=seed, **rest),
    )
    a, b, c = (clone(estimator).set_params(random_state=i).fit_transform(DIGITS[:20]) for i in (0, 0, 1))
    assert seeds[0] == seeds[1] != seeds[2]
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_fitting_does_not_touch_the_random_numbers_of_others():
    mg.random.seed(5)
    first, numpys = mg.random.uniform((3,)).numpy(), np.random.get_state()[1].copy()
    mg.random.seed(5)
    DenoisingAutoencoder(**SHORT).fit(DIGITS[:50])
    np.testing.assert_array_equal(mg.random.uniform((3,)).numpy(), first)
    np.testing.assert_array_equal(np.random.get_state()[1], numpys)


@pytest.mark.parametrize("estimator", [*ESTIMATORS, DEEP], ids=lambda e: type(e).__name__)
def test_a_pickled_estimator_gives_the_same_bits_and_can_be_fitted_again(estimator):
    X = DIGITS[:100].astype(np.float32)
    fitted = clone(estimator).fit(X)
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.transform(X), fitted.transform(X))
    np.testing.assert_array_equal(copy.score_samples(X), fitted.score_samples(X))
    assert copy.history_ == fitted.history_
    assert copy.model_.encoder_weights[0].dtype == np.float32
    np.testing.assert_array_equal(copy.fit(X).transform(X), fitted.transform(X))


def test_data_frames_in_and_out():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: data frames are not tested")
    frame = pandas.DataFrame(DIGITS[:40, 2:6], columns=list("abcd"), index=range(7, 47))
    estimator = SparseAutoencoder(**SHORT).set_output(transform="pandas").fit(frame)
    assert estimator.feature_names_in_.tolist() == list("abcd")
    codes = estimator.transform(frame)
    assert codes.columns.tolist() == estimator.get_feature_names_out().tolist()
    assert codes.columns.tolist() == [f"sparseautoencoder{i}" for i in range(3)]
    assert codes.index.equals(frame.index)
    assert estimator.inverse_transform(codes).shape == (40, 4)
    with pytest.raises(ValueError, match="feature names"):
        estimator.transform(frame[list("abdc")])


def test_codes_reconstructions_and_scores_are_those_of_the_model(monkeypatch):
    """In pieces too: rows that a matrix product meets in another number may differ by rounding."""
    X = DIGITS[:50]
    estimator = AutoencoderTransformer(**SHORT, output="sigmoid").fit(X)
    model = estimator.model_
    for rows in (7, 4096):
        monkeypatch.setattr("autoencoders.sklearn.base.ROWS", rows)
        codes = estimator.transform(X)
        np.testing.assert_allclose(codes, model.encode(X).numpy(), rtol=1e-13)
        np.testing.assert_allclose(estimator.inverse_transform(codes), model(X).numpy(), rtol=1e-13)
        errors = -np.square(model(X).numpy() - X).sum(axis=1)
        np.testing.assert_allclose(estimator.score_samples(X), errors, rtol=1e-13)
    assert estimator.score(X) == pytest.approx(errors.mean(), rel=1e-13)
    codes[0] = 0  # is the caller's own array
    assert estimator.get_feature_names_out().tolist() == [f"autoencodertransformer{i}" for i in range(3)]


def objective_on(estimator, x):
    """The terms in the first epoch."""
    return {name: curve[0] for name, curve in clone(estimator).fit(x).history_.terms.items()}


def test_the_objectives_are_those_of_the_lecture():
    """With learning rate 0 and one batch the history holds the objective of the initial model (float64: 1e-12)."""
    X = DIGITS[:30]
    start = {"n_components": 3, "epochs": 1, "learning_rate": 0.0, "random_state": 0, "output": "sigmoid"}
    model = AutoencoderTransformer(**start).fit(X).model_
    x = mg.tensor(X)
    h = model.encode(x)
    plain = ae.squared_error(model.decode(h), x).item()
    entropy = ae.binary_cross_entropy_with_logits(model.decode_logits(h), x).item()
    expected = [
        (AutoencoderTransformer(**start), {"reconstruction": plain}),
        (AutoencoderTransformer(**start, loss="cross_entropy"), {"reconstruction": entropy}),
        (
            AutoencoderTransformer(**start, weight_decay=0.5),
            {"reconstruction": plain, "weight_decay": 0.5 * ae.l2(model).item()},
        ),
        (DenoisingAutoencoder(**start, level=0.0), {"reconstruction": plain}),
        (
            SparseAutoencoder(**start, rho=0.1, beta=2.0),
            {"reconstruction": plain, "sparsity": 2 * ae.kl_sparsity(h, 0.1).item()},
        ),
        (
            SparseAutoencoder(**start, penalty="l1", beta=2.0),
            {"reconstruction": plain, "sparsity": 2 * ae.l1(h).item()},
        ),
        (
            ContractiveAutoencoder(**start, strength=3.0),
            {"reconstruction": plain, "contraction": 3 * ae.contractive(model.encode, x).item()},
        ),
    ]
    for estimator, terms in expected:
        assert objective_on(estimator, X) == pytest.approx(terms, rel=1e-12), estimator


@pytest.mark.parametrize(("noise", "level"), [("masking", 1.0), ("gaussian", 2.0), ("salt_and_pepper", 1.0)])
def test_noise_is_for_training_only(noise, level):
    """The same model with all its input destroyed: the loss in training is not that of clean data."""
    settings = {"n_components": 3, "epochs": 1, "learning_rate": 0.0, "random_state": 0}
    X = DIGITS[:200]
    clean = AutoencoderTransformer(**settings).fit(X)
    noisy = DenoisingAutoencoder(**settings, noise=noise, level=level).fit(X)
    assert noisy.history_.loss[0] != pytest.approx(clean.history_.loss[0], rel=1e-3)
    np.testing.assert_array_equal(noisy.transform(X), clean.transform(X))


def test_early_stopping_keeps_the_best_epoch():
    """At a learning rate that is far too large for it the loss soon rises again."""
    X = DIGITS[:200]
    settings = {"epochs": 200, "learning_rate": 0.2, "random_state": 0, "validation_fraction": 0.25, "patience": 3}
    estimator = AutoencoderTransformer(8, **settings).fit(X)
    losses = estimator.history_.validation["reconstruction"]
    assert estimator.n_iter_ == len(losses) == int(np.argmin(losses)) + 1 + 3 < 200
    best = clone(estimator).set_params(epochs=int(np.argmin(losses)) + 1).fit(X)
    np.testing.assert_array_equal(best.transform(X), estimator.transform(X))


@pytest.mark.parametrize("name", ["validation_fraction", "weight_decay", "learning_rate"])
def test_numbers_of_numpy_are_numbers(name):
    estimators = (AutoencoderTransformer(3, epochs=1, random_state=0, **{name: n}) for n in (0.25, np.float32(0.25)))
    one, other = (estimator.fit(DIGITS[:20]).transform(DIGITS[:20]) for estimator in estimators)
    np.testing.assert_array_equal(one, other)


def test_samples_held_out_have_no_influence_on_the_training():
    estimator = AutoencoderTransformer(3, epochs=1, random_state=0, validation_fraction=0.5)
    X = np.random.default_rng(0).normal(size=(20, 4))
    before = estimator.fit(X).transform(X)
    moved = []
    for i in range(20):
        changed = X.copy()
        changed[i] += 1.0
        moved.append(not np.array_equal(clone(estimator).fit(changed).transform(X), before))
    assert sum(moved) == 10


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        (AutoencoderTransformer(0), DataError, "Transformer: got n_components=0; expected at least 1"),
        (AutoencoderTransformer("4"), DTypeError, "Transformer: got n_components='4'; expected an integer"),
        (AutoencoderTransformer(hidden_layer_sizes=(9, 0)), DataError, r"got hidden_layer_sizes\[1\]=0; expected at"),
        (AutoencoderTransformer(hidden_layer_sizes="ab"), DTypeError, r"got hidden_layer_sizes\[0\]='a'; expected"),
        (AutoencoderTransformer(hidden_layer_sizes=4), DTypeError, "hidden_layer_sizes=4; expected a tuple"),
        (AutoencoderTransformer(activation="softmax"), DataError, "activation='softmax'"),
        (AutoencoderTransformer(output="softmax"), DataError, "output='softmax'"),
        (AutoencoderTransformer(loss="hinge"), DataError, "loss='hinge'; expected one of squared_error, cross_entropy"),
        (AutoencoderTransformer(loss="cross_entropy"), DataError, "expected output='sigmoid'"),
        (AutoencoderTransformer(loss="cross_entropy", output="sigmoid"), DataError, "reaches from 0 to 2; rescale"),
        (AutoencoderTransformer(weight_decay=-1.0), DataError, "weight_decay=-1.0; expected a finite number of at le"),
        (AutoencoderTransformer(weight_decay=True), DTypeError, "weight_decay=True; expected a number"),
        (AutoencoderTransformer(learning_rate=np.nan), DataError, "learning_rate=nan"),
        (AutoencoderTransformer(epochs=0), DataError, "epochs=0"),
        (AutoencoderTransformer(batch_size=1.5), DTypeError, "batch_size=1.5"),
        (AutoencoderTransformer(patience=0), DataError, "patience=0"),
        (AutoencoderTransformer(validation_fraction=1), DataError, "validation_fraction=1; .* in \\[0, 1\\)"),
        (AutoencoderTransformer(random_state="x"), ValueError, "'x' cannot be used to seed"),
        (DenoisingAutoencoder(noise="salt"), DataError, "noise='salt'; expected one of masking, gaussian"),
        (DenoisingAutoencoder(level=1.5), DataError, "level=1.5; expected a probability, .* for noise='masking'"),
        (DenoisingAutoencoder(level=2, noise="salt_and_pepper"), DataError, "level=2; .* noise='salt_and_pepper'"),
        (DenoisingAutoencoder(level=-0.5), DataError, "level=-0.5"),
        (SparseAutoencoder(penalty="l0"), DataError, "penalty='l0'"),
        (SparseAutoencoder(rho=0.0), DataError, "rho=0.0"),
        (SparseAutoencoder(rho="low"), DTypeError, "rho='low'"),
        (SparseAutoencoder(beta=-1), DataError, "beta=-1"),
        (SparseAutoencoder(activation="tanh"), DataError, "expected activation='sigmoid'"),
        (ContractiveAutoencoder(strength=np.inf), DataError, "strength=inf"),
        (ContractiveAutoencoder(method="fast"), DataError, "method='fast'"),
        (ContractiveAutoencoder(method="closed", hidden_layer_sizes=(4,)), DataError, "closed form"),
    ],
)
def test_unusable_parameters_are_refused_and_the_old_model_stays(estimator, error, message):
    X = 2 * DIGITS[:20]
    usable = type(estimator)(**SHORT).fit(X[:, :60])
    before = usable.transform(X[:, :60])
    with pytest.raises(error, match=message):
        usable.set_params(**estimator.get_params()).fit(X)
    np.testing.assert_array_equal(usable.transform(X[:, :60]), before)


def test_unusable_data_are_refused():
    estimator = AutoencoderTransformer(**SHORT)
    with pytest.raises(NotFittedError):
        estimator.inverse_transform(np.ones((2, 3)))
    with pytest.raises(NotFittedError):
        estimator.get_feature_names_out()
    with pytest.raises(TypeError, match="[Ss]parse data was passed"):
        estimator.fit(csr_array(DIGITS[:5]))
    with pytest.raises(ValueError, match="NaN"):
        estimator.fit([[1.0, np.nan]])
    with pytest.raises(ValueError, match="train set will be empty"):
        clone(estimator).set_params(validation_fraction=0.5).fit(DIGITS[:1])
    estimator.fit(DIGITS[:20])
    with pytest.raises(ShapeError, match="decode: got shape \\(2, 4\\)"):
        estimator.inverse_transform(np.ones((2, 4)))


def test_the_package_does_without_scikit_learn_until_it_is_asked_for(monkeypatch):
    code = "import sys, autoencoders; print('sklearn' in sys.modules, 'autoencoders.sklearn' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]

    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "sklearn":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for name in [name for name in sys.modules if name.startswith("autoencoders.sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingDependencyError, match="pip install scikit-learn"):
        importlib.import_module("autoencoders.sklearn")


def test_the_estimators_show_their_parameters_and_tags():
    """What is set by a class, such as a linear activation, is no parameter; a clone has the same ones."""
    assert get_tags(LinearAutoencoder()).transformer_tags.preserves_dtype == ["float64", "float32"]
    assert set(LinearAutoencoder().get_params()) < set(AutoencoderTransformer().get_params())
    assert "activation" not in LinearAutoencoder().get_params()
    assert repr(clone(LinearAutoencoder(4, tied=True))) == "LinearAutoencoder(n_components=4, tied=True)"


@pytest.mark.parametrize("method", ["fit", "transform", "inverse_transform", "score_samples", "score"])
def test_masked_values_are_refused(method):
    estimator = AutoencoderTransformer(**SHORT).fit(DIGITS[:50])
    given = DIGITS[:50, :3] if method == "inverse_transform" else DIGITS[:50]
    getattr(estimator, method)(np.ma.masked_array(given))  # nothing is under the mask
    with pytest.raises(DataError, match="AutoencoderTransformer: X has 50 masked values; fill them"):
        getattr(estimator, method)(np.ma.masked_array(given, np.arange(given.shape[1]) == np.zeros((50, 1))))


def test_scores_of_large_float32_numbers_are_finite():
    estimator = LinearAutoencoder(**SHORT).fit(DIGITS[:50].astype(np.float32))
    x = np.full((2, 64), 1e30, np.float32)
    errors = (estimator.model_(x).detach().numpy().astype(np.float64) - x) ** 2
    np.testing.assert_allclose(estimator.score_samples(x), -errors.sum(axis=1), rtol=1e-12)
    assert np.isfinite(estimator.score(x))
