"""Functions of functions: `grad` and `value_and_grad`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from . import autograd, tape
from .errors import ShapeError
from .primitives import zeros_like
from .tensor import Tensor, tensor


def _variable(x: Any) -> Tensor:
    """Return a tensor to differentiate with respect to: one that stays connected to an outer differentiation."""
    x = x if isinstance(x, Tensor) else tensor(x)
    if x._node is None:
        return tensor(x, requires_grad=True)
    return x + 0.0  # a node of its own: nested transforms of one variable do not get into each other's way


def value_and_grad(f: Callable[..., Tensor], argnums: int | tuple[int, ...] = 0) -> Callable[..., tuple[Tensor, Any]]:
    """Return a function that gives `f(*args)`, a scalar, and its gradient.

    Parameters
    ----------
    f : callable
        Takes tensors, returns a scalar tensor.
    argnums : int or tuple of int
        With respect to which positional arguments; for a tuple the gradient is a tuple.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.value_and_grad(lambda x: (x * x).sum())(mg.tensor([1.0, 2.0]))
    (tensor(5.), tensor([2., 4.]))
    """
    wanted = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @wraps(f)
    def differentiated(*args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
        values = list(args)
        with tape.enable_grad():
            for i in wanted:
                values[i] = _variable(args[i])
            y = f(*values, **kwargs)
        if not isinstance(y, Tensor) or y.size != 1:
            got = f"shape {y.shape}" if isinstance(y, Tensor) else type(y).__name__
            raise ShapeError(f"grad needs a function that returns a scalar tensor, got {got}")
        variables = [values[i] for i in wanted]
        # f may reach variables of an outer differentiation, as arguments or through its closure
        nested = y._node is not None and not tape.leaves(y._node) <= {v._node for v in variables}
        found: tuple[Tensor | None, ...] = (None,) * len(variables)
        if y._node is not None:
            found = autograd.grad(y, variables, create_graph=nested, allow_unused=True)
        gradients = tuple(zeros_like(v.detach()) if g is None else g for g, v in zip(found, variables, strict=True))
        if not nested:
            y = y.detach()
        return y, gradients[0] if isinstance(argnums, int) else gradients

    return differentiated


def grad(f: Callable[..., Tensor], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """Return the gradient function of `f`, which returns a scalar tensor: see `value_and_grad`.

    Examples
    --------
    >>> import minigrad as mg
    >>> cube = lambda x: x ** 3
    >>> mg.grad(mg.grad(cube))(mg.tensor(2.0)).item()
    12.0
    """
    both = value_and_grad(f, argnums)

    @wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return gradient
