"""fit: minimise an objective over minibatches, reproducibly, and record every term of it."""

from __future__ import annotations

import hashlib
import math
import operator
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import minigrad as mg
from autoencoders.checkpoints import Checkpoint
from autoencoders.history import History
from autoencoders.inputs import number, positive, refuse_data_set
from autoencoders.objectives import NOISE, SHUFFLE, Means, Objective, check_objective, measure, noise
from autoencoders.operations import Operations, operations_of, repeated_operations
from autoencoders.progress import progress_bar
from autoencoders.snapshots import Modes, Snapshot, generators_of
from autoencoders.sources import Batch, InMemory, Source, is_stream, source_of, steps_of
from autoencoders.steps import GradientStep, LBFGSStep
from minigrad import nn, optim
from minigrad.errors import DataError, DivergenceError, DTypeError
from minigrad.random import Generator

RESTORED = "The parameters and the optimizer are as they were at the start of the epoch."
ANOMALY = "Call fit in a block `with mg.detect_anomaly():` to see at which operation and line it began."


def fit(
    model: nn.Module,
    X: mg.Tensor | ArrayLike | Iterable[Any],
    objective: Objective,
    *,
    y: mg.Tensor | ArrayLike | None = None,
    epochs: int,
    batch_size: int = 128,
    optimizer: optim.Optimizer | None = None,
    seed: int = 0,
    progress: bool = True,
    validation: Any = None,
    shuffle: bool = True,
    device: Any = None,
    callback: Callable[[nn.Module, History], bool | None] | None = None,
    compile: bool = True,
    max_norm: float | None = None,
    schedule: optim.Schedule | Callable[[int], float] | None = None,
    patience: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> History:
    """Train a model in place, by minibatch gradient descent or by L-BFGS.

    Parameters
    ----------
    model : Module
        Such as an `Autoencoder`.
    X : Tensor, array_like or iterable of batches, shape (m, ...)
        The training set, one sample per row; converted to the dtype and device of the model. A memory-mapped array
        (``np.load(path, mmap_mode="r")``) may be larger than memory: each batch is read when it is needed. An iterable
        that is no sequence, such as an object with ``__iter__``, gives batches, or tuples or lists of x and y, in its
        own order; to resume bit for bit, it must give the same ones in every epoch.
    objective : callable
        ``objective(model, x)`` for a batch x returns a scalar tensor, or a dict of them whose sum is minimised.
    y : Tensor or array_like, shape (m, ...), optional
        What belongs to each sample, such as its class: the objective is then ``objective(model, x, y)``. Integers stay
        integers (int64), other numbers get the dtype of the model.
    epochs : int, at least 1
        How often the model sees all of X.
    batch_size : int, at least 1
        The last batch of an epoch holds what is left.
    optimizer : Optimizer, optional
        Over parameters of the model; by default Adam with learning rate 1e-3. `minigrad.optim.LBFGS` takes the whole of
        X as one batch, and an epoch is one call of its `step`, with the same noise in all iterations of it.
    seed : int
        Of the shuffling and of everything that the objective draws from the default generator, corruption above all.
        Equal seeds give equal results, bit for bit, on the same machine. The default generator comes back as it was.
    progress : bool
        Show a progress bar, if tqdm is installed and standard error is a terminal.
    validation : as X, or with y a pair of both, optional
        The objective is measured on it after every epoch, in evaluation mode and always with the same noise. It has no
        influence on the training, but for `patience` and `schedule`.
    shuffle : bool
        Whether to visit the samples in a new random order in each epoch.
    device : str or Device, optional
        Where to train: the model is moved there. By default, where it is.
    callback : callable, optional
        ``callback(model, history)`` is called after every epoch; training ends when it returns True, also for `resume`.
    compile : bool
        Record the training step once and replay it (`mg.compile`): the same bits, faster. Python code of the objective
        then runs only while recording. Where it reads values, or depends on something besides tensors, such as
        ``numpy.random`` or a counter, which a recording cannot repeat, a warning says so and the training goes on
        without. That is looked for from time to time, also where an epoch begins after at least 20 batches (4 where
        there is a callback), so a few steps may have used what was recorded. So are values that the objective's
        functions check (is a mean activation below 1?). Draw noise from `minigrad.random`, and keep numbers that
        change in tensors.
    max_norm : float above 0, optional
        Scale the gradient of each step to at most this Euclidean norm.
    schedule : Schedule or callable, optional
        A schedule of `minigrad.optim` takes a step after every epoch, and is given the validation loss (without
        validation, the training loss). A callable gives the learning rate of an epoch: ``schedule(1)`` of the first.
    patience : int, at least 1, optional
        End the training when that loss has not fallen for so many epochs. The parameters are then those of the best
        epoch, also after all epochs and after Ctrl-C.
    checkpoint : str or path-like, optional
        A file to write after every epoch, atomically, with all that the next epoch depends on; the one before is kept
        beside it. However the training ends, it is there; a file that is there at the start is refused without
        `resume`, so that no training is lost. A generator or a tensor of your own is in it as an attribute of the model
        only (`nn.Buffer`): one that only the objective or the callback knows begins anew.
    resume : bool
        Go on from that file: bit for bit as if the training had not been interrupted. `epochs` counts from the start.
        Other data (their number, and the first batch), settings, optimizers and objectives are refused. A training that
        its callback ended goes on without a callback only. An objective is
        known by its operations and their numbers where the step is compiled; of tensors, only shapes are compared.

    Returns
    -------
    History
        The means of all terms in each epoch.

    Raises
    ------
    ShapeError, DTypeError, DataError, DeviceError
        An argument is unusable; nothing has been changed then.
    DivergenceError
        A term or a parameter became NaN or infinite.
    Exception
        Whatever the objective or the data raise. After any error in an epoch, the parameters and the state of the
        optimizer are those from the start of that epoch.

    Examples
    --------
    >>> import autoencoders as ae
    >>> model = ae.Autoencoder((4, 2), activation="linear")
    >>> X = np.eye(4)[[0, 1] * 8]
    >>> history = ae.fit(model, X, lambda model, x: ae.squared_error(model(x), x), epochs=3, batch_size=4)
    >>> history.epochs, history.loss[-1] < history.loss[0]
    (3, True)
    """
    epochs = positive(epochs, "epochs")
    batch_size = positive(batch_size, "batch_size")
    try:
        seed = operator.index(seed)
    except TypeError:
        raise DTypeError(f"fit: got seed={seed!r}; expected an integer, such as 0") from None
    if callback is not None and not callable(callback):
        raise DTypeError(f"fit: got callback={callback!r}; expected a function of the model and the history")
    shuffler = Generator(seed, SHUFFLE)
    parameters = list(model.parameters())
    if not parameters:
        raise DataError(f"fit: the model {type(model).__name__} has no parameters to train")
    patience = None if patience is None else positive(patience, "patience")
    max_norm = None if max_norm is None else number(max_norm, "max_norm", "fit", inside=True)
    if resume and checkpoint is None:
        raise DataError("fit: got resume=True without checkpoint; expected the file to go on from")
    if optimizer is not None and not isinstance(optimizer, optim.Optimizer):
        raise DTypeError(f"fit: got optimizer={optimizer!r}; expected one such as optim.Adam(model.parameters())")
    place = parameters[0].device if device is None else mg.device(device)
    at_once = isinstance(optimizer, optim.LBFGS)
    if at_once and (is_stream(X) or isinstance(X, np.memmap)):
        raise DataError("fit: LBFGS takes all of X at once; give X as an array in memory, or use another optimizer")
    source = partial(source_of, model=model, dtype=parameters[0].dtype, place=place, epochs=epochs)
    train_set = source(X, y, "X", batch_size=batch_size)
    if at_once:
        if not isinstance(train_set, InMemory):
            raise DataError(f"fit: LBFGS takes all of X at once, which is too large for {place.name}; use a part of it")
        if max_norm is not None:
            raise DataError("fit: max_norm shortens gradients, from which LBFGS estimates curvature; leave it out")
        train_set = train_set.whole()
        batch_size = len(train_set.first[0])
    held_out = None if validation is None else _held_out(source, validation, batch_size, len(train_set.first) == 2)
    check_objective(objective, len(train_set.first))
    _check_optimizer(optimizer, parameters)
    settings = {
        "seed": seed,
        "batch_size": batch_size,
        "samples": train_set.count,
        "shuffle": bool(shuffle),
        "model": repr(model),
        "optimizer": type(optimizer).__name__ if optimizer is not None else "Adam",
        "max_norm": max_norm,
        "first batch": _digest(train_set.first),
        "validation": held_out is not None,
        "validation samples": None if held_out is None else held_out.count,
        "validation batch": None if held_out is None else _digest(held_out.first),
    }
    file = None if checkpoint is None else Checkpoint(checkpoint, settings)
    if file is not None and not resume:
        file.refuse_to_replace()
    if isinstance(schedule, optim.Schedule):
        if schedule.optimizer is not optimizer:
            raise DataError("fit: the schedule is of another optimizer; pass optimizer=schedule.optimizer as well")
    elif schedule is not None and not callable(schedule):
        raise DTypeError(
            f"fit: got schedule={schedule!r}; expected a schedule of minigrad.optim or a function of the epoch"
        )

    if place is not parameters[0].device:
        model.to(place)  # the optimizer follows
    if optimizer is None:
        optimizer = optim.Adam(model.parameters(), lr=1e-3)
    step: GradientStep | LBFGSStep
    if isinstance(optimizer, optim.LBFGS):
        step = LBFGSStep(model, objective, optimizer, compile)
    else:
        step = GradientStep(model, objective, optimizer, compile, max_norm, train_set.extremes if compile else ())
    history = History()
    generators = {"shuffle": shuffler, "noise": mg.random.default_generator(), **generators_of(model)}
    trainer = _Trainer(
        model=model, objective=objective, optimizer=optimizer, schedule=schedule, callback=callback, step=step,
        train_set=train_set, held_out=held_out, seed=seed, shuffler=shuffler, shuffle=shuffle, file=file,
        modes=Modes(model), early_stopping=_EarlyStopping(model, patience), history=history,
    )  # fmt: skip
    try:
        if file is not None:
            file.begin(model, optimizer, schedule, generators, history)
        return trainer.run(epochs, steps_of(train_set, batch_size), progress, resume)
    finally:
        if file is not None:
            file.end()


def _held_out(source: Callable[..., Source], validation: Any, batch_size: int, labelled: bool) -> Source:
    """Return the validation set, which has labels if the training set has some."""
    refuse_data_set(validation, "fit: validation")
    pair = (validation, None)
    if labelled and not is_stream(validation):
        if not (isinstance(validation, tuple) and len(validation) == 2):
            raise DataError("fit: with y, validation is a pair (X, y) of its own")
        pair = validation
    elif isinstance(validation, tuple) and len({getattr(part, "shape", ()) for part in validation}) > 1:
        raise DataError("fit: validation is a pair, but there is no y; give y, or the samples of validation alone")
    held_out = source(*pair, "validation", batch_size=batch_size)
    if (len(held_out.first) == 2) != labelled:
        given, expected = ("x and y", "x alone") if not labelled else ("x alone", "x and y")
        raise DataError(f"fit: validation gives {given}, and the training data are {expected}; give the same in both")
    return held_out


def _check_optimizer(optimizer: optim.Optimizer | None, parameters: list[mg.Parameter]) -> None:
    if optimizer is None:
        return
    given = set(map(id, optimizer.parameters))
    strangers = given - set(map(id, parameters))
    if strangers == given:
        raise DataError("fit: the optimizer has no parameter of this model; make it of model.parameters()")
    if strangers:
        raise DataError(
            f"fit: {len(strangers)} parameters of the optimizer are not of this model, and would be neither saved nor "
            "restored with it; make them attributes of the model or of a module around it"
        )


def _digest(batch: Batch) -> str:
    """Return a checksum by which other data are noticed."""
    found = hashlib.sha256()
    for t in batch:
        found.update(np.ascontiguousarray(t.detach().numpy()).tobytes())
    return found.hexdigest()


@dataclass
class _Trainer:
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
    early_stopping: _EarlyStopping
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
        if self.schedule is not None and not isinstance(self.schedule, optim.Schedule):
            self.optimizer.lr = self.schedule(epoch)
        before = Snapshot(self.model, self.optimizer)
        means = Means()
        self.step.begin_epoch(self.callback is not None and epoch > 1)
        try:
            for position, batch in enumerate(self.train_set.batches(self.shuffler, self.shuffle), start=1):
                self.step(batch, means, partial(_check_terms, self.model, epoch, position))
                bar.update()
            self.step.finish(means)
            _check_parameters(self.model, f"after epoch {epoch}")
            _append(self.history.terms, means.values)
            if self.held_out is not None:
                _append(self.history.validation, self._validate(self.held_out, epoch))
        except Exception:  # it diverged, or a batch came that cannot be used
            before.restore()
            raise
        self.history.seconds.append(time.perf_counter() - start)
        bar.set_postfix(epoch=epoch, loss=f"{self.history.loss[-1]:.4g}")

    def _validate(self, held_out: Source, epoch: int) -> dict[str, float]:
        """Return the means of the terms over the validation set, all of them finite."""
        self.model.eval()
        values = measure(self.model, held_out, self.objective, self.seed)
        for name, value in values.items():
            if not math.isfinite(value):
                raise DivergenceError(
                    f"fit: the term {name!r} of the objective is {value} on the validation data after epoch {epoch}. "
                    f"{RESTORED} Do these data have values that the training set does not have? {ANOMALY}"
                )
        return values

    def _after_epoch(self, epoch: int) -> bool:
        """Judge the loss, call back and write the checkpoint; return whether the callback ends the training."""
        judged = self.history.terms if self.held_out is None else self.history.validation
        loss = sum(curve[-1] for curve in judged.values())
        if isinstance(self.schedule, optim.Schedule):
            self.schedule.step(loss)
        self.early_stopping.see(loss)
        ended = False
        try:
            ended = self.callback is not None and bool(self.callback(self.model, self.history))
            return ended
        finally:  # after the callback, which may draw numbers or change the model
            if self.file is not None:
                best = {**self.early_stopping.state(), "ended": ended}
                self.file.save(epoch, best, self._operations(operations_of))

    def _operations(self, find: Callable[..., Operations | None]) -> Operations | None:
        """Return what the objective does in training mode, where the step is thought to repeat it."""
        self.modes.train()
        return find(self.objective, self.model, self.train_set.first) if self.step.repeats else None


def _append(curves: dict[str, list[float]], values: dict[str, float]) -> None:
    if curves and values.keys() != curves.keys():
        raise DataError(
            f"fit: the objective returned the terms {sorted(values)}, and {sorted(curves)} in the epochs before; is it "
            "another objective than that of the checkpoint?"
        )
    for name, value in values.items():
        curves.setdefault(name, []).append(value)


class _EarlyStopping:
    """Whether the loss has stopped falling, and the parameters of the epoch with the lowest so far."""

    def __init__(self, model: nn.Module, patience: int | None) -> None:
        self._model = model
        self._patience = patience
        self._loss = math.inf
        self._waited = 0  # epochs since then
        self._parameters: dict[str, np.ndarray] | None = None

    @property
    def due(self) -> bool:
        """Whether the patience is at its end."""
        return self._patience is not None and self._waited >= self._patience

    def see(self, loss: float) -> None:
        """Take in the loss after an epoch, and with patience the parameters if it is the lowest."""
        self._waited += 1
        if loss < self._loss:
            self._loss, self._waited = loss, 0
            self._parameters = None if self._patience is None else self._model.state_dict()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"loss": self._loss, "waited": self._waited, "state": self._parameters}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned; a loss whose parameters are wanted and were not kept is forgotten."""
        if state["state"] is not None or self._patience is None:
            self._loss, self._waited, self._parameters = state["loss"], state["waited"], state["state"]

    def restore(self) -> None:
        """With patience, bring the best parameters back."""
        if self._patience is not None and self._parameters is not None:
            self._model.load_state_dict(self._parameters)


def _check_terms(model: nn.Module, epoch: int, batch: int, values: dict[str, float], last: bool) -> None:
    """Raise if a term is not finite, and say where that was."""
    where = f"epoch {epoch}, batch {batch}"
    for name, value in values.items():
        if not math.isfinite(value):
            if last and batch > 1:  # else the parameters have seen further batches, or were finite
                _check_parameters(model, f"in {where}", f"the term {name!r} of the objective is {value}")
            raise DivergenceError(
                f"fit: the term {name!r} of the objective is {value} in {where}. {RESTORED} Try a smaller "
                f"learning rate; look for a log or division at 0 too. {ANOMALY}"
            )


def _check_parameters(model: nn.Module, where: str, but: str = "") -> None:
    """Raise if a parameter is not finite: then the gradient of the step before was not, or the step was too large."""
    named = list(model.named_parameters())
    with mg.no_grad():  # read at once: for each value the host waits for a GPU
        finite = mg.stack([mg.isfinite(parameter.detach()).min() for _, parameter in named]).numpy()
    for (name, _), good in zip(named, finite.tolist(), strict=True):
        if not good:
            raise DivergenceError(
                f"fit: the parameter {name!r} is not finite {where}{f', and {but}' if but else ''}. {RESTORED} Look "
                "for a sqrt, log or division at 0 in the objective, whose gradient may be infinite though its value is "
                f"not, or try a smaller learning rate. {ANOMALY}"
            )
