"""One update of the parameters, from a batch to the terms of the objective: by a gradient, or by L-BFGS."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import minigrad as mg
from autoencoders.objectives import Means, Objective, sum_of, terms_of
from autoencoders.snapshots import Snapshot
from autoencoders.sources import Batch
from minigrad import nn, optim
from minigrad.errors import RecordingError

Check = Callable[[dict[str, float], bool], None]  # raises if a term is not finite; told whether this is the last batch
PENDING = 1024  # batches on a GPU after which their terms are read at the latest


class GradientStep:
    """Forward, backward and one step of the optimizer; takes the terms before the update into the means.

    On the CPU they are read at once. On a GPU the host would have to wait for every batch, so they stay there and are
    read together, by `finish`.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, optimizer: optim.Optimizer, compile: bool, max_norm: float | None
    ) -> None:
        self._model = model
        self._objective = objective
        self._optimizer = optimizer
        self._max_norm = max_norm
        self._run = (
            _Compiled(self._update, model, objective, optimizer, lambda terms: terms) if compile else self._update
        )
        self._pending: list[tuple[tuple[str, ...], mg.Tensor, Check, int]] = []

    def __call__(self, batch: Batch, means: Means, check: Check) -> None:
        terms, size = self._run(*batch), len(batch[0])
        if batch[0].device.type == "cpu":
            values = _floats(terms)
            check(values, True)
            means.add(values, size)
            return
        same = len({t.dtype for t in terms.values()}) == 1
        vector = mg.stack([t if same else t.to("float64") for t in terms.values()])  # a copy: a term may be a parameter
        self._pending.append((tuple(terms), vector, check, size))
        if len(self._pending) >= PENDING:
            self.finish(means)

    def finish(self, means: Means) -> None:
        """Read the terms that are still on the GPU, all at once."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        read = iter(mg.concat([values for _, values, _, _ in pending]).numpy().tolist())
        for names, _, check, size in pending:
            values = {name: next(read) for name in names}
            check(values, False)
            means.add(values, size)

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
    """Up to `max_iter` iterations of L-BFGS on one batch, all with the same noise; the terms at the end count."""

    def __init__(self, model: nn.Module, objective: Objective, optimizer: optim.LBFGS, compile: bool) -> None:
        self._model = model
        self._objective = objective
        self._optimizer = optimizer
        self._run = (
            _Compiled(self._differentiate, model, objective, optimizer, lambda result: result[1])
            if compile
            else self._differentiate
        )

    def __call__(self, batch: Batch, means: Means, check: Check) -> None:
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
                check(values, True)
            seen[value] = values
            return value

        means.add(seen[self._optimizer.step(closure)], len(batch[0]))

    def finish(self, means: Means) -> None:
        """Do nothing: a line search reads every value when it comes."""

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
    """A step that is recorded for each kind of batch, and runs as it is if that fails.

    A recording repeats the operations, not the Python code around them. So the terms of a replay are compared with
    those of the objective itself from time to time: at the second batch of a kind, the fourth, the eighth, ...
    """

    def __init__(
        self,
        step: Callable[..., Any],
        model: nn.Module,
        objective: Objective,
        optimizer: optim.Optimizer,
        terms_in: Callable[[Any], Mapping[str, mg.Tensor]],
    ) -> None:
        self._step = step
        self._model = model
        self._objective = objective
        self._optimizer = optimizer
        self._terms_in = terms_in
        self._compiled: Any = mg.compile(step)
        self._calls: dict[Any, int] = {}  # by the kind of the batch

    def __call__(self, *batch: mg.Tensor) -> Any:
        if self._compiled is None:
            return self._step(*batch)
        kind = tuple((t.shape, t.dtype) for t in batch)
        calls = self._calls[kind] = self._calls.get(kind, 0) + 1
        if calls & (calls - 1) or batch[0].device.type != "cpu":  # no power of two; on a GPU the step runs as it is
            return self._compiled(*batch)
        before = Snapshot(self._model, self._optimizer)
        try:
            if calls == 1:
                return self._compiled(*batch)
            with mg.no_grad():
                expected = _floats(terms_of(self._objective, self._model, batch))
            before.restore()
            result = self._compiled(*batch)
            if _same(expected, _floats(self._terms_in(result))):
                return result
            why = (
                "the objective gives other values than its recording: it depends on something besides tensors, such as "
                "numpy.random or a number that Python counts. Draw from mg.random, or keep the number in a tensor that "
                "is assigned to"
            )
        except RecordingError as error:
            why = str(error)
        warnings.warn(f"fit goes on without compiling, because of {why}", RuntimeWarning, stacklevel=5)
        self._compiled = None
        before.restore()
        return self._step(*batch)


def _same(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """Return whether terms are the same to the last bit; NaN equals itself."""
    return a.keys() == b.keys() and all(a[name] == b[name] or (a[name] != a[name] and b[name] != b[name]) for name in a)


def _floats(terms: Mapping[str, mg.Tensor]) -> dict[str, float]:
    return {name: float(term.item()) for name, term in terms.items()}
