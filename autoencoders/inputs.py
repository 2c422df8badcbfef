"""What users give, checked at the border: sizes, data as a tensor of the model's dtype, and arrays to look at."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

import minigrad as mg
from minigrad import nn
from minigrad.errors import DataError, DTypeError, ShapeError


def positive(value: int, name: str, caller: str = "fit") -> int:
    """An argument as an integer of at least 1."""
    try:
        number = operator.index(value)
    except TypeError:
        raise DTypeError(f"{caller}: got {name}={value!r}; expected an integer of at least 1") from None
    if number < 1:
        raise DataError(f"{caller}: got {name}={value!r}; expected at least 1")
    return number


def number(
    value: float, name: str, caller: str, *, low: float = 0.0, high: float = math.inf, inside: bool = False
) -> float:
    """An argument as a finite float of at least `low` and at most `high`; with `inside`, strictly between them."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise DTypeError(f"{caller}: got {name}={value!r}; expected a number") from None
    if not math.isfinite(found) or not (low < found < high if inside else low <= found <= high):
        interval = f"strictly between {low:g} and {high:g}" if inside else f"in [{low:g}, {high:g}]"
        if high == math.inf:
            interval = f"{'above' if inside else 'of at least'} {low:g}"
        raise DataError(f"{caller}: got {name}={value!r}; expected a finite number {interval}")
    return found


def floating(value: Any, caller: str, what: str) -> mg.Tensor:
    """An argument that must be a floating tensor."""
    if not isinstance(value, mg.Tensor) or value.dtype.kind != "f":
        got = value.dtype.name if isinstance(value, mg.Tensor) else type(value).__name__
        raise DTypeError(f"{caller}: got {got}; expected a floating tensor, {what}")
    return value


def data_tensor(x: mg.Tensor | ArrayLike, caller: str, name: str, like: mg.Tensor | None = None) -> mg.Tensor:
    """Data as a tensor: tensors as they are, arrays in the dtype and on the device of `like`, where there is one."""
    if isinstance(x, mg.Tensor):
        return x
    array = as_array(x, f"{caller}: {name}")
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"{caller}: {name} has dtype {array.dtype}; expected real numbers")
    return mg.tensor(array) if like is None else mg.tensor(array, dtype=like.dtype, device=like.device)


def refuse_data_set(value: Any, name: str) -> None:
    """Refuse a data set where an array of samples is expected."""
    if hasattr(value, "x_train"):
        raise DTypeError(
            f"{name} is a {type(value).__name__}, a whole data set; give a part of it, such as its x_train"
        )


def refuse_masked(value: Any, name: str) -> None:
    """Refuse masked values: what is under a mask is no data, and an array would show it."""
    if np.ma.is_masked(value):
        raise DataError(
            f"{name} has {np.ma.count_masked(value)} masked values; fill them, as X.filled(0) does, or leave them out"
        )


def as_array(value: Any, name: str) -> NDArray[Any]:
    """A tensor or something array-like as an array."""
    if isinstance(value, mg.Tensor):
        return value.detach().numpy()
    refuse_data_set(value, name)
    refuse_masked(value, name)
    if hasattr(value, "toarray"):
        raise DTypeError(f"{name} is sparse, a {type(value).__name__}; give the array of it, as X.toarray() does")
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"{name} is no array ({error}); expected rows of the same length") from None


def array_in(path: str | os.PathLike[str], name: str) -> NDArray[Any]:
    """The array that a .npy file holds."""
    try:
        found: Any = np.load(path, allow_pickle=False)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of a damaged header NumPy tells by whatever it runs into: ValueError, TokenError ...
        raise DataError(f"{name}: not a readable .npy file ({error})") from error
    if not isinstance(found, np.ndarray):
        raise DataError(f"{name}: holds several arrays; expected one, as .npy files have")
    return found


def samples_of(
    X: mg.Tensor | ArrayLike,
    name: str,
    model: nn.Module | None,
    dtype: np.dtype,
    place: mg.Device | None,
    caller: str = "fit",
) -> mg.Tensor:
    """X as a finite tensor of samples that the model can take."""
    if stays(X, dtype, place):
        _check_samples(X, f"{caller}: {name}", model)
        if not bool(mg.isfinite(X.detach()).min()):
            raise DataError(f"{caller}: {name} has values that are not finite; remove or replace them first")
        return mg.tensor(X.detach())
    return mg.tensor(sample_array(X, name, model, dtype, caller), device=place)


def stays(X: Any, dtype: np.dtype, place: mg.Device | None) -> TypeGuard[mg.Tensor]:
    """Whether X is a tensor of a GPU that is where and what it should be: it need not go through the host."""
    return isinstance(X, mg.Tensor) and X.device.type != "cpu" and X.device is place and X.dtype == dtype


def sample_array(
    X: mg.Tensor | ArrayLike,
    name: str,
    model: nn.Module | None,
    dtype: np.dtype,
    caller: str = "fit",
    rows: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """X as a finite array of samples that the model can take; `rows` as for `converted`."""
    array = as_array(X, f"{caller}: {name}")
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"{caller}: {name} has dtype {array.dtype}; expected real numbers")
    _check_samples(array, f"{caller}: {name}", model)
    return converted(array, dtype, f"{caller}: {name}", rows)


def _check_samples(X: mg.Tensor | NDArray[Any], name: str, model: nn.Module | None) -> None:
    if X.ndim < 2 or X.size == 0:
        raise ShapeError(f"{name} has shape {X.shape}; expected (samples, ...), at least one sample and feature")
    expected = getattr(model, "input_shape", None)
    if expected is not None and X.shape[1:] != expected:
        raise ShapeError(f"{name} has shape {X.shape}; expected (m, {', '.join(map(str, expected))}) for {model}")


def converted(array: NDArray[Any], dtype: np.dtype, name: str, rows: NDArray[Any] | None = None) -> NDArray[Any]:
    """An array in another floating dtype, in which all of its values must be finite.

    If it is a part of the data, such as a batch, `rows` are their numbers there, which an error then tells.
    """
    with np.errstate(over="ignore"):  # reported below
        result = array.astype(dtype, copy=False)
    _check_finite(result, array, name, f"finite numbers in {dtype.name}; remove or replace them first", rows)
    return result


def finite_array(value: mg.Tensor | ArrayLike, caller: str, name: str, axes: Sequence[str]) -> NDArray[Any]:
    """A value as a finite array of floats with these axes, none of them empty; floats keep their dtype."""
    array = as_array(value, f"{caller}: {name}")
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"{caller}: {name} has dtype {array.dtype}; expected real numbers")
    if array.ndim != len(axes) or array.size == 0:
        raise ShapeError(f"{caller}: {name} has shape {array.shape}; expected ({', '.join(axes)}), none of them empty")
    _check_finite(array, array, f"{caller}: {name}", "finite; did the training diverge?")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _check_finite(
    array: NDArray[Any], given: NDArray[Any], name: str, expected: str, rows: NDArray[Any] | None = None
) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        first = tuple(int(i) for i in np.argwhere(~finite)[0])
        place = list(first) if rows is None else [int(rows[first[0]]), *first[1:]]
        values = "values" if rows is None else "values of a batch"
        count = finite.size - int(finite.sum())
        raise DataError(f"{name}{place} is {given[first]}, one of {count} {values} that are not {expected}")
