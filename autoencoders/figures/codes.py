"""Figures of codes: where samples lie, and how active the units are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import minigrad as mg
from autoencoders import features, pca
from autoencoders.figures.style import (
    CLASS_MARKERS,
    DASHES,
    PALETTE,
    REFERENCE,
    logarithmic_where_wide,
    named,
    single,
    whole_numbers,
)
from autoencoders.inputs import as_array, finite_array, positive
from minigrad.errors import DataError, DTypeError, ShapeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def codes_2d(h: mg.Tensor | ArrayLike, labels: ArrayLike | None = None) -> Figure:
    """Show where samples lie in the code: a code of two units as it is, a wider one in its two principal directions.

    Parameters
    ----------
    h : Tensor or array_like, shape (m, k), k >= 2
        Codes, one sample per row.
    labels : array_like, shape (m,), optional
        The class of each sample, numbers or strings; each gets a colour and a marker of its
        own, ten of them.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    ShapeError, DTypeError, DataError
        h is not a finite matrix of two columns or more, there is not one label per sample, or one is NaN or None.

    Notes
    -----
    The axes of a wider code say what share of its variance they hold.

    Examples
    --------
    >>> figure = codes_2d([[0.0, 1.0], [1.0, 0.0], [0.5, 0.9]], labels=[0, 1, 0])
    >>> [points.get_label() for points in figure.axes[0].collections]
    ['0', '1']
    """
    codes = finite_array(h, "codes_2d", "h", ("samples", "units"))
    if codes.shape[1] < 2:
        raise ShapeError(f"codes_2d: h has shape {codes.shape}; expected two units or more")
    classes = None if labels is None else as_array(labels, "codes_2d: labels")
    if classes is not None and classes.shape != codes.shape[:1]:
        raise ShapeError(
            f"codes_2d: labels have shape {classes.shape}; expected {codes.shape[:1]}, one for each sample"
        )
    found = np.empty(0) if classes is None else _classes(classes)
    names = ["unit 1 of the code", "unit 2 of the code"]
    if codes.shape[1] > 2:
        if len(codes) < 2:
            raise ShapeError(
                f"codes_2d: h has shape {codes.shape}; a code of more than 2 units needs 2 samples or more"
            )
        components = pca.principal_components(codes)
        variance = pca.explained_variance(components)
        share = 100 * variance[:2] / max(variance.sum(), np.finfo(np.float64).tiny)
        names = [f"principal direction {i + 1} ({share[i]:.0f} % of variance)" for i in range(2)]
        codes = (codes - codes.mean(axis=0)) @ pca.principal_directions(components, 2)
    figure, axes = single(*names)
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))  # beside the legend is no room for -0.75 and -0.5
    size = float(np.clip(4000 / len(codes), 4, 24))  # square points
    if classes is None:
        axes.scatter(codes[:, 0], codes[:, 1], s=size, color=PALETTE[0], linewidths=0)
        return figure
    for i, label in enumerate(found):
        color, marker = PALETTE[i % len(PALETTE)], CLASS_MARKERS[i % len(CLASS_MARKERS)]
        x, y = codes[classes == label].T
        axes.scatter(x, y, s=size, color=color, marker=marker, linewidths=0, label=str(label))
    figure.legend(loc="outside right upper", frameon=False, markerscale=1.5, handletextpad=0.1)
    return figure


def _classes(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the labels that occur, in their order; every sample must have one."""
    missing = np.flatnonzero(labels != labels)  # NaN, or a date that is none
    if len(missing):
        raise DataError(
            f"codes_2d: labels[{missing[0]}] is {labels[missing[0]]}, one of {len(missing)} that are no class; leave "
            "such samples out, or name a class for them"
        )
    try:
        return np.unique(labels)
    except TypeError as error:
        raise DTypeError(
            f"codes_2d: labels cannot be put in order ({error}); expected numbers or strings, one kind for all samples"
        ) from None


def activation_histograms(codes: Mapping[str, mg.Tensor | ArrayLike], bins: int = 50) -> Figure:
    """Show how often units take which values: of all activations of a model, the fraction in each bin.

    Parameters
    ----------
    codes : mapping of name to Tensor or array_like, shape (m, k)
        Codes of each model, one sample per row. All are counted in the same bins, from the least to the largest value.
    bins : int, at least 1

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    ShapeError, DTypeError, DataError
        There is no model, codes are not finite matrices, or bins is below 1.

    Examples
    --------
    >>> figure = activation_histograms({"sparse": [[0.0, 0.0], [0.0, 1.0]]}, bins=2)
    >>> figure.axes[0].patches[0].get_data().values.tolist()
    [0.75, 0.25]
    """
    arrays = named(codes, "activation_histograms", ("samples", "units"))
    bins = positive(bins, "bins", "activation_histograms")
    low, high = min(float(h.min()) for h in arrays.values()), max(float(h.max()) for h in arrays.values())
    if high - low <= 1e-9 * max(abs(low), abs(high)) + 1e-300:  # rounding is not worth bins of its own
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    figure, axes = single("activation of a hidden unit", "fraction of activations")
    for i, (name, h) in enumerate(arrays.items()):
        color, dashes = PALETTE[i % len(PALETTE)], DASHES[i % len(DASHES)]
        fractions = np.histogram(h, edges)[0] / h.size
        axes.stairs(fractions, edges, label=name, color=color, linestyle=dashes, linewidth=1.5)
    axes.set_yscale("log")
    axes.legend()
    return figure


def mean_activations(
    codes: Mapping[str, mg.Tensor | ArrayLike], rho: float | None = None, threshold: float = 0.0
) -> Figure:
    """Show the mean activation of every unit, sorted, and how many units are dead.

    The scale is logarithmic where all values are positive and reach over more than a factor of 3.

    Parameters
    ----------
    codes : mapping of name to Tensor or array_like, shape (m, k)
        Codes of each model, one sample per row.
    rho : float, optional
        The mean activation that was asked for, drawn as a dashed line.
    threshold : float, at least 0
        Up to which activation a unit counts as dead, see `autoencoders.features.dead_units`.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    ShapeError, DTypeError, DataError
        There is no model, codes are not finite matrices, or rho or threshold is not what is expected.

    Examples
    --------
    >>> figure = mean_activations({"sparse": [[0.25, 0.0, 0.5], [0.75, 0.0, 0.0]]}, rho=0.05)
    >>> [line.get_label() for line in figure.axes[0].lines]
    ['sparse: 1 of 3 dead', 'ρ = 0.05']
    """
    arrays = named(codes, "mean_activations", ("samples", "units"))
    if rho is not None and not np.isfinite(rho):
        raise DataError(f"mean_activations: got rho={rho!r}; expected a finite number")
    means = [np.sort(features.mean_activations(h))[::-1] for h in arrays.values()]
    dead = [int(features.dead_units(h, threshold).sum()) for h in arrays.values()]
    figure, axes = single("hidden unit, most active first", r"mean activation $\hat{\rho}$")
    for name, values, count in zip(arrays, means, dead, strict=True):
        axes.plot(range(1, len(values) + 1), values, label=f"{name}: {count} of {len(values)} dead")
    if rho is not None:
        axes.axhline(rho, label=f"ρ = {rho:g}", **REFERENCE)
    whole_numbers(axes)
    logarithmic_where_wide(axes, [*means, np.array([1.0 if rho is None else rho])])
    figure.legend(loc="outside upper center", ncols=2)  # above, where it hides nothing
    return figure


def saturation(codes: Mapping[str, mg.Tensor | ArrayLike], activation: str = "sigmoid", margin: float = 0.05) -> Figure:
    """Show for every unit, sorted, on what fraction of the samples it is at an end of its range.

    Parameters
    ----------
    codes : mapping of name to Tensor or array_like, shape (m, k)
        Codes of each model, one sample per row.
    activation, margin
        As for `autoencoders.features.saturation`.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    ShapeError, DTypeError, DataError
        There is no model, or as for `autoencoders.features.saturation`.

    Examples
    --------
    >>> figure = saturation({"plain": [[0.01, 0.5], [0.99, 0.97]]})
    >>> figure.axes[0].lines[0].get_label(), figure.axes[0].lines[0].get_ydata().tolist()
    ('plain: mean 0.75', [1.0, 0.5])
    """
    arrays = named(codes, "saturation", ("samples", "units"))
    fractions = {name: np.sort(features.saturation(h, activation, margin))[::-1] for name, h in arrays.items()}
    low, high = features.RANGES[activation]
    figure, axes = single("hidden unit, most saturated first", "saturated fraction of samples")
    for name, values in fractions.items():
        axes.plot(range(1, len(values) + 1), values, label=f"{name}: mean {values.mean():.2g}")
    whole_numbers(axes)
    axes.set_ylim(-0.02, 1.02)
    axes.legend(title=f"within {margin:g} of {low:g} or {high:g}")
    return figure
