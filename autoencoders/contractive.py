"""The contractive penalty: how much an encoder's output moves with its input, the squared norm of its Jacobian."""

from __future__ import annotations

from collections.abc import Callable

from numpy.typing import ArrayLike

import minigrad as mg
from autoencoders.inputs import data_tensor, floating, positive
from autoencoders.jacobian import check_encode, one_layer, squared_norms
from minigrad import nn
from minigrad.errors import DataError, ShapeError

METHODS = ("auto", "closed", "exact", "hutchinson")


def contractive(
    encode: Callable[[mg.Tensor], mg.Tensor],
    x: mg.Tensor | ArrayLike,
    method: str = "auto",
    probes: int = 1,
    codes: mg.Tensor | None = None,
) -> mg.Tensor:
    """Return (1/m) sum_i |J(x_i)|^2, where J is the Jacobian of the encoder and |.| the Frobenius norm.

    Parameters
    ----------
    encode : callable
        From x to codes, shape (m, ...), each sample on its own: ``model.encode``, a module, or any function.
    x : Tensor or array_like, shape (m, ...)
        An array is converted to the dtype and device of the model whose method `encode` is, as the model does it; for
        other functions it becomes a tensor of its dtype.
    method : {"auto", "closed", "exact", "hutchinson"}
        "closed": sum_l f'(a_l)^2 |W_l|^2, for ``model.encode`` of an `Autoencoder` with one encoder layer. "exact": the
        Jacobian, by k backward passes. "hutchinson": an unbiased estimate, |J^T v|^2 with random signs v. "auto": the
        closed form where there is one, else the exact one for codes of up to 64 units, else the estimate.
    probes : int, at least 1
        How many v the estimate is the mean of.
    codes : Tensor, shape (m, k), optional
        encode(x), where it has been computed already: the closed form reads it, and so saves the work of encoding
        again, forward and backward. The other methods do not look at it.

    Returns
    -------
    Tensor, 0-d
        Its gradient reaches the weights both directly and through the code.

    Raises
    ------
    DataError, ShapeError, DTypeError
        The method is unknown, "closed" was asked for where there is no closed form, x is not a floating tensor, or
        shapes do not fit.

    Notes
    -----
    Source: S. Rifai, P. Vincent, X. Muller, X. Glorot and Y. Bengio, "Contractive auto-encoders: explicit invariance
    during feature extraction", ICML (2011), equations 4 and 9; the lecture (contractive autoencoders). The estimate: M.
    Hutchinson, "A stochastic estimator of the trace of the influence matrix" (1989).

    Examples
    --------
    >>> import numpy as np
    >>> from autoencoders import Autoencoder
    >>> import minigrad as mg
    >>> model = Autoencoder((3, 2), activation="sigmoid", dtype="float64")
    >>> x = mg.tensor(np.eye(3))
    >>> closed, exact = (contractive(model.encode, x, method) for method in ("closed", "exact"))
    >>> bool(abs(closed - exact) < 1e-15)
    True
    >>> h = model.encode(x)  # also for the reconstruction, say
    >>> bool(contractive(model.encode, x, codes=h) == closed)
    True
    """
    if method not in METHODS:
        raise DataError(f"contractive: got method={method!r}; expected one of {', '.join(METHODS)}")
    probes = positive(probes, "probes", "contractive")
    check_encode(encode, "contractive")
    if not isinstance(x, mg.Tensor):
        owner = encode if isinstance(encode, nn.Module) else getattr(encode, "__self__", None)
        like = next(owner.parameters(), None) if isinstance(owner, nn.Module) else None
        x = data_tensor(x, "contractive", "x", like)
    floating(x, "contractive", "mg.tensor(...), or a floating array")
    if x.ndim < 2 or x.shape[0] == 0:
        raise ShapeError(f"contractive: got x of shape {x.shape}; expected (m, n) or (m, ...), at least one sample")
    if method == "closed" and (one_layer(encode) is None or x.ndim != 2):
        raise DataError(
            "contractive: there is a closed form for model.encode of an Autoencoder with one encoder layer, and x of "
            "shape (m, n), only; use method='exact' or 'hutchinson'"
        )
    if codes is not None:
        floating(codes, "contractive", "codes=model.encode(x)")
        model = one_layer(encode)
        if model is not None and codes.shape != (x.shape[0], model.sizes[-1]):
            raise ShapeError(
                f"contractive: got codes of shape {codes.shape}; expected {(x.shape[0], model.sizes[-1])}, encode(x)"
            )
    return mg.sum(squared_norms(encode, x, method, probes, "contractive", codes)) / x.shape[0]
