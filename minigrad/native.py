"""Native: loops written as LLVM's assembly, which llvmlite turns into machine code, where it is installed.

Machine code is kept in a folder from process to process, because LLVM takes a tenth of a second and thirty megabytes
for a function: `~/.cache/minigrad`, or what the environment variable MINIGRAD_CACHE names ("off": none).
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from .files import write_atomically

_engines: list[Any] = []  # code lives as long as the engine that made it
_functions: dict[str, Callable] = {}


def available() -> bool:
    """Return whether llvmlite is installed."""
    try:
        import llvmlite.binding  # noqa: F401
    except ImportError:
        return False
    return True


def function(text: str, result: Any, *arguments: Any) -> Callable:
    """Return the function called "kernel" of a source, which was built when it was first asked for.

    Parameters
    ----------
    text : str
        A module in LLVM's assembly.
    result, *arguments : types of ctypes
        The result (None: nothing) and the arguments. While it runs, other Python threads do too.
    """
    if text not in _functions:
        _functions[text] = ctypes.CFUNCTYPE(result, *arguments)(_address(text))
    return _functions[text]


# The processor


@cache
def _target() -> tuple[str, str, frozenset[str]]:
    """Return the name of the processor, its features as LLVM writes them, and as a set."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    return llvm.get_host_cpu_name(), features.flatten(), frozenset(name for name, has in features.items() if has)


def multiplies_and_adds() -> bool:
    """Return whether the processor has an instruction for a * b + c."""
    arm = platform.machine().lower() in ("aarch64", "arm64")
    return available() and (arm or "fma" in _target()[2])


def vector_registers() -> tuple[int, int]:
    """Return how many vector registers the processor has, and how many bytes each holds."""
    features = _target()[2]
    if "avx512f" in features:
        return 32, 64
    return (16, 32) if "fma" in features else (32, 16)


# Building


@cache
def _machine() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features, _ = _target()
    return llvm.Target.from_default_triple().create_target_machine(cpu=name, features=features, opt=2)


def _address(text: str) -> int:
    import llvmlite.binding as llvm

    code = _kept(text)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address("kernel")


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
        return None if given.lower() == "off" else Path(given)
    home = os.environ.get("XDG_CACHE_HOME", "").strip() or os.path.expanduser("~/.cache")
    return Path(home) / "minigrad" if os.path.isabs(home) else None


def _kept(text: str) -> bytes:
    """Return the machine code of a source: what an earlier process kept, or else new, which is kept."""
    import llvmlite

    folder = cache_folder()
    if folder is None:
        return _machine_code(text)
    name, features, _ = _target()
    key = "\n".join((llvmlite.__version__, platform.machine(), name, features, text))
    file = folder / f"{hashlib.sha256(key.encode()).hexdigest()}.o"
    with contextlib.suppress(OSError):
        kept = file.read_bytes() if _is_ours(folder) and file.exists() else b""
        digest, _, code = kept.partition(b"\n")  # of a torn file, perhaps not even the digest is there
        if digest == _digest(file, code):
            return code
    code = _machine_code(text)
    with contextlib.suppress(OSError):  # a folder that may not be written to
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_ours(folder):
            write_atomically(file, _digest(file, code) + b"\n" + code)
    return code


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
