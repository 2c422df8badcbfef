"""Random numbers without hidden state: the counter-based generator Philox4x32-10.

Each function here is a pure function of ``(seed, stream, counter)``. Nothing is remembered between calls: a caller
draws, then adds `blocks` to its counter. The same three integers therefore give the same random words on every
device, in every replay of a recorded program and after every restart from a checkpoint.

Philox turns a 128-bit counter into a *block* of four random 32-bit words. Block ``i`` of a draw uses

    counter words   low and high half of (counter + i) mod 2**64, low and high half of stream
    key words       low and high half of seed

so two streams never share a block, and a draw may be cut into pieces at block borders. Where 64-bit words are needed,
each is made of two consecutive 32-bit words, the first of which is the upper half.

The integers are the same on every device; so is `uniform`, which only scales them by a power of two. `normal` uses
log, sin and cos, whose last bits differ between math libraries.

Every function takes the array namespace ``xp`` (numpy or cupy); ``seed`` and ``stream``, integers modulo 2**64; and
``counter``, an integer modulo 2**64 or a 0-d uint64 array of ``xp``, which is never read on the host.

Source: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import DataError, DTypeError, ShapeError

Array = Any  # a NumPy or a CuPy array

ROUNDS = 10
MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85  # fractions of the golden ratio and of sqrt(3): what a round adds to the key
LOW, HIGH, ALL = 0xFFFFFFFF, 0xFFFFFFFF00000000, 0xFFFFFFFFFFFFFFFF

# Blocks that NumPy computes at a time: many, to hide the cost of a call; few, to stay in the processor's cache.
TILE = 1 << 15

WORDS_PER_FLOAT = {"float16": 1, "float32": 1, "float64": 2}


def philox4x32(xp: Any, counter_words: Sequence[Array], key_words: Sequence[int]) -> list[Array]:
    """The bijection itself: ten rounds of Philox4x32, element by element.

    Parameters
    ----------
    xp : module
        numpy or cupy.
    counter_words : four uint32 arrays of one shape
    key_words : two integers below 2**32

    Returns
    -------
    list of four uint32 arrays of that shape

    Examples
    --------
    >>> zero = np.zeros((), np.uint32)
    >>> [f"{int(word):08x}" for word in philox4x32(np, [zero] * 4, (0, 0))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    shape = counter_words[0].shape
    state = xp.empty((2, math.prod(shape)), dtype=xp.uint64)
    for row, upper, lower in zip(state, counter_words[0::2], counter_words[1::2], strict=True):
        row[...] = upper.reshape(-1)
        row <<= 32
        row |= lower.reshape(-1)
    scratch = xp.empty_like(state)
    _rounds(xp, state, scratch, _round_keys(int(key_words[0]) | int(key_words[1]) << 32), first=0)
    words = _words(xp, state, scratch).reshape(-1, 4)
    return [words[:, j].reshape(shape) for j in range(4)]


def random_bits(xp: Any, seed: int, stream: int, counter: int | Array, n: int) -> Array:
    """Return ``n`` random uint32 words; one word per element.

    Examples
    --------
    A draw of eight words is two draws of one block each:

    >>> whole = random_bits(np, 1, 0, 5, 8)
    >>> pieces = random_bits(np, 1, 0, 5, 4), random_bits(np, 1, 0, 6, 4)
    >>> bool(np.all(whole == np.concat(pieces)))
    True
    """
    count = blocks_needed(_size(n))
    out = xp.empty(4 * count, dtype=xp.uint32)
    for start, stop, state, scratch in _tiles(xp, seed, stream, counter, count):
        _words(xp, state, scratch, out[4 * start : 4 * stop])
    return out[:n]


def uniform(
    xp: Any, seed: int, stream: int, counter: int | Array, shape: int | Sequence[int], dtype: npt.DTypeLike = "float32"
) -> Array:
    """Return numbers uniform in [0, 1): multiples of 2**-11 (float16), 2**-24 (float32) or 2**-53 (float64).

    An element consumes one word, or two in float64. It is exactly the word's (the 64-bit word's) leading bits times a
    power of two, so 1.0 never occurs.

    Examples
    --------
    >>> uniform(np, 0, 0, 0, (2, 2)).tolist()
    [[0.3990464210510254, 0.8805201649665833], [0.7357127666473389, 0.6054818034172058]]
    """
    if np.dtype(dtype) == np.float16:
        values = uniform(xp, seed, stream, counter, shape)
        values *= 2.0**11
        xp.floor(values, out=values)
        values *= 2.0**-11
        return values.astype(xp.float16)
    out, per_block = _empty_floats(xp, shape, dtype)
    for start, stop, state, scratch in _tiles(xp, seed, stream, counter, out.size // per_block):
        part = out[per_block * start : per_block * stop]
        if per_block == 2:
            _leading_53_bits(state, part)
            part *= 2.0**-53
        else:
            words = _words(xp, state, scratch, part.view(xp.uint32))
            words >>= 8
            # signed, because processors convert signed integers faster; CuPy skips `part[...] =` the same address
            xp.copyto(part, words.view(xp.int32), casting="unsafe")
            part *= 2.0**-24
    return out[: _size(shape)].reshape(shape)


def normal(
    xp: Any, seed: int, stream: int, counter: int | Array, shape: int | Sequence[int], dtype: npt.DTypeLike = "float32"
) -> Array:
    """Return numbers from the normal distribution with mean 0 and variance 1 (Box and Muller, 1958).

    An element consumes one word, or two in float64: elements 2j and 2j + 1 are the cosine and the sine of one radius
    and angle. The argument of the logarithm lies in (0, 1], so every number is finite: below 6.7 in float16 and
    float32, where the radius has 32 random bits, and below 8.6 in float64, where it has 53. Float16 is float32
    rounded.

    Examples
    --------
    >>> normal(np, 0, 0, 0, 4, "float64").round(6).tolist()
    [-0.121518, -1.350033, -0.081874, -0.222709]
    """
    if np.dtype(dtype) == np.float16:
        return normal(xp, seed, stream, counter, shape).astype(xp.float16)
    out, per_block = _empty_floats(xp, shape, dtype)
    for start, stop, state, scratch in _tiles(xp, seed, stream, counter, out.size // per_block):
        part = out[per_block * start : per_block * stop]
        if per_block == 2:
            _leading_53_bits(state, part)
            scale = 2.0**-53
        else:
            xp.copyto(part, _words(xp, state, scratch, part.view(xp.uint32)), casting="unsafe")
            scale = 2.0**-32
        # The integers are in part now, so the memory of the words is free.
        radius, angle, wave = state[0].view(part.dtype), state[1].view(part.dtype), scratch[0].view(part.dtype)
        xp.add(part[0::2], 1.0, out=radius)
        radius *= scale
        xp.log(radius, out=radius)
        radius *= -2.0
        xp.sqrt(radius, out=radius)
        xp.multiply(part[1::2], 2.0 * math.pi * scale, out=angle)
        xp.multiply(radius, xp.cos(angle, out=wave), out=part[0::2])
        xp.multiply(radius, xp.sin(angle, out=wave), out=part[1::2])
    return out[: _size(shape)].reshape(shape)


def integers(
    xp: Any, seed: int, stream: int, counter: int | Array, low: int, high: int, shape: int | Sequence[int]
) -> Array:
    """Return int64 numbers uniform in [low, high), where high - low is at most 2**32.

    An element consumes two words. It is low + floor(w * (high - low) / 2**64) for the 64-bit word w, so the probability
    of a value is 1 / (high - low) up to a relative error of at most (high - low) / 2**64, hence at most 2**-32.

    Examples
    --------
    >>> integers(np, 0, 0, 0, 1, 7, 10).tolist()
    [3, 5, 6, 5, 1, 1, 5, 4, 6, 6]
    """
    span = high - low
    if not 0 < span <= 1 << 32 or not -(1 << 63) <= low <= high - 1 < 1 << 63:
        raise DataError(
            f"integers(low={low}, high={high}): expected int64 bounds with low < high and high - low <= 2**32; "
            "for wider ranges combine words of random_bits"
        )
    size = _size(shape)
    words = _words64(xp, seed, stream, counter, size)
    # floor(w * span / 2**64) from the halves of w, so that nothing exceeds 64 bits.
    carry = words & xp.uint64(LOW)
    carry *= xp.uint64(span)
    carry >>= 32
    words >>= 32
    words *= xp.uint64(span)
    words += carry
    words >>= 32
    values = words.view(xp.int64)
    values += low
    return values.reshape(shape)


def permutation(xp: Any, seed: int, stream: int, counter: int | Array, n: int) -> Array:
    """Return a random order of 0 ... n - 1 as int64: the order that sorts ``n`` random 64-bit words.

    An element consumes two words. Equal words, which have probability below n**2 / 2**65, keep their order.

    Examples
    --------
    >>> permutation(np, 0, 0, 0, 5).tolist()
    [4, 0, 3, 1, 2]
    """
    order = xp.argsort(_words64(xp, seed, stream, counter, n), kind="stable")
    return order.astype(xp.int64, copy=False)


def blocks_needed(words: int) -> int:
    """Return how many blocks hold this many 32-bit words.

    Examples
    --------
    >>> blocks_needed(9)
    3
    """
    return -(-words // 4)


def blocks(kind: str, size: int, dtype: npt.DTypeLike = "float32") -> int:
    """Return how many blocks a draw of ``size`` elements consumes: what to add to the counter afterwards.

    Parameters
    ----------
    kind : "random_bits", "uniform", "normal", "integers" or "permutation"
    size : int
        Number of elements.
    dtype : dtype
        Read for "uniform" and "normal" only.

    Examples
    --------
    >>> blocks("uniform", 10), blocks("normal", 10, "float64"), blocks("permutation", 10)
    (3, 5, 5)
    """
    if kind == "random_bits":
        return blocks_needed(size)
    if kind in ("integers", "permutation"):
        return blocks_needed(2 * size)
    if kind in ("uniform", "normal"):
        return blocks_needed(_words_per_float(dtype) * size)
    raise DataError(
        f"blocks: unknown kind {kind!r}; expected 'random_bits', 'uniform', 'normal', 'integers' or 'permutation'"
    )


def _tiles(
    xp: Any, seed: int, stream: int, counter: int | Array, count: int
) -> Iterator[tuple[int, int, Array, Array]]:
    """Yield (start, stop, state, scratch) until ``count`` blocks are done; the next tile overwrites both arrays.

    ``state`` has two rows of uint64: word 0 above word 1, and word 2 above word 3, of blocks start ... stop - 1.
    """
    tile = min(count, TILE) if xp is np else count  # a GPU wants few large calls instead
    keys, stream = _round_keys(int(seed)), int(stream)
    # One piece of memory, because malloc returns several large pieces to the system, which costs more than the rounds.
    workspace = xp.empty((5, tile), dtype=xp.uint64)
    index = workspace[0]
    index[...] = xp.arange(tile, dtype=xp.uint64)
    index += xp.uint64(counter & ALL) if isinstance(counter, int) else counter
    # Round 0, whose words 2 and 3 are the same in all blocks.
    key_0, key_1 = keys[0]
    constant_0 = xp.uint64((stream & LOW) * MULTIPLIER_1 ^ key_0)
    constant_1 = xp.uint64(stream & HIGH ^ key_1)
    for start in range(0, count, max(tile, 1)):
        stop = min(start + tile, count)
        state, scratch = workspace[1:3, : stop - start], workspace[3:5, : stop - start]
        upper, lower = state
        xp.bitwise_and(index[: stop - start], xp.uint64(HIGH), out=upper)
        upper ^= constant_0
        xp.bitwise_and(index[: stop - start], xp.uint64(LOW), out=lower)
        lower *= xp.uint64(MULTIPLIER_0)
        lower ^= constant_1
        _rounds(xp, state, scratch, keys, first=1)
        yield start, stop, state, scratch
        index += xp.uint64(tile)


def _rounds(xp: Any, state: Array, scratch: Array, keys: list[tuple[int, int]], first: int) -> None:
    """Apply rounds ``first`` ... 9 to ``state`` in place.

    With words c0 ... c3 packed as a = (c0, c1) and b = (c2, c3), upper half first, a round is
    a, b = M1 * c2 ^ (c1 ^ k0, 0), M0 * c0 ^ (c3 ^ k1, 0): the products already have their halves in the right places.
    """
    a, b = state
    product_a, product_b = scratch
    # 0-d arrays, because NumPy handles them faster than scalars; filled on the device, so that nothing is uploaded.
    multiplier_0, multiplier_1, half = (xp.full((), value, xp.uint64) for value in (MULTIPLIER_0, MULTIPLIER_1, 32))
    for r in range(first, ROUNDS):
        xp.right_shift(b, half, out=product_a)
        xp.right_shift(a, half, out=product_b)
        product_a *= multiplier_1
        product_b *= multiplier_0
        state <<= half
        state ^= scratch
        if r % 2 == 0:
            key_0, key_1 = keys[r // 2]
            a ^= xp.uint64(key_0)
            b ^= xp.uint64(key_1)


def _round_keys(seed: int) -> list[tuple[int, int]]:
    """The keys of rounds 0 and 1, 2 and 3, ...: upper half for this round, lower half waiting for the next one.

    A round only moves the lower halves c1 and c3 up, so they can carry the next round's key along for free.
    """
    key_0, key_1 = seed & LOW, seed >> 32 & LOW
    steps = [((key_0 + r * WEYL_0) & LOW, (key_1 + r * WEYL_1) & LOW) for r in range(ROUNDS)]
    return [
        (this_0 << 32 | next_0, this_1 << 32 | next_1)
        for (this_0, this_1), (next_0, next_1) in zip(steps[0::2], steps[1::2], strict=True)
    ]


def _words(xp: Any, state: Array, scratch: Array, out: Array | None = None) -> Array:
    """The 32-bit words of all blocks in order, flat."""
    out = xp.empty(4 * state.shape[1], dtype=xp.uint32) if out is None else out
    xp.right_shift(state, xp.uint64(32), out=scratch)
    out[0::4], out[1::4] = scratch[0], state[0]  # the assignment keeps the lower 32 bits
    out[2::4], out[3::4] = scratch[1], state[1]
    return out


def _words64(xp: Any, seed: int, stream: int, counter: int | Array, n: int) -> Array:
    """``n`` random uint64 words."""
    count = blocks_needed(2 * _size(n))
    out = xp.empty(2 * count, dtype=xp.uint64)
    for start, stop, state, _ in _tiles(xp, seed, stream, counter, count):
        out[2 * start : 2 * stop : 2], out[2 * start + 1 : 2 * stop : 2] = state
    return out[:n]


def _leading_53_bits(state: Array, out: Array) -> None:
    """Write the leading 53 bits of the 64-bit words into ``out``, float64, as integers; ``state`` is lost."""
    state >>= 11
    out[0::2], out[1::2] = state.view(np.int64)


def _empty_floats(xp: Any, shape: int | Sequence[int], dtype: npt.DTypeLike) -> tuple[Array, int]:
    """An array for whole blocks of floats, and how many floats a block gives."""
    words = _words_per_float(dtype)
    per_block = 4 // words
    return xp.empty(per_block * blocks_needed(words * _size(shape)), dtype=dtype), per_block


def _words_per_float(dtype: npt.DTypeLike) -> int:
    name = np.dtype(dtype).name
    if name not in WORDS_PER_FLOAT:
        raise DTypeError(f"random numbers of dtype {name}: expected float16, float32 or float64; draw, then cast")
    return WORDS_PER_FLOAT[name]


def _size(shape: int | Sequence[int]) -> int:
    """The number of elements."""
    sizes = [operator.index(n) for n in (shape if isinstance(shape, Sequence) else [shape])]
    if any(n < 0 for n in sizes):
        raise ShapeError(f"random numbers of shape {shape}: expected sizes of 0 or more")
    return math.prod(sizes)
