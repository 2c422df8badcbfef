"""Generated CUDA kernels compute what the operations compute, and are CUDA: see tests/host_kernels.py."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.primitives import primitives
from minigrad.program import trees
from minigrad.program.cuda import Unsupported, kernels, launches
from minigrad.program.memory import Plan
from minigrad.program.passes import simplify
from minigrad.program.program import Equation, Program, Variable
from minigrad.tensor import Tensor, Version
from minigrad.testing import strategies
from tests.host_kernels import GXX, HostReplay, compile_for_gpu, compiled, doubles, nvrtc

needs_compiler = pytest.mark.skipif(GXX is None, reason="needs g++ to run kernels on the host")
needs_nvrtc = pytest.mark.skipif(nvrtc() is None, reason="needs NVRTC: pip install nvidia-cuda-nvrtc")

ROWS = [p for p in primitives.values() if p.elementwise or p.name == "astype"]
FLOATS = ("float16", "float32", "float64")
INTEGERS = ("bool", "uint8", "int32", "int64")
# infinities, zeros of both signs, NaN, a denormal number, halves that round to even, ends of what exp can take
SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-42, 0.5, 1.5, 2.5, -0.5, -1.5, 1.0, -1.0, 2.0, 88.0, -104.0]
# in units in the last place: how far libraries may differ in functions whose last bits nothing defines. Functions of
# float16 are those of float32, rounded
ULPS = {"float16": 1, "float32": 5, "float64": 5}
DEFINED = {
    "add", "subtract", "multiply", "divide", "negative", "square", "sqrt", "relu", "abs", "sign", "maximum", "minimum",
    "where", "clip", "floor", "ceil", "round", "astype",
}  # fmt: skip


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


def drawn(strategy, count):
    """Return `count` examples: they are compiled together, which takes seconds, and so are not shrunk."""
    examples = []

    @settings(max_examples=count, phases=[Phase.generate], database=None)
    @given(strategy)
    def draw(example):
        examples.append(example)

    draw()
    return examples


def tensors(arrays):
    return [Tensor._wrap(a, mg.device("cpu"), None, Version()) for a in arrays]


class Case:
    """A function without effects and its arguments, in any layout: what it gives, and its program in kernels."""

    def __init__(self, f, *arrays, name=""):
        self.arrays, self.name = arrays, name
        with np.errstate(all="ignore"):
            program = mg.record(f)(*tensors(arrays))
            self.wanted = [t.detach().numpy().copy() for _, t in trees.leaves(f(*tensors(arrays)))]
        self.replay = HostReplay(simplify(program))

    def check(self, launch, close):
        """Compare what the kernels give, with the threads that they ask for and with one thread per block."""
        for one_thread in (False, True):
            found = self.replay.run(launch, self.arrays, one_thread)
            for a, b in zip(found, self.wanted, strict=True):
                close(a, b, f"{self.name} {[(x.dtype.name, x.shape, x.strides) for x in self.arrays]}")


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


def run(cases, close):
    launch = compiled([kernel for case in cases for kernel in case.replay.kernels])
    for case in cases:
        case.check(launch, close)


# Elementwise rows


def row_cases(dtypes):
    """Yield a call of every elementwise row on special and on ordinary values, with all metadata that matters."""
    rng = np.random.default_rng(0)
    for dtype, row in itertools.product(dtypes, ROWS):
        if dtype in FLOATS:
            values = np.array(SPECIAL + list(rng.uniform(-3, 3, 13)), "f8")
        else:
            values = rng.integers(0, 7, 29)
        with np.errstate(all="ignore"):
            values = values.astype(dtype)
        metadata = {
            "clip": [{"low": -1.0, "high": 0.5}, {"low": 0.25}, {"high": 0.5}],
            "round": [{"decimals": 0}, {"decimals": 1}, {"decimals": -1}] if dtype in FLOATS else [{"decimals": 0}],
            "astype": [{"dtype": np.dtype(d)} for d in (*FLOATS, *INTEGERS)],
        }.get(row.name, [{}])
        a, b = values, values[:, None]
        if row.name == "astype" and dtype in FLOATS:
            a = np.where(np.isfinite(a), np.abs(a), 0).astype(dtype)  # other conversions to integers are not defined
        inputs = {1: [(a,)], 2: [(a, b), (a, 0.5), (2, a), (a, 3.0)], 3: [(b > 0, a, b), (a, b, -0.0)]}[row.arity]
        for given_inputs, given_metadata in itertools.product(inputs, metadata):
            arrays = [x for x in given_inputs if isinstance(x, np.ndarray)]

            def f(*xs, row=row, given=given_inputs, metadata=given_metadata):
                xs = iter(xs)
                return row(*(next(xs) if isinstance(x, np.ndarray) else x for x in given), **metadata)

            try:
                with np.errstate(all="ignore"):
                    f(*tensors(arrays))
            except TypeError:  # NumPy has no such function of this dtype
                assert dtype not in FLOATS
                continue
            yield row, Case(f, *arrays, name=row.name)


@needs_compiler
@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_every_elementwise_row_gives_what_numpy_gives(dtype):
    cases = list(row_cases([dtype]))
    assert {row for row, _ in cases} >= (set(ROWS) if dtype in FLOATS else {primitives["astype"], primitives["add"]})
    launch = compiled([kernel for _, case in cases for kernel in case.replay.kernels])
    for row, case in cases:
        if row.name in ("arctanh", "softplus") and dtype == "float16":
            units = 2
        else:
            units = 0 if row.name in DEFINED else ULPS.get(dtype, 5)
        case.check(launch, within(units))


@needs_nvrtc
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_elementwise_row_is_cuda(dtype):
    made = [(row, kernel) for row, case in row_cases([dtype]) for kernel in case.replay.kernels]
    assert len(compile_for_gpu([kernel for _, kernel in made])) > 100_000
    if dtype != "float64":
        # a GPU is 2 to 64 times as slow in float64. NVIDIA's own sin, cos and tan use it, for angles above 1e5 only
        single = [kernel for row, kernel in made if row.name not in ("sin", "cos", "tan") and not to_double(kernel)]
        assert len(single) > 80
        assert not doubles(compile_for_gpu(single, "compute_90"))


def to_double(kernel):
    return any(p.dtype == "float64" for p in kernel.parameters)


# Groups of many operations


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_programs_give_what_operations_give(dtype):
    """Values and gradients; matrix products, concatenations and the like are left to NumPy, in every layout."""
    cases = []
    for expression in drawn(strategies.expressions(), 25):
        arrays = [leaf.astype(dtype) for leaf in expression.leaves]

        def f(*xs, expression=expression):
            y = expression(*xs)
            return y, mg.grad(lambda *xs: expression(*xs).sum(), argnums=tuple(range(len(xs))))(*xs)

        cases.append(Case(f, *arrays))
    run(cases, sums(30.0))


def operands(draw, dtype):
    """Draw arrays that broadcast to one shape, each in a layout of its own, some at odd addresses."""
    whole = draw(strategies.shapes(max_ndim=4, max_side=9))
    arrays = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(strategies.broadcasts_to(whole))
        a = draw(strategies.arrays(shape, dtype, layouts=("C", "C", *strategies.LAYOUTS)))
        if draw(st.booleans()) and a.flags.c_contiguous:
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


@needs_compiler
def test_a_group_gives_the_bits_of_its_operations():
    run([Case(f, *arrays) for f, arrays in drawn(groups(), 120)], within(0))


# Reductions

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
    prologue, stored, to_shape = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())

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
        return [*results, x] if stored else results

    return f, arrays


@needs_compiler
def test_reductions_of_groups_give_what_numpy_gives():
    run([Case(f, *arrays) for f, arrays in drawn(reductions(), 120)], sums(10.0))


LARGE = [
    ((40000,), None), ((250, 160), None), ((3, 7000), 1), ((3, 7001), -1), ((3000, 40), 1), ((2000, 5), 1),
    ((1, 9000), 0), ((2048, 30), 0), ((2048, 32), 0), ((700, 33), 0), ((300, 1000), 0), ((33, 10), 0),
    ((6, 500, 40), (0, 1)), ((40, 3, 300), (0, 2)), ((9, 40, 50), 1), ((2, 30000), 1), ((100, 1), 0),
]  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_large_reductions_are_cut_and_nothing_is_lost(dtype):
    rng = np.random.default_rng(0)
    cases = []
    for shape, axis in LARGE:
        a, b = rng.uniform(0, 1, shape).astype(dtype), rng.uniform(0, 1, shape[-1:]).astype(dtype)

        def f(x, y, axis=axis):
            z = x * y
            return [z, z.sum(axis=axis), z.max(axis=axis)]

        case = Case(f, a, b, name=f"{shape} {axis}")
        # NumPy adds numbers of float16 in float16 where it adds up columns
        case.wanted[1] = case.wanted[0].sum(axis=axis, dtype="f8").astype(dtype)
        mean = Case(lambda x, axis=axis: x.mean(axis=axis), a, name=f"{shape} {axis}")
        mean.wanted[0] = a.mean(axis=axis, dtype="f8").astype(dtype)
        cases += [case, mean]
    assert sum(len(made) > 1 for case in cases for _, made in case.replay.steps if made) > 5  # in two kernels
    run(cases, sums(4.0))


@needs_compiler
def test_a_sum_of_many_numbers_is_more_accurate_than_one_after_the_other():
    x = np.full((1, 200_000), 0.1, "f4")
    case = Case(lambda x: x.sum(axis=1), x)
    exact = float(np.float32(0.1)) * x.size
    [found] = case.replay.run(compiled(case.replay.kernels), [x])
    assert abs(found[0] - exact) < 1e-6 * exact
    assert abs(np.cumsum(x)[-1] - exact) > 1e-5 * exact  # which is how far naive summation is off


@needs_compiler
def test_nan_stays_in_extrema():
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
    run(cases, within(0))


ROWS_OF = [((7, 10), -1), ((300, 3), 1), ((5, 100), 1), ((5, 100), 0), ((2, 3, 40), 1), ((1, 1), 0), ((9,), 0)]
NORMALIZING = [("softmax", {}), ("log_softmax", {}), ("logsumexp", {}), ("logsumexp", {"keepdims": True})]


@needs_compiler
@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_and_its_logarithms_give_what_numpy_gives(dtype):
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
            assert [launch.kernels for launch, _ in cases[-1].replay.steps] == ["rows"]
    run(cases, sums(3.0 if dtype == "float16" else 1.0))


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


@needs_compiler
def test_draws_are_those_of_philox():
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
    run(exact, within(0))
    run(near, within(4))


@needs_compiler
def test_large_draws_are_those_of_philox():
    """More blocks than threads; the counter passes 2**64."""
    g = mg.random.Generator(5, stream=2**40)
    g.set_state({"seed": 5, "stream": 2**40, "counter": 2**64 - 100})

    def f(counter):
        return mg.primitives["random_uniform"](counter, seed=5, stream=2**40, shape=(1100, 1003), dtype=np.dtype("f4"))

    run([Case(f, np.asarray(2**64 - 100, np.uint64))], within(0))


# Steps of optimizers and of training

SHAPES = [(30, 20), (20,), (20, 30), (30,), (), (1, 1), (0, 3), (5,)]
OPTIMIZERS = {
    "SGD": lambda ps: mg.optim.SGD(ps, lr=0.037, weight_decay=0.3),
    "momentum": lambda ps: mg.optim.SGD(ps, lr=0.037, momentum=0.8, nesterov=True),
    "Adam": lambda ps: mg.optim.Adam(ps, lr=0.037),
    "decay": lambda ps: mg.optim.Adam(ps, lr=0.037, weight_decay=0.1),
    "AdamW": lambda ps: mg.optim.AdamW(ps, lr=0.037, weight_decay=0.1),
    "RMSprop": lambda ps: mg.optim.RMSprop(ps, lr=0.037, momentum=0.8),
    "Adagrad": lambda ps: mg.optim.Adagrad(ps, lr=0.037),
}


class Training:
    """A step that changes tensors, and how its kernels change them."""

    def __init__(self, step, arrays):
        self.step, self.arrays = step, arrays
        with np.errstate(all="ignore"):
            self.program = simplify(mg.record(step)(*tensors(arrays)))
        self.state = [t._array for t in self.program.captured.values() if t._array.flags.writeable]
        self.replay = HostReplay(self.program)

    def compare(self, launch, close, steps=3):
        """Take steps by operations and by kernels, from the same state, and compare what is changed and returned."""
        start = [a.copy() for a in self.state]
        with np.errstate(all="ignore"):
            returned = [
                [t.numpy().copy() for _, t in trees.leaves(self.step(*tensors(self.arrays)))] for _ in range(steps)
            ]
        wanted = [a.copy() for a in self.state]
        for one_thread in (False, True):
            for a, b in zip(self.state, start, strict=True):
                a[...] = b
            for step in range(steps):
                found = self.replay.run(launch, self.arrays, one_thread)
                for a, b in zip(found, returned[step], strict=True):
                    close(a, b, f"what step {step} returns")
            for v, a, b in zip(self.program.captured, self.state, wanted, strict=False):
                close(a, b, v.name)
        assert any((a != b).any() for a, b in zip(start, wanted, strict=True))


def update(make, dtype="float32"):
    rng = np.random.default_rng(0)
    leaves = [mg.Parameter(rng.normal(size=shape).astype(dtype)) for shape in SHAPES]
    optimizer = make(leaves)

    def step(*gradients):
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = gradient * 1.0
        optimizer.step()
        return optimizer._lr * 1.0

    return Training(step, [rng.normal(size=shape).astype(dtype) for shape in SHAPES])


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_updates_of_every_optimizer_give_what_their_operations_give(dtype):
    trainings = [update(make, dtype) for make in OPTIMIZERS.values()]
    launch = compiled([kernel for training in trainings for kernel in training.replay.kernels])
    for training in trainings:
        training.compare(launch, within(4))  # Adam's powers of its rates


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_updates_all_parameters_in_one_launch(name):
    training = update(OPTIMIZERS[name])
    made = training.replay.kernels
    # the counters and rates, and the parameters; one without axes joins the rates of AdamW
    assert len(made) <= 2 + (name == "AdamW")
    assert made[-1].source.count("void part") <= 3  # one text for all, one for single numbers, and what is returned
    # what changes from step to step is read, not part of the text
    assert not any("0.037" in kernel.source for kernel in made)


def autoencoder(optimizer, penalty):
    rng = np.random.default_rng(0)
    leaves = W, b, V, c = [
        mg.Parameter(rng.normal(0, 0.3, shape).astype("f4")) for shape in ((30, 12), (12,), (12, 30), (30,))
    ]
    optimizer = optimizer(leaves)
    generator = mg.random.Generator(3)

    def step(x):
        noisy = x + 0.1 * generator.normal(x.shape)
        h = mg.sigmoid(noisy @ W + b)
        y = mg.sigmoid(h @ V + c)
        loss = penalty(x, h, y, W)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return Training(step, [rng.uniform(0, 1, (50, 30)).astype("f4")])


PENALTIES = {
    "squares": lambda x, h, y, W: mg.square(y - x).sum(axis=1).mean(),
    "cross-entropy": lambda x, h, y, W: -(x * mg.log(y) + (1.0 - x) * mg.log(1.0 - y)).sum(axis=1).mean(),
    "decay": lambda x, h, y, W: mg.square(y - x).mean() + 0.01 * mg.square(W).sum() + 0.01 * mg.abs(h).mean(),
    "contractive": lambda x, h, y, W: (
        mg.square(y - x).mean() + 0.1 * (mg.square(h * (1.0 - h)) * mg.square(W).sum(axis=0)).sum(axis=1).mean()
    ),
    "sparsity": lambda x, h, y, W: mg.square(y - x).mean() + mg.square(h.mean(axis=0) - 0.05).sum(),
    "softmax": lambda x, h, y, W: -(mg.log_softmax(y) * x).mean() + mg.logsumexp(h, axis=1).mean(),
}


@needs_compiler
def test_training_steps_give_what_operations_give():
    trainings = {name: autoencoder(OPTIMIZERS["momentum"], penalty) for name, penalty in PENALTIES.items()}
    launch = compiled([kernel for training in trainings.values() for kernel in training.replay.kernels])
    for training in trainings.values():
        training.compare(launch, sums(5.0))


# What there is no kernel for, and the order of launches


def groups_of(f, *arrays):
    program = simplify(mg.record(f)(*tensors(arrays)))
    plan = Plan(program, launches(program))
    return plan, [launch for launch in plan.groups if launch.kernels]


def test_complex_numbers_have_no_kernels():
    plan, made = groups_of(lambda x: mg.exp(x) * x, np.ones(3, "c8"))
    with pytest.raises(Unsupported, match="complex64"):
        kernels(made[0], set(plan.buffers), plan.roots)


def test_a_tensor_that_is_assigned_a_view_of_itself_has_no_kernel():
    p = mg.Parameter(np.arange(6.0, dtype="f4"))
    plan, made = groups_of(lambda x: p.assign(p.detach()[::-1]) + x, np.ones(6, "f4"))
    with pytest.raises(Unsupported, match="another form"):
        for launch in made:
            kernels(launch, set(plan.buffers), plan.roots)


def test_nothing_is_launched_for_no_elements():
    plan, made = groups_of(lambda x: [mg.exp(x), mg.exp(x).sum(axis=0)], np.ones((0, 0), "f4"))
    assert [kernels(launch, set(plan.buffers), plan.roots) for launch in made] == [[]]


def test_a_reduction_joins_the_group_that_it_reads():
    _, made = groups_of(lambda x: (mg.exp(x) * 2.0).sum(axis=0), np.ones((3, 4), "f4"))
    assert [[e.primitive.name for e in launch.equations] for launch in made] == [["exp", "multiply", "sum"]]
    _, made = groups_of(lambda x: [x.sum(axis=0), x.sum(axis=1)], np.ones((3, 4), "f4"))
    assert len(made) == 2


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
        for kernel in kernels(plan.groups[0], set(plan.buffers), plan.roots)[:1]:
            assert "unsigned long long i" in kernel.source and "unsigned int i" not in kernel.source
            assert max(kernel.grid[0], 1) < 2**31 and kernel.grid[1] < 2**16


@needs_nvrtc
def test_groups_reductions_draws_and_updates_are_cuda():
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
    for make in OPTIMIZERS.values():
        made += update(make).replay.kernels
    for program in HUGE:
        plan = Plan(program, launches(program))
        made += kernels(plan.groups[0], set(plan.buffers), plan.roots)
    assert len(compile_for_gpu(made)) > 100_000


@needs_nvrtc
def test_a_training_step_in_float32_computes_in_float32():
    """Besides the few numbers that optimizers keep in float64."""
    made = autoencoder(OPTIMIZERS["Adam"], PENALTIES["cross-entropy"]).replay.kernels
    single = [k for k in made if not any(getattr(p, "dtype", None) == "float64" for p in k.parameters)]
    assert len(single) >= len(made) - 1
    # the angles of normal draws are below 7, but NVIDIA's sin and cos have a branch for angles above 1e5
    assert not doubles(compile_for_gpu([k for k in single if "cosf(" not in k.source], "compute_90"))
