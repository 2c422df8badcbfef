"""Lanes: which launches of a step may run side by side on a GPU.

A product of small matrices does not fill a large GPU, and a step has several that do not need each other: those of the
gradient for the weights of a layer, and for its input. They go to different lanes, streams of the capture, and the
graph runs them at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple


class Use(NamedTuple):
    """What a launch reads and writes, by any name of a piece of memory, and whether it has to go to lane 0."""

    reads: frozenset[Hashable]
    writes: frozenset[Hashable]
    first_lane: bool = False


class Place(NamedTuple):
    """The lane of a launch, and the earlier launches in other lanes that it has to wait for."""

    lane: int
    waits: tuple[int, ...]


def needs(uses: Iterable[Use]) -> list[set[int]]:
    """Return for each launch the earlier ones that must be done: they wrote what it touches, or read what it writes.

    Examples
    --------
    >>> a = Use(frozenset(), frozenset({"x"}))
    >>> b = Use(frozenset({"x"}), frozenset({"y"}))
    >>> c = Use(frozenset({"x"}), frozenset({"z"}))
    >>> d = Use(frozenset(), frozenset({"x"}))  # written again, after both have read
    >>> needs([a, b, c, d])
    [set(), {0}, {0}, {0, 1, 2}]
    """
    result: list[set[int]] = []
    written: dict[Hashable, int] = {}
    read: dict[Hashable, set[int]] = {}
    for i, use in enumerate(uses):
        before = {written[m] for m in use.reads | use.writes if m in written}
        for m in use.writes:
            before |= read.pop(m, set())
            written[m] = i
        for m in use.reads:
            read.setdefault(m, set()).add(i)
        result.append(before - {i})
    return result


def places(uses: Iterable[Use], most: int) -> list[Place]:
    """Return where each launch goes, with at most so many lanes; lane 0 is the one that others start from.

    A launch goes on in the lane of the last launch that it needs, if nothing was put there since, or else into the
    lane that was used the longest time ago.

    Examples
    --------
    >>> a = Use(frozenset(), frozenset({"x"}))
    >>> b = Use(frozenset({"x"}), frozenset({"y"}))
    >>> c = Use(frozenset({"x"}), frozenset({"z"}))
    >>> places([a, b, c], 2)
    [Place(lane=0, waits=()), Place(lane=0, waits=()), Place(lane=1, waits=(0,))]
    """
    uses = list(uses)
    last = [-1] * most  # the last launch of each lane
    result: list[Place] = []
    for i, before in enumerate(needs(uses)):
        follows = [lane for lane in range(most) if last[lane] in before]
        if uses[i].first_lane:
            lane = 0
        elif follows:
            lane = max(follows, key=lambda n: last[n])
        else:
            lane = min(range(most), key=lambda n: last[n])
        latest: dict[int, int] = {}  # a lane runs in order, so its latest launch is enough
        for j in before:
            other = result[j].lane
            if other != lane:
                latest[other] = max(latest.get(other, -1), j)
        result.append(Place(lane, tuple(sorted(latest.values()))))
        last[lane] = i
    return result
