"""The NumPy/CuPy switch: which array module an operation runs on. The only file that knows CuPy."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from .errors import DeviceError, OutOfMemoryError
from .source import user_line


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

    def make_current(self) -> None:
        """Let what this thread does without naming a device be done here: nothing to set on the CPU."""

    def put(self, data: Any, dtype: Any = None) -> Any:
        """Return a new array of this device with the values of `data`, an array of any device."""
        try:
            if self.type == "cpu":
                return np.array(to_numpy(data), dtype=dtype)
            return self.xp.array(data, dtype=dtype)
        except MemoryError as error:
            raise out_of_memory(self, f"a copy of an array of shape {data.shape}", error) from None

    def set_products(self, precision: str) -> None:
        """Compute matrix products of float32 in "float32" or "tf32": nothing to set on the CPU."""

    def free_memory(self) -> int | None:
        """Return how many bytes new arrays may have; None for the CPU, where nobody knows."""
        return None

    def copies(self) -> Copies:
        """Return a way to copy arrays of the host here while this device computes."""
        raise DeviceError(f"arrays for {self.name} need no copies that run beside the computation")


class _CudaDevice(Device):
    """A CUDA device: CuPy computes on the current device of the thread, so whoever asks for `xp` makes it that."""

    __slots__ = ("_cupy",)

    def __init__(self, index: int, cupy: Any) -> None:
        self.type = "cuda"
        self.index = index
        self.name = f"cuda:{index}"
        self.array_type = cupy.ndarray
        self._cupy = cupy

    @property
    def xp(self) -> Any:
        """CuPy, once this is the current device."""
        self.make_current()
        return self._cupy

    def make_current(self) -> None:
        """Let what this thread does without naming a device be done here."""
        cupy = self._cupy
        if cupy.cuda.runtime.getDevice() != self.index:
            cupy.cuda.runtime.setDevice(self.index)

    def set_products(self, precision: str) -> None:
        """Let cuBLAS, which CuPy calls, multiply float32 in full or as TF32. CuPy has one setting for all devices."""
        from cupy import _core  # where CuPy keeps it; there is no public name for it
        from cupy._core import _routines_linalg as types

        tf32 = precision == "tf32" and int(self.xp.cuda.Device(self.index).compute_capability) >= 80
        _core.set_compute_type("float32", types.COMPUTE_TYPE_TF32 if tf32 else types.COMPUTE_TYPE_DEFAULT)

    def free_memory(self) -> int | None:
        """Return the bytes that the driver has, and those that CuPy keeps for new arrays."""
        cupy = self.xp
        return int(cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes())

    def copies(self) -> Copies:
        """Return copies on a stream of their own."""
        return Copies(self)


class Copies:
    """Copies from the host to a GPU, on a stream of their own: they run while the GPU computes.

    `Mark`s are places in the order of the GPU's work. What is given to `start` must stay as it is until `finish`.
    """

    def __init__(self, place: Device) -> None:
        self._place = place  # whose `xp` makes it the current device
        self._stream = place.xp.cuda.Stream(non_blocking=True)

    def host_array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return an array of the host that a GPU can copy from without the processor: in pinned memory."""
        import cupyx

        return cupyx.empty_pinned(shape, dtype)

    def mark(self) -> Any:
        """Return the mark of all that was given to the GPU to compute so far."""
        cuda = self._place.xp.cuda
        return cuda.get_current_stream().record(cuda.Event(disable_timing=True))

    def start(self, source: np.ndarray, target: Any, after: Any) -> Any:
        """Begin to copy when the mark `after` is passed; return the mark of the end of it."""
        cuda = self._place.xp.cuda
        self._stream.wait_event(after)
        target.set(source, stream=self._stream)
        return self._stream.record(cuda.Event(disable_timing=True))

    def await_on_device(self, copied: Any) -> None:
        """Let what is computed from now on begin after this mark; the host does not wait."""
        self._place.xp.cuda.get_current_stream().wait_event(copied)

    def finish(self, copied: Any) -> None:
        """Let the host wait for this mark."""
        copied.synchronize()


class _MatmulSettings:
    precision = "float32"  # of matrix products of float32 on GPUs


matmul_settings = _MatmulSettings()
CPU = Device("cpu", 0, np, np.ndarray)
_devices: dict[str, Device] = {"cpu": CPU}


class _State(threading.local):
    device = CPU  # of new tensors
    guarded = False  # whether values may not be read from a GPU


_state = _State()


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
            "device 'cuda' needs CuPy, which is not installed: pip install 'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]', "
            "after the version of your driver (nvidia-smi shows it)"
        ) from error
    count = cupy.cuda.runtime.getDeviceCount() if cupy.cuda.is_available() else 0
    if index >= count:
        raise DeviceError(f"device 'cuda:{index}' was asked for, but this machine has {count} CUDA devices; use 'cpu'")
    place = _CudaDevice(index, cupy)
    place.set_products(matmul_settings.precision)
    return place


def opened() -> list[Device]:
    """Return the devices that were asked for so far."""
    return list(_devices.values())


@contextlib.contextmanager
def substituted(*devices: Device) -> Iterator[None]:
    """Let these devices be found by their names in the `with` block: for tests of the GPU path without a GPU."""
    before = dict(_devices)
    _devices.update({place.name: place for place in devices})
    try:
        yield
    finally:
        _devices.clear()
        _devices.update(before)


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
    return _state.device


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
    before = _state.device
    _state.device = device(name)
    try:
        yield _state.device
    finally:
        _state.device = before


def memory(array: Any) -> Any:
    """Return the array in whose memory this one lives: itself, unless it is a view."""
    base = getattr(array, "base", None)
    return array if base is None else memory(base)


def to_numpy(array: Any) -> Any:
    """Return `array` in host memory. The one place where the host waits for a device."""
    if isinstance(array, np.ndarray) or not (hasattr(array, "get") and hasattr(array, "device")):
        return array
    refuse_guarded("a value is read from a GPU")
    return array.get()


@contextlib.contextmanager
def transfer_guard() -> Iterator[None]:
    """Refuse, in the `with` block, to read values from a GPU: what runs in it never makes the host wait for one.

    It holds for this thread, and for `item()`, `numpy()`, conditions and prints of tensors on a GPU. On the CPU, where
    nothing has to be waited for, it changes nothing.

    Raises
    ------
    DeviceError
        In the block, from the line that reads a value.

    Examples
    --------
    >>> import minigrad as mg
    >>> with mg.devices.transfer_guard():
    ...     loss = mg.sum(mg.square(mg.tensor([1.0, 2.0])))
    >>> loss.item()
    5.0
    """
    before = _state.guarded
    _state.guarded = True
    try:
        yield
    finally:
        _state.guarded = before


def guarded() -> bool:
    """Return whether this thread is inside of `transfer_guard`."""
    return _state.guarded


def refuse_guarded(what: str) -> None:
    """Raise inside of `transfer_guard`."""
    if _state.guarded:
        raise DeviceError(
            f"{what} at {user_line()}, inside of transfer_guard(): the host would wait for the device; keep the "
            "tensor, and read it after the block"
        )


def out_of_memory(place: Device, what: str, error: MemoryError) -> OutOfMemoryError:
    """Return the error that says what did not fit where, after giving back what can be given back."""
    error.__traceback__ = None  # it would keep the arrays of the failed call alive
    held = ""
    if place.type != "cpu":
        pool = place.xp.get_default_memory_pool()
        pool.free_all_blocks()
        held = f", where arrays hold {pool.used_bytes():,} bytes"
    return OutOfMemoryError(
        f"{what} does not fit into the memory of {place.name}{held}: {error}. Use smaller batches or a smaller model, "
        "mg.checkpoint, or free what is no longer needed"
    )


def checked_linalg(xp: Any) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which linear algebra of `xp` raises for a singular matrix, as NumPy does by itself."""
    if xp.__name__ != "cupy":
        return _nothing
    refuse_guarded("whether a matrix is singular is asked for")
    return _checked_by_cupy()


@contextlib.contextmanager
def _checked_by_cupy() -> Iterator[None]:
    import cupyx  # here, because CuPy by itself returns NaN and does not wait for the verdict

    try:
        with cupyx.errstate(linalg="raise"):
            yield
    except np.linalg.LinAlgError as error:
        if "getrf" in str(error):  # the routine of cuSOLVER that found a pivot of 0
            raise np.linalg.LinAlgError("Singular matrix") from error
        raise


_nothing = contextlib.nullcontext()
