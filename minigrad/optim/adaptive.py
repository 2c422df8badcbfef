"""RMSprop and Adagrad: gradient descent divided by the root of a mean, or of a sum, of squared gradients."""

from __future__ import annotations

from collections.abc import Iterable

from ..parameter import Parameter
from ..primitives import sqrt, square
from ..tensor import Tensor
from .optimizer import Optimizer


class RMSprop(Optimizer):
    """Gradient descent divided by the root of a running mean of squared gradients.

    With g the gradient plus weight_decay * p,

        v <- alpha * v + (1 - alpha) * g^2
        d = g / (sqrt(v) + eps)
        b <- momentum * b + d,  p <- p - lr * b     (p <- p - lr * d without momentum)

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float, at least 0
    alpha : float in [0, 1)
    eps : float above 0
    weight_decay : float, at least 0
    momentum : float in [0, 1)

    Raises
    ------
    DataError, DTypeError
        See `Optimizer`.

    Notes
    -----
    Source: T. Tieleman and G. Hinton, "Neural networks for machine learning", lecture 6.5 (2012); eps as in PyTorch.

    Examples
    --------
    >>> import minigrad as mg
    >>> w = mg.Parameter([1.0])
    >>> optimizer = mg.optim.RMSprop([w], lr=0.1, alpha=0.75)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.8])
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
    ) -> None:
        self.alpha = self._number("alpha", alpha, below=1)
        self.eps = self._number("eps", eps, positive=True)
        self.weight_decay = self._number("weight_decay", weight_decay)
        self.momentum = self._number("momentum", momentum, below=1)
        super().__init__(parameters, lr)
        self._check_epsilon(self.eps)

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of what is kept for each parameter: momentum may be set later."""
        return ("mean_square", "velocity") if self.momentum else ("mean_square",)

    def _update(self, position: int, parameter: Parameter, gradient: Tensor, scalars: tuple[Tensor, ...]) -> None:
        (lr,) = scalars
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        mean_square = self._kept["mean_square"][position]
        mean_square.assign(self.alpha * mean_square + (1 - self.alpha) * square(gradient))
        direction = gradient / (sqrt(mean_square) + self.eps)
        if self.momentum:
            velocity = self._kept["velocity"][position]
            direction = velocity.assign(self.momentum * velocity + direction)
        parameter.assign(parameter - lr * direction)


class Adagrad(Optimizer):
    """Gradient descent divided by the root of the sum of all squared gradients so far.

    With g the gradient plus weight_decay * p,

        s <- s + g^2
        p <- p - lr * g / (sqrt(s) + eps)

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float, at least 0
    eps : float above 0
    weight_decay : float, at least 0

    Raises
    ------
    DataError, DTypeError
        See `Optimizer`.

    Notes
    -----
    Source: J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", JMLR (2011), the diagonal form; eps as in PyTorch.

    Examples
    --------
    >>> import minigrad as mg
    >>> w = mg.Parameter([1.0])
    >>> optimizer = mg.optim.Adagrad([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.5])
    """

    slots = ("sum_square",)

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 0.01,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
    ) -> None:
        self.eps = self._number("eps", eps, positive=True)
        self.weight_decay = self._number("weight_decay", weight_decay)
        super().__init__(parameters, lr)
        self._check_epsilon(self.eps)

    def _update(self, position: int, parameter: Parameter, gradient: Tensor, scalars: tuple[Tensor, ...]) -> None:
        (lr,) = scalars
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        sum_square = self._kept["sum_square"][position]
        sum_square.assign(sum_square + square(gradient))
        parameter.assign(parameter - lr * gradient / (sqrt(sum_square) + self.eps))
