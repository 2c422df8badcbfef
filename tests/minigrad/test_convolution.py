"""Convolution and pooling: the functions around the primitives, hand-computed values, refused inputs.

The rows are compared with naive loops, and their derivatives with numerical ones, in test_primitives.py.
"""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ShapeError
from minigrad.primitives import convolution as rows
from minigrad.testing import check_grad

rng = np.random.default_rng(5)


def normal(*shape):
    return rng.normal(size=shape)


def test_conv2d_is_a_correlation_not_flipped():
    x = mg.tensor(np.arange(9.0).reshape(1, 1, 3, 3))
    w = mg.tensor(np.array([[1.0, 2.0], [0.0, 10.0]]).reshape(1, 1, 2, 2))
    # top left: 0*1 + 1*2 + 3*0 + 4*10
    np.testing.assert_array_equal(mg.conv2d(x, w).numpy()[0, 0], [[42.0, 55.0], [81.0, 94.0]])


CASES = [
    # size, kernel, stride, padding
    ((5, 6), (3, 2), 1, 0),
    ((5, 6), (3, 3), 2, 1),
    ((4, 5), (1, 1), (2, 3), 0),
    ((3, 4), (2, 4), (1, 2), (0, 2)),
    ((2, 2), (5, 5), 1, 2),
    ((7, 7), (3, 3), 4, 0),  # a stride larger than the kernel, with rows that no window reads
]


def both(n):
    return (n, n) if isinstance(n, int) else n


@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), CASES)
def test_conv2d_equals_loops_and_has_right_derivatives(size, kernel, stride, padding):
    x, w = normal(2, 3, *size), normal(4, 3, *kernel)
    (s, t), (p, q) = both(stride), both(padding)
    wide = np.pad(x, [(0, 0), (0, 0), (p, p), (q, q)])
    rows = range(0, wide.shape[2] - kernel[0] + 1, s)
    columns = range(0, wide.shape[3] - kernel[1] + 1, t)
    expected = np.array(
        [
            [
                [[(wide[n, :, i : i + kernel[0], j : j + kernel[1]] * w[o]).sum() for j in columns] for i in rows]
                for o in range(4)
            ]
            for n in range(2)
        ]
    )
    np.testing.assert_allclose(mg.conv2d(x, w, stride, padding).numpy(), expected, rtol=1e-12, atol=1e-13, strict=True)
    check_grad(lambda x, w: mg.conv2d(x, w, stride, padding), x, w)


@pytest.mark.parametrize(
    ("stride", "padding", "extra"), [(1, 0, 0), (2, 1, 1), (2, 1, 0), ((2, 3), (0, 1), (1, 2)), (3, 0, 2)]
)
def test_conv_transpose2d_is_the_transpose_of_conv2d(stride, padding, extra):
    y, w = normal(2, 3, 3, 2), normal(3, 2, 3, 3)
    result = mg.conv_transpose2d(y, w, stride, padding, extra)
    sizes = zip((3, 2), both(stride), both(padding), both(extra), strict=True)
    assert result.shape == (2, 2, *((n - 1) * s - 2 * p + 3 + e for n, s, p, e in sizes))
    x = normal(*result.shape)
    inner = (mg.conv2d(x, w, stride, padding).numpy() * y).sum()
    assert (result.numpy() * x).sum() == pytest.approx(inner, rel=1e-12)
    check_grad(lambda y, w: mg.conv_transpose2d(y, w, stride, padding, extra), y, w)


def test_the_third_derivative_of_a_convolution():
    """d^3/dt^3 of sum (x + t d) * (w + t e) * (cubic of the result), along a line where it is a polynomial in t."""
    x, w, d, e = (
        mg.tensor(a) for a in (normal(1, 1, 3, 3), normal(1, 1, 2, 2), normal(1, 1, 3, 3), normal(1, 1, 2, 2))
    )
    f = lambda t: (mg.conv2d(x + d * t, w + e * t, 1, 1) ** 3).sum()  # noqa: E731
    times = np.arange(7.0) / 7  # a polynomial of degree 6 is fixed by 7 values
    coefficients = np.polynomial.polynomial.polyfit(times, [f(mg.tensor(t)).item() for t in times], 6)
    third = mg.grad(mg.grad(mg.grad(f)))(mg.tensor(np.array(0.0))).item()
    assert third == pytest.approx(6 * coefficients[3], rel=1e-8)  # the fit loses about seven digits


def test_float32_stays_float32():
    x = mg.tensor(normal(2, 3, 6, 6).astype("float32"), requires_grad=True)
    w = mg.tensor(normal(4, 3, 3, 3).astype("float32"), requires_grad=True)
    y = mg.upsample2x(mg.max_pool2d(mg.avg_pool2d(mg.conv2d(x, w, 1, 1), 2), 3, 1))
    z = mg.conv_transpose2d(y, w, 2, 1)
    assert y.dtype == z.dtype == np.float32
    z.sum().backward()
    assert x.grad.dtype == w.grad.dtype == np.float32


def test_memory_layout_does_not_matter():
    x, w = normal(2, 3, 5, 5), normal(4, 3, 3, 3)
    expected = mg.conv2d(x, w, 2, 1).numpy()
    place = mg.device("cpu")
    for layout in (np.asfortranarray, lambda a: np.flip(np.flip(a).copy())):
        odd = mg.Tensor._wrap(layout(x), place, None)
        np.testing.assert_allclose(mg.conv2d(odd, layout(w), 2, 1).numpy(), expected, rtol=1e-12)
        np.testing.assert_array_equal(mg.max_pool2d(odd, 2).numpy(), mg.max_pool2d(x, 2).numpy())


def test_pooling_values():
    x = np.arange(24.0).reshape(1, 1, 4, 6)
    np.testing.assert_array_equal(mg.max_pool2d(x, 2).numpy()[0, 0], [[7.0, 9.0, 11.0], [19.0, 21.0, 23.0]])
    np.testing.assert_array_equal(mg.avg_pool2d(x, (4, 3)).numpy()[0, 0], [[10.0, 13.0]])
    np.testing.assert_array_equal(mg.max_pool2d(x, 3, (1, 2)).numpy()[0, 0], [[14.0, 16.0], [20.0, 22.0]])
    np.testing.assert_array_equal(mg.upsample2x(x).numpy(), x.repeat(2, -1).repeat(2, -2))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: mg.max_pool2d(x, 2),
        lambda x: mg.max_pool2d(x, (3, 2), 1),
        lambda x: mg.avg_pool2d(x, 2, (1, 3)),
        lambda x: mg.avg_pool2d(x, 1, 2),
        mg.upsample2x,
    ],
)
def test_derivatives_of_pooling_and_upsampling(f):
    check_grad(f, rng.permutation(np.linspace(-2, 2, 60)).reshape(2, 2, 3, 5))
    check_grad(f, rng.permutation(np.linspace(-2, 2, 15)).reshape(3, 5))


def test_equal_values_of_a_window_share_the_gradient():
    x = mg.tensor(np.array([[1.0, 3.0], [3.0, 3.0]]), requires_grad=True)
    mg.max_pool2d(x, 2).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.array([[0.0, 1.0], [1.0, 1.0]]) / 3)


def test_no_images():
    x, w = mg.tensor(np.ones((0, 1, 4, 4)), requires_grad=True), mg.tensor(np.ones((2, 1, 3, 3)), requires_grad=True)
    y = mg.conv2d(x, w, 1, 1)
    assert y.shape == (0, 2, 4, 4)
    mg.conv_transpose2d(y, w, 2, 1, 1).sum().backward()
    assert x.grad.shape == x.shape
    np.testing.assert_array_equal(w.grad.numpy(), np.zeros(w.shape))


X, W = np.ones((1, 2, 4, 4)), np.ones((3, 2, 3, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mg.conv2d(np.ones((1, 3, 4, 4)), W), r"shape \(N, 2, H, W\) with these kernels, got \(1, 3, 4, 4\)"),
        (lambda: mg.conv2d(np.ones((2, 4, 4)), W), r"got \(2, 4, 4\)"),
        (lambda: mg.conv2d(X, np.ones((2, 3, 3))), "four axes"),
        (lambda: mg.conv2d(X, np.ones((3, 2, 5, 3))), "larger than images"),
        (lambda: mg.conv2d(X, W, 0), "at least 1"),
        (lambda: mg.conv2d(X, W, 1, -1), "at least 0"),
        (lambda: mg.conv2d(X, W, (1, 1, 1)), "stride is an integer or a pair"),
        (lambda: mg.conv2d(X, W, 1.5), "stride is an integer or a pair"),
        (lambda: mg.conv_transpose2d(X, W), "shape .N, 3, H, W. with these kernels"),
        (lambda: mg.conv_transpose2d(np.ones((3, 4, 4)), W), "four axes"),
        (lambda: mg.conv_transpose2d(np.ones((1, 3, 4, 4)), W, 2, 0, 2), "less than the stride"),
        (lambda: mg.conv_transpose2d(np.ones((1, 3, 1, 1)), W, 1, 3), "no images of size .-3, -3."),
        (lambda: mg.conv_transpose2d([1.0], W), "four axes"),
        (lambda: mg.max_pool2d(np.ones(4), 2), r"max_pool2d takes images .* got shape \(4,\)"),
        (lambda: mg.avg_pool2d(mg.ones(4), 2), r"avg_pool2d takes images .* got shape \(4,\)"),
        (lambda: mg.upsample2x(mg.ones(4)), r"upsample2x takes images .* got shape \(4,\)"),
        (lambda: mg.max_pool2d(X, 5), "larger than images"),
        (lambda: mg.avg_pool2d(X, 2, 0), "at least 1"),
        (lambda: mg.conv2d_transpose(np.ones((1, 3, 2, 2)), W, size=(9, 9)), "cannot make images of size"),
    ],
)
def test_refused_inputs(call, message):
    with pytest.raises(ShapeError, match=message):
        call()


def test_sizes_may_be_integers_of_numpy():
    one, two, x = np.int64(1), np.int32(2), normal(1, 3, 4, 4)
    w = normal(2, 3, 2, 2)
    for found, expected in [
        (mg.conv2d(x, w, two, (one, 0)), mg.conv2d(x, w, 2, (1, 0))),
        (mg.conv_transpose2d(x, normal(3, 1, 2, 2), two, 0, one), None),
        (mg.max_pool2d(x, two, one), mg.max_pool2d(x, 2, 1)),
    ]:
        if expected is None:
            assert found.shape == (1, 1, 9, 9)  # (4 - 1) * 2 + 2 + 1
        else:
            np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_blocks_of_images_change_nothing(monkeypatch):
    x, w = normal(7, 2, 6, 5), normal(3, 2, 3, 2)
    g = normal(7, 3, 3, 6)

    def results():
        a, b = (mg.tensor(v, requires_grad=True) for v in (x, w))
        y = mg.conv2d(a, b, stride=(2, 1), padding=1)
        y.backward(mg.tensor(g))
        return y.detach().numpy(), a.grad.numpy(), b.grad.numpy()

    whole = results()
    for images in (1, 2, 3, 6):  # the last block is smaller
        monkeypatch.setattr(rows, "BLOCK", images * 2 * 3 * 2 * 3 * 6 * 8)
        for found, expected in zip(results(), whole, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)  # the kernel's sum has another order
