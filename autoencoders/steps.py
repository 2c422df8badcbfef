"""One update of the parameters, from a batch to the terms of the objective: by a gradient, or by L-BFGS."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import minigrad as mg
from autoencoders.objectives import Objective, sum_of, terms_of
from autoencoders.snapshots import Snapshot
from autoencoders.sources import Batch
from minigrad import nn, optim
from minigrad.errors import RecordingError

Check = Callable[[dict[str, float]], None]  # raises if a term is not finite


class GradientStep:
    """Forward, backward and one step of the optimizer; returns the terms before the update."""

    def __init__(
        self, model: nn.Module, objective: Objective, optimizer: optim.Optimizer, compile: bool, max_norm: float | None
    ) -> None:
        self._model = model
        self._objective = objective
        self._optimizer = optimizer
        self._max_norm = max_norm
        self._run = _Compiled(self._update, model, optimizer) if compile else self._update

    def __call__(self, batch: Batch, check: Check) -> dict[str, float]:
        values = _floats(self._run(*batch))
        check(values)
        return values

    def _update(self, *batch: mg.Tensor) -> Mapping[str, mg.Tensor]:
        self._model.zero_grad()  # of frozen parameters too, which the optimizer does not know
        self._optimizer.zero_grad()
        terms = terms_of(self._objective, self._model, batch)
        sum_of(terms).backward()
        if self._max_norm is not None:
            optim.clip_grad_norm(self._optimizer.parameters, self._max_norm)
        self._optimizer.step()
        return {name: term.detach() for name, term in terms.items()}


class LBFGSStep:
    """Up to `max_iter` iterations of L-BFGS on one batch, all with the same noise; returns the terms at the end."""

    def __init__(self, model: nn.Module, objective: Objective, optimizer: optim.LBFGS, compile: bool) -> None:
        self._model = model
        self._objective = objective
        self._optimizer = optimizer
        self._run = _Compiled(self._differentiate, model, optimizer) if compile else self._differentiate

    def __call__(self, batch: Batch, check: Check) -> dict[str, float]:
        generator = mg.random.default_generator()
        before = generator.state()
        seen: dict[float, dict[str, float]] = {}  # terms by their sum: the last evaluation need not be the one kept

        def closure() -> float:
            generator.set_state(before)  # a line search needs a function that does not change
            total, terms, gradients = self._run(*batch)
            for p, g in zip(self._optimizer.parameters, gradients, strict=True):
                p.grad = g
            values, value = _floats(terms), float(total.item())
            if not seen:  # where the step begins; a line search may look at points that are too far
                check(values)
            seen[value] = values
            return value

        return seen[self._optimizer.step(closure)]

    def _differentiate(self, *batch: mg.Tensor) -> tuple[mg.Tensor, Mapping[str, mg.Tensor], Any]:
        terms = terms_of(self._objective, self._model, batch)
        total = sum_of(terms)
        gradients = mg.autograd.grad(total, self._optimizer.parameters, allow_unused=True)
        return total.detach(), {name: term.detach() for name, term in terms.items()}, list(gradients)


def check_values(model: nn.Module, objective: Objective, batch: Batch) -> None:
    """Run the objective once as it is: checks of values (is x in [0, 1]?) are left out of a recording."""
    before = Snapshot(model)
    try:
        with mg.no_grad():
            terms_of(objective, model, batch)
    finally:
        before.restore()  # running means have seen this batch


class _Compiled:
    """A step that is recorded for each kind of batch, and runs as it is if that fails."""

    def __init__(self, step: Callable[..., Any], model: nn.Module, optimizer: optim.Optimizer) -> None:
        self._step = step
        self._model = model
        self._optimizer = optimizer
        self._compiled: Any = mg.compile(step)
        self._kinds: set[Any] = set()  # of the batches for which it was recorded

    def __call__(self, *batch: mg.Tensor) -> Any:
        if self._compiled is None:
            return self._step(*batch)
        kind = tuple((t.shape, t.dtype) for t in batch)
        if kind in self._kinds:
            return self._compiled(*batch)
        self._kinds.add(kind)
        before = Snapshot(self._model, self._optimizer)
        try:
            return self._compiled(*batch)
        except RecordingError as error:
            warnings.warn(f"fit goes on without compiling, because of {error}", RuntimeWarning, stacklevel=5)
            self._compiled = None
            before.restore()
            return self._step(*batch)


def _floats(terms: Mapping[str, mg.Tensor]) -> dict[str, float]:
    return {name: float(term.item()) for name, term in terms.items()}
