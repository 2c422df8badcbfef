"""L-BFGS: a quasi-Newton method with a strong Wolfe line search, for smooth objectives without noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..errors import DataError, DivergenceError, DTypeError
from ..parameter import Parameter
from ..state import to_array
from ..tensor import Tensor
from .optimizer import Optimizer

Point = tuple[float, np.ndarray]  # a value and a gradient


class LBFGS(Optimizer):
    """Steps along an estimate of the Newton direction, each as long as the strong Wolfe conditions ask.

    One call of `step` makes up to `max_iter` iterations, and calls the closure at least once in each. The arithmetic of
    the method is in float64, whatever the dtype of the parameters, and on the host: from a GPU it reads the value and
    the gradient of each evaluation, and writes the parameters back.

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float, at least 0
        The first trial length of each line search but the very first. With 0, where a schedule may end, no step is
        made.
    max_iter : int, at least 1
    history_size : int, at least 1
        How many pairs of steps and changes of the gradient the estimate uses.
    tolerance_grad : float, at least 0
        It ends when no number of the gradient is larger.
    tolerance_change : float, at least 0
        It ends when no parameter, or the value, changes by more.
    c1, c2 : float, 0 < c1 < c2 < 1
        Of the Wolfe conditions: sufficient decrease and curvature.

    Attributes
    ----------
    evaluations : int
        How often closures were called so far.

    Raises
    ------
    DivergenceError
        From `step`: the value at the start is not finite; nothing has changed then.

    Notes
    -----
    Source: J. Nocedal and S. Wright, "Numerical optimization", 2nd edition (2006), algorithms 7.4 (two-loop recursion),
    3.5 and 3.6 (line search).

    It also ends where no length lowers the value. In float32 that may be far from a minimum: where parameters need
    steps of very different lengths, the length that one of them bears may change the value by less than its rounding.
    Scale the parameters so that their second derivatives are alike, or compute in float64.

    Examples
    --------
    >>> import minigrad as mg
    >>> w = mg.Parameter([-1.0, 1.0], dtype="float64")
    >>> optimizer = mg.optim.LBFGS([w], max_iter=100)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = 100.0 * (w[1] - w[0] ** 2) ** 2 + (1.0 - w[0]) ** 2  # Rosenbrock's valley
    ...     loss.backward()
    ...     return loss
    >>> _ = optimizer.step(closure)
    >>> w.detach().numpy().round(6)
    array([1., 1.])
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1.0,
        max_iter: int = 20,
        history_size: int = 10,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        c1: float = 1e-4,
        c2: float = 0.9,
    ) -> None:
        for name, value in (("max_iter", max_iter), ("history_size", history_size)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise DataError(f"LBFGS: got {name}={value!r}; expected an integer of at least 1")
        self.max_iter = max_iter
        self.history_size = history_size
        self.tolerance_grad = self._number("tolerance_grad", tolerance_grad)
        self.tolerance_change = self._number("tolerance_change", tolerance_change)
        self.c2 = self._number("c2", c2, below=1, positive=True)
        self.c1 = self._number("c1", c1, below=self.c2, positive=True)
        self.evaluations = 0
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []  # steps, and changes of the gradient; the newest last
        super().__init__(parameters, lr)

    def step(self, closure: Callable[[], Any] | None = None) -> float:  # type: ignore[override]
        """Make up to `max_iter` iterations; return the value at the end.

        Parameters
        ----------
        closure : callable
            Sets the gradients to those at the present parameters (zero_grad, forward, backward) and returns the loss.
        """
        if not callable(closure):
            raise DTypeError("LBFGS.step takes a closure that computes the loss and its gradients and returns the loss")
        self._follow()

        def evaluate(x: np.ndarray) -> Point:
            self._write(x)
            self.evaluations += 1
            value = closure()
            return float(value.detach().item() if isinstance(value, Tensor) else value), self._gradient()

        x = self._read()
        try:
            value, gradient = evaluate(x)
            if not math.isfinite(value) or not np.isfinite(gradient).all():
                raise DivergenceError(f"LBFGS: the loss is {value}, or its gradient not finite, where the step begins")
            for _ in range(self.max_iter):
                if np.abs(gradient).max(initial=0.0) <= self.tolerance_grad:
                    break
                direction = self._direction(gradient)
                slope = float(gradient @ direction)
                if slope > -1e-32:  # rounding has spoilt the estimate: begin again with the gradient
                    self._pairs.clear()
                    direction = -gradient
                    slope = float(gradient @ direction)
                first = min(1.0, 1.0 / np.abs(gradient).sum()) * self.lr if not self._pairs else self.lr
                if first == 0.0:  # a schedule has ended
                    break
                length, new = self._line_search(evaluate, x, (value, gradient), direction, slope, first)
                change = length * direction
                if new[0] > value or length == 0.0:
                    break
                if float(change @ (new[1] - gradient)) > 1e-10 * float(change @ change):
                    self._pairs = [*self._pairs, (change, new[1] - gradient)][-self.history_size :]
                done = np.abs(change).max() <= self.tolerance_change or abs(
                    new[0] - value
                ) <= self.tolerance_change * abs(value)
                x, (value, gradient) = x + change, new
                if done:
                    break
        except BaseException:
            self._write(x)  # not the point at which a line search happened to look
            raise
        self._write(x)
        self._counts.assign(self._counts + 1.0)
        return value

    def _direction(self, gradient: np.ndarray) -> np.ndarray:
        """Return minus the estimated inverse Hessian times the gradient: algorithm 7.4."""
        q = gradient.copy()
        weights = []
        for s, y in reversed(self._pairs):
            weight = float(s @ q) / float(s @ y)
            q -= weight * y
            weights.append(weight)
        if self._pairs:
            s, y = self._pairs[-1]
            q *= float(s @ y) / float(y @ y)
        for (s, y), weight in zip(self._pairs, reversed(weights), strict=True):
            q += (weight - float(y @ q) / float(s @ y)) * s
        return -q

    def _line_search(
        self, evaluate: Callable, x: np.ndarray, start: Point, direction: np.ndarray, slope: float, length: float
    ) -> tuple[float, Point]:
        """Return a length that meets the strong Wolfe conditions, or the best one found: algorithm 3.5."""
        before, low = 0.0, start
        for trial in range(25):
            point = evaluate(x + length * direction)
            finite = math.isfinite(point[0]) and bool(np.isfinite(point[1]).all())
            if not finite:  # too far: come back towards the last good length
                length = before + 0.1 * (length - before)
                continue
            if point[0] > start[0] + self.c1 * length * slope or (trial and point[0] >= low[0]):
                return self._zoom(evaluate, x, start, direction, slope, (before, low), (length, point))
            new_slope = float(point[1] @ direction)
            if abs(new_slope) <= -self.c2 * slope:
                return length, point
            if new_slope >= 0:
                return self._zoom(evaluate, x, start, direction, slope, (length, point), (before, low))
            before, low = length, point
            length *= 2.0
        return before, low

    def _zoom(
        self,
        evaluate: Callable,
        x: np.ndarray,
        start: Point,
        direction: np.ndarray,
        slope: float,
        low: tuple[float, Point],
        high: tuple[float, Point],
    ) -> tuple[float, Point]:
        """Return a length between two that bracket a good one: algorithm 3.6."""
        for _ in range(25):
            length = _cubic_minimum(low, high, direction)
            point = evaluate(x + length * direction)
            finite = math.isfinite(point[0]) and bool(np.isfinite(point[1]).all())
            if not finite or point[0] > start[0] + self.c1 * length * slope or point[0] >= low[1][0]:
                high = length, point if finite else (math.inf, point[1])
            else:
                new_slope = float(point[1] @ direction)
                if abs(new_slope) <= -self.c2 * slope:
                    return length, point
                if new_slope * (high[0] - low[0]) >= 0:
                    high = low
                low = length, point
            if abs(high[0] - low[0]) * np.abs(direction).max() <= 1e-16:
                break
        return low

    # The parameters as one vector

    def _read(self) -> np.ndarray:
        return np.concatenate([p.detach().numpy().ravel().astype(np.float64) for p in self.parameters])

    def _write(self, x: np.ndarray) -> None:
        start = 0
        for p in self.parameters:
            p.assign(p.device.put(x[start : start + p.size].reshape(p.shape).astype(p.dtype)))
            start += p.size

    def _gradient(self) -> np.ndarray:
        if all(p.grad is None for p in self.parameters):
            raise DataError(
                "LBFGS: no parameter has a gradient after the closure; it must call backward, and not be compiled as a "
                "whole: a compiled function leaves no gradients. Compile what computes them, and set p.grad to them"
            )
        parts = [np.zeros(p.size) if p.grad is None else p.grad.numpy().ravel() for p in self.parameters]
        return np.concatenate(parts).astype(np.float64)

    # Saved state

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all that changes from step to step: also the pairs of the estimate."""
        pairs = np.array([np.stack(pair) for pair in self._pairs]).reshape(
            len(self._pairs), 2, sum(p.size for p in self.parameters)
        )
        return {**super().state_dict(), "pairs": pairs, "evaluations": np.array(self.evaluations)}

    def load_state_dict(self, state: Any) -> None:
        """Continue from what `state_dict` returned, or change nothing and raise."""
        if not isinstance(state, Mapping):
            raise DTypeError(f"LBFGS.load_state_dict: a state is a dict of arrays by name, got {type(state).__name__}")
        missing = {"pairs", "evaluations"} - set(state)
        if missing:
            raise DataError(f"LBFGS.load_state_dict: {', '.join(sorted(missing))} missing; is it another optimizer's?")
        pairs, evaluations = to_array(state["pairs"]), to_array(state["evaluations"])
        size = sum(p.size for p in self.parameters)
        if pairs.ndim != 3 or pairs.shape[1] != 2 or (len(pairs) and pairs.shape[2] != size):
            raise DataError(f"LBFGS.load_state_dict: pairs have shape {pairs.shape}; expected (n, 2, {size})")
        if pairs.dtype != np.float64 or not np.isfinite(pairs).all():
            raise DataError("LBFGS.load_state_dict: pairs are not finite numbers of float64; the state is damaged")
        if evaluations.ndim or evaluations.dtype.kind not in "iu" or evaluations < 0:
            raise DataError(
                f"LBFGS.load_state_dict: evaluations is {evaluations}; expected an integer of at least 0. The state is "
                "damaged"
            )
        super().load_state_dict({k: v for k, v in state.items() if k not in ("pairs", "evaluations")})
        self._pairs = [(pair[0].copy(), pair[1].copy()) for pair in pairs]
        self.evaluations = int(evaluations)


def _cubic_minimum(low: tuple[float, Point], high: tuple[float, Point], direction: np.ndarray) -> float:
    """Return where the cubic through two values and slopes is smallest, kept away from both ends: equation 3.59."""
    a, (fa, ga) = low
    b, (fb, gb) = high
    middle = 0.5 * (a + b)
    if not math.isfinite(fb):
        return middle
    da, db = float(ga @ direction), float(gb @ direction)
    d1 = da + db - 3 * (fa - fb) / (a - b)
    root = d1 * d1 - da * db
    if root < 0:
        return middle
    d2 = math.copysign(math.sqrt(root), b - a)
    if db - da + 2 * d2 == 0:
        return middle
    length = b - (b - a) * (db + d2 - d1) / (db - da + 2 * d2)
    edge = 0.1 * abs(b - a)
    return min(max(length, min(a, b) + edge), max(a, b) - edge)
