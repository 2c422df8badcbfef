"""What a generated kernel is: its text, how it is launched, and which arrays it takes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ..program import Variable

BLOCK = 256  # threads, where a kernel needs no other number
MOST_BLOCKS = 1056  # 8 blocks of 256 threads on each of 132 multiprocessors are all that run at once
MOST_ARRAYS = 500  # of one kernel: its parameters may take 4096 bytes, and each is a pointer of 8


class Unsupported(Exception):
    """There is no kernel for this; the message says why. The launcher then calls the array module instead."""


@dataclass(frozen=True, eq=False)
class Scratch:
    """Memory that a reduction of two kernels hands from the first to the second; the same object stands in both."""

    nbytes: int


@dataclass(frozen=True)
class Kernel:
    """One kernel and how it is launched.

    Attributes
    ----------
    name : str
        Of the `extern "C"` function in `source`; it ends in a hash of the source. Equal sources have equal names.
    source : str
        Complete CUDA C++17 without includes, also for `cupy.RawKernel(source, name, options=("--std=c++17",))`.
    grid, block : tuple of int
        Of the launch. The results are right for smaller blocks too, whose sides are powers of two, down to one thread.
    parameters : tuple of Variable or Scratch
        One pointer each, in order: to the first element (index 0 on every axis) of the variable's array.
    """

    name: str
    source: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    parameters: tuple[Variable | Scratch, ...]

    def __post_init__(self) -> None:
        if len(self.parameters) > MOST_ARRAYS:
            raise Unsupported(f"a kernel takes {MOST_ARRAYS} arrays at most, not {len(self.parameters)}")


def named(source: str, what: str) -> tuple[str, str]:
    """Return a name made of `what` and a hash of the source, and the source with it in place of `KERNEL`."""
    name = f"{what}_{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    return name, source.replace("KERNEL", name)
