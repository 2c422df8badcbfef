"""Convolution of images (N, C, H, W), as matrix products over windows.

conv2d is linear in the images and in the kernels, so it has two transposes: `conv2d_transpose` takes a cotangent of
the result to the images, `conv2d_kernel` to the kernels. Each of the three is bilinear with the other two as its
derivatives; the set is closed, and every order of differentiation works.

`windows2d` and its transpose `fold2d` do the same for pooling. Strides, paddings and kernel sizes are pairs here; the
functions in `minigrad.convolution` also take numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import openblas
from ..errors import ShapeError
from .domains import SMALL
from .registry import Samples, primitive

BLOCK = 2**20  # bytes of windows that are handled at a time
Pair = tuple[int, int]


def _count(size: Pair, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> Pair:
    """Return how many windows fit along both axes, or raise."""
    if min(kernel) < 1 or min(stride) < 1 or min(padding) < 0:
        raise ShapeError(f"kernel {kernel} and stride {stride} must be at least 1, and padding {padding} at least 0")
    if min(size) < 0:
        raise ShapeError(f"there are no images of size {size}; use less padding or a larger kernel")
    padded = size[0] + 2 * padding[0], size[1] + 2 * padding[1]
    if padded[0] < kernel[0] or padded[1] < kernel[1]:
        raise ShapeError(f"a kernel of size {kernel} is larger than images of size {size} with padding {padding}")
    return (padded[0] - kernel[0]) // stride[0] + 1, (padded[1] - kernel[1]) // stride[1] + 1


def _windows(xp: Any, x: Any, kernel: Pair, stride: Pair) -> Any:
    """Return a view (kh, kw, ..., H', W') of x (..., H, W): element (i, j) of every window."""
    count = _count(x.shape[-2:], kernel, stride)
    down, right = x.strides[-2:]
    strides = (down, right, *x.strides[:-2], down * stride[0], right * stride[1])
    return xp.lib.stride_tricks.as_strided(x, (*kernel, *x.shape[:-2], *count), strides)


def _add_windows(result: Any, w: Any, stride: Pair) -> None:
    """Add windows (kh, kw, ..., H', W') to images (..., H, W): the transpose of `_windows`."""
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):  # one window element at a time: these never overlap
            rows = slice(i, i + stride[0] * w.shape[-2], stride[0])
            columns = slice(j, j + stride[1] * w.shape[-1], stride[1])
            result[..., rows, columns] += w[i, j]


def _fold(xp: Any, w: Any, size: Pair, stride: Pair) -> Any:
    result = xp.zeros((*w.shape[2:-2], *size), w.dtype)
    _add_windows(result, w, stride)
    return result


def _images_last(xp: Any, x: Any, padding: Pair = (0, 0)) -> Any:
    """Return images (N, C, H, W) as (C, H, W, N), padded with zeros: loops over N are longer than over W."""
    n, c, h, w = x.shape
    result = xp.zeros((c, h + 2 * padding[0], w + 2 * padding[1], n), x.dtype)
    result[:, padding[0] : padding[0] + h, padding[1] : padding[1] + w] = x.transpose(1, 2, 3, 0)
    return result


def _padded_windows(xp: Any, x: Any, kernel: Pair, stride: Pair, padding: Pair) -> Any:
    """Return the windows (kh, kw, N, C, H', W') of images with zeros around them."""
    n, c, h, w = x.shape
    _count((h, w), kernel, stride, padding)
    if padding != (0, 0):
        padded = xp.zeros((n, c, h + 2 * padding[0], w + 2 * padding[1]), x.dtype)
        padded[:, :, padding[0] : padding[0] + h, padding[1] : padding[1] + w] = x
        x = padded
    return _windows(xp, x, kernel, stride)


def _blocks(xp: Any, images: int, bytes_each: int) -> list[slice]:
    """Return slices of images whose windows stay in a second-level cache; a GPU wants large calls, so only one."""
    step = images
    if xp is np:
        step = max(1, min(BLOCK // max(1, bytes_each), -(-images // openblas.product_parts())))
    return [slice(start, start + step) for start in range(0, images, max(1, step))]


def _check_images(name: str, x: Any, channels: int, what: str) -> None:
    if x.ndim != 4 or x.shape[1] != channels:
        raise ShapeError(f"{name} takes {what} of shape (N, {channels}, H, W) with these kernels, got {x.shape}")


def _check_kernels(name: str, w: Any) -> None:
    if w.ndim != 4:
        raise ShapeError(f"{name} takes kernels with four axes, two of channels and two of space, got {w.shape}")


def _conv2d(xp: Any, x: Any, w: Any, /, *, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> Any:
    _check_kernels("conv2d", w)
    _check_images("conv2d", x, w.shape[1], "images")
    (n, c, *size), (outputs, _, kh, kw) = x.shape, w.shape
    rows, columns = _count((size[0], size[1]), (kh, kw), stride, padding)
    kernels = w.reshape(outputs, c * kh * kw)
    result = xp.empty((n, outputs, rows, columns), xp.result_type(x, w))

    def one_block(part: slice) -> None:
        windows = _padded_windows(xp, x[part], (kh, kw), stride, padding)
        # a product per image: the result needs no transposition
        matrices = windows.transpose(2, 3, 0, 1, 4, 5).reshape(len(x[part]), c * kh * kw, rows * columns)
        result[part] = xp.matmul(kernels, matrices).reshape(result[part].shape)

    openblas.each(one_block, _blocks(xp, n, c * kh * kw * rows * columns * x.itemsize))
    return result


def _conv2d_transpose(xp: Any, x: Any, w: Any, /, *, size: Pair, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> Any:
    _check_kernels("conv2d_transpose", w)
    _check_images("conv2d_transpose", x, w.shape[0], "images")
    (n, _, h, width), (inputs, channels, kh, kw) = x.shape, w.shape
    if _count(size, (kh, kw), stride, padding) != (h, width):
        raise ShapeError(f"conv2d_transpose cannot make images of size {size} from {(h, width)} with stride {stride}")
    kernels = w.reshape(inputs, channels * kh * kw).T
    result = xp.empty((n, channels, *size), xp.result_type(x, w))

    def one_block(part: slice) -> None:
        images = _images_last(xp, x[part])
        flat = xp.matmul(kernels, images.reshape(inputs, h * width * images.shape[-1]))
        windows = flat.reshape(channels, kh, kw, h, width, images.shape[-1]).transpose(1, 2, 0, 5, 3, 4)
        # padding and cutting it off is faster than clipping windows: NumPy's loops over whole windows are longer
        padded = xp.zeros((channels, size[0] + 2 * padding[0], size[1] + 2 * padding[1], images.shape[-1]), flat.dtype)
        _add_windows(padded.transpose(0, 3, 1, 2), windows, stride)
        inner = padded[:, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]
        result[part] = inner.transpose(3, 0, 1, 2)

    openblas.each(one_block, _blocks(xp, n, channels * kh * kw * h * width * x.itemsize))
    return result


def _conv2d_kernel(xp: Any, x: Any, v: Any, /, *, kernel: Pair, stride: Pair, padding: Pair) -> Any:
    n, c, h, width = x.shape
    rows, columns = _count((h, width), kernel, stride, padding)
    if v.ndim != 4 or (v.shape[0], *v.shape[2:]) != (n, rows, columns):
        raise ShapeError(f"conv2d_kernel takes cotangents of shape ({n}, O, {rows}, {columns}), got {v.shape}")
    outputs = v.shape[1]
    parts = _blocks(xp, n, c * kernel[0] * kernel[1] * rows * columns * x.itemsize)
    products: dict[int, Any] = {}

    def one_block(part: slice) -> None:
        windows = _windows(xp, _images_last(xp, x[part], padding).transpose(0, 3, 1, 2), kernel, stride)
        # one product for all images of a block, because the sum runs over them
        columns_here = rows * columns * windows.shape[3]
        matrix = windows.transpose(2, 0, 1, 4, 5, 3).reshape(c * kernel[0] * kernel[1], columns_here)
        products[part.start] = xp.matmul(_images_last(xp, v[part]).reshape(outputs, columns_here), matrix.T)

    openblas.each(one_block, parts)
    total = xp.zeros((outputs, c * kernel[0] * kernel[1]), xp.result_type(x, v))
    for part in parts:  # always in the same order, whoever was first
        total += products[part.start]
    return total.reshape(outputs, c, *kernel)


def _x_rule(F: Any, g: Any, y: Any, x: Any, w: Any, stride: Pair, padding: Pair) -> Any:
    return F.conv2d_transpose(g, w, size=tuple(x.shape[-2:]), stride=stride, padding=padding)


def _w_rule(F: Any, g: Any, y: Any, x: Any, w: Any, stride: Pair, padding: Pair) -> Any:
    return F.conv2d_kernel(x, g, kernel=tuple(w.shape[-2:]), stride=stride, padding=padding)


conv2d = primitive(
    "conv2d",
    forward=_conv2d,
    vjps=[_x_rule, _w_rule],
    saves="xw",
    samples=Samples("conv2d", (SMALL, SMALL)),
    doc="Images (N, C, H, W) correlated with kernels (O, C, kh, kw), giving (N, O, H', W').",
)

conv2d_transpose = primitive(
    "conv2d_transpose",
    forward=_conv2d_transpose,
    vjps=[
        lambda F, g, y, x, w, size, stride, padding: F.conv2d(g, w, stride=stride, padding=padding),
        lambda F, g, y, x, w, size, stride, padding: F.conv2d_kernel(
            g, x, kernel=tuple(w.shape[-2:]), stride=stride, padding=padding
        ),
    ],
    saves="xw",
    samples=Samples("conv2d_transpose", (SMALL, SMALL)),
    doc="The transpose of conv2d in its images: from (N, O, H', W') and kernels (O, C, kh, kw) to (N, C, *size).",
)

conv2d_kernel = primitive(
    "conv2d_kernel",
    forward=_conv2d_kernel,
    vjps=[
        lambda F, g, y, x, v, kernel, stride, padding: F.conv2d_transpose(
            v, g, size=tuple(x.shape[-2:]), stride=stride, padding=padding
        ),
        lambda F, g, y, x, v, kernel, stride, padding: F.conv2d(x, g, stride=stride, padding=padding),
    ],
    saves="xv",
    samples=Samples("conv2d_kernel", (SMALL, SMALL)),
    doc="The transpose of conv2d in its kernels: from (N, C, H, W) and (N, O, H', W') to (O, C, *kernel).",
)

windows2d = primitive(
    "windows2d",
    forward=lambda xp, x, /, *, kernel, stride: _windows(xp, x, kernel, stride),
    vjps=[lambda F, g, y, x, kernel, stride: F.fold2d(g, size=tuple(x.shape[-2:]), stride=stride)],
    view=True,
    samples=Samples("windows2d", (SMALL,)),
    doc="The windows of images (..., H, W), as (kh, kw, ..., H', W'). A view.",
)

fold2d = primitive(
    "fold2d",
    forward=lambda xp, w, /, *, size, stride: _fold(xp, w, size, stride),
    vjps=[lambda F, g, y, w, size, stride: F.windows2d(g, kernel=tuple(w.shape[:2]), stride=stride)],
    samples=Samples("fold2d", (SMALL,)),
    doc="Windows (kh, kw, ..., H', W') added up where they overlap, in images (..., *size): transpose of windows2d.",
)
