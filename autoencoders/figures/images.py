"""Pictures made of images: filters, and inputs above their reconstructions."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import minigrad as mg
from autoencoders.figures.style import check_named, new_figure
from autoencoders.inputs import finite_array, positive
from minigrad.errors import ShapeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def mosaic(
    images: mg.Tensor | ArrayLike, shape: tuple[int, int], columns: int, symmetric: bool = False
) -> NDArray[np.float64]:
    """Return the rows of `images` as one picture, side by side with a gap of one pixel (NaN).

    Parameters
    ----------
    images : Tensor or array_like, shape (count, height * width)
    shape : (height, width)
        In pixels.
    columns : int, at least 1
        How many images stand side by side.
    symmetric : bool
        Scale each image on its own so that 0 stays in the middle and its largest magnitude is 1, as for filters.

    Returns
    -------
    ndarray of float64, shape (rows (height + 1) - 1, columns (width + 1) - 1)

    Raises
    ------
    ShapeError, DTypeError, DataError
        The images are not finite real numbers, one image of that shape per row; or columns is below 1.

    Examples
    --------
    >>> mosaic(np.zeros((3, 4)), (2, 2), columns=2).shape
    (5, 5)
    """
    columns = positive(columns, "columns", "mosaic")
    pixels = finite_array(images, "mosaic", "images", ("count", "pixels")).astype(np.float64)
    height, width = _image_shape(shape, pixels.shape, "mosaic", "images")
    if symmetric:
        largest = np.abs(pixels).max(axis=1, keepdims=True)
        pixels = pixels / np.where(largest > 0, largest, 1)
    rows = -(-len(pixels) // columns)
    picture = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for i, image in enumerate(pixels):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        picture[top : top + height, left : left + width] = image.reshape(height, width)
    return picture


def filters(
    weights: Mapping[str, mg.Tensor | ArrayLike], shape: tuple[int, int], count: int = 64, columns: int = 8
) -> Figure:
    """Show the filters of models side by side, each scaled on its own: black is negative, grey 0, white positive.

    Parameters
    ----------
    weights : mapping of name to Tensor or array_like, shape (pixels, units)
        First-layer weights of each model: column l is the filter of unit l.
    shape : (height, width)
    count : int, at least 1
        How many filters of each model: those with the largest norms, largest first; norms that are equal to five
        digits of the largest one keep their order.
    columns : int, at least 1

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    ShapeError, DTypeError, DataError
        As for `mosaic`; or there is no model.

    Examples
    --------
    >>> len(filters({"plain": np.eye(16)}, (4, 4)).axes)
    1
    """
    check_named(weights, "filters")
    count, columns = positive(count, "count", "filters"), positive(columns, "columns", "filters")
    pictures = {}
    for name, weight in weights.items():
        w = finite_array(weight, "filters", repr(name), ("pixels", "units"))
        _image_shape(shape, w.T.shape, "filters", repr(name))
        norms = np.linalg.norm(w.astype(np.float64), axis=0)
        norms = np.round(norms / (norms.max() or 1.0), 5)  # rounding must not shuffle directions of norm 1
        largest = np.argsort(-norms, kind="stable")[:count]
        of = "" if len(largest) == w.shape[1] else f" of {w.shape[1]}"
        pictures[f"{name}: {len(largest)}{of} filters"] = mosaic(w.T[largest], shape, columns, symmetric=True)
    rows = -(-len(pictures) // 3)
    across = -(-len(pictures) // rows)
    # of the paper in units of a picture's width: tall pictures become narrow
    height = min(4.0, max(picture.shape[0] / picture.shape[1] for picture in pictures.values()))
    figure = new_figure((2.6 * across, (2.6 * height + 0.3) * rows))
    for place, (title, picture) in enumerate(pictures.items(), start=1):
        axes = figure.add_subplot(rows, across, place)
        axes.imshow(picture, cmap="gray", vmin=-1, vmax=1)
        axes.set_title(title, fontsize="medium")
        axes.set_axis_off()
    return figure


def reconstructions(rows: Mapping[str, mg.Tensor | ArrayLike], shape: tuple[int, int]) -> Figure:
    """Show images above each other: one labelled row for each entry, one column for each sample.

    Parameters
    ----------
    rows : mapping of name to Tensor or array_like, shape (count, pixels)
        Such as input, corrupted input and reconstruction, of the same samples. Black is 0 and lower, white 1 and
        higher.
    shape : (height, width)

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    ShapeError, DTypeError, DataError
        As for `mosaic`; or there is no row, or the rows have different numbers of images.

    Examples
    --------
    >>> len(reconstructions({"input": np.zeros((5, 4)), "output": np.ones((5, 4))}, (2, 2)).axes)
    2
    """
    check_named(rows, "reconstructions")
    images = {}
    for name, row in rows.items():
        images[name] = finite_array(row, "reconstructions", repr(name), ("count", "pixels"))
        _image_shape(shape, images[name].shape, "reconstructions", repr(name))
    counts = {name: len(row) for name, row in images.items()}
    if len(set(counts.values())) > 1:
        raise ShapeError(
            f"reconstructions: the rows have {counts} images; expected as many in each, of the same samples"
        )
    count = next(iter(counts.values()))
    labels, width = 0.3 + 0.09 * max(len(str(name)) for name in rows), 0.5 * count  # inches
    figure = new_figure((labels + width, 0.6 * len(rows)))
    # the constrained layout reckons labels beside images of a fixed shape too narrow
    figure.set_layout_engine("none")
    places = {"left": labels / (labels + width), "right": 0.99, "bottom": 0.02, "top": 0.98, "hspace": 0.08}
    panels = figure.subplots(len(rows), 1, squeeze=False, gridspec_kw=places)[:, 0]
    for axes, (name, row) in zip(panels, images.items(), strict=True):
        axes.imshow(mosaic(row, shape, columns=count), cmap="gray", vmin=0, vmax=1)
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_frame_on(False)
    return figure


def _image_shape(shape: Any, images: tuple[int, ...], caller: str, name: str) -> tuple[int, int]:
    """shape as (height, width), if images of shape (count, pixels) have as many pixels."""
    try:
        height, width = (operator.index(n) for n in shape)
    except (TypeError, ValueError):
        height, width = 0, 0
    if height < 1 or width < 1:
        raise ShapeError(f"{caller}: got shape={shape!r}; expected two positive integers (height, width)")
    if images[1] != height * width:
        raise ShapeError(f"{caller} got {name} of shape {images}; expected (count, {height * width}) for {shape}")
    return height, width
