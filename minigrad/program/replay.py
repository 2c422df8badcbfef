"""Replay: a program as a list of calls, made once, that write into memory laid out beforehand.

Running a step is then one loop over the list. Groups of elementwise equations run tile by tile, so that what one call
writes is still in the cache when the next one reads it, and large groups run on several threads. The calls are those of
eager execution, on the same layouts, so the results are the same to the last bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from typing import Any

import numpy as np

from .groups import Group
from .lower import NotLowered, lower
from .memory import ALIGNMENT, Plan, extent
from .program import Equation, Program, Variable

TILE = 16_384  # elements: with a handful of float32 arrays a tile stays in a second-level cache
PARALLEL = 131_072  # elements from which handing half of the tiles to another thread is worth the wait

Calls = list[tuple[Callable, tuple]]


class Replay:
    """A program that is ready to run again and again.

    Parameters
    ----------
    program : Program
        As the passes left it.
    threads : int
        How many threads share the tiles of a large group.
    """

    def __init__(self, program: Program, threads: int) -> None:
        self.program = program
        self.plan = Plan(program)
        self._threads = threads
        self._blocks = [_aligned(size) for size in self.plan.sizes]
        self._arrays: dict[Variable, Any] = {v: t._array for v, t in program.captured.items()}
        self.inputs = [(v, _empty(v, _aligned(extent(v)))) for v in program.arguments]
        self._arrays.update(self.inputs)
        self.calls: Calls = []
        for group in self.plan.groups:
            if group.shape is None:
                self._bind_one(group.equations[0])
            else:
                self._bind_group(group)
        self.outputs = {v: self._arrays[v] for v in program.outputs}
        self.assigned = {self.plan.roots[e.output] for e in program.equations if e.primitive.effect}

    def run(self) -> None:
        """Make the calls: from what is in the inputs to what is in the outputs, and in the tensors assigned to."""
        for function, arguments in self.calls:
            function(*arguments)

    # Single equations

    def _bind_one(self, e: Equation) -> None:
        xp = e.output.device.xp
        inputs = [self._arrays[v] if isinstance(v, Variable) else v for v in e.inputs]
        if e.output.view:
            self._arrays[e.output] = e.primitive.forward(xp, *inputs, **e.metadata)
            return
        out = self._arrays[e.output] = self._buffer(e.output)
        if e.primitive.takes_out and all(v.dtype == e.output.dtype for v in e.variables):
            self.calls.append((partial(e.primitive.forward, xp, *inputs, **e.metadata, out=out), ()))
        else:
            self.calls.append((_copy_result, (partial(e.primitive.forward, xp, *inputs, **e.metadata), out)))

    def _buffer(self, v: Variable) -> Any:
        return _empty(v, self._blocks[self.plan.buffers[v]])

    # Groups

    def _bind_group(self, group: Group) -> None:
        operations, targets = _operations(group, set(self.plan.buffers))
        for v, storage in targets.items():
            self._arrays[v] = self._buffer(v) if storage is v else self._arrays[storage]
        outside = [self._arrays[x] for x in _outside(operations)] + [self._arrays[v] for v in targets]
        assert group.shape is not None
        tiles = _tiles(group.shape, outside)
        workers = min(self._threads, len(tiles)) if prod(group.shape) >= PARALLEL else 1
        shares: list[Calls] = []
        for w in range(workers):
            share = tiles[len(tiles) * w // workers : len(tiles) * (w + 1) // workers]
            registers = _Registers()
            calls: Calls = []
            for cut, size, shape in share:
                calls += self._tile(operations, targets, cut, size, shape, registers)
            shares.append(calls)
        if workers == 1:
            self.calls += shares[0]
        else:
            self.calls.append((_in_parallel, (shares,)))

    def _tile(
        self, operations: list[_Operation], targets: dict, cut: Callable, size: int, shape: tuple, registers: _Registers
    ) -> Iterator[tuple[Callable, tuple]]:
        """Yield the calls of one tile."""
        places: dict[Any, Any] = {}
        last_use = {x: i for i, op in enumerate(operations) for x in op.inputs if not _is_number(x)}
        registers.clear()
        for i, op in enumerate(operations):
            inputs = []
            for x in op.inputs:
                if not _is_number(x) and x not in places:
                    places[x] = cut(self._arrays[x])
                inputs.append(x if _is_number(x) else places[x])
            ending = [x for x in op.inputs if not _is_number(x) and last_use[x] == i]
            if op.in_place:  # the result may take the place of an input that nobody reads any more
                registers.release(ending)
            if op.result in targets:
                out = cut(self._arrays[op.result])
            else:
                out = registers.take(op.result, op.dtype, size, shape)
            if not op.in_place:
                registers.release(ending)
            if op.result not in last_use:
                registers.release([op.result])
            places[op.result] = out
            yield op.function, (*inputs, out)


class _Operation:
    """A call that is not yet bound to arrays: its inputs and its result are variables, symbols or numbers."""

    __slots__ = ("dtype", "function", "in_place", "inputs", "result")

    def __init__(self, function: Callable, inputs: tuple, result: Any, dtype: np.dtype, in_place: bool) -> None:
        self.function = function
        self.inputs = inputs
        self.result = result
        self.dtype = dtype
        self.in_place = in_place


def _operations(group: Group, stored: set[Variable]) -> tuple[list[_Operation], dict[Variable, Variable]]:
    """Return the calls of a group, and which results go to memory: each with the variable whose memory it is."""
    operations: list[_Operation] = []
    targets: dict[Variable, Variable] = {}
    renamed: dict[Variable, Variable] = {}
    for e in group.equations:
        e_inputs = tuple(renamed.get(x, x) if isinstance(x, Variable) else x for x in e.inputs)
        if e.primitive.effect:
            target, value = e_inputs
            targets[e.output] = target
            if not _write_through(operations, value, target, e.output, stored):
                operations.append(_Operation(_convert, (value,), e.output, e.output.dtype, True))
            elif isinstance(value, Variable):
                renamed[value] = e.output
            continue
        operations += _lowered(e, e_inputs)
        if e.output in stored:
            targets[e.output] = e.output
    return operations, targets


def _write_through(
    operations: list[_Operation], value: Any, target: Variable, name: Variable, stored: set[Variable]
) -> bool:
    """Let the call that computes an assigned value write it straight into the tensor, where that changes nothing."""
    if not isinstance(value, Variable) or value in stored or value.shape != name.shape or value.dtype != name.dtype:
        return False
    made = next((i for i, op in enumerate(operations) if op.result is value), None)
    if made is None or not operations[made].in_place and target in operations[made].inputs:
        return False
    if any(target in op.inputs for op in operations[made + 1 :]):
        return False
    for op in operations[made:]:
        op.inputs = tuple(name if x is value else x for x in op.inputs)
    operations[made].result = name
    return True


def _lowered(e: Equation, inputs: tuple) -> Iterator[_Operation]:
    """Yield the calls that an elementwise equation consists of."""
    kinds = [x.dtype if isinstance(x, Variable) else x for x in inputs]
    try:
        if e.primitive.name == "astype":
            raise NotLowered("not a function of the array module")
        symbols, calls = lower(e.primitive.forward, kinds, e.metadata, e.output.dtype)
        if any(call.name == "where" and call.inputs[0].dtype.kind != "b" for call in calls):
            raise NotLowered("a condition that is not boolean")
    except NotLowered:
        forward = partial(e.primitive.forward, e.output.device.xp, **e.metadata)
        yield _Operation(partial(_call_and_copy, forward), inputs, e.output, e.output.dtype, False)
        return
    named: dict[Any, Any] = {s: x for s, x in zip(symbols, inputs, strict=True) if not _is_number(s)}
    named[calls[-1].result] = e.output
    xp = e.output.device.xp
    for call in calls:
        arguments = tuple(x if _is_number(x) else named.get(x, x) for x in call.inputs)
        function = _FUNCTIONS.get(call.name) or getattr(xp, call.name)
        yield _Operation(
            function, arguments, named.get(call.result, call.result), call.result.dtype, call.name != "where"
        )


def _outside(operations: list[_Operation]) -> set[Variable]:
    """Return the variables that a group reads and does not make."""
    made = {op.result for op in operations}
    return {x for op in operations for x in op.inputs if isinstance(x, Variable) and x not in made}


def _is_number(x: Any) -> bool:
    return x is None or isinstance(x, bool | int | float | complex | np.generic)


def _tiles(shape: tuple[int, ...], arrays: list[Any]) -> list[tuple[Callable, int, tuple[int, ...]]]:
    """Return for each tile: how to cut an array for it, its size and its shape."""
    size = prod(shape)
    if size <= TILE:
        return [(lambda a: a, size, shape)]
    if all(a.size == 1 or (a.shape == shape and a.flags.c_contiguous) for a in arrays):
        return [
            (partial(_cut_flat, start=start, stop=min(start + TILE, size)), n, (n,))
            for start in range(0, size, TILE)
            for n in [min(TILE, size - start)]
        ]
    rows = max(1, TILE // (size // shape[0])) if shape[0] else 1
    return [
        (partial(_cut_rows, shape=shape, start=start, stop=start + n), n * (size // shape[0]), (n, *shape[1:]))
        for start in range(0, shape[0], rows)
        for n in [min(rows, shape[0] - start)]
    ]


def _cut_flat(a: Any, start: int, stop: int) -> Any:
    return a.reshape(()) if a.size == 1 else a.reshape(-1)[start:stop]


def _cut_rows(a: Any, shape: tuple[int, ...], start: int, stop: int) -> Any:
    return a[start:stop] if a.ndim == len(shape) and a.shape[0] == shape[0] else a


class _Registers:
    """Memory for the values that stay inside a tile; every tile of a thread uses the same."""

    def __init__(self) -> None:
        self._blocks: list[tuple[int, Any]] = []
        self._free: list[int] = []
        self._held: dict[Any, int] = {}

    def clear(self) -> None:
        """Forget what the last tile held."""
        self._free = list(range(len(self._blocks)))
        self._held = {}

    def take(self, key: Any, dtype: np.dtype, size: int, shape: tuple[int, ...]) -> Any:
        """Return an array for the value `key`."""
        needed = size * dtype.itemsize
        fitting = next((b for b in self._free if self._blocks[b][0] >= needed), None)
        if fitting is None:
            fitting = len(self._blocks)
            self._blocks.append((needed, _aligned(needed)))
        else:
            self._free.remove(fitting)
        self._held[key] = fitting
        return np.ndarray(shape, dtype, self._blocks[fitting][1])

    def release(self, keys: list[Any]) -> None:
        """Take back the memory of values that nobody reads any more."""
        for key in keys:
            if key in self._held:
                self._free.append(self._held.pop(key))


def _convert(x: Any, out: Any) -> None:
    np.copyto(out, x, casting="unsafe")


def _choose(condition: Any, a: Any, b: Any, out: Any) -> None:
    np.copyto(out, b)
    np.copyto(out, a, where=condition)


_FUNCTIONS = {"astype": _convert, "where": _choose}


def _call_and_copy(forward: Callable, *inputs_and_out: Any) -> None:
    *inputs, out = inputs_and_out
    np.copyto(out, forward(*inputs), casting="unsafe")


def _copy_result(forward: Callable, out: Any) -> None:
    np.copyto(out, forward(), casting="unsafe")


# Memory


def _aligned(size: int) -> Any:
    """Return `size` bytes that begin at a cache line."""
    block = np.empty(size + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + size]


def _empty(v: Variable, block: Any) -> Any:
    """Return an array of a variable's type and layout in a block."""
    start = sum((n - 1) * -s for n, s in zip(v.shape, v.strides, strict=True) if s < 0 and n > 0)
    return np.ndarray(v.shape, v.dtype, block, start, v.strides)


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
