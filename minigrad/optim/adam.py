"""Adam and AdamW: gradient descent with a step size of its own for every single number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import DTypeError
from ..parameter import Parameter
from ..primitives import maximum, reshape, sqrt, square
from ..tensor import Tensor
from .optimizer import Optimizer


class Adam(Optimizer):
    """Gradient descent along a running mean of gradients, divided by the root of a running mean of their squares.

    With g the gradient plus weight_decay * p, step t (from 1) of a parameter is

        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * g^2
        p <- p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float, at least 0
    betas : pair of floats in [0, 1)
    eps : float above 0
    weight_decay : float, at least 0
        The strength of (weight_decay / 2) ||p||^2, added to the objective.

    Raises
    ------
    DataError, DTypeError
        See `Optimizer`.

    Notes
    -----
    Source: D. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR (2015), algorithm 1.

    Examples
    --------
    >>> import minigrad as mg
    >>> w = mg.Parameter([1.0, -2.0])
    >>> optimizer = mg.optim.Adam([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(6)  # the first step is lr long in every direction
    array([ 0.5, -1.5], dtype=float32)
    """

    slots = ("mean", "mean_square")

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise DTypeError(f"{type(self).__name__}: got betas={betas!r}; expected a pair of numbers")
        self.betas = self._number("betas[0]", betas[0], below=1), self._number("betas[1]", betas[1], below=1)
        self.eps = self._number("eps", eps, positive=True)
        self.weight_decay = self._number("weight_decay", weight_decay)
        super().__init__(parameters, lr)
        self._check_epsilon(self.eps)

    def _scalars(self, dtype: np.dtype) -> tuple[Tensor, ...]:
        """Return, for each parameter, lr / (1 - beta1^t) and sqrt(1 - beta2^t)."""
        beta1, beta2 = self.betas
        t = maximum(self._counts, 1.0)  # where there was no step yet, nothing reads the result
        rate = self._lr / (1.0 - beta1**t)
        root = sqrt(1.0 - beta2**t)
        return rate.to(dtype), root.to(dtype)

    def _update(self, position: int, parameter: Parameter, gradient: Tensor, scalars: tuple[Tensor, ...]) -> None:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        parameter.assign(parameter - self._change(position, gradient, scalars))

    def _change(self, position: int, gradient: Tensor, scalars: tuple[Tensor, ...]) -> Tensor:
        """Take the gradient into the running means; return what to subtract from the parameter."""
        beta1, beta2 = self.betas
        mean, mean_square = self._kept["mean"][position], self._kept["mean_square"][position]
        mean.assign(beta1 * mean + (1 - beta1) * gradient)
        mean_square.assign(beta2 * mean_square + (1 - beta2) * square(gradient))
        # the corrections for the start at 0 are numbers: only one of them needs a pass over the array
        rate, root = (reshape(s[position : position + 1], ()) for s in scalars[:2])
        return rate * mean / (sqrt(mean_square) / root + self.eps)


class AdamW(Adam):
    """Adam with decoupled weight decay: p shrinks by lr * weight_decay * p, apart from the gradient and its means.

        p <- (1 - lr * weight_decay) * p, then Adam's step without weight decay

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float, at least 0
    betas : pair of floats in [0, 1)
    eps : float above 0
    weight_decay : float, at least 0

    Raises
    ------
    DataError, DTypeError
        See `Optimizer`.

    Notes
    -----
    Source: I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR (2019), algorithm 2, with the
    decay scaled by the learning rate as in PyTorch.

    Examples
    --------
    >>> import minigrad as mg
    >>> w = mg.Parameter([1.0])
    >>> optimizer = mg.optim.AdamW([w], lr=0.5, weight_decay=0.5)
    >>> (0.0 * w).sum().backward()
    >>> optimizer.step()
    >>> w.detach()  # no gradient, so decay alone
    tensor([0.75])
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def _scalars(self, dtype: np.dtype) -> tuple[Tensor, ...]:
        """Return those of Adam, and the learning rate."""
        return *super()._scalars(dtype), self._lr.to(dtype)

    def _update(self, position: int, parameter: Parameter, gradient: Tensor, scalars: tuple[Tensor, ...]) -> None:
        decayed = parameter * (1.0 - scalars[2] * self.weight_decay) if self.weight_decay else parameter
        parameter.assign(decayed - self._change(position, gradient, scalars))
