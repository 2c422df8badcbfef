"""What a model has learned: its codes, what excites its units, and how its code moves with its input.

Codes and Jacobians are computed in pieces of `batch_size` samples, in evaluation mode and without a graph. Figures of
what is measured here are in `autoencoders.figures`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import minigrad as mg
from autoencoders.inputs import as_array, finite_array, number, positive, sample_array, samples_of
from autoencoders.jacobian import Encoder, check_encode, jacobians, one_layer, squared_norms
from autoencoders.snapshots import evaluating
from minigrad import nn, openblas, parallel
from minigrad.errors import DataError, DTypeError, ShapeError

RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
BLOCK = 2**19  # bytes of a piece of an array that fits into a second-level cache
LARGE_JACOBIAN = 10_000  # elements, from which on it is worth a thread to find singular values


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
    weights = finite_array(W, "max_activation_inputs", "W", ("inputs", "hidden units"))
    largest = np.abs(weights).max(axis=0)
    scaled = weights / np.where(largest > 0, largest, 1)  # the squares of tiny or huge weights would leave the range
    norms = np.sqrt((scaled**2).sum(axis=0))
    return np.asarray(scaled / np.where(norms > 0, norms, 1), dtype=weights.dtype)


def codes(model: Any, X: mg.Tensor | ArrayLike, batch_size: int = 1024) -> NDArray[Any]:
    """Return ``model.encode(X)`` as an array.

    Parameters
    ----------
    model : Module with a method encode
    X : Tensor or array_like, shape (m, ...)
        Converted to the model's dtype and device.
    batch_size : int, at least 1
        How many samples are encoded at once.

    Returns
    -------
    ndarray, shape (m, k)
        In the model's dtype.

    Raises
    ------
    DTypeError
        The model has no method encode, or X is not of real numbers.
    ShapeError, DataError
        X does not fit the model, has no samples, or is not finite; batch_size is below 1.

    Examples
    --------
    >>> from autoencoders import Autoencoder
    >>> codes(Autoencoder((4, 2)), np.eye(4)).shape
    (4, 2)
    """
    encode = getattr(model, "encode", None)
    if not callable(encode):
        raise DTypeError(f"codes: got {type(model).__name__}; expected a model with a method encode")
    return in_pieces(encode, encode, X, batch_size, "codes")


def reconstructions(model: Any, X: mg.Tensor | ArrayLike, batch_size: int = 1024) -> NDArray[Any]:
    """Return ``model(X)`` as an array, of the shape of X; for parameters and errors see `codes`.

    Examples
    --------
    >>> from autoencoders import Autoencoder
    >>> reconstructions(Autoencoder((4, 2)), np.eye(4)).shape
    (4, 4)
    """
    if not callable(model):
        raise DTypeError(f"reconstructions: got {type(model).__name__}; expected a model or a function of a tensor")
    return in_pieces(model, model, X, batch_size, "reconstructions")


def squared_errors(
    reconstruct: Callable[..., Any], X: ArrayLike, inputs: ArrayLike | None = None, batch_size: int = 4096
) -> NDArray[np.float64]:
    """Return |reconstruct(x_i) - x_i|^2 for every sample; of their mean, `ae.squared_error` is the differentiable form.

    Parameters
    ----------
    reconstruct : callable
        A model, or a function from arrays to arrays such as ``ae.pca.linear_autoencoder(X, k)``.
    X : array_like, shape (m, ...)
    inputs : array_like, of the shape of X, optional
        What is reconstructed instead of X, such as corrupted samples.
    batch_size : int, at least 1
        How many samples are reconstructed at once.

    Returns
    -------
    ndarray of float64, shape (m,)
        In squared units of X, summed over the features.

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `codes`; or inputs are not of the shape of X.

    Examples
    --------
    >>> squared_errors(lambda x: 0.5 * x, [[2.0, 0.0], [2.0, 2.0]]).tolist()
    [1.0, 2.0]
    """
    clean = _samples(X, "X")
    given = clean if inputs is None else _samples(inputs, "inputs")
    if given.shape != clean.shape:
        raise ShapeError(f"squared_errors: inputs have shape {given.shape}; expected {clean.shape}, the shape of X")
    if isinstance(reconstruct, nn.Module):
        x_hat = reconstructions(reconstruct, given, batch_size)
    else:
        step = positive(batch_size, "batch_size", "squared_errors")
        x_hat = np.concatenate([np.asarray(reconstruct(given[i : i + step])) for i in range(0, len(given), step)])
    if x_hat.shape != clean.shape:
        raise ShapeError(f"squared_errors: reconstruct gave shape {x_hat.shape}; expected {clean.shape}, that of X")
    errors = np.empty(len(clean))
    rows = max(1, BLOCK // (8 * clean[0].size))  # in float64 they stay in the cache: twice as fast on MNIST
    for start in range(0, len(clean), rows):
        part = slice(start, start + rows)
        difference = x_hat[part] - clean[part].astype(np.float64)
        errors[part] = np.square(difference, out=difference).reshape(len(difference), -1).sum(axis=1)
    return errors


def _samples(X: ArrayLike, name: str) -> NDArray[Any]:
    """Return finite samples in the dtype that they have."""
    array = as_array(X, f"squared_errors: {name}")
    return sample_array(array, name, None, array.dtype, "squared_errors")


def mean_activations(h: mg.Tensor | ArrayLike) -> NDArray[np.float64]:
    """Return rho_hat_l = (1/m) sum_i h_il, what the penalty `kl_sparsity` holds near rho.

    Parameters
    ----------
    h : Tensor or array_like, shape (m, k)
        Codes, one sample per row.

    Returns
    -------
    ndarray of float64, shape (k,)

    Raises
    ------
    ShapeError, DTypeError, DataError
        h is not a matrix of finite real numbers with at least one sample and unit.

    Examples
    --------
    >>> mean_activations([[0.0, 1.0], [0.5, 1.0]]).tolist()
    [0.25, 1.0]
    """
    return np.asarray(finite_array(h, "mean_activations", "h", ("samples", "units")).mean(axis=0, dtype=np.float64))


def dead_units(h: mg.Tensor | ArrayLike, threshold: float = 0.0) -> NDArray[np.bool_]:
    """Return which units stay within [-threshold, threshold] on every sample, and so tell nothing about any.

    Parameters
    ----------
    h : Tensor or array_like, shape (m, k)
        Codes, one sample per row.
    threshold : float, at least 0
        In units of the activation. 0 finds the dead units of rectifiers and top-k codes; a sigmoid never is 0, so
        there choose how much activation still counts as none, such as 0.01.

    Returns
    -------
    ndarray of bool, shape (k,)

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `mean_activations`; or the threshold is negative.

    Examples
    --------
    >>> dead_units([[0.0, 1.0, 0.005], [0.0, 0.0, 0.0]], threshold=0.01).tolist()
    [True, False, True]
    """
    threshold = number(threshold, "threshold", "dead_units")
    return np.asarray(np.abs(finite_array(h, "dead_units", "h", ("samples", "units"))).max(axis=0) <= threshold)


def saturation(h: mg.Tensor | ArrayLike, activation: str = "sigmoid", margin: float = 0.05) -> NDArray[np.float64]:
    """Return, for every unit, the fraction of samples on which it is within `margin` of an end of its range.

    There the slope of the activation is small, below 0.0475 for a sigmoid and 0.0975 for tanh at the default margin:
    the unit hardly moves with its input. A contractive penalty is met by saturation, or by small weights.

    Parameters
    ----------
    h : Tensor or array_like, shape (m, k)
        Codes, one sample per row.
    activation : {"sigmoid", "tanh"}
        The range is [0, 1] or [-1, 1].
    margin : float
        Above 0 and below half of the range.

    Returns
    -------
    ndarray of float64, shape (k,)
        Each in [0, 1].

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `mean_activations`; or h leaves the range, or the activation or margin is not one of those above.

    Notes
    -----
    Source: S. Rifai et al., "Contractive auto-encoders: explicit invariance during feature extraction", ICML (2011),
    section 5.

    Examples
    --------
    >>> saturation([[0.01, 0.5], [0.99, 0.5], [0.5, 0.04], [0.0, 0.9]]).tolist()
    [0.75, 0.25]
    """
    if activation not in RANGES:
        raise DataError(f"saturation: got activation={activation!r}; expected one of {', '.join(RANGES)}")
    low, high = RANGES[activation]
    if not 0 < margin < (high - low) / 2:
        raise DataError(f"saturation: got margin={margin!r}; expected more than 0 and less than {(high - low) / 2:g}")
    values = finite_array(h, "saturation", "h", ("samples", "units"))
    if values.min() < low or values.max() > high:
        raise DataError(
            f"saturation: h reaches from {values.min():g} to {values.max():g}; expected [{low:g}, {high:g}] for "
            f"activation={activation!r}"
        )
    return np.asarray(((values <= low + margin) | (values >= high - margin)).mean(axis=0))


def jacobian_norms(encode: Encoder, X: mg.Tensor | ArrayLike, batch_size: int = 256) -> NDArray[Any]:
    """Return |J(x_i)|, the Frobenius norm of the encoder's Jacobian at every sample.

    The mean of the squares is ``contractive(encode, x)``. In closed form for ``model.encode`` of an `Autoencoder` with
    one encoder layer and X of shape (m, n), else exactly, by one backward pass per unit.

    Parameters
    ----------
    encode : callable
        From x to codes, each row on its own: ``model.encode``, a module, or any function of a tensor.
    X : Tensor or array_like, shape (m, ...)
        Converted to the dtype of the model that `encode` belongs to. For a function of yours it keeps its own, and
        integers become float64.
    batch_size : int, at least 1
        How many samples are treated at once.

    Returns
    -------
    ndarray, shape (m,)
        In units of the code per unit of x.

    Raises
    ------
    ShapeError, DTypeError, DataError
        X does not fit, has no samples, or is not finite; encode does not return a row for each sample.

    Notes
    -----
    Source: S. Rifai et al., "Contractive auto-encoders: explicit invariance during feature extraction", ICML (2011),
    equation 4.

    Examples
    --------
    >>> jacobian_norms(lambda x: x * x, [[1.5, 2.0], [0.0, 0.5]]).tolist()  # J = diag(2 x)
    [5.0, 1.0]
    """
    check_encode(encode, "jacobian_norms")

    def norms(x: mg.Tensor) -> mg.Tensor:
        method = "closed" if one_layer(encode) is not None and x.ndim == 2 else "exact"
        return mg.sqrt(squared_norms(encode, x, method, caller="jacobian_norms"))

    return in_pieces(norms, encode, X, batch_size, "jacobian_norms")


def singular_values_along(encode: Encoder, X: mg.Tensor | ArrayLike, batch_size: int = 64) -> NDArray[Any]:
    """Return the singular values of the encoder's Jacobian at every sample, largest first.

    An encoder that follows a manifold of d dimensions and contracts across it has d values that stand out.

    Parameters
    ----------
    encode, X, batch_size
        As for `jacobian_norms`. A piece takes batch_size * k * n numbers of memory.

    Returns
    -------
    ndarray, shape (m, min(k, n))
        In units of the code per unit of x. The squares of a row sum to the square of `jacobian_norms`.

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `jacobian_norms`.

    Notes
    -----
    Source: S. Rifai et al., "Contractive auto-encoders: explicit invariance during feature extraction", ICML (2011),
    section 5, local space contraction.

    Examples
    --------
    >>> singular_values_along(lambda x: x * x, [[0.5, 1.0], [2.0, 0.0]]).tolist()  # J = diag(2 x)
    [[2.0, 1.0], [4.0, 0.0]]
    """
    check_encode(encode, "singular_values_along")

    def values(x: mg.Tensor) -> NDArray[Any]:
        J = jacobians(encode, x, "singular_values_along").numpy()
        wide = J.astype(np.promote_types(J.dtype, np.float32), copy=False)  # NumPy decomposes nothing in float16
        found = np.empty((len(J), min(J.shape[1:])), J.dtype)

        def decompose(part: slice) -> None:
            found[part] = np.linalg.svd(wide[part], compute_uv=False)

        # LAPACK hardly shares one matrix among cores; small ones are not worth threads
        parts = openblas.product_parts() if wide[0].size > LARGE_JACOBIAN else 1
        openblas.each(decompose, parallel.splits(len(J), parts))
        return found

    return in_pieces(values, encode, X, batch_size, "singular_values_along")


def directional_norms(
    encode: Encoder, X: mg.Tensor | ArrayLike, directions: mg.Tensor | ArrayLike, batch_size: int = 256
) -> NDArray[Any]:
    """Return |J(x_i) d_i|: how fast the code moves when sample i moves along its direction.

    With tangents and normals of a manifold it tells whether the code follows the data along it, and ignores steps
    across.

    Parameters
    ----------
    encode, X, batch_size
        As for `jacobian_norms`.
    directions : Tensor or array_like, of the shape of X
        Unit vectors, one for each sample.

    Returns
    -------
    ndarray, shape (m,)
        In units of the code per unit of x; between the smallest and the largest singular value of J where k >= n.

    Raises
    ------
    ShapeError, DTypeError, DataError
        As for `jacobian_norms`; or the directions are of another shape, or not of length 1 to within 0.001.

    Notes
    -----
    By forward differentiation (`minigrad.jvp`), whatever the number of units.

    Examples
    --------
    >>> directional_norms(lambda x: x * x, [[0.5, 1.0], [0.5, 1.0]], [[1.0, 0.0], [0.0, -1.0]]).tolist()
    [1.0, 2.0]
    """
    check_encode(encode, "directional_norms")
    shape = X.shape if isinstance(X, mg.Tensor) else as_array(X, "directional_norms: X").shape
    d = finite_array(directions, "directional_norms", "directions", ["samples", *["..."] * (len(shape) - 1)])
    if d.shape != shape:
        raise ShapeError(f"directional_norms: directions have shape {d.shape}; expected {shape}, the shape of X")
    lengths = np.sqrt((d.reshape(len(d), -1).astype(np.float64) ** 2).sum(axis=1))
    worst = int(np.argmax(np.abs(lengths - 1)))
    if abs(lengths[worst] - 1) > 1e-3:
        raise DataError(
            f"directional_norms: direction {worst} has length {lengths[worst]:g}; expected unit vectors: divide each "
            "by its length"
        )

    def norms(x: mg.Tensor, along: mg.Tensor) -> mg.Tensor:
        moved = mg.jvp(encode, (x,), (along,))[1]
        return mg.sqrt(mg.sum(mg.square(moved), axis=tuple(range(1, moved.ndim))))

    return in_pieces(norms, encode, X, batch_size, "directional_norms", d)


def in_pieces(
    f: Callable[..., Any],
    encode: Encoder,
    X: mg.Tensor | ArrayLike,
    batch_size: int,
    caller: str,
    *others: NDArray[Any],
) -> NDArray[Any]:
    """Join f(x, ...) over pieces of X and of others, without a graph.

    `encode` is a module, a method of one, or any function; of a module the dtype and the device are taken, and it is in
    evaluation mode meanwhile.
    """
    batch_size = positive(batch_size, "batch_size", caller)
    model = encode if isinstance(encode, nn.Module) else getattr(encode, "__self__", None)
    model = model if isinstance(model, nn.Module) else None
    own = X.dtype if isinstance(X, mg.Tensor) else as_array(X, f"{caller}: X").dtype
    dtype, place = own if own.kind == "f" else np.dtype(np.float64), X.device if isinstance(X, mg.Tensor) else None
    for parameter in [] if model is None else model.parameters():
        dtype, place = parameter.dtype, parameter.device
        break
    arrays = [samples_of(a, "X", None, dtype, place, caller) for a in (X, *others)]
    pieces = []
    with evaluating(model), mg.no_grad():
        for start in range(0, len(arrays[0]), batch_size):
            piece = f(*(a[start : start + batch_size] for a in arrays))
            pieces.append(piece.numpy() if isinstance(piece, mg.Tensor) else piece)
    return np.concatenate(pieces)
