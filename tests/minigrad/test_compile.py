"""mg.compile: a replay gives what the function gives, to the last bit, and says when it cannot."""

import contextlib
import copy
import dataclasses
import gc
import math
import os
import signal
import sys
import threading
import time
import warnings
import weakref
from collections import defaultdict
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import native, nn
from minigrad.errors import (
    AnomalyError,
    DataError,
    DTypeError,
    GraphError,
    LinAlgError,
    MinigradError,
    RecordingError,
    ShapeError,
)
from minigrad.native import available
from minigrad.primitives.registry import Domain, Primitive, Samples
from minigrad.program.groups import may_raise
from minigrad.program.passes import simplify
from minigrad.program.phases import Share, Stage, phases
from minigrad.program.replay import Replay
from tests.examples import options_of

pytestmark = pytest.mark.cpu_only

KERNELS = [False, pytest.param(True, marks=pytest.mark.skipif(not available(), reason="llvmlite is not installed"))]
MOST = partial(float, 7)
rng = np.random.default_rng(0)


def bits(t):
    """The bytes of a tensor, in which 0.0 differs from -0.0; a NaN is a NaN, whatever its sign."""
    a = t.detach().numpy()
    if a.dtype.kind == "f":
        a = np.where(np.isnan(a), np.array(np.nan, a.dtype), a)
    return a.dtype, a.shape, a.tobytes()


def normal(*shape, dtype="float32"):
    return rng.normal(size=shape).astype(dtype)


def parameters(*shapes, seed=0, dtype="float32"):
    local = np.random.default_rng(seed)
    return [mg.Parameter(local.normal(0, 0.3, shape).astype(dtype)) for shape in shapes]


def descend(loss, leaves, rate=0.1):
    for p, g in zip(leaves, mg.autograd.grad(loss, leaves), strict=True):
        p.assign(p - rate * g)


# Training steps: name -> a function that makes (step, what it changes)


def sigmoid_autoencoder(n=12, h=5, dtype="float32"):
    leaves = W, b, V, c = parameters((n, h), (h,), (h, n), (n,), dtype=dtype)

    def step(x):
        y = mg.sigmoid(mg.sigmoid(x @ W + b) @ V + c)
        loss = mg.square(y - x).sum(axis=1).mean()
        descend(loss, leaves)
        return loss

    return step, leaves


def tied_with_penalties():
    leaves = W, b, c = parameters((12, 5), (5,), (12,))

    def step(x):
        h = mg.tanh(x @ W + b)
        logits = h @ W.mT + c
        terms = {
            "entropy": (mg.softplus(logits) - x * logits).sum(axis=1).mean(),
            "decay": 0.01 * (W * W).sum(),
            "sparsity": mg.abs(h).mean() + mg.maximum(h, 0.2).mean() + mg.clip(h, -0.1, None).mean(),
        }
        descend(terms["entropy"] + terms["decay"] + terms["sparsity"], leaves)
        return terms

    return step, leaves


def momentum_and_moments():
    """An update rule in which tensors are read before and after they change."""
    leaves = W, b = parameters((12, 4), (4,))
    kept = [[mg.tensor(np.zeros(p.shape, "float32")) for p in leaves] for _ in range(2)]
    count = mg.tensor(np.float32(0))

    def step(x):
        loss = mg.logsumexp(mg.relu(x @ W + b), axis=1).mean()
        count.assign(count + 1)
        for p, m, v, g in zip(leaves, *kept, mg.autograd.grad(loss, leaves), strict=True):
            m.assign(0.9 * m + 0.1 * g)
            v.assign(0.99 * v + 0.01 * mg.square(g))
            p.assign(p - 0.05 / count * m / (mg.sqrt(v) + 1e-3))
        return loss, count

    return step, [*leaves, *kept[0], *kept[1], count]


def views_of_what_changes():
    leaves = W, V = parameters((12, 12), (12, 12))

    def step(x):
        transposed, corner = W.mT, W[2:5, 1:]
        V.assign(V + transposed)  # a view is read, then its memory changes, then it is read again
        W.assign(W * 0.5 + mg.exp(-mg.abs(transposed)))
        return x @ transposed, corner * 2.0, V[0], mg.where(V > 0, V, W.mT).sum(axis=0)

    return step, leaves


STEPS = [sigmoid_autoencoder, tied_with_penalties, momentum_and_moments, views_of_what_changes]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("make", STEPS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("rows", [1, 7])
def test_a_compiled_step_equals_the_step_bit_for_bit(make, rows, kernels):
    (step, changed), (copy, copied) = make(), make()
    compiled = mg.compile(copy, kernels=kernels)
    for _ in range(4):
        x = mg.tensor(normal(rows, 12))
        expected, found = step(x), compiled(x)
        flat = [
            list(r.values()) if isinstance(r, dict) else r if isinstance(r, tuple) else (r,) for r in (expected, found)
        ]
        assert [*map(bits, flat[0])] == [*map(bits, flat[1])]
        assert [*map(bits, changed)] == [*map(bits, copied)]
    assert len(compiled.programs) == 1
    compiled.programs[0].check()


@pytest.mark.parametrize("kernels", KERNELS)
def test_large_groups_run_in_tiles_and_on_threads(kernels, monkeypatch):
    monkeypatch.setattr("minigrad.program.tiles.CACHE", 4096)
    monkeypatch.setattr("minigrad.program.phases.WORTH_A_THREAD", 0.0)
    for dtype in ("float32", "float64"):
        (step, changed), (copy, copied) = (sigmoid_autoencoder(200, 70, dtype) for _ in range(2))
        compiled = mg.compile(copy, threads=3, kernels=kernels)
        for _ in range(3):
            x = mg.tensor(normal(31, 200, dtype=dtype))
            assert bits(step(x)) == bits(compiled(x))
            assert [*map(bits, changed)] == [*map(bits, copied)]
        replay = next(iter(compiled._entries.values()))[0].replay
        assert max(map(len, replay.phases)) == 3


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("make", STEPS, ids=lambda f: f.__name__)
def test_tiles_of_a_few_elements_change_nothing(make, kernels, monkeypatch):
    """A view that is read in a tile must not see what another tile has assigned."""
    monkeypatch.setattr("minigrad.program.tiles.CACHE", 100)
    (step, changed), (copy, copied) = make(), make()
    compiled = mg.compile(copy, kernels=kernels)
    for _ in range(3):
        x = mg.tensor(normal(7, 12))
        step(x), compiled(x)
        assert [*map(bits, changed)] == [*map(bits, copied)]


@pytest.mark.parametrize("kernels", KERNELS)
def test_an_old_value_that_is_read_after_the_new_one_is_computed_is_the_old_one(kernels):
    def make():
        w = mg.Parameter(np.arange(5.0))

        def step(x):
            new = w * x
            old = w + 1.0
            w.assign(new)
            return old.detach()

        return step, w

    (step, w), (copy, v) = make(), make()
    compiled = mg.compile(copy, kernels=kernels)
    for _ in range(3):
        x = mg.tensor(np.full(5, 0.5))
        assert bits(step(x)) == bits(compiled(x))
        assert bits(w) == bits(v)


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_choice_does_not_overwrite_what_it_chooses_from(kernels):
    f = mg.compile(lambda x: mg.exp(mg.where(x > 0, mg.exp(x), mg.exp(-x))), kernels=kernels)
    x = mg.tensor(normal(3, 5))
    for _ in range(2):
        assert bits(f(x)) == bits(mg.exp(mg.where(x > 0, mg.exp(x), mg.exp(-x))))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    "first", ["bool", "int32", "int64", "float16", "float32", "float64", "complex64", "complex128"]
)
def test_a_conversion_does_not_overwrite_what_it_converts(first, kernels):
    numbers = ["bool", "int8", "int64", "float16", "float32", "float64"]
    kinds = ["complex64", "complex128"] if first.startswith("complex") else numbers
    x = mg.tensor(np.arange(70).astype(first))
    for middle in kinds:
        for last in kinds:

            def f(x, middle=middle, last=last):
                y = (x * x).to(middle).to(last)
                return y + y

            compiled = mg.compile(f, kernels=kernels)
            for _ in range(2):
                assert bits(compiled(x)) == bits(f(x)), (middle, last)


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_function_whose_result_is_of_another_size_does_not_overwrite_its_input(kernels):
    def chosen(x, y):
        return x * ((x - y) > 0.0).to("float32")

    def size(x, y):
        return mg.abs(x * y) + 1.0

    for f, kind in ((chosen, "float32"), (size, "complex64"), (size, "complex128")):
        x, y = mg.tensor(normal(70).astype(kind)), mg.tensor(normal(70).astype(kind))
        compiled = mg.compile(f, kernels=kernels)
        for _ in range(2):
            assert bits(compiled(x, y)) == bits(f(x, y))


OPTIMIZERS = {
    "SGD": {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
    "Adam": {"lr": 0.05, "weight_decay": 0.1},
    "AdamW": {"lr": 0.05},
    "RMSprop": {"momentum": 0.5},
    "Adagrad": {"weight_decay": 0.1},
}


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learning_rate_step_count_and_noise_stay_alive(name, kernels):
    """A program that had frozen any of them would differ from the second step on."""

    def make():
        model = nn.Sequential(nn.Linear(6, 4), nn.Sigmoid(), nn.Linear(4, 6))
        for p, q in zip(model.parameters(), parameters((6, 4), (4,), (4, 6), (6,)), strict=True):
            p.assign(q.detach())
        optimizer = getattr(mg.optim, name)(model.parameters(), **OPTIMIZERS[name])
        generator = mg.random.Generator(3)

        def step(x):
            noisy = x * (generator.uniform(x.shape) > 0.25) + 0.1 * generator.normal(x.shape)
            loss = mg.square(model(noisy) - x).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return step, optimizer, generator, model

    step, optimizer, generator, model = make()
    compiled_step, *copies = make()
    compiled = mg.compile(compiled_step, kernels=kernels)
    for i in range(6):
        optimizer.lr = copies[0].lr = 0.1 / (i + 1)
        x = mg.tensor(normal(5, 6))
        assert bits(step(x)) == bits(compiled(x))
    assert len(compiled.programs) == 1
    for a, b in zip(model.parameters(), copies[2].parameters(), strict=True):
        assert bits(a) == bits(b)
    assert generator.state() == copies[1].state()
    for key, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, copies[0].state_dict()[key])


def test_another_order_of_sums_is_another_program():
    f = mg.compile(lambda x: mg.take(x, mg.tensor([0, 0]), axis=0))
    try:
        for on in (False, True, True, False):
            mg.deterministic(on)
            f(mg.tensor([1.0]))
    finally:
        mg.deterministic(False)
    assert len(f.programs) == 2


def test_another_seed_is_another_program():
    generator = mg.random.Generator(0)
    f = mg.compile(lambda x: x + generator.uniform(x.shape))
    x = mg.tensor([0.0, 0.0])
    for seed in (0, 5, 0):
        state = {"seed": seed, "stream": 0, "counter": 0}
        generator.set_state(state)
        expected = bits(x + generator.uniform(x.shape))
        generator.set_state(state)
        assert bits(f(x)) == expected
    assert len(f.programs) == 2


ELEMENTWISE = sorted(n for n, p in mg.primitives.items() if p.elementwise and not p.variadic)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_every_elementwise_primitive_replays_its_bits(name, kernels):
    row = mg.primitives[name]
    special = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, 88.0, -104.0, 1e-40, 3.0], "float32")

    inputs = []
    for i, domain in enumerate(row.samples.domains):
        values = np.concatenate([np.roll(special, 5 * i), normal(36)]).reshape(4, 12)[: 1 if i == 2 else None]
        inputs.append(mg.tensor(values > 0 if domain.kind == "bool" else values))
    for options in options_of(row):

        def f(*xs, options=options):
            y = row(*xs, **options)
            return row(y + 1.0, **options) if row.arity == 1 and row.keeps_dtype else y

        with np.errstate(all="ignore"):
            compiled = mg.compile(f, kernels=kernels)
            compiled(*inputs)
            assert bits(compiled(*inputs)) == bits(f(*inputs)), options


@pytest.mark.parametrize("kernels", KERNELS)
@given(data=st.data())
def test_chains_over_drawn_shapes_and_layouts(kernels, data):
    shape = data.draw(st.sampled_from([(), (1,), (5,), (3, 4), (1, 6), (4, 1), (2, 3, 4), (0, 3)]))
    layouts = {
        "c": lambda a: a,
        "f": np.asfortranarray,
        "reversed": lambda a: a[::-1] if a.ndim else a,
        "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
        "stretched": lambda a: np.broadcast_to(a.reshape(-1)[:1], a.shape) if a.size and a.ndim else a,
    }
    x, y = (mg.tensor(layouts[data.draw(st.sampled_from(sorted(layouts)))](normal(*shape))) for _ in range(2))
    x = mg.Tensor._wrap(layouts[data.draw(st.sampled_from(sorted(layouts)))](x.numpy()), x.device, None)
    words = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=8))

    def f(x, y):
        a, b = x, y
        for w in words:
            a, b = b, (
                a + b, a * 0.5, mg.tanh(a), a - b.sum(), mg.where(a > b, a, 0.25), mg.maximum(a, b), mg.square(a) + 1.0,
                mg.sqrt(mg.abs(a)), a.sum(axis=0, keepdims=True) + b if a.ndim else a + b,
                a.T.T + b.mean() if a.size else a,
            )[w]  # fmt: skip
        return a, b, b.sum(), a.T

    compiled = mg.compile(f, kernels=kernels)
    for _ in range(2):
        expected, found = f(x, y), compiled(x, y)
        assert [*map(bits, expected)] == [*map(bits, found)]


def test_a_condition_that_is_one_bool_is_replayed():
    f = mg.compile(lambda x: mg.where(np.bool_(True), x, x * 2.0) + 1.0)
    for _ in range(2):
        assert f(mg.tensor(3.0)).item() == 4.0


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_forward_may_compare_by_operators(kernels):
    samples = Samples("any", (Domain(-3.0, 3.0),), analytic=False)
    for forward in (
        lambda xp, x, /: (x == 1.0) * x,
        lambda xp, x, /: xp.where(x != 1.0, x, 5.0),
        lambda xp, x, /: (x == xp.abs(x)) * 2.0,
    ):
        row = Primitive("comparing", forward, [None], samples, elementwise=True)
        f = mg.compile(lambda x, row=row: mg.exp(row(x)) + 1.0, kernels=kernels)
        x = mg.tensor([-1.0, 1.0, 2.0, 1.0])
        eager = bits(f(x))
        assert bits(f(x)) == eager


def test_a_module_trains_as_without_compile_and_modes_have_their_own_programs():
    class Layer(nn.Module):
        def __init__(self):
            self.linear = nn.Linear(3, 3)

        def forward(self, x):
            return self.linear(x) * (2.0 if self.training else 1.0)

    layer = Layer()
    f = mg.compile(lambda x: layer(x).detach())
    x = mg.tensor(normal(2, 3))
    for mode in (True, False, True, False):
        layer.train(mode)
        assert bits(f(x)) == bits(layer(x))
    assert len(f.programs) == 2


def test_another_shape_dtype_or_static_argument_is_recorded_anew():
    calls = []

    @mg.compile
    def f(x, power, names):
        calls.append(x.shape)
        return {name: x**power for name in names}

    for x in (normal(2), normal(3), normal(2, dtype="float64"), normal(2)):
        for power in (2, 2.0, 3):
            found = f(mg.tensor(x), power, ["a", "b"])
            np.testing.assert_array_equal(found["b"].numpy(), (mg.tensor(x) ** power).numpy())
    assert len(calls) == 9
    assert len(f.programs) == 9


@pytest.mark.parametrize("kind", [set, list])
def test_a_set_or_list_that_was_changed_in_place_is_recorded_anew(kind):
    compiled = mg.compile(lambda x, tree: x * float(sum(tree["numbers"][0])))
    numbers, found = kind([2, 3]), []
    for change in (lambda: None, lambda: (numbers.add if kind is set else numbers.append)(5), lambda: None):
        change()
        found.append(compiled(mg.ones(1), {"numbers": (numbers,)}).item())
    assert found == [5.0, 10.0, 10.0] and len(compiled.programs) == 2


@pytest.mark.parametrize(
    "values",
    [
        ({1}, {True}, {1.0}, frozenset({1}), frozenset({True})), ({0.0}, {-0.0}), ({(1,)}, {(True,)}),
        ({(0.0,)}, {(-0.0,)}), (slice(2), slice(0, 2), slice(True)), ({0j}, {complex(-0.0, 0.0)}),
    ],
)  # fmt: skip
def test_values_that_are_equal_but_not_alike_are_told_apart(values):
    seen = []
    compiled = mg.compile(lambda x, value: (seen.append(value), x * 1)[1])
    for value in (*values, *values):
        compiled(mg.ones(1), value)
    assert list(map(repr, seen)) == list(map(repr, values))


def test_equal_sets_of_another_order_are_told_apart():
    one, other = {0, 8}, {8, 0}  # both fall on one place of a table of eight
    assert one == other and list(one) != list(other)
    compiled = mg.compile(lambda x, numbers: sum(x**n for n in numbers))
    x = mg.tensor([0.1, 0.3, 0.7])
    for numbers in (one, other, one, other):
        assert bits(compiled(x, numbers)) == bits(sum(x**n for n in numbers))
    assert len(compiled.programs) == 2


def test_tensors_of_a_set_are_those_that_were_given():
    compiled = mg.compile(lambda x, others: x + sum(others, start=0.0))
    a, b = mg.tensor([1.0]), mg.tensor([2.0])
    assert [compiled(mg.ones(1), {t}).item() for t in (a, b, a)] == [2.0, 3.0, 2.0]


@dataclasses.dataclass
class Settings:
    rate: float


@dataclasses.dataclass(frozen=True)
class Fixed:
    rate: object


def test_an_argument_without_a_hash_is_refused():
    compiled = mg.compile(lambda x, settings: x * settings.rate)
    with pytest.raises(DTypeError, match="got a Settings, in which a change would go unnoticed .* frozen dataclass"):
        compiled(mg.ones(1), Settings(2.0))
    with pytest.raises(DTypeError, match="got a Fixed, .*unhashable type: 'list'"):
        compiled(mg.ones(1), Fixed([2.0]))
    with pytest.raises(DTypeError, match="got a bytearray"):
        compiled(mg.ones(1), [bytearray(b"x")])
    assert [compiled(mg.ones(1), Fixed(rate)).item() for rate in (2.0, 3.0, 2.0)] == [2.0, 3.0, 2.0]
    assert len(compiled.programs) == 2


def test_numpy_arguments_are_copied_in():
    f = mg.compile(lambda x: mg.square(x))
    a = normal(3)
    first = f(a)
    a += 1.0
    np.testing.assert_array_equal(f(a).numpy(), a * a)
    assert not np.array_equal(first.numpy(), a * a)


def test_results_belong_to_the_caller():
    w = mg.Parameter(normal(4))
    f = mg.compile(lambda x: ((x + w).detach(), w, x))
    x = mg.tensor(normal(4))
    results = [f(x) for _ in range(3)]
    before = [bits(r[0]) for r in results]
    f(mg.tensor(normal(4)))
    assert [bits(r[0]) for r in results] == before
    assert all(r[1] is w for r in results[1:])
    assert results[1][2] is x


def test_a_step_may_change_its_arguments():
    def f(x, y):
        x.assign(x + y)
        return x * 2.0

    x, y = mg.tensor(normal(3)), mg.tensor(normal(3))
    expected = mg.tensor(x)
    compiled = mg.compile(f)
    for _ in range(3):
        assert bits(compiled(x, y)) == bits(f(expected, y))
        assert bits(x) == bits(expected)


def test_an_argument_that_is_a_view_of_an_assigned_parameter_changes_on_the_way():
    results = []
    for compiled in (False, True):
        w = mg.Parameter([1.0, 1.0])

        def step(x, w=w):
            w.assign(w + 1.0)
            return x * 2.0

        f = mg.compile(step) if compiled else step
        f(mg.tensor([0.0, 0.0]))
        results.append([f(w.detach()).numpy().tolist() for _ in range(3)])
    assert results[0] == results[1] == [[6.0, 6.0], [8.0, 8.0], [10.0, 10.0]]


def test_a_change_of_the_parameters_memory_is_noticed():
    layer = nn.Linear(3, 2)
    f = mg.compile(lambda x: layer(x).detach())
    x = mg.tensor(normal(2, 3))
    f(x)
    layer.to("float64")
    x = x.to("float64")
    assert bits(f(x)) == bits(layer(x))
    other = nn.Linear(3, 2)
    other.to("float64")
    layer.load_state_dict(other.state_dict())  # the same memory with other values
    assert bits(f(x)) == bits(other(x))


def test_reading_a_value_raises_and_names_the_line():
    @mg.compile
    def f(x):
        return x if float(x.sum()) > 0 else -x

    with pytest.raises(GraphError, match=r"test_compile\.py:\d+"):
        f(mg.tensor([1.0]))
    assert f.programs == []


@pytest.mark.parametrize("f", [
    lambda x: mg.zeros((1,)).assign(x) * 2.0,
    lambda x: x + mg.random.Generator(0).uniform((1,)),
])  # fmt: skip
def test_a_state_that_begins_anew_in_every_call_cannot_be_recorded(f):
    with pytest.raises(RecordingError, match=r"test_compile\.py:\d+ changes a tensor that the recorded function made"):
        mg.compile(f)(mg.tensor([1.0]))


def test_a_result_that_requires_grad_is_refused():
    w = mg.Parameter([1.0])
    with pytest.raises(GraphError, match="requires grad"):
        mg.compile(lambda x: x * w)(mg.tensor([2.0]))


def test_gradients_of_the_recording_do_not_stay_behind():
    w = mg.Parameter([1.0, 2.0])

    @mg.compile
    def f(x):
        loss = (w * x).sum()
        loss.backward()
        w.assign(w - w.grad)
        w.grad = None
        (w * w).sum().backward()
        return loss

    for _ in range(3):
        f(mg.tensor([1.0, 1.0]))
        assert w.grad is None
    np.testing.assert_array_equal(w.detach().numpy(), [-2.0, -1.0])


def test_an_assignment_of_a_replay_invalidates_older_graphs():
    w = mg.Parameter([1.0])
    f = mg.compile(lambda x: w.assign(w * x))
    f(mg.tensor([2.0]))
    loss = (w * w).sum()
    f(mg.tensor([2.0]))
    with pytest.raises(GraphError, match="assign"):
        loss.backward()


def test_a_step_that_is_always_recorded_anew_warns():
    f = mg.compile(lambda x, n: x * n)
    x = mg.tensor([1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(16):
            f(x, n)
    for times in (17, 18):
        with pytest.warns(RuntimeWarning, match=f"recorded {times} times, the last time for a call of another kind"):
            f(x, times)
    assert len(f.programs) == 16


def test_the_warning_names_the_setting_that_keeps_changing():
    (w,) = parameters((3,))
    optimizer = mg.optim.Adam([w])

    @mg.compile
    def step(x):
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()

    x = mg.ones((3,))
    with pytest.warns(RuntimeWarning, match="recorded 17 times, the last time because Adam.eps changed"):
        for number in range(17):
            optimizer.eps = 1e-8 * (1 + number)
            step(x)


def test_the_program_that_is_forgotten_is_the_one_recorded_first_whatever_its_kind():
    module = nn.Dropout(0.0)
    f = mg.compile(module)
    for n in range(1, 16):
        f(mg.ones((n,)))
    module.eval()
    f(mg.ones((1,)))  # of the first kind too, but the sixteenth program
    with pytest.warns(RuntimeWarning, match="recorded 17 times"):
        f(mg.ones((16,)))
    with pytest.warns(RuntimeWarning, match="recorded 18 times"):
        f(mg.ones((17,)))
    kept = f.programs
    f(mg.ones((1,)))  # has not been forgotten
    assert f.programs == kept and sorted(p.arguments[0].shape[0] for p in kept) == [1, *range(3, 18)]


def test_of_too_many_programs_for_one_kind_of_arguments_the_last_ones_stay():
    modules = [nn.Dropout(0.5) for _ in range(5)]

    @mg.compile
    def f(x):
        for module in modules:
            x = module(x)
        return x

    x = mg.ones((3,))
    with pytest.warns(RuntimeWarning, match="recorded 17 times"):
        for number in range(17):
            for i, module in enumerate(modules):
                module.train(bool(number >> i & 1))
            f(x)
    before = f.programs
    f(x)
    assert len(before) == 16 and f.programs == before


def test_a_compiled_function_inside_another_is_part_of_it():
    inner = mg.compile(lambda x: x * 2.0)
    outer = mg.compile(lambda x: inner(x) + inner(x))
    for _ in range(2):
        np.testing.assert_array_equal(outer(mg.tensor([3.0])).numpy(), [12.0])
    assert inner.programs == []
    assert [e.primitive.name for e in outer.programs[0].equations] == ["multiply", "add"]


def test_value_and_grad_compiles():
    f = mg.value_and_grad(lambda x: (x**3).sum())
    compiled = mg.compile(f)
    for _ in range(2):
        x = mg.tensor(normal(3))
        for a, b in zip(f(x), compiled(x), strict=True):
            assert bits(a) == bits(b)


def test_threads_may_share_a_compiled_function():
    f = mg.compile(lambda x: mg.exp(x) * 2.0)
    xs = [mg.tensor(normal(50)) for _ in range(4)]
    wrong = []

    def work(x):
        expected = bits(mg.exp(x) * 2.0)
        wrong.extend(1 for _ in range(50) if bits(f(x)) != expected)

    workers = [threading.Thread(target=work, args=(x,)) for x in xs]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


def test_a_compiled_function_that_is_dropped_frees_its_memory():
    f = mg.compile(lambda x: mg.exp(x))
    f(mg.ones((1000,)))
    entry = weakref.ref(next(iter(f._entries.values()))[0])
    del f
    gc.collect()
    assert entry() is None


# Passes and plans


def test_a_first_layer_needs_five_matrix_products():
    step, _ = sigmoid_autoencoder()
    program = simplify(mg.record(step)(mg.tensor(normal(3, 12))))
    assert sum(e.primitive.name == "matmul" for e in program.equations) == 5


def test_passes_leave_the_old_program_and_the_results_alone():
    def f(x):
        unused = mg.exp(x)  # noqa: F841
        a = mg.broadcast_to(x[0] * 0.5, (2, 3))
        return (mg.tanh(x) * a + mg.tanh(x)).sum()

    program = mg.record(f)(mg.tensor(normal(2, 3)))
    before = repr(program)
    simple = simplify(program)
    assert repr(program) == before
    assert [e.primitive.name for e in simple.equations] == ["getitem", "multiply", "tanh", "multiply", "add", "sum"]
    x = mg.tensor(normal(2, 3))
    assert bits(simple(x)) == bits(f(x))
    simple.check()


def test_what_was_broadcast_twice_is_read_as_it_was_before():
    def f(x, y):
        return x * mg.broadcast_to(mg.broadcast_to(y, (1, 3)), (2, 3))

    program = simplify(mg.record(f)(mg.ones((2, 3)), mg.ones((3,))))
    (product,) = program.equations
    assert [v.shape for v in product.variables] == [(2, 3), (3,)]


def test_values_that_are_not_alive_together_share_memory():
    def f(x):
        for _ in range(10):
            x = mg.tanh(x @ x)
        return x.sum()

    plan = mg.record(f)(mg.tensor(normal(32, 32))).plan()
    assert len(plan.sizes) == 3  # two matrices in turn, and the sum
    assert sum(plan.sizes) == 2 * 32 * 32 * 4 + 4


def test_an_update_is_written_straight_into_the_parameter():
    (w,) = parameters((64, 64))
    step = mg.record(lambda g: w.assign(w - 0.1 * g))
    program = simplify(step(mg.tensor(normal(64, 64))))
    replay = Replay(program, threads=1, native=False)
    (((first, _), (last, arguments)),) = replay.phases[0]
    assert (first, last) == (np.multiply, np.subtract)
    assert np.shares_memory(arguments[-1], w._array)


def test_bad_arguments_are_refused_at_once():
    with pytest.raises(DTypeError, match="takes a function, got int"):
        mg.compile(3)
    with pytest.raises(DTypeError, match="takes a function, got int"):
        mg.record(3)
    with pytest.raises(DTypeError, match="takes a function, got int"):
        mg.checkpoint(3)
    with pytest.raises(DataError, match="threads=0"):
        mg.compile(mg.exp, threads=0)
    with pytest.raises(ShapeError, match="argnums=3 for 1 positional"):
        mg.grad(mg.sum, argnums=3)(mg.tensor([1.0]))
    with pytest.raises(DTypeError, match="got int"):
        mg.Parameter([1.0]).register_hook(3)


def test_no_result_is_lost_when_kernels_take_over(monkeypatch):
    pytest.importorskip("llvmlite")
    monkeypatch.setattr("minigrad.program.entry.BEFORE_KERNELS", 0.0)
    monkeypatch.setenv("MINIGRAD_CACHE", "off")
    forget_machine_code()
    w = mg.Parameter(np.linspace(-1.0, 1.0, 6, dtype="float32"))

    def step(x):
        loss = mg.mean(mg.square(x * w - 1.0))
        (g,) = mg.autograd.grad(loss, w)
        return loss.detach(), g

    compiled = mg.compile(step)
    for i in range(5):  # recorded, replayed, and then replayed by kernels
        x = mg.tensor(np.full(6, 0.5 + i, "float32"))
        expected, found = step(x), compiled(x)
        assert found[0].item() == expected[0].item()
        assert (found[1].numpy() == expected[1].numpy()).all()
        assert compiled.replays[0].native == (i > 1)


def forget_machine_code():
    native._built.clear()
    native._last_built.clear()


def test_kernels_are_used_at_once_where_an_earlier_process_has_kept_them(monkeypatch, tmp_path):
    pytest.importorskip("llvmlite")
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path))
    x = mg.tensor(np.linspace(-1.0, 1.0, 6, dtype="float32"))

    def fused(kernels=None):
        forget_machine_code()  # as a new process has none
        compiled = mg.compile(lambda x: mg.square(x * 3.0 - 1.0), kernels=kernels)
        expected, *found = (compiled(x).numpy().tobytes() for _ in range(3))
        assert found == [expected] * 2
        return compiled.replays[0].native

    assert [fused(), fused(kernels=False)] == [False, False]
    assert fused(kernels=True)
    assert [fused(), fused(kernels=False)] == [True, False]
    for file in tmp_path.glob("*.o"):
        file.write_bytes(b"torn")
    assert not fused()
    monkeypatch.setenv("MINIGRAD_CACHE", "off")
    assert not fused()


def test_an_array_that_a_step_changes_is_the_callers_own():
    def step(x):
        x.assign(x + 1.0)
        return x.sum()

    compiled, given = mg.compile(step), np.zeros(3, np.float32)
    assert [compiled(given).item() for _ in range(3)] == [3.0] * 3
    assert (given == 0).all()


def test_large_arguments_are_read_where_they_are():
    w = mg.Parameter(np.ones((64, 64), "float32"))

    def step(x):
        w.assign(w * x)
        return (x.mT + w).sum(axis=0)

    compiled = mg.compile(step)
    for i in range(4):
        x = mg.tensor(np.full((64, 64), 1.0 + i / 8, "float32"))
        before = w.numpy().copy()
        assert compiled(x).numpy().tobytes() == (x.numpy().T + before * x.numpy()).sum(axis=0).tobytes()
    replay = next(iter(compiled._entries.values()))[0].replay
    assert list(replay._bindings) == [0]


def test_an_argument_in_the_memory_of_a_parameter_is_what_it_was():
    w = mg.Parameter(np.full((64, 64), 3.0, "float32"))

    def step(x):
        w.assign(w * 2.0)
        return x + w

    compiled = mg.compile(step)
    compiled(np.zeros((64, 64), "float32"))
    assert (w.numpy() == 6.0).all()
    assert (compiled(w.numpy()).numpy() == 6.0 + 12.0).all()


def test_zero_has_a_sign():
    compiled = mg.compile(lambda x, a: x / a)
    with np.errstate(divide="ignore"):
        assert compiled(mg.tensor(1.0), 0.0).item() == np.inf
        assert compiled(mg.tensor(1.0), -0.0).item() == -np.inf


def test_assigned_names_all_that_a_step_changes():
    w, generator = mg.Parameter([1.0]), mg.random.Generator(0)
    generator.uniform((1,))

    def step(x):
        w.assign(w + generator.uniform((1,)) * x)

    compiled = mg.compile(step)
    compiled(mg.tensor([1.0]))
    assert {id(t) for t in compiled.assigned} == {id(w), *(id(t) for _, t in generator.named_tensors())}


def test_arrays_whose_bytes_are_in_another_order_are_converted_large_ones_too():
    f = mg.compile(lambda x, w: mg.sum(mg.exp(x) @ w))
    w = mg.tensor(np.ones((200, 5)))
    for rows in (3, 300):
        x = np.random.default_rng(0).random((rows, 200))
        results = [f(x.astype(">f8"), w).item() for _ in range(4)]
        assert results == [mg.sum(mg.exp(mg.tensor(x)) @ w).item()] * 4


@pytest.mark.parametrize("shapes", [((2, 3, 4), (4,)), ((3,), (2, 3, 4)), ((3,), (3,)), ((2, 3), (3,))])
def test_products_of_vectors_and_stacks_are_replayed(shapes):
    a, b = (mg.tensor(np.arange(math.prod(s), dtype="float32").reshape(s)) for s in shapes)
    product = mg.compile(lambda a, b: a @ b)
    for _ in range(3):
        np.testing.assert_array_equal(product(a, b).numpy(), (a @ b).numpy())


@pytest.mark.parametrize("rows", [8, 10000])
def test_an_array_that_is_memory_of_what_is_assigned_is_read_before(rows):
    w = mg.Parameter(np.arange(1.0, 8 * rows + 1, dtype="float32"))

    def step(x):
        w.assign(w * 0.5)
        return x * 2.0

    step = mg.compile(step, threads=2)
    for _ in range(3):
        before = w.numpy().copy()
        np.testing.assert_array_equal(step(w.numpy().reshape(rows, 8)).numpy().ravel(), 2 * before)


def test_a_step_without_memory_for_its_replay_is_done_once_and_then_runs_as_it_is(monkeypatch):
    def fail(*_, **__):
        raise MemoryError("no memory")

    w = mg.Parameter([1.0])

    @mg.compile
    def step():
        w.assign(w + 1.0)

    monkeypatch.setattr(sys.modules["minigrad.program.compile"], "Replay", fail)
    with pytest.warns(RuntimeWarning, match="MemoryError"):
        step()
    step()
    assert w.detach().item() == 3.0


@pytest.mark.parametrize("shape", [(), (1,), (5, 1), (1, 7)])
@pytest.mark.parametrize("assigned", [False, True])
def test_products_of_few_complex_numbers_are_replayed_to_the_bit(shape, assigned):
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = (mg.tensor((rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype("complex64")) for _ in "xy")
        w = mg.ones(shape, "complex64") if assigned else None

        def f(x, y, w=w):
            if w is not None:
                w.assign(x)
                w.assign(w * y)
                return w * 1.0
            return (x + y) * y * x

        compiled = mg.compile(f, threads=2)
        compiled(x, y)
        assert f(x, y).detach().numpy().tobytes() == compiled(x, y).detach().numpy().tobytes()


def test_a_complex_column_that_lies_backwards_is_replayed_to_the_bit():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x = mg.tensor((rng.normal(size=(5, 1)) + 1j * rng.normal(size=(5, 1))).astype("complex64"))
        compiled = mg.compile(lambda x: x[::-1] * x[::-1], threads=2)
        compiled(x)
        assert (x[::-1] * x[::-1]).numpy().tobytes() == compiled(x).numpy().tobytes()


@pytest.mark.parametrize("kernels", KERNELS)
def test_functions_of_single_complex_numbers_are_replayed_to_the_bit(kernels):
    def f(x):
        return mg.tape.apply(mg.primitives["erf"], x * 1.5) + 1.0

    for dtype in ("complex64", "complex128", "float32"):
        compiled = mg.compile(f, kernels=kernels)
        for _ in range(40):
            x = mg.tensor((rng.normal() + 1j * rng.normal() if dtype != "float32" else rng.normal()), dtype=dtype)
            assert bits(compiled(x)) == bits(f(x))


def test_plans_and_replays_can_be_read():
    w = mg.Parameter(normal(512, 512))

    def step(x):
        g = mg.exp(x).sum(axis=0)
        w.assign(w - 0.1 * g)
        return g.sum()

    compiled = mg.compile(step, threads=2, kernels=False)
    compiled(mg.tensor(normal(512, 512)))
    (program,), (replay,) = compiled.programs, compiled.replays
    lines = dict(line.split(": ", 1) for line in str(program.plan()).splitlines()[1:])
    assert sorted(number.split(maxsplit=1)[1] for number in lines) == [
        "exp", "multiply", "subtract assign", "sum", "sum",
    ]  # fmt: skip
    name = next(iter(program.captured)).name
    assert lines["   1  exp"].endswith("in block 0, until 2")
    assert lines["   5  subtract assign"] == f"{name}' in {name}"
    assert any(result.endswith("for the caller") for result in lines.values())
    text = str(replay).splitlines()
    # kinds of calls differ with the loops that NumPy has, and so do phases; the groups are those of the plan
    assert text[0].startswith("replay of step: ") and text[0].endswith(" phases, 2 threads")
    assert text[1].startswith("phase 1") and text[2] == "  thread 1" and "  thread 2" in text
    output = {e.primitive.name: e.output.name for e in program.equations}
    for rows in ("0:256", "256:512"):
        assert f"     1  exp -> {output['exp']}: rows {rows}" in text
    for columns in ("0:256", "256:512"):
        assert any(line.startswith("     2  sum -> ") and line.endswith(f": columns {columns}") for line in text)
    assert f"     5  subtract assign -> {name}': rows 0:256" in text


def test_a_plan_says_that_results_are_for_the_caller():
    def step(x):
        y = mg.exp(x)
        z = y.sum()
        return y.reshape(-1), z, (y * z).sum()

    plan = str(mg.record(step)(mg.ones((64, 64))).plan())
    (line,) = (line for line in plan.splitlines() if " exp: " in line)
    assert "for the caller" in line and "until" not in line


def test_a_replay_names_all_that_a_group_stores_and_says_what_is_too_short_for_threads():
    (w,) = parameters((64, 64))

    def step(x):
        y = mg.exp(x)
        w.assign(w - y)
        return y

    program = simplify(mg.record(step)(mg.ones((64, 64))))
    text = str(Replay(program, threads=2, native=False)).splitlines()
    assert any(line.startswith("phase") and line.endswith(", too short for more threads") for line in text)
    y, w_ = program.equations[0].output.name, program.equations[-1].output.name
    assert [line for line in text if "exp" in line] == [
        f"     1  exp subtract assign -> {y}, {w_}: rows {rows}" for rows in ("0:32", "32:64")
    ]


def test_what_is_cut_for_more_threads_than_there_are_keeps_its_names():
    memory = np.zeros((4, 8))
    stage = Stage([Share([(print, ())], [], [row], 1e6, names=[str(i)]) for i, row in enumerate(memory)])
    (phase,) = phases([stage], threads=2)
    assert phase.names == [["0", "1"], ["2", "3"]] and not phase.is_short


def test_a_negative_zero_is_another_argument_in_every_type():
    x = mg.tensor([1.0, 2.0])
    divide = mg.compile(lambda x, s: x / s)
    with np.errstate(divide="ignore"):
        for zero in (0.0, -0.0, np.float32(0.0), np.float32(-0.0)):
            assert divide(x, zero).numpy().tolist() == [math.copysign(math.inf, zero)] * 2


@pytest.mark.parametrize("kernels", KERNELS)
def test_matrices_without_elements_are_compiled(kernels):
    compiled = mg.compile(lambda x: x * 2.0 + 1.0, kernels=kernels)
    for shape in ((5, 0), (0, 5), (0,), (2, 0, 3)):
        for _ in range(3):
            assert compiled(mg.ones(shape)).shape == shape


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_during_a_step_of_another_thread_can_run_it():
    (w,) = parameters((300, 300))
    step = mg.compile(lambda x: w.assign(w + 0.001 * (x.mT @ x)).sum())
    x = mg.ones((128, 300))
    step(x)
    going = True

    def run():
        while going:
            step(x)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # ends it if it hangs
                totals = np.array([step(x).item() for _ in range(4)], np.float64)
                steps = np.diff(totals) / (0.001 * 128 * 300 * 300)
                os._exit(0 if np.abs(steps - 1).max() < 0.05 else 1)  # the sum is a large number in float32
            assert os.waitpid(child, 0)[1] == 0
    finally:
        going = False
        thread.join()


def test_rows_of_one_name_and_numbers_that_print_alike_stay_apart():
    def scale(k):
        return Primitive(
            "scale", lambda xp, x, /, *, by=None: x * k if by is None else x * by[0],
            [lambda F, g, y, x, by=None: g], Samples("any", (Domain(0, 1),)),
        )  # fmt: skip

    two, three = scale(2.0), scale(3.0)
    near = np.array([1.0]), np.array([1.0 + 1e-12])
    large = np.zeros(2000), np.zeros(2000)
    large[1][0] = 1.0
    x = mg.tensor([1.0], dtype="float64")
    for f, expected in [
        (lambda x: two(x) + three(x), 5.0),
        (lambda x: two(x, by=near[0]) - two(x, by=near[1]), 1.0 - (1.0 + 1e-12)),
        (lambda x: two(x, by=large[0]) - two(x, by=large[1]), -1.0),
        (lambda x: two(x, by=[near[0][0]]) - two(x, by=[near[1][0]]), 1.0 - (1.0 + 1e-12)),
    ]:
        compiled = mg.compile(f)
        assert [compiled(x).item() for _ in range(3)] == [expected] * 3


def test_a_name_of_the_table_is_not_for_others():
    with pytest.raises(MinigradError, match="already a primitive called 'sum'"):
        Primitive("sum", lambda xp, x, /: xp.sum(x * x), [None], Samples("any", (Domain(0, 1),)))


@pytest.mark.parametrize("kernels", KERNELS)
def test_products_of_a_matrix_and_its_transpose_have_one_result(kernels):
    """NumPy computes half of x @ x.T, and other bits; equal matrices may or may not be one in a compiled step."""
    for shape in ((60, 60), (33, 40), (128, 8), (2, 20, 20)):
        a = mg.tensor(normal(*shape))
        cases = [
            (lambda x: (x * 2.5) @ (x * 2.5).mT, (a,)),
            (lambda x: x @ x.mT, (a,)),
            (lambda x, y: x @ y, (a, a.mT)),
            (lambda x, y: x @ y, (a, mg.tensor(a.numpy().copy()).mT)),
        ]
        for i, (f, inputs) in enumerate(cases):
            compiled = mg.compile(f, kernels=kernels)
            expected = bits(f(*inputs))
            found = [bits(compiled(*inputs)) == expected for _ in range(3)]
            assert found == [True] * 3, f"input {i} of shape {shape}"


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_small_outer_product_keeps_the_sign_of_zero(kernels):
    compiled = mg.compile(lambda x, y: x @ y, kernels=kernels)
    x, y = mg.tensor([[-1.0], [2.0]]), mg.zeros((1, 100))
    assert [bits(compiled(x, y)) for _ in range(3)] == [bits(x @ y)] * 3


def test_means_of_complex_numbers_are_replayed_to_the_bit():
    compiled = mg.compile(lambda x: mg.mean(x, axis=0))
    for _ in range(10):
        x = mg.tensor((normal(7, 5) + 1j * normal(7, 5)).astype("complex64"))
        assert bits(compiled(x)) == bits(mg.mean(x, axis=0))


def at_instruction(place, outer, inner):
    """Call `outer`, and `inner` at one of its instructions in minigrad, as a signal's handler may be called at any.

    Returns how many instructions there were, and what `outer` returned.
    """
    seen = 0

    def traced(frame, event, _):
        nonlocal seen
        frame.f_trace_opcodes = True
        if event == "opcode":
            seen += 1
            if seen == place:
                inner()
        return traced

    def entered(frame, event, _):
        return traced(frame, event, _) if frame.f_globals["__name__"].startswith("minigrad") else None

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        result = outer()
    finally:
        sys.settrace(before)
    return seen, result


def at_each_instruction(outer, inner):
    """Return what `outer` returns where `inner` is called at its first instruction, its second, and so on."""
    results = []
    instructions = sys.maxsize
    while len(results) < instructions:
        instructions, result = at_instruction(len(results) + 1, outer, inner)
        results.append(result)
    return results


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_step_that_is_called_again_before_it_returns_has_its_own_result(kernels):
    compiled = mg.compile(lambda x, w: mg.sum(mg.tanh(x @ w) @ w), kernels=kernels)
    w = mg.tensor(normal(60, 60) / 8)
    a, b = mg.tensor(normal(60, 60)), mg.tensor(normal(60, 60))
    right = [compiled(x, w).item() for x in (a, b, a, b)][2:]
    inside = []
    found = at_each_instruction(lambda: compiled(a, w).item(), lambda: inside.append(compiled(b, w).item()))
    assert len(found) > 300
    assert set(found) == {right[0]} and set(inside) == {right[1]}


def test_a_step_that_is_called_again_before_it_returns_assigns_twice():
    w = mg.Parameter(np.zeros(3, "float32"))

    @mg.compile
    def step(x):
        w.assign(w + x)
        return mg.sum(w)

    one = mg.ones(3)
    step(one)
    found = [x.item() / 3 for x in at_each_instruction(lambda: step(one), lambda: step(one))]
    assert len(found) > 300
    assert w.numpy().tolist() == [1 + 2 * len(found)] * 3  # each outer call adds one, and each inner one
    assert all(x in (2 * i, 2 * i + 1) for i, x in enumerate(found, 1))  # the result of the outer one, or of both


class Batch(dict):
    """A dict with the keys as attributes, made from something else than a dict."""

    def __init__(self, *names):
        super().__init__((name, None) for name in names)

    __getattr__ = dict.__getitem__


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("rows", [0, 3, 2000])
def test_a_group_without_columns_writes_nothing(rows, kernels):
    step = mg.compile(lambda x, y: (y * y - 0.25, x * 2.0 + y[1:]), kernels=kernels)
    x, y = mg.ones((rows, 1)), mg.tensor([3.0])
    for _ in range(3):
        first, empty = step(x, y)
        assert first.numpy().tolist() == [8.75] and empty.shape == (rows, 0)


def test_a_step_with_random_numbers_does_not_lose_gradients():
    x = mg.tensor([1.0, 2.0])
    for step in (lambda x: (x * mg.random.uniform(x.shape)).sum(), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))):
        with pytest.raises(GraphError, match=r"compiled function \S+ returned .* but replays build no graph"):
            mg.compile(step)(mg.tensor(x.numpy(), requires_grad=True))


def test_a_loss_whose_gradient_was_computed_is_returned_without_a_graph():
    w = mg.Parameter([3.0])

    @mg.compile
    def by_backward(x):
        loss = (x * w).sum()
        loss.backward()
        return loss, w.grad, 2.0 * loss

    @mg.compile
    def by_grad(x):
        loss = (x * w).sum()
        return loss, *mg.autograd.grad(loss, w), 2.0 * loss

    for step in (by_backward, by_grad):
        for _ in range(3):
            assert [t.item() for t in step(mg.tensor([2.0]))] == [6.0, 2.0, 12.0]


@pytest.mark.parametrize("make", [list.__iter__, lambda x: dataclasses.make_dataclass("Out", ["h"])(x), np.array])
def test_a_result_that_would_be_frozen_is_refused(make):
    wrap = {np.array: lambda x: np.zeros(2)}.get(make, make)
    step = mg.compile(lambda x: wrap([x * 2.0]))
    with pytest.raises(RecordingError, match=r"returned a \w+, which every run .* return tensors and numbers"):
        step(mg.tensor([1.0]))


def test_what_is_no_tensor_may_be_returned_where_it_does_not_change():
    key = frozenset([1])
    step = mg.compile(lambda x, y: (x * 2.0, {"kind": "double", "n": 3, "none": None, "given": y}))
    for _ in range(3):
        assert step(mg.tensor([1.0]), key)[1] == {"kind": "double", "n": 3, "none": None, "given": key}


def test_gradients_that_the_step_does_not_leave_stay():
    p, q = mg.Parameter([1.0]), mg.Parameter([2.0])
    metric = mg.compile(lambda x: (x * p.detach() * q.detach()).sum())

    @mg.compile
    def step(x):
        (x * q).sum().backward()

    x = mg.tensor([3.0], requires_grad=True)
    for _ in range(3):
        p.grad, q.grad, x.grad = None, None, None
        (p * x).sum().backward()
        before = p.grad, x.grad
        metric(mg.tensor([1.0]))
        assert (p.grad, x.grad) == before
        x.grad = None
        step(x)
        assert p.grad is before[0] and q.grad is None and x.grad is None


def test_keys_of_dicts_are_told_apart_as_values_are():
    compiled = mg.compile(lambda d: next(v * len(str(k)) for k, v in d.items()))
    x = mg.tensor([1.0])
    for _ in range(2):
        assert [compiled({k: x}).item() for k in (1, True, 1.0, 0.0, -0.0)] == [1, 4, 3, 3, 4]


def test_results_are_not_views_of_what_changes_in_any_call():
    w = mg.tensor([[1.0, 2.0]])

    @mg.compile
    def step(x):
        w.assign(w + x)
        return w[0], x.T, w, x

    found = []
    for _ in range(4):
        x = mg.tensor([[1.0, 1.0]])
        row, turned, whole, given = step(x)
        assert whole is w and given is x
        x.assign([[9.0, 9.0]])
        found.append((row, turned))
    assert [row.numpy().tolist() for row, _ in found] == [[2.0, 3.0], [3.0, 4.0], [4.0, 5.0], [5.0, 6.0]]
    assert [turned.numpy().tolist() for _, turned in found] == [[[1.0], [1.0]]] * 4


def test_arguments_keep_their_classes():
    class Pair(list):
        pass

    def f(batch, pair):
        assert type(batch) is Batch and type(pair) is Pair
        return batch.x * 2.0 + batch.y, pair

    batch = Batch("x", "y")
    batch["x"], batch["y"] = mg.tensor([1.0]), mg.tensor([2.0])
    compiled = mg.compile(f)
    for _ in range(3):
        total, pair = compiled(batch, Pair([mg.tensor([5.0])]))
        assert total.numpy().tolist() == [4.0] and type(pair) is Pair


@pytest.mark.parametrize(
    ("step", "good", "bad", "error", "message"),
    [
        (mg.inv, np.eye(2), np.zeros((2, 2)), LinAlgError, r"inv\(float64\[2, 2\]\): Singular matrix"),
        (lambda i: mg.arange(3)[i], [0, 1], [0, 3], IndexError, r"getitem\(.*: index 3 is out of bounds"),
        (
            lambda i: mg.arange(2) ** i + 1,
            [0, 1],
            [0, -1],
            ShapeError,
            r"power\(int64\[2\], int64\[2\]\): Integers to neg",
        ),
    ],
)
def test_errors_of_replays_are_those_of_the_step(step, good, bad, error, message):
    compiled = mg.compile(step)
    for _ in range(3):
        compiled(mg.tensor(good))
    for call in (step, compiled):
        with pytest.raises(error, match=message):
            call(mg.tensor(bad))


WRONG = Primitive(
    "no_negative_numbers",
    forward=lambda xp, x, /: xp.linalg.cholesky(x * np.eye(2)),
    vjps=None,
    samples=Samples("any", (Domain(0.0, 1.0),)),
)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("f", "good", "bad"),
    [
        (lambda t, i: t[i], [0, 1], [0, 900]),
        (lambda t, i: t.at[i].add(1.0), [0, 1], [0, 900]),
        (lambda t, i: t.at[i].set(1.0), [0, 1], [0, 900]),
        (lambda t, i: mg.inv(i.to("float64") * mg.tensor(np.eye(2))), [1, 1], [0, 0]),
        (lambda t, i: mg.cholesky(i.to("float64") * mg.tensor(np.eye(2))), [1, 1], [-1, 1]),
        (lambda t, i: WRONG(i.to("float64")), [1, 1], [-1, 1]),
        (lambda t, i: (t[:2].to("int64") ** i).to("float32") * 2.0, [1, 1], [1, -1]),
    ],
)
def test_an_error_of_a_replay_finds_assigned_what_the_step_had_assigned_by_then(f, good, bad, kernels):
    found = []
    for compiled in (False, True):
        early, late, counter = mg.ones((600,)), mg.ones((600,)), mg.tensor(0.0)
        table, arguments = mg.tensor(np.arange(600.0)), []

        def step(x, i, y, z, early=early, late=late, counter=counter, table=table):
            counter.assign(counter + 1.0)
            h = mg.exp(x) * 2.0
            early.assign(early + h)
            y.assign(y * 2.0)
            r = f(table, i)
            late.assign(late + h * 3.0)
            counter.assign(counter + 10.0)
            z.assign(z * 2.0)
            early.assign(early * 0.5)
            return h, r, y + 0.0

        step = mg.compile(step, threads=3, kernels=kernels) if compiled else step
        x, errors = mg.tensor(np.linspace(0.0, 1.0, 600, dtype="float32")), []
        for index in (good, good, bad, good, bad):
            y, z = mg.tensor([3.0]), mg.tensor([4.0])
            try:
                step(x, mg.tensor(np.array(index)), y, z)
            except Exception as error:
                errors.append((type(error), str(error).rpartition(": ")[2]))
            arguments.append((bits(y), bits(z)))
        assert len(errors) == 2
        found.append((*map(bits, (early, late, counter)), arguments, errors))
    assert found[0] == found[1]


def test_steps_without_operations_that_may_raise_wait_for_nothing_more():
    leaves = W, V = parameters((64, 32), (32, 64))
    optimizer = mg.optim.Adam(leaves)

    def step(x):
        loss = mg.square(mg.sigmoid(x @ W) @ V - x + mg.random.normal(x.shape)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    assert not any(map(may_raise, simplify(mg.record(step)(mg.ones((16, 64)))).equations))


def test_a_compiled_method_gets_its_object():
    def scaled(k):
        return mg.compile(lambda self, x: (x * self.w * k).detach())

    class Model:
        def __init__(self, factor):
            self.w = mg.Parameter([factor])

        @mg.compile
        def step(self, x):
            return (x * self.w).detach()

        once, thrice = scaled(1.0), scaled(3.0)

    class Twice(Model):
        @mg.compile
        def step(self, x):
            return super().step(x) * 2.0

    x = mg.tensor([10.0])
    models = [Model(2.0), Model(3.0), Twice(2.0)]
    for _ in range(3):
        assert [m.step(x).item() for m in models] == [20.0, 30.0, 40.0]
        assert models[0].once(x).item() * 3.0 == models[0].thrice(x).item() == 60.0
    again = copy.deepcopy(models[0])
    again.w.assign([5.0])
    assert [again.step(x).item() for _ in range(3)] == [50.0] * 3 and models[0].step(x).item() == 20.0
    assert models[0].step.__self__ is models[0]
    layer = type("Holder", (), {"layer": mg.compile(lambda x: x)})  # a function is bound, and an object is not
    assert type(layer().layer).__name__ == "method"
    assert type("Holder", (), {"layer": mg.compile(nn.Tanh())})().layer(x).numpy() == np.tanh(np.float32(10.0))


def test_methods_of_others_and_static_methods_are_not_bound():
    class Scale:
        def __init__(self, size):
            self.size = size

        def apply(self, x):
            return x * self.size

    class Holder:
        other = mg.compile(Scale(3.0).apply)

        @mg.compile
        @staticmethod
        def half(x):
            return x * 0.5

        @staticmethod
        @mg.compile
        def third(x):
            return x / 3.0

        @mg.compile
        @mg.compile
        def twice(self, x):
            return x * 2.0

    holder, x = Holder(), mg.tensor([3.0])
    for _ in range(2):
        assert [f(x).item() for f in (holder.other, holder.half, holder.third, holder.twice)] == [9.0, 1.5, 1.0, 6.0]
        assert [f(x).item() for f in (Holder.other, Holder.half, Holder.third)] == [9.0, 1.5, 1.0]


def test_the_class_of_a_tensor_and_the_factory_of_a_dict_belong_to_the_kind_of_a_call():
    def step(x):
        return x * (2.0 if isinstance(x, nn.Buffer) else 3.0)

    def look_up(x, numbers):
        return x * numbers["missing"]

    compiled, looked_up = mg.compile(step), mg.compile(look_up)
    for x in (mg.tensor([1.0]), nn.Buffer([1.0])) * 2:
        assert compiled(x).item() == step(x).item()
        for factory in (int, MOST):
            assert looked_up(x, defaultdict(factory)).item() == factory()


def test_which_arguments_are_one_variable_belongs_to_the_kind_of_a_call():
    def step(a, b):
        return mg.autograd.grad(mg.sum(a * b), a)[0]

    w, v = mg.Parameter([2.0, 3.0]), mg.Parameter([10.0, 20.0])
    compiled = mg.compile(step)
    for a, b in [(w, w), (w, v), (v, v), (v, w), (w, w)] * 2:
        assert compiled(a, b).numpy().tolist() == step(a, b).numpy().tolist()

    def captures(x):
        return mg.autograd.grad(mg.sum(x * w), x)[0]

    for first in (w, v):
        compiled = mg.compile(captures)
        for x in (first, w, v, w, v):
            assert compiled(x).numpy().tolist() == captures(x).numpy().tolist()


@pytest.mark.parametrize("how", ["read", "clip_grad_value", "clip_grad_norm"])
def test_a_gradient_that_was_missing_when_a_step_was_recorded_is_noticed_later(how):
    found = []
    for compiled in (False, True):
        w, u = mg.Parameter([1.0]), mg.Parameter([5.0])
        optimizer = mg.optim.SGD([w], 0.5)

        def step(x, w=w, u=u, optimizer=optimizer):
            u.grad = x  # clip_grad_norm wants at least one
            if how != "read":
                getattr(mg.optim, how)([w, u], 1.0)
            if w.grad is not None:
                optimizer.step()
            return x * 2.0

        step = mg.compile(step) if compiled else step
        for gradient in (None, None, 3.0, 3.0):
            w.grad = None if gradient is None else mg.tensor([gradient])
            try:
                step(mg.tensor([1.0]))
            except RecordingError:  # a gradient from before: it says so
                assert compiled and gradient is not None
                found.append("refused")
        found.append(w.item())
    assert found[0] < 1.0 and found[1:] == ["refused", "refused", 1.0]


def test_a_gradient_that_a_step_takes_away_itself_need_not_be_missing_before():
    w, u = mg.Parameter([1.0]), mg.Parameter([1.0])
    optimizer = mg.optim.SGD([w, u], 0.5)

    @mg.compile
    def step(x):
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()

    for _ in range(3):
        u.grad = mg.tensor([1.0])
        step(mg.tensor([1.0]))
    assert u.item() == 1.0 and w.item() == -0.5 and len(step.programs) == 1


def test_a_step_draws_from_the_generator_of_the_thread_that_calls_it():
    def draw(x):
        return x + mg.random.uniform((3,))

    found = {}
    compiled = mg.compile(draw)
    for name, f in (("eager", draw), ("compiled", compiled)):

        def run(name=name, f=f):
            mg.random.seed(5)
            found[name].append([bits(f(mg.zeros(3))) for _ in range(3)])

        found[name] = []
        run()
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        run()
    assert found["eager"] == found["compiled"] and found["eager"][0] == found["eager"][1]


@pytest.mark.parametrize("eq", [True, False])
def test_modules_that_are_equal_or_have_no_hash_have_modes_of_their_own(eq):
    @dataclasses.dataclass(eq=eq)
    class Noise(nn.Module):
        size: float

        def forward(self, x):
            return x + self.size if self.training else x

    first, second = Noise(1.0), Noise(1.0)
    second.eval()
    step = mg.compile(lambda x: first(x) + 10.0 * second(x))
    x = mg.tensor([1.0])
    assert [step(x).item() for _ in range(2)] == [12.0, 12.0]
    second.train()
    assert [step(x).item() for _ in range(2)] == [22.0, 22.0]
    first.eval()
    assert [step(x).item() for _ in range(2)] == [21.0, 21.0]


def test_the_mode_of_a_step_that_changes_it_is_that_in_which_it_begins():
    noise = nn.Dropout(0.5)

    @mg.compile
    def step(x):
        y = noise(x)
        noise.eval()
        z = noise(x)
        noise.train()
        return y, z

    @mg.compile
    def quiet(x):
        noise.eval()
        y = noise(x)
        noise.train()
        return y

    x = mg.ones(8)
    for _ in range(4):
        assert step(x)[1].numpy().tolist() == quiet(x).numpy().tolist() == [1.0] * 8
    assert len(step.programs) == len(quiet.programs) == 1
    noise.eval()
    assert step(x)[0].numpy().tolist() == [1.0] * 8


def test_a_parameter_without_a_gradient_when_a_step_was_recorded_is_updated_later():
    found = []
    for compiled in (False, True):
        w, u = mg.Parameter([1.0]), mg.Parameter([5.0])
        optimizer = mg.optim.SGD([w, u], 0.1)

        def step(x, w=w, optimizer=optimizer):
            w.grad = None
            (w * x).sum().backward()
            optimizer.step()

        step = mg.compile(step) if compiled else step
        x = mg.tensor([1.0])
        step(x), step(x)
        u.grad = mg.tensor([1.0])
        if compiled:
            with pytest.raises(RecordingError, match="a gradient from before the recording"):
                step(x)
        found.append(w.numpy().tolist())
    assert found[0] == found[1]


def test_a_result_that_the_step_keeps_is_not_the_callers():
    a, kept = mg.Parameter([1.0, 2.0]), []

    def step(x):
        y = mg.exp(x)
        kept.append(y)
        return y

    y = mg.compile(step)(mg.tensor([1.0, 1.0]))
    loss = mg.sum(a * kept[0])
    y.assign(y * 0.0)
    loss.backward()
    np.testing.assert_allclose(a.grad.numpy(), np.e, rtol=1e-6)


def test_a_recording_that_is_refused_leaves_the_gradients_that_were_there():
    w = mg.Parameter([1.0, 2.0])

    def attached(x):
        w.grad = None
        loss = mg.sum(x * w)
        loss.backward(retain_graph=True)
        return loss

    def frozen(x):
        w.grad = None
        mg.sum(x * w).backward()
        return object()

    for step, error in ((attached, GraphError), (frozen, RecordingError)):
        w.grad = before = mg.tensor([5.0, 5.0])
        with pytest.raises(error):
            mg.compile(step)(mg.tensor([1.0, 1.0]))
        assert w.grad is before


def test_containers_whose_items_are_their_attributes_are_fine_and_others_no_results():
    class Items(dict):
        def __init__(self, **items):
            super().__init__(**items)
            self.__dict__ = self

    class Own(tuple):
        pass

    def named(x):
        result = Own((x * 2.0,))
        result.extra = x
        return result

    compiled = mg.compile(lambda batch: Items(loss=batch.x * 2.0))
    for k in (1.0, 2.0, 3.0):
        result = compiled(Items(x=mg.tensor([k])))
        assert result["loss"].item() == result.loss.item() == 2.0 * k
    with pytest.raises(RecordingError, match="returned a Own with the attributes extra"):
        mg.compile(named)(mg.ones(1))
    assert mg.compile(lambda t, x: x * t[0])(time.gmtime(0), mg.ones(1)).item() == 1970.0


def test_what_a_step_makes_and_returns_is_the_callers_own():
    def step(x):
        h = mg.zeros(2)
        return h, x + h

    f, x = mg.compile(step), mg.ones(2)
    for _ in range(4):
        h, y = f(x)
        assert y.numpy().tolist() == [1.0, 1.0] and h.numpy().tolist() == [0.0, 0.0]
        h.assign([5.0, 5.0])
        y.assign([7.0, 7.0])


def test_what_a_step_returns_where_it_runs_as_it_is_is_the_callers_own_too():
    w = mg.Parameter([1.0, 2.0])

    @mg.compile
    def step(x):
        w.assign(w.detach() + x)
        return w.detach()[:1], w

    step(mg.ones(2))
    part, whole = step(w.detach())  # shares memory with what is assigned to
    step(mg.ones(2))
    assert part.numpy().tolist() == [4.0] and whole is w


def test_what_a_step_returns_where_it_runs_as_it_is_shares_no_memory():
    w, kept = mg.Parameter([1.0, 2.0]), []

    @mg.compile
    def step(x):
        w.assign(w.detach() + x)
        y = x * 2.0
        kept.append(y)
        return w.detach(), y

    step(mg.ones(2))
    before, y = step(w.detach())  # shares memory with what is assigned to
    step(mg.ones(2))
    assert before.numpy().tolist() == [4.0, 6.0]
    assert not np.shares_memory(y.numpy(), kept[-1].numpy())


def test_results_keep_the_layout_in_which_they_were_computed():
    def f(s):
        return mg.tanh(s * s.sum(axis=0)).mT

    a = b = mg.tensor(normal(50, 50))
    compiled = mg.compile(f)
    for _ in range(4):  # sums over other strides add in another order
        a, b = f(a), compiled(b)
        assert bits(a) == bits(b) and a.numpy().strides == b.numpy().strides


def test_a_step_adds_to_gradients_that_are_there_as_it_would_without_compiling():
    found = []
    for compiled in (False, True):
        w = mg.Parameter([1.0, 2.0])
        optimizer = mg.optim.SGD([w], lr=0.1)

        def step(x, w=w, optimizer=optimizer):
            (w * x).sum().backward()
            optimizer.step()

        step = mg.compile(step) if compiled else step
        for scale in (0.0, 0.0, 10.0, 0.0):
            w.grad = None
            if scale:
                (w * scale).sum().backward()
            step(mg.tensor([1.0, 1.0]))
        found.append(w.numpy().tolist())
        assert not compiled or w.grad is None
    assert found[0] == found[1]


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("cotangent", [None, 2.0])
def test_a_gradient_that_is_the_cotangent_is_one_of_the_recording(cotangent, create_graph):
    found = []
    for compiled in (False, True):
        w = mg.Parameter(np.float32(3.0))
        optimizer = mg.optim.SGD([w], lr=0.1)
        v = None if cotangent is None else mg.tensor(np.float32(cotangent))

        def step(x, w=w, optimizer=optimizer, v=v):
            optimizer.zero_grad()
            (w + x).backward(v, create_graph=create_graph)
            optimizer.step()
            return w.grad * 1.0

        step = mg.compile(step) if compiled else step
        found.append([step(mg.tensor(np.float32(x))).item() for x in range(4)] + [w.item()])
        assert v is None or v.item() == cotangent
    assert found[0] == found[1]


def test_whose_gradient_a_step_sets_has_none_afterwards():
    v, w, z = (mg.Parameter([x]) for x in (1.0, 2.0, 3.0))

    @mg.compile
    def step(x):
        (w * x).sum().backward()
        v.grad, w.grad, z.grad = w.grad, None, None
        return x * 2.0

    for x in (1.0, 3.0, 5.0):
        z.grad = mg.tensor([9.0])
        step(mg.tensor([x]))
        assert v.grad is None and w.grad is None and z.grad is None


def test_a_step_that_is_observed_leaves_behind_what_a_replay_does():
    found = []
    for observed in (False, True):
        w = mg.Parameter([2.0])
        optimizer = mg.optim.SGD([w], lr=0.1)

        def loss_of(x, w=w):
            return (x * w).sum()

        inner = mg.compile(loss_of)

        @mg.compile
        def step(x, w=w, inner=inner, optimizer=optimizer):
            loss = inner(x.detach())
            loss.backward()
            optimizer.step()
            return loss, w, w.detach()

        for x in (mg.ones(1), mg.ones(1), np.ones(1, "float32")):
            with mg.detect_anomaly() if observed else contextlib.nullcontext():
                loss, same, before = step(x)
            assert w.grad is None and not loss.requires_grad and same is w
            found.append((observed, loss.item(), before.item()))
            w.assign(w + 1.0)
            assert before.item() == found[-1][2]
    assert [f[1:] for f in found[:3]] == [f[1:] for f in found[3:]]


def test_an_anomaly_inside_of_a_compiled_step_is_found_around_it():
    step = mg.compile(lambda x: mg.log(x) * 2.0)
    step(mg.tensor([1.0]))
    with mg.detect_anomaly(), pytest.raises(AnomalyError, match="log"):
        step(mg.tensor([0.0]))
    w = mg.Parameter([2.0])
    block = mg.checkpoint(lambda x: step(x) * w)
    for _ in range(2):
        block(mg.tensor([1.0])).sum().backward()
    assert w.grad.item() == 0.0


def test_what_a_program_would_not_repeat_is_refused_inside_of_a_step():
    schedule = mg.optim.ExponentialDecay(mg.optim.SGD([mg.Parameter([1.0])], lr=1.0), 0.5)
    plateau = mg.optim.ReduceOnPlateau(schedule.optimizer, patience=1)

    def double(x):
        return x * 2.0

    for f, what in (
        (lambda x: schedule.step(), "step\\(\\) of a schedule"),
        (lambda x: plateau.step(1.0), "step\\(\\) of a schedule"),
        (lambda x: mg.record(double)(x)(x), "mg.record"),
    ):
        with pytest.raises(RecordingError, match=what):
            mg.compile(f)(mg.ones(1))
    assert schedule.steps == plateau.steps == plateau.waited == 0 and schedule.optimizer.lr == 1.0


def test_a_recording_that_fails_leaves_the_gradients_that_were_there():
    w, u = mg.Parameter([1.0]), mg.Parameter([1.0])

    @mg.compile
    def step(x):
        loss = (w * u * x).sum()
        u.grad = None
        loss.backward()
        return float(loss)

    u.grad = before = mg.tensor([4.0])
    with pytest.raises(RecordingError):
        step(mg.tensor([1.0]))
    assert w.grad is None and u.grad is before


@pytest.mark.parametrize("kind", [dict, list, tuple])
def test_attributes_of_containers_are_refused(kind):
    class Own(kind):
        pass

    batch = Own({"x": mg.ones(1)}) if kind is dict else Own([mg.ones(1)])
    batch.scale = 2.0
    with pytest.raises(DTypeError, match="a compiled function got a Own with the attributes scale, .* as items"):
        mg.compile(lambda b: b.scale)(batch)


def test_tuples_that_are_made_from_something_else_keep_their_class():
    class Pair(tuple):
        def __new__(cls, a, b):
            return tuple.__new__(cls, (a, b))

    def f(pair):
        assert type(pair) is Pair
        return pair[0] + pair[1]

    compiled = mg.compile(f)
    for _ in range(3):
        assert compiled(Pair(mg.ones(2), mg.ones(2))).numpy().tolist() == [2.0, 2.0]


class Masked(mg.optim.Optimizer):
    """An optimizer of a user, with attributes that are tensors, arrays and containers."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, lr)
        self.mask, self.weights = mg.tensor([1.0, 0.0, 1.0]), np.array([1.0, 2.0, 3.0])
        self.config = {"scale": [1.0], "kinds": {"a"}}

    def _update(self, position, parameter, gradient, scalars):
        scale = self.config["scale"][0] * len(self.config["kinds"])
        parameter.assign(parameter - scale * scalars[0] * self.mask * gradient)


def test_settings_of_ones_own_optimizer_may_be_arrays_and_change_in_place():
    (w,) = parameters((3,))
    optimizer = Masked([w], lr=0.5)

    @mg.compile
    def step(x):
        w.grad = None
        (w * x).sum().backward()
        optimizer.step()

    x, expected = mg.tensor([1.0, 1.0, 1.0]), w.numpy().copy()
    for change in (
        lambda: 1.0, lambda: 1.0, lambda: optimizer.config["scale"].__setitem__(0, 2.0) or 2.0, lambda: 2.0,
        lambda: optimizer.config["kinds"].add("b") or 4.0, lambda: 4.0,
    ):  # fmt: skip
        scale = change()
        step(x)
        expected = expected - np.float32(scale) * np.float32(0.5) * np.array([1, 0, 1], "f4")
        np.testing.assert_array_equal(w.numpy(), expected)
    assert len(step.programs) == 3


def test_out_of_range_numbers_are_refused_by_where():
    x = mg.tensor(np.array([1, 200], np.uint8))
    with pytest.raises(OverflowError, match="300 out of bounds for uint8"):
        mg.where(x > 100, x, 300)
    with pytest.raises(OverflowError, match="-1 out of bounds for uint8"):
        mg.compile(lambda x: mg.where(x > 100, -1, x))(x)
    assert mg.where(x > 100, x, 255).numpy().tolist() == [255, 200]


@pytest.mark.parametrize("f", [
    lambda x: mg.grad(lambda x: mg.mean(mg.square(x)))(x), mg.logsumexp, mg.softmax, mg.log_softmax,
    mg.grad(lambda x: mg.mean(mg.log_softmax(x) * x)), lambda x: mg.exp(x.to("int8")), lambda x: mg.huber(x),
    lambda x: mg.softplus(mg.abs(x).to("uint8")), lambda x: mg.hypot(x.to("int8"), x.to("uint8")),
    mg.grad(lambda x: mg.sum(x ** mg.tensor(3)) * 1e-3),
])  # fmt: skip
def test_what_has_no_room_in_float16_is_widened_in_a_replay_too(f):
    x = mg.tensor(np.linspace(-11.0, 11.0, 70_000).astype(np.float16))
    compiled = mg.compile(f)
    compiled(x)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "overflow encountered in exp")  # of int8, before it is widened
        assert bits(compiled(x)) == bits(f(x))
