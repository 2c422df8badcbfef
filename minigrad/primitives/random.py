"""Random draws: pure functions of seed, stream and counter. `minigrad.random.Generator` moves the counter on."""

from __future__ import annotations

from .. import philox
from .registry import Domain, Samples, primitive

COUNTER = Domain(0, 2**64, kind="int")

random_uniform = primitive(
    "random_uniform",
    forward=lambda xp, counter, /, *, seed, stream, shape, dtype: philox.uniform(
        xp, seed, stream, counter, shape, dtype
    ),
    vjps=None,
    keeps_dtype=False,
    samples=Samples("random_float", (COUNTER,), analytic=False),
    doc="Numbers uniform in [0, 1), from block `counter` (a 0-d uint64) of a Philox stream on.",
)

random_normal = primitive(
    "random_normal",
    forward=lambda xp, counter, /, *, seed, stream, shape, dtype: philox.normal(
        xp, seed, stream, counter, shape, dtype
    ),
    vjps=None,
    keeps_dtype=False,
    samples=Samples("random_float", (COUNTER,), analytic=False),
    doc="Numbers of the standard normal distribution, from block `counter` of a Philox stream on.",
)

random_integers = primitive(
    "random_integers",
    forward=lambda xp, counter, /, *, seed, stream, low, high, shape: philox.integers(
        xp, seed, stream, counter, low, high, shape
    ),
    vjps=None,
    keeps_dtype=False,
    samples=Samples("random_integers", (COUNTER,), analytic=False),
    doc="int64 numbers uniform in [low, high), from block `counter` of a Philox stream on.",
)
