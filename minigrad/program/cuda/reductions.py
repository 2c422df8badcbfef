"""Kernels of reductions: sums, means and extrema of what a group computes, in a fixed order.

A block is a grid of threads. In one direction they stand for results, in the other one for pieces of the same result:
the direction along memory is the threads' x, so that neighbours read neighbours. Each thread adds up its piece; the
pieces are then combined in a tree that depends on the sizes alone. Where the results are too few to occupy the GPU,
each is cut into chunks: a first kernel writes the chunks' results to scratch memory, and a second one combines them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from .source import BOOL, DOUBLE, HALF, INT64, SINGLE, UINT64, c_type, converted, helpers, infinity, to_store
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
        if self.dtype.kind == "f":
            return f"{'-' if self.combine == 'max' else ''}{infinity(self.dtype)}"
        low, high = (0, 1) if self.truth else (np.iinfo(self.dtype).min, np.iinfo(self.dtype).max)
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
    layout = Layout(results, size // results, along, width, len(totals))
    cut = layout.chunks > 1
    scratch = {t: Scratch(layout.chunks * results * t.dtype.itemsize) for t in (totals if cut else complete)}
    made = [_kernel(layout, space, arrays, totals, summands, scratch)]
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
    layout = Layout(results, lengths[axis], along, width, len(totals), whole=True)
    last = _kernel(layout, space, arrays, totals, texts, {})
    parameters = tuple(parts.get(p, p) if isinstance(p, Variable) else p for p in last.parameters)
    return Kernel(last.name, last.source, last.grid, last.block, parameters)


def _kernel(
    layout: Layout,
    space: Space,
    arrays: Arrays,
    totals: Sequence[_Total],
    summands: Sequence[str],
    scratch: Mapping[_Total, Scratch],
) -> Kernel:
    """Return one kernel: its results go to scratch memory, where a total has some, or to where they belong."""
    kind = space.index_type()
    unsigned = "unsigned int" if kind == "int" else "unsigned long long"
    along, width = layout.along, layout.width
    axes = range(len(space.lengths))
    kept, added = ([i for i in axes if space.reduced[i] is r] for r in (False, True))
    inputs = space.strides[: len(arrays.strides)]
    outputs: list[tuple[int, ...]] = space.strides[len(arrays.strides) :]
    outputs += [()] * (len(totals) - len(outputs))  # what is complete in scratch memory only
    needed = {j for each in inputs for j, s in enumerate(each) if s}
    result, piece = ("x", "y") if along else ("y", "x")
    k = "k" if width > 1 else "0"
    many = width if along else 1  # totals of one thread, in the end
    each_k = f"for (int k = 0; k < {many}; ++k) "

    adding = [
        f"sum{j}[{k}] = combine_{total.combine}(sum{j}[{k}], {text});"
        for j, (total, text) in enumerate(zip(totals, summands, strict=True))
    ]
    places = [offset(each) for each in inputs]

    def loop(wide: bool) -> list[str]:
        inner = coordinates("i", space.lengths, added, needed, kind, 1 if along else width)
        inner += arrays.step(places, inputs, width, adding, wide)
        return [
            "#pragma unroll 4",
            f"for ({unsigned} i = begin + threadIdx.{piece}; i < end; i += blockDim.{piece}) {{",
            *_indented(inner),
            "}",
        ]

    own = coordinates("unit", space.lengths, kept, needed, kind, width if along else 1)
    if width > 1:
        own += ["if (wide) {", *_indented(loop(True)), "} else {", *_indented(loop(False)), "}"]
    else:
        own += loop(True)
    lines = [
        f"const {unsigned} begin = blockIdx.y * {layout.chunk}, after = begin + {layout.chunk};",
        f"const {unsigned} end = after < {layout.steps} ? after : {layout.steps};",
        f"const {unsigned} stride = gridDim.x * blockDim.{result};",
        *arrays.load_singles(),
    ]
    if width > 1:
        lines.append(f"const bool wide = {arrays.aligned(inputs, width)};")
    if layout.shared:
        lines += [f"__shared__ {total.type} shared{j}[{layout.shared}];" for j, total in enumerate(totals)]
    body = [f"const {unsigned} unit = first + threadIdx.{result};"]
    for j, total in enumerate(totals):
        body.append(f"{total.type} sum{j}[{width}] = {{{', '.join([total.start()] * width)}}};")
    body += [f"if (unit < {layout.units}) {{", *_indented(own), "}"]
    for j, total in enumerate(totals):
        if not along and width > 1:
            neighbours = f"sum{j}[0] = combine_{total.combine}(sum{j}[0], sum{j}[k]);"
            body += ["#pragma unroll", f"for (int k = 1; k < {width}; ++k) {neighbours}"]
    if totals and along:
        body += _tree(totals, many, each_k) if layout.shared else []
    elif totals:
        body += _lanes(totals, bool(layout.shared))
    writing = coordinates("unit", space.lengths, kept, {j for o in outputs for j, s in enumerate(o) if s}, kind, many)
    for j, (total, strides) in enumerate(zip(totals, outputs, strict=True)):
        value = f"sum{j}[{'k' if along else '0'}]"
        if total in scratch:
            place = (
                f"blockIdx.y * {layout.results}ll + unit * {many} + k"
                if along
                else f"unit * {layout.chunks}ll + blockIdx.y"
            )
        else:
            last = strides[kept[-1]] if kept else 0
            place = offset(strides) + (f" + k * {last}" if many > 1 and last else "")
            value = total.result(value)
        writing.append(f"{each_k if along else ''}out{j}[{place}] = {value};")
    body += [f"if (threadIdx.{piece} == 0 && unit < {layout.units}) {{", *_indented(writing), "}"]
    if len(totals) and layout.shared:
        body.append("__syncthreads();  // before the next results use the shared memory")
    lines += [
        f"for ({unsigned} first = blockIdx.x * blockDim.{result}; first < {layout.units}; first += stride) {{",
        *_indented(body),
        "}",
    ]
    declared = [arrays.declaration(i) for i in range(len(arrays.variables))]
    for j, total in enumerate(totals):
        element = (
            total.type
            if total in scratch
            else ("unsigned short" if total.output.dtype == HALF else c_type(total.output.dtype))
        )
        declared.append(f"{element}* __restrict__ out{j}")
    threads = layout.block[0] * layout.block[1]
    text = f'extern "C" __global__ void __launch_bounds__({threads}) KERNEL(\n    {", ".join(declared)}) {{\n'
    text += "".join(f"    {line}\n" for line in lines) + "}\n"
    text = helpers(text) + "".join(COMBINE[c] for c in dict.fromkeys(t.combine for t in totals)) + text
    draws = "".join([PHILOX, *dict.fromkeys(arrays.draws)]) if arrays.draws else ""
    name, text = named((VECTOR_TYPE if width > 1 else "") + draws + text, "reduction")
    targets = [scratch.get(total, total.output) for total in totals]
    return Kernel(name, text, layout.grid, layout.block, (*arrays.variables, *targets))


def _tree(totals: Sequence[_Total], many: int, each_k: str) -> list[str]:
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
