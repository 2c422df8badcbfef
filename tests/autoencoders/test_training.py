"""fit: what it minimises and records, what a seed fixes, what it refuses, and what an error leaves behind."""

import io
import sys

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import AnomalyError, DataError, DivergenceError, DTypeError, GraphError, ShapeError
from minigrad.random import Generator

X = np.random.default_rng(0).random((50, 6))


def plain(model, x):
    return ae.squared_error(model(x), x)


def denoising(model, x):
    h = model.encode(ae.masking_noise(x, 0.25))
    return {
        "reconstruction": ae.binary_cross_entropy_with_logits(model.decode_logits(h), x),
        "sparsity": 0.1 * ae.kl_sparsity(h, rho=0.2),
        "weights": 0.5e-3 * ae.l2(model),
    }


def make(**kwargs):
    return ae.Autoencoder((6, 3), output="sigmoid", dtype="float64", **kwargs)


def values(model):
    return np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])


# ---------------------------------------------------------------- what it does


def test_the_steps_are_those_of_a_loop_by_hand():
    W = np.random.default_rng(1).normal(size=(6, 6))

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.W = mg.Parameter(W)

        def forward(self, x):
            return x @ self.W

    model = Linear()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    history = ae.fit(model, X, plain, epochs=2, batch_size=20, optimizer=optimizer, shuffle=False)
    expected, by_hand = W.copy(), []
    for _ in range(2):
        total = 0.0
        for x in (X[:20], X[20:40], X[40:]):  # the last batch holds what is left
            residual = x @ expected - x
            total += (residual**2).sum()
            expected = expected - 0.1 * 2 * x.T @ residual / len(x)
        by_hand.append(total / len(X))  # a mean over samples, not over batches
    np.testing.assert_allclose(model.W.detach().numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(history.loss, by_hand, rtol=1e-12)
    assert list(history.terms) == ["loss"]


def test_every_term_is_recorded_and_their_sum_falls():
    model = make()
    history = ae.fit(model, X, denoising, epochs=30, batch_size=10, validation=X[:11])
    assert list(history.terms) == list(history.validation) == ["reconstruction", "sparsity", "weights"]
    assert all(len(curve) == 30 for curve in (*history.terms.values(), *history.validation.values(), history.seconds))
    assert history.epochs == 30 and min(history.seconds) > 0
    np.testing.assert_allclose(history.loss, np.sum(list(history.terms.values()), axis=0), rtol=1e-15)
    assert history.loss[-1] < 0.98 * history.loss[0]


def test_shuffling_visits_every_sample_once_in_a_new_order():
    seen = []

    def watching(model, x):
        seen.extend(x.numpy()[:, 0].tolist())
        return plain(model, x)

    ae.fit(make(), X, watching, epochs=2, batch_size=15, compile=False)
    first, second = seen[:50], seen[50:]
    assert sorted(first) == sorted(second) == sorted(X[:, 0].tolist())
    assert first != second and first != X[:, 0].tolist()


def test_corruption_is_drawn_anew_for_every_batch_and_the_data_stay_clean():
    noisy, before = [], X.copy()

    def watching(model, x):
        noise = ae.gaussian_noise(x, 1.0)
        noisy.append(noise.numpy() - x.numpy())
        return plain(model, x)

    ae.fit(make(), X, watching, epochs=2, batch_size=50, shuffle=False, compile=False)
    assert not np.allclose(noisy[0], noisy[1])
    assert (before == X).all()


def test_data_are_converted_to_the_dtype_of_the_model():
    dtypes = set()

    def watching(model, x):
        dtypes.add(x.dtype.name)
        return plain(model, x)

    for data in (X, X.astype(np.float32), (255 * X).astype(np.uint8) > 100, mg.tensor(X), X.tolist()):
        ae.fit(ae.Autoencoder((6, 3)), data, watching, epochs=1)
    assert dtypes == {"float32"}


def test_validation_is_measured_after_the_epoch_in_evaluation_mode():
    model, modes = make(), []

    def watching(model, x):
        modes.append(model.training)
        return plain(model, x)

    history = ae.fit(model, X, watching, epochs=2, validation=X[:7], compile=False)
    assert modes == [True, False] * 2
    np.testing.assert_allclose(history.validation["loss"][-1], plain(model, mg.tensor(X[:7])).item(), rtol=1e-13)


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_of_the_model_comes_back(mode):
    model = make()
    model.train(mode)
    ae.fit(model, X, plain, epochs=1, validation=X)
    assert model.training is mode


def test_a_callback_sees_every_epoch_and_can_end_the_training():
    seen = []

    def callback(model, history):
        seen.append((type(model).__name__, history.epochs))
        return history.epochs == 3

    history = ae.fit(make(), X, plain, epochs=10, callback=callback)
    assert seen == [("Autoencoder", 1), ("Autoencoder", 2), ("Autoencoder", 3)]
    assert history.epochs == 3


# ---------------------------------------------------------------- schedules, clipping, early stopping


@pytest.mark.parametrize("compile", [True, False])
def test_a_schedule_sets_the_learning_rate_epoch_by_epoch(compile):
    rates = []
    for make_schedule in (lambda o: optim.StepDecay(o, 1, 0.5), lambda o: lambda epoch: 0.1 * 0.5 ** (epoch - 1)):
        model = make()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        seen = []
        callback = lambda m, h, o=optimizer, s=seen: s.append(o.lr)  # noqa: E731
        ae.fit(
            model,
            X,
            plain,
            epochs=3,
            optimizer=optimizer,
            schedule=make_schedule(optimizer),
            callback=callback,
            compile=compile,
        )
        rates.append((values(model).tobytes(), seen))
    assert rates[0][0] == rates[1][0]  # the same steps
    assert rates[0][1] == [0.05, 0.025, 0.0125] and rates[1][1] == [0.1, 0.05, 0.025]


def test_a_plateau_is_noticed_by_the_validation_loss():
    model = make()
    optimizer = optim.SGD(model.parameters(), lr=1e-12)  # nothing falls
    schedule = optim.ReduceOnPlateau(optimizer, factor=0.5, patience=2)
    ae.fit(model, X, plain, epochs=5, optimizer=optimizer, schedule=schedule, validation=X)
    assert optimizer.lr == 0.25e-12


def test_early_stopping_brings_the_best_parameters_back():
    model = make()
    kept = []

    def callback(model, history):
        kept.append(values(model))

    # a learning rate that rises until the loss does
    history = ae.fit(
        model, X, plain, epochs=60, batch_size=50, validation=X[:20], callback=callback, patience=3,
        optimizer=optim.SGD(model.parameters(), lr=0.1), schedule=lambda epoch: 0.02 * 1.6**epoch,
    )  # fmt: skip
    curve = history.validation["loss"]
    best = int(np.argmin(curve))
    assert history.epochs == best + 4 < 60
    assert (values(model) == kept[best]).all()


@pytest.mark.parametrize("compile", [True, False])
def test_max_norm_limits_every_step(compile):
    model = make()
    before = values(model)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    ae.fit(
        model,
        X,
        lambda m, x: 1e6 * plain(m, x),
        epochs=1,
        batch_size=50,
        optimizer=optimizer,
        max_norm=0.01,
        compile=compile,
    )
    np.testing.assert_allclose(np.linalg.norm(values(model) - before), 0.01, rtol=1e-6)


# ---------------------------------------------------------------- seeds


def train(seed, **kwargs):
    model = make()
    history = ae.fit(model, X, denoising, epochs=3, batch_size=16, seed=seed, **kwargs)
    return values(model), np.array(history.loss)


def test_equal_seeds_give_equal_bits():
    mg.random.seed(1)
    a = train(5)
    mg.random.uniform((7,))  # the state of the default generator does not matter
    b = train(5)
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
    c = train(6)
    assert (a[0] != c[0]).any() and (a[1] != c[1]).any()


@pytest.mark.parametrize("extra", [{"validation": X[:20]}, {"progress": False}, {"callback": lambda m, h: None}])
def test_looking_does_not_change_the_result(extra):
    assert (train(5)[0] == train(5, **extra)[0]).all()


def test_the_seed_decides_the_noise_even_without_shuffling():
    assert (train(5, shuffle=False)[0] != train(6, shuffle=False)[0]).any()


def test_validation_noise_is_the_same_in_every_epoch():
    optimizer_that_stays = optim.SGD((model := make()).parameters(), lr=0.0)
    curve = ae.fit(model, X, denoising, epochs=3, validation=X, optimizer=optimizer_that_stays).validation
    assert all(len(set(values)) == 1 for values in curve.values())


def test_validation_noise_of_a_generator_of_the_model_is_the_same_in_every_epoch_and_not_that_of_the_training():
    model = make()
    model.noise = Generator(3)
    drawn = {True: [], False: []}

    def objective(model, x):
        x_tilde = ae.masking_noise(x, 0.5, generator=model.noise)
        drawn[model.training].append((x_tilde == 0).numpy().tobytes())
        return ae.squared_error(model(x_tilde), x)

    given = {"optimizer": optim.SGD(model.parameters(), lr=0.0), "validation": X, "batch_size": len(X)}
    history = ae.fit(model, X, objective, epochs=3, compile=False, **given)
    assert len(set(history.validation["loss"])) == 1 == len(set(drawn[False]))
    assert len(set(drawn[True])) == 3 and not set(drawn[True]) & set(drawn[False])


def test_the_default_generator_comes_back_as_it_was():
    mg.random.seed(9)
    mg.random.uniform((3,))
    before = mg.random.default_generator().state()
    train(5, validation=X)
    assert mg.random.default_generator().state() == before
    with pytest.raises(ZeroDivisionError):
        ae.fit(make(), X, lambda model, x: 1 / 0, epochs=1)
    assert mg.random.default_generator().state() == before


# ---------------------------------------------------------------- compile


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW"])
def test_a_compiled_training_gives_the_same_bits(optimizer):
    results = []
    for compile in (True, False):
        model = make(tied=True)
        chosen = getattr(optim, optimizer)(model.parameters(), lr=0.05)
        history = ae.fit(model, X, denoising, epochs=3, batch_size=16, optimizer=chosen, validation=X, compile=compile)
        results.append([values(model), *history.terms.values(), *history.validation.values()])
        results[-1] += list(chosen.state_dict().values())
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_running_means_and_dropout_are_those_of_an_eager_training():
    class Net(nn.Module):
        def __init__(self):
            self.first, self.drop, self.norm = nn.Linear(6, 6), nn.Dropout(0.3), nn.BatchNorm(6)

        def forward(self, x):
            return self.norm(self.drop(self.first(x)))

    results = []
    for compile in (True, False):
        mg.random.seed(1)
        net = Net()
        history = ae.fit(net, X, plain, epochs=3, batch_size=16, validation=X[:5], compile=compile)
        results.append([*(a.tobytes() for a in net.state_dict().values()), history.loss, history.validation])
    assert results[0] == results[1]


@pytest.mark.not_on_standin
def test_a_step_that_reads_values_goes_on_without_compiling_and_says_why():
    def objective(model, x):
        noisy = ae.masking_noise(x, 0.25)
        loss = ae.squared_error(model(noisy), x)
        return loss * 2.0 if float(loss) > 1e9 else loss

    compiled, eager = make(), make()
    with pytest.warns(RuntimeWarning, match=r"without compiling.*test_training\.py:\d+"):
        ae.fit(compiled, X, objective, epochs=2)
    ae.fit(eager, X, objective, epochs=2, compile=False)
    assert (values(compiled) == values(eager)).all()


def test_data_outside_the_range_of_the_loss_are_refused_when_compiled_too():
    objective = lambda model, x: ae.binary_cross_entropy(model(x), x)  # noqa: E731
    with pytest.raises(DataError, match="0, 1"):
        ae.fit(make(), 3 * X, objective, epochs=1)


# ---------------------------------------------------------------- divergence


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_loss_names_term_epoch_and_batch_and_the_epoch_is_undone(bad):
    model, calls = make(), []

    def objective(model, x):
        calls.append(values(model))
        poison = bad if len(calls) == 6 else 0.0
        return {"reconstruction": plain(model, x), "penalty": mg.sum(model.encode(x)) * 0.0 + poison}

    optimizer = optim.Adam(model.parameters(), lr=0.1)
    with pytest.raises(DivergenceError, match=rf"'penalty' .* is {bad} in epoch 2, batch 3.*mg.detect_anomaly\(\)"):
        ae.fit(model, X, objective, epochs=5, batch_size=20, optimizer=optimizer, compile=False)
    assert (values(model) == calls[3]).all() and (calls[3] != calls[0]).any()  # three batches are an epoch
    assert optimizer.step_counts == [3, 3, 3, 3]


@pytest.mark.cpu_only("terms are read later there, so the batch is another")
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize(("batch_size", "message"), [(50, "after epoch 1"), (20, "in epoch 1, batch 2, and the")])
def test_a_bad_gradient_of_a_good_loss_is_caught_too(batch_size, message, compile):
    model, before = make(), values(make())
    objective = lambda model, x: mg.sum(mg.sqrt(model.encoder_weights[0] * 0.0))  # noqa: E731
    with pytest.raises(
        DivergenceError, match=rf"'encoder_layers.0.weight' is not finite {message}.*mg.detect_anomaly\(\)"
    ):
        ae.fit(model, X, objective, epochs=1, batch_size=batch_size, compile=compile)
    assert (values(model) == before).all()
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("compile", [True, False])
def test_detect_anomaly_around_fit_names_the_operation_and_the_line(compile):
    model, before = make(), values(make())

    def objective(model, x):
        return plain(model, x) + mg.sum(mg.sqrt(model.encode(x) * 0.0))

    line = objective.__code__.co_firstlineno + 1
    where = rf"the derivative of sqrt, applied at test_training.py:{line}, is inf"
    with pytest.raises(AnomalyError, match=where), mg.detect_anomaly():
        ae.fit(model, X, objective, epochs=1, compile=compile)
    assert (values(model) == before).all()


def test_a_learning_rate_that_is_far_too_large_diverges_with_finite_parameters():
    model = ae.Autoencoder((6, 3), activation="linear", dtype="float64")
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match="smaller learning rate"):
        ae.fit(model, X, plain, epochs=500, optimizer=optim.SGD(model.parameters(), lr=10.0))


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"X": X[0]}, ShapeError, r"X has shape \(6,\)"),
        ({"X": X[:0]}, ShapeError, "at least one sample"),
        ({"X": X[:, :5]}, ShapeError, r"X has shape \(50, 5\); expected \(m, 6\)"),
        ({"X": np.where(X[3, 2] == X, np.nan, X)}, DataError, r"X\[3, 2\] is nan, one of 1 values"),
        ({"X": X + 1j}, DTypeError, "complex128"),
        ({"X": [["a"]]}, DTypeError, "real numbers"),
        ({"X": ae.datasets.digits()}, DTypeError, "X is a Dataset, a whole data set; .* such as its x_train"),
        ({"validation": ae.datasets.digits()}, DTypeError, "validation is a Dataset, a whole data set"),
        ({"validation": X[:, :5]}, ShapeError, r"validation has shape \(50, 5\)"),
        ({"epochs": 0}, DataError, "epochs=0"),
        ({"epochs": 2.5}, DTypeError, "epochs=2.5"),
        ({"batch_size": 0}, DataError, "batch_size=0"),
        ({"seed": -1}, DataError, "seed"),
        ({"patience": 0}, DataError, "patience=0"),
        ({"schedule": 3}, DTypeError, "schedule=3"),
        ({"schedule": optim.StepDecay(optim.SGD([mg.Parameter([1.0])], lr=0.1), 1)}, DataError, "another optimizer"),
        ({"optimizer": optim.LBFGS([mg.Parameter([1.0])])}, DataError, "no parameter of this model"),
        ({"checkpoint": "."}, DataError, "is a folder"),
        ({"max_norm": -1.0}, DataError, "max_norm=-1.0"),
        ({"objective": lambda model, x: model(x)}, ShapeError, r"'loss' has shape \(50, 6\)"),
        ({"objective": lambda model, x: 1.0}, DTypeError, "returned 1.0"),
        ({"objective": lambda model, x: {}}, DTypeError, "returned {}"),
        ({"objective": lambda model, x: {"a": 1.0}}, DTypeError, "'a' is a float"),
        ({"objective": lambda model, x: mg.sum(x)}, GraphError, "does not depend on the model"),
    ],
)
def test_bad_input_is_refused_before_anything_changes(arguments, error, message):
    model = make()
    before = values(model)
    state = mg.random.default_generator().state()
    arguments = {"X": X, "objective": plain, "epochs": 1, **arguments}
    with pytest.raises(error, match=message):
        ae.fit(model, **arguments)
    assert (values(model) == before).all() and model.training
    assert mg.random.default_generator().state() == state


def test_numbers_that_leave_the_range_of_the_dtype_are_refused():
    with pytest.raises(DataError, match=r"X\[0, 0\] is 1e\+300.*float32"):
        ae.fit(ae.Autoencoder((6, 3)), np.full((2, 6), 1e300), plain, epochs=1)


def test_terms_may_not_come_and_go():
    calls = []

    def objective(model, x):
        calls.append(1)
        return {"a" if len(calls) == 1 else "b": plain(model, x)}

    with pytest.raises(DataError, match=r"\['b'\], and \['a'\]"):
        ae.fit(make(), X, objective, epochs=1, batch_size=25, compile=False)


@pytest.mark.parametrize("name", ["seconds", "validation loss"])
def test_terms_with_the_names_of_other_curves_are_refused(name):
    with pytest.raises(DataError, match=f"the objective's term '{name}' has the name of another curve"):
        ae.fit(make(), X, lambda model, x: {"loss": plain(model, x), name: ae.l2(model)}, epochs=1)


def test_a_model_without_parameters_is_refused():
    with pytest.raises(DataError, match="no parameters"):
        ae.fit(nn.Sequential(), X, plain, epochs=1)


# ---------------------------------------------------------------- history and progress


def test_history_as_arrays_and_as_a_figure():
    pytest.importorskip("matplotlib")
    history = ae.fit(make(), X, denoising, epochs=4, validation=X)
    curves = history.to_arrays()
    assert list(curves) == [
        *("reconstruction", "sparsity", "weights"),
        *("validation reconstruction", "validation sparsity", "validation weights"),
        "seconds",
    ]
    assert all(curve.shape == (4,) and curve.dtype == np.float64 for curve in curves.values())
    (axes,) = history.plot().axes
    assert axes.get_xlabel() == "epoch" and axes.get_yscale() == "log"
    assert [x for x in axes.get_xticks() if 1 <= x <= 4] == [1, 2, 3, 4]
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert set(lines) == set(curves) - {"seconds"}
    for name, line in lines.items():
        assert (line.get_ydata() == curves[name]).all() and line.get_xdata().tolist() == [1, 2, 3, 4]
    assert axes.get_ylabel() == "term of the objective, mean over the epoch"
    assert ae.History(terms={"a": [1.0, -1.0]}).plot().axes[0].get_yscale() == "linear"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "progress", "shown"), [(Terminal, True, True), (Terminal, False, False), (io.StringIO, True, False)]
)
def test_the_bar_shows_only_where_somebody_looks(monkeypatch, stream, progress, shown):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", stream())
    ae.fit(make(), X, plain, epochs=2, progress=progress)
    assert ("2/2" in sys.stderr.getvalue()) is shown


@pytest.mark.parametrize("stream", [None, object(), io.StringIO()])
def test_no_bar_where_standard_error_is_none_or_closed(monkeypatch, stream):
    if isinstance(stream, io.StringIO):
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    assert ae.fit(make(), X, plain, epochs=1).epochs == 1


def test_no_bar_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert ae.fit(make(), X, plain, epochs=1).epochs == 1
    assert sys.stderr.getvalue() == ""


def test_training_takes_gradients_also_where_none_are_wanted():
    found = []
    for where in (mg.enable_grad(), mg.no_grad()):
        model = ae.Autoencoder((6, 3))
        with where:
            ae.fit(model, X, lambda model, x: ae.squared_error(model(x), x), epochs=2, batch_size=8, validation=X[:9])
            assert model(mg.tensor(X[:2], dtype="float32")).requires_grad == where.enabled
        found.append([p.detach().numpy().tobytes() for p in model.parameters()])
    assert found[0] == found[1]


def test_an_objective_of_another_number_of_arguments_is_named():
    """A bare TypeError from inside would say neither what is called nor why."""
    model = make()
    before = values(model)
    y = np.arange(50)
    with pytest.raises(
        DTypeError, match=r"with y, it is called as objective\(model, x, y\), but .* is plain\(model, x\)"
    ):
        ae.fit(model, X, plain, y=y, epochs=1)
    with pytest.raises(
        DTypeError, match=r"without y, it is called as objective\(model, x\), but .*<lambda>\(m, x, y\)"
    ):
        ae.fit(model, X, lambda m, x, y: plain(m, x), epochs=1)
    with pytest.raises(DTypeError, match="got objective=None; expected a function"):
        ae.fit(model, X, None, epochs=1)
    assert (values(model) == before).all()
    ae.fit(model, X, lambda *given, scale=2.0: scale * plain(*given[:2]), y=y, epochs=1)  # takes any number
    ae.fit(model, X, lambda m, x, y=None: plain(m, x), epochs=1)


def test_an_error_of_the_objective_itself_is_left_alone():
    def objective(model, x):
        return plain(model)

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'") as caught:
        ae.fit(make(), X, objective, epochs=1)
    assert not isinstance(caught.value, DTypeError)


def test_the_version_is_that_of_the_distribution():
    assert ae.__version__ == mg.__version__ and "__version__" in ae.__all__
