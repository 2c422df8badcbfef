"""Curves and bars: training, penalties, sweeps, and errors against the exact floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

import minigrad as mg
from autoencoders import pca
from autoencoders.figures.style import (
    CLASS_MARKERS,
    MARKERS,
    REFERENCE,
    check_named,
    logarithmic_where_wide,
    named,
    single,
    whole_numbers,
)
from autoencoders.inputs import finite_array, positive
from autoencoders.regularizers import kl_sparsity
from minigrad.errors import DataError, ShapeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curves(series: Mapping[str, ArrayLike], ylabel: str, floor: tuple[str, float] | None = None) -> Figure:
    """Plot values over epochs, one line for each entry, and a dashed line at a known lower bound.

    The scale is logarithmic where all values are positive and reach over more than a factor of 3.

    Parameters
    ----------
    series : mapping of name to array_like, shape (epochs,)
        Such as the terms of a `History`; they may differ in length.
    ylabel : str
        What is plotted, with its unit.
    floor : (name, value), optional

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    ShapeError, DTypeError, DataError
        There is no series, or one is not of finite real numbers.

    Examples
    --------
    >>> curves({"loss": [3.0, 2.0]}, "error", floor=("PCA", 1.5)).axes[0].get_ylabel()
    'error'
    """
    lines = named(series, "curves", ("epochs",))
    bounds = [] if floor is None else [finite_array([floor[1]], "curves", "floor", ("bounds",))]
    figure, axes = single("epoch", ylabel)
    for i, (name, values) in enumerate(lines.items()):
        marker = CLASS_MARKERS[i % len(CLASS_MARKERS)]  # dashes come again before markers and colours do
        apart = -(-len(values) // 8)
        where = (i * apart // len(lines), apart)  # each line elsewhere, so that close lines do not hide each other's
        axes.plot(range(1, len(values) + 1), values, label=name, marker=marker, markevery=where, markersize=4)
    if floor is not None:
        axes.axhline(floor[1], label=floor[0], **REFERENCE)
    whole_numbers(axes)
    logarithmic_where_wide(axes, [*lines.values(), *bounds])
    axes.legend()
    return figure


def bars(values: Mapping[str, float], ylabel: str) -> Figure:
    """Compare a few numbers, with the value written above each bar.

    Parameters
    ----------
    values : mapping of name to float
    ylabel : str
        What is compared, with its unit.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    ShapeError, DTypeError, DataError
        There is no value, or one is not a finite real number.

    Examples
    --------
    >>> len(bars({"a": 1.0, "b": 2.0}, "error").axes[0].patches)
    2
    """
    heights = named(values, "bars", ())
    figure, axes = single("", ylabel)
    drawn = axes.bar(range(len(heights)), [float(v) for v in heights.values()], tick_label=list(heights))
    axes.bar_label(drawn, fmt="%.3g")
    axes.margins(y=0.12)  # room for the label of the highest bar
    for label in axes.get_xticklabels():  # slanted, and ending below their bars: the next may be as long
        label.set(rotation=30, rotation_mode="anchor", horizontalalignment="right")
    return figure


def kl_curve(rho: float | Sequence[float]) -> Figure:
    """Plot the sparsity penalty KL(rho || rho_hat) of one unit against its mean activation rho_hat, a line per rho.

    Parameters
    ----------
    rho : float or sequence of float
        Each strictly between 0 and 1.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    DataError
        A rho is not inside (0, 1), or there is none.

    Notes
    -----
    Drawn by `autoencoders.kl_sparsity` itself, at rho_hat = 0.002, 0.006, ..., 0.998 and at rho, where it is 0.

    Examples
    --------
    >>> [line.get_label() for line in kl_curve([0.05, 0.2]).axes[0].lines]
    ['ρ = 0.05', 'ρ = 0.2']
    """
    targets = [float(r) for r in np.atleast_1d(finite_array(np.ravel(rho), "kl_curve", "rho", ("targets",)))]
    for target in targets:
        if not 0 < target < 1:
            raise DataError(f"kl_curve: got rho={target:g}; expected mean activations strictly between 0 and 1")
    figure, axes = single(r"mean activation of a unit, $\hat{\rho}$", r"penalty KL($\rho\,\|\,\hat{\rho}$) (nats)")
    for target, marker in zip(targets, _markers(len(targets)), strict=True):
        grid = np.unique([*np.linspace(0.002, 0.998, 250), target])
        penalty = [kl_sparsity(mg.tensor([[r]], "float64", "cpu"), target).item() for r in grid]
        at_target = [int(np.searchsorted(grid, target))]
        axes.plot(grid, penalty, label=f"ρ = {target:g}", marker=marker, markevery=at_target, clip_on=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def error_against_floor(
    X: mg.Tensor | ArrayLike | pca.PrincipalComponents, errors: Mapping[str, Mapping[int, float]]
) -> Figure:
    """Plot the squared error of models against the width k of their code, above the exact floor of PCA on X.

    Below the floor lies only what has a decoder of more than one affine layer or a nonlinear output, or was measured
    on other data.

    Parameters
    ----------
    X : Tensor or array_like, shape (m, n), or PrincipalComponents
        The data that the errors were measured on.
    errors : mapping of name to mapping of width to error
        Squared error per sample, as of `squared_error`: ``{"tied": {2: 31.0, 10: 14.2}}``.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    ShapeError, DTypeError, DataError
        X is not a finite matrix; there is nothing to draw; a width is not a positive integer, or an error not a finite
        number of at least 0.

    Notes
    -----
    The floor is sum_{i>k} s_i^2 / m (`autoencoders.pca.reconstruction_floor`), drawn for every k up to the largest
    width, as far as it is positive. The scale is logarithmic, but not where an error is 0, as of a model that
    reconstructs exactly, or where all values are within a factor of 3.

    Examples
    --------
    >>> figure = error_against_floor(np.diag([3.0, 2.0, 1.0]), {"linear": {1: 2.0, 2: 0.5}})
    >>> [line.get_label() for line in figure.axes[0].lines]
    ['PCA: floor of affine decoders', 'linear']
    """
    check_named(errors, "error_against_floor")
    measured = {}
    for name, by_width in errors.items():
        check_named(by_width, f"error_against_floor: {name!r}")
        widths = sorted(positive(k, "width", f"error_against_floor: {name!r}") for k in by_width)
        values = finite_array([by_width[k] for k in widths], "error_against_floor", repr(name), ("widths",))
        if values.min() < 0:
            raise DataError(f"error_against_floor: {name!r} has an error of {values.min():g}; expected at least 0")
        measured[name] = widths, values
    variance = pca.explained_variance(X.detach().numpy() if isinstance(X, mg.Tensor) else X)
    floor = np.cumsum(variance[::-1])[::-1][1:]  # at k = 1, 2, ...: from the small end, so that small sums are exact
    shown = (floor > 1e-12 * variance.sum()) & (np.arange(len(floor)) < max(w[-1] for w, _ in measured.values()))
    figure, axes = single("width k of the code", "squared error per sample")
    axes.plot(1 + np.flatnonzero(shown), floor[shown], label="PCA: floor of affine decoders", **REFERENCE)
    for i, (name, (widths, values)) in enumerate(measured.items()):
        # no line between, which would cross the floor; outlines, one inside the other where errors are equal
        outline: dict[str, Any] = {"marker": MARKERS[i % len(MARKERS)], "fillstyle": "none"}
        axes.plot(widths, values, label=name, linestyle="", markersize=min(2 + 3 * (len(measured) - i), 14), **outline)
    floors = [floor[shown]] if shown.any() else []  # of samples that are all alike there is none
    logarithmic_where_wide(axes, [*floors, *(v for _, v in measured.values())])
    whole_numbers(axes)
    axes.legend()
    return figure


def sweep(
    values: ArrayLike, results: Mapping[str, ArrayLike], xlabel: str, ylabel: str, logarithmic: bool = False
) -> Figure:
    """Plot results against a setting that was varied, with the range over repetitions.

    Parameters
    ----------
    values : array_like, shape (v,)
        The settings, such as noise levels or strengths of a penalty.
    results : mapping of name to array_like, shape (v,) or (v, repetitions)
        Of several repetitions (seeds) the mean is drawn, with a bar from the smallest to the largest.
    xlabel, ylabel : str
    logarithmic : bool
        Of the axis of settings.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    ShapeError, DTypeError, DataError
        Results and settings do not fit together or are not finite; or a setting is not positive on a logarithmic axis.

    Examples
    --------
    >>> figure = sweep([0.1, 0.5], {"denoising": [[4.0, 4.2], [6.0, 6.4]]}, "masked fraction", "error")
    >>> figure.axes[0].lines[0].get_ydata().round(6).tolist()
    [4.1, 6.2]
    """
    settings = finite_array(values, "sweep", "values", ("settings",))
    if logarithmic and settings.min() <= 0:
        raise DataError(f"sweep: a logarithmic axis cannot show the setting {settings.min():g}; expected positive ones")
    check_named(results, "sweep")
    repeated = {}
    for name, result in results.items():
        axes_of = ("settings", "repetitions")[: max(1, min(np.ndim(result), 2))]
        found = finite_array(result, "sweep", repr(name), axes_of)
        if len(found) != len(settings):
            raise ShapeError(f"sweep: {name!r} has {len(found)} results for {len(settings)} settings; expected as many")
        repeated[name] = found.reshape(len(found), -1)
    order = np.argsort(settings, kind="stable")
    figure, axes = single(xlabel, ylabel)
    for (name, found), marker in zip(repeated.items(), _markers(len(repeated)), strict=True):
        mean = found.mean(axis=1)
        ranges = np.clip([mean - found.min(axis=1), found.max(axis=1) - mean], 0, None)
        axes.errorbar(settings[order], mean[order], ranges[:, order], label=name, marker=marker, capsize=3)
    if logarithmic:
        axes.set_xscale("log")
    axes.legend()
    return figure


def _markers(count: int) -> list[str]:
    return [MARKERS[i % len(MARKERS)] for i in range(count)]
