"""Training on a GPU, or on the stand-in for one: the numbers of the CPU, with one read of the terms per epoch."""

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from autoencoders import repeated, sources, steps
from minigrad import optim
from minigrad.errors import DataError, DivergenceError
from tests import standin
from tests.autoencoders.test_compiled_variants import VARIANTS, X, dense, entropy

EPOCHS = 3


@pytest.fixture(autouse=True)
def recorded_early(monkeypatch):
    """Let the second batch be recorded, as on the CPU: these trainings are short."""
    monkeypatch.setitem(repeated.RECORDED_AT, "cuda", 2)


def trained(name, device, **kwargs):
    make, objective = VARIANTS[name]
    model = make()
    samples = X.reshape(-1, *model.input_shape) if getattr(model, "input_shape", None) else X
    history = ae.fit(model, samples, objective, epochs=EPOCHS, batch_size=32, seed=1, device=device, **kwargs)
    return model, history


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_as_on_the_cpu(gpu, name):
    expected, on_cpu = trained(name, "cpu", validation=None)
    model, on_gpu = trained(name, gpu)
    assert {p.device for p in model.parameters()} == {gpu}
    for term, values in on_cpu.terms.items():
        np.testing.assert_allclose(on_gpu.terms[term], values, rtol=1e-4)
    for key, array in expected.state_dict().items():
        got = model.state_dict()[key]
        assert isinstance(got, np.ndarray)
        np.testing.assert_allclose(got, array, rtol=1e-4, atol=1e-4 * np.max(np.abs(array), initial=0.0))


class Guarded:
    """Batches that come from outside, with every step between two of them under the guard.

    The first of each kind is run and the second recorded; the third, fourth and eighth are compared with a run.
    """

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        for number, batch in enumerate(self.batches):
            if number in (4, 5, 6):
                with mg.devices.transfer_guard():
                    yield batch
            else:
                yield batch


@pytest.mark.parametrize("name", VARIANTS)
def test_no_step_of_any_variant_waits_for_the_gpu(gpu, name):
    make, objective = VARIANTS[name]
    model = make().to(gpu)
    samples = X.reshape(-1, *model.input_shape) if getattr(model, "input_shape", None) else X
    batches = Guarded([samples[i : i + 32] for i in range(0, 32, 4)])
    history = ae.fit(model, batches, objective, epochs=2, max_norm=1.0)
    assert history.epochs == 2


@pytest.fixture
def little_room(monkeypatch):
    """Let samples stay in the memory of the host, as if they were too large for the GPU."""
    monkeypatch.setattr(sources, "SHARE", 2**60)


def ways_to_give(tmp_path):
    """Return the samples as an array, a tensor, an array on disk, and batches of several sizes."""
    np.save(tmp_path / "x.npy", X)

    class Batches:
        def __iter__(self):
            return (X[i : i + 16] for i in range(0, len(X), 16))

    return {
        "array": X,
        "tensor": mg.tensor(X),
        "on disk": np.load(tmp_path / "x.npy", mmap_mode="r"),
        "stream": Batches(),
    }


@pytest.mark.parametrize("way", ["array", "tensor", "on disk", "stream"])
@pytest.mark.parametrize("compile", [True, False])
def test_samples_that_are_sent_batch_by_batch_train_as_on_the_cpu(gpu, little_room, tmp_path, way, compile):
    def run(device):
        model = dense()()
        labels = {} if way == "stream" else {"y": np.arange(len(X))}

        def objective(model, x, y=None):
            return entropy(model, x) + (0.0 if y is None else 1e-3 * mg.sum(y.to("float32")))

        history = ae.fit(
            model, ways_to_give(tmp_path)[way], objective, **labels, epochs=3, batch_size=15, seed=2, device=device,
            compile=compile,
        )  # fmt: skip
        return model.state_dict(), history.loss

    (expected, on_cpu), (got, on_gpu) = run("cpu"), run(gpu)
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-4)
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5)


def test_samples_on_the_gpu_do_not_go_through_the_host(gpu):
    if not isinstance(gpu.xp, standin.Module):
        pytest.skip("counts what the stand-in counts")
    before = standin.counts.bytes_read
    on_gpu = mg.tensor(np.tile(X, (50, 1)), device=gpu)
    ae.fit(dense()().to(gpu), on_gpu, entropy, epochs=1, batch_size=len(X))
    model_and_a_batch = sum(a.nbytes for a in dense()().state_dict().values()) + X.nbytes
    assert standin.counts.bytes_read - before < 3 * model_and_a_batch < X.nbytes * 50


def test_samples_stay_on_the_gpu_where_they_fit_three_times(gpu, monkeypatch):
    monkeypatch.setattr(type(gpu), "free_memory", lambda self: 3 * X.nbytes)

    def source(x):
        return sources.source_of(x, None, "X", dense()(), X.dtype, gpu, 16, 1)

    assert isinstance(source(X), sources.InMemory)
    assert isinstance(source(np.concatenate([X, X[:1]])), sources.OnHost)


def test_lbfgs_says_when_the_samples_are_too_large(gpu, little_room):
    model = ae.Autoencoder((16, 4), "linear").to(gpu)
    with pytest.raises(DataError, match="too large for cuda:0"):
        ae.fit(model, X, VARIANTS["linear"][1], epochs=1, optimizer=optim.LBFGS(model.parameters()))


def test_an_epoch_with_validation_reads_a_handful_of_values(gpu):
    if not isinstance(gpu.xp, standin.Module):
        pytest.skip("counts what the stand-in counts")
    held_out = np.tile(X[:8], (20, 1))
    more = reads(8, 3, gpu, validation=held_out) - reads(8, 2, gpu, validation=held_out)
    # terms, those of the validation and a look at its first batch, whether parameters are finite, random counters
    assert more <= 10


def reads(batches, epochs, gpu, **kwargs):
    before = standin.counts.reads
    model = dense()().to(gpu)
    samples = np.tile(X[:8], (batches, 1))
    ae.fit(model, samples, entropy, epochs=epochs, batch_size=8, optimizer=optim.Adam(model.parameters()), **kwargs)
    return standin.counts.reads - before


def test_an_epoch_reads_its_terms_once_however_many_batches_it_has(gpu):
    if not isinstance(gpu.xp, standin.Module):
        pytest.skip("counts what the stand-in counts")
    assert reads(2, 1, gpu) == reads(40, 1, gpu) > 0
    assert reads(2, 3, gpu) - reads(2, 2, gpu) == reads(40, 3, gpu) - reads(40, 2, gpu)


def test_a_step_sends_one_small_array_to_the_gpu(gpu):
    """The optimizer's list of the parameters that have a gradient; the order of the samples goes once per epoch."""
    if not isinstance(gpu.xp, standin.Module):
        pytest.skip("counts what the stand-in counts")

    def uploads(batches):
        before = standin.counts.uploads
        reads(batches, 1, gpu)
        return standin.counts.uploads - before

    assert uploads(40) - uploads(20) == 20


def test_a_very_long_epoch_reads_from_time_to_time(gpu, monkeypatch):
    if not isinstance(gpu.xp, standin.Module):
        pytest.skip("counts what the stand-in counts")
    once = reads(10, 1, gpu)
    monkeypatch.setattr(steps, "PENDING", 3)
    assert reads(10, 1, gpu) == once + 3  # after 3, 6 and 9 batches, and the last one


def test_terms_of_several_dtypes_and_parameters_among_them_are_those_of_their_batch(gpu):
    def objective(model, x):
        bias = model.decoder_layers[0].bias
        count = mg.sum(x < 2.0) + 2**24  # an integer that float32 does not have
        return {"error": ae.squared_error(model(x), x), "bias": bias[0], "count": count}

    def run(device):
        model = ae.Autoencoder((16, 4), "linear")
        return ae.fit(model, X, objective, epochs=2, batch_size=16, device=device).terms

    expected, got = run("cpu"), run(gpu)
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-4 * (name != "count"), atol=1e-6)


def test_divergence_names_the_batch_and_brings_the_epoch_back(gpu):
    model = dense()().to(gpu)
    before = model.state_dict()

    class Batches:
        def __iter__(self):
            yield from (X[:16], X[16:32], X[32:48])

    count = 0

    def objective(model, x):
        nonlocal count
        count += 1
        loss = entropy(model, x)
        return loss * float("inf") if count == 3 else loss

    # a step is taken after the bad batch: its terms are read when the epoch is over
    with (
        np.errstate(all="ignore"),
        pytest.raises(DivergenceError, match=r"'loss' of the objective is inf in epoch 1, bat.* 3"),
    ):
        ae.fit(model, Batches(), objective, epochs=1, compile=False)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_bad_values_are_refused_before_the_training(gpu):
    model = dense()().to(gpu)
    with pytest.raises(DataError, match="expected targets in"):
        ae.fit(model, X + 1.0, entropy, epochs=1)


def test_moving_with_an_optimizer_and_resuming_from_a_file_of_the_cpu(gpu, tmp_path):
    def run(epochs, device, file, **kwargs):
        model = dense()()
        return ae.fit(
            model, X, entropy, epochs=epochs, batch_size=16, device=device, checkpoint=tmp_path / file,
            optimizer=optim.Adam(model.parameters(), lr=0.01), validation=X[:9], patience=5, **kwargs,
        )  # fmt: skip

    whole = run(4, "cpu", "a.safetensors")
    run(2, "cpu", "b.safetensors")
    rest = run(4, gpu, "b.safetensors", resume=True)
    np.testing.assert_allclose(rest.terms["loss"], whole.terms["loss"], rtol=1e-4)
    np.testing.assert_allclose(rest.validation["loss"], whole.validation["loss"], rtol=1e-4)


def test_an_optimizer_of_other_parameters_too_does_not_move(gpu):
    model, other = dense()(), dense()()
    optimizer = optim.SGD([*model.parameters(), *other.parameters()], lr=0.1)
    with pytest.raises(DataError, match="not of this model"):
        ae.fit(model, X, entropy, epochs=1, device=gpu, optimizer=optimizer)
    assert {p.device.name for p in model.parameters()} == {"cpu"}


def test_lbfgs_stacks_and_classifiers(gpu):
    def lbfgs(device):
        model = ae.Autoencoder((16, 4), "linear")
        optimizer = optim.LBFGS(model.parameters(), max_iter=5)
        return ae.fit(model, X, VARIANTS["linear"][1], epochs=2, device=device, optimizer=optimizer).loss

    np.testing.assert_allclose(lbfgs(gpu), lbfgs("cpu"), rtol=1e-3)
    with mg.use_device(gpu):
        classifier = ae.softmax_regression(X, (X[:, 0] > 0.5).astype(int), max_iter=20)
        assert classifier.linear.weight.device is gpu
        assert classifier.accuracy(X, (X[:, 0] > 0.5).astype(int)) > 0.9


def test_measurements_and_files_of_a_model_on_a_gpu(gpu, tmp_path):
    model, there = ae.Autoencoder((16, 6), "sigmoid"), ae.Autoencoder((16, 6), "sigmoid").to(gpu)
    for f in (ae.features.codes, ae.features.reconstructions):
        np.testing.assert_allclose(f(there, X), f(model, X), rtol=1e-5, atol=1e-6)
    for g in (ae.features.jacobian_norms, ae.features.singular_values_along):
        np.testing.assert_allclose(g(there.encode, X), g(model.encode, X), rtol=1e-4, atol=1e-6)
    path = there.save(tmp_path / "model.safetensors")
    loaded = ae.load_model(path)
    for name, array in there.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], array)


def test_training_in_float16_as_a_whole_or_in_the_products_alone(gpu):
    def losses(objective, dtype="float32"):
        model = ae.Autoencoder((16, 8), output="sigmoid").to(dtype)
        optimizer = optim.SGD(model.parameters(), lr=0.05)
        history = ae.fit(model, X, objective, epochs=5, batch_size=24, optimizer=optimizer, device=gpu)
        assert {p.dtype.name for p in model.parameters()} == {dtype}
        return history.loss

    def whole(model, x):
        return ae.squared_error(model(x), x)

    def product(x, w):
        return (x.to("float16") @ w.to("float16")).to("float32")

    def in_products(model, x):
        layers = (*model.encoder_layers, *model.decoder_layers)
        h = x
        for layer in layers:
            h = mg.sigmoid(product(h, layer.weight) + layer.bias)
        return ae.squared_error(h, x)

    expected = losses(whole)
    assert expected[-1] < 0.99 * expected[0]
    np.testing.assert_allclose(losses(in_products), expected, rtol=1e-3)
    np.testing.assert_allclose(losses(whole, "float16"), expected, rtol=1e-2)
