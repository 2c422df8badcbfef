"""Compare minigrad with the installed peers: each in its own process, rounds interleaved.

`python -m tests.benchmarks [--rounds N] [--python PATH] [--only TEXT] [--json FILE]`: PATH is an interpreter that has
the peers, if not this one; TEXT is a part of the names of the workloads to run.
"""

import argparse
import json
import statistics
import subprocess
import sys

from .workloads import LIBRARIES, WORKLOADS


def measure(python, name, library):
    command = [python, "-m", "tests.benchmarks.workloads", name, library]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and "ModuleNotFoundError" in done.stderr:
        return None
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--only", default="")
    parser.add_argument("--json")
    options = parser.parse_args()
    results = {}
    for name in WORKLOADS:
        if options.only not in name:
            continue
        seconds = {library: [] for library in LIBRARIES}
        for _ in range(options.rounds):
            for library in LIBRARIES:
                if seconds[library] is not None:
                    figure = measure(options.python, name, library)
                    seconds[library] = None if figure is None else [*seconds[library], figure]
        results[name] = {library: figures for library, figures in seconds.items() if figures}
        ours = statistics.median(seconds["minigrad compiled"])
        print(f"{name}: microseconds, {options.rounds} rounds\n{'':18} {'median':>9} {'min':>9} {'compiled/it':>12}")
        for library, figures in results[name].items():
            median = statistics.median(figures)
            print(f"{library:18} {median * 1e6:9.2f} {min(figures) * 1e6:9.2f} {ours / median:12.2f}")
        left_out = [library for library in LIBRARIES if library not in results[name]]
        print(f"not installed, or without this workload: {', '.join(left_out)}\n" if left_out else "", flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
