"""Passes: functions from program to program that do less work for the same bits.

Each one is pure: it returns a new program and leaves the old one as it was. None reorders a floating-point sum or
replaces an operation by another one, so a result is the same to the last bit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import modes, observers, tape, trees
from ..tensor import Tensor
from .program import Equation, Program, Variable, blank
from .roles import storage_roots


def simplify(program: Program) -> Program:
    """Return the program after all passes of this file; another time they find nothing more to do."""
    for change in (native_broadcasting, constants, common_subexpressions, dead_code):
        program = change(program)
    return program


def dead_code(program: Program) -> Program:
    """Return the program without the equations that neither a result nor an effect depends on.

    Examples
    --------
    >>> import minigrad as mg
    >>> def f(x):
    ...     unused = mg.exp(x)
    ...     return x + 1
    >>> [e.primitive.name for e in dead_code(mg.record(f)(mg.tensor([1.0]))).equations]
    ['add']
    """
    needed = set(program.outputs)
    kept = []
    for e in reversed(program.equations):
        if e.primitive.effect or e.output in needed:
            needed.update(e.variables)
            kept.append(e)
    captured = {v: t for v, t in program.captured.items() if v in needed}
    return _rebuilt(program, kept[::-1], captured, {})


def common_subexpressions(program: Program) -> Program:
    """Return the program with each operation applied once to the same inputs.

    What is read before and after an `assign` stays apart: a tensor that is assigned to is another variable afterwards,
    and views of one memory, which keep theirs, count how often it was assigned to.

    Examples
    --------
    >>> import minigrad as mg
    >>> program = mg.record(lambda x: mg.exp(x) + mg.exp(x))(mg.tensor([1.0]))
    >>> [e.primitive.name for e in common_subexpressions(program).equations]
    ['exp', 'add']
    """
    replaced: dict[Variable, Variable] = {}
    known: dict[tuple, Variable] = {}
    equations = []
    roots = storage_roots(program)
    changes: dict[Variable, int] = defaultdict(int)  # of each memory so far
    for e in program.equations:
        e = _with_inputs(e, replaced, None if e.of is None else replaced.get(e.of, e.of))
        if e.primitive.effect:
            changes[roots[e.output]] += 1
        # repr tells 1 from 1.0 and True, and 0.0 from -0.0
        inputs = tuple((v, changes[roots[v]]) if isinstance(v, Variable) else repr(v) for v in e.inputs)
        metadata = tuple((name, _exactly(e.metadata[name])) for name in sorted(e.metadata))
        key = e.primitive, inputs, metadata, e.differentiable
        if not e.primitive.effect and key in known:
            replaced[e.output] = known[key]
            continue
        known[key] = e.output
        equations.append(e)
    return _rebuilt(program, equations, program.captured, replaced)


def _exactly(value: Any) -> Any:
    """Return what tells a value from all others: of an array all elements, which its repr leaves out or rounds."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, list | tuple):
        return type(value), tuple(map(_exactly, value))
    return repr(value)


def constants(program: Program) -> Program:
    """Return the program with what depends on no argument, and on nothing that can change, computed in advance.

    Examples
    --------
    >>> import minigrad as mg
    >>> program = mg.record(mg.grad(lambda x: x.sum()))(mg.tensor([1.0, 2.0]))
    >>> len(program.equations), len(constants(program).equations)
    (3, 1)
    """
    values: dict[Variable, Tensor] = {
        v: t for v, t in program.captured.items() if t._version is None and t._node is None
    }
    captured = dict(program.captured)
    computed = set(program.computed)
    equations = []
    for e in program.equations:
        free_of_values = e.primitive.name == "zeros_like"
        if e.primitive.effect or not (free_of_values or all(v in values for v in e.variables)):
            equations.append(e)
            continue
        inputs = [values.get(v, blank(v)) if isinstance(v, Variable) else v for v in e.inputs]
        with observers.observing(None), modes.no_grad(), np.errstate(all="ignore"):
            value = tape.apply(e.primitive, *inputs, **e.metadata)
        values[e.output] = captured[e.output] = value
        computed.add(e.output)
    result = _rebuilt(program, equations, captured, {})
    result.computed = frozenset(computed)
    return result


def native_broadcasting(program: Program) -> Program:
    """Return the program with elementwise operations applied to what `broadcast_to` stretched, before it was stretched.

    Array functions broadcast their inputs themselves, as long as another input has the full shape.

    Examples
    --------
    >>> import minigrad as mg
    >>> program = mg.record(lambda x, y: x * mg.broadcast_to(y, (2, 3)))(mg.ones((2, 3)), mg.ones((3,)))
    >>> [e.primitive.name for e in dead_code(native_broadcasting(program)).equations]
    ['multiply']
    """
    stretched: dict[Variable, Variable] = {}
    roots = storage_roots(program)
    equations = []
    for e in program.equations:
        if e.primitive.name == "broadcast_to":
            stretched[e.output] = e.variables[0]
        elif e.primitive.effect:  # by the name that it had before, the old value would be read
            stretched = {v: source for v, source in stretched.items() if roots[source] is not roots[e.output]}
        elif e.primitive.elementwise:
            for v in e.variables:
                while (source := stretched.get(v)) is not None:  # which may have been stretched itself
                    shapes = [source.shape if w is v else w.shape for w in e.variables]
                    if np.broadcast_shapes(*shapes) != e.output.shape:
                        break
                    e = _with_inputs(e, {v: source}, e.of)
                    v = source
        equations.append(e)
    return _rebuilt(program, equations, program.captured, {})


def _with_inputs(e: Equation, replaced: dict[Variable, Variable], of: Variable | None) -> Equation:
    if of is e.of and not any(v in replaced for v in e.variables):
        return e
    inputs: tuple[Any, ...] = tuple(replaced.get(v, v) if isinstance(v, Variable) else v for v in e.inputs)
    return Equation(e.output, e.primitive, inputs, e.metadata, e.line, of, e.differentiable)


def _rebuilt(
    program: Program,
    equations: Iterable[Equation],
    captured: dict[Variable, Tensor],
    replaced: dict[Variable, Variable],
) -> Program:
    result = trees.transform(lambda v: replaced.get(v, v) if isinstance(v, Variable) else v, program.result)
    hooked = frozenset(replaced.get(v, v) for v in program.hooked)
    kept = program.conditions, program.literals, hooked, program.computed
    return Program(program.name, program.inputs, captured, list(equations), result, *kept)
