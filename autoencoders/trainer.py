"""The epochs of a training, and what comes after each of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import minigrad as mg
from autoencoders.checkpoints import Checkpoint
from autoencoders.divergence import check_parameters, check_terms, check_validation
from autoencoders.early_stopping import EarlyStopping
from autoencoders.history import History
from autoencoders.objectives import NOISE, Means, Objective, measure, noise
from autoencoders.operations import Operations, operations_of, repeated_operations
from autoencoders.progress import progress_bar
from autoencoders.snapshots import Modes, Snapshot
from autoencoders.sources import Source
from autoencoders.steps import GradientStep, LBFGSStep
from minigrad import nn, optim
from minigrad.errors import DataError
from minigrad.random import Generator


@dataclass
class Trainer:
    """A training: its epochs, and what comes after each of them."""

    model: nn.Module
    objective: Objective
    optimizer: optim.Optimizer
    schedule: optim.Schedule | Callable[[int], float] | None
    callback: Callable[[nn.Module, History], bool | None] | None
    step: GradientStep | LBFGSStep
    train_set: Source
    held_out: Source | None
    seed: int
    shuffler: Generator
    shuffle: bool
    modes: Modes
    early_stopping: EarlyStopping
    file: Checkpoint | None
    history: History

    def run(self, epochs: int, steps: int | None, progress: bool, resume: bool) -> History:
        """Train for so many epochs, or until early stopping or the callback ends it; `steps` are those of an epoch."""
        try:
            with (
                mg.enable_grad(),  # fit may be called where only results are wanted
                noise(self.seed, NOISE),
                progress_bar(steps and epochs * steps, progress) as bar,
            ):
                done, ended = 0, False
                if self.file is not None and resume:
                    self.modes.train()
                    done, best = self.file.restore(epochs, self._operations(repeated_operations))
                    self.early_stopping.set_state(best)
                    ended = self.callback is not None and best.get("ended", False)  # not in files of older versions
                    bar.update(done * (steps or 0))
                for epoch in range(done + 1, epochs + 1):
                    if ended or self.early_stopping.due:
                        break
                    self._epoch(epoch, bar)
                    if self._after_epoch(epoch):
                        break
                self.early_stopping.restore()
        except KeyboardInterrupt:
            self.early_stopping.restore()
            raise
        finally:
            self.modes.restore()
            self.model.zero_grad()
            self.optimizer.zero_grad()
        return self.history

    def _epoch(self, epoch: int, bar: Any) -> None:
        """Train on every batch, and measure on the validation set; an error undoes all of it."""
        start = time.perf_counter()
        self.modes.train()
        called = self.callback is not None
        if self.schedule is not None and not isinstance(self.schedule, optim.Schedule):
            self.optimizer.lr, called = self.schedule(epoch), True
        before = Snapshot(self.model, self.optimizer)
        means = Means()
        self.step.run.begin_epoch(called)
        try:
            for position, batch in enumerate(self.train_set.batches(self.shuffler, self.shuffle), start=1):
                self.step(batch, means, partial(check_terms, self.model, epoch, position))
                bar.update()
            self.step.finish(means)
            check_parameters(self.model, f"after epoch {epoch}")
            validation = {} if self.held_out is None else self._validate(self.held_out, epoch)
            _add(self.history, means.values, validation, time.perf_counter() - start)
        except Exception:  # it diverged, or a batch came that cannot be used
            before.restore()
            raise
        bar.set_postfix(epoch=epoch, loss=f"{self.history.loss[-1]:.4g}")

    def _validate(self, held_out: Source, epoch: int) -> dict[str, float]:
        """Return the means of the terms over the validation set, all of them finite."""
        self.model.eval()
        values = measure(self.model, held_out, self.objective, self.seed)
        check_validation(epoch, values)
        return values

    def _after_epoch(self, epoch: int) -> bool:
        """Judge the loss, call back and write the checkpoint; return whether the callback ends the training."""
        judged = self.history.terms if self.held_out is None else self.history.validation
        loss = sum(curve[-1] for curve in judged.values())
        if isinstance(self.schedule, optim.Schedule):
            self.schedule.step(loss)
        self.early_stopping.see(loss)
        self.model.eval()  # also where there is no validation
        ended = False
        try:
            ended = self.callback is not None and bool(self.callback(self.model, self.history))
            return ended
        finally:  # after the callback, which may draw numbers or change the model
            if self.file is not None:
                self.modes.train()
                best = {**self.early_stopping.state(), "ended": ended}
                self.file.save(epoch, best, self._operations(operations_of))

    def _operations(self, find: Callable[..., Operations | None]) -> Operations | None:
        """Return what the objective does with the model in its mode, where the step is thought to repeat it."""
        return find(self.objective, self.model, self.train_set.first) if self.step.run.repeats else None


def _add(history: History, terms: dict[str, float], validation: dict[str, float], seconds: float) -> None:
    """Add what an epoch gave to a history: all of it, or nothing where its terms are others than before."""
    pairs = ((history.terms, terms), (history.validation, validation))
    for curves, values in pairs:
        if curves and values.keys() != curves.keys():
            raise DataError(
                f"fit: the objective returned the terms {sorted(values)}, and {sorted(curves)} in the epochs before; "
                "is it another objective than that of the checkpoint?"
            )
    for curves, values in pairs:
        for name, value in values.items():
            curves.setdefault(name, []).append(value)
    history.seconds.append(seconds)
