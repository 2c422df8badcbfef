"""The Jacobian of an encoder, sample by sample: what the contractive penalty and the measurements of it rest on.

Every function here takes codes row by row: row i of encode(x) depends on row i of x only, so one backward pass serves
all samples at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import minigrad as mg
from autoencoders.models import Autoencoder
from minigrad.errors import DTypeError, ShapeError

Encoder = Callable[[mg.Tensor], mg.Tensor]
MOST_EXACT = 64  # units up to which "auto" pays for one backward pass per unit

# the derivative of an activation, as a function of its value
SLOPES: dict[str, Encoder] = {
    "sigmoid": lambda h: h * (1.0 - h),
    "tanh": lambda h: 1.0 - h * h,
    "relu": lambda h: mg.where(h > 0, mg.ones((), h.dtype, h.device), 0.0),
    "linear": lambda h: mg.ones(h.shape, h.dtype, h.device),
}


def one_layer(encode: Encoder) -> Autoencoder | None:
    """Return the model if encode is ``model.encode`` of an `Autoencoder` with one encoder layer: J = diag(f'(a)) W^T.

    Examples
    --------
    >>> model = Autoencoder((4, 3))
    >>> one_layer(model.encode) is model, one_layer(Autoencoder((4, 3, 2)).encode), one_layer(mg.exp)
    (True, None, None)
    """
    model = getattr(encode, "__self__", None)
    if not isinstance(model, Autoencoder) or getattr(encode, "__func__", None) is not Autoencoder.encode:
        return None
    return model if len(model.encoder_weights) == 1 else None


def check_encode(encode: Any, caller: str) -> None:
    """Refuse what is no function, such as codes that were given for the encoder."""
    if not callable(encode):
        raise DTypeError(f"{caller}: got {type(encode).__name__}; expected the encoder as a function, model.encode")


def squared_norms(
    encode: Encoder,
    x: mg.Tensor,
    method: str,
    probes: int = 1,
    caller: str = "jacobian",
    codes: mg.Tensor | None = None,
) -> mg.Tensor:
    """Return |J(x_i)|^2, the squared Frobenius norm, for every sample; `autoencoders.contractive` explains the methods.

    Parameters
    ----------
    encode : callable
    x : Tensor, shape (m, ...)
    method : {"auto", "closed", "exact", "hutchinson"}
        "closed" only where `one_layer` finds a model.
    probes : int
        How many random directions "hutchinson" averages over.
    codes : Tensor, optional
        encode(x), which "closed" then does not compute.

    Returns
    -------
    Tensor, shape (m,)

    Raises
    ------
    ShapeError
        encode does not return a row for each sample.

    Examples
    --------
    >>> import minigrad as mg
    >>> squared_norms(lambda x: x * x, mg.tensor([[1.0, 2.0], [0.0, 3.0]]), "exact")  # J = diag(2 x)
    tensor([20., 36.])
    """
    model = one_layer(encode)
    if model is not None and x.ndim == 2 and method in ("auto", "closed"):
        slope = SLOPES[model.activation](model.encode(x) if codes is None else codes)
        return mg.square(slope) @ mg.sum(mg.square(model.encoder_weights[0]), axis=0)
    h, pull_back = mg.vjp(encode, x)
    _check_rows(h, x, caller)
    units = h.size // len(h)
    if method == "exact" or (method == "auto" and units <= MOST_EXACT):
        return _sum_of_squares(pull_back, _unit_directions(h))
    return _sum_of_squares(pull_back, _random_signs(h, probes)) / probes


def jacobians(encode: Encoder, x: mg.Tensor, caller: str = "jacobian") -> mg.Tensor:
    """Return J(x_i) for every sample, shape (m, k, n), for x of shape (m, n) and k units.

    Examples
    --------
    >>> import minigrad as mg
    >>> jacobians(lambda x: x * x, mg.tensor([[1.0, 2.0]]))
    tensor([[[2., 0.],
             [0., 4.]]])
    """
    model = one_layer(encode)
    if model is not None and x.ndim == 2:
        slope = SLOPES[model.activation](model.encode(x))
        return slope.reshape(*slope.shape, 1) * model.encoder_weights[0].mT
    h, pull_back = mg.vjp(encode, x)
    _check_rows(h, x, caller)
    return mg.stack([pull_back(v)[0].reshape(len(x), -1) for v in _unit_directions(h)], axis=1)


def _check_rows(h: mg.Tensor, x: mg.Tensor, caller: str) -> None:
    if h.ndim < 2 or len(h) != len(x) or h.size == 0:
        raise ShapeError(f"{caller}: encode gave shape {h.shape} for x of shape {x.shape}; expected (m, ...)")


def _unit_directions(h: mg.Tensor) -> Iterator[mg.Tensor]:
    """For each unit the cotangent that is 1 there for every sample: one row of all Jacobians."""
    units = h.size // len(h)
    numbers, blank = mg.arange(units, device=h.device), mg.zeros((len(h), units), h.dtype, h.device)
    for j in range(units):  # made where h is: nothing is sent to a GPU
        yield (blank + (numbers == j).to(h.dtype)).reshape(h.shape)


def _random_signs(h: mg.Tensor, probes: int) -> Iterator[mg.Tensor]:
    minus = mg.full((), -1.0, h.dtype, h.device)
    for _ in range(probes):
        yield mg.where(mg.random.uniform(h.shape, h.dtype, h.device) < 0.5, minus, 1.0)


def _sum_of_squares(pull_back: Callable[..., tuple[mg.Tensor, ...]], directions: Iterator[mg.Tensor]) -> mg.Tensor:
    """Return sum_v |J^T v|^2 for every sample."""
    squares = (mg.square(pull_back(v)[0]) for v in directions)
    norms = (mg.sum(square, axis=tuple(range(1, square.ndim))) for square in squares)
    return sum(norms, start=next(norms))
