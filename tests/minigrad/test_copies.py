"""Copies, pickles and other libraries: leaves go anywhere, a graph stays, and no gradient is lost silently."""

import copy
import functools
import math
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import DTypeError, GraphError, RecordingError

WAYS = {"deepcopy": copy.deepcopy, "copy": copy.copy, "pickle": lambda x: pickle.loads(pickle.dumps(x))}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [
    lambda: mg.tensor([1.0, 2.0]),
    lambda: mg.tensor(np.arange(6, dtype="int64").reshape(2, 3)),
    lambda: mg.tensor(np.ones((0, 2)), requires_grad=True),
    lambda: mg.Parameter([[1.0], [2.0]]),
])  # fmt: skip
def test_a_leaf_and_its_gradient_are_copied(way, make):
    t = make()
    if t.requires_grad:
        t.grad = mg.tensor(np.full(t.shape, 3.0, t.dtype))
    c = WAYS[way](t)
    assert type(c) is type(t) and c.dtype == t.dtype and c.requires_grad == t.requires_grad and c.device is t.device
    np.testing.assert_array_equal(c.detach().numpy(), t.detach().numpy())
    assert not np.shares_memory(c.detach().numpy(), t.detach().numpy())
    if t.requires_grad:
        np.testing.assert_array_equal(c.grad.numpy(), t.grad.numpy())
        assert c.grad is not t.grad
    c.assign(c * 0)
    assert not t.size or t.detach().numpy().any()


@pytest.mark.parametrize("way", WAYS)
def test_a_graph_stays_where_it_is(way):
    t = mg.Parameter([1.0]) * 2
    with pytest.raises(GraphError, match=r"detach\(\)"):
        WAYS[way](t)
    assert WAYS[way](t.detach()).item() == 2.0


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_a_model_and_its_optimizer_stay_connected_and_continue_bit_for_bit(way):
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    x = mg.tensor(np.random.default_rng(0).normal(size=(5, 3)).astype("float32"))

    def step(model, optimizer):
        optimizer.zero_grad()
        loss = mg.square(model(x)).sum()
        loss.backward()
        optimizer.step()
        return loss.item()

    step(model, optimizer)
    model_copy, optimizer_copy = WAYS[way]((model, optimizer))
    assert all(p is q for p, q in zip(model_copy.parameters(), optimizer_copy.parameters, strict=True))
    assert [step(model, optimizer) for _ in range(3)] == [step(model_copy, optimizer_copy) for _ in range(3)]


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_tied_weights_stay_tied(way):
    layer = nn.Linear(2, 2)
    layers = nn.Sequential(layer, layer)
    copied = WAYS[way](layers)
    assert len(list(copied.parameters())) == len(list(layers.parameters())) == 2


class Activation(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("function", [mg.tanh, mg.matmul, mg.relu, mg.softplus])
def test_a_model_may_hold_an_operation(way, function):
    assert WAYS[way](nn.Sequential(Activation(function)))[0].function is function


class Trainer:
    """Holds a compiled method, so that the two hold each other."""

    def __init__(self):
        self.w = mg.Parameter([1.0])
        self.step = mg.compile(self.descend)

    def descend(self, x):
        self.w.assign(self.w - x)
        return self.w * 1.0


@mg.compile
def twice(x):
    return x * 2.0


@pytest.mark.not_on_standin
@pytest.mark.parametrize("calls", [0, 2])
@pytest.mark.parametrize("of", ["the object", "the method"])
@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_the_copy_of_a_compiled_method_is_that_of_the_copied_object(way, of, calls):
    trainer = Trainer()
    for _ in range(calls):
        trainer.step(mg.ones(1))
    step = WAYS[way](trainer).step if of == "the object" else WAYS[way](trainer.step)
    copied = step.__wrapped__.__self__
    assert step is not trainer.step and step.programs == [] and copied is not trainer and copied.step is step
    assert [step(mg.ones(1)).item() for _ in range(3)] == [-calls, -calls - 1.0, -calls - 2.0]
    assert trainer.w.item() == 1.0 - calls and len(step.programs) == 1 and len(trainer.step.programs) == (calls > 0)
    assert [trainer.step(mg.ones(1)).item() for _ in range(2)] == [-calls, -calls - 1.0]


@pytest.mark.parametrize("way", WAYS)
def test_a_decorated_function_is_copied_and_pickled_as_functions_are(way):
    twice(mg.ones(1))
    assert WAYS[way](twice) is twice


@pytest.mark.not_on_standin
def test_the_copy_of_a_compiled_function_records_anew():
    a = mg.Parameter([3.0])
    times = mg.compile(functools.partial(mg.multiply, a.detach()), threads=3, kernels=False)
    times(mg.ones(1))
    copied = copy.deepcopy(times)
    a.assign([5.0])
    assert copied(mg.ones(1)).item() == 3.0 and times(mg.ones(1)).item() == 5.0
    shallow = copy.copy(times)
    assert shallow.programs == [] and shallow(mg.ones(1)).item() == 5.0 and len(times.programs) == 1
    assert "3 threads" in str(times.replays[0]) and str(copied.replays[0]) == str(times.replays[0])


@pytest.mark.not_on_standin
def test_a_compiled_function_that_is_compiled_again_is_another():
    inner = mg.compile(lambda x: x * 2.0, threads=3, kernels=False)
    outer = mg.compile(inner, threads=2, kernels=False)
    for compiled in (outer, copy.deepcopy(outer)):
        assert compiled(mg.ones(1)).item() == 2.0 and compiled.programs and not inner.programs
        assert "2 threads" in str(compiled.replays[0])


def test_a_generator_is_copied_with_its_counter():
    g = mg.random.Generator(3)
    g.uniform((5,))
    c = copy.deepcopy(g)
    np.testing.assert_array_equal(c.uniform((4,)).numpy(), g.uniform((4,)).numpy())
    c.uniform((4,))
    assert c.state() != g.state()


@pytest.mark.cpu_only
def test_dlpack_shares_memory_both_ways():
    a = np.arange(3.0)
    t = mg.from_dlpack(a)
    a[1] = 7.0
    assert t.numpy()[1] == 7.0 and t.dtype == np.float64
    back = np.from_dlpack(mg.tensor([1.0, 2.0]))
    np.testing.assert_array_equal(back, [1.0, 2.0])
    leaf = mg.tensor([4.0])
    assert np.shares_memory(np.from_dlpack(leaf), leaf.numpy())


@pytest.mark.cpu_only
def test_a_tensor_that_goes_through_dlpack_keeps_its_version():
    t = mg.tensor([2.0])
    same = mg.from_dlpack(t)
    w = mg.Parameter([3.0])
    loss = (w * same).sum()
    t.assign([5.0])
    with pytest.raises(GraphError, match="changed by assign"):
        loss.backward()
    step = mg.compile(lambda x: mg.concat([x * 1.0, t.assign(t + x)]))
    step(mg.ones(1))
    found = step(same)  # the argument is what the step assigns to
    np.testing.assert_array_equal(found.numpy(), [6.0, 12.0])


def test_read_only_memory_is_shared_but_not_assigned_to():
    a = np.ones(3)
    a.flags.writeable = False
    t = mg.from_dlpack(a)
    np.testing.assert_array_equal((t * 2.0).numpy(), [2.0] * 3)
    for shared in (t, mg.from_dlpack(mg.ones(2).numpy()), t[1:]):
        with pytest.raises(GraphError, match="read-only memory"):
            shared.assign(0.0)


def test_dlpack_of_what_cannot_be_shared_is_refused():
    with pytest.raises(GraphError, match="gradient"):
        np.from_dlpack(mg.Parameter([1.0]))
    with pytest.raises(DTypeError, match="got list"):
        mg.from_dlpack([1.0])


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    "use",
    [
        np.asarray, np.array, np.exp, np.sum, np.add.reduce, lambda t: np.dot([1.0, 2.0], t), np.from_dlpack,
        lambda t: np.concatenate([t, t]), lambda t: np.stack([t]), lambda t: mg.tensor([t[0], t[1]]), mg.tensor,
        lambda t: mg.tensor(t * 1), lambda t: (t * 1).to("cuda"), math.exp,
    ],
)  # fmt: skip
def test_no_way_out_of_the_graph_is_silent(use):
    t = mg.Parameter([1.0, 2.0])
    with pytest.raises((GraphError, TypeError, ValueError, RuntimeError)):
        use(t)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_no_copy_of_a_value_is_frozen_into_a_program(way):
    w = mg.Parameter([1.0])
    for held in (w, {"w": w}):
        if way is copy.copy and held is not w:
            continue
        with pytest.raises(RecordingError, match="while a program is recorded"):
            mg.record(lambda x, held=held: (way(held), x * w)[1])(mg.ones(1))
    way(w)


@pytest.mark.cpu_only
def test_repr_says_where_a_tensor_comes_from():
    w = mg.Parameter([1.0])
    assert repr(w) == "parameter([1.], requires_grad=True)"
    assert repr(w * 2) == "tensor([2.], made by multiply)"
    assert repr(mg.tensor([1.0], dtype="float64")) == "tensor([1.], dtype=float64)"
    assert "shape=(2000,)" in repr(mg.zeros((2000,)))
    assert repr(mg.zeros((0, 3))) == "tensor([], shape=(0, 3))"
