"""The lecture: its numbers obey the exact floors, the report shows them, and what cannot work stops it at once."""

import json
import sys

import numpy as np
import pytest

import autoencoders as ae
from autoencoders import lecture
from autoencoders.cli import main
from autoencoders.lecture import Settings
from minigrad.errors import MissingDependencyError

TINY = Settings(12, 4, 0.25, 128, 2, 2, (2, 1), (3e-3, 3e-4))
ERRORS = ("error_train", "error_test", "error_test_from_corrupted")


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
    assert f"{numbers['pca']['floor_train']:.3f} for k = 4" in html
    for name in ("pca", "linear", "plain", "denoising"):
        cells = "".join(f"<td>{numbers[name][key]:.3f}</td>" for key in ERRORS)
        assert html.count(cells) == 1, name
    assert html.count("data:image/png;base64,") == 5
    assert "http" not in html  # self-contained


def test_the_lecture_obeys_the_floors(tiny_results):
    numbers = tiny_results.numbers
    assert numbers["linear"]["error_train"] >= numbers["pca"]["floor_train"]
    assert numbers["linear"]["error_train"] < numbers["curves"]["linear"][-1]  # the last epoch's mean, while it fell
    assert min(numbers["curves"]["plain"]) >= numbers["cross_entropy_floor_train"]
    assert numbers["curves"]["linear"] == sorted(numbers["curves"]["linear"], reverse=True)


def test_the_errors_are_those_of_the_exact_answer(tiny_results):
    data, errors = ae.datasets.digits(), tiny_results.numbers["pca"]
    exact = ae.pca.linear_autoencoder(data.x_train, 4)
    assert errors["error_train"] == pytest.approx(errors["floor_train"], rel=1e-10)
    assert errors["error_test"] == pytest.approx(np.sum((exact(data.x_test) - data.x_test) ** 2) / 359, rel=1e-10)
    assert errors["error_test_from_corrupted"] > errors["error_test"]


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


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_is_named_before_any_training(package, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(lecture, "run", lambda *args, **kwargs: pytest.fail("it trained"))
    with pytest.raises(MissingDependencyError, match=f"needs {package}: pip install"):
        lecture.prepare(tmp_path)
    assert main(["lecture", "--out", str(tmp_path)]) == 2
    assert f"autoencoders lecture: the report needs {package}: pip install" in capsys.readouterr().err


def test_preparing_makes_the_folder_and_leaves_it_empty(tmp_path):
    assert list(lecture.prepare(tmp_path / "a" / "b").iterdir()) == []
