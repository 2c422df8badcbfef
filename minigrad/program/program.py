"""Program: the operations that a function applied, in order, each result a variable that is assigned once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from .. import modes, observers, tape, trees
from ..devices import Device, to_numpy
from ..errors import DeviceError, DTypeError, GraphError, ShapeError
from ..primitives.random import random_integers, random_normal, random_uniform
from ..primitives.registry import Primitive
from ..tensor import Tensor, Version, tensor
from .kinds import is_same
from .roles import storage_roots, updated

if TYPE_CHECKING:
    from .memory import Plan


DRAWS = random_integers, random_normal, random_uniform
MOST_NUMBERS = 8  # of a captured constant that is printed


class Variable:
    """A value of a program: its name, shape, dtype, device and layout in memory, but no numbers.

    `view` tells whether it lives in the memory of the first input of the operation that makes it.
    """

    __slots__ = ("device", "dtype", "name", "shape", "strides", "view")

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype,
        device: Device,
        strides: tuple[int, ...] = (),
        view: bool = False,
    ) -> None:
        self.name = name
        self.shape = shape
        self.dtype = dtype
        self.device = device
        self.strides = strides
        self.view = view

    def __repr__(self) -> str:
        """Return name:type, as in "x:f32[32,784]"."""
        kind = "bool" if self.dtype.kind == "b" else f"{self.dtype.kind}{8 * self.dtype.itemsize}"
        return f"{self.name}:{kind}[{','.join(map(str, self.shape))}]"


class Equation:
    """One operation: `output = primitive inputs`, with static metadata and the line of the user's code it is from.

    `of` is the variable at whose operation the backward pass made the equation, by its derivative rule or to add up and
    reshape cotangents (None outside a backward pass); `differentiable` tells whether gradients were enabled, so that a
    program that is differentiated stops where the function did.
    """

    __slots__ = ("differentiable", "inputs", "line", "metadata", "of", "output", "primitive")

    def __init__(
        self,
        output: Variable,
        primitive: Primitive,
        inputs: tuple[Variable | complex, ...],
        metadata: dict[str, Any],
        line: str,
        of: Variable | None = None,
        differentiable: bool = True,
    ) -> None:
        self.output = output
        self.primitive = primitive
        self.inputs = inputs
        self.metadata = metadata
        self.line = line
        self.of = of
        self.differentiable = differentiable

    @property
    def variables(self) -> list[Variable]:
        """The inputs that are variables, not numbers."""
        return [v for v in self.inputs if isinstance(v, Variable)]

    def __repr__(self) -> str:
        """Return the equation as the program prints it, without the line: "c:f32[2] = add a b"."""
        inputs = " ".join(v.name if isinstance(v, Variable) else repr(v) for v in self.inputs)
        defaults = self.primitive.defaults
        given = {k: v for k, v in self.metadata.items() if k not in defaults or v != defaults[k]}
        metadata = ", ".join(f"{name}={_short(value)}" for name, value in given.items())
        return f"{self.output!r} = {self.primitive.name}{f'[{metadata}]' if metadata else ''} {inputs}"


def _short(value: Any) -> str:
    """Write static metadata as a person would: slices as in x[1:3], dtypes by name."""
    if isinstance(value, slice):
        bounds = ["" if b is None else str(b) for b in (value.start, value.stop, value.step)]
        return ":".join(bounds[:2] if value.step is None else bounds)
    if isinstance(value, tuple):
        return f"({','.join(map(_short, value))}{',' * (len(value) == 1)})"
    if value is Ellipsis:
        return "..."
    return value.name if isinstance(value, np.dtype) else str(value)


class Program:
    """What a function did with its arguments: equations in single-assignment form. Made by `mg.record`.

    Call it with arguments of the same structure, shapes, dtypes and devices to do the same to other values, bit for
    bit. An `assign` in it changes the very tensor that the recorded function changed.

    A program without `assign` can be differentiated like any function, with respect to its arguments and to the
    captured tensors that require grad. One with `assign`, and so one that draws random numbers, runs without gradients
    and refuses arguments that require grad: record the gradient, `mg.record(mg.grad(f))`.

    Attributes
    ----------
    name : str
        The name of the recorded function.
    inputs : tuple
        The arguments, with a Variable in the place of each tensor.
    result : Any
        What the function returned, likewise.
    conditions : tuple of (owner, attribute, value)
        What must still be so for the program to do what the function does.
    arguments : list of Variable
        The tensors among the arguments, in order.
    captured : dict from Variable to Tensor
        Tensors that the function used but did not get as arguments: parameters, optimizer state, constants.
    literals : set of Variable
        Those of the captured that are numbers which the code made on the spot, and are called after their value.
    hooked : set of Variable
        What the function put hooks on. They are Python, and a program has none, so no gradient of it passes these.
    computed : set of Variable
        Those of the captured that a pass computed in advance.
    equations : list of Equation
    outputs : list of Variable
        The tensors in what the function returned, in order.

    Examples
    --------
    >>> import minigrad as mg
    >>> program = mg.record(lambda x: (x * x).sum())(mg.tensor([1.0, 2.0]))
    >>> [equation.primitive.name for equation in program.equations]
    ['multiply', 'sum']
    >>> program(mg.tensor([3.0, 4.0]))
    tensor(25.)
    >>> mg.grad(program)(mg.tensor([3.0, 4.0]))
    tensor([6., 8.])
    """

    def __init__(
        self,
        name: str,
        inputs: tuple,
        captured: dict[Variable, Tensor],
        equations: list[Equation],
        result: Any,
        conditions: tuple = (),
        literals: frozenset[Variable] = frozenset(),
        hooked: frozenset[Variable] = frozenset(),
        computed: frozenset[Variable] = frozenset(),
    ) -> None:
        self.name = self.__name__ = name
        self.conditions = conditions
        self.inputs = inputs
        self.result = result
        self.arguments = [v for v in trees.leaves(inputs) if isinstance(v, Variable)]
        self.captured = captured
        self.literals = literals
        self.hooked = hooked
        self.computed = computed
        self.equations = equations
        self.outputs = [v for v in trees.leaves(result) if isinstance(v, Variable)]

    @property
    def has_effects(self) -> bool:
        """Whether running it changes tensors (by `assign`)."""
        return any(e.primitive.effect for e in self.equations)

    @property
    def devices(self) -> set[Device]:
        """Where its values live."""
        return {v.device for v in (*self.arguments, *self.captured, *(e.output for e in self.equations))}

    # Printing

    def __repr__(self) -> str:
        equations = [f"  {e!r}" for e in self.equations]
        width = min(max(map(len, equations), default=0), 72)
        lines = [f"{self.name} {{ {' '.join(map(repr, self.arguments))} ."]
        if self.captured:
            lines.append("  captured:")
            changing = {e.variables[0] for e in self.equations if e.primitive.effect}
            for v, t in self.captured.items():
                value = "" if v in changing or v in self.literals else _value(t)
                lines.append(f"    {v!r}{value}{', computed in advance' if v in self.computed else ''}")
        update_of = updated(self)
        known = {*self.captured, *(e.output for e in self.equations)}  # a pass may have dropped the others
        for text, e in zip(equations, self.equations, strict=True):
            origin = "" if e.of is None else f", backward of {e.of.name}" if e.of in known else ", backward"
            if e.output in update_of:
                origin = f", update of {update_of[e.output]}"
            lines.append(f"{text:{width}}  # {e.line}{origin}")
        lines.append(f"  in {_result(self.result)} }}")
        return "\n".join(lines)

    # Checking

    def check(self) -> None:
        """Verify that every variable is assigned once and before it is used, with the shape and dtype it claims.

        No value of the program is needed: every operation is applied to zeros, or unit matrices, of its inputs' shapes.

        Raises
        ------
        GraphError
            A variable is used before it is assigned, or assigned twice.
        ShapeError, DTypeError
            An operation gives something else than its variable claims.

        Examples
        --------
        >>> import minigrad as mg
        >>> mg.record(lambda x: x + 1)(mg.tensor([1.0, 2.0])).check()
        """
        known: set[Variable] = set()
        for v in [*self.arguments, *self.captured]:
            _define(v, known, "an input")
        for e in self.equations:
            for v in e.variables:
                if v not in known:
                    raise GraphError(f"{e!r} ({e.line}) uses {v.name} before it is assigned")
            _define(e.output, known, f"{e!r} ({e.line})")
            _check_type(e)
        for v in self.outputs:
            if v not in known:
                raise GraphError(f"the program returns {v.name}, which nothing assigns")
        names = [v.name for v in known]
        if len(set(names)) < len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise GraphError(f"different variables have the same name: {', '.join(twice)}")

    # Running

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Do to `args` what the function did; return what it returned.

        Raises
        ------
        ShapeError, DTypeError, DeviceError, GraphError
            The arguments differ from those of the recording, or a gradient is wanted that the program does not have.
            Nothing has been changed then.
        """
        trees.refuse_keywords("a program", keywords)
        values: dict[Variable, Tensor] = {**self.captured, **dict(self._bind(args))}
        wanted = [v.name for v in self.arguments if values[v].requires_grad]
        own = any(e.of is not None for e in self.equations)  # it has a backward pass of its own
        if self.has_effects and wanted and not own and modes.grad_enabled():
            raise GraphError(
                f"{self.name} assigns to tensors (random numbers do, too), so it runs without gradients, but argument "
                f"{wanted[0]} requires grad; record the gradient, mg.record(mg.grad(f)), or call it in mg.no_grad()"
            )
        last_use = {v: e for e in self.equations for v in e.variables}
        kept = set(self.outputs)
        with modes.no_grad() if self.has_effects else nullcontext():
            for v in self.hooked.intersection(values):
                if values[v].requires_grad and modes.grad_enabled():
                    self._refuse_hook(v)
            for e in self.equations:
                with nullcontext() if e.differentiable else modes.no_grad():
                    values[e.output] = _apply(e, values)
                if e.output in self.hooked and values[e.output].requires_grad:
                    values[e.output].register_hook(partial(self._refuse_hook, e.output))
                for v in {e.output, *e.variables}:  # free memory as early as the function did
                    if last_use.get(v, e) is e and v not in kept:
                        del values[v]
        return trees.transform(lambda v: values[v] if isinstance(v, Variable) else v, self.result)

    def _refuse_hook(self, v: Variable, gradient: Tensor | None = None) -> NoReturn:
        raise GraphError(
            f"{self.name} put a hook on {v.name}, which is Python and not in the program, so a gradient of the program "
            "that passes it would be another one; record the gradient, mg.record(mg.grad(f)), or call the program in "
            "mg.no_grad()"
        )

    def values(self, *args: Any) -> dict[str, Tensor]:
        """Return what every name that the program prints stands for with these arguments: `values["a"]`.

        Nothing changes: the program assigns to copies. So `values["W"]` is what `W` is now, and `values["W'"]` what the
        next run will make of it.

        Raises
        ------
        ShapeError, DTypeError, DeviceError, GraphError
            The arguments differ from those of the recording, or another captured tensor or argument lives in the memory
            of one that is assigned to.

        Examples
        --------
        >>> import minigrad as mg
        >>> program = mg.record(mg.grad(lambda x: mg.square(x).sum()))(mg.tensor([1.0, 2.0]))
        >>> program.values(mg.tensor([3.0, 4.0]))["a"]
        tensor([ 9., 16.])
        """
        given: dict[Variable, Tensor] = {**dict(self._bind(args)), **self.captured}
        roots = storage_roots(self)
        changing = {roots[e.output] for e in self.equations if e.primitive.effect}
        for v in changing.intersection(given):
            sharing = [other.name for other, t in given.items() if t._version is given[v]._version and other is not v]
            if sharing:
                raise GraphError(
                    f"{self.name} assigns to memory that {v.name} shares with {', '.join(sharing)}; `values` works on "
                    "copies, which share none: make views in the recorded function, and give arguments that are copies"
                )
        values = {v: _copy(t) if v in changing else t for v, t in given.items()}
        found = {v.name: _copy(t) for v, t in given.items()}
        with modes.no_grad():
            for e in self.equations:
                result = values[e.output] = _apply(e, values)
                found[e.output.name] = _copy(result) if roots[e.output] in changing else result
        return found

    def _bind(self, args: tuple) -> Iterator[tuple[Variable, Tensor]]:
        """Pair the program's inputs with the values given, after checking that they are of the recorded kind."""
        given, expected = list(trees.named_leaves(args)), list(trees.named_leaves(self.inputs))
        # which there are says nothing about empty containers and their classes
        classes = [[type(tree) for tree in trees.containers(x)] for x in (args, self.inputs)]
        if [path for path, _ in given] != [path for path, _ in expected] or classes[0] != classes[1]:
            raise GraphError(
                f"{self.name} was recorded with {len(expected)} arguments (counting inside lists and dicts), got "
                f"{len(given)}, other keys or other containers; record it again for another structure"
            )
        changed = {e.variables[0] for e in self.equations if e.primitive.effect}
        for (_, x), (path, v) in zip(given, expected, strict=True):
            if not isinstance(v, Variable):
                if not is_same(x, v):
                    raise GraphError(
                        f"argument {path} was {v!r} when {self.name} was recorded and is part of the program; "
                        f"got {x!r}: record it again"
                    )
                continue
            x = x if isinstance(x, Tensor) else tensor(x, device=v.device)
            if x.shape != v.shape:
                raise ShapeError(f"{self.name} was recorded with {v!r}, got shape {x.shape}; record it again")
            if x.dtype != v.dtype:
                raise DTypeError(f"{self.name} was recorded with {v!r}, got {x.dtype.name}; convert or record it again")
            if x.device is not v.device:
                raise DeviceError(f"{self.name} was recorded with {v.name} on {v.device.name}, got {x.device.name}")
            if v in changed and (x._version is None or not x.is_leaf):
                raise GraphError(f"{self.name} assigns to {path}; give it a leaf made by mg.tensor or mg.Parameter")
            yield v, x

    def plan(self) -> Plan:
        """Return how a replay on the program's device orders the equations, and the memory that it needs: print it.

        It is that of the compiled step, so the passes come first. On the CPU it is the replay with kernels, where
        llvmlite is installed.
        """
        from .cuda import launches
        from .epilogues import with_products
        from .memory import Plan
        from .passes import simplify

        program = simplify(self)
        on_gpu = any(device.type == "cuda" for device in program.devices)
        return Plan(program, launches(program) if on_gpu else with_products(program))

    def kernels(self) -> str:
        """Return the CUDA kernels that a GPU gets for the program, as text: print it. No GPU is needed for that.

        They are those of the compiled step, so the passes come first.

        Examples
        --------
        >>> import minigrad as mg
        >>> program = mg.record(lambda x: mg.exp(x) * 2.0)(mg.ones((3,)))
        >>> print(program.kernels())  # doctest: +ELLIPSIS
        // launch 1
        //   a:f32[3] = exp x
        //   b:f32[3] = multiply a 2.0
        // elementwise_...<<<(1, 1, 1), (256, 1, 1)>>>(x:f32[3], b:f32[3])
        ...
        """
        from .cuda.launch import listing
        from .passes import simplify

        return listing(simplify(self))

    def draw(self, path: str | os.PathLike | None = None, fold_updates: bool = True) -> str:
        """Return the graph as SVG, and write it to `path` if given: see `mg.draw`."""
        from .draw import draw

        return draw(self, path, fold_updates)

    def dot(self) -> str:
        """Return the graph as text for Graphviz."""
        from .draw import dot

        return dot(self)


def blank(v: Variable) -> Tensor:
    """Return a tensor of a variable's type whose values do not matter, without memory for them."""
    xp = v.device.xp
    return Tensor._wrap(xp.broadcast_to(xp.zeros((), v.dtype), v.shape), v.device, None)


def _regular(v: Variable) -> Tensor:
    """Return a tensor of a variable's type that has an inverse and a root, where it is a matrix."""
    if v.dtype.kind != "f" or len(v.shape) < 2:
        return blank(v)
    xp = v.device.xp
    return Tensor._wrap(xp.broadcast_to(xp.eye(*v.shape[-2:], dtype=v.dtype), v.shape), v.device, None)


def _apply(e: Equation, values: dict[Variable, Tensor]) -> Tensor:
    """Return what an equation gives for the values of its inputs."""
    inputs: list[Any] = [values[v] if isinstance(v, Variable) else v for v in e.inputs]
    if e.primitive.effect:
        return inputs[0].assign(inputs[1])
    result = tape.apply(e.primitive, *inputs, **e.metadata)
    if e.primitive in DRAWS:
        result._version = Version()  # as a generator gives it
    return result


def _copy(x: Tensor) -> Tensor:
    return Tensor._wrap(x._array.copy("K"), x.device, None, Version())


def _define(v: Variable, known: set[Variable], where: str) -> None:
    if v in known:
        raise GraphError(f"{v.name} is assigned a second time by {where}")
    known.add(v)


def _check_type(e: Equation) -> None:
    """Apply the operation to blanks (without the effect) and compare the result's type."""
    blanks: list[Any] = [_regular(v) if isinstance(v, Variable) else v for v in e.inputs]
    if e.primitive.effect:
        shape, dtype = blanks[0].shape, blanks[0].dtype
        e.output.device.xp.broadcast_to(blanks[1]._array, shape)
    else:
        with observers.observing(None), modes.no_grad(), np.errstate(all="ignore"):
            found = tape.apply(e.primitive, *blanks, **e.metadata)
        shape, dtype = found.shape, found.dtype
    if shape != e.output.shape:
        raise ShapeError(f"{e!r} ({e.line}) gives shape {shape}")
    if dtype != e.output.dtype:
        raise DTypeError(f"{e!r} ({e.line}) gives dtype {dtype.name}")


def _value(t: Tensor) -> str:
    """Show the numbers of a captured constant that has few, and what a single one is now that may be assigned to."""
    if t.requires_grad or t.ndim > 1 or t.size > MOST_NUMBERS or (t.ndim and t._version is not None):
        return ""
    numbers = [str(number) for number in to_numpy(t._array).reshape(-1)]
    text = f"[{', '.join(numbers)}]" if t.ndim else numbers[0]
    return f" = {text}" if t._version is None else f", now {text}"


def _result(tree: Any) -> str:
    return str(trees.transform(lambda v: _Plain(v.name) if isinstance(v, Variable) else v, tree))


class _Plain(str):
    """A name that is shown without quotes inside lists and dicts."""

    __repr__ = str.__str__
