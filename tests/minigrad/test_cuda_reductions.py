"""Generated CUDA kernels of reductions, of softmax and of random draws: see tests/host_kernels.py."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.primitives import primitives
from minigrad.program.cuda.layout import Layout
from minigrad.testing import strategies
from tests.cuda_cases import FLOATS, Case, Training, assert_results, needs_nvrtc, reductions, sums, within
from tests.examples import drawn
from tests.host_kernels import HostReplay, compile_for_gpu

pytestmark = pytest.mark.cpu_only


def test_reductions_of_groups_give_what_numpy_gives(machine):
    assert_results([Case(f, *arrays) for f, arrays in drawn(reductions(), 120)], sums(10.0), machine)


LARGE = [
    ((40000,), None), ((250, 160), None), ((3, 7000), 1), ((3, 7001), -1), ((3000, 40), 1), ((2000, 5), 1),
    ((1, 9000), 0), ((2048, 30), 0), ((2048, 32), 0), ((700, 33), 0), ((300, 1000), 0), ((33, 10), 0),
    ((6, 500, 40), (0, 1)), ((40, 3, 300), (0, 2)), ((9, 40, 50), 1), ((2, 30000), 1), ((100, 1), 0),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_large_reductions_are_cut_and_nothing_is_lost(dtype, machine):
    rng = np.random.default_rng(0)
    cases = []
    for shape, axis in LARGE:
        a, b = rng.uniform(0, 1, shape).astype(dtype), rng.uniform(0, 1, shape[-1:]).astype(dtype)

        def f(x, y, axis=axis):
            z = x * y
            return [z, z.sum(axis=axis), z.max(axis=axis), z.min()]

        case = Case(f, a, b, name=f"{shape} {axis}")
        # NumPy adds numbers of float16 in float16 where it adds up columns
        case.wanted[1] = case.wanted[0].sum(axis=axis, dtype="f8").astype(dtype)
        mean = Case(lambda x, axis=axis: x.mean(axis=axis), a, name=f"{shape} {axis}")
        mean.wanted[0] = a.mean(axis=axis, dtype="f8").astype(dtype)
        cases += [case, mean]
    assert sum(len(made) > 1 for case in cases for _, made in case.replay.steps if made) > 5  # in two kernels
    assert_results(cases, sums(4.0), machine)


def test_reductions_of_nothing_and_of_no_axes(machine):
    cases = []
    for dtype in (*FLOATS, "int32", "bool"):
        for shape, axis in (((0,), None), ((0, 3), 0), ((2, 0), 1), ((2, 0), 0), ((), 0), ((), -1)):
            for reduce in (mg.any, mg.all, mg.sum, *([mg.max, mg.softmax] if not shape and dtype in FLOATS else [])):
                x = np.ones(shape, dtype)
                cases.append(Case(lambda x, reduce=reduce, axis=axis: reduce(x, axis=axis), x, name=reduce.name))
    assert_results(cases, within(0), machine)


@given(
    results=st.integers(1, 10**6),
    summands=st.integers(1, 10**6),
    along=st.booleans(),
    width=st.sampled_from((1, 2, 4, 8, 16)),
    number=st.integers(1, 8 * 499),
    whole=st.booleans(),
)
def test_a_block_has_a_warp_and_the_shared_memory_that_there_is(results, summands, along, width, number, whole):
    layout = Layout(results, summands, along, width, number, whole)
    x, y, _ = layout.block
    assert layout.shared * number <= 48 * 1024 and 32 <= x * y <= 1024
    assert all(n & (n - 1) == 0 for n in (x, y))  # trees halve them
    assert layout.chunks * layout.chunk >= layout.steps > (layout.chunks - 1) * layout.chunk


def several(x):
    y = mg.astype(x, dtype="float32") / 255.0
    return [reduce(y, axis=0) for reduce in (mg.mean, mg.max, mg.min, mg.sum)]


def test_several_totals_of_bytes_share_a_block(machine):
    x = np.random.default_rng(0).integers(0, 256, (600, 2048), np.uint8)
    assert_results([Case(several, x)], sums(600.0), machine)


@needs_nvrtc
@pytest.mark.parametrize("shape", [(6000, 3072), (60000, 784)])
def test_several_totals_of_many_bytes_are_cuda(shape):
    replay = HostReplay(mg.record(several)(mg.zeros(shape, dtype="uint8")))
    assert compile_for_gpu(replay.kernels)


def test_a_sum_of_many_numbers_is_more_accurate_than_one_after_the_other(machine):
    x = np.full((1, 200_000), 0.1, "f4")
    case = Case(lambda x: x.sum(axis=1), x)
    exact = float(np.float32(0.1)) * x.size
    [found] = case.replay.run(machine(case.replay.kernels), [x])
    assert abs(found[0] - exact) < 1e-6 * exact
    assert abs(np.cumsum(x)[-1] - exact) > 1e-5 * exact  # which is how far naive summation is off


def test_nan_stays_in_extrema(machine):
    x = np.arange(300, dtype="f4").reshape(3, 100)
    cases = []
    for position in (0, 50, 99):
        y = x.copy()
        y[1, position] = math.nan
        cases += [
            Case(lambda x, axis=axis, row=row: mg.primitives[row](x, axis=axis), y)
            for axis in (0, 1, None)
            for row in ("max", "min")
        ]
        cases.append(Case(lambda x: mg.maximum(mg.minimum(x, 0.0), x), y))
    assert all(np.isnan(case.wanted[0]).any() for case in cases)
    assert_results(cases, within(0), machine)


ROWS_OF = [((7, 10), -1), ((300, 3), 1), ((5, 100), 1), ((5, 100), 0), ((2, 3, 40), 1), ((1, 1), 0), ((9,), 0)]
NORMALIZING = [("softmax", {}), ("log_softmax", {}), ("logsumexp", {}), ("logsumexp", {"keepdims": True})]


@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_and_its_logarithms_give_what_numpy_gives(dtype, machine):
    rng = np.random.default_rng(0)
    cases = []
    for (shape, axis), (row, metadata) in itertools.product(ROWS_OF, NORMALIZING):
        for special in (None, math.nan, math.inf, -math.inf):
            x = rng.normal(0, 4, shape)
            if special is not None:
                rows = np.moveaxis(x, axis, -1).reshape(-1, shape[axis])
                rows[0] = special  # a whole row, and one number of the last
                rows[-1, -1] = special
                x = np.moveaxis(rows.reshape(np.moveaxis(x, axis, -1).shape), -1, axis)

            def f(x, row=row, axis=axis, metadata=metadata):
                return primitives[row](x, axis=axis, **metadata)

            cases.append(Case(f, x.astype(dtype), name=row))
            assert [launch.kind for launch, _ in cases[-1].replay.steps] == ["rows"]
    assert_results(cases, sums(3.0 if dtype == "float16" else 1.0), machine)


# Random draws


WORD = st.integers(0, 2**64 - 1)
DRAWS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(("uniform", "normal", "integers")),
        "dtype": st.sampled_from(FLOATS).map(np.dtype),
        "seed": WORD,
        "stream": WORD,
        "counter": WORD,
        "shape": strategies.shapes(max_side=9),
        "low": st.integers(-(2**63), 2**63 - 2**33),
        "span": st.integers(1, 2**32),
    }
)


def test_draws_are_those_of_philox(machine):
    exact, near = [], []
    for d in drawn(DRAWS, 100):
        metadata = {name: d[name] for name in ("seed", "stream", "shape")}
        if d["kind"] == "integers":
            metadata |= {"low": d["low"], "high": d["low"] + d["span"]}
        else:
            metadata |= {"dtype": d["dtype"]}
        row = primitives[f"random_{d['kind']}"]
        case = Case(lambda counter, row=row, metadata=metadata: row(counter, **metadata), np.uint64(d["counter"])[...])
        (near if d["kind"] == "normal" else exact).append(case)
    assert exact and near
    assert_results(exact, within(0), machine)
    assert_results(near, within(4), machine)


def test_large_draws_are_those_of_philox(machine):
    """More blocks than threads; the counter passes 2**64."""
    g = mg.random.Generator(5, stream=2**40)
    g.set_state({"seed": 5, "stream": 2**40, "counter": 2**64 - 100})

    def f(counter):
        return mg.primitives["random_uniform"](counter, seed=5, stream=2**40, shape=(1100, 1003), dtype=np.dtype("f4"))

    assert_results([Case(f, np.asarray(2**64 - 100, np.uint64))], within(0), machine)


@pytest.mark.parametrize("row", ["random_uniform", "random_normal", "random_integers"])
def test_draws_join_the_group_that_reads_them(row, machine):
    """At every place the number of that place, however the arrays beside it lie."""
    rng = np.random.default_rng(0)
    cases = []
    for shape, dtype in itertools.product([(6, 8), (5, 30), (7, 9), (3, 1, 4), (64,), (1, 1), (40, 50)], FLOATS):
        metadata = {"low": -5, "high": 9} if row == "random_integers" else {"dtype": np.dtype(dtype)}
        others = [rng.normal(size=s).astype(dtype) for s in (shape, shape[-1:], (*shape[:-1], 1), ())]
        others.append(np.asfortranarray(others[0]))
        for other, reduced in itertools.product(others, (False, True)):

            def f(counter, x, shape=shape, metadata=metadata, reduced=reduced):
                drawn = primitives[row](counter, seed=1, stream=2, shape=shape, **metadata)
                y = mg.astype(drawn, dtype=x.dtype) * 0.25 + x
                return [y, y.sum(axis=0), y.sum()] if reduced else y

            cases.append(Case(f, np.uint64(2**33 + 1)[...], other, name=f"{shape} {dtype}"))
            assert len(cases[-1].replay.plan.groups) == 1
            # NumPy adds numbers of float16 in float16 where it adds up columns
            cases[-1].wanted[1:] = [
                cases[-1].wanted[0].sum(axis=axis, dtype="f8").astype(dtype) for axis in (0, None)[: 2 * reduced]
            ]
    assert_results(cases, sums(5.0), machine)


def test_draws_one_after_the_other_wait_for_their_counter(machine):
    counter = mg.tensor(np.uint64(0))

    def step(x):
        results = []
        for _ in range(3):
            drawn = primitives["random_uniform"](counter, seed=1, stream=2, shape=(4, 6), dtype=np.dtype("f4"))
            counter.assign(counter + 6)
            results.append(drawn)
        return results[0] * x + results[1] - results[2]

    training = Training(step, [np.ones((4, 6), "f4")])
    training.assert_as_operations(machine(training.replay.kernels), within(0))
