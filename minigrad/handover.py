"""Handover: native calls that threads make together, without Python in between.

Waking a thread that sleeps, and getting Python's lock, take as long as the work of a small layer. Here a thread that
has done its part looks for more for a while before it sleeps, and the threads wait for each other by looking at numbers
in memory: a tenth of a microsecond.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import addressof
from functools import cache
from typing import Any

from . import native
from .handover_assembly import SOURCE
from .native import words_of

# words of a mailbox: the second and third are the job that is to be done, and the lane in it
STATE, LEAVE = 0, 3
# states: a thread that is kept is about to get work, and work that is posted can be taken back until it is begun
ASLEEP, LOOKING, KEPT, POSTED, WORKING = range(5)

ALONE, TOGETHER, SERVE = range(3)  # what the function of `build` is asked to do

# a look takes ten to thirty nanoseconds, or, with a chance for other threads to run, several hundred
LOOKS_BEFORE_YIELDING = 300  # after so many, other threads that want to run may do so between looks
LOOKS_BEFORE_TAKING_BACK = 100  # a microsecond or two, and then work that another thread has not begun is taken back
LOOKS_FOR_WORKERS = 1_000  # some twenty microseconds, for threads that are on their way
LOOKS_BEFORE_SLEEP = 4_000  # more than a millisecond, for an eager step to come to its next product
LINE = 8  # words of a cache line


def mailbox() -> Any:
    """Return the memory in which a thread finds its work."""
    return words_of([0] * LINE)


class Job:
    """Lists of native calls: of each phase one for each thread, which go to the next phase together.

    Parameters
    ----------
    phases : list of lists of lists of (Call, ())
        For each phase and each thread the calls, in order. Threads that have none only wait.

    Examples
    --------
    >>> Job([[[], []]]).lanes
    2
    """

    def __init__(self, phases: list[list[list[tuple[Any, tuple]]]]) -> None:
        self.lanes = max(len(lanes) for lanes in phases)
        self._calls = [call for lanes in phases for calls in lanes for call, _ in calls]  # kept alive
        self._progress = words_of([0] * (self.lanes * LINE))
        self._lists = []
        self._taken_back = words_of([0] * self.lanes)
        words = [len(phases), self.lanes, addressof(self._progress), 0, _yield(), addressof(self._taken_back), 0, 0]
        for lanes in phases:
            for calls in lanes:
                pairs = words_of([word for call, _ in calls for word in call.pair])
                self._lists.append(pairs)
                words += addressof(pairs), len(calls)
            words += [0, 0] * (self.lanes - len(lanes))
        self._words = words_of(words)
        self._mails = words_of([0] * self.lanes)
        self._result = words_of([0])
        self._at = addressof(self._words), addressof(self._mails), addressof(self._result)

    def alone(self) -> None:
        """Make all calls in this thread."""
        if sys.is_finalizing():  # too late to build what follows, if nobody needed it before
            for call in self._calls:
                call()
            return
        build()(ALONE, self._at[0], 0, 0, 0)

    def together(self, mailboxes: list[Any]) -> bool:
        """Make the calls with the threads of the mailboxes, one fewer than there are lanes, if all look for work.

        A thread that looks for work may not be running, because another process has its processor: what it has not
        begun when the caller has done its own part of the first phase, the caller does.

        Returns
        -------
        bool
            Whether the calls were made: all of them, or none.
        """
        for i, mail in enumerate(mailboxes):
            self._mails[i] = addressof(mail)
        words, mails, result = self._at
        build()(TOGETHER, words, mails, LOOKS_FOR_WORKERS, result)
        return bool(self._result[0])


@cache
def build() -> native.Function:
    """Return the functions of this file, as one; they are built once for all."""
    return native.Function(_text(), 5)


def serve(mail: Any) -> None:
    """Do the work that comes to a mailbox, until none has come for a while, or somebody asks to leave."""
    build()(SERVE, addressof(mail), _yield(), LOOKS_BEFORE_SLEEP, 0)


@cache
def _yield() -> int:
    """Return the address of the function that lets other threads run, or 0."""
    try:
        return ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0
    except (OSError, TypeError, AttributeError):
        return 0


@cache
def _text() -> str:
    name, declared, given = ("aarch64.hint", "i32", "i32 1") if native.is_arm() else ("x86.sse2.pause", "", "")
    text = SOURCE.replace("PAUSE", f"call void @llvm.{name}({given})")
    known = {
        "ASLEEP": ASLEEP, "LOOKING": LOOKING, "KEPT": KEPT, "POSTED": POSTED, "WORKING": WORKING,
        "ALONE": ALONE, "TOGETHER": TOGETHER,
        "LOOKS_BEFORE_YIELDING": LOOKS_BEFORE_YIELDING, "LOOKS_BEFORE_TAKING_BACK": LOOKS_BEFORE_TAKING_BACK,
    }  # fmt: skip
    for word, number in known.items():
        text = text.replace(word, str(number))
    return f"declare void @llvm.{name}({declared})\n{text}"
