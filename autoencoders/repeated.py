"""A step that is recorded and replayed, and from time to time compared with what it does without: it may not repeat."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
from autoencoders.objectives import Objective, terms_of
from autoencoders.snapshots import Snapshot, Values, undone
from autoencoders.sources import Batch
from minigrad import nn, optim, trees
from minigrad.errors import RecordingError

LIBRARY = ("autoencoders", "minigrad")
# the batch of a kind that is recorded: kernels for a GPU take the time of a few hundred steps to compile, and the batch
# at the end of an epoch, which is smaller than the others, comes seldom
RECORDED_AT = {"cpu": 2, "cuda": 16}
ALIKE_VALUE = 1e-3  # relative difference of a term that the order of sums explains
# and of an update: where a gradient is 0 up to rounding, optimizers such as Adam make steps of its last bits
ALIKE_CHANGE = 0.5
BETWEEN = 20  # batches after which a comparison at the start of an epoch costs little
BETWEEN_CALLS = 4  # and where code of the user ran before it, which may have changed what Python counts


class Plain:
    """A step that runs as it is."""

    repeats = False

    def __init__(self, step: Callable[..., Any]) -> None:
        self._step = step

    def __call__(self, *batch: mg.Tensor) -> Any:
        return self._step(*batch)

    def begin_epoch(self, called: bool) -> None:
        """Do nothing: there is no recording to compare with."""


class Repeated:
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
        self._since_begin = 0  # and since the last one that an epoch's beginning asked for
        self._epoch_begins = False

    @property
    def repeats(self) -> bool:
        """Whether the step is thought to do the same each time: nothing has shown that it does not."""
        return self._compiled is not None

    def begin_epoch(self, called: bool) -> None:
        """Make a new epoch known, and whether code of the user was called before it: its first batch may be compared.

        Comparisons inside of an epoch do not count: what they saw was before that code.
        """
        if self._since_begin >= (BETWEEN_CALLS if called else BETWEEN):
            self._epoch_begins, self._since_begin = True, 0

    def __call__(self, *batch: mg.Tensor) -> Any:
        if self._compiled is None:
            return self._step(*batch)
        self._since_begin += 1
        kind = kind_of(batch)
        calls = self._calls[kind] = self._calls.get(kind, 0) + 1
        recorded_at = RECORDED_AT[batch[0].device.type]
        if calls < recorded_at:
            with mg.modes.unchecked() if calls > 1 else nullcontext():
                return self._step(*batch)
        if calls == recorded_at:
            return self._record(batch)
        self._since += 1
        due = calls == recorded_at + 1 or calls & (calls - 1) == 0 or self._epoch_begins
        if due and self._compiled.programs:  # without any, mg.compile runs the step as it is
            return self._compare(batch)
        return self._compiled(*batch)

    def _compare(self, batch: Batch) -> Any:
        """Run the step as it is, then its recording from the same state, and go on without it if they differ."""
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
            same = _same_step(expected, got, before.arrays())
        if same:
            return result
        before.restore()
        return self._go_on_without(
            batch,
            "the step gives other values than its recording: it depends on something besides tensors, such as "
            "numpy.random or a number that Python counts. Draw from mg.random, or keep the number in a tensor that is "
            f"assigned to. Steps before this one that may have used recorded values: {since - 1}",
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


def check_values(model: nn.Module, objective: Objective, batch: Batch) -> None:
    """Run the objective once as it is: checks of values (is x in [0, 1]?) are left out of a recording."""
    with undone():  # running means have seen this batch, and generators have drawn
        terms_of(objective, model, batch)


def kind_of(batch: Batch) -> Any:
    """Return what the batches of one recording have in common."""
    return tuple((t.shape, t.dtype) for t in batch)


def _arrays(values: Iterable[Any]) -> list[NDArray[Any]]:
    """Return the values of the tensors among some things."""
    return [x.detach().numpy() for x in values if isinstance(x, mg.Tensor)]


Outcome = tuple[list[NDArray[Any]], list[NDArray[Any]]]  # what a step returned, and what became of what it assigned to


def _same_step(expected: Outcome, got: Outcome, began: list[NDArray[Any]]) -> bool:
    """Return whether a step on a GPU did the same but for the order of sums; `began` are the values before it."""
    # terms must be close; gradients, where there are some, are judged as changes are
    terms = [i for i, a in enumerate(expected[0]) if a.ndim == 0] or range(len(expected[0]))
    gradients = [i for i in range(len(expected[0])) if i not in terms]
    return all(_close(expected[0][i], got[0][i]) for i in terms) and _alike(
        [*(expected[0][i] for i in gradients), *expected[1]],
        [*(got[0][i] for i in gradients), *got[1]],
        [*(np.zeros_like(expected[0][i]) for i in gradients), *began],
    )


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
