"""One implementation, checked and timed in this process: `python -m tests.benchmarks.measure NAME < requests`.

The standard input is JSON, {"seconds": s, "quick": bool, "device": "cpu" or "cuda", "precision": "float32" or "tf32",
"workloads": {name: reference numbers or null}}; the standard output has one JSON object a line for each of them.
"""

import gc
import importlib
import json
import resource
import statistics
import sys
import time

import numpy as np

from .workloads import LeftOut, arrays, workloads

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
# on a GPU, with the whole step as one CUDA graph where PyTorch is to do its best
ON_GPU = {
    **{name: IMPLEMENTATIONS[name] for name in ("minigrad", "minigrad compiled", "PyTorch")},
    "torch.compile": IMPLEMENTATIONS["torch.compile"],
    "PyTorch graph": ("pytorch_steps", "graph"),
    "PyTorch graph, compiled": ("pytorch_steps", "graph of compiled"),
    "JAX": IMPLEMENTATIONS["JAX"],
}
OURS = ("minigrad", "minigrad compiled")
BY_HAND = "NumPy by hand"
REFERENCE = "reference"  # minigrad in float64: what all are compared with, and not timed

# float32 rounds by 6e-8, and a sum of 100,000 terms in any sensible order by about 1e-6 of its value. The three updates
# change the loss by more than a hundredth, so an update that is wrong by a few hundredths shows.
TOLERANCE = 1e-4
# TF32 rounds factors by 5e-4. Sums of many such products are much better; a wrong update is still off by more.
TOLERANCE_TF32 = 1e-3
# Line searches differ by design, and so do the points they reach: all must come as far down, up to this fraction.
SAME_DESCENT = 0.1
PARTS = 5  # of the time on a GPU, each with a wait at its end
CHECKED_CALLS = 4  # the fourth loss is that after three updates


def difference(workload, numbers, reference, tolerance=TOLERANCE):
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
    return "" if worst <= tolerance else f"off by {worst:.1e} (allowed {tolerance:.0e}): {numbers}, not {reference}"


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


def timed_on_gpu(library, step, seconds, per):
    """Return the figures of a call: of many in a row, with one wait at the end of them.

    The host's clock runs over all of it, and "device" is the time between two events in the work of the GPU.
    """
    step()
    library.synchronize()
    calls, once = 5, 0.0
    while once < seconds / PARTS:  # as many calls as take that long
        begun = time.perf_counter()
        for _ in range(calls):
            step()
        library.synchronize()
        once = time.perf_counter() - begun
        calls = min(max(calls, int(calls * 1.2 * seconds / PARTS / max(once, 1e-6))), 10 * calls)
    times, device = [], []
    for _ in range(PARTS):
        begun = time.perf_counter()
        start = library.stamp() if hasattr(library, "stamp") else None
        for _ in range(calls):
            step()
        end = library.stamp() if start is not None else None
        library.synchronize()
        times.append((time.perf_counter() - begun) / calls / per)
        if start is not None:
            device.append(library.seconds_between(start, end) / calls / per)
    figures = {"median": statistics.median(times), "minimum": min(times), "calls": calls * PARTS}
    return figures | ({"device": statistics.median(device)} if device else {})


def peak_memory():
    """Return the most memory this process has held so far, in bytes: ru_maxrss."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(name, implementation, seconds, quick=False, reference=None, device="cpu", precision="float32"):
    """Return the figures of one workload in one implementation, or why there are none."""
    workload = workloads(device)[name].quick() if quick else workloads(device)[name]
    is_reference = implementation == REFERENCE
    known = IMPLEMENTATIONS if device == "cpu" else ON_GPU
    module, flavour = ("minigrad_steps", "eager") if is_reference else known[implementation]
    start = arrays(workload, "float64" if is_reference else "float32")
    try:
        library = importlib.import_module(f".{module}", __package__)
        gc.collect()
        if device != "cpu" and not is_reference:
            library.prepare(device, precision)
        before = peak_memory()
        step, read = library.make(workload, start, flavour)
        numbers = [[float(v) for v in read(step())] for _ in range(CHECKED_CALLS)]
    except ModuleNotFoundError as error:
        return {"left_out": f"{error.name} is not installed"}
    except LeftOut as reason:
        return {"left_out": str(reason)}
    if is_reference:
        counts = {} if device == "cpu" else {"counts": counted(workload)}
        return {"numbers": numbers, "version": library.version(), **counts}
    wrong = difference(workload, numbers, reference, TOLERANCE if precision == "float32" else TOLERANCE_TF32)
    if wrong:
        return {"refused": wrong}
    if device == "cpu":
        median, least, calls = timed(step, seconds, workload.operations)
        figures = {"median": median, "minimum": least, "calls": calls, "memory": peak_memory() - before}
    else:
        figures = timed_on_gpu(library, step, seconds, workload.operations)
        if hasattr(library, "device_memory"):
            figures["memory"] = library.device_memory()
    if workload.kind == "lbfgs":
        figures |= {"evaluations": numbers[0][2], "loss": numbers[0][1]}
    return {**figures, "version": library.version()}


def counted(workload):
    """Return what a step of training has to do, in float32: see floors.py."""
    from . import floors, minigrad_steps

    return floors.count(*minigrad_steps.training_step(workload, arrays(workload)))


def answer(request, name, reference, implementation):
    """Return the figures for one workload of a request. What fails on a GPU is told, and the next workload tried."""
    given = {key: request[key] for key in ("device", "precision")}
    try:
        return measure(name, implementation, request["seconds"], request["quick"], reference, **given)
    except Exception as error:
        if request["device"] == "cpu":
            raise
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


if __name__ == "__main__":
    request = json.load(sys.stdin)
    for name, reference in request["workloads"].items():
        found = answer(request, name, reference, sys.argv[1])
        print(json.dumps({"workload": name, **found}), flush=True)
