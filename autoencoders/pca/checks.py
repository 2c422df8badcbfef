"""What the functions of this package are given, checked: matrices, widths, and samples."""

from __future__ import annotations

import operator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autoencoders.inputs import as_array
from minigrad.errors import DataError, DTypeError, ShapeError

Array = NDArray[np.float64]
SMALLEST, LARGEST = 1e-152, 1e152  # magnitudes whose squares, and sums of them, are still good numbers


def check_width(k: int, shape: tuple[int, ...], caller: str) -> int:
    """k as an int that fits a matrix of this shape."""
    try:
        width = operator.index(k)
    except TypeError:
        raise DTypeError(f"{caller}: got k={k!r}; expected an integer, the number of hidden units.") from None
    if not 1 <= width <= min(shape):
        raise ShapeError(f"{caller}: got k={width} for X of shape {shape}; expected 1 <= k <= {min(shape)}.")
    return width


def check_matrix(X: ArrayLike, caller: str, name: str, squares: bool = True) -> Array:
    """X as a finite float64 matrix with at least one row and one column, whose squares are good numbers if wanted."""
    given = as_array(X, f"{caller}: {name}")
    if given.dtype.kind not in "biuf":
        raise DTypeError(
            f"{caller}: {name} is a {type(X).__name__} of dtype {given.dtype}; expected real numbers, samples in rows."
        )
    if given.ndim != 2 or given.size == 0:
        raise ShapeError(
            f"{caller}: {name} has shape {given.shape}; expected a matrix with at least one row and one column."
        )
    matrix = given.astype(np.float64, copy=False)
    finite = np.isfinite(matrix)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise DataError(
            f"{caller}: {name}[{row}, {column}] is {matrix[row, column]}, one of {finite.size - finite.sum()} values "
            "that are not finite; remove or replace them first."
        )
    largest = float(np.abs(matrix).max())
    if squares and (largest > LARGEST or 0 < largest < SMALLEST):
        raise DataError(
            f"{caller}: the largest number of {name} is {largest:g} in magnitude, and its square leaves the range of "
            "float64; rescale the data."
        )
    return matrix


def check_rows(x: ArrayLike, width: int, caller: str) -> Array:
    """x as a float64 array whose last axis has ``width`` entries."""
    given = as_array(x, f"{caller}: the argument")
    if given.dtype.kind not in "biuf":
        raise DTypeError(f"{caller}: got dtype {given.dtype}; expected real numbers.")
    rows = given.astype(np.float64, copy=False)
    if rows.ndim == 0 or rows.shape[-1] != width:
        raise ShapeError(f"{caller}: got shape {rows.shape}; expected (..., {width}).")
    return rows
