"""The search behind the table of Rifai et al. in docs/results.md: it can be repeated, and goes on from its file."""

import json

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from minigrad.errors import DivergenceError
from tests import rifai


@pytest.fixture(scope="module")
def data():
    d = ae.datasets.digits()
    return rifai.Split(d.x_train[:300], d.y_train[:300], d.x_train[300:400], d.y_train[300:400], d.x_test, d.y_test)


def test_trials_are_drawn_from_their_number_and_within_their_range():
    for name, variant in rifai.VARIANTS.items():
        drawn = [rifai.draw(name, i, 0) for i in range(30)]
        assert drawn == [rifai.draw(name, i, 0) for i in range(30)]
        assert len({t["rate"] for t in drawn}) == 30
        assert all(variant.low <= t["strength"] <= max(variant.high, variant.low) for t in drawn)
    assert rifai.draw("CAE", 0, 0) != rifai.draw("CAE", 0, 1)


def test_a_search_takes_turns_goes_on_from_its_file_and_gives_a_table(data, tmp_path):
    file, sizes = tmp_path / "trials.json", {"units": 12, "shorter": 50}
    first = rifai.search(data, 1e-9, list(rifai.VARIANTS), 0, file, lambda text: None, **sizes)
    assert len(first) == 1  # one is always begun before time is up
    for _ in range(5):
        trials = rifai.search(data, 1e-9, list(rifai.VARIANTS), 0, file, lambda text: None, **sizes)
    assert [t["model"] for t in trials] == [*rifai.VARIANTS, "CAE"] and trials[-1]["number"] == 1
    assert json.loads(file.read_text())["trials"] == trials
    again = rifai.trial(data, "CAE", rifai.draw("CAE", 0, 0, shorter=50), units=12)
    for key in ("loss", "jacobian", "saturated", "validation_error", "test_error"):
        assert again[key] == trials[0][key]
    rows = rifai.table(trials, len(data.x_test)).splitlines()[4:]
    assert [row.split("|")[1].strip() for row in rows] == list(rifai.VARIANTS)
    best = rifai.best(trials)["CAE"]
    assert best["validation_error"] == min(t["validation_error"] for t in trials if t["model"] == "CAE")


def test_a_trial_tells_how_it_was_made_and_a_search_goes_on_only_with_its_like(data, tmp_path):
    file = tmp_path / "trials.json"
    (first,) = rifai.search(data, 1e-9, ["AE"], 0, file, lambda text: None, units=12, shorter=50)
    made = {"device": mg.devices.default_device().type, "precision": "float32", "units": 12, "shorter": 50}
    assert made.items() <= first.items() and first["epochs"] in (1, 2) and first["tuning_epochs"] == 1
    with pytest.raises(SystemExit, match=r"trials with .*'shorter': 50.* not with .*'shorter': 1}.*another file"):
        rifai.search(data, 1e-9, ["AE"], 0, file, units=12)
    assert "shorter 50" in rifai.table([first]).splitlines()[0]


def test_a_trial_that_diverges_is_told_and_counted(data, tmp_path, monkeypatch):
    def diverge(*arguments):
        raise DivergenceError("the loss is nan")

    monkeypatch.setattr(rifai, "trial", diverge)
    told = []
    trials = rifai.search(data, 1e-9, ["AE"], 0, tmp_path / "trials.json", told.append)
    assert "AE 0:" in told[0] and "diverged: the loss is nan" in told[0]
    assert rifai.table(trials).startswith("1 trials, 1 diverged; ")


def test_in_no_time_the_table_of_a_file_is_printed_and_nothing_computed(data, tmp_path, monkeypatch, capsys):
    file = tmp_path / "trials.json"
    trials = rifai.search(data, 1e-9, ["AE"], 0, file, lambda text: None, units=12, shorter=50)
    before = file.read_bytes()
    monkeypatch.setattr(rifai, "mnist", lambda: pytest.fail("no data are needed"))
    rifai.main(["--seconds", "0", "--json", str(file)])
    assert capsys.readouterr().out == rifai.table(trials) + "\n" and file.read_bytes() == before


def test_the_objectives_are_the_ones_that_the_table_names(data):
    model, x = ae.Autoencoder((64, 12), output="sigmoid", tied=True), mg.tensor(data.x[:20])
    losses = {}
    for name, variant in rifai.VARIANTS.items():
        mg.random.seed(0)
        found = variant.objective(model, x, strength=0.5)
        losses[name] = found["cross entropy"].item() if isinstance(found, dict) else found.item()
    assert losses["CAE"] == losses["AE+wd"] == losses["AE"]
    assert min(losses["DAE-b"], losses["DAE-g"]) > losses["AE"] - 5.0
    assert len({losses["DAE-b"], losses["DAE-g"], losses["AE"]}) == 3
    np.testing.assert_allclose(
        rifai.contractive(model, x, 0.5)["contraction"].item(), 0.5 * ae.contractive(model.encode, x, "exact").item(),
        rtol=1e-5,
    )  # fmt: skip
