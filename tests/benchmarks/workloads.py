"""One workload in one library, timed in this process: `python -m tests.benchmarks.workloads NAME LIBRARY`.

Prints the seconds of one call, the median over many, as JSON.
"""

import json
import statistics
import sys
import time

import numpy as np

CHAIN, WIDTH = 100, 10


def chain(library):
    """100 small operations on 10 elements, forward and backward; the figure is per operation."""
    start = np.linspace(0.5, 1.0, WIDTH, dtype=np.float32)
    if library == "minigrad":
        import minigrad as mg

        x = mg.tensor(start, requires_grad=True)
    elif library == "torch":
        import torch

        torch.set_num_threads(1)
        x = torch.tensor(start, requires_grad=True)
    elif library == "mygrad":
        import mygrad

        x = mygrad.tensor(start)
    else:
        from autograd import grad

        return grad(lambda x: products_and_sums(x).sum()), (start,), CHAIN

    def step():
        products_and_sums(x).sum().backward()
        if library == "mygrad":
            x.null_grad()
        else:
            x.grad = None

    return step, (), CHAIN


def products_and_sums(x):
    y = x
    for _ in range(CHAIN // 2):
        y = y * x
        y = y + x
    return y


WORKLOADS = {"chain": chain}
LIBRARIES = ("minigrad", "torch", "autograd", "mygrad")


def main(name, library):
    step, arguments, per = WORKLOADS[name](library)
    times = []
    for _ in range(400):
        before = time.perf_counter()
        step(*arguments)
        times.append((time.perf_counter() - before) / per)
    print(json.dumps(statistics.median(times[50:])))


if __name__ == "__main__":
    main(*sys.argv[1:])
