"""Optimizer: what all optimizers have in common; each one adds its update rule."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .. import creation, modes, observers
from ..errors import DataError, DeviceError, DTypeError
from ..parameter import Parameter
from ..program.compile import compile
from ..state import check
from ..tensor import Tensor, Version, tensor

STEPS_BEFORE_REPLAY = 3  # a few steps of a kind are done before one is recorded


class Optimizer:
    """Parameters, a learning rate, and the tensors that an update rule keeps for each parameter.

    A subclass names those tensors in `slots`, validates its hyper-parameters and writes `_update`. What changes from
    step to step, the learning rate and the step counts too, is in tensors, so a recorded step stays right when they do.
    When a model was moved to another device, these tensors follow at the next step.

    On the CPU the library's own optimizers record their update in the fourth step of a kind, and replay it from the
    fifth on. A class of yours may count or choose in Python: its `_update` is called in every step, unless you compile
    the step (`mg.compile`).

    Parameters
    ----------
    parameters : iterable of Parameter
        At least one, each once, all on one device: `model.parameters()`.
    lr : float, at least 0
        The learning rate.

    Attributes
    ----------
    parameters : list of Parameter
    lr : float
        May be set between steps.
    step_counts : list of int
        How often each parameter was updated.

    Raises
    ------
    DataError, DTypeError, DeviceError
        There is no parameter, one is there twice, something is no parameter, or a number is out of its range.
    """

    slots: tuple[str, ...] = ()
    _replayed: Any = None  # the update as a compiled function, which makes one pass over a parameter and not many
    _replayed_kind: Any = None  # for which gradients, parameters and hyper-parameters it is
    _steps = 0  # of that kind

    def __init__(self, parameters: Iterable[Parameter], lr: float) -> None:
        self.parameters = self._checked(parameters)
        place = self.parameters[0].device
        # in float64: 1 - 0.999 has an error of 6e-5 in float32
        self._lr = tensor(np.float64(self._number("lr", lr)), device=place)
        self._counts = creation.zeros((len(self.parameters),), np.float64, place)
        self._kept: dict[str, list[Tensor]] = {}
        self._keep()

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self._lr.item()

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr.assign(self._number("lr", value))

    @property
    def step_counts(self) -> list[int]:
        """How often each parameter was updated."""
        return self._counts.numpy().astype(int).tolist()

    def zero_grad(self) -> None:
        """Forget the gradients of the parameters."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient; the others, and what is kept for them, stay as they are.

        Raises
        ------
        DTypeError, DeviceError
            A gradient, or what is kept for it, differs from its parameter, or the parameters are no longer on one
            device; nothing has changed then.
        """
        self._follow()
        self._keep()
        gradients = [parameter.grad for parameter in self.parameters]
        kept = list(self._kept.values())
        for position, (parameter, gradient) in enumerate(zip(self.parameters, gradients, strict=True)):
            if gradient is not None:
                place, dtype = parameter.device, parameter.dtype
                if gradient.device is not place or gradient.dtype != dtype:
                    raise self._unlike(position, parameter, gradient)
                for tensors in kept:
                    if tensors[position].device is not place or tensors[position].dtype != dtype:
                        raise self._unlike(position, parameter, gradient)
        with modes.no_grad():
            if not self._is_to_replay(gradients):
                self._update_all(gradients)
                return
            if self._replayed is None:
                self._replayed = compile(self._update_all)
            self._replayed(gradients)

    def _is_to_replay(self, gradients: list[Tensor | None]) -> bool:
        """Return whether a few steps just like this one have come before it."""
        if self._counts.device.type != "cpu" or observers.recording() or observers.observed():
            return False
        # nobody knows what the update of another's class does besides operations on tensors
        if type(self).__module__.partition(".")[0] != __name__.partition(".")[0]:
            return False
        # as text: a list may be changed in place
        kind = (
            [g is None for g in gradients],
            [id(p) for p in self.parameters],  # of those that were recorded none is freed, so no number is used again
            [repr(getattr(self, name)) for name in self._hyper_parameters()],
        )
        if kind != self._replayed_kind:
            self._replayed_kind, self._replayed, self._steps = kind, None, 0
        self._steps += 1
        return self._steps > STEPS_BEFORE_REPLAY

    def _hyper_parameters(self) -> list[str]:
        """Return the names of what an update depends on besides tensors."""
        return [name for name in vars(self) if not name.startswith("_") and name != "parameters"]

    def _update_all(self, gradients: list[Tensor | None]) -> None:
        """Update the parameters that have a gradient."""
        for name in self._hyper_parameters():
            observers.note(self, name)  # a program holds for these hyper-parameters only
        updated = np.array([gradient is not None for gradient in gradients], np.float64)
        self._counts.assign(self._counts + Tensor._wrap(self._counts.device.put(updated), self._counts.device, None))
        scalars = {d: self._scalars(d) for d in {p.dtype for p in self.parameters}}
        for position, (parameter, gradient) in enumerate(zip(self.parameters, gradients, strict=True)):
            if gradient is not None:
                self._update(position, parameter, gradient, scalars[parameter.dtype])

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the compiled step, which a copy makes for itself."""
        return {**vars(self), "_replayed": None}

    def _keep(self) -> None:
        """Make the tensors of `slots` that are not there yet."""
        for name in self.slots:
            if name not in self._kept:
                with observers.observing(None):  # a step that is being recorded finds them
                    self._kept[name] = [creation.zeros(p.shape, p.dtype, p.device) for p in self.parameters]

    def _follow(self) -> None:
        """Bring what is kept to the device of the parameters, to which a model may have been moved."""
        place = self.parameters[0].device
        for p in self.parameters:
            if p.device is not place:
                _refuse_several_devices(
                    type(self).__name__, self.parameters, "move the whole model with model.to(device)"
                )
        if self._counts.device is place:  # what moves last
            return
        tensors = [self._lr, *(t for kept in self._kept.values() for t in kept), self._counts]
        moved = [(t, place.put(t._array)) for t in tensors if t.device is not place]
        for t, array in moved:  # the same tensors: those who hold them see the move
            t._array, t.device, t._version = array, place, Version()

    def _scalars(self, dtype: np.dtype) -> tuple[Tensor, ...]:
        """Return, in the dtype of an update, the tensors that are the same for all parameters: the learning rate."""
        return (self._lr.to(dtype),)

    def _update(self, position: int, parameter: Parameter, gradient: Tensor, scalars: tuple[Tensor, ...]) -> None:
        """Assign the parameter its next value, and the kept tensors theirs."""
        raise NotImplementedError(f"{type(self).__name__} has no update rule; write _update in the class")

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the tensors that change from step to step, with names: "lr", "step_counts", "mean[0]"."""
        yield "lr", self._lr
        yield "step_counts", self._counts
        for name, kept in self._kept.items():
            yield from ((f"{name}[{i}]", value) for i, value in enumerate(kept))

    # Saved state

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all that changes from step to step, by name, besides the parameters and their gradients.

        "lr", "step_counts", and for every kept tensor "name.position". Hyper-parameters that do not change are what
        the optimizer was made with, and not in it.
        """
        return {name: value.numpy().copy() for name, value in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned, or change nothing and raise.

        Raises
        ------
        DataError, ShapeError, DTypeError
            The state is that of another kind of optimizer or of other parameters.
        """
        arrays = check(f"{type(self).__name__}.load_state_dict", self._state(), state)
        if (arrays["step_counts"] < 0).any():
            raise DataError(f"{type(self).__name__}.load_state_dict: step_counts has negative numbers; it is damaged")
        # all copies are made before the first change: a value may be the memory of another of these tensors
        counts = self._counts.device.put(arrays["step_counts"].astype(np.float64))
        copies = [
            (value, value.device.put(arrays[f"{name}.{position}"]))
            for name, kept in self._kept.items()
            for position, value in enumerate(kept)
        ]
        self.lr = arrays["lr"].item()
        self._counts.assign(counts)
        for value, copy in copies:
            value.assign(copy)

    def _state(self) -> dict[str, Tensor]:
        state = {"lr": self._lr, "step_counts": self._counts.to(np.int64)}
        return state | {f"{name}.{i}": value for name, kept in self._kept.items() for i, value in enumerate(kept)}

    # Checks

    def _checked(self, parameters: Iterable[Parameter]) -> list[Parameter]:
        owner = type(self).__name__
        found = list(iterable_of(owner, parameters))
        if not found:
            raise DataError(f"{owner}: got no parameters; a list from model.parameters() is used up after one pass")
        for position, parameter in enumerate(found):
            if not isinstance(parameter, Parameter):
                raise DTypeError(
                    f"{owner}: item {position} is a {type(parameter).__name__}; expected parameters: model.parameters()"
                )
        if any(parameter.device is not found[0].device for parameter in found):
            _refuse_several_devices(owner, found, "make one optimizer per device")
        if len({id(parameter) for parameter in found}) < len(found):
            raise DataError(f"{owner}: a parameter is there twice and would be updated twice per step; give it once")
        return found

    def _unlike(self, position: int, parameter: Parameter, gradient: Tensor) -> DeviceError | DTypeError:
        """Return the error that says what differs from its parameter."""
        kept = {f"kept tensor {name!r}": tensors[position] for name, tensors in self._kept.items()}
        values = {"gradient": gradient, **kept}
        where = f"{type(self).__name__}: parameter {position} is"
        for what, value in values.items():
            if value.device is not parameter.device:
                return DeviceError(
                    f"{where} on {parameter.device.name}, its {what} on {value.device.name}; "
                    "compute gradients after moving the model, with data on its device"
                )
        what, value = next((what, value) for what, value in values.items() if value.dtype != parameter.dtype)
        return DTypeError(
            f"{where} {parameter.dtype.name}, its {what} {value.dtype.name}; "
            "convert the model before you make the optimizer"
        )

    def _number(self, name: str, value: Any, below: float = math.inf, positive: bool = False) -> float:
        """Return a hyper-parameter as a float, when it is in [0, below), or in (0, below) for a positive one."""
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise DTypeError(f"{type(self).__name__}: got {name}={value!r}; expected a number")
        number = float(value)
        if not 0 <= number < below or (positive and number == 0):
            interval = f"{'(' if positive else '['}0, {below:g})"
            raise DataError(f"{type(self).__name__}: got {name}={value!r}; expected a number in {interval}")
        return number

    def _check_epsilon(self, eps: float) -> None:
        """Raise where what is added to a divisor is 0 in the dtype of a parameter."""
        for dtype in {parameter.dtype for parameter in self.parameters}:
            if dtype.type(eps) == 0:
                raise DataError(
                    f"{type(self).__name__}: eps={eps!r} is 0 in {dtype.name}, the dtype of a parameter, and where "
                    "there is no gradient it would be divided by; give a larger eps (1e-4), or train in float32"
                )


def _refuse_several_devices(owner: str, parameters: list[Parameter], instead: str) -> None:
    places = sorted({parameter.device.name for parameter in parameters})
    raise DeviceError(f"{owner}: the parameters are on {' and '.join(places)}; {instead}")


def iterable_of(owner: str, parameters: Iterable[Parameter]) -> Iterable[Parameter]:
    """Return several parameters; a single one would be taken apart into elements, which have no gradients."""
    if isinstance(parameters, Tensor) or not isinstance(parameters, Iterable):
        raise DTypeError(
            f"{owner}: got a {type(parameters).__name__}; expected a list of parameters: model.parameters()"
        )
    return parameters
