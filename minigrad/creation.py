"""Functions that make tensors from nothing."""

from __future__ import annotations

from typing import Any

from .devices import default_device, device
from .tensor import Tensor, Version


def full(shape: int | tuple[int, ...], value: float, dtype: Any = None, device: Any = None) -> Tensor:
    """Return a tensor filled with `value`, float32 unless `dtype` says otherwise.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.full((2,), 7)
    tensor([7., 7.])
    """
    place = _place(device)
    return Tensor._wrap(place.xp.full(shape, value, dtype or "float32"), place, None, Version())


def zeros(shape: int | tuple[int, ...], dtype: Any = None, device: Any = None) -> Tensor:
    """Return a tensor of zeros, float32 unless `dtype` says otherwise.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.zeros((2,))
    tensor([0., 0.])
    """
    return full(shape, 0, dtype, device)


def ones(shape: int | tuple[int, ...], dtype: Any = None, device: Any = None) -> Tensor:
    """Return a tensor of ones, float32 unless `dtype` says otherwise.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.ones(2)
    tensor([1., 1.])
    """
    return full(shape, 1, dtype, device)


def arange(start: int, stop: int | None = None, step: int = 1, dtype: Any = None, device: Any = None) -> Tensor:
    """Return the integers from `start` up to, not including, `stop` (from 0 up to `start` when `stop` is left out).

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.arange(3)
    tensor([0, 1, 2], dtype=int64)
    """
    place = _place(device)
    first, last = (0, start) if stop is None else (start, stop)
    return Tensor._wrap(place.xp.arange(first, last, step, dtype=dtype or "int64"), place, None, Version())


def _place(name: Any) -> Any:
    return default_device() if name is None else device(name)
