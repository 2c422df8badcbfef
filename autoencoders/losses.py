"""Reconstruction losses: how far x_hat is from x, summed over the features and averaged over the m samples.

Each is an ordinary expression on tensors and returns a scalar. The data x may also be an array, which is converted to
the dtype and device of the reconstruction. The sum over features is the lecture's convention; it makes the values
comparable with the exact floors in `autoencoders.pca`. Every loss takes weights for its entries, such
as those of `emphasis` for a denoising autoencoder.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

import minigrad as mg
from autoencoders.inputs import data_tensor, number
from minigrad.errors import DataError, DTypeError, ShapeError


def squared_error(x_hat: mg.Tensor, x: mg.Tensor | ArrayLike, weights: mg.Tensor | None = None) -> mg.Tensor:
    """Return (1/m) sum_i sum_j w_ij (x_hat_ij - x_ij)^2, with w = 1 unless weights are given.

    Parameters
    ----------
    x_hat : Tensor, shape (m, ...)
        The reconstruction, one sample per entry of the first axis.
    x : Tensor or array_like, shape (m, ...)
        The target, of the same shape. A tensor must have the dtype of x_hat; an array is converted to it, and to the
        device of x_hat.
    weights : Tensor, optional
        Of the dtype of x_hat, and of its shape or one that broadcasts to it.

    Returns
    -------
    Tensor, 0-d
        In squared units of x. Its derivative is 2 w (x_hat - x) / m.

    Raises
    ------
    ShapeError
        The shapes differ, there is no sample, or the weights do not broadcast to x.
    DTypeError
        The dtypes of two tensors differ, or are not floating; or x_hat is no tensor.

    Notes
    -----
    Source: the lecture; the loss whose linear optimum is principal component analysis.

    Examples
    --------
    >>> import minigrad as mg
    >>> squared_error(mg.tensor([[1.0, 2.0], [0.0, 0.0]]), mg.tensor([[0.0, 0.0], [0.0, 1.0]])).item()
    3.0
    """
    x = _check_pair(x_hat, x, "squared_error")
    return _per_sample(mg.square(x_hat - x), weights, "squared_error")


def huber(
    x_hat: mg.Tensor, x: mg.Tensor | ArrayLike, delta: float = 1.0, weights: mg.Tensor | None = None
) -> mg.Tensor:
    """Return (1/m) sum_i sum_j w_ij H(x_hat_ij - x_ij), where H is a parabola that goes over into straight lines.

    H(r) = r^2 / 2 for |r| <= delta, else delta (|r| - delta / 2): an outlier pulls no harder than at distance delta.

    Parameters
    ----------
    x_hat : Tensor, shape (m, ...)
    x : Tensor or array_like, shape (m, ...)
        As for `squared_error`.
    delta : float above 0
        In units of x.
    weights : Tensor, optional
        As for `squared_error`.

    Returns
    -------
    Tensor, 0-d
        Half the squared error where all residuals are small. Its derivative is w clip(x_hat - x, -delta, delta) / m.

    Raises
    ------
    ShapeError, DTypeError
        As for `squared_error`.
    DataError
        delta is not a positive number.

    Notes
    -----
    Source: P. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964).

    Examples
    --------
    >>> import minigrad as mg
    >>> huber(mg.tensor([[1.0, 10.0]]), mg.tensor([[0.0, 0.0]])).item()
    10.0
    """
    x = _check_pair(x_hat, x, "huber")
    return _per_sample(mg.huber(x_hat - x, number(delta, "delta", "huber", inside=True)), weights, "huber")


def binary_cross_entropy(x_hat: mg.Tensor, x: mg.Tensor | ArrayLike, weights: mg.Tensor | None = None) -> mg.Tensor:
    """Return -(1/m) sum_i sum_j w_ij [x_ij log x_hat_ij + (1 - x_ij) log(1 - x_hat_ij)], in nats.

    Parameters
    ----------
    x_hat : Tensor, shape (m, ...)
        Probabilities, in [0, 1].
    x : Tensor or array_like, shape (m, ...)
        Targets in [0, 1], as for `squared_error`.
    weights : Tensor, optional
        As for `squared_error`.

    Returns
    -------
    Tensor, 0-d
        Without weights, at least the entropy of x, which is 0 only where every x is 0 or 1.

    Raises
    ------
    ShapeError, DTypeError
        As for `squared_error`.
    DataError
        A value of x or x_hat lies outside [0, 1].

    Notes
    -----
    A probability of exactly 0 counts as the smallest normal number of its dtype and one of exactly 1 as the largest
    number below 1, so the loss is finite: at most 87 nats per value for x_hat = 0 and 17 for x_hat = 1 in float32. No
    gradient flows from these values: a unit that saturated on the wrong side stays there. To train, use
    `binary_cross_entropy_with_logits`, which has neither limit.

    Source: the lecture; P. Vincent et al., "Stacked denoising autoencoders", JMLR 11 (2010), section 2.2.

    Examples
    --------
    >>> import minigrad as mg
    >>> round(binary_cross_entropy(mg.tensor([[0.5, 0.5]]), mg.tensor([[1.0, 0.0]])).item(), 4)
    1.3863
    """
    x = _check_pair(x_hat, x, "binary_cross_entropy")
    _check_targets(x, "binary_cross_entropy")
    outside = _outside_unit_interval(x_hat)
    if outside is not None:
        raise DataError(
            f"binary_cross_entropy: x_hat contains {outside:g}; expected probabilities in [0, 1]. Use a model with "
            "output='sigmoid', or binary_cross_entropy_with_logits(model.decode_logits(h), x)."
        )
    limits = np.finfo(x_hat.dtype)
    p = mg.clip(x_hat, float(limits.tiny), 1.0 - float(limits.epsneg))
    return _per_sample(-(x * mg.log(p) + (1.0 - x) * mg.log1p(-p)), weights, "binary_cross_entropy")


def binary_cross_entropy_with_logits(
    logits: mg.Tensor, x: mg.Tensor | ArrayLike, weights: mg.Tensor | None = None
) -> mg.Tensor:
    """Return the cross entropy of sigmoid(z) and x from logits z: (1/m) sum_i sum_j w_ij (softplus(z_ij) - x_ij z_ij).

    Parameters
    ----------
    logits : Tensor, shape (m, ...)
        The output before its sigmoid (`Autoencoder.decode_logits`), any real numbers.
    x : Tensor or array_like, shape (m, ...)
        Targets in [0, 1], as for `squared_error`.
    weights : Tensor, optional
        As for `squared_error`.

    Returns
    -------
    Tensor, 0-d
        In nats; finite for all finite logits. Its derivative is w (sigmoid(z) - x) / m.

    Raises
    ------
    ShapeError, DTypeError
        As for `squared_error`.
    DataError
        A value of x lies outside [0, 1].

    Notes
    -----
    Source: -x log s(z) - (1 - x) log(1 - s(z)) with log s(z) = z - softplus(z) and log(1 - s(z)) = -softplus(z).

    Examples
    --------
    >>> import minigrad as mg
    >>> round(binary_cross_entropy_with_logits(mg.tensor([[0.0, 1000.0]]), mg.tensor([[1.0, 1.0]])).item(), 4)
    0.6931
    """
    x = _check_pair(logits, x, "binary_cross_entropy_with_logits")
    _check_targets(x, "binary_cross_entropy_with_logits")
    return _per_sample(mg.softplus(logits) - x * logits, weights, "binary_cross_entropy_with_logits")


def emphasis(x_tilde: mg.Tensor, x: mg.Tensor | ArrayLike, corrupted: float, clean: float) -> mg.Tensor:
    """Return weights for a loss: `corrupted` where noise changed an entry of x, `clean` where it did not.

    Parameters
    ----------
    x_tilde : Tensor, shape (m, ...)
        The corrupted samples.
    x : Tensor or array_like, shape (m, ...)
        The clean samples. A tensor must have the dtype of x_tilde; an array is converted to it.
    corrupted, clean : float, at least 0
        alpha and beta in the source; equal ones change nothing, and clean=0 asks for the lost entries only.

    Returns
    -------
    Tensor, shape (m, ...)

    Raises
    ------
    ShapeError, DTypeError
        As for `squared_error`.
    DataError
        A weight is negative or not finite.

    Notes
    -----
    An entry that noise replaced by the value that it had (a black pixel masked to black) counts as clean: the model
    sees the truth there.

    Source: P. Vincent et al., "Stacked denoising autoencoders", JMLR 11 (2010), section 3.5, emphasised denoising.

    Examples
    --------
    >>> import minigrad as mg
    >>> x, x_tilde = mg.tensor([[1.0, 2.0]]), mg.tensor([[0.0, 2.0]])
    >>> emphasis(x_tilde, x, corrupted=1.0, clean=0.1)
    tensor([[1. , 0.1]])
    """
    x = _check_pair(x_tilde, x, "emphasis")
    alpha, beta = number(corrupted, "corrupted", "emphasis"), number(clean, "clean", "emphasis")
    return mg.where(x_tilde != x, mg.full((), alpha, x.dtype, x.device), beta)


def _per_sample(errors: mg.Tensor, weights: mg.Tensor | None, caller: str) -> mg.Tensor:
    """Return the sum of the weighted errors of all entries, per sample."""
    if weights is not None:
        if not isinstance(weights, mg.Tensor):
            raise DTypeError(f"{caller}: weights are {type(weights).__name__}; expected a tensor, mg.tensor(...)")
        fits = weights.ndim <= errors.ndim and all(
            a in (1, b) for a, b in zip(weights.shape[::-1], errors.shape[::-1], strict=False)
        )
        if not fits:
            raise ShapeError(f"{caller}: got weights of shape {weights.shape}; expected one that fits {errors.shape}")
        errors = errors * weights
    return mg.sum(errors) / len(errors)


def _check_pair(x_hat: mg.Tensor, x: mg.Tensor | ArrayLike, caller: str) -> mg.Tensor:
    """Return x as a tensor: the two have one shape and floating dtypes, with at least one sample."""
    if not isinstance(x_hat, mg.Tensor):
        raise DTypeError(f"{caller}: the first argument is {type(x_hat).__name__}; expected a tensor, mg.tensor(...)")
    x = data_tensor(x, caller, "the second argument", like=x_hat if x_hat.dtype.kind == "f" else None)
    for name, value in (("first", x_hat), ("second", x)):
        if value.dtype.kind != "f":
            raise DTypeError(f"{caller}: the {name} argument is {value.dtype.name}; expected a floating dtype")
    if x_hat.shape != x.shape:  # broadcasting here would compare every sample with every other
        raise ShapeError(f"{caller}: got shapes {x_hat.shape} and {x.shape}; expected the same shape")
    if x.ndim == 0 or x.size == 0:
        raise ShapeError(f"{caller}: got shape {x.shape}; expected (m, ...) with at least one sample and feature")
    return x


def _check_targets(x: mg.Tensor, caller: str) -> None:
    outside = _outside_unit_interval(x)
    if outside is not None:
        raise DataError(
            f"{caller}: x contains {outside:g}; expected targets in [0, 1]. Rescale the data (pixels / 255), or use "
            "squared_error."
        )


def _outside_unit_interval(x: mg.Tensor) -> float | None:
    """A value of x outside [0, 1], if there is one. NaN is left for the loss to show."""
    if not mg.modes.checks_values():
        return None
    values = x.detach()
    low, high = values.min().item(), values.max().item()
    return low if low < 0 else high if high > 1 else None
