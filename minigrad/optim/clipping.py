"""Gradient clipping: limit the size of a step before the optimizer takes it."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import modes
from ..errors import DataError
from ..parameter import Parameter
from ..primitives import (
    abs,
    clip,
    isfinite,
    logical_and,
    logical_not,
    maximum,
    minimum,
    sqrt,
    square,
    where,
    zeros_like,
)
from ..primitives import max as largest_of
from ..primitives import sum as total
from ..tensor import Tensor
from .optimizer import iterable_of

SQUARES_FROM, SQUARES_TO = 1e-12, 1e12  # of gradients between these all squares, and sums of 1e14 of them, fit float32


def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float) -> Tensor:
    """Scale all gradients by one factor so that their common Euclidean norm is at most `max_norm`.

    Parameters
    ----------
    parameters : iterable of Parameter
        Those without gradient are left out. One that is there twice counts once.
    max_norm : float above 0

    Returns
    -------
    Tensor, 0-d
        The norm before, infinite where its dtype ends; no value is read into Python, so a step with it can be recorded.

    Notes
    -----
    Source: R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks", ICML
    (2013), algorithm 1.

    Examples
    --------
    >>> import minigrad as mg
    >>> w = mg.Parameter([3.0, 4.0])
    >>> (w * w).sum().backward()
    >>> mg.optim.clip_grad_norm([w], 1.0), w.grad.numpy().round(4)
    (tensor(10.), array([0.6, 0.8], dtype=float32))
    """
    limit = _positive("clip_grad_norm", "max_norm", max_norm)
    found = list({id(p): p for p in iterable_of("clip_grad_norm", parameters) if p.grad is not None}.values())
    if not found:
        raise DataError("clip_grad_norm: no parameter has a gradient; call it after backward")
    with modes.no_grad():
        # squares of float16 overflow at 256; and parameters may be of several dtypes
        wide = max((p.dtype for p in found), key=lambda dtype: dtype.itemsize)
        wide = wide if wide.itemsize > 2 else np.dtype(np.float32)
        scale = _scale([_gradient(p).to(wide) for p in found])
        squares = [total(square(_gradient(p).to(wide) / scale)) for p in found]
        scaled = sqrt(sum(squares[1:], start=squares[0]))
        norm = scaled * scale
        # Where only the norm is infinite in its dtype, gradients are divided by the scale first, and their norm is then
        # the scaled one. A single factor would be below the smallest normal number, and inexact.
        overflows = logical_and(isfinite(scaled), logical_not(isfinite(norm)))
        divisor = where(overflows, scale, 1.0)
        factor = minimum(limit / where(overflows, scaled, norm + 1e-6), divisor)
        for p in found:
            p.grad = (_gradient(p).to(wide) / divisor * factor).to(p.dtype)
    return norm


def _scale(gradients: list[Tensor]) -> Tensor:
    """Return what to divide gradients by before squaring: 1, unless the largest square may overflow or vanish."""
    largest = zeros_like(total(gradients[0]))
    for gradient in gradients:
        if gradient.size:
            largest = maximum(largest, largest_of(abs(gradient)))
    inside = largest / clip(largest, SQUARES_FROM, SQUARES_TO)
    # an infinite gradient keeps its infinite norm, and NaN is NaN
    return where(logical_and(isfinite(largest), largest > 0.0), inside, 1.0)


def clip_grad_value(parameters: Iterable[Parameter], max_value: float) -> None:
    """Limit each number of each gradient to [-max_value, max_value].

    Examples
    --------
    >>> import minigrad as mg
    >>> w = mg.Parameter([3.0, -0.1])
    >>> (w * w).sum().backward()
    >>> mg.optim.clip_grad_value([w], 1.0)
    >>> w.grad
    tensor([ 1. , -0.2])
    """
    limit = _positive("clip_grad_value", "max_value", max_value)
    with modes.no_grad():
        for p in iterable_of("clip_grad_value", parameters):
            if p.grad is not None:
                p.grad = clip(p.grad, -limit, limit)


def _gradient(p: Parameter) -> Tensor:
    assert p.grad is not None
    return p.grad


def _positive(owner: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < float(value) < float("inf"):
        raise DataError(f"{owner}: got {name}={value!r}; expected a number above 0")
    return float(value)
