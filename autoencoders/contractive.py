"""The contractive penalty: how much an encoder's output moves with its input, the squared norm of its Jacobian."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from autoencoders.models import Autoencoder
from minigrad.errors import DataError, ShapeError

METHODS = ("auto", "closed", "exact", "hutchinson")
MOST_EXACT = 64  # units up to which "auto" pays for one backward pass per unit

# the derivative of an activation, as a function of its value
SLOPES: dict[str, Callable[[mg.Tensor], mg.Tensor]] = {
    "sigmoid": lambda h: h * (1.0 - h),
    "tanh": lambda h: 1.0 - h * h,
    "relu": lambda h: mg.where(h > 0, mg.ones((), h.dtype, h.device), 0.0),
    "linear": lambda h: mg.ones(h.shape, h.dtype, h.device),
}


def contractive(
    encode: Callable[[mg.Tensor], mg.Tensor], x: mg.Tensor, method: str = "auto", probes: int = 1
) -> mg.Tensor:
    """Return (1/m) sum_i |J(x_i)|^2, where J is the Jacobian of the encoder and |.| the Frobenius norm.

    Parameters
    ----------
    encode : callable
        From x to codes, shape (m, ...), each sample on its own: ``model.encode``, a module, or any function.
    x : Tensor, shape (m, ...)
    method : {"auto", "closed", "exact", "hutchinson"}
        "closed": sum_l f'(a_l)^2 |W_l|^2, for ``model.encode`` of an `Autoencoder` with one encoder layer. "exact": the
        Jacobian, by k backward passes. "hutchinson": an unbiased estimate, |J^T v|^2 with random signs v. "auto": the
        closed form where there is one, else the exact one for codes of up to 64 units, else the estimate.
    probes : int, at least 1
        How many v the estimate is the mean of.

    Returns
    -------
    Tensor, 0-d
        Its gradient reaches the weights both directly and through the code.

    Raises
    ------
    DataError, ShapeError
        The method is unknown, or "closed" was asked for where there is no closed form; or shapes do not fit.

    Notes
    -----
    Source: S. Rifai, P. Vincent, X. Muller, X. Glorot and Y. Bengio, "Contractive auto-encoders: explicit invariance
    during feature extraction", ICML (2011), equations 4 and 9; the lecture (contractive autoencoders). The estimate: M.
    Hutchinson, "A stochastic estimator of the trace of the influence matrix" (1989).

    Examples
    --------
    >>> import numpy as np
    >>> import minigrad as mg
    >>> model = Autoencoder((3, 2), activation="sigmoid", dtype="float64")
    >>> x = mg.tensor(np.eye(3))
    >>> closed, exact = (contractive(model.encode, x, method) for method in ("closed", "exact"))
    >>> bool(abs(closed - exact) < 1e-15)
    True
    """
    if method not in METHODS:
        raise DataError(f"contractive: got method={method!r}; expected one of {', '.join(METHODS)}")
    if isinstance(probes, bool) or not isinstance(probes, int) or probes < 1:
        raise DataError(f"contractive: got probes={probes!r}; expected an integer of at least 1")
    if x.ndim < 2 or x.shape[0] == 0:
        raise ShapeError(f"contractive: got x of shape {x.shape}; expected (m, ...), at least one sample")
    model = getattr(encode, "__self__", None)
    has_closed_form = (
        isinstance(model, Autoencoder)
        and getattr(encode, "__func__", None) is Autoencoder.encode
        and len(model.encoder_weights) == 1
    )
    if method == "closed" and not has_closed_form:
        raise DataError(
            "contractive: there is a closed form for model.encode of an Autoencoder with one encoder layer only; use "
            "method='exact' or 'hutchinson'"
        )
    if has_closed_form and method in ("auto", "closed"):
        assert isinstance(model, Autoencoder)
        slope = SLOPES[model.activation](model.encode(x))
        return mg.sum(mg.square(slope) @ mg.sum(mg.square(model.encoder_weights[0]), axis=0)) / x.shape[0]
    h, pull_back = mg.vjp(encode, x)
    if h.ndim < 2 or h.shape[0] != x.shape[0]:
        raise ShapeError(f"contractive: encode gave shape {h.shape} for x of shape {x.shape}; expected (m, ...)")
    units = math.prod(h.shape[1:])
    if method == "exact" or (method == "auto" and units <= MOST_EXACT):
        unit = np.eye(units, dtype=h.dtype)
        directions = [mg.tensor(unit[[j] * len(h)].reshape(h.shape), device=h.device) for j in range(units)]
        return _mean_square(pull_back, directions, x.shape[0])
    minus = mg.full((), -1.0, h.dtype, h.device)
    signs = [mg.where(mg.random.uniform(h.shape, h.dtype, h.device) < 0.5, minus, 1.0) for _ in range(probes)]
    return _mean_square(pull_back, signs, x.shape[0]) / probes


def _mean_square(pull_back: Callable[[mg.Tensor], Any], directions: list[mg.Tensor], m: int) -> mg.Tensor:
    """Return (1/m) sum |J^T v|^2 over the directions v, each with an entry for every sample."""
    squares = []
    for v in directions:
        g = pull_back(v)
        squares.append(mg.sum(mg.square(g[0] if isinstance(g, tuple) else g)))
    return sum(squares[1:], start=squares[0]) / m
