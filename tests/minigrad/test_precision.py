"""How exactly a GPU multiplies: a setting of the process, on which programs depend."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DataError


@pytest.fixture(autouse=True)
def full_precision_afterwards():
    yield
    mg.set_matmul_precision("float32")


def test_every_open_device_is_told_and_the_cpu_computes_on_as_before(gpu):
    a = np.random.default_rng(0).normal(size=(40, 50)).astype("float32")
    before = mg.matmul(mg.tensor(a), mg.tensor(a.T)).numpy()
    mg.set_matmul_precision("tf32")
    assert mg.matmul_precision() == "tf32"
    if hasattr(gpu, "precision"):  # the stand-in
        assert gpu.precision == "tf32"
    np.testing.assert_array_equal(mg.matmul(mg.tensor(a), mg.tensor(a.T)).numpy(), before)


@pytest.mark.parametrize("wrong", ["tf16", "", None, 32])
def test_what_is_no_precision_changes_nothing(wrong):
    mg.set_matmul_precision("tf32")
    with pytest.raises(DataError, match="expected one of 'float32', 'tf32'"):
        mg.set_matmul_precision(wrong)
    assert mg.matmul_precision() == "tf32"


def test_a_compiled_step_is_recorded_anew_and_kept_for_each_precision():
    recordings = 0

    @mg.compile
    def step(x):
        nonlocal recordings
        recordings += 1
        return x @ x

    x = mg.ones((3, 3))
    for precision, expected in [("float32", 1), ("tf32", 2), ("float32", 2), ("tf32", 2)]:
        mg.set_matmul_precision(precision)
        step(x)
        step(x)
        assert recordings == expected


def test_products_on_a_gpu_are_full_or_tf32(gpu):
    """The errors tell which: a factor of TF32 has 11 bits, one of float32 has 24."""
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(0.5, 1.0, (256, 256)) for _ in range(2))
    exact = a.astype("float32").astype("float64") @ b.astype("float32").astype("float64")

    def error():
        x, y = (mg.tensor(m.astype("float32"), device=gpu) for m in (a, b))
        return np.max(np.abs((x @ y).numpy() / exact - 1))

    assert error() < 1e-5
    if hasattr(gpu, "precision"):
        pytest.skip("the stand-in multiplies as NumPy does")
    mg.set_matmul_precision("tf32")
    assert 1e-5 < error() < 1e-3
    mg.set_matmul_precision("float32")
    assert error() < 1e-5


@pytest.mark.parametrize("transposed", [False, True])
def test_products_of_float16_add_up_in_float32(gpu, transposed):
    n = 4096  # terms of 1: added up one by one in float16, the sum would stay at 2048
    x, y = mg.ones((2, n), "float16", gpu), mg.ones((n, 3), "float16", gpu)
    product = (y.mT @ x.mT).mT if transposed else x @ y
    assert product.dtype == np.float16
    np.testing.assert_array_equal(product.numpy(), np.full((2, 3), n, "float16"))


def test_a_layer_with_products_of_float16_keeps_its_parameters_in_float32(gpu):
    """What docs/gpu.md shows: the casts are differentiable, and gradients come back in float32."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0.0, 1.0, (32, 16)).astype("float32")
    w = mg.Parameter(rng.normal(0, 0.1, (16, 8)).astype("float32"), device=gpu)
    scale = 128.0

    def loss(product):
        return mg.mean(mg.square(mg.sigmoid(product)))

    full = loss(mg.tensor(x, device=gpu) @ w)
    (expected,) = mg.autograd.grad(full, [w])
    half = loss((mg.tensor(x, "float16", gpu) @ w.to("float16")).to("float32"))
    (gradient,) = mg.autograd.grad(half * scale, [w])
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(half.item(), full.item(), rtol=2e-3)
    np.testing.assert_allclose((gradient / scale).numpy(), expected.numpy(), rtol=2e-2, atol=2e-3 * 0.01)
