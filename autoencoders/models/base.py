"""What all models have in common: encode and decode, the output, the shape of a sample, a configuration, a file."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

import minigrad as mg
from autoencoders.inputs import data_tensor
from minigrad import nn
from minigrad.errors import DataError, DTypeError, ShapeError

ACTIVATIONS: dict[str, Callable[[mg.Tensor], mg.Tensor]] = {
    "linear": lambda z: z,
    "sigmoid": mg.sigmoid,
    "tanh": mg.tanh,
    "relu": mg.relu,
}


class Configured(nn.Module):
    """A module of which a file has a configuration beside the arrays."""

    def config(self) -> dict[str, Any]:
        """Return the arguments that make a model of this architecture, as JSON knows them.

        A file holds them, so that it is not read into another architecture by mistake.
        """
        return {}


class Model(Configured):
    """An encoder and a decoder: h = encode(x), x_hat = decode(h).

    A subclass writes `encode` and `decode_linear`, what comes before the output activation, and may set the attributes
    below and write `config` and `describe`.

    Attributes
    ----------
    output : {"linear", "sigmoid", "tanh", "relu"}
        The activation of the last layer.
    input_shape : tuple of int or None
        The shape of one sample; None where it is not known.

    Examples
    --------
    >>> import minigrad as mg
    >>> class Shift(Model):
    ...     def __init__(self, width):
    ...         super().__init__()
    ...         self.shift = mg.Parameter(np.zeros(width, "float32"))
    ...     def encode(self, x):
    ...         return x - self.shift
    ...     def decode_linear(self, h):
    ...         return h + self.shift
    >>> Shift(3)(mg.ones((2, 3))).shape
    (2, 3)
    """

    output: str = "linear"
    input_shape: tuple[int, ...] | None = None

    def encode(self, x: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return the code h of x."""
        raise NotImplementedError(f"{type(self).__name__} has no encode method; write one in the class")

    def decode(self, h: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return the reconstruction x_hat of a code h."""
        return ACTIVATIONS[self.output](self.decode_linear(h))

    def decode_logits(self, h: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return decode(h) before its sigmoid, for `binary_cross_entropy_with_logits`; only with output="sigmoid"."""
        if self.output != "sigmoid":
            raise DataError(
                f"decode_logits: this model has output={self.output!r}; logits belong to output='sigmoid', "
                "and a model trained on them would decode to something else"
            )
        return self.decode_linear(h)

    def forward(self, x: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return decode(encode(x))."""
        return self.decode(self.encode(x))

    def decode_linear(self, h: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return decode(h) before its output activation."""
        raise NotImplementedError(f"{type(self).__name__} has no decode_linear method; write one in the class")

    def describe(self) -> str:
        """Return the configuration."""
        return ", ".join(f"{name}={value!r}" for name, value in self.config().items())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()})"

    def save(self, path: str | Path) -> Path:
        """Write the model to a file: see `save_model`."""
        from autoencoders.models.files import save_model  # which knows all models, and so imports this module

        return save_model(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model of this class from a file: see `load_model`."""
        from autoencoders.models.files import load_model

        model = load_model(path)
        if not isinstance(model, cls):
            raise DataError(f"{path}: holds {model}; expected a model of the class {cls.__name__}")
        return model


def as_input(model: nn.Module, x: mg.Tensor | ArrayLike) -> mg.Tensor:
    """Return x as a tensor. Arrays are converted to the model's dtype and device, tensors are not."""
    if isinstance(x, mg.Tensor):
        return x
    return data_tensor(x, type(model).__name__, "x", next(model.parameters(), None))


def check_width(x: mg.Tensor, width: int, model: Model, caller: str) -> None:
    """Raise unless x has shape (..., width)."""
    if x.ndim == 0 or x.shape[-1] != width:
        raise ShapeError(f"{caller}: got shape {x.shape}; expected (..., {width}) for {model}")


def check_samples(x: mg.Tensor, shape: tuple[int, ...], model: Model, caller: str) -> None:
    """Raise unless x is a batch of samples of that shape."""
    if x.ndim == 0 or x.shape[1:] != shape:
        expected = ", ".join(str(n) for n in shape)
        raise ShapeError(f"{caller}: got shape {x.shape}; expected (m, {expected}) for {model}")


def widths_of(values: Sequence[int], name: str, fewest: int, example: str, owner: str) -> tuple[int, ...]:
    """Return positive integers, at least `fewest` of them, as a tuple."""
    count = ("", "one", "two")[fewest]
    try:
        widths = tuple(operator.index(n) for n in values)
    except TypeError:
        raise DTypeError(f"{owner}: got {name}={values!r}; expected a sequence of integers such as {example}") from None
    if len(widths) < fewest or min(widths) < 1:
        raise ShapeError(f"{owner}: got {name}={values!r}; expected {count} or more positive widths such as {example}")
    return widths


def check_activations(owner: str, **given: str) -> None:
    """Raise unless every argument, by name, is the name of an activation."""
    for name, value in given.items():
        if value not in ACTIVATIONS:
            raise DataError(f"{owner}: got {name}={value!r}; expected one of {', '.join(ACTIVATIONS)}")


def check_floating(owner: str, dtype: Any) -> None:
    """Raise unless dtype is one in which models can be trained."""
    try:
        usable = dtype is not None and np.dtype(dtype) in (np.float32, np.float64)
    except TypeError:
        usable = False
    if not usable:
        raise DTypeError(f"{owner}: got dtype={dtype!r}; expected 'float32' or 'float64'")
