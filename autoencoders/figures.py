"""Figures of what a model learned. Each function returns a matplotlib Figure; nothing is shown or saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigrad.errors import MissingDependencyError, ShapeError


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("figures need matplotlib: pip install 'minigrad[autoencoders]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def mosaic(images: np.ndarray, shape: tuple[int, int], columns: int, symmetric: bool = False) -> np.ndarray:
    """Return the rows of `images` as one picture, side by side with a gap of one pixel (NaN).

    Parameters
    ----------
    images : array, shape (count, height * width)
    shape : (height, width)
    columns : int
    symmetric : bool
        Scale each image on its own so that 0 stays in the middle and its largest magnitude is 1, as for filters.

    Examples
    --------
    >>> mosaic(np.zeros((3, 4)), (2, 2), columns=2).shape
    (5, 5)
    """
    images = np.asarray(images, dtype=np.float64)
    if images.ndim != 2 or images.shape[1] != shape[0] * shape[1]:
        raise ShapeError(
            f"mosaic got images of shape {images.shape}; expected (count, {shape[0] * shape[1]}) for {shape}"
        )
    if symmetric:
        images = images / np.maximum(np.abs(images).max(axis=1, keepdims=True), 1e-12)
    height, width = shape
    rows = -(-len(images) // columns)
    picture = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        picture[top : top + height, left : left + width] = image.reshape(shape)
    return picture


def filters(weights: Mapping[str, np.ndarray], shape: tuple[int, int], count: int = 64, columns: int = 8) -> Any:
    """Show the filters (columns of each weight, shape (pixels, units)) with the largest norms, a panel per model.

    Examples
    --------
    >>> len(filters({"plain": np.eye(16)}, (4, 4)).axes)
    1
    """
    figure = _figure(4.2 * len(weights), 4.5)
    for axes, (name, weight) in zip(figure.subplots(1, len(weights), squeeze=False)[0], weights.items(), strict=True):
        largest = np.argsort(-np.linalg.norm(weight, axis=0), kind="stable")[:count]
        picture = mosaic(np.asarray(weight).T[largest], shape, columns, symmetric=True)
        axes.imshow(picture, cmap="gray", vmin=-1, vmax=1)
        axes.set_title(f"{name}: {len(largest)} filters")
        axes.set_axis_off()
    return figure


def reconstructions(rows: Mapping[str, np.ndarray], shape: tuple[int, int]) -> Any:
    """Show images above each other: one labelled row for each entry, one column for each sample.

    Examples
    --------
    >>> len(reconstructions({"input": np.zeros((5, 4)), "output": np.ones((5, 4))}, (2, 2)).axes)
    2
    """
    count = len(next(iter(rows.values())))
    figure = _figure(1.2 + 0.75 * count, 0.9 * len(rows))
    for axes, (name, images) in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows.items(), strict=True):
        axes.imshow(mosaic(images, shape, columns=count), cmap="gray", vmin=0, vmax=1)
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_frame_on(False)
    return figure


def curves(series: Mapping[str, Sequence[float]], ylabel: str, floor: tuple[str, float] | None = None) -> Any:
    """Plot values over epochs, one line for each entry, and a dashed line at a known lower bound.

    Examples
    --------
    >>> curves({"loss": [3.0, 2.0]}, "error", floor=("PCA", 1.5)).axes[0].get_ylabel()
    'error'
    """
    figure = _figure(5.5, 3.4)
    axes = figure.subplots()
    for name, values in series.items():
        axes.plot(range(1, len(values) + 1), values, label=name)
    if floor is not None:
        axes.axhline(floor[1], color="black", linestyle="--", linewidth=1, label=floor[0])
    axes.set_xlabel("epoch")
    axes.set_ylabel(ylabel)
    axes.set_yscale("log")
    axes.legend()
    return figure


def bars(values: Mapping[str, float], ylabel: str) -> Any:
    """Compare a few numbers, with the value written above each bar.

    Examples
    --------
    >>> len(bars({"a": 1.0, "b": 2.0}, "error").axes[0].patches)
    2
    """
    figure = _figure(5.5, 3.4)
    axes = figure.subplots()
    drawn = axes.bar(range(len(values)), list(values.values()), tick_label=list(values))
    axes.bar_label(drawn, fmt="%.3g")
    axes.margins(y=0.12)  # room for the label of the highest bar
    axes.tick_params(axis="x", labelrotation=20)
    axes.set_ylabel(ylabel)
    return figure
