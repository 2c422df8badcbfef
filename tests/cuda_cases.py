"""Cases for the tests of generated CUDA kernels: functions, their arguments in any layout, and how results compare."""

import math

import numpy as np
import pytest
from hypothesis import strategies as st

import minigrad as mg
from minigrad import trees
from minigrad.program.passes import simplify
from minigrad.tensor import Tensor, Version
from minigrad.testing import strategies
from tests.host_kernels import ORDERS, HostReplay, nvrtc

needs_nvrtc = pytest.mark.skipif(nvrtc() is None, reason="needs NVRTC: pip install nvidia-cuda-nvrtc")
FLOATS = ("float16", "float32", "float64")


def ulps(a, b):
    """Return the largest distance of two arrays in units in the last place of b: inf where one of them is NaN alone."""
    assert a.dtype == b.dtype and a.shape == b.shape, (a.dtype, b.dtype, a.shape, b.shape)
    if b.dtype.kind != "f":
        return 0 if np.array_equal(a, b) else math.inf
    wide = np.float64 if b.itemsize < 8 else np.longdouble
    with np.errstate(all="ignore"):
        distance = np.abs(a.astype(wide) - b.astype(wide)) / np.spacing(np.abs(b)).astype(wide)
    distance = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, distance)
    return np.max(np.where(np.isnan(distance), math.inf, distance), initial=0.0)


def tensors(arrays):
    return [Tensor._wrap(a, mg.device("cpu"), None, Version()) for a in arrays]


class Case:
    """A function without effects and its arguments, in any layout: what it gives, and its program in kernels."""

    def __init__(self, f, *arrays, name=""):
        self.arrays, self.name = arrays, name
        with np.errstate(all="ignore"):
            program = mg.record(f)(*tensors(arrays))
            self.wanted = [t.detach().numpy().copy() for t in trees.leaves(f(*tensors(arrays)))]
        self.replay = HostReplay(simplify(program))

    def assert_results(self, launch, close):
        """Compare what the kernels give, with threads in several orders and with one thread per block."""
        for order in ORDERS:
            found = self.replay.run(launch, self.arrays, order)
            for a, b in zip(found, self.wanted, strict=True):
                close(a, b, f"{self.name} {[(x.dtype.name, x.shape, x.strides) for x in self.arrays]}")


class Training:
    """A step that changes tensors, and how its kernels change them."""

    def __init__(self, step, arrays):
        self.step, self.arrays = step, arrays
        with np.errstate(all="ignore"):
            self.program = simplify(mg.record(step)(*tensors(arrays)))
        self.state = [t._array for t in self.program.captured.values() if t._array.flags.writeable]
        self.replay = HostReplay(self.program)

    def assert_as_operations(self, launch, close, steps=3):
        """Take steps by operations and by kernels, from the same state, and compare what is changed and returned."""
        start = [a.copy() for a in self.state]
        with np.errstate(all="ignore"):
            returned = [
                [t.numpy().copy() for t in trees.leaves(self.step(*tensors(self.arrays)))] for _ in range(steps)
            ]
        wanted = [a.copy() for a in self.state]
        for order in ORDERS:
            for a, b in zip(self.state, start, strict=True):
                a[...] = b
            for step in range(steps):
                found = self.replay.run(launch, self.arrays, order)
                for a, b in zip(found, returned[step], strict=True):
                    close(a, b, f"what step {step} returns")
            for v, a, b in zip(self.program.captured, self.state, wanted, strict=False):
                close(a, b, v.name)
        assert any((a != b).any() for a, b in zip(start, wanted, strict=True))


def within(units):
    def close(a, b, what):
        assert ulps(a, b) <= units, f"{what}: {a} instead of {b}"

    return close


def sums(scale):
    """Return a comparison up to the rounding of sums of numbers of about `scale`."""

    def close(a, b, what):
        assert a.dtype == b.dtype and a.shape == b.shape, what
        tolerance = scale * {2: 2e-3, 4: 3e-6, 8: 1e-13}[b.itemsize] if b.dtype.kind == "f" else 0
        np.testing.assert_allclose(a.astype("f8"), b.astype("f8"), rtol=tolerance, atol=tolerance, err_msg=what)

    return close


def assert_results(cases, close, machine):
    launch = machine([kernel for case in cases for kernel in case.replay.kernels])
    for case in cases:
        case.assert_results(launch, close)


# What to draw


def operands(draw, dtype):
    """Draw arrays that broadcast to one shape, each in a layout of its own, some at odd addresses."""
    whole = draw(strategies.shapes(max_ndim=4, max_side=9))
    arrays = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(strategies.broadcasts_to(whole))
        a = draw(strategies.arrays(shape, dtype, layouts=("C", "C", *strategies.LAYOUTS)))
        place = draw(st.sampled_from(("aligned", "odd", "padded")))
        if place == "padded" and a.ndim and a.flags.c_contiguous:  # rows are longer than what is used of them
            block = np.zeros((*shape[:-1], shape[-1] + 8 - shape[-1] % 8), dtype)[..., : shape[-1]]
            block[...] = a
            a = block
        if place == "odd" and a.flags.c_contiguous:
            block = np.empty(a.size + 1, dtype)[1:].reshape(shape)
            block[...] = a
            a = block
        arrays.append(a)
    return arrays


@st.composite
def groups(draw):
    """Draw a function with several results of elementwise operations and numbers, and its operands."""
    dtype = draw(st.sampled_from(("float32", "float32", "float64", "float16")))
    arrays = operands(draw, dtype)
    steps = draw(
        st.lists(st.tuples(st.integers(0, 6), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=12)
    )

    def f(*xs):
        values = list(xs)
        for kind, i, j in steps:
            a, b = values[i % len(values)], values[j % len(values)]
            values.append(
                [
                    lambda a, b: a + b,
                    lambda a, b: a * b * 0.5,
                    lambda a, b: mg.maximum(a, b),
                    lambda a, b: mg.where(mg.less(a, b), a, 1.0),
                    lambda a, b: mg.clip(a - b, -2.0, None),
                    lambda a, b: mg.sqrt(mg.abs(a)) / (mg.square(b) + 1.0),
                    lambda a, b: mg.astype(mg.astype(a, dtype="float32") - 0.25, dtype=a.dtype),
                ][kind](a, b)
            )
        return values[len(xs) :: 2]

    return f, arrays


REDUCTIONS = ("sum", "mean", "max", "min", "any", "all")


@st.composite
def reductions(draw):
    """Draw reductions over the same axes of what a group computes, which may be stored as well."""
    dtype = draw(st.sampled_from(("float32", "float32", "float64", "float16", "bool", "int32", "uint8")))
    arrays = operands(draw, dtype)
    ndim = max(a.ndim for a in arrays)
    names = draw(st.lists(st.sampled_from(REDUCTIONS), min_size=1, max_size=2))
    axis, keepdims = draw(strategies.axes(ndim)), draw(st.booleans())
    target = draw(strategies.broadcasts_to(np.broadcast_shapes(*(a.shape for a in arrays))))
    prologue, stored, to_shape, whole = (draw(st.booleans()) for _ in range(4))

    def f(*xs):
        x = xs[0]
        for y in xs[1:]:
            x = x + y
        if prologue:
            x = x * x
        if to_shape and dtype not in ("bool", "uint8"):
            results = [mg.primitives["sum_to"](x, shape=target)]
        else:
            results = [
                mg.primitives[n](x, axis=axis, keepdims=keepdims)
                for n in names
                if n not in ("max", "min", "mean") or x.size
            ]
        if whole:
            results.append(mg.sum(x))
        return [*results, x] if stored else results

    return f, arrays
