"""What a training changes, kept to go back to: parameters, buffers, the optimizer, random generators, and modes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

import minigrad as mg
from minigrad import nn, optim
from minigrad.observers import Observer
from minigrad.primitives.registry import Primitive
from minigrad.random import Generator


class Snapshot:
    """The state of a model, of an optimizer if there is one, of the model's generators and of the default one."""

    def __init__(self, model: nn.Module, optimizer: optim.Optimizer | None = None) -> None:
        self._optimizer = optimizer
        self._kept: dict[str, NDArray[Any]] | None = None
        tensors: list[mg.Tensor] = list(model.parameters())
        if optimizer is not None:
            # one that keeps more than tensors, as L-BFGS does, has a state_dict of its own
            if type(optimizer).state_dict is optim.Optimizer.state_dict:
                tensors += [t for _, t in optimizer.named_tensors()]
            else:
                self._kept = optimizer.state_dict()
        self._values = Values(tensors)
        self._evaluated = Evaluated(model)

    def restore(self) -> None:
        """Bring everything back."""
        self._values.restore()
        if self._optimizer is not None and self._kept is not None:
            self._optimizer.load_state_dict(self._kept)
        self._evaluated.restore()


class Evaluated:
    """What an evaluation of the objective may change: buffers of a model, its generators and the default one."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers = Values(buffer for _, buffer in model.named_buffers())
        self._generators = [(g, g.state()) for g in (mg.random.default_generator(), *generators_of(model).values())]

    def restore(self) -> None:
        """Bring them back."""
        self._buffers.restore()
        for generator, state in self._generators:
            generator.set_state(state)


class Values:
    """The values of some tensors, on the device where they are."""

    def __init__(self, tensors: Iterable[mg.Tensor]) -> None:
        self._kept = [(t, mg.tensor(t.detach())) for t in tensors]

    def restore(self) -> None:
        """Assign them again."""
        for t, values in self._kept:
            t.assign(values.to(t.device))

    def arrays(self) -> list[NDArray[Any]]:
        """Return them as arrays of the host."""
        return [values.numpy() for _, values in self._kept]


class Assigned(Observer):
    """An observer of operations that keeps the values of what is assigned to, wherever that is, to go back to them.

    Generators and counters that only an objective knows are among it.
    """

    def __init__(self) -> None:
        self._outer = mg.observers.observer()
        self._kept: dict[int, tuple[mg.Tensor, mg.Tensor]] = {}

    def __call__(
        self, primitive: Primitive, inputs: tuple[Any, ...], result: mg.Tensor, metadata: dict[str, Any]
    ) -> None:
        if self._outer is not None:
            self._outer(primitive, inputs, result, metadata)

    def before_assign(self, t: mg.Tensor) -> None:
        """Keep the value that is about to be replaced."""
        if id(t) not in self._kept:
            with mg.observers.observing(None):
                self._kept[id(t)] = t, mg.tensor(t.detach())

    def restore(self) -> None:
        """Assign them again, the last first: of two views of one memory, the later one was kept with a later value."""
        for t, values in reversed(self._kept.values()):
            t.assign(values.to(t.device))


@contextmanager
def undone() -> Iterator[None]:
    """Undo all that is assigned in the block at its end."""
    assigned = Assigned()
    try:
        with mg.observers.observing(assigned):
            yield
    finally:
        assigned.restore()


def generators_of(model: nn.Module) -> dict[str, Generator]:
    """Return the generators that modules of a model have as attributes, such as those of dropout, by their paths."""
    return {
        f"{path}.{name}": value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, Generator)
    }


class Modes:
    """Which modules of a model were in training mode: a part that was frozen in evaluation mode stays so."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._before = [(module, module.training) for _, module in model.named_modules()]

    def train(self) -> None:
        """Put the model into training mode, all of it if it was not, else as it was."""
        if self._before[0][1]:
            self.restore()
        else:
            self._model.train()

    def restore(self) -> None:
        """Bring every module back into its mode."""
        for module, training in self._before:  # a module comes before those below it, which train() sets too
            module.train(training)


@contextmanager
def evaluating(model: nn.Module | None) -> Iterator[None]:
    """Put a model and all of its modules into evaluation mode inside the block, and back after it."""
    modes = None if model is None else Modes(model)
    try:
        if model is not None:
            model.eval()
        yield
    finally:
        if modes is not None:
            modes.restore()
