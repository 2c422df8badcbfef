"""Compare minigrad with the installed peers: each in its own process, rounds interleaved.

`python -m tests.benchmarks [--rounds N] [--python PATH]`: PATH is an interpreter that has the peers, if not this one.
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
    options = parser.parse_args()
    for name in WORKLOADS:
        seconds = {library: [] for library in LIBRARIES}
        for _ in range(options.rounds):
            for library in LIBRARIES:
                if seconds[library] is not None:
                    figure = measure(options.python, name, library)
                    seconds[library] = None if figure is None else [*seconds[library], figure]
        ours = statistics.median(seconds["minigrad"])
        print(f"{name}: microseconds, {options.rounds} rounds\n{'':10} {'median':>8} {'min':>8} {'minigrad/it':>12}")
        for library, figures in seconds.items():
            if figures is None:
                print(f"{library:10} not installed")
                continue
            median = statistics.median(figures)
            print(f"{library:10} {median * 1e6:8.2f} {min(figures) * 1e6:8.2f} {ours / median:12.2f}")


if __name__ == "__main__":
    main()
