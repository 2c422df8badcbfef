"""Penalties to add to a reconstruction loss: on the weights, and two ways to ask for sparse codes.

None contains its strength: write ``0.5 * lam * l2(model)`` or ``beta * kl_sparsity(h, rho)`` in the objective.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

import minigrad as mg
from autoencoders.inputs import floating, number
from minigrad import nn
from minigrad.errors import DataError, ShapeError


def l2(parameters: nn.Module | mg.Tensor | Iterable[mg.Tensor]) -> mg.Tensor:
    """Return the sum of the squares of all weights.

    Parameters
    ----------
    parameters : Module, Tensor, or iterable of Tensor
        Of a module, its parameters of two or more dimensions: biases are not decayed, and weights that layers share
        count once. Tensors given by themselves count whatever their shape, and as often as they are given.

    Returns
    -------
    Tensor, 0-d
        There is no factor 1/2: its derivative is 2 W. For lam W in the gradient, add ``0.5 * lam * l2(model)``.

    Raises
    ------
    DataError
        There is no weight.

    Notes
    -----
    Source: the lecture (weight decay); A. Krogh and J. Hertz, "A simple weight decay can improve generalization",
    NIPS 4 (1991).

    Examples
    --------
    >>> import minigrad as mg
    >>> l2([mg.tensor([[1.0, 2.0]]), mg.tensor([[3.0]])]).item()
    14.0
    """
    weights: list[mg.Tensor]
    if isinstance(parameters, nn.Module):
        weights = [p for p in parameters.parameters() if p.ndim >= 2]
    else:
        weights = [parameters] if isinstance(parameters, mg.Tensor) else list(parameters)
    if not weights:
        raise DataError("l2: got no weights; expected a module with weight matrices, a tensor or several")
    total = mg.sum(mg.square(weights[0]))
    for weight in weights[1:]:
        total = total + mg.sum(mg.square(weight))
    return total


def decoder_norm(W: mg.Tensor) -> mg.Tensor:
    """Return sum_l (|d_l| - 1)^2, where d_l is what hidden unit l adds to the reconstruction.

    An L1 penalty on codes can be cheated: halve the code, double the decoder. Directions of norm 1 close that way. The
    other common way, an L1 penalty in units of the reconstruction, is ``l1(h * mg.norm(W, axis=1))``.

    Parameters
    ----------
    W : Tensor, shape (k, n)
        The weight of the last layer; row l belongs to unit l, such as ``model.decoder_weights[-1]``.

    Returns
    -------
    Tensor, 0-d
        Its derivative is 2 (1 - 1/|d_l|) d_l, and 0 for a row of zeros.

    Raises
    ------
    ShapeError, DTypeError
        W is not a floating matrix with at least one entry.

    Notes
    -----
    Source: B. Olshausen and D. Field, "Emergence of simple-cell receptive field properties by learning a sparse code
    for natural images", Nature 381 (1996), who rescale the directions after each step.

    Examples
    --------
    >>> import minigrad as mg
    >>> decoder_norm(mg.tensor([[3.0, 4.0], [1.0, 0.0]])).item()
    16.0
    """
    _check_weight(W, "decoder_norm")
    return mg.sum(mg.square(mg.norm(W, axis=1) - 1.0))


def orthogonality(W: mg.Tensor) -> mg.Tensor:
    """Return |W^T W - I|^2 (Frobenius): zero exactly where the columns of W are orthonormal.

    Parameters
    ----------
    W : Tensor, shape (n, k)
        A weight whose columns belong to hidden units. For k > n the least value is k - n; take W.mT there.

    Returns
    -------
    Tensor, 0-d
        Its derivative is 4 W (W^T W - I).

    Raises
    ------
    ShapeError, DTypeError
        W is not a floating matrix with at least one entry.

    Notes
    -----
    The optimum of a linear autoencoder with tied weights is orthonormal without being asked to be (the lecture, PCA);
    this asks for it elsewhere. Source: N. Bansal, X. Chen and Z. Wang, "Can we gain more from orthogonality
    regularizations in training deep networks?", NeurIPS 31 (2018), equation 2.

    Examples
    --------
    >>> import minigrad as mg
    >>> orthogonality(mg.tensor([[1.0, 1.0], [0.0, 1.0]])).item()
    3.0
    """
    _check_weight(W, "orthogonality")
    identity = mg.tensor(np.eye(W.shape[1], dtype=W.dtype), device=W.device)
    return mg.sum(mg.square(W.mT @ W - identity))


def l1(h: mg.Tensor) -> mg.Tensor:
    """Return (1/m) sum_i sum_l |h_il|: the L1 norm of a code, averaged over the samples.

    Parameters
    ----------
    h : Tensor, shape (m, k) or (m, ...)
        Codes, one sample per entry of the first axis.

    Returns
    -------
    Tensor, 0-d
        Its derivative is sign(h) / m, and 0 where h = 0.

    Raises
    ------
    ShapeError, DTypeError
        h has no samples, or is not a floating tensor.

    Notes
    -----
    Source: B. Olshausen and D. Field, "Emergence of simple-cell receptive field properties by learning a sparse code
    for natural images", Nature 381 (1996).

    Examples
    --------
    >>> import minigrad as mg
    >>> l1(mg.tensor([[1.0, -2.0], [0.0, 1.0]])).item()
    2.0
    """
    _check_codes(h, "l1")
    return mg.sum(mg.abs(h)) / len(h)


def kl_sparsity(h: mg.Tensor, rho: float) -> mg.Tensor:
    """Return sum_l KL(rho || rho_hat_l), where rho_hat_l is the mean activation of hidden unit l over the batch.

    KL(rho || r) = rho log(rho / r) + (1 - rho) log((1 - rho) / (1 - r)), in nats.

    Parameters
    ----------
    h : Tensor, shape (m, k) or (m, ...)
        Activations in [0, 1], such as those of a sigmoid layer, one sample per entry of the first axis.
    rho : float, 0 < rho < 1
        The mean activation that is wanted.

    Returns
    -------
    Tensor, 0-d
        Zero exactly where every rho_hat_l is rho. With respect to rho_hat its derivative is
        -rho / rho_hat + (1 - rho) / (1 - rho_hat).

    Raises
    ------
    ShapeError, DTypeError
        h has no samples, or is not a floating tensor.
    DataError
        rho is not inside (0, 1), or a mean activation is not in [0, 1].

    Notes
    -----
    rho_hat is a mean over the batch, so the penalty couples the samples and batches should not be tiny. A unit that is
    0 (or 1) on the whole batch counts as the smallest normal number (the largest below 1): the penalty stays finite,
    and no gradient flows to that unit. rho is held in the same range.

    Source: A. Ng, "Sparse autoencoder", CS294A lecture notes (2011); H. Lee, C. Ekanadham and A. Ng, "Sparse deep
    belief net model for visual area V2", NIPS 20 (2007).

    Examples
    --------
    >>> import minigrad as mg
    >>> round(kl_sparsity(mg.tensor([[0.25], [0.75]]), rho=0.005).item(), 5)
    0.66167
    """
    rho = number(rho, "rho", "kl_sparsity", high=1.0, inside=True)
    _check_codes(h, "kl_sparsity")
    rho_hat = mg.mean(h, axis=0)
    means = rho_hat.detach()
    if mg.modes.checks_values() and (means.min().item() < 0 or means.max().item() > 1):
        raise DataError(
            f"kl_sparsity: the mean activations reach from {means.min().item():g} to {means.max().item():g}; expected "
            "them in [0, 1]. Use activation='sigmoid', or l1(h) for codes of another range."
        )
    limits = np.finfo(h.dtype)
    low, high = float(limits.tiny), 1.0 - float(limits.epsneg)
    rho, rho_hat = min(max(rho, low), high), mg.clip(rho_hat, low, high)
    change = rho_hat - rho
    on = _log_ratio(change / rho, rho_hat / rho)
    off = _log_ratio(-change / (1 - rho), (1 - rho_hat) / (1 - rho))
    return -mg.sum(rho * on + (1 - rho) * off)


def _log_ratio(change: mg.Tensor, ratio: mg.Tensor) -> mg.Tensor:
    """Return log(ratio), where ratio = 1 + change; from the change where that is small, so that its digits are kept."""
    near = mg.abs(change) < 0.5
    return mg.where(near, mg.log1p(mg.where(near, change, 0.0)), mg.log(mg.where(near, 1.0, ratio)))


def _check_codes(h: mg.Tensor, caller: str) -> None:
    floating(h, caller, "codes")
    if h.ndim < 2 or h.size == 0:
        raise ShapeError(f"{caller}: got shape {h.shape}; expected (m, k) with at least one sample and one hidden unit")


def _check_weight(W: mg.Tensor, caller: str) -> None:
    floating(W, caller, "the weight of a layer")
    if W.ndim != 2 or W.size == 0:
        raise ShapeError(f"{caller}: got shape {W.shape}; expected a matrix with at least one row and one column")
