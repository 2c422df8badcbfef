"""Philox4x32-10: Random123's known answers, the layout of counters and words, exact ranges, and plain statistics.

Statistical tests draw with fixed seeds, so they give the same verdict every time. Their bounds are five standard
deviations, which a sound generator misses once in a million draws.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minigrad import philox

pytestmark = pytest.mark.filterwarnings("error")  # an overflow warning would mean that some step left modulo 2**64

# philox4x32 10 of Random123's file kat_vectors: counter, key, result.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

ALL = 2**64 - 1
words64 = st.integers(0, ALL)
# Counters around the two carries: out of the low word, and out of all 64 bits.
counters = st.one_of(words64, st.integers(ALL - 40, ALL), st.integers(2**32 - 40, 2**32))
shapes = st.one_of(st.integers(0, 9), st.lists(st.integers(0, 4), max_size=3).map(tuple))

DRAWS = {
    "random_bits": lambda counter, n: philox.random_bits(np, 5, 6, counter, n),
    "uniform float16": lambda counter, n: philox.uniform(np, 5, 6, counter, n, "float16"),
    "uniform float32": lambda counter, n: philox.uniform(np, 5, 6, counter, n, "float32"),
    "uniform float64": lambda counter, n: philox.uniform(np, 5, 6, counter, n, "float64"),
    "normal float16": lambda counter, n: philox.normal(np, 5, 6, counter, n, "float16"),
    "normal float32": lambda counter, n: philox.normal(np, 5, 6, counter, n, "float32"),
    "normal float64": lambda counter, n: philox.normal(np, 5, 6, counter, n, "float64"),
    "integers": lambda counter, n: philox.integers(np, 5, 6, counter, -3, 1000, n),
    "permutation": lambda counter, n: philox.permutation(np, 5, 6, counter, n),
}
all_draws = pytest.mark.parametrize("name", DRAWS)


def blocks(name: str, n: int) -> int:
    return philox.blocks(*name.split()[:1], n, *name.split()[1:])


def block(counter: int, stream: int, seed: int) -> list[int]:
    """One block after the paper's text, in Python's integers, one word at a time."""
    c0, c1, c2, c3 = counter & 0xFFFFFFFF, counter >> 32, stream & 0xFFFFFFFF, stream >> 32
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = p1 >> 32 ^ c1 ^ k0, p1 & 0xFFFFFFFF, p0 >> 32 ^ c3 ^ k1, p0 & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return [c0, c1, c2, c3]


def constant_state(monkeypatch: pytest.MonkeyPatch, value: int) -> None:
    """Make every random word 0 (value 0) or 2**32 - 1 (value 2**64 - 1)."""

    def rounds(xp, state, scratch, keys, first):
        state[...] = np.uint64(value)

    monkeypatch.setattr(philox, "_rounds", rounds)


# The words


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers_of_random123(counter, key, expected):
    words = philox.philox4x32(np, [np.array(c, np.uint32) for c in counter], key)
    assert [int(w) for w in words] == list(expected)
    assert all(w.dtype == np.uint32 and w.shape == () for w in words)

    low_high = [low | high << 32 for low, high in (key, counter[2:], counter[:2])]
    assert philox.random_bits(np, *low_high, 4).tolist() == list(expected)


def test_philox4x32_maps_arrays_element_by_element():
    counter = np.random.default_rng(0).integers(0, 2**32, (4, 3, 2), dtype=np.uint32)
    words = philox.philox4x32(np, list(counter), (11, 12))
    assert [w.shape for w in words] == [(3, 2)] * 4
    for i in np.ndindex(3, 2):
        c0, c1, c2, c3 = (int(c) for c in counter[:, *i])
        assert [int(w[i]) for w in words] == block(c0 | c1 << 32, c2 | c3 << 32, 11 | 12 << 32)


@given(words64, words64, counters, st.integers(0, 70))
@example(ALL, ALL, ALL - 2, 40)
@example(0, 0, 2**32 - 2, 40)
def test_random_bits_are_blocks_of_consecutive_counters(seed, stream, counter, n):
    bits = philox.random_bits(np, seed, stream, counter, n)
    expected = [w for i in range(-(-n // 4)) for w in block((counter + i) % 2**64, stream, seed)]
    assert bits.dtype == np.uint32
    assert bits.tolist() == expected[:n]


@given(words64, words64, words64)
def test_integers_are_taken_modulo_2_to_the_64(seed, stream, counter):
    wrapped = philox.random_bits(np, seed + 2**64, stream - 2**64, counter + 2**65, 5)
    assert np.array_equal(wrapped, philox.random_bits(np, seed, stream, counter, 5))


@pytest.mark.parametrize("name", sorted(set(DRAWS) - {"permutation"}))
@given(counters, st.integers(0, 12), st.integers(0, 40))
def test_draws_split_at_block_borders(name, counter, first_blocks, rest):
    draw = DRAWS[name]
    per_block = next(n for n in (4, 2) if blocks(name, n) == 1)
    first = per_block * first_blocks
    whole = draw(counter, first + rest)
    assert blocks(name, first) == first_blocks
    pieces = [draw(counter, first), draw(counter + first_blocks, rest)]
    assert np.array_equal(whole, np.concatenate(pieces))


@all_draws
def test_blocks_is_what_a_draw_consumes(name, monkeypatch):
    counts = []
    tiles = philox._tiles
    monkeypatch.setattr(philox, "_tiles", lambda *args: counts.append(args[-1]) or tiles(*args))
    for n in range(20):
        DRAWS[name](0, n)
        assert counts.pop() == blocks(name, n)
    words = 2 if name.endswith("64") or name in ("integers", "permutation") else 1
    assert [blocks(name, n) for n in (0, 1, 4, 5, 1000)] == [0, 1, words, 2 + (words == 2), 250 * words]


@all_draws
def test_the_size_of_a_tile_changes_nothing(name, monkeypatch):
    whole = DRAWS[name](2**32 - 5, 101)
    for tile in (1, 7, 26):
        monkeypatch.setattr(philox, "TILE", tile)
        assert np.array_equal(DRAWS[name](2**32 - 5, 101), whole)


@all_draws
def test_the_counter_may_be_an_array_that_is_never_read_nor_changed(name):
    class OnDevice(np.ndarray):
        def _refuse(self, *args):
            raise AssertionError("the counter was read on the host")

        __int__ = __index__ = __float__ = __bool__ = item = tolist = _refuse

    for counter in (0, 2**32 - 1, ALL - 1):
        device_counter = np.array(counter, np.uint64).view(OnDevice)
        assert np.array_equal(DRAWS[name](device_counter, 33), DRAWS[name](counter, 33))
        assert np.asarray(device_counter) == counter


NAMES = (
    "empty empty_like full arange right_shift bitwise_and add multiply floor log sqrt cos sin argsort "
    "copyto uint32 uint64 int32 int64 float16"
).split()


def test_only_the_listed_names_of_the_array_namespace_are_used():
    xp = SimpleNamespace(**{name: getattr(np, name) for name in NAMES})
    zero = np.zeros(1, np.uint32)
    assert philox.philox4x32(xp, [zero] * 4, (0, 0))[0] == 0x6627E8D5
    assert np.array_equal(philox.random_bits(xp, 5, 6, 7, 9), philox.random_bits(np, 5, 6, 7, 9))
    assert np.array_equal(philox.integers(xp, 5, 6, 7, 0, 9, 9), philox.integers(np, 5, 6, 7, 0, 9, 9))
    assert np.array_equal(philox.permutation(xp, 5, 6, 7, 9), philox.permutation(np, 5, 6, 7, 9))
    for dtype in ("float16", "float32", "float64"):
        for draw in (philox.uniform, philox.normal):
            assert np.array_equal(draw(xp, 5, 6, 7, 9, dtype), draw(np, 5, 6, 7, 9, dtype))


def test_cupy_has_the_listed_names():
    cupy = pytest.importorskip("cupy", reason="needs CuPy to look its names up")
    assert [name for name in NAMES if not hasattr(cupy, name)] == []


# Shapes, types, exact values, errors


@given(shapes, counters, st.sampled_from(["float16", "float32", "float64"]))
def test_shapes_and_dtypes(shape, counter, dtype):
    expected = (shape,) if isinstance(shape, int) else shape
    for draw in (philox.uniform, philox.normal):
        values = draw(np, 1, 2, counter, shape, dtype)
        assert isinstance(values, np.ndarray)
        assert values.shape == expected and values.dtype == dtype
        assert np.array_equal(values.reshape(-1), draw(np, 1, 2, counter, math.prod(expected), dtype))
        assert np.isfinite(values).all()
    whole = philox.integers(np, 1, 2, counter, -2, 3, shape)
    assert isinstance(whole, np.ndarray) and whole.shape == expected and whole.dtype == np.int64


def test_uniform_is_the_leading_bits_of_the_words():
    words = philox.random_bits(np, 1, 2, 3, 1000).astype(np.uint64)
    for dtype, bits in (("float16", 11), ("float32", 24)):
        expected = (words >> np.uint64(32 - bits)) / 2.0**bits
        assert np.array_equal(philox.uniform(np, 1, 2, 3, 1000, dtype).astype(float), expected)
    pairs = [(int(upper) << 32 | int(lower)) >> 11 for upper, lower in words.reshape(-1, 2)]
    assert philox.uniform(np, 1, 2, 3, 500, "float64").tolist() == [pair / 2.0**53 for pair in pairs]


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 11), ("float32", 24), ("float64", 53)])
def test_uniform_reaches_zero_but_never_one(dtype, bits, monkeypatch):
    constant_state(monkeypatch, 0)
    assert (philox.uniform(np, 0, 0, 0, 5, dtype) == 0).all()
    constant_state(monkeypatch, ALL)
    assert philox.uniform(np, 0, 0, 0, 5, dtype).astype(float).tolist() == [1 - 2.0**-bits] * 5


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 32), ("float32", 32), ("float64", 53)])
def test_normal_is_finite_for_the_extreme_words(dtype, bits, monkeypatch):
    constant_state(monkeypatch, 0)  # the smallest argument of the logarithm, and angle 0
    longest = math.sqrt(2 * bits * math.log(2))
    assert philox.normal(np, 0, 0, 0, 2, dtype).tolist() == pytest.approx([longest, 0], rel=1e-3)
    constant_state(monkeypatch, ALL)  # the largest argument, 1: radius 0
    assert philox.normal(np, 0, 0, 0, 2, dtype).tolist() == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-3), ("float32", 2e-6), ("float64", 1e-14)])
def test_normal_is_box_muller(dtype, tolerance):
    if dtype == "float64":
        draws = philox.uniform(np, 1, 2, 3, 1000, "float64")
        smallest = 2.0**-53
    else:
        draws = philox.random_bits(np, 1, 2, 3, 1000) / 2.0**32
        smallest = 2.0**-32
    radius, angle = np.sqrt(-2 * np.log(draws[0::2] + smallest)), 2 * np.pi * draws[1::2]
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
    # float32 rounds the angle, up to 2 pi, by 2.4e-7, and the radius is below 6.7.
    assert philox.normal(np, 1, 2, 3, 1000, dtype) == pytest.approx(expected, abs=tolerance, rel=tolerance)


@given(words64, st.integers(-(2**63), 2**63 - 1), st.one_of(st.integers(1, 2**32), st.sampled_from([1, 2**32])))
@example(7, -(2**63), 2**32)
@example(7, 2**63 - 2**32, 2**32)
@example(7, 2**63 - 1, 1)
def test_integers_are_scaled_64_bit_words(seed, low, span):
    high = min(low + span, 2**63)
    values = philox.integers(np, seed, 2, 3, low, high, 9)
    upper, lower = philox.random_bits(np, seed, 2, 3, 18).reshape(-1, 2).T.tolist()
    expected = [low + ((u << 32 | w) * (high - low) >> 64) for u, w in zip(upper, lower, strict=True)]
    assert values.tolist() == expected
    assert all(low <= v < high for v in expected)


@pytest.mark.parametrize("word", [0, ALL])
def test_integers_stay_in_range_for_the_extreme_words(word, monkeypatch):
    constant_state(monkeypatch, word)
    for low, high in ((0, 1), (-5, 2), (0, 2**32), (2**63 - 2**32, 2**63)):
        assert philox.integers(np, 0, 0, 0, low, high, 3).tolist() == [high - 1 if word else low] * 3


@pytest.mark.parametrize("bounds", [(0, 0), (3, 2), (0, 2**32 + 1), (2**63 - 1, 2**63 + 1), (-(2**63) - 1, 0)])
def test_integers_reject_bad_bounds(bounds):
    with pytest.raises(ValueError, match="low < high"):
        philox.integers(np, 0, 0, 0, *bounds, 3)


@pytest.mark.parametrize("dtype", ["int32", "complex64", "bool"])
def test_other_dtypes_are_rejected(dtype):
    for draw in (philox.uniform, philox.normal):
        with pytest.raises(TypeError, match=f"{dtype}.*float16, float32 or float64"):
            draw(np, 0, 0, 0, 3, dtype)
    with pytest.raises(TypeError, match=dtype):
        philox.blocks("uniform", 3, dtype)


def test_negative_sizes_and_unknown_kinds_are_rejected():
    for draw in DRAWS.values():
        with pytest.raises(ValueError, match="0 or more"):
            draw(0, -1)
    with pytest.raises(ValueError, match="0 or more"):
        philox.uniform(np, 0, 0, 0, (-2, -3))
    with pytest.raises(ValueError, match="gamma"):
        philox.blocks("gamma", 3)


# Permutations


@given(words64, st.integers(0, 300))
def test_permutation_sorts_the_64_bit_words(seed, n):
    order = philox.permutation(np, seed, 2, 3, n)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(n))
    pairs = philox.random_bits(np, seed, 2, 3, 2 * n).reshape(n, 2).tolist()
    assert order.tolist() == sorted(range(n), key=pairs.__getitem__)


def test_equal_keys_keep_their_order(monkeypatch):
    monkeypatch.setattr(philox, "_words64", lambda *args: np.arange(1000, dtype=np.uint64) % 3)
    assert philox.permutation(np, 0, 0, 0, 1000).tolist() == sorted(range(1000), key=lambda i: i % 3)


def test_all_orders_of_four_are_equally_likely():
    orders = [tuple(philox.permutation(np, 1, 2, 2 * i, 4).tolist()) for i in range(4800)]
    counts = np.unique(np.array(orders), axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert chi_square_deviations(counts) < 5


# Statistics


def chi_square_deviations(counts: np.ndarray) -> float:
    """How many standard deviations the chi-square statistic of equal cells lies from its mean."""
    freedom = counts.size - 1
    statistic = float(((counts - counts.mean()) ** 2 / counts.mean()).sum())
    return abs(statistic - freedom) / math.sqrt(2 * freedom)


def largest_deviation(sorted_cdf: np.ndarray) -> float:
    """Kolmogorov and Smirnov's distance to the uniform distribution, times sqrt(n)."""
    steps = np.arange(sorted_cdf.size + 1) / sorted_cdf.size
    distance = max((steps[1:] - sorted_cdf).max(), (sorted_cdf - steps[:-1]).max())
    return float(distance) * math.sqrt(sorted_cdf.size)


N = 200_000


def test_bytes_bits_and_pairs_are_even():
    bits = philox.random_bits(np, 123, 0, 0, N)
    for shift in (0, 8, 16, 24):
        assert chi_square_deviations(np.bincount(bits >> shift & 255, minlength=256)) < 5
    ones = np.unpackbits(bits.view(np.uint8).reshape(N, 4), axis=1).sum(axis=0)
    assert np.abs(ones - N / 2).max() < 5 * math.sqrt(N / 4)
    top = (bits >> 28).reshape(-1, 4)
    for i, j in ((0, 1), (1, 2), (2, 3), (3, 0)):
        assert chi_square_deviations(np.bincount(top[:, i] * 16 + top[:, j], minlength=256)) < 5


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_uniform_has_the_uniform_distribution(dtype):
    values = philox.uniform(np, 42, 1, 0, N, dtype).astype(np.float64)
    if dtype == "float16":
        values += 2.0**-12  # the middle of the interval that float16 rounded down
    assert abs(values.mean() - 1 / 2) < 5 * math.sqrt(1 / 12 / N)
    assert abs(values.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / N)
    # P(distance > 2.2) = 2 exp(-2 * 2.2**2), about 1e-4; float16 steps by 2**-11, which adds sqrt(N) * 2**-12 = 0.11.
    assert largest_deviation(np.sort(values)) < 2.3


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_normal_has_the_normal_distribution(dtype):
    values = philox.normal(np, 42, 1, 0, N, dtype).astype(np.float64)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((values**power).mean() - moment) < 5 * math.sqrt(variance / N)
    cdf = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in np.sort(values[: N // 4])])
    assert largest_deviation(cdf) < 2.3
    # The two numbers of a pair share their radius, so their independence is worth a look; squares show it best.
    pairs = values.reshape(-1, 2)
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 5 / math.sqrt(N / 2)
    assert abs(np.corrcoef((pairs**2).T)[0, 1]) < 5 / math.sqrt(N / 2)


def test_integers_are_even():
    for span in (2, 10, 256):
        counts = np.bincount(philox.integers(np, 3, 1, 0, 0, span, N), minlength=span)
        assert chi_square_deviations(counts) < 5


@pytest.mark.parametrize(
    "other",
    [(8, 1, 0), (7, 2, 0), (7, 1, 1), (7 + 2**32, 1, 0), (7, 1 + 2**32, 0), (7, 1, 2**32), (1, 7, 0)],
    ids=["seed", "stream", "counter", "seed, high", "stream, high", "counter, high", "seed and stream swapped"],
)
def test_neighbouring_sequences_are_unrelated(other):
    a, b = (philox.random_bits(np, *args, N) for args in ((7, 1, 0), other))
    same_bits = np.bitwise_count(~(a ^ b)).astype(int).sum()
    assert abs(same_bits - 16 * N) < 5 * math.sqrt(8 * N)
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(N)
    assert (a == b).sum() < 3  # by chance a pair of words agrees once in 2**32


@settings(max_examples=30)
@given(words64, words64, words64, st.integers(0, 2), st.integers(0, 63))
def test_one_flipped_bit_changes_about_half_of_all_bits(seed, stream, counter, which, bit):
    arguments = [seed, stream, counter]
    before = philox.random_bits(np, *arguments, 4)
    arguments[which] ^= 1 << bit
    changed = int(np.bitwise_count(before ^ philox.random_bits(np, *arguments, 4)).sum())
    assert 64 - 6.5 * math.sqrt(32) < changed < 64 + 6.5 * math.sqrt(32)  # 6.5 standard deviations: 1e-10
