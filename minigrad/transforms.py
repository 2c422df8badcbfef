"""Functions of functions: grad, value_and_grad, vjp, jvp, jacobian, hessian, hvp."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from . import autograd, modes, observers
from .errors import DTypeError, ShapeError
from .node import Node
from .primitives import stack, zeros_like
from .selection import integers
from .sweep import leaves
from .tensor import Tensor, as_tensor, tensor


def _variable(x: Any) -> Tensor:
    """Return a tensor to differentiate with respect to: one that stays connected to an outer differentiation."""
    x = x if isinstance(x, Tensor) else tensor(x)
    if x.dtype.kind != "f":
        raise DTypeError(f"only real floating tensors have gradients, got {x.dtype.name}; convert with t.to('float32')")
    return autograd.stand_in(x, connected=x._node is not None)


def _nested(root: Node, variables: list[Tensor]) -> bool:
    """Return whether there may be an outer differentiation, be it a later one of the program being recorded."""
    return observers.recording() or not leaves(root) <= {v._node for v in variables}


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
    wanted = integers(argnums, "grad", "argnums")
    single = np.ndim(argnums) == 0

    @wraps(f)
    def differentiated(*args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
        values = list(args)
        if not all(-len(args) <= i < len(args) for i in wanted):
            raise ShapeError(f"grad: got argnums={argnums!r} for {len(args)} positional arguments")
        with modes.enable_grad():
            for i in wanted:
                values[i] = _variable(args[i])
            y = f(*values, **kwargs)
        if not isinstance(y, Tensor) or y.size != 1:
            got = f"shape {y.shape}" if isinstance(y, Tensor) else type(y).__name__
            raise ShapeError(f"grad needs a function that returns a scalar tensor, got {got}")
        variables = [values[i] for i in wanted]
        # f may reach variables of an outer differentiation, as arguments or through its closure
        nested = y._node is not None and _nested(y._node, variables)
        found: tuple[Tensor | None, ...] = (None,) * len(variables)
        if y._node is not None:
            found = autograd.grad(y, variables, create_graph=nested, allow_unused=True)
        gradients = tuple(zeros_like(v.detach()) if g is None else g for g, v in zip(found, variables, strict=True))
        if not nested:
            y = y.detach()
        return y, gradients[0] if single else gradients

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


def vjp(f: Callable[..., Tensor], *xs: Any) -> tuple[Tensor, Callable[[Any], tuple[Tensor, ...]]]:
    """Return `f(*xs)` and the function v -> (v^T J_1, ..., v^T J_n), which may be called any number of times.

    Parameters
    ----------
    f : callable
        Takes tensors, returns one tensor of any shape.
    *xs : Tensor
        The point. A cotangent v has the shape of f's result; each product that of its x.

    Examples
    --------
    >>> import minigrad as mg
    >>> y, pull_back = mg.vjp(lambda x: x * x, mg.tensor([1.0, 2.0]))
    >>> pull_back(mg.tensor([1.0, 10.0]))
    (tensor([ 2., 40.]),)
    """
    return _vjp("vjp", f, *xs)


def _vjp(name: str, f: Callable[..., Tensor], *xs: Any) -> tuple[Tensor, Callable[[Any], tuple[Tensor, ...]]]:
    """Do what `vjp` does, in the name of the function that was called."""
    with modes.enable_grad():
        variables = [_variable(x) for x in xs]
        y = f(*variables)
    if not isinstance(y, Tensor):
        raise DTypeError(
            f"{name} needs a function that returns one tensor, got {type(y).__name__}; join several with mg.stack or "
            "mg.concat, or take one of them"
        )
    nested = y._node is not None and _nested(y._node, variables)

    def pull_back(v: Any) -> tuple[Tensor, ...]:
        found: tuple[Tensor | None, ...] = (None,) * len(variables)
        if y._node is not None:
            # a cotangent that requires grad is differentiated through as well
            create = nested or (isinstance(v, Tensor) and v.requires_grad)
            found = autograd.grad(y, variables, [v], retain_graph=True, create_graph=create, allow_unused=True)
        return tuple(zeros_like(x.detach()) if g is None else g for g, x in zip(found, variables, strict=True))

    return (y if nested else y.detach()), pull_back


def jvp(f: Callable[..., Tensor], xs: tuple[Any, ...], ts: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    """Return `f(*xs)` and its derivative along the tangents `ts`: sum_i J_i t_i, of the shape of f's result.

    Exact: v -> v^T J is linear in v, and the transpose of that map, which is one more vjp, is t -> J t.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.jvp(lambda x: x * x, (mg.tensor([1.0, 2.0]),), (mg.tensor([1.0, 10.0]),))
    (tensor([1., 4.]), tensor([ 2., 40.]))
    """
    for name, given in (("xs", xs), ("ts", ts)):
        if not isinstance(given, tuple | list):
            raise DTypeError(
                f"jvp takes the points and the tangents as tuples, mg.jvp(f, (x,), (t,)), got {name} of type "
                f"{type(given).__name__}"
            )
    if len(xs) != len(ts):
        raise ShapeError(f"jvp got {len(xs)} points and {len(ts)} tangents")
    tangents = [t if isinstance(t, Tensor) else tensor(t) for t in ts]
    for x, t in zip(xs, tangents, strict=True):
        if t.shape != (x if isinstance(x, Tensor) else tensor(x)).shape:
            raise ShapeError(f"a tangent must have the shape of its point, got {t.shape}")
    y, pull_back = _vjp("jvp", f, *xs)
    with modes.enable_grad():
        v = _variable(zeros_like(y.detach()))
        products = [p for p in zip(pull_back(v), tangents, strict=True) if p[0].requires_grad]
    if not products:
        return y, zeros_like(y.detach())
    outer = observers.recording() or any(t.requires_grad for t in tangents) or y.requires_grad
    found = autograd.grad([p for p, _ in products], v, [t for _, t in products], create_graph=outer, allow_unused=True)[
        0
    ]
    return y, zeros_like(y.detach()) if found is None else found


def jacobian(f: Callable[[Tensor], Tensor]) -> Callable[[Any], Tensor]:
    """Return the function x -> J, of shape (*f(x).shape, *x.shape): one vjp for each element of the result.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.jacobian(lambda x: x * x)(mg.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    @wraps(f)
    def jacobian_at(x: Any) -> Tensor:
        y, pull_back = _vjp("jacobian", f, x)
        place = y.device
        basis = place.xp.eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)
        rows = [pull_back(Tensor._wrap(basis[i], place, None))[0] for i in range(y.size)]
        x = as_tensor(x)
        if not rows:
            return Tensor._wrap(place.xp.zeros((*y.shape, *x.shape), x.dtype), place, None)
        return stack(rows).reshape(*y.shape, *x.shape)

    return jacobian_at


def hessian(f: Callable[[Tensor], Tensor]) -> Callable[[Any], Tensor]:
    """Return the function x -> H of a scalar function f, of shape (*x.shape, *x.shape).

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.hessian(lambda x: x[0] * x[0] * x[1])(mg.tensor([1.0, 3.0]))
    tensor([[6., 2.],
            [2., 0.]])
    """
    return jacobian(grad(f))


def hvp(f: Callable[[Tensor], Tensor], x: Any, v: Any) -> Tensor:
    """Return H v of a scalar function f at x, without forming H.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.hvp(lambda x: x[0] * x[0] * x[1], mg.tensor([1.0, 3.0]), mg.tensor([1.0, 0.0]))
    tensor([6., 2.])
    """
    return jvp(grad(f), (x,), (v,))[1]
