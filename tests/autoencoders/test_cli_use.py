"""The commands that use a model, and what train can do beside one dense layer with Adam."""

import errno
import itertools
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from autoencoders import checkpoints
from autoencoders.cli import data, main
from minigrad import atomic

pytest.importorskip("sklearn")


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A trained model in m.safetensors of the present folder."""
    monkeypatch.chdir(tmp_path)
    options = "--sizes 64,20 --noise masking:0.25 --epochs 5 --out m.safetensors"
    assert main(["train", *options.split()]) == 0
    return ae.load_model("m.safetensors")


def accuracies(text):
    return [float(x) / 100 for x in re.findall(r"([\d.]+)% on (?:train|test)", text)]


@pytest.mark.not_on_standin
@pytest.mark.not_on_gpu("replayed and eager bits differ there")
def test_features_classifies_the_codes(model, capsys):
    digits = ae.datasets.digits()
    assert main(["features", "--model", "m.safetensors"]) == 0
    softmax = ae.softmax_regression(ae.features.codes(model, digits.x_train), digits.y_train, l2=1e-5)
    expected = softmax.accuracy(ae.features.codes(model, digits.x_test), digits.y_test)
    printed = capsys.readouterr().out
    assert "softmax on codes of Autoencoder(64-20-64" in printed
    assert accuracies(printed)[1] == pytest.approx(expected, abs=5e-5)


def test_features_of_pixels_with_a_classifier_of_scikit_learn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["features", "--classifier", "sklearn.neighbors.KNeighborsClassifier"]) == 0
    printed = capsys.readouterr().out
    assert "KNeighborsClassifier on the inputs" in printed and accuracies(printed)[1] > 0.97


def test_features_of_arrays_with_labels(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 100)
    np.save("x.npy", rng.normal(size=(100, 4)) + 4 * y[:, None])
    np.save("y.npy", np.array(["no", "yes"])[y])
    assert main(["features", "--data", "x.npy", "--labels", "y.npy"]) == 0
    assert accuracies(capsys.readouterr().out) == [1.0, 1.0]
    assert main(["features", "--data", "x.npy"]) == 2
    assert "give them with --labels" in capsys.readouterr().err
    np.save("y.npy", y[:5])
    assert main(["features", "--data", "x.npy", "--labels", "y.npy"]) == 2
    assert "--labels y.npy: expected shape (100,)" in capsys.readouterr().err


def test_fine_tuning_beats_the_softmax_on_fixed_codes_of_a_poor_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ae.StackedAutoencoder((64, 20, 10), seed=1).save("m.safetensors")  # not trained at all
    assert main(["features", "--model", "m.safetensors"]) == 0
    fixed = accuracies(capsys.readouterr().out)[1]
    options = "--fine-tune 20 --learning-rate 0.01 --noise masking:0.1 --dropout 0.1 --batch-size 64"
    assert main(["features", "--model", "m.safetensors", *options.split()]) == 0
    printed = capsys.readouterr().out
    assert "fine-tuned StackedAutoencoder" in printed and "epoch 10:" in printed
    error = float(re.findall(r"error ([\d.]+)% on test", printed)[-1]) / 100
    assert 1 - error > fixed + 0.02
    assert ae.load_model("m.safetensors").sizes == (64, 20, 10)  # the file is as it was


def test_fine_tuning_at_the_defaults_begins_where_the_codes_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train"]) == 0
    capsys.readouterr()
    assert main(["features", "--model", "model.safetensors", "--fine-tune", "10"]) == 0
    printed = capsys.readouterr().out
    fixed, (tuned,) = accuracies(printed)[1], re.findall(r"^fine-tuned .* accuracy ([\d.]+)% on test", printed, re.M)
    # it was 96 % before and after; a softmax that begins at 0 has come to 79 % by then
    assert fixed > 0.95 and float(tuned) / 100 > fixed - 0.005


def test_figures_of_a_model(model, capsys):
    assert main(["figures", "--model", "m.safetensors", "--out", "drawn"]) == 0
    names = {path.name for path in Path("drawn").iterdir()}
    assert names == {
        f"{name}.png"
        for name in (
            *("activations", "codes", "error_and_floor", "filters", "jacobian_norms", "mean_activations"),
            *("reconstructions", "saturation", "singular_values"),
        )
    }
    assert all((Path("drawn") / name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_figures_of_a_model_whose_samples_are_no_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).normal(size=(30, 6)))
    ae.Autoencoder((6, 1), activation="relu").save("m.safetensors")
    assert main("figures --model m.safetensors --data x.npy --out drawn --format svg".split()) == 0
    names = {path.stem for path in Path("drawn").iterdir()}
    assert "filters" not in names and "codes" not in names and "saturation" not in names
    assert "jacobian_norms" in names


def test_info_measures_a_model_on_data(model, capsys):
    assert main(["info", "--model", "m.safetensors", "--data", "digits"]) == 0
    printed = capsys.readouterr().out
    x = mg.tensor(ae.datasets.digits().x_test)
    with mg.no_grad():
        error = ae.squared_error(model(x), x).item()
        entropy = ae.binary_cross_entropy(model(x), x).item() / 64
    assert f"squared error per sample, test: {error:.4f}" in printed
    assert f"cross entropy per feature, test: {entropy:.5f} nats" in printed
    floor = ae.pca.reconstruction_floor(ae.datasets.digits().x_train, 20)
    assert f"PCA floor (affine decoders) with 20 directions: {floor:.4f}" in printed
    assert f"{ae.features.jacobian_norms(model.encode, x.numpy()).mean():.4f} on 359 samples" in printed


def test_info_into_a_pipe_that_nobody_reads_any_more_says_nothing(model):
    process = subprocess.Popen(
        [sys.executable, "-m", "autoencoders", "info", "--model", "m.safetensors"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(ae.__file__).parents[1])},
    )  # fmt: skip
    process.stdout.close()  # before it prints anything: a process takes longer to start
    told = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141 and told == b""


def test_train_layer_by_layer_then_as_a_whole(tmp_path, capsys):
    options = "--sizes 64,12,6 --pretrain 2 --noise masking:0.2 --batch-size 100 --learning-rate 1e-3"
    only, both = (str(tmp_path / name) for name in ("only.safetensors", "both.safetensors"))
    assert main(["train", *options.split(), "--epochs", "0", "--out", only]) == 0
    assert "layer 1: loss" in capsys.readouterr().out
    assert main(["train", *options.split(), "--epochs", "1", "--out", both]) == 0

    def objective(layer, x):
        h = layer.encode(ae.masking_noise(x, 0.2))
        return ae.binary_cross_entropy_with_logits(layer.decode_logits(h), x)

    digits = ae.datasets.digits()
    model = ae.StackedAutoencoder((64, 12, 6), output="sigmoid")
    model.pretrain(digits.x_train, objective, epochs=2, batch_size=100)
    for a, b in zip(ae.load_model(only).parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)
    ae.fit(model, digits.x_train, objective, epochs=1, batch_size=100)
    for a, b in zip(ae.load_model(both).parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


def test_train_a_sparse_model_of_patches_by_lbfgs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "PATCHES", 200)
    options = "--data patches --sizes 64,5 --loss squared --sparsity 6:0.1 --l2 1e-4 --l1 1e-3 --optimizer lbfgs"
    assert main(["train", *options.split(), "--epochs", "3", "--out", str(tmp_path / "m.safetensors")]) == 0
    losses = [float(x) for x in re.findall(r"loss ([\d.]+) after epoch 1, ([\d.]+)", capsys.readouterr().out)[0]]
    assert losses[1] < losses[0]
    model = ae.load_model(tmp_path / "m.safetensors")
    x = mg.tensor(ae.datasets.natural_patches(200, 8, normalize="ufldl"))
    with mg.no_grad():
        h = model.encode(x)
        expected = ae.squared_error(model.decode(h), x) + 6 * ae.kl_sparsity(h, 0.1)
        expected = expected + 1e-4 * ae.l2(model) + 1e-3 * ae.l1(h)
    assert losses[1] == pytest.approx(expected.item(), rel=1e-3)


def test_train_with_huber_and_momentum(tmp_path):
    options = (
        "--sizes 64,5 --loss huber --output linear --optimizer sgd --learning-rate 0.01 --epochs 2 --batch-size 128"
    )
    assert main(["train", *options.split(), "--out", str(tmp_path / "m.safetensors")]) == 0
    model = ae.Autoencoder((64, 5))
    optimizer = mg.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    ae.fit(model, ae.datasets.digits().x_train, lambda model, x: ae.huber(model(x), x), epochs=2, optimizer=optimizer)
    for a, b in zip(ae.load_model(tmp_path / "m.safetensors").parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


def interrupted(monkeypatch, arguments):
    """Give a command Ctrl-C when its first checkpoint is written; return its exit status."""
    save = checkpoints.Checkpoint.save

    def interrupting(self, *args):
        save(self, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints.Checkpoint, "save", interrupting)
        return main(arguments)


def test_an_interrupted_training_is_not_begun_over_nor_resumed_as_another(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert interrupted(monkeypatch, ["train", "--epochs", "3", "--out", "m.safetensors"]) == 130
    assert main(["train", "--epochs", "3", "--out", "m.safetensors"]) == 2
    assert "--resume goes on with it" in capsys.readouterr().err
    other = ["train", "--epochs", "3", "--out", "m.safetensors", "--resume", "--batch-size", "7"]
    assert main(other) == 2
    assert "begun with --batch-size 64, not 7" in capsys.readouterr().err
    assert main(["train", "--epochs", "3", "--out", "m.safetensors", "--resume"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_finished_model_is_replaced_only_by_force(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train = ["train", "--epochs", "1", "--out", "m.safetensors"]
    assert main(train) == 0
    before = Path("m.safetensors").read_bytes()
    assert main([*train, "--seed", "1"]) == 2
    assert "--out m.safetensors is there already: --force replaces it" in capsys.readouterr().err
    assert Path("m.safetensors").read_bytes() == before
    assert interrupted(monkeypatch, [*train, "--seed", "1", "--force"]) == 130
    assert Path("m.safetensors").read_bytes() == before
    assert main([*train, "--seed", "1", "--resume"]) == 0  # the force that it began with counts
    assert Path("m.safetensors").read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
    assert main([*train, "--force"]) == 0
    assert Path("m.safetensors").read_bytes() == before


@pytest.mark.parametrize(("features", "picture"), [(4, False), (9, False), (15, False), (16, True)])
def test_a_few_features_are_no_picture(features, picture, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).uniform(size=(30, features)))
    assert main(f"train --data x.npy --sizes {features},2 --epochs 1 --out m.safetensors".split()) == 0
    capsys.readouterr()
    assert main("figures --model m.safetensors --data x.npy --out drawn".split()) == 0
    assert ("a square number of features, 4 by 4 or more, is taken" in capsys.readouterr().out) != picture
    assert (tmp_path / "drawn" / "reconstructions.png").exists() == picture


@pytest.mark.parametrize("pretrained", ["", " --sizes 4,3,2 --pretrain 2"])
def test_a_training_that_fails_before_its_first_checkpoint_leaves_nothing(tmp_path, monkeypatch, capsys, pretrained):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.full((20, 4), 1e39))  # too large for float32
    assert main(f"train --data x.npy --loss squared --output linear --out m.safetensors{pretrained}".split()) == 2
    assert "finite numbers in float32" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


@pytest.mark.parametrize("units", [1, 2, 3])
def test_figures_of_one_sample(tmp_path, monkeypatch, units):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).random((1, 16)))
    ae.Autoencoder((16, units)).save("m.safetensors")
    assert main("figures --model m.safetensors --data x.npy --out drawn".split()) == 0
    drawn = {path.stem for path in Path("drawn").iterdir()}
    assert {"activations", "filters", "reconstructions", "jacobian_norms"} <= drawn and ("codes" in drawn) == (
        units == 2
    )


def test_figures_of_a_variational_and_a_convolutional_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for model in (ae.VariationalAutoencoder((64, 20), 2), ae.ConvAutoencoder((1, 8, 8), (4,))):
        model.save("m.safetensors")
        assert main("figures --model m.safetensors --out drawn".split()) == 0
    assert not (tmp_path / "drawn" / "saturation.png").exists()
    assert main("features --model m.safetensors --fine-tune 1".split()) == 0


def test_unusable_labels_and_files_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", a=np.zeros((3, 2)))
    Path("x.npz").rename("x.npy")
    assert main("train --data x.npy".split()) == 2
    assert "several arrays" in capsys.readouterr().err
    np.save("x.npy", np.random.default_rng(0).random((20, 4)))
    np.save("y.npy", np.full(20, np.nan))
    assert main("features --data x.npy --labels y.npy".split()) == 2
    assert "--labels y.npy: contains NaN" in capsys.readouterr().err
    np.save("y.npy", np.zeros(20))
    assert main("features --data x.npy --labels y.npy --classifier sklearn.svm.SVC".split()) == 2
    assert "--classifier sklearn.svm.SVC" in capsys.readouterr().err
    assert main("features --classifier sklearn.cluster.KMeans".split()) == 2
    assert "expected a classifier" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["encode", "reconstruct"])
def test_a_file_is_replaced_only_by_force_and_the_input_never(model, command, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    np.save("x.npy", rng.random((5, 64)))
    np.save("h.npy", rng.random((5, 3)))
    Path("link.npy").symlink_to("x.npy")
    Path("m.npy").hardlink_to("m.safetensors")
    before = {name: Path(name).read_bytes() for name in ("x.npy", "h.npy", "m.safetensors")}
    use = [command, "--model", "m.safetensors", "--data", "x.npy", "--out"]
    capsys.readouterr()
    assert main([*use, "h.npy"]) == 2
    assert "--out h.npy is there already: --force replaces it; or give another name" in capsys.readouterr().err
    for name, option in (("x.npy", "data"), ("link.npy", "data"), ("m.npy", "model")):
        for force in ([], ["--force"]):
            assert main([*use, name, *force]) == 2
            words = f"--out {name} is the file of --{option} too, and would replace it; give another name"
            assert words in capsys.readouterr().err
    assert before == {name: Path(name).read_bytes() for name in before}
    assert main([*use, "h.npy", "--force"]) == 0
    assert main([*use, "new.npy"]) == 0
    assert Path("h.npy").read_bytes() == Path("new.npy").read_bytes() != before["h.npy"]


@pytest.mark.skipif(not atomic.HAS_LOCKS, reason="the system has no locks on files")
@pytest.mark.parametrize("when", ["pretraining", "training", "saving"])
def test_a_second_training_with_the_same_out_is_refused_while_the_first_runs(tmp_path, monkeypatch, capsys, when):
    monkeypatch.chdir(tmp_path)
    command = "train --sizes 64,8,4 --pretrain 1 --epochs 2 --out m.safetensors".split()
    assert main([*command[:-1], "alone.safetensors"]) == 0
    owner, name = {
        "pretraining": (ae.StackedAutoencoder, "pretrain"),
        "training": (checkpoints.Checkpoint, "save"),
        "saving": (ae.models, "save_model"),
    }[when]
    first, told = getattr(owner, name), []

    def with_a_second(*arguments, **options):
        with monkeypatch.context() as inner:
            inner.setattr(owner, name, first)
            before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
            capsys.readouterr()
            for more in ([], ["--force"], ["--resume"], ["--seed", "1"]):
                assert main([*command, *more]) == 2
                told.append(capsys.readouterr().err)
            assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        return first(*arguments, **options)

    monkeypatch.setattr(owner, name, with_a_second)
    assert main(command) == 0
    assert len(told) in (4, 8) and all("--out m.safetensors: another training is using it now" in text for text in told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.safetensors", "m.safetensors"]
    assert Path("m.safetensors").read_bytes() == Path("alone.safetensors").read_bytes()


@pytest.mark.skipif(not atomic.HAS_LOCKS, reason="the system has no locks on files")
def test_a_killed_training_goes_on(tmp_path, capsys):
    command = "train --sizes 64,4 --epochs 100000 --out m.safetensors".split()
    process = subprocess.Popen(
        [sys.executable, "-m", "autoencoders", *command], cwd=tmp_path, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(ae.__file__).parents[1])},
    )  # fmt: skip
    checkpoint = tmp_path / "m.checkpoint.safetensors"
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        running, told = main(command), capsys.readouterr().err
        process.kill()
        process.wait()
        epoch = json.loads(mg.files.load_with_metadata(checkpoint)[1]["numbers"])["epoch"]
        assert running == 2 and "another training is using it now" in told
        assert main([*command, "--resume", "--epochs", str(epoch + 1)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_leftover_previous_checkpoint_is_told_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("m.checkpoint.previous.safetensors").write_bytes(b"x")
    assert main("train --sizes 64,8,4 --pretrain 1 --epochs 1 --out m.safetensors".split()) == 2
    told = capsys.readouterr()
    assert "m.checkpoint.previous.safetensors would be replaced: remove it, or give another --out" in told.err
    assert told.out == "" and os.listdir() == ["m.checkpoint.previous.safetensors"]


TRAIN = "train --sizes 64,2 --epochs 1 --out m.safetensors".split()


@pytest.mark.parametrize("content", ["mine", "[1]", "{}", '{"command": "train", "epochs": 3}'])
def test_a_file_of_the_users_where_train_notes_its_options_is_kept(tmp_path, monkeypatch, capsys, content):
    monkeypatch.chdir(tmp_path)
    Path("m.checkpoint.json").write_text(content)
    assert main(TRAIN) == 2
    assert "m.checkpoint.json would be replaced: rename or remove it, or give another --out" in capsys.readouterr().err
    assert os.listdir() == ["m.checkpoint.json"] and Path("m.checkpoint.json").read_text() == content
    if "command" not in content:  # nor is it taken for what a training began with
        Path("m.checkpoint.safetensors").write_bytes(b"x")
        assert main([*TRAIN, "--resume"]) == 2
        assert re.search(r"m\.checkpoint\.json(, which| does not) says? what was begun", capsys.readouterr().err)
        assert Path("m.checkpoint.json").read_text() == content


def test_a_training_that_was_killed_before_its_first_checkpoint_can_be_begun_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = (
        "import os\nfrom autoencoders import checkpoints\nfrom autoencoders.cli import main\n"
        f"checkpoints.Checkpoint.save = lambda *args: os._exit(9)\nmain({TRAIN})"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(ae.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 9
    assert "m.checkpoint.json" in os.listdir() and "m.checkpoint.safetensors" not in os.listdir()
    assert main([*TRAIN, "--seed", "1"]) == 0  # another one, too
    assert os.listdir() == ["m.safetensors"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which nobody can make a file")
@pytest.mark.parametrize("command", ["train --out /proc/m.safetensors", "encode --model m --out /proc/x.npy"])
def test_a_folder_that_cannot_be_written_to_is_refused_at_the_start(command, capsys):
    assert main(command.split()) == 2
    assert "the folder /proc is not writable" in capsys.readouterr().err


def test_a_full_disk_is_told_with_the_file(model, monkeypatch, capsys):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    fsync, room = os.fsync, itertools.count()  # for three: what was asked, the checkpoint, the one before
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main("encode --model m.safetensors --out h.npy".split()) == 2
        assert "encode: [Errno 28] No space left on device: 'h.npy'\n" in capsys.readouterr().err
        assert os.listdir() == ["m.safetensors"]
        patch.setattr(os, "fsync", lambda descriptor: fsync(descriptor) if next(room) < 3 else full(descriptor))
        assert main("train --epochs 2 --out n.safetensors".split()) == 2
    told = capsys.readouterr().err
    assert "(epoch 2 is not saved; the checkpoint of epoch 1 is whole): " in told
    assert "the last epoch is in n.checkpoint.safetensors: the same command with --resume goes on from there" in told
    assert main("train --epochs 2 --out n.safetensors --resume".split()) == 0


def test_a_pretraining_alone_is_not_what_resume_goes_on_with(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    common = "train --sizes 64,8,4 --pretrain 1 --out m.safetensors".split()
    assert interrupted(monkeypatch, [*common, "--epochs", "3"]) == 130
    before = {name: Path(name).read_bytes() for name in os.listdir()}
    assert main([*common, "--epochs", "0", "--resume"]) == 2
    assert "--resume goes on with epochs after those of --pretrain, and --epochs 0 has none" in capsys.readouterr().err
    assert before == {name: Path(name).read_bytes() for name in os.listdir()}


@pytest.mark.parametrize(("letters", "command"), [(215, "train"), (208, "train"), (240, "encode"), (300, "train")])
def test_a_name_that_is_too_long_is_refused_before_the_work(tmp_path, monkeypatch, capsys, letters, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ae.training, "fit", lambda *args, **kwargs: pytest.fail("it trained"))
    suffix, more = (".safetensors", []) if command == "train" else (".npy", ["--model", "m.safetensors"])
    assert main([command, *more, "--out", "a" * letters + suffix]) == 2
    told = capsys.readouterr()
    assert "a: the name is too long, with what is added to it" in told.err.replace(suffix, "") and not told.out
    assert os.listdir() == []


def test_a_training_with_the_longest_name_that_is_accepted_writes_all_its_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    most = os.pathconf(".", "PC_NAME_MAX") - len("..checkpoint.previous.safetensors.0123456789ab.part")
    assert main(["train", "--sizes", "64,2", "--epochs", "2", "--out", "a" * (most + 1) + ".safetensors"]) == 2
    assert main(["train", "--sizes", "64,2", "--epochs", "2", "--out", "a" * most + ".safetensors"]) == 0


def test_a_folder_that_cannot_be_looked_into_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--out", "a" * 300 + "/m.safetensors"]) == 2
    assert "train: [Errno 36] File name too long: " in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
def test_after_a_training_that_diverged_what_can_be_done_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = (
        "train --sizes 64,8 --activation linear --output linear --loss squared --optimizer sgd --out m.safetensors"
    )
    slow = [*command.split(), "--batch-size", "2000", "--epochs", "100", "--learning-rate"]
    assert main([*slow, "1"]) == 2
    told = capsys.readouterr().err
    assert "Begin again with a smaller --learning-rate or other options; m.checkpoint.safetensors, " in told
    assert "is to be removed before" in told and "detect_anomaly" not in told
    Path("m.checkpoint.safetensors").unlink()
    Path("m.checkpoint.previous.safetensors").unlink()
    assert main([*slow, "1e-4"]) == 0
    assert main([*command.split(), "--force", "--learning-rate", "1e30"]) == 2  # in its first epoch
    assert capsys.readouterr().err.endswith("Begin again with a smaller --learning-rate or other options\n")


def test_figures_with_labels_draw_all_samples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ae.Autoencoder((5, 3)).save("m.safetensors")
    np.save("x.npy", np.random.default_rng(0).normal(size=(40, 5)))
    np.save("y.npy", np.arange(40) % 2)
    drawn = []
    monkeypatch.setattr(
        ae.figures, "codes_2d", lambda h, y: drawn.append((h, y)) or ae.figures.mean_activations({"": h})
    )
    assert main("figures --model m.safetensors --data x.npy --labels y.npy --out drawn".split()) == 0
    np.testing.assert_array_equal(drawn[0][0], ae.features.codes(ae.load_model("m.safetensors"), np.load("x.npy")))
    np.testing.assert_array_equal(drawn[0][1], np.load("y.npy"))
