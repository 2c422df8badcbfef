"""Reconstruction losses: how far x_hat is from x, summed over the features and averaged over the m samples.

Each is an ordinary expression on tensors and returns a scalar. The sum over features is the lecture's convention; it
makes the values comparable with the exact floors in `autoencoders.pca`.
"""

from __future__ import annotations

import numpy as np

import minigrad as mg
from minigrad.errors import DataError, DTypeError, ShapeError


def squared_error(x_hat: mg.Tensor, x: mg.Tensor) -> mg.Tensor:
    """Return (1/m) sum_i sum_j (x_hat_ij - x_ij)^2.

    Parameters
    ----------
    x_hat, x : Tensor, shape (m, ...)
        Reconstruction and target: the same shape and dtype, one sample per entry of the first axis.

    Returns
    -------
    Tensor, 0-d
        In squared units of x. Its derivative is 2 (x_hat - x) / m.

    Raises
    ------
    ShapeError
        The shapes differ, or there is no sample.
    DTypeError
        The dtypes differ, or are not floating.

    Notes
    -----
    Source: the lecture; the loss whose linear optimum is principal component analysis.

    Examples
    --------
    >>> import minigrad as mg
    >>> squared_error(mg.tensor([[1.0, 2.0], [0.0, 0.0]]), mg.tensor([[0.0, 0.0], [0.0, 1.0]])).item()
    3.0
    """
    _check_pair(x_hat, x, "squared_error")
    return mg.sum(mg.square(x_hat - x)) / len(x)


def binary_cross_entropy(x_hat: mg.Tensor, x: mg.Tensor) -> mg.Tensor:
    """Return -(1/m) sum_i sum_j [x_ij log x_hat_ij + (1 - x_ij) log(1 - x_hat_ij)], in nats.

    Parameters
    ----------
    x_hat, x : Tensor, shape (m, ...)
        Probabilities and targets, all in [0, 1]: the same shape and dtype, one sample per entry of the first axis.

    Returns
    -------
    Tensor, 0-d
        At least the entropy of x, which is 0 only where every x is 0 or 1.

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
    _check_pair(x_hat, x, "binary_cross_entropy")
    _check_targets(x, "binary_cross_entropy")
    outside = _outside_unit_interval(x_hat)
    if outside is not None:
        raise DataError(
            f"binary_cross_entropy: x_hat contains {outside:g}; expected probabilities in [0, 1]. Use a model with "
            "output='sigmoid', or binary_cross_entropy_with_logits(model.decode_logits(h), x)."
        )
    limits = np.finfo(x_hat.dtype)
    p = mg.clip(x_hat, float(limits.tiny), 1.0 - float(limits.epsneg))
    return -mg.sum(x * mg.log(p) + (1.0 - x) * mg.log1p(-p)) / len(x)


def binary_cross_entropy_with_logits(logits: mg.Tensor, x: mg.Tensor) -> mg.Tensor:
    """Return the cross entropy of sigmoid(logits) and x, from logits z: (1/m) sum_i sum_j softplus(z_ij) - x_ij z_ij.

    Parameters
    ----------
    logits : Tensor, shape (m, ...)
        The output before its sigmoid (`Autoencoder.decode_logits`), any real numbers.
    x : Tensor, shape (m, ...)
        Targets in [0, 1], of the same shape and dtype.

    Returns
    -------
    Tensor, 0-d
        In nats; finite for all finite logits. Its derivative is (sigmoid(z) - x) / m.

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
    _check_pair(logits, x, "binary_cross_entropy_with_logits")
    _check_targets(x, "binary_cross_entropy_with_logits")
    return mg.sum(mg.softplus(logits) - x * logits) / len(x)


def _check_pair(x_hat: mg.Tensor, x: mg.Tensor, caller: str) -> None:
    """Two tensors of one shape and floating dtype, with at least one sample."""
    for name, value in (("first", x_hat), ("second", x)):
        if not isinstance(value, mg.Tensor):
            raise DTypeError(
                f"{caller}: the {name} argument is {type(value).__name__}; expected a tensor, mg.tensor(...)"
            )
        if value.dtype.kind != "f":
            raise DTypeError(f"{caller}: the {name} argument is {value.dtype.name}; expected a floating dtype")
    if x_hat.shape != x.shape:  # broadcasting here would compare every sample with every other
        raise ShapeError(f"{caller}: got shapes {x_hat.shape} and {x.shape}; expected the same shape")
    if x.ndim == 0 or x.size == 0:
        raise ShapeError(f"{caller}: got shape {x.shape}; expected (m, ...) with at least one sample and feature")


def _check_targets(x: mg.Tensor, caller: str) -> None:
    outside = _outside_unit_interval(x)
    if outside is not None:
        raise DataError(
            f"{caller}: x contains {outside:g}; expected targets in [0, 1]. Rescale the data (pixels / 255), or use "
            "squared_error."
        )


def _outside_unit_interval(x: mg.Tensor) -> float | None:
    """A value of x outside [0, 1], if there is one. NaN is left for the loss to show."""
    if mg.tape.recording():  # a program does not read values
        return None
    values = x.detach()
    low, high = values.min().item(), values.max().item()
    return low if low < 0 else high if high > 1 else None
