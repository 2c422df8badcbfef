"""Figures of how a code moves with its input: norms and spectra of the Jacobian, and the picture in two dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

import minigrad as mg
from autoencoders import features
from autoencoders.figures.style import (
    PALETTE,
    check_named,
    logarithmic_where_wide,
    named,
    new_figure,
    plain_axes,
    single,
    whole_numbers,
)
from autoencoders.inputs import finite_array, positive
from minigrad.errors import DataError, ShapeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def jacobian_norms(norms: Mapping[str, mg.Tensor | ArrayLike]) -> Figure:
    """Compare encoders by the norms of their Jacobians: for every value, the fraction of samples up to it.

    Parameters
    ----------
    norms : mapping of name to Tensor or array_like, shape (m,)
        What `autoencoders.features.jacobian_norms` measured for each model.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    ShapeError, DTypeError, DataError
        There is no model, or norms are not finite and at least 0.

    Examples
    --------
    >>> jacobian_norms({"contractive": [0.5, 1.5]}).axes[0].lines[0].get_label()
    'contractive: mean 1'
    """
    arrays = named(norms, "jacobian_norms", ("samples",))
    for name, values in arrays.items():
        if values.min() < 0:
            raise DataError(f"jacobian_norms: {name!r} has a norm of {values.min():g}; expected norms of at least 0")
    figure, axes = single("norm of the encoder's Jacobian, ‖J(x)‖", "fraction of samples")
    for name, values in arrays.items():
        ends = np.concatenate([[0.0], np.sort(values)])
        axes.step(ends, np.arange(len(ends)) / len(values), where="post", label=f"{name}: mean {values.mean():.3g}")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.02)
    figure.legend(loc="outside upper center", ncols=2)  # above, where it hides nothing
    return figure


def singular_values(spectra: Mapping[str, mg.Tensor | ArrayLike]) -> Figure:
    """Compare encoders by the spectra of their Jacobians: mean over the samples, and the range of the middle 80 %.

    The scale is logarithmic where all values are positive and reach over more than a factor of 3, and
    ends at a ten-thousandth of the largest.

    Parameters
    ----------
    spectra : mapping of name to Tensor or array_like, shape (m, r)
        What `autoencoders.features.singular_values_along` measured for each model: largest first.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    ShapeError, DTypeError, DataError
        There is no model, or a spectrum is not finite, at least 0 and in descending order.

    Notes
    -----
    Source: S. Rifai et al., "Contractive auto-encoders: explicit invariance during feature extraction", ICML (2011),
    section 5, compares models in this way.

    Examples
    --------
    >>> figure = singular_values({"contractive": [[2.0, 0.5], [4.0, 0.1]]})
    >>> figure.axes[0].lines[0].get_ydata().tolist()
    [3.0, 0.3]
    """
    arrays = named(spectra, "singular_values", ("samples", "values"))
    for name, values in arrays.items():
        if values.min() < 0 or (np.diff(values, axis=1) > 0).any():
            raise DataError(
                f"singular_values: {name!r} is not a spectrum; expected values of at least 0, largest first in each row"
            )
    figure, axes = single("singular value, largest first", "singular value of J(x)")
    drawn = []
    for name, values in arrays.items():
        ranks, mean = np.arange(1, values.shape[1] + 1), values.mean(axis=0)
        low, high = np.quantile(values, [0.1, 0.9], axis=0)
        (line,) = axes.plot(ranks, mean, label=name)
        axes.fill_between(ranks, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        drawn += [mean, low, high]
    whole_numbers(axes)
    logarithmic_where_wide(axes, drawn)
    if axes.get_yscale() == "log":  # directions that are lost but for rounding are left out, and leave no margin above
        least, most = min(float(v.min()) for v in drawn), max(float(v.max()) for v in drawn)
        axes.set_ylim(max(least, 1e-4 * most) / 1.3, most * 1.3)
    axes.legend(title="mean, and the middle 80 %")
    return figure


def contractive_picture(
    models: Mapping[str, Any],
    X: mg.Tensor | ArrayLike,
    tangents: mg.Tensor | ArrayLike,
    normals: mg.Tensor | ArrayLike,
    grid: int = 15,
) -> Figure:
    """Show what autoencoders do around a curve of data in the plane, a column for each.

    Above, the data and arrays of arrows r(x) - x: where a reconstruction leads from x. Below, how fast the code moves
    when the data move along the curve, |J t|, and across it, |J n|: a contractive code follows the first and ignores
    the second.

    Parameters
    ----------
    models : mapping of name to Module
        Autoencoders of data in two dimensions, with a method encode.
    X : Tensor or array_like, shape (m, 2)
    tangents, normals : Tensor or array_like, shape (m, 2)
        The unit vectors along and across the curve at every sample.
    grid : int, at least 2
        How many arrows stand in a row.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    ShapeError, DTypeError, DataError
        There is no model, or X, tangents and normals do not fit or are not finite, or are no unit vectors.

    Notes
    -----
    All arrows are shortened by the one factor in the title, so that none is longer than the distance of three.
    Source of the field: G. Alain and Y. Bengio, "What regularized auto-encoders learn from the data-generating
    distribution", JMLR 15 (2014), whose theorem 1 relates r(x) - x to the gradient of the log-density.

    Examples
    --------
    >>> from autoencoders import Autoencoder
    >>> angles = np.linspace(0.0, 6.0, 20)
    >>> circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    >>> along = np.stack([-np.sin(angles), np.cos(angles)], axis=1)
    >>> len(contractive_picture({"untrained": Autoencoder((2, 5))}, circle, along, normals=circle).axes)
    2
    """
    check_named(models, "contractive_picture")
    grid = positive(grid, "grid", "contractive_picture")
    x = finite_array(X, "contractive_picture", "X", ("samples", "2"))
    if x.shape[1] != 2 or grid < 2:
        raise ShapeError(
            f"contractive_picture: got X of shape {x.shape} and grid={grid}; expected (m, 2), and 2 or more"
        )
    centre, reach = (x.max(axis=0) + x.min(axis=0)) / 2, 0.65 * max(float(np.ptp(x, axis=0).max()), 1e-12)
    ticks = np.linspace(-reach, reach, grid)
    points = centre + np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    fields = {name: features.reconstructions(model, points) - points for name, model in models.items()}
    along = {name: features.directional_norms(model.encode, x, tangents) for name, model in models.items()}
    across = {name: features.directional_norms(model.encode, x, normals) for name, model in models.items()}

    longest = max(float(np.linalg.norm(f, axis=1).max()) for f in fields.values())
    factor = min(1.0, 3 * (ticks[1] - ticks[0]) / max(longest, 1e-300))
    edges = np.histogram_bin_edges([0.0, *(v.max() for norms in (along, across) for v in norms.values())], 30)
    figure = new_figure((max(2.4 * len(models), 3.2), 4.2))
    rows = figure.subplots(2, len(models), squeeze=False, sharex="row", sharey="row", height_ratios=(2, 1))
    for name, upper, lower in zip(models, rows[0], rows[1], strict=True):
        plain_axes(upper, "$x_1$", "$x_2$")
        upper.set_title(str(name), fontsize="medium")
        upper.scatter(*x.T, s=4, color=PALETTE[1], linewidths=0)
        upper.quiver(
            *points.T, *(factor * fields[name]).T, angles="xy", scale_units="xy", scale=1, width=0.005, color="0.25"
        )
        upper.set_aspect("equal")
        plain_axes(lower, "speed of the code", "samples")
        for label, norms, color, dashes in (
            ("along", along[name], PALETTE[0], "-"),
            ("across", across[name], PALETTE[2], "--"),
        ):
            counts = np.histogram(norms, edges)[0]
            lower.stairs(counts, edges, label=label, color=color, linestyle=dashes, linewidth=1.5)
    for axes in rows[:, 1:].flat:
        axes.set_ylabel("")
    figure.suptitle(f"arrows: r(x) − x, × {factor:.2g}", fontsize="medium")
    rows[1, -1].legend()
    return figure
