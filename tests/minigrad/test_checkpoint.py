"""mg.checkpoint: the same values and gradients of every order, with less memory."""

import tracemalloc
from functools import partial

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import DTypeError, GraphError
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


def test_memory_is_freed_between_forward_and_backward():
    x = mg.tensor(np.ones(100_000), requires_grad=True)

    def deep(x):
        for _ in range(20):
            x = mg.tanh(x)
        return x

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
