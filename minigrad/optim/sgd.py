"""Stochastic gradient descent, with momentum and weight decay."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import DataError
from ..parameter import Parameter
from ..tensor import Tensor
from .optimizer import Optimizer


class SGD(Optimizer):
    """Gradient descent: p <- p - lr * d, where d is the gradient, or a running sum of gradients with momentum.

    With g the gradient plus weight_decay * p, one step is

        v <- momentum * v + g          (v starts at 0)
        d  = v                         or g + momentum * v with nesterov
        p <- p - lr * d

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float, at least 0
    momentum : float in [0, 1)
    nesterov : bool
        Look ahead along the momentum; only with momentum above 0.
    weight_decay : float, at least 0
        The strength of (weight_decay / 2) ||p||^2, added to the objective.

    Raises
    ------
    DataError, DTypeError
        See `Optimizer`.

    Notes
    -----
    Sources: B. Polyak, "Some methods of speeding up the convergence of iteration methods" (1964); I. Sutskever,
    J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and momentum in deep learning", ICML (2013).
    As in PyTorch, the learning rate is outside of v, and Nesterov's form needs no gradient at another point.

    Examples
    --------
    >>> import minigrad as mg
    >>> w = mg.Parameter([1.0])
    >>> optimizer = mg.optim.SGD([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.5])
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self.momentum = self._number("momentum", momentum, below=1)
        self.weight_decay = self._number("weight_decay", weight_decay)
        self.nesterov = bool(nesterov)
        if self.nesterov and self.momentum == 0:
            raise DataError("SGD: got nesterov=True with momentum=0; expected momentum above 0, such as 0.9")
        super().__init__(parameters, lr)

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of what is kept for each parameter: momentum may be set later."""
        return ("velocity",) if self.momentum else ()

    def _update(self, position: int, parameter: Parameter, gradient: Tensor, scalars: tuple[Tensor, ...]) -> None:
        (lr,) = scalars
        direction = gradient + self.weight_decay * parameter if self.weight_decay else gradient
        if self.momentum:
            velocity = self._kept["velocity"][position]
            velocity.assign(self.momentum * velocity + direction)
            direction = direction + self.momentum * velocity if self.nesterov else velocity
        parameter.assign(parameter - lr * direction)
