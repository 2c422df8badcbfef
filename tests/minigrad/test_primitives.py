"""Every primitive, through its row in the table: values, derivatives of two orders, dtypes, memory."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import tape
from minigrad.testing import check_grad
from minigrad.testing.strategies import primitive_inputs

_spec = importlib.util.spec_from_file_location("references", Path(__file__).with_name("references.py"))
references = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(references)

# `assign` is no function of its inputs: it is tested as Tensor.assign
ALL = [p for p in mg.primitives.values() if not p.effect]
DIFFERENTIABLE = [p for p in ALL if p.vjps is not None]
by_name = pytest.mark.parametrize("primitive", ALL, ids=lambda p: p.name)
differentiable = pytest.mark.parametrize("primitive", DIFFERENTIABLE, ids=lambda p: p.name)


def applied(primitive, inputs, metadata):
    return tape.apply(primitive, *[mg.tensor(x) for x in inputs], **metadata)


@by_name
@given(data=st.data())
def test_the_value_is_numpys(primitive, data):
    inputs, metadata = data.draw(primitive_inputs(primitive))
    result = applied(primitive, inputs, metadata)
    expected = np.asarray(references.reference(primitive.name)(*inputs, **metadata))
    assert result.shape == expected.shape
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12, atol=1e-13)


@differentiable
@settings(max_examples=30)
@given(data=st.data())
def test_both_derivatives_are_right(primitive, data):
    inputs, metadata = data.draw(primitive_inputs(primitive))
    floating = [i for i, x in enumerate(inputs) if x.dtype.kind == "f"]

    def f(*xs):
        whole = list(inputs)
        for i, x in zip(floating, xs, strict=True):
            whole[i] = x
        return tape.apply(primitive, *whole, **metadata)

    check_grad(f, *[inputs[i] for i in floating], rtol=1e-6)


@by_name
@given(data=st.data())
def test_float32_stays_float32_forward_and_backward(primitive, data):
    inputs, metadata = data.draw(primitive_inputs(primitive, np.float32))
    if "dtype" in metadata:
        metadata = {"dtype": np.dtype("float32")}
    leaves = [mg.tensor(x, requires_grad=x.dtype.kind == "f" and primitive.vjps is not None) for x in inputs]
    result = tape.apply(primitive, *leaves, **metadata)
    if primitive.keeps_dtype:
        assert result.dtype == np.float32
    if result.requires_grad:
        result.backward(mg.ones(result.shape))
        for leaf in leaves:
            if leaf.requires_grad:
                assert leaf.grad.dtype == np.float32
                assert leaf.grad.shape == leaf.shape


@pytest.mark.parametrize("primitive", [p for p in ALL if p.elementwise], ids=lambda p: p.name)
@given(data=st.data())
def test_writing_into_out_gives_the_same_bits(primitive, data):
    inputs, metadata = data.draw(primitive_inputs(primitive, np.float32))
    if "dtype" in metadata:
        return
    fresh = np.asarray(primitive.forward(np, *inputs, **metadata))
    out = np.full_like(fresh, 1)
    primitive.forward(np, *inputs, **metadata, out=out)
    assert out.tobytes() == fresh.tobytes()


@by_name
@given(data=st.data())
def test_inputs_are_not_changed(primitive, data):
    inputs, metadata = data.draw(primitive_inputs(primitive))
    leaves = [mg.tensor(x, requires_grad=x.dtype.kind == "f" and primitive.vjps is not None) for x in inputs]
    result = tape.apply(primitive, *leaves, **metadata)
    if result.requires_grad:
        result.backward(mg.ones(result.shape, dtype=result.dtype))
    for leaf, x in zip(leaves, inputs, strict=True):
        np.testing.assert_array_equal(leaf.detach().numpy(), x)


def test_every_primitive_is_documented_and_public():
    for primitive in ALL:
        assert primitive.__doc__, primitive.name
        assert getattr(mg, primitive.name) is primitive
