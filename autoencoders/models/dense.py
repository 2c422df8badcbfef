"""The dense autoencoder: layers down to a code and back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import minigrad as mg
from autoencoders.models.base import (
    ACTIVATIONS,
    Model,
    as_input,
    check_activations,
    check_floating,
    check_width,
    widths_of,
)
from minigrad import nn
from minigrad.random import Generator


class Autoencoder(Model):
    """A dense autoencoder: h = encode(x), x_hat = decode(h).

    Every encoder layer computes act(x W + b), as in H = XW of the lecture; the decoder mirrors the widths, with
    `output` instead of `activation` in its last layer.

    Parameters
    ----------
    sizes : sequence of int, at least two
        The widths from the data to the code: (784, 500) is 784-500-784, and (784, 500, 30) is 784-500-30-500-784.
    activation : {"sigmoid", "tanh", "relu", "linear"}
        Of every layer but the last, the code included.
    output : {"linear", "sigmoid", "tanh", "relu"}
        Of the last layer: linear for data of any range, sigmoid for data in [0, 1].
    tied : bool
        Whether every decoder weight is the transpose of its encoder weight: one array, with gradients from both uses.
    seed : int
        Of the initial weights.
    generator : Generator, optional
        Draws the initial weights instead of one made from `seed`.
    dtype : str or dtype
        Of the parameters: "float32" or "float64".

    Attributes
    ----------
    sizes, activation, output, tied
        As given.
    encoder_weights, decoder_weights : list of Tensor, shapes (inputs, outputs)
        In the order in which data pass them.

    Raises
    ------
    ShapeError, DTypeError, DataError
        sizes are not at least two positive integers, or an activation is unknown.

    Notes
    -----
    Weights start uniform in +-sqrt(6 / (inputs + outputs)), biases at 0 (X. Glorot and Y. Bengio, "Understanding the
    difficulty of training deep feedforward neural networks", AISTATS 2010).

    Examples
    --------
    >>> import minigrad as mg
    >>> model = Autoencoder((64, 16), output="sigmoid", tied=True)
    >>> model
    Autoencoder(64-16-64, activation='sigmoid', output='sigmoid', tied=True)
    >>> x = mg.zeros((5, 64))
    >>> model.encode(x).shape, model(x).shape
    ((5, 16), (5, 64))
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "sigmoid",
        output: str = "linear",
        tied: bool = False,
        *,
        seed: int = 0,
        generator: Generator | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.sizes = widths_of(sizes, "sizes", 2, "(784, 500)", owner)
        self.input_shape = self.sizes[:1]
        check_activations(owner, activation=activation, output=output)
        check_floating(owner, dtype)
        self.activation, self.output, self.tied = activation, output, bool(tied)
        generator = Generator(seed) if generator is None else generator
        back = self.sizes[::-1]
        self.encoder_layers = nn.Sequential(*_layers(self.sizes, False, generator, dtype))
        self.decoder_layers = nn.Sequential(*_layers(back, self.tied, generator, dtype))

    @property
    def encoder_weights(self) -> list[mg.Tensor]:
        """The weight of every encoder layer, shape (inputs, outputs)."""
        return [layer.weight for layer in self.encoder_layers]

    @property
    def decoder_weights(self) -> list[mg.Tensor]:
        """The weight of every decoder layer, shape (inputs, outputs); with tied weights, views of the encoder's."""
        if self.tied:
            return [weight.mT for weight in reversed(self.encoder_weights)]
        return [layer.weight for layer in self.decoder_layers]

    def encode(self, x: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return the code h, shape (..., sizes[-1]), of x, shape (..., sizes[0])."""
        h = as_input(self, x)
        check_width(h, self.sizes[0], self, "encode")
        act = ACTIVATIONS[self.activation]
        for layer in self.encoder_layers:
            h = act(layer(h))
        return h

    def decode_linear(self, h: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return decode(h) before its output activation."""
        z = as_input(self, h)
        check_width(z, self.sizes[-1], self, "decode")
        act = ACTIVATIONS[self.activation]
        for i, (layer, weight) in enumerate(zip(self.decoder_layers, self.decoder_weights, strict=True)):
            z = (act(z) if i else z) @ weight + layer.bias
        return z

    def config(self) -> dict[str, Any]:
        """Return sizes, activation, output, tied and dtype."""
        return {
            "sizes": list(self.sizes),
            "activation": self.activation,
            "output": self.output,
            "tied": self.tied,
            "dtype": self.encoder_weights[0].dtype.name,
        }

    def describe(self) -> str:
        """Return the widths from data to data, activations, and whether weights are tied."""
        widths = "-".join(str(n) for n in (*self.sizes, *self.sizes[-2::-1]))
        return f"{widths}, activation={self.activation!r}, output={self.output!r}, tied={self.tied}"


class _Bias(nn.Module):
    """A decoder layer with tied weights: all it has of its own is the bias."""

    def __init__(self, width: int, dtype: Any) -> None:
        super().__init__()
        self.bias = mg.Parameter(np.zeros(width, dtype))


def _layers(widths: tuple[int, ...], tied: bool, generator: Generator, dtype: Any) -> list[nn.Module]:
    """The layers between neighbouring widths; with tied weights only their biases."""
    if tied:
        return [_Bias(n, dtype) for n in widths[1:]]
    return [nn.Linear(n, k, generator=generator, dtype=dtype) for n, k in pairwise(widths)]
