"""The speed comparison runs, refuses to time what computes something else, and names what it leaves out.

Speed itself is not asserted: a machine that is busy is no reason to fail.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import minigrad as mg
from tests import standin
from tests.benchmarks import __main__ as command
from tests.benchmarks import floors, minigrad_steps, numpy_updates, report
from tests.benchmarks.__main__ import parse
from tests.benchmarks.measure import REFERENCE, TOLERANCE, difference, measure
from tests.benchmarks.workloads import GROWTH_NAME, ON_GPU, WORKLOADS, arrays

ROOT = Path(__file__).resolve().parents[1]
LECTURE = "784-500-784, batch 128"
EVALUATION = "L-BFGS 64-25-64, 10,000 patches, value and gradient"
BY_HAND = [w.name for w in WORKLOADS.values() if w.kind == "dense" and w.penalty in ("", "sparse")]
TRAINED = [w.name for w in WORKLOADS.values() if w.kind in ("dense", "convolutional")]


def compare(*arguments):
    """Run the comparison as a user does, on one core, and return what it prints."""
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--threads", "1", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_figures(result, implementation):
    (answer,) = result[implementation]
    assert 0 < answer["minimum"] <= answer["median"] and answer["calls"] >= 5 and answer["memory"] >= 0


def test_every_workload_has_a_row_in_the_table_and_in_the_file(tmp_path):
    printed = compare("--with", "minigrad", "--with", "NumPy by hand", "--json", tmp_path / "figures.json")
    results = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["workloads"]
    summary = printed[printed.index("### All workloads") :]
    assert list(results) == list(WORKLOADS)
    for name, result in results.items():
        assert f"### {name}\n" in printed and f"| {name} |" in summary
        check_figures(result, "minigrad")
    for name in BY_HAND:
        check_figures(results[name], "NumPy by hand")
    assert results["chain of 100 operations, 10 elements, per operation"]["NumPy by hand"] == [
        {"left_out": "not written by hand"}
    ]


@pytest.mark.parametrize("name", [LECTURE, "contractive, Hutchinson, 784-500-784, batch 128", EVALUATION])
def test_compiled_steps_are_measured(name, monkeypatch):
    monkeypatch.setattr(minigrad_steps, "available", lambda: False)  # compiling would take longer than all else
    reference = measure(name, REFERENCE, 0, quick=True)["numbers"]
    check_figures({"it": [measure(name, "minigrad compiled", 0, True, reference)]}, "it")


@pytest.mark.parametrize("names", [list(WORKLOADS), [LECTURE], [GROWTH_NAME.format(128)]], ids=["all", "one", "growth"])
def test_the_chart_draws_what_there_is(names, tmp_path):
    answers = [{"median": 1e-3, "minimum": 1e-3, "memory": 0, "version": "1"}]
    results = {name: {"minigrad": answers, "JAX": answers, "MyGrad": [{"left_out": "why"}]} for name in names}
    report.chart(results, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 5_000


@pytest.mark.parametrize("name", TRAINED)
def test_three_updates_change_the_loss_far_more_than_the_check_allows(name):
    losses = np.array(measure(name, REFERENCE, 0, quick=True)["numbers"]).ravel()
    assert (np.diff(losses) < 0).all() and losses[0] - losses[3] > 100 * TOLERANCE * losses[0]


def only_weights(parameters, lr):
    return numpy_updates.sgd([p if p.ndim > 1 else p.copy() for p in parameters], lr)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda parameters, lr: lambda gradients: None,
        lambda parameters, lr: numpy_updates.sgd(parameters, np.float32(1.05) * lr),
        only_weights,
    ],
    ids=["no update", "5 % too long", "no biases"],
)
def test_a_wrong_update_is_refused_and_not_timed(wrong, monkeypatch):
    reference = measure(LECTURE, REFERENCE, 0, quick=True)["numbers"]
    assert "median" in measure(LECTURE, "NumPy by hand", 0, True, reference)
    monkeypatch.setattr(numpy_updates, "make", lambda optimizer, parameters, lr: wrong(parameters, np.float32(lr)))
    answer = measure(LECTURE, "NumPy by hand", 0, True, reference)
    assert list(answer) == ["refused"] and "off by" in answer["refused"]


def test_lbfgs_may_take_another_path_but_must_come_as_far_down():
    workload = next(w for w in WORKLOADS.values() if w.kind == "lbfgs")
    reference = [[2.0, 1.0, 22.0]]  # first loss, last loss, evaluations
    assert not difference(workload, [[2.0, 0.9, 40.0]], reference)
    assert not difference(workload, [[2.0, 1.05, 20.0]], reference)
    for wrong in ([2.0, 1.2, 22.0], [2.1, 1.0, 22.0], [2.0, float("nan"), 22.0]):
        assert difference(workload, [wrong], reference)


def test_a_library_that_is_missing_is_left_out_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "mygrad", None)
    monkeypatch.delitem(sys.modules, "tests.benchmarks.mygrad_steps", raising=False)
    answer = measure(LECTURE, "MyGrad", 0, quick=True)
    assert answer == {"left_out": "mygrad is not installed"}
    assert "Left out: MyGrad (mygrad is not installed)." in report.table(LECTURE, {"MyGrad": [answer]})


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize backend 'cuda'")])
def test_jax_without_a_gpu_is_left_out_and_not_refused(error, monkeypatch):
    """It raises the one where it was not installed for CUDA, and the other where there is no GPU."""

    def fail():
        raise error

    jax = pytest.importorskip("jax")
    monkeypatch.setattr(jax, "default_backend", fail)
    answer = measure(LECTURE, "JAX", 0, quick=True, device="cuda")
    assert answer == {"left_out": "JAX finds no GPU, or was not installed for CUDA"}


def test_ratios_are_of_medians_and_code_by_hand_is_no_library():
    def rounds(*seconds):
        return [{"median": s, "minimum": s / 2, "memory": 2**20, "version": "1"} for s in seconds]

    result = {"minigrad compiled": rounds(1e-6, 3e-6, 2e-6), "JAX": rounds(4e-6), "NumPy by hand": rounds(1e-6)}
    result["PyTorch"] = [*rounds(1e-6), {"refused": "off"}]  # refused in one round: no figures
    table = report.table("w", result)
    assert "| JAX | 4.00 | 2.00 |  | 0.50 | 1.0 |" in table
    assert "Fastest peer: JAX; minigrad compiled takes 0.50 of its time." in table
    assert "REFUSED: PyTorch, off" in table and "| PyTorch |" not in table


@pytest.mark.skipif(os.name != "posix", reason="a script takes the place of an interpreter")
@pytest.mark.parametrize(("ending", "why"), [("exec sleep 60", "no answer within 1 s"), ("exit 3", "exit status 3: ")])
def test_a_process_that_fails_or_is_stopped_keeps_what_it_has_measured(ending, why, tmp_path, monkeypatch):
    monkeypatch.setitem(command.LIMIT, "cpu", 1)
    python = tmp_path / "python"
    python.write_text(f"""#!/bin/sh\ncat > {tmp_path}/request\necho '{{"workload": "a", "median": 2.0}}'\n{ending}\n""")
    python.chmod(0o700)
    options = parse(["--python", str(python)])
    options.caches = tmp_path
    assert command.run(options, "JAX", {"a": [1], "b": [1]}) == {"a": {"median": 2.0}, "b": {"failed": why}}


def test_a_workload_that_ends_its_process_every_time_costs_the_others_one_round(monkeypatch):
    def run(options, implementation, references):
        found, dead = {}, False
        for name in references:
            dead |= name == "C"
            found[name] = {"failed": "exit status -11"} if dead else {"median": 1e-6}
        return found

    monkeypatch.setattr(command, "references_of", lambda options, group: {name: {"numbers": []} for name in group})
    monkeypatch.setattr(command, "run", run)
    options, everything = SimpleNamespace(chosen=["minigrad"], rounds=5, json=None), {"workloads": {}, "counts": {}}
    command.compare(options, everything, list("abCde"))
    figures = {n: sum("median" in a for a in found["minigrad"]) for n, found in everything["workloads"].items()}
    assert figures == {"a": 5, "b": 5, "C": 0, "d": 4, "e": 4}


def test_an_interrupted_comparison_has_written_every_process_and_tries_again_what_failed(tmp_path, monkeypatch, capsys):
    figure, file, asked = {"median": 1e-6, "minimum": 1e-6, "version": "1"}, tmp_path / "figures.json", []
    said = [
        {LECTURE: {"numbers": [1.0]}, EVALUATION: {"numbers": [1.0]}},
        {LECTURE: figure, EVALUATION: {"failed": "no answer"}},
        {LECTURE: figure, EVALUATION: figure},
    ]

    def run(options, implementation, references):
        asked.append(list(references))
        if len(asked) > len(said):
            raise KeyboardInterrupt
        return said[len(asked) - 1]

    monkeypatch.setattr(command, "run", run)
    arguments = ["--quick", "--rounds", "3", "--with", "minigrad", "--json", str(file)]
    monkeypatch.setattr(command, "workloads", lambda device: {n: WORKLOADS[n] for n in (LECTURE, EVALUATION)})
    with pytest.raises(KeyboardInterrupt):
        command.main(arguments)
    both = [LECTURE, EVALUATION]
    assert asked == [both] * 4  # what failed is tried again
    assert f"round 2, minigrad: {LECTURE}: 1.00; {EVALUATION}: 1.00\n" in capsys.readouterr().err
    assert command.main(["--tables", str(file)]) == 1
    printed = capsys.readouterr().out
    assert f"| {EVALUATION} | 1.00 |" in printed and "FAILED in 1 of 2 rounds: minigrad, no answer" in printed


def test_references_are_kept_for_a_run_with_another_precision(tmp_path, monkeypatch):
    asked = []

    def run(options, implementation, references):
        asked.append(list(references))
        return {name: {"numbers": [1.0]} for name in references}

    monkeypatch.setattr(command, "run", run)
    options = parse(["--quick", "--references", str(tmp_path / "references.json")])
    for names in ([LECTURE], [LECTURE, EVALUATION], [LECTURE, EVALUATION]):
        assert list(command.references_of(options, names)) == names
    assert asked == [[LECTURE], [EVALUATION]]
    options.quick = False  # other sizes
    command.references_of(options, [LECTURE])
    assert asked[2:] == [[LECTURE]]


def test_a_gpu_that_minigrad_cannot_use_is_told_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "run", lambda *arguments: pytest.fail("nothing is to be computed"))
    with pytest.raises(SystemExit, match="minigrad cannot use the GPU: .*"):
        command.main(["--device", "cuda", "--python", "false"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tables", "no/such/file"], "no such file"),
        (["--only", "no such"], "denoising 784-500-784"),
        (["--with", "Numpy"], "NumPy by hand"),
        (["--python", "no/such/python"], "no such interpreter"),
        (["--json", "no/such/folder/f.json"], "folder does not exist"),
        (["--chart", "chart.jpg2"], "ends in .png"),
        (["--rounds", "-1"], "at least 1 round"),
        (["--threads", "0"], "threads"),
        (["--device", "cuda", "--with", "MyGrad"], "PyTorch graph"),
        (["--with", "PyTorch graph"], "MyGrad"),
        (["--precision", "tf32"], "for --device cuda"),
    ],
)
def test_mistakes_on_the_command_line_are_named_before_anything_runs(arguments, message, capsys):
    with pytest.raises(SystemExit):
        parse(arguments)
    assert message in capsys.readouterr().err


def test_on_a_gpu_steps_are_timed_many_at_once_and_must_give_the_same_numbers(monkeypatch):
    """As far as the stand-in goes: it has neither events nor streams."""
    waits = []
    monkeypatch.setattr(minigrad_steps, "synchronize", lambda: waits.append(1))
    monkeypatch.setattr(minigrad_steps, "stamp", lambda: len(waits))
    monkeypatch.setattr(minigrad_steps, "seconds_between", lambda start, end: 5.0)
    monkeypatch.setattr(minigrad_steps, "device_memory", lambda: 2**20)
    with standin.machine(), mg.use_device("cpu"), minigrad_steps._place:
        for name in (LECTURE, "784-1000-784, batch 4096"):
            reference = measure(name, REFERENCE, 0, True, device="cuda")
            for implementation in ("minigrad", "minigrad compiled"):
                waits.clear()
                got = measure(name, implementation, 0.001, True, reference["numbers"], "cuda")
                assert got["calls"] >= 5 * 5 and got["device"] > 0 and got["memory"] == 2**20
                assert len(waits) < got["calls"]
            wrong = [[2 * loss for loss in losses] for losses in reference["numbers"]]
            assert "off by" in measure(name, "minigrad", 0.001, True, wrong, "cuda")["refused"]


def test_torch_compile_compiles_each_workload_for_its_sizes_and_reads_parameters_in_place(monkeypatch):
    """Many workloads are measured in one process on a GPU; a symbol is a size that may be any."""
    torch = pytest.importorskip("torch")
    from tests.benchmarks import pytorch_steps

    compile, graphs = torch.compile, []

    def backend(graph, inputs):
        graphs.append([node.meta for node in graph.graph.nodes if node.op == "placeholder"])
        return graph

    monkeypatch.setattr(torch, "compile", lambda f, mode: compile(f, backend=backend))
    for workload in (w.quick() for w in ON_GPU.values()):
        graphs.clear()
        given = arrays(workload)
        step, _ = pytorch_steps.make(workload, given, "compile")
        step(), step()
        (inputs,) = graphs
        shapes = sorted(tuple(meta["example_value"].shape) for meta in inputs)
        assert shapes == sorted(a.shape for a in (given.x, *given.weights, *given.biases))
        in_place = [bool(meta["tensor_dict"].get("_dynamo_static_input_type")) for meta in inputs]
        assert sum(in_place) == len(inputs) - 1  # all but the batch


def test_a_workload_begins_with_the_memory_of_the_gpu_that_the_one_before_it_held_given_back():
    workload, before = WORKLOADS[LECTURE].quick(), standin.memory.freed
    with standin.machine(), mg.use_device("cuda"):
        minigrad_steps.make(workload, arrays(workload), "eager")
    assert standin.memory.freed == before + 1


def test_the_operations_and_bytes_of_a_step_are_those_that_one_counts_by_hand():
    workload = WORKLOADS[LECTURE]
    m, n, k = workload.batch, *workload.sizes
    found = floors.count(*minigrad_steps.training_step(workload, arrays(workload)))
    assert found["operations"] == 5 * 2 * m * n * k  # two forward; backward no gradient of x is needed
    weights, code, image = n * k, m * k, m * n
    # what each product reads and writes: x W, h V, and back
    assert found["product_bytes"] == 4 * sum(
        [image + weights + code, code + weights + image, code + image + weights, image + weights + code]
        + [image + code + weights]
    )
    # the update reads parameters and gradients, and writes parameters; activations are read and written besides
    assert 4 * 3 * 2 * weights < found["other_bytes"] < 4 * (3 * 2 * weights + 10 * (code + image))


def test_the_percentages_are_those_of_the_card():
    roof = {"float32": 1e12, "tf32": 4e12, "bytes": 1e12, "card": "a card"}
    counts = {"w": {"operations": 8e6, "product_bytes": 0, "other_bytes": 2e6}}  # 8 + 2 microseconds
    results = {"w": {"JAX": [{"median": 20e-6, "minimum": 20e-6, "version": "1"}]}}
    assert "| w | 0.01 | 1.9 | 10.0 | 50 |" in report.floors(results, counts, roof, "float32")
    assert "| w | 0.01 | 1.9 | 4.0 | 20 |" in report.floors(results, counts, roof, "tf32")
    assert "| JAX | 20.00 | 20.00 |  |  |  |" in report.table("w", results["w"])


def test_the_workloads_of_a_gpu_are_those_of_the_cpu_and_larger_batches():
    assert max(w.batch for w in ON_GPU.values()) == 16384
    assert parse(["--device", "cuda"]).names == list(ON_GPU)
    assert parse(["--device", "cuda", "--only", "denoising"]).names == ["denoising 784-500-784, batch 128"]
