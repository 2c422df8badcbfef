"""Layers: the dense one, the activations as modules, and their composition."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..functions import elu, gelu, silu
from ..parameter import Parameter
from ..primitives import relu, sigmoid, softmax, softplus, tanh, where
from ..random import Generator
from ..tensor import Tensor
from . import init as initial
from .module import Module


class Linear(Module):
    """A dense layer: x W + b.

    Parameters
    ----------
    inputs, outputs : int, at least 1
        The widths.
    bias : bool
        Whether to add b.
    generator : Generator, optional
        Draws the initial weight; by default the thread's default generator.
    init : callable
        ``init(shape, generator, dtype)`` returns the initial weight: see `minigrad.nn.init`.
    dtype : dtype
        Of the parameters, a floating one.
    device : str or Device, optional
        Where they live.

    Attributes
    ----------
    weight : Parameter, shape (inputs, outputs)
        As W in H = XW of the lecture.
    bias : Parameter, shape (outputs,), or None
        Starts at 0.

    Raises
    ------
    ShapeError, DTypeError
        A width is not a positive integer, the dtype is not floating, or `init` returned another shape.

    Examples
    --------
    >>> import minigrad as mg
    >>> layer = mg.nn.Linear(3, 2, generator=mg.random.Generator(0))
    >>> layer
    Linear(3, 2)
    >>> layer(mg.ones((5, 3))).shape
    (5, 2)
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool = True,
        generator: Generator | None = None,
        init: Callable[[tuple[int, int], Generator | None, Any], Any] = initial.xavier_uniform,
        dtype: Any = np.float32,
        device: Any = None,
    ) -> None:
        shape = positive(inputs, "inputs", "Linear"), positive(outputs, "outputs", "Linear")
        dtype = np.dtype(dtype)
        if dtype.kind != "f":
            raise DTypeError(f"Linear: got dtype={dtype.name!r}; expected a floating dtype such as 'float32'")
        self.weight = Parameter(init(shape, generator, dtype), dtype, device)
        if self.weight.shape != shape:
            raise ShapeError(f"Linear: init returned a weight of shape {self.weight.shape}; expected {shape}")
        self.bias = Parameter(initial.zeros(shape[1], dtype=dtype), dtype, device) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Return x W + b, shape (..., outputs), of x, shape (..., inputs)."""
        inputs = self.weight.shape[0]
        if given(self, x).ndim == 0 or x.shape[-1] != inputs:
            raise ShapeError(f"{self!r}: got an input of shape {x.shape}; expected (..., {inputs})")
        y = x @ self.weight
        return y if self.bias is None else y + self.bias

    def describe(self) -> str:
        """Return the widths."""
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}" + (", bias=False" if self.bias is None else "")


class Sequential(Module):
    """Modules one after the other: each takes the result of the one before.

    Their parameters are named by position, such as "0.weight". `len`, iteration and indexing work as for a tuple; a
    slice is another Sequential of the same modules.

    Parameters
    ----------
    *modules : Module

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.nn.Sequential(mg.nn.Linear(4, 2), mg.nn.Tanh())
    Sequential(
      (0): Linear(4, 2)
      (1): Tanh()
    )
    """

    def __init__(self, *modules: Module) -> None:
        for position, module in enumerate(modules):
            if not isinstance(module, Module):
                raise DTypeError(
                    f"Sequential: item {position} is {module!r}; expected modules, such as nn.Tanh() for mg.tanh"
                )
        self._modules = modules

    def _attributes(self) -> Iterable[tuple[str, Any]]:
        return ((str(position), module) for position, module in enumerate(self._modules))

    def forward(self, x: Any) -> Any:
        """Return the last module's result."""
        for module in self._modules:
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules)

    def __getitem__(self, index: int | slice) -> Any:
        return Sequential(*self._modules[index]) if isinstance(index, slice) else self._modules[index]


class Identity(Module):
    """x itself."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x."""
        return x


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the sigmoid of x."""
        return sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the hyperbolic tangent of x."""
        return tanh(x)


class ReLU(Module):
    """max(x, 0), with derivative 0 at 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the positive part of x."""
        return relu(x)


class Softplus(Module):
    """log(1 + exp(x)), a smooth relu whose derivative is the sigmoid."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the softplus of x."""
        return softplus(x)


class GELU(Module):
    """x times the probability that a standard normal number is below x."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the GELU of x."""
        return gelu(x)


class SiLU(Module):
    """x sigmoid(x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the SiLU of x."""
        return silu(x)


class ELU(Module):
    """x above 0, alpha (exp(x) - 1) below.

    Parameters
    ----------
    alpha : float
        The negative of the limit at -inf.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = float(alpha)

    def forward(self, x: Tensor) -> Tensor:
        """Return the ELU of x."""
        return elu(x, self.alpha)

    def describe(self) -> str:
        """Return alpha."""
        return f"alpha={self.alpha}"


class LeakyReLU(Module):
    """x above 0, slope x below.

    Parameters
    ----------
    slope : float
    """

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = float(slope)

    def forward(self, x: Tensor) -> Tensor:
        """Return the leaky relu of x."""
        return where(given(self, x) > 0, x, x * self.slope)

    def describe(self) -> str:
        """Return the slope."""
        return f"slope={self.slope}"


class Softmax(Module):
    """exp(x) / sum(exp(x)) over an axis.

    Parameters
    ----------
    axis : int
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        """Return the softmax of x."""
        return softmax(x, axis=self.axis)

    def describe(self) -> str:
        """Return the axis."""
        return f"axis={self.axis}"


class Flatten(Module):
    """All axes but the first as one."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x, shape (N, ...), with shape (N, features)."""
        if given(self, x).ndim == 0:
            raise ShapeError(f"Flatten: got an input of shape {x.shape}; expected samples along the first axis")
        return x.reshape(x.shape[0], -1) if x.size else x.reshape(x.shape[0], math.prod(x.shape[1:]))


class Unflatten(Module):
    """The second axis as several: the inverse of `Flatten`.

    Parameters
    ----------
    shape : tuple of int
        Of one sample, such as (16, 7, 7).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Return x, shape (N, features), with shape (N, *shape)."""
        if given(self, x).ndim == 0:
            raise ShapeError(f"Unflatten: got an input of shape {x.shape}; expected samples along the first axis")
        return x.reshape(x.shape[0], *self.shape)

    def describe(self) -> str:
        """Return the shape."""
        return f"{self.shape}"


def given(module: Module, x: Any) -> Any:
    """Return the input of a module, or raise where it has no shape: a list has none."""
    if not hasattr(x, "shape"):
        raise DTypeError(
            f"{type(module).__name__} takes a tensor or an array, got {type(x).__name__}; wrap it in mg.tensor(...)"
        )
    return x


def positive(value: int, name: str, owner: str) -> int:
    """Return a size as an int of at least 1, or raise in the name of `owner`."""
    try:
        width = operator.index(value)
    except TypeError:
        raise DTypeError(f"{owner}: got {name}={value!r}; expected a positive integer") from None
    if width < 1:
        raise ShapeError(f"{owner}: got {name}={value!r}; expected a positive integer")
    return width
