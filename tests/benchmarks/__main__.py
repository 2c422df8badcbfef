"""Compare the speed of minigrad with that of its peers: `python -m tests.benchmarks --help`.

Every implementation runs in a process of its own, in rounds that take turns (A B A B), so that a machine that is slow
for a while is slow for all. An implementation that computes something else is refused, not timed.
"""

import argparse
import collections
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from . import report
from .measure import IMPLEMENTATIONS, ON_GPU, REFERENCE
from .workloads import ON_GPU as WORKLOADS_ON_GPU
from .workloads import workloads

ROOT = Path(__file__).resolve().parents[2]
LIMIT = {"cpu": 900, "cuda": 240}  # seconds for one process: GPUs are lent for minutes


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Compare speed with other libraries."
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (cpu)")
    parser.add_argument("--precision", choices=("float32", "tf32"), default="float32",
                        help="of all matrix products on a GPU (float32)")  # fmt: skip
    parser.add_argument("--rounds", type=int, metavar="N",
                        help="processes for each implementation, and on the CPU workload (3; on a GPU 2)")  # fmt: skip
    parser.add_argument("--seconds", type=float, metavar="S", help="how long each process measures (2; on a GPU 0.5)")
    parser.add_argument("--only", default="", metavar="TEXT", help="the workloads whose names contain TEXT")
    parser.add_argument("--with", dest="chosen", action="append", choices=report.KNOWN, metavar="NAME",
                        help=f"an implementation, may be repeated: {', '.join(report.KNOWN)}")  # fmt: skip
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="an interpreter that has the peers")
    parser.add_argument("--threads", type=int, default=available_cores(), metavar="N", help="cores to use (all)")
    parser.add_argument("--json", metavar="FILE", help="write all figures, with the machine and the versions")
    parser.add_argument("--tables", metavar="FILE", help="print the tables of a file of --json, and measure nothing")
    parser.add_argument("--references", metavar="FILE",
                        help="keep there what all are compared with, for a run with another --precision")  # fmt: skip
    parser.add_argument("--chart", metavar="FILE", help="draw ratios and growth (needs matplotlib)")
    parser.add_argument(
        "--quick", action="store_true", help="an eighth of the sizes, a few calls: to try it, not to cite"
    )
    options = parser.parse_args(arguments)
    cpu = options.device == "cpu"
    options.rounds = options.rounds or (1 if options.quick else 3 if cpu else 2)
    options.seconds = options.seconds or (0.005 if options.quick else 2.0 if cpu else 0.5)
    implementations = IMPLEMENTATIONS if cpu else ON_GPU
    options.chosen = options.chosen or list(implementations)
    known = workloads(options.device)
    options.names = [name for name in (known if cpu or options.only else WORKLOADS_ON_GPU) if options.only in name]
    # mistakes are named now, and not after an hour
    if not options.names:
        parser.error(f"--only {options.only!r} is in no name; the workloads are:\n  " + "\n  ".join(known))
    if not set(options.chosen) <= set(implementations):
        parser.error(f"--device {options.device} has the implementations {', '.join(implementations)}")
    if cpu and options.precision != "float32":
        parser.error("--precision is for --device cuda; products on the CPU are in float32")
    if options.rounds < 1 or options.seconds <= 0 or not 1 <= options.threads <= available_cores():
        parser.error(f"expected at least 1 round, more than 0 seconds, and 1 to {available_cores()} threads")
    found = shutil.which(options.python)
    if found is None:
        parser.error(f"--python {options.python}: there is no such interpreter")
    options.python = os.path.abspath(found)  # processes run in the root of the project
    for file in filter(None, (options.json, options.references, options.chart)):
        if not Path(file).resolve().parent.is_dir():
            parser.error(f"{file}: its folder does not exist")
    if options.tables and not Path(options.tables).is_file():
        parser.error(f"--tables {options.tables}: there is no such file")
    if options.chart and Path(options.chart).suffix not in (".png", ".svg", ".pdf"):
        parser.error(f"--chart {options.chart}: expected a name that ends in .png, .svg or .pdf")
    if options.chart and importlib.util.find_spec("matplotlib") is None:
        parser.error("--chart needs matplotlib: pip install matplotlib")
    return options


def available_cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(threads, device="cpu", caches=None):
    """Return an environment in which every library uses this many threads.

    JAX has no setting for it: it takes the cores that the process may run on, which `main` limits where the system can.
    On a GPU what a library compiles in the first round may be kept in a folder for the next ones.
    """
    names = "OMP OPENBLAS MKL NUMBA".split()
    limits = {f"{name}_NUM_THREADS": str(threads) for name in names} | {"MINIGRAD_THREADS": str(threads)}
    others = {"JAX_PLATFORMS": "cpu", "TORCHINDUCTOR_COMPILE_THREADS": "1", "PYTHONPATH": str(ROOT)}
    if device != "cpu":
        others |= {"JAX_PLATFORMS": "cuda", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        others["TORCHINDUCTOR_COMPILE_THREADS"] = str(threads)
        others["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        for name, folder in (("JAX_COMPILATION_CACHE_DIR", "jax"), ("TORCHINDUCTOR_CACHE_DIR", "inductor")):
            others[name] = os.environ.get(name, f"{caches}/{folder}")
    return {**os.environ, **limits, **others}


def run(options, implementation, references):
    """Return what one process says about each workload of `references`; "failed" for those that it did not come to."""
    request = {key: getattr(options, key) for key in ("seconds", "quick", "device", "precision")}
    request["workloads"] = references
    command = [options.python, "-m", "tests.benchmarks.measure", implementation]
    limit = LIMIT[options.device]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:  # in which a process that is stopped leaves its lines
        try:
            done = subprocess.run(
                command, input=json.dumps(request), stdout=said, stderr=subprocess.PIPE, text=True, cwd=ROOT,
                timeout=limit, env=environment(options.threads, options.device, options.caches),
            )  # fmt: skip
            failure = f"exit status {done.returncode}: " + " | ".join(done.stderr.strip().splitlines()[-3:])
        except subprocess.TimeoutExpired:
            failure = f"no answer within {limit} s"
        said.seek(0)
        found = [json.loads(line) for line in said if line.startswith('{"workload"') and line.endswith("}\n")]
    answers = {answer.pop("workload"): answer for answer in found}
    return {name: answers.get(name, {"failed": failure}) for name in references}


def references_of(options, group):
    """Return what minigrad computes in float64, and counts, from the file where it has them: no card changes them."""
    known = workloads(options.device)
    keys = {name: f"{options.device} {known[name].quick() if options.quick else known[name]}" for name in group}
    file = Path(options.references) if options.references else None
    kept = json.loads(file.read_text(encoding="utf-8")) if file and file.exists() else {}
    missing = [name for name in group if keys[name] not in kept]
    for name, answer in run(options, REFERENCE, dict.fromkeys(missing)).items() if missing else ():
        if "numbers" not in answer:
            raise SystemExit(f"no reference for {name!r}: {answer}")
        kept[keys[name]] = answer
    if file:
        file.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    return {name: kept[key] for name, key in keys.items()}


def compare(options, everything, group):
    """Measure a group of workloads: one, or when in haste and on a GPU all in one process for each implementation.

    After every process the figures so far are written and told: an interrupted comparison is not lost.
    """
    references, results = references_of(options, group), everything["workloads"]
    for name, answer in references.items():
        results[name] = {implementation: [] for implementation in options.chosen}
        if "counts" in answer:
            everything["counts"][name] = answer["counts"]
    blamed = collections.Counter()  # the workloads in which a process ended: it did not come to those behind it
    for i in range(options.rounds):
        for implementation in options.chosen:
            answers = {name: results[name][implementation] for name in group}
            wanted = [n for n in group if all("median" in a or "failed" in a for a in answers[n])]
            if not wanted:
                continue
            # first what a process did not come to, and last where one ended
            wanted.sort(key=lambda n: (blamed[implementation, n], sum("median" in a for a in answers[n])))
            found = run(options, implementation, {name: references[name]["numbers"] for name in wanted})
            for name, answer in found.items():
                answers[name].append(answer)
            blamed.update((implementation, n) for n in [n for n in wanted if "failed" in found.get(n, {})][:1])
            if options.json:
                Path(options.json).write_text(json.dumps(everything, indent=1), encoding="utf-8")
            print(report.progress(i + 1, implementation, found), file=sys.stderr, flush=True)


def roof(options):
    """Return how fast the card multiplies and copies, measured in a process of its own."""
    command = [options.python, "-m", "tests.benchmarks.floors", options.device]
    env = environment(options.threads, options.device, options.caches)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=LIMIT[options.device], env=env)
    if done.returncode:
        raise SystemExit("minigrad cannot use the GPU: " + " | ".join(done.stderr.strip().splitlines()[-2:]))
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments=None):
    options = parse(arguments)
    if options.tables:
        everything = json.loads(Path(options.tables).read_text(encoding="utf-8"))
        print(report.heading(everything["machine"], everything.get("roof")))
        print("\n".join(report.table(name, result) for name, result in everything["workloads"].items()))
    else:
        with tempfile.TemporaryDirectory() as options.caches:
            everything = compare_all(options)
    results, precision = everything["workloads"], everything["machine"]["precision"]
    print(report.summary(results))
    if everything.get("roof"):
        print("\n" + report.floors(results, everything["counts"], everything["roof"], precision))
    if options.chart:
        report.chart(results, options.chart)
    answers = [a for result in results.values() for answers in result.values() for a in answers]
    return 1 if any("refused" in a or "failed" in a for a in answers) else 0


def compare_all(options):
    """Measure everything, and print the table of each workload when it is there."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    everything = {"machine": report.machine(options), "workloads": {}}
    if options.device != "cpu":
        everything |= {"roof": roof(options), "counts": {}}
    print(report.heading(everything["machine"], everything.get("roof")), flush=True)
    together = options.quick or options.device != "cpu"
    for group in [options.names] if together else [[name] for name in options.names]:
        compare(options, everything, group)
        for name in group:
            print(report.table(name, everything["workloads"][name]), flush=True)
    return everything


if __name__ == "__main__":
    sys.exit(main())
