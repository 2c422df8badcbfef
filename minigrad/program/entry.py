"""Entry: one program of a compiled function, what must still hold for it to be replayed, and how it is called."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from .. import trees
from ..tensor import Tensor, Version
from .cuda.replay import CudaReplay
from .outside import Outside, callers_own
from .program import Program, Variable
from .replay import Replay
from .roles import targets_of

BEFORE_KERNELS = 0.1  # seconds of replay after which compiling is likely to pay, which takes about as long
_ARRAYS = (Tensor, np.ndarray)


def arrays_of(args: tuple) -> list[Any]:
    """Return the tensors and arrays among the arguments of a compiled function."""
    return [x for x in trees.leaves(args) if isinstance(x, _ARRAYS)]


class Entry:
    """One program of a compiled function, and what must still hold for it to be replayed.

    Parameters
    ----------
    number : int
        How many recordings of the function there were up to this one.
    replay : Replay or CudaReplay
        What runs; its program is what the passes left.
    recorded : Program
        As it was before them: they may have dropped captured tensors that the function uses.
    outside : Outside
    args : tuple
        Of the call that was recorded.
    upgrade : callable, optional
        Returns a replay that takes longer to make and is faster. It is made when more time was spent on the step.
    """

    def __init__(
        self,
        number: int,
        replay: Replay | CudaReplay,
        recorded: Program,
        outside: Outside,
        args: tuple,
        upgrade: Callable[[], Replay] | None,
    ) -> None:
        self.number = number
        self.is_running = False
        self.replay = replay
        self.outside = outside
        self._upgrade = upgrade
        self._seconds = 0.0  # spent on replays
        self._memory = [(t, t._array) for t in replay.program.captured.values()]
        # several of one memory where a tensor and views of it are captured
        held = [t for v, t in replay.program.captured.items() if replay.plan.roots[v] in replay.plan.assigned]
        self.assigned = [t for t in held if t.is_leaf and t._version is not None]
        self._versions = {id(t._version) for t in self.assigned}  # a view has the version of what it is a view of
        self._argument = {v: i for i, v in enumerate(recorded.arguments)}
        self._written_arguments = [i for v, i in self._argument.items() if v in replay.plan.assigned]
        self._read = {id(t._version) for t in recorded.captured.values()}
        targets = targets_of(recorded)
        # of each result, which argument or captured tensor it is, if it is one
        wholes = {v: targets.get(v, v) for v in replay.program.outputs}
        self._known = {v: (self._argument.get(x), outside.captured.get(x)) for v, x in wholes.items()}
        self._nested = any(isinstance(x, trees.TREES) for x in args)

    def is_valid(self) -> bool:
        """Return whether modules are in the mode of the recording and parameters in the same memory."""
        for owner, name, value in self.replay.program.conditions:
            if _differs(getattr(owner, name), value):
                return False
        return self.is_current()

    def difference(self) -> str:
        """Return why it cannot be replayed now: "because Adam.eps changed"."""
        for owner, name, value in self.replay.program.conditions:
            if _differs(getattr(owner, name), value):
                return f"because {type(owner).__name__.removeprefix('_')}.{name.removeprefix('_')} changed"
        return "because a tensor that it uses got other memory"

    def is_current(self) -> bool:
        """Return whether the captured tensors still live where they did."""
        for t, array in self._memory:
            if t._array is not array:
                return False
        return True

    def overlaps(self, given: list[Any]) -> bool:
        """Return whether an argument shares memory with what the step assigns to: the step would see it change.

        It may be a view of a captured tensor, or an argument that is assigned to may be captured or another argument.
        """
        if not self._versions and not self._written_arguments:
            return False
        versions = [id(x._version) if isinstance(x, Tensor) and x._version is not None else None for x in given]
        if any(version in self._versions for version in versions):
            return True
        for i in self._written_arguments:
            if isinstance(given[i], np.ndarray):  # what is assigned to is made of it
                continue
            # without a version it cannot be assigned to, as the step itself will say
            if versions[i] is None or versions[i] in self._read or versions.count(versions[i]) > 1:
                return True
        return False

    def given(self, args: tuple) -> list[Any]:
        """Return the tensors and arrays among the arguments."""
        return arrays_of(args) if self._nested else [x for x in args if isinstance(x, _ARRAYS)]

    def run(self, given: list[Any]) -> Any:
        """Bind the arguments or copy them in, replay, and copy the results out."""
        if self._upgrade is not None and self._seconds > BEFORE_KERNELS:
            upgrade, self._upgrade = self._upgrade, None
            try:
                self.replay = upgrade()
            except Exception as error:
                warnings.warn(
                    f"the step {self.replay.program.name} goes on without kernels, because of: {type(error).__name__}: "
                    f"{error}",
                    RuntimeWarning,
                    stacklevel=4,
                )
        replay = self.replay
        try:
            self.is_running = True  # until the results, which the next run writes over, are copied out
            # but for arrays of NumPy: the step changes tensors that are made of them
            written = [i for i in self._written_arguments if isinstance(given[i], Tensor)]
            for i in written:  # an error may come before the replay itself has copied them
                replay.inputs[i][1][...] = given[i]._array
            start = perf_counter()
            try:
                replay.run([x._array if isinstance(x, Tensor) else self._apart(x) for x in given])
            finally:  # also of what was assigned before an error
                for t in self.assigned:
                    t._version.count += 1  # type: ignore[union-attr]
                for i in written:
                    given[i].assign(Tensor._wrap(replay.inputs[i][1], given[i].device, None))
            self._seconds += perf_counter() - start
            self.outside.forget_gradients(given)
            return trees.transform(
                lambda v: self._result(v, given) if isinstance(v, Variable) else v, replay.program.result
            )
        finally:
            self.is_running = False

    def _apart(self, x: np.ndarray) -> np.ndarray:
        """Return an array of the caller's, or a copy where it is memory that the step assigns to: `w.numpy()` is."""
        arrays = (t._array for t in self.assigned)
        return x.copy() if any(isinstance(a, np.ndarray) and np.may_share_memory(a, x) for a in arrays) else x

    def _result(self, v: Variable, given: list[Any]) -> Tensor:
        """Return the tensor that is returned for a variable: the caller's own, or a copy that becomes the caller's."""
        known = callers_own(*self._known[v], given)
        return Tensor._wrap(self.replay.outputs[v].copy("K"), v.device, None, Version()) if known is None else known


def _differs(now: Any, before: Any) -> bool:
    """Return whether something is not what it was; arrays and tensors are when they are the same object."""
    if now is before:
        return False
    try:
        return bool(now != before)
    except (TypeError, ValueError):  # it is compared element by element
        return True
