"""Operations: the array functions that a group of equations consists of, and which of them one kernel does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from .. import tape
from ..errors import DataError
from . import kernels
from .groups import Group, may_raise
from .lower import NotLowered, is_number, lower
from .program import Equation, Variable

# A simple operation takes about NANOSECONDS for one element in the cache; one of those that are EXPENSIVE, SLOW times
# as long.
NANOSECONDS = 0.1
SLOW = 6
EXPENSIVE = {"exp", "log", "log1p", "expm1", "tanh", "power", "sin", "cos", "sqrt", "divide"}


class Operation:
    """A call that is not yet bound to arrays: its inputs and its result are variables, symbols or numbers."""

    __slots__ = ("dtype", "function", "in_place", "inputs", "name", "result")

    def __init__(
        self, name: str, function: Callable, inputs: tuple, result: Any, dtype: np.dtype, in_place: bool = True
    ) -> None:
        self.name = name
        self.function = function
        self.inputs = inputs
        self.result = result
        self.dtype = dtype
        self.in_place = in_place  # the result may take the memory of an input

    @property
    def reads(self) -> list[Any]:
        """The inputs that are not numbers."""
        return [x for x in self.inputs if not is_number(x)]


class Fused:
    """A run of operations that one kernel does in one pass."""

    __slots__ = ("inputs", "operations", "results")

    def __init__(self, operations: list[Operation], results: list[Operation]) -> None:
        self.operations = operations
        self.results = results
        made = {op.result for op in operations}
        self.inputs = list(dict.fromkeys(x for op in operations for x in op.reads if x not in made))

    @property
    def reads(self) -> list[Any]:
        """What the kernel reads."""
        return self.inputs


def operations_of(group: Group, stored: set[Variable]) -> tuple[list[Operation], dict[Variable, Variable]]:
    """Return the calls of a group, and which results go to memory: each with the variable whose memory it is."""
    operations: list[Operation] = []
    targets: dict[Variable, Variable] = {}
    renamed: dict[Variable, Variable] = {}
    for e in group.elementwise:
        e_inputs = tuple(renamed.get(x, x) if isinstance(x, Variable) else x for x in e.inputs)
        if e.primitive.effect:
            target, value = e.variables[0], e_inputs[1]
            targets[e.output] = target
            if not _write_through(operations, value, target, e.output, targets):
                operations.append(Operation("astype", _convert, (value,), e.output, e.output.dtype, in_place=False))
            elif isinstance(value, Variable):
                renamed[value] = e.output
            continue
        operations += _lowered(e, e_inputs)
        if e.output in stored:
            targets[e.output] = e.output
    return operations, targets


def _write_through(
    operations: list[Operation], value: Any, target: Variable, name: Variable, targets: Mapping[Variable, Variable]
) -> bool:
    """Let the call that computes an assigned value write it straight into the tensor, where that changes nothing."""
    if not isinstance(value, Variable) or value in targets or value.shape != name.shape or value.dtype != name.dtype:
        return False
    made = next((i for i, op in enumerate(operations) if op.result is value), None)
    if made is None or (not operations[made].in_place and target in operations[made].inputs):
        return False
    if any(target in op.inputs for op in operations[made + 1 :]):
        return False
    for op in operations[made:]:
        op.inputs = tuple(name if x is value else x for x in op.inputs)
    operations[made].result = name
    return True


def _lowered(e: Equation, inputs: tuple) -> Iterator[Operation]:
    """Yield the calls that an elementwise equation consists of."""
    kinds = [x.dtype if isinstance(x, Variable) else x for x in inputs]
    if e.primitive.name == "astype":
        yield Operation("astype", _convert, inputs, e.output, e.output.dtype, in_place=False)
        return
    try:
        symbols, calls = lower(e.primitive.forward, kinds, e.metadata, e.output.dtype)
        if any(call.name == "where" and not _is_boolean(call.inputs[0]) for call in calls):
            raise NotLowered("a condition that is not boolean")
    except NotLowered:
        forward = partial(e.primitive.forward, e.output.device.xp, **e.metadata)
        yield Operation("", partial(call_and_copy, forward), inputs, e.output, e.output.dtype, in_place=False)
        return
    named: dict[Any, Any] = {s: x for s, x in zip(symbols, inputs, strict=True) if not is_number(s)}
    named[calls[-1].result] = e.output
    xp = e.output.device.xp
    for call in calls:
        arguments = tuple(x if is_number(x) else named.get(x, x) for x in call.inputs)
        function: Any = _FUNCTIONS.get(call.name) or getattr(xp, call.name)
        result = named.get(call.result, call.result)
        if may_raise(e):
            function = told(e, function)
        # over elements of another size what is not yet read would be written over; and a product of two complex numbers
        # that is written over one of them takes NumPy's loop for reductions, which rounds otherwise
        kind = call.result.dtype
        alike = kind.kind != "c" and all(is_number(x) or x.dtype == kind for x in call.inputs)
        in_place = alike and call.name not in ("where", "astype")
        yield Operation(call.name, function, arguments, result, call.result.dtype, in_place)


def told(e: Equation, function: Callable) -> Callable:
    """Return the function with errors that say what eager execution says of the equation."""

    def call(*arguments: Any) -> None:
        try:
            function(*arguments)
        except DataError:
            raise
        except (ValueError, TypeError, IndexError) as error:
            raise tape.refused(e.primitive, e.inputs, e.metadata, error) from error

    return call


def _is_boolean(x: Any) -> bool:
    return not is_number(x) and x.dtype.kind == "b"


def _convert(x: Any, out: Any) -> None:
    np.copyto(out, x, casting="unsafe")


def _choose(condition: Any, a: Any, b: Any, out: Any) -> None:
    np.copyto(out, b)
    np.copyto(out, a, where=condition)


def _minimum(a: Any, b: Any, out: Any) -> None:
    np.minimum(a, b, out=out)  # by position a third argument is deprecated


def _maximum(a: Any, b: Any, out: Any) -> None:
    np.maximum(a, b, out=out)


_FUNCTIONS = {"astype": _convert, "where": _choose, "minimum": _minimum, "maximum": _maximum}


def call_and_copy(forward: Callable, *inputs_and_out: Any) -> None:
    """Call a forward that writes into no array of ours, and copy what it returns into the last one given."""
    *inputs, out = inputs_and_out
    np.copyto(out, forward(*inputs), casting="unsafe")


def fused(operations: list[Operation], targets: dict) -> list[Operation | Fused]:
    """Return the operations with every run that a kernel can do as one."""
    stages: list[Operation | Fused] = []
    run: list[Operation] = []

    def close(rest: list[Operation]) -> None:
        if run:
            needed = {x for op in rest for x in op.reads}
            stages.append(Fused(list(run), [op for op in run if op.result in targets or op.result in needed]))
        run.clear()

    for i, op in enumerate(operations):
        if _compilable(op):
            run.append(op)
        else:
            close(operations[i:])
            stages.append(op)
    close([])
    return stages


def nanoseconds(operations: list[Operation]) -> float:
    """Return about how long the operations take for one element."""
    return sum(SLOW if op.name in EXPENSIVE else 1 for op in operations) * NANOSECONDS


def _compilable(op: Operation) -> bool:
    return kernels.compilable(op.name, [None if is_number(x) else x.dtype for x in op.inputs], op.dtype)
