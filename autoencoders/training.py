"""fit: minimise an objective over minibatches, reproducibly, and record every term of it."""

from __future__ import annotations

import hashlib
import operator
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import minigrad as mg
from autoencoders.checkpoints import Checkpoint
from autoencoders.early_stopping import EarlyStopping
from autoencoders.history import History
from autoencoders.inputs import number, positive, refuse_data_set
from autoencoders.objectives import SHUFFLE, Objective, check_objective
from autoencoders.snapshots import Modes, generators_of
from autoencoders.sources import Batch, InMemory, Source, is_stream, source_of, steps_of
from autoencoders.steps import GradientStep, LBFGSStep
from autoencoders.trainer import Trainer
from minigrad import nn, optim
from minigrad.errors import DataError, DTypeError
from minigrad.random import Generator


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
        X as one batch, and an epoch is one call of its `step`: every evaluation of it has the same noise, if that is of
        the default generator or of those that modules have as attributes, and begins with the same buffers.
    seed : int
        Of the shuffling and of everything that the objective draws from the default generator, corruption above all.
        Equal seeds give equal results, bit for bit, on the same machine. The default generator comes back as it was.
    progress : bool
        Show a progress bar, if tqdm is installed and standard error is a terminal.
    validation : as X, or with y a pair of both, optional
        The objective is measured on it after every epoch, in evaluation mode and always with the same noise, drawn from
        the default generator or from those that modules have as attributes. It has no influence on the training, but
        for `patience` and `schedule`.
    shuffle : bool
        Whether to visit the samples in a new random order in each epoch.
    device : str or Device, optional
        Where to train: the model is moved there. By default, where it is.
    callback : callable, optional
        ``callback(model, history)`` is called after every epoch, with the model in evaluation mode; training ends when
        it returns True, also for `resume`.
    compile : bool
        Record the training step once and replay it (`mg.compile`): the same bits, faster. Python code of the objective
        then runs only while recording. Where it reads values, or depends on something besides tensors, such as
        ``numpy.random`` or a counter, which a recording cannot repeat, a warning says so and the training goes on
        without. That is looked for from time to time, also where an epoch begins after at least 20 batches (4 where
        there is a callback or a callable `schedule`), so a few steps may have used what was recorded. So are values
        that the objective's functions check (is a mean activation below 1?). Draw noise from `minigrad.random`, and
        keep numbers that change in tensors.
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
    numbers = _Numbers.of(epochs, batch_size, seed, patience, max_norm)
    shuffler = Generator(numbers.seed, SHUFFLE)
    parameters = list(model.parameters())
    if not parameters:
        raise DataError(f"fit: the model {type(model).__name__} has no parameters to train")
    if callback is not None and not callable(callback):
        raise DTypeError(f"fit: got callback={callback!r}; expected a function of the model and the history")
    if resume and checkpoint is None:
        raise DataError("fit: got resume=True without checkpoint; expected the file to go on from")
    _check_optimizer(optimizer, parameters, max_norm)
    _check_schedule(schedule, optimizer)
    place = parameters[0].device if device is None else mg.device(device)
    sets = _sets_of(model, X, y, validation, numbers, place, at_once=isinstance(optimizer, optim.LBFGS))
    check_objective(objective, len(sets.train.first))
    file = None
    if checkpoint is not None:
        file = Checkpoint(checkpoint, _settings(model, optimizer, numbers, bool(shuffle), sets))
        if not resume:
            file.refuse_to_replace()

    if place is not parameters[0].device:
        model.to(place)  # the optimizer follows
    if optimizer is None:
        optimizer = optim.Adam(model.parameters(), lr=1e-3)
    step: GradientStep | LBFGSStep
    if isinstance(optimizer, optim.LBFGS):
        step = LBFGSStep(model, objective, optimizer, compile)
    else:
        extremes = sets.train.extremes if compile else ()
        step = GradientStep(model, objective, optimizer, compile, numbers.max_norm, extremes)
    history = History()
    generators = {"shuffle": shuffler, "noise": mg.random.default_generator(), **generators_of(model)}
    trainer = Trainer(
        model=model, objective=objective, optimizer=optimizer, schedule=schedule, callback=callback, step=step,
        train_set=sets.train, held_out=sets.held_out, seed=numbers.seed, shuffler=shuffler, shuffle=shuffle, file=file,
        modes=Modes(model), early_stopping=EarlyStopping(model, numbers.patience), history=history,
    )  # fmt: skip
    try:
        if file is not None:
            file.begin(model, optimizer, schedule, generators, history)
        return trainer.run(numbers.epochs, steps_of(sets.train, sets.batch_size), progress, resume)
    finally:
        if file is not None:
            file.end()


@dataclass(frozen=True)
class _Numbers:
    """The numbers among the arguments."""

    epochs: int
    batch_size: int
    seed: int
    patience: int | None
    max_norm: float | None

    @classmethod
    def of(cls, epochs: Any, batch_size: Any, seed: Any, patience: Any, max_norm: Any) -> _Numbers:
        """Return them checked."""
        try:
            seed = operator.index(seed)
        except TypeError:
            raise DTypeError(f"fit: got seed={seed!r}; expected an integer, such as 0") from None
        return cls(
            epochs=positive(epochs, "epochs"),
            batch_size=positive(batch_size, "batch_size"),
            seed=seed,
            patience=None if patience is None else positive(patience, "patience"),
            max_norm=None if max_norm is None else number(max_norm, "max_norm", "fit", inside=True),
        )


@dataclass(frozen=True)
class _Sets:
    """The training set, the validation set if there is one, and the size of their batches."""

    train: Source
    held_out: Source | None
    batch_size: int


def _sets_of(
    model: nn.Module, X: Any, y: Any, validation: Any, numbers: _Numbers, place: mg.Device, at_once: bool
) -> _Sets:
    """Return the data as sources of batches, of which there is one for training if it is to be `at_once`."""
    if at_once and (is_stream(X) or isinstance(X, np.memmap)):
        raise DataError("fit: LBFGS takes all of X at once; give X as an array in memory, or use another optimizer")
    dtype, batch_size = next(model.parameters()).dtype, numbers.batch_size
    source = partial(source_of, model=model, dtype=dtype, place=place, epochs=numbers.epochs)
    train = source(X, y, "X", batch_size=batch_size)
    if at_once:
        if not isinstance(train, InMemory):
            raise DataError(f"fit: LBFGS takes all of X at once, which is too large for {place.name}; use a part of it")
        train = train.whole()
        batch_size = len(train.first[0])
    held_out = None if validation is None else _held_out(source, validation, batch_size, len(train.first) == 2)
    return _Sets(train, held_out, batch_size)


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


def _check_optimizer(optimizer: Any, parameters: list[mg.Parameter], max_norm: float | None) -> None:
    """Raise unless an optimizer, if one is given, is of parameters of the model."""
    if optimizer is None:
        return
    if not isinstance(optimizer, optim.Optimizer):
        raise DTypeError(f"fit: got optimizer={optimizer!r}; expected one such as optim.Adam(model.parameters())")
    if isinstance(optimizer, optim.LBFGS) and max_norm is not None:
        raise DataError("fit: max_norm shortens gradients, from which LBFGS estimates curvature; leave it out")
    given = set(map(id, optimizer.parameters))
    strangers = given - set(map(id, parameters))
    if strangers == given:
        raise DataError("fit: the optimizer has no parameter of this model; make it of model.parameters()")
    if strangers:
        raise DataError(
            f"fit: {len(strangers)} parameters of the optimizer are not of this model, and would be neither saved nor "
            "restored with it; make them attributes of the model or of a module around it"
        )


def _check_schedule(schedule: Any, optimizer: optim.Optimizer | None) -> None:
    """Raise unless a schedule, if one is given, is of this optimizer, or a function."""
    if isinstance(schedule, optim.Schedule):
        if schedule.optimizer is not optimizer:
            raise DataError("fit: the schedule is of another optimizer; pass optimizer=schedule.optimizer as well")
    elif schedule is not None and not callable(schedule):
        raise DTypeError(
            f"fit: got schedule={schedule!r}; expected a schedule of minigrad.optim or a function of the epoch"
        )


def _settings(
    model: nn.Module, optimizer: optim.Optimizer | None, numbers: _Numbers, shuffle: bool, sets: _Sets
) -> dict[str, Any]:
    """Return what must be the same when a training is resumed."""
    held_out = sets.held_out
    return {
        "seed": numbers.seed,
        "batch_size": sets.batch_size,
        "samples": sets.train.count,
        "shuffle": shuffle,
        "model": repr(model),
        "optimizer": type(optimizer).__name__ if optimizer is not None else "Adam",
        "max_norm": numbers.max_norm,
        "first batch": _digest(sets.train.first),
        "validation": held_out is not None,
        "validation samples": None if held_out is None else held_out.count,
        "validation batch": None if held_out is None else _digest(held_out.first),
    }


def _digest(batch: Batch) -> str:
    """Return a checksum by which other data are noticed."""
    found = hashlib.sha256()
    for t in batch:
        found.update(np.ascontiguousarray(t.detach().numpy()).tobytes())
    return found.hexdigest()
