"""Initial values of weights, each scaled so that signals keep their size from layer to layer.

Every function takes `(shape, generator, dtype)` and returns a tensor; a weight has the shape (inputs, outputs), a
kernel (outputs, inputs, height, width): each of its outputs has inputs * height * width inputs.
Without a generator, the numbers come from the thread's default one, `mg.random.default_generator()`.

Sources: X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS
(2010), and K. He, X. Zhang, S. Ren and J. Sun, "Delving deep into rectifiers", ICCV (2015).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import creation, random
from ..errors import ShapeError
from ..tensor import Tensor


def xavier_uniform(
    shape: tuple[int, ...], generator: random.Generator | None = None, dtype: Any = np.float32
) -> Tensor:
    """Return weights uniform in +-sqrt(6 / (inputs + outputs)): Glorot and Bengio (2010), equation 16.

    For layers whose activation is close to the identity at 0, such as tanh.

    Examples
    --------
    >>> import minigrad as mg
    >>> w = mg.nn.init.xavier_uniform((200, 100), mg.random.Generator(0))
    >>> w.shape, bool(abs(w).max() <= (6 / 300) ** 0.5)
    ((200, 100), True)
    """
    inputs, outputs = _fans(shape, "xavier_uniform")
    return _uniform(shape, math.sqrt(6 / (inputs + outputs)), generator, dtype)


def xavier_normal(shape: tuple[int, ...], generator: random.Generator | None = None, dtype: Any = np.float32) -> Tensor:
    """Return normal weights of variance 2 / (inputs + outputs): Glorot and Bengio (2010), equation 12."""
    inputs, outputs = _fans(shape, "xavier_normal")
    return _normal(shape, math.sqrt(2 / (inputs + outputs)), generator, dtype)


def he_uniform(shape: tuple[int, ...], generator: random.Generator | None = None, dtype: Any = np.float32) -> Tensor:
    """Return weights uniform in +-sqrt(6 / inputs), which have the variance of He et al. (2015), equation 10.

    For layers that relu follows.
    """
    inputs, _ = _fans(shape, "he_uniform")
    return _uniform(shape, math.sqrt(6 / inputs), generator, dtype)


def he_normal(shape: tuple[int, ...], generator: random.Generator | None = None, dtype: Any = np.float32) -> Tensor:
    """Return normal weights of variance 2 / inputs, for layers that relu follows: He et al. (2015), equation 10."""
    inputs, _ = _fans(shape, "he_normal")
    return _normal(shape, math.sqrt(2 / inputs), generator, dtype)


def uniform_fan_in(
    shape: tuple[int, ...], generator: random.Generator | None = None, dtype: Any = np.float32
) -> Tensor:
    """Return weights uniform in +-1 / sqrt(inputs), the older heuristic: Glorot and Bengio (2010), equation 1."""
    inputs, _ = _fans(shape, "uniform_fan_in")
    return _uniform(shape, 1 / math.sqrt(inputs), generator, dtype)


def zeros(shape: int | tuple[int, ...], generator: random.Generator | None = None, dtype: Any = np.float32) -> Tensor:
    """Return zeros of any shape, for biases; a layer of zero weights has zero gradients below it. Draws nothing."""
    return creation.zeros(shape, dtype)


def _fans(shape: tuple[int, ...], name: str) -> tuple[int, int]:
    if not isinstance(shape, tuple | list) or len(shape) not in (2, 4) or min(shape) < 1:
        raise ShapeError(f"{name}: got shape {shape!r}; expected (inputs, outputs), or that of a kernel, all positive")
    if len(shape) == 4:
        outputs, inputs, height, width = shape
        return inputs * height * width, outputs * height * width
    return shape[0], shape[1]


def _uniform(shape: tuple[int, ...], bound: float, generator: random.Generator | None, dtype: Any) -> Tensor:
    drawn = (generator or random.default_generator()).uniform(shape, dtype)
    return drawn * (2 * bound) - bound


def _normal(shape: tuple[int, ...], deviation: float, generator: random.Generator | None, dtype: Any) -> Tensor:
    return (generator or random.default_generator()).normal(shape, dtype) * deviation
