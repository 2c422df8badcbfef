"""History: what `fit` measured, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from minigrad.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(repr=False)
class History:
    """The learning curves of one call of `fit`.

    Attributes
    ----------
    terms : dict of str to list of float
        For every term of the objective its mean over the samples of each epoch, measured while the parameters moved.
    validation : dict of str to list of float
        The same on the validation data at the end of each epoch; empty without validation data.
    seconds : list of float
        The wall time of each epoch, validation included.

    Examples
    --------
    >>> history = History(terms={"reconstruction": [4.0, 2.0], "weights": [0.5, 1.0]})
    >>> history.epochs, history.loss
    (2, [4.5, 3.0])
    >>> history
    History(2 epochs: reconstruction 4 to 2, weights 0.5 to 1)
    """

    terms: dict[str, list[float]] = field(default_factory=dict)
    validation: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """How many epochs were completed."""
        return len(self.loss)

    @property
    def loss(self) -> list[float]:
        """The sum of the terms in each epoch: what is minimised."""
        return [sum(values) for values in zip(*self.terms.values(), strict=True)]

    def __repr__(self) -> str:
        if not self.loss:
            return "History(0 epochs)"
        terms = ", ".join(f"{name} {curve[0]:.4g} to {curve[-1]:.4g}" for name, curve in self.terms.items())
        return f"History({self.epochs} epochs: {terms})"

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return every curve as an array with one value per epoch: by term, "validation " + term, and "seconds"."""
        curves = {**self.terms, **{f"validation {name}": values for name, values in self.validation.items()}}
        return {
            name: np.array(values, dtype=np.float64) for name, values in {**curves, "seconds": self.seconds}.items()
        }

    def plot(self) -> Figure:
        """Return a matplotlib figure of all terms against the epoch, validation dashed, on a logarithmic scale.

        The scale is linear where a value is not positive.

        Raises
        ------
        MissingDependencyError
            matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
            from matplotlib.ticker import MaxNLocator
        except ImportError as error:
            raise MissingDependencyError("History.plot needs matplotlib: pip install matplotlib") from error
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.add_subplot(xlabel="epoch", ylabel="term of the objective, mean over the epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        values = [v for curves in (self.terms, self.validation) for curve in curves.values() for v in curve]
        if values and min(values) > 0:
            axes.set_yscale("log")
        for name, curve in self.terms.items():
            (line,) = axes.plot(range(1, len(curve) + 1), curve, label=name)
            if name in self.validation:
                dashed = self.validation[name]
                axes.plot(range(1, len(dashed) + 1), dashed, "--", color=line.get_color(), label=f"validation {name}")
        if self.terms:
            axes.legend()
        return figure
