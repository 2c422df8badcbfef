"""The places that a kernel visits: axes in the order of memory, as few as possible, and where each array has them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import prod

from ..program import Variable
from .kernel import Unsupported


class Space:
    """Axes of a loop, slowest first, and the strides of several arrays along them.

    Parameters
    ----------
    shape : tuple of int
    strides : list of tuple of int
        Of each array along the axes of `shape`, in elements. The order of the axes is that of the first of these arrays
        that fills the shape.
    reduced : set of int
        Axes that are summed over; they are never merged with others.

    Attributes
    ----------
    lengths : list of int
    reduced : list of bool
    strides : list of tuple of int

    Examples
    --------
    >>> Space((4, 5, 6), [(30, 6, 1), (0, 0, 0)]).lengths, Space((4, 5), [(1, 4), (0, 1)]).lengths
    ([120], [5, 4])
    """

    def __init__(
        self, shape: tuple[int, ...], strides: Sequence[tuple[int, ...]], reduced: Collection[int] = ()
    ) -> None:
        axes = [i for i, n in enumerate(shape) if n != 1]
        guide = next((s for s in strides if all(s[i] for i in axes)), strides[0] if strides else ())
        axes.sort(key=lambda i: -abs(guide[i]))
        self.lengths: list[int] = []
        self.reduced: list[bool] = []
        columns: list[list[int]] = []  # for each axis the stride of each array
        for i in axes:
            n, column, is_reduced = shape[i], [s[i] for s in strides], i in reduced
            if (
                columns
                and self.reduced[-1] == is_reduced
                and all(a == b * n for a, b in zip(columns[-1], column, strict=True))
            ):
                self.lengths[-1] *= n
                columns[-1] = column
            else:
                self.lengths.append(n)
                self.reduced.append(is_reduced)
                columns.append(column)
        self.strides = [tuple(column[j] for column in columns) for j in range(len(strides))]

    @property
    def size(self) -> int:
        """The number of places."""
        return prod(self.lengths)

    def index_type(self) -> str:
        """Return "int" where all positions fit into it: 64-bit arithmetic takes several times as long."""
        ends = [sum((n - 1) * abs(s) for n, s in zip(self.lengths, each, strict=True)) for each in self.strides]
        return "int" if max([self.size, *ends]) < 2**31 - 2**24 else "long long"  # with room for the step of a loop

    def vector(self, width: int, arrays: int) -> int:
        """Return how many neighbours along the last axis one access can take for the first arrays: `width` or less.

        An array has to be contiguous along that axis, or constant.
        """
        strides = self.strides[:arrays]
        if not self.lengths or any(each[-1] not in (0, 1) for each in strides):
            return 1
        steps = [self.lengths[-1], *(s for each in strides if each[-1] == 1 for s in each[:-1])]
        while any(n % width for n in steps):
            width //= 2
        return width


def coordinates(
    index: str, lengths: Sequence[int], axes: Sequence[int], needed: set[int], kind: str, width: int = 1
) -> list[str]:
    """Return statements that define the coordinates c0, c1, ... of a place, from its number.

    Parameters
    ----------
    index : str
        The name of the number, which counts in steps of `width` along the last one of the axes.
    lengths : list of int
        Of all axes.
    axes : list of int
        Over which the number goes.
    needed : set of int
        The axes whose coordinates are read.
    kind : str
        Their type.

    Examples
    --------
    >>> coordinates("i", [2, 4], [0, 1], {0, 1}, "int", 2)
    ['const int c0 = i / 2;', 'const int c1 = 2 * (i % 2);']
    """
    counts = [lengths[axis] for axis in axes]
    if counts:
        counts[-1] //= width
    lines = []
    for j, axis in enumerate(axes):
        if axis not in needed:
            continue
        below = prod(counts[j + 1 :])
        text = index if below == 1 else f"{index} / {below}"
        if j > 0:
            text = f"{text} % {counts[j]}"
        if j == len(axes) - 1 and width > 1:
            text = f"{width} * ({text})"
        lines.append(f"const {kind} c{axis} = {text};")
    return lines


def offset(strides: Sequence[int]) -> str:
    """Return the position of an element in its array, from the coordinates.

    Examples
    --------
    >>> offset((12, 0, 1))
    'c0 * 12 + c2'
    """
    terms = [f"c{j}" if s == 1 else f"c{j} * {s}" for j, s in enumerate(strides) if s]
    return " + ".join(terms) or "0"


def in_elements(v: Variable, strides: Mapping[Variable, tuple[int, ...]], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a variable in elements, along the axes of the shape to which it broadcasts."""
    given = strides.get(v, v.strides)
    if any(s % v.dtype.itemsize for s, n in zip(given, v.shape, strict=True) if n > 1):
        raise Unsupported(f"{v!r} lies at fractions of its elements")
    own = [0 if n == 1 else s // v.dtype.itemsize for n, s in zip(v.shape, given, strict=True)]
    return (0,) * (len(shape) - len(own)) + tuple(own)


def kept_strides(v: Variable, strides: Mapping, shape: tuple[int, ...], axes: Collection[int]) -> tuple[int, ...]:
    """Return the strides of a result along the axes of what is reduced: 0 along those that it lacks."""
    if len(v.shape) == len(shape):
        kept_dims = in_elements(v, strides, shape)
        return tuple(0 if i in axes else s for i, s in enumerate(kept_dims))
    own = list(in_elements(v, strides, v.shape))
    if len(own) == len(shape) - len(axes):
        return tuple(0 if i in axes else own.pop(0) for i in range(len(shape)))
    extra = len(shape) - len(own)  # a sum to a shape: leading axes vanish, others stay with length 1
    return tuple(0 if i in axes else own[i - extra] for i in range(len(shape)))
