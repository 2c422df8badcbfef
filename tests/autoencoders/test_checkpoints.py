"""Checkpoints: an interrupted training goes on bit for bit, damage is noticed, and nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from minigrad import files, optim
from minigrad.errors import DataError

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


def test_more_epochs_go_on_where_fewer_ended(tmp_path):
    path = tmp_path / "training.safetensors"
    train(path, epochs=3)
    assert train(path, resume=True, epochs=8) == train(epochs=8)


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
