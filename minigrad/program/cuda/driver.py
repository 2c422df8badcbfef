"""Driver: what a replay asks of a GPU by CuPy: memory that nothing else gets, kernels, products, streams, graphs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ...devices import Device
from ..blocks import first
from ..program import Variable
from .kernel import Kernel
from .products import Product, ProductsUnavailable

LANES = 8  # how many launches may run side by side
THREADS = min(os.cpu_count() or 1, 8)  # that compile kernels
OPTIONS = ("--std=c++17",)
_functions: dict[tuple[int, str], Any] = {}  # compiled kernels, by device and name: equal sources have equal names


def driver_of(place: Device) -> Driver | None:
    """Return a driver of a device, or None where there is no CuPy to drive it."""
    return Driver(place.xp, LANES) if place.xp.__name__ == "cupy" else None


class Driver:
    """The current CUDA device, for one replay.

    A graph holds bare addresses, so everything it uses comes from a pool of its own, which lives as long as this.
    """

    def __init__(self, xp: Any, lanes: int) -> None:
        self.xp = xp
        self._cuda = xp.cuda
        self._pool = xp.cuda.MemoryPool()
        self._lanes = [xp.cuda.Stream(non_blocking=True) for _ in range(lanes)]
        self._kept: list[Any] | None = None  # what captured calls made on the way

    # Memory

    def memory(self, size: int) -> Any:
        """Return `size` bytes, as a pointer for `array` and `bytes`; what CuPy allocates in a replay comes here too."""
        try:
            return self._pool.malloc(size)
        except MemoryError:  # eager steps may have left blocks free, in CuPy's own pool
            self.xp.get_default_memory_pool().free_all_blocks()
            return self._pool.malloc(size)

    def array(self, block: Any, v: Variable) -> Any:
        """Return an array of a variable's type and layout in a block."""
        return self.xp.ndarray(v.shape, v.dtype, memptr=block + first(v), strides=v.strides)

    def bytes(self, block: Any, size: int) -> Any:
        """Return a block as an array of bytes."""
        return self.xp.ndarray((size,), self.xp.uint8, memptr=block)

    def copy(self, source: Any, target: Any) -> None:
        """Queue a copy between arrays of one shape and dtype."""
        if source.strides == target.strides and source.nbytes == target.nbytes and _whole(source):
            target.data.copy_from_device_async(source.data, source.nbytes)
        else:
            target[...] = source

    # Calls

    def compile(self, kernels: Sequence[Kernel]) -> None:
        """Compile kernels, some at a time in as many threads as there are processors."""
        device = self._cuda.runtime.getDevice()
        new = {k.name: k.source for k in kernels if (device, k.name) not in _functions}
        names = list(new)
        shares = [names[i::THREADS] for i in range(min(THREADS, len(names)))]

        def compiled(share: Sequence[str]) -> list[tuple[tuple[int, str], Any]]:
            self._cuda.runtime.setDevice(device)  # of this thread
            module = self.xp.RawModule(code=module_text({name: new[name] for name in share}), options=OPTIONS)
            return [((device, name), module.get_function(name)) for name in share]

        if shares:
            with ThreadPoolExecutor(len(shares)) as pool:
                for found in pool.map(compiled, shares):
                    _functions.update(found)

    def launch(self, kernel: Kernel, arrays: tuple[Any, ...]) -> Callable[[], None]:
        """Return the call that queues a kernel on the current stream."""
        function = _functions[self._cuda.runtime.getDevice(), kernel.name]

        def call() -> None:
            function(kernel.grid, kernel.block, arrays)

        return call

    def product(self, a: Any, b: Any, out: Any, tf32: bool, tuned: bool) -> Callable[[], None]:
        """Return the call that queues `out = a @ b` on the current stream."""
        with self._cuda.using_allocator(self.memory):
            product = Product(self.xp, a, b, out, tf32, tuned)

        def call() -> None:
            product.launch(self._cuda.get_current_stream().ptr)

        return call

    def namespace(self, tf32: bool) -> Any:
        """Return the array module with products that may be captured."""
        return _Namespace(self, tf32)

    @property
    def capturing(self) -> bool:
        """Whether calls are captured now, or were, into a graph."""
        return self._kept is not None

    def keep(self, thing: Any) -> None:
        """Let something that is captured live as long as this; what only runs is done with, in the stream's order."""
        if self._kept is not None:
            self._kept.append(thing)

    # Runs

    def run(self, calls: Sequence[Callable[[], None]]) -> None:
        """Make the calls, one after the other, behind what the caller's stream has to do and before what follows."""
        caller, own = self._cuda.get_current_stream(), self._lanes[0]
        own.wait_event(caller.record())
        with own, self._cuda.using_allocator(self.memory):
            for call in calls:
                call()
        caller.wait_event(own.record())

    def capture(self, calls: Sequence[Callable[[], None]], places: Sequence[Any]) -> Callable[[], None]:
        """Return the call that does all calls as one graph; `places` says for each its lane, and what it waits for."""
        first, *others = self._lanes
        done: dict[int, Any] = {}
        waited = {j for place in places for j in place.waits}
        joined = {0}
        self._kept = []
        with first, self._cuda.using_allocator(self.memory):
            first.begin_capture()
            try:
                start = first.record()
                for i, (call, place) in enumerate(zip(calls, places, strict=True)):
                    lane = self._lanes[place.lane]
                    if place.lane not in joined:
                        lane.wait_event(start)
                        joined.add(place.lane)
                    for j in place.waits:
                        lane.wait_event(done[j])
                    with lane:
                        call()
                    if i in waited:
                        done[i] = lane.record()
                for n, lane in enumerate(others, 1):
                    if n in joined:
                        first.wait_event(lane.record())
                graph = first.end_capture()
                graph.upload()
            except BaseException:
                self._kept = None
                with contextlib.suppress(Exception):  # the stream would stay unusable; the first error says more
                    first.end_capture()
                raise
        return graph.launch


def module_text(sources: Mapping[str, str]) -> str:
    """Return the text of several kernels as one: helper functions that they share stay apart in namespaces."""
    return "\n".join(f"namespace of_{name} {{\n{source}}}" for name, source in sources.items())


def _whole(a: Any) -> bool:
    """Return whether an array fills the memory from its first to its last element."""
    return bool(a.flags.c_contiguous or a.flags.f_contiguous)


class _Namespace:
    """CuPy, but for what may not be captured: products go by cuBLASLt, and nothing is copied from the host.

    A copy from the host would be repeated by the graph, from memory that holds something else by then.
    """

    def __init__(self, driver: Driver, tf32: bool) -> None:
        self._driver = driver
        self._tf32 = tf32

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver.xp, name)

    def matmul(self, a: Any, b: Any, out: None = None) -> Any:
        """Return the product of vectors, matrices, or stacks of matrices.

        What cuBLASLt does not take in any form (integers, complex numbers, nothing) is left to CuPy.
        """
        xp = self._driver.xp
        if a.ndim == 1:
            product = self.matmul(a[None, :], b)
            return product[..., 0, :] if b.ndim > 1 else product[0]
        if b.ndim == 1:
            return self.matmul(a, b[:, None])[..., 0]
        stack = xp.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        result = xp.empty((*stack, a.shape[-2], b.shape[-1]), xp.result_type(a, b))
        try:
            call = self._driver.product(a, b, result, self._tf32, tuned=False)
        except ProductsUnavailable:  # neither by rows nor by columns, or a stack of another size
            whole = [xp.ascontiguousarray(xp.broadcast_to(x, (*stack, *x.shape[-2:]))) for x in (a, b)]
            try:
                call = self._driver.product(whole[0], whole[1], result, self._tf32, tuned=False)
            except ProductsUnavailable:
                return xp.matmul(a, b)
        self._driver.keep(call)
        call()
        return result

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        """Return arrays along a new axis: CuPy uploads the addresses of more than eight."""
        return self.concatenate([self._driver.xp.expand_dims(a, axis) for a in arrays], axis)

    def concatenate(self, arrays: Sequence[Any], axis: int | None = 0) -> Any:
        """Return arrays one behind the other along an axis; None: as flat arrays."""
        xp = self._driver.xp
        if axis is None:
            arrays, axis = [a.reshape(-1) for a in arrays], 0
        first = arrays[0]
        axis %= first.ndim
        length = sum(a.shape[axis] for a in arrays)
        result = xp.empty((*first.shape[:axis], length, *first.shape[axis + 1 :]), xp.result_type(*arrays))
        start = 0
        for a in arrays:
            stop = start + a.shape[axis]
            result[(slice(None),) * axis + (slice(start, stop),)] = a
            start = stop
        return result

    def array(self, data: Any, *arguments: Any, **options: Any) -> Any:
        """Return a copy of an array of the device."""
        self._refuse_upload(data)
        return self._driver.xp.array(data, *arguments, **options)

    def asarray(self, data: Any, *arguments: Any, **options: Any) -> Any:
        """Return an array of the device."""
        self._refuse_upload(data)
        return self._driver.xp.asarray(data, *arguments, **options)

    def _refuse_upload(self, data: Any) -> None:
        if self._driver.capturing and not isinstance(data, self._driver.xp.ndarray):
            raise RuntimeError("values are copied from the host in the step")
