"""Random draws inside of kernels: Philox4x32-10, the same words as `minigrad.philox`, a block of four at a time."""

from __future__ import annotations

import hashlib
from math import pi

import numpy as np

from ... import philox
from ..program import Equation
from .kernel import Unsupported
from .source import DOUBLE, HALF, SINGLE, c_type

RANDOM = ("random_uniform", "random_normal", "random_integers")

PHILOX = f"""\
struct Words {{ unsigned int at[4]; }};
template <class T, int N> struct Drawn {{ T at[N]; }};

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


def drawing(e: Equation) -> tuple[str, int, str]:
    """Return the function that makes numbers of a block of words: its name, how many they are, and its text.

    Its argument is the number of the block; it returns a struct with an array `at`.
    """
    count, statements = _block(e)
    seed, stream = int(e.metadata["seed"]) & philox.ALL, int(e.metadata["stream"]) & philox.ALL
    kind = f"Drawn<{c_type(e.output.dtype)}, {count}>"
    lines = [
        f"static __device__ {kind} DRAW(const unsigned long long block) {{",
        f"    const Words w = philox(block, {stream:#x}ull, {seed:#x}ull);",
        f"    {kind} drawn;",
        *(f"    {line}" for line in statements),
        "    return drawn;",
        "}",
    ]
    text = "".join(f"{line}\n" for line in lines)
    name = f"draw_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return name, count, text.replace("DRAW", name)


def _block(e: Equation) -> tuple[int, list[str]]:
    """Return how many numbers a block of words `w` gives, and the statements that put them into `drawn.at`."""
    kind, dtype = e.primitive.name, e.output.dtype
    if kind == "random_integers":
        low, span = int(e.metadata["low"]), int(e.metadata["high"]) - int(e.metadata["low"])
        start = "(-9223372036854775807ll - 1)" if low == -(2**63) else f"{low}ll"
        # floor(word * span / 2^64) from the halves of the word
        return 2, [
            "for (int k = 0; k < 2; ++k) {",
            "    const unsigned long long word = wide(w, k);",
            f"    const unsigned long long carry = (word & 0xffffffffull) * {span}ull >> 32;",
            f"    drawn.at[k] = {start} + (long long)(((word >> 32) * {span}ull + carry) >> 32);",
            "}",
        ]
    if dtype not in (HALF, SINGLE, DOUBLE):
        raise Unsupported(f"there are no draws of {dtype.name}")
    if kind == "random_uniform":
        if dtype == DOUBLE:
            return 2, ["for (int k = 0; k < 2; ++k) drawn.at[k] = (wide(w, k) >> 11) * 0x1p-53;"]
        bits, scale = (21, "0x1p-11f") if dtype == HALF else (8, "0x1p-24f")
        return 4, ["#pragma unroll", f"for (int k = 0; k < 4; ++k) drawn.at[k] = (w.at[k] >> {bits}) * {scale};"]
    # Box and Muller: pairs of numbers are the cosine and the sine of one radius and angle
    if dtype == DOUBLE:
        return 2, [
            "const double radius = sqrt(-2.0 * log(((wide(w, 0) >> 11) + 1.0) * 0x1p-53));",
            f"const double angle = (wide(w, 1) >> 11) * {2 * pi * 2.0**-53!r};",
            "drawn.at[0] = radius * cos(angle);",
            "drawn.at[1] = radius * sin(angle);",
        ]
    turn = f"{float(str(np.float32(2 * pi * 2.0**-32)))!r}f"
    return 4, [
        "#pragma unroll",
        "for (int k = 0; k < 4; k += 2) {",
        "    const float radius = sqrtf(-2.0f * logf(((float)w.at[k] + 1.0f) * 0x1p-32f));",
        f"    const float angle = (float)w.at[k + 1] * {turn};",
        "    drawn.at[k] = radius * cosf(angle);",
        "    drawn.at[k + 1] = radius * sinf(angle);",
        "}",
    ]
