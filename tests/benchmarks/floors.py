"""What a training step has to do, counted; and what a GPU can do, measured: `python -m tests.benchmarks.floors`.

Counted are the multiplications and additions of the matrix products, and the bytes that each group of the recorded
program reads and writes once. Measured are a large product and a large copy on the same card.
"""

import json
import math
import statistics
import sys

import minigrad as mg
from minigrad.program.memory import Plan
from minigrad.program.passes import simplify

SIDE = 8192  # of the square matrices whose product is timed
COPIED = 2**30  # bytes
REPEATS = 10


def count(step, arguments):
    """Return what one call of a step does, by recording it: operations of products, their bytes, bytes of the rest."""
    program = simplify(mg.record(step)(*arguments))
    plan = Plan(program)
    found = {"operations": 0, "product_bytes": 0, "other_bytes": 0}
    for group in plan.groups:
        first = group.equations[0]
        product = first.primitive.name == "matmul"
        if product:
            found["operations"] += 2 * math.prod(first.output.shape) * first.variables[0].shape[-1]
        inside = {e.output for e in group.equations if not e.output.view}
        read = {plan.roots[v] for e in group.equations for v in e.variables} - inside
        written = {plan.roots[e.output] for e in group.equations if e.primitive.effect}
        written |= {v for v in inside if v in plan.buffers}
        if all(e.output.view and not e.primitive.effect for e in group.equations):
            continue
        moved = sum(math.prod(v.shape) * v.dtype.itemsize for v in (*read, *written))
        found["product_bytes" if product else "other_bytes"] += moved
    return found


def seconds(counts, roof, precision):
    """Return the least seconds of a step whose groups run one after the other at the speed of the roof."""
    products = max(counts["operations"] / roof[precision], counts["product_bytes"] / roof["bytes"])
    return products + counts["other_bytes"] / roof["bytes"]


def roof(place):
    """Return the speed of the card: operations a second of products in each precision, and bytes a second of a copy."""
    import cupy

    def best(run):
        run()
        times = []
        for _ in range(REPEATS):
            start, end = cupy.cuda.Event(), cupy.cuda.Event()
            start.record()
            run()
            end.record()
            end.synchronize()
            times.append(cupy.cuda.get_elapsed_time(start, end) / 1e3)
        return statistics.median(times)

    found = {}
    with mg.use_device(place), mg.no_grad():
        a, b = (mg.random.normal((SIDE, SIDE), device=place) for _ in range(2))
        for precision in ("float32", "tf32"):
            mg.set_matmul_precision(precision)
            found[precision] = 2 * SIDE**3 / best(lambda: a @ b)
    source = cupy.zeros(COPIED, cupy.uint8)
    target = cupy.empty_like(source)
    found["bytes"] = 2 * COPIED / best(lambda: cupy.copyto(target, source))
    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())["name"]
    return {**found, "card": name.decode() if isinstance(name, bytes) else name}


if __name__ == "__main__":
    print(json.dumps(roof(sys.argv[1] if len(sys.argv) > 1 else "cuda")))
