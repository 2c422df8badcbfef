"""One update of the parameters, from a batch to the terms of the objective: by a gradient, or by L-BFGS."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
from autoencoders.objectives import Means, Objective, Unread, sum_of, terms_of, vector_of
from autoencoders.snapshots import Snapshot, Values, undone
from autoencoders.sources import Batch, Ranges
from minigrad import nn, optim
from minigrad.errors import RecordingError
from minigrad.program import trees

Check = Callable[[dict[str, float], bool], None]  # raises if a term is not finite; told whether this is the last batch
LIBRARY = ("autoencoders", "minigrad")
# the batch of a kind that is recorded: kernels for a GPU take the time of a few hundred steps to compile, and the batch
# at the end of an epoch, which is smaller than the others, comes seldom
RECORDED_AT = {"cpu": 2, "cuda": 16}
ALIKE_VALUE = 1e-3  # relative difference of a term that the order of sums explains
# and of an update: where a gradient is 0 up to rounding, optimizers such as Adam make steps of its last bits
ALIKE_CHANGE = 0.5
BETWEEN = 20  # batches after which a comparison at the start of an epoch costs little
BETWEEN_CALLBACKS = 4  # and where a callback came before it, which may have changed what Python counts
TOTAL = "the sum of all terms"
PENDING = 1024  # batches on a GPU after which their terms are read at the latest


class _Step:
    """What runs on a batch, `_run`: a function, or its recording."""

    _run: Callable[..., Any]

    @property
    def repeats(self) -> bool:
        """Whether the step is thought to do the same each time: it is compiled, and that has not failed."""
        return isinstance(self._run, _Compiled) and self._run.works

    def begin_epoch(self, called_back: bool) -> None:
        """Make a new epoch known, and whether a callback came before it."""
        if isinstance(self._run, _Compiled):
            self._run.begin_epoch(called_back)


class GradientStep(_Step):
    """Forward, backward and one step of the optimizer; takes the terms before the update into the means.

    On the CPU they are read at once. On a GPU the host would have to wait for every batch, so they stay there and are
    read together, by `finish`. `extremes` are None where those of the data are not known.
    """

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
        self._run = _Compiled(self._update, model, objective, optimizer, extremes or ()) if compile else self._update
        self._ranges = Ranges() if compile and extremes is None else None
        self._names: dict[Any, tuple[str, ...]] = {}  # of the terms, by the kind of the batch: a replay does not tell
        self._unread = Unread()

    def __call__(self, batch: Batch, means: Means, check: Check) -> None:
        on_cpu = batch[0].device.type == "cpu"
        # a look at every batch that comes would make the host wait for a GPU
        if on_cpu and self._ranges is not None and self._ranges.widens(batch):
            check_values(self._model, self._objective, batch)
        result, size = self._run(*batch), len(batch[0])
        if on_cpu:
            values = _floats(result)
            check(values, True)
            means.add(values, size)
            return
        self._unread.add((check, size), self._names[_kind(batch)], result)
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
            self._names[_kind(batch)] = tuple(terms)
        sum_of(terms).backward()
        if self._max_norm is not None:
            optim.clip_grad_norm(self._optimizer.parameters, self._max_norm)
        self._optimizer.step()
        return kept


class LBFGSStep(_Step):
    """Up to `max_iter` iterations of L-BFGS on one batch, all with the same noise; the terms at the end count."""

    def __init__(self, model: nn.Module, objective: Objective, optimizer: optim.LBFGS, compile: bool) -> None:
        self._model = model
        self._objective = objective
        self._optimizer = optimizer
        run = self._differentiate
        self._run = _Compiled(run, model, objective, optimizer, ()) if compile else run

    def __call__(self, batch: Batch, means: Means, check: Check) -> None:
        generator = mg.random.default_generator()
        before = generator.state()
        seen: dict[float, dict[str, float]] = {}  # terms by their sum: the last evaluation need not be the one kept

        def closure() -> float:
            generator.set_state(before)  # a line search needs a function that does not change
            total, terms, gradients = self._run(*batch)
            for p, g in zip(self._optimizer.parameters, gradients, strict=True):
                p.grad = g
            values = _floats({**terms, TOTAL: total})
            value = values.pop(TOTAL)
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
    with undone():  # running means have seen this batch, and generators have drawn
        terms_of(objective, model, batch)


class _Compiled:
    """A step that is recorded for each kind of batch, and runs as it is if that cannot be.

    The first batch of a kind is no recording: there the objective checks values. The second is recorded; on a GPU,
    whose kernels take longer to compile, a later one. A recording repeats the operations, not the Python code around
    them, so from time to time (at the next batch, at the fourth, the eighth, ..., and where an epoch begins) the step
    also runs as it is, from the same state, and must give the same bits; on a GPU, where sums have another order in a
    replay, about the same change.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        model: nn.Module,
        objective: Objective,
        optimizer: optim.Optimizer,
        extremes: Sequence[Batch],
    ) -> None:
        self._step = step
        self._model = model
        self._objective = objective
        self._optimizer = optimizer
        self._extremes = extremes  # batches that show whether the values of all others can be used
        self._compiled: Any = mg.compile(step)
        self._calls: dict[Any, int] = {}  # by the kind of the batch
        self._since = 0  # calls since the last comparison
        self._epoch_begins = False

    @property
    def works(self) -> bool:
        """Whether nothing has shown that the step cannot be repeated."""
        return self._compiled is not None

    def begin_epoch(self, called_back: bool) -> None:
        """Compare at the next batch, unless that was done only now."""
        self._epoch_begins = self._since >= (BETWEEN_CALLBACKS if called_back else BETWEEN)

    def __call__(self, *batch: mg.Tensor) -> Any:
        if self._compiled is None:
            return self._step(*batch)
        kind = _kind(batch)
        calls = self._calls[kind] = self._calls.get(kind, 0) + 1
        recorded_at = RECORDED_AT[batch[0].device.type]
        if calls < recorded_at:
            with mg.tape.unchecked() if calls > 1 else nullcontext():
                return self._step(*batch)
        if calls == recorded_at:
            return self._record(batch)
        self._since += 1
        compare = calls == recorded_at + 1 or calls & (calls - 1) == 0 or self._epoch_begins
        if not compare or not self._compiled.programs:  # without any, mg.compile runs the step as it is
            return self._compiled(*batch)
        since, self._since, self._epoch_begins = self._since, 0, False
        assigned = self._compiled.assigned
        before = Values(assigned)
        expected = _arrays(trees.leaves(self._step(*batch))), Values(assigned).arrays()
        before.restore()
        result = self._compiled(*batch)
        got = _arrays(trees.leaves(result)), Values(assigned).arrays()
        if batch[0].device.type == "cpu":
            same = all(map(_same_bits, (*expected[0], *expected[1]), (*got[0], *got[1])))
        else:
            # terms must be close; gradients, where there are some, are judged as changes are
            terms = [i for i, a in enumerate(expected[0]) if a.ndim == 0] or range(len(expected[0]))
            gradients = [i for i in range(len(expected[0])) if i not in terms]
            same = all(_close(expected[0][i], got[0][i]) for i in terms) and _alike(
                [*(expected[0][i] for i in gradients), *expected[1]],
                [*(got[0][i] for i in gradients), *got[1]],
                [*(np.zeros_like(expected[0][i]) for i in gradients), *before.arrays()],
            )
        if same:
            return result
        before.restore()
        return self._go_on_without(
            batch,
            "the step gives other values than its recording: it depends on something besides tensors, such as "
            "numpy.random or a number that Python counts. Draw from mg.random, or keep the number in a tensor that is "
            f"assigned to. This was compared {since} steps ago, since when steps may have used what was recorded",
        )

    def _record(self, batch: Batch) -> Any:
        before = Snapshot(self._model, self._optimizer)
        try:
            result = self._compiled(*batch)
        except RecordingError as error:
            before.restore()
            return self._go_on_without(batch, str(error))
        unseen, self._extremes = self._extremes, ()
        for extreme in unseen:
            check_values(self._model, self._objective, extreme)
        return result

    def _go_on_without(self, batch: Batch, why: str) -> Any:
        warnings.warn(f"fit goes on without compiling: {why}", RuntimeWarning, stacklevel=_depth_of_the_library())
        self._compiled = None
        return self._step(*batch)


def _kind(batch: Batch) -> Any:
    return tuple((t.shape, t.dtype) for t in batch)


def _arrays(values: Iterable[Any]) -> list[NDArray[Any]]:
    """Return the values of the tensors among some things."""
    return [x.detach().numpy() for x in values if isinstance(x, mg.Tensor)]


def _same_bits(expected: NDArray[Any], got: NDArray[Any]) -> bool:
    """Return whether two results are the same to the last bit; NaN equals itself."""
    return np.array_equal(expected, got, equal_nan=expected.dtype.kind == "f")


def _close(expected: NDArray[Any], got: NDArray[Any]) -> bool:
    """Return whether two results are the same but for the order of sums."""
    if expected.shape != got.shape:  # another number of terms
        return False
    return _same_bits(expected, got) or bool(np.allclose(got, expected, rtol=ALIKE_VALUE, atol=0.0, equal_nan=True))


def _alike(expected: list[NDArray[Any]], got: list[NDArray[Any]], began: list[NDArray[Any]]) -> bool:
    """Return whether what became of `began` is about the same; counts, of steps or random numbers, exactly."""
    error = change = 0.0
    for a, b, start in zip(expected, got, began, strict=True):
        if a.dtype.kind != "f" or not np.isfinite(a).all() or _counted(a, start):
            if not _same_bits(a, b):
                return False
            continue
        exact = a.astype(np.float64)
        error += float(np.sum(np.square(exact - b)))
        change += float(np.sum(np.square(exact - start)))
    return error <= ALIKE_CHANGE**2 * change


def _counted(a: NDArray[Any], start: NDArray[Any]) -> bool:
    """Return whether only whole numbers became of whole numbers: such steps would hide those of the parameters."""
    return not np.array_equal(a, start) and np.array_equal(a, np.rint(a)) and np.array_equal(start, np.rint(start))


def _depth_of_the_library() -> int:
    """Return how many frames lie between a warning and the code that called this package."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in LIBRARY:
        depth, frame = depth + 1, frame.f_back
    return depth


def _floats(terms: Mapping[str, mg.Tensor]) -> dict[str, float]:
    if next(iter(terms.values())).device.type == "cpu":
        return {name: float(term.item()) for name, term in terms.items()}
    return dict(zip(terms, vector_of(terms).numpy().tolist(), strict=True))  # one wait
