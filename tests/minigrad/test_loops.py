"""NumPy's inner loops as native calls: the bits of NumPy or no call at all; and compiled steps made of them."""

import gc
import itertools
import weakref

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import native, parallel
from minigrad.native import Call
from minigrad.parallel import make
from minigrad.program import inputs, loops, phases
from minigrad.program.kernels import Source
from minigrad.program.replay import Replay

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(
        loops._loop(np.add, (np.dtype("d"),) * 2, np.dtype("d")) is None, reason="NumPy's loops cannot be called here"
    ),
    pytest.mark.filterwarnings("error::RuntimeWarning"),  # with which a step says that it could not be compiled
]
UFUNCS = {
    name: f
    for name, f in sorted(vars(np).items())
    if isinstance(f, np.ufunc) and f.nout == 1 and f.nin < 3 and f.__name__ == name and not f.signature
}
LAYOUTS = {
    "one piece": lambda x: x,
    "some columns": lambda x: np.hstack([x, x, x])[:, x.shape[1] : 2 * x.shape[1]],
    "rows reversed": lambda x: x[::-1].copy()[::-1],
    "a row": lambda x: np.broadcast_to(x[0].copy(), x.shape),
    "a column": lambda x: np.broadcast_to(x[:, :1].copy(), x.shape),
    "a number": lambda x: np.broadcast_to(x[0, 0].copy(), x.shape),
    "columns reversed": lambda x: x[:, ::-1].copy()[:, ::-1],
    "transposed": lambda x: np.asfortranarray(x),
    "every other column": lambda x: np.repeat(x, 2, 1)[:, ::2],
}
ROWS = list(LAYOUTS)[:6]  # where a row is in one piece, or one element
SPECIAL = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-40, 3e38]


def drawn(shape, kind, seed=0):
    """Numbers of all sizes, and among those with a point the special ones."""
    rng, dtype = np.random.default_rng(seed), np.dtype(kind)
    if dtype.kind == "f":
        x = rng.normal(size=shape) * rng.choice([0.1, 1, 10, 1000], size=shape)
        with np.errstate(over="ignore"):
            return np.where(rng.random(shape) < 0.2, rng.choice(SPECIAL, size=shape), x).astype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    return rng.integers(-100 if dtype.kind == "i" else 0, 100, size=shape).astype(dtype)


def bits(x, function=None):
    """The bytes of an array; a NaN is a NaN whatever its sign, and NumPy itself says not which zero fmin returns."""
    x = np.asarray(x)
    if x.dtype.kind == "f":
        x = np.where(np.isnan(x), np.array(np.nan, x.dtype), x)
        if function in (np.fmin, np.fmax, np.minimum, np.maximum):
            x = x + x.dtype.type(0)
    return x.dtype, x.shape, x.tobytes()


def types_of(function):
    """The dtypes for which a function has loops that may be called."""
    for kinds in function.types:
        read, written = kinds.split("->")
        if set(read + written) <= set("?bhilqBHILQefd") and not (function is np.power and written in "bhilqBHILQ"):
            yield read, written


# Element by element


@pytest.mark.parametrize("name", UFUNCS)
@np.errstate(all="ignore")
def test_every_function_gives_the_bits_of_numpy(name):
    function = UFUNCS[name]
    for read, written in types_of(function):
        several = written in "fd?" and read[0] in "fd"
        for shape in [(5, 33), (33, 1), (1, 33), (1, 1)] if several else [(3, 17)]:
            for chosen in (
                itertools.product(ROWS, repeat=len(read))
                if several and shape[1] != 1
                else [ROWS[:1] * 2, ROWS[1:2] * 2]
            ):
                xs = [LAYOUTS[y](drawn(shape, kind, i)) for i, (y, kind) in enumerate(zip(chosen, read, strict=False))]
                for to in ROWS[:2]:
                    found, expected = (LAYOUTS[to](np.zeros(shape, written)) for _ in range(2))
                    call = loops.elementwise(function, xs, found)
                    if call is None:
                        assert shape[1] == 1 and {to, *chosen} != {"one piece"}  # a column of a wider matrix
                        continue
                    assert isinstance(call, Call)
                    call()
                    function(*xs, out=expected)
                    assert bits(found, function) == bits(expected, function), (read, shape, chosen, to)


@pytest.mark.parametrize("name", UFUNCS)
@np.errstate(all="ignore")
def test_layouts_in_which_numpy_goes_another_way_are_refused_or_have_its_bits(name):
    function, shape = UFUNCS[name], (7, 33)
    for read, written in types_of(function):
        if read not in ("f", "d", "ff", "dd"):
            continue
        for y, to in itertools.product(LAYOUTS, list(LAYOUTS)[:3] + list(LAYOUTS)[6:]):
            xs = [LAYOUTS[y](drawn(shape, kind, i)) for i, kind in enumerate(read)]
            found, expected = (LAYOUTS[to](np.zeros(shape, written)) for _ in range(2))
            call = loops.elementwise(function, xs, found)
            assert (call is None) == (y not in ROWS or to not in ROWS)
            if call:
                call()
                function(*xs, out=expected)
                assert bits(found, function) == bits(expected, function), (y, to)


@pytest.mark.parametrize("name", ["exp", "tanh", "add", "divide", "power", "maximum", "arctan2", "negative"])
@pytest.mark.parametrize("kind", "fd")
@np.errstate(all="ignore")
def test_in_place(name, kind):
    function = UFUNCS[name]
    for to, place in itertools.product(ROWS[:3], range(function.nin)):
        x = [drawn((6, 37), kind, i) for i in range(function.nin)]
        expected = function(*x)
        x[place] = LAYOUTS[to](x[place])
        loops.elementwise(function, x, x[place])()
        assert bits(x[place], function) == bits(expected, function)


@given(st.lists(st.integers(1, 9), max_size=4), st.lists(st.booleans(), min_size=4, max_size=4), st.booleans())
def test_shapes_with_any_number_of_axes(shape, stretched, whole):
    """Only matrices may have gaps; of others each operand is in one piece, or one number."""
    x = drawn(shape, "d")
    y = drawn([1 if s and not whole else n for s, n in zip(stretched, shape, strict=False)], "d", 1)
    found, expected = np.zeros(shape), np.zeros(shape)
    call = loops.elementwise(np.multiply, [x, y], found)
    if call is None:
        assert y.shape != x.shape and y.size > 1
    else:
        call()
        with np.errstate(all="ignore"):
            np.multiply(x, y, out=expected)
        assert bits(found) == bits(expected)


def test_nothing_is_written_outside_of_the_result():
    around = np.full((9, 50), 7.0)
    loops.elementwise(np.exp, [np.zeros((5, 20))], around[2:7, 11:31])()
    assert (around[2:7, 11:31] == 1).all()
    around[2:7, 11:31] = 7
    assert (around == 7).all()


def test_what_numpy_would_do_otherwise_is_refused():
    x = np.ones((4, 6))
    accepted = loops.elementwise(np.add, [x, x], x.copy())
    assert accepted is not None
    for kind in ("D", "F", "O", "g", "M8[s]"):
        other = x.astype(kind) if kind != "M8[s]" else x.astype("i8").astype(kind)
        assert loops.elementwise(np.maximum, [other, other], other.copy()) is None or kind == "g"
    swapped = x.astype(x.dtype.newbyteorder())
    for operands in ([swapped, x, x.copy()], [x, swapped, x.copy()], [x, x, swapped]):
        assert loops.elementwise(np.add, operands[:2], operands[2]) is None
    assert loops.elementwise(np.add, [x, x.astype("f")], x.copy()) is None  # NumPy converts
    assert loops.elementwise(np.add, [x, x], x.astype("f")) is None
    assert loops.elementwise(np.add, [x], x.copy()) is None  # too few
    assert loops.elementwise(np.modf, [x], x.copy()) is None  # two results
    for function in (np.matmul, np.vecdot, np.add.reduce, np.sum, np.copyto, len):
        assert loops.elementwise(function, [x[:, :4], x[:, :4]], np.ones((4, 4))) is None
    for shape in [(0,), (0, 5), (5, 0), (2, 0, 3)]:
        assert loops.elementwise(np.exp, [np.ones(shape)], np.ones(shape)) is None
    assert loops.elementwise(np.power, [np.arange(3), np.arange(3)], np.arange(3)) is None  # may raise


def test_arrays_that_overlap_are_refused():
    memory = np.ones(200)
    matrix = memory.reshape(10, 20)
    for x, out in [
        (memory[:-1], memory[1:]),
        (memory[1:], memory[:-1]),
        (matrix[::-1], matrix),
        (matrix[:5], matrix[1:6]),
        (matrix[:, :15], matrix[:, 1:16]),
        (np.broadcast_to(matrix[3], (10, 20)), matrix),
        (np.broadcast_to(matrix[:, :1], (10, 20)), matrix),
        (np.broadcast_to(matrix[2:3, 2:3], (10, 20)), matrix),
        (matrix[:4].view("i8"), matrix[:4]),
    ]:
        function = np.positive if x.dtype == out.dtype else np.isfinite
        assert loops.elementwise(function, [x], out) is None
        assert loops.elementwise(np.add, [out, x], out) is None
    assert loops.elementwise(np.positive, [matrix[:5]], matrix[5:]) is not None
    assert loops.elementwise(np.positive, [matrix[:, :10]], matrix[:, 10:]) is not None  # row by row


def test_elements_that_are_not_aligned_are_refused():
    odd = np.zeros(8 * 12 + 1, "u1")[1:].view("d").reshape(3, 4)
    even = np.zeros((3, 4))
    assert loops.elementwise(np.exp, [odd], even) is None and loops.elementwise(np.exp, [even], odd) is None
    assert loops.total(odd, np.zeros(4), (0,)) is None


def test_functions_that_are_laid_out_in_an_unknown_way_are_not_called(monkeypatch):
    x, known = np.ones(3), np.add
    kinds = (x.dtype, x.dtype), x.dtype
    assert loops._loop.__wrapped__(known, *kinds) is not None
    monkeypatch.setattr(loops, "FIELDS", loops.FIELDS + 4)
    assert loops._loop.__wrapped__(known, *kinds) is None
    monkeypatch.undo()
    monkeypatch.setattr(loops.sys.implementation, "name", "pypy")
    assert loops._loop.__wrapped__(known, *kinds) is None
    monkeypatch.undo()
    monkeypatch.setattr(loops.native, "available", lambda: False)
    assert loops._loop.__wrapped__(known, *kinds) is None


def test_functions_of_python_are_called_by_numpy():
    mine = np.frompyfunc(lambda x: x, 1, 1)
    assert loops.elementwise(mine, [np.ones(3)], np.ones(3)) is None


def test_overflow_of_a_loop_does_not_come_back_from_the_next_function():
    x = np.full((4, 8), 1e300)
    for _ in range(3):
        loops.elementwise(np.multiply, [x, x], np.empty_like(x))()
        with np.errstate(all="raise"):
            assert np.add(np.ones(9), 1).sum() == 18
            assert np.float64(1) + np.float64(2) == 3
            assert np.linalg.solve(np.eye(2), np.ones(2)).sum() == 2


# Sums

lengths = st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 127, 128, 129, 130, 255, 256, 257, 1023, 1100]))


@given(lengths, lengths, st.sampled_from("efd"), st.sampled_from(["numbers", "special", "-0", "large"]),
       st.sampled_from(["one piece", "some columns", "rows reversed", "transposed", "every other column"]))  # fmt: skip
@example(1000, 1, "f", "numbers", "one piece")
@example(1, 1000, "f", "numbers", "some columns")
@example(9, 1, "f", "numbers", "some columns")
@example(1, 1, "d", "-0", "one piece")
@np.errstate(all="ignore")
def test_sums_have_the_bits_of_numpy(rows, columns, kind, what, layout):
    x = np.random.default_rng(rows).normal(size=(rows, columns))
    x = LAYOUTS[layout]({"numbers": x, "special": drawn(x.shape, kind), "-0": x * -0.0 - 0.0, "large": x * 1e4}[what])
    x = x.astype(kind) if layout == "one piece" else LAYOUTS[layout](np.ascontiguousarray(x).astype(kind))
    if what == "-0":
        x[...] = -0.0
    for axes in [(0,), (1,), (0, 1)]:
        shape = [n for i, n in enumerate(x.shape) if i not in axes]
        found, expected = np.full(shape, 7, kind), np.full(shape, 7, kind)
        calls = loops.total(x, found, axes)
        if calls is None:
            assert layout in ("transposed", "every other column", "rows reversed", "some columns") or columns == 1
            continue
        for _ in range(2):  # it begins with 0 every time
            make(calls)
        np.add.reduce(x, axes, None, expected)
        assert bits(found) == bits(expected), axes


def test_which_sums_are_native():
    x = np.ones((9, 10))
    wide = np.ones((9, 30))[:, 3:13]
    for a, axes in [(x, (0,)), (x, (1,)), (x, (0, 1)), (wide, (0,)), (wide, (1,)), (x[0], (0,)), (x[:1], (0,)),
                    (np.ones((2, 3, 4)), (0, 1, 2))]:  # fmt: skip
        out = np.empty([n for i, n in enumerate(a.shape) if i not in axes])
        assert len(loops.total(a, out, axes)) == 2
    for a, axes in [(wide, (0, 1)), (x.T, (0,)), (x.T, (1,)), (x[:, ::2], (1,)), (np.ones((2, 3, 4)), (1,)),
                    (np.ones((2, 3, 4)), (0, 1)), (x[:, :1], (0,)), (np.ones((0, 5)), (0,)), (np.ones((5, 0)), (0,)),
                    (x.astype(int), (0,)), (x.astype("D"), (0,)), (x.astype(">f8"), (0,)), (np.ones(()), ()),
                    (x.astype("g"), ())]:  # fmt: skip
        out = np.empty([n for i, n in enumerate(a.shape) if i not in axes], a.dtype)
        assert loops.total(a, out, axes) is None
    assert loops.total(x, np.empty(20)[::2], (0,)) is None and loops.total(x, np.empty(10, "f"), (0,)) is None


# Compiled steps


@pytest.fixture
def cheap(monkeypatch):
    """Hand everything to other threads."""
    monkeypatch.setattr(phases, "WORTH_A_THREAD", 0.0)
    monkeypatch.setattr(phases, "WORTH_A_WAIT", 0.0)


def assert_same_bits(step, arguments, threads=(1, 2, 3), kernels=(True, False), calls=3):
    for number, fuse in itertools.product(threads, kernels):
        compiled = mg.compile(step, threads=number, kernels=fuse)
        for call in range(calls):
            xs = arguments(call)
            for expected, found in zip(step(*xs), compiled(*xs), strict=True):
                assert bits(expected.numpy()) == bits(found.numpy()), (number, fuse)


REDUCED = [(1000, 1), (1000, 5), (701, 9), (1, 1000), (129, 128), (3000, 2), (40, 33), (8, 8), (1, 1), (7,), (300,), (),
           (5, 30, 7), (20, 1, 30), (0, 5), (5, 0)]  # fmt: skip


@pytest.mark.parametrize("shape", REDUCED, ids=str)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_compiled_reductions_have_the_bits_of_eager_ones(cheap, shape, dtype):
    axes = [None, *range(len(shape)), *itertools.combinations(range(len(shape)), 2)]
    names = ["sum"] if 0 in shape else ["sum", "mean", "max", "min"]

    def step(x):
        y = x * x.max() if 0 not in shape else x
        return [getattr(a, name)(axis=axis, keepdims=keep) for a in (x, y) for name in names for axis in axes
                for keep in (False, True)]  # fmt: skip

    def arguments(call):
        x = np.random.default_rng(call).normal(size=shape)
        return [mg.tensor(np.full(shape, -0.0) if call == 2 else x, dtype=dtype)]

    # one call records, one replays; and one of -0.0
    assert_same_bits(step, arguments, threads=(3,), calls=3)


@pytest.mark.parametrize("shape", [(1000, 5), (64, 64)], ids=str)
def test_compiled_functions_and_gradients_have_the_bits_of_eager_ones(cheap, shape):
    def step(x, b):
        y = mg.tanh(x + b) * mg.exp(x * 0.1) - mg.sigmoid(x)
        z = mg.log(mg.square(y) + 1.0)
        return [y, z.sum(axis=0), z.mean(), (z - z.mean(axis=0, keepdims=True)).sum(axis=1), (x / b).sum()]

    with np.errstate(all="ignore"):
        assert_same_bits(step, lambda call: [mg.tensor(drawn(s, "f", call)) for s in (shape, shape[1:])])


@pytest.mark.parametrize("n", [3, 8, 300])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kernels", [True, False])
def test_a_tensor_becomes_a_view_of_itself(n, threads, kernels, cheap):
    """What is written must not be read as if it were old."""
    a = np.random.default_rng(n).normal(size=(n, n)).astype("float32")
    for view in (
        lambda w: w[::-1],
        lambda w: w.mT,
        lambda w: w[:, ::-1],
        lambda w: mg.broadcast_to(w[1], (n, n)),
        lambda w: mg.broadcast_to(w[:, 1:2], (n, n)),
        lambda w: -w[::-1],
        lambda w: w + w.mT,
    ):
        w, v = mg.tensor(a.copy()), mg.tensor(a.copy())

        def step(x, w=w, view=view):
            y = w * 2.0
            w.assign(view(w))
            return [y.sum(), w * x]

        compiled = mg.compile(lambda x, v=v, step=step: step(x, v), threads=threads, kernels=kernels)
        for call in range(4):
            x = mg.tensor(np.full((), call + 1, "float32"))
            assert [bits(t.numpy()) for t in step(x)] == [bits(t.numpy()) for t in compiled(x)]
            assert bits(w.numpy()) == bits(v.numpy())


# Large arguments, which calls read where they are


SIZE = (200, 190)


def several_phases(x, y):
    """Calls that read x and y in one phase after the other, and in many forms."""
    a = mg.exp(x) + y
    b = a.sum(axis=0)
    c = mg.tanh(x - b) * y[::-1]
    d = (c @ x.mT).sum(axis=1, keepdims=True)
    return [mg.sqrt(mg.abs(x * d)) + y, x.sum(), y.sum(axis=1), (x[:, 3:] * 2.0).mean(), x.mT @ y]


def one(call, name):
    return np.random.default_rng([call, ord(name)]).normal(size=SIZE).astype("float32")


def test_large_arguments_are_bound_anew_in_every_call(cheap):
    for threads in (1, 2, 3):
        compiled = mg.compile(several_phases, threads=threads, kernels=True)
        pool = [one(i, "x") for i in range(5)]
        order = [(0, 1), (1, 0), (2, 2), (3, 4), (0, 1), (4, 3), (1, 1)]
        for i, j in order:
            expected = several_phases(mg.tensor(pool[i]), mg.tensor(pool[j]))
            assert [bits(t.numpy()) for t in expected] == [bits(t.numpy()) for t in compiled(pool[i], pool[j])]
        replay = replay_of(compiled)
        assert len(replay._bindings) == 2
        assert any(b._pointers for b in replay._bindings.values())
        assert threads == 1 or len(replay.phases) > 2


def replay_of(compiled):
    (replay,) = [entry.replay for entries in compiled._entries.values() for entry in entries]
    return replay


def test_views_swapped_bytes_and_odd_places_are_arguments_too(cheap):
    compiled = mg.compile(several_phases, threads=2, kernels=True)
    odd = np.zeros(4 * SIZE[0] * SIZE[1] + 1, "u1")[1:].view("f").reshape(SIZE)
    odd[:] = one(9, "y")
    y = one(0, "y")
    big = np.vstack([one(1, "x"), one(2, "x"), one(3, "x")])
    for call in range(3):
        for x in (big[50:250], odd, one(5, "x").astype(">f4"), np.asfortranarray(y), y[::-1], big[::2][:200]):
            expected = several_phases(mg.tensor(np.array(x, "f")), mg.tensor(y))
            found = compiled(x, y)
            assert [bits(t.numpy()) for t in expected] == [bits(t.numpy()) for t in found], call


@pytest.mark.parametrize("kernels", [True, False])
def test_large_arguments_with_gaps_or_in_another_order_of_rows(kernels):
    """Calls are bound to memory in one piece: an array that is not must not take its place."""
    a = np.random.default_rng(0).normal(size=(800, 400)).astype("float32")

    def step(x):
        return [mg.exp(x) * 2.0 + 1.0, x.sum(axis=1)]

    for x in (a[::-1], a[::2], a[:, ::-1], a[:, 100:300], np.broadcast_to(a[3], (300, 400)), a[::-1][::3]):
        compiled = mg.compile(step, threads=2, kernels=kernels)
        for array in (x, x.copy(), x):
            for argument in (array, mg.tensor(array)):
                expected = step(mg.tensor(argument))
                assert [bits(t.numpy()) for t in expected] == [bits(t.numpy()) for t in compiled(argument)]


def test_elements_that_are_not_aligned_are_copied_first(cheap, monkeypatch):
    """Loops for aligned elements may end the process where others are given; not all do, so places are looked at."""
    compiled = mg.compile(several_phases, threads=2, kernels=True)
    odd = np.zeros(4 * SIZE[0] * SIZE[1] + 1, "u1")[1:].view("f").reshape(SIZE)
    compiled(odd, odd)
    replay, starts, to = replay_of(compiled), [], inputs.Binding.to
    monkeypatch.setattr(inputs.Binding, "to", lambda self, array, start: starts.append(start) or to(self, array, start))
    compiled(odd, odd)
    assert len(starts) == len(replay._bindings) > 0 and all(start % 4 == 0 for start in starts)


def test_arguments_that_share_memory_with_what_a_step_changes(cheap):
    """Copies of them live until the last call has read them: each is freed and used again before, if it may be."""
    a, b = one(0, "x"), one(1, "x")

    def step(w, u):
        def f(x, y):
            w.assign(w * 0.5 + x[::-1])
            u.assign(u * 0.25 + y[::-1])
            return [(x + y) * w + u]

        return f

    (w, u), (v, t) = ([mg.tensor(a.copy()), mg.tensor(b.copy())] for _ in range(2))
    program = mg.record(step(v, t))(mg.tensor(a), mg.tensor(b))
    v.assign(mg.tensor(a))
    t.assign(mg.tensor(b))
    replay = Replay(program, 2, True)
    for _ in range(5):
        (expected,) = step(w, u)(mg.tensor(w.numpy().copy()), mg.tensor(u.numpy().copy()))
        replay.run([v._array, t._array])
        assert bits(replay.outputs[program.outputs[0]]) == bits(expected.numpy())
        assert bits(v.numpy()) == bits(w.numpy()) and bits(t.numpy()) == bits(u.numpy())


@pytest.mark.parametrize("kernels", [True, False])
def test_arguments_are_not_kept_alive(cheap, kernels):
    compiled = mg.compile(lambda x, y: [mg.exp(x) + y, x.sum(axis=0)], threads=2, kernels=kernels)
    for call in range(4):
        x = one(call, "x")
        gone = weakref.ref(x)
        compiled(x, x)
        del x
        if call:
            gc.collect()
            assert gone() is None


def test_a_binding_changes_the_words_of_calls_that_read_an_array():
    place, other = np.zeros((8, 8)), np.zeros((8, 8))
    source = Source(flat=False)
    x = source.load("full", place.dtype)
    source.store(source.compute("add", [x, 1.0], place.dtype))
    out = np.zeros((4, 8))
    calls = [(source.call([place[4:], out], (4, 8)), ()), (source.call([other[4:], out], (4, 8)), ())]
    binding = inputs.Binding(place, [[calls]])
    assert binding.calls == 1
    given = np.arange(64.0).reshape(8, 8)
    binding.to(given, native.start_of(given))
    parallel.make(calls[:1])
    assert (out == given[4:] + 1).all()
    parallel.make(calls[1:])
    assert (out == 1).all()
