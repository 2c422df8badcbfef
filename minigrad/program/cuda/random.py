"""Kernels of random draws: Philox4x32-10, the same words as `minigrad.philox`, one block of four words per thread."""

from __future__ import annotations

from collections.abc import Mapping
from math import pi, prod

import numpy as np

from ... import philox
from ..program import Equation, Variable
from .kernel import Kernel, Unsupported, named
from .source import DOUBLE, HALF, SINGLE, helpers, stored_type, to_store
from .space import coordinates, in_elements, offset

BLOCK = 256

PHILOX = f"""\
struct Words {{ unsigned int at[4]; }};

// block `counter` of a stream: ten rounds
__device__ Words philox(unsigned long long counter, unsigned long long stream, unsigned long long seed) {{
    unsigned int c0 = counter, c1 = counter >> 32, c2 = stream, c3 = stream >> 32, k0 = seed, k1 = seed >> 32;
    #pragma unroll
    for (int round = 0; round < {philox.ROUNDS}; ++round) {{
        const unsigned long long a = {philox.MULTIPLIER_0:#x}ull * c0, b = {philox.MULTIPLIER_1:#x}ull * c2;
        c0 = (unsigned int)(b >> 32) ^ c1 ^ k0;
        c2 = (unsigned int)(a >> 32) ^ c3 ^ k1;
        c1 = b;
        c3 = a;
        k0 += {philox.WEYL_0:#x}u;
        k1 += {philox.WEYL_1:#x}u;
    }}
    return {{{{c0, c1, c2, c3}}}};
}}

__device__ unsigned long long wide(Words w, int pair) {{
    return (unsigned long long)w.at[2 * pair] << 32 | w.at[2 * pair + 1];
}}

"""


def kernels(
    e: Equation, stored: set[Variable], strides: Mapping[Variable, tuple[int, ...]] | None = None
) -> list[Kernel]:
    """Return the kernel of a draw. Its counter, a 0-d uint64, is read on the GPU."""
    v, size = e.output, prod(e.output.shape)
    if size == 0 or v not in stored:
        return []
    count, statements = _block(e)
    blocks = -(-size // count)
    index = "int" if size < 2**31 - 2**24 else "long long"
    unsigned = "unsigned int" if index == "int" else "unsigned long long"
    along = in_elements(v, strides or {}, v.shape)
    needed = {j for j, s in enumerate(along) if s}
    row_major = tuple(0 if n == 1 else prod(v.shape[i + 1 :]) for i, n in enumerate(v.shape))
    place = ["out[i]"] if along == row_major else [f"out[{offset(along)}]"]
    where = [] if along == row_major else coordinates("i", v.shape, range(len(v.shape)), needed, index)
    seed, stream = int(e.metadata["seed"]), int(e.metadata["stream"])
    lines = [
        "const unsigned long long start = counter[0];",
        f"for ({unsigned} j = blockIdx.x * blockDim.x + threadIdx.x; j < {blocks}; j += gridDim.x * blockDim.x) {{",
        f"    const Words w = philox(start + j, {stream & philox.ALL:#x}ull, {seed & philox.ALL:#x}ull);",
        *(f"    {line}" for line in statements),
        "    #pragma unroll",
        f"    for (int k = 0; k < {count}; ++k) {{",
        f"        const {unsigned} i = {count} * j + k;",
        f"        if (i >= {size}) break;",
        *(f"        {line}" for line in where),
        f"        {place[0]} = {to_store('drawn[k]', v.dtype)};",
        "    }",
        "}",
    ]
    text = f'extern "C" __global__ void __launch_bounds__({BLOCK}) KERNEL(\n'
    text += f"    const unsigned long long* __restrict__ counter, {stored_type(v.dtype)}* __restrict__ out) {{\n"
    text += "".join(f"    {line}\n" for line in lines) + "}\n"
    name, source = named(helpers(text) + PHILOX + text, "random")
    grid = (min(-(-blocks // BLOCK), 1056), 1, 1)
    return [Kernel(name, source, grid, (BLOCK, 1, 1), (e.variables[0], v))]


def _block(e: Equation) -> tuple[int, list[str]]:
    """Return how many numbers a block of words gives, and the statements that make the array `drawn` of them."""
    kind, dtype = e.primitive.name, e.output.dtype
    if kind == "random_integers":
        low, span = int(e.metadata["low"]), int(e.metadata["high"]) - int(e.metadata["low"])
        start = "(-9223372036854775807ll - 1)" if low == -(2**63) else f"{low}ll"
        # floor(word * span / 2^64) from the halves of the word
        return 2, [
            "long long drawn[2];",
            "for (int k = 0; k < 2; ++k) {",
            "    const unsigned long long word = wide(w, k);",
            f"    const unsigned long long carry = (word & 0xffffffffull) * {span}ull >> 32;",
            f"    drawn[k] = {start} + (long long)(((word >> 32) * {span}ull + carry) >> 32);",
            "}",
        ]
    if dtype not in (HALF, SINGLE, DOUBLE):
        raise Unsupported(f"there are no draws of {dtype.name}")
    if kind == "random_uniform":
        if dtype == DOUBLE:
            return 2, [f"const double drawn[2] = {{{', '.join(f'(wide(w, {k}) >> 11) * 0x1p-53' for k in range(2))}}};"]
        bits, scale = (21, "0x1p-11f") if dtype == HALF else (8, "0x1p-24f")
        return 4, [f"const float drawn[4] = {{{', '.join(f'(w.at[{k}] >> {bits}) * {scale}' for k in range(4))}}};"]
    # Box and Muller: pairs of numbers are the cosine and the sine of one radius and angle
    if dtype == DOUBLE:
        return 2, [
            "const double radius = sqrt(-2.0 * log(((wide(w, 0) >> 11) + 1.0) * 0x1p-53));",
            f"const double angle = (wide(w, 1) >> 11) * {2 * pi * 2.0**-53!r};",
            "const double drawn[2] = {radius * cos(angle), radius * sin(angle)};",
        ]
    turn = f"{float(str(np.float32(2 * pi * 2.0**-32)))!r}f"
    return 4, [
        "float drawn[4];",
        "#pragma unroll",
        "for (int k = 0; k < 4; k += 2) {",
        "    const float radius = sqrtf(-2.0f * logf(((float)w.at[k] + 1.0f) * 0x1p-32f));",
        f"    const float angle = (float)w.at[k + 1] * {turn};",
        "    drawn[k] = radius * cosf(angle);",
        "    drawn[k + 1] = radius * sinf(angle);",
        "}",
    ]
