"""fit: minimise an objective over minibatches, reproducibly, and record every term of it."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import minigrad as mg
from autoencoders.checkpoints import Checkpoint
from autoencoders.history import History
from autoencoders.inputs import positive, samples_of
from autoencoders.progress import progress_bar
from minigrad import data, nn, optim
from minigrad.errors import (
    DataError,
    DeviceError,
    DivergenceError,
    DTypeError,
    GraphError,
    RecordingError,
    ShapeError,
)
from minigrad.random import Generator

Objective = Callable[[Any, mg.Tensor], mg.Tensor | Mapping[str, mg.Tensor]]

# One seed, three independent streams: how the data are shuffled does not depend on how much noise is drawn.
SHUFFLE, NOISE, VALIDATION_NOISE = 1, 2, 3
RESTORED = "The parameters and the optimizer are as they were at the start of the epoch."


def fit(
    model: nn.Module,
    X: mg.Tensor | ArrayLike,
    objective: Objective,
    *,
    epochs: int,
    batch_size: int = 128,
    optimizer: optim.Optimizer | None = None,
    seed: int = 0,
    progress: bool = True,
    validation: mg.Tensor | ArrayLike | None = None,
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
    """Train a model in place by minibatch gradient descent.

    Parameters
    ----------
    model : Module
        Such as an `Autoencoder`.
    X : Tensor or array_like, shape (m, ...)
        The training set, one sample per row; converted to the dtype and device of the model.
    objective : callable
        ``objective(model, x)`` for a batch x returns a scalar tensor, or a dict of them whose sum is minimised.
    epochs : int, at least 1
        How often the model sees all of X.
    batch_size : int, at least 1
        The last batch of an epoch holds what is left.
    optimizer : Optimizer, optional
        Over parameters of the model; by default Adam with learning rate 1e-3.
    seed : int
        Of the shuffling and of everything that the objective draws from the default generator, corruption above all.
        Equal seeds give equal results, bit for bit, on the same machine. The default generator comes back as it was.
    progress : bool
        Show a progress bar, if tqdm is installed and standard error is a terminal.
    validation : Tensor or array_like, shape (v, ...), optional
        The objective is measured on it after every epoch, in evaluation mode and always with the same noise. It has no
        influence on the training.
    shuffle : bool
        Whether to visit the samples in a new random order in each epoch.
    device : str or Device, optional
        Where to train: the model is moved there. By default, where it is.
    callback : callable, optional
        ``callback(model, history)`` is called after every epoch; training ends when it returns True.
    compile : bool
        Record the training step once and replay it (`mg.compile`): the same bits, faster. Python code of the objective
        then runs only while recording; where it reads values, which a recording cannot repeat, a warning says so and
        the training goes on without.
    max_norm : float above 0, optional
        Scale the gradient of each step to at most this Euclidean norm.
    schedule : Schedule or callable, optional
        A schedule of `minigrad.optim` takes a step after every epoch, and is given the validation loss (without
        validation, the training loss). A callable gives the learning rate of an epoch: ``schedule(1)`` of the first.
    patience : int, at least 1, optional
        End the training when that loss has not fallen for so many epochs. The parameters are then those of the best
        epoch, also when the training ends otherwise.
    checkpoint : str or path-like, optional
        A file to write after every epoch, atomically, with all that the next epoch depends on; the one before is kept
        beside it. However the training ends, it is there.
    resume : bool
        Go on from that file: bit for bit as if the training had not been interrupted. `epochs` counts from the start.

    Returns
    -------
    History
        The means of all terms in each epoch.

    Raises
    ------
    ShapeError, DTypeError, DataError, DeviceError
        An argument is unusable; nothing has been changed then.
    DivergenceError
        A term or a parameter became NaN or infinite. The parameters, and the state of the optimizer, are those from
        the start of that epoch.

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
    shuffler = Generator(seed, SHUFFLE)
    parameters = list(model.parameters())
    if not parameters:
        raise DataError(f"fit: the model {type(model).__name__} has no parameters to train")
    patience = None if patience is None else positive(patience, "patience")
    if resume and checkpoint is None:
        raise DataError("fit: got resume=True without checkpoint; expected the file to go on from")
    place = parameters[0].device if device is None else mg.device(device)
    train_set = samples_of(X, "X", model, parameters[0].dtype, place)
    held_out = None if validation is None else samples_of(validation, "validation", model, parameters[0].dtype, place)
    if place is not parameters[0].device:
        if optimizer is not None:
            raise DeviceError(
                f"fit: the model and its optimizer are on {parameters[0].device.name}, but device={place.name!r}; "
                "move the model there before you make the optimizer"
            )
        model.to(place)
    if optimizer is None:
        optimizer = optim.Adam(model.parameters(), lr=1e-3)

    settings = {"seed": seed, "batch_size": batch_size, "samples": len(train_set), "shuffle": bool(shuffle)}
    file = None if checkpoint is None else Checkpoint(checkpoint, settings)
    if isinstance(optimizer, optim.LBFGS):
        raise DTypeError("fit: LBFGS wants the whole objective, not batches; call optimizer.step(closure) yourself")
    if isinstance(schedule, optim.Schedule):
        if schedule.optimizer is not optimizer:
            raise DataError("fit: the schedule is of another optimizer; pass optimizer=schedule.optimizer as well")
    elif schedule is not None and not callable(schedule):
        raise DTypeError(
            f"fit: got schedule={schedule!r}; expected a schedule of minigrad.optim or a function of the epoch"
        )
    history = History()
    was_training = model.training
    steps = epochs * math.ceil(len(train_set) / batch_size)
    try:
        with _noise(seed, NOISE), progress_bar(steps, progress) as bar:
            model.train()
            step = _Step(model, objective, optimizer, compile, train_set[:batch_size], max_norm)
            best = _Best(model)
            generators = {"shuffle": shuffler, "noise": mg.random.default_generator()}
            done = 0
            if file is not None and resume:
                done, state = file.restore(model, optimizer, schedule, generators, history)
                best.set_state(state)
                bar.update(done * math.ceil(len(train_set) / batch_size))
            for epoch in range(done + 1, epochs + 1):
                if patience is not None and best.waited >= patience:
                    break
                start = time.perf_counter()
                model.train()
                if schedule is not None and not isinstance(schedule, optim.Schedule):
                    optimizer.lr = schedule(epoch)
                before = model.state_dict(), optimizer.state_dict()
                means = _Means(len(train_set))
                batches = data.batches(train_set, batch_size=batch_size, generator=shuffler, shuffle=shuffle)
                try:
                    for number, (x,) in enumerate(batches, start=1):
                        values = {name: float(term.item()) for name, term in step(x).items()}
                        _check_terms(values, model, f"epoch {epoch}, batch {number}")
                        means.add(values, len(x))
                        bar.update()
                    _check_parameters(model, f"after epoch {epoch}")
                except DivergenceError:
                    model.load_state_dict(before[0])
                    optimizer.load_state_dict(before[1])
                    raise
                _append(history.terms, means.values)
                if held_out is not None:
                    model.eval()
                    _append(history.validation, _measure(model, held_out, objective, batch_size, seed))
                history.seconds.append(time.perf_counter() - start)
                bar.set_postfix(epoch=epoch, loss=f"{sum(means.values.values()):.4g}")
                judged = history.validation if held_out is not None else history.terms
                loss = sum(curve[-1] for curve in judged.values())
                if isinstance(schedule, optim.Schedule):
                    schedule.step(loss)
                best.see(loss, keep=patience is not None)
                if file is not None:
                    file.save(epoch, model, optimizer, schedule, generators, history, best.state())
                if callback is not None and callback(model, history):
                    break
            if patience is not None:
                best.restore()
    finally:
        model.train(was_training)
        optimizer.zero_grad()
    return history


class _Step:
    """One update of the parameters, from a batch to the terms before the update; compiled if that is possible."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: optim.Optimizer,
        compile: bool,
        first: mg.Tensor,
        max_norm: float | None,
    ) -> None:
        self._max_norm = max_norm
        self._model = model
        self._objective = objective
        self._optimizer = optimizer
        self._compiled = mg.compile(self._eager) if compile else None
        self._shapes: set[tuple[int, ...]] = set()  # of the batches for which it was recorded
        if compile:  # once as it is: checks of values (is x in [0, 1]?) are left out of a recording
            generator = mg.random.default_generator()
            before, buffers = generator.state(), model.state_dict()
            with mg.no_grad():
                _terms(objective(model, first))
            generator.set_state(before)
            model.load_state_dict(buffers)  # running means have seen this batch

    def __call__(self, x: mg.Tensor) -> Mapping[str, mg.Tensor]:
        if self._compiled is None:
            return self._eager(x)
        if x.shape in self._shapes:
            return self._compiled(x)
        self._shapes.add(x.shape)
        before = mg.random.default_generator().state()
        try:
            return self._compiled(x)
        except RecordingError as error:
            warnings.warn(f"fit goes on without compiling, because of {error}", RuntimeWarning, stacklevel=3)
            self._compiled = None
            mg.random.default_generator().set_state(before)
            return self._eager(x)

    def _eager(self, x: mg.Tensor) -> Mapping[str, mg.Tensor]:
        self._optimizer.zero_grad()
        terms = _terms(self._objective(self._model, x))
        first, *others = terms.values()
        total = sum(others, start=first)
        if not total.requires_grad:
            raise GraphError("fit: the objective does not depend on the model's parameters; compute it with model(x)")
        total.backward()
        if self._max_norm is not None:
            optim.clip_grad_norm(self._model.parameters(), self._max_norm)
        self._optimizer.step()
        return {name: term.detach() for name, term in terms.items()}


class _Best:
    """The parameters of the epoch with the lowest loss so far."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._loss = math.inf
        self._parameters: dict[str, np.ndarray] | None = None
        self.waited = 0  # epochs since then

    def see(self, loss: float, keep: bool) -> None:
        """Take in the loss after an epoch, and the parameters if it is the lowest."""
        self.waited += 1
        if loss < self._loss:
            self._loss, self.waited = loss, 0
            self._parameters = self._model.state_dict() if keep else None

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"loss": self._loss, "waited": self.waited, "state": self._parameters}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self._loss, self.waited, self._parameters = state["loss"], state["waited"], state["state"]

    def restore(self) -> None:
        """Bring the best parameters back."""
        if self._parameters is not None:
            self._model.load_state_dict(self._parameters)


def _check_terms(values: dict[str, float], model: nn.Module, where: str) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            _check_parameters(model, f"before {where}", but=f"the term {name!r} of the objective is {value}")
            raise DivergenceError(
                f"fit: the term {name!r} of the objective is {value} in {where}. {RESTORED} Try a smaller learning "
                "rate; look for a log or division at 0 too."
            )


def _check_parameters(model: nn.Module, where: str, but: str = "") -> None:
    """Raise if a parameter is not finite: then the gradient of the step before was not, or the step was too large."""
    for name, parameter in model.named_parameters():
        if not bool(mg.isfinite(parameter.detach()).min()):
            raise DivergenceError(
                f"fit: the parameter {name!r} is not finite {where}{f', and {but}' if but else ''}. {RESTORED} Look "
                "for a sqrt, log or division at 0 in the objective, whose gradient may be infinite though its value is "
                "not, or try a smaller learning rate."
            )


def _terms(result: mg.Tensor | Mapping[str, mg.Tensor]) -> Mapping[str, mg.Tensor]:
    """The terms of an objective by name, each a scalar tensor."""
    terms = {"loss": result} if isinstance(result, mg.Tensor) else result
    if not isinstance(terms, Mapping) or not terms:
        raise DTypeError(f"fit: the objective returned {result!r}; expected a scalar tensor or a dict of them")
    for name, term in terms.items():
        if not isinstance(name, str) or not isinstance(term, mg.Tensor):
            raise DTypeError(
                f"fit: the objective's term {name!r} is a {type(term).__name__}; expected tensors, named by str"
            )
        if term.shape != ():
            raise ShapeError(
                f"fit: the objective's term {name!r} has shape {term.shape}; expected a scalar, such as a sum or a mean"
            )
    return terms


class _Means:
    """Means over `samples` samples of the terms that come batch by batch."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.values: dict[str, float] = {}

    def add(self, values: dict[str, float], size: int) -> None:
        if self.values and values.keys() != self.values.keys():
            raise DataError(
                f"fit: the objective returned the terms {sorted(values)}, and {sorted(self.values)} for an earlier "
                "batch; expected the same names every time"
            )
        for name, value in values.items():
            self.values[name] = self.values.get(name, 0.0) + value * (size / self.samples)


def _append(curves: dict[str, list[float]], values: dict[str, float]) -> None:
    for name, value in values.items():
        curves.setdefault(name, []).append(value)


def _measure(model: nn.Module, X: mg.Tensor, objective: Objective, batch_size: int, seed: int) -> dict[str, float]:
    """The means of the terms over X, without a change to anything."""
    means = _Means(len(X))
    with mg.no_grad(), _noise(seed, VALIDATION_NOISE):
        for (x,) in data.batches(X, batch_size=batch_size, shuffle=False):
            means.add({name: float(term.item()) for name, term in _terms(objective(model, x)).items()}, len(x))
    return means.values


@contextmanager
def _noise(seed: int, stream: int) -> Iterator[None]:
    """Let the default generator draw from `seed` and `stream` inside the block, and go on as before after it."""
    generator = mg.random.default_generator()
    before = generator.state()
    generator.set_state({"seed": seed, "stream": stream, "counter": 0})
    try:
        yield
    finally:
        generator.set_state(before)
