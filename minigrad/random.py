"""Random tensors from a counter-based generator: the same numbers on every device, reproducible from three integers."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from . import philox, tape
from .devices import default_device, device
from .errors import DataError
from .tensor import Tensor, Version

Shape = int | tuple[int, ...]


class Generator:
    """A stream of random numbers: a pure function of `seed` and `stream`, and a counter of what was drawn.

    Parameters
    ----------
    seed, stream : int
        Generators that differ in either are independent.

    Examples
    --------
    >>> import minigrad as mg
    >>> a, b = mg.random.Generator(7), mg.random.Generator(7)
    >>> bool((a.uniform((3,)) == b.uniform((3,))).min())
    True
    """

    def __init__(self, seed: int, stream: int = 0) -> None:
        for name, value in (("seed", seed), ("stream", stream)):
            if not isinstance(value, int | np.integer) or not 0 <= value < 2**64:
                raise DataError(f"the {name} of a generator is an integer in [0, 2**64), got {value!r}")
        self.seed = int(seed)
        self.stream = int(stream)
        self.counter = 0

    def __repr__(self) -> str:
        return f"Generator(seed={self.seed}, stream={self.stream}, counter={self.counter})"

    def state(self) -> dict[str, int]:
        """Return the three integers from which the stream continues."""
        return {"seed": self.seed, "stream": self.stream, "counter": self.counter}

    def set_state(self, state: dict[str, int]) -> None:
        """Continue from what `state()` returned."""
        missing = {"seed", "stream", "counter"} - set(state)
        if missing:
            raise DataError(f"the state of a generator has seed, stream and counter; {sorted(missing)} is missing")
        checked = Generator(state["seed"], state["stream"])
        self.seed, self.stream, self.counter = checked.seed, checked.stream, int(state["counter"])

    def _draw(self, kind: str, shape: Shape, place: Any, dtype: Any, *bounds: int) -> Tensor:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if any(n < 0 for n in shape):
            raise DataError(f"a shape has no negative lengths, got {shape}")
        _refuse_while_recording()
        where = default_device() if place is None else device(place)
        draw = getattr(philox, kind)
        options = () if kind == "integers" else (dtype,)
        array = draw(where.xp, self.seed, self.stream, self.counter, *bounds, shape, *options)
        self.counter += philox.blocks(kind, array.size, dtype)
        return Tensor._wrap(array, where, None, Version())

    def uniform(self, shape: Shape = (), dtype: Any = np.float32, device: Any = None) -> Tensor:
        """Return numbers uniform in [0, 1)."""
        return self._draw("uniform", shape, device, np.dtype(dtype))

    def normal(self, shape: Shape = (), dtype: Any = np.float32, device: Any = None) -> Tensor:
        """Return numbers of the normal distribution with mean 0 and variance 1."""
        return self._draw("normal", shape, device, np.dtype(dtype))

    def integers(self, low: int, high: int, shape: Shape = (), device: Any = None) -> Tensor:
        """Return int64 numbers uniform in [low, high)."""
        return self._draw("integers", shape, device, np.dtype(np.int64), low, high)

    def permutation(self, n: int, device: Any = None) -> Tensor:
        """Return the integers 0 to n - 1 in random order."""
        if n < 0:
            raise DataError(f"permutation needs a length of at least 0, got {n}")
        _refuse_while_recording()
        where = default_device() if device is None else _device(device)
        array = philox.permutation(where.xp, self.seed, self.stream, self.counter, n)
        self.counter += philox.blocks("permutation", n, np.dtype(np.int64))
        return Tensor._wrap(array, where, None, Version())


def _refuse_while_recording() -> None:
    tape.refuse_while_recording("a random draw", "draw before the step and pass the numbers as an argument")


def _device(name: Any) -> Any:
    return device(name)


class _Default(threading.local):
    def __init__(self) -> None:
        self.generator = Generator(0)


_default = _Default()


def default_generator() -> Generator:
    """Return this thread's generator, which draws where no other is named. It starts from seed 0."""
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
    _default.generator = Generator(n)


def uniform(shape: Shape = (), dtype: Any = np.float32, device: Any = None) -> Tensor:
    """Draw from the default generator: see `Generator.uniform`."""
    return default_generator().uniform(shape, dtype, device)


def normal(shape: Shape = (), dtype: Any = np.float32, device: Any = None) -> Tensor:
    """Draw from the default generator: see `Generator.normal`."""
    return default_generator().normal(shape, dtype, device)


def permutation(n: int, device: Any = None) -> Tensor:
    """Draw from the default generator: see `Generator.permutation`."""
    return default_generator().permutation(n, device)
