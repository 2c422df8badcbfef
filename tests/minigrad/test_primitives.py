"""Every primitive, through its row in the table: values, derivatives of two orders, dtypes, memory."""

import importlib.util
import inspect
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import tape
from minigrad.errors import MinigradError
from minigrad.primitives.registry import Samples
from minigrad.testing import check_grad
from minigrad.testing.strategies import primitive_inputs
from tests.examples import options_of

_spec = importlib.util.spec_from_file_location("references", Path(__file__).with_name("references.py"))
references = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(references)

# `assign` is no function of its inputs: it is tested as Tensor.assign
ALL = [p for p in mg.primitives.values() if not p.effect]
DIFFERENTIABLE = [p for p in ALL if p.vjps is not None]
WITH_OUT = [p for p in ALL if "out" in inspect.signature(p.forward).parameters]
by_name = pytest.mark.parametrize("primitive", ALL, ids=lambda p: p.name)
differentiable = pytest.mark.parametrize("primitive", DIFFERENTIABLE, ids=lambda p: p.name)


def as_tensor(array):
    """Wrap an array without copying it, because a copy has another memory layout."""
    return mg.Tensor._wrap(array, mg.device("cpu"), None)


def applied(primitive, inputs, metadata):
    return tape.apply(primitive, *[as_tensor(x) for x in inputs], **metadata)


def reference(primitive, inputs, metadata):
    """Return what another formula gives."""
    found = references.REFERENCES.get(primitive.name)
    assert found is not None, f"{primitive.name} has no reference: add one to tests/minigrad/references.py"
    return found(*inputs, **{**primitive.defaults, **metadata})


@by_name
@given(data=st.data())
def test_the_value_is_that_of_another_formula(primitive, data):
    inputs, metadata = data.draw(primitive_inputs(primitive))
    before = [x.copy() for x in inputs]
    result = applied(primitive, inputs, metadata)
    expected = np.asarray(reference(primitive, inputs, metadata))
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12, atol=1e-13)  # sums of up to 64 terms near 3
    for x, old in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x, old)


@by_name
@given(data=st.data())
def test_a_result_shares_memory_with_the_first_input_of_a_view_only(primitive, data):
    """Of the library's rows nothing sees to it when they are applied."""
    inputs, metadata = data.draw(primitive_inputs(primitive))
    result = primitive.forward(np, *inputs, **metadata)
    assert not primitive.foreign
    for position, x in enumerate(inputs):
        assert (primitive.view and position == 0) or (result is not x and not np.may_share_memory(result, x))


@differentiable
@given(data=st.data())
def test_both_derivatives_are_right(primitive, data):
    inputs, metadata = data.draw(primitive_inputs(primitive))
    if "dtype" in metadata:  # float32 results are too coarse for differences
        metadata["dtype"] = np.dtype("float64")
    check_grad(lambda *xs: tape.apply(primitive, *xs, **metadata), *inputs)


@differentiable
@given(data=st.data())
def test_float32_stays_float32_forward_and_backward(primitive, data):
    if primitive.name == "eigh" and mg.tensor(0.0).device.type == "cuda" and mg.cuda_is_available():
        pytest.skip("cuSOLVER's eigenvalues in float32 are less exact")
    inputs, metadata = data.draw(primitive_inputs(primitive, np.float32))
    if "dtype" in metadata:
        metadata["dtype"] = np.dtype("float32")
    assert applied(primitive, inputs, metadata).dtype == np.float32
    leaves = [mg.tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
    result = tape.apply(primitive, *leaves, **metadata)
    direction = np.random.default_rng(0).normal(size=result.shape)
    result.backward(mg.tensor(direction, dtype="float32"))
    for leaf, exact in zip(leaves, gradients64(primitive, inputs, metadata, direction), strict=True):
        if exact is None:  # an integer, or an input without a rule
            assert leaf.grad is None
        else:
            assert leaf.grad.dtype == np.float32
            assert leaf.grad.shape == leaf.shape
            scale = np.max(np.abs(exact), initial=1.0)
            np.testing.assert_allclose(leaf.grad.numpy(), exact, rtol=1e-4, atol=1e-5 * scale)


def gradients64(primitive, inputs, metadata, direction):
    if "dtype" in metadata:
        metadata = {"dtype": np.dtype("float64")}
    wide = [x.astype("float64") if x.dtype.kind == "f" else x for x in inputs]
    leaves = [mg.tensor(x, requires_grad=x.dtype.kind == "f") for x in wide]
    tape.apply(primitive, *leaves, **metadata).backward(mg.tensor(direction, dtype="float64"))
    return [None if leaf.grad is None else leaf.grad.numpy() for leaf in leaves]


@pytest.mark.parametrize("primitive", WITH_OUT, ids=lambda p: p.name)
@given(data=st.data())
def test_writing_into_out_gives_the_same_bits(primitive, data):
    inputs, metadata = data.draw(primitive_inputs(primitive, np.float32))
    fresh = np.asarray(primitive.forward(np, *inputs, **metadata))
    out = np.full_like(fresh, 1)  # of the same layout: NumPy's expm1, log1p and power round by layout
    assert primitive.forward(np, *inputs, **metadata, out=out) is out, "the forward does not return `out`"
    assert out.tobytes() == fresh.tobytes(), "the forward does not write its result into `out`"


def test_all_elementwise_primitives_write_into_out():
    """Fused replay needs it."""
    assert {p.name for p in ALL if p.elementwise} <= {p.name for p in WITH_OUT}


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 1)])
@pytest.mark.parametrize("primitive", [p for p in ALL if p.elementwise], ids=lambda p: p.name)
def test_0d_and_empty_arrays(primitive, shape):
    inputs = [
        np.full(shape, True) if d.kind == "bool" else np.full(shape, d.low + (0.61 + 0.07 * i) * (d.high - d.low))
        for i, d in enumerate(primitive.samples.domains)
    ]
    for options in options_of(primitive):
        result = applied(primitive, inputs, options)
        expected = np.asarray(reference(primitive, inputs, options))
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-14, strict=True)
        if primitive.vjps is not None:
            check_grad(lambda *xs, options=options: tape.apply(primitive, *xs, **options), *inputs)


def test_every_primitive_has_samples_a_reference_and_a_public_documented_name():
    assert set(references.REFERENCES) == {p.name for p in ALL}
    for primitive in ALL:
        assert isinstance(primitive.samples, Samples)
        assert primitive.__doc__, primitive.name
        namespace = mg.random if primitive.name.startswith("random_") else mg
        public = getattr(namespace, primitive.name.removeprefix("random_"), None)
        # the primitive, or a function around it with friendlier arguments
        assert public is primitive or (inspect.isfunction(public) and public.__doc__), (
            f"no public name for {primitive.name}: put it into minigrad/primitives/__init__.py, among the imports and "
            "in __all__, or write a documented function of that name around the row"
        )


@pytest.mark.parametrize("samples", [{}, {"samples": None}])
def test_a_primitive_without_samples_cannot_be_registered(samples):
    before = dict(mg.primitives)
    with pytest.raises(MinigradError, match="primitive 'untested' has no samples"):
        mg.primitive("untested", forward=lambda xp, x, /: x, vjps=[lambda F, g, y, x: g], **samples)
    assert mg.primitives == before
