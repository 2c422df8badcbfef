"""The command line: a trained model comes back, and what cannot work is refused with the option's name."""

import json

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from autoencoders import lecture
from autoencoders.cli import main
from autoencoders.lecture import Settings

TINY = Settings(12, 4, 0.25, 128, 2, 2, (2, 1), (3e-3, 3e-4))


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
    contents = [file.read_bytes() for file in files]
    assert contents[0] == contents[1] != contents[2]


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
        (["train", "--epochs", "0"], "--epochs: expected a whole number of at least 1"),
        (["train", "--epochs", "many"], "--epochs"),
        (["train", "--learning-rate", "-1"], "--learning-rate: expected a number of at least 0"),
        (["train", "--noise", "snow:0.1"], "--noise: expected none or one of masking"),
        (["train", "--noise", "masking:2"], "--noise"),
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
        (["train", "--data", "faces"], "--data takes digits, mnist or a .npy file"),
        (["train", "--out", "nowhere/at/all.safetensors"], "--out nowhere/at/all.safetensors: there is no folder"),
        (["encode", "--model", "none.safetensors", "--out", "h.npy"], "none.safetensors"),
        (["lecture", "--out", "taken"], "--out taken"),
    ],
)
def test_what_cannot_work_is_refused_and_nothing_is_written(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    assert main(arguments) == 2
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_damaged_array_file_is_refused(tmp_path, capsys):
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY not really")
    assert main(["train", "--data", str(tmp_path / "x.npy")]) == 2
    assert "not a readable .npy file" in capsys.readouterr().err


@pytest.fixture(scope="module")
def tiny_results():
    said = []
    results = lecture.run("digits", 0, TINY, said.append)
    assert len(said) == 4
    return results


def test_the_report_shows_the_numbers_of_results_json(tiny_results, tmp_path):
    report = lecture.write(tiny_results, tmp_path / "new" / "folder")
    html = report.read_text(encoding="utf-8")
    numbers = json.loads((report.parent / "results.json").read_text())
    assert numbers == json.loads(json.dumps(tiny_results.numbers))
    for name, key in (
        ("pca", "floor_train"),
        ("linear", "error_train"),
        ("plain", "error_test"),
        ("denoising", "error_test"),
    ):
        assert f"{numbers[name][key]:.3f}" in html
    assert html.count("data:image/png;base64,") == 5
    assert "http" not in html  # self-contained


def test_the_lecture_obeys_the_floors(tiny_results):
    numbers = tiny_results.numbers
    assert numbers["linear"]["error_train"] >= numbers["pca"]["floor_train"]
    assert min(numbers["curves"]["plain"]) >= numbers["cross_entropy_floor_train"]
    assert numbers["curves"]["linear"] == sorted(numbers["curves"]["linear"], reverse=True)


def test_the_lecture_is_reproducible(tiny_results):
    again = lecture.run("digits", 0, TINY, lambda text: None).numbers
    other = lecture.run("digits", 1, TINY, lambda text: None).numbers
    assert {**again, "seconds": 0} == {**tiny_results.numbers, "seconds": 0}
    assert other["plain"] != again["plain"]


def test_the_command_prints_the_table_and_where_the_report_is(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(lecture.experiments.SETTINGS, "digits", TINY)
    assert main(["lecture", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert str(tmp_path / "report.html") in printed
    assert "denoising" in printed
    assert (tmp_path / "report.html").exists()
