"""Optimizer: what all optimizers have in common; each one adds its update rule."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .. import functions, tape
from ..errors import DataError, DeviceError, DTypeError
from ..state import check
from ..tensor import Parameter, Tensor, tensor


class Optimizer:
    """Parameters, a learning rate, and the tensors that an update rule keeps for each parameter.

    A subclass names those tensors in `slots`, validates its hyper-parameters and writes `_update`.

    Parameters
    ----------
    parameters : iterable of Parameter
        At least one, each once: `model.parameters()`.
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
    DataError, DTypeError
        There is no parameter, one is there twice, something is no parameter, or a number is out of its range.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Parameter], lr: float) -> None:
        self.parameters = self._checked(parameters)
        self.lr = lr
        self.step_counts = [0] * len(self.parameters)
        self._kept = {
            name: [functions.zeros(p.shape, p.dtype, p.device) for p in self.parameters] for name in self.slots
        }

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = self._number("lr", value)

    def zero_grad(self) -> None:
        """Forget the gradients of the parameters."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient; the others, and what is kept for them, stay as they are.

        Raises
        ------
        DTypeError, DeviceError
            A gradient, or what is kept for it, differs from its parameter; nothing has changed then.
        """
        for position, parameter in enumerate(self.parameters):
            if parameter.grad is not None:
                self._check_alike(position, parameter, parameter.grad)
        with tape.no_grad():
            for position, parameter in enumerate(self.parameters):
                if parameter.grad is not None:
                    self.step_counts[position] += 1
                    self._update(position, parameter, parameter.grad)

    def _update(self, position: int, parameter: Parameter, gradient: Tensor) -> None:
        """Assign the parameter its next value, and the kept tensors theirs."""
        raise NotImplementedError(f"{type(self).__name__} has no update rule; write _update in the class")

    # Saved state

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all that the next step depends on, by name, besides the parameters and their gradients.

        "lr", "step_counts", and for every kept tensor "name.position". Hyper-parameters other than lr are not in it.
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
        self.lr = arrays["lr"].item()
        self.step_counts = arrays["step_counts"].tolist()
        for name, kept in self._kept.items():
            for position, value in enumerate(kept):
                value.assign(value.device.put(arrays[f"{name}.{position}"]))

    def _state(self) -> dict[str, Tensor]:
        counts = {"lr": np.float64(self.lr), "step_counts": np.array(self.step_counts, np.int64)}
        state = {name: tensor(value, device="cpu") for name, value in counts.items()}
        return state | {f"{name}.{i}": value for name, kept in self._kept.items() for i, value in enumerate(kept)}

    # Checks

    def _checked(self, parameters: Iterable[Parameter]) -> list[Parameter]:
        owner = type(self).__name__
        if isinstance(parameters, Tensor) or not isinstance(parameters, Iterable):
            raise DTypeError(
                f"{owner}: got a {type(parameters).__name__}; expected a list of parameters: model.parameters()"
            )
        found = list(parameters)
        if not found:
            raise DataError(f"{owner}: got no parameters; a list from model.parameters() is used up after one pass")
        for position, parameter in enumerate(found):
            if not isinstance(parameter, Parameter):
                raise DTypeError(
                    f"{owner}: item {position} is a {type(parameter).__name__}; expected parameters: model.parameters()"
                )
        if len({id(parameter) for parameter in found}) < len(found):
            raise DataError(f"{owner}: a parameter is there twice and would be updated twice per step; give it once")
        return found

    def _check_alike(self, position: int, parameter: Parameter, gradient: Tensor) -> None:
        kept = {f"kept tensor {name!r}": tensors[position] for name, tensors in self._kept.items()}
        for what, value in {"gradient": gradient, **kept}.items():
            where = f"{type(self).__name__}: parameter {position} is"
            if value.device is not parameter.device:
                raise DeviceError(
                    f"{where} on {parameter.device.name}, its {what} on {value.device.name}; "
                    "move the model before you make the optimizer"
                )
            if value.dtype != parameter.dtype:
                raise DTypeError(
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
