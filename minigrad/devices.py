"""The NumPy/CuPy switch: which array module an operation runs on. The only file that knows CuPy."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from .errors import DeviceError


class Device:
    """Where arrays live: its array module `xp`, and the class of its arrays. There is one object per device."""

    __slots__ = ("array_type", "index", "name", "type", "xp")

    def __init__(self, kind: str, index: int, xp: Any, array_type: type) -> None:
        self.type = kind
        self.index = index
        self.name = kind if kind == "cpu" else f"{kind}:{index}"
        self.xp = xp
        self.array_type = array_type

    def __repr__(self) -> str:
        return f"device({self.name!r})"

    def __deepcopy__(self, memo: dict) -> Device:
        return self

    def __reduce__(self) -> tuple:
        return device, (self.name,)

    def put(self, data: Any, dtype: Any = None) -> Any:
        """Return a new array of this device with the values of `data` (an array of any device, or nested lists)."""
        if self.type == "cpu":
            return np.array(to_numpy(data), dtype=dtype)
        with self.xp.cuda.Device(self.index):
            return self.xp.array(data, dtype=dtype)


CPU = Device("cpu", 0, np, np.ndarray)
_devices: dict[str, Device] = {"cpu": CPU}


class _Default(threading.local):
    device = CPU


_default = _Default()


def device(name: str | Device) -> Device:
    """Return the device of that name: "cpu", "cuda" (the same as "cuda:0"), "cuda:1", ...

    Raises
    ------
    DeviceError
        When there is no such device, or CuPy is not installed.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.device("cpu")
    device('cpu')
    """
    if isinstance(name, Device):
        return name
    if not isinstance(name, str):
        raise DeviceError(f"a device is named by a string such as 'cpu' or 'cuda:0', got {name!r}")
    kind, _, index = name.partition(":")
    if name == "cpu":
        return CPU
    if kind != "cuda" or (index and not index.isdigit()):
        raise DeviceError(f"no device is called {name!r}; there are 'cpu', 'cuda' and 'cuda:<number>'")
    key = f"cuda:{int(index or 0)}"
    if key not in _devices:
        _devices[key] = _open_cuda(int(index or 0))
    return _devices[key]


def _open_cuda(index: int) -> Device:
    try:
        import cupy
    except ImportError as error:
        raise DeviceError(
            "device 'cuda' needs CuPy, which is not installed: pip install 'minigrad[cuda12]' or 'minigrad[cuda13]', "
            "after the version of your driver (nvidia-smi shows it)"
        ) from error
    count = cupy.cuda.runtime.getDeviceCount() if cupy.cuda.is_available() else 0
    if index >= count:
        raise DeviceError(f"device 'cuda:{index}' was asked for, but this machine has {count} CUDA devices; use 'cpu'")
    return Device("cuda", index, cupy, cupy.ndarray)


def cuda_is_available() -> bool:
    """Return whether a CUDA device can be used here.

    Examples
    --------
    >>> import minigrad as mg
    >>> isinstance(mg.cuda_is_available(), bool)
    True
    """
    try:
        device("cuda")
    except DeviceError:
        return False
    return True


def default_device() -> Device:
    """Return the device on which this thread makes new tensors."""
    return _default.device


@contextlib.contextmanager
def use_device(name: str | Device) -> Iterator[Device]:
    """Make new tensors of this thread on device `name` inside the `with` block.

    Examples
    --------
    >>> import minigrad as mg
    >>> with mg.use_device("cpu"):
    ...     mg.zeros((2,)).device
    device('cpu')
    """
    before = _default.device
    _default.device = device(name)
    try:
        yield _default.device
    finally:
        _default.device = before


def to_numpy(array: Any) -> Any:
    """Return `array` in host memory. The one place where the host waits for a device."""
    return array.get() if hasattr(array, "get") and hasattr(array, "device") else array
