"""A driver without a GPU: kernels compiled for the host, products by NumPy, graphs in any order that lanes allow."""

import random

import numpy as np

from minigrad.program.blocks import first
from minigrad.program.cuda.driver import Driver, _Namespace
from minigrad.program.cuda.products import operands
from tests import standin
from tests.host_kernels import ORDERS, compiled


class HostDriver(Driver):
    """What `Driver` does, on the arrays of the stand-in.

    New memory is full of bytes that look like no number, and a graph runs its calls in a random order, so that what
    reads too early is seen.
    """

    def __init__(self, place, seed=0):
        self.xp = place.xp
        self.place = place
        self.captured = 0
        self._random = random.Random(seed)
        self._kept = None
        self._launch = None

    def memory(self, size):
        return np.full(size + 64, 0xAB, np.uint8)

    def array(self, block, v):
        start = -block.ctypes.data % 64 + first(v)
        return standin.Array(np.ndarray(v.shape, v.dtype, block, start, v.strides), self.place.index)

    def bytes(self, block, size):
        return standin.Array(block[:size], self.place.index)

    def copy(self, source, target):
        target[...] = source

    def compile(self, kernels):
        self.made = kernels
        self._launch = compiled(kernels) if kernels else None

    def launch(self, kernel, arrays):
        return lambda: self._launch(kernel, [a._a for a in arrays], self._random.choice(ORDERS))

    def product(self, a, b, out, tf32, tuned):
        operands(a, b, out)

        def call():
            np.matmul(a._a, b._a, out=out._a)

        return call

    def namespace(self, tf32):
        return _Namespace(self, tf32)

    def run(self, calls):
        for call in calls:
            call()

    def capture(self, calls, places):
        self.captured += 1

        def graph():
            lanes = {}
            for i, place in enumerate(places):
                lanes.setdefault(place.lane, []).append(i)
            done = set()
            while any(lanes.values()):
                ready = [lane for lane, left in lanes.items() if left and done.issuperset(places[left[0]].waits)]
                i = lanes[self._random.choice(ready)].pop(0)
                calls[i]()
                done.add(i)

        return graph
