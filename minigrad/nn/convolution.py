"""Convolutional layers on images (N, C, H, W)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..convolution import conv2d, conv_transpose2d
from ..errors import DTypeError, ShapeError
from ..parameter import Parameter
from ..random import Generator
from ..tensor import Tensor
from . import init as initial
from .layers import given, positive
from .module import Module

Pair = int | tuple[int, int]


class _Convolution(Module):
    """What both convolutional layers have in common: kernel, bias, and the arguments of the operation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        bias: bool = True,
        generator: Generator | None = None,
        dtype: Any = np.float32,
        device: Any = None,
    ) -> None:
        owner = type(self).__name__
        dtype = np.dtype(dtype)
        if dtype.kind != "f":
            raise DTypeError(f"{owner}: got dtype={dtype.name!r}; expected a floating dtype such as 'float32'")
        self.in_channels = positive(in_channels, "in_channels", owner)
        self.out_channels = positive(out_channels, "out_channels", owner)
        pair = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
        self.kernel_size = tuple(positive(k, "kernel_size", owner) for k in pair)
        self.stride = stride
        self.padding = padding
        self.weight = Parameter(initial.xavier_uniform(self._kernel_shape(), generator, dtype), dtype, device)
        self.bias = Parameter(np.zeros(self.out_channels, dtype), dtype, device) if bias else None

    def _kernel_shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    def _check(self, x: Tensor) -> None:
        if given(self, x).ndim != 4 or x.shape[1] != self.in_channels:
            raise ShapeError(f"{self!r}: got an input of shape {x.shape}; expected (N, {self.in_channels}, H, W)")

    def describe(self) -> str:
        """Return channels, kernel, stride and padding."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}" + (", bias=False" if self.bias is None else "")
        )


class Conv2d(_Convolution):
    """Cross-correlation of images with a kernel, plus a bias for each channel.

    Parameters
    ----------
    in_channels, out_channels : int, at least 1
    kernel_size, stride, padding : int or pair of int
        Height and width. The padding is zeros on all four sides.
    bias : bool
    generator : Generator, optional
        Draws the initial kernel, by Glorot and Bengio (2010); by default the thread's default generator.
    dtype : dtype
    device : str or Device, optional

    Attributes
    ----------
    weight : Parameter, shape (out_channels, in_channels, height, width)
    bias : Parameter, shape (out_channels,), or None

    Raises
    ------
    ShapeError, DTypeError
        A size is not a positive integer, the dtype is not floating, or an input has another number of channels.

    Examples
    --------
    >>> import minigrad as mg
    >>> layer = mg.nn.Conv2d(1, 4, kernel_size=3, stride=2, padding=1)
    >>> layer(mg.ones((5, 1, 28, 28))).shape
    (5, 4, 14, 14)
    """

    def _kernel_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels, *self.kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return images (N, out_channels, H', W') of images (N, in_channels, H, W)."""
        self._check(x)
        y = conv2d(x, self.weight, stride=self.stride, padding=self.padding)
        return y if self.bias is None else y + self.bias.reshape(-1, 1, 1)


class ConvTranspose2d(_Convolution):
    """The transpose of a `Conv2d`: it takes images back to the size that the convolution started from.

    Parameters
    ----------
    in_channels, out_channels : int, at least 1
    kernel_size, stride, padding : int or pair of int
        Those of the convolution whose transpose this is.
    output_padding : int or pair of int
        Rows and columns to add at the lower and right edge, where several input sizes of the convolution give the same
        output size: 1 takes 14 x 14 back to 28 x 28 for kernel 3, stride 2, padding 1.
    bias, generator, dtype, device
        As for `Conv2d`.

    Attributes
    ----------
    weight : Parameter, shape (in_channels, out_channels, height, width)
    bias : Parameter, shape (out_channels,), or None

    Examples
    --------
    >>> import minigrad as mg
    >>> layer = mg.nn.ConvTranspose2d(4, 1, kernel_size=3, stride=2, padding=1, output_padding=1)
    >>> layer(mg.ones((5, 4, 14, 14))).shape
    (5, 1, 28, 28)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        output_padding: Pair = 0,
        bias: bool = True,
        generator: Generator | None = None,
        dtype: Any = np.float32,
        device: Any = None,
    ) -> None:
        self.output_padding = output_padding
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias, generator, dtype, device)

    def _kernel_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.out_channels, *self.kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return images (N, out_channels, H', W') of images (N, in_channels, H, W)."""
        self._check(x)
        y = conv_transpose2d(
            x, self.weight, stride=self.stride, padding=self.padding, output_padding=self.output_padding
        )
        return y if self.bias is None else y + self.bias.reshape(-1, 1, 1)
