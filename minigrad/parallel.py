"""Parallel: work shared among the cores of the CPU.

Work comes as shares, lists of calls; the caller makes the calls of the first share itself, and threads that wait for
them those of the others. NumPy and compiled kernels let other threads run meanwhile. Work of native calls alone comes
as a job (`minigrad.handover`), which the same threads do without Python.

Whoever gives products of NumPy to `run` keeps OpenBLAS to one thread meanwhile (`minigrad.openblas`).
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from . import handover, native
from .errors import DataError

Calls = list[tuple[Callable, tuple]]

TRIES = 100  # to wake threads, some twenty microseconds each, before the caller works alone: mostly a few are enough
MOST_THREADS = 256
ROWS = 4  # shares begin at multiples of this, where the inner loops of matrix products do


@cache
def cores() -> int:
    """Return among how many threads work is shared: MINIGRAD_THREADS, or the number of processors, at most 8.

    Raises
    ------
    DataError
        MINIGRAD_THREADS is no integer from 1 to 256.
    """
    given = os.environ.get("MINIGRAD_THREADS", "").strip()
    if given:
        if not given.isdecimal() or not 1 <= int(given) <= MOST_THREADS:
            raise DataError(
                f"the environment variable MINIGRAD_THREADS is {given!r}; expected an integer from 1 to {MOST_THREADS}"
            )
        return int(given)
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)


def splits(rows: int, parts: int) -> list[slice]:
    """Return at most `parts` slices that make up `rows`: the same for every array with so many rows.

    Examples
    --------
    >>> splits(100, 2), splits(5, 2)
    ([slice(0, 52, None), slice(52, 100, None)], [slice(0, 4, None), slice(4, 5, None)])
    """
    step = max(ROWS, -(-rows // (parts * ROWS)) * ROWS)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


# Threads


class _Worker:
    """A thread that waits for a list of calls, makes them, and says so.

    Two locks wake it and its caller, in half of the time that the queue and the futures of an executor take. Whether
    there is work is in `busy` alone: Ctrl-C may come between any two steps, and a lock be released once too often.
    """

    def __init__(self) -> None:
        self._begin, self._end = threading.Lock(), threading.Lock()
        self._begin.acquire()
        self._end.acquire()
        self.busy = False
        self._calls: Calls = []
        self._context = contextvars.copy_context()
        self._error: BaseException | None = None
        self.avoided = -1
        self.mail = handover.mailbox()
        self._thread = threading.Thread(target=self._serve, name="minigrad", daemon=True)
        self._thread.start()

    def avoid(self, processor: int) -> None:
        """Run on any processor but one."""
        self.avoided = processor
        others = os.sched_getaffinity(0) - {processor}
        with contextlib.suppress(OSError):  # some systems do not let one choose
            if others:
                os.sched_setaffinity(self._thread.native_id or 0, others)

    def look(self) -> None:
        """Look for native work in the mailbox, if this thread sleeps."""
        if self.mail[handover.STATE] == handover.ASLEEP:
            self.mail[handover.LEAVE] = 0
            _wake(self._begin)

    def start(self, calls: Calls) -> None:
        """Begin to make the calls."""
        if self.busy:
            self.settle()
        self.mail[handover.LEAVE] = 1
        self._calls = calls
        self._context = contextvars.copy_context()  # what NumPy does about overflow is in it
        self.busy = True
        _wake(self._begin)

    def finish(self) -> BaseException | None:
        """Wait for the last call; return what a call raised, or the last interruption of the wait."""
        interruption: BaseException | None = None
        while self.busy:  # Ctrl-C too has to wait: who gave the work goes on to use its memory
            try:
                self._end.acquire()
            except BaseException as raised:
                interruption = raised
        error, self._error = self._error, None
        return interruption or error

    def settle(self) -> None:
        """Wait for calls that Ctrl-C left behind, whether or not `start` came to begin them."""
        _wake(self._begin)
        self.finish()

    def _serve(self) -> None:
        while True:
            self._begin.acquire()
            if self.busy:
                try:
                    self._context.run(make, self._calls)
                except BaseException as error:
                    self._error = error
                self.busy = False
                _wake(self._end)
            elif native.available():
                with contextlib.suppress(Exception):  # too little memory, say: then it sleeps
                    handover.serve(self.mail)


def _wake(lock: threading.Lock) -> None:
    """Release a lock, or leave it released."""
    try:  # in a third of the time of contextlib.suppress
        lock.release()
    except RuntimeError:
        pass


def _current_processor() -> Callable[[], int] | None:
    """Return the function that tells on which processor the caller runs, where threads can be kept off one."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    with contextlib.suppress(OSError, AttributeError):
        return ctypes.PyDLL(None).sched_getcpu
    return None


_processor = _current_processor()
_workers: list[_Worker] = []
_free = {"workers": True}  # empty while somebody uses them


def make(calls: Calls) -> None:
    """Make the calls, here."""
    for function, arguments in calls:
        function(*arguments)


def run(shares: list[Calls]) -> None:
    """Make the calls of all shares, and return after the last one; in this thread alone where the others are busy."""
    if len(shares) < 2 or not _with_workers(len(shares) - 1, _share_out, shares):
        make([call for calls in shares for call in calls])


def run_job(job: handover.Job) -> None:
    """Make the calls of a job, and return after the last one; in this thread alone where the others are busy."""
    if job.lanes < 2 or not share_job(job):
        job.alone()


def share_job(job: handover.Job, prepare: Callable[[], None] | None = None, patient: bool = True) -> bool:
    """Prepare a job and do it together with other threads; return False, with nothing done, where they are busy.

    Who is not patient does not wait either for threads that sleep: they wake up for the next job.
    """
    return _with_workers(job.lanes - 1, _do_together, job, prepare, patient)


def _with_workers(number: int, work: Callable[..., bool], *arguments: Any) -> bool:
    """Return what `work` returns with so many workers, or False where there are none to be had just now."""
    if sys.is_finalizing():  # threads stand still for ever then
        return False
    try:
        del _free["workers"]  # one step, after which Ctrl-C can come in the next `try` only, as it could after a call
    except KeyError:
        return False
    # loops have functions of their own: from Python 3.12 on Ctrl-C in one may come out past the `finally` around it
    try:
        if len(_workers) < number and not _start_workers(number):
            return False
        workers = _workers[:number]
        _keep_off_this_processor(workers)
        return work(workers, *arguments)
    finally:
        try:
            _settle(_workers)
        finally:
            _free["workers"] = True


def _keep_off_this_processor(workers: list[_Worker]) -> None:
    """Let Linux not wake a thread on its caller's processor, and leave it there for long with the other one idle."""
    if _processor is None:
        return
    here = _processor()
    for worker in workers:
        if worker.avoided != here:
            worker.avoid(here)


def _settle(workers: list[_Worker]) -> None:
    """Wait for calls that Ctrl-C left behind."""
    for worker in workers:
        if worker.busy:
            worker.settle()


def _share_out(workers: list[_Worker], shares: list[Calls]) -> bool:
    """Make the calls of the first share here, and those of the others in the workers."""
    errors: list[BaseException | None] = []
    busy = 0
    try:
        for worker, calls in zip(workers, shares[1:], strict=True):
            worker.start(calls)
            busy += 1
        make(shares[0])
    finally:
        errors += [worker.finish() for worker in workers[:busy]]
    for error in filter(None, errors):
        raise error
    return True


def _do_together(workers: list[_Worker], job: handover.Job, prepare: Callable[[], None] | None, patient: bool) -> bool:
    """Do a job; return whether it was done, as it is not when the workers do not come."""
    handover.build()  # here, because Python may end while another thread does it
    mailboxes = [worker.mail for worker in workers]
    asleep = handover.ASLEEP in [mail[handover.STATE] for mail in mailboxes]
    if asleep and not patient:
        for worker in workers:
            worker.look()
        return False
    if prepare is not None:
        prepare()
    for _ in range(TRIES):
        if asleep:
            for worker in workers:
                worker.look()
        if job.together(mailboxes):
            return True
        asleep = True  # perhaps meanwhile
    return False


def _start_workers(number: int) -> bool:
    """Start the threads that are missing; return whether there are enough, as there are not when none may start."""
    with contextlib.suppress(RuntimeError):  # no more threads at the exit of Python, or at all
        while len(_workers) < number:
            _workers.append(_Worker())
    return len(_workers) >= number


def _forget() -> None:
    """Let a forked child begin without the threads of its parent."""
    _workers.clear()
    _free["workers"] = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
