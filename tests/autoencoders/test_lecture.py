"""The lecture: its numbers obey the exact laws, the report shows them, and what cannot work stops it at once."""

import dataclasses
import io
import json
import re
import sys

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from autoencoders import lecture
from autoencoders.cli import main
from autoencoders.lecture import contraction, decay, decoders, denoising, principal
from autoencoders.lecture import report as report_module
from autoencoders.lecture.section import Formula
from autoencoders.lecture.walk import DEAD, Walk
from minigrad.errors import MissingDependencyError

pytest.importorskip("jinja2")
TINY = dataclasses.replace(
    lecture.SETTINGS["digits"], hidden=12, epochs=2, batch_size=128, narrow=6, rank=4, ranks=(2, 4), wide=70, few=40,
    linear_epochs=(2, 1), few_epochs=3, decays=(1e-2,), patches=300, patch_epochs=1, toy_epochs=10,
)  # fmt: skip
MODELS = ["plain", "masking 25%", "masking 50%", "weight decay", "tied weights", "sparse", "contractive"]


@pytest.fixture(scope="module")
def said():
    return []


@pytest.fixture(scope="module")
def tiny_results(said):
    return lecture.run("digits", 0, TINY, said.append)


@pytest.fixture(scope="module")
def report(tiny_results, tmp_path_factory):
    return lecture.write(tiny_results, tmp_path_factory.mktemp("report") / "new" / "folder")


def test_every_module_of_the_lecture_is_there_with_formula_and_figure(tiny_results):
    assert [section.number for section in tiny_results.sections] == [f"7.{i}" for i in range(1, 8)]
    for section in tiny_results.sections:
        kinds = {block.kind for block in section.blocks}
        assert "plot" in kinds
        assert section.number == "7.7" or "formula" in kinds


def test_the_report_is_one_file_that_shows_what_was_run(tiny_results, report):
    html = report.read_text(encoding="utf-8")
    numbers = json.loads((report.parent / "results.json").read_text())
    assert numbers == json.loads(json.dumps(tiny_results.numbers))
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", html)  # self-contained
    plots = [block for section in tiny_results.sections for block in section.blocks if block.kind == "plot"]
    assert html.count("data:image/png;base64,") == len(plots)
    assert "def gradients_by_hand(x, W, b, D, c, binary):" in html and "mg.sigmoid(x @ W + b)" in html
    for n in numbers["7.7"]["models"].values():
        assert f"<td>{n['error test']:.2f}</td>" in html and f"<td>{n['accuracy']:.2%}</td>" in html
    assert f"the floor is {numbers['7.2']['floor']:.3f}" in html


def test_a_formula_shows_the_source_of_the_function_that_runs():
    formula = Formula(("$x$",), decoders.decode_real)
    assert formula.source == "def decode_real(h, W, c):\n    return h @ W + c"


def test_the_numbers_obey_the_floors(tiny_results):
    n = tiny_results.numbers["7.2"]
    for by_rank in n["errors_by_rank"].values():
        for rank, error in by_rank.items():
            assert error >= n["floors"][rank] * (1 - 1e-6)  # float32
    data = ae.datasets.digits()
    assert n["floors"]["4"] == pytest.approx(ae.pca.reconstruction_floor(data.x_train, 4), rel=1e-12)
    exact = ae.pca.linear_autoencoder(data.x_train, 4)
    assert n["errors"]["PCA"]["train"] == pytest.approx(n["floor"], rel=1e-10)
    assert n["errors"]["PCA"]["test"] == pytest.approx(np.sum((exact(data.x_test) - data.x_test) ** 2) / 359, rel=1e-10)
    assert n["covariance_difference"] < 1e-15 and n["directions_angle_degrees"] < 1e-6


def test_every_training_is_told_before_it_begins(tiny_results, said):
    """With MNIST one takes half a minute: several without a word look as if it hung."""
    for kind in ("binary", "real"):
        for output in decoders.DECODERS:
            assert sum(text.startswith(f"7.1 {kind} inputs, {output} decoder: ") for text in said) == 1
    assert len(said) == len(set(said))


def test_what_the_texts_say_of_numbers_is_true_of_these(tiny_results, report):
    html = report.read_text(encoding="utf-8")
    for name, e in tiny_results.numbers["7.4"]["errors"].items():
        worse = e["test"] > e["from corrupted"]
        assert (f"{name.capitalize()} does worse from clean input" in html) == worse
    assert f"sorted. Dead: units never above {DEAD}.</figcaption>" in html


def test_the_data_are_decomposed_once(monkeypatch):
    calls, decompose = [], ae.pca.principal_components
    monkeypatch.setattr(ae.pca, "principal_components", lambda X: calls.append(X.shape) or decompose(X))
    walk = Walk("digits", 0, TINY, lambda text: None)
    for section in (principal, decay):
        section.section(walk)
    assert calls == [walk.train.shape]


def test_the_nearest_image_of_the_same_class_is_found():
    walk = Walk("digits", 0, TINY, lambda text: None)
    x, labels = walk.test[:30], walk.data.y_test[:30]
    along, _ = contraction._directions(walk, x)
    for row, label, direction in zip(x, labels, along, strict=True):
        same = walk.train[walk.data.y_train == label]
        step = min(same, key=lambda image: ((image - row) ** 2).sum()) - row
        np.testing.assert_allclose(direction, step / np.linalg.norm(step), rtol=1e-5, atol=1e-7)


def test_gradients_and_closed_forms_agree(tiny_results):
    numbers = tiny_results.numbers
    assert max(numbers["7.1"]["gradient_differences"].values()) < 1e-14
    assert numbers["7.5"]["gradient_difference"] < 1e-13
    assert numbers["7.6"]["closed form"] == pytest.approx(numbers["7.6"]["whole Jacobian"], rel=1e-5)
    optimum = numbers["7.3"]["linear optimum"]
    assert optimum["floor"] * (1 - 1e-12) <= optimum["reached"] < optimum["floor"] * (1 + 1e-4)


def test_the_last_table_compares_every_model(tiny_results):
    compared = tiny_results.numbers["7.7"]["models"]
    assert sorted(compared) == sorted(MODELS)
    assert compared["masking 25%"] != compared["plain"]


def test_the_lecture_is_reproducible(tiny_results):
    again = lecture.run("digits", 0, TINY, lambda text: None).numbers
    assert {**again, "seconds": 0} == {**tiny_results.numbers, "seconds": 0}


def test_the_command_prints_the_table_and_where_the_report_is(tiny_results, tmp_path, capsys, monkeypatch):
    def run(data, seed, say, so_far):
        so_far(tiny_results)
        return tiny_results

    monkeypatch.setattr(lecture, "run", run)
    assert main(["lecture", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "takes about a minute" in printed and "accuracy on codes" in printed
    assert str(tmp_path / "report.html") in printed
    for name in MODELS:
        assert name in printed
    assert (tmp_path / "report.html").exists()


def test_what_is_finished_is_on_disk_after_each_module(tiny_results, tmp_path, capsys, monkeypatch):
    """Ctrl-C in the third module leaves the first two, and the message says where."""
    run = lecture.run

    def interrupt(walk):
        raise KeyboardInterrupt

    def tiny(data, seed, say, so_far):
        return run(data, seed, TINY, lambda text: None, so_far)

    monkeypatch.setattr(lecture, "run", tiny)
    monkeypatch.setattr(denoising, "section", interrupt)
    assert main(["lecture", "--out", str(tmp_path)]) == 130
    words = f"autoencoders lecture: interrupted; 2 of 7 modules are finished, see {tmp_path / 'report.html'}\n"
    assert capsys.readouterr().err == words
    numbers = json.loads((tmp_path / "results.json").read_text())
    assert numbers["modules"] == "2 of 7" and "7.3" not in numbers
    assert numbers["7.2"].keys() == tiny_results.numbers["7.2"].keys()
    assert numbers["7.2"]["floor"] == tiny_results.numbers["7.2"]["floor"]
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "not complete: 2 of 7 modules" in html and 'id="s7.2"' in html and 'id="s7.3"' not in html
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "results.json"]


def test_what_the_command_says_leaves_the_process_at_once(tmp_path, monkeypatch):
    """What waited in a buffer would be lost where a time limit ends the process."""
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe))

    def run(data, seed, say, so_far):
        say("7.1 decoders")
        assert pipe.getvalue().decode().splitlines()[1:] == ["7.1 decoders"]
        raise KeyboardInterrupt

    monkeypatch.setattr(lecture, "run", run)
    assert main(["lecture", "--out", str(tmp_path)]) == 130


def test_ctrl_c_before_the_first_module_is_done_names_no_report(tmp_path, capsys, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(lecture, "run", interrupt)
    assert main(["lecture", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "autoencoders lecture: interrupted\n"


def test_a_report_that_is_written_again_draws_nothing_twice(tiny_results, tmp_path, monkeypatch):
    """After each module, on digits, drawing all again would take as long as a module."""
    both = lecture.Report(tmp_path)
    both.write(lecture.Results(tiny_results.sections[:2], tiny_results.numbers))
    drawn = dict(both._drawn)
    first = both.write(tiny_results).read_bytes()
    assert drawn.items() < both._drawn.items()
    monkeypatch.setattr(report_module, "_picture", lambda figure: pytest.fail("drawn again"))
    monkeypatch.setattr(report_module, "_formula", lambda latex: pytest.fail("drawn again"))
    assert both.write(tiny_results).read_bytes() == first
    assert b"not complete" not in first


def test_help_says_how_long_it_takes(capsys):
    with pytest.raises(SystemExit):
        main(["lecture", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "mnist takes about 4 minutes on two idle cores with llvmlite" in words and "Ctrl-C keeps" in words


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


@pytest.mark.gpu
def test_the_lecture_on_a_gpu_has_the_numbers_of_the_cpu(tiny_results):
    with mg.use_device("cuda"):
        there = lecture.run("digits", 0, TINY, lambda text: None).numbers
    for name, expected in tiny_results.numbers["7.7"]["models"].items():
        got = there["7.7"]["models"][name]
        for what in ("error test", "jacobian", "mean activation"):
            assert got[what] == pytest.approx(expected[what], rel=0.02), (name, what)
