"""How the threads of a reduction share the work."""

from __future__ import annotations

PROCESSORS = 132  # multiprocessors of the GPU that the sizes are made for; others get right results too
WARP = 32
CHAIN = 8  # accesses of one thread from which another chunk is worth while
SHARED = 48 * 1024  # bytes of shared memory that a block may have without asking


class Layout:
    """The block and the grid of a reduction of `results` results with `summands` summands each.

    Parameters
    ----------
    results, summands : int
    along : bool
        Whether neighbours in memory belong to neighbouring results, as in a sum of rows, or to one result.
    width : int
        How many neighbours one access could take.
    number : int
        The bytes of what is added up at a time: one number of each total, each in shared memory of its own.
    whole : bool
        Whether the summands are not to be cut into chunks.

    Attributes
    ----------
    width : int
        How many neighbours one access takes.
    units : int
        What the threads of the direction of results count: results, or `width` results.
    steps : int
        What the others count: accesses for one unit.
    chunks, chunk : int
        The number of pieces of the steps, and the steps of one.
    block, grid : tuple of int
    shared : int
        The numbers in shared memory for each total: none where no threads meet there.
    """

    def __init__(
        self, results: int, summands: int, along: bool, width: int, number: int = 4, whole: bool = False
    ) -> None:
        self.results, self.along = results, along
        self.chunks = 1
        if along:
            self._columns(results, summands, width, number, whole)
        else:
            self._rows(results, summands, width, number, whole)
        self.chunk = -(-self.steps // self.chunks)
        self.chunks = max(1, -(-self.steps // max(1, self.chunk)))
        x, y = self.block[:2]
        tiles = -(-self.units // (x if along else y))
        self.grid = min(tiles, 2**20), self.chunks, 1
        if along:
            self.shared = x * y * self.width if y > 1 else 0
        else:
            self.shared = x * y // WARP if x > WARP else 0

    def _columns(self, results: int, summands: int, width: int, number: int, whole: bool) -> None:
        """Let a warp stand for neighbouring results, and several warps for pieces of them."""
        most = max(1, summands // (8 * CHAIN))
        cut = not whole and summands > 512 and -(-results // WARP) < 2 * PROCESSORS
        while width > 1 and -(-results // (width * WARP)) * (most if cut else 1) < 2 * PROCESSORS:
            width //= 2
        self.width, self.units, self.steps = width, -(-results // width), summands
        x = WARP
        if cut:
            y = 8
            self.chunks = min(most, -(-4 * PROCESSORS // -(-self.units // x)))
        else:
            # few results: narrower blocks, down to 32 bytes side by side
            while x > 8 and -(-self.units // x) < PROCESSORS:
                x //= 2
            y = min((1024 if number * width <= 8 else 256) // x, 64, _power_of_two(summands // 4))
        y = max(y, WARP // x)
        while y > 1 and x * y * width * number > SHARED:
            y //= 2
            x = max(x, WARP // y)
        self.block = x, y, 1

    def _rows(self, results: int, summands: int, width: int, number: int, whole: bool) -> None:
        """Let neighbouring threads stand for pieces of one result: some lanes, a warp or a block."""
        self.width, self.units, self.steps = width, results, -(-summands // width)
        few = results < 2 * PROCESSORS
        if few and not whole and self.steps > 2048:  # what is added up may take long to compute: use all processors
            self.chunks = min(-(-4 * PROCESSORS // results), self.steps // (256 * 2))
            x = 256
        elif results >= 8 * PROCESSORS and self.steps <= 1024:
            x = WARP
        else:
            x = 512 if few else 256
        x = min(x, _power_of_two(self.steps))
        while x > WARP and x // WARP * number > SHARED:
            x //= 2
        # at least a warp, as exchanges among lanes are defined for whole warps
        self.block = x, max(1, WARP // x, min(256 // x, _power_of_two(results))), 1


def _power_of_two(n: int) -> int:
    """Return the largest power of two that is at most n, and at least 1."""
    return 1 << max(0, n.bit_length() - 1)
