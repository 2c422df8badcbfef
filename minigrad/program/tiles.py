"""Groups of elementwise equations as calls on tiles, pieces of arrays that stay in the cache from call to call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import prod
from typing import Any

import numpy as np

from . import kernels
from .blocks import aligned
from .groups import Group
from .lower import NotLowered, lower
from .program import Equation, Variable

CACHE = 512 * 1024  # bytes that the tiles of all arrays of a group may take: half of a common second-level cache
PARALLEL = 4_000_000  # elements times calls from which handing half of the tiles to another thread is worth the wait

Calls = list[tuple[Callable, tuple]]


class Operation:
    """A call that is not yet bound to arrays: its inputs and its result are variables, symbols or numbers."""

    __slots__ = ("dtype", "function", "in_place", "inputs", "name", "result")

    def __init__(
        self, name: str, function: Callable, inputs: tuple, result: Any, dtype: np.dtype, in_place: bool = True
    ) -> None:
        self.name = name
        self.function = function
        self.inputs = inputs
        self.result = result
        self.dtype = dtype
        self.in_place = in_place  # the result may take the memory of an input

    @property
    def values(self) -> list[Any]:
        """The inputs that are not numbers."""
        return [x for x in self.inputs if not _is_number(x)]


class Fused:
    """A run of operations that one kernel does in one pass."""

    __slots__ = ("inputs", "operations", "results")

    def __init__(self, operations: list[Operation], results: list[Operation]) -> None:
        self.operations = operations
        self.results = results
        made = {op.result for op in operations}
        self.inputs = list(dict.fromkeys(x for op in operations for x in op.values if x not in made))

    @property
    def values(self) -> list[Any]:
        """What the kernel reads."""
        return self.inputs


class TiledGroup:
    """A group whose results have their places: `shares` are its calls, a list for each thread.

    Parameters
    ----------
    group : Group
    arrays : dict from Variable to array
        Of what the group reads; where its results are to be written is added.
    place : callable
        Returns the array of a variable that is to be stored.
    stored : set of Variable
        The results that others read.
    threads : int
    fuse : bool
        Whether to compile runs of arithmetic.
    """

    def __init__(
        self,
        group: Group,
        arrays: dict[Variable, Any],
        place: Callable[[Variable], Any],
        stored: set[Variable],
        threads: int,
        fuse: bool,
    ) -> None:
        assert group.shape is not None
        self._numbers: dict[tuple, Any] = {}
        operations, self._targets = _operations(group, stored)
        for v, storage in self._targets.items():
            arrays[v] = place(v) if storage is v else arrays[storage]
        made = {op.result for op in operations}
        read = list(dict.fromkeys(x for op in operations for x in op.values if x not in made))
        # what broadcasting stretched in all directions is one number
        self._arrays = {**arrays, **{x: _single(arrays[x]) for x in read}}
        arrays_used = [self._arrays[x] for x in (*read, *self._targets)]
        bytes_each = sum(a.itemsize for a in arrays_used if a.size > 1) + 2 * max(
            op.dtype.itemsize for op in operations
        )
        tiles = _tiles(group.shape, arrays_used, CACHE // bytes_each)
        stages: list[Operation | Fused] = list(operations)
        if fuse and tiles and all(_kind(tiles[0][0](a), tiles[0][2]) for a in arrays_used):
            stages = _fused(operations, self._targets)
        workers = threads if prod(group.shape) * len(operations) >= PARALLEL else 1
        workers = max(1, min(workers, len(tiles)))
        self.shares: list[Calls] = []
        for w in range(workers):
            registers = _Registers()
            calls: Calls = []
            for cut, size, shape in tiles[len(tiles) * w // workers : len(tiles) * (w + 1) // workers]:
                calls += self._tile(stages, cut, size, shape, registers)
            self.shares.append(calls)

    def _tile(
        self, stages: list[Operation | Fused], cut: Callable, size: int, shape: tuple, registers: _Registers
    ) -> Iterator[tuple[Callable, tuple]]:
        """Yield the calls of one tile."""
        places: dict[Any, Any] = {}
        last_use = {x: i for i, stage in enumerate(stages) for x in stage.values}
        registers.clear()
        for i, stage in enumerate(stages):
            for x in stage.values:
                if x not in places:
                    places[x] = cut(self._arrays[x])
            ending = [x for x in stage.values if last_use[x] == i]
            if isinstance(stage, Operation) and stage.in_place:
                registers.release(ending)
            results = stage.results if isinstance(stage, Fused) else [stage]
            for op in results:
                if op.result in self._targets:
                    places[op.result] = cut(self._arrays[op.result])
                else:
                    places[op.result] = registers.take(op.result, op.dtype, size, shape)
            registers.release(ending)
            registers.release([op.result for op in results if op.result not in last_use])
            if isinstance(stage, Fused):
                yield self._kernel(stage, places, shape)
            else:
                inputs = (self._number(stage, x, shape) if _is_number(x) else places[x] for x in stage.inputs)
                yield stage.function, (*inputs, places[stage.result])

    def _number(self, op: Operation, x: Any, shape: tuple) -> Any:
        """Return a number as an array, which saves its conversion in every call."""
        if x is None or {v.dtype for v in op.values} != {op.dtype} or op.dtype.kind != "f":
            return x
        # minimum and maximum take three times as long with one number as with an array full of it
        key = (repr(x), op.dtype, shape if op.name in ("minimum", "maximum") else ())
        if key not in self._numbers:
            self._numbers[key] = np.full(key[2], x, op.dtype)
        return self._numbers[key]

    def _kernel(self, stage: Fused, places: dict[Any, Any], shape: tuple) -> tuple[Callable, tuple]:
        """Return the call of the kernel of a run."""
        # a tensor that is read and assigned is one array: a second name for it would keep the loop from vectorising
        storage = {x: self._targets.get(x, x) for x in (*stage.inputs, *(op.result for op in stage.results))}
        texts: dict[Any, tuple[str, Any]] = {}
        arrays: dict[str, Any] = {}
        parameters, lines = [], []
        for i, x in enumerate(stage.inputs):
            texts[x] = f"x{i}", places[x].dtype
            kind = _kind(places[x], shape)
            arrays[f"Ax{i}"] = places[x].reshape(()) if kind == "single" else _flat_row(places[x], kind)
            parameters.append((f"x{i}", kind))
        for i, op in enumerate(stage.operations):
            inputs = [(_literal(x), None) if _is_number(x) else texts[x] for x in op.inputs]
            texts[op.result] = f"t{i}", op.dtype
            lines.append(f"t{i} = {kernels.expression(op.name, inputs, op.dtype)}")
        results = []
        names = {storage[x]: f"A{texts[x][0]}" for x in stage.inputs}
        for op in stage.results:
            name = names.get(storage[op.result], f"R{texts[op.result][0]}")
            arrays[name] = places[op.result]
            results.append((name, texts[op.result][0]))
        return kernels.build(kernels.source(lines, parameters, results, len(shape) == 1)), tuple(arrays.values())


def _fused(operations: list[Operation], targets: dict) -> list[Operation | Fused]:
    """Return the operations with every run of two or more that a kernel can do as one."""
    stages: list[Operation | Fused] = []
    run: list[Operation] = []

    def close(rest: list[Operation]) -> None:
        if len(run) > 1:
            needed = {x for op in rest for x in op.values}
            stages.append(Fused(list(run), [op for op in run if op.result in targets or op.result in needed]))
        else:
            stages.extend(run)
        run.clear()

    for i, op in enumerate(operations):
        if _compilable(op):
            run.append(op)
        else:
            close(operations[i:])
            stages.append(op)
    close([])
    return stages


def _compilable(op: Operation) -> bool:
    inputs = [("0", None) if _is_number(x) else ("x", x.dtype) for x in op.inputs]
    return kernels.expression(op.name, inputs, op.dtype) is not None


def _single(a: Any) -> Any:
    """Return a 0-d view of an array whose elements all are the same memory, and other arrays as they are."""
    if a.size > 1 and all(s == 0 or n == 1 for n, s in zip(a.shape, a.strides, strict=True)):
        return a[(0,) * a.ndim + (...,)]
    return a


def _literal(x: Any) -> str:
    value = x.item() if isinstance(x, np.generic) else x
    return repr(value) if math.isfinite(value) else "np.nan" if value != value else "np.inf" if value > 0 else "-np.inf"


def _kind(a: Any, shape: tuple[int, ...]) -> str:
    """Return how an array spans a tile of `shape` in a kernel, or "" where a kernel cannot take it."""
    if len(shape) not in (1, 2):
        return ""
    if a.shape == shape and a.flags.c_contiguous:
        return "full"
    if a.size == 1:
        return "single"
    if len(shape) == 2 and a.flags.c_contiguous:
        if a.shape in ((shape[1],), (1, shape[1])):
            return "row"
        if a.shape == (shape[0], 1):
            return "column"
    return ""


def _flat_row(a: Any, kind: str) -> Any:
    return a.reshape(-1) if kind == "row" else a


def _operations(group: Group, stored: set[Variable]) -> tuple[list[Operation], dict[Variable, Variable]]:
    """Return the calls of a group, and which results go to memory: each with the variable whose memory it is."""
    operations: list[Operation] = []
    targets: dict[Variable, Variable] = {}
    renamed: dict[Variable, Variable] = {}
    for e in group.equations:
        e_inputs = tuple(renamed.get(x, x) if isinstance(x, Variable) else x for x in e.inputs)
        if e.primitive.effect:
            target, value = e.variables[0], e_inputs[1]
            targets[e.output] = target
            if not _write_through(operations, value, target, e.output, targets):
                operations.append(Operation("astype", _convert, (value,), e.output, e.output.dtype))
            elif isinstance(value, Variable):
                renamed[value] = e.output
            continue
        operations += _lowered(e, e_inputs)
        if e.output in stored:
            targets[e.output] = e.output
    return operations, targets


def _write_through(
    operations: list[Operation], value: Any, target: Variable, name: Variable, targets: Mapping[Variable, Variable]
) -> bool:
    """Let the call that computes an assigned value write it straight into the tensor, where that changes nothing."""
    if not isinstance(value, Variable) or value in targets or value.shape != name.shape or value.dtype != name.dtype:
        return False
    made = next((i for i, op in enumerate(operations) if op.result is value), None)
    if made is None or (not operations[made].in_place and target in operations[made].inputs):
        return False
    if any(target in op.inputs for op in operations[made + 1 :]):
        return False
    for op in operations[made:]:
        op.inputs = tuple(name if x is value else x for x in op.inputs)
    operations[made].result = name
    return True


def _lowered(e: Equation, inputs: tuple) -> Iterator[Operation]:
    """Yield the calls that an elementwise equation consists of."""
    kinds = [x.dtype if isinstance(x, Variable) else x for x in inputs]
    try:
        if e.primitive.name == "astype":
            raise NotLowered("not a function of the array module")
        symbols, calls = lower(e.primitive.forward, kinds, e.metadata, e.output.dtype)
        if any(call.name == "where" and not _is_boolean(call.inputs[0]) for call in calls):
            raise NotLowered("a condition that is not boolean")
    except NotLowered:
        forward = partial(e.primitive.forward, e.output.device.xp, **e.metadata)
        yield Operation("", partial(_call_and_copy, forward), inputs, e.output, e.output.dtype, in_place=False)
        return
    named: dict[Any, Any] = {s: x for s, x in zip(symbols, inputs, strict=True) if not _is_number(s)}
    named[calls[-1].result] = e.output
    xp = e.output.device.xp
    for call in calls:
        arguments = tuple(x if _is_number(x) else named.get(x, x) for x in call.inputs)
        function: Any = _FUNCTIONS.get(call.name) or getattr(xp, call.name)
        if call.overflows:
            function = partial(_overflowing, function)
        result = named.get(call.result, call.result)
        yield Operation(call.name, function, arguments, result, call.result.dtype, in_place=call.name != "where")


def _is_boolean(x: Any) -> bool:
    return not _is_number(x) and x.dtype.kind == "b"


def _is_number(x: Any) -> bool:
    return x is None or isinstance(x, bool | int | float | complex | np.generic)


def _tiles(shape: tuple[int, ...], arrays: list[Any], most: int) -> list[tuple[Callable, int, tuple[int, ...]]]:
    """Return for each tile of at most `most` elements: how to cut an array for it, its size and its shape."""
    size = prod(shape)
    if all(a.size == 1 or (a.shape == shape and a.flags.c_contiguous) for a in arrays):
        return [
            (partial(_cut_flat, start=start, stop=start + n), n, (n,))
            for start in range(0, size, most)
            for n in [min(most, size - start)]
        ]
    if size <= most:
        return [(lambda a: a, size, shape)]
    rows = max(1, most // (size // shape[0]))
    return [
        (partial(_cut_rows, shape=shape, start=start, stop=start + n), n * (size // shape[0]), (n, *shape[1:]))
        for start in range(0, shape[0], rows)
        for n in [min(rows, shape[0] - start)]
    ]


def _cut_flat(a: Any, start: int, stop: int) -> Any:
    return a.reshape(-1) if a.size == 1 else a.reshape(-1)[start:stop]


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
            self._blocks.append((needed, aligned(needed)))
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


def _minimum(a: Any, b: Any, out: Any) -> None:
    np.minimum(a, b, out=out)  # by position a third argument is deprecated


def _maximum(a: Any, b: Any, out: Any) -> None:
    np.maximum(a, b, out=out)


def _overflowing(function: Callable, *arguments: Any) -> None:
    with np.errstate(over="ignore"):
        function(*arguments)


_FUNCTIONS = {"astype": _convert, "where": _choose, "minimum": _minimum, "maximum": _maximum}


def _call_and_copy(forward: Callable, *inputs_and_out: Any) -> None:
    *inputs, out = inputs_and_out
    np.copyto(out, forward(*inputs), casting="unsafe")
