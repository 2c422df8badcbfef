"""Tiles: groups of elementwise equations as calls on pieces of arrays that stay in the cache from call to call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

from ..parallel import Calls
from ..primitives import product_kernel, products
from . import loops
from .groups import Group
from .kernels import DECLARED, Source
from .lower import is_number
from .operations import Fused, Operation, fused, nanoseconds, operations_of
from .phases import WORTH_A_THREAD, Share
from .pieces import Registers, pieces, tiles
from .program import Equation, Variable

CACHE = 512 * 1024  # bytes that the tiles of all arrays of a group may take: half of a common second-level cache
PRODUCT_NANOSECONDS = 0.015  # about, for one multiplication of a matrix product


class TiledGroup:
    """A group whose results have their places: the calls that compute it, in shares that different threads may run.

    Parameters
    ----------
    group : Group
    arrays : dict from Variable to array
        Of what the group reads; where its results are to be written is added.
    place : callable
        Returns the array of a variable that is to be stored.
    stored : set of Variable
        The results that others read.
    parts : int
        How many shares to make, where there are rows enough.
    by_columns : bool
        Whether to share the columns, not the rows.
    native : bool
        Whether to compile runs of arithmetic (`kernels.py`).

    Attributes
    ----------
    shares : list of Share

    Notes
    -----
    A group with a product (`epilogues`) is one kernel, which multiplies and does the rest block by block.
    """

    def __init__(
        self,
        group: Group,
        arrays: dict[Variable, Any],
        place: Callable[[Variable], Any],
        stored: set[Variable],
        parts: int,
        by_columns: bool,
        native: bool,
    ) -> None:
        assert group.shape is not None
        self._numbers: dict[tuple, Any] = {}
        self._native = native
        self.shares: list[Share] = []
        operations, self._targets = operations_of(group, stored)
        for v, storage in self._targets.items():
            arrays[v] = place(v) if storage is v else arrays[storage]
        made = {op.result for op in operations}
        product = group.product
        read = list(dict.fromkeys(x for op in operations for x in op.reads if x not in made))
        if product is not None:
            read = [x for x in read if x is not product.output]
        # what broadcasting stretched in all directions is one number
        self._arrays = {**arrays, **{x: single(arrays[x]) for x in read}}
        used = [self._arrays[x] for x in (*read, *self._targets)]
        by_columns = by_columns and len(group.shape) == 2
        if product is not None:
            # a single one too: an assignment may have become part of what computes its value
            stage = Fused(operations, [op for op in operations if op.result in self._targets])
            self._multiply(product, stage, group.shape, read, parts, by_columns)
            return
        flat = not by_columns and all(a.size == 1 or (a.shape == group.shape and a.flags.c_contiguous) for a in used)
        if not group.shape and not all(op.name for op in operations):
            flat = False  # Python's operators round products of single complex numbers otherwise than those of vectors
        stages: list[Operation | Fused] = list(operations)
        if native and (flat or all(span(a, group.shape) for a in used)):
            stages = fused(operations, self._targets)
        bytes_each = sum(a.itemsize for a in used if a.size > 1) + 2 * max(op.dtype.itemsize for op in operations)
        most = CACHE // bytes_each if len(stages) > 1 else max(prod(group.shape), 1)
        cost = prod(group.shape) * nanoseconds(operations)
        # matrices are shared as the products before and after them are; of vectors only long ones are worth it
        parts = parts if len(group.shape) > 1 or cost > WORTH_A_THREAD else 1
        if prod(group.shape[1:]) == 1 and any(op.dtype.kind == "c" for op in operations):
            parts = 1  # NumPy may round a complex product otherwise where it is alone
        for piece in pieces(group.shape, parts, by_columns):
            registers = Registers()
            calls: Calls = []
            for cut, size, shape in tiles(piece, flat, most):
                calls += self._tile(stages, cut, size, shape, registers)
            reads, writes = ([piece.cut(self._arrays[x]) for x in names] for names in (read, self._targets))
            portion = piece.size / max(prod(group.shape), 1)
            self.shares.append(Share(calls, reads, writes, cost * portion, str(piece)))

    def _multiply(
        self, product: Equation, stage: Fused, shape: tuple, read: list[Any], parts: int, by_columns: bool
    ) -> None:
        """Let each part of a product go on to the end of the group."""
        a, b = (self._arrays[v] for v in product.variables)
        how = products.cut(a, b)
        assert how is not None
        each = a.shape[1] * PRODUCT_NANOSECONDS + nanoseconds(stage.operations)
        for piece in pieces(shape, min(parts, len(how.slices)), by_columns):
            left, right = (a, b[:, piece.columns]) if by_columns else (a[piece.rows], b)
            places = {x: piece.cut(self._arrays[x]) for x in (*read, *self._targets)}
            source, arrays = self._source(stage, places, piece.shape, product.output)
            after = product_kernel.After(
                f"{DECLARED}\n{source.function('after', 'internal')}", tuple(source.arrays), _position(arrays)
            )
            call = product_kernel.call_with(left, right, after, arrays)
            reads = [left, right, *(places[x] for x in read)]
            writes = [places[x] for x in self._targets]
            self.shares.append(Share([(call, ())], reads, writes, piece.size * each, str(piece)))

    def _tile(
        self, stages: list[Operation | Fused], cut: Callable, size: int, shape: tuple, registers: Registers
    ) -> Iterator[tuple[Callable, tuple]]:
        """Yield the calls of one tile."""
        places: dict[Any, Any] = {}
        last_use = {x: i for i, stage in enumerate(stages) for x in stage.reads}
        registers.clear()
        for i, stage in enumerate(stages):
            for x in stage.reads:
                if x not in places:
                    places[x] = cut(self._arrays[x])
            ending = [x for x in stage.reads if last_use[x] == i]
            # before the result takes memory, where it may overwrite an input; else after
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
                source, arrays = self._source(stage, places, shape)
                yield source.call(arrays, shape), ()
            else:
                inputs = [self._number(stage, x, shape) if is_number(x) else places[x] for x in stage.inputs]
                out = places[stage.result]
                whole = self._native and all(isinstance(x, np.ndarray) for x in inputs)
                call = loops.elementwise(getattr(np, stage.name, None), inputs, out) if whole else None
                yield (call, ()) if call else (stage.function, (*inputs, out))

    def _number(self, op: Operation, x: Any, shape: tuple) -> Any:
        """Return a number as an array, which saves its conversion in every call."""
        if x is None or {v.dtype for v in op.reads} != {op.dtype} or op.dtype.kind != "f":
            return x
        # minimum and maximum take three times as long with one number as with an array full of it
        key = (repr(x), op.dtype, shape if op.name in ("minimum", "maximum") else ())
        if key not in self._numbers:
            self._numbers[key] = np.full(key[2], x, op.dtype)
        return self._numbers[key]

    def _source(
        self, stage: Fused, places: dict[Any, Any], shape: tuple, product: Variable | None = None
    ) -> tuple[Source, list[Any]]:
        """Return the text of the kernel of a run, and its arrays: None for a product."""
        # a tensor that is read and assigned is one array: a second name for it would keep the loop from vectorising
        storage = {x: self._targets.get(x, x) for x in (*stage.inputs, *(op.result for op in stage.results))}
        source = Source(flat=len(shape) == 1)
        scalars: dict[Any, tuple[str, np.dtype]] = {}
        arrays: list[Any] = []
        for x in stage.inputs:
            arrays.append(None if x is product else places[x])
            scalars[x] = source.load("full" if x is product else span(places[x], shape), x.dtype)
        for op in stage.operations:
            inputs = [x if is_number(x) else scalars[x] for x in op.inputs]
            scalars[op.result] = source.compute(op.name, inputs, op.dtype)
        read = {storage[x]: i for i, x in enumerate(stage.inputs)}
        for op in stage.results:
            source.store(scalars[op.result], read.get(storage[op.result]))
            if storage[op.result] not in read:
                arrays.append(places[op.result])
        return source, arrays


def _position(arrays: list[Any]) -> int:
    return next(i for i, a in enumerate(arrays) if a is None)


def single(a: Any) -> Any:
    """Return a 0-d view of an array whose elements all are the same memory, and other arrays as they are."""
    if a.size > 1 and all(s == 0 or n == 1 for n, s in zip(a.shape, a.strides, strict=True)):
        return a[(0,) * a.ndim + (...,)]
    return a


def span(a: Any, shape: tuple[int, ...]) -> str:
    """Return how an array spans a tile of `shape` in a kernel, or "" where a kernel cannot take it."""
    if len(shape) not in (1, 2):
        return ""
    if a.size == 1 and prod(shape) > 1:
        return "single"
    if a.ndim == 0 or (a.strides[-1] != a.itemsize and a.shape[-1] > 1):
        return "single" if a.size == 1 else ""
    if a.shape == shape:
        return "full" if a.ndim == 2 or a.flags.c_contiguous else ""
    if len(shape) == 2 and a.shape in ((shape[1],), (1, shape[1])):
        return "row"
    return "column" if len(shape) == 2 and a.shape == (shape[0], 1) and a.flags.c_contiguous else ""
