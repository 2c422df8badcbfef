"""What `fit` is given, checked at the border: sizes, and data as a tensor of the model's dtype."""

from __future__ import annotations

import operator

import numpy as np
from numpy.typing import ArrayLike

import minigrad as mg
from minigrad import nn
from minigrad.errors import DataError, DTypeError, ShapeError


def positive(value: int, name: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise DTypeError(f"fit: got {name}={value!r}; expected an integer of at least 1") from None
    if number < 1:
        raise DataError(f"fit: got {name}={value!r}; expected at least 1")
    return number


def samples_of(X: mg.Tensor | ArrayLike, name: str, model: nn.Module, dtype: np.dtype, place: mg.Device) -> mg.Tensor:
    """X as a finite tensor of samples that the model can take."""
    array = X.detach().numpy() if isinstance(X, mg.Tensor) else np.asarray(X)
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"fit: {name} has dtype {array.dtype}; expected real numbers")
    if array.ndim < 2 or array.size == 0:
        raise ShapeError(
            f"fit: {name} has shape {array.shape}; expected (samples, ...), at least one sample and feature"
        )
    expected = getattr(model, "input_shape", None)
    if expected is not None and array.shape[1:] != expected:
        raise ShapeError(
            f"fit: {name} has shape {array.shape}; expected (m, {', '.join(map(str, expected))}) for {model}"
        )
    with np.errstate(over="ignore"):  # reported below
        converted = array.astype(dtype, copy=False)
    finite = np.isfinite(converted)
    if not finite.all():
        first = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise DataError(
            f"fit: {name}{list(first)} is {array[first]}, one of {finite.size - int(finite.sum())} values that are not "
            f"finite numbers in {dtype.name}; remove or replace them first"
        )
    return mg.tensor(converted, device=place)
