"""OpenBLAS, which multiplies matrices for NumPy: how many threads of its own it uses.

They go on asking for the next product for a while after one, and so take a core from whoever else could use it. Who
shares products among threads (`minigrad.parallel`) therefore keeps OpenBLAS to one thread meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

from .parallel import Calls, cores, make, run

_lock = threading.RLock()  # a signal's handler may multiply too
_users: set[object] = set()
_before = 1
_limited = False


@cache
def _functions() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Return the functions that get and set the number of OpenBLAS's threads, or None where NumPy has another BLAS."""
    with contextlib.suppress(OSError, AttributeError):
        library: Any = ctypes.CDLL(np.linalg._umath_linalg.__file__)  # looks through what that links to
        for name in ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}"):
            with contextlib.suppress(AttributeError):
                return library[name.format("get_num_threads")], library[name.format("set_num_threads")]
    return None


@cache
def product_parts() -> int:
    """Return into how many parts a large matrix product is cut: 1 where OpenBLAS cannot be kept to one thread."""
    functions = _functions()
    if not functions:
        return 1
    with _lock:  # another thread may keep OpenBLAS to one thread just now
        return min(cores(), _before if _limited else functions[0]())


def use_one_thread(user: object) -> None:
    """Keep OpenBLAS to one thread, until each user has called `threads_again`; for the whole process."""
    global _before, _limited
    get, put = _functions()  # type: ignore[misc]
    with _lock:
        _users.add(user)
        if len(_users) == 1:
            if not _limited:  # as it is when Ctrl-C ended the last restoring
                _before = get()
            _limited = True
            put(1)


def threads_again(user: object) -> None:
    """End what `use_one_thread` began, if it did: Ctrl-C may have come before."""
    with _lock:
        _users.discard(user)
        if _limited and not _users:
            _restore()


def _restore() -> None:
    """Give OpenBLAS the threads that it had, unless somebody else has set their number meanwhile."""
    global _limited
    get, put = _functions()  # type: ignore[misc]
    if get() == 1:
        put(_before)
    _limited = False


@contextlib.contextmanager
def in_one_thread() -> Iterator[None]:
    """Keep OpenBLAS to one thread in the block."""
    user = object()
    try:
        use_one_thread(user)
        yield
    finally:
        threads_again(user)


def each(function: Callable[[slice], None], blocks: list[slice]) -> None:
    """Call a function, which multiplies or decomposes matrices, for each block; the cores share the blocks."""
    calls: Calls = [(function, (block,)) for block in blocks]
    parts = min(product_parts(), max(1, len(blocks)))
    if product_parts() < 2:
        make(calls)
        return
    with in_one_thread():
        run([calls[len(calls) * i // parts : len(calls) * (i + 1) // parts] for i in range(parts)])


def _forget() -> None:
    """Let a forked child begin without the users, and the lock, of its parent."""
    global _lock
    if _limited:  # by threads that the child does not have
        _restore()
    _lock = threading.RLock()
    _users.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
