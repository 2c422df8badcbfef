"""One implementation, checked and timed in this process: `python -m tests.benchmarks.measure NAME < requests`.

The standard input is JSON, {"seconds": s, "quick": bool, "workloads": {name: reference numbers or null}}; the standard
output has one JSON object a line for each of them.
"""

import gc
import importlib
import json
import resource
import statistics
import sys
import time

import numpy as np

from .workloads import WORKLOADS, LeftOut, arrays

# module and flavour of what is compared
IMPLEMENTATIONS = {
    "minigrad": ("minigrad_steps", "eager"),
    "minigrad compiled": ("minigrad_steps", "compiled"),
    "PyTorch": ("pytorch_steps", "eager"),
    "PyTorch fused": ("pytorch_steps", "fused"),
    "torch.compile": ("pytorch_steps", "compile"),
    "JAX": ("jax_steps", "jit"),
    "HIPS autograd": ("autograd_steps", ""),
    "MyGrad": ("mygrad_steps", ""),
    "NumPy by hand": ("numpy_steps", ""),
}
OURS = ("minigrad", "minigrad compiled")
BY_HAND = "NumPy by hand"
REFERENCE = "reference"  # minigrad in float64: what all are compared with, and not timed

# float32 rounds by 6e-8, and a sum of 100,000 terms in any sensible order by about 1e-6 of its value. The three updates
# change the loss by more than a hundredth, so an update that is wrong by a few hundredths shows.
TOLERANCE = 1e-4
# Line searches differ by design, and so do the points they reach: all must come as far down, up to this fraction.
SAME_DESCENT = 0.1
CHECKED_CALLS = 4  # the fourth loss is that after three updates


def difference(workload, numbers, reference):
    """Return what is wrong with these numbers, or an empty string."""
    got, expected = np.array(numbers), np.array(reference)
    if got.shape != expected.shape or not np.isfinite(got).all():
        return f"got {numbers}, expected {reference}"
    if workload.kind == "lbfgs":
        descent = expected[:, 0] - expected[:, 1]
        start = np.abs(got[:, 0] - expected[:, 0]) <= TOLERANCE * np.abs(expected[:, 0])
        end = got[:, 1] - expected[:, 1] <= SAME_DESCENT * descent
        return "" if (start & end).all() else f"got {numbers}, expected about {reference}"
    worst = np.max(np.abs(got - expected) / np.abs(expected))
    return "" if worst <= TOLERANCE else f"off by {worst:.1e} (allowed {TOLERANCE:.0e}): {numbers}, not {reference}"


def timed(step, seconds, per):
    """Return the median and the minimum of the seconds of a call, over about `seconds`, and the number of calls."""
    times = []
    for share in (0.2, 1.0):  # what runs first also fills caches, and is not counted
        times.clear()
        begun = time.perf_counter()
        while len(times) < 5 or (time.perf_counter() - begun < share * seconds and len(times) < 20_000):
            before = time.perf_counter()
            step()
            times.append(time.perf_counter() - before)
    return statistics.median(times) / per, min(times) / per, len(times)


def peak_memory():
    """Return the most memory this process has held so far, in bytes: ru_maxrss."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(name, implementation, seconds, quick=False, reference=None):
    """Return the figures of one workload in one implementation, or why there are none."""
    workload = WORKLOADS[name].quick() if quick else WORKLOADS[name]
    is_reference = implementation == REFERENCE
    module, flavour = ("minigrad_steps", "eager") if is_reference else IMPLEMENTATIONS[implementation]
    start = arrays(workload, "float64" if is_reference else "float32")
    try:
        library = importlib.import_module(f".{module}", __package__)
        gc.collect()
        before = peak_memory()
        step, read = library.make(workload, start, flavour)
        numbers = [[float(v) for v in read(step())] for _ in range(CHECKED_CALLS)]
    except ModuleNotFoundError as error:
        return {"left_out": f"{error.name} is not installed"}
    except LeftOut as reason:
        return {"left_out": str(reason)}
    if is_reference:
        return {"numbers": numbers, "version": library.version()}
    wrong = difference(workload, numbers, reference)
    if wrong:
        return {"refused": wrong}
    median, least, calls = timed(step, seconds, workload.operations)
    figures = {"median": median, "minimum": least, "calls": calls, "memory": peak_memory() - before}
    if workload.kind == "lbfgs":
        figures |= {"evaluations": numbers[0][2], "loss": numbers[0][1]}
    return {**figures, "version": library.version()}


if __name__ == "__main__":
    request = json.load(sys.stdin)
    for name, reference in request["workloads"].items():
        found = measure(name, sys.argv[1], request["seconds"], request["quick"], reference)
        print(json.dumps({"workload": name, **found}), flush=True)
