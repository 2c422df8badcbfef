"""Generated CUDA kernels compute what elementwise operations compute, and are CUDA: see tests/host_kernels.py."""

import itertools
import math
import re

import numpy as np
import pytest

import minigrad as mg
from minigrad.primitives import primitives
from minigrad.program.cuda import Unsupported, kernels_of, launches
from minigrad.program.memory import Plan
from minigrad.program.passes import simplify
from minigrad.program.program import Equation, Program, Variable
from minigrad.testing import strategies
from tests.cuda_cases import (
    FLOATS,
    Case,
    assert_results,
    groups,
    needs_nvrtc,
    reductions,
    sums,
    tensors,
    within,
)
from tests.examples import drawn, options_of
from tests.host_kernels import compile_for_gpu, doubles

pytestmark = pytest.mark.cpu_only

ROWS = [p for p in primitives.values() if p.elementwise or p.name == "astype"]
INTEGERS = ("bool", "uint8", "int32", "int64")
# infinities, zeros of both signs, NaN, a denormal number, halves that round to even, ends of what exp can take
SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-42, 0.5, 1.5, 2.5, -0.5, -1.5, 1.0, -1.0, 2.0, 88.0, -104.0]
# in units in the last place: how far libraries may differ in functions whose last bits nothing defines. Functions of
# float16 are those of float32, rounded
ULPS = {"float16": 1, "float32": 8, "float64": 8}
DEFINED = {
    "add", "subtract", "multiply", "divide", "negative", "square", "sqrt", "relu", "abs", "sign", "maximum", "minimum",
    "where", "clip", "floor", "ceil", "round", "astype",
}  # fmt: skip
# what the families leave out, because it has no derivative or steps everywhere
FURTHER_OPTIONS = {
    "round": [{"decimals": 1}],
    "astype": [{"dtype": np.dtype(d)} for d in ("float16", *INTEGERS)],
}


# Elementwise rows


def row_cases(dtypes):
    """Yield calls of every elementwise row on special and on ordinary values, with the options of its family."""
    rng = np.random.default_rng(0)
    for dtype, row in itertools.product(dtypes, ROWS):
        if dtype in FLOATS:
            values = np.array(SPECIAL + list(rng.uniform(-3, 3, 13)), "f8")
        else:
            values = rng.integers(0, 7, 29)
        with np.errstate(all="ignore"):
            values = values.astype(dtype)
        options = [*options_of(row), *FURTHER_OPTIONS.get(row.name, [])]
        if row.name == "round" and dtype not in FLOATS:
            options = [{"decimals": 0}]
        a, b = values, values[:, None]
        if row.name == "astype" and dtype in FLOATS:
            a = np.where(np.isfinite(a), np.abs(a), 0).astype(dtype)  # other conversions to integers are not defined
        inputs = {1: [(a,)], 2: [(a, b), (a, 0.5), (2, a), (a, 3.0)], 3: [(b > 0, a, b), (a, b, -0.0)]}[row.arity]
        for given_inputs, given_options in itertools.product(inputs, options):
            arrays = [x for x in given_inputs if isinstance(x, np.ndarray)]

            def f(*xs, row=row, given=given_inputs, options=given_options):
                xs = iter(xs)
                return row(*(next(xs) if isinstance(x, np.ndarray) else x for x in given), **options)

            try:
                with np.errstate(all="ignore"):
                    f(*tensors(arrays))
            except TypeError:  # NumPy has no such function of this dtype
                assert dtype not in FLOATS
                continue
            yield row, Case(f, *arrays, name=row.name)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_every_elementwise_row_gives_what_numpy_gives(dtype, machine):
    cases = list(row_cases([dtype]))
    assert {row for row, _ in cases} >= (set(ROWS) if dtype in FLOATS else {primitives["astype"], primitives["add"]})
    launch = machine([kernel for _, case in cases for kernel in case.replay.kernels])
    for row, case in cases:
        if row.name in ("arctanh", "softplus") and dtype == "float16":
            units = 2
        else:
            units = 0 if row.name in DEFINED else ULPS.get(dtype, 8)
        case.assert_results(launch, within(units))


@needs_nvrtc
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_elementwise_row_is_cuda(dtype):
    made = [(row, kernel) for row, case in row_cases([dtype]) for kernel in case.replay.kernels]
    assert len(compile_for_gpu([kernel for _, kernel in made])) > 100_000
    if dtype != "float64":
        # a GPU is 2 to 64 times as slow in float64. NVIDIA's own sin, cos and tan use it, for angles above 1e5 only
        single = [k for _, k in made if not re.search(r"\b(sin|cos|tan)f?\(", k.source) and not to_double(k)]
        assert len(single) > 80
        assert not doubles(compile_for_gpu(single, "compute_90"))


def to_double(kernel):
    return any(p.dtype == "float64" for p in kernel.parameters)


# Groups of many operations


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_programs_give_what_operations_give(dtype, machine):
    """Values and gradients; matrix products, concatenations and the like are left to NumPy, in every layout."""
    cases = []
    for expression in drawn(strategies.expressions(), 15):
        arrays = [leaf.astype(dtype) for leaf in expression.leaves]

        def f(*xs, expression=expression):
            y = expression(*xs)
            return y, mg.grad(lambda *xs: expression(*xs).sum(), argnums=tuple(range(len(xs))))(*xs)

        cases.append(Case(f, *arrays))
    assert_results(cases, sums(30.0), machine)


def test_a_group_gives_the_bits_of_its_operations(machine):
    assert_results([Case(f, *arrays) for f, arrays in drawn(groups(), 120)], within(0), machine)


# What there is no kernel for, and the order of launches


def groups_of(f, *arrays):
    program = simplify(mg.record(f)(*tensors(arrays)))
    plan = Plan(program, launches(program))
    return plan, [launch for launch in plan.groups if launch.kind]


def test_complex_numbers_have_no_kernels():
    plan, made = groups_of(lambda x: mg.exp(x) * x, np.ones(3, "c8"))
    with pytest.raises(Unsupported, match="complex64"):
        kernels_of(made[0], set(plan.buffers), plan.roots)


def test_what_has_no_kernel_is_launched_alone():
    _, made = groups_of(lambda x, y, z: [mg.exp(x), mg.exp(y), mg.exp(z)], *(np.ones(3, d) for d in ("f4", "c8", "f8")))
    assert [len(launch.parts) for launch in made] == [2, 1]


def test_a_tensor_that_is_assigned_a_view_of_itself_has_no_kernel():
    p = mg.Parameter(np.arange(6.0, dtype="f4"))
    plan, made = groups_of(lambda x: p.assign(p.detach()[::-1]) + x, np.ones(6, "f4"))
    with pytest.raises(Unsupported, match="another form"):
        for launch in made:
            kernels_of(launch, set(plan.buffers), plan.roots)


def test_nothing_is_launched_for_no_elements():
    plan, made = groups_of(lambda x: [mg.exp(x), mg.exp(x).sum(axis=0)], np.ones((0, 0), "f4"))
    assert [kernels_of(launch, set(plan.buffers), plan.roots) for launch in made] == [[]]


def test_a_reduction_joins_the_group_that_it_reads():
    _, made = groups_of(lambda x: (mg.exp(x) * 2.0).sum(axis=0), np.ones((3, 4), "f4"))
    assert [[e.primitive.name for e in launch.equations] for launch in made] == [["exp", "multiply", "sum"]]
    _, made = groups_of(lambda x: [mg.exp(x).sum(axis=0), mg.exp(x).sum(axis=1)], np.ones((3, 4), "f4"))
    assert [[e.primitive.name for e in launch.equations] for launch in made] == [["exp", "sum"], ["sum"]]
    _, made = groups_of(lambda x: [mg.exp(x).sum(), mg.exp(x).sum(axis=1)], np.ones((3, 4), "f4"))
    assert [[e.primitive.name for e in launch.equations] for launch in made] == [["exp", "sum", "sum"]]


def abstract(shape, row, inputs, itemsize=4, **metadata):
    """Return a program of one operation on variables that have no memory, of any size."""
    device, dtype = mg.device("cpu"), np.dtype("float32")

    def variable(name, shape):
        strides = tuple(itemsize * math.prod(shape[i + 1 :]) for i in range(len(shape)))
        return Variable(name, shape, dtype, device, strides)

    given_inputs = tuple(variable(f"x{i}", s) for i, s in enumerate(inputs))
    result = variable("y", shape)
    return Program("f", given_inputs, {}, [Equation(result, primitives[row], given_inputs, metadata, "")], result)


HUGE = [
    abstract((70_000, 70_000), "add", [(70_000, 70_000)] * 2),
    abstract((3, 2**30), "add", [(3, 2**30), (2**30,)]),
    abstract((), "sum", [(2**17, 2**17)]),
    abstract((2**17,), "sum", [(2**17, 2**17)], axis=0),
    abstract((2**17,), "max", [(2**17, 2**17)], axis=1),
]


def test_positions_beyond_32_bits_are_counted_in_64():
    for program in HUGE:
        plan = Plan(program, launches(program))
        for kernel in kernels_of(plan.groups[0], set(plan.buffers), plan.roots)[:1]:
            assert "unsigned long long i" in kernel.source and "unsigned int i" not in kernel.source
            assert max(kernel.grid[0], 1) < 2**31 and kernel.grid[1] < 2**16


@needs_nvrtc
def test_groups_reductions_and_draws_are_cuda():
    cases = [Case(f, *arrays) for f, arrays in [*drawn(groups(), 30), *drawn(reductions(), 40)]]
    cases += [
        Case(lambda c, row=row, m=m: primitives[row](c, seed=1, stream=2, shape=(9,), **m), np.uint64(3)[...])
        for row in ("random_uniform", "random_normal")
        for m in ({"dtype": np.dtype(d)} for d in FLOATS)
    ]
    cases.append(
        Case(lambda c: primitives["random_integers"](c, seed=1, stream=2, low=0, high=9, shape=(9,)), np.uint64(3)[...])
    )
    x = np.ones((8, 10), "f4")
    cases += [Case(lambda x, row=row: primitives[row](x), x) for row in ("softmax", "log_softmax", "logsumexp")]
    made = [kernel for case in cases for kernel in case.replay.kernels]
    for program in HUGE:
        plan = Plan(program, launches(program))
        made += kernels_of(plan.groups[0], set(plan.buffers), plan.roots)
    assert len(compile_for_gpu(made)) > 100_000
