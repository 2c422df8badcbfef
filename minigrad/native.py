"""Native: loops written as LLVM's assembly, which llvmlite turns into machine code, where it is installed.

Machine code is kept in a folder from process to process, because LLVM takes ten to a hundred milliseconds for a
function, and thirty megabytes for the first: `~/.cache/minigrad`, or what the environment variable MINIGRAD_CACHE names
("off": none).
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import re
import struct
import sys
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import write_atomically

PASSES = "O2, vectorized"  # what `_machine_code` asks of LLVM: another name for other passes
MOST_FILES = 2000  # that are kept: some 20 MB


class _Built:
    """A function in memory, as long as a call of it lives, or it is one of the last that were built."""

    def __init__(self, text: str) -> None:
        import llvmlite.binding as llvm

        # the engine takes the machine with it when it goes
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _new_machine())
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(_kept(text)))
        self._engine.finalize_object()
        self.address = self._engine.get_function_address("kernel")
        self.function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.address)

    def __del__(self) -> None:
        if hasattr(self, "_engine") and not sys.is_finalizing():
            with _building:
                self._engine.close()


_built: weakref.WeakValueDictionary[str, _Built] = weakref.WeakValueDictionary()
_last_built: deque[_Built] = deque(maxlen=256)


class NotKept(Exception):
    """Machine code would have to be made anew."""


class _Thread(threading.local):
    is_hasty = False


_thread = _Thread()


@contextlib.contextmanager
def only_kept() -> Iterator[None]:
    """Raise NotKept in the block where LLVM would have to make machine code that no earlier process has kept."""
    before = _thread.is_hasty
    _thread.is_hasty = True
    try:
        yield
    finally:
        _thread.is_hasty = before


def _function(text: str) -> _Built:
    found = _built.get(text)
    if found is None:
        with _building:
            found = _built[text] = _Built(text)
            _last_built.append(found)
    return found


# a child that was forked while LLVM is at work would wait for its locks, and those of llvmlite, for ever
_building = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_building.acquire, after_in_parent=_building.release, after_in_child=_building.release)


@cache
def available() -> bool:
    """Return whether llvmlite is installed, and builds functions here."""
    try:
        import llvmlite.binding
    except ImportError:
        return False
    try:
        Call("define void @kernel(ptr %words) { ret void }", (), ())()
    except Exception as error:
        warnings.warn(
            f"llvmlite {llvmlite.__version__} cannot build machine code here, so NumPy computes alone: "
            f"{type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


class Function:
    """A function called "kernel" of a source, for calls that are made at once and not again."""

    __slots__ = ("_built", "_pack")

    def __init__(self, text: str, words: int) -> None:
        self._built = _function(text)
        self._pack = struct.Struct(f"{words}q").pack

    def __call__(self, *words: int) -> None:
        """Call it with so many addresses and numbers; other Python threads run meanwhile."""
        self._built.function(self._pack(*words))


class Call:
    """A call of a function called "kernel" of a source: what is to be passed lies in memory, so that C can make it too.

    Parameters
    ----------
    text : str
        A module in LLVM's assembly, as `assembly.module` writes it; it is built when it is first asked for.
    arrays : sequence of array
        Their addresses are passed first.
    numbers : sequence of int
        What is passed then.

    Attributes
    ----------
    words : array of ctypes.c_int64
        What is passed, one after the other.
    """

    __slots__ = ("_arrays", "_at", "_function", "words")

    def __init__(self, text: str, arrays: Sequence[Any], numbers: Sequence[int]) -> None:
        self._function = _function(text)
        self._arrays = arrays  # kept alive
        self.words = words_of([*map(start_of, arrays), *numbers])
        self._at = ctypes.addressof(self.words)

    def __call__(self) -> None:
        """Make the call; other Python threads run meanwhile."""
        self._function.function(self._at)

    @property
    def pointers(self) -> range:
        """Which of the words are addresses of arrays."""
        return range(len(self._arrays))

    @property
    def pair(self) -> tuple[int, int]:
        """The address of the function, and of what is passed."""
        return self._function.address, self._at


def words_of(numbers: Sequence[int]) -> Any:
    """Return memory that holds numbers of 64 bits."""
    return (ctypes.c_int64 * len(numbers))(*numbers)


def start_of(a: Any) -> int:
    """Return the address of an array's first element."""
    if _DATA and isinstance(a, np.ndarray):
        return _word_at(id(a) + _DATA).value
    return a.__array_interface__["data"][0]


def _place_of_data() -> int:
    """Return where in the object that an array is its address stands, 0 if unknown: read there, it costs a tenth."""
    a, place = np.empty(1), object.__basicsize__
    known = sys.implementation.name == "cpython" and np.ndarray.__basicsize__ >= place + 8
    return place if known and _word_at(id(a) + place).value == a.__array_interface__["data"][0] else 0


_word_at = ctypes.c_int64.from_address
_DATA = _place_of_data()


# The processor


@cache
def _target() -> tuple[str, str, frozenset[str]]:
    """Return the name of the processor, its features as LLVM writes them, and as a set."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    return llvm.get_host_cpu_name(), features.flatten(), frozenset(name for name, has in features.items() if has)


def is_arm() -> bool:
    """Return whether the processor is a 64-bit ARM."""
    return platform.machine().lower() in ("aarch64", "arm64")


@cache
def multiplies_and_adds() -> bool:
    """Return whether the processor has an instruction for a * b + c."""
    return available() and (is_arm() or "fma" in _target()[2])


def vector_registers() -> tuple[int, int]:
    """Return how many vector registers the processor has, and how many bytes each holds.

    It holds only where `multiplies_and_adds()`.
    """
    features = _target()[2]
    if "avx512f" in features:
        return 32, 64
    return (16, 32) if "fma" in features else (32, 16)


# Building


@cache
def _machine() -> Any:
    """Return the machine that makes code."""
    return _new_machine()


def _new_machine() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features, _ = _target()
    return llvm.Target.from_default_triple().create_target_machine(cpu=name, features=features, opt=2)


def _machine_code(text: str) -> bytes:
    """Return what LLVM makes of a source: an object file."""
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(text)
    module.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_vectorization = True
    builder = llvm.create_pass_builder(_machine(), tuning)
    builder.getModulePassManager().run(module, builder)
    return _machine().emit_object(module)


def cache_folder() -> Path | None:
    """Return where machine code is kept, or None where it is not."""
    given = os.environ.get("MINIGRAD_CACHE", "").strip()
    if given:
        return None if given.lower() == "off" else Path(os.path.expanduser(given))
    home = os.environ.get("XDG_CACHE_HOME", "").strip() or os.path.expanduser("~/.cache")
    return Path(home) / "minigrad" if os.path.isabs(home) else None


def _kept(text: str) -> bytes:
    """Return the machine code of a source: what an earlier process kept, or else new, which is kept."""
    import llvmlite

    folder = cache_folder()
    if folder is None:
        if _thread.is_hasty:
            raise NotKept("machine code is not kept")
        return _machine_code(text)
    name, features, _ = _target()
    key = "\n".join((PASSES, llvmlite.__version__, platform.machine(), name, features, text))
    file = folder / f"{hashlib.sha256(key.encode()).hexdigest()}.o"
    with contextlib.suppress(OSError):
        kept = file.read_bytes() if _is_ours(folder) and file.exists() else b""
        digest, _, code = kept.partition(b"\n")  # of a torn file, perhaps not even the digest is there
        if digest == _digest(file, code):
            return code
    if _thread.is_hasty:
        raise NotKept(key)
    code = _machine_code(text)
    with contextlib.suppress(OSError):  # a folder that may not be written to
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_ours(folder):
            write_atomically(file, _digest(file, code) + b"\n" + code)
            _make_room(folder)
    return code


def _make_room(folder: Path) -> None:
    """Remove the oldest half of our files where there are too many.

    There come to be many, because each literal in a step, such as a weight decay, makes another source, and so another
    file.
    """
    ours = (file for file in folder.glob("*.o") if re.fullmatch("[0-9a-f]{64}", file.stem))
    files = sorted(ours, key=lambda file: file.stat().st_mtime)
    if len(files) > MOST_FILES:
        for file in files[: len(files) // 2]:
            file.unlink(missing_ok=True)


def _digest(file: Path, code: bytes) -> bytes:
    return hashlib.sha256(file.name.encode() + code).hexdigest().encode()


def _is_ours(folder: Path) -> bool:
    """Return whether nobody else can put code into a folder."""
    if not hasattr(os, "getuid"):
        return True
    with contextlib.suppress(OSError):
        found = folder.stat()
        return found.st_uid == os.getuid() and not found.st_mode & 0o022
    return False
