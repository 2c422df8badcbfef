"""Convolution and pooling of images (N, C, H, W). Sizes, strides and paddings are numbers or pairs (down, right)."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import primitives as P
from . import tape
from .errors import ShapeError
from .primitives import convolution as rows
from .tensor import Tensor, as_tensor

Pair = tuple[int, int]


def _pair(name: str, value: int | Pair) -> Pair:
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(isinstance(n, int | np.integer) for n in pair):
        raise ShapeError(f"{name} is an integer or a pair of integers, got {value!r}")
    return int(pair[0]), int(pair[1])


def conv2d(x: Any, w: Any, stride: int | Pair = 1, padding: int | Pair = 0) -> Tensor:
    """Correlate images with kernels.

    Parameters
    ----------
    x : Tensor (N, C, H, W)
        Images.
    w : Tensor (O, C, kh, kw)
        Kernels.
    stride : int or pair
        Steps between windows.
    padding : int or pair
        Rows and columns of zeros on each side.

    Returns
    -------
    Tensor (N, O, H', W')
        With H' = (H + 2 padding - kh) // stride + 1; y[n, o] is the sum over c, i, j of w[o, c, i, j] times the pixel
        (i, j) of each window of x[n, c].

    Raises
    ------
    ShapeError
        When channels differ, or a kernel does not fit.

    Notes
    -----
    V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning" (2016).

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.conv2d(mg.ones((1, 1, 3, 3)), mg.ones((1, 1, 2, 2)))
    tensor([[[[4., 4.],
              [4., 4.]]]])
    """
    return tape.apply(rows.conv2d, x, w, stride=_pair("stride", stride), padding=_pair("padding", padding))


def conv_transpose2d(
    x: Any, w: Any, stride: int | Pair = 1, padding: int | Pair = 0, output_padding: int | Pair = 0
) -> Tensor:
    """Spread every pixel over a window: the transpose of `conv2d` with the same kernels, stride and padding.

    Parameters
    ----------
    x : Tensor (N, C, H, W)
        Images.
    w : Tensor (C, O, kh, kw)
        Kernels; their first axis is that of the channels of x.
    stride, padding : int or pair
        As in the `conv2d` that it transposes.
    output_padding : int or pair
        Rows and columns to add at the end, less than the stride. A `conv2d` with a stride gives images of several
        sizes the same size; this says which one to go back to.

    Returns
    -------
    Tensor (N, O, H', W')
        With H' = (H - 1) stride - 2 padding + kh + output_padding.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.conv_transpose2d(mg.ones((1, 1, 2, 2)), mg.ones((1, 1, 2, 2)))
    tensor([[[[1., 2., 1.],
              [2., 4., 2.],
              [1., 2., 1.]]]])
    """
    (s1, s2), (p1, p2) = _pair("stride", stride), _pair("padding", padding)
    extra = _pair("output_padding", output_padding)
    if not (0 <= extra[0] < s1 and 0 <= extra[1] < s2):
        raise ShapeError(f"output_padding {extra} must be at least 0 and less than the stride {(s1, s2)}")
    images, kernels = np.shape(x), np.shape(w)
    if len(images) != 4 or len(kernels) != 4:
        raise ShapeError(f"conv_transpose2d takes images and kernels with four axes, got {images} and {kernels}")
    size = (
        (images[2] - 1) * s1 - 2 * p1 + kernels[2] + extra[0],
        (images[3] - 1) * s2 - 2 * p2 + kernels[3] + extra[1],
    )
    return tape.apply(rows.conv2d_transpose, x, w, size=size, stride=(s1, s2), padding=(p1, p2))


def _images(name: str, x: Any) -> Tensor:
    x = as_tensor(x)
    if x.ndim < 2:
        raise ShapeError(f"{name} takes images (..., H, W), got shape {x.shape}; give it two axes with reshape")
    return x


def _pooling_windows(name: str, x: Any, kernel: int | Pair, stride: int | Pair | None) -> Tensor:
    x = _images(name, x)
    size = _pair("kernel", kernel)
    return tape.apply(rows.windows2d, x, kernel=size, stride=size if stride is None else _pair("stride", stride))


def max_pool2d(x: Any, kernel: int | Pair, stride: int | Pair | None = None) -> Tensor:
    """Return the largest value of every window; where several are equal they share the gradient evenly.

    Parameters
    ----------
    x : Tensor (..., H, W)
        Images.
    kernel : int or pair
        Size of the windows.
    stride : int or pair, optional
        Steps between windows; by default their size, so that they do not overlap.

    Returns
    -------
    Tensor (..., H', W')
        With H' = (H - kernel) // stride + 1.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.max_pool2d(mg.tensor([[1.0, 2.0, 5.0, 6.0], [3.0, 4.0, 8.0, 7.0]]), 2)
    tensor([[4., 8.]])
    """
    return P.max(_pooling_windows("max_pool2d", x, kernel, stride), axis=(0, 1))


def avg_pool2d(x: Any, kernel: int | Pair, stride: int | Pair | None = None) -> Tensor:
    """Return the mean of every window. Parameters as for `max_pool2d`.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.avg_pool2d(mg.tensor([[1.0, 2.0, 5.0, 6.0], [3.0, 4.0, 8.0, 7.0]]), 2)
    tensor([[2.5, 6.5]])
    """
    return P.mean(_pooling_windows("avg_pool2d", x, kernel, stride), axis=(0, 1))


def upsample2x(x: Any) -> Tensor:
    """Repeat every pixel of images (..., H, W) twice down and twice right (nearest neighbour).

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.upsample2x(mg.tensor([[1.0, 2.0]]))
    tensor([[1., 1., 2., 2.],
            [1., 1., 2., 2.]])
    """
    x = _images("upsample2x", x)
    *lead, h, w = x.shape
    spread = P.broadcast_to(P.reshape(x, shape=(*lead, h, 1, w, 1)), shape=(*lead, h, 2, w, 2))
    return P.reshape(spread, shape=(*lead, 2 * h, 2 * w))
