"""A resumed training goes on with the objective that it had: its operations tell, and watching them changes nothing."""

import functools
import json

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from autoencoders import checkpoints
from autoencoders.operations import operations_of, repeated_operations
from minigrad import files, nn, optim
from minigrad.errors import DataError

X = np.random.default_rng(0).random((24, 6)).astype(np.float32)


def sparse(model, x, rho=0.05, factor=3.0, q=0.25, noise=ae.masking_noise, alpha=1.0):
    x_tilde = noise(x, q)
    h = model.encode(x_tilde)
    weights = ae.emphasis(x_tilde, x, corrupted=alpha, clean=0.5)
    return {
        "reconstruction": ae.squared_error(model.decode(h), x, weights),
        "sparsity": factor * ae.kl_sparsity(h, rho),
        "contraction": 0.1 * ae.contractive(model.encode, x),
    }


def train(file, objective, epochs, resume=False, **options):
    model = ae.Autoencoder((6, 3), output="sigmoid")
    if "optimizer" in options:
        options["optimizer"] = options["optimizer"](model.parameters())
    if "schedule" in options:
        options["schedule"] = options["schedule"](options["optimizer"])
    before = model.state_dict()
    try:
        ae.fit(model, X, objective, epochs=epochs, batch_size=8, checkpoint=file, resume=resume, **options)
    except DataError:
        assert all((before[name] == value).all() for name, value in model.state_dict().items())
        raise
    return [p.detach().numpy().tobytes() for p in model.parameters()]


def epochs_in(file):
    """How many epochs the training has gone that a checkpoint is of."""
    return json.loads(files.load_with_metadata(file)[1]["numbers"])["epoch"]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "training.safetensors"


@pytest.mark.cpu_only("values of numbers made into tensors are read on the CPU alone")
@pytest.mark.parametrize("way", [functools.partial, lambda f, **k: lambda model, x: f(model, x, **k)])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rho": 0.1}, r"computed subtract\(float32\[3\], 0.05\), it computes subtract\(float32\[3\], 0.1\) now, "),
        ({"factor": 2.0}, r"computed multiply\(3.0, float32\[\]\), it computes multiply\(2.0, float32\[\]\) now, "),
        ({"q": 0.3}, r"computed less\(float32\[8, 6\], 0.25\), it computes less\(float32\[8, 6\], 0.3\) now, "),
        ({"noise": ae.gaussian_noise}, r"computed random_uniform\(.*\), it computes random_normal\("),
        ({"alpha": 2.0}, r"computed where\(bool\[8, 6\], 1.0, 0.5\), it computes where\(bool\[8, 6\], 2.0, 0.5\) now"),
    ],
)  # fmt: skip
def test_a_number_of_the_objective_that_is_another_is_named(file, change, message, way):
    train(file, sparse, epochs=2)
    with pytest.raises(
        DataError, match=f"of a training with another objective: where it {message}.*at test_operations.py:(2|3)"
    ):
        train(file, way(sparse, **change), epochs=4, resume=True)
    whole = train(None, sparse, epochs=4)
    assert train(file, way(sparse), epochs=4, resume=True) == whole  # it is the same, however it is written


def test_an_objective_with_more_operations_is_another(file):
    train(file, lambda model, x: ae.squared_error(model(x), x), epochs=1)
    with pytest.raises(DataError, match=r"was made of (\d+) operations, and is of"):
        train(file, lambda model, x: 1.0 * ae.squared_error(model(x), x), epochs=2, resume=True)


def test_lbfgs_has_an_objective_too(file):
    def options():
        return {"optimizer": lambda parameters: optim.LBFGS(parameters, max_iter=3)}

    train(file, sparse, epochs=1, **options())
    with pytest.raises(DataError, match="another objective: where it computed multiply"):
        train(file, functools.partial(sparse, factor=1.0), epochs=2, resume=True, **options())
    assert train(file, sparse, epochs=2, resume=True, **options()) == train(None, sparse, epochs=2, **options())


@pytest.mark.filterwarnings("ignore:fit goes on without compiling")
@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("kind", ["numpy", "value", "counter"])
def test_what_is_not_known_is_accepted(file, kind, compile, batches):
    def objective(model, x, rng=np.random.default_rng(0), calls=[]):  # noqa: B006
        calls.append(x)
        error = ae.squared_error(model(x), x)
        if kind == "value":
            return error * 0.5 if float(x[0, 0].item()) > 0.5 else error
        return error * (float(rng.uniform()) if kind == "numpy" else len(calls))

    def run(epochs, resume):
        data = X[: 8 * batches]
        ae.fit(
            ae.Autoencoder((6, 3)), data, objective, epochs=epochs, batch_size=8, checkpoint=file, resume=resume,
            compile=compile,
        )  # fmt: skip

    run(1, resume=False)
    run(2, resume=True)
    assert epochs_in(file) == 2


def test_without_compiling_the_objective_is_called_for_batches_only(file):
    calls = []

    def objective(model, x):
        calls.append(x.shape)
        return ae.squared_error(model(x), x)

    train(file, objective, epochs=2, compile=False)
    train(file, objective, epochs=4, resume=True, compile=False)
    assert calls == [(8, 6)] * 12


@pytest.mark.not_on_standin
def test_an_objective_that_counts_its_calls_is_called_for_batches_only(file):
    def counting():
        calls = []

        def objective(model, x):
            calls.append(x)
            return ae.squared_error(model(x), x) * len(calls)

        return objective

    with pytest.warns(
        RuntimeWarning, match="goes on without compiling"
    ):  # noticed at the third batch of the first epoch
        found = train(file, counting(), epochs=3)
    with pytest.warns(RuntimeWarning, match="fit goes on without compiling: "):
        assert found == train(None, counting(), epochs=3)


def annealed(file, epochs, beta, resume=False, samples=24):
    settings = {"beta": beta}

    def callback(model, history):
        settings["beta"] = 0.1 * history.epochs

    model = ae.Autoencoder((6, 3))
    ae.fit(
        model, X[:samples], lambda model, x: settings["beta"] * ae.squared_error(model(x), x), epochs=epochs,
        batch_size=8, checkpoint=file, resume=resume, callback=callback,
    )  # fmt: skip
    return [p.detach().numpy().tobytes() for p in model.parameters()]


@pytest.mark.not_on_standin
def test_a_number_that_a_callback_changes_makes_the_objective_unknown(file):
    with pytest.warns(RuntimeWarning, match="fit goes on without compiling: "):
        annealed(file, 4, beta=1.0)
    annealed(file, 5, beta=0.4, resume=True)


def test_a_number_that_a_callback_changes_is_that_of_the_next_epoch(file):
    annealed(file, 1, beta=1.0, samples=8)
    with pytest.raises(
        DataError, match=r"computed multiply\(0.1, float32\[\]\), it computes multiply\(1.0, float32\[\]\) now"
    ):
        annealed(file, 2, beta=1.0, resume=True, samples=8)
    assert annealed(file, 2, beta=0.1, resume=True, samples=8) == annealed(None, 2, beta=1.0, samples=8)


def test_watching_an_objective_changes_nothing():
    """Neither generators, nor running means, nor tensors of the user."""
    mine, count = mg.random.Generator(5), mg.tensor(0.0)
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm(4), nn.Dropout(0.5), nn.Linear(4, 6))

    def objective(model, x):
        count.assign(count + 1.0)
        return ae.squared_error(model(ae.gaussian_noise(x, 0.1, mine) + mg.random.normal(x.shape)), x) * count

    def state():
        values = {name: value.tobytes() for name, value in model.state_dict().items()}
        return values, mine.state(), mg.random.default_generator().state(), count.item()

    batch = (mg.tensor(X),)
    before = state()
    found = operations_of(objective, model, batch)
    assert state() == before and any("random_normal(" in text for text in found.texts)
    assert repeated_operations(objective, model, batch).texts == found.texts
    objective(model, *batch)
    assert state() != before
    assert operations_of(lambda model, x: objective(model, x)["no"], model, batch) is None  # it fails in the end
    assert mine.counter == before[1]["counter"] + 36  # of one call: 144 numbers, four to a block


def test_an_objective_that_calls_backward_itself_is_compared_too(file):
    def objective(model, x, weight=1.0):
        loss = ae.squared_error(model(x), x)
        loss.backward(retain_graph=True)
        steepness = sum(mg.sum(mg.square(p.grad)) for p in model.parameters())
        return loss * weight + 1e-3 * steepness

    train(file, objective, epochs=1)
    with pytest.raises(DataError, match=r"another objective: where it computed multiply\(float32\[\], 1.0\), it comp"):
        train(file, functools.partial(objective, weight=5.0), epochs=2, resume=True)
    assert train(file, objective, epochs=2, resume=True) == train(None, objective, epochs=2)


def test_watching_an_objective_that_calls_backward_leaves_gradients_as_they_are():
    model, batch = ae.Autoencoder((6, 3)), (mg.tensor(X),)

    def objective(model, x):
        loss = ae.squared_error(model(x), x)
        loss.backward(retain_graph=True)
        return loss

    found = operations_of(objective, model, batch)
    assert all(p.grad is None for p in model.parameters())
    objective(model, *batch)
    before = [p.grad for p in model.parameters()]
    assert operations_of(objective, model, batch).texts == found.texts  # they are not added to
    assert all(p.grad is g for p, g in zip(model.parameters(), before, strict=True))


def test_functions_among_the_metadata_are_known_without_their_addresses():
    def texts():
        row = mg.primitives["exp"]
        own = type(row)(
            "own", forward=lambda xp, x, /, *, f: f(x), vjps=[lambda F, g, y, x, *, f: g], saves="x", elementwise=True,
            samples=row.samples,
        )  # fmt: skip
        model = nn.Linear(6, 2)
        return operations_of(
            lambda m, x: mg.tape.apply(own, m(x), f=lambda a: a * 2).sum(), model, (mg.tensor(X),)
        ).texts

    first, second = texts(), texts()
    assert first == second and any("function" in text for text in first)


def rewrite(file, change):
    """Change what a checkpoint says, and its checksum with it."""
    flat, metadata = files.load_with_metadata(file)
    numbers = json.loads(metadata["numbers"])
    change(numbers)
    text = json.dumps(numbers)
    files.save(file, flat, {**metadata, "numbers": text, "digest": checkpoints._digest(flat, text)})


@pytest.mark.cpu_only("values of numbers made into tensors are read on the CPU alone")
@pytest.mark.parametrize(
    "change",
    [
        lambda numbers: (
            [numbers.pop(name) for name in ("objective", "optimizer", "schedule settings")]
            + [numbers["settings"].pop(name) for name in ("validation samples", "validation batch")]
        ),
        lambda numbers: numbers["objective"].update(version="0.0.1"),
        lambda numbers: numbers["objective"].update(device="cuda"),
    ],
    ids=["a file of before", "another version", "another device"],
)
def test_what_cannot_be_compared_is_accepted(file, change):
    train(file, sparse, epochs=2, validation=X)
    rewrite(file, change)
    train(file, functools.partial(sparse, rho=0.1), epochs=3, resume=True, validation=X)
    assert epochs_in(file) == 3


def test_another_optimizer_or_schedule_is_named(file):
    def options(momentum=0.5, schedule=lambda optimizer: optim.ReduceOnPlateau(optimizer, patience=3)):
        return {"optimizer": lambda p: optim.SGD(p, lr=0.01, momentum=momentum), "schedule": schedule}

    train(file, sparse, epochs=2, **options())
    with pytest.raises(DataError, match="with another optimizer: momentum was 0.5, and is 0.9$"):
        train(file, sparse, epochs=3, resume=True, **options(momentum=0.9))
    with pytest.raises(DataError, match="with another schedule: patience was 3, and is 4$"):
        train(
            file, sparse, epochs=3, resume=True,
            **options(schedule=lambda optimizer: optim.ReduceOnPlateau(optimizer, patience=4)),
        )  # fmt: skip
    assert train(file, sparse, epochs=3, resume=True, **options()) == train(None, sparse, epochs=3, **options())


def test_schedules_that_keep_the_same_numbers_are_told_apart(file):
    def options(kind):
        return {"optimizer": optim.Adam, "schedule": lambda optimizer: kind(optimizer, 5)}

    train(file, sparse, epochs=2, **options(optim.CosineDecay))
    with pytest.raises(DataError, match="with another schedule: kind was CosineDecay, and is StepDecay"):
        train(file, sparse, epochs=3, resume=True, **options(optim.StepDecay))


class Own(optim.SGD):
    """An optimizer of the user's, with a number that changes from step to step."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.01)
        self.seen = 0

    def step(self):
        self.seen += 1
        super().step()


def test_attributes_of_another_class_are_not_compared(file):
    train(file, sparse, epochs=2, optimizer=Own, compile=False)
    train(file, sparse, epochs=3, resume=True, optimizer=Own, compile=False)
    assert epochs_in(file) == 3
