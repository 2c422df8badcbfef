"""Replay on a GPU: a program as generated kernels and products, launched as one CUDA graph.

The first run queues the calls one by one, which loads every kernel; the second one captures them, and from then on a
step is one launch. What cannot be captured, because CuPy has to wait for the device in it, goes on call by call, and a
warning says why.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..blocks import extent
from ..memory import Plan
from ..program import Equation, Program, Variable
from . import kernels_of, launches
from .driver import LANES, Driver
from .kernel import Kernel, Scratch, Unsupported
from .lanes import Use, places
from .products import ProductsUnavailable
from .schedule import Launch


class CudaReplay:
    """A program that is ready to run again and again on the GPU of its variables: see `minigrad.program.replay.Replay`.

    Parameters
    ----------
    program : Program
        As the passes left it; all its variables are on one device.
    driver : Driver
        Of that device.
    tf32 : bool
        Whether products may round their factors to TF32.
    tuned : bool
        Whether algorithms of products are timed, and the fastest one is taken.
    """

    def __init__(self, program: Program, driver: Driver, tf32: bool, tuned: bool) -> None:
        self.program = program
        order = launches(program)
        self.plan = Plan(program, order)
        [self._device] = program.devices
        self._driver = driver
        self._tf32 = tf32
        self._tuned = tuned
        self._namespace = driver.namespace(tf32)
        self._blocks = [driver.memory(size) for size in self.plan.sizes]
        self._arrays: dict[Variable, Any] = {v: t._array for v, t in program.captured.items()}
        self.inputs = [(v, driver.array(driver.memory(extent(v)), v)) for v in program.arguments]
        self._arrays.update(self.inputs)
        self._scratch: dict[Scratch, Any] = {}
        self._calls: list[Callable[[], None]] = []
        self._uses: list[Use] = []
        made: dict[int, list[Kernel]] = {}
        for i, launch in enumerate(order):
            self._place(launch)
            found = self._kernels(launch)
            if found is not None:
                made[i] = found
        driver.compile([kernel for found in made.values() for kernel in found])
        for i, launch in enumerate(order):
            if i in made:
                for kernel in made[i]:
                    self._bind_kernel(kernel, launch)
            else:
                for e in launch.equations:
                    self._bind_one(e)
        self.outputs = {v: self._arrays[v] for v in program.outputs}
        self._runs = 0
        self._graph: Callable[[], None] | None = None

    def run(self, given: list[Any]) -> None:
        """Copy the arrays given for the arguments in, and queue the step on the current stream."""
        self._device.make_current()  # from now on, as in every operation
        for (_, place), array in zip(self.inputs, given, strict=True):
            if isinstance(array, np.ndarray):
                place.set(array.astype(place.dtype, copy=False))  # bytes may be in another order
            else:
                self._driver.copy(array, place)
        self._runs += 1
        if self._runs == 2:
            self._capture()
        if self._graph is not None:
            self._graph()
        else:
            self._driver.run(self._calls)

    def _capture(self) -> None:
        try:
            self._graph = self._driver.capture(self._calls, places(self._uses, LANES))
        except Exception as error:  # of any kind: CuPy has no class for what cannot be captured
            warnings.warn(
                f"the step {self.program.name} is not run as a CUDA graph, but operation by operation, because of: "
                f"{error}",
                RuntimeWarning,
                stacklevel=6,
            )

    # Memory

    def _place(self, launch: Launch) -> None:
        """Give every result of a launch that needs memory its array, and every view."""
        for e in launch.equations:
            v = e.output
            if e.primitive.effect:
                self._arrays[v] = self._arrays[e.variables[0]]
            elif v.view:
                inputs = [self._arrays[x] if isinstance(x, Variable) else x for x in e.inputs]
                self._arrays[v] = e.primitive.forward(self._driver.xp, *inputs, **e.metadata)
            elif v in self.plan.buffers:
                self._arrays[v] = self._driver.array(self._blocks[self.plan.buffers[v]], v)

    def _memory_of(self, v: Variable) -> Any:
        root = self.plan.roots[v]
        return self.plan.buffers.get(root, root)

    # Kernels

    def _kernels(self, launch: Launch) -> list[Kernel] | None:
        """Return the kernels of a launch, or None where the array module has to do it."""
        if not launch.kind:
            return None
        strides = {v: a.strides for v, a in self._arrays.items()}
        try:
            return kernels_of(launch, set(self.plan.buffers), self.plan.roots, strides)
        except Unsupported:
            return None

    def _bind_kernel(self, kernel: Kernel, launch: Launch) -> None:
        arrays = []
        for p in kernel.parameters:
            if isinstance(p, Scratch):
                if p not in self._scratch:
                    block = self._driver.memory(p.nbytes)
                    self._scratch[p] = self._driver.bytes(block, p.nbytes)
                arrays.append(self._scratch[p])
            else:
                arrays.append(self._arrays[p])
        self._calls.append(self._driver.launch(kernel, tuple(arrays)))
        written = {e.output for e in launch.equations}
        read = [self._memory_of(v) for e in launch.equations for v in e.variables if v not in written]
        memories = [self._memory_of(p) if isinstance(p, Variable) else p for p in kernel.parameters]
        outputs = [self._memory_of(e.output) for e in launch.equations]
        changed = [m for m in memories if m in outputs or isinstance(m, Scratch)]
        self._uses.append(Use(frozenset([*read, *memories]), frozenset(changed)))

    # Single equations

    def _bind_one(self, e: Equation) -> None:
        if e.output.view and not e.primitive.effect:
            return
        inputs: list[Any] = [self._arrays[v] if isinstance(v, Variable) else v for v in e.inputs]
        out = self._arrays[e.output] if e.output in self._arrays else self._aside(e.output)
        read, written = frozenset(map(self._memory_of, e.variables)), frozenset([self._memory_of(e.output)])
        if e.primitive.name == "matmul" and all(isinstance(v, Variable) for v in e.inputs):
            call = self._product(inputs[0], inputs[1], out)
            if call is not None:
                self._calls.append(call)
                self._uses.append(Use(read, written))
                return
        if e.primitive.effect:
            self._calls.append(partial(e.primitive.forward, self._driver.xp, out, inputs[1]))
        else:
            self._calls.append(partial(self._forward, e, inputs, out))
        # its temporaries are given back to be used again, which is safe in the order of one lane
        self._uses.append(Use(read, written, first_lane=True))

    def _aside(self, v: Variable) -> Any:
        """Return memory for a result inside of a group that has no kernel."""
        self._arrays[v] = self._driver.array(self._driver.memory(extent(v)), v)
        return self._arrays[v]

    def _product(self, a: Any, b: Any, out: Any) -> Callable[[], None] | None:
        if a.ndim == 1:
            a, out = a[None, :], out[..., None, :] if b.ndim > 1 else out[None]
        if b.ndim == 1:
            b, out = b[:, None], out[..., None]
        try:
            return self._driver.product(a, b, out, self._tf32, self._tuned)
        except ProductsUnavailable:
            return None

    def _forward(self, e: Equation, inputs: list[Any], out: Any) -> None:
        result = e.primitive.forward(self._namespace, *inputs, **e.metadata)
        self._driver.xp.copyto(out, result, casting="unsafe")
