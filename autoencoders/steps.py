"""One update of the parameters, from a batch to the terms of the objective: by a gradient, or by L-BFGS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import minigrad as mg
from autoencoders.objectives import Means, Objective, Unread, sum_of, terms_of, vector_of
from autoencoders.repeated import Plain, Repeated, check_values, kind_of
from autoencoders.snapshots import Evaluated
from autoencoders.sources import Batch, Ranges
from minigrad import nn, optim

Check = Callable[[dict[str, float], bool], None]  # raises if a term is not finite; told whether this is the last batch
TOTAL = "the sum of all terms"
PENDING = 1024  # batches on a GPU after which their terms are read at the latest


class GradientStep:
    """Forward, backward and one step of the optimizer; takes the terms before the update into the means.

    On the CPU they are read at once. On a GPU the host would have to wait for every batch, so they stay there and are
    read together, by `finish`. `extremes` are None where those of the data are not known.
    """

    run: Repeated | Plain  # what happens to a batch

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: optim.Optimizer,
        compile: bool,
        max_norm: float | None,
        extremes: Sequence[Batch] | None,
    ) -> None:
        self._model = model
        self._objective = objective
        self._optimizer = optimizer
        self._max_norm = max_norm
        step = self._update
        self.run = Repeated(step, model, objective, optimizer, extremes or ()) if compile else Plain(step)
        self._ranges = Ranges() if compile and extremes is None else None
        self._names: dict[Any, tuple[str, ...]] = {}  # of the terms, by the kind of the batch: a replay does not tell
        self._unread = Unread()

    def __call__(self, batch: Batch, means: Means, check: Check) -> None:
        on_cpu = batch[0].device.type == "cpu"
        # a look at every batch that comes would make the host wait for a GPU
        if on_cpu and self._ranges is not None and self._ranges.widens(batch):
            check_values(self._model, self._objective, batch)
        result, size = self.run(*batch), len(batch[0])
        if on_cpu:
            values = _floats(result)
            check(values, True)
            means.add(values, size)
            return
        self._unread.add((check, size), self._names[kind_of(batch)], result)
        if len(self._unread) >= PENDING:
            self.finish(means)

    def finish(self, means: Means) -> None:
        """Read the terms that are still on the GPU, all at once."""
        for (check, size), values in self._unread.read():
            check(values, False)
            means.add(values, size)

    def _update(self, *batch: mg.Tensor) -> Any:
        """Return the terms before the update: a dict of them, on a GPU one vector."""
        self._model.zero_grad()  # of frozen parameters too, which the optimizer does not know
        self._optimizer.zero_grad()
        terms = terms_of(self._objective, self._model, batch)
        kept: Any
        if batch[0].device.type == "cpu":
            # copies: a term that is a parameter, or a view of one, becomes what the update makes of it
            kept = {name: (term * 1.0).detach() for name, term in terms.items()}
        else:
            kept = vector_of(terms)
            self._names[kind_of(batch)] = tuple(terms)
        sum_of(terms).backward()
        if self._max_norm is not None:
            optim.clip_grad_norm(self._optimizer.parameters, self._max_norm)
        self._optimizer.step()
        return kept


class LBFGSStep:
    """Up to `max_iter` iterations of L-BFGS on one batch, all with the same noise and from the same buffers.

    The evaluation at the end counts: its terms, and what it made of generators and buffers.
    """

    run: Repeated | Plain

    def __init__(self, model: nn.Module, objective: Objective, optimizer: optim.LBFGS, compile: bool) -> None:
        self._model = model
        self._objective = objective
        self._optimizer = optimizer
        step = self._differentiate
        self.run = Repeated(step, model, objective, optimizer, ()) if compile else Plain(step)

    def __call__(self, batch: Batch, means: Means, check: Check) -> None:
        before = Evaluated(self._model)
        seen: dict[float, dict[str, float]] = {}  # terms by their sum: the last evaluation need not be the one kept
        last = None

        def closure() -> float:
            nonlocal last
            before.restore()  # a line search needs a function that does not change
            total, terms, gradients = self.run(*batch)
            for p, g in zip(self._optimizer.parameters, gradients, strict=True):
                p.grad = g
            values = _floats({**terms, TOTAL: total})
            value = values.pop(TOTAL)
            if not seen:  # where the step begins; a line search may look at points that are too far
                check(values, True)
            seen[value] = values
            last = value
            return value

        kept = self._optimizer.step(closure)
        if kept != last:  # generators and buffers are those of another point
            before.restore()
            self.run(*batch)
        means.add(seen[kept], len(batch[0]))

    def finish(self, means: Means) -> None:
        """Do nothing: a line search reads every value when it comes."""

    def _differentiate(self, *batch: mg.Tensor) -> tuple[mg.Tensor, Mapping[str, mg.Tensor], Any]:
        terms = terms_of(self._objective, self._model, batch)
        total = sum_of(terms)
        gradients = mg.autograd.grad(total, self._optimizer.parameters, allow_unused=True)
        return total.detach(), {name: term.detach() for name, term in terms.items()}, list(gradients)


def _floats(terms: Mapping[str, mg.Tensor]) -> dict[str, float]:
    if next(iter(terms.values())).device.type == "cpu":
        return {name: float(term.item()) for name, term in terms.items()}
    return dict(zip(terms, vector_of(terms).numpy().tolist(), strict=True))  # one wait
