"""Compiled steps whose arguments, parameters and views share memory: as the step itself, on the CPU and on a GPU.

There is no GPU here: the stand-in's arrays, and kernels that run on the host.
"""

import sys

import numpy as np
import pytest

import minigrad as mg
from tests import standin
from tests.host_driver import HostDriver
from tests.host_kernels import GXX


@pytest.fixture(params=["cpu", "cuda"])
def place(request, monkeypatch):
    if request.param == "cuda" and GXX is None:
        pytest.skip("needs g++ to run kernels on the host")
    monkeypatch.setattr(sys.modules["minigrad.program.compile"], "driver_of", HostDriver)
    with standin.machine(), mg.use_device("cpu"):
        yield request.param


def ramp(n):
    return mg.tensor(np.arange(float(n), dtype="f4"))


def returns_a_view_that_it_assigns_to():
    w = ramp(4)
    return (lambda x: w[0:2].assign(x)), (lambda i: [mg.full((2,), float(i))]), [w]


def assigns_to_a_view_between_two_equal_expressions():
    w = ramp(4)

    def f(x):
        before = mg.exp(w * 0.1)
        w[0:2].assign(x)
        return before, mg.exp(w * 0.1)

    return f, (lambda i: [mg.full((2,), float(i))]), [w]


def reads_a_view_before_and_after_an_assign():
    w = ramp(4)

    def f(x):
        view = w[0:2]
        before = mg.exp(view * 0.1)
        w.assign(w + x)
        return before, mg.exp(view * 0.1)

    return f, (lambda i: [mg.full((4,), float(i))]), [w]


def reads_what_broadcasting_did_not_stretch_after_an_assign():
    w = ramp(3)

    def f(x):
        same = mg.broadcast_to(w, (3,))
        w.assign(w * 2.0 + x)
        return x * same

    return f, (lambda i: [mg.full((3,), float(i))]), [w]


def gets_one_tensor_twice():
    w = ramp(3)

    def f(x, y):
        x.assign(x + 1.0)
        return y * 2.0

    return f, (lambda i: [w, w] if i < 3 else [w, ramp(3)]), [w]


def gets_a_tensor_and_a_view_of_it():
    w = ramp(3)

    def f(x, y):
        x.assign(x + 1.0)
        return y * 2.0

    return f, (lambda i: [w, w[0:2]]), [w]


def assigns_to_an_argument_that_it_also_captures():
    w = ramp(3)

    def f(x):
        x.assign(x + 1.0)
        return w * 2.0

    return f, (lambda i: [w]), [w]


def assigns_to_a_base_whose_view_it_captures_first():
    w = ramp(4)
    view = w[0:2]

    def f(x):
        before = view * 2.0
        return w.assign(w + x), before

    return f, (lambda i: [mg.full((4,), float(i))]), [w, view]


def assigns_an_assigned_value_to_another_tensor():
    p, q = ramp(3), ramp(3)

    def f(x):
        p.assign(p + x)
        product = p * q
        p.assign(p * 0.5)
        q.assign(p)
        return product, p

    return f, (lambda i: [mg.full((3,), float(i))]), [p, q]


def exchanges_two_tensors():
    p, q = ramp(3), mg.full((3,), 7.0)

    def f():
        old = p * 1.0
        p.assign(q)
        q.assign(old)
        return p - q

    return f, (lambda i: []), [p, q]


def gets_an_array_backwards():
    x = mg.tensor(np.arange(20, dtype="f4").reshape(5, 4))
    return (lambda x: (x + 1.0, mg.sum(x, axis=0), x @ x.T)), (lambda i: [x[::-1, ::-1]]), []


def shifts_a_tensor_by_views_that_overlap():
    w, square = ramp(6), mg.tensor(np.arange(9.0, dtype="f4").reshape(3, 3))

    def f(x):
        w[1:].assign(w[:-1])
        w[:3].assign(x)
        square.assign(square.T)
        return w * 1.0, square + 1.0

    return f, (lambda i: [mg.full((3,), float(i))]), [w, square]


STEPS = [
    returns_a_view_that_it_assigns_to,
    assigns_to_a_view_between_two_equal_expressions,
    reads_a_view_before_and_after_an_assign,
    reads_what_broadcasting_did_not_stretch_after_an_assign,
    gets_one_tensor_twice,
    gets_a_tensor_and_a_view_of_it,
    assigns_to_an_argument_that_it_also_captures,
    assigns_to_a_base_whose_view_it_captures_first,
    assigns_an_assigned_value_to_another_tensor,
    exchanges_two_tensors,
    gets_an_array_backwards,
    shifts_a_tensor_by_views_that_overlap,
]


@pytest.mark.parametrize("make", STEPS, ids=lambda make: make.__name__)
def test_a_compiled_step(place, make):
    def run(device, compiled):
        with mg.use_device(device):
            f, arguments, kept = make()
            f = mg.compile(f) if compiled else f
            found = []
            for i in range(4):
                result = f(*arguments(i))
                result = result if isinstance(result, tuple) else (result,)
                found += [np.array(t.detach().numpy()) for t in (*result, *kept)]
        return found

    for expected, got in zip(run("cpu", False), run(place, True), strict=True):
        assert got.shape == expected.shape and got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_arrays_of_numpy_come_back_as_tensors(place):
    def f(x, y):
        x.assign(x + 1.0)
        return x, y

    f = mg.compile(f)
    with mg.use_device(place):
        for i in range(3):
            given = np.full(3, float(i), "f4"), np.full(2, float(i), "f4")
            x, y = f(*given)
            assert isinstance(x, mg.Tensor) and isinstance(y, mg.Tensor)
            assert x.numpy().tolist() == [i + 1.0] * 3 and y.numpy().tolist() == [i] * 2
            assert given[0].tolist() == [i] * 3
            x, _ = f(np.ones(3, ">f4"), np.ones(2, ">i8"))  # recorded in the first round
            assert x.numpy().tolist() == [2.0] * 3


def test_a_step_that_runs_as_it_is_leaves_neither_gradients_nor_graphs(place):
    with mg.use_device(place):
        w, x = mg.Parameter([1.0, 2.0]), mg.tensor([1.0, 1.0])

    @mg.compile
    def step(x):
        loss = mg.sum(mg.square(x * w))
        loss.backward()
        w.assign(w.detach() - 0.1 * w.grad)
        return loss

    step(x), step(x)
    values = w.numpy().copy()
    step(w.detach())  # a view of what is assigned to
    assert w.grad is None
    np.testing.assert_allclose(w.numpy(), values - 0.2 * values**3, rtol=1e-6)
    assert not step(w.detach()).requires_grad


@pytest.mark.parametrize(
    ("size", "words"), [(8, "0.0 KiB"), (1024, "4.0 KiB"), (2**18 - 1, "1024.0 KiB"), (2**18, "1.0 MiB")]
)
def test_a_plan_says_kib_below_one_mib(size, words):
    plan = mg.record(lambda x: mg.exp(x))(mg.zeros(size)).plan()
    assert f" {words} for 1 of 1 results" in repr(plan) and repr(plan).endswith(f", {words} for arguments>")
