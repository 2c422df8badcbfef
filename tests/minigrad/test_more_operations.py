"""Trigonometry, special functions, further reductions, moving and choosing values, activations and losses."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DataError, DTypeError, ShapeError

# The four-point difference has an error of h^4 f''''' / 30 and one of rounding / h, both below 1e-11 here.
STEP = 1e-3


def difference(f, x, v):
    """Return the derivative of f at x along v."""
    near = f(x + STEP * v) - f(x - STEP * v)
    far = f(x + 2 * STEP * v) - f(x - 2 * STEP * v)
    return (8 * near - far) / (12 * STEP)


def gradient(f, x, weights, create_graph=False):
    """Return x as a leaf and the gradient of sum(weights * f(x)) there; None where f has none."""
    leaf = mg.tensor(x, requires_grad=True)
    loss = (f(leaf) * mg.tensor(weights)).sum()
    if not loss.requires_grad:
        return leaf, None
    return leaf, mg.autograd.grad(loss, leaf, create_graph=create_graph)[0]


def assert_derivatives(f, x, seed=0):
    """Compare the first and second derivative of f at x with differences, and both ways to run a rule."""
    x = np.asarray(x, dtype=np.float64)
    random = np.random.default_rng(seed)
    y = f(mg.tensor(x))
    weights = random.normal(size=y.shape)
    leaf, recorded = gradient(f, x, weights, create_graph=True)
    plain = gradient(f, x, weights)[1]
    assert plain.shape == x.shape and plain.dtype == x.dtype
    np.testing.assert_allclose(plain.numpy(), recorded.numpy(), rtol=1e-13, atol=1e-13)
    for _ in range(3):
        v = random.normal(size=x.shape)
        numeric = difference(lambda z: np.sum(weights * f(mg.tensor(z)).numpy()), x, v)
        np.testing.assert_allclose(np.sum(plain.numpy() * v), numeric, rtol=1e-8, atol=1e-9)
        second = np.zeros(x.shape)
        if recorded.requires_grad:
            product = (recorded * mg.tensor(v)).sum()
            found = mg.autograd.grad(product, leaf, retain_graph=True, allow_unused=True)[0]
            second = second if found is None else found.numpy()
        numeric = difference(lambda z: gradient(f, z, weights)[1].numpy(), x, v)
        np.testing.assert_allclose(second, numeric, rtol=1e-8, atol=1e-8)


def assert_keeps_float32(f, x):
    """A float32 input gives a float32 result and a float32 gradient."""
    leaf = mg.tensor(np.asarray(x, dtype=np.float32), requires_grad=True)
    y = f(leaf)
    assert y.dtype == np.float32
    y.sum().backward()
    assert leaf.grad.dtype == np.float32
    np.testing.assert_allclose(y.numpy(), f(mg.tensor(np.asarray(x, np.float64))).numpy(), rtol=2e-5, atol=2e-6)


SHAPES = [(), (1,), (3,), (0,), (2, 3), (2, 0), (2, 1, 3)]


def values(shape, low=-2.0, high=2.0, seed=1):
    return np.random.default_rng(seed).uniform(low, high, shape)


def distinct(shape, seed=1):
    """Return values at least 0.4 apart, so that a difference quotient never crosses a tie."""
    size = math.prod(shape)
    return (np.random.default_rng(seed).permutation(size) * 0.5 - size * 0.25 + 0.1).reshape(shape)


# Elementwise


ERF = np.vectorize(math.erf, otypes=[np.float64])

ONE_INPUT = {
    "sin": (np.sin, -3, 3),
    "cos": (np.cos, -3, 3),
    "tan": (np.tan, -1, 1),
    "arcsin": (np.arcsin, -0.8, 0.8),
    "arccos": (np.arccos, -0.8, 0.8),
    "arctan": (np.arctan, -3, 3),
    "sinh": (np.sinh, -2, 2),
    "cosh": (np.cosh, -2, 2),
    "arcsinh": (np.arcsinh, -3, 3),
    "arccosh": (np.arccosh, 1.5, 4),
    "arctanh": (np.arctanh, -0.8, 0.8),
    "log2": (np.log2, 0.5, 4),
    "log10": (np.log10, 0.5, 4),
    "exp2": (np.exp2, -2, 2),
    "reciprocal": (np.reciprocal, 0.5, 3),
    "erf": (ERF, -3, 3),
    "gelu": (lambda x: x * (1 + ERF(x / math.sqrt(2))) / 2, -3, 3),
    "silu": (lambda x: x / (1 + np.exp(-x)), -3, 3),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ONE_INPUT)
def test_elementwise_function(name, shape):
    reference, low, high = ONE_INPUT[name]
    f, x = getattr(mg, name), values(shape, low, high)
    np.testing.assert_allclose(f(mg.tensor(x)).numpy(), reference(x), rtol=1e-13, atol=1e-15)
    assert_derivatives(f, x)
    assert_keeps_float32(f, x)


TWO_INPUTS = {"arctan2": np.arctan2, "hypot": np.hypot, "logaddexp": np.logaddexp}


@pytest.mark.parametrize("shapes", [((), ()), ((3,), (3,)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((0, 1), (3,))], ids=str)
@pytest.mark.parametrize("name", TWO_INPUTS)
def test_function_of_two_inputs_that_broadcast(name, shapes):
    f = getattr(mg, name)
    a, b = values(shapes[0], 0.5, 2, seed=2), values(shapes[1], -2, 2, seed=3)
    np.testing.assert_allclose(f(mg.tensor(a), mg.tensor(b)).numpy(), TWO_INPUTS[name](a, b), rtol=1e-14)
    assert_derivatives(lambda x: f(x, mg.tensor(b)), a)
    assert_derivatives(lambda x: f(mg.tensor(a), x), b)
    assert_derivatives(lambda x: f(x, x * x), a)
    assert_derivatives(lambda x: f(x, 0.5), a)
    assert_derivatives(lambda x: f(0.5, x), b)
    assert_keeps_float32(lambda x: f(x, 0.5), a)


def test_erf_is_accurate_to_the_last_bits_and_at_its_ends():
    x = np.concatenate([np.linspace(-7, 7, 20_001), np.geomspace(1e-300, 1, 500), [0.46875, -0.46875, 6.0]])
    np.testing.assert_allclose(mg.erf(mg.tensor(x)).numpy(), ERF(x), rtol=6e-16, atol=0)
    ends = mg.erf(mg.tensor([np.inf, -np.inf, np.nan, 0.0, 1e30])).numpy()
    np.testing.assert_array_equal(ends, [1, -1, np.nan, 0, 1])


def test_erf_of_other_dtypes():
    assert mg.erf(mg.tensor([1, 2])).dtype == np.float32
    half = mg.erf(mg.tensor(np.array([0.3, 5.0], np.float16)))
    assert half.dtype == np.float16
    np.testing.assert_allclose(half.numpy(), ERF(np.array([0.3, 5.0])), rtol=1e-3)
    step = mg.primitives["erf"].forward(np, np.array([0.3 + 1e-30j, -2.0 + 1e-30j])).imag / 1e-30
    np.testing.assert_allclose(step, 2 / math.sqrt(math.pi) * np.exp([-0.09, -4.0]), rtol=1e-13)


@pytest.mark.parametrize("name", ["arctan2", "hypot"])
def test_derivative_at_the_origin_is_0(name):
    a, b = (mg.tensor(0.0, requires_grad=True) for _ in range(2))
    getattr(mg, name)(a, b).backward()
    assert (a.grad.item(), b.grad.item()) == (0.0, 0.0)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_derivatives_of_angles_where_squares_leave_float32(size):
    a, b = (mg.tensor(size, requires_grad=True) for _ in range(2))
    (mg.arctan2(a, b) * size).backward()
    assert (a.grad.item(), b.grad.item()) == pytest.approx((0.5, -0.5), rel=1e-6)
    for f, expected in ((mg.arctan, size / (1 + size**2)), (mg.arcsinh, size / math.sqrt(1 + size**2))):
        x = mg.tensor(size, requires_grad=True)
        (f(x) * size).backward()
        assert x.grad.item() == pytest.approx(expected, rel=1e-6)


def test_logaddexp_at_ties_and_infinities():
    a = mg.tensor([1.0, np.inf, -np.inf, np.inf, -np.inf, 1000.0], requires_grad=True)
    b = mg.tensor([1.0, np.inf, -np.inf, 0.0, 0.0, -1000.0], requires_grad=True)
    mg.logaddexp(a, b).backward(np.ones(6, np.float32))
    np.testing.assert_array_equal(a.grad.numpy(), [0.5, 0.5, 0.5, 1.0, 0.0, 1.0])
    np.testing.assert_array_equal(b.grad.numpy(), [0.5, 0.5, 0.5, 0.0, 1.0, 0.0])
    assert_derivatives(
        lambda x: mg.logaddexp(x, np.array([0.5, 1.0])), [0.5, 1.0]
    )  # the curvature at a tie is 1/4, not 0


@pytest.mark.parametrize("name", ["floor", "ceil", "round"])
def test_rounding_has_derivative_0(name):
    x = np.array([-1.7, -0.5, 0.0, 0.3, 2.5])
    leaf = mg.tensor(x, requires_grad=True)
    y = getattr(mg, name)(leaf)
    np.testing.assert_array_equal(y.numpy(), getattr(np, name)(x))
    (y * leaf).sum().backward()
    np.testing.assert_array_equal(leaf.grad.numpy(), y.numpy())  # from the second factor alone
    np.testing.assert_array_equal(mg.round(mg.tensor([1.26]), decimals=1).numpy(), np.float32([1.3]))


def test_nan_to_num_replaces_values_and_stops_their_gradients():
    x = np.array([np.nan, 1.0, np.inf, -np.inf])
    for given in ({}, {"nan": 3.0, "posinf": 4.0, "neginf": 5.0}):
        leaf = mg.tensor(x, requires_grad=True)
        y = mg.nan_to_num(leaf, **given)
        np.testing.assert_array_equal(y.numpy(), np.nan_to_num(x, **given))
        y.sum().backward()
        np.testing.assert_array_equal(leaf.grad.numpy(), [0, 1, 0, 0])
    small = mg.nan_to_num(mg.tensor(np.float32(x)))
    assert small.dtype == np.float32
    np.testing.assert_array_equal(small.numpy(), np.nan_to_num(np.float32(x)))
    np.testing.assert_array_equal(mg.nan_to_num(mg.tensor([1, 2])).numpy(), [1, 2])


def test_tests_of_values():
    x = np.array([np.nan, 1.0, np.inf, -np.inf, 0.0])
    np.testing.assert_array_equal(mg.isnan(mg.tensor(x)).numpy(), np.isnan(x))
    np.testing.assert_array_equal(mg.isinf(mg.tensor(x)).numpy(), np.isinf(x))
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    np.testing.assert_array_equal(mg.logical_or(mg.tensor(a), mg.tensor(b)).numpy(), a | b)
    assert not mg.isnan(mg.tensor(x, requires_grad=True)).requires_grad


def test_activations_at_their_kinks_and_far_out():
    x = mg.tensor([-1000.0, -1.0, 0.0, 1000.0], requires_grad=True)
    mg.elu(x, alpha=0.5).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [0, 0.5 / math.e, 0.5, 1], rtol=1e-6)
    assert_derivatives(lambda t: mg.elu(t, 0.7), [-2.0, -0.5, 0.5, 2.0])
    assert_derivatives(lambda t: mg.gelu(t, "tanh"), values((5,)))
    reference = [t * (1 + math.tanh(math.sqrt(2 / math.pi) * (t + 0.044715 * t**3))) / 2 for t in (-1.0, 0.5)]
    np.testing.assert_allclose(mg.gelu(mg.tensor(np.array([-1.0, 0.5])), "tanh").numpy(), reference, rtol=1e-14)
    for f in (mg.gelu, mg.silu):
        far = mg.tensor([-1000.0, 1000.0], requires_grad=True)
        y = f(far)
        y.sum().backward()
        np.testing.assert_array_equal(y.numpy(), [0, 1000])
        np.testing.assert_array_equal(far.grad.numpy(), [0, 1])
    with pytest.raises(ShapeError, match="none"):
        mg.gelu(x, "sigmoid")


def test_the_tanh_form_of_gelu_where_the_cube_of_x_overflows():
    for dtype, size in (("float16", 300.0), ("float32", 1e20), ("float64", 1e200)):
        x = mg.tensor(np.array([-size, -10.0, 10.0, size]), dtype, requires_grad=True)
        y = mg.gelu(x, "tanh")
        y.sum().backward()
        np.testing.assert_array_equal(y.numpy(), np.array([0, 0, 10, size], dtype))
        np.testing.assert_array_equal(x.grad.numpy(), [0, 0, 1, 1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_derivative_of_expm1_is_relatively_exact_far_below_0(dtype):
    x = np.array([-80.0, -17.0, -1.0, -1e-3, 0.0, 3.0], dtype)
    for f in (mg.expm1, mg.elu):
        derivative = mg.grad(lambda t, f=f: f(t).sum())(mg.tensor(x)).numpy()
        expected = np.exp(x) if f is mg.expm1 else np.exp(np.minimum(x, 0.0))
        # e^x is rounded once or twice; y + 1 would be 6e-8 at -17 in float32, which is 40% too much
        np.testing.assert_allclose(derivative, expected, rtol=2 * np.finfo(dtype).eps)


# Reductions

AXES = [
    ((), None), ((), ()), ((3,), None), ((3,), 0), ((3,), ()), ((2, 3), None), ((2, 3), 0), ((2, 3), -1),
    ((2, 3), (0, 1)), ((2, 1, 4), (0, 2)), ((2, 1, 4), (-1, 0)), ((2, 5), 1),
]  # fmt: skip
REDUCTIONS = {
    "prod": (mg.prod, np.prod),
    "var": (mg.var, np.var),
    "std": (mg.std, np.std),
    "norm": (mg.norm, lambda x, axis, keepdims: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))),
    "norm1": (
        lambda x, axis, keepdims: mg.norm(x, axis, keepdims, ord=1),
        lambda x, axis, keepdims: np.sum(np.abs(x), axis=axis, keepdims=keepdims),
    ),
    "norminf": (
        lambda x, axis, keepdims: mg.norm(x, axis, keepdims, ord=math.inf),
        lambda x, axis, keepdims: np.max(np.abs(x), axis=axis, keepdims=keepdims),
    ),
}


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape, axis", AXES, ids=str)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduction(name, shape, axis, keepdims):
    f, reference = REDUCTIONS[name]
    x = distinct(shape) * 0.5 + 0.01
    expected = reference(x, axis=axis, keepdims=keepdims)
    y = f(mg.tensor(x), axis=axis, keepdims=keepdims)
    assert y.shape == np.shape(expected)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-13, atol=1e-15)
    one_value = name in ("var", "std") and (axis == () or not shape)
    if not one_value:  # var and std of a single value do not vary: 0, with derivative 0 (std has a kink there)
        assert_derivatives(lambda t: f(t, axis=axis, keepdims=keepdims), x)
    assert_keeps_float32(lambda t: f(t, axis=axis, keepdims=keepdims), x)


def test_prod_with_zeros_has_the_right_gradient_and_a_finite_hessian():
    np.testing.assert_array_equal(mg.grad(mg.prod)(mg.tensor([0.0, 2.0, 3.0])).numpy(), [6, 0, 0])
    np.testing.assert_array_equal(mg.grad(mg.prod)(mg.tensor([0.0, 2.0, 0.0])).numpy(), [0, 0, 0])
    np.testing.assert_array_equal(
        mg.hessian(mg.prod)(mg.tensor([0.0, 2.0, 0.0])).numpy(), [[0, 0, 2], [0, 0, 0], [2, 0, 0]]
    )
    assert_derivatives(mg.prod, [0.0, 0.0, 1.0, 2.0, 0.5])
    assert_derivatives(lambda x: mg.prod(x, axis=1), [[0.0, 2.0, 3.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("shape, axis", [((0,), None), ((0, 3), 0), ((3, 0), 0), ((0, 3), (0, 1))], ids=str)
def test_reductions_of_nothing(shape, axis):
    x = np.zeros(shape)
    for f, reference in ((mg.prod, np.prod), (mg.norm, np.sum), (mg.any, np.any), (mg.all, np.all)):
        leaf = mg.tensor(x, requires_grad=True)
        y = f(leaf, axis=axis)
        expected = reference(x, axis=axis)
        assert y.shape == np.shape(expected)
        np.testing.assert_array_equal(y.numpy(), expected)
        if y.requires_grad:
            y.sum().backward()
            assert leaf.grad.shape == shape


def test_prod_of_integers_and_bools_is_as_wide_as_numpys():
    for x in (np.array([100, 100, 100], np.int8), np.array([True, True]), np.array([200, 200], np.uint8)):
        for f, reference in ((mg.prod, np.prod), (mg.cumprod, np.cumprod)):
            y = f(mg.tensor(x))
            np.testing.assert_array_equal(y.numpy(), reference(x))
            assert y.dtype.itemsize == 8 and y.dtype.kind == reference(x).dtype.kind


def test_norm_and_std_have_derivative_0_where_they_are_0():
    x = mg.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    mg.norm(x, axis=1).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [[0, 0], [0.6, 0.8]], rtol=1e-6)
    assert np.isfinite(mg.hessian(mg.norm)(mg.tensor([0.0, 0.0])).numpy()).all()
    np.testing.assert_array_equal(mg.grad(mg.std)(mg.tensor([2.0, 2.0, 2.0])).numpy(), [0, 0, 0])
    assert mg.std(mg.tensor(5.0)).item() == 0.0
    with pytest.raises(ShapeError, match="ord"):
        mg.norm(x, ord=3)


def test_squares_of_float16_have_room():
    x = mg.tensor(np.array([300.0, 400.0], "float16"), requires_grad=True)
    y = mg.norm(x)
    y.backward()
    assert (y.dtype, y.item(), x.grad.dtype) == (np.float16, 500.0, np.float16)
    np.testing.assert_array_equal(x.grad.numpy(), np.array([0.6, 0.8], "float16"))
    # deviations of 300, of which the mean square, 90,000, is no number of float16
    spread = mg.tensor(np.array([0.0, 600.0], "float16"), requires_grad=True)
    y = mg.std(spread)
    y.backward()
    assert (y.dtype, y.item()) == (np.float16, 300.0)
    np.testing.assert_array_equal(spread.grad.numpy(), [-0.5, 0.5])
    # a variance of 62,500 of squares whose sum, 125,000, is none
    y = mg.var(mg.tensor(np.array([0.0, 500.0], "float16")))
    assert (y.dtype, y.item()) == (np.float16, float(np.float16(62500.0)))


@pytest.mark.parametrize("name", ["var", "std"])
def test_correction(name):
    x = values((4, 3))
    f = getattr(mg, name)
    for axis in (None, 0, (0, 1)):
        expected = getattr(np, name)(x, axis=axis, ddof=1)
        np.testing.assert_allclose(f(mg.tensor(x), axis, correction=1).numpy(), expected, rtol=1e-14)
    assert_derivatives(lambda t: f(t, 0, correction=1), x)


RUNNING = [
    ((4,), None), ((4,), 0), ((3, 2), None), ((3, 5), -1), ((3, 2, 2), 1), ((0,), 0), ((2, 0), 0), ((2, 0), 1),
    ((), None), ((1,), 0),
]  # fmt: skip


@pytest.mark.parametrize("shape, axis", RUNNING, ids=str)
@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_running_sums_and_products(name, shape, axis):
    x = values(shape)
    f = getattr(mg, name)
    y = f(mg.tensor(x), axis=axis)
    np.testing.assert_allclose(y.numpy(), getattr(np, name)(x, axis=axis), rtol=1e-13)
    assert_derivatives(lambda t: f(t, axis=axis), x)
    assert_keeps_float32(lambda t: f(t, axis=axis), x)


def test_cumprod_with_zeros():
    assert_derivatives(mg.cumprod, [2.0, 0.0, 3.0, 0.0, 1.5])
    np.testing.assert_array_equal(
        mg.jacobian(mg.cumprod)(mg.tensor([0.0, 2.0, 3.0])).numpy(), [[1, 0, 0], [2, 0, 0], [6, 0, 0]]
    )


@pytest.mark.parametrize("shape, axis", [((4,), None), ((2, 3), 0), ((2, 3), -1), ((2, 3), None), ((), None)], ids=str)
def test_positions_of_extremes(shape, axis):
    x = np.round(values(shape))  # with ties
    for keepdims in (False, True):
        for name in ("argmax", "argmin"):
            expected = getattr(np, name)(x, axis=axis, keepdims=keepdims)
            found = getattr(mg, name)(mg.tensor(x, requires_grad=True), axis=axis, keepdims=keepdims)
            np.testing.assert_array_equal(found.numpy(), expected)
            assert found.shape == np.shape(expected) and not found.requires_grad


def test_any_and_all():
    x = np.array([[True, False, True], [False, False, True]])
    for axis in (None, 0, -1, (0, 1), ()):
        for keepdims in (False, True):
            for name in ("any", "all"):
                expected = getattr(np, name)(x, axis=axis, keepdims=keepdims)
                np.testing.assert_array_equal(getattr(mg, name)(mg.tensor(x), axis=axis, keepdims=keepdims), expected)


# Order and choice


SORTED = [((5,), -1), ((3, 4), 0), ((3, 4), 1), ((3, 4), None), ((0,), 0), ((2, 0), 0), ((1,), 0)]


@pytest.mark.parametrize("shape, axis", SORTED, ids=str)
@pytest.mark.parametrize("descending", [False, True])
def test_sort(shape, axis, descending):
    x = distinct(shape)
    expected = np.sort(x, axis=axis)
    expected = np.flip(expected, 0 if axis is None else axis) if descending else expected
    np.testing.assert_array_equal(mg.sort(mg.tensor(x), axis, descending).numpy(), expected)
    assert_derivatives(lambda t: mg.sort(t, axis, descending), x)
    assert_keeps_float32(lambda t: mg.sort(t, axis, descending), x)


def test_equal_values_keep_their_order():
    x = mg.tensor([2.0, 1.0, 2.0, 1.0], requires_grad=True)
    np.testing.assert_array_equal(mg.argsort(x).numpy(), [1, 3, 0, 2])
    np.testing.assert_array_equal(mg.argsort(x, descending=True).numpy(), [0, 2, 1, 3])
    (mg.sort(x) * mg.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 1, 4, 2])
    nan = mg.tensor([np.nan, 1.0, 2.0])
    np.testing.assert_array_equal(mg.argsort(nan).numpy(), [1, 2, 0])
    np.testing.assert_array_equal(mg.argsort(nan, descending=True).numpy(), [0, 2, 1])


@pytest.mark.parametrize("k", [0, 1, 3])
def test_topk(k):
    x = distinct((3, 4))
    for axis in (0, -1):
        largest, places = mg.topk(mg.tensor(x), k, axis)
        expected = np.take(np.flip(np.sort(x, axis), axis), range(k), axis)
        np.testing.assert_array_equal(largest.numpy(), expected)
        np.testing.assert_array_equal(np.take_along_axis(x, places.numpy(), axis), expected)
        smallest = mg.topk(mg.tensor(x), k, axis, largest=False)[0]
        np.testing.assert_array_equal(smallest.numpy(), np.take(np.sort(x, axis), range(k), axis))
        assert_derivatives(lambda t, axis=axis: mg.topk(t, k, axis)[0], x)
    with pytest.raises(ShapeError, match="k=5"):
        mg.topk(mg.tensor(x), 5)


def test_take_along_axis_repeats_broadcasts_and_flattens():
    x = values((2, 3))
    for indices, axis in (([[0, 0, 2, 0], [1, 1, -1, 1]], 1), ([[0, 1, 0]], 0), ([[2], [2]], -1), ([5, 0, 5], None)):
        expected = np.take_along_axis(x, np.array(indices), axis)
        np.testing.assert_array_equal(mg.take_along_axis(mg.tensor(x), indices, axis).numpy(), expected)
        assert_derivatives(lambda t, i=indices, a=axis: mg.take_along_axis(t, i, a), x)
    with pytest.raises(ShapeError, match="2 axes"):
        mg.take_along_axis(mg.tensor(x), [0, 1])
    with pytest.raises(DTypeError, match="float64"):
        mg.take_along_axis(mg.tensor(x), [[0.5]])


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_take_accumulates_the_gradients_of_repeated_positions(dtype):
    x = values((2, 3))
    for indices, axis in (([0, 0, 1], 0), ([[2, 2], [0, 2]], 1), ([4, 4, 0], None), (1, -1), ([], 0)):
        i = np.array(indices, dtype)
        np.testing.assert_array_equal(mg.take(mg.tensor(x), i, axis).numpy(), np.take(x, i, axis))
        assert_derivatives(lambda t, i=i, a=axis: mg.take(t, i, a), x)
    assert mg.take(mg.tensor(x), [], 0).shape == (0, 3)
    with pytest.raises(IndexError):
        mg.take(mg.tensor(x), [2], 0)


def test_one_hot():
    x = np.array([[2, 0], [1, 1]])
    rows = mg.one_hot(mg.tensor(x), 3)
    np.testing.assert_array_equal(rows.numpy(), np.eye(3, dtype=np.float32)[x])
    assert rows.dtype == np.float32 and mg.one_hot([0], 2, dtype="float64").dtype == np.float64
    assert mg.one_hot(np.zeros((0,), np.int64), 3).shape == (0, 3)
    np.testing.assert_array_equal(mg.one_hot(mg.tensor(1), 2).numpy(), [0, 1])
    with pytest.raises(DTypeError, match="integers"):
        mg.one_hot([0.5], 2)


# Moving values

MOVES = {
    "ravel": (mg.ravel, np.ravel),
    "moveaxis": (lambda x: mg.moveaxis(x, (0, 2), (-1, 0)), lambda x: np.moveaxis(x, (0, 2), (-1, 0))),
    "moveaxis1": (lambda x: mg.moveaxis(x, 1, 2), lambda x: np.moveaxis(x, 1, 2)),
    "flip": (mg.flip, np.flip),
    "flip1": (lambda x: mg.flip(x, (0, -1)), lambda x: np.flip(x, (0, -1))),
    "roll": (lambda x: mg.roll(x, 5), lambda x: np.roll(x, 5)),
    "roll1": (lambda x: mg.roll(x, (1, -2), (0, 2)), lambda x: np.roll(x, (1, -2), (0, 2))),
    "tile": (lambda x: mg.tile(x, (2, 1, 3)), lambda x: np.tile(x, (2, 1, 3))),
    "tile4": (lambda x: mg.tile(x, (2, 1, 1, 2)), lambda x: np.tile(x, (2, 1, 1, 2))),
    "tile1": (lambda x: mg.tile(x, 2), lambda x: np.tile(x, 2)),
    "tile0": (lambda x: mg.tile(x, 0), lambda x: np.tile(x, 0)),
    "repeat": (lambda x: mg.repeat(x, 2), lambda x: np.repeat(x, 2)),
    "repeat1": (lambda x: mg.repeat(x, 3, axis=1), lambda x: np.repeat(x, 3, axis=1)),
    "pad": (lambda x: mg.pad(x, 1), lambda x: np.pad(x, 1)),
    "pad1": (
        lambda x: mg.pad(x, ((0, 1), (2, 0), (1, 1)), value=2.5),
        lambda x: np.pad(x, ((0, 1), (2, 0), (1, 1)), constant_values=2.5),
    ),
    "diagonal": (mg.diagonal, np.diagonal),
    "diagonal1": (lambda x: mg.diagonal(x, 1, 2, 0), lambda x: np.diagonal(x, 1, 2, 0)),
    "diagonal2": (lambda x: mg.diagonal(x, -9), lambda x: np.diagonal(x, -9)),
    "trace": (lambda x: mg.trace(x, -1, -2, -1), lambda x: np.trace(x, -1, -2, -1)),
    "split": (lambda x: mg.split(x, [1, 3], axis=-1)[1], lambda x: np.split(x, [1, 3], axis=-1)[1]),
}


@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 1, 3), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("name", MOVES)
def test_moving_values(name, shape):
    f, reference = MOVES[name]
    x = values(shape)
    np.testing.assert_array_equal(f(mg.tensor(x)).numpy(), reference(x))
    assert_derivatives(f, x)
    assert_keeps_float32(f, x)


@pytest.mark.parametrize("f", [mg.ravel, mg.flip, lambda x: mg.roll(x, 2), lambda x: mg.tile(x, 3),
                               lambda x: mg.repeat(x, 2), lambda x: mg.pad(x, 1)])  # fmt: skip
def test_moving_a_single_value(f):
    assert_derivatives(f, 1.5)


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric", "wrap"])
def test_pad_modes(mode):
    x = values((3, 4))
    for width in (2, (1, 3), ((0, 2), (5, 1))):
        np.testing.assert_array_equal(mg.pad(mg.tensor(x), width, mode).numpy(), np.pad(x, width, mode))
        assert_derivatives(lambda t, w=width: mg.pad(t, w, mode), x)


def test_repeat_by_counts_and_split_into_all_parts():
    x = values((3, 2))
    counts = [2, 0, 3]
    np.testing.assert_array_equal(mg.repeat(mg.tensor(x), counts, axis=0).numpy(), np.repeat(x, counts, axis=0))
    assert_derivatives(lambda t: mg.repeat(t, counts, axis=0), x)
    for part, expected in zip(mg.split(mg.tensor(x), 2, axis=1), np.split(x, 2, axis=1), strict=True):
        np.testing.assert_array_equal(part.numpy(), expected)
    assert mg.tril(mg.tensor([[True, True]])).dtype == np.bool_
    assert mg.triu(mg.tensor([[1, 2]])).dtype == np.int64


@pytest.mark.parametrize("call, message", [
    (lambda x: mg.moveaxis(x, 3, 0), "axis 3"),
    (lambda x: mg.moveaxis(x, (0, 0), (0, 1)), "repeats"),
    (lambda x: mg.moveaxis(x, (0, 1), 0), "as many"),
    (lambda x: mg.roll(x, (1, 2), 0), "shift"),
    (lambda x: mg.roll(x, (1, 2)), "one shift"),
    (lambda x: mg.repeat(x, [1], axis=1), "3 counts"),
    (lambda x: mg.pad(x, (1, 2, 3)), "pair"),
    (lambda x: mg.pad(x, -1), "fewer than 0"),
    (lambda x: mg.pad(x, 1, "mean"), "modes"),
    (lambda x: mg.split(x, 2, axis=1), "equal parts"),
    (lambda x: mg.tril(x[0]), "matrices"),
    (lambda x: mg.huber(x, delta=0.0), "delta"),
])  # fmt: skip
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ShapeError, match=message):
        call(mg.zeros((2, 3)))


# Softmax and losses


@pytest.mark.parametrize("axis", [0, -1, (0, 1), None], ids=str)
def test_softmax(axis):
    x = values((2, 4))
    expected = np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)
    np.testing.assert_allclose(mg.softmax(mg.tensor(x), axis).numpy(), expected, rtol=1e-14)
    np.testing.assert_allclose(mg.log_softmax(mg.tensor(x), axis).numpy(), np.log(expected), rtol=1e-14, atol=1e-15)
    for f in (mg.softmax, mg.log_softmax):
        assert_derivatives(lambda t, f=f: f(t, axis), x)
        assert_keeps_float32(lambda t, f=f: f(t, axis), x)


def test_a_row_with_nan_has_no_softmax():
    x = mg.tensor([[1.0, np.nan], [1.0, 1.0]])
    for f in (mg.softmax, mg.log_softmax):
        for y in (f(x), mg.compile(f)(x)):
            assert np.isnan(y.numpy()).tolist() == [[True, True], [False, False]]


def test_softmax_far_out():
    x = mg.tensor([[1000.0, 1000.0, -1000.0], [-np.inf, 0.0, 0.0], [-np.inf] * 3], requires_grad=True)
    y = mg.softmax(x)
    np.testing.assert_array_equal(y.numpy(), [[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 0]])
    (y * mg.tensor([1.0, 2.0, 3.0])).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[-0.25, 0.25, 0], [0, -0.25, 0.25], [0, 0, 0]])
    z = mg.tensor([[0.0, -1000.0], [-np.inf, 0.0]], requires_grad=True)
    log_p = mg.log_softmax(z)
    np.testing.assert_array_equal(log_p.numpy(), [[0, -1000], [-np.inf, 0]])
    log_p[:, 1].sum().backward()
    np.testing.assert_array_equal(z.grad.numpy(), [[-1, 1], [0, 0]])


def test_huber():
    x = np.array([-3.0, -0.4, 0.0, 0.3, 5.0])
    expected = np.where(np.abs(x) <= 0.7, x * x / 2, 0.7 * (np.abs(x) - 0.35))
    np.testing.assert_allclose(mg.huber(mg.tensor(x), 0.7).numpy(), expected, rtol=1e-14)
    assert_derivatives(lambda t: mg.huber(t, 0.7), x)
    assert_keeps_float32(lambda t: mg.huber(t, 0.7), x)
    at_the_bound = mg.tensor([-1.0, 1.0], requires_grad=True)
    mg.huber(at_the_bound).sum().backward()
    np.testing.assert_array_equal(at_the_bound.grad.numpy(), [-1, 1])


def test_cross_entropy():
    x = values((4, 3))
    classes = np.array([2, 0, 1, 2])
    log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    expected = -log_p[np.arange(4), classes].mean()
    assert mg.cross_entropy(mg.tensor(x), classes).item() == pytest.approx(expected, rel=1e-14)
    assert mg.cross_entropy(mg.tensor(x.T), classes, axis=0).item() == pytest.approx(expected, rel=1e-14)
    assert mg.cross_entropy(mg.tensor(x), np.eye(3)[classes]).item() == pytest.approx(expected, rel=1e-14)
    assert_derivatives(lambda t: mg.cross_entropy(t, classes), x)
    assert_derivatives(lambda t: mg.cross_entropy(mg.tensor(x), t), np.eye(3)[classes])
    assert_keeps_float32(lambda t: mg.cross_entropy(t, classes), x)
    with pytest.raises(ShapeError, match="probabilities of shape"):
        mg.cross_entropy(mg.tensor(x), np.zeros(3, np.int64))
    with pytest.raises(DTypeError, match="float64"):
        mg.cross_entropy(mg.tensor(x), np.zeros(4))


@pytest.mark.parametrize("axis", [1, 0])
@pytest.mark.parametrize("wrong", [-1, -100, 3, 255])
def test_cross_entropy_refuses_the_number_of_no_class(wrong, axis):
    scores = np.zeros((4, 3) if axis == 1 else (3, 4))
    targets = np.array([0, 2, wrong, 1], np.uint8 if wrong == 255 else np.int64)
    with pytest.raises(DataError, match=f"contain {wrong}, but logits have 3 classes; .* 0 to 2"):
        mg.cross_entropy(mg.tensor(scores), targets, axis=axis)
    recorded = mg.compile(lambda z, y: mg.cross_entropy(z, y, axis=axis))
    assert recorded(mg.tensor(scores), targets * 0).item() == pytest.approx(np.log(3))  # a program reads no values


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of a mean of nothing
def test_cross_entropy_of_no_sample_has_no_class_number_to_check():
    assert np.isnan(mg.cross_entropy(mg.tensor(np.zeros((0, 3))), np.zeros(0, np.int64)).item())


ONE, TWO = np.int64(1), np.int32(2)
MATRIX = mg.tensor([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (lambda x: mg.flip(x, ONE), lambda x: np.flip(x, 1)),
        (lambda x: mg.roll(x, ONE), lambda x: np.roll(x, 1)),
        (lambda x: mg.roll(x, ONE, ONE), lambda x: np.roll(x, 1, 1)),
        (lambda x: mg.roll(x, np.array([1, 1]), (0, ONE)), lambda x: np.roll(x, (1, 1), (0, 1))),
        (lambda x: mg.tile(x, TWO), lambda x: np.tile(x, 2)),
        (lambda x: mg.repeat(x, TWO, ONE), lambda x: np.repeat(x, 2, 1)),
        (lambda x: mg.stack(mg.split(x, TWO, ONE)), lambda x: np.stack(np.split(x, 2, 1))),
        (lambda x: mg.moveaxis(x, ONE, np.int8(0)), lambda x: np.moveaxis(x, 1, 0)),
        (lambda x: mg.prod(x, ONE), lambda x: np.prod(x, 1)),
        (lambda x: mg.diagonal(x, ONE), lambda x: np.diagonal(x, 1)),
        (lambda x: mg.sum(x, axis=ONE), lambda x: np.sum(x, 1)),
        (lambda x: mg.mean(x, axis=ONE), lambda x: np.mean(x, 1)),
        (lambda x: mg.max(x, axis=ONE), lambda x: np.max(x, 1)),
        (lambda x: mg.logsumexp(x, axis=ONE), lambda x: np.logaddexp.reduce(x, 1)),
    ],
)
def test_integers_of_numpy_are_integers(found, expected):
    x = values((2, 2))
    np.testing.assert_allclose(found(mg.tensor(x)).numpy(), expected(x), rtol=1e-14)
    assert_derivatives(found, x)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: mg.flip(MATRIX, 1.5), DTypeError, "flip got axis=1.5; expected an integer"),
        (lambda: mg.flip(MATRIX, "a"), DTypeError, "flip got axis='a'"),
        (lambda: mg.roll(MATRIX, 1.5), DTypeError, "roll got shift=1.5"),
        (lambda: mg.tile(MATRIX, (1.5,)), DTypeError, r"tile got repetitions=\(1.5,\)"),
        (lambda: mg.repeat(MATRIX, [1.5, 2], 0), DTypeError, r"repeat got repeats=\[1.5, 2\]"),
        (lambda: mg.repeat(MATRIX, [1, -1], 0), ShapeError, "fewer than 0 times"),
        (lambda: mg.split(MATRIX, 1.5), DTypeError, "split got sections=1.5"),
        (lambda: mg.split(MATRIX, [[1], [1, 2]]), DTypeError, "split got sections"),
        (lambda: mg.take(MATRIX, [0], 0.5), DTypeError, "take got axis=0.5"),
        (lambda: mg.topk(MATRIX, 1.5), DTypeError, "topk got k=1.5"),
        (lambda: mg.one_hot([1], 1.5), DTypeError, "one_hot got classes=1.5"),
        (lambda: mg.diagonal(mg.ones(3)), ShapeError, r"diagonal takes matrices.*got shape \(3,\)"),
        (
            lambda: mg.diagonal(MATRIX, 0, 1, -1),
            ShapeError,
            "two different axes, got axis1=1 and axis2=-1",
        ),
        (lambda: mg.diagonal(MATRIX, 0, 0, 2), ShapeError, "diagonal got axis 2"),
        (lambda: mg.diagonal(MATRIX, 0.5), DTypeError, "diagonal got offset=0.5"),
    ],
)
def test_what_is_no_integer_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
