"""What all figures share: sizes, colours, and the check of what is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from autoencoders.history import History
from autoencoders.inputs import finite_array
from minigrad.errors import DataError, DTypeError, MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SINGLE = (4.8, 3.2)  # inches: text of 10 points keeps 7 points when a figure is set half a page wide
# M. A. Petroff, "Accessible color sequences for data visualization" (2021): told apart with any colour vision
PALETTE = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
DASHES: tuple[Any, ...] = ("-", "-.", ":", (0, (6, 1)), (0, (3, 1, 1, 1, 1, 1)))  # and in print without colour
MARKERS = "os^Dv"  # of lines, together with dashes
CLASS_MARKERS = "os^DvPX<>*"  # of points and of many lines, one for each colour: two of the palette are orange
REFERENCE: dict[str, Any] = {
    "color": "black",
    "linestyle": "--",
    "linewidth": 1,
}  # a known bound or target, never a model


def new_figure(size: tuple[float, float] = SINGLE) -> Figure:
    """Return an empty figure of this size in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("figures need matplotlib: pip install matplotlib") from error
    return Figure(figsize=size, layout="constrained")


def plain_axes(axes: Axes, xlabel: str, ylabel: str) -> Axes:
    """Label axes, and let what is drawn there cycle through the palette."""
    axes.set_prop_cycle(color=PALETTE, linestyle=[DASHES[i % len(DASHES)] for i in range(len(PALETTE))])
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def single(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """Return a figure with one pair of labelled axes."""
    figure = new_figure()
    return figure, plain_axes(figure.add_subplot(), xlabel, ylabel)


def whole_numbers(axes: Axes) -> None:
    """Mark the x axis at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def logarithmic_where_wide(axes: Axes, values: Sequence[NDArray[Any]]) -> None:
    """Make the y axis logarithmic, if all values are positive and reach over more than a factor of 3."""
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    if low <= 0 or high <= 3 * low:
        return
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    if high < 50 * low:  # powers of ten alone would be one or two marks
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 4, 5, 6, 8)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def named(values: Any, caller: str, axes: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return what is to be drawn by name, as finite arrays with these axes."""
    check_named(values, caller)
    return {str(name): finite_array(value, caller, repr(name), axes) for name, value in values.items()}


def check_named(values: Any, caller: str) -> None:
    """Refuse what is not a mapping of names to something."""
    if not isinstance(values, Mapping):
        of_history = "; history.terms is one, and history.plot() draws it" if isinstance(values, History) else ""
        raise DTypeError(
            f"{caller}: got {type(values).__name__}; expected a mapping such as {{'model': values}}{of_history}"
        )
    if not values:
        raise DataError(f"{caller}: got nothing to draw; expected a mapping with at least one entry")
