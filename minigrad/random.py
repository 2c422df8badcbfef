"""Random tensors from a counter-based generator: the same numbers on every device, reproducible from three integers."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from . import devices, modes, observers, philox, tape
from .devices import Device, default_device, device
from .dtypes import number_dtype
from .errors import DataError
from .primitives.random import random_integers, random_normal, random_uniform
from .primitives.registry import Primitive
from .selection import integer
from .tensor import Tensor, Version

Shape = int | tuple[int, ...]


class Generator:
    """A stream of random numbers: a pure function of `seed` and `stream`, and a counter of what was drawn.

    Parameters
    ----------
    seed, stream : int
        Generators that differ in either are independent.

    Notes
    -----
    Threads that draw from one generator get different numbers, but which of them gets which differs from run to run,
    and a compiled step does not wait for other threads. Give each thread a stream of its own.

    Examples
    --------
    >>> import minigrad as mg
    >>> a, b = mg.random.Generator(7), mg.random.Generator(7)
    >>> bool((a.uniform((3,)) == b.uniform((3,))).min())
    True
    """

    def __init__(self, seed: int, stream: int = 0) -> None:
        self._key = _checked(seed, stream)
        # a tensor, so that a recorded program draws on from where the last run ended
        self._counter = _count(0, default_device())
        self._lock = threading.RLock()  # a draw reads the counter and moves it on: one step for other threads
        _alive.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())
        _alive.add(self)

    @property
    def seed(self) -> int:
        """The first number that the stream is a function of."""
        return self.key[0]

    @property
    def stream(self) -> int:
        """The second number that the stream is a function of."""
        return self.key[1]

    @property
    def key(self) -> tuple[int, int]:
        """Seed and stream."""
        observers.note(self, "_key")  # what is recorded now holds for this key only
        return self._key

    @property
    def counter(self) -> int:
        """How many blocks of four 32-bit words have been drawn."""
        return self._counter.item()

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the counter, with its name."""
        yield "counter", self._counter

    def __repr__(self) -> str:
        return f"Generator(seed={self._key[0]}, stream={self._key[1]}, counter={self.counter})"

    def state(self) -> dict[str, int]:
        """Return the three integers from which the stream continues."""
        with self._lock:
            return {"seed": self.seed, "stream": self.stream, "counter": self.counter}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state()` returned, also where it comes from a file: `set_state(mg.load(path))`."""
        missing = {"seed", "stream", "counter"} - set(state)
        if missing:
            raise DataError(f"the state of a generator has seed, stream and counter; {sorted(missing)} is missing")
        counter = _word("counter", state["counter"])
        observers.refuse_while_recording("set_state() of a generator", "set it before the step")
        key = _checked(state["seed"], state["stream"])
        with self._lock:
            self._key = key
            self._counter.assign(np.uint64(counter))

    @modes.no_grad()
    def _draw(self, row: Primitive, kind: str, shape: Shape, place: Any, **metadata: Any) -> Tensor:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if any(n < 0 for n in shape):
            raise DataError(f"a shape has no negative lengths, got {shape}")
        with self._lock:
            seed, stream = self.key
            counter = self._counter_on(default_device() if place is None else device(place))
            result = tape.apply(row, counter, seed=seed, stream=stream, shape=shape, **metadata)
            counter.assign(counter + philox.blocks(kind, result.size, metadata.get("dtype", np.int64)))
        result._version = Version()  # a tensor like those of mg.tensor
        return result

    def _counter_on(self, place: Device) -> Tensor:
        """Return the counter, moved to the device of a draw if it was elsewhere."""
        counter = self._counter
        if counter.device is not place:
            observers.refuse_while_recording(f"a first random draw on {place.name}", "draw once before the step")
            moved = _count(counter.item(), place)
            counter._array, counter.device = moved._array, place  # the same tensor: a program sees that it moved
        return counter

    def uniform(self, shape: Shape = (), dtype: Any = np.float32, device: Any = None) -> Tensor:
        """Return numbers uniform in [0, 1)."""
        return self._draw(random_uniform, "uniform", shape, device, dtype=number_dtype(dtype))

    def normal(self, shape: Shape = (), dtype: Any = np.float32, device: Any = None) -> Tensor:
        """Return numbers of the normal distribution with mean 0 and variance 1."""
        return self._draw(random_normal, "normal", shape, device, dtype=number_dtype(dtype))

    def integers(self, low: int, high: int, shape: Shape = (), device: Any = None) -> Tensor:
        """Return int64 numbers uniform in [low, high)."""
        ends = {"low": integer(low, "integers", "low"), "high": integer(high, "integers", "high")}
        return self._draw(random_integers, "integers", shape, device, **ends)

    def permutation(self, n: int, device: Any = None) -> Tensor:
        """Return the integers 0 to n - 1 in random order."""
        if n < 0:
            raise DataError(f"permutation needs a length of at least 0, got {n}")
        observers.refuse_while_recording("a random permutation", "draw before the step and pass it as an argument")
        with self._lock:
            counter = self._counter_on(default_device() if device is None else devices.device(device))
            array = philox.permutation(counter.device.xp, *self.key, self.counter, n)
            counter.assign(counter + philox.blocks("permutation", n, np.dtype(np.int64)))
        return Tensor._wrap(array, counter.device, None, Version())


def _checked(seed: int, stream: int) -> tuple[int, int]:
    return _word("seed", seed), _word("stream", stream)


def _word(name: str, value: Any) -> int:
    """Return an integer of a generator's state, which comes from a file as an array without axes."""
    number = value.item() if isinstance(value, np.ndarray | Tensor) and value.ndim == 0 else value
    if not isinstance(number, int | np.integer) or not 0 <= number < 2**64:
        raise DataError(f"the {name} of a generator is an integer in [0, 2**64), got {value!r}")
    return int(number)


def _count(n: int, place: Device) -> Tensor:
    return Tensor._wrap(place.xp.full((), n, place.xp.uint64), place, None, Version())


_alive: weakref.WeakSet[Generator] = weakref.WeakSet()


def _after_fork() -> None:
    """Let a child not wait for a thread of its parent that was drawing."""
    for generator in _alive:
        generator._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Default(threading.local):
    def __init__(self) -> None:
        self.generator = Generator(0)


_default = _Default()


def default_generator() -> Generator:
    """Return this thread's generator, which draws where no other is named. It starts from seed 0."""
    if observers.recording():  # a program draws from that of the thread which recorded it
        observers.note(_default, "generator")
    return _default.generator


def seed(n: int) -> None:
    """Restart this thread's default generator from seed `n`.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.random.seed(3)
    >>> mg.random.default_generator()
    Generator(seed=3, stream=0, counter=0)
    """
    _default.generator.set_state({"seed": n, "stream": 0, "counter": 0})


def uniform(shape: Shape = (), dtype: Any = np.float32, device: Any = None) -> Tensor:
    """Draw from the default generator: see `Generator.uniform`."""
    return default_generator().uniform(shape, dtype, device)


def normal(shape: Shape = (), dtype: Any = np.float32, device: Any = None) -> Tensor:
    """Draw from the default generator: see `Generator.normal`."""
    return default_generator().normal(shape, dtype, device)


def integers(low: int, high: int, shape: Shape = (), device: Any = None) -> Tensor:
    """Draw from the default generator: see `Generator.integers`."""
    return default_generator().integers(low, high, shape, device)


def permutation(n: int, device: Any = None) -> Tensor:
    """Draw from the default generator: see `Generator.permutation`."""
    return default_generator().permutation(n, device)
