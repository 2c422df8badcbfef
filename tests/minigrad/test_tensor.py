"""Tensors: how they are made, what they show, and what they refuse."""

import re

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DataError, DeviceError, DTypeError, GraphError, ShapeError


def test_python_numbers_become_float32_and_arrays_keep_their_dtype():
    assert mg.tensor([1.0, 2]).dtype == np.float32
    assert mg.tensor([1, 2]).dtype == np.int64
    assert mg.tensor(True).dtype == np.bool_
    assert mg.tensor(np.ones(2)).dtype == np.float64
    assert mg.tensor(np.ones(2, ">f8")).dtype == np.dtype("=f8")
    assert mg.tensor(mg.tensor(np.ones(2)), dtype="float32").dtype == np.float32


def test_a_tensor_is_a_copy():
    source = np.ones(2)
    t = mg.tensor(source, requires_grad=True)
    y = (t * t).sum()
    source[:] = 7.0
    y.backward()
    np.testing.assert_array_equal(t.grad.numpy(), [2.0, 2.0])


def test_an_ndarray_operand_is_a_copy_too():
    t = mg.tensor(np.ones(2), requires_grad=True)
    factor = np.full(2, 3.0)
    y = (t * factor).sum()
    factor[:] = 7.0
    y.backward()
    np.testing.assert_array_equal(t.grad.numpy(), [3.0, 3.0])


@pytest.mark.cpu_only
def test_numpy_is_a_read_only_view():
    t = mg.ones(2)
    with pytest.raises(ValueError, match="read-only"):
        t.numpy()[0] = 5.0
    assert np.shares_memory(t.numpy(), t._array)


def test_bad_data_is_refused():
    with pytest.raises(DTypeError, match="numbers and bools"):
        mg.tensor("text")
    with pytest.raises(DTypeError, match="only real floating"):
        mg.tensor([1, 2], requires_grad=True)
    with pytest.raises(DeviceError, match="no device is called"):
        mg.tensor([1.0], device="tpu")
    with pytest.raises(GraphError, match=r"mg\.stack"):
        mg.tensor([mg.tensor(1.0, requires_grad=True)])
    with pytest.raises(TypeError, match=r"mg\.tensor"):
        mg.Tensor([1.0])


@pytest.mark.skipif(mg.cuda_is_available(), reason="there is a CUDA device")
def test_asking_for_a_gpu_that_is_not_there_says_what_is_missing():
    with pytest.raises(DeviceError, match=r"cupy-cuda12x\[ctk\]|has 0 CUDA devices"):
        mg.tensor([1.0], device="cuda")


def test_numpy_cannot_take_the_gradient_away():
    t = mg.tensor([1.0], requires_grad=True)
    with pytest.raises(GraphError, match="detach"):
        np.asarray(t)
    assert np.asarray(t.detach()).tolist() == [1.0]
    assert isinstance(np.ones(1, "f") * t, mg.Tensor)


def test_items_are_not_assigned_and_the_functional_form_is_named():
    t = mg.zeros(3)
    with pytest.raises(GraphError, match=r"x\.at\[i\]\.set"):
        t[0] = 1.0
    np.testing.assert_array_equal(t.at[1].set(5.0).numpy(), [0.0, 5.0, 0.0])
    np.testing.assert_array_equal(t.at[[0, 0]].add(1.0).numpy(), [2.0, 0.0, 0.0])
    np.testing.assert_array_equal(t.numpy(), [0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    "index",
    [0, -1, slice(None, None, -2), (0, slice(1, 3)), None, Ellipsis, (Ellipsis, 0), [0, 2, 0], ([0, 1], [1, 1]),
     (slice(None), [2, 0]), np.array([[0, 1], [2, 0]]), np.array([True, False, True]), []],
)  # fmt: skip
def test_indexing_follows_numpy(index):
    a = np.arange(12.0).reshape(3, 4)
    t = mg.tensor(a, requires_grad=True)
    picked = t[index]
    index = np.array(index, dtype=np.int64) if isinstance(index, list) and not index else index
    np.testing.assert_array_equal(picked.detach().numpy(), a[index])
    (picked * picked).sum().backward()
    expected = np.zeros_like(a)
    np.add.at(expected, index, 2 * a[index])
    np.testing.assert_array_equal(t.grad.numpy(), expected)


def test_item_and_len():
    assert mg.tensor([[2.5]]).item() == 2.5
    assert len(mg.zeros((3, 2))) == 3
    with pytest.raises(ShapeError, match="one value"):
        mg.zeros(2).item()
    with pytest.raises(TypeError, match="0-d"):
        len(mg.tensor(1.0))


@pytest.mark.parametrize("name", ["+", "-", "*", "/", "**", "@"])
def test_operators_in_place_do_not_make_a_parameter_a_tensor(name):
    names = {"w": mg.Parameter(np.eye(2)), "t": mg.tensor(np.eye(2)), "x": mg.tensor(np.full((2, 2), 2.0))}
    before = names["w"]
    with pytest.raises(GraphError, match=re.escape(f"w.assign(w {name} x)")):
        exec(f"w {name}= x", names)
    assert names["w"] is before
    exec(f"t {name}= x; r = w {name} x; w.assign(r)", names)
    np.testing.assert_array_equal(names["t"].numpy(), names["r"].detach().numpy())
    np.testing.assert_array_equal(before.detach().numpy(), names["r"].detach().numpy())


def test_sigmoid_takes_integers_as_exp_does():
    for dtype in ("int8", "uint8", "int64", "bool"):
        values = np.array([0, 1, -3 if dtype.startswith("int") else 1], dtype)
        expected = 1 / (1 + np.exp(-values.astype("float64")))
        for f in (mg.sigmoid, mg.compile(mg.sigmoid)):
            found = f(mg.tensor(values))
            assert found.dtype == np.float32
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-7)  # rounded once


@pytest.mark.cpu_only
def test_repr_shows_values_dtype_and_origin():
    x = mg.tensor([1.0], requires_grad=True)
    assert repr(x) == "tensor([1.], requires_grad=True)"
    assert repr(x * 2.0) == "tensor([2.], made by multiply)"
    assert repr(mg.tensor(np.ones(1))) == "tensor([1.], dtype=float64)"
    assert repr(mg.Parameter([1.0])) == "parameter([1.], requires_grad=True)"


@pytest.mark.cpu_only
def test_to_changes_dtype_with_a_gradient_of_the_original_dtype():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    assert x.to("float32") is x
    assert x.to("cpu") is x
    (x.to("float64") * np.array([3.0, 4.0])).sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad.numpy(), [3.0, 4.0])


def test_operators_of_arrays_and_scalars_on_the_left():
    x = mg.tensor(np.array([2.0, 4.0]))
    a = np.array([1.0, 3.0])
    for left in (a, 3.0):
        for ours, theirs in [
            (left + x, left + x.numpy()),
            (left - x, left - x.numpy()),
            (left * x, left * x.numpy()),
            (left / x, left / x.numpy()),
            (left**x, left ** x.numpy()),
        ]:
            np.testing.assert_array_equal(ours.numpy(), theirs)
    np.testing.assert_array_equal((a @ x).numpy(), a @ x.numpy())


def test_metadata_may_be_given_by_position_as_in_numpy_and_too_much_is_refused():
    x = mg.tensor(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(mg.sum(x, 0).numpy(), mg.sum(x, axis=0).numpy())
    assert mg.reshape(x, (3, 2)).shape == (3, 2)
    assert mg.concat([x, x], 1).shape == (2, 6)
    with pytest.raises(TypeError, match="sum takes 1 array"):
        mg.sum(x, 0, True, 7)
    with pytest.raises(TypeError, match="add takes 2 arrays"):
        mg.add(x)
    for call in (lambda: mg.concat(), lambda: mg.concat(axis=1)):
        with pytest.raises(TypeError, match="concat takes a sequence of arrays and .*, got 0 arguments"):
            call()
    with pytest.raises(ShapeError, match="concat needs at least one array"):
        mg.concat([])


@pytest.mark.cpu_only
def test_slips_of_the_hand_are_named():
    x = mg.tensor([1.0, 2.5])
    assert f"{mg.sum(x):.2f} {mg.sum(x)} {x}" == "3.50 tensor(3.5) tensor([1. , 2.5])"
    for call, error, message in [
        (lambda: f"{x:.2f}", ShapeError, r"item\(\) needs a tensor with one value"),
        (
            lambda: bool(x > 0),
            ShapeError,
            r"truth of a tensor of shape \(2,\) .* mg.all\(t\), mg.any\(t\), or mg.where",
        ),
        (lambda: mg.sum(x, dim=0), TypeError, "sum has the options axis, keepdims; got dim"),
        (lambda: mg.exp(x, axis=0), TypeError, "exp has no options; got axis"),
        (
            lambda: mg.zeros(2, 3),
            DTypeError,
            r"got 3 where a dtype is expected; a shape is one argument: \(2, 3, ",
        ),
    ]:
        with pytest.raises(error, match=message):
            call()


def test_a_0d_tensor_has_no_parts():
    x = mg.tensor(3.0)
    for use in (list, sum, iter, lambda x: 3.0 in x):
        with pytest.raises(TypeError, match="0-d tensor|not iterable"):
            use(x)
    rows = list(mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True))
    assert [row.numpy().tolist() if not row.requires_grad else row.detach().numpy().tolist() for row in rows] == [
        [1.0, 2.0], [3.0, 4.0],
    ]  # fmt: skip
    assert sum(mg.tensor([1.0, 2.0])).item() == 3.0


def test_a_gradient_that_is_set_is_like_one_that_was_accumulated():
    x = mg.tensor([1.0], requires_grad=True)
    elsewhere = mg.devices.Device("cuda", 0, np, np.ndarray)
    for wrong, error in [
        (mg.tensor([1]), DTypeError),
        (mg.tensor([1.0], dtype="float64"), DTypeError),
        (mg.tensor([1.0, 2.0]), ShapeError),
        (np.ones(1, "f"), ShapeError),
        (mg.Tensor._wrap(np.ones(1, "f"), elsewhere, None), DeviceError),
    ]:
        with pytest.raises(error, match="gradient"):
            x.grad = wrong
    assert x.grad is None
    x.grad = mg.tensor([2.0])
    (x * 3.0).sum().backward()
    assert x.grad.item() == 5.0


@pytest.mark.cpu_only
def test_numpy_gets_a_copy_unless_it_wants_none():
    x = mg.tensor([1.0, 2.0])
    assert not np.shares_memory(np.asarray(x), x.numpy())
    view = np.array(x, copy=False)
    assert np.shares_memory(view, x.numpy()) and not view.flags.writeable
    assert np.array(x, dtype="float64").dtype == np.float64
    for use in (lambda: np.array(x, dtype="float64", copy=False), lambda: x.__array__(np.dtype("float64"), copy=False)):
        with pytest.raises(ValueError, match="copy"):
            use()


# Making tensors from nothing


def test_arange_gives_integers_for_integers_and_floats_for_floats():
    for arguments in ((5,), (2, 9, 3), (5, 0, -2), (np.int64(4),)):
        found = mg.arange(*arguments)
        np.testing.assert_array_equal(found.numpy(), np.arange(*arguments))
        assert found.dtype == np.int64
    for arguments in ((3.0,), (0.0, 1.0, 0.25), (0, 1, 0.1), (np.float32(2), 0, -0.5)):
        found = mg.arange(*arguments)
        # each number is the one of float64, rounded once
        np.testing.assert_array_equal(found.numpy(), np.arange(*arguments, dtype="float64").astype("float32"))
        assert found.dtype == np.float32
    assert mg.arange(0, 300, 0.1).numpy()[-1] == np.float32(299.9)
    assert mg.arange(3, dtype="float64").dtype == np.float64
    np.testing.assert_array_equal(mg.arange(0.0, 4.0, 2.0, dtype="int32").numpy(), np.array([0, 2], "int32"))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: mg.arange(0, 1, 0.5, "int32"), DTypeError, r"step=0\.5 for int32"),
        (lambda: mg.arange("a"), DTypeError, "stop='a'"),
        (lambda: mg.arange(0, [1, 2]), DTypeError, "takes numbers, got stop"),
        (lambda: mg.arange(3, dtype=bool), DTypeError, "got dtype bool"),
        (lambda: mg.arange(1, 2, 0), DataError, "step=0"),
        (lambda: mg.arange(0.0, np.inf), DataError, "stop=inf"),
        (lambda: mg.zeros((2,), object), DTypeError, "got dtype object"),
        (lambda: mg.full((2,), 1j), DTypeError, "1j for float32"),
        (lambda: mg.full((2,), None), DTypeError, "got None"),
        (lambda: mg.full((2,), np.nan, "int32"), DTypeError, "nan for int32"),
        (lambda: mg.full((2,), 1.5, "int32"), DTypeError, r"1\.5 for int32"),
        (lambda: mg.full((2,), np.ones(2), "int32"), DTypeError, "for int32"),
        (lambda: mg.tensor([1.0]).to(object), DTypeError, "numbers and bools, got dtype object"),
        (lambda: mg.tensor([1.0]).to("U5"), DTypeError, "numbers and bools"),
        (lambda: mg.tensor([1.0]).to("M8[s]"), DTypeError, "numbers and bools"),
    ],
)
def test_what_no_tensor_can_hold_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_the_gradient_of_a_value_to_fill_with_is_not_lost(value):
    t = mg.tensor(value, requires_grad=True)
    for call in (lambda: mg.full((2,), t), lambda: mg.full((2,), t * 1.0), lambda: mg.pad(mg.ones(2), 1, value=t)):
        with pytest.raises(GraphError, match=r"would lose the gradient of its value.*t\.detach\(\)"):
            call()
    np.testing.assert_array_equal(mg.pad(mg.ones(1), 1, value=t.detach()).numpy(), [value, 1.0, value])


def test_full_holds_what_its_dtype_does():
    assert mg.full((2,), 2.0, "int32").numpy().tolist() == [2, 2]
    assert mg.full((2,), 1j, "complex64").numpy().tolist() == [1j, 1j]
    assert mg.ones(2, bool).numpy().tolist() == [True, True]
    assert mg.full((), 3, "uint8").item() == 3


@pytest.mark.parametrize("value", [1.9, np.float32(1.9), [1.9], np.array([1.9]), mg.tensor([1.9])])
def test_at_does_not_cut_a_value_to_an_integer(value):
    for x in (mg.tensor([1, 2]), mg.tensor([True, False])):
        for write in (x.at[:1].set, x.at[:1].add):
            if write.__name__ == "set" and isinstance(value, list):
                continue  # set takes no lists
            with pytest.raises(DTypeError, match=rf"{write.__name__}\(\) got .* for {x.dtype.name}, which holds"):
                write(value)


OUTSIDE = [
    (300, "uint8"), (-1, "uint8"), (2**70, "int64"), (np.int64(-1), "uint8"), (np.int64(2**40), "int32"),
    (np.uint64(2**63), "int64"), (np.array([1, 300]), "uint8"), (mg.tensor(300), "uint8"), (mg.tensor([-129]), "int8"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "dtype"), [*OUTSIDE, (1e10, "int32"), (300.0, "uint8"), (np.float32(-1), "uint8")])
def test_full_refuses_what_is_out_of_the_range_of_its_dtype(value, dtype):
    with pytest.raises(DTypeError, match=rf"full got -?\d+ for {dtype}, which holds integers from -?\d+ to \d+"):
        mg.full((2,), value, dtype)


@pytest.mark.parametrize("name", ["set", "add"])
@pytest.mark.parametrize(("value", "dtype"), [*OUTSIDE, ([1, 300], "uint8"), ([2**70, 0], "int64")])
def test_at_refuses_what_is_out_of_the_range_of_its_tensor(name, value, dtype):
    write = getattr(mg.tensor([1, 2], dtype=dtype).at[:], name)
    with pytest.raises(DTypeError, match=rf"{name}\(\) got -?\d+ for {dtype}, which holds integers from"):
        write(value)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [*OUTSIDE, ([1, 300], "uint8"), (1.5, "int32"), ([1.5, 2.0], "int32"), (mg.tensor([1.0]), "int32"), (5, "bool")],
)
def test_assign_refuses_what_its_tensor_does_not_hold_before_changing_anything(value, dtype):
    x = mg.tensor([1, 0], dtype=dtype)
    version = x._version.count
    if np.shape(value) == (1,):
        x = x[:1]
    with pytest.raises(DTypeError, match=rf"assign\(\) got .* for {dtype}, which holds integers from -?\d+ to \d+"):
        x.assign(value)
    assert x.numpy().tolist()[:1] == [1] and x._version.count == version


def test_assign_takes_what_its_tensor_holds():
    for value in (5, 5.0, np.int64(5), np.array(5), mg.tensor(5), mg.tensor(5, dtype="uint8")):
        for dtype in ("uint8", "int8", "float32", "complex64"):
            assert mg.tensor([1], dtype=dtype).assign(value).numpy().tolist() == [5]
    assert mg.tensor([1.0]).assign(2**70).item() == 2**70
    assert mg.tensor([False, True]).assign([1, 0]).numpy().tolist() == [True, False]


@pytest.mark.parametrize(
    ("numbers", "dtype", "wrong"),
    [((298, 302), "int8", 298), ((9, 129), "int8", 128), ((1, -3, -2), "uint8", -1), ((2**63, 2**63 + 2), None, 2**63)],
)
def test_arange_refuses_what_its_dtype_does_not_hold(numbers, dtype, wrong):
    with pytest.raises(DTypeError, match=rf"arange got {wrong} for u?int\d+, which holds integers"):
        mg.arange(*numbers, dtype=dtype)


def test_arange_reaches_the_ends_of_a_range():
    assert mg.arange(126, 128, dtype="int8").numpy().tolist() == [126, 127]  # 128 is not among them
    assert mg.arange(1, -1, -1, dtype="uint8").numpy().tolist() == [1, 0]
    assert mg.arange(300, 0, dtype="int8").shape == (0,)


def test_the_ends_of_a_range_are_in_it_and_sums_wrap():
    for dtype in ("int8", "uint8", "int32", "uint64", "int64"):
        for end in (np.iinfo(dtype).min, np.iinfo(dtype).max):
            for value in (int(end), np.array(end, dtype), mg.tensor(end, dtype=dtype)):
                assert mg.full((1,), value, dtype).numpy().tolist() == [end]
                x = mg.tensor([0, 0], dtype=dtype)
                assert x.at[0].set(value).numpy().tolist() == x.at[0].add(value).numpy().tolist() == [end, 0]
    assert mg.full((1,), 255.0, "uint8").item() == 255
    assert mg.tensor([200], dtype="uint8").at[0].add(np.int64(100)).numpy().tolist() == [44]


def test_at_takes_what_fits():
    x = mg.tensor([1, 2])
    assert x.at[0].set(5).numpy().tolist() == [5, 2] and x.at[:].add([3, 4]).numpy().tolist() == [4, 6]
    assert x.at[[]].add([]).numpy().tolist() == [1, 2]
    assert mg.tensor([1.0, 2.0]).at[0].set(3).numpy().tolist() == [3, 2]
    assert mg.tensor([True, True]).at[0].set(False).numpy().tolist() == [False, True]
    with pytest.raises(DTypeError, match="got 1j for float32"):
        mg.tensor([1.0]).at[0].set(1j)


@pytest.mark.parametrize("make", [
    lambda: mg.zeros(2, ">f4"), lambda: mg.tensor([1.0, 2.0], dtype=">f4"), lambda: mg.tensor(np.ones(2, ">f4")),
    lambda: mg.tensor(np.ones(2)).to(">f4"), lambda: mg.astype(mg.tensor(np.ones(2)), ">f4"),
    lambda: mg.ones(2).to(">f4"),
    lambda: mg.Parameter([1.0, 2.0], dtype=">f4"), lambda: mg.arange(2, dtype=">f4"), lambda: mg.one_hot(1, 2, ">f4"),
    lambda: mg.random.uniform((2,), ">f4"), lambda: mg.nn.Linear(2, 1, dtype=">f4").weight.reshape(-1),
    lambda: mg.nn.Linear(2, 1, dtype="float64").to(">f4").weight.reshape(-1), lambda: mg.full(2, 1.0, np.dtype(">f4")),
])  # fmt: skip
def test_all_tensors_have_the_byte_order_of_the_machine(make):
    t = make()
    assert t.dtype == "float32" and t.dtype.isnative
    assert (t + mg.ones(2)).dtype == "float32"


def test_a_state_may_have_another_byte_order():
    layer, state = mg.nn.Linear(2, 1), {"weight": np.array([[1.0], [2.0]], ">f4"), "bias": np.array([3.0], ">f4")}
    layer.load_state_dict(state)
    np.testing.assert_array_equal(layer(mg.tensor([1.0, 10.0])).detach().numpy(), [24.0])


@pytest.mark.parametrize("call", [
    lambda: mg.ones(2).to(None), lambda: mg.ones(2, "float64").to(None), lambda: mg.nn.Linear(2, 1).to(None),
    lambda: mg.astype(mg.ones(2), None),
])  # fmt: skip
def test_none_is_no_dtype(call):
    with pytest.raises(DTypeError, match="got None where a dtype is expected"):
        call()


def test_an_assign_to_a_view_that_repeats_elements_is_refused_and_does_not_count():
    w = mg.Parameter([1.0])
    y = mg.square(w).sum()
    with mg.no_grad():
        repeated = mg.broadcast_to(w, (3,))
    with pytest.raises(GraphError, match="a view that repeats elements"):
        repeated.assign(2.0)
    y.backward()
    assert w.grad.item() == 2.0


def test_operands_of_other_libraries_are_asked():
    class Foreign:
        def answer(self, other):
            return f"asked by a {type(other).__name__}"

        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rpow__ = __rmatmul__ = answer

    t, other = mg.tensor([1.0]), Foreign()
    answers = [t + other, t - other, t * other, t / other, t**other, t @ other]
    assert answers == ["asked by a Tensor"] * 6


def test_a_tensor_equals_nothing_that_is_no_number():
    t = mg.tensor([1.0, 2.0])
    assert t != None and t not in [None] and t != "a" and ("a" == t) is False  # noqa: E711, SIM300
    for operation in (lambda: t == [1.0, 2.0], lambda: t < None, lambda: t + "a"):
        with pytest.raises(TypeError, match=r"takes tensors, arrays and numbers, got .*mg\.tensor"):
            operation()
