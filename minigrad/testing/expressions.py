"""Random expressions: functions of several tensors, drawn by hypothesis, with their values in plain NumPy."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st

import minigrad as mg

Shape = tuple[int, ...]

# name -> the operation on tensors, and on NumPy arrays (complex ones too: all are analytic)
UNARY: dict[str, tuple[Callable, Callable]] = {
    "tanh": (mg.tanh, np.tanh),
    "sigmoid": (mg.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "sin": (mg.sin, np.sin),
    "exp(tanh)": (lambda x: mg.exp(mg.tanh(x)), lambda x: np.exp(np.tanh(x))),
    "square": (mg.square, lambda x: x * x),
    "log1p(square)": (lambda x: mg.log1p(mg.square(x)), lambda x: np.log1p(x * x)),
    "sqrt(1 + square)": (lambda x: mg.sqrt(1.0 + x * x), lambda x: np.sqrt(1 + x * x)),
    "negative": (lambda x: -x, lambda x: -x),
    "erf": (mg.erf, lambda x: mg.primitives["erf"].forward(np, x)),
    "power": (lambda x: (x * x + 1.0) ** 0.3, lambda x: (x * x + 1.0) ** 0.3),
    "transpose": (lambda x: x.T, lambda x: x.T),
    "flatten": (lambda x: x.reshape(-1), lambda x: x.reshape(-1)),
    "row": (lambda x: x[:1] if x.ndim else x, lambda x: x[:1] if x.ndim else x),
    "reversed": (lambda x: x[::-1] if x.ndim else x, lambda x: x[::-1] if x.ndim else x),
    "twice": (lambda x: mg.concat([x, x]) if x.ndim else x, lambda x: np.concatenate([x, x]) if x.ndim else x),
    "gathered": (
        lambda x: x[np.arange(x.shape[0]) // 2] if x.ndim else x,
        lambda x: x[np.arange(x.shape[0]) // 2] if x.ndim else x,
    ),
    "cumsum": (lambda x: mg.cumsum(x, axis=-1) if x.ndim else x, lambda x: np.cumsum(x, axis=-1) if x.ndim else x),
    "sum": (lambda x: x.sum(axis=0) if x.ndim else x, lambda x: x.sum(axis=0) if x.ndim else x),
    "mean": (
        lambda x: x.mean(axis=-1, keepdims=True) if x.ndim else x,
        lambda x: x.mean(axis=-1, keepdims=True) if x.ndim else x,
    ),
    "total": (lambda x: x.sum(), lambda x: x.sum()),
}
BINARY: dict[str, tuple[Callable, Callable]] = {
    "add": (lambda a, b: a + b, lambda a, b: a + b),
    "subtract": (lambda a, b: a - b, lambda a, b: a - b),
    "multiply": (lambda a, b: a * b, lambda a, b: a * b),
    "divide": (lambda a, b: a / (1.5 + mg.tanh(b)), lambda a, b: a / (1.5 + np.tanh(b))),
    "where": (
        lambda a, b: mg.where(_checkered(a, b), a, b),
        lambda a, b: np.where(_checkered(a, b), a, b),
    ),
    "matmul": (lambda a, b: a @ b, lambda a, b: a @ b),
    "stack": (lambda a, b: mg.stack([a, b]), lambda a, b: np.stack([a, b])),
}


def _checkered(a: Any, b: Any) -> np.ndarray:
    shape = np.broadcast_shapes(a.shape, b.shape)
    return np.arange(int(np.prod(shape))).reshape(shape) % 2 == 0


class Expression:
    """A function that was drawn: call it with tensors, or with NumPy arrays through `numpy`.

    Attributes
    ----------
    leaves : list of ndarray
        Values for its arguments, float64.
    steps : list of (name, positions)
        Each applies an operation to earlier values; the first values are the arguments.
    """

    def __init__(self, leaves: list[np.ndarray]) -> None:
        self.leaves = leaves
        self.steps: list[tuple[str, tuple[int, ...]]] = []

    def __call__(self, *xs: Any) -> Any:
        """Return the scalar that the expression makes of tensors."""
        values = list(xs)
        for name, positions in self.steps:
            values.append(_operation(name)[0](*(values[i] for i in positions)))
        return self._total(values)

    def numpy(self, *xs: Any) -> Any:
        """Return the same of NumPy arrays, real or complex."""
        values = list(xs)
        for name, positions in self.steps:
            values.append(_operation(name)[1](*(values[i] for i in positions)))
        return self._total(values)

    def _total(self, values: list[Any]) -> Any:
        """Every value that no operation reads counts, so that nothing drawn is in vain."""
        read = {i for _, positions in self.steps for i in positions}
        unread = [v.sum() for i, v in enumerate(values) if i not in read]
        return sum(unread[1:], start=unread[0])

    def __repr__(self) -> str:
        names = [f"x{i}{list(x.shape)}" for i, x in enumerate(self.leaves)]
        lines = []
        for name, positions in self.steps:
            names.append(f"v{len(names)}")
            lines.append(f"{names[-1]} = {name}({', '.join(names[i] for i in positions)})")
        return f"Expression of {', '.join(names[: len(self.leaves)])}: " + "; ".join(lines)


def _operation(name: str) -> tuple[Callable, Callable]:
    return UNARY.get(name) or BINARY[name]


@st.composite
def expressions(draw: st.DrawFn, max_operations: int = 30) -> Expression:
    """Draw a function of one to three tensors: up to `max_operations` operations, with shared parts and broadcasting.

    All of it is analytic, and its values stay moderate, so derivatives can be compared with the complex step.

    Examples
    --------
    >>> import numpy as np
    >>> import minigrad as mg
    >>> from hypothesis import given
    >>> from minigrad.testing import strategies
    >>> @given(strategies.expressions(max_operations=5))
    ... def test(f):
    ...     assert np.isclose(f(*map(mg.tensor, f.leaves)).item(), f.numpy(*f.leaves))
    >>> test()
    """
    shapes = st.sampled_from([(), (1,), (3,), (2, 3), (3, 2), (1, 3), (2, 1, 3), (2, 2)])
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found = Expression([rng.uniform(-1.5, 1.5, draw(shapes)) for _ in range(draw(st.integers(1, 3)))])
    values: list[Any] = list(found.leaves)

    def apply(name: str, *positions: int) -> None:
        found.steps.append((name, positions))
        values.append(_operation(name)[1](*(values[i] for i in positions)))

    for _ in range(draw(st.integers(1, max_operations))):
        # the newest values are the likeliest, so that chains grow long
        newest = len(values) - 1
        recent = st.integers(0, newest).map(partial(operator.sub, newest))
        if draw(st.booleans()):
            apply(draw(st.sampled_from(sorted(UNARY))), draw(recent))
        else:
            a, b = draw(recent), draw(recent)
            fitting = [name for name in sorted(BINARY) if _fits(name, values[a], values[b])]
            if not fitting:
                continue
            apply(draw(st.sampled_from(fitting)), a, b)
        if np.max(np.abs(values[-1]), initial=0.0) > 8.0:
            apply("tanh", len(values) - 1)
        if values[-1].size > 64:
            apply("sum", len(values) - 1)
    return found


def _fits(name: str, a: Any, b: Any) -> bool:
    if name == "matmul":
        try:
            return np.matmul(a, b).size <= 64
        except ValueError:
            return False
    if name == "stack":
        return a.shape == b.shape and a.ndim < 3
    try:
        return int(np.prod(np.broadcast_shapes(a.shape, b.shape))) <= 64
    except ValueError:
        return False
