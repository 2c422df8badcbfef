"""Handover: native calls that threads make together, without Python in between.

Waking a thread that sleeps, and getting Python's lock, take as long as the work of a small layer. Here a thread that
has done its part looks for more for a while before it sleeps, and the threads wait for each other by looking at numbers
in memory: a tenth of a microsecond.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np

from . import native
from .native import Call, start_of

# words of a mailbox
STATE, JOB, LANE, LEAVE = range(4)
ASLEEP, LOOKING, WORKING, KEPT = range(4)  # states; one that is kept will get work

LOOKS = 5_000  # at a mailbox before its thread sleeps: a quarter of a millisecond, more than between steps of training
LINE = 8  # words of a cache line
HEADER = 8  # words of a job before its lists


def mailbox() -> Any:
    """Return the memory in which a thread finds its work."""
    return np.zeros(LINE, np.int64)


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
        self._phases = len(phases)
        self._calls = [call for lanes in phases for calls in lanes for call, _ in calls]  # kept alive
        self._lists = []
        self._progress = np.zeros(self.lanes * LINE, np.int64)
        self._words = np.zeros(HEADER + 2 * len(phases) * self.lanes, np.int64)
        self._words[:5] = len(phases), self.lanes, start_of(self._progress), 0, _yield()
        for p, lanes in enumerate(phases):
            for lane, calls in enumerate(lanes):
                pairs = np.array([call.pair for call, _ in calls], np.int64).reshape(-1)
                self._lists.append(pairs)
                place = HEADER + 2 * (p * self.lanes + lane)
                self._words[place : place + 2] = start_of(pairs), len(calls)
        self._mails = np.zeros(max(self.lanes - 1, 1), np.int64)
        self._result = np.zeros(1, np.int64)
        self._alone = Call(_text(), 0, self._words, None, 0, None)
        self._together = Call(_text(), 1, self._words, self._mails, LOOKS, self._result)

    def alone(self) -> None:
        """Make all calls in this thread."""
        self._alone()

    def together(self, mailboxes: list[Any]) -> bool:
        """Make the calls with the threads of the mailboxes, one fewer than there are lanes, if all look for work.

        Returns
        -------
        bool
            Whether the calls were made: all of them, or none.
        """
        for i, mail in enumerate(mailboxes):
            self._mails[i] = start_of(mail)
        self._together()
        return bool(self._result[0])


def serve(mail: Any) -> None:
    """Do the work that comes to a mailbox, until none has come for a while, or somebody asks to leave."""
    Call(_text(), 2, mail, None, LOOKS, None)()


@cache
def _yield() -> int:
    """Return the address of the function that lets other threads run, or 0."""
    try:
        return ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0
    except (OSError, TypeError, AttributeError):
        return 0


@cache
def _text() -> str:
    if native.is_arm():
        return "declare void @llvm.aarch64.hint(i32)\n" + _SOURCE.replace(
            "PAUSE", "call void @llvm.aarch64.hint(i32 1)"
        )
    return "declare void @llvm.x86.sse2.pause()\n" + _SOURCE.replace("PAUSE", "call void @llvm.x86.sse2.pause()")


# A job has the number of phases, that of lanes, where progress is, how many phases were done by earlier runs, where
# sched_yield is, and from word 8 on for each phase and lane where its list is and how long.
_SOURCE = """
define internal void @make(ptr %job, i64 %phase, i64 %lane) nounwind {
start:
  %lanes.at = getelementptr i64, ptr %job, i64 1
  %lanes = load i64, ptr %lanes.at
  %row = mul i64 %phase, %lanes
  %entry = add i64 %row, %lane
  %twice = shl i64 %entry, 1
  %place = add i64 %twice, 8
  %list.at = getelementptr i64, ptr %job, i64 %place
  %list = load ptr, ptr %list.at
  %count.at = getelementptr i64, ptr %list.at, i64 1
  %count = load i64, ptr %count.at
  br label %test
test:
  %i = phi i64 [0, %start], [%next, %turn]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %turn, label %end
turn:
  %pair = shl i64 %i, 1
  %function.at = getelementptr i64, ptr %list, i64 %pair
  %function = load ptr, ptr %function.at
  %words.at = getelementptr i64, ptr %function.at, i64 1
  %words = load ptr, ptr %words.at
  call void %function(ptr %words)
  %next = add i64 %i, 1
  br label %test
end:
  ret void
}

define internal void @wait(ptr %place, i64 %goal, ptr %yield) nounwind {
start:
  br label %look
look:
  %turn = phi i64 [0, %start], [%next, %again]
  %seen = load atomic i64, ptr %place acquire, align 8
  %there = icmp sge i64 %seen, %goal
  br i1 %there, label %end, label %rest
rest:
  PAUSE
  %next = add i64 %turn, 1
  %long = icmp sgt i64 %next, 2000
  %can = icmp ne ptr %yield, null
  %both = and i1 %long, %can
  br i1 %both, label %give, label %again
give:
  call void %yield()
  br label %again
again:
  br label %look
end:
  ret void
}

define internal void @lane(ptr %job, i64 %lane) nounwind {
start:
  %phases = load i64, ptr %job
  %lanes.at = getelementptr i64, ptr %job, i64 1
  %lanes = load i64, ptr %lanes.at
  %progress.at = getelementptr i64, ptr %job, i64 2
  %progress = load ptr, ptr %progress.at
  %done.at = getelementptr i64, ptr %job, i64 3
  %done = load i64, ptr %done.at
  %yield.at = getelementptr i64, ptr %job, i64 4
  %yield = load ptr, ptr %yield.at
  %my = shl i64 %lane, 3
  %mine = getelementptr i64, ptr %progress, i64 %my
  br label %test
test:
  %phase = phi i64 [0, %start], [%next, %passed]
  %more = icmp slt i64 %phase, %phases
  br i1 %more, label %turn, label %end
turn:
  call void @make(ptr %job, i64 %phase, i64 %lane)
  %next = add i64 %phase, 1
  %goal = add i64 %done, %next
  store atomic i64 %goal, ptr %mine release, align 8
  br label %others
others:
  %other = phi i64 [0, %turn], [%other.next, %waits]
  %left = icmp slt i64 %other, %lanes
  br i1 %left, label %waits, label %passed
waits:
  %their = shl i64 %other, 3
  %theirs = getelementptr i64, ptr %progress, i64 %their
  call void @wait(ptr %theirs, i64 %goal, ptr %yield)
  %other.next = add i64 %other, 1
  br label %others
passed:
  br label %test
end:
  ret void
}

define internal void @alone(ptr %job) nounwind {
start:
  %phases = load i64, ptr %job
  %lanes.at = getelementptr i64, ptr %job, i64 1
  %lanes = load i64, ptr %lanes.at
  br label %test
test:
  %phase = phi i64 [0, %start], [%next, %passed]
  %more = icmp slt i64 %phase, %phases
  br i1 %more, label %others, label %end
others:
  %lane = phi i64 [0, %test], [%lane.next, %make]
  %left = icmp slt i64 %lane, %lanes
  br i1 %left, label %make, label %passed
make:
  call void @make(ptr %job, i64 %phase, i64 %lane)
  %lane.next = add i64 %lane, 1
  br label %others
passed:
  %next = add i64 %phase, 1
  br label %test
end:
  ret void
}

define internal void @together(ptr %job, ptr %mails, i64 %looks, ptr %result) nounwind {
start:
  %lanes.at = getelementptr i64, ptr %job, i64 1
  %lanes = load i64, ptr %lanes.at
  %others = sub i64 %lanes, 1
  br label %keep
keep:
  %kept = phi i64 [0, %start], [%kept.next, %got]
  %missing = icmp slt i64 %kept, %others
  br i1 %missing, label %ask, label %hand
ask:
  %mail.at = getelementptr ptr, ptr %mails, i64 %kept
  %mail = load ptr, ptr %mail.at
  br label %look
look:
  %turn = phi i64 [0, %ask], [%turn.next, %again]
  %tried = cmpxchg ptr %mail, i64 1, i64 3 acq_rel monotonic
  %success = extractvalue { i64, i1 } %tried, 1
  br i1 %success, label %got, label %again
again:
  PAUSE
  %turn.next = add i64 %turn, 1
  %tired = icmp sgt i64 %turn.next, %looks
  br i1 %tired, label %give_up, label %look
got:
  %kept.next = add i64 %kept, 1
  br label %keep
give_up:
  %free = phi i64 [0, %again], [%free.next, %let_go]
  %held = icmp slt i64 %free, %kept
  br i1 %held, label %let_go, label %none
let_go:
  %free.at = getelementptr ptr, ptr %mails, i64 %free
  %freed = load ptr, ptr %free.at
  store atomic i64 1, ptr %freed release, align 8
  %free.next = add i64 %free, 1
  br label %give_up
none:
  store i64 0, ptr %result
  ret void
hand:
  %given = phi i64 [0, %keep], [%lane, %post]
  %rest = icmp slt i64 %given, %others
  br i1 %rest, label %post, label %work
post:
  %lane = add i64 %given, 1
  %to.at = getelementptr ptr, ptr %mails, i64 %given
  %to = load ptr, ptr %to.at
  %job.at = getelementptr i64, ptr %to, i64 1
  store ptr %job, ptr %job.at
  %lane.at = getelementptr i64, ptr %to, i64 2
  store i64 %lane, ptr %lane.at
  store atomic i64 2, ptr %to release, align 8
  br label %hand
work:
  call void @lane(ptr %job, i64 0)
  %phases = load i64, ptr %job
  %done.at = getelementptr i64, ptr %job, i64 3
  %done = load i64, ptr %done.at
  %all = add i64 %done, %phases
  store i64 %all, ptr %done.at
  store i64 1, ptr %result
  ret void
}

define internal void @serve(ptr %mail, i64 %looks) nounwind {
start:
  %leave.at = getelementptr i64, ptr %mail, i64 3
  store atomic i64 1, ptr %mail release, align 8
  br label %look
look:
  %turn = phi i64 [0, %start], [0, %work], [%next, %rest]
  %state = load atomic i64, ptr %mail acquire, align 8
  %given = icmp eq i64 %state, 2
  br i1 %given, label %work, label %idle
work:
  %job.at = getelementptr i64, ptr %mail, i64 1
  %job = load ptr, ptr %job.at
  %lane.at = getelementptr i64, ptr %mail, i64 2
  %lane = load i64, ptr %lane.at
  call void @lane(ptr %job, i64 %lane)
  store atomic i64 1, ptr %mail release, align 8
  br label %look
idle:
  %leave = load atomic i64, ptr %leave.at monotonic, align 8
  %asked = icmp ne i64 %leave, 0
  %tired = icmp sgt i64 %turn, %looks
  %ends = or i1 %asked, %tired
  br i1 %ends, label %stop, label %rest
stop:
  %tried = cmpxchg ptr %mail, i64 1, i64 0 acq_rel monotonic
  %asleep = extractvalue { i64, i1 } %tried, 1
  br i1 %asleep, label %end, label %rest
rest:
  PAUSE
  %next = add i64 %turn, 1
  br label %look
end:
  ret void
}

define void @kernel(ptr %words) nounwind {
start:
  %what = load i64, ptr %words
  %a.at = getelementptr i64, ptr %words, i64 1
  %a = load ptr, ptr %a.at
  %b.at = getelementptr i64, ptr %words, i64 2
  %b = load ptr, ptr %b.at
  %looks.at = getelementptr i64, ptr %words, i64 3
  %looks = load i64, ptr %looks.at
  %result.at = getelementptr i64, ptr %words, i64 4
  %result = load ptr, ptr %result.at
  switch i64 %what, label %serve [i64 0, label %alone i64 1, label %together]
alone:
  call void @alone(ptr %a)
  ret void
together:
  call void @together(ptr %a, ptr %b, i64 %looks, ptr %result)
  ret void
serve:
  call void @serve(ptr %a, i64 %looks)
  ret void
}
"""
