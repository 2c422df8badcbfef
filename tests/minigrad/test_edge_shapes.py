"""Reductions over every axis, products of every shape, 0-d and empty arrays: NumPy's value and the right gradient."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DTypeError, ShapeError
from minigrad.testing import check_grad
from tests import standin

RNG = np.random.default_rng(0)

NUMPYS = {"logsumexp": lambda x, axis: np.logaddexp.reduce(x, axis=(0, 1) if axis is None else axis)}
OVER = [((2, 3), axis) for axis in ((), -1, (0, -1), (-2,), None)] + [((2, 0), ()), ((2, 0), 0), ((1, 1), None)]


@pytest.mark.parametrize(("shape", "axis"), OVER)
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "logsumexp"])
def test_reductions_over_every_axis(name, shape, axis):
    x = RNG.normal(size=shape)
    reduce, expected = getattr(mg, name), NUMPYS.get(name, getattr(np, name, None))(x, axis=axis)
    for keepdims in (False, True):
        result = reduce(mg.tensor(x), axis, keepdims).numpy()
        assert result.ndim == (x.ndim if keepdims else np.ndim(expected))
        np.testing.assert_allclose(result.reshape(np.shape(expected)), expected, rtol=1e-13)
        check_grad(lambda t, keepdims=keepdims: reduce(t, axis, keepdims), x)


@pytest.mark.cpu_only("CuPy takes no axis of an array without axes")
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("name", ["sum", "max", "min", "logsumexp", "norm"])
def test_an_axis_of_a_0d_array(name, axis):
    """NumPy accepts it, except in means."""
    reduce = getattr(mg, name)
    for keepdims in (False, True):
        assert reduce(mg.tensor(3.0), axis, keepdims).numpy() == np.float32(3.0)
        compiled = mg.compile(lambda t, keepdims=keepdims: reduce(t, axis, keepdims))
        assert [compiled(mg.tensor(v)).item() for v in (3.0, 4.0)] == [3.0, 4.0] and compiled.programs
        check_grad(lambda t, keepdims=keepdims: reduce(t, axis, keepdims), np.array(3.0))


@pytest.mark.not_on_gpu("CuPy does not warn")
def test_reductions_of_nothing():
    empty = mg.tensor(np.zeros((2, 0)), requires_grad=True)
    total = mg.sum(empty, axis=1)
    np.testing.assert_array_equal(total.detach().numpy(), [0.0, 0.0])
    total.backward(mg.tensor(np.ones(2)))
    assert empty.grad.shape == (2, 0)
    for reduce in (mg.max, mg.min, mg.logsumexp):
        with pytest.raises(ShapeError, match=rf"{reduce.name}\(float64\[2, 0\], axis=1\)"):
            reduce(empty, axis=1)
    with pytest.warns(RuntimeWarning):
        assert np.isnan(mg.mean(empty.detach()).item())


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3,), (3,)),
        ((3,), (3, 2)),
        ((2, 3), (3,)),
        ((3,), (4, 3, 2)),
        ((4, 2, 3), (3,)),
        ((4, 2, 3), (3, 2)),
        ((2, 3), (4, 3, 2)),
        ((5, 1, 2, 3), (4, 3, 2)),
        ((1, 2, 3), (4, 3, 1)),
        ((0, 3), (3, 2)),
        ((2, 0), (0, 3)),
        ((0,), (0,)),
        ((0, 2, 3), (3, 2)),
        ((4, 2, 0), (0, 2)),
        ((0,), (4, 0, 2)),
    ],
)
def test_products_of_every_shape(a, b):
    x, y = RNG.normal(size=a), RNG.normal(size=b)
    np.testing.assert_allclose((mg.tensor(x) @ mg.tensor(y)).numpy(), x @ y, rtol=1e-14)
    check_grad(mg.matmul, x, y)


def test_products_with_0d_operands_are_refused():
    with pytest.raises(ShapeError, match="matmul"):
        mg.tensor(1.0) @ mg.tensor([1.0])


def test_0d_everything():
    x = np.array(0.7)
    check_grad(lambda t: mg.exp(t.sum()) * t.mean(axis=()) + t.max() + t.reshape(1)[0] + t.T + t[...], x)
    check_grad(lambda t: mg.stack([t, t * t]) @ mg.stack([t, t]) + mg.expand_dims(t, 0)[0] + t.at[()].set(2.0 * t), x)


def test_empty_everything():
    x = np.ones((0, 3))
    check_grad(lambda t: mg.concat([t, mg.tanh(t)], axis=0).sum(axis=0) + mg.square(t).sum(), x)
    check_grad(lambda t: t[:, 1:].reshape(2, 0) @ t[:, 0], x)
    check_grad(lambda t: t[np.array([], int)] * t, x)


def test_joining_nothing_is_refused():
    for join in (mg.concat, mg.stack):
        with pytest.raises(ShapeError, match="at least one array, got an empty sequence"):
            join([])


@pytest.mark.parametrize("place", ["cpu", "stand-in"])
@pytest.mark.parametrize("shape, index", [
    ((5,), np.array([True, False])),
    ((2,), np.array([True, True, True])),
    ((2, 3), (slice(None), np.array([True, True, True, False]))),
    ((2, 3), (Ellipsis, np.zeros(2, bool))),
    ((2, 3), np.ones((3, 2), bool)),
    ((2, 3), (0, np.ones((2, 3), bool))),
])  # fmt: skip
def test_masks_of_another_shape_are_refused(place, shape, index):
    """NumPy refuses them too, whatever is True in them."""
    with standin.machine() as (gpu, _):
        x = mg.zeros(shape, device=gpu if place == "stand-in" else "cpu")
        with pytest.raises(IndexError, match="mask of shape"):
            x[index]
        with pytest.raises(IndexError, match="mask of shape"):
            x.at[index].add(1.0)


@pytest.mark.parametrize("index", [
    (Ellipsis, np.array([True, False, True])),
    (None, np.array([True, False]), None, 0),
    (np.array(True), np.ones((2, 3), bool)),
    (slice(None), None, np.array([False, False, False])),
])  # fmt: skip
def test_masks_that_fit_choose_what_numpy_chooses(index):
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(mg.tensor(x)[index].numpy(), x[index])


@pytest.mark.cpu_only("the axis is an array of NumPy")
@pytest.mark.parametrize("f", [
    lambda x, y: mg.concat([x, y * y], axis=None), lambda x, y: mg.permute_dims(x * y, axes=None),
    lambda x, y: mg.sum(x * y, axis=np.array(1)), lambda x, y: mg.max(x * y, axis=np.array(-1)),
    lambda x, y: mg.sum(x * y, axis=np.int64(0)),
])  # fmt: skip
def test_what_a_forward_takes_its_rule_takes_too(f):
    x = np.arange(1.0, 7.0).reshape(2, 3)
    check_grad(f, x, x[::-1].copy())
    loss = mg.grad(lambda x, y: mg.square(f(x, y)).sum())
    x = mg.tensor(x)
    np.testing.assert_array_equal(mg.compile(loss)(x, x).numpy(), loss(x, x).numpy())


def test_descending_order_of_all_values_and_of_one():
    x = mg.tensor([[2.0, 3.0], [1.0, 3.0]])
    np.testing.assert_array_equal(mg.argsort(x, axis=None, descending=True).numpy(), [1, 3, 0, 2])
    np.testing.assert_array_equal(
        mg.argsort(x[0, 0], descending=True).numpy(), mg.argsort(x[0, 0]).numpy(), strict=True
    )


@pytest.mark.parametrize("width", [1.5, "1", [(1, 2.0)], True])
def test_pad_takes_whole_widths(width):
    with pytest.raises(DTypeError, match="expected integers"):
        mg.pad(mg.ones(2), width)
    assert mg.pad(mg.ones(()), 0).shape == ()
