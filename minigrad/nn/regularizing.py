"""Layers that steady training: Dropout, BatchNorm, LayerNorm; and Embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import modes
from ..errors import DataError, DTypeError, ShapeError
from ..functions import narrow, var, wide
from ..parameter import Parameter
from ..primitives import mean, sqrt
from ..random import Generator, default_generator
from ..selection import positions
from ..tensor import Tensor, as_tensor
from .layers import given, positive
from .module import Buffer, Module


class Dropout(Module):
    """Set each value to 0 with probability p while training, and scale the others by 1 / (1 - p); else do nothing.

    Parameters
    ----------
    p : float in [0, 1)
    generator : Generator, optional
        Draws what to drop, anew in every call; by default the thread's default generator.

    Notes
    -----
    Source: N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR (2014).

    Examples
    --------
    >>> import minigrad as mg
    >>> layer = mg.nn.Dropout(0.5, generator=mg.random.Generator(0))
    >>> layer(mg.ones((4,)))
    tensor([0., 2., 2., 2.])
    >>> layer.eval()(mg.ones((4,)))
    tensor([1., 1., 1., 1.])
    """

    def __init__(self, p: float = 0.5, generator: Generator | None = None) -> None:
        if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p < 1:
            raise DataError(f"Dropout: got p={p!r}; expected a number in [0, 1)")
        self.p = float(p)
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """Return x with some values dropped."""
        if not self.training or self.p == 0:
            return x
        x = given(self, x)
        draws = (self.generator or default_generator()).uniform(x.shape, dtype=x.dtype, device=x.device)
        return x * (draws >= self.p) * (1.0 / (1.0 - self.p))

    def describe(self) -> str:
        """Return p."""
        return f"p={self.p}"


class BatchNorm(Module):
    """Bring each feature of a batch to mean 0 and variance 1, then scale and shift it.

    Features are axis 1: of (N, C), or of images (N, C, H, W), where the mean goes over places too. While training it
    uses the mean and variance of the batch and keeps running ones; in evaluation it uses those that it kept.

    Parameters
    ----------
    features : int, at least 1
    momentum : float in (0, 1]
        The weight of the newest batch in the running values.
    eps : float above 0
        Added to the variance.
    dtype : dtype
    device : str or Device, optional

    Attributes
    ----------
    weight, bias : Parameter, shape (features,)
        Scale and shift.
    running_mean, running_var : Buffer, shape (features,)
        The variance is the unbiased one, as in PyTorch. In float16 it holds up to 65,504.

    Notes
    -----
    Source: S. Ioffe and C. Szegedy, "Batch normalization", ICML (2015), algorithm 1.

    Examples
    --------
    >>> import minigrad as mg
    >>> layer = mg.nn.BatchNorm(2)
    >>> layer(mg.tensor([[1.0, 0.0], [3.0, 4.0]])).detach().numpy().round(2)
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    """

    def __init__(
        self, features: int, momentum: float = 0.1, eps: float = 1e-5, dtype: Any = np.float32, device: Any = None
    ) -> None:
        self.features = positive(features, "features", "BatchNorm")
        if not 0 < momentum <= 1:
            raise DataError(f"BatchNorm: got momentum={momentum!r}; expected a number in (0, 1]")
        self.momentum = float(momentum)
        self.eps = _eps("BatchNorm", eps)
        self.weight = Parameter(np.ones(features, dtype), dtype, device)
        self.bias = Parameter(np.zeros(features, dtype), dtype, device)
        self.running_mean = Buffer(np.zeros(features, dtype), dtype, device)
        self.running_var = Buffer(np.ones(features, dtype), dtype, device)

    def forward(self, x: Tensor) -> Tensor:
        """Return x, shape (N, features, ...), normalised."""
        if given(self, x).ndim < 2 or x.shape[1] != self.features:
            raise ShapeError(f"{self!r}: got an input of shape {x.shape}; expected (N, {self.features}, ...)")
        axes = (0, *range(2, x.ndim))
        shape = (-1,) + (1,) * (x.ndim - 2)
        values = wide(x)  # the variance of float16 may be none of its numbers
        if self.training:
            count = x.size // self.features
            if count < 2:
                raise ShapeError(
                    f"{self!r}: got shape {x.shape}, one value per feature, whose variance is 0; use eval()"
                )
            center = mean(values, axis=axes, keepdims=True)
            spread = var(values, axis=axes, keepdims=True)
        else:
            center, spread = wide(self.running_mean).reshape(shape), wide(self.running_var).reshape(shape)
        y = narrow((values - center) / sqrt(spread + self.eps), x)
        y = y * self.weight.reshape(shape) + self.bias.reshape(shape)
        if self.training:
            with modes.no_grad():
                self._keep(self.running_mean, center)
                self._keep(self.running_var, spread * (count / (count - 1)))
        return y

    def _keep(self, running: Buffer, new: Tensor) -> None:
        running.assign((1.0 - self.momentum) * wide(running) + self.momentum * new.detach().reshape(-1))

    def describe(self) -> str:
        """Return the number of features."""
        return f"{self.features}"


class LayerNorm(Module):
    """Bring the last axis of each sample to mean 0 and variance 1, then scale and shift each feature.

    Parameters
    ----------
    features : int, at least 1
        The length of the last axis.
    eps : float above 0
    dtype : dtype
    device : str or Device, optional

    Notes
    -----
    Source: J. Ba, J. Kiros and G. Hinton, "Layer normalization" (2016).

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.nn.LayerNorm(2)(mg.tensor([[1.0, 3.0]])).detach().numpy().round(2)
    array([[-1.,  1.]], dtype=float32)
    """

    def __init__(self, features: int, eps: float = 1e-5, dtype: Any = np.float32, device: Any = None) -> None:
        self.features = positive(features, "features", "LayerNorm")
        self.eps = _eps("LayerNorm", eps)
        self.weight = Parameter(np.ones(features, dtype), dtype, device)
        self.bias = Parameter(np.zeros(features, dtype), dtype, device)

    def forward(self, x: Tensor) -> Tensor:
        """Return x, shape (..., features), normalised."""
        if given(self, x).ndim == 0 or x.shape[-1] != self.features:
            raise ShapeError(f"{self!r}: got an input of shape {x.shape}; expected (..., {self.features})")
        values = wide(x)
        center = mean(values, axis=-1, keepdims=True)
        spread = var(values, axis=-1, keepdims=True)
        return narrow((values - center) / sqrt(spread + self.eps), x) * self.weight + self.bias

    def describe(self) -> str:
        """Return the number of features."""
        return f"{self.features}"


class Embedding(Module):
    """A table of vectors: the row of each index. Where an index repeats, its gradients add up.

    Parameters
    ----------
    count, features : int, at least 1
        How many vectors, and of which length.
    generator : Generator, optional
        Draws the initial table from the standard normal distribution.
    dtype : dtype
    device : str or Device, optional

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.nn.Embedding(10, 3)(mg.tensor([[1, 2], [2, 9]])).shape
    (2, 2, 3)
    """

    def __init__(
        self, count: int, features: int, generator: Generator | None = None, dtype: Any = np.float32, device: Any = None
    ) -> None:
        shape = positive(count, "count", "Embedding"), positive(features, "features", "Embedding")
        self.weight = Parameter((generator or default_generator()).normal(shape, dtype=dtype), dtype, device)

    def forward(self, indices: Any) -> Tensor:
        """Return the vectors, shape (..., features), of integer indices, shape (...)."""
        indices = as_tensor(indices)
        if indices.size and indices.dtype.kind not in "iu":
            raise DTypeError(f"{self!r}: got indices of dtype {indices.dtype.name}; expected integers")
        return self.weight[positions(indices, self.weight)]

    def describe(self) -> str:
        """Return the shape of the table."""
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"


def _eps(owner: str, eps: float) -> float:
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not eps > 0:
        raise DataError(f"{owner}: got eps={eps!r}; expected a number above 0")
    return float(eps)
