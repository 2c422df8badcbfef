"""Phases: which calls of a program may run at the same time, and where threads have to wait for each other.

A stage is an operation, or a group of them, in shares: one for each thread, or a single one. A phase is a list of calls
for each thread, which the threads run without looking at each other. Stages share a phase as long as no thread touches
memory that another one writes in it; what has to be there is decided by the addresses of the arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..native import Call, available, start_of
from ..parallel import Calls

WORTH_A_THREAD = 20_000.0  # nanoseconds of work, about what handing it over and back takes
WORTH_A_WAIT = 500.0  # nanoseconds of native work, for which no thread has to be woken

Region = tuple[int, int, int, int]  # the first address, that behind the last, from row to row, bytes of a row


@dataclass
class Share:
    """The calls of one thread, the arrays that they read and write, about how many nanoseconds they take."""

    calls: Calls
    reads: list[Any]
    writes: list[Any]
    cost: float
    part: str = ""  # which of the rows or columns, where there are several shares
    names: list[str] = field(default_factory=list)  # what is computed, to be read by people


@dataclass
class Stage:
    """Shares that run at the same time; with `alone`, nothing else runs then."""

    shares: list[Share]
    alone: bool = False


@dataclass
class _Lane:
    """What one thread does in a phase."""

    calls: Calls = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    reads: list[Region] = field(default_factory=list)
    writes: list[Region] = field(default_factory=list)
    cost: float = 0.0

    def add(self, share: Share) -> None:
        self.calls += share.calls
        self.names += share.names
        self.reads += map(region, share.reads)
        self.writes += map(region, share.writes)
        self.cost += share.cost

    def disturbs(self, share: Share) -> bool:
        """Return whether the share reads what this thread writes, or writes what it reads or writes."""
        reads, writes = [region(a) for a in share.reads], [region(a) for a in share.writes]
        return _any_overlap(self.writes, reads) or _any_overlap(self.writes, writes) or _any_overlap(self.reads, writes)


class Phase:
    """Calls for each thread; `shares` are those that are worth a thread."""

    def __init__(self, threads: int, alone: bool = False) -> None:
        self.alone = alone
        self._lanes = [_Lane() for _ in range(threads)]

    @property
    def is_native(self) -> bool:
        """Whether all calls are native, so that threads need no Python for them."""
        return available() and all(isinstance(function, Call) for lane in self._lanes for function, _ in lane.calls)

    @property
    def is_short(self) -> bool:
        """Whether other threads would cost more than they do, so that one does all."""
        used = [lane for lane in self._lanes if lane.calls]
        worth = WORTH_A_WAIT if self.is_native else WORTH_A_THREAD
        return sum(lane.cost for lane in used[1:]) < worth * (len(used) - 1)

    @property
    def shares(self) -> list[Calls]:
        """The lists of calls, one for each thread; a single one where the phase is short."""
        calls = [lane.calls for lane in self._lanes if lane.calls]
        return [[call for some in calls for call in some]] if self.is_short else calls

    @property
    def names(self) -> list[list[str]]:
        """What each thread computes."""
        names = [lane.names for lane in self._lanes if lane.calls]
        return [[name for some in names for name in some]] if self.is_short else names

    def disturbs(self, stage: Stage) -> bool:
        """Return whether the stage has to come after this phase."""
        if self.alone or stage.alone:
            return True
        return any(lane.disturbs(share) for lane in self._lanes for share in stage.shares)

    def accept(self, stage: Stage) -> bool:
        """Add a stage if its shares can run beside what other threads do here; return whether they can."""
        if (self.alone or stage.alone) and any(lane.calls for lane in self._lanes):
            return False
        lanes = self._lanes[: len(stage.shares)]
        if len(stage.shares) == 1:  # any thread can do it: the one that has least to do of those that may
            (share,) = stage.shares
            free = [lane for lane in self._lanes if self._may(lane, share)]
            lanes = [min(free, key=lambda lane: lane.cost)] if free else lanes
        if not all(self._may(lane, share) for lane, share in zip(lanes, stage.shares, strict=True)):
            return False
        for lane, share in zip(lanes, stage.shares, strict=True):
            lane.add(share)
        return True

    def _may(self, lane: _Lane, share: Share) -> bool:
        """Return whether a thread can make the calls of a share at any moment of this phase."""
        return not any(other.disturbs(share) for other in self._lanes if other is not lane)


def phases(stages: list[Stage], threads: int) -> list[Phase]:
    """Return the phases of stages that are in an order in which one thread could run them.

    A stage joins the earliest phase in which it can run, so that small ones do not part large ones.
    """
    result: list[Phase] = []
    for stage in stages:
        stage = _folded(stage, threads)
        candidates = []
        for phase in reversed(result):
            candidates.append(phase)
            if phase.disturbs(stage):
                break
        if not any(phase.accept(stage) for phase in reversed(candidates)):
            result.append(Phase(threads, stage.alone))
            result[-1].accept(stage)
    return result


def _folded(stage: Stage, threads: int) -> Stage:
    """Return the stage in no more shares than there are threads."""
    if len(stage.shares) <= threads:
        return stage
    merged = []
    for t in range(threads):
        mine = stage.shares[len(stage.shares) * t // threads : len(stage.shares) * (t + 1) // threads]
        merged.append(
            Share(
                [call for share in mine for call in share.calls],
                [a for share in mine for a in share.reads],
                [a for share in mine for a in share.writes],
                sum(share.cost for share in mine),
                names=[name for share in mine for name in share.names],
            )
        )
    return Stage(merged, stage.alone)


def region(a: Any) -> Region:
    """Return where an array lies; rows that leave room between them, as columns of a matrix do, are told apart."""
    start = start_of(a)
    if a.size == 0:
        return start, start, 0, 0
    low = sum((n - 1) * s for n, s in zip(a.shape, a.strides, strict=True) if s < 0)
    high = sum((n - 1) * s for n, s in zip(a.shape, a.strides, strict=True) if s > 0) + a.itemsize
    if a.ndim == 2 and a.strides[1] == a.itemsize and a.strides[0] > a.shape[1] * a.itemsize:
        return start, start + high, a.strides[0], a.shape[1] * a.itemsize
    return start + low, start + high, 0, high - low


def overlap(a: Region, b: Region) -> bool:
    """Return whether two regions have bytes in common, or may.

    Examples
    --------
    >>> import numpy as np
    >>> matrix = np.zeros((3, 10))
    >>> left, right = matrix[:, :4], matrix[:, 4:]
    >>> overlap(region(left), region(right)), overlap(region(left), region(matrix[1]))
    (False, True)
    """
    if a[0] >= b[1] or b[0] >= a[1]:
        return False
    step = a[2]
    if not step or step != b[2]:
        return True
    # seen from a row of a, where a row of b begins
    begins = (b[0] - a[0]) % step
    return begins < a[3] or begins + b[3] > step


def _any_overlap(a: list[Region], b: list[Region]) -> bool:
    return any(overlap(x, y) for x in a for y in b)
