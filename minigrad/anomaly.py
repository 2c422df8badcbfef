"""detect_anomaly: stop at the first operation that makes a NaN or an infinity, and say where it came from."""

from __future__ import annotations

from contextlib import ExitStack
from threading import get_ident
from typing import Any

import numpy as np

from . import modes, observers
from .devices import to_numpy
from .errors import AnomalyError
from .observers import InnerObserver, Observer
from .primitives.registry import Primitive
from .source import user_line
from .tensor import Tensor

CAUSES = {
    "log": "log is -inf at 0 and NaN below; keep its input away from 0, or use log_softmax, logsumexp, softplus",
    "log2": "log2 is -inf at 0 and NaN below",
    "log10": "log10 is -inf at 0 and NaN below",
    "log1p": "log1p is -inf at -1 and NaN below",
    "divide": "a division by 0; add a small number to the denominator, or choose with mg.where before dividing",
    "sqrt": "sqrt is NaN below 0",
    "power": "0 to a negative power, a negative number to a fractional power, or an overflow",
    "exp": "exp overflows above 88 in float32 and 709 in float64; subtract the largest value first",
    "expm1": "expm1 overflows above 88 in float32 and 709 in float64",
    "multiply": "0 times inf, or an overflow",
}
DERIVATIVE_CAUSES = {
    "log": "1 / x is inf at 0",
    "sqrt": "the derivative of sqrt is inf at 0; add a small number under the root, or use mg.norm",
    "divide": "a division by 0",
    "power": "the derivative of a power with an exponent below 1 is inf at 0",
    "arcsin": "the derivative of arcsin is inf at -1 and 1",
    "arccos": "the derivative of arccos is inf at -1 and 1",
}
WHERE_TRAP = (
    "0 times inf: where a result was not chosen (mg.where, maximum, clip) its cotangent is 0, but the operation before "
    "still had an infinite derivative; choose a harmless input too: mg.where(ok, mg.log(mg.where(ok, x, 1.0)), 0.0)"
)


class detect_anomaly:
    """Context manager: raise at the first operation, forward or backward, that makes a NaN or an infinity.

    It looks at every value, so everything in it is several times slower.

    Raises
    ------
    AnomalyError
        In the block: it names the operation, the line of your code that applied it (also for a derivative, when the
        forward pass was in the block too), the index of the first value that is not finite, and the usual cause.

    Examples
    --------
    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 0.0], requires_grad=True)
    >>> with mg.detect_anomaly():  # doctest: +ELLIPSIS
    ...     mg.sqrt(x).sum().backward()
    Traceback (most recent call last):
    minigrad.errors.AnomalyError: the derivative of sqrt, applied at ..., is inf at index (1,)...
    """

    def __init__(self) -> None:
        self._lines: dict[int, str] = {}  # where the operation of each node was applied
        self._entered: dict[int, list[ExitStack]] = {}  # by thread: several may be in it at one time

    def __enter__(self) -> detect_anomaly:
        inside = ExitStack()
        inside.enter_context(observers.observing(_Watch(observers.observer(), self._lines), observers.recording()))
        inside.enter_context(np.errstate(all="ignore"))  # the error says more than NumPy's warning
        self._entered.setdefault(get_ident(), []).append(inside)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._entered[get_ident()].pop().close()


class _Watch(InnerObserver):
    """The observer of one block."""

    def __init__(self, outer: Observer | None, lines: dict[int, str]) -> None:
        super().__init__(outer)
        self._lines = lines

    def __call__(self, primitive: Primitive, inputs: tuple, result: Tensor, metadata: dict[str, Any]) -> None:
        super().__call__(primitive, inputs, result, metadata)
        if result._node is not None:
            self._lines[result._node.id] = user_line()
        if _finite(result) or not all(_finite(x) for x in inputs if isinstance(x, Tensor)):
            return
        array = np.atleast_1d(to_numpy(result._array))
        place = tuple(int(i[0]) for i in (~np.isfinite(array)).nonzero())
        value = array[place].item()
        node = modes.sweeping()
        if node is None or node.primitive is None:
            what = f"{primitive.name}, applied at {user_line()},"
            cause = CAUSES.get(primitive.name)
        else:
            where = self._lines.get(node.id, "a line before this block")
            what = f"the derivative of {node.primitive.name}, applied at {where},"
            cause = DERIVATIVE_CAUSES.get(node.primitive.name)
            if value != value:
                cause = WHERE_TRAP
        index = place if result.ndim else ()
        raise AnomalyError(
            f"{what} is {value} at index {index} of shape {result.shape}, though all its inputs are finite"
            f"{f': {cause}' if cause else ''}"
        )


def _finite(x: Tensor) -> bool:
    return x.dtype.kind not in "fc" or bool(to_numpy(x.device.xp.isfinite(x._array).all()))
