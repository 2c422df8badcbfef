"""autograd.grad and the functional transforms."""

import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DTypeError, GraphError, ShapeError


def test_grad_of_intermediate_results_and_several_outputs():
    x = mg.tensor(np.array([1.0, 2.0]), requires_grad=True)
    h = x * x
    y, z = (h * 3.0).sum(), (h * x).sum()
    gx, gh = mg.autograd.grad([y, z], [x, h])
    np.testing.assert_allclose(gx.numpy(), 6 * x.detach().numpy() + 3 * x.detach().numpy() ** 2, rtol=1e-15)
    np.testing.assert_allclose(gh.numpy(), 3 + x.detach().numpy(), rtol=1e-15)
    assert x.grad is None


def test_grad_outputs_gives_the_direction():
    x = mg.tensor(np.array([1.0, 2.0]), requires_grad=True)
    (g,) = mg.autograd.grad(x * x, x, grad_outputs=mg.tensor(np.array([1.0, 10.0])))
    np.testing.assert_array_equal(g.numpy(), [2.0, 40.0])
    with pytest.raises(ShapeError, match="must have that shape"):
        mg.autograd.grad(x * x, x, grad_outputs=mg.tensor(np.ones(3)))


def test_cotangents_may_be_numbers_and_lists():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y, total = x * x, (x * x).sum()
    assert mg.autograd.grad(total, x, 2.0, retain_graph=True)[0].numpy().tolist() == [4.0, 8.0]
    assert mg.autograd.grad([total, y], x, [1.0, [1.0, 10.0]])[0].numpy().tolist() == [4.0, 44.0]
    assert mg.vjp(lambda t: (t * t).sum(), x)[1](2.0)[0].numpy().tolist() == [4.0, 8.0]
    assert mg.vjp(lambda t: t * t, x)[1]([1.0, 10.0])[0].numpy().tolist() == [2.0, 40.0]
    with pytest.raises(ShapeError, match=r"must have that shape, got \(3,\)"):
        mg.vjp(lambda t: t * t, x)[1]([1.0, 10.0, 100.0])


def test_unused_inputs():
    x, unused = mg.tensor(1.0, requires_grad=True), mg.tensor(1.0, requires_grad=True)
    with pytest.raises(GraphError, match="do not depend on input 1"):
        mg.autograd.grad(x * x, [x, unused])
    assert mg.autograd.grad(x * x, [x, unused], allow_unused=True)[1] is None
    with pytest.raises(GraphError, match="input 0 of grad does not require grad"):
        mg.autograd.grad(x * x, mg.tensor(1.0))


def test_a_gradient_through_a_released_graph_says_so():
    def loss_after_backward(x):
        loss = (x * x).sum()
        loss.backward()
        return loss

    x = mg.tensor([1.0, 2.0])
    for transform in (mg.grad, mg.value_and_grad, mg.jacobian, mg.hessian):
        with pytest.raises(GraphError, match="through sum was released by an earlier backward pass; pass retain_graph"):
            transform(loss_after_backward)(x)
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = loss_after_backward(x)
    for allow_unused in (False, True):
        with pytest.raises(GraphError, match="through sum was released"):
            mg.autograd.grad(y, x, allow_unused=allow_unused)
    h = x * 2.0
    h.sum().backward()
    with pytest.raises(GraphError, match="through multiply was released"):  # a second path, besides h, leads to x
        mg.autograd.grad((h * x).sum(), x)


def test_a_pass_that_ends_at_a_tensor_leaves_the_graph_before_it():
    w = mg.Parameter(np.array([1.0, 2.0]))
    h = mg.exp(w)
    first, second = (h * 2.0).sum(), (h * 3.0).sum()  # two losses on shared features
    (a,), (b,) = mg.autograd.grad(first, h), mg.autograd.grad(second, h)
    h.backward(a + b)
    np.testing.assert_array_equal(w.grad.numpy(), 5.0 * np.exp([1.0, 2.0]))
    with pytest.raises(GraphError, match="through exp was released"):
        h.backward(a)


def test_zeros_like_depends_on_nothing():
    """So a new sequence may begin with zeros like the end of the last one, whose graph is released."""
    w = mg.Parameter(np.array([0.5, 0.25]))
    h = mg.tanh(w)
    h.sum().backward()
    w.grad = None
    assert not mg.zeros_like(h).requires_grad
    (mg.zeros_like(h) + w).sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), [1.0, 1.0])
    np.testing.assert_array_equal(mg.grad(mg.grad(lambda x: mg.sign(x) + x * x))(mg.tensor(3.0)).numpy(), 2.0)


def test_a_released_graph_that_does_not_lead_to_the_input_is_no_error():
    x, w = mg.tensor(3.0, requires_grad=True), mg.tensor(2.0, requires_grad=True)
    h = w * w
    h.backward()
    assert mg.autograd.grad(h * x, x)[0].item() == 4.0
    assert mg.autograd.grad(h * x, mg.tensor(1.0, requires_grad=True), allow_unused=True) == (None,)


def test_backward_twice_with_create_graph_gives_the_second_derivative():
    x = mg.tensor(np.array(2.0), requires_grad=True)
    (x**4).backward(create_graph=True)
    g, x.grad = x.grad, None
    g.backward()
    assert x.grad.item() == pytest.approx(12 * 2.0**2, rel=1e-14)


def test_derivatives_of_every_order_of_a_cubic():
    d = lambda x: x**3  # noqa: E731
    for expected in (12.0, 12.0, 6.0, 0.0):
        d = mg.grad(d)
        assert d(mg.tensor(np.array(2.0))).item() == expected


def test_value_and_grad_with_several_arguments():
    f = mg.value_and_grad(lambda a, b: (a * b).sum(), argnums=(0, 1))
    value, (ga, gb) = f(mg.tensor([1.0, 2.0]), mg.tensor([3.0, 4.0]))
    assert value.item() == 11.0
    assert not value.requires_grad
    np.testing.assert_array_equal(ga.numpy(), [3.0, 4.0])
    np.testing.assert_array_equal(gb.numpy(), [1.0, 2.0])


def test_an_argument_that_is_not_used_has_gradient_zero():
    assert mg.grad(lambda a, b: a * a, argnums=1)(mg.tensor(1.0), mg.tensor(2.0)).item() == 0.0
    assert mg.grad(lambda a: mg.tensor(3.0))(mg.tensor(1.0)).item() == 0.0


def test_nested_grad_over_a_closed_over_variable_is_not_confused():
    # d/dx [x * d/dy (x y^2 at y=x)] = d/dx [x * 2 x^2] = 6 x^2
    def outer(x):
        return x * mg.grad(lambda y: x * y * y)(x)

    assert mg.grad(outer)(mg.tensor(np.array(3.0))).item() == pytest.approx(54.0, rel=1e-15)

    # the textbook case: d/dx (x * d/dy (x + y)) = 1
    confused = mg.grad(lambda x: x * mg.grad(lambda y: x + y)(mg.tensor(np.array(1.0))))
    assert confused(mg.tensor(np.array(5.0))).item() == 1.0


def test_nested_transforms_keep_the_sign_of_zero():
    zero = mg.tensor(-0.0, requires_grad=True)

    def branch(t):  # arctan2 is -pi at -0, and pi at 0
        return mg.arctan2(t, mg.tensor(-1.0)) ** 3

    (first,) = mg.autograd.grad(branch(zero), zero, create_graph=True)
    (second,) = mg.autograd.grad(first, zero)
    assert second.item() < -18
    x, one = mg.tensor(-0.0), mg.tensor(1.0)
    for found in (mg.grad(mg.grad(branch))(x), mg.hessian(branch)(x), mg.hvp(branch, x, one)):
        assert found.item() == second.item()
    assert mg.value_and_grad(branch)(zero)[0].item() == branch(x).item()
    assert mg.vjp(branch, zero)[0].item() == branch(x).item()


def test_grad_of_a_function_that_is_not_scalar_says_what_it_returned():
    with pytest.raises(ShapeError, match=r"shape \(2,\)"):
        mg.grad(lambda x: x * x)(mg.tensor([1.0, 2.0]))
    with pytest.raises(ShapeError, match="float"):
        mg.grad(lambda x: 3.0)(mg.tensor(1.0))


A = np.array([[1.0, 2.0, 0.5], [0.3, -1.0, 2.0]])


def curved(x):
    return mg.tanh(mg.tensor(A) @ x) * x[0]


def curved_jacobian(x):
    t = np.tanh(A @ x)
    return (1 - t**2)[:, None] * A * x[0] + t[:, None] * np.eye(3)[0]


def test_jacobian_vjp_and_jvp_agree_with_the_formula():
    x = np.array([0.3, -0.2, 0.9])
    J = curved_jacobian(x)
    v, t = np.array([0.7, -1.1]), np.array([1.0, 2.0, -3.0])
    np.testing.assert_allclose(mg.jacobian(curved)(mg.tensor(x)).numpy(), J, rtol=1e-13)
    y, pull_back = mg.vjp(curved, mg.tensor(x))
    for _ in range(2):
        np.testing.assert_allclose(pull_back(mg.tensor(v))[0].numpy(), v @ J, rtol=1e-13)
    value, tangent = mg.jvp(curved, (mg.tensor(x),), (mg.tensor(t),))
    np.testing.assert_array_equal(value.numpy(), y.numpy())
    np.testing.assert_allclose(tangent.numpy(), J @ t, rtol=1e-13)
    assert not tangent.requires_grad


def test_a_jacobian_has_the_dtype_of_the_point_an_empty_one_too():
    x = mg.tensor([1.0, 2.0])
    for rows in (slice(1), slice(0)):
        J = mg.jacobian(lambda t, rows=rows: (t * t).to("float64")[rows])(x)
        assert J.dtype == np.float32 and J.shape == (len([0, 1][rows]), 2)


def test_jvp_of_several_inputs_and_of_a_constant():
    a, b = mg.tensor(np.array([2.0, 3.0])), mg.tensor(np.array([5.0, 7.0]))
    ones = mg.tensor(np.ones(2))
    np.testing.assert_array_equal(mg.jvp(lambda a, b: a * b, (a, b), (ones, ones))[1].numpy(), [7.0, 10.0])
    np.testing.assert_array_equal(mg.jvp(lambda a: b, (a,), (ones,))[1].numpy(), [0.0, 0.0])
    with pytest.raises(ShapeError, match=r"\(3,\)"):
        mg.jvp(lambda a: a, (a,), (mg.tensor(np.ones(3)),))


def test_hessian_and_hvp_of_a_quartic():
    x, v = np.array([1.0, -2.0]), np.array([0.5, 3.0])
    f = lambda x: (x[0] ** 2 * x[1] ** 2).sum()  # noqa: E731
    H = np.array([[2 * x[1] ** 2, 4 * x[0] * x[1]], [4 * x[0] * x[1], 2 * x[0] ** 2]])
    np.testing.assert_allclose(mg.hessian(f)(mg.tensor(x)).numpy(), H, rtol=1e-13)
    np.testing.assert_allclose(mg.hvp(f, mg.tensor(x), mg.tensor(v)).numpy(), H @ v, rtol=1e-13)


def test_transforms_differentiate_through_each_other():
    x = mg.tensor(np.array([0.3, -0.2, 0.9]))
    norm = lambda x: (mg.jacobian(curved)(x) ** 2).sum()  # noqa: E731
    steps = np.eye(3) * 1e-6
    expected = [
        (np.sum(curved_jacobian(x.numpy() + e) ** 2) - np.sum(curved_jacobian(x.numpy() - e) ** 2)) / 2e-6
        for e in steps
    ]
    np.testing.assert_allclose(mg.grad(norm)(x).numpy(), expected, rtol=1e-7)
    along = lambda x: (mg.jvp(curved, (x,), (x,))[1]).sum()  # noqa: E731
    expected = [
        ((curved_jacobian(x.numpy() + e) @ (x.numpy() + e)).sum()
         - (curved_jacobian(x.numpy() - e) @ (x.numpy() - e)).sum()) / 2e-6
        for e in steps
    ]  # fmt: skip
    np.testing.assert_allclose(mg.grad(along)(x).numpy(), expected, rtol=1e-7)


@pytest.mark.parametrize("transform", [mg.grad, mg.jacobian, mg.hessian])
def test_integers_have_no_gradient(transform):
    with pytest.raises(DTypeError, match="only real floating tensors"):
        transform(lambda x: x.sum())(mg.tensor([1, 2]))


def test_complex_numbers_have_values_and_no_gradients():
    """Rules do not conjugate: they would be wrong for all that is not analytic, such as a modulus."""
    z = mg.tensor(np.array([1 + 2j, 3 - 1j]))
    x = mg.tensor([0.5, 2.0], dtype="float64", requires_grad=True)
    with pytest.raises(DTypeError, match="only real floating tensors have gradients, got complex128"):
        mg.Parameter(np.array([1j]))
    with pytest.raises(DTypeError, match="only real floating tensors have gradients, got complex128"):
        mg.grad(lambda z: mg.sum(mg.abs(z)))(z)
    for f in (lambda: x * z, lambda: z / x, lambda: x.to("complex128"), lambda: mg.where(x > 1.0, z, x)):
        with pytest.raises(DTypeError, match="complex numbers that require grad"):
            f()
        with mg.no_grad():
            assert f().dtype == np.complex128
    assert mg.abs(z * x.detach()).numpy().tolist() == np.abs(z.numpy() * x.numpy()).tolist()


def test_an_input_given_twice_has_two_gradients():
    p = mg.Parameter([1.0, 2.0])
    for _ in range(2):  # the gradient of a leaf, and of a result
        x = p * 1.0
        for given in (p, x):
            a, b = mg.autograd.grad((x * x).sum(), [given, given], retain_graph=True)
            a.assign(0.0)
            np.testing.assert_array_equal(b.numpy(), [2.0, 4.0])
    a, b = mg.grad(lambda x: (x * x).sum(), argnums=(0, -1))(p.detach())
    a.assign(0.0)
    np.testing.assert_array_equal(b.numpy(), [2.0, 4.0])


def interrupted(run):
    """Call `run` again and again, each time interrupted as one more function is entered; yield after each time."""
    at = 0
    while True:
        at += 1
        remaining = at

        def interrupt(frame, event, argument):
            nonlocal remaining
            remaining -= 1
            if remaining == 0:
                raise KeyboardInterrupt

        before = sys.gettrace()
        sys.settrace(interrupt)
        try:
            run()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        if remaining > 0:
            assert at > 5
            return
        yield


# what interrupts a callback of the garbage collection goes no further
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "run",
    [
        lambda y, x: y.backward(retain_graph=True),
        lambda y, x: y.backward(retain_graph=True, create_graph=True),
        lambda y, x: mg.autograd.grad(y, x, retain_graph=True),
        lambda y, x: mg.no_grad()(lambda: x * 2.0)(),
        lambda y, x: mg.random.Generator(0).uniform((2,)),
        lambda y, x: mg.record(lambda x: x * 2.0)(x.detach()),
    ],
    ids=["backward", "create_graph", "grad", "decorated", "draw", "record"],
)
def test_an_interrupt_leaves_no_mode_behind(run):
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = mg.exp(x).sum()
    state = mg.modes.state
    for _ in interrupted(lambda: run(y, x)):
        left = state.grad_enabled, state.recording, state.observer
        state.grad_enabled, state.recording, state.observer = True, False, None  # for the tests that follow
        assert left == (True, False, None)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: mg.vjp(lambda t: (t, t), x), "vjp needs a function that returns one tensor, got tuple"),
        (lambda x: mg.jacobian(lambda t: 1.0)(x), "jacobian needs a function that returns one tensor, got float"),
        (lambda x: mg.jvp(lambda t: [t], (x,), (x,)), "jvp needs a function that returns one tensor, got list"),
        (lambda x: mg.jvp(lambda a, b: a * b, x, (x, x)), r"as tuples, mg\.jvp.* got xs of type Tensor"),
        (lambda x: mg.jvp(lambda a, b: a * b, (x, x), x), r"as tuples, mg\.jvp.* got ts of type Tensor"),
        (lambda x: mg.grad(mg.sum, argnums=1.5), r"grad got argnums=1\.5; expected an integer"),
        (lambda x: mg.grad(mg.sum, argnums=(0, "x")), "grad got argnums=.*; expected an integer"),
    ],
)
def test_slips_are_named(call, words):
    with pytest.raises(DTypeError, match=words):
        call(mg.tensor([1.0, 2.0]))


def test_argnums_may_be_integers_of_numpy():
    f = lambda a, b: a * a * b  # noqa: E731
    x, y = mg.tensor(2.0), mg.tensor(3.0)
    assert mg.grad(f, argnums=np.int64(1))(x, y).item() == 4.0
    assert [g.item() for g in mg.grad(f, argnums=(np.int64(1), 0))(x, y)] == [4.0, 12.0]
