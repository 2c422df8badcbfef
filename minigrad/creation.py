"""Functions that make tensors from nothing, and from the memory of other libraries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .devices import CPU, default_device, device, out_of_memory
from .dtypes import number_dtype
from .errors import DataError, DeviceError, DTypeError, GraphError
from .ranges import check_holds
from .tensor import Tensor, Version


def full(shape: int | tuple[int, ...], value: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Return a tensor filled with `value`, float32 unless `dtype` says otherwise.

    Raises
    ------
    DTypeError
        The dtype is not one of numbers or bools, or it cannot hold `value`.
    GraphError
        The value requires grad: its gradient would be lost.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.full((2,), 7)
    tensor([7., 7.])
    """
    place = _place(device)
    if isinstance(dtype, int):
        raise DTypeError(f"got {dtype} where a dtype is expected; a shape is one argument: ({shape}, {dtype}, ...)")
    kind = number_dtype(dtype or "float32")
    if isinstance(value, Tensor) and value.requires_grad:
        raise GraphError("full would lose the gradient of its value; use mg.broadcast_to(t, shape), or t.detach()")
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 0:  # a GPU takes none from elsewhere
        value = value.item()
    check_holds(kind, value, "full got", "give another dtype")
    try:
        array = place.xp.full(shape, value, kind)
    except MemoryError as error:
        raise out_of_memory(place, f"a tensor of shape {shape}", error) from None
    return Tensor._wrap(array, place, None, Version())


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


def arange(start: float, stop: float | None = None, step: float = 1, dtype: Any = None, device: Any = None) -> Tensor:
    """Return the numbers from `start` up to, not including, `stop`, `step` apart (`stop` alone: from 0).

    Parameters
    ----------
    start, stop, step : int or float
        With one number, it is where to stop.
    dtype : optional
        By default int64 for integers, and float32 where one of the numbers is a float.
    device : str or Device, optional
        Where it lives.

    Raises
    ------
    DTypeError
        Something is no number, or one that the dtype does not hold.
    DataError
        The step is 0, or a number is not finite.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.arange(3)
    tensor([0, 1, 2], dtype=int64)
    >>> mg.arange(0.0, 1.0, 0.25)
    tensor([0.  , 0.25, 0.5 , 0.75])
    """
    place = _place(device)
    first, last = (0, start) if stop is None else (start, stop)
    given = {"start": first, "stop": last, "step": step}
    for name, value in given.items():
        if np.ndim(value) or np.asarray(value).dtype.kind not in "iuf":
            raise DTypeError(f"arange takes numbers, got {name}={value!r}")
        if not math.isfinite(value) or (name == "step" and value == 0):
            raise DataError(f"arange got {name}={value!r}, with which it would never arrive")
    whole = all(np.asarray(value).dtype.kind in "iu" for value in given.values())
    kind = number_dtype(dtype or ("int64" if whole else "float32"))
    if kind.kind not in "iufc":
        raise DTypeError(f"arange gives numbers, got dtype {kind}")
    # of floats in float64, and rounded once: in float32 the error of the step would be added up
    computed = kind if kind.kind in "iu" else np.dtype("int64" if whole else "float64")
    if computed.kind in "iu":
        for name, value in given.items():
            if not float(value).is_integer():
                raise DTypeError(f"arange got {name}={value!r} for {kind.name}, which holds no such number")
        numbers = range(int(first), int(last), int(step))
        for number in (numbers[0], numbers[-1]) if numbers else ():
            check_holds(computed, number, "arange got", "give another dtype")
    array = place.xp.arange(first, last, step, dtype=computed).astype(kind, copy=False)
    return Tensor._wrap(array, place, None, Version())


def _place(name: Any) -> Any:
    return default_device() if name is None else device(name)


def from_dlpack(x: Any) -> Tensor:
    """Return a tensor of the memory of another library's array, without a copy.

    Parameters
    ----------
    x : object with __dlpack__ and __dlpack_device__
        Such as an array of NumPy or CuPy, or a tensor of PyTorch, on the CPU or a CUDA device.

    Notes
    -----
    A change of a value that a graph or a compiled step has saved is noticed, and refused, only where `assign` of this
    tensor, or of a view of it, makes it. The other library's writing is not noticed. Nor is `assign` of a second tensor
    that `from_dlpack` made of the same memory, or of a part of it: import an array once, as a whole, and hand on the
    tensor or views of it. `mg.tensor(mg.from_dlpack(x))` is a copy, which nothing else changes.

    `assign` refuses memory that is read-only. A tensor of minigrad keeps its version.

    Examples
    --------
    >>> import minigrad as mg
    >>> import numpy as np
    >>> a = np.ones(2, np.float32)
    >>> t = mg.from_dlpack(a)
    >>> a[0] = 5.0
    >>> t
    tensor([5., 1.])
    """
    if not hasattr(x, "__dlpack__") or not hasattr(x, "__dlpack_device__"):
        raise DTypeError(f"from_dlpack takes an array of another library, got {type(x).__name__}; use mg.tensor")
    kind, index = x.__dlpack_device__()
    if int(kind) not in (1, 2, 3):  # CPU, CUDA, pinned host memory
        raise DeviceError(f"from_dlpack takes memory of the CPU or of a CUDA device, got DLPack device type {kind}")
    place = device(f"cuda:{index}") if int(kind) == 2 else CPU
    array = place.xp.from_dlpack(x)
    if array.dtype.kind not in "biufc":
        raise DTypeError(f"tensors hold numbers and bools, got data of dtype {array.dtype}")
    if isinstance(x, Tensor):
        return Tensor._wrap(array, place, None, x._version)
    writeable = getattr(array.flags, "writeable", True)  # CuPy's arrays always are
    return Tensor._wrap(array, place, None, Version() if writeable else None)
