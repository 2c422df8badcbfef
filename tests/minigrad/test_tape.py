"""The engine: what apply records, what the sweep computes, and when memory is given back."""

import gc
import threading
import weakref
from collections import Counter

import numpy as np
import pytest

import minigrad as mg
from minigrad import devices, modes, observers, tape
from minigrad.errors import DeviceError, DTypeError, GraphError, MinigradError, ShapeError
from minigrad.observers import InnerObserver, Observer
from minigrad.primitives.registry import Domain, Primitive, Samples, namespaces


def leaf(*values):
    return mg.tensor(list(values), dtype="float64", requires_grad=True)


@pytest.fixture
def without_gc():
    gc.disable()
    yield
    gc.enable()


def test_a_chain_of_100000_additions_back_propagates():
    x = mg.tensor(0.0, requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert x.grad.item() == 1.0
    assert y.item() == 100_000.0


def test_a_finished_graph_is_freed_without_the_garbage_collector(without_gc):
    x = leaf(1.0, 2.0)
    y = mg.exp(x) * x
    z = y.sum()
    watched = [weakref.ref(thing) for thing in (y, y._node, z._node, y._array)]
    del y, z
    assert [ref() for ref in watched] == [None] * 4


def test_a_graph_made_with_create_graph_is_freed_too(without_gc):
    x = leaf(1.0, 2.0)
    (g,) = mg.autograd.grad((x**3).sum(), x, create_graph=True)
    watched = weakref.ref(g._node)
    del g
    assert watched() is None


def test_a_leaf_has_all_that_a_node_has():
    a = leaf(1.0)
    for node in (a._node, (a * 2.0)._node):
        assert all(hasattr(node, name) for name in type(node).__slots__)
    assert a._node.inputs == a._node.parents == () and a._node.metadata == {} and a._node.result is None


def test_an_array_that_no_rule_reads_is_not_kept():
    x = leaf(1.0, 2.0)
    middle = x * 2.0
    array = weakref.ref(middle._array)
    y = middle + 1.0  # the rule of add reads no values
    del middle
    assert array() is None
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2.0, 2.0])


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_function_that_returns_no_array_is_named(create_graph):
    samples = Samples("any", (Domain(0, 1),))
    number = Primitive("number", forward=lambda xp, x, /: x * 2, vjps=[lambda F, g, y, x: 2.0], samples=samples)
    y = number(leaf(1.0)).sum()
    with pytest.raises(GraphError, match="rule of number for input 0 returned a float, not an array"):
        y.backward(create_graph=create_graph)
    nothing = Primitive("nothing", forward=lambda xp, x, /: None, vjps=None, samples=samples)
    with pytest.raises(DTypeError, match="forward of nothing returned NoneType"):
        nothing(leaf(1.0))


@pytest.mark.parametrize("create_graph", [False, True])
def test_rules_know_the_row_that_the_table_has_now(create_graph):
    def define(factor):
        return mg.primitive(
            "redefined",
            forward=lambda xp, x, /: x * factor,
            vjps=[lambda F, g, y, x: F.redefined(g)],
            samples=Samples("any", (Domain(0, 1),)),
        )

    try:
        for factor in (2.0, 3.0):
            mg.primitives.pop("redefined", None)
            x = leaf(1.0)
            define(factor)(x).backward(create_graph=create_graph)
            assert x.grad.item() == factor
    finally:
        del mg.primitives["redefined"]


@pytest.mark.parametrize("uses", [1, 2])
def test_a_rule_that_returns_a_tensor_is_named(uses):
    factor = mg.tensor([2.0], dtype="float64")
    captures = Primitive(
        "captures",
        forward=lambda xp, x, /: x * 2.0,
        vjps=[lambda F, g, y, x: g * factor],
        samples=Samples("any", (Domain(0, 1),)),
    )
    x = leaf(1.0)
    with pytest.raises(
        GraphError, match=r"rule of captures for input 0 returned a Tensor, .* an input of the operation"
    ):
        sum(tape.apply(captures, x) for _ in range(uses)).sum().backward()


@pytest.mark.parametrize("values", [["text"], ["2026-01-01"]])
def test_a_forward_returns_numbers(values):
    kind = "M8[D]" if "-" in values[0] else None
    words = Primitive(
        "words", forward=lambda xp, x, /: np.array(values, kind), vjps=None, samples=Samples("any", (Domain(0, 1),))
    )
    with pytest.raises(DTypeError, match="the forward of words returned"):
        tape.apply(words, leaf(1.0))


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_gradient_of_another_shape_is_not_reshaped(create_graph):
    turned = Primitive(
        "turned",
        forward=lambda xp, x, /: x.T * 1.0,
        vjps=[lambda F, g, y, x: g],
        samples=Samples("any", (Domain(0, 1),)),
    )
    with pytest.raises(ShapeError, match=r"rule of turned returned shape \(3, 2\) for an input of shape \(2, 3\)"):
        tape.apply(turned, mg.tensor(np.ones((2, 3)), requires_grad=True)).sum().backward(create_graph=create_graph)
    for x, shape in ((np.ones((2, 3)), (3, 2)), (np.ones(()), (1,)), (np.ones(6), (1, 6)), (np.ones((1, 3)), (2, 3))):
        with pytest.raises(ShapeError, match="is not one to which"):
            mg.sum_to(mg.tensor(x), shape)


def test_a_rule_cannot_read_what_it_did_not_save():
    wrong = Primitive(
        "wrong",
        forward=lambda xp, x, /: x * x,
        vjps=[lambda F, g, y, x: g * x],
        samples=Samples("any", (Domain(0, 1),)),
    )
    y = tape.apply(wrong, leaf(1.0) + 0.0).sum()
    for create_graph in (False, True):
        with pytest.raises(GraphError, match=r"rule of wrong for input 0 failed: .* keeps .* nothing \(it has no"):
            y.backward(retain_graph=True, create_graph=create_graph)


@pytest.mark.parametrize(
    ("rule", "create_graph"),
    [
        (lambda F, g, y, x: g * F.var(x), False),
        (lambda F, g, y, x: g * F.var(x), True),
        (lambda F, g, y, x: g * F.sum(x, 0), False),
        (lambda F, g, y, x: g * np.cos(x), True),
    ],
)
def test_a_rule_that_fails_is_told_what_rules_use_and_nothing_about_what_is_saved(rule, create_graph):
    row = Primitive(
        "row", forward=lambda xp, x, /: x * 2.0, vjps=[rule], saves="x", samples=Samples("any", (Domain(0, 1),))
    )
    with pytest.raises(GraphError, match=r"rule of row for input 0 failed: [^;]*; a rule uses operators and F [^;]*$"):
        row(leaf(1.0)).sum().backward(create_graph=create_graph)


@pytest.mark.cpu_only
def test_what_a_rule_keeps_is_not_written_to():
    """A rule may return an array of its own, again and again, or one array for two inputs."""
    kept = np.array([1.0, 2.0])
    constant = Primitive(
        "constant",
        forward=lambda xp, a, b, /: a + b,
        vjps=[lambda F, g, y, a, b: kept, lambda F, g, y, a, b: kept],
        samples=Samples("broadcast", (Domain(0, 1), Domain(0, 1))),
    )
    for order in (1, -1):
        x, z = leaf(3.0, 4.0), leaf(5.0, 6.0)
        terms = [tape.apply(constant, x, z), mg.exp(x * z)][::order]
        (terms[0] + terms[1]).sum().backward()
        (tape.apply(constant, z, z) + tape.apply(constant, x, z)).sum().backward()
        assert kept.tolist() == [1.0, 2.0]
        np.testing.assert_allclose(x.grad.numpy(), z.numpy() * np.exp(x.numpy() * z.numpy()) + 2 * kept, rtol=1e-15)
    w = leaf(3.0, 4.0)
    tape.apply(constant, w, z).sum().backward()
    w.grad.assign([7.0, 7.0])
    assert kept.tolist() == [1.0, 2.0]


@pytest.mark.cpu_only
def test_a_rule_may_return_an_array_that_is_not_to_be_written_to():
    def rule(F, g, y, x):
        new = np.array(g * 2.0)
        new.flags.writeable = False
        return new

    row = Primitive("kept", forward=lambda xp, x, /: x * 2.0, vjps=[rule], samples=Samples("any", (Domain(0, 1),)))
    for order in (1, -1):
        x = leaf(1.0, 2.0)
        terms = [tape.apply(row, x), x * 3.0][::order]
        (terms[0] + terms[1]).sum().backward()
        assert x.grad.numpy().tolist() == [5.0, 5.0]
    x = leaf(1.0, 2.0)
    tape.apply(row, x).sum().backward()
    x.grad.assign([7.0, 7.0])  # a gradient can be


@pytest.mark.cpu_only
@pytest.mark.parametrize("uses", [1, 2, 3])
def test_what_nobody_else_keeps_becomes_the_gradient_without_a_copy(uses):
    """The first contribution is it, and the others are added to it in place."""
    made = []

    def rule(F, g, y, x):
        new = g * 2.0
        made.append(new.__array_interface__["data"][0])
        return new

    double = Primitive("double", forward=lambda xp, x, /: x * 2.0, vjps=[rule], samples=Samples("any", (Domain(0, 1),)))
    x = leaf(*range(100))
    y = sum((tape.apply(double, x) for _ in range(uses)), mg.zeros(100, dtype="float64"))
    y.sum().backward()
    assert len(made) == uses and x.grad._array.__array_interface__["data"][0] == made[0]
    assert x.grad.numpy().tolist() == [2.0 * uses] * 100


@pytest.mark.parametrize(
    ("forward", "rules", "message"),
    [
        (lambda xp, x: x, [None], r"takes x by position and by name; write arrays before a `/`"),
        (lambda xp, x, /, out=None: x, [None], r"takes out by position and by name"),
        (lambda xp, x, /: x, [lambda F, g, x: g], r"called as rule\(F, g, y, x\), and one cannot be"),
        (
            lambda xp, x, /, *, axis, out=None: x,
            [lambda F, g, y, x: g],
            r"rule\(F, g, y, x, axis=\), and one cannot be",
        ),
        (lambda xp, x, /: x, lambda F, g, y, x: g, r"rule\(position, F, g, y, x\), and one cannot be"),
    ],
)
def test_rows_whose_functions_cannot_be_called_are_refused(forward, rules, message):
    with pytest.raises(MinigradError, match=message):
        Primitive("wrong", forward=forward, vjps=rules, samples=Samples("any", (Domain(0, 1),)))


def count_products(monkeypatch, run):
    """Count the matrix products that numpy is asked for while `run` runs."""
    counts = Counter()
    original = mg.primitives["matmul"].forward

    def counting(xp, a, b, /, *, out=None):
        counts["matmul"] += 1
        return original(xp, a, b, out=out)

    monkeypatch.setattr(mg.primitives["matmul"], "forward", counting)
    namespaces.clear()
    run()
    monkeypatch.undo()
    namespaces.clear()
    return counts["matmul"]


@pytest.mark.parametrize(("data_requires_grad", "products"), [(False, 5), (True, 6)])
def test_the_first_layer_pays_for_the_gradient_of_the_data_only_when_asked(monkeypatch, data_requires_grad, products):
    x = mg.tensor(np.ones((4, 3)), requires_grad=data_requires_grad)
    w1, w2 = mg.Parameter(np.full((3, 2), 0.5)), mg.Parameter(np.full((2, 3), 0.5))

    def step():
        (mg.sigmoid(x @ w1) @ w2).sum().backward()

    assert count_products(monkeypatch, step) == products


def test_grad_computes_only_what_leads_to_its_inputs(monkeypatch):
    x = mg.tensor(np.ones((4, 3)), requires_grad=True)
    w1, w2 = mg.Parameter(np.ones((3, 2))), mg.Parameter(np.ones((2, 3)))
    y = ((x @ w1) @ w2).sum()
    assert count_products(monkeypatch, lambda: mg.autograd.grad(y, w2)) == 1


def test_a_second_backward_says_how_to_keep_the_graph():
    x = leaf(1.0)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(GraphError, match="retain_graph=True"):
        y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2.0])


def test_retain_graph_allows_another_pass_and_gradients_add_up():
    x = leaf(3.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [12.0])


def test_assign_between_forward_and_backward_is_an_error_that_names_the_operation():
    w = mg.Parameter([2.0])
    y = (w * w).sum()
    w.assign([5.0])
    with pytest.raises(GraphError, match=r"multiply.*assign\(\)"):
        y.backward()


def test_assign_is_noticed_through_views():
    w = mg.Parameter([2.0, 3.0])
    view = w.reshape(2, 1)
    y = (view * view).sum()
    w.assign([5.0, 6.0])
    with pytest.raises(GraphError, match="assign"):
        y.backward()


def test_assign_is_noticed_through_detach():
    w = mg.Parameter([2.0])
    constant = w.detach()
    x = leaf(1.0).to("float32")
    y = (x * constant).sum()
    w.assign([5.0])
    with pytest.raises(GraphError, match="assign"):
        y.backward()


def test_only_what_shares_memory_shares_its_version():
    x = mg.tensor(np.arange(12.0).reshape(3, 4))
    views = [
        x.T, x.mT, x.reshape(12), x.reshape(2, 6).T, x[1], x[:, ::-2], x[None, ..., 1:], x.T[1:].T, x.detach(),
        mg.broadcast_to(x, (2, 3, 4)), mg.windows2d(x, (2, 2), (1, 1)),
    ]  # fmt: skip
    copies = [x.T.reshape(12), x[[0, 1]], x[:, [1]], x[x > 3.0], x[:, [1]].T, x.T.reshape(2, 6)[0]]
    assert all(view._version is x._version for view in views)
    assert all(copy._version is None for copy in copies)


def test_a_copy_is_not_assigned_to_and_does_not_stand_for_what_it_copies():
    x = mg.zeros((2, 3))
    x[0:1].assign(5.0)
    for copy in (x[[0, 1]], x.T.reshape(-1)):
        with pytest.raises(GraphError, match="operation's result"):
            copy.assign(1.0)
    np.testing.assert_array_equal(x.numpy(), [[5.0] * 3, [0.0] * 3])


def identity(name="identity", **row):
    """Return a row whose forward returns its input itself, and whose derivative is -1."""
    samples = Samples("any", (Domain(-1, 1),))
    return Primitive(name, forward=lambda xp, x, /: x, vjps=[lambda F, g, y, x: -g], samples=samples, **row)


def test_a_forward_may_return_its_input_itself():
    w = leaf(2.0)
    y = identity()(w)
    z = (y * y).sum()
    w.assign([5.0])
    assert y.item() == 2.0
    z.backward()
    assert w.grad.item() == -4.0
    w = leaf(2.0)
    y = identity(view=True)(w)
    z = (y * y).sum()
    w.assign([5.0])
    assert y.item() == 5.0  # a view has what is there
    with pytest.raises(GraphError, match="assign"):
        z.backward()


def test_a_saved_result_that_is_a_view_has_a_version():
    samples = Samples("any", (Domain(-1, 1),))
    rules = [lambda F, g, y, x: g * y]
    row = Primitive("half", forward=lambda xp, x, /: x[::1], vjps=rules, saves="y", samples=samples, view=True)
    w = leaf(2.0)
    y = row(w).sum()
    w.assign([5.0])
    with pytest.raises(GraphError, match="half.*assign"):
        y.backward()


@pytest.mark.parametrize("row", [{}, {"view": True}, {"elementwise": True}])
def test_a_program_knows_a_result_from_the_input_that_it_is(row):
    reverse = identity(**row)
    f = lambda x: (reverse(x) * 2.0 + x * 3.0).sum()  # noqa: E731
    x = mg.tensor([1.0, 2.0])
    for derivative in (mg.grad(f), mg.grad(mg.record(f)(x)), mg.compile(mg.grad(f))):
        for _ in range(2):  # a compiled function is recorded and then replayed
            np.testing.assert_array_equal(derivative(x).numpy(), [1.0, 1.0])


def test_a_squeeze_of_nothing_is_a_variable_of_its_own():
    """Where there is nothing to do, NumPy returns the array itself."""
    x = mg.tensor(2.0)
    program = mg.record(lambda x: (mg.squeeze(x) + x, x))(x)
    assert program.equations[0].output is not program.arguments[0]
    assert program.result[1] is program.arguments[0]


def test_a_program_keeps_what_was_there_before_an_assignment():
    w = mg.zeros(1)
    same = identity()

    def step(v):
        before = same(w)
        w.assign(v)
        return before + 0.0

    compiled = mg.compile(step)
    assert [compiled(mg.full((1,), v)).item() for v in (3.0, 4.0, 5.0)] == [0.0, 3.0, 4.0]


@pytest.mark.parametrize(
    "forward",
    [
        lambda xp, a, b, c, /: b,
        lambda xp, a, b, c, /: c[::-1],
        lambda xp, a, b, c, /: a.T,
        lambda xp, a, b, c, /: xp.broadcast_to(b, (2, 2)),
    ],
)
@pytest.mark.parametrize("view", [False, True])
def test_what_a_row_does_not_declare_as_a_view_is_copied(forward, view):
    samples = Samples("any", (Domain(-1, 1),))
    row = Primitive("pick", forward=forward, vjps=[None, None, None], samples=samples, view=view)
    inputs = [mg.tensor([1.0, 2.0]) for _ in range(3)]
    result = row(*inputs)
    before = result.numpy().copy()
    for x in inputs[view:]:
        x.assign([7.0, 8.0])
    np.testing.assert_array_equal(result.numpy(), before)


def test_an_interrupted_assign_counts():
    w = mg.Parameter([2.0])
    y = (w * w).sum()

    def interrupt(primitive, *_):
        if primitive.effect:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), observers.observing(interrupt):
        w.assign([5.0])
    assert w.item() == 5.0
    with pytest.raises(GraphError, match="assign"):
        y.backward()


@pytest.mark.parametrize("target", ["float64", "cpu"])
def test_a_module_that_is_converted_before_backward_is_noticed(target):
    linear = mg.nn.Linear(1, 1, bias=False)
    x = mg.tensor([[1.0]], requires_grad=True)
    y = (x @ linear.weight).sum()
    linear.to(target)
    linear.weight.assign([[100.0]])
    with pytest.raises(GraphError, match=r"Module\.to\(\)"):
        y.backward()


def test_assign_after_an_operation_that_saved_nothing_is_harmless():
    w = mg.Parameter([2.0])
    y = (w + 1.0).sum()
    w.assign([5.0])
    y.backward()
    assert w.grad.item() == 1.0


def test_assign_refuses_bad_values_before_changing_anything():
    w = mg.Parameter([1.0, 2.0])
    with pytest.raises(ShapeError, match=r"\(3,\)"):
        w.assign([1.0, 2.0, 3.0])
    with pytest.raises(DTypeError):
        w.assign(np.array([1j, 2j]))
    with pytest.raises(GraphError, match="operation's result"):
        (w + 1.0).assign(0.0)
    np.testing.assert_array_equal(w.numpy(), [1.0, 2.0])


def test_hooks_see_and_replace_the_finished_gradient_and_can_be_removed():
    x = leaf(1.0, 2.0)
    y = x * 3.0
    seen = []
    y.register_hook(lambda g: seen.append(g.numpy().copy()))
    remove = y.register_hook(lambda g: g * 10.0)
    (y + y).sum().backward(retain_graph=True)
    np.testing.assert_array_equal(seen, [[2.0, 2.0]])
    np.testing.assert_array_equal(x.grad.numpy(), [60.0, 60.0])
    remove()
    x.grad = None
    (y * 1.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3.0, 3.0])


def test_a_hook_is_removed_once():
    x = leaf(1.0)
    remove = x.register_hook(lambda g: g * 10.0)
    remove()
    x.register_hook(lambda g: g * 3.0)
    remove()
    (x * 1.0).sum().backward()
    assert x.grad.item() == 3.0


def test_a_hook_that_returns_another_shape_is_refused():
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(ShapeError, match="hook"):
        (x * 2.0).sum().backward()


def test_no_grad_and_enable_grad_nest_and_decorate():
    x = leaf(1.0)
    with mg.no_grad():
        assert not (x * 2.0).requires_grad
        with mg.enable_grad():
            assert (x * 2.0).requires_grad
        assert not (x * 2.0).requires_grad
    assert (x * 2.0).requires_grad

    @mg.no_grad()
    def evaluate(depth):
        return evaluate(depth - 1) if depth else x * 2.0

    assert not evaluate(3).requires_grad
    assert (x * 2.0).requires_grad


def test_grad_modes_do_not_decorate_what_runs_after_the_call():
    def generator():
        yield 1

    async def coroutine():
        pass

    async def both():
        yield 1

    for f in (generator, coroutine, both):
        for mode in (mg.no_grad, mg.enable_grad):
            with pytest.raises(GraphError, match=rf"{f.__name__} is a generator or a coroutine; write `with mg\."):
                mode()(f)


def test_grad_mode_belongs_to_a_thread():
    seen = []
    with mg.no_grad():
        thread = threading.Thread(target=lambda: seen.append((leaf(1.0) * 2.0).requires_grad))
        thread.start()
        thread.join()
    assert seen == [True]


def test_python_scalars_are_weak_and_dtypes_do_not_mix():
    x = mg.tensor([1.0])
    assert (x * 2.0 + 1).dtype == np.float32
    assert (x * np.float64(2.0)).dtype == np.float32
    assert (mg.tensor([1, 2]) * 0.5).dtype == np.float32
    assert (mg.tensor([1, 2]) * x).dtype == np.float32
    assert (mg.tensor([1, 2]) / 2).dtype == np.float32
    with pytest.raises(DTypeError, match=r"float32 and float64.*t\.to"):
        x + mg.tensor(np.array([1.0]))
    with pytest.raises(DTypeError, match=r"do not mix.*array\.astype\('float32'\)"):
        np.array([1.0]) * x


def test_long_numpy_scalars_are_weak_too():
    x = mg.tensor([1.5])
    product = x * np.longdouble(2)
    assert product.dtype == np.float32 and product.item() == 3.0
    product = np.clongdouble(2j) * x
    assert product.dtype == np.complex64 and product.item() == 3j


def test_shapes_that_do_not_fit_name_the_operation_and_both_shapes():
    with pytest.raises(ShapeError, match=r"matmul\(float32\[2, 3\], float32\[4, 5\]\)"):
        mg.ones((2, 3)) @ mg.ones((4, 5))
    with pytest.raises(IndexError, match="getitem"):
        mg.ones((2, 3))[7]


@pytest.mark.cpu_only
def test_two_devices_in_one_operation_are_refused():
    elsewhere = devices.Device("cuda", 0, np, np.ndarray)
    other = mg.Tensor._wrap(np.ones(2, "f"), elsewhere, None)
    with pytest.raises(DeviceError, match=r"add.*input 0 on cpu, input 1 on cuda:0.*t\.to"):
        mg.ones(2) + other


def test_a_recording_that_is_interrupted_as_it_begins_ends():
    class Interrupting(Observer):
        def note(self, owner, attribute):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), observers.observing(Interrupting(), recording=True):
        raise AssertionError("the block was entered")
    left = observers.observer(), observers.recording()
    modes.state.observer, modes.state.recording = None, False  # for the tests that follow
    assert left == (None, False)


def test_observing_sees_every_operation_in_order():
    seen = []
    with observers.observing(lambda primitive, inputs, result, metadata: seen.append(primitive.name)):
        mg.exp(mg.ones(2) + 1.0)
    mg.ones(2) * 2.0
    assert seen == ["add", "exp"]


def test_an_observer_need_not_have_all_that_it_may_be_told():
    w = mg.Parameter([1.0, 2.0])
    with observers.observing(Observer(), recording=True):
        w.grad = None
        (w * w).sum().backward()
        assert w.grad is not None
        w.assign([3.0, 4.0])
        mg.nn.Dropout(0.5)(w)


def test_an_inner_observer_passes_on_all_that_it_is_told():
    told = [name for name in vars(Observer) if callable(getattr(Observer, name))]
    assert {"__call__", "before_assign", "note", "note_seed", "note_gradient", "knows"} <= set(told)
    assert set(told) <= set(vars(InnerObserver))

    class Outer(Observer):
        def __init__(self):
            self.made_inside, self.told = [], set()

        def __call__(self, *operation):
            self.told.add("operation")

        def note(self, owner, attribute):
            self.told.add(attribute)

        def note_seed(self, x):
            self.told.add("seed")

        def note_gradient(self, leaf, added):
            self.told.add("gradient")

        def before_assign(self, x):
            self.told.add("assign")

    outer, w = Outer(), mg.Parameter([1.0, 2.0])
    with observers.observing(outer, recording=True), mg.detect_anomaly():
        made = mg.ones((2,))
        mg.nn.Dropout(0.5)(w * made).sum().backward()
        w.assign([3.0, 4.0])
    assert {"operation", "seed", "gradient", "assign", "_training"} <= outer.told
    assert any(x is made for x in outer.made_inside)


@pytest.mark.parametrize("made", [mg.compile, lambda f: lambda: mg.record(f)()], ids=["compile", "record"])
def test_an_observer_is_told_of_a_function_that_is_recorded_what_it_is_told_of_one_that_is_not(made):
    class Outer(Observer):
        def __init__(self):
            self.told = []

        def __call__(self, primitive, inputs, result, metadata):
            self.told.append(primitive.name)

        def note(self, owner, attribute):
            self.told += [] if attribute in ("precision", "deterministic") else [attribute]  # told once more

        def note_seed(self, x):
            self.told.append("a seed")

        def note_no_gradient(self, leaf):
            self.told.append("no gradient")

        def before_assign(self, x):
            self.told.append("an assignment")

    w = mg.Parameter([1.0, 2.0])

    def f():
        assert w.grad is None
        with mg.no_grad():
            w.assign(w - 0.1)
        loss = mg.sum(w * w)
        loss.backward()
        return loss

    told = []
    for function in (f, made(f)):
        w.grad = None
        outer = Outer()
        with observers.observing(outer):
            function()
        told.append(outer.told)
    assert told[0] == told[1] and {"no gradient", "a seed", "an assignment", "multiply"} <= set(told[0])


def test_a_primitive_without_samples_or_with_a_wrong_number_of_rules_is_refused():
    forward = lambda xp, x, /: x  # noqa: E731
    with pytest.raises(MinigradError, match="no samples"):
        mg.primitive("nameless", forward=forward, vjps=[None], samples=None)
    with pytest.raises(MinigradError, match="2 derivative rules for 1"):
        mg.primitive("nameless", forward=forward, vjps=[None, None], samples=Samples("any", (Domain(0, 1),)))
    with pytest.raises(MinigradError, match="already"):
        mg.primitive("exp", forward=forward, vjps=[None], samples=Samples("any", (Domain(0, 1),)))
    with pytest.raises(MinigradError, match="saves"):
        mg.primitive("nameless", forward=forward, vjps=[None], saves="q", samples=Samples("any", (Domain(0, 1),)))
    assert "nameless" not in mg.primitives
    for name in (5, None, ""):
        with pytest.raises(MinigradError, match="name of a primitive is a string"):
            mg.primitive(name, forward=forward, vjps=[None], samples=Samples("any", (Domain(0, 1),)))
    assert all(isinstance(name, str) for name in mg.primitives)


def test_a_refused_primitive_can_be_printed():
    """As a traceback does that shows variables."""
    refused = Primitive.__new__(Primitive)
    with pytest.raises(MinigradError, match="already"):
        refused.__init__("exp", forward=None, vjps=None, samples=None)
    assert repr(refused) == "<primitive exp>"
