"""Kernels of reductions: sums, means and extrema of what a group computes, in a fixed order.

A block is a grid of threads. In one direction they stand for results, in the other one for pieces of the same result:
the direction along memory is the threads' x, so that neighbours read neighbours. Each thread adds up its piece; the
pieces are then combined in a tree that depends on the sizes alone. Where the results are too few to occupy the GPU,
each is cut into chunks: a first kernel writes the chunks' results to scratch memory, and a second one combines them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from ..groups import Group
from ..program import Equation, Variable
from .body import Body
from .elementwise import VECTOR_TYPE, Arrays
from .kernel import Kernel, Scratch, Unsupported, named
from .layout import Layout
from .random import PHILOX
from .schedule import REDUCTIONS, reduced_axes
from .source import (
    BOOL,
    DOUBLE,
    HALF,
    INT64,
    SINGLE,
    UINT64,
    c_type,
    converted,
    helpers,
    infinity,
    stored_type,
    to_store,
)
from .space import Space, coordinates, kept_strides, offset

COMBINE = {
    "sum": "template <class T> __device__ T combine_sum(T a, T b) { return a + b; }\n",
    "max": "template <class T> __device__ T combine_max(T a, T b) { return a >= b || a != a ? a : b; }  // NaN stays\n",
    "min": "template <class T> __device__ T combine_min(T a, T b) { return a <= b || a != a ? a : b; }\n",
}


class _Total:
    """How one reduction is added up: in which dtype, from what, and how its result is made of the total."""

    def __init__(self, e: Equation) -> None:
        self.input, self.output = e.variables[0], e.output
        name, dtype = e.primitive.name, self.input.dtype
        if dtype.kind not in "fiub":
            raise Unsupported(f"there are no kernels for {dtype.name}")
        self.combine = {"mean": "sum", "sum_to": "sum", "any": "max", "all": "min"}.get(name, name)
        self.truth = name in ("any", "all")
        if dtype.kind == "f" or name == "mean":
            self.dtype = SINGLE if dtype in (HALF, SINGLE) else DOUBLE
        else:
            self.dtype = UINT64 if dtype.kind == "u" else INT64
        self.type = c_type(self.dtype)
        self.count = prod(self.input.shape) // max(prod(self.output.shape), 1) if name == "mean" else None

    def start(self) -> str:
        """Return what nothing adds up to."""
        if self.combine == "sum":
            return "0"
        if self.truth:
            return "0" if self.combine == "max" else "1"
        if self.dtype.kind == "f":
            return f"{'-' if self.combine == 'max' else ''}{infinity(self.dtype)}"
        low, high = np.iinfo(self.dtype).min, np.iinfo(self.dtype).max
        if self.combine == "min":
            return f"{high}{'ull' if self.dtype.kind == 'u' else 'll'}"
        return "0" if low == 0 else f"(-{high}ll - 1)"

    def summand(self, text: str) -> str:
        """Return an element in the dtype of the total."""
        if self.truth:
            return converted(converted(text, self.input.dtype, BOOL), BOOL, self.dtype)
        return converted(text, self.input.dtype, self.dtype)

    def result(self, text: str) -> str:
        """Return the element to be stored for a total."""
        if self.count is not None:
            text = f"({text} / ({self.type}){self.count})"
        if self.output.dtype == HALF:
            return to_store(text if self.dtype.kind == "f" else f"(float){text}", HALF)
        return converted(text, self.dtype, self.output.dtype)


def kernels(
    group: Group,
    stored: set[Variable],
    roots: Mapping[Variable, Variable],
    strides: Mapping[Variable, tuple[int, ...]] | None = None,
) -> list[Kernel]:
    """Return the kernels of a group that ends in reductions over the same axes, or over all axes.

    The first visits every element once. It writes results, or parts of results to scratch memory; further ones combine
    the parts. A sum over all axes that is beside one over some axes is made of the sums of its kernel.
    """
    strides = strides or {}
    sums = [e for e in group.equations if e.primitive.name in REDUCTIONS]
    axes = min((reduced_axes(e) for e in sums), key=len)
    shape = sums[0].variables[0].shape
    body = Body([e for e in group.equations if e not in sums], stored, roots)
    own = [_Total(e) for e in sums if e.output in stored and reduced_axes(e) == axes]
    complete = [_Total(e) for e in sums if e.output in stored and reduced_axes(e) != axes]
    totals = [*own, *complete]
    summands = [total.summand(body.value(total.input)[0]) for total in totals]
    arrays = Arrays(body, strides, shape)
    outputs = [kept_strides(total.output, strides, shape, axes) for total in own]
    space = Space(shape, [*arrays.strides, *outputs], axes)
    kept = [i for i, reduced in enumerate(space.reduced) if not reduced]
    results, size = prod(space.lengths[i] for i in kept), prod(space.lengths)
    if results == 0 or not (totals or body.writes):
        return []
    along = bool(kept) and kept[-1] == len(space.lengths) - 1
    width = space.vector(arrays.width(space), len(arrays.strides))
    layout = Layout(results, size // results, along, width, _bytes(totals))
    cut = layout.chunks > 1
    scratch = {t: Scratch(layout.chunks * results * t.dtype.itemsize) for t in (totals if cut else complete)}
    made = [_Pass(layout, space, arrays, totals, summands, scratch).kernel()]
    if cut and own:
        # parts of one result stand as far apart as there are results, or side by side
        lengths, position = [space.lengths[i] for i in kept], 0 if along else len(kept)
        lengths.insert(position, layout.chunks)
        places = [[each[i] for i in kept] for each in space.strides[len(arrays.strides) :]]
        for each in places:
            each.insert(position, 0)
        made.append(_combine(own, scratch, tuple(lengths), position, [tuple(each) for each in places]))
    if complete:
        made.append(_combine(complete, scratch, (layout.chunks * results,), 0, [(0,)] * len(complete)))
    return made


def _bytes(totals: Sequence[_Total]) -> int:
    """Return how many bytes one number of each total takes."""
    return sum(total.dtype.itemsize for total in totals)


def _combine(
    totals: Sequence[_Total],
    scratch: Mapping[_Total, Scratch],
    lengths: tuple[int, ...],
    axis: int,
    outputs: Sequence[tuple[int, ...]],
) -> Kernel:
    """Return the kernel that combines parts of totals along an axis of scratch memory."""
    row_major = tuple(prod(lengths[i + 1 :]) for i in range(len(lengths)))
    parts = {
        Variable("", lengths, t.dtype, t.output.device, tuple(s * t.dtype.itemsize for s in row_major)): scratch[t]
        for t in totals
    }
    body = Body([], set(), {})
    texts = [body.value(part)[0] for part in parts]
    arrays = Arrays(body, {}, lengths)
    space = Space(lengths, [*arrays.strides, *outputs], {axis})
    results = prod(lengths) // lengths[axis]
    along = len(space.lengths) > 1 and not space.reduced[-1]
    width = space.vector(arrays.width(space), len(parts))
    layout = Layout(results, lengths[axis], along, width, _bytes(totals), whole=True)
    last = _Pass(layout, space, arrays, totals, texts, {}).kernel()
    parameters = tuple(parts.get(p, p) if isinstance(p, Variable) else p for p in last.parameters)
    return replace(last, parameters=parameters)


class _Pass:
    """The text of one kernel: each thread adds up its piece, threads combine theirs, and one of them writes.

    Parameters
    ----------
    layout : Layout
    space : Space
        With the strides of the arrays, and after them those of the results.
    arrays : Arrays
    totals : list of _Total
    summands : list of str
        What each total adds up at a place.
    scratch : dict from _Total to Scratch
        Where a total goes that is not complete; the others go to where they belong.
    """

    def __init__(
        self,
        layout: Layout,
        space: Space,
        arrays: Arrays,
        totals: Sequence[_Total],
        summands: Sequence[str],
        scratch: Mapping[_Total, Scratch],
    ) -> None:
        self.layout, self.space, self.arrays = layout, space, arrays
        self.totals, self.summands, self.scratch = totals, summands, scratch
        self.kind = space.index_type()
        self.unsigned = "unsigned int" if self.kind == "int" else "unsigned long long"
        axes = range(len(space.lengths))
        self.kept, self.added = ([i for i in axes if space.reduced[i] is r] for r in (False, True))
        self.inputs = space.strides[: len(arrays.strides)]
        self.outputs: list[tuple[int, ...]] = space.strides[len(arrays.strides) :]
        self.outputs += [()] * (len(totals) - len(self.outputs))  # what is complete in scratch memory only
        # the directions of a block in which threads differ in their results, and in their pieces of one
        self.result, self.piece = ("x", "y") if layout.along else ("y", "x")
        self.many = layout.width if layout.along else 1  # results of one thread

    def kernel(self) -> Kernel:
        """Return the kernel."""
        layout, totals, unsigned = self.layout, self.totals, self.unsigned
        lines = [
            f"const {unsigned} begin = blockIdx.y * {layout.chunk}, after = begin + {layout.chunk};",
            f"const {unsigned} end = after < {layout.steps} ? after : {layout.steps};",
            f"const {unsigned} stride = gridDim.x * blockDim.{self.result};",
            *self.arrays.load_singles(),
        ]
        if layout.width > 1:
            lines.append(f"const bool wide = {self.arrays.aligned(self.inputs, layout.width)};")
        if layout.shared:
            lines += [f"__shared__ {total.type} shared{j}[{layout.shared}];" for j, total in enumerate(totals)]
        body = [
            f"const {unsigned} unit = first + threadIdx.{self.result};",
            *self._add_up(),
            *self._combine(),
            *self._write(),
        ]
        lines += [
            f"for ({unsigned} first = blockIdx.x * blockDim.{self.result}; first < {layout.units}; first += stride) {{",
            *_indented(body),
            "}",
        ]
        declared = [self.arrays.declaration(i) for i in range(len(self.arrays.variables))]
        for j, total in enumerate(totals):
            element = total.type if total in self.scratch else stored_type(total.output.dtype)
            declared.append(f"{element}* __restrict__ out{j}")
        threads = layout.block[0] * layout.block[1]
        text = f'extern "C" __global__ void __launch_bounds__({threads}) KERNEL(\n    {", ".join(declared)}) {{\n'
        text += "".join(f"    {line}\n" for line in lines) + "}\n"
        text = helpers(text) + "".join(COMBINE[c] for c in dict.fromkeys(t.combine for t in totals)) + text
        draws = "".join([PHILOX, *dict.fromkeys(self.arrays.draws)]) if self.arrays.draws else ""
        name, text = named((VECTOR_TYPE if layout.width > 1 else "") + draws + text, "reduction")
        targets = [self.scratch.get(total, total.output) for total in totals]
        return Kernel(name, text, layout.grid, layout.block, (*self.arrays.variables, *targets))

    def _add_up(self) -> list[str]:
        """Return the statements in which each thread adds up its piece, neighbours apart."""
        width, lines = self.layout.width, []
        for j, total in enumerate(self.totals):
            lines.append(f"{total.type} sum{j}[{width}] = {{{', '.join([total.start()] * width)}}};")
        needed = {j for each in self.inputs for j, s in enumerate(each) if s}
        own = coordinates("unit", self.space.lengths, self.kept, needed, self.kind, self.many)
        if width > 1:
            own += ["if (wide) {", *_indented(self._loop(needed, True))]
            own += ["} else {", *_indented(self._loop(needed, False)), "}"]
        else:
            own += self._loop(needed, True)
        return [*lines, f"if (unit < {self.layout.units}) {{", *_indented(own), "}"]

    def _loop(self, needed: set[int], wide: bool) -> list[str]:
        """Return the loop of a thread over its piece."""
        width = self.layout.width
        k = "k" if width > 1 else "0"
        adding = [
            f"sum{j}[{k}] = combine_{total.combine}(sum{j}[{k}], {text});"
            for j, (total, text) in enumerate(zip(self.totals, self.summands, strict=True))
        ]
        steps = 1 if self.layout.along else width
        body = coordinates("i", self.space.lengths, self.added, needed, self.kind, steps)
        body += self.arrays.step([offset(each) for each in self.inputs], self.inputs, width, adding, wide)
        return [
            "#pragma unroll 4",
            f"for ({self.unsigned} i = begin + threadIdx.{self.piece}; i < end; i += blockDim.{self.piece}) {{",
            *_indented(body),
            "}",
        ]

    def _combine(self) -> list[str]:
        """Return the statements that combine what threads have of one result."""
        layout, totals, lines = self.layout, self.totals, []
        if not layout.along and layout.width > 1:
            for j, total in enumerate(totals):
                neighbours = f"sum{j}[0] = combine_{total.combine}(sum{j}[0], sum{j}[k]);"
                lines += ["#pragma unroll", f"for (int k = 1; k < {layout.width}; ++k) {neighbours}"]
        if totals and not layout.along:
            lines += _lanes(totals, bool(layout.shared))
        elif totals and layout.shared:
            lines += _tree(totals, self._each_k)
        return lines

    def _write(self) -> list[str]:
        """Return the statements that write results, or parts of results to scratch memory."""
        layout, along, many = self.layout, self.layout.along, self.many
        needed = {j for each in self.outputs for j, s in enumerate(each) if s}
        lines = coordinates("unit", self.space.lengths, self.kept, needed, self.kind, many)
        for j, (total, strides) in enumerate(zip(self.totals, self.outputs, strict=True)):
            value = f"sum{j}[{'k' if along else '0'}]"
            if total not in self.scratch:
                last = strides[self.kept[-1]] if self.kept else 0
                place = offset(strides) + (f" + k * {last}" if many > 1 and last else "")
                value = total.result(value)
            elif along:  # parts of a result as far apart as there are results
                place = f"blockIdx.y * {layout.results}ll + unit * {many} + k"
            else:  # side by side
                place = f"unit * {layout.chunks}ll + blockIdx.y"
            lines.append(f"{self._each_k if along else ''}out{j}[{place}] = {value};")
        lines = [f"if (threadIdx.{self.piece} == 0 && unit < {layout.units}) {{", *_indented(lines), "}"]
        if self.totals and layout.shared:
            lines.append("__syncthreads();  // before the next results use the shared memory")
        return lines

    @property
    def _each_k(self) -> str:
        return f"for (int k = 0; k < {self.many}; ++k) "


def _tree(totals: Sequence[_Total], each_k: str) -> list[str]:
    """Return the statements that combine the totals of threads that differ in y, through shared memory."""
    own = "(k * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x"
    lines = [f"{each_k}shared{j}[{own}] = sum{j}[k];" for j in range(len(totals))]
    lines += ["__syncthreads();", "for (int n = blockDim.y / 2; n > 0; n /= 2) {"]
    for j, total in enumerate(totals):
        combined = f"sum{j}[k] = combine_{total.combine}(sum{j}[k], shared{j}[{own} + n * blockDim.x]);"
        lines.append(f"    if (threadIdx.y < n) {each_k}shared{j}[{own}] = {combined}")
    return [*lines, "    __syncthreads();", "}"]


def _lanes(totals: Sequence[_Total], several: bool) -> list[str]:
    """Return the statements that combine the totals of threads that differ in x: within warps, then among several."""
    lines = ["const int lanes = blockDim.x < 32 ? blockDim.x : 32;", "for (int n = lanes / 2; n > 0; n /= 2) {"]
    for j, total in enumerate(totals):
        other = f"__shfl_down_sync(0xffffffffu, sum{j}[0], n, lanes)"
        lines.append(f"    sum{j}[0] = combine_{total.combine}(sum{j}[0], {other});")
    lines.append("}")
    if not several:
        return lines
    lines += ["if (blockDim.x > 32) {", "    const int warp = (threadIdx.y * blockDim.x + threadIdx.x) / 32;"]
    lines += [f"    if (threadIdx.x % 32 == 0) shared{j}[warp] = sum{j}[0];" for j in range(len(totals))]
    lines += [
        "    __syncthreads();",
        "    if (threadIdx.x == 0) {",
        "        for (int n = 1; n < blockDim.x / 32; ++n) {",
    ]
    for j, total in enumerate(totals):
        lines.append(f"            sum{j}[0] = combine_{total.combine}(sum{j}[0], shared{j}[warp + n]);")
    return [*lines, "        }", "    }", "}"]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]
