"""Ranges: which values a dtype holds. What writes numbers into an array of a given dtype refuses all others here."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import modes
from . import tensor as tensors
from .devices import guarded
from .errors import DTypeError


def check_holds(dtype: np.dtype, value: Any, got: str, instead: str) -> None:
    """Raise for a value that is no number, or of which an array of `dtype` would silently leave a part out.

    Of floats an integer dtype holds a single whole number; of those in a tensor or a list nobody knows what they are.
    `got` and `instead` begin and end the message: who got the value, and what to do.
    """
    if dtype.kind == "f" and isinstance(value, int | float):  # the usual case, at once
        return
    if (number := _outside(dtype, value)) is not None:
        raise DTypeError(f"{got} {number} for {dtype.name}, which holds {_held(dtype)}; {instead}")
    # an empty list counts as one of floats
    kind = "i" if isinstance(value, int) or not np.size(value) else _dtype_of(value).kind
    if kind == "O" and all(isinstance(number, int) for number in np.asarray(value).flat):
        kind = "i"
    if kind not in "biufc":
        raise DTypeError(f"{got} {value!r}, which is not made of numbers")
    single = isinstance(value, float | np.floating) or (isinstance(value, np.ndarray) and not value.ndim)
    whole = kind == "f" and single and float(value).is_integer()
    if (kind == "c" and dtype.kind != "c") or (kind == "f" and dtype.kind in "biu" and not whole):
        shown = repr(value) if isinstance(value, int | float | complex) else _dtype_of(value).name
        raise DTypeError(f"{got} {shown} for {dtype.name}, which holds {_held(dtype)}; {instead}")


def _dtype_of(value: Any) -> np.dtype:
    return value.dtype if hasattr(value, "dtype") else np.asarray(tensors._plain(value)).dtype


def _outside(dtype: np.dtype, value: Any) -> int | None:
    """Return a whole number in `value` that a dtype of integers or bools does not hold, if the host may look.

    Of floats only a single one counts: what else they are is not for integers anyway.
    """
    if dtype.kind not in "biu":
        return None
    if isinstance(value, int):
        low = high = int(value)
    else:
        if isinstance(value, tensors.Tensor):
            if not modes.checks_values():
                return None
            value = value._array
        array = value if hasattr(value, "dtype") else np.asarray(tensors._plain(value))
        if guarded() and not isinstance(array, np.ndarray | np.generic):  # on a device
            return None
        if array.dtype.kind in "biu":
            comparable = not np.can_cast(array.dtype, dtype)
        elif array.dtype.kind == "f":
            comparable = array.ndim == 0 and float(array).is_integer()
        else:  # Python integers of any size
            comparable = array.dtype.kind == "O" and all(isinstance(number, int) for number in array.flat)
        if not comparable or not array.size:
            return None
        low, high = int(array.min()), int(array.max())
    least, most = _limits(dtype)
    return low if low < least else high if high > most else None


def _limits(dtype: np.dtype) -> tuple[int, int]:
    if dtype.kind == "b":
        return 0, 1
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _held(dtype: np.dtype) -> str:
    """Return the numbers that a dtype holds, in words."""
    if dtype.kind in "biu":
        least, most = _limits(dtype)
        return f"integers from {least} to {most}"
    return "real numbers" if dtype.kind == "f" else "complex numbers"
