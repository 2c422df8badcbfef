"""Inputs: how the arrays given to a replay come to the calls that read them.

Calls are bound to memory of the replay's own. Small arrays are copied there. Of a large one, the few calls that read it
are bound to the array itself before every run, which costs less than a copy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..native import Call, start_of
from ..parallel import Calls
from .phases import Region, region

BYTES_FOR_A_CALL = 4096  # copying as many takes as long as binding one call anew


class Binding:
    """The calls that read one input, found by the addresses of their arguments.

    Parameters
    ----------
    place : array
        To which the calls are bound now: C-contiguous.
    phases : list of lists of calls
        Changed in place by `to`.
    """

    def __init__(self, place: Any, phases: list[list[Calls]]) -> None:
        self._pointers: list[tuple[Any, int, int]] = []
        self._views: list[tuple[Calls, int, int, tuple]] = []
        self._before: list[tuple[Calls, int, tuple]] = []
        whole = region(place)
        for phase in phases:
            for calls in phase:
                for i, (function, arguments) in enumerate(calls):
                    if isinstance(function, Call):
                        starts = [(j, int(function.words[j])) for j in function.pointers]
                        self._pointers += [
                            (function.words, j, s - whole[0]) for j, s in starts if whole[0] <= s < whole[1]
                        ]
                    for j, x in enumerate(arguments):
                        if isinstance(x, np.ndarray) and _within(region(x), whole):
                            start = start_of(x) - whole[0]
                            self._views.append((calls, i, j, (x.shape, x.dtype, start, x.strides)))
                            self._before.append((calls, i, calls[i]))

    @property
    def calls(self) -> int:
        """How many arguments have to change."""
        return len(self._pointers) + len(self._views)

    def to(self, array: Any, start: int) -> None:
        """Let the calls read an array of the layout of the old one, which begins at the address `start`."""
        for words, j, offset in self._pointers:
            words[j] = start + offset
        for calls, i, j, (shape, dtype, offset, strides) in self._views:
            function, arguments = calls[i]
            view = np.ndarray(shape, dtype, array, offset, strides)
            calls[i] = function, (*arguments[:j], view, *arguments[j + 1 :])

    def back(self) -> None:
        """Let the calls read `place` again: they would keep the caller's array alive until the next run."""
        for calls, i, call in self._before:
            calls[i] = call


def _within(piece: Region, whole: Region) -> bool:
    return piece[0] < piece[1] and whole[0] <= piece[0] and piece[1] <= whole[1]
