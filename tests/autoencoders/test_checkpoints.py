"""Checkpoints: an interrupted training goes on bit for bit, damage is noticed, and nothing is lost."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from autoencoders import checkpoints
from minigrad import atomic, files, optim
from minigrad.errors import DataError, DTypeError

needs_locks = pytest.mark.skipif(not atomic.HAS_LOCKS, reason="the system has no locks on files")
X = np.random.default_rng(0).random((50, 6))


def objective(model, x):
    return {"reconstruction": ae.squared_error(model(ae.masking_noise(x, 0.25)), x), "weights": 1e-3 * ae.l2(model)}


def train(path=None, stop_after=None, resume=False, epochs=8, seed=3, **options):
    model = ae.Autoencoder((6, 3), output="sigmoid")
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    schedule = optim.StepDecay(optimizer, 2, 0.5)

    def callback(model, history):
        if history.epochs == stop_after:
            raise KeyboardInterrupt

    history = ae.fit(
        model, X, objective, epochs=epochs, batch_size=16, optimizer=optimizer, schedule=schedule, seed=seed,
        validation=X[:10], callback=callback, checkpoint=path, resume=resume, **options,
    )  # fmt: skip
    state = [p.detach().numpy().tobytes() for p in model.parameters()]
    return state, history.terms, history.validation, optimizer.lr, optimizer.step_counts


@pytest.mark.not_on_gpu("replayed and eager bits differ there")
@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("patience", [None, 2])
@pytest.mark.parametrize("stop_after", [1, 5])
def test_a_resumed_training_gives_the_bits_of_an_uninterrupted_one(tmp_path, stop_after, patience, compile):
    path = tmp_path / "training.safetensors"
    expected = train(patience=patience, compile=compile)
    with pytest.raises(KeyboardInterrupt):
        train(path, stop_after, patience=patience, compile=compile)
    mg.random.uniform((5,))
    assert train(path, resume=True, patience=patience, compile=compile) == expected
    assert train(path, resume=True, patience=patience, compile=compile) == expected  # nothing is left to do


def test_a_training_goes_on_with_its_learning_rate_or_not_at_all(tmp_path):
    def fit(lr, epochs, resume=True, optimizer=None, **options):
        model = ae.Autoencoder((6, 3)) if optimizer is None else None
        optimizer = optimizer or optim.SGD(model.parameters(), lr=lr)
        ae.fit(
            model or models[optimizer], X, objective, epochs=epochs, batch_size=16, optimizer=optimizer,
            checkpoint=tmp_path / "a.safetensors", resume=resume, **options,
        )  # fmt: skip
        models[optimizer] = model or models[optimizer]
        return optimizer

    models = {}
    first = fit(0.01, 2, resume=False)
    before = (tmp_path / "a.safetensors").read_bytes()
    with pytest.raises(DataError, match=r"began with the learning rate 0\.01, and this optimizer has 0\.1; give it as"):
        fit(0.1, 3)
    assert (tmp_path / "a.safetensors").read_bytes() == before
    assert fit(0.01, 3).lr == 0.01
    first.lr = 0.005  # the optimizer itself goes on, as it is
    with pytest.raises(DataError, match=r"this optimizer has 0\.005"):
        fit(None, 4, optimizer=first)
    assert fit(0.1, 4, schedule=lambda epoch: 0.003 * epoch).lr == 0.012
    assert fit(0.01, 5).lr == fit(0.012, 6).lr == 0.012


@pytest.mark.not_on_gpu("replayed and eager bits differ there")
def test_more_epochs_go_on_where_fewer_ended(tmp_path):
    path = tmp_path / "training.safetensors"
    train(path, epochs=3)
    assert train(path, resume=True, epochs=8) == train(epochs=8)


@pytest.mark.not_on_gpu("replayed and eager bits differ there")
@pytest.mark.parametrize("damage", ["cut", "flipped bit", "another file"])
def test_damage_is_noticed_and_the_previous_checkpoint_is_named_and_whole(tmp_path, damage):
    path = tmp_path / "training.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(path, stop_after=4)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped bit":
        content[-5] ^= 1
        path.write_bytes(content)
    else:
        files.save(path, {"a": np.ones(2)})
    with pytest.raises(DataError, match=r"not a readable|damaged|not a checkpoint") as caught:
        train(path, resume=True)
    previous = tmp_path / "training.previous.safetensors"
    assert damage == "another file" or str(previous) in str(caught.value)
    assert train(previous, resume=True) == train()


def test_other_settings_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "training.safetensors"
    train(path, epochs=1)
    with pytest.raises(DataError, match="other settings: seed was 3, and is 4"):
        train(path, resume=True, seed=4)
    with pytest.raises(FileNotFoundError):
        train(tmp_path / "nothing.safetensors", resume=True)
    with pytest.raises(DataError, match="resume=True without checkpoint"):
        train(resume=True)
    with pytest.raises(FileNotFoundError, match="no folder"):
        train(tmp_path / "no" / "folder.safetensors")
    model = ae.Autoencoder((6, 4), output="sigmoid")
    before = model.state_dict()
    with pytest.raises(DataError, match="other settings: model was|with a schedule"):
        ae.fit(model, X, objective, epochs=2, batch_size=16, seed=3, checkpoint=path, resume=True)
    assert all((before[k] == v).all() for k, v in model.state_dict().items())


class Halving(optim.Schedule):
    """A schedule whose state is of NumPy's numbers."""

    def __init__(self, optimizer):
        super().__init__(optimizer, lambda n: 0.5 ** int(n))
        self.steps = np.int64(0)


@pytest.mark.parametrize("max_norm", [np.float32(0.5), np.int64(2), 3])
def test_numbers_of_numpy_are_numbers(tmp_path, max_norm):
    def run(epochs, **options):
        model = ae.Autoencoder((6, 3))
        optimizer = optim.Adam(model.parameters())
        ae.fit(
            model, X, objective, epochs=epochs, batch_size=16, optimizer=optimizer, schedule=Halving(optimizer),
            max_norm=max_norm, seed=np.int32(3), patience=np.int64(9), **options,
        )  # fmt: skip
        return [p.detach().numpy().tobytes() for p in model.parameters()]

    path = tmp_path / "training.safetensors"
    run(2, checkpoint=path)
    assert run(4, checkpoint=path, resume=True) == run(4)


def test_a_training_from_the_start_writes_over_no_checkpoint(tmp_path):
    path = tmp_path / "training.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(path, stop_after=4)
    content = path.read_bytes()
    with pytest.raises(DataError, match=r"is there already.*resume=True.*remove it"):
        train(path, epochs=2)
    assert path.read_bytes() == content
    assert train(path, resume=True) == train()


@pytest.mark.not_on_gpu("replayed and eager bits differ there")
def test_a_write_that_fails_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "training.safetensors"
    train(path, epochs=2)
    content = path.read_bytes()

    def full(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        train(path, resume=True, epochs=4)
    monkeypatch.undo()
    assert path.read_bytes() == content
    assert train(path, resume=True) == train()


@pytest.mark.not_on_gpu("replayed and eager bits differ there")
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_leaves_a_checkpoint_that_goes_on(tmp_path, kill):
    path = tmp_path / "training.safetensors"
    code = (
        "import importlib.util, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        f"spec = importlib.util.spec_from_file_location('t', {str(Path(__file__))!r})\n"
        "t = importlib.util.module_from_spec(spec); spec.loader.exec_module(t)\n"
        f"t.train({str(path)!r}, epochs=100000)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(ae.__file__).parents[1], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "training.previous.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(kill)
    process.wait(timeout=60)
    _, metadata = files.load_with_metadata(path)
    epoch = json.loads(metadata["numbers"])["epoch"]
    assert epoch >= 1  # the previous one is written before its successor
    assert train(path, resume=True, epochs=epoch + 2) == train(epochs=epoch + 2)


@needs_locks
def test_a_second_training_is_refused_while_the_first_runs_and_nothing_is_lost(tmp_path):
    path = tmp_path / "training.safetensors"
    (tmp_path / "link").symlink_to(path.name)
    refused = []

    def callback(model, history):
        before = path.read_bytes() if path.exists() else None
        for name in ("training.safetensors", "link"):
            for resume in (False, True):
                with pytest.raises(DataError, match=rf"another training is using {path} now.*wait until") as caught:
                    ae.fit(other, X, objective, epochs=1, checkpoint=tmp_path / name, resume=resume)
                refused.append(caught.value)
        assert (path.read_bytes() if path.exists() else None) == before
        if history.epochs == 3:
            raise KeyboardInterrupt

    other = ae.Autoencoder((6, 3), output="sigmoid")
    untouched = other.state_dict()
    model = ae.Autoencoder((6, 3), output="sigmoid")
    options = {"epochs": 5, "checkpoint": path, "batch_size": 16}
    with pytest.raises(KeyboardInterrupt) as caught:
        ae.fit(model, X, objective, callback=callback, **options)
    assert len(refused) == 12
    assert all((untouched[name] == a).all() for name, a in other.state_dict().items())
    assert ae.fit(model, X, objective, resume=True, **options).epochs == 5  # though `caught` keeps all frames
    assert caught.value.__traceback__ is not None
    names = ["link", "training.previous.safetensors", "training.safetensors"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names


@needs_locks
def test_one_of_two_trainings_that_start_together_is_refused(tmp_path):
    path = tmp_path / "training.safetensors"
    ends, refused = [], threading.Event()

    def slow(model, x):
        refused.wait(10)
        return ae.squared_error(model(x), x)

    def run():
        model = ae.Autoencoder((6, 3), output="sigmoid")
        try:
            ends.append(ae.fit(model, X, slow, epochs=1, compile=False, progress=False, checkpoint=path).epochs)
        except DataError as error:
            ends.append(str(error))
            refused.set()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends[1] == 1 and "another training is using" in ends[0]


def test_a_file_that_another_training_finished_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "training.safetensors"

    count = []
    model = ae.Autoencoder((6, 3), output="sigmoid")
    begin = checkpoints.Checkpoint.begin

    def late(self, *arguments):
        if not count:
            count.append(1)
            train(path, epochs=1)
        begin(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.Checkpoint, "begin", late)
        with pytest.raises(DataError, match="is there already"):
            ae.fit(model, X, objective, epochs=1, checkpoint=path)
    assert train(path, resume=True) == train()


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (lambda o: optim.CosineDecay(o, 8), lambda o: optim.CosineDecay(o, 9), "total was 8, and is 9"),
        (lambda o: optim.CosineDecay(o, 8), lambda o: optim.CosineDecay(o, 8, 0.1), r"floor was 0\.0, and is 0\.1"),
        (lambda o: optim.StepDecay(o, 2), lambda o: optim.StepDecay(o, 3), "every was 2, and is 3"),
        (lambda o: optim.StepDecay(o, 2, 0.5), lambda o: optim.StepDecay(o, 2, 0.1), r"factor was 0\.5, and is 0\.1"),
        (lambda o: optim.ExponentialDecay(o, 0.5), lambda o: optim.ExponentialDecay(o, 0.9), "factor was"),
        (lambda o: optim.StepDecay(o, 2), lambda o: optim.ExponentialDecay(o, 0.1), "kind was StepDecay"),
        (lambda o: optim.CosineDecay(o, 8, 0), lambda o: optim.CosineDecay(o, 8, 0.0), None),
        (lambda o: optim.LinearWarmup(o, 1, lambda n: 0.5), lambda o: optim.LinearWarmup(o, 1, lambda n: 0.5), None),
    ],
)
def test_a_schedule_with_other_arguments_is_refused(tmp_path, first, second, words):
    def run(make, epochs, resume):
        model = ae.Autoencoder((6, 3), output="sigmoid")
        optimizer = optim.SGD(model.parameters(), lr=0.01)
        ae.fit(
            model, X, objective, epochs=epochs, optimizer=optimizer, schedule=make(optimizer), resume=resume,
            checkpoint=tmp_path / "a.safetensors",
        )  # fmt: skip
        return optimizer.lr

    run(first, 2, resume=False)
    if words is None:
        assert run(second, 3, resume=True) > 0
    else:
        with pytest.raises(DataError, match=words):
            run(second, 3, resume=True)
        run(first, 3, resume=True)


def test_a_file_with_the_name_of_the_previous_checkpoint_is_not_replaced(tmp_path):
    path, previous = tmp_path / "run.safetensors", tmp_path / "run.previous.safetensors"
    for other in (b"a thesis", None):
        if other is None:  # a checkpoint, but of another training
            train(previous, epochs=1, seed=4)
        else:
            previous.write_bytes(other)
        before = previous.read_bytes()
        with pytest.raises(DataError, match=r"run\.previous\.safetensors is there already.*remove it or name another"):
            train(path, epochs=3)
        assert not path.exists() and previous.read_bytes() == before
        kept = previous.rename(tmp_path / "kept")
        train(path, epochs=1)
        kept.rename(previous)
        with pytest.raises(
            DataError, match=r"run\.previous\.safetensors is not the checkpoint before run\.safetensors"
        ):
            train(path, resume=True)
        assert previous.read_bytes() == before
        path.unlink()
        previous.unlink()


def test_a_checkpoint_stays_in_its_folder_and_a_link_to_it_stays_a_link(tmp_path, monkeypatch):
    (tmp_path / "store").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    Path("run.safetensors").symlink_to(Path("store") / "real.safetensors")
    model = ae.Autoencoder((6, 3), output="sigmoid")

    def callback(model, history):
        os.chdir(tmp_path / "elsewhere")

    ae.fit(model, X, objective, epochs=3, checkpoint="run.safetensors", callback=callback)
    assert (tmp_path / "run.safetensors").is_symlink() and list((tmp_path / "elsewhere").iterdir()) == []
    names = ["real.previous.safetensors", "real.safetensors"]
    assert sorted(file.name for file in (tmp_path / "store").iterdir()) == names
    monkeypatch.chdir(tmp_path)
    assert ae.fit(model, X, objective, epochs=4, checkpoint="run.safetensors", resume=True).epochs == 4


def test_a_full_disk_is_told_with_the_file_and_what_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "training.safetensors"
    fsync, room = os.fsync, [3]  # files

    def full(descriptor):
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            OSError, match="device .epoch 3 is not saved; the checkpoint of epoch 2 is whole.: '"
        ) as caught:
            train(path)
        assert caught.value.filename == str(path) and caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match="No space left on device .epoch 1 is not saved.: '"):
            train(tmp_path / "other.safetensors")
    assert train(path, resume=True) == train()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which nobody can make a file")
def test_a_folder_that_cannot_be_written_to_is_refused_at_the_start():
    def never(model, x):
        raise AssertionError("trained")

    with pytest.raises(DataError, match="the folder /proc of the checkpoint cannot be written to .*name a file in"):
        ae.fit(ae.Autoencoder((6, 3)), X, never, epochs=1, checkpoint="/proc/x")


class Smoothed(optim.Schedule):
    """A schedule of a user's that looks back on the last losses."""

    def __init__(self, optimizer, recent):
        self.recent = recent
        super().__init__(optimizer, lambda n: 1.0)

    def step(self, value=None):
        super().step()
        self.recent = np.append(self.recent[1:], np.float32(value))
        self.optimizer.lr = self.base / (1 + float(self.recent.mean()))

    def state_dict(self):
        return {**super().state_dict(), "recent": self.recent}


def test_a_schedule_may_have_an_array_in_its_state(tmp_path):
    def run(epochs, **options):
        model = ae.Autoencoder((6, 3), output="sigmoid")
        optimizer = optim.Adam(model.parameters(), lr=0.02)
        schedule = Smoothed(optimizer, np.zeros(3, np.float32))
        ae.fit(model, X, objective, epochs=epochs, optimizer=optimizer, schedule=schedule, **options)
        assert schedule.recent.dtype == np.float32
        return schedule.recent.tolist(), optimizer.lr, [p.detach().numpy().tobytes() for p in model.parameters()]

    path = tmp_path / "training.safetensors"
    run(2, checkpoint=path)
    assert run(4, checkpoint=path, resume=True) == run(4)


@pytest.mark.parametrize("state", [np.array([None]), {1, 2}, [np.zeros(2)], object()])
def test_a_schedule_with_a_state_that_cannot_be_kept_is_refused_at_the_start(tmp_path, state):
    model = ae.Autoencoder((6, 3), output="sigmoid")
    optimizer = optim.Adam(model.parameters())
    before = model.state_dict()
    with pytest.raises(
        DTypeError, match="'recent' in the state of the schedule Smoothed is a .* cannot keep; expected"
    ):
        ae.fit(
            model, X, objective, epochs=2, optimizer=optimizer, schedule=Smoothed(optimizer, state),
            checkpoint=tmp_path / "a.safetensors",
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
    assert all((before[name] == a).all() for name, a in model.state_dict().items())


def test_a_training_that_its_callback_ended_goes_on_without_one_only(tmp_path):
    def run(path=None, resume=False, callback=None):
        model = ae.Autoencoder((6, 3), output="sigmoid")
        history = ae.fit(model, X, objective, epochs=6, checkpoint=path, resume=resume, callback=callback)
        return history.epochs, [p.detach().numpy().tobytes() for p in model.parameters()]

    def enough(model, history):
        return history.epochs >= 3

    path = tmp_path / "training.safetensors"
    ended = run(path, callback=enough)
    before = path.read_bytes()
    for _ in range(2):
        assert run(path, resume=True, callback=enough) == ended
        assert run(path, resume=True, callback=lambda model, history: False) == ended
    assert ended[0] == 3 and path.read_bytes() == before
    assert run(path, resume=True) == run()


def test_a_schedule_that_is_a_function_is_given_again(tmp_path):
    def run(epochs, schedule, **options):
        model = ae.Autoencoder((6, 3), output="sigmoid")
        ae.fit(model, X, objective, epochs=epochs, schedule=schedule, **options)
        return [p.detach().numpy().tobytes() for p in model.parameters()]

    def falling(epoch):
        return 0.01 / epoch

    path = tmp_path / "training.safetensors"
    run(2, falling, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(DataError, match="whose schedule is a function of the epoch; give it to resume"):
        run(4, None, checkpoint=path, resume=True)
    assert path.read_bytes() == before
    assert run(4, falling, checkpoint=path, resume=True) == run(4, falling)
    with pytest.raises(DataError, match="whose schedule is a function of the epoch"):
        run(5, None, checkpoint=path, resume=True)
