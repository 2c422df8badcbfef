"""Linear algebra: the functions around the primitives, degenerate spectra, refused inputs.

Values and derivatives of the rows themselves are tested with all primitives, in test_primitives.py.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.errors import DTypeError, LinAlgError, ShapeError
from minigrad.testing import check_grad

rng = np.random.default_rng(3)


def normal(*shape):
    return rng.normal(size=shape)


def spectrum(w):
    """Return a symmetric matrix with eigenvalues w."""
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(len(w), len(w))))[0]
    return (q * np.asarray(w)) @ q.T


EINSUMS = [
    ("ij,jk", [(2, 3), (3, 4)]),
    ("ij,jk->ki", [(2, 3), (3, 4)]),
    ("ba", [(2, 3)]),
    ("ii", [(3, 3)]),
    ("ii->i", [(3, 3)]),
    ("...ii->...i", [(2, 3, 3)]),
    ("iij->j", [(3, 3, 2)]),
    ("i...->...", [(3, 2, 2)]),
    ("...ij,...jk", [(2, 1, 3, 2), (4, 2, 2)]),
    ("...,...->...", [(2, 3), (3,)]),
    ("ij,jk,kk->i", [(2, 3), (3, 4), (4, 4)]),
    (" i , i -> ", [(3,), (3,)]),
    (",i->i", [(), (3,)]),
    ("i,i->i", [(3,), (1,)]),
    ("i,i->", [(3,), (1,)]),
    ("abc->b", [(2, 3, 0)]),
]


@pytest.mark.parametrize(("subscripts", "shapes"), EINSUMS)
def test_einsum_has_numpys_values_and_right_derivatives(subscripts, shapes):
    operands = [normal(*shape) for shape in shapes]
    result = mg.einsum(subscripts, *operands)
    np.testing.assert_allclose(result.numpy(), np.einsum(subscripts, *operands), rtol=1e-13, atol=1e-14, strict=True)
    check_grad(lambda *xs: mg.einsum(subscripts, *xs), *operands)


def test_a_letter_that_repeats_in_the_output_fills_a_diagonal():
    x = normal(2, 3)
    np.testing.assert_array_equal(mg.einsum("bi->bii", x).numpy(), [np.diag(row) for row in x])
    np.testing.assert_array_equal(mg.einsum("bi->bibi", x).numpy()[1, 2, 1, 2], x[1, 2])
    check_grad(lambda x: mg.einsum("bi->ibi", x), x)


def test_einsum_of_one_operand_is_a_copy():
    x = mg.tensor(normal(3, 3), requires_grad=True)
    diagonal = mg.einsum("ii->i", x)
    before = diagonal.numpy().copy()
    x.assign(0.0)
    np.testing.assert_array_equal(diagonal.numpy(), before)


@pytest.mark.parametrize(
    ("subscripts", "shapes", "message"),
    [
        ("ij,jk", [(2, 3)], "for 2 operands, got 1"),
        ("ij", [(2, 3, 4)], "'ij' do not fit operand 0, which has 3 axes"),
        ("ijk", [(2, 3)], "which has 2 axes"),
        ("i->j", [(2,)], "letters that no input has: j"),
        ("i1->i", [(2, 2)], "are letters"),
        ("...i->i", [(2, 2)], "the output needs it too"),
        ("i,i->i", [(2,), (3,)], "einsum"),
    ],
)
def test_einsum_refuses_subscripts_that_do_not_fit(subscripts, shapes, message):
    with pytest.raises(ShapeError, match=message):
        mg.einsum(subscripts, *[np.ones(shape) for shape in shapes])


def test_einsum_takes_its_subscripts_first():
    with pytest.raises(ShapeError, match="subscripts first"):
        mg.einsum(np.ones(2), "i")


def test_outer():
    a, b, x = normal(3), normal(2), normal(2, 3, 4)
    np.testing.assert_array_equal(mg.outer(a, b).numpy(), np.outer(a, b))
    check_grad(mg.outer, a, b)
    with pytest.raises(ShapeError, match="two vectors"):
        mg.outer(x, b)


def test_solve_takes_vectors_and_stacks_as_numpy_does():
    a = normal(2, 3, 3) + 4 * np.eye(3)
    for b in (normal(3), normal(3, 2), normal(2, 3, 2), normal(4, 1, 3, 1)):
        np.testing.assert_allclose(mg.solve(a, b).numpy(), np.linalg.solve(a, b), rtol=1e-12, strict=True)
        check_grad(mg.solve, a, b)


def test_determinants_of_either_sign():
    x = normal(5, 3, 3)
    assert len(set(np.sign(np.linalg.det(x)))) == 2  # the case is worth testing
    sign, log = mg.slogdet(x)
    np.testing.assert_array_equal(sign.numpy(), np.linalg.slogdet(x)[0])
    np.testing.assert_allclose(log.numpy(), np.linalg.slogdet(x)[1], rtol=1e-13)
    check_grad(mg.det, x)
    check_grad(lambda x: mg.slogdet(x)[1], x)


@settings(max_examples=25)
@given(m=st.integers(1, 4), n=st.integers(1, 4), seed=st.integers(0, 1000))
def test_decompositions_multiply_back(m, n, seed):
    x = np.random.default_rng(seed).normal(size=(2, m, n))
    k = min(m, n)
    q, r = mg.qr(x)
    assert q.shape == (2, m, k)
    assert r.shape == (2, k, n)
    np.testing.assert_allclose((q @ r).numpy(), x, atol=1e-13)
    np.testing.assert_array_equal(r.numpy(), np.triu(r.numpy()))
    u, s, vh = mg.svd(x)
    assert (u.shape, s.shape, vh.shape) == ((2, m, k), (2, k), (2, k, n))
    np.testing.assert_allclose(((u * mg.expand_dims(s, -2)) @ vh).numpy(), x, atol=1e-13)
    square = x @ x.mT
    w, v = mg.eigh(square)
    np.testing.assert_allclose((square @ v).numpy(), (v * mg.expand_dims(w, -2)).numpy(), atol=1e-12)
    lower = mg.cholesky(square + np.eye(m))
    np.testing.assert_allclose((lower @ lower.mT).numpy(), square + np.eye(m), atol=1e-13)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (2, 3, 2)])
@pytest.mark.parametrize("part", [0, 1])
def test_each_part_of_qr_has_right_derivatives(shape, part):
    check_grad(lambda x: mg.qr(x)[part], normal(*shape))


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4)])
def test_each_part_of_svd_has_right_derivatives(shape, part):
    u, s, vt = np.linalg.svd(normal(*shape), full_matrices=False)
    check_grad(lambda x: mg.svd(x)[part], (u * (np.arange(len(s)) + 1.0)) @ vt)


@pytest.mark.parametrize("part", [0, 1])
def test_each_part_of_eigh_has_right_derivatives(part):
    check_grad(lambda x: mg.eigh(x)[part], spectrum([-1.0, 0.0, 1.5]))


def test_cholesky_and_eigh_use_the_symmetric_part():
    x = spectrum([1.0, 2.0, 3.0])
    noise = np.triu(normal(3, 3), 1)
    np.testing.assert_allclose(mg.cholesky(x + noise - noise.T).numpy(), mg.cholesky(x).numpy(), rtol=1e-13)
    np.testing.assert_allclose(mg.eigh(x + noise - noise.T)[0].numpy(), [1.0, 2.0, 3.0], rtol=1e-13)
    g = mg.grad(lambda x: (mg.cholesky(x) * noise.T).sum())(mg.tensor(x)).numpy()
    np.testing.assert_array_equal(g, g.T)


# Degenerate spectra: the right value, or an error; never NaN


@pytest.mark.parametrize("x", [np.eye(3), spectrum([1.0, 2.0, 2.0]), np.zeros((3, 3))], ids=["I", "two equal", "0"])
def test_repeated_eigenvalues(x):
    f = lambda x: (mg.eigh(x)[0] ** 3).sum()  # noqa: E731  trace(x^3), whose gradient is 3 x^2
    np.testing.assert_allclose(mg.grad(f)(mg.tensor(x)).numpy(), 3 * x @ x, atol=1e-13)
    with pytest.raises(LinAlgError, match="repeat"):
        mg.grad(lambda x: (mg.eigh(x)[1] ** 3).sum())(mg.tensor(x))
    with pytest.raises(LinAlgError, match="repeat"):  # the second derivative needs the vectors
        mg.hvp(f, mg.tensor(x), mg.tensor(normal(3, 3)))


def test_a_single_eigenvector_needs_only_its_own_eigenvalue_to_be_simple():
    x = spectrum([1.0, 2.0, 2.0])
    f = lambda x: (mg.eigh(x)[1][:, 0] ** 4).sum()  # noqa: E731
    d = normal(3, 3) * 1e-5
    expected = (f(mg.tensor(x + d)).item() - f(mg.tensor(x - d)).item()) / 2
    slope = (mg.grad(f)(mg.tensor(x)).numpy() * d).sum()
    assert slope == pytest.approx(expected, rel=1e-6)  # the differences have an error of step^2
    with pytest.raises(LinAlgError, match="repeat"):
        mg.grad(lambda x: (mg.eigh(x)[1][:, 1] ** 4).sum())(mg.tensor(x))


@pytest.mark.parametrize("x", [np.eye(3), np.eye(4)[:, :2], np.eye(4)[:2], np.zeros((3, 2))])
def test_repeated_singular_values(x):
    f = lambda x: (mg.svd(x)[1] ** 2).sum()  # noqa: E731  the sum of squares of x, whose gradient is 2 x
    np.testing.assert_allclose(mg.grad(f)(mg.tensor(x)).numpy(), 2 * x, atol=1e-14)
    for part in (0, 2):
        with pytest.raises(LinAlgError, match="repeat"):
            mg.grad(lambda x, part=part: (mg.svd(x)[part] ** 3).sum())(mg.tensor(x))


def test_one_singular_value_may_vanish_in_a_square_matrix_only():
    u, v = np.linalg.qr(normal(3, 3))[0], np.linalg.qr(normal(3, 3))[0]
    square = (u * [2.0, 1.0, 0.0]) @ v
    g = mg.grad(lambda x: (mg.svd(x)[0][:, :2] ** 3).sum())(mg.tensor(square))
    assert np.isfinite(g.numpy()).all()
    tall = np.vstack([square, np.zeros(3)])
    with pytest.raises(LinAlgError, match="vanish"):
        mg.grad(lambda x: (mg.svd(x)[0] ** 3).sum())(mg.tensor(tall))


def test_degenerate_float32_spectra_are_noticed_at_float32_rounding():
    x = spectrum([1.0, 2.0, 2.0]).astype("float32")
    with pytest.raises(LinAlgError, match="repeat"):
        mg.grad(lambda x: (mg.eigh(x)[1] ** 3).sum())(mg.tensor(x))


def test_singular_matrices_are_errors():
    x = mg.tensor(np.ones((2, 2)), requires_grad=True)
    for f in (mg.inv, lambda x: mg.solve(x, np.ones(2)), mg.grad(mg.det), mg.grad(lambda x: mg.slogdet(x)[1])):
        with pytest.raises(np.linalg.LinAlgError, match="[Ss]ingular"):
            f(x)
    with pytest.raises(LinAlgError, match="cholesky"):
        mg.cholesky(-x)
    assert mg.det(x).item() == 0.0
    sign, log = mg.slogdet(x)
    assert (sign.item(), log.item()) == (0.0, -np.inf)


@pytest.mark.parametrize("name", ["inv", "det", "slogdet", "cholesky", "eigh"])
def test_matrices_that_must_be_square(name):
    for shape in ((3,), (2, 3)):
        with pytest.raises(ShapeError, match=rf"{name}.*\({shape[0]},"):
            getattr(mg, name)(np.ones(shape))


@pytest.mark.parametrize("name", ["cholesky", "eigh", "qr", "svd"])
def test_decompositions_are_of_real_matrices(name):
    with pytest.raises(DTypeError, match="real matrices"):
        getattr(mg, name)(np.eye(2, dtype=complex))
    if name in ("qr", "svd"):
        with pytest.raises(ShapeError, match="takes matrices"):
            getattr(mg, name)(np.ones(2))


def test_empty_matrices():
    for f in (mg.inv, mg.cholesky, lambda x: mg.eigh(x)[1], lambda x: mg.svd(x)[0]):
        x = mg.tensor(np.zeros((2, 0, 0)), requires_grad=True)
        f(x).sum().backward()
        assert x.grad.shape == (2, 0, 0)
    np.testing.assert_array_equal(mg.det(np.zeros((2, 0, 0))).numpy(), [1.0, 1.0])
    assert mg.eigh(np.zeros((0, 2, 2)))[0].shape == (0, 2)
