"""compile: record a step once, then replay it for every further call of the same kind."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Hashable
from functools import update_wrapper
from time import perf_counter
from typing import Any

import numpy as np

from .. import parallel, tape
from ..determinism import is_deterministic
from ..devices import default_device
from ..errors import DataError, DTypeError, GraphError
from ..precision import matmul_precision
from ..sweep import reachable
from ..tensor import Tensor, Version, tensor
from . import trees
from .cuda.driver import driver_of
from .cuda.replay import CudaReplay
from .kernels import available
from .passes import simplify
from .program import Program, Variable
from .record import run_and_record
from .replay import Replay

BEFORE_KERNELS = 0.5  # seconds of replay after which compiling, which takes about as long, is likely to pay
MOST_PROGRAMS = 16  # of one function: more say that something changes that should be a tensor


def compile(step: Callable[..., Any], threads: int | None = None, kernels: bool | None = None) -> Compiled:
    """Return `step` as a function that is recorded when it is first called, and then replayed.

    The first call with arguments of a new kind runs `step` itself and records what it does. Further ones run the
    recorded operations, without Python and without new memory: forward, backward, `assign`, and the updates of an
    optimizer. The results are those of `step`, to the last bit.

    Parameters
    ----------
    step : callable
        Takes and returns tensors (also in lists, tuples and dicts). It must compute the gradients that it needs:
        results of a compiled function carry none.
    threads : int, optional
        How many threads share large operations; by default the environment variable MINIGRAD_THREADS, or the number of
        processors, at most 8.
    kernels : bool, optional
        Whether to compile arithmetic with llvmlite, which must be installed. By default that is done for a step on
        which more time was spent than compiling takes. The results are the same bits in any case.

    Returns
    -------
    Compiled
        Called like `step`.

    Raises
    ------
    RecordingError
        On a call: `step` reads a value into Python (`float(t)`, `if t:`), which would be frozen; the message names the
        line.
    GraphError
        On a call: its result requires grad.

    Notes
    -----
    A call is of the same kind when its arguments have the same structure, shapes, dtypes, layouts and devices, equal
    values where they are not tensors, and when gradients are enabled, and modules train, as they did. Another kind is
    recorded as another program; a warning says when that goes on.

    What is not an operation on tensors happens only while recording: printing, counting, appending to a list, and what
    `backward` leaves in `grad`, which a compiled call sets to None. Numbers that change must be tensors; those of the
    optimizers and of `mg.random` are.

    Examples
    --------
    >>> import minigrad as mg
    >>> w = mg.Parameter([1.0, 2.0])
    >>> @mg.compile
    ... def step(x):
    ...     loss = mg.mean(mg.square(x * w))
    ...     (g,) = mg.autograd.grad(loss, w)
    ...     w.assign(w - 0.1 * g)
    ...     return loss
    >>> x = mg.tensor([1.0, 1.0])
    >>> step(x), step(x), step(x)
    (tensor(2.5), tensor(2.0249999), tensor(1.64025))
    >>> step
    <compiled step: 1 program>
    """
    return Compiled(step, threads, kernels)


class Compiled:
    """A function that `mg.compile` records and replays. `programs` are what was recorded so far."""

    def __init__(self, step: Callable[..., Any], threads: int | None, kernels: bool | None) -> None:
        self._step = step
        self._threads = parallel.cores() if threads is None else threads
        if not callable(step):
            raise DTypeError(f"mg.compile takes a function, got {type(step).__name__}")
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise DataError(f"mg.compile: got threads={threads!r}; expected an integer of at least 1")
        if kernels and not available():
            raise ImportError("mg.compile(kernels=True) needs llvmlite: pip install llvmlite, or leave kernels out")
        self._kernels = kernels
        self._elsewhere: set[tuple] = set()  # kinds of calls that cannot be replayed
        self._entries: dict[tuple, list[_Entry]] = {}
        self._lock = threading.RLock()  # buffers serve one call at a time
        update_wrapper(self, step)

    @property
    def programs(self) -> list[Program]:
        """The recorded programs, after the passes: print them to see what is replayed."""
        return [entry.replay.program for entries in self._entries.values() for entry in entries]

    @property
    def assigned(self) -> list[Tensor]:
        """The tensors that the recorded programs assign to: parameters, what an optimizer keeps, random counters."""
        entries = (entry for entries in self._entries.values() for entry in entries)
        return list({id(t): t for entry in entries for t in entry.assigned}.values())

    def __repr__(self) -> str:
        n = len(self.programs)
        return f"<compiled {getattr(self._step, '__name__', 'step')}: {n} program{'s' * (n != 1)}>"

    def __call__(self, *args: Any) -> Any:
        """Return what `step(*args)` would return."""
        # inside of a larger program, that one is to be compiled
        if tape.recording() or tape.observed():
            return self._step(*args)
        key = _kind(args)
        if key in self._elsewhere:  # a program would not look at values either
            with tape.unchecked():
                return self._step(*args)
        with self._lock:
            for entry in self._entries.get(key, ()):
                if entry.is_valid():
                    return self._step(*args) if entry.overlaps(args) else entry.run(args)
            return self._record(key, args)

    def _record(self, key: tuple, args: tuple) -> Any:
        args = trees.transform(lambda x: tensor(x) if isinstance(x, np.ndarray) else x, args)
        program, result = run_and_record(self._step, args)
        for t in program.captured.values():
            if t._node is not None and t._node.primitive is None:
                t._node.grad = None
        if not program.has_effects and _leads_outside(program, args, result):
            raise GraphError(
                f"{self!r} returned a tensor that requires grad, and its replay could not: compute the gradient in the "
                "compiled function (mg.compile(mg.value_and_grad(f))), or return t.detach()"
            )
        replay = self._replay(simplify(program))
        if replay is None:
            self._elsewhere.add(key)
            return result
        entry = _Entry(replay, program, args, self._threads, self._seconds)
        entries = self._entries.setdefault(key, [])
        entries[:] = [e for e in entries if e.is_current()]
        entries.append(entry)
        recorded = sum(map(len, self._entries.values()))
        if recorded > MOST_PROGRAMS:
            oldest = next(iter(self._entries))
            self._entries.pop(oldest)
            warnings.warn(
                f"{getattr(self._step, '__name__', 'step')} was recorded {recorded} times, for as many kinds of "
                "arguments; each recording costs far more than a call. Make numbers that change tensors, and keep "
                "shapes the same",
                RuntimeWarning,
                stacklevel=3,
            )
        return trees.transform(lambda t: t.detach() if isinstance(t, Tensor) and not t.is_leaf else t, result)

    @property
    def _seconds(self) -> float:
        return BEFORE_KERNELS if self._kernels is None and available() else math.inf

    def _replay(self, program: Program) -> Replay | CudaReplay | None:
        """Return what runs a program on its device, or None where only the step itself can."""
        devices = {v.device for v in (*program.arguments, *program.captured, *(e.output for e in program.equations))}
        if all(place.type == "cpu" for place in devices):
            return Replay(program, self._threads, fuse=bool(self._kernels))
        if len(devices) > 1:
            return None
        driver = driver_of(devices.pop())
        if driver is None:
            return None
        return CudaReplay(program, driver, matmul_precision() == "tf32", tuned=not is_deterministic())


class _Entry:
    """One program of a compiled function, and what must still hold for it to be replayed."""

    def __init__(
        self, replay: Replay | CudaReplay, program: Program, args: tuple, threads: int, seconds: float
    ) -> None:
        self._statics = [x for _, x in trees.leaves(args) if not isinstance(x, Tensor)]  # known by identity: kept alive
        self._threads = threads
        self._seconds_left = seconds if isinstance(replay, Replay) else math.inf
        self.replay = replay
        self._captured = [(t, t._array) for t in self.replay.program.captured.values()]
        self.assigned = [self.replay.program.captured[v] for v in self.replay.assigned if v in program.captured]
        self._versions = {id(t._version) for t in self.assigned}  # a view has the version of what it is a view of
        self._argument = {v: i for i, v in enumerate(program.arguments)}
        self._written_arguments = [i for v, i in self._argument.items() if v in self.replay.assigned]
        self._nested = any(isinstance(x, list | tuple | dict) for x in args)

    def is_valid(self) -> bool:
        """Return whether modules are in the mode of the recording and parameters in the same memory."""
        return all(getattr(o, name) == value for o, name, value in self.replay.program.conditions) and self.is_current()

    def is_current(self) -> bool:
        """Return whether the captured tensors still live where they did."""
        return all(t._array is array for t, array in self._captured)

    def overlaps(self, args: tuple) -> bool:
        """Return whether an argument is a view of a tensor that the step assigns to, and so would change on the way."""
        if not self._versions:
            return False
        given = [x for _, x in trees.leaves(args)] if self._nested else args
        return any(isinstance(x, Tensor) and id(x._version) in self._versions for x in given)

    def run(self, args: tuple) -> Any:
        """Copy the arguments in, replay, and copy the results out."""
        given: list[Any] = [x for x in args if isinstance(x, Tensor | np.ndarray)]
        if self._nested:
            given = [x for _, x in trees.leaves(args) if isinstance(x, Tensor | np.ndarray)]
        if self._seconds_left < 0:
            self._seconds_left = math.inf
            self.replay = Replay(self.replay.program, self._threads, fuse=True)
        replay = self.replay
        start = perf_counter()
        replay.run([x._array if isinstance(x, Tensor) else x for x in given])
        self._seconds_left -= perf_counter() - start  # below 0 the next call replays with kernels
        for t in self.assigned:
            if t._version is not None:
                t._version.count += 1
        for i in self._written_arguments:
            if isinstance(given[i], np.ndarray):  # the step changed a tensor that was made of it
                continue
            given[i].assign(Tensor._wrap(replay.inputs[i][1], given[i].device, None))
        return trees.transform(
            lambda v: self._result(v, given) if isinstance(v, Variable) else v, replay.program.result
        )

    def _result(self, v: Variable, given: list[Any]) -> Tensor:
        """Return the tensor that is returned for a variable: the caller's own, or a copy that becomes the caller's."""
        replay = self.replay
        whole = replay.plan.roots[v] if v in replay.updated else v
        if whole in self._argument:
            return given[self._argument[whole]]
        known = replay.program.captured.get(whole)
        return known if known is not None else Tensor._wrap(replay.outputs[v].copy(), v.device, None, Version())


def _leads_outside(program: Program, args: tuple, result: Any) -> bool:
    """Return whether a result could be differentiated with respect to an argument or a captured tensor."""
    given = [x for _, x in trees.leaves(args) if isinstance(x, Tensor)]
    outside = {t._node for t in (*given, *program.captured.values()) if t._node is not None}
    made = [t._node for _, t in trees.leaves(result) if isinstance(t, Tensor) and not t.is_leaf]
    return any(not outside.isdisjoint(reachable([node], None)) for node in made if node is not None)


def _kind(args: tuple) -> tuple:
    """Return what two calls must have in common to be served by one program."""
    kind: list[Any] = [tape.grad_enabled(), default_device().name]
    for x in args:
        if isinstance(x, Tensor):
            a = x._array
            kind += (a.shape, a.dtype, a.strides, x.device.name, x._node is not None)
        elif isinstance(x, list | tuple | dict):
            kind += [type(x), len(x), *(x if isinstance(x, dict) else ())]
            kind += _kind(tuple(x.values()) if isinstance(x, dict) else tuple(x))
        elif isinstance(x, np.ndarray):
            kind += (np.ndarray, x.shape, x.dtype, x.strides)
        else:
            kind += (type(x), x if isinstance(x, Hashable) else id(x))
            if isinstance(x, float):  # 0.0 and -0.0 are equal
                kind.append(math.copysign(1.0, x))
    return tuple(kind)
