"""Check a saved state, arrays by name, against the tensors that it is to fill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import DataError, DTypeError, ShapeError
from .tensor import Tensor


def to_array(value: Any) -> np.ndarray:
    """Return a tensor's, an array's or a number's values in host memory, in the byte order of this machine."""
    if isinstance(value, Tensor):
        return value.detach().numpy()
    array = np.asarray(value)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def check(owner: str, expected: Mapping[str, Tensor], state: Any, strict: bool = True) -> dict[str, np.ndarray]:
    """Return the arrays of `state` that `expected` names; raise, with all that is wrong, unless each one fits.

    `strict` also asks for the same names on both sides.
    """
    if not isinstance(state, Mapping):
        raise DTypeError(f"{owner}: a state is a dict of arrays by name, got {type(state).__name__}")
    arrays = {name: to_array(value) for name, value in state.items() if name in expected}
    missing = [name for name in expected if name not in arrays]
    unexpected = [name for name in state if name not in expected]
    if strict and (missing or unexpected):
        problems = [f"{_listed(missing)} missing"] if missing else []
        problems += [f"{_listed(unexpected)} not expected"] if unexpected else []
        raise DataError(
            f"{owner}: the state does not have the names of this object: {'; '.join(problems)}. "
            f"It was saved from another one; expected {_listed(list(expected))}"
        )
    shapes = [
        f"{name!r} has shape {array.shape}, expected {expected[name].shape}"
        for name, array in arrays.items()
        if array.shape != expected[name].shape
    ]
    if shapes:
        raise ShapeError(f"{owner}: {'; '.join(shapes)}; nothing was loaded")
    dtypes = [
        f"{name!r} is {array.dtype.name}, expected {expected[name].dtype.name}"
        for name, array in arrays.items()
        if array.dtype != expected[name].dtype
    ]
    if dtypes:
        raise DTypeError(f"{owner}: {'; '.join(dtypes)}; nothing was loaded. Convert the arrays with astype first")
    return arrays


def _listed(names: list[Any]) -> str:
    """Name the first few of many names."""
    shown = ", ".join(repr(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
