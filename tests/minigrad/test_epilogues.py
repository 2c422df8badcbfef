"""Epilogues: elementwise work that is done in a product's kernel has the bits of eager execution, and needs no buffer.

Products here are just large enough for the kernel; what decides how they are cut is made small.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import native
from minigrad.primitives import products
from minigrad.primitives.product_kernel import CHAIN, DEPTH
from minigrad.program import phases
from minigrad.program.epilogues import with_products
from minigrad.program.memory import Plan

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(
        not native.available() or not native.multiplies_and_adds(), reason="needs llvmlite, and a * b + c"
    ),
    pytest.mark.filterwarnings("error::RuntimeWarning"),  # with which a step says that it could not be compiled
]


@pytest.fixture(autouse=True)
def many_parts(monkeypatch):
    """Three cores, and small products cut for them, and handed to other threads."""
    products._cut.cache_clear()
    monkeypatch.setattr(products.parallel, "cores", lambda: 3)
    monkeypatch.setattr(products, "PART", 2**10)
    monkeypatch.setattr(products, "MANAGED", 2**12)
    monkeypatch.setattr(products, "COLUMNS", 2**17)
    monkeypatch.setattr(phases, "WORTH_A_THREAD", 0.0)
    monkeypatch.setattr(phases, "WORTH_A_WAIT", 0.0)
    yield
    products._cut.cache_clear()


def drawn(*shape, seed=0, dtype="float32"):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def tensor(*shape, seed=0, dtype="float32"):
    return mg.tensor(drawn(*shape, seed=seed, dtype=dtype))


def bits(t):
    """The bytes of a tensor, in which 0.0 differs from -0.0; a NaN is a NaN, whatever its sign."""
    a = t.numpy()
    if a.dtype.kind == "f":
        a = np.where(np.isnan(a), np.array(np.nan, a.dtype), a)
    return a.dtype, a.shape, a.tobytes()


def merged(compiled):
    """The primitives of each group with a product, sorted, of what was compiled first."""
    groups = with_products(compiled.programs[0])
    return [sorted(e.primitive.name for e in group.equations) for group in groups if group.product is not None]


def assert_as_eager(make, arguments, groups, threads=(1, 2, 3), calls=3):
    """Compare three calls, and the tensors that they assign to, with eager ones; and the groups that have a product."""
    for number in threads:
        (step, changed), (copy, copied) = make(), make()
        compiled = mg.compile(copy, threads=number, kernels=True)
        for call in range(calls):
            xs = arguments(call)
            expected, found = step(*xs), compiled(*xs)
            assert [*map(bits, expected)] == [*map(bits, found)]
            assert [*map(bits, changed)] == [*map(bits, copied)]
        assert merged(compiled) == [*map(sorted, groups)]
        check_buffers(compiled)
    return compiled


def check_buffers(compiled):
    """A product that runs with what follows has no memory, here and in what the replay laid out."""
    (program,) = compiled.programs
    groups = with_products(program)
    plan = Plan(program, groups)
    inner = [g.product.output for g in groups if g.product is not None]
    assert not set(inner) & set(plan.buffers)
    (replay,) = replays(compiled)
    assert [g.product.output for g in replay.plan.groups if g.product is not None] == inner
    assert not set(inner) & set(replay.plan.buffers)
    assert replay.plan.sizes == plan.sizes


M, K, N = 26, 41, 35


def matrices(dtype="float32", *more):
    return lambda call: [tensor(M, K, seed=call, dtype=dtype), tensor(K, N, seed=call + 10, dtype=dtype), *more]


# What joins


def just(function):
    """A step that changes nothing."""
    return lambda: (function, [])


ROW, COLUMN, NUMBER, FULL = (N,), (M, 1), (), (M, N)
WITH_ONE = {"row": ROW, "row of a matrix": (1, N), "column": COLUMN, "number": NUMBER, "one element": (1,),
            "one by one": (1, 1), "matrix": FULL}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", WITH_ONE.values(), ids=WITH_ONE)
def test_with_arrays_that_span_the_product_in_every_way(shape, dtype):
    c = tensor(*shape, seed=5, dtype=dtype)
    assert_as_eager(just(lambda a, b: [(a @ b + c) * c]), matrices(dtype), [["matmul", "add", "multiply"]])


@pytest.mark.parametrize("m, k, n", [(2, 300, 300), (3, 130, 61), (5, 64, 33), (300, 300, 2), (64, 64, 64), (61, 7, 61),
                                     (13, CHAIN + 1, 33), (13, DEPTH, 33), (128, 130, 128)])  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_shapes_cut_by_rows_and_by_columns(m, k, n, dtype):
    row, column, full = (tensor(*s, dtype=dtype) for s in [(n,), (m, 1), (m, n)])

    def arguments(call):
        return [tensor(m, k, seed=call, dtype=dtype), tensor(k, n, seed=call + 9, dtype=dtype)]

    assert_as_eager(
        just(lambda a, b: [((a @ b) * row + column) / full]),
        arguments,
        [["matmul", "multiply", "add", "divide"]],
    )


def test_a_product_that_is_deeper_than_what_is_packed_does_not_join():
    def arguments(call):
        return [tensor(9, DEPTH + 1, seed=call), tensor(DEPTH + 1, 33, seed=call + 9)]

    assert_as_eager(just(lambda a, b: [(a @ b) * 2.0 + 1.0]), arguments, [])


OPERANDS = {
    "transposed left": (lambda a, b: (a.mT, b), (K, M), (K, N)),
    "transposed right": (lambda a, b: (a, b.mT), (M, K), (N, K)),
    "both transposed": (lambda a, b: (a.mT, b.mT), (K, M), (N, K)),
    "rows reversed": (lambda a, b: (a[::-1], b[::-1]), (M, K), (K, N)),
    "columns of the left one reversed": (lambda a, b: (a[:, ::-1], b), (M, K), (K, N)),
    "parts": (lambda a, b: (a[3:, 2:], b[:-1, 1:-1]), (M + 3, K + 2), (K + 1, N + 2)),
    "every other": (lambda a, b: (a[::2, ::2], b[::2]), (2 * M, 2 * K), (2 * K, N)),
}


@pytest.mark.parametrize("view, left, right", OPERANDS.values(), ids=OPERANDS)
def test_operands_that_are_views(view, left, right):
    def step(a, b):
        x, y = view(a, b)
        return [(x @ y) * 0.5 - 1.0]

    assert_as_eager(just(step), lambda call: [tensor(*left, seed=call), tensor(*right, seed=call)],
          [["matmul", "multiply", "subtract"]])  # fmt: skip


VIEWS = {
    "rows reversed": (lambda c: c[::-1], FULL),
    "every other row": (lambda c: c[::2], (2 * M, N)),
    "some columns": (lambda c: c[:, 2:-3], (M, N + 5)),
    "one row for all": (lambda c: mg.broadcast_to(c, FULL), ROW),
    "one column for all": (lambda c: mg.broadcast_to(c, FULL), COLUMN),
    "one number for all": (lambda c: mg.broadcast_to(c, FULL), ()),
}
STRANGE = {
    "transposed": (lambda c: c.mT, (N, M)),
    "columns reversed": (lambda c: c[:, ::-1], FULL),
    "a column of a matrix": (lambda c: c[:, 1:2], FULL),
    "every other of a row": (lambda c: c[::2], (2 * N,)),
}


@pytest.mark.parametrize("view, shape", [*VIEWS.values(), *STRANGE.values()], ids=[*VIEWS, *STRANGE])
def test_what_follows_reads_views(view, shape, request):
    name = request.node.callspec.id
    joined = [] if name in STRANGE else [["matmul", "add", "multiply"]]
    assert_as_eager(just(lambda a, b, c: [(a @ b + view(c)) * 2.0]), matrices("float32", tensor(*shape)), joined)


@pytest.mark.parametrize("shape", [(), (N,)])
def test_captured_arrays_that_are_stretched(shape):
    stretched = mg.broadcast_to(tensor(*shape), FULL)
    assert_as_eager(just(lambda a, b: [(a @ b + stretched) * stretched]), matrices(), [["matmul", "add", "multiply"]])


def test_an_assigned_tensor_in_another_layout():
    """Where columns are in one piece, a kernel that goes along rows does not write."""

    def make():
        w = mg.tensor(np.zeros((N, K), "float32")).mT

        def step(x, g):
            w.assign((x.mT @ g) * 0.5 + 1.0)
            return [w.sum()]

        return step, [w]

    assert_as_eager(make, rows, [])


def test_booleans():
    mask, row = mg.tensor(drawn(M, N) > 0), tensor(N)

    def step(a, b):
        p = a @ b
        q = mg.where(p > 0, p, 0.1 * p)
        r = mg.where(mask, q, -p)
        return [mg.where(r < row, r * 2.0, 0.5), r > 1.0]

    names = ["matmul", "greater", "multiply", "where", "negative", "where", "less", "multiply", "where", "greater"]
    assert_as_eager(just(step), matrices(), [names])


def test_two_dtypes():
    """Conversions are compiled too, and those of an assignment."""
    row = tensor(N, dtype="float64")
    assert_as_eager(
        just(lambda a, b: [(a @ b).to("float64") * row + 1.0]), matrices(), [["matmul", "astype", "multiply", "add"]]
    )

    def assigned(a, b, wide):
        p = (a @ b) * 0.5
        wide.assign(p)
        return [p + 1.0]

    assert_as_eager(
        changing(assigned, FULL, dtype="float64"), matrices(), [["matmul", "multiply", "astype", "assign", "add"]]
    )


def test_nans_infinities_and_zeros():
    def arguments(call):
        a, b = drawn(M, K, seed=call), drawn(K, N, seed=call)
        a[3, 4], a[7, 1], b[2, 2], a[9], b[:, 5] = np.nan, np.inf, -np.inf, 0, 0
        return mg.tensor(a), mg.tensor(b)

    def step(a, b):
        p = a @ b
        q = mg.where(p >= 0, p, -p) / p
        return [q, mg.sqrt(p) * -0.0 + q]

    with np.errstate(all="ignore"):
        assert_as_eager(
            just(step),
            arguments,
            [["matmul", "greater_equal", "negative", "where", "divide", "sqrt", "multiply", "add"]],
        )


def test_several_results_in_the_program_order():
    def step(a, b):
        p = a @ b
        q = p * 2.0
        r = q + 1.0
        return [q, r, q * r, r.sum(), q.sum(axis=0)]

    assert_as_eager(just(step), matrices(), [["matmul", "multiply", "add", "multiply"]])


# Updates


def descent(update, more=0):
    """A step that changes a weight by a gradient that is a product, and tensors that an optimizer keeps."""

    def make():
        w = mg.tensor(drawn(K, N, seed=7))
        kept = [mg.tensor(np.abs(drawn(K, N, seed=8 + i))) for i in range(more)]

        def step(x, g):
            update(w, x.mT @ g, *kept)
            return [w.sum()]

        return step, [w, *kept]

    return make


def rows(call):
    return [tensor(M, K, seed=call), tensor(M, N, seed=call + 10)]


def plain(w, g):
    w.assign(w - 0.1 * g)


def with_decay(w, g):
    w.assign(w - 0.1 * (g + 0.01 * w))


def accumulated(w, g):
    w.assign(w + g)


def momentum(w, g, v):
    v.assign(0.9 * v + g)
    w.assign(w - 0.1 * v)


def nesterov(w, g, v):
    v.assign(0.9 * v + g)
    w.assign(w - 0.1 * (g + 0.9 * v))


def adam(w, g, m, v):
    m.assign(0.9 * m + 0.1 * g)
    v.assign(0.99 * v + 0.01 * mg.square(g))
    w.assign(w - 0.05 * m / (mg.sqrt(v) + 1e-3))


def replaced(w, g):
    w.assign(0.5 * g)


def negated(w, g):
    w.assign(-g)


def old_value_read_later(w, g, v):
    old = w * 1.0
    w.assign(w - 0.1 * g)
    v.assign(v + (w - old))


UPDATES = {
    plain: ["multiply", "subtract", "assign"],
    with_decay: ["multiply", "add", "multiply", "subtract", "assign"],
    accumulated: ["add", "assign"],
    momentum: ["multiply", "add", "assign", "multiply", "subtract", "assign"],
    nesterov: ["multiply", "add", "assign", "multiply", "add", "multiply", "subtract", "assign"],
    adam: ["multiply", "multiply", "add", "assign", "multiply", "square", "multiply", "add", "assign", "multiply",
           "sqrt", "add", "divide", "subtract", "assign"],
    replaced: ["multiply", "assign"],
    negated: ["negative", "assign"],
}  # fmt: skip


@pytest.mark.parametrize("update", UPDATES, ids=lambda f: f.__name__)
def test_updates_by_a_gradient_that_is_a_product(update):
    make = descent(update, more=update.__code__.co_argcount - 2)
    assert_as_eager(make, rows, [["matmul", *UPDATES[update]]])


def test_a_training_step_keeps_no_gradient_of_a_weight():
    """Whole networks: the first weight's gradient, and what goes back through the second, have no memory."""
    h = 48

    def make():
        weights = [mg.Parameter(drawn(*s, seed=3) * np.float32(0.1)) for s in [(K, h), (h,), (h, N), (N,)]]
        w, b, v, c = weights

        def step(x, y):
            z = mg.maximum(x @ w + b, 0.0)
            loss = mg.square(z @ v + c - y).sum()
            for p, g in zip(weights, mg.autograd.grad(loss, weights), strict=True):
                p.assign(p - 1e-3 * g)
            return [loss]

        return step, weights

    for threads in (1, 2, 3):
        (step, changed), (copy, copied) = make(), make()
        compiled = mg.compile(copy, threads=threads, kernels=True)
        for call in range(4):
            x = rows(call)
            expected, found = step(*x), compiled(*x)
            assert [*map(bits, expected)] == [*map(bits, found)]
            assert [bits(p.detach()) for p in changed] == [bits(p.detach()) for p in copied]
        updates = [g for g in merged(compiled) if "assign" in g]
        assert len(updates) == 2
        check_buffers(compiled)
        (program,) = compiled.programs
        with_buffers, without = Plan(program), Plan(program, with_products(program))
        assert len(without.buffers) <= len(with_buffers.buffers) - len(merged(compiled))


# What must not join


def test_a_product_that_is_read_elsewhere_has_its_memory():
    full = tensor(M, N)

    def reduced(a, b):
        p = a @ b
        return [p * full + 1.0, p.sum()]

    def returned(a, b):
        p = a @ b
        return [p * full + 1.0, p]

    def view_returned(a, b):
        p = a @ b
        return [p * full + 1.0, p.mT]

    def view_read(a, b):
        p = a @ b
        return [p * full + 1.0, p[1:, :-2] * 2.0 + 1.0]

    def in_two_groups(a, b):
        p = a @ b
        return [(p * full + 1.0).sum(), mg.exp((p * 3.0).sum() * 1e-3) * p + full]

    def read_as_a_view(a, b):
        return [(a @ b).mT * 2.0 + 1.0]

    def nothing_to_compile(a, b):
        return [mg.exp(a @ b)]

    def partly(a, b):
        return [mg.exp((a @ b) * full) + 1.0]

    def stacked(a, b):
        return [(a @ b) * two + 1.0]

    def partly_at_the_end(a, b):
        return [mg.exp(((a @ b) * full + 1.0) * 0.1)]

    two = tensor(2, M, N)
    for f in (
        reduced, returned, view_returned, view_read, in_two_groups, read_as_a_view, nothing_to_compile, partly, stacked,
        partly_at_the_end
    ):  # fmt: skip
        assert_as_eager(just(f), matrices(), [])


def test_products_of_vectors_and_stacks_do_not_join():
    for left, right in [((1, 90), (90, 90)), ((90, 90), (90, 1)), ((90, 1), (1, 90)), ((2, 33, 90), (90, 90))]:
        assert_as_eager(
            just(lambda a, b: [(a @ b) * 0.5 + 1.0]),
            lambda call, left=left, right=right: [tensor(*left, seed=call), tensor(*right, seed=call)],
            [],
        )


def test_products_of_numpy_do_not_join(monkeypatch):
    def step(a, b):
        return [(a @ b) * 0.5 + 1.0]

    assert_as_eager(just(step), lambda call: [tensor(9, 9, seed=call), tensor(9, 9, seed=call + 1)], [])  # small ones
    monkeypatch.setattr(products.openblas, "product_parts", lambda: 2)  # with OpenBLAS in parts
    assert_as_eager(just(lambda a, b: step(a, b[:, ::2])), lambda call: [tensor(M, K, seed=call), tensor(K, 2 * N)], [])
    monkeypatch.setattr(native, "multiplies_and_adds", lambda: False)
    assert_as_eager(just(step), matrices(), [])


def test_without_kernels_nothing_joins():
    step, _ = descent(plain)()
    compiled = mg.compile(step, kernels=False)
    compiled(*rows(0))
    (replay,) = replays(compiled)
    assert all(group.product is None for group in replay.plan.groups)
    (product,) = (e.output for e in replay.program.equations if e.primitive.name == "matmul")
    assert product in replay.plan.buffers


@pytest.mark.parametrize("m, k, n", [(3, 130, 61), (26, 41, 35), (64, 130, 64)])
def test_all_threads_share_a_product_and_what_follows(m, k, n):
    """By columns where there are few rows, or a large product has more columns than rows are worth."""
    compiled = mg.compile(lambda a, b: [(a @ b) * 0.1 + 1.0], threads=3, kernels=True)
    compiled(tensor(m, k), tensor(k, n))
    assert merged(compiled) == [["add", "matmul", "multiply"]]
    (replay,) = replays(compiled)
    assert len(replay.phases[-1]) == 3


def replays(compiled):
    return [entry.replay for entries in compiled._entries.values() for entry in entries]


# Memory that changes on the way: w is a square matrix, or one of the shape of the operand b


def changing(step, *shapes, dtype="float32"):
    def make():
        tensors = [mg.tensor(drawn(*shape, seed=20 + i, dtype=dtype)) for i, shape in enumerate(shapes)]
        return (lambda *args: step(*args, *tensors)), tensors

    return make


def square(call):
    return [tensor(N, N, seed=call)]


UPDATE = ["matmul", "multiply", "subtract", "assign"]


def test_an_operand_that_the_same_group_assigns_to():
    def right(x, w):
        w.assign(w - 0.1 * (x @ w))
        return [w.sum()]

    def left(x, w):
        w.assign(w - 0.1 * (w @ x))
        return [w.sum()]

    def transposed(x, w):
        w.assign(w - 0.1 * (x @ w.mT))
        return [w.sum()]

    def a_part(x, w):
        w.assign(w - 0.1 * (x[:, 3:] @ w[3:]))
        return [w.sum()]

    def both(x, w):
        w.assign(w - 0.1 * (w @ w))
        return [w.sum()]

    for step in (right, left, transposed, a_part, both):
        assert_as_eager(changing(step, (N, N)), square, [])


def test_an_operand_that_is_a_captured_view_of_what_the_group_assigns_to():
    def make():
        w = mg.tensor(drawn(N, N, seed=30))
        view = w.mT

        def step(x):
            w.assign(w - 0.1 * (x @ view))
            return [w.sum()]

        return step, [w]

    assert_as_eager(make, square, [])


def test_an_operand_that_another_group_assigns_to():
    def before(x, b, w):
        w.assign(w * 0.5 + b)
        return [(x @ w) * 2.0 + 1.0]

    def afterwards(x, b, w):
        y = x @ w
        w.assign(w * 0.5 + b)
        return [y * 2.0 + 1.0]

    def between(x, b, w):
        """The product needs w as it was, and what follows needs it as it is then."""
        y = x @ w
        w.assign(w * 0.5 + b)
        return [y * 2.0 + w.sum()]

    def twice(x, b, w):
        y = x @ w
        w.assign(w * 0.5 + b)
        z = x @ w
        w.assign(w * 0.25 - b)
        return [y * 2.0 + 1.0, z * 2.0 + 1.0]

    simple = ["matmul", "multiply", "add"]
    for step, groups in [(before, [simple]), (afterwards, [simple]), (between, []), (twice, None)]:
        if groups is None:
            groups = merged_of(changing(step, (K, N)), matrices())
            assert groups and all(group.count("matmul") == 1 for group in groups)
        assert_as_eager(changing(step, (K, N)), matrices(), groups)


def merged_of(make, arguments):
    compiled = mg.compile(make()[0], kernels=True)
    compiled(*arguments(0))
    return merged(compiled)


def test_an_argument_that_is_what_the_step_assigns_to():
    def make():
        w = mg.tensor(drawn(N, N, seed=31))

        def step(x):
            w.assign(w - 0.1 * (x @ x))
            return [w.sum()]

        return step, [w]

    (step, (w,)), (copy, (v,)) = make(), make()
    compiled = mg.compile(copy, threads=2, kernels=True)
    for argument in (lambda w: tensor(N, N), lambda w: w, lambda w: w.mT, lambda w: w.numpy(), lambda w: w.numpy().T,
                     lambda w: tensor(N, N)):  # fmt: skip
        (expected,), (found,) = step(mg.tensor(argument(w))), compiled(argument(v))
        assert bits(expected) == bits(found) and bits(w) == bits(v)
    assert merged(compiled) == [sorted(UPDATE)]


def test_arguments_of_other_layouts_and_new_memory():
    step = just(lambda a, b: [(a @ b) * 0.5 + 1.0])()[0]
    compiled = mg.compile(step, threads=3, kernels=True)
    for call in range(12):
        a, b = drawn(M, K, seed=call), drawn(K, N, seed=call)
        a, b = (np.asfortranarray(x) if call >> i & 1 else x[::-1] if call & 4 else x for i, x in enumerate((a, b)))
        assert bits(compiled(a, b)[0]) == bits(step(mg.tensor(a), mg.tensor(b))[0])


# Several products


def test_one_of_two_products_joins_a_group():
    def step(a, b, c, d):
        return [(a @ b) * 2.0 + (c @ d)]

    def arguments(call):
        return [*matrices()(call), *matrices()(call + 5)]

    assert_as_eager(just(step), arguments, [["matmul", "multiply", "add"]])


def test_one_product_follows_the_other():
    def step(a, b, c):
        h = (a @ b) * 0.5 + 0.25
        return [(h @ c) * (h > 0.5) + h]

    assert_as_eager(just(step), lambda call: [*matrices()(call), tensor(N, N, seed=call)],
          [["matmul", "multiply", "add"], ["matmul", "greater", "multiply", "add"]])  # fmt: skip


def test_a_product_of_a_product():
    def step(a, b, c):
        p = a @ b
        return [(p * 2.0 + 1.0) @ c + p]

    assert_as_eager(just(step), lambda call: [*matrices()(call), tensor(N, N, seed=call)], [["matmul", "add"]])


# Programs that are drawn

ELEMENTWISE = [
    lambda x, y: x + y,
    lambda x, y: x - 0.5 * y,
    lambda x, y: x * y,
    lambda x, y: x / (mg.square(y) + 1.0),
    lambda x, y: mg.where(x > y, x, -y),
    lambda x, y: mg.sqrt(mg.abs(x)) - y,
    lambda x, y: mg.maximum(x, y) * 0.5,
    lambda x, y: mg.tanh(x) + y,
    lambda x, y: x + y[0],
    lambda x, y: x * y[:, :1],
    lambda x, y: x - y.sum(axis=1, keepdims=True) * 0.01,
    lambda x, y: x * 2.0 + y.mean(),
    lambda x, y: x[::-1] * 0.25 + y,
    lambda x, y: (x.to("float64") * y.to("float64")).to("float32"),
]
_place = st.integers(0, 50)
_instruction = st.one_of(
    st.tuples(st.sampled_from(["x @ w", "v.T @ y", "y @ u", "z @ u"]), _place, _place),
    st.tuples(st.sampled_from(["y", "z"]), _place, _place, st.sampled_from(range(len(ELEMENTWISE)))),
    st.tuples(st.sampled_from(["assign w", "assign v", "assign u", "read w", "read v"]), _place, _place),
)


def interpreted(instructions, results):
    """A step that does what was drawn with matrices y and z, of two shapes, and changes w, v and u."""

    def make():
        w, v, u = state = [mg.tensor(drawn(*s, seed=40) * np.float32(0.2)) for s in [(K, N), (M, N), (N, N)]]

        def step(x):
            ys, zs = [v * 1.0], [w * 0.5]
            for name, i, j, *which in instructions:
                y, other, z, another = ys[i % len(ys)], ys[j % len(ys)], zs[i % len(zs)], zs[j % len(zs)]
                if name == "x @ w":
                    ys.append(x @ w)
                elif name == "v.T @ y":
                    zs.append(x.mT @ y)
                elif name == "y @ u":
                    ys.append(y @ (u if j % 2 else u.mT))
                elif name == "z @ u":
                    zs.append(z @ u)
                elif name == "y":
                    ys.append(ELEMENTWISE[which[0]](y, other))
                elif name == "z":
                    zs.append(ELEMENTWISE[which[0]](z, another))
                elif name == "assign w":
                    w.assign(w - 0.1 * z if j % 2 else z)
                elif name == "assign v":
                    v.assign(0.9 * v + y if j % 2 else y * 0.1)
                elif name == "assign u":
                    u.assign(u * 0.9 + (y.mT @ other) * 0.01)
                elif name == "read w":
                    zs.append(w)
                else:
                    ys.append(v)
            pool = [*ys[::-1], *zs[::-1]]
            return [pool[i % len(pool)] * 1.0 for i in results]

        return step, state

    return make


@settings(max_examples=40)
@given(st.lists(_instruction, min_size=3, max_size=12), st.lists(_place, min_size=1, max_size=3), st.integers(1, 3))
def test_programs_that_are_drawn(instructions, results, threads):
    make = interpreted(instructions, results)
    (step, changed), (copy, copied) = make(), make()
    compiled = mg.compile(copy, threads=threads, kernels=True)
    with np.errstate(all="ignore"):
        for call in range(3):
            x = tensor(M, K, seed=call)
            expected, found = step(x), compiled(x)
            assert [*map(bits, expected)] == [*map(bits, found)]
            assert [*map(bits, changed)] == [*map(bits, copied)]
    check_buffers(compiled)
