"""Replay: a program as a list of calls, made once, that write into memory laid out beforehand.

Running a step is then one loop over the list. Groups of elementwise equations run tile by tile, so that what one call
writes is still in the cache when the next one reads it, and large groups run on several threads. The calls are those of
eager execution, on the same layouts, so the results are the same to the last bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from .blocks import aligned, array_in, extent
from .memory import Plan
from .program import Equation, Program, Variable
from .tiles import Calls, TiledGroup

# what NumPy's functions of these names call in the end
_REDUCTIONS = {"sum": np.add.reduce, "max": np.maximum.reduce, "min": np.minimum.reduce}


class Replay:
    """A program that is ready to run again and again.

    Parameters
    ----------
    program : Program
        As the passes left it.
    threads : int
        How many threads share the tiles of a large group.
    fuse : bool
        Whether to compile runs of arithmetic with Numba.
    """

    def __init__(self, program: Program, threads: int, fuse: bool) -> None:
        self.program = program
        self.plan = Plan(program)
        self._blocks = [aligned(size) for size in self.plan.sizes]
        self._arrays: dict[Variable, Any] = {v: t._array for v, t in program.captured.items()}
        self.inputs = [(v, array_in(aligned(extent(v)), v)) for v in program.arguments]
        self._arrays.update(self.inputs)
        self.calls: Calls = []
        for group in self.plan.groups:
            if group.shape is None:
                self._bind_one(group.equations[0])
            else:
                stored = set(self.plan.buffers)
                shares = TiledGroup(group, self._arrays, self._buffer, stored, threads, fuse).shares
                self.calls += shares[0] if len(shares) == 1 else [(_in_parallel, (shares,))]
        self.outputs = {v: self._arrays[v] for v in program.outputs}
        self.assigned = {self.plan.roots[e.output] for e in program.equations if e.primitive.effect}

    def put(self, place: Any, array: Any) -> None:
        """Copy an argument in."""
        place[...] = array

    def run(self) -> None:
        """Make the calls: from what is in the inputs to what is in the outputs, and in the tensors assigned to."""
        for function, arguments in self.calls:
            function(*arguments)

    # Single equations

    def _bind_one(self, e: Equation) -> None:
        xp = e.output.device.xp
        inputs: list[Any] = [self._arrays[v] if isinstance(v, Variable) else v for v in e.inputs]
        if e.output.view:
            self._arrays[e.output] = e.primitive.forward(xp, *inputs, **e.metadata)
            return
        out = self._arrays[e.output] = self._buffer(e.output)
        same_dtype = all(v.dtype == e.output.dtype for v in e.variables)
        if e.primitive.name in _REDUCTIONS and same_dtype:
            axis, keepdims = e.metadata.get("axis"), e.metadata.get("keepdims", False)
            self.calls.append((_REDUCTIONS[e.primitive.name], (inputs[0], axis, None, out, keepdims)))
        elif e.primitive.name == "mean" and same_dtype and out.itemsize > 2 and inputs[0].size < 2**24:
            axis, keepdims = e.metadata.get("axis"), e.metadata.get("keepdims", False)
            count = np.asarray(inputs[0].size // max(out.size, 1), out.dtype)  # exact below 2**24
            self.calls.append((np.add.reduce, (inputs[0], axis, None, out, keepdims)))
            self.calls.append((np.divide, (out, count, out)))  # as np.mean does, with fewer steps in Python
        elif e.primitive.name == "sum_to" and same_dtype:
            whole, kept = inputs[0], (1,) * (inputs[0].ndim - out.ndim) + out.shape
            axes = tuple(i for i, n in enumerate(kept) if n != whole.shape[i])
            axes += tuple(i for i in range(whole.ndim - out.ndim) if i not in axes)
            self.calls.append((np.add.reduce, (whole, axes, None, out.reshape(kept), True)))
        elif e.primitive.name == "matmul" and same_dtype:
            self.calls.append((np.matmul, (*inputs, out)))
        elif e.primitive.takes_out and same_dtype:
            self.calls.append((partial(e.primitive.forward, xp, *inputs, **e.metadata, out=out), ()))
        else:
            self.calls.append((_copy_result, (partial(e.primitive.forward, xp, *inputs, **e.metadata), out)))

    def _buffer(self, v: Variable) -> Any:
        return array_in(self._blocks[self.plan.buffers[v]], v)


def _copy_result(forward: Callable, out: Any) -> None:
    np.copyto(out, forward(), casting="unsafe")


# Threads

_pool: ThreadPoolExecutor | None = None
_pool_owner = 0


def _in_parallel(shares: list[Calls]) -> None:
    """Run the first share here and the others in the pool."""
    pool = _threads()
    waiting = [pool.submit(_run, share) for share in shares[1:]]
    _run(shares[0])
    for future in waiting:
        future.result()


def _run(calls: Calls) -> None:
    for function, arguments in calls:
        function(*arguments)


def _threads() -> ThreadPoolExecutor:
    """Return the process's pool; a forked child makes its own."""
    global _pool, _pool_owner
    if _pool is None or _pool_owner != os.getpid():
        _pool, _pool_owner = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), "minigrad"), os.getpid()
    return _pool
