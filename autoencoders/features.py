"""What hidden units have learned."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import minigrad as mg
from minigrad.errors import DataError, DTypeError, ShapeError


def max_activation_inputs(W: mg.Tensor | ArrayLike) -> NDArray[Any]:
    """Return, for every hidden unit l, the input of norm 1 that excites it most: W_l / ||W_l||.

    Parameters
    ----------
    W : Tensor or array_like, shape (n, k)
        The weights of a first layer; column l belongs to unit l.

    Returns
    -------
    ndarray, shape (n, k)
        In the dtype of W (float64 for integers). Column l maximises W_l . x over ||x|| <= 1, with value ||W_l||. A
        unit without weights prefers no input: a zero column stays zero.

    Raises
    ------
    ShapeError, DTypeError, DataError
        W is not a matrix, not of real numbers, or not finite.

    Notes
    -----
    Source: the lecture; by the Cauchy-Schwarz inequality. A monotone activation does not move the maximum.

    Examples
    --------
    >>> max_activation_inputs([[3.0, 0.0], [4.0, 0.0]]).tolist()
    [[0.6, 0.0], [0.8, 0.0]]
    """
    weights = W.detach().numpy() if isinstance(W, mg.Tensor) else np.asarray(W)
    if weights.dtype.kind not in "biuf":
        raise DTypeError(f"max_activation_inputs: W has dtype {weights.dtype}; expected real numbers")
    if weights.ndim != 2:
        raise ShapeError(f"max_activation_inputs: W has shape {weights.shape}; expected (inputs, hidden units)")
    if not np.isfinite(weights).all():
        raise DataError("max_activation_inputs: W contains NaN or infinity; did the training diverge?")
    weights = weights if weights.dtype.kind == "f" else weights.astype(np.float64)
    largest = np.abs(weights).max(axis=0, initial=0)
    scaled = weights / np.where(largest > 0, largest, 1)  # the squares of tiny or huge weights would leave the range
    norms = np.sqrt((scaled**2).sum(axis=0))
    return np.asarray(scaled / np.where(norms > 0, norms, 1), dtype=weights.dtype)
