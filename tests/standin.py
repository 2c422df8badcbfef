"""A stand-in for CuPy on machines without a GPU: arrays over NumPy's that refuse what CuPy refuses.

It knows nothing of speed, of streams, or of the last bits that a GPU computes. What it checks is discipline: no array
of NumPy, list or array of another device gets into an operation, nothing is looked up that CuPy lacks, and the host
reads values only where it is meant to. `counts` counts the reads, and `transfer_guard` refuses them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from minigrad import devices

TABLE = json.loads(Path(__file__).with_name("cupy_names.json").read_text())
ATOMIC = ("float16", "float32", "float64", "int32", "uint32", "uint64")
counts = SimpleNamespace(reads=0, bytes_read=0, uploads=0)
copies_made: list[Copies] = []
owners: weakref.WeakValueDictionary[int, Array] = weakref.WeakValueDictionary()  # by the identity of NumPy's arrays
memory = SimpleNamespace(limit=None, freed=0)  # bytes that one array may have


class Refused(AssertionError):
    """Something that CuPy would refuse, or do by a hidden copy. No test expects this error."""


@contextlib.contextmanager
def machine(gpus: int = 2) -> Iterator[tuple[devices.Device, ...]]:
    """Let there be devices cuda:0, cuda:1, ... in the `with` block; counts begin anew."""
    places = tuple(Gpu("cuda", i, Module(np, i), Array) for i in range(gpus))
    for place in places:
        place.set_products(devices.matmul_settings.precision)
    counts.reads = counts.bytes_read = counts.uploads = 0
    with devices.substituted(*places):
        yield places


@contextlib.contextmanager
def little_memory(limit: int) -> Iterator[None]:
    """Let no array have more bytes than that."""
    memory.limit, memory.freed = limit, 0
    try:
        yield
    finally:
        memory.limit = None


class Gpu(devices.Device):
    """A device that is not there."""

    __slots__ = ("precision",)

    def set_products(self, precision: str) -> None:
        self.precision = precision

    def free_memory(self) -> int:
        return 2**40

    def copies(self) -> Copies:
        return Copies()


class Copies:
    """Copies that are done as late as they may be, into arrays that are spoilt as early as they may be."""

    def __init__(self) -> None:
        copies_made.append(self)
        self._waiting: dict[int, tuple[np.ndarray, Array]] = {}  # by the mark of their end
        self._reading: dict[int, np.ndarray] = {}
        self._marks = itertools.count()

    def host_array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.full(shape, 77, dtype)

    def mark(self) -> int:
        return next(self._marks)

    def start(self, source: np.ndarray, target: Array, after: int) -> int:
        if any(np.may_share_memory(source, other) for other in self._reading.values()):
            raise Refused("an array of the host was filled anew while it was copied")
        if source.dtype != target.dtype or source.shape != target.shape or not source.flags.c_contiguous:
            raise Refused(f"a copy of {source.dtype}{source.shape} to {target.dtype}{target.shape}")
        target._a[...] = 88
        end = next(self._marks)
        self._waiting[end] = source, target
        self._reading[end] = source
        return end

    def await_on_device(self, copied: int) -> None:
        source, target = self._waiting.pop(copied)
        target._a[...] = source
        self._reading[copied] = source

    @property
    def running(self) -> int:
        """How many copies the host has not awaited."""
        return len(self._reading)

    def finish(self, copied: int) -> None:
        if copied in self._waiting:
            self.await_on_device(copied)
        del self._reading[copied]


def _read(what: str) -> None:
    devices.refuse_guarded(what)
    counts.reads += 1


class Array:
    """An array of a device that is not there. `_a` holds the values, in the memory of the host."""

    __slots__ = ("__weakref__", "_a", "_base", "_index")
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, a: np.ndarray, index: int) -> None:
        if memory.limit is not None and a.nbytes > memory.limit:
            raise MemoryError(f"Out of memory allocating {a.nbytes:,} bytes")
        self._a = a
        self._base: Array | None = None
        self._index = index
        if a.base is None:
            owners[id(a)] = self

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise Refused("an array of a GPU was implicitly converted to NumPy")

    @property
    def device(self) -> int:
        return self._index

    @property
    def base(self) -> Any:
        """The array whose memory this is: one object for all views, as long as one of them knows it."""
        if self._base is None and isinstance(self._a.base, np.ndarray):
            known = owners.get(id(self._a.base))
            self._base = known if known is not None and known._a is self._a.base else Array(self._a.base, self._index)
        return self._base

    def set(self, values: np.ndarray) -> None:
        if values.dtype != self._a.dtype or not values.dtype.isnative:
            raise TypeError(f"{values.dtype} array cannot be set to {self._a.dtype} array")
        if values.shape != self._a.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self._a.shape}, new shape: {values.shape}")
        if not (self._a.flags.c_contiguous or self._a.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        counts.uploads += 1
        self._a[...] = values

    # Reads: the host waits

    def get(self) -> np.ndarray:
        _read("get()")
        counts.bytes_read += self._a.nbytes
        return self._a.copy()

    def item(self, *args: Any) -> Any:
        _read("item()")
        return self._a.item(*args)

    def tolist(self) -> Any:
        _read("tolist()")
        return self._a.tolist()

    def nonzero(self) -> tuple[Array, ...]:
        _read("nonzero()")
        return _wrap(self._a.nonzero(), self._index)

    def __bool__(self) -> bool:
        _read("a condition")
        return bool(self._a)

    def __float__(self) -> float:
        _read("float()")
        return float(self._a)

    def __int__(self) -> int:
        _read("int()")
        return int(self._a)

    __index__ = __int__

    # Indexing

    def __len__(self) -> int:
        return len(self._a)

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self._a)))

    def _position(self, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        for part in parts:
            if isinstance(part, np.ndarray | list):
                raise Refused(f"an index {type(part).__name__} would be copied to the GPU")
            if isinstance(part, Array) and part._a.dtype == bool:
                _read("indexing by a mask")
        parts = tuple(_host(part, self._index) for part in parts)
        return parts if isinstance(index, tuple) else parts[0]

    def __getitem__(self, index: Any) -> Array:
        return _wrap(self._a[self._wrapped(self._position(index))], self._index)

    def _wrapped(self, position: Any) -> Any:
        """Return an index whose arrays are wrapped around, where each stands for an axis: CuPy does so, silently."""
        parts = position if isinstance(position, tuple) else (position,)
        if any(part is None or part is Ellipsis or np.asarray(part).dtype.kind == "b" for part in parts):
            return position
        parts = tuple(
            part % self._a.shape[axis] if isinstance(part, np.ndarray) and self._a.shape[axis] else part
            for axis, part in enumerate(parts)
        )
        return parts if isinstance(position, tuple) else parts[0]

    def __setitem__(self, index: Any, value: Any) -> None:
        position = self._position(index)
        host = _host(value, self._index)
        if np.ndim(host) > self._a[position].ndim:
            raise Refused(f"CuPy does not drop the leading axes of {host.shape} on assignment")
        target = self._a[position]
        if isinstance(host, np.ndarray) and host.dtype != target.dtype and _same_place(host, target):
            raise Refused("CuPy takes an assignment to the same address for one of an array to itself, and skips it")
        if np.may_share_memory(host, target) and not _same_place(host, target):
            raise Refused("CuPy copies between arrays that overlap in any order")
        self._a[position] = host

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in TABLE["ndarray"]:
            raise AttributeError(f"CuPy's arrays have no attribute {name!r}")
        value = getattr(self._a, name)
        if not callable(value):
            return _wrap(value, self._index) if isinstance(value, np.ndarray) else value

        def method(*args: Any, **kwargs: Any) -> Any:
            return _wrap(value(*(_host(x, self._index) for x in args), **_host(kwargs, self._index)), self._index)

        return method

    def __reduce__(self) -> Any:
        raise Refused("an array of a GPU was pickled")


def _same_place(a: np.ndarray, b: np.ndarray) -> bool:
    return (a.shape, a.strides, a.ctypes.data) == (b.shape, b.strides, b.ctypes.data)


def _operators() -> None:
    """Give the arrays their operators, of which Python looks only in the class."""
    names = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift".split()
    binary = [f"__{prefix}{name}__" for name in names for prefix in ("", "r", "i")]
    binary += [f"__{name}__" for name in "lt le eq ne gt ge".split()]
    for name in [*binary, "__neg__", "__abs__", "__invert__", "__pos__"]:

        def operate(self: Array, *others: Any, _name: str = name) -> Any:
            result = getattr(self._a, _name)(*(_host(x, self._index) for x in others))
            in_place = _name.startswith("__i") and _name != "__invert__"
            return self if in_place else result if result is NotImplemented else _wrap(result, self._index)

        setattr(Array, name, operate)


_operators()


def _host(value: Any, index: int) -> Any:
    """Return an argument as NumPy takes it, or refuse it as CuPy would."""
    if isinstance(value, Array):
        if value._index != index:
            raise Refused(f"an array of cuda:{value._index} in an operation on cuda:{index}")
        return value._a
    if isinstance(value, np.ndarray):
        raise Refused(f"an array of NumPy, of shape {value.shape}, in an operation on cuda:{index}")
    if isinstance(value, tuple | list):
        if any(isinstance(x, float) for x in value):
            raise Refused("a list of numbers would be copied to the GPU")
        return type(value)(_host(x, index) for x in value)
    if isinstance(value, dict):
        return {key: _host(x, index) for key, x in value.items()}
    return value


def _wrap(value: Any, index: int) -> Any:
    """Return a result as CuPy gives it: there are no scalars, only arrays without axes."""
    if isinstance(value, np.ndarray | np.generic):
        return Array(np.asarray(value), index)
    return tuple(_wrap(x, index) for x in value) if isinstance(value, tuple) else value


class Module:
    """What `xp` is: the part of NumPy that the table says CuPy has, on one device."""

    def __init__(self, module: Any, index: int, path: str = "") -> None:
        self._module = module
        self._index = index
        self._path = path
        self.__name__ = f"standin{path}"

    def __getattr__(self, name: str) -> Any:
        path = f"{self._path}.{name}".removeprefix(".")
        own = _OWN.get(path)
        if own is not None:
            return lambda *args, **kwargs: own(self._index, *args, **kwargs)
        if path not in TABLE["names"]:
            if any(known.startswith(path + ".") for known in TABLE["names"]):
                return Module(getattr(self._module, name), self._index, path)
            raise AttributeError(f"{path!r} is not in the table of what CuPy has; see tests/cupy_names.py")
        value = getattr(self._module, name)
        if isinstance(value, type) or not callable(value):
            return value
        return Function(value, path, self._index)


class Function:
    """A function of `xp`: arrays of its device go in, and come out."""

    def __init__(self, function: Any, path: str, index: int) -> None:
        self._function = function
        self._path = path
        self._index = index

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        known = TABLE["names"][self._path]
        for key in kwargs:
            if known is not None and key not in known:
                raise Refused(f"CuPy's {self._path} takes no keyword {key!r}")
        if args and isinstance(args[0], Array) and not args[0].ndim and isinstance(kwargs.get("axis"), int):
            raise np.exceptions.AxisError(kwargs["axis"], 0)  # NumPy takes 0 and -1
        out = kwargs.get("out")
        result = self._function(*(_host(x, self._index) for x in args), **_host(kwargs, self._index))
        return out if out is not None else _wrap(result, self._index)

    def at(self, a: Array, index: Any, values: Any) -> None:
        """Add in place, for the dtypes for which CuPy has it."""
        if a._a.dtype.name not in ATOMIC:
            raise Refused(f"CuPy's {self._path}.at does not support {a._a.dtype}")
        self._function.at(a._a, a._position(index), _host(values, self._index))


# What differs from NumPy's function of the same name


def _array(index: int, data: Any, dtype: Any = None, copy: bool | None = True, order: str = "K") -> Array:
    if isinstance(data, Array):  # of any device
        return Array(np.array(data._a, dtype=dtype, copy=copy or data._index != index or None, order=order), index)
    counts.uploads += 1
    return Array(np.array(data, dtype=dtype), index)


def _asarray(index: int, data: Any, dtype: Any = None) -> Array:
    return _array(index, data, dtype, copy=None) if not isinstance(data, Array) or dtype else _host_same(index, data)


def _host_same(index: int, data: Array) -> Array:
    _host(data, index)
    return data


def _argsort(index: int, a: Array, axis: int = -1, kind: str | None = None) -> Array:
    if kind not in (None, "stable"):
        raise Refused(f"CuPy sorts stably, and takes no kind {kind!r}")
    return _wrap(np.argsort(_host(a, index), axis=axis, kind="stable"), index)


def _solve(index: int, a: Array, b: Array) -> Array:
    if b.ndim > 1 and a.shape[:-1] != b.shape[:-1]:
        raise Refused(f"CuPy's solve does not broadcast {a.shape} and {b.shape}")
    if 0 in b.shape:
        raise Refused("CuPy's solve divides by 0 where there is nothing to solve")
    return _wrap(np.linalg.solve(_host(a, index), _host(b, index)), index)


def _where(index: int, condition: Array, x: Any, y: Any) -> Array:
    return _wrap(np.where(_host(condition, index), _host(x, index), _host(y, index)), index)


def _pool(index: int) -> Any:
    def free_all_blocks() -> None:
        memory.freed += 1

    return SimpleNamespace(used_bytes=lambda: 1234, free_all_blocks=free_all_blocks)


_OWN = {
    "array": _array,
    "asarray": _asarray,
    "argsort": _argsort,
    "linalg.solve": _solve,
    "where": _where,
    "get_default_memory_pool": _pool,
}
