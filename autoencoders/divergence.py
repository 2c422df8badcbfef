"""What shows that a training diverges: terms and parameters that are not finite, and where that began."""

from __future__ import annotations

import math

import minigrad as mg
from minigrad import nn
from minigrad.errors import DivergenceError

RESTORED = "The parameters and the optimizer are as they were at the start of the epoch."
ANOMALY = "Call fit in a block `with mg.detect_anomaly():` to see at which operation and line it began."


def check_terms(model: nn.Module, epoch: int, batch: int, values: dict[str, float], last: bool) -> None:
    """Raise if a term is not finite, and say where that was."""
    where = f"epoch {epoch}, batch {batch}"
    for name, value in values.items():
        if not math.isfinite(value):
            if last and batch > 1:  # else the parameters have seen further batches, or were finite
                check_parameters(model, f"in {where}", f"the term {name!r} of the objective is {value}")
            raise DivergenceError(
                f"fit: the term {name!r} of the objective is {value} in {where}. {RESTORED} Try a smaller "
                f"learning rate; look for a log or division at 0 too. {ANOMALY}"
            )


def check_validation(epoch: int, values: dict[str, float]) -> None:
    """Raise if a term is not finite on the validation data."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise DivergenceError(
                f"fit: the term {name!r} of the objective is {value} on the validation data after epoch {epoch}. "
                f"{RESTORED} Do these data have values that the training set does not have? {ANOMALY}"
            )


def check_parameters(model: nn.Module, where: str, but: str = "") -> None:
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
