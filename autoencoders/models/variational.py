"""The variational autoencoder: a code that is a normal distribution, and its distance from the standard one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from numpy.typing import ArrayLike

import minigrad as mg
from autoencoders.models.base import (
    ACTIVATIONS,
    Model,
    as_input,
    check_activations,
    check_floating,
    check_width,
    widths_of,
)
from minigrad import nn
from minigrad.errors import DTypeError, ShapeError
from minigrad.nn.layers import positive
from minigrad.random import Generator, default_generator


class VariationalAutoencoder(Model):
    """A dense variational autoencoder: q(h | x) is normal with a mean and a variance that the encoder computes.

    Parameters
    ----------
    sizes : sequence of int, at least one
        The widths from the data to the last hidden layer: (784, 500).
    code : int
        How many latent variables: (784, 500) and 20 is 784-500-(20, 20) and 20-500-784.
    activation : {"tanh", "sigmoid", "relu", "linear"}
        Of the hidden layers. Mean and log-variance are linear in the last of them.
    output : {"sigmoid", "linear", "tanh", "relu"}
        Of the last layer. sigmoid: probabilities of binary data, with the cross entropy on `decode_logits`. linear: the
        mean of a normal p(x | h) of variance v, with ``squared_error / (2 * v)``.
    seed : int
        Of the initial weights.
    generator : Generator, optional
        Draws the initial weights instead of one made from `seed`.
    dtype : str or dtype
        Of the parameters: "float32" or "float64".

    Raises
    ------
    ShapeError, DTypeError, DataError
        A size is not a positive integer, or an activation is unknown.

    Notes
    -----
    What is minimised is the negative of the evidence lower bound, in nats per sample:
    reconstruction + KL(q(h | x) || N(0, 1)), with h drawn by `sample`, through which gradients flow.

    Source: D. Kingma and M. Welling, "Auto-encoding variational Bayes", ICLR (2014), sections 2.3, 2.4 and appendix C.
    Weights start as in `Autoencoder`.

    Examples
    --------
    >>> import autoencoders as ae
    >>> model = VariationalAutoencoder((64, 30), code=2)
    >>> def objective(model, x):
    ...     mean, log_variance = model.distribution(x)
    ...     h = model.sample(mean, log_variance)
    ...     return {
    ...         "reconstruction": ae.binary_cross_entropy_with_logits(model.decode_logits(h), x),
    ...         "kl": gaussian_kl(mean, log_variance),
    ...     }
    >>> history = ae.fit(model, ae.datasets.digits().x_train[:100], objective, epochs=2)
    >>> model.generate(5).shape
    (5, 64)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        code: int,
        activation: str = "tanh",
        output: str = "sigmoid",
        *,
        seed: int = 0,
        generator: Generator | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.sizes = widths_of(sizes, "sizes", 1, "(784, 500)", owner)
        self.code = positive(code, "code", owner)
        check_activations(owner, activation=activation, output=output)
        check_floating(owner, dtype)
        self.input_shape = self.sizes[:1]
        self.activation, self.output = activation, output
        how: dict[str, Any] = {"generator": Generator(seed) if generator is None else generator, "dtype": dtype}
        back = (self.code, *self.sizes[::-1])
        self.encoder_layers = nn.Sequential(*(nn.Linear(n, k, **how) for n, k in pairwise(self.sizes)))
        self.mean_layer = nn.Linear(self.sizes[-1], self.code, **how)
        self.log_variance_layer = nn.Linear(self.sizes[-1], self.code, **how)
        self.decoder_layers = nn.Sequential(*(nn.Linear(n, k, **how) for n, k in pairwise(back)))

    def encode(self, x: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return the mean of q(h | x), shape (..., code), of x, shape (..., sizes[0]): nothing is drawn."""
        return self.mean_layer(self._hidden(x))

    def distribution(self, x: mg.Tensor | ArrayLike) -> tuple[mg.Tensor, mg.Tensor]:
        """Return mean and log-variance of q(h | x), each of shape (..., code), of x, shape (..., sizes[0])."""
        hidden = self._hidden(x)
        return self.mean_layer(hidden), self.log_variance_layer(hidden)

    def sample(self, mean: mg.Tensor, log_variance: mg.Tensor, generator: Generator | None = None) -> mg.Tensor:
        """Return mean + exp(log_variance / 2) e with e drawn from N(0, 1): gradients flow to both arguments.

        Parameters
        ----------
        mean, log_variance : Tensor, shape (..., code)
        generator : Generator, optional
            By default the thread's default generator, which `fit` seeds.
        """
        _check_distribution(mean, log_variance, "sample")
        noise = (default_generator() if generator is None else generator).normal(mean.shape, mean.dtype, mean.device)
        return mean + mg.exp(0.5 * log_variance) * noise

    def generate(self, n: int, generator: Generator | None = None) -> mg.Tensor:
        """Return new data, shape (n, sizes[0]): decode(h) of codes drawn from N(0, 1).

        Parameters
        ----------
        n : int, at least 1
        generator : Generator, optional
            By default the thread's default generator.
        """
        weight = self.mean_layer.weight
        shape = positive(n, "n", "generate"), self.code
        return self.decode(
            (default_generator() if generator is None else generator).normal(shape, weight.dtype, weight.device)
        )

    def _hidden(self, x: mg.Tensor | ArrayLike) -> mg.Tensor:
        h = as_input(self, x)
        check_width(h, self.sizes[0], self, "encode")
        act = ACTIVATIONS[self.activation]
        for layer in self.encoder_layers:
            h = act(layer(h))
        return h

    def decode_linear(self, h: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return decode(h) before its output activation."""
        z = as_input(self, h)
        check_width(z, self.code, self, "decode")
        act = ACTIVATIONS[self.activation]
        for i, layer in enumerate(self.decoder_layers):
            z = layer(act(z) if i else z)
        return z

    def config(self) -> dict[str, Any]:
        """Return sizes, code, activation, output and dtype."""
        return {
            "sizes": list(self.sizes),
            "code": self.code,
            "activation": self.activation,
            "output": self.output,
            "dtype": self.mean_layer.weight.dtype.name,
        }

    def describe(self) -> str:
        """Return the widths from data to data, and activations."""
        widths = "-".join(str(n) for n in (*self.sizes, self.code, *self.sizes[::-1]))
        return f"{widths}, activation={self.activation!r}, output={self.output!r}"


def gaussian_kl(mean: mg.Tensor, log_variance: mg.Tensor) -> mg.Tensor:
    """Return (1/m) sum_i sum_j KL(N(mean_ij, variance_ij) || N(0, 1)), in nats.

    For each value it is (mean^2 + variance - 1 - log variance) / 2.

    Parameters
    ----------
    mean, log_variance : Tensor, shape (m, k)
        Of the same dtype: what `VariationalAutoencoder.distribution` returns.

    Returns
    -------
    Tensor, 0-d
        At least 0, and 0 exactly where mean and log-variance are 0. Its derivatives are mean / m and
        (variance - 1) / (2 m).

    Raises
    ------
    ShapeError, DTypeError
        The arguments are not floating tensors of one shape, or there is no sample.

    Notes
    -----
    Source: D. Kingma and M. Welling, "Auto-encoding variational Bayes", ICLR (2014), appendix B.

    Examples
    --------
    >>> import minigrad as mg
    >>> gaussian_kl(mg.tensor([[1.0, 0.0]]), mg.zeros((1, 2))).item()
    0.5
    """
    _check_distribution(mean, log_variance, "gaussian_kl")
    if mean.ndim < 2 or mean.size == 0:
        raise ShapeError(f"gaussian_kl: got shape {mean.shape}; expected (m, k) with at least one sample and variable")
    # expm1: near 0 nothing is lost when 1 is subtracted from the variance
    return 0.5 * mg.sum(mg.square(mean) + (mg.expm1(log_variance) - log_variance)) / len(mean)


def _check_distribution(mean: mg.Tensor, log_variance: mg.Tensor, caller: str) -> None:
    for name, value in (("mean", mean), ("log_variance", log_variance)):
        if not isinstance(value, mg.Tensor) or value.dtype.kind != "f":
            got = value.dtype.name if isinstance(value, mg.Tensor) else type(value).__name__
            raise DTypeError(f"{caller}: {name} is {got}; expected a floating tensor")
    if mean.shape != log_variance.shape:
        raise ShapeError(
            f"{caller}: got mean of shape {mean.shape} and log_variance of shape {log_variance.shape}; expected the "
            "same shape"
        )
