"""Gradients that public libraries were seen to get wrong, case by case; for those of shapes see test_edge_shapes.py."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DTypeError, GraphError, ShapeError
from minigrad.testing import check_grad
from minigrad.testing.strategies import LAYOUTS, in_layout

RNG = np.random.default_rng(0)


def leaf(values, dtype="float64"):
    return mg.tensor(values, dtype=dtype, requires_grad=True)


def gradients(f, *leaves):
    f(*leaves).sum().backward()
    return [x.grad.numpy() for x in leaves]


# Ties and kinks


@pytest.mark.parametrize("op", [mg.maximum, mg.minimum])
def test_ties_are_split_in_half_and_both_halves_arrive(op):
    (g,) = gradients(lambda x: op(x, x), leaf([1.0, 2.0]))
    np.testing.assert_array_equal(g, [1.0, 1.0])
    a, b = gradients(op, leaf([1.0, 2.0]), leaf([1.0, 2.0]))
    np.testing.assert_array_equal([a, b], [[0.5, 0.5], [0.5, 0.5]])


@pytest.mark.parametrize("op", [mg.max, mg.min])
def test_ties_over_an_axis_are_split_evenly(op):
    (g,) = gradients(lambda x: op(x, axis=1), leaf([[2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 5.0, 5.0]]))
    losers_last = [0.0, 0.0, 0.5, 0.5] if op is mg.max else [0.5, 0.5, 0.0, 0.0]
    np.testing.assert_array_equal(g, [[0.25] * 4, losers_last])


def test_70000_ties_do_not_overflow_float16():
    x = leaf(np.ones(70_000), "float16")
    mg.max(x).backward(mg.tensor(1024.0, dtype="float16"))
    np.testing.assert_allclose(x.grad.numpy(), np.float16(1024 / 70_000))


def test_the_mean_of_more_numbers_than_float16_counts_has_a_gradient():
    x = mg.tensor(np.full(70_000, 100.0, np.float16))
    np.testing.assert_allclose(mg.grad(lambda x: mg.mean(mg.square(x)))(x).numpy(), 200 / 70_000, rtol=3e-3)
    logits = mg.tensor(np.zeros((70_000, 2), np.float16))
    g = mg.grad(mg.cross_entropy)(logits, mg.zeros(70_000, "int64")).numpy()
    np.testing.assert_allclose(g, np.tile([-0.5, 0.5], (70_000, 1)) / 70_000, rtol=2e-2)


def test_exponentials_of_float16_are_added_up_in_float32():
    x = leaf(np.zeros(70_000), "float16")
    expected = math.log(70_000)
    for f, value in ((mg.logsumexp, expected), (mg.softmax, 1 / 70_000), (mg.log_softmax, -expected)):
        y = f(x)
        assert y.dtype == "float16"
        np.testing.assert_allclose(y.numpy(), value, rtol=3e-3)
    np.testing.assert_allclose(gradients(mg.logsumexp, x), 1 / 70_000, rtol=5e-3)
    x.grad = None
    mg.log_softmax(x).backward(np.ones(70_000, np.float16))
    np.testing.assert_allclose(x.grad.numpy(), 0.0, atol=5e-3)


def test_conventions_at_kinks():
    cases = [
        (mg.relu, 0.0, 0.0),
        (mg.abs, 0.0, 0.0),
        (lambda x: mg.clip(x, -1.0, 1.0), 1.0, 1.0),
        (lambda x: mg.clip(x, -1.0, 1.0), -1.0, 1.0),
        (lambda x: mg.clip(x, -1.0, 1.0), 1.5, 0.0),
        (mg.sign, 0.0, 0.0),
    ]
    assert [gradients(f, leaf(x))[0] for f, x, _ in cases] == [expected for _, _, expected in cases]
    with np.errstate(divide="ignore"):
        assert gradients(mg.sqrt, leaf(0.0)) == [np.inf]


def test_powers_at_zero():
    np.testing.assert_array_equal(gradients(lambda x: x**2.0, leaf([0.0, 3.0])), [[0.0, 6.0]])
    np.testing.assert_array_equal(gradients(lambda x: x**0.0, leaf([0.0, 3.0])), [[0.0, 0.0]])
    np.testing.assert_array_equal(gradients(lambda x: x**1.0, leaf([0.0, 3.0])), [[1.0, 1.0]])
    a, b = gradients(mg.power, leaf([0.0, 0.0]), leaf([2.0, 1.0]))
    np.testing.assert_array_equal([a, b], [[0.0, 1.0], [0.0, 0.0]])
    np.testing.assert_array_equal(gradients(lambda x: x**3, leaf([-2.0])), [[12.0]])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("whole", ["int8", "uint8", "int64", "bool"])
def test_powers_with_integers_have_derivatives_of_every_order(dtype, whole):
    n = mg.tensor([0, 1, 1] if whole == "bool" else [0, 3, 2], dtype=whole)
    m, x = n.numpy().astype(float), np.array([2.0, -3.0, 0.5])
    t = mg.tensor(x, dtype=dtype)
    cases = [(lambda t: (t**n).sum(), m * x ** np.maximum(m - 1, 0), m * (m - 1) * x ** np.maximum(m - 2, 0), t)]
    x, log = np.abs(x), np.log(np.where(m == 0, 1, m))
    cases.append((lambda t: (n**t).sum(), m**x * log, m**x * log**2, mg.abs(t)))
    for f, first, second, t in cases:
        g = mg.grad(f)(t)
        assert g.dtype == dtype
        np.testing.assert_allclose(g.numpy(), first, rtol=2e-3)
        with mg.detect_anomaly():
            np.testing.assert_array_equal(mg.grad(f)(t).numpy(), g.numpy())
        np.testing.assert_allclose(mg.hessian(f)(t).numpy(), np.diag(second), rtol=4e-3)


def test_the_sign_of_a_negative_base_depends_on_whole_exponents():
    x = mg.tensor(-1.0, dtype="float16")
    assert mg.grad(lambda x: x ** mg.tensor(2050))(x).item() == -2050.0  # (-1)^2049, and float16 knows no 2049


def test_huber_at_infinity_has_the_slope_of_its_lines():
    x = leaf([-np.inf, -2.0, -1.0, 1e-9, 1.0, 2.0, np.inf])
    np.testing.assert_array_equal(gradients(mg.huber, x), [[-1.0, -1.0, -1.0, 1e-9, 1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(mg.huber(x).numpy(), [np.inf, 1.5, 0.5, 5e-19, 0.5, 1.5, np.inf])
    np.testing.assert_array_equal(mg.huber(x[1:-1], np.inf).numpy(), x.detach().numpy()[1:-1] ** 2 / 2)


# Indexing


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_repeated_indices_accumulate(dtype):
    i = np.array([0, 0, -2], dtype)
    (g,) = gradients(lambda a: a[i], leaf([1.0, 2.0]))
    np.testing.assert_array_equal(g, [3.0, 0.0])
    a, b = leaf([1.0, 2.0]), leaf([10.0, 20.0, 30.0])
    y = a.at[i].add(b)
    np.testing.assert_array_equal(y.detach().numpy(), [61.0, 2.0])
    y.backward(mg.tensor([5.0, 7.0], dtype="float64"))
    np.testing.assert_array_equal(a.grad.numpy(), [5.0, 7.0])
    np.testing.assert_array_equal(b.grad.numpy(), [5.0, 5.0, 5.0])
    check_grad(lambda a, b: mg.square(a.at[i].add(b)), np.ones(2), RNG.normal(size=3))


@pytest.mark.parametrize("index", [1, slice(None, None, -2), [2, 0], (Ellipsis, [True, False, True])])
def test_set_gives_b_its_gradient_and_a_zeros_there(index):
    upstream = np.array([1.0, 2.0, 3.0])
    a = leaf([4.0, 5.0, 6.0])
    b = leaf(np.ones(np.asarray(upstream)[index].shape))
    a.at[index].set(b).backward(mg.tensor(upstream))
    rest = upstream.copy()
    rest[index] = 0.0
    np.testing.assert_array_equal(a.grad.numpy(), rest)
    np.testing.assert_array_equal(b.grad.numpy(), upstream[index])


def test_where_set_repeats_an_index_each_value_gets_the_gradient_of_the_element():
    a, b = leaf([4.0, 5.0]), leaf([7.0, 7.0])
    a.at[[0, 0]].set(b).backward(mg.tensor([2.0, 3.0], dtype="float64"))
    np.testing.assert_array_equal(a.grad.numpy(), [0.0, 3.0])
    np.testing.assert_array_equal(b.grad.numpy(), [2.0, 2.0])


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_set_and_add_broadcast_their_value(shape):
    value = RNG.normal(size=shape)
    check_grad(lambda a, b: mg.square(a.at[0].set(b)), np.ones((2, 3)), value)
    check_grad(lambda a, b: mg.square(a.at[0].add(b)), np.ones((2, 3)), value)


@pytest.mark.parametrize("shape", [(1, 3), (1, 1, 3)])
def test_set_takes_a_value_with_more_axes(shape):
    """As in NumPy, axes of length 1 may stand in front."""
    check_grad(lambda a, b: mg.square(a.at[0].set(b)), np.ones((2, 3)), RNG.normal(size=shape))


# Broadcasting, scalars, dtypes


def test_scalar_tensors_keep_their_shape():
    c = mg.tensor([True, False, True])
    scalar, x = gradients(lambda s, x: mg.where(c, s, x), leaf(2.0), leaf([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(scalar, 2.0, strict=True)
    np.testing.assert_array_equal(x, [0.0, 1.0, 0.0])
    (g,) = gradients(lambda s: mg.clip(s, 0.0, 1.0), leaf(0.5))
    np.testing.assert_array_equal(g, 1.0, strict=True)
    s, x = gradients(lambda s, x: mg.minimum(mg.maximum(x, s), 2.0), leaf(0.5), leaf([0.0, 1.0, 3.0]))
    np.testing.assert_array_equal(s, 1.0, strict=True)
    np.testing.assert_array_equal(x, [0.0, 1.0, 0.0])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_small_floats_stay_small(dtype):
    x = leaf([[1.0, 2.0], [3.0, 5.0]], dtype)
    c = mg.tensor([True, False])
    functions = [
        mg.mean, mg.max, mg.logsumexp, mg.softplus, mg.sigmoid, mg.relu, mg.sum,
        lambda x: mg.where(c, x, 0.0), lambda x: x / 3, lambda x: x**2, lambda x: 2 - x, lambda x: x * np.float64(0.5),
        lambda x: mg.square(x - x.mean(axis=0)).mean(),
    ]  # fmt: skip
    for f in functions:
        y = f(x)
        assert y.dtype == dtype
        x.grad = None
        y.sum().backward()
        assert x.grad.dtype == dtype


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("dtype", ["int8", "uint8", "bool"])
@pytest.mark.parametrize("f", [
    mg.exp, mg.exp2, mg.expm1, mg.log1p, mg.sqrt, mg.sin, mg.cosh, mg.tanh, mg.arctan, mg.softplus, mg.gelu, mg.log,
    mg.logsumexp, mg.log_softmax, mg.norm, mg.std, lambda x: mg.norm(x, ord=np.inf), lambda x: mg.norm(x, ord=1),
    lambda x: mg.hypot(x, x), lambda x: mg.arctan2(x, x), lambda x: mg.logaddexp(x, x), lambda x: mg.hypot(x, 1),
])  # fmt: skip
def test_functions_of_small_integers_are_those_of_floats(f, dtype):
    x = mg.tensor(np.array([1, 12, 20, 100]).astype(dtype))
    y, expected = f(x), f(x.to("float32"))
    assert y.dtype == "float32"
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-6)


def test_unsigned_and_smallest_integers_have_magnitudes():
    assert mg.norm(mg.tensor([100_000, 100_000])).item() == pytest.approx(141_421.36)
    assert mg.norm(mg.tensor([-128], dtype="int8"), ord=np.inf).item() == 128.0
    x = mg.tensor([0, 3, 40_000], dtype="uint16")
    np.testing.assert_allclose(mg.softplus(x).numpy(), mg.softplus(x.to("float32")).numpy(), rtol=1e-6)


@pytest.mark.parametrize("matrix", [np.ones((2, 2), bool), np.array([[100, 70], [70, 100]], np.int8)])
def test_decompositions_of_bools_and_small_integers(matrix):
    np.testing.assert_allclose(mg.eigh(mg.tensor(matrix))[0].numpy(), np.linalg.eigvalsh(matrix * 1.0), atol=1e-5)
    positive = matrix | np.eye(2, dtype=matrix.dtype)
    if matrix.dtype == bool:
        positive = np.eye(2, dtype=bool)
    np.testing.assert_allclose(mg.cholesky(mg.tensor(positive)).numpy(), np.linalg.cholesky(positive * 1.0), rtol=1e-6)


@pytest.mark.parametrize("data", [1, [1, 2], True, np.arange(3)])
def test_integers_and_bools_cannot_require_grad(data):
    with pytest.raises(DTypeError, match="floating"):
        mg.tensor(data, requires_grad=True)


# The same thing twice, aliasing, mutation


def test_the_same_leaf_twice():
    np.testing.assert_array_equal(gradients(lambda a: a + a, leaf([3.0])), [[2.0]])
    np.testing.assert_array_equal(gradients(lambda a: a - a, leaf([3.0])), [[0.0]])
    np.testing.assert_array_equal(gradients(lambda a: a * a * a, leaf([3.0])), [[27.0]])
    np.testing.assert_array_equal(gradients(lambda a: a / a, leaf([3.0])), [[0.0]])
    check_grad(lambda a: a @ a, RNG.normal(size=(3, 3)))
    check_grad(lambda a: mg.concat([a, a * a, a]), RNG.normal(size=3))
    check_grad(lambda a: mg.stack([a, a]), RNG.normal(size=3))


PASS_THROUGH = {
    "add": lambda a, b: a + b,
    "add of views": lambda a, b: a.reshape(3, 2).T.reshape(6) + b.reshape(6),
    "sum_to": lambda a, b: mg.sum_to(a, (2, 3)) + mg.broadcast_to(b, (2, 3)),
    "concat": lambda a, b: mg.concat([a, b]),
    "stack": lambda a, b: mg.stack([a, b], axis=-1),
    "slices": lambda a, b: a[:, ::-1] + b[...],
}


@pytest.mark.parametrize("name", PASS_THROUGH)
@pytest.mark.parametrize("way", ["backward", "grad"])
def test_gradients_alias_nothing(name, way):
    a, b = leaf(np.ones((2, 3))), leaf(np.ones((2, 3)))
    y = PASS_THROUGH[name](a, b)
    upstream = mg.tensor(RNG.normal(size=y.shape))
    if way == "backward":
        y.backward(upstream)
        found = [a.grad, b.grad]
    else:
        found = list(mg.autograd.grad(y, [a, b], upstream))
    arrays = [t.numpy() for t in (*found, upstream, a.detach(), b.detach())]
    assert not any(np.shares_memory(p, q) for i, p in enumerate(arrays) for q in arrays[:i])


def test_gradients_without_a_graph_alias_nothing_with_create_graph_either():
    w, c = mg.Parameter([1.0, 2.0]), mg.Parameter([3.0, 4.0])
    direction = mg.tensor([1.0, 1.0])
    (w + c).backward(direction, create_graph=True)
    assert w.grad is not c.grad and w.grad is not direction
    w.grad.assign([5.0, 6.0])
    assert c.grad.numpy().tolist() == direction.numpy().tolist() == [1.0, 1.0]
    for g in mg.autograd.grad(w + c, [w, c, w], direction, create_graph=True):
        g.assign([7.0, 8.0])
        assert direction.numpy().tolist() == [1.0, 1.0]
    live = mg.tensor([1.0, 1.0], requires_grad=True)
    (g,) = mg.autograd.grad(w * 2.0, w, live, create_graph=True)
    g.sum().backward()  # one that has a graph keeps it
    assert live.grad.numpy().tolist() == [2.0, 2.0]


def test_accumulating_leaves_the_first_gradient_alone():
    x = leaf([1.0, 2.0])
    (x * 3.0).sum().backward()
    first = x.grad
    before = first.numpy().copy()
    (x * 4.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [7.0, 7.0])
    np.testing.assert_array_equal(first.numpy(), before)


def test_changing_the_source_array_has_no_effect():
    source = np.array([2.0, 3.0])
    x = mg.tensor(source, requires_grad=True)
    factor = np.array([5.0, 7.0])
    y = (x * x * factor).sum()
    source[...] = 0.0
    factor[...] = 0.0
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [20.0, 42.0])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [0, 1])
def test_layouts_of_inputs_and_upstream_gradients(layout, axis):
    """check_grad itself varies the layout of the upstream gradient."""
    a = in_layout(RNG.normal(size=(3, 3)), layout, axis)
    b = in_layout(RNG.normal(size=(3, 3)), layout, axis)
    check_grad(lambda a, b: mg.tanh(a @ b) * a + mg.exp(b).mean(axis=0) - a[[2, 0, 0]] / (1.0 + mg.square(b)), a, b)
    check_grad(lambda a, b: mg.concat([mg.reshape(a, (9,)), mg.reshape(b.mT, (9,))])[::-2], a, b)


# The engine


def test_a_chain_of_100000_operations():
    x = leaf(1.0)
    y = x
    for _ in range(50_000):
        y = -(y * 1.0)
    y.backward()
    assert x.grad.item() == 1.0


def test_doubling_200_times_visits_each_operation_once():
    x = leaf(1.0)
    y = x
    visits = []
    for _ in range(200):
        y = y + y
        y.register_hook(lambda g: visits.append(1))
    y.backward()
    assert x.grad.item() == 2.0**200
    assert len(visits) == 200


def test_two_losses_that_share_a_hidden_layer():
    x = leaf([1.0, 2.0])
    h = mg.exp(x)
    first, second = (h * 2.0).sum(), (h * h).sum()
    first.backward(retain_graph=True)
    second.backward()
    e = np.exp([1.0, 2.0])
    np.testing.assert_allclose(x.grad.numpy(), 2.0 * e + 2.0 * e * e, rtol=1e-14)
    h = mg.exp(x)
    first, second = (h * 2.0).sum(), (h * h).sum()
    first.backward()
    before = x.grad.numpy().copy()
    with pytest.raises(GraphError, match="retain_graph"):
        second.backward()
    np.testing.assert_array_equal(x.grad.numpy(), before)


def test_backward_of_a_non_scalar_names_the_shape():
    with pytest.raises(ShapeError, match=r"\(2, 3\)"):
        leaf(np.ones((2, 3))).__mul__(2.0).backward()


def test_nested_grad_of_a_function_that_closes_over_the_outer_variable():
    """d/dx [x * d/dy (x + y)] = 1, where confusing the two perturbations gives 2."""

    def outer(x):
        return x * mg.grad(lambda y: x + y)(mg.tensor(1.0))

    assert mg.grad(outer)(mg.tensor(1.0)).item() == 1.0
    # d/dx [x * d/dy (x y^2) at y = x] = d/dx 2 x^3 = 6 x^2
    assert mg.grad(lambda x: x * mg.grad(lambda y: x * y * y)(x))(mg.tensor(2.0)).item() == 24.0


def test_numpy_refuses_a_tensor_with_gradients():
    x = leaf(3.0)
    for use in (np.asarray, np.sin, lambda t: np.add(1.0, t), lambda t: np.multiply(t, t)):
        with pytest.raises((GraphError, TypeError)):
            use(x)
    y = np.array([2.0]) * x  # the operator stays with the tensor
    y.sum().backward()
    assert x.grad.item() == 2.0


# Extreme values


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("f", "values", "slopes"),
    [
        (mg.sigmoid, [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]),
        (mg.tanh, [-1.0, 1.0, -1.0], [0.0, 0.0, 0.0]),
        (mg.softplus, [0.0, 1000.0, 0.0], [0.0, 1.0, 0.0]),
        (mg.relu, [0.0, 1000.0, 0.0], [0.0, 1.0, 0.0]),
    ],
)
def test_activations_have_exact_limits(f, values, slopes, dtype):
    x = leaf([-1000.0, 1000.0, -np.inf], dtype)
    y = f(x)
    np.testing.assert_array_equal(y.detach().numpy(), values)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), slopes)


def test_sigmoid_and_softplus_keep_relative_accuracy_in_the_left_tail():
    y, z = mg.sigmoid(mg.tensor(-50.0, dtype="float64")), mg.softplus(mg.tensor(-50.0, dtype="float64"))
    np.testing.assert_allclose([y.item(), z.item()], np.exp(-50.0), rtol=1e-14)


@pytest.mark.parametrize(
    ("row", "value", "slopes"),
    [
        ([1000.0, 1000.0], 1000.0 + np.log(2.0), [0.5, 0.5]),
        ([-1000.0, -1000.0], -1000.0 + np.log(2.0), [0.5, 0.5]),
        ([-np.inf, 3.0], 3.0, [0.0, 1.0]),
        ([-np.inf, -np.inf], -np.inf, [0.0, 0.0]),
        ([-1000.0, 1000.0], 1000.0, [0.0, 1.0]),
    ],
)
def test_logsumexp_at_extreme_values(row, value, slopes):
    x = leaf([row])
    y = mg.logsumexp(x, axis=1)
    np.testing.assert_allclose(y.detach().numpy(), [value], rtol=1e-15)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [slopes], rtol=1e-12)


def test_logsumexp_of_plus_infinity_is_plus_infinity():
    assert mg.logsumexp(mg.tensor([np.inf, 1.0])).item() == np.inf


@pytest.mark.parametrize(("bad", "other"), [(np.inf, 0.0), (np.nan, np.nan)])
def test_logsumexp_of_infinity_or_nan_never_gives_a_wrong_finite_gradient(bad, other):
    """softmax of (inf, 1) is (nan, 0): inf / inf has no value, and 1 is nothing beside it."""
    x = leaf([bad, 1.0])
    with np.errstate(invalid="ignore"):
        mg.logsumexp(x).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [np.nan, other])


def test_the_norm_written_out_has_no_gradient_at_zero():
    """sqrt'(0) = inf times the inner derivative 0 is NaN, not a silent 0."""
    x = leaf([0.0, 0.0])
    with np.errstate(divide="ignore", invalid="ignore"):
        mg.sqrt(mg.sum(mg.square(x))).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [np.nan, np.nan])


def test_the_branch_of_where_that_is_not_chosen_must_stay_finite():
    """The written-out form gives NaN, as documented at `where`; the inner where is the remedy."""
    x = leaf([0.0, 4.0])
    with np.errstate(divide="ignore", invalid="ignore"):
        mg.where(x > 0.0, mg.sqrt(x), 0.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [np.nan, 0.25])
    positive = leaf([0.0, 4.0])
    safe = mg.where(positive > 0.0, positive, 1.0)
    mg.where(positive > 0.0, mg.sqrt(safe), 0.0).sum().backward()
    np.testing.assert_array_equal(positive.grad.numpy(), [0.0, 0.25])


# Second derivatives


def test_mixed_second_derivatives_of_a_small_network():
    shapes = [(3, 4), (4, 2), (2,), (5, 3)]
    w1, w2, b, x = (RNG.normal(size=s) for s in shapes)
    check_grad(lambda w1, w2, b, x: mg.softplus(mg.tanh(x @ w1) @ w2 + b).mean(), w1, w2, b, x)


@pytest.mark.parametrize("f", [mg.relu, mg.abs, mg.sign, mg.max, lambda x: mg.clip(x, -1.0, 1.0), lambda x: x * 2.0])
def test_second_derivatives_that_are_zero_are_zero_not_an_error(f):
    x = leaf([-2.0, -0.5, 0.25, 3.0])
    (g,) = mg.autograd.grad(f(x).sum(), x, create_graph=True)
    second = mg.autograd.grad((g * x).sum(), x)[0]
    np.testing.assert_allclose(second.numpy(), g.detach().numpy())  # d(g x) = g dx + x dg, and dg = 0


def test_nan_is_never_hidden():
    x = leaf([np.nan, 1.0])
    for f, expected in ((mg.relu, [1.0, 1.0]), (lambda x: mg.maximum(x, 0.0), [1.0, 1.0])):
        value = f(x)
        assert np.isnan(value.detach().numpy()[0])
        np.testing.assert_array_equal(mg.autograd.grad(value.sum(), x)[0].numpy(), expected)
    assert np.isnan(mg.logsumexp(x).item())
    assert mg.ones((2,))[np.True_].shape == (1, 2)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_a_tie_halves_the_cotangent_whatever_it_is(name):
    x, y = (mg.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    mg.primitives[name](x, y).backward(mg.tensor([3.0, -4.0]))
    np.testing.assert_array_equal(x.grad.numpy(), [1.5, -2.0])
    np.testing.assert_array_equal(y.grad.numpy(), [1.5, -2.0])
