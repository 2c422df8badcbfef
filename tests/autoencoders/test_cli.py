"""The command line: a trained model comes back, and what cannot work is refused with the option's name."""

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from autoencoders import checkpoints
from autoencoders.cli import main


@pytest.mark.not_on_standin
@pytest.mark.not_on_gpu("replayed and eager bits differ there")
def test_train_then_encode_and_reconstruct_equal_the_model(tmp_path, capsys):
    model_file, codes, images = tmp_path / "m.safetensors", tmp_path / "h.npy", tmp_path / "x.npy"
    options = ["--sizes", "64,20,5", "--noise", "masking:0.25", "--l2", "1e-4", "--epochs", "2", "--seed", "3"]
    assert main(["train", *options, "--out", str(model_file)]) == 0
    assert main(["encode", "--model", str(model_file), "--out", str(codes)]) == 0
    assert main(["reconstruct", "--model", str(model_file), "--out", str(images)]) == 0
    model, x = ae.load_model(model_file), ae.datasets.digits().x_test
    with mg.no_grad():
        np.testing.assert_array_equal(np.load(codes), model.encode(x).numpy())
        np.testing.assert_array_equal(np.load(images), model(x).numpy())
    assert main(["info", "--model", str(model_file)]) == 0
    printed = capsys.readouterr().out
    assert "Autoencoder(64-20-5-20-64" in printed
    assert "encoder_layers.0.weight" in printed


def test_the_seed_decides_what_train_saves(tmp_path):
    files = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for file, seed in zip(files, ("1", "1", "2"), strict=True):
        assert main(["train", "--epochs", "1", "--noise", "gaussian:0.1", "--seed", seed, "--out", str(file)]) == 0
    first, again, other = (  # the arrays: safetensors writes the metadata in no fixed order
        np.concatenate([p.detach().numpy().ravel() for p in ae.load_model(file).parameters()]) for file in files
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_every_option_of_train_reaches_the_training(tmp_path):
    options = (
        "--sizes 64,7 --activation tanh --output linear --loss squared --noise salt-and-pepper:0.1 --tied --l2 0.3"
    )
    more = "--epochs 2 --batch-size 100 --learning-rate 0.01 --seed 4"
    assert main(["train", *options.split(), *more.split(), "--out", str(tmp_path / "m.safetensors")]) == 0
    model = ae.Autoencoder((64, 7), "tanh", "linear", tied=True, seed=4)

    def objective(model, x):
        x_hat = model(ae.salt_and_pepper_noise(x, 0.1))
        return ae.squared_error(x_hat, x) + 0.3 * ae.l2(model)

    optimizer = mg.optim.Adam(model.parameters(), lr=0.01)
    ae.fit(model, ae.datasets.digits().x_train, objective, epochs=2, batch_size=100, optimizer=optimizer, seed=4)
    saved = ae.load_model(tmp_path / "m.safetensors")
    assert repr(saved) == repr(model)
    for a, b in zip(saved.parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_train_reads_arrays(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).uniform(size=(30, 6)))
    out = tmp_path / "m.safetensors"
    options = ["--data", str(tmp_path / "x.npy"), "--output", "linear", "--loss", "squared", "--epochs", "1"]
    assert main(["train", *options, "--out", str(out)]) == 0
    assert ae.load_model(out).sizes == (6, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--sizes", "64"], "--sizes: expected two or more"),
        (["train", "--epochs", "-1"], "--epochs: expected a whole number of at least 0"),
        (["train", "--optimizer", "newton"], "--optimizer"),
        (["features", "--fine-tune", "0"], "--fine-tune: expected a whole number of at least 1"),
        (["figures", "--model", "m.safetensors", "--format", "bmp"], "--format"),
        (["train", "--epochs", "many"], "--epochs: expected a whole number of at least 0, got many"),
        (["lecture", "--seed", "x"], "--seed: expected a whole number of at least 0, got x"),
        (["train", "--l2", "some"], "--l2: expected a number of at least 0, got some"),
        (["train", "--validation", "some"], "--validation: expected a number of at least 0 and below 1, got some"),
        (["train", "--learning-rate", "-1"], "--learning-rate: expected a number above 0"),
        (["train", "--learning-rate", "0"], "--learning-rate: expected a number above 0"),
        (["train", "--learning-rate", "nan"], "--learning-rate: expected a number above 0"),
        (["train", "--l2", "-1"], "--l2: expected a number of at least 0"),
        (["train", "--noise", "snow:0.1"], "--noise: expected none or one of masking"),
        (
            ["train", "--noise", "masking:25"],
            "--noise: masking:25: masking_noise: got q=25.0; expected a finite number in [",
        ),
        (["train", "--noise", "gaussian:-1"], "sigma=-1.0; expected a finite number of at least 0"),
        (["train", "--noise", "masking"], "--noise"),
        (["lecture", "--data", "cifar"], "--data"),
        ([], "required"),
    ],
)
def test_bad_options_are_named_before_anything_runs(arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--sizes", "63,5"], "--sizes begins with 63, but the data have 64"),
        (["train", "--output", "linear"], "--loss cross-entropy needs --output sigmoid"),
        (["train", "--data", "faces"], "--data takes digits, mnist, patches or a .npy file"),
        (["train", "--epochs", "0"], "--epochs 0 trains nothing"),
        (["train", "--pretrain", "2"], "--pretrain trains layer by layer"),
        (["train", "--pretrain", "2", "--sizes", "64,8,4", "--activation", "tanh"], "needs --activation sigmoid"),
        (["train", "--sparsity", "1:0.1", "--activation", "relu"], "--sparsity needs --activation sigmoid"),
        (["train", "--images", "photographs"], "--images is for --data patches"),
        (["train", "--data", "patches", "--images", "nowhere", "--output", "linear", "--loss", "squared"], "nowhere"),
        (["features", "--labels", "y.npy"], "--labels is for --data with a .npy file"),
        (["features", "--fine-tune", "3"], "--fine-tune needs --model"),
        (["features", "--classifier", "os.system"], "--classifier os.system: expected softmax or a class"),
        (["features", "--classifier", "sklearn.svm.Nothing"], "--classifier sklearn.svm.Nothing"),
        (["features", "--classifier", "sklearn.preprocessing.StandardScaler"], "expected a classifier of scikit-learn"),
        (["features", "--dropout", "0.5"], "--noise and --dropout are for --fine-tune"),
        (["figures", "--model", "m.safetensors", "--out", "taken"], "--out taken: there is a file of that name"),
        (["info", "--model", "none.safetensors"], "none.safetensors"),
        (["train", "--out", "nowhere/at/all.safetensors"], "--out nowhere/at/all.safetensors: there is no folder"),
        (["encode", "--model", "none.safetensors", "--out", "h.npy"], "none.safetensors"),
        (["encode", "--model", "m.safetensors", "--out", "taken"], "--out taken: expected the name of a .npy file"),
        (["train", "--out", "taken"], "--out taken: expected the name of a .safetensors file"),
        (["train", "--out", "x.npy"], "--out x.npy: expected the name of a .safetensors file"),
        (["lecture", "--out", "taken"], "--out taken"),
        (["lecture", "--out", "taken/folder"], "taken"),
    ],
)
def test_what_cannot_work_is_refused_and_nothing_is_written(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    assert main(arguments) == 2
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    ("array", "options", "words"),
    [
        (
            np.full((9, 4), 1.5),
            [],
            "--loss cross-entropy needs data in [0, 1], but --data x.npy reaches from 1.5 to 1.5",
        ),
        (np.full((9, 4), -0.5), [], "--loss cross-entropy needs data in [0, 1]"),
        (np.full((9, 4), np.nan), [], "--data x.npy: 36 values are NaN or infinite"),
        (np.zeros((0, 4)), [], "--data x.npy: expected real numbers of shape (samples, features)"),
        (np.zeros((9, 4), complex), [], "--data x.npy: expected real numbers"),
        (np.zeros((9, 4)), ["--sizes", "3,2"], "--sizes begins with 3, but the data have 4 features"),
    ],
)
def test_unusable_arrays_are_refused_before_any_training(array, options, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", array)
    monkeypatch.setattr(ae.training, "fit", lambda *args, **kwargs: pytest.fail("it trained"))
    assert main(["train", "--data", "x.npy", *options]) == 2
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_data_of_another_width_are_refused_with_both_options_named(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ae.Autoencoder((6, 3)).save("m.safetensors")
    assert main(["encode", "--model", "m.safetensors", "--out", "h.npy"]) == 2
    assert "--data digits has 64 features, but --model m.safetensors takes 6" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_float64_model_encodes_in_float64(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(5, 6))
    np.save("x.npy", x)
    model = ae.Autoencoder((6, 3), dtype="float64")
    model.save("m.safetensors")
    assert main(["encode", "--model", "m.safetensors", "--data", "x.npy", "--out", "h.npy"]) == 0
    np.testing.assert_array_equal(np.load("h.npy"), model.encode(x).detach().numpy())


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (b"\x93NUMPY", b"\x93NUMPY not really"),
        (b"}", b" "),  # the header has no end: tokenize.TokenError
        (b"'shape'", b"b'shap'"),  # TypeError
    ],
)
def test_a_damaged_array_file_is_refused(tmp_path, capsys, good, bad):
    np.save(tmp_path / "x.npy", np.ones((3, 4)))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes().replace(good, bad, 1))
    assert main(["train", "--data", str(tmp_path / "x.npy")]) == 2
    assert "not a readable .npy file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"), [([], "lowest loss"), (["--validation", "0.2"], "lowest validation loss")]
)
def test_patience_says_which_loss_was_lowest(tmp_path, capsys, options, words):
    common = ["train", "--sizes", "64,8", "--epochs", "2", "--patience", "2", "--out", str(tmp_path / "m.safetensors")]
    assert main([*common, *options]) == 0
    assert f"with the {words}, " in capsys.readouterr().out


def test_an_interrupted_training_resumes_to_the_same_model(tmp_path, monkeypatch, capsys):
    common = ["train", "--sizes", "64,8", "--epochs", "5", "--noise", "masking:0.25", "--contractive", "0.01"]
    common += ["--sparsity", "0.1:0.1", "--validation", "0.2", "--patience", "4"]
    assert main([*common, "--out", str(tmp_path / "whole.safetensors")]) == 0
    save, count = checkpoints.Checkpoint.save, []

    def interrupting(self, *args):
        save(self, *args)
        count.append(1)
        if len(count) == 2:
            raise KeyboardInterrupt

    out = tmp_path / "parts.safetensors"
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints.Checkpoint, "save", interrupting)
        assert main([*common, "--out", str(out)]) == 130
    words = capsys.readouterr().err
    assert "interrupted" in words and "parts.checkpoint.safetensors" in words and "--resume" in words
    assert main(["info", "--model", str(tmp_path / "parts.checkpoint.safetensors")]) == 2
    assert (
        "is a checkpoint of a training, not a saved model" in (words := capsys.readouterr().err) and "--resume" in words
    )
    assert main([*common, "--out", str(out), "--resume"]) == 0
    resumed, whole = (mg.load(tmp_path / name) for name in ("parts.safetensors", "whole.safetensors"))
    assert {name: a.tobytes() for name, a in resumed.items()} == {name: a.tobytes() for name, a in whole.items()}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts.safetensors", "whole.safetensors"]
    assert main([*common, "--out", str(out), "--resume"]) == 2
    assert "there is no" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["3", "3:1.5", "-1:0.1", "a:b"])
def test_a_bad_sparsity_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--sparsity", text])
    assert "--sparsity" in capsys.readouterr().err


def test_every_command_computes_on_the_device_that_is_named(gpu, tmp_path, capsys):
    file, codes = tmp_path / "m.safetensors", tmp_path / "h.npy"
    train = ["train", "--sizes", "64,10", "--noise", "masking:0.25", "--contractive", "0.1", "--epochs", "2"]
    assert main([*train, "--device", "cuda", "--out", str(file)]) == 0
    assert main([*train, "--device", "cpu", "--out", str(tmp_path / "cpu.safetensors")]) == 0
    for name, array in ae.load_model(tmp_path / "cpu.safetensors").state_dict().items():
        np.testing.assert_allclose(ae.load_model(file).state_dict()[name], array, rtol=1e-3, atol=1e-4)
    for command in (
        ["encode", "--out", str(codes)],
        ["features"],
        ["features", "--fine-tune", "1"],
        ["info", "--data", "digits"],
        ["figures", "--out", str(tmp_path / "figures")],
    ):
        assert main([*command, "--model", str(file), "--device", "cuda"]) == 0, capsys.readouterr().err
    np.testing.assert_allclose(
        np.load(codes), ae.features.codes(ae.load_model(file), ae.datasets.digits().x_test), rtol=1e-4, atol=1e-5
    )


def test_a_device_that_is_not_there_is_one_message(tmp_path, capsys):
    assert main(["train", "--device", "gpu", "--out", str(tmp_path / "m.safetensors")]) == 2
    assert "there are 'cpu', 'cuda'" in capsys.readouterr().err
