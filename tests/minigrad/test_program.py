"""Recorded programs: what they print, that they check, run, differentiate and draw as the function would."""

from __future__ import annotations

import tracemalloc
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DataError, DTypeError, GraphError, ShapeError
from minigrad.program import Equation, Variable
from minigrad.program.passes import constants, simplify
from minigrad.program.roles import roles

RNG = np.random.default_rng(0)
BATCHES = [mg.tensor(RNG.uniform(size=(4, 6)).astype("f4")) for _ in range(4)]


def same(a: mg.Tensor, b: mg.Tensor) -> bool:
    """Bit for bit: NaN would be equal to NaN, 0.0 is not -0.0."""
    return a.dtype == b.dtype and a.shape == b.shape and a.detach().numpy().tobytes() == b.detach().numpy().tobytes()


class Adam:
    """A two-layer autoencoder and an Adam step on it, in mg's operations; all state in tensors."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        shapes = [(6, 3), (3,), (3, 6), (6,)]
        self.parameters = [mg.Parameter(rng.normal(0, 0.3, s).astype("f4")) for s in shapes]
        self.m = [mg.zeros(s) for s in shapes]
        self.v = [mg.zeros(s) for s in shapes]
        self.t = mg.tensor(0.0)

    def loss(self, x: mg.Tensor) -> mg.Tensor:
        W1, b1, W2, b2 = self.parameters
        h = mg.sigmoid(x @ W1 + b1)
        return mg.square(h @ W2 + b2 - x).sum(axis=1).mean()

    def step(self, x: mg.Tensor) -> mg.Tensor:
        for p in self.parameters:
            p.grad = None
        loss = self.loss(x)
        loss.backward()
        with mg.no_grad():
            self.t.assign(self.t + 1)
            for p, m, v in zip(self.parameters, self.m, self.v, strict=True):
                m.assign(0.9 * m + 0.1 * p.grad)
                v.assign(0.999 * v + 0.001 * mg.square(p.grad))
                p.assign(p - 0.01 * (m / (1 - 0.9**self.t)) / (mg.sqrt(v / (1 - 0.999**self.t)) + 1e-8))
        return loss

    def state(self) -> list[mg.Tensor]:
        return [*self.parameters, *self.m, *self.v, self.t]


def test_a_whole_adam_step_replays_bit_for_bit_on_the_parameters_it_captured() -> None:
    eager, recorded = Adam(), Adam()
    program = mg.record(recorded.step)(BATCHES[0])
    eager.step(BATCHES[0])
    program.check()
    assert program.has_effects
    for x in BATCHES[1:]:
        assert same(program(x), eager.step(x))
    for a, b in zip(eager.state(), recorded.state(), strict=True):
        assert same(a, b)
    assert recorded.t.item() == len(BATCHES)


def test_an_adam_step_prints_with_shapes_names_and_lines() -> None:
    text = str(mg.record(Adam().step)(BATCHES[0]))
    line = Adam.loss.__code__.co_firstlineno + 2
    assert text.startswith("step { x:f32[4,6] .\n  captured:\n    W1:f32[6,3]\n    b1:f32[3]\n")
    assert "a:f32[4,3] = matmul x W1" in text and f"# test_program.py:{line}\n" in text
    assert "W1':f32[6,3] = assign W1 " in text
    # the moments of a parameter belong to its update; the count of steps to that of all
    assigned = [line.partition(", update of ")[2] for line in text.splitlines() if " assign " in line]
    assert "tensor':f32[] = assign tensor " in text  # the count, of which the code that runs holds only the owner
    assert assigned == ["4 tensors", *(name for name in ("W1", "b1", "W2", "b2") for _ in range(3))]
    assert "multiply 0.999 " in text  # of a second moment
    for line in text.splitlines():
        assert ("multiply 0.999 " in line) <= (", update of " in line)
    assert ", backward of a\n" in text
    assert text.endswith("in i }")


def test_the_printed_program_word_for_word() -> None:
    w = mg.tensor([2.0, 3.0])

    def f(x: mg.Tensor) -> mg.Tensor:
        return (w * x[1:]).sum(axis=0) / 2

    line = f.__code__.co_firstlineno + 1
    assert str(mg.record(f)(mg.tensor([1.0, 2.0, 3.0]))) == (
        "f { x:f32[3] .\n"
        "  captured:\n"
        "    w:f32[2]\n"
        f"  a:f32[2] = getitem[index=(1:,)] x  # test_program.py:{line}\n"
        f"  b:f32[2] = multiply w a            # test_program.py:{line}\n"
        f"  c:f32[] = sum[axis=0] b            # test_program.py:{line}\n"
        f"  d:f32[] = divide c 2               # test_program.py:{line}\n"
        "  in d }"
    )


def test_the_cotangent_that_backward_starts_from_is_called_seed() -> None:
    given = mg.tensor([0.5, 2.0])

    def captured(f: Callable) -> list[str]:
        return [v.name for v in mg.record(f)(mg.tensor([1.0, 2.0])).captured]

    assert captured(mg.grad(lambda x: x.sum() * 1.0)) == ["seed"]  # 1.0 is a number in Python and no tensor
    assert captured(lambda x: (mg.grad(mg.sum)(x), mg.grad(mg.mean)(x))) == ["seed"]  # equal ones are one
    assert captured(lambda x: mg.vjp(mg.exp, x)[1](given)) == ["given"]  # the user's own name
    assert captured(lambda x: mg.vjp(mg.exp, x)[1](x)) == []


def test_the_numbers_of_what_is_captured_say_whether_they_are_live() -> None:
    rate, mask = mg.tensor(0.5), mg.tensor([1.0, 0.0]) * 1.0  # a result has no memory of its own that may change

    def f(x: mg.Tensor) -> mg.Tensor:
        return rate * (x * mask) + mg.zeros_like(x)

    def shown(program: mg.program.Program) -> list[str]:
        return str(program).partition("captured:\n")[2].partition("  a:")[0].splitlines()

    program = mg.record(f)(mg.ones((2,)))
    assert shown(program) == ["    mask:f32[2] = [1.0, 0.0]", "    rate:f32[], now 0.5"]
    rate.assign(0.25)
    assert shown(program)[1] == "    rate:f32[], now 0.25"
    assert shown(constants(program))[2:] == ["    c:f32[2] = [0.0, 0.0], computed in advance"]


@pytest.mark.parametrize("value", [1.5, -2, np.inf, np.nan, True])
def test_a_number_that_is_made_on_the_spot_is_its_own_name(value: float) -> None:
    state = mg.tensor(value)
    program = mg.record(lambda: state.assign(value))()
    (literal,) = program.literals
    assert literal.name == repr(value) and f"    {literal!r}\n" in str(program)
    assert f">{literal!r}<" not in program.draw(fold_updates=False)  # it is in the box of what uses it


A = mg.tensor(RNG.uniform(0.5, 2, (3, 4)).astype("f4"))
B = mg.tensor(RNG.uniform(0.5, 2, (4, 2)).astype("f4"))


@pytest.mark.parametrize(
    "f",
    [
        lambda a, b: mg.logsumexp(a @ b, axis=1).sum(),
        lambda a, b: (mg.max(a, axis=0) * mg.min(b, axis=1)).mean(),
        lambda a, b: mg.concat([a.T, b], axis=1)[[0, 0, 2]].at[0, 1:].set(7.0).sum(),
        lambda a, b: mg.softplus(a).reshape(2, 6).sum() + mg.where(b > 1.0, b**3, 1 / b).sum(),
        lambda a, b: (a.detach() * a).sum() * b.sum(),
        lambda a, b: ((a * a + a * 3.0 + mg.exp(a)) @ b).sum(),
    ],
)
def test_value_and_gradient_of_a_program_equal_the_functions(f: Callable) -> None:
    other = A * 0.75 + 0.1
    program = mg.record(f)(A, B)
    program.check()
    assert same(program(other, B), f(other, B))
    eager = mg.grad(f, (0, 1))(other, B)
    replayed = mg.grad(program, (0, 1))(other, B)
    gradient_program = mg.record(mg.grad(f, (0, 1)))(A, B)
    twice_recorded = mg.record(mg.grad(program, (0, 1)))(A, B)
    for found in (replayed, gradient_program(other, B), twice_recorded(other, B)):
        assert all(same(g, e) for g, e in zip(found, eager, strict=True))
    gradient_program.check()
    twice_recorded.check()


def test_the_gradient_of_a_gradient_program() -> None:
    def f(x: mg.Tensor) -> mg.Tensor:
        return (mg.sigmoid(x) * x**3).sum()

    x, v = mg.tensor([0.5, -1.5, 2.0]), mg.tensor([1.0, 2.0, -1.0])
    program = mg.record(mg.grad(f))(mg.tensor([0.0, 0.0, 0.0]))
    dotted = mg.grad(lambda x: (program(x) * v).sum())(x)
    assert same(dotted, mg.grad(lambda x: (mg.grad(f)(x) * v).sum())(x))
    np.testing.assert_allclose(dotted.numpy(), mg.hvp(f, x, v).numpy(), rtol=1e-5)  # another order of sums
    assert same(mg.record(lambda x: mg.hvp(f, x, v))(mg.zeros(3))(x), mg.hvp(f, x, v))
    assert same(mg.record(mg.hessian(f))(mg.zeros(3))(x), mg.hessian(f)(x))


def test_a_program_stops_gradients_where_the_function_did() -> None:
    def f(x: mg.Tensor) -> mg.Tensor:
        with mg.no_grad():
            factor = x * 2
        return (factor * x + x.detach() * x).sum()

    program = mg.record(f)(mg.tensor([1.0]))  # an argument without gradients: detach leaves no other trace
    assert mg.grad(program)(mg.tensor([5.0])).numpy() == mg.grad(f)(mg.tensor([5.0])).numpy() == 15.0


def test_gradients_reach_captured_parameters() -> None:
    W = mg.Parameter([2.0, 3.0])
    mg.record(lambda x: (W * x).sum())(mg.zeros(2))(mg.tensor([5.0, 7.0])).backward()
    assert W.grad is not None and W.grad.numpy().tolist() == [5.0, 7.0]


def test_gradients_reach_the_tensor_that_they_belong_to_where_two_are_equal() -> None:
    """Results from before the recording that no variable of the running code names: only numbers are one if equal."""
    a, b = mg.Parameter(2.0), mg.Parameter(2.0)

    def makers() -> list[Callable[[], mg.Tensor]]:
        t, u, constant = a * 1.0, b * 1.0, mg.tensor(1.0) * 2.0
        return [lambda: t, lambda: u, lambda: constant]

    first, second, third = makers()
    program = mg.record(lambda x: x * first() + 10.0 * x * second() + 100.0 * x * third())(mg.tensor(1.0))
    program(mg.tensor(3.0)).backward()
    assert a.grad is not None and a.grad.item() == 3.0
    assert b.grad is not None and b.grad.item() == 30.0


def test_equal_arguments_are_different_variables() -> None:
    x = mg.tensor([1.0, 2.0])
    program = mg.record(lambda a, b: a - 2 * b)(x, x)
    assert program(mg.tensor([10.0, 10.0]), x).numpy().tolist() == [8.0, 6.0]


def test_arguments_and_results_inside_lists_and_dicts() -> None:
    def f(batch: dict, weights: list, power: int) -> dict:
        return {"y": [batch["x"] ** power * w for w in weights], "n": power}

    program = mg.record(f)({"x": mg.tensor(2.0)}, [mg.tensor(1.0), mg.tensor(2.0)], 3)
    assert [v.name for v in program.arguments] == ["batch['x']", "weights[0]", "weights[1]"]
    out = program({"x": mg.tensor(3.0)}, [mg.tensor(1.0), mg.tensor(10.0)], 3)
    assert out["n"] == 3 and [y.item() for y in out["y"]] == [27.0, 270.0]
    with pytest.raises(GraphError, match=r"was 3 when f was recorded .* got 2"):
        program({"x": mg.tensor(3.0)}, [mg.tensor(1.0), mg.tensor(10.0)], 2)
    with pytest.raises(GraphError, match="recorded with 4 arguments"):
        program({"x": mg.tensor(3.0)}, [mg.tensor(1.0)], 3)


@pytest.mark.parametrize(
    ("recorded", "other"),
    [
        (0.0, -0.0), (1, True), (1, 1.0), ({0.0}, {-0.0}), ([BATCHES[0]], (BATCHES[0],)), ((), {}), ([], [[]]),
        ({"a": 1}, {True: 1}), ({1: 2}, {1.0: 2}), ({mg.tensor(1.0)}, {mg.tensor(1.0)}), (slice(1), slice(0, 1)),
    ],
)  # fmt: skip
def test_arguments_that_are_equal_but_not_alike_are_refused(recorded: object, other: object) -> None:
    program = mg.record(lambda x, what: x * 2.0)(mg.ones((2,)), recorded)
    for _ in range(2):
        assert program(mg.ones((2,)), recorded).numpy().tolist() == [2.0, 2.0]
        with pytest.raises(GraphError, match="record it again"):
            program(mg.ones((2,)), other)


def test_an_empty_container_may_not_be_left_out() -> None:
    program = mg.record(lambda x, settings: x * 2.0)(mg.ones((2,)), {})
    with pytest.raises(GraphError, match="record it again for another structure"):
        program(mg.ones((2,)))


def test_arguments_are_given_by_position() -> None:
    def f(x: mg.Tensor, a: float = 1.0) -> mg.Tensor:
        return x * a

    x = mg.tensor([1.0], requires_grad=True)
    for call in (mg.record(f), mg.record(f)(x), mg.compile(f), mg.checkpoint(f)):
        with pytest.raises(TypeError, match=r"takes its arguments by position, got a by name"):
            call(x, a=2.0)


def test_the_values_of_all_names_can_be_seen() -> None:
    w = mg.Parameter([2.0, 3.0])
    program = mg.record(mg.grad(lambda x: (mg.exp(x) * w).sum()))(mg.zeros((2,)))
    x = mg.tensor([0.5, -1.0])
    values = program.values(x)
    names = [v.name for v in (*program.arguments, *program.captured, *(e.output for e in program.equations))]
    assert list(values) == names and {"w", "seed"} <= set(names)
    assert same(values["x"], x) and same(values["w"], w)
    assert same(values["a"], mg.exp(x)) and same(values[program.outputs[0].name], program(x))
    assert not any(value.requires_grad for value in values.values())
    with pytest.raises(ShapeError, match="recorded with"):
        program.values(mg.zeros((3,)))


def test_the_values_of_a_training_step_are_those_of_the_next_run_and_change_nothing() -> None:
    model = Adam()
    generator = mg.random.Generator(3)

    def step(x: mg.Tensor) -> mg.Tensor:
        turned = model.parameters[0].mT  # a view, which after the update shows the new values
        loss = model.step(x + generator.normal(x.shape))
        return loss + turned.sum()

    step(BATCHES[0])
    program = mg.record(step)(BATCHES[0])
    state = [*model.state(), *(t for _, t in generator.named_tensors())]
    before = [t.detach().numpy().copy() for t in state]
    versions = [t._version.count for t in state]  # type: ignore[union-attr]
    values = program.values(BATCHES[1])
    assert all(np.array_equal(t.detach().numpy(), b) for t, b in zip(state, before, strict=True))
    assert [t._version.count for t in state] == versions  # type: ignore[union-attr]
    assert same(values[program.outputs[0].name], program(BATCHES[1]))
    assert np.array_equal(values["a"].numpy(), before[0].T)  # not what the view shows in the end
    names = [v.name for v, t in program.captured.items() if any(t is s for s in state)]
    assert len(names) == len(state)
    for v, t in program.captured.items():
        assert v.name not in names or same(values[f"{v.name}'"], t)
    first = next(v.name for v, t in program.captured.items() if t is state[0])
    assert values[first].numpy().tobytes() == before[0].tobytes() != values[f"{first}'"].numpy().tobytes()


def test_values_on_copies_are_refused_where_they_would_no_longer_share_memory() -> None:
    w = mg.Parameter([2.0, 3.0])
    part = w.detach()[1:]
    program = mg.record(lambda x: (w.assign(w + x), part * 1.0))(mg.ones(2))
    with pytest.raises(GraphError, match=r"assigns to memory that (w|part) shares with (w|part); `values` works on"):
        program.values(mg.ones(2))
    program = mg.record(lambda x: w.assign(w + x))(mg.ones(2))
    with pytest.raises(GraphError, match=r"assigns to memory that w shares with x"):
        program.values(w)
    assert w.detach().numpy().tolist() == [4.0, 5.0]


def test_a_run_holds_no_result_that_nobody_reads() -> None:
    def f(x: mg.Tensor) -> mg.Tensor:
        for _ in range(5):
            mg.exp(x)
        return x.sum()

    x = mg.ones((100_000,))
    program = mg.record(f)(x)
    tracemalloc.start()
    program(x)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2 * 400_000


def test_arguments_of_another_kind_are_refused_before_anything_changes() -> None:
    p = mg.Parameter([1.0, 1.0])
    program = mg.record(lambda x: p.assign(p + x))(mg.zeros(2))
    with pytest.raises(ShapeError, match=r"recorded with x:f32\[2\], got shape \(3,\)"):
        program(mg.zeros(3))
    with pytest.raises(DTypeError, match=r"recorded with x:f32\[2\], got float64"):
        program(mg.zeros(2, dtype="float64"))
    assert p.detach().numpy().tolist() == [1.0, 1.0]


def test_a_gradient_of_a_program_that_would_pass_a_hook_of_its_function_is_refused() -> None:
    w, u, x = mg.Parameter([1.0, 2.0]), mg.Parameter([1.0]), mg.tensor([1.0, 1.0])

    def loss(x: mg.Tensor, keep: bool = True) -> mg.Tensor:
        h = x * w
        remove = h.register_hook(lambda g: g * x)
        if not keep:
            remove()
        return (h * h).sum() * u[0]

    program = mg.record(loss)(x)
    with pytest.raises(GraphError, match="put a hook on a, which is Python"):
        program(x).backward()
    with pytest.raises(GraphError, match="put a hook on a, which is Python"):
        mg.grad(program)(x)
    assert mg.autograd.grad(program(x), u)[0].item() == 5.0  # passes none
    removed = mg.record(lambda x: loss(x, keep=False))(x)
    np.testing.assert_array_equal(mg.grad(removed)(x).numpy(), [2.0, 8.0])
    recorded = mg.record(mg.grad(loss))(x)  # the hook is part of it
    other = mg.tensor([3.0, 3.0])
    np.testing.assert_array_equal(recorded(other).numpy(), mg.grad(loss)(other).numpy())


def test_a_program_of_a_function_with_hooks_on_leaves_runs_without_gradients_alone() -> None:
    w, x = mg.Parameter([1.0, 2.0]), mg.tensor([1.0, 1.0])

    def loss(x: mg.Tensor) -> mg.Tensor:
        w.register_hook(lambda g: 2.0 * g)
        return (x * w).sum()

    program = mg.record(loss)(x)
    with pytest.raises(GraphError, match="put a hook on w, which is Python"):
        program(x)
    with mg.no_grad():
        assert program(x).item() == 3.0


def test_a_program_that_assigns_takes_arguments_that_require_grad_if_it_computes_its_own_gradient() -> None:
    w, x = mg.Parameter([1.0, 2.0]), mg.tensor([1.0, 1.0])

    def step(w: mg.Parameter, x: mg.Tensor) -> mg.Tensor:
        loss = mg.sum((x * w) ** 2)
        (g,) = mg.autograd.grad(loss, w)
        w.assign(w - 0.25 * g)
        return loss

    program = mg.record(step)(w, x)
    np.testing.assert_array_equal(w.numpy(), [0.5, 1.0])
    assert program(w, x).item() == 1.25
    np.testing.assert_array_equal(w.numpy(), [0.25, 0.5])


def test_a_program_has_its_gradient_also_if_it_is_recorded_without() -> None:
    x = mg.tensor([1.0, 2.0])
    with mg.no_grad():
        program = mg.record(lambda x: (x * x).sum())(x)
    np.testing.assert_array_equal(mg.grad(program)(x).numpy(), [2.0, 4.0])


@pytest.mark.parametrize("f", [mg.nn.BatchNorm(2), lambda x: x * mg.random.uniform(x.shape)])
def test_a_program_that_assigns_refuses_to_be_differentiated(f: Callable) -> None:
    x = mg.tensor([[1.0, 2.0], [3.0, 5.0]])
    mg.random.uniform(())  # a first draw moves the generator to the device
    program = mg.record(lambda x: (f(x) * x).sum())(x)
    for derivative in (mg.grad(program), lambda x: mg.hvp(program, x, x), lambda x: mg.jvp(program, (x,), (x,))):
        with pytest.raises(GraphError, match="runs without gradients, but argument x requires grad"):
            derivative(x)
    leaf = mg.tensor(x, requires_grad=True)
    with mg.no_grad():
        assert not program(leaf).requires_grad


@pytest.mark.parametrize(
    "f",
    [mg.inv, mg.cholesky, lambda a: mg.solve(a, a), mg.grad(mg.det), mg.grad(lambda a: mg.qr(a)[0].sum())],
)
def test_programs_with_matrices_that_have_an_inverse_are_checked(f: Callable) -> None:
    for a in (np.eye(3) * 2, np.eye(2, dtype="f4") + 1):
        program = mg.record(f)(mg.tensor(a))
        program.check()
        program.outputs[0].shape += (1,)
        with pytest.raises(ShapeError, match="gives shape"):  # the shape is still looked at
            program.check()


def test_a_program_assigns_to_random_draws_as_the_function_does() -> None:
    def f(x: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        noise, other = mg.random.uniform((2,)), mg.random.normal((2,))
        return noise.assign(noise + x), other

    mg.random.seed(1)
    f(mg.ones(2))  # a first draw brings the counter to the device
    program = mg.record(f)(mg.ones(2))
    mg.random.seed(1)
    for found, expected in ((program(mg.ones(2)), f(mg.ones(2))), (program(mg.ones(2)), f(mg.ones(2)))):
        assert found[0].shape == expected[0].shape
        found[1].assign(mg.zeros(2))
    mg.random.seed(1)
    found = program(mg.ones(2))
    mg.random.seed(1)
    assert all(map(same, found, f(mg.ones(2))))


def test_an_argument_that_cannot_be_assigned_to_is_refused_before_anything_changes() -> None:
    count = mg.tensor(0.0)

    def step(x: mg.Tensor) -> mg.Tensor:
        count.assign(count + 1.0)
        return x.assign(x * 2.0)

    program = mg.record(step)(mg.ones(2))
    for x in (mg.ones(2) * 1.0, mg.Parameter([1.0, 1.0]) * 1.0):
        with pytest.raises(GraphError, match=r"assigns to .*0.*; give it a leaf"):
            program(x)
    assert count.item() == 1.0


def test_programs_without_the_equations_that_backward_names_print_and_draw() -> None:
    w, v = mg.Parameter([1.0, 2.0]), mg.Parameter([[1.0, 2.0]])

    def merged(x: mg.Tensor) -> mg.Tensor:
        y = mg.exp(x * w) + mg.exp(x * w)
        (g,) = mg.autograd.grad(y.sum(), w)
        w.assign(w - 0.1 * g)
        return y

    def dropped(x: mg.Tensor) -> None:
        (g,) = mg.autograd.grad(mg.relu(mg.broadcast_to(v, (3, 2)) + x).mean(), v)
        v.assign(v - 0.1 * g)

    programs = [simplify(mg.record(merged)(mg.ones(2))), simplify(mg.record(dropped)(mg.ones((3, 2))))]
    for program in programs:
        names = {*(x.name for x in program.captured), *(e.output.name for e in program.equations)}
        text = repr(program)
        said = [line.partition("backward of ")[2] for line in text.splitlines() if "backward of " in line]
        assert {name.partition(",")[0] for name in said} <= names
        assert text.count("backward") == sum(e.of is not None for e in program.equations)
        picture = ElementTree.fromstring(program.draw(fold_updates=False))
        boxes = [g for g in picture.iter() if g.tag.endswith("}g")]
        assert len(boxes) >= len(program.equations)
    assert "backward of" in repr(programs[0])
    # of the two equal derivatives one is left, and names the one equation that is left
    assert any(e.of is not None and e.of.name == "b" for e in programs[0].equations)


def _reads_float(x: mg.Tensor) -> float:
    return float(x.sum())


def _reads_condition(x: mg.Tensor) -> mg.Tensor:
    return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("f", "what"),
    [
        (_reads_float, "float"),
        (_reads_condition, "condition"),
        (lambda x: x.numpy(), "numpy"),
        (lambda x: np.asarray(x), "NumPy"),
        (lambda x: mg.tensor(x), "copies a value"),
        (lambda x: x[x > 0], "mask"),
        (lambda x: x + mg.random.permutation(2), "random permutation"),
    ],
)
def test_what_a_program_would_freeze_is_refused_with_the_line(f: Callable, what: str) -> None:
    before = mg.random.default_generator().counter
    line = f.__code__.co_firstlineno + (1 if f.__name__ != "<lambda>" else 0)
    with pytest.raises(GraphError, match=rf"{what}.* at test_program\.py:{line} while a program is recorded"):
        mg.record(f)(mg.tensor([1.0, 2.0]))
    assert mg.random.default_generator().counter == before
    assert mg.tensor([3.0]).item() == 3.0  # the recording is over


def test_backward_through_a_graph_from_before_the_recording_is_refused() -> None:
    y = mg.Parameter([1.0]) * 2
    with pytest.raises(GraphError, match="an operation from before the recording"):
        mg.record(lambda x: (x * y).sum().backward())(mg.tensor([1.0]))


def test_a_gradient_from_before_the_recording_is_refused() -> None:
    p = mg.Parameter([1.0, 2.0])
    (p * 2).sum().backward()
    with pytest.raises(GraphError, match="gradient from before the recording"):
        mg.record(lambda x: p.assign(p - 0.1 * p.grad))(mg.zeros(2))
    with pytest.raises(GraphError, match="gradient from before the recording"):
        mg.record(lambda x: (p * x).sum().backward())(mg.zeros(2))
    assert p.grad is not None and p.grad.numpy().tolist() == [2.0, 2.0]


def test_two_backward_passes_in_one_recording_accumulate() -> None:
    p = mg.Parameter([1.0, 2.0])

    def f(x: mg.Tensor) -> mg.Tensor:
        p.grad = None
        (p * x).sum().backward()
        (p * p).sum().backward()
        assert p.grad is not None
        return p.grad

    assert mg.record(f)(mg.zeros(2))(mg.tensor([10.0, 20.0])).numpy().tolist() == [12.0, 24.0]


def test_a_tensor_that_is_assigned_twice_is_updated_under_its_own_name() -> None:
    g = mg.random.Generator(0)
    program = mg.record(lambda x: x * g.uniform((2,)) + g.uniform((2,)))(mg.ones((2,)))
    assigns = [line for line in str(program).splitlines() if " = assign " in line]
    assert len(assigns) == 2 and all(line.endswith(", update of g.counter") for line in assigns)
    assert program.draw().count(">update of g.counter<") == 2


def test_check_finds_what_is_wrong_with_a_program() -> None:
    def program() -> mg.Program:
        return mg.record(lambda x: mg.exp(x).sum(axis=0))(mg.zeros((2, 3)))

    broken = program()
    broken.equations.reverse()
    with pytest.raises(GraphError, match="uses a before it is assigned"):
        broken.check()
    broken = program()
    broken.equations.append(broken.equations[0])
    with pytest.raises(GraphError, match="a is assigned a second time"):
        broken.check()
    broken = program()
    broken.equations[1].metadata["axis"] = 1
    with pytest.raises(ShapeError, match=r"gives shape \(2,\)"):
        broken.check()
    broken = program()
    broken.equations[1].output.dtype = np.dtype("f8")
    with pytest.raises(DTypeError, match="gives dtype float32"):
        broken.check()
    broken = program()
    broken.outputs.append(Variable("z", (), np.dtype("f4"), mg.device("cpu")))
    with pytest.raises(GraphError, match="returns z, which nothing assigns"):
        broken.check()
    broken = program()
    broken.equations[1].output.name = "a"
    with pytest.raises(GraphError, match="different variables have the same name: a"):
        broken.check()


def test_a_backward_equation_names_what_it_is_the_derivative_of() -> None:
    program = mg.record(mg.grad(lambda x: mg.exp(x).sum()))(mg.zeros(2))
    found = [(e.primitive.name, None if e.of is None else e.of.name) for e in program.equations]
    assert found[:2] == [("exp", None), ("sum", None)]
    assert {of for _, of in found[2:]} == {"a", "b"}
    assert found[-1] == ("multiply", "a")


def test_the_drawing_has_a_box_for_every_equation_side_by_side_and_none_overlap() -> None:
    program = mg.record(Adam().step)(BATCHES[0])
    path_of = "{http://www.w3.org/2000/svg}"

    def boxes(svg: str) -> dict[str, tuple[float, ...]]:
        found = {}
        for group in ElementTree.fromstring(svg).iter(f"{path_of}g"):
            rect, texts = group.find(f"{path_of}rect"), group.findall(f"{path_of}text")
            assert rect is not None
            found[f"{texts[0].text} {texts[1].text}"] = tuple(
                float(rect.get(key) or 0) for key in ("x", "y", "width", "height")
            )
        return found

    for folded, count in ((False, len(program.equations) + len(program.captured) + 1), (True, None)):  # and x
        placed = boxes(program.draw(fold_updates=folded))
        if count is not None:
            assert len(placed) == count
        areas = list(placed.values())
        for i, (x, y, w, h) in enumerate(areas):
            for x2, y2, w2, h2 in areas[:i]:
                assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y
    gradient = [e for e in program.equations if e.of is not None][-1]  # of W1
    forward = placed["matmul x W1 a:f32[4,3]"]
    backward = placed[f"{repr(gradient).partition(' = ')[2]} {gradient.output!r}"]
    assert forward[1] == backward[1] and forward[0] < backward[0]  # in one band
    assert any(title.startswith("update of W1 ") for title in placed)


def test_a_folded_update_says_how_many_operations_it_shares_and_lists_all_with_their_lines() -> None:
    p, q = mg.Parameter([1.0, 2.0]), mg.Parameter([3.0])
    optimizer = mg.optim.Adam([p, q])

    def step(x: mg.Tensor) -> None:
        optimizer.zero_grad()
        mg.sum(p * q * x).backward()
        optimizer.step()

    program = mg.record(step)(mg.ones(2))
    picture = program.draw()
    # the corrections for the start at 0 are made once, for both parameters
    assert picture.count(">11 operations + 9 shared, test_program.py:") == 2
    assert picture.count(">update of p<") == picture.count(">update of optimizer.mean[1]<") == 1
    for e in program.equations[-1], next(e for e in program.equations if e.primitive.name == "maximum"):
        assert f"{e!r}  # {e.line}" in picture


def test_the_forward_pass_of_a_loss_that_only_a_running_mean_uses_is_drawn_as_forward() -> None:
    p, running = mg.Parameter([1.0, 2.0]), mg.tensor(0.0)

    def step(x: mg.Tensor) -> None:
        loss = mg.square(p - x).sum()
        (g,) = mg.autograd.grad(loss, p)
        running.assign(0.9 * running + 0.1 * loss)
        p.assign(p - 0.1 * g)

    program = mg.record(step)(mg.zeros(2))
    role = roles(program)
    assert [role[e.output] for e in program.equations[:3]] == ["forward"] * 3
    assert len(ElementTree.fromstring(program.draw(fold_updates=False)).findall("{*}g")) == (
        len(program.equations) + len(program.arguments) + len(program.captured)
    )


def test_dot_text_has_every_variable_and_edge() -> None:
    text = mg.record(lambda x: x * x + 1)(mg.tensor([1.0])).dot()
    assert text.count('"x" -> "a"') == 1 and '"a" -> "b"' in text
    assert text.count("[label=") == 3


def test_drawing_a_tensor_shows_the_graph_behind_it(tmp_path) -> None:  # type: ignore[no-untyped-def]
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    svg = mg.draw(mg.exp(x * 3.0).sum(), tmp_path / "graph.svg")
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8") == svg
    assert [p.name for p in tmp_path.iterdir()] == ["graph.svg"]
    assert all(name in svg for name in ("multiply", "exp", "sum"))
    with pytest.raises(GraphError, match="does not remember what made it"):
        mg.draw(mg.tensor([1.0]))


def test_drawing_writes_svg_files_into_folders_that_exist(tmp_path) -> None:  # type: ignore[no-untyped-def]
    program = mg.record(lambda x: x + 1)(mg.tensor([1.0]))
    for name in ("graph.png", "graph"):
        with pytest.raises(DataError, match="draw: .*graph.*expected the name of a .svg file"):
            program.draw(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such folder to write into: .*nowhere'$"):
        program.draw(tmp_path / "nowhere" / "graph.svg")
    assert not list(tmp_path.iterdir())
    assert program.draw(tmp_path / "graph.SVG") == (tmp_path / "graph.SVG").read_text(encoding="utf-8")


def test_equations_are_readable_on_their_own() -> None:
    (e,) = mg.record(lambda x: x.sum(axis=(0, 1), keepdims=True))(mg.zeros((2, 2))).equations
    assert isinstance(e, Equation) and repr(e) == "a:f32[1,1] = sum[axis=(0,1), keepdims=True] x"
