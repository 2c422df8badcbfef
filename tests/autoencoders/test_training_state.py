"""What fit must leave as it found it, and what must not depend on whether a step is compiled: finds of a tester."""

import itertools
from contextlib import nullcontext

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from autoencoders.snapshots import undone
from minigrad import nn, optim
from minigrad.errors import DataError, DTypeError, ShapeError
from minigrad.random import Generator

Y = np.arange(40) % 2
U = np.random.default_rng(0).uniform(size=(40, 6)).astype(np.float32)


def plain(model, x):
    return ae.squared_error(model(x), x)


def noisy(model, x):
    return ae.squared_error(model(ae.masking_noise(x, 0.3)), x)


def entropy(model, x):
    return ae.binary_cross_entropy_with_logits(model.decode_logits(model.encode(x)), x)


def arrays(model):
    return {name: a.tobytes() for name, a in model.state_dict().items()}


# ---------------------------------------------------------------- compiled or not


@pytest.mark.not_on_standin
@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("kind", ["array", "stream"])
def test_bad_values_in_later_batches_are_refused(compile, kind):
    V = U.copy()
    V[8:] *= 255
    X = V if kind == "array" else Batches([V[:8], V[8:16], V[16:]])
    model = ae.Autoencoder((6, 3), output="sigmoid")
    before = arrays(model)
    with pytest.raises(DataError, match="x contains"):
        ae.fit(model, X, entropy, epochs=2, batch_size=8, shuffle=False, compile=compile)
    assert arrays(model) == before


class Batches:
    def __init__(self, parts):
        self.parts = parts

    def __iter__(self):
        return iter(self.parts)


@pytest.mark.parametrize("compile", [True, False])
def test_the_norm_of_a_gradient_is_that_of_what_is_trained(compile):
    found = []
    for objective in (plain, lambda model, x: ae.squared_error(model.decode(model.encode(x).detach()), x)):
        model = ae.Autoencoder((6, 3))
        optimizer = optim.SGD(list(model.decoder_layers.parameters()), lr=0.1)
        ae.fit(model, U, objective, epochs=20, batch_size=8, optimizer=optimizer, max_norm=1.0, compile=compile)
        found.append(arrays(model))
        assert all(p.grad is None for p in model.parameters())
    assert found[0] == found[1]


def make_with_dropout():
    mg.random.seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm(12), nn.Dropout(0.5, generator=Generator(5)), nn.Linear(12, 6))


def test_generators_of_modules_are_the_same_compiled_or_not_and_resumed(tmp_path):
    states, file = [], tmp_path / "c.safetensors"
    for compile in (True, False):
        model = make_with_dropout()
        ae.fit(model, U, plain, epochs=4, batch_size=8, compile=compile)
        states.append(arrays(model))
    ae.fit(make_with_dropout(), U, plain, epochs=2, batch_size=8, checkpoint=file)
    model = make_with_dropout()
    ae.fit(model, U, plain, epochs=4, batch_size=8, checkpoint=file, resume=True)
    states.append(arrays(model))
    assert states[0] == states[1] == states[2]


@pytest.mark.not_on_standin
def test_a_recording_that_fails_leaves_no_trace():
    def reading(model, x):
        loss = plain(model, x)
        return loss if loss.item() < 1e9 else 2 * loss

    found = []
    for compile in (True, False):
        model = make_with_dropout()
        if compile:
            with pytest.warns(RuntimeWarning, match="without compiling"):
                ae.fit(model, U, reading, epochs=2, batch_size=40)
        else:
            ae.fit(model, U, reading, epochs=2, batch_size=40, compile=False)
        found.append(arrays(model))
    assert found[0] == found[1]


@pytest.mark.cpu_only("fit compares with a recording, which is made later there, or never")
@pytest.mark.parametrize("kind", ["numpy", "counter"])
def test_what_a_recording_cannot_repeat_is_noticed(kind):
    rng, calls = np.random.default_rng(0), []

    def objective(model, x):
        calls.append(1)
        if kind == "numpy":
            x_tilde = x + mg.tensor(rng.normal(size=x.shape).astype(np.float32))
            return ae.squared_error(model(x_tilde), x)
        return float(len(calls)) * plain(model, x)

    with pytest.warns(RuntimeWarning, match="depends on something besides tensors"):
        ae.fit(ae.Autoencoder((6, 3)), U, objective, epochs=3, batch_size=8)
    assert len(calls) >= 15  # from then on every step runs it


def test_resuming_a_training_that_has_gone_further_is_refused(tmp_path):
    file = tmp_path / "c.safetensors"
    ae.fit(ae.Autoencoder((6, 3)), U, plain, epochs=3, checkpoint=file)
    with pytest.raises(DataError, match="has gone to epoch 3 already, and epochs=2"):
        ae.fit(ae.Autoencoder((6, 3)), U, plain, epochs=2, checkpoint=file, resume=True)


def test_a_callback_may_change_a_hyper_parameter():
    found = []
    for compile in (True, False):
        model = ae.Autoencoder((6, 3))
        optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.5)

        def callback(model, history, optimizer=optimizer):
            optimizer.weight_decay, optimizer.momentum = 1.0, 0.9

        ae.fit(model, U, plain, epochs=3, batch_size=8, optimizer=optimizer, compile=compile, callback=callback)
        found.append(arrays(model))
    assert found[0] == found[1]


@pytest.mark.parametrize("extra", [None, "validation", "checkpoint"])
def test_a_callback_looks_at_a_model_in_evaluation_mode(extra, tmp_path):
    options = {None: {}, "validation": {"validation": U}, "checkpoint": {"checkpoint": tmp_path / "c.safetensors"}}
    model = make_with_dropout()
    trained, seen = [], []

    def objective(model, x):
        trained.append(model.training)
        return plain(model, x)

    def callback(model, history):
        seen.append(plain(model, mg.tensor(U)).item())
        assert not any(module.training for _, module in model.named_modules())

    ae.fit(model, U, objective, epochs=2, batch_size=40, callback=callback, **options[extra])
    assert seen[-1] == plain(model.eval(), mg.tensor(U)).item()  # without dropout
    assert set(trained) == ({True, False} if extra == "validation" else {True})


def test_a_look_at_a_model_by_a_callback_does_not_count_for_its_idle_units():
    found = []
    for callback in (None, lambda model, history: model(U) is None):
        model = ae.TopKAutoencoder((6, 12), k=2)
        ae.fit(model, U, plain, epochs=3, batch_size=8, callback=callback)
        found.append(arrays(model))
    assert found[0] == found[1]


# ---------------------------------------------------------------- resuming


@pytest.mark.parametrize(
    "callback",
    [
        lambda model, history: mg.random.normal((3,)) is None,
        lambda model, history: model.decoder_weights[0].assign(0.9 * model.decoder_weights[0].detach()) is None,
        lambda model, history: ae.softmax_regression(ae.features.codes(model, U), np.arange(40) % 2) is None,
    ],
    ids=["draws", "changes", "measures"],
)
def test_what_a_callback_does_is_in_the_checkpoint(tmp_path, callback):
    file = tmp_path / "c.safetensors"
    whole, parts, again = (ae.Autoencoder((6, 3)) for _ in range(3))
    full = ae.fit(whole, U, noisy, epochs=4, batch_size=8, callback=callback)
    ae.fit(parts, U, noisy, epochs=2, batch_size=8, callback=callback, checkpoint=file)
    resumed = ae.fit(again, U, noisy, epochs=4, batch_size=8, callback=callback, checkpoint=file, resume=True)
    assert full.terms == resumed.terms and arrays(whole) == arrays(again)


def test_softmax_regression_draws_nothing_from_the_default_generator():
    before = mg.random.default_generator().state()
    ae.softmax_regression(U, np.arange(40) % 2)
    assert mg.random.default_generator().state() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": ae.Autoencoder((6, 3), "tanh")}, "model was"),
        ({"X": 1 - U}, "other settings: the first samples are not those of before$"),
        ({"batch_size": 7}, "other settings: batch_size was 128, and is 7$"),
        ({"X": (1 - U)[:30], "batch_size": 7}, "batch_size was 128, and is 7; samples was 40, and is 30$"),
        ({"validation": U}, "other settings: validation was False, and is True$"),
        ({"objective": lambda model, x: {"other": plain(model, x)}}, r"terms were \['loss'\], and are \['other'\]"),
    ],
)
def test_another_training_does_not_go_on(tmp_path, change, message):
    file = tmp_path / "c.safetensors"
    ae.fit(ae.Autoencoder((6, 3)), U, plain, epochs=2, checkpoint=file)
    given = {"model": ae.Autoencoder((6, 3)), "X": U, "objective": plain, **change}
    model = given.pop("model")
    before = arrays(model)
    with pytest.raises(DataError, match=message):
        ae.fit(model, given.pop("X"), given.pop("objective"), epochs=4, checkpoint=file, resume=True, **given)
    assert arrays(model) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation": 1 - U}, "the first samples for validation are not those of before$"),
        ({"validation": U[:7]}, "samples was 40, and is 7; the first samples for validation are not those of before$"),
        ({"validation": U, "batch_size": 9}, "other settings: batch_size was 128, and is 9$"),
        ({}, "other settings: validation was True, and is False$"),
    ],
)
def test_another_validation_set_does_not_go_on(tmp_path, change, message):
    file = tmp_path / "c.safetensors"
    ae.fit(ae.Autoencoder((6, 3)), U, plain, epochs=2, checkpoint=file, validation=U)
    with pytest.raises(DataError, match=message):
        ae.fit(ae.Autoencoder((6, 3)), U, plain, epochs=4, checkpoint=file, resume=True, **change)


def test_patience_that_comes_with_resuming_forgets_a_best_epoch_that_was_not_kept(tmp_path):
    file = tmp_path / "c.safetensors"
    rates = [1e-2, 1e-2, 1e-2, 0.2, 0.2]

    def run(epochs, **kwargs):
        model = ae.Autoencoder((6, 3))
        optimizer = optim.SGD(model.parameters(), lr=1e-2)
        history = ae.fit(
            model, U, plain, epochs=epochs, batch_size=8, optimizer=optimizer, validation=U, checkpoint=file,
            schedule=lambda epoch: rates[epoch - 1] if epoch <= 5 else 1e-3, **kwargs,
        )  # fmt: skip
        return model, [sum(v) for v in zip(*history.validation.values(), strict=True)]

    run(4)
    model, losses = run(9, resume=True, patience=2)
    reached = plain(model, mg.tensor(U)).item()
    assert reached == pytest.approx(min(losses[4:]), rel=1e-5)


def test_another_kind_of_schedule_changes_nothing(tmp_path):
    file = tmp_path / "c.safetensors"
    model = ae.Autoencoder((6, 3))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    ae.fit(model, U, plain, epochs=2, optimizer=optimizer, schedule=optim.ReduceOnPlateau(optimizer), checkpoint=file)
    fresh = ae.Autoencoder((6, 3))
    other = optim.Adam(fresh.parameters(), lr=0.5)
    with pytest.raises(DataError):
        ae.fit(
            fresh, U, plain, epochs=4, optimizer=other, schedule=optim.StepDecay(other, 2), checkpoint=file, resume=True
        )
    assert other.lr == 0.5 and other.step_counts == [0, 0, 0, 0]
    assert arrays(fresh) == arrays(ae.Autoencoder((6, 3)))


# ---------------------------------------------------------------- whatever goes wrong


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"X": Batches([U[:8], U[8:16], U[:8, :5]])}, ShapeError),
        ({"X": Batches([U[:8], [["a"] * 6]])}, DTypeError),
        ({"X": Batches([U[:8], np.full((8, 6), np.nan)])}, DataError),
        ({"X": U, "validation": 2 * U, "objective": entropy}, DataError),
    ],
)
@pytest.mark.parametrize("compile", [True, False])
def test_an_error_in_an_epoch_undoes_it(arguments, error, compile):
    model = ae.Autoencoder((6, 3), output="sigmoid")
    optimizer = optim.Adam(model.parameters())
    before = arrays(model)
    given = {"objective": plain, **arguments}
    with pytest.raises(error):
        ae.fit(model, given.pop("X"), given.pop("objective"), epochs=2, optimizer=optimizer, compile=compile, **given)
    assert arrays(model) == before and optimizer.step_counts == [0, 0, 0, 0]


def test_ctrl_c_with_patience_leaves_the_best_epoch():
    rates = itertools.chain([1e-2, 1e-2], itertools.repeat(1.2))
    model = ae.Autoencoder((6, 3))
    seen, losses = [], []

    def callback(model, history):
        seen.append(arrays(model))
        losses.append(history.validation["loss"][-1])
        if history.epochs == 3:
            raise KeyboardInterrupt

    optimizer = optim.SGD(model.parameters(), lr=1e-2)
    with pytest.raises(KeyboardInterrupt):
        ae.fit(
            model, U, plain, epochs=5, batch_size=8, optimizer=optimizer, validation=U, patience=5, callback=callback,
            schedule=lambda epoch: next(rates),
        )  # fmt: skip
    best = int(np.argmin(losses))
    assert best < 2 and arrays(model) == seen[best] != seen[2]


def test_a_part_that_was_frozen_in_evaluation_mode_stays_so():
    model = make_with_dropout()
    model[1].eval()
    before = model[1].running_mean.numpy().copy()
    ae.fit(model, U, plain, epochs=2, validation=U)
    assert (model[1].running_mean.numpy() == before).all()
    assert [m.training for m in (model, model[0], model[1], model[2])] == [True, True, False, True]


def test_a_seed_of_numpy_is_a_seed(tmp_path):
    for seed in (np.int64(3), 3):
        ae.fit(
            ae.Autoencoder((6, 3)),
            U,
            noisy,
            epochs=1,
            seed=seed,
            checkpoint=tmp_path / f"{type(seed).__name__}.safetensors",
        )
    a, b = (mg.load(tmp_path / f"{name}.safetensors") for name in ("int64", "int"))
    assert all((a[name] == b[name]).all() for name in a)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_infinite_objective_is_to_blame_itself():
    infinite = mg.tensor(np.inf, dtype="float32")
    with pytest.raises(ae.DivergenceError, match="the term 'loss' of the objective is inf in epoch 1, batch 1"):
        ae.fit(ae.Autoencoder((6, 3)), U, lambda model, x: plain(model, x) * infinite, epochs=1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"optimizer": optim.Adam}, DTypeError, "such as optim.Adam"),
        ({"X": [[1.0, 2.0], [1.0]]}, ShapeError, "rows of the same length"),
        ({"X": Batches([(U, U)]), "objective": lambda m, x, y: plain(m, x), "validation": U}, DataError, "pair"),
    ],
)
def test_misleading_errors_are_clear_now(arguments, error, message):
    given = {"X": U, "objective": plain, **arguments}
    with pytest.raises(error, match=message):
        ae.fit(ae.Autoencoder((6, 3)), given.pop("X"), given.pop("objective"), epochs=1, **given)


def test_validation_of_a_stream_of_pairs_is_a_pair():
    seen = set()

    def objective(model, x, y):
        seen.add((x.shape, y.shape))
        return plain(model, x)

    y = np.arange(40)
    history = ae.fit(
        ae.Autoencoder((6, 3)), Batches([(U, y)]), objective, epochs=1, validation=(U[:7], y[:7]), compile=False
    )
    assert seen == {((40, 6), (40,)), ((7, 6), (7,))} and len(history.validation["loss"]) == 1


# ---------------------------------------------------------------- what a recording repeats


def annealed(epoch):
    """An objective with a weight that Python keeps, and the callback that raises it after an epoch."""
    weight = [0.0]

    def objective(model, x):
        return {"error": plain(model, x), "decay": weight[0] * ae.l2(model)}

    def callback(model, history):
        weight[0] = 0.1 * (history.epochs > epoch)

    return objective, callback


@pytest.mark.cpu_only("fit compares with a recording, which is made later there, or never")
def test_a_number_that_a_callback_changes_is_noticed():
    """Annealing, as of the weight of a divergence."""
    found = []
    for compile in (True, False):
        objective, callback = annealed(3)
        model = ae.Autoencoder((6, 3))
        if compile:
            with pytest.warns(RuntimeWarning, match="depends on something besides tensors") as caught:
                ae.fit(model, np.tile(U, (5, 1)), objective, epochs=6, batch_size=8, callback=callback)
            assert caught[0].filename == __file__
        else:
            ae.fit(model, np.tile(U, (5, 1)), objective, epochs=6, batch_size=8, callback=callback, compile=False)
        found.append(arrays(model))
    assert found[0] == found[1]


@pytest.mark.cpu_only("fit compares with a recording, which is made later there, or never")
@pytest.mark.parametrize("by", ["callback", "schedule"])
@pytest.mark.parametrize("batches", [4, 16, 19, 20, 43])
def test_it_is_noticed_where_an_epoch_begins_however_many_batches_epochs_have(batches, by):
    """Also where a comparison came just before: at the batches 4, 8, 16, 32 ..."""
    X, found = np.tile(U, (9, 1))[: 8 * batches], []
    for compile in (True, False):
        weight, model = [0.0], ae.Autoencoder((6, 3))

        def objective(model, x, weight=weight):
            return plain(model, x) + weight[0] * ae.l2(model)

        def callback(model, history, weight=weight):
            weight[0] = 0.1 * (history.epochs > 1)

        def schedule(epoch, weight=weight):
            weight[0] = 0.1 * (epoch > 2)
            return 1e-3

        given = {"callback": callback} if by == "callback" else {"schedule": schedule}
        with pytest.warns(RuntimeWarning, match="besides tensors") if compile else nullcontext():
            ae.fit(model, X, objective, epochs=3, batch_size=8, compile=compile, **given)
        found.append(arrays(model))
    assert found[0] == found[1]


@pytest.mark.cpu_only("fit compares with a recording, which is made later there, or never")
def test_a_number_that_a_callback_changes_is_noticed_with_lbfgs_too():
    found = []
    for compile in (True, False):
        objective, callback = annealed(9)
        model = ae.Autoencoder((6, 3))
        optimizer = optim.LBFGS(model.parameters(), max_iter=4)
        given = {"epochs": 12, "optimizer": optimizer, "callback": callback, "compile": compile}
        if compile:
            with pytest.warns(RuntimeWarning, match="depends on something besides tensors"):
                history = ae.fit(model, U, objective, **given)
        else:
            history = ae.fit(model, U, objective, **given)
        assert history.terms["decay"][9] == 0.0 < history.terms["decay"][10]
        found.append(arrays(model))
    assert found[0] == found[1]


@pytest.mark.cpu_only("fit compares with a recording, which is made later there, or never")
def test_a_gradient_that_Python_decides_about_is_noticed():
    found = []
    for compile in (True, False):
        calls = []

        def objective(model, x, calls=calls):  # the same value, but in every second call no gradient of the encoder
            calls.append(1)
            h = model.encode(x)
            return ae.squared_error(model.decode(h.detach() if len(calls) % 2 else h), x)

        model = ae.Autoencoder((6, 3))
        if compile:
            with pytest.warns(RuntimeWarning, match="besides tensors"):
                ae.fit(model, U, objective, epochs=3, batch_size=8)
        else:
            ae.fit(model, U, objective, epochs=3, batch_size=8, compile=False)
        found.append(model.encoder_weights[0].detach().numpy())
    assert np.isfinite(found).all()


@pytest.mark.cpu_only("fit compares with a recording, which is made later there, or never")
@pytest.mark.filterwarnings("error")
def test_generators_and_counters_of_the_user_are_state_like_any_other():
    found = []
    for compile in (True, False):
        generator, count = Generator(3), mg.tensor(np.zeros(()), dtype="float32")

        def objective(model, x, generator=generator, count=count):
            count.assign(count + 1.0)
            x_tilde = ae.masking_noise(x, 0.3, generator=generator)
            return {"error": ae.squared_error(model(x_tilde), x), "warm": 1e-3 * count.detach() * ae.l2(model)}

        model = ae.Autoencoder((6, 3))
        history = ae.fit(model, U, objective, epochs=6, batch_size=8, compile=compile)
        found.append((arrays(model), history.terms, generator.counter, count.item()))
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", ["memory", "disk", "iterable"])
def test_looks_at_values_and_validation_leave_generators_and_counters_of_the_user_as_they_are(kind, tmp_path):
    np.save(tmp_path / "u.npy", U)

    class Parts:
        def __iter__(self):
            return iter([U[:8], 1.5 * U[8:16], U[16:24], 2.0 * U[24:]])

    data = {"memory": U, "disk": np.load(tmp_path / "u.npy", mmap_mode="r"), "iterable": Parts()}[kind]
    found = []
    for compile, validation in ((False, None), (True, None), (False, U), (True, U)):
        generator, count = Generator(3), mg.tensor(np.zeros(()), dtype="float32")

        def objective(model, x, generator=generator, count=count):
            count.assign(count + 1.0)
            return ae.squared_error(model(ae.masking_noise(x, 0.3, generator=generator)), x) * count.detach()

        model = ae.Autoencoder((6, 3))
        ae.fit(model, data, objective, epochs=3, batch_size=8, compile=compile, validation=validation)
        found.append((arrays(model), generator.counter, count.item()))
    assert found[1:] == found[:1] * 3


def test_of_several_views_of_one_memory_the_first_value_comes_back():
    b = mg.tensor([10.0, 20.0, 30.0])
    whole = b[:]
    with undone():
        for _ in range(3):
            b[:1].assign(b[:1] + 1.0)
            whole.assign(whole * 2.0)
            b[1:].assign(b[1:] - 5.0)
    assert b.numpy().tolist() == [10.0, 20.0, 30.0]


def test_looks_and_validation_leave_a_buffer_that_is_assigned_to_by_views_as_it_is(tmp_path):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 6, generator=Generator(0))
            self.seen = nn.Buffer(np.zeros(2, np.float32))

        def forward(self, x):
            with mg.no_grad():
                for _ in range(2):
                    self.seen[:1].assign(self.seen[:1] + 1.0)
            return self.layer(x)

    found = []
    for options in (
        {"compile": False},
        {},
        {"validation": U[:8]},
        {"checkpoint": tmp_path / "c.safetensors"},
    ):
        model = Counting()
        ae.fit(model, U[:32], plain, epochs=2, batch_size=8, **options)
        found.append(arrays(model))
    assert model.seen.numpy().tolist() == [16.0, 0.0]
    assert found[1:] == found[:1] * 3


def test_an_objective_may_take_gradients_of_its_own():
    found = []
    for compile in (True, False):

        def objective(model, x):
            error = plain(model, x)
            (g,) = mg.autograd.grad(error, [model.encoder_weights[0]], create_graph=True)
            return {"error": error, "gradient": 0.01 * mg.sum(mg.square(g))}

        model = ae.Autoencoder((6, 3))
        history = ae.fit(model, U, objective, epochs=3, batch_size=8, compile=compile, validation=U[:9])
        found.append((arrays(model), history.terms, history.validation))
    assert found[0] == found[1]


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.filterwarnings("error")  # it is compiled
def test_a_term_that_is_a_parameter_is_that_before_the_update(compile, shape):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.p = mg.Parameter(np.full(shape, 0.5, np.float32))

        def forward(self, x):
            return self.p * x

    def objective(model, x):
        return {"error": plain(model, x), "p": model.p.reshape(()) if shape else model.p}

    def looking(model, x):
        seen.append(model.p.detach().numpy().item())
        return objective(model, x)

    seen = []
    ae.fit(Scaled(), U, looking, epochs=1, batch_size=10, compile=False)
    history = ae.fit(Scaled(), U, objective, epochs=1, batch_size=10, compile=compile)
    assert len(set(seen)) == 4 and history.terms["p"] == pytest.approx([np.mean(seen)], rel=1e-6)


def test_validation_has_no_influence_on_generators_and_buffers_of_the_model():
    found = []
    for validation in (None, U):
        model = make_with_dropout()
        model.noise = Generator(7)

        def objective(model, x):
            return ae.squared_error(model(ae.gaussian_noise(x, 0.1, generator=model.noise)), x)

        ae.fit(model, U, objective, epochs=3, batch_size=8, validation=validation)
        found.append(arrays(model))
    assert found[0] == found[1]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_in_validation_is_divergence():
    model = ae.Autoencoder((6, 3))
    before = arrays(model)

    def objective(model, x):
        return plain(model, x) + mg.sum(mg.log(mg.min(x) + 0.5))

    with pytest.raises(ae.DivergenceError, match=r"nan on the validation data after epoch 1.*mg.detect_anomaly\(\)"):
        ae.fit(model, U, objective, epochs=2, validation=U - 1.0)
    assert arrays(model) == before


@pytest.mark.parametrize("compile", [True, False])
def test_a_history_counts_no_epoch_that_validation_undoes(compile):
    good, held = mg.tensor(1.0), []

    def objective(model, x):
        return plain(model, x) if model.training else plain(model, x) / good

    def callback(model, history):
        held.append(history)
        good.assign(0.0)  # the next validation is infinite

    with pytest.raises(ae.DivergenceError, match="on the validation data after epoch 2"), np.errstate(divide="ignore"):
        ae.fit(
            ae.Autoencoder((6, 3)), U, objective, epochs=3, batch_size=8, validation=U, callback=callback,
            compile=compile,
        )  # fmt: skip
    (history,) = held
    assert history.epochs == len(history.seconds) == 1
    assert len(history.terms["loss"]) == len(history.validation["loss"]) == 1


def test_parameters_outside_of_the_model_are_refused():
    model = ae.Autoencoder((6, 3))
    with pytest.raises(DataError, match="1 parameters of the optimizer are not of this model"):
        ae.fit(model, U, plain, epochs=1, optimizer=optim.Adam([*model.parameters(), mg.Parameter([1.0])]))


def test_a_model_with_another_generator_does_not_resume(tmp_path):
    file = tmp_path / "c.safetensors"
    ae.fit(make_with_dropout(), U, plain, epochs=1, checkpoint=file)
    model = make_with_dropout()
    model[2].generator = None
    before = arrays(model)
    with pytest.raises(DataError, match="random generators"):
        ae.fit(model, U, plain, epochs=2, checkpoint=file, resume=True)
    assert arrays(model) == before


def test_lbfgs_that_is_interrupted_stays_at_the_last_good_point():
    model = ae.Autoencoder((6, 3))
    values = []

    def objective(model, x):
        loss = plain(model, x)
        values.append(loss.item())
        if len(values) == 6:
            raise KeyboardInterrupt
        return loss

    with pytest.raises(KeyboardInterrupt):
        ae.fit(model, U, objective, epochs=1, optimizer=optim.LBFGS(model.parameters(), lr=50.0), compile=False)
    assert plain(model, mg.tensor(U)).item() <= values[0]


def test_a_snapshot_brings_back_what_lbfgs_keeps_beside_tensors():
    from autoencoders.snapshots import Snapshot

    model = ae.Autoencoder((4, 2), "linear")
    optimizer = mg.optim.LBFGS(model.parameters(), max_iter=3)

    def step():
        x = mg.tensor(np.eye(4, dtype="float32"))

        def closure():
            loss = ae.squared_error(model(x), x)
            optimizer.zero_grad()
            loss.backward()
            return loss

        optimizer.step(closure)

    step()
    before = Snapshot(model, optimizer)
    expected = model.state_dict(), optimizer.state_dict()
    step()
    assert not np.array_equal(optimizer.state_dict()["pairs"], expected[1]["pairs"])
    before.restore()
    for now, then in zip((model.state_dict(), optimizer.state_dict()), expected, strict=True):
        assert now.keys() == then.keys()
        for name in now:
            np.testing.assert_array_equal(now[name], then[name])
