"""compile: record a step once, then replay it for every further call of the same kind."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from functools import partial, update_wrapper
from types import MethodType
from typing import Any

import numpy as np

from .. import modes, observers, parallel, trees
from ..determinism import is_deterministic
from ..errors import DataError, DTypeError, GraphError
from ..native import NotKept, available, only_kept
from ..precision import matmul_precision
from ..tensor import Tensor, tensor
from .cuda.driver import driver_of
from .cuda.replay import CudaReplay
from .entry import Entry, arrays_of
from .kinds import kind_of
from .outside import Outside, first_result, leads_outside, updates_parameters
from .passes import simplify
from .program import Program
from .record import restore_gradients, run_and_record
from .replay import Replay

MOST_PROGRAMS = 16  # of one function: more say that something changes that should be a tensor


def compile(step: Callable[..., Any], threads: int | None = None, kernels: bool | None = None) -> Compiled:
    """Return `step` as a function that is recorded when it is first called, and then replayed.

    The first call with arguments of a new kind runs `step` itself and records what it does. Further ones run the
    recorded operations, without Python and without new memory: forward, backward, `assign`, and the updates of an
    optimizer. The results are those of `step`, on the CPU to the last bit.

    Parameters
    ----------
    step : callable
        Takes and returns tensors (also in lists, tuples and dicts). It must compute the gradients that it needs:
        results of a compiled function carry none.
    threads : int, optional
        How many threads share large operations; by default the environment variable MINIGRAD_THREADS, or the number of
        processors, at most 8.
    kernels : bool, optional
        Whether to compile arithmetic with llvmlite, which must be installed. By default that is done at once where an
        earlier process has kept what LLVM made, else when more time was spent on the step than compiling takes. The
        results are the same bits in any case. On a GPU it says nothing: kernels are what runs there.

    Returns
    -------
    Compiled
        Called like `step`.

    Raises
    ------
    RecordingError
        On a call: `step` reads a value into Python (`float(t)`, `if t:`), which would be frozen; the message names the
        line. Or it returns something else than tensors, numbers, lists, tuples and dicts.
    GraphError
        On a call: its result requires grad, and it is no training step, which assigns to parameters.
    DTypeError
        On a call: an argument is no tensor and has no hash, such as a dataclass that is not frozen.

    Notes
    -----
    A call is of the same kind when its arguments have the same structure, shapes, dtypes, layouts and devices, require
    grad or not as they did, and have equal values where they are not tensors; when gradients are enabled, and modules
    train, as they did; with the same default device, the same hyper-parameters of optimizers and the same settings
    (`set_matmul_precision`, `deterministic`). Another kind is recorded as another program; a warning says when
    that goes on.

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
        update_wrapper(self, step)  # before all else: the step may have attributes of the same names
        self._step = step
        self._given = (step, threads, kernels)
        self._threads = parallel.cores() if threads is None else threads
        if not callable(step):
            raise DTypeError(f"mg.compile takes a function, got {type(step).__name__}")
        most = parallel.MOST_THREADS
        if threads is not None and (type(threads) is not int or not 1 <= threads <= most):
            raise DataError(f"mg.compile: got threads={threads!r}; expected an integer from 1 to {most}")
        if kernels and not available():
            raise ImportError("mg.compile(kernels=True) needs llvmlite: pip install llvmlite, or leave kernels out")
        self._kernels = kernels
        self._not_replayed: dict[tuple, Outside] = {}  # kinds of calls that cannot be
        self._entries: dict[tuple, list[Entry]] = {}
        self._recorded = 0  # times, also of programs that are forgotten
        self._lock = threading.RLock()  # buffers serve one call at a time
        _alive.add(self)

    @property
    def programs(self) -> list[Program]:
        """The recorded programs, after the passes: print them to see what is replayed."""
        return [replay.program for replay in self.replays]

    @property
    def replays(self) -> list[Replay | CudaReplay]:
        """What runs for each of the programs: on the CPU, print one to see its phases and threads."""
        return [entry.replay for entries in self._entries.values() for entry in entries]

    @property
    def assigned(self) -> list[Tensor]:
        """The tensors that the recorded programs assign to: parameters, what an optimizer keeps, random counters."""
        entries = (entry for entries in self._entries.values() for entry in entries)
        return list({id(t): t for entry in entries for t in entry.assigned}.values())

    def __repr__(self) -> str:
        n = len(self.programs)
        return f"<compiled {getattr(self._step, '__name__', 'step')}: {n} program{'s' * (n != 1)}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Let a copy or a pickle be of the step: it records anew, with what the step's own copy uses."""
        found: Any = sys.modules.get(self.__module__)
        for name in getattr(self, "__qualname__", "").split("."):
            found = getattr(found, name, None)
        if found is self:  # a decorated function is known by its name, like any other
            return self.__qualname__
        return object.__new__, (Compiled,), self._given  # the step may hold this object: it must exist before

    def __setstate__(self, given: tuple[Any, ...]) -> None:
        self.__init__(*given)  # type: ignore[misc]

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Return what `step(*args)` would return."""
        if keywords:
            trees.refuse_keywords("a compiled function", keywords)
        if observers.observed():
            return self._observed(args)
        key = kind_of(args)
        if key in self._not_replayed:  # a program would not look at values either
            with modes.unchecked():
                return self._as_it_is(args, self._not_replayed[key])
        with self._lock:
            return self._replay_or_record(key, args)

    def _replay_or_record(self, key: tuple, args: tuple) -> Any:
        for entry in self._entries.get(key, ()):
            if entry.is_valid():
                given = entry.given(args)
                # it runs already where a signal's handler, say, calls what it interrupted
                if entry.is_running or entry.overlaps(given) or entry.outside.is_other(given):
                    return self._as_it_is(args, entry.outside)
                return entry.run(given)
        return self._record(key, args)

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        """Bind a compiled function of a class to an object, as a method is: the object is then the first argument."""
        get = getattr(type(self._step), "__get__", None)
        if owner is None or get is None:
            return self
        # what static methods give has no object, and the method of another object gives itself, or has no __get__
        return MethodType(self, owner) if getattr(get(self._step, owner, kind), "__self__", None) is owner else self

    def _observed(self, args: tuple) -> Any:
        """Return what the step returns where its operations are looked at, which a replay does not show."""
        args = _as_tensors(args)
        if observers.recording():  # it is a part of a larger program, and that one is to be compiled
            return self._step(*args)
        *_, result = self._run_and_record(args)
        return result

    def _as_it_is(self, args: tuple, outside: Outside) -> Any:
        """Return what the step returns, and leave behind what a replay would."""
        args = _as_tensors(args)
        given = arrays_of(args)
        result = self._step(*args)
        outside.forget_gradients(given)
        return trees.transform(lambda x: outside.own(x, given) if isinstance(x, Tensor) else x, result)

    def _record(self, key: tuple, args: tuple) -> Any:
        known = self._entries.get(key)
        because = known[-1].difference() if known else "for a call of another kind (other shapes or numbers, say)"
        args = _as_tensors(args)
        program, outside, result = self._run_and_record(args)
        replay = self._make_replay(simplify(program))
        if replay is None:
            self._not_replayed[key] = outside
            return result
        upgrade = None
        if isinstance(replay, Replay) and not replay.native and self._kernels is None and available():
            upgrade = partial(Replay, replay.program, self._threads, native=True)
        self._recorded += 1
        entry = Entry(self._recorded, replay, program, outside, args, upgrade)
        entries = self._entries.setdefault(key, [])
        entries[:] = [e for e in entries if e.is_current()]
        entries.append(entry)
        if sum(map(len, self._entries.values())) > MOST_PROGRAMS:
            oldest = min(self._entries, key=lambda kind: self._entries[kind][0].number)
            self._entries[oldest].pop(0)
            if not self._entries[oldest]:
                del self._entries[oldest]
            warnings.warn(
                f"{getattr(self._step, '__name__', 'step')} was recorded {self._recorded} times, the last time "
                f"{because}; each recording costs far more than a call. Make numbers that change tensors, and keep "
                "shapes and settings the same",
                RuntimeWarning,
                stacklevel=4,
            )
        return result

    def _run_and_record(self, args: tuple) -> tuple[Program, Outside, Any]:
        """Run the step and record it; return what a replay would, and leave behind what it would."""
        recording = run_and_record(self._step, args)
        program, given = recording.program, arrays_of(args)
        if not updates_parameters(program) and leads_outside(program, args, recording.result):
            restore_gradients(recording.gradients)
            raise GraphError(
                f"the compiled function {getattr(self._step, '__name__', 'step')} returned a tensor that requires "
                "grad, but replays build no graph to differentiate. Where a gradient is wanted, compute it in the "
                "compiled function, as mg.compile(mg.value_and_grad(f)) does; where none is wanted, return t.detach(), "
                "or compute with p.detach() of a parameter p"
            )
        outside = Outside(recording, given)
        outside.forget_gradients(given)
        return program, outside, first_result(recording, outside, given)

    def _make_replay(self, program: Program) -> Replay | CudaReplay | None:
        """Return what runs a program on its device, or None where only the step itself can."""
        devices = program.devices
        on_cpu = all(place.type == "cpu" for place in devices)
        if not on_cpu and len(devices) > 1:
            return None
        driver = None if on_cpu else driver_of(devices.pop())
        if not on_cpu and driver is None:
            return None
        try:
            if driver is None and self._kernels is None and available():
                with contextlib.suppress(NotKept), only_kept():
                    return Replay(program, self._threads, native=True)
            if driver is None:
                return Replay(program, self._threads, native=bool(self._kernels))
            return CudaReplay(program, driver, matmul_precision() == "tf32", tuned=not is_deterministic())
        except Exception as error:  # the step has been done: its changes would be done twice if it were tried again
            error.__traceback__ = None  # it would keep memory of the GPU
            warnings.warn(
                f"the step {program.name} is not compiled, but runs as it is, because of: {type(error).__name__}: "
                f"{error}",
                RuntimeWarning,
                stacklevel=5,
            )
            return None


_alive: weakref.WeakSet[Compiled] = weakref.WeakSet()


def _after_fork() -> None:
    """Let a child record anew what another thread of its parent was running."""
    for compiled in _alive:
        if compiled._lock.acquire(blocking=False):
            compiled._lock.release()
        else:
            compiled._lock = threading.RLock()
            compiled._entries.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _as_tensors(args: tuple) -> tuple:
    return trees.transform(lambda x: tensor(x) if isinstance(x, np.ndarray) else x, args)
