"""Kernels of softmax, log_softmax and logsumexp over one axis: a warp, or some lanes of it, for each row."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from ..program import Equation, Variable
from .kernel import BLOCK, MOST_BLOCKS, Kernel, Unsupported, named
from .schedule import reduced_axes
from .source import DOUBLE, HALF, SINGLE, c_type, helpers, infinity, loaded, stored_type, to_store
from .space import Space, coordinates, in_elements, kept_strides, offset

ROW = """\
template <class T> __device__ T largest(T a, T b) { return a >= b || a != a ? a : b; }  // NaN stays

// every lane gets the result, with the same bits, as a + b is b + a
template <class T> __device__ T row_sum(T x, int lanes) {
    for (int n = lanes / 2; n > 0; n /= 2) x = x + __shfl_xor_sync(0xffffffffu, x, n, lanes);
    return x;
}
template <class T> __device__ T row_max(T x, int lanes) {
    for (int n = lanes / 2; n > 0; n /= 2) x = largest(x, __shfl_xor_sync(0xffffffffu, x, n, lanes));
    return x;
}

"""
# of the logarithm of the sum, and of each element x; {f} and {T} as in source.py
RESULTS = {
    "logsumexp": "total == 0 ? -{inf} : log{f}(total) + shift",
    "softmax": "exp{f}(x - shift) / (total == 0 ? ({T})1 : total)",
    "log_softmax": "x - shift - log{f}(total == 0 ? ({T})1 : total)",
}


def kernels(
    e: Equation, stored: set[Variable], strides: Mapping[Variable, tuple[int, ...]] | None = None
) -> list[Kernel]:
    """Return the kernel of one of these operations. Numbers of float16 are rounded once, at the end."""
    x, y, strides = e.variables[0], e.output, strides or {}
    if x.dtype not in (HALF, SINGLE, DOUBLE):
        raise Unsupported(f"there is no kernel for {e.primitive.name} of {x.dtype.name}")
    axes = reduced_axes(e)
    whole = e.primitive.name != "logsumexp"
    target = in_elements(y, strides, x.shape) if whole else kept_strides(y, strides, x.shape, axes)
    space = Space(x.shape, [in_elements(x, strides, x.shape), target], axes)
    length = prod(x.shape[axis] for axis in axes)
    rows = prod(x.shape) // length if length else prod(y.shape)
    if y not in stored or not rows or (whole and not length):
        return []
    unsigned = "unsigned int" if space.index_type() == "int" else "unsigned long long"
    x_threads = min(32, 1 << max(0, length.bit_length() - 1))
    y_threads = BLOCK // x_threads
    text = [
        f'extern "C" __global__ void __launch_bounds__({BLOCK}) KERNEL(',
        f"    const {stored_type(x.dtype)}* __restrict__ p0, {stored_type(y.dtype)}* __restrict__ p1) {{",
        f"    const {unsigned} step = gridDim.x * blockDim.y;",
        f"    for ({unsigned} first = blockIdx.x * blockDim.y; first < {rows}; first += step) {{",
        *(f"        {line}" for line in _row(e, space, unsigned, rows, length)),
        "    }",
        "}",
    ]
    source = "".join(f"{line}\n" for line in text)
    name, source = named(helpers(source) + ROW + source, e.primitive.name)
    grid = (min(-(-rows // y_threads), MOST_BLOCKS), 1, 1)
    return [Kernel(name, source, grid, (x_threads, y_threads, 1), (x, y))]


def _row(e: Equation, space: Space, unsigned: str, rows: int, length: int) -> list[str]:
    """Return the statements of the threads of one row: its maximum, the sum of the exponentials, the results."""
    x, y = e.variables[0], e.output
    wide = c_type(DOUBLE if x.dtype == DOUBLE else SINGLE)
    f, inf = ("", infinity(DOUBLE)) if x.dtype == DOUBLE else ("f", infinity(SINGLE))
    axes = range(len(space.lengths))
    kept, added = ([i for i in axes if space.reduced[i] is r] for r in (False, True))
    needed = {j for each in space.strides for j, s in enumerate(each) if s}
    kind = space.index_type()
    along = coordinates("i", space.lengths, added, needed, kind)
    element = f"const {wide} x = {loaded(f'p0[{offset(space.strides[0])}]', x.dtype)};"
    result = RESULTS[e.primitive.name].format(f=f, inf=inf, T=wide)
    store = f"p1[{offset(space.strides[1])}] = {to_store(f'({result})', y.dtype)};"

    def over_row(statement: str) -> list[str]:
        return [
            f"if (row < {rows}) for ({unsigned} i = threadIdx.x; i < {length}; i += blockDim.x) {{",
            *(f"    {line}" for line in (*along, element, statement)),
            "}",
        ]

    one = e.primitive.name == "logsumexp"  # result for the row
    return [
        f"const {unsigned} row = first + threadIdx.y;",
        *coordinates("row", space.lengths, kept, needed, kind),
        f"{wide} most = -{inf}, total = 0;",
        *over_row("most = largest(most, x);"),
        "most = row_max(most, blockDim.x);",
        f"const {wide} shift = fabs{f}(most) < {inf} ? most : 0;  // -inf - -inf would be NaN",
        *over_row(f"total = total + exp{f}(x - shift);"),
        "total = row_sum(total, blockDim.x);",
        *([f"if (row < {rows} && threadIdx.x == 0) {store}"] if one else over_row(store)),
    ]
