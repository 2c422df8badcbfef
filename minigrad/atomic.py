"""Atomic: files that are there as a whole or not at all, and that one writer at a time has for itself."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import threading
import uuid
import weakref
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl

    HAS_LOCKS = True
except ImportError:  # as on Windows: nothing is locked there, and what killed writers left stays
    HAS_LOCKS = False

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # of some network file systems


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file that takes its name only when it is complete; after an error, what was there is still there.

    A symbolic link stays, and what it points to is written. A file that is replaced hands on its permissions. What is
    not complete has a name of its own, ``.NAME.<digits>.part``; where a killed process left such a file, the next who
    writes the same file removes it.

    Raises
    ------
    OSError
        The folder does not exist, the file cannot be written, or it is no regular file: a pipe or a device would be
        replaced by one.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(f"{folder}/a", b"abc")
    ...     os.listdir(folder)
    ['a']
    """
    target, temporary, mode = _part_of(path)
    try:
        _remove_parts(target)
        with _alone(temporary, wait=True) as file:  # its lock tells the next writer that this one lives
            if mode is not None:
                os.chmod(temporary, stat.S_IMODE(mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if not HAS_LOCKS:  # Windows renames no open file
                file.close()
            os.replace(temporary, target)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error  # a write does not know its file
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise where `write_atomically` could not begin: in a folder that is not to be written to, or for too long a name.

    Raises
    ------
    OSError
        As `write_atomically`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check_writable(f"{folder}/a")
    ...     os.listdir(folder)
    []
    """
    _, temporary, _ = _part_of(path)
    try:
        with open(temporary, "xb"):
            pass
    finally:
        temporary.unlink(missing_ok=True)


def _part_of(path: str | os.PathLike[str]) -> tuple[Path, Path, int | None]:
    """Return the file that is written, its name while it is not complete, and the mode of the file that is there."""
    target = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder to write into", str(target.parent))
    mode = os.stat(target).st_mode if target.exists() else None
    if mode is not None and not stat.S_ISREG(mode):
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, "is no regular file", os.fspath(path))
    return target, target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.part"), mode


class Lock:
    """What a file is used by, one at a time: a second lock, of this process or of another, is refused.

    The system holds it on an empty file beside the other, ``.NAME.lock``, for as long as the process lives: however
    that ends, nothing is to be cleared away. A forked child does not hold it, and its `release` does nothing. Where the
    system or the file system has no locks, nobody is refused.

    Parameters
    ----------
    path : str or path-like
        The file, which need not exist. A symbolic link is what it points to.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lock = Lock(f"{folder}/a")
    ...     lock.acquire()
    ...     try:
    ...         Lock(f"{folder}/a").acquire()
    ...     except BlockingIOError:
    ...         print("taken")
    ...     lock.release()
    taken
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        target = Path(os.path.realpath(path))
        self._path = target.with_name(f".{target.name}.lock")
        self._file: BinaryIO | None = None

    def acquire(self) -> None:
        """Take it.

        Raises
        ------
        BlockingIOError
            It is taken.
        OSError
            The folder cannot be written to.
        """
        with _changing:
            self._file = _alone(self._path, wait=False)
            _held.add(self)

    def release(self) -> None:
        """Give it back, if it was taken."""
        with _changing:
            if self._file is not None:
                if not HAS_LOCKS:  # Windows removes no open file
                    self._file.close()
                with contextlib.suppress(OSError):
                    self._path.unlink()  # while it is held: the next makes a new one
                self._close()

    def _close(self) -> None:
        """Close the file: with the last of its descriptors the system's lock ends."""
        if self._file is not None:
            self._file.close()
            self._file = None
        _held.discard(self)


_changing = threading.RLock()  # held while a lock is taken or given back; a signal's handler may do so too
_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _after_fork() -> None:
    """Leave the locks to the parent: a descriptor of the child's would hold them after the parent has ended."""
    for lock in list(_held):
        lock._close()  # not unlinked or unlocked, either of which would take it from the parent
    _changing.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_changing.acquire, after_in_parent=_changing.release, after_in_child=_after_fork)


def _alone(path: Path, wait: bool) -> BinaryIO:
    """Open a file, made if it is not there, and lock it; raise BlockingIOError if it is taken and not to wait for."""
    while True:
        file = open(path, "ab")  # noqa: SIM115, it stays open
        try:
            _lock(file, wait)
            if os.fstat(file.fileno()).st_nlink:
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # somebody removed it before it was locked


def _lock(file: BinaryIO, wait: bool) -> bool:
    """Lock an open file, and return whether that is possible here."""
    if not HAS_LOCKS:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise
    return True


def _remove_parts(target: Path) -> None:
    """Remove what writers of a file left who were killed: those that live have a lock on it."""
    part = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{12}}\.part")
    with contextlib.suppress(OSError):  # a folder that may not be read
        for name in filter(part.fullmatch, os.listdir(target.parent)):
            with contextlib.suppress(OSError), open(target.with_name(name), "r+b") as file:
                if _lock(file, wait=False):
                    os.unlink(file.name)
