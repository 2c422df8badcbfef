"""Learning-rate schedules: what to set `optimizer.lr` to, epoch by epoch."""

from __future__ import annotations

import copy
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from .. import observers
from ..errors import DataError, DTypeError
from ..state import to_array
from ..tensor import Tensor
from .optimizer import Optimizer

COUNT, RATE, NUMBER = "an integer of at least 0", "a finite number of at least 0", "a number"  # as messages name them


class Schedule:
    """A learning rate that is a function of the number of steps: `lr = base * factor(steps)`.

    Call `step()` after every epoch (or batch: a step is what you make it). The first epoch has `factor(0)`.

    Parameters
    ----------
    optimizer : Optimizer
        Whose learning rate, when the schedule is made, is the base.
    factor : callable
        Takes the number of steps, returns a number of at least 0.

    Examples
    --------
    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.Parameter([1.0])], lr=0.5)
    >>> schedule = mg.optim.Schedule(optimizer, lambda n: 1 / (1 + n))
    >>> schedule.step()
    >>> optimizer.lr
    0.25
    """

    # of the names in a state that are the library's; those of a user's own schedule may be anything
    _rules: ClassVar[dict[str, str]] = {"base": RATE, "steps": COUNT}

    def __init__(self, optimizer: Optimizer, factor: Callable[[int], float]) -> None:
        if not isinstance(optimizer, Optimizer):
            raise DTypeError(f"{type(self).__name__}: got a {type(optimizer).__name__}; expected an optimizer")
        _function(self, "factor", factor)
        self.optimizer = optimizer
        self.base = optimizer.lr
        self.steps = 0
        self._factor = factor  # of a subclass a method of its own: a copy has its own state, and pickles
        optimizer.lr = self.base * factor(0)

    def step(self, value: float | None = None) -> None:
        """Go one step on. `value`, such as a validation loss, is for those schedules that look at it."""
        observers.refuse_while_recording("step() of a schedule", "call it after the step")
        self.optimizer.lr = self.base * self._factor(self.steps + 1)
        self.steps += 1  # only now: a factor may be refused

    def state_dict(self) -> dict[str, float]:
        """Return the numbers from which the schedule continues."""
        return {"base": self.base, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned, or change nothing and raise."""
        if not isinstance(state, Mapping):
            raise DTypeError(f"{type(self).__name__}.load_state_dict: got a {type(state).__name__}; expected a dict")
        expected = self.state_dict()
        if set(state) != set(expected):
            raise DataError(f"{type(self).__name__}.load_state_dict: got {sorted(state)}; expected {sorted(expected)}")
        loaded = {name: self._loaded(name, value, expected[name]) for name, value in state.items()}
        before = dict(vars(self))
        try:
            for name, value in loaded.items():
                setattr(self, name, value)
        except BaseException:  # such as of a property of the user's
            vars(self).clear()
            vars(self).update(before)
            raise

    def _loaded(self, name: str, value: Any, like: Any) -> Any:
        """Return a number of the library's that was saved, or raise; of a user's own schedule anything, as it is.

        `like` is what the schedule has now. Only an array or a tensor of one number that takes a number's place becomes
        one: it comes from a file.
        """
        rule = self._rules.get(name)
        if rule is None:
            if (
                isinstance(like, numbers.Number | np.generic)
                and isinstance(value, np.ndarray | Tensor)
                and value.size == 1
            ):
                return to_array(value).item()
            return copy.deepcopy(value)
        array = to_array(value)
        number = array.item() if array.size == 1 and array.dtype.kind in "iuf" else math.nan
        if rule == COUNT and number >= 0 and float(number).is_integer():
            return int(number)
        if (rule == RATE and 0 <= number < math.inf) or (rule == NUMBER and not math.isnan(number)):
            return float(number)
        raise DataError(
            f"{type(self).__name__}.load_state_dict: got {name}={value!r}; expected {rule}. Nothing was loaded; the "
            "state is damaged"
        )


class StepDecay(Schedule):
    """lr = base * factor^(steps // every).

    Examples
    --------
    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.Parameter([1.0])], lr=1.0)
    >>> schedule = mg.optim.StepDecay(optimizer, every=2, factor=0.5)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(optimizer.lr)
    ...     schedule.step()
    >>> rates
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, optimizer: Optimizer, every: int, factor: float = 0.1) -> None:
        _whole(self, "every", every)
        _fraction(self, "factor", factor)
        self.every = every
        self.factor = float(factor)
        super().__init__(optimizer, self._falling)

    def _falling(self, n: int) -> float:
        return self.factor ** (n // self.every)


class ExponentialDecay(Schedule):
    """lr = base * factor^steps."""

    def __init__(self, optimizer: Optimizer, factor: float) -> None:
        _fraction(self, "factor", factor)
        self.factor = float(factor)
        super().__init__(optimizer, self._falling)

    def _falling(self, n: int) -> float:
        return self.factor**n


class CosineDecay(Schedule):
    """lr falls from base to floor * base along half a cosine over `total` steps, then stays.

    Source: I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR (2017),
    equation 5.
    """

    def __init__(self, optimizer: Optimizer, total: int, floor: float = 0.0) -> None:
        _whole(self, "total", total)
        _number(self, "floor", floor, "a number in [0, 1]", lambda value: 0 <= value <= 1)
        self.total = total
        self.floor = float(floor)
        super().__init__(optimizer, self._falling)

    def _falling(self, n: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * min(n, self.total) / self.total))  # half of one, from 1 to 0
        return self.floor + (1 - self.floor) * cosine


def _constant(n: int) -> float:
    return 1.0


class LinearWarmup(Schedule):
    """lr rises from base / total to base over `total` steps, then follows `then`, a factor of the steps after that."""

    def __init__(self, optimizer: Optimizer, total: int, then: Callable[[int], float] = _constant) -> None:
        _whole(self, "total", total)
        _function(self, "then", then)
        self.total = total
        self.then = then
        super().__init__(optimizer, self._rising)

    def _rising(self, n: int) -> float:
        return (n + 1) / self.total if n < self.total else self.then(n - self.total)


class ReduceOnPlateau(Schedule):
    """lr is multiplied by `factor` when the value given to `step` has not fallen for `patience` steps.

    Parameters
    ----------
    optimizer : Optimizer
    factor : float in (0, 1)
    patience : int, at least 1
    threshold : float, at least 0
        By which fraction a value must be below the best one to count as lower.

    Examples
    --------
    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.Parameter([1.0])], lr=1.0)
    >>> schedule = mg.optim.ReduceOnPlateau(optimizer, factor=0.5, patience=2)
    >>> for loss in [3.0, 2.0, 2.0, 2.0]:
    ...     schedule.step(loss)
    >>> optimizer.lr
    0.5
    """

    _rules: ClassVar[dict[str, str]] = {**Schedule._rules, "best": NUMBER, "waited": COUNT, "reduced": COUNT}

    def __init__(self, optimizer: Optimizer, factor: float = 0.1, patience: int = 10, threshold: float = 1e-4) -> None:
        _fraction(self, "factor", factor)
        _whole(self, "patience", patience)
        _number(self, "threshold", threshold, RATE, lambda value: 0 <= value < math.inf)
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.best = math.inf
        self.waited = 0
        self.reduced = 0
        super().__init__(optimizer, self._falling)

    def _falling(self, n: int) -> float:
        return self.factor**self.reduced

    def step(self, value: float | None = None) -> None:
        """Take the newest value into account."""
        if value is None:
            raise DataError("ReduceOnPlateau.step needs the value that should fall, such as a validation loss")
        value = float(value)
        before = self.best, self.waited, self.reduced
        if value < self.best - self.threshold * (abs(self.best) if math.isfinite(self.best) else 0.0):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        if self.waited >= self.patience:
            self.reduced, self.waited = self.reduced + 1, 0
        try:
            super().step()
        except BaseException:
            self.best, self.waited, self.reduced = before
            raise

    def state_dict(self) -> dict[str, float]:
        """Return the numbers from which the schedule continues."""
        return {**super().state_dict(), "best": self.best, "waited": self.waited, "reduced": self.reduced}


def _function(owner: Schedule, name: str, value: Any) -> None:
    if not callable(value):
        raise DTypeError(f"{type(owner).__name__}: got {name}={value!r}; expected a function of the number of steps")


def _whole(owner: Schedule, name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise DataError(f"{type(owner).__name__}: got {name}={value!r}; expected an integer of at least 1")


def _fraction(owner: Schedule, name: str, value: Any) -> None:
    _number(owner, name, value, "a number in (0, 1]", lambda number: 0 < number <= 1)


def _number(owner: Schedule, name: str, value: Any, expected: str, fits: Callable[[float], bool]) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not fits(float(value)):
        raise DataError(f"{type(owner).__name__}: got {name}={value!r}; expected {expected}")
