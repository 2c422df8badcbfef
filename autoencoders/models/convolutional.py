"""The convolutional autoencoder: images down to smaller images, or to a dense code, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

import minigrad as mg
from autoencoders.models.base import (
    ACTIVATIONS,
    Model,
    as_input,
    check_activations,
    check_floating,
    check_samples,
    widths_of,
)
from minigrad import nn
from minigrad.errors import ShapeError
from minigrad.nn.layers import positive
from minigrad.random import Generator


class ConvAutoencoder(Model):
    """An autoencoder of images: strided convolutions, a dense code if wanted, and transposed convolutions back.

    Every encoder layer computes act(conv(x)) with zero padding such that stride s makes ceil(n / s) of n pixels; the
    decoder goes back through exactly these sizes, with `output` instead of `activation` in its last layer.

    Parameters
    ----------
    input_shape : (channels, height, width)
        Of one image: (1, 28, 28).
    channels : sequence of int, at least one
        Of each encoder layer: (16, 32) makes (1, 28, 28) to (16, 14, 14) and (32, 7, 7).
    code : int, optional
        Add a dense layer, with `activation`, to a code of so many units, and one back. By default the last images are
        the code.
    kernel_size : int, odd
        Height and width of all kernels.
    stride : int
        Of every layer.
    activation : {"relu", "tanh", "sigmoid", "linear"}
        Of every layer but the last, the code included.
    output : {"linear", "sigmoid", "tanh", "relu"}
        Of the last layer: linear for data of any range, sigmoid for data in [0, 1].
    seed : int
        Of the initial weights.
    generator : Generator, optional
        Draws the initial weights instead of one made from `seed`.
    dtype : str or dtype
        Of the parameters: "float32" or "float64".

    Attributes
    ----------
    input_shape, channels, code, kernel_size, stride, activation, output
        As given.
    code_shape : tuple of int
        The shape of the code of one image.

    Raises
    ------
    ShapeError, DTypeError, DataError
        A size is not a positive integer, the kernel is even, or an activation is unknown.

    Notes
    -----
    Source: J. Masci, U. Meier, D. Ciresan and J. Schmidhuber, "Stacked convolutional auto-encoders for hierarchical
    feature extraction", ICANN (2011); with strides for their pooling. Weights start as in `Autoencoder`.

    Examples
    --------
    >>> import minigrad as mg
    >>> model = ConvAutoencoder((1, 28, 28), channels=(8, 16), code=32, output="sigmoid")
    >>> model
    ConvAutoencoder(1x28x28-8x14x14-16x7x7-32, kernel_size=3, stride=2, activation='relu', output='sigmoid')
    >>> x = mg.zeros((5, 1, 28, 28))
    >>> model.encode(x).shape, model(x).shape
    ((5, 32), (5, 1, 28, 28))
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        channels: Sequence[int],
        code: int | None = None,
        kernel_size: int = 3,
        stride: int = 2,
        activation: str = "relu",
        output: str = "linear",
        *,
        seed: int = 0,
        generator: Generator | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        shape = self.input_shape = widths_of(input_shape, "input_shape", 1, "(1, 28, 28)", owner)
        if len(shape) != 3:
            raise ShapeError(f"{owner}: got input_shape={input_shape!r}; expected (channels, height, width)")
        self.channels = widths_of(channels, "channels", 1, "(16, 32)", owner)
        self.code = None if code is None else positive(code, "code", owner)
        self.kernel_size = positive(kernel_size, "kernel_size", owner)
        if self.kernel_size % 2 == 0:
            raise ShapeError(f"{owner}: got kernel_size={kernel_size!r}; expected an odd number, which has a middle")
        self.stride = positive(stride, "stride", owner)
        check_activations(owner, activation=activation, output=output)
        check_floating(owner, dtype)
        self.activation, self.output = activation, output
        generator = Generator(seed) if generator is None else generator

        self.shapes = [shape]  # of an image before each layer, and after the last
        for depth in self.channels:
            height, width = (-(-n // self.stride) for n in self.shapes[-1][1:])
            self.shapes.append((depth, height, width))
        features = math.prod(self.shapes[-1])
        self.code_shape = self.shapes[-1] if self.code is None else (self.code,)
        how: dict[str, Any] = {
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.kernel_size // 2,
            "generator": generator,
            "dtype": dtype,
        }
        layers = list(zip(self.shapes[:-1], self.shapes[1:], strict=True))
        self.encoder_layers = nn.Sequential(*(nn.Conv2d(a[0], b[0], **how) for a, b in layers))
        self.to_code = self.from_code = None
        if self.code is not None:
            self.to_code = nn.Linear(features, self.code, generator=generator, dtype=dtype)
            self.from_code = nn.Linear(self.code, features, generator=generator, dtype=dtype)
        back = []
        for a, b in reversed(layers):
            missed = (a[1] - 1) % self.stride, (a[2] - 1) % self.stride  # pixels after the last that the stride met
            back.append(nn.ConvTranspose2d(b[0], a[0], output_padding=missed, **how))
        self.decoder_layers = nn.Sequential(*back)

    def encode(self, x: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return the code, shape (m, code) or (m, *code_shape), of images x, shape (m, channels, height, width)."""
        h = as_input(self, x)
        check_samples(h, self.shapes[0], self, "encode")
        act = ACTIVATIONS[self.activation]
        for layer in self.encoder_layers:
            h = act(layer(h))
        if self.to_code is not None:
            h = act(self.to_code(h.reshape(h.shape[0], math.prod(h.shape[1:]))))
        return h

    def decode_linear(self, h: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return decode(h) before its output activation."""
        z = as_input(self, h)
        check_samples(z, self.code_shape, self, "decode")
        act = ACTIVATIONS[self.activation]
        if self.from_code is not None:
            z = act(self.from_code(z)).reshape(z.shape[0], *self.shapes[-1])
        for i, layer in enumerate(self.decoder_layers):
            z = layer(act(z) if i else z)
        return z

    def config(self) -> dict[str, Any]:
        """Return the arguments but those of the initial weights."""
        return {
            "input_shape": list(self.shapes[0]),
            "channels": list(self.channels),
            "code": self.code,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "activation": self.activation,
            "output": self.output,
            "dtype": self.encoder_layers[0].weight.dtype.name,
        }

    def describe(self) -> str:
        """Return the shapes from the image to the code, kernel, stride and activations."""
        shapes = "-".join("x".join(str(n) for n in shape) for shape in self.shapes)
        code = "" if self.code is None else f"-{self.code}"
        return (
            f"{shapes}{code}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"activation={self.activation!r}, output={self.output!r}"
        )
