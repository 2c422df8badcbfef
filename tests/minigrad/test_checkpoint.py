"""mg.checkpoint: the same values and gradients of every order, with less memory."""

import gc
import tracemalloc
from collections import namedtuple
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import DTypeError, GraphError
from minigrad.observers import Observer
from minigrad.sweep import reachable
from minigrad.testing import check_grad
from tests.switching import run_at_once

rng = np.random.default_rng(0)
W = mg.Parameter(rng.normal(size=4))
A = mg.tensor(rng.normal(size=4), requires_grad=True)


def f(x):
    h = mg.tanh(x * W)
    return mg.exp(h) * h + mg.sin(W) * x * A


INNER = mg.checkpoint(lambda h: mg.exp(h) * h)
OUTER = mg.checkpoint(lambda x: mg.sin(W) * x * A)
FUNCTIONS = {
    "once": mg.checkpoint(f),
    "nested": mg.checkpoint(lambda x: mg.checkpoint(f)(x)),
    "in parts": lambda x: INNER(mg.checkpoint(lambda x: mg.tanh(x * W))(x)) + OUTER(x),
    "argument that is used from outside too": lambda x: mg.checkpoint(lambda x, w, a: f(x) + 0.0 * w * a)(x, W, A),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_of_two_orders_are_the_same(name):
    g = FUNCTIONS[name]
    x = mg.tensor(rng.normal(size=4), requires_grad=True)
    np.testing.assert_array_equal(g(x).detach().numpy(), f(x).detach().numpy())
    for expected, found in zip(*[mg.autograd.grad(h(x).sum(), [x, W, A]) for h in (f, g)], strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-14)

    def second(h):
        first = mg.autograd.grad(h(x).sum(), [x, W, A], create_graph=True)
        return mg.autograd.grad((first[0] * first[1] * first[2]).sum(), [x, W, A])

    for expected, found in zip(second(f), second(g), strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12)
    check_grad(g, x.detach())
    np.testing.assert_allclose(
        mg.jacobian(g)(x.detach()).numpy(), mg.jacobian(f)(x.detach()).numpy(), rtol=1e-14, atol=1e-15
    )


def test_captured_tensors_that_depend_on_each_other_are_not_counted_twice():
    a = mg.tensor([1.0, 2.0], requires_grad=True)
    b = a * a
    g = lambda x: x * a * b  # noqa: E731
    x = mg.tensor([3.0, 4.0], requires_grad=True)
    expected = mg.autograd.grad(g(x).sum(), [x, a], retain_graph=True)
    found = mg.autograd.grad(mg.checkpoint(g)(x).sum(), [x, a])
    for e, q in zip(expected, found, strict=True):
        np.testing.assert_array_equal(e.numpy(), q.numpy())


@pytest.mark.parametrize("own_generator", [False, True])
def test_noise_is_repeated_and_the_generator_ends_where_it_should(own_generator):
    generator = mg.random.Generator(5) if own_generator else mg.random.default_generator()

    def noisy(x):
        return x * generator.uniform(x.shape, dtype="float64") * W

    results = []
    for g in (noisy, mg.checkpoint(noisy)):
        generator.set_state({"seed": 7, "stream": 0, "counter": 3})
        x = mg.tensor(np.ones(4), requires_grad=True)
        y = g(x)
        y.sum().backward()
        results.append((y.detach().numpy().tobytes(), x.grad.numpy().tobytes(), generator.state()))
    assert results[0] == results[1]


def test_state_that_is_assigned_is_assigned_once():
    count = mg.tensor(0.0)

    def counting(x):
        count.assign(count + 1)
        return x * count

    x = mg.tensor([1.0], requires_grad=True)
    mg.checkpoint(counting)(x).sum().backward()
    assert count.item() == 1.0 and x.grad.item() == 1.0


def test_several_results_and_structures():
    g = mg.checkpoint(lambda pair, n: {"sum": pair[0] + pair[1], "rest": [pair[0].sum() * n, "text"]})
    x, y = (mg.tensor(rng.normal(size=(2, 3)), requires_grad=True) for _ in range(2))
    result = g((x, y), 3)
    assert result["rest"][1] == "text" and result["rest"][0].shape == () and result["sum"].shape == (2, 3)
    (result["sum"].sum() + result["rest"][0]).backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full((2, 3), 4.0))
    np.testing.assert_array_equal(y.grad.numpy(), np.ones((2, 3)))


def deep(x):
    for _ in range(20):
        x = mg.tanh(x)
    return x


@pytest.mark.not_on_gpu("tracemalloc sees the memory of the host alone")
@pytest.mark.parametrize("f", [lambda x: mg.exp(mg.tanh(x)), mg.checkpoint(mg.tanh), lambda x: x[np.arange(x.size)]])
def test_a_result_whose_graph_was_released_keeps_no_arrays(f):
    w = mg.tensor(np.ones(100_000), requires_grad=True)
    tracemalloc.start()
    try:
        loss = f(w * 2.0).sum()
        loss.backward()
        w.grad = None
        assert tracemalloc.get_traced_memory()[0] < 400_000  # half an array
    finally:
        tracemalloc.stop()
    assert loss.shape == ()


@pytest.mark.not_on_gpu("tracemalloc sees the memory of the host alone")
def test_memory_is_freed_between_forward_and_backward():
    x = mg.tensor(np.ones(100_000), requires_grad=True)

    def held(g):
        tracemalloc.start()
        y = g(x)
        kept = tracemalloc.get_traced_memory()[0]
        y.sum().backward()
        tracemalloc.stop()
        x.grad = None
        return kept / 800_000  # in arrays

    assert held(deep) > 18
    assert held(mg.checkpoint(deep)) < 4


def test_a_change_of_the_inputs_before_backward_is_noticed():
    w = mg.Parameter([1.0])
    y = mg.checkpoint(lambda x: x * w * w)(mg.tensor([2.0], requires_grad=True))
    w.assign([3.0])
    with pytest.raises(GraphError, match="assign"):
        y.sum().backward()


def test_a_second_backward_needs_retain_graph():
    x = mg.tensor([2.0], requires_grad=True)
    y = mg.checkpoint(lambda x: x**3)(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 24.0
    with pytest.raises(GraphError, match="released"):
        y.backward()


def test_without_gradients_it_is_the_function():
    g = mg.checkpoint(f)
    x = mg.tensor(rng.normal(size=4))
    with mg.no_grad():
        assert not g(x).requires_grad
    assert not mg.checkpoint(mg.exp)(x).requires_grad


def test_it_records_as_the_function():
    program = mg.record(mg.grad(lambda x: mg.checkpoint(f)(x).sum()))(mg.tensor(np.ones(4)))
    assert all(e.primitive.name != "checkpoint" for e in program.equations)
    x = mg.tensor(rng.normal(size=4))
    np.testing.assert_array_equal(program(x).numpy(), mg.grad(lambda x: f(x).sum())(x).numpy())


def test_a_module_trains_the_same():
    grads = []
    for wrap in (lambda m: m, mg.checkpoint):
        mg.random.seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        wrap(model)(mg.ones((5, 3))).sum().backward()
        grads.append([p.grad.numpy() for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        np.testing.assert_array_equal(a, b)


def test_results_of_two_dtypes_are_refused():
    g = mg.checkpoint(lambda x: (x, x.to("float64")))
    with pytest.raises(DTypeError, match="float32, float64"):
        g(mg.tensor([1.0], requires_grad=True))


def test_threads_share_the_parameters_of_a_checkpoint():
    """Nothing is written to a captured tensor: other threads, and its hooks, see none of it."""
    w = mg.Parameter(np.random.default_rng(0).normal(size=(20, 20)))
    block = mg.checkpoint(lambda x: mg.tanh(x @ w))
    x = mg.tensor(np.random.default_rng(1).normal(size=(5, 20)))
    node, calls = w._node, []
    remove = w.register_hook(calls.append)
    block(x).sum().backward()
    expected = w.grad.numpy().copy()
    assert len(calls) == 1 and (calls[0].numpy() == expected).all()
    remove()
    wrong = []

    def work(f):
        for _ in range(100):
            (g,) = mg.autograd.grad(mg.sum(f(x)), w)
            if not np.allclose(g.numpy(), expected, rtol=1e-12):
                wrong.append(g)

    run_at_once([partial(work, lambda x: mg.tanh(x @ w)), *[partial(work, block)] * 3])
    assert not wrong and w._node is node


def test_what_is_captured_may_depend_on_what_else_is():
    """The graph behind a captured result is swept once, from outside."""
    w = mg.Parameter([0.5, -1.0], dtype="float64")

    def value(checkpoint):
        y = mg.exp(w)
        block = (mg.checkpoint if checkpoint else lambda f: f)(lambda x: (x * y + w * w, y * 2.0, w))
        a, b, c = block(w * 3.0)
        return (a * b * c).sum()

    for create_graph in (False, True):
        grads = [mg.autograd.grad(value(c), w, create_graph=create_graph)[0] for c in (False, True)]
        np.testing.assert_allclose(grads[0].detach().numpy(), grads[1].detach().numpy(), rtol=1e-14)
    second = [
        mg.autograd.grad(mg.sum(mg.autograd.grad(value(c), w, create_graph=True)[0]), w)[0] for c in (False, True)
    ]
    np.testing.assert_allclose(second[0].numpy(), second[1].numpy(), rtol=1e-14)


def test_an_argument_that_is_used_from_outside_too_gets_both_gradients():
    w = mg.Parameter([2.0, 3.0])
    square = mg.checkpoint(lambda s: s * w)
    (g,) = mg.autograd.grad(square(w).sum(), w, create_graph=True)
    np.testing.assert_array_equal(g.detach().numpy(), [4.0, 6.0])
    np.testing.assert_array_equal(mg.autograd.grad(g.sum(), w)[0].numpy(), [2.0, 2.0])
    (square(w) * square(w * 2.0)).sum().backward()  # 2 w^4
    np.testing.assert_array_equal(w.grad.numpy(), [64.0, 216.0])


def test_what_is_returned_as_it_was_gets_its_gradient():
    w, x = mg.Parameter([1.0, 2.0]), mg.tensor([3.0, 4.0], requires_grad=True)
    a, b, c = mg.checkpoint(lambda x: (x * 2, w, x))(x)
    (a * b * c).sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), [18.0, 32.0])
    np.testing.assert_array_equal(x.grad.numpy(), [12.0, 32.0])


def test_a_result_inside_of_an_object_is_refused():
    @dataclass
    class Result:
        values: list

    class Slotted:
        __slots__ = ("y",)

        def __init__(self, y):
            self.y = y

    x = mg.tensor([1.0], requires_grad=True)
    for make, name in ((lambda y: Result([{"y": y}]), "Result"), (Slotted, "Slotted"), (lambda y: {y}, "set")):
        with pytest.raises(DTypeError, match=rf"inside of a {name}.*return tensors in lists"):
            mg.checkpoint(lambda x, make=make: (x * 2, make(x * 3)))(x)
    # no gradient is lost in these: of a tensor without one, of an argument, and of a parameter that a module holds
    y, *rest = mg.checkpoint(lambda x: (x * 2, Result((x * 3).detach()), Result(x), nn.Linear(1, 1), "text", None))(x)
    assert y.requires_grad and rest[1].values is x and not rest[0].values.requires_grad
    pair = namedtuple("pair", "a b")
    assert mg.checkpoint(lambda x: pair(x * 2, x * 3))(x).b.requires_grad


def draw(x):
    return x * mg.random.uniform(x.shape, dtype="float64")


def permute(x):
    return x[mg.random.permutation(len(x))] * mg.tensor(np.arange(len(x)) * 1.0)


@pytest.mark.parametrize("random_function", [draw, permute])
def test_another_seed_before_backward_changes_nothing(random_function):
    x = mg.tensor(np.full(20, 2.0), requires_grad=True)
    mg.random.seed(1)
    plain = random_function(x)
    (expected,) = mg.autograd.grad(plain.sum(), x)
    mg.random.seed(1)
    y = mg.checkpoint(random_function)(x)
    mg.random.seed(2)
    y.sum().backward()
    np.testing.assert_array_equal(y.detach().numpy(), plain.detach().numpy())
    np.testing.assert_array_equal(x.grad.numpy(), expected.numpy())
    assert mg.random.default_generator().state() == {"seed": 2, "stream": 0, "counter": 0}


def test_backward_in_another_thread_draws_what_was_drawn():
    x = mg.tensor(np.ones(4), requires_grad=True)
    mg.random.seed(1)
    mg.random.uniform((5,))
    y = mg.checkpoint(draw)(x)
    here, there = mg.random.default_generator().state(), []

    def work():
        mg.random.seed(9)
        mg.random.uniform((3,))
        y.sum().backward()
        there.append(mg.random.default_generator().state())

    run_at_once([work])
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
    assert there == [{"seed": 9, "stream": 0, "counter": 1}]
    assert mg.random.default_generator().state() == here


def test_the_default_generator_of_another_thread_is_refused():
    generator = mg.random.default_generator()
    y = mg.checkpoint(lambda x: x * generator.uniform(x.shape))(mg.tensor([1.0], requires_grad=True))

    def work():
        with pytest.raises(GraphError, match="default generator of the thread that called it"):
            y.backward()

    run_at_once([work])


def test_modules_are_in_the_mode_that_they_were_in():
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm(3))
    x = mg.tensor(rng.normal(size=(8, 3)).astype("float32"), requires_grad=True)
    grads = []
    for g in (model, mg.checkpoint(model)):
        model.train()
        mg.random.seed(0)
        y = mg.square(g(x)).sum()
        model.eval()
        kept = model.state_dict()
        grads.append(mg.autograd.grad(y, x)[0].numpy())
        assert not any(m.training for _, m in model.named_modules())
        assert all((kept[name] == value).all() for name, value in model.state_dict().items())
    np.testing.assert_array_equal(*grads)


def test_a_function_may_change_the_mode_of_its_modules():
    layer, x = nn.Dropout(0.5), mg.tensor(np.ones(8), requires_grad=True)

    def f(x):
        y = layer(x)
        layer.eval()
        return layer(y) * x

    y = mg.checkpoint(f)(x)
    layer.train()
    y.sum().backward()
    assert layer.training and 0 < (y.detach().numpy() > 0).sum() < 8
    np.testing.assert_array_equal(x.grad.numpy(), 2 * y.detach().numpy())


def test_a_tensor_that_is_built_anew_around_a_node_gets_its_gradient_once():
    w = mg.Parameter([2.0])
    again = mg.Tensor._wrap(w._array, w.device, w._node, w._version)  # as the sweep does for derivative rules
    mg.checkpoint(lambda w: w * w * again)(w).backward()
    assert w.grad.item() == 12.0


def test_what_an_inner_backward_pass_made_is_not_kept():
    x = mg.tensor(np.ones(3), requires_grad=True)
    y = mg.checkpoint(lambda x: x * mg.grad(lambda t: mg.exp(t).sum())(mg.ones(3, "float64")))(x)
    assert "exp" not in {node.primitive.name for node in reachable([y._node], None) if node.primitive}


def test_a_change_of_what_needs_no_gradient_is_noticed():
    x, s = mg.tensor([1.0], requires_grad=True), mg.tensor([2.0])
    for f, args in ((lambda x: mg.sin(x * s.reshape(1)), (x,)), (mg.multiply, (x, s))):
        y = mg.checkpoint(f)(*args)
        s.assign([5.0])
        with pytest.raises(GraphError, match=r"mg\.checkpoint uses was changed by assign\(\) before backward"):
            y.backward()
        s.assign([2.0])


def test_containers_and_arrays_may_change_before_backward():
    w, other, x = mg.Parameter([2.0]), mg.Parameter([3.0]), mg.tensor([1.0], requires_grad=True)
    weights, array = {"first": [w]}, np.array([5.0], "float32")
    y = mg.checkpoint(lambda x, weights, a: x * weights["first"].pop() * a)(x, weights, array)
    assert weights == {"first": []}  # f got the caller's own
    weights["first"].append(other)
    array[:] = 7.0
    y.backward()
    assert (x.grad.item(), w.grad.item(), other.grad) == (10.0, 5.0, None)


def counting(count):
    def f(x):
        count.assign(count + 1.0)
        return x * count * x

    return f


def test_state_is_that_of_the_first_run_for_every_order():
    x, b = mg.tensor([1.0], requires_grad=True), mg.tensor([0.0])
    (g,) = mg.autograd.grad(mg.checkpoint(counting(b))(x), x, create_graph=True)
    assert (g.item(), mg.autograd.grad(g, x, retain_graph=True)[0].item(), b.item()) == (2.0, 2.0, 1.0)
    b.assign([7.0])
    with pytest.raises(GraphError, match="assign"):  # the graph of the second run holds b
        mg.autograd.grad(g, x)


def test_state_may_change_before_a_first_backward_but_not_before_a_second():
    x, b = mg.tensor([1.0], requires_grad=True), mg.tensor([0.0])
    f = mg.checkpoint(counting(b))
    first, second = f(x), f(x)
    (g,) = mg.autograd.grad(first, x, create_graph=True)
    assert (g.item(), b.item()) == (2.0, 2.0)
    with pytest.raises(GraphError, match="assign"):
        mg.autograd.grad(g, x)
    assert mg.autograd.grad(second, x)[0].item() == 4.0


def test_a_graph_that_holds_the_state_of_now_stays_valid():
    x, b = mg.tensor([1.0], requires_grad=True), mg.tensor([0.0])
    y = mg.checkpoint(counting(b))(x)
    z = x * b
    y.backward()
    z.backward()
    assert x.grad.item() == 3.0


def test_state_and_a_view_of_it_are_put_back():
    x, b = mg.tensor([1.0], requires_grad=True), mg.tensor([1.0])
    view = b.detach()

    def f(x):
        y = x * b.item()
        b.assign([10.0])
        view.assign([20.0])
        return y * b

    y = mg.checkpoint(f)(x)
    y.backward()
    assert (y.item(), x.grad.item(), b.item()) == (20.0, 20.0, 20.0)


def test_a_parameter_that_the_function_assigns_to_gets_its_gradient():
    w, x = mg.Parameter([1.0]), mg.tensor([3.0], requires_grad=True)

    def f(x):
        w.assign(w * 2.0)
        return x * w

    mg.checkpoint(f)(x).backward()
    assert (w.grad.item(), x.grad.item(), w.item()) == (3.0, 2.0, 2.0)


def test_an_observer_from_outside_sees_what_is_assigned():
    class Keeper(Observer):
        def __init__(self):
            self.kept, self.noted = [], []

        def before_assign(self, x):
            self.kept.append(x)

        def note(self, owner, attribute):
            self.noted.append((owner, attribute))

    x, b, layer, keeper = mg.tensor([1.0], requires_grad=True), mg.tensor([0.0]), nn.Dropout(0.0), Keeper()
    with mg.observers.observing(keeper):
        mg.checkpoint(lambda x: layer(counting(b)(x)))(x)
    assert [t is b for t in keeper.kept] == [True] and (layer, "_training") in keeper.noted


def test_other_parameters_than_at_first_are_refused():
    x, other = mg.tensor([1.0], requires_grad=True), mg.Parameter([3.0])
    for last in (other, mg.tensor([3.0])):
        held = {"w": mg.Parameter([2.0])}
        y = mg.checkpoint(lambda x, held=held: x * held["w"])(x)
        held["w"] = last
        with pytest.raises(GraphError, match="used other tensors that require grad"):
            y.backward()
    more = []
    y = mg.checkpoint(lambda x: x * sum(more, start=1.0))(x)
    more.append(other)
    with pytest.raises(GraphError, match="used other tensors that require grad"):
        y.backward()


def test_other_shapes_than_at_first_are_refused():
    x, lengths = mg.tensor([1.0, 2.0, 3.0], requires_grad=True), iter([2, 3])
    y = mg.checkpoint(lambda x: x[: next(lengths)] * 2.0)(x)
    with pytest.raises(GraphError, match=r"shapes \[\(2,\)\] at first, and of \[\(3,\)\]"):
        y.sum().backward()


def test_what_the_function_makes_itself_may_be_new_in_every_run():
    made = {}

    def f(x):
        if "w" not in made:  # like a layer that learns its shape from its first input
            made["w"] = mg.Parameter(np.full(x.shape, 2.0))
        inner = mg.grad(lambda t: (t * t * made["w"]).sum())(mg.ones(x.shape, "float64"))
        return x * made["w"] * inner

    grads = []
    for g in (mg.checkpoint(f), f):
        x = mg.tensor(np.arange(3.0), requires_grad=True)
        grads.append(mg.autograd.grad(g(x).sum(), x)[0].numpy())
    np.testing.assert_array_equal(*grads)
    mg.checkpoint(f)(mg.tensor(np.ones(3))).sum().backward()
    assert made["w"].grad is not None


def test_an_error_of_the_function_is_told_as_such():
    runs = iter([1.0, "text", None])
    y = mg.checkpoint(lambda x: x * abs(next(runs)))(mg.tensor([1.0], requires_grad=True))
    with pytest.raises(GraphError, match="of mg.checkpoint failed when backward ran it again: TypeError: bad operand"):
        y.backward()
    dtypes = iter(["float32", "float64"])
    y = mg.checkpoint(lambda x: x * mg.tensor([1.0], next(dtypes)))(mg.tensor([1.0], requires_grad=True))
    with pytest.raises(DTypeError, match="multiply got float32 and float64"):
        y.backward()


def test_the_first_run_keeps_nothing_that_the_function_drops():
    x = mg.tensor(np.ones(100_000), requires_grad=True)

    gc.collect()
    gc.disable()
    tracemalloc.start()
    y = mg.checkpoint(deep)(x)
    peak = tracemalloc.get_traced_memory()[1] / 800_000  # in arrays
    tracemalloc.stop()
    gc.enable()
    assert y.requires_grad and peak < 4


def test_gradients_have_a_graph_only_where_one_is_wanted():
    w, x = mg.Parameter([2.0]), mg.tensor([1.0], requires_grad=True)
    with mg.detect_anomaly():  # it observes: backward consists of operations
        mg.checkpoint(lambda x: mg.exp(x * w) * w)(x).backward()
    assert w.grad.is_leaf and not w.grad.requires_grad and not x.grad.requires_grad
    np.testing.assert_allclose(x.grad.numpy(), 4.0 * np.exp(2.0), rtol=1e-6)  # float32


def test_the_sign_of_zero_is_the_same_in_the_second_run():
    x = mg.tensor([-0.0, 0.0], requires_grad=True)
    f = mg.checkpoint(lambda x: mg.where(mg.tensor(np.signbit(x.detach().numpy())), x, 2 * x) * x)
    (g,) = mg.autograd.grad(f(x).sum(), x, create_graph=True)
    np.testing.assert_array_equal(mg.autograd.grad(g.sum(), x)[0].numpy(), [2.0, 4.0])
