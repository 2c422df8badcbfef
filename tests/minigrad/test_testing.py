"""The gradient checker itself: wrong derivatives of every usual kind must be found, right ones must pass."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minigrad as mg
from minigrad import sweep, tape
from minigrad.errors import CheckError, DataError, DTypeError, MinigradError
from minigrad.primitives.registry import Domain, Primitive, Samples
from minigrad.testing import check_grad
from minigrad.testing.arrays import drawn_values
from minigrad.testing.strategies import primitive_inputs

RNG = np.random.default_rng(0)
ONE = Samples("any", (Domain(-3, 3),))
TWO = Samples("broadcast", (Domain(-3, 3), Domain(-3, 3)))
X = RNG.normal(size=(2, 3))
MODEL = mg.nn.Linear(3, 2, dtype="float64")


def with_rules(name, *rules):
    """The primitive `name` of the table with other derivative rules, outside of the table."""
    original = mg.primitives[name]
    return Primitive(
        f"wrong {name}", forward=original.forward, vjps=list(rules), saves=original.saves, samples=original.samples
    )  # fmt: skip


WRONG_FIRST = {
    "sign": (with_rules("exp", lambda F, g, y, x: -(g * y)), [X]),
    "missing factor": (with_rules("square", lambda F, g, y, x: g * x), [X]),
    "missing upstream gradient": (with_rules("exp", lambda F, g, y, x: y), [X]),
    "silently zero": (with_rules("exp", lambda F, g, y, x: F.zeros_like(y)), [X]),
    "transposed matrix": (
        with_rules(
            "matmul",
            lambda F, g, y, a, b: F.matmul(g, b),
            lambda F, g, y, a, b: F.matmul(F.matrix_transpose(a), g),
        ),
        [RNG.normal(size=(3, 3)), RNG.normal(size=(3, 3))],
    ),
    "no rule": (with_rules("multiply", None, lambda F, g, y, a, b: g * a), [X, X]),
    "nan": (with_rules("exp", lambda F, g, y, x: g * y * np.nan), [X]),
    "one element of many": (
        with_rules("negative", lambda F, g, y, x: F.where(np.arange(400) == 7, g * 1.0, -g)),
        [RNG.normal(size=400)],
    ),
}


@pytest.mark.cpu_only("a wrong rule has an array of NumPy")
@pytest.mark.parametrize("case", WRONG_FIRST)
def test_a_wrong_first_derivative_is_found(case):
    primitive, inputs = WRONG_FIRST[case]
    with pytest.raises(CheckError):
        check_grad(lambda *xs: tape.apply(primitive, *xs), *inputs, order=1)


def test_a_dropped_broadcast_sum_is_found(monkeypatch):
    """The engine undoes broadcasting; here it takes the first row instead of the sum of rows."""
    monkeypatch.setattr(sweep, "_sum_to", lambda F, g, node, parent: g[0])
    with pytest.raises(CheckError, match=r"input 1 at index"):
        check_grad(lambda a, b: a * b, X, X[0], order=1)


def test_the_original_rules_pass():
    """Otherwise the tests above could fail for another reason."""
    for name in ("exp", "square", "multiply", "matmul", "negative"):
        original = mg.primitives[name]
        inputs = [RNG.normal(size=(3, 3)) for _ in range(original.arity)]
        same = with_rules(name, *original.vjps)
        check_grad(partial(tape.apply, same), *inputs)


def frozen(F, g, y, x):
    """Right at first order; but x is read as a constant, so the second derivative lacks a term."""
    values = x.detach() if isinstance(x, mg.Tensor) else x
    return g * (values * 2.0)


def frozen_cotangent(F, g, y, x):
    """The same for the upstream gradient."""
    g = g.detach() if isinstance(g, mg.Tensor) else g
    return g * (x * 2.0)


@pytest.mark.parametrize("rule", [frozen, frozen_cotangent])
def test_an_error_of_the_second_order_alone_is_found(rule):
    primitive = with_rules("square", rule)
    check_grad(lambda x: tape.apply(primitive, x), X, order=1)
    with pytest.raises(CheckError, match="second derivative"):
        check_grad(lambda x: tape.apply(primitive, x), X)


def test_a_rule_that_differs_on_tensors_is_found():
    primitive = with_rules("square", lambda F, g, y, x: g * (x * (2.5 if isinstance(x, mg.Tensor) else 2.0)))
    with pytest.raises(CheckError, match="create_graph"):
        check_grad(lambda x: tape.apply(primitive, x), X)


@pytest.mark.parametrize("name", ["tanh", "softplus"])
def test_an_error_is_found_by_both_references(name):
    """tanh is compared with the complex step, softplus with differences."""
    method = "complex step" if mg.primitives[name].samples.analytic else "central differences"
    right = mg.primitives[name].vjps[0]
    wrong = with_rules(name, lambda F, g, y, x: right(F, g, y, x) * (1.0 + 2e-5))
    with pytest.raises(CheckError, match=method):
        check_grad(lambda x: tape.apply(wrong, x), X, order=1)


def test_the_complex_step_finds_errors_far_below_those_of_differences():
    right = mg.primitives["tanh"].vjps[0]
    wrong = with_rules("tanh", lambda F, g, y, x: right(F, g, y, x) * (1.0 + 1e-8))
    with pytest.raises(CheckError, match="complex step"):
        check_grad(lambda x: tape.apply(wrong, x), X, order=1)


@pytest.mark.cpu_only("a wrong rule has an array of NumPy")
def test_the_message_names_input_index_values_and_error():
    def third_is_wrong(F, g, y, a, b):
        return F.where(np.array([False, False, True]), g * a * 3.0, g * a)

    wrong = with_rules("multiply", lambda F, g, y, a, b: g * b, third_is_wrong)
    with pytest.raises(
        CheckError, match=r"input 1 at index \(2,\): got .*, expected .*relative error 0\.67; 1 of 6 el"
    ):
        check_grad(lambda a, b: tape.apply(wrong, a, b), np.ones(3), np.ones(3))


def test_differences_are_used_where_complex_numbers_cannot_go():
    def branching(x):
        return x * x if float(x.sum().detach()) > 0 else x

    check_grad(branching, np.abs(X))
    check_grad(lambda x: mg.exp(x.to("float64")), X)


@pytest.mark.cpu_only("check_grad cannot see what f does to its inputs")
def test_gradients_that_share_memory_are_found(monkeypatch):
    from minigrad import autograd

    monkeypatch.setattr(
        autograd, "_as_gradient",
        lambda node, g, owned, create_graph: g if create_graph else mg.Tensor._wrap(g, node.device, None),
    )  # fmt: skip
    with pytest.raises(CheckError, match="shares memory"):
        check_grad(lambda a, b: a + b, X, X.copy())


@pytest.mark.cpu_only("check_grad cannot see what f does to its inputs")
def test_changed_inputs_are_found():
    def rude(x):
        x._array[...] = x._array + 0.0 if x.dtype.kind == "c" else 1.0
        return x * 1.0

    with pytest.raises(CheckError, match="input 0 was changed"):
        check_grad(rude, np.full((2, 2), 3.0), order=1)


@pytest.mark.cpu_only("check_grad cannot see what f does to its inputs")
def test_an_f_that_adds_to_its_input_is_told_so_and_not_that_it_draws_random_numbers():
    def adding(x):
        x._array += 1.0
        return x * x

    with pytest.raises(CheckError, match="input 0 was changed"):
        check_grad(adding, X.copy())


def test_functions_that_do_not_repeat_are_found():
    generator = np.random.default_rng(0)
    with pytest.raises(CheckError, match="random numbers"):
        check_grad(lambda x: x * float(generator.normal()), X)


def test_a_zero_upstream_gradient_must_give_zero():
    wrong = with_rules("exp", lambda F, g, y, x: g * y + 1.0)
    with pytest.raises(CheckError, match="zero upstream"):
        check_grad(lambda x: tape.apply(wrong, x), X)


def test_a_rule_that_trusts_the_layout_of_the_upstream_gradient_is_found():
    def flat(F, g, y, x):
        return g if isinstance(g, mg.Tensor) else g.ravel(order="K").reshape(g.shape)

    wrong = with_rules("zeros_like", flat)
    wrong.forward = lambda xp, x: x * 1.0
    with pytest.raises(CheckError, match="upstream gradient gives input 0 another"):
        check_grad(lambda x: tape.apply(wrong, x), X)


def test_float32_is_checked_in_float64_and_in_float32():
    seen = set()

    def f(x):
        seen.add(x.dtype.name)
        return mg.exp(x)

    check_grad(f, X.astype("float32"))
    assert {"float32", "float64"} <= seen
    right = mg.primitives["exp"].vjps[0]
    wrong = with_rules("exp", lambda F, g, y, x: right(F, g, y, x) * (1.01 if g.dtype == np.float32 else 1.0))
    with pytest.raises(CheckError, match="float32 gradient of input 0 at index"):
        check_grad(lambda x: tape.apply(wrong, x), X.astype("float32"))


class Tied(mg.nn.Module):
    """Parameters in a list, one of them held twice, and a buffer."""

    def __init__(self):
        self.weights = [mg.Parameter(RNG.normal(size=(3, 2)), dtype="float32"), mg.Parameter([0.5, -0.5])]
        self.again = self.weights[0]
        self.scale = mg.nn.Buffer([2.0])

    def forward(self, x):
        return mg.tanh(x @ self.weights[0] + self.weights[1]) @ self.again.mT * self.scale


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_parameters_of_a_module_are_inputs(dtype):
    model, x = Tied().to(dtype), mg.tensor(X, dtype=dtype)
    before = model.state_dict()
    check_grad(lambda m, x: mg.square(m(x)), model, x)
    wrong = with_rules("square", lambda F, g, y, x: g * x)
    with pytest.raises(CheckError, match=r"is wrong for parameter \S+ of input 1 at index \(\d"):
        check_grad(lambda x, m: tape.apply(wrong, m(x.detach() * 1.0) + 0.0 * x), np.zeros_like(X, dtype), model)
    assert all(p.dtype == dtype and p.grad is None for p in model.parameters())
    assert all((before[name] == a).all() for name, a in model.state_dict().items())


@pytest.mark.cpu_only("check_grad cannot see what f does to its inputs")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_f_writes_into_parameters_stays_out_of_the_module(dtype):
    model = mg.nn.Linear(2, 3).to(dtype)
    before = model.weight.numpy().copy()

    def rude(m, x):
        m.weight._array[...] *= 0.5
        return m(x)

    with pytest.raises(CheckError, match="parameter weight of input 0 was changed by f"):
        check_grad(rude, model, mg.ones((1, 2), dtype=dtype))
    assert (model.weight.numpy() == before).all()


def test_a_bias_before_a_normalization_has_the_gradient_zero_but_for_rounding():
    model = mg.nn.Sequential(mg.nn.Linear(3, 2), mg.nn.BatchNorm(2))
    check_grad(lambda m, x: m(x), model, mg.tensor(RNG.normal(size=(4, 3)), dtype="float32"))


@pytest.mark.parametrize(
    ("f", "inputs", "words"),
    [
        (
            lambda *p: mg.sum(MODEL(X)),
            list(Tied().parameters()),
            "no operation in f uses input 0, so there is no deriv",
        ),
        (lambda x, w: mg.sum(x), [X, X], "no operation in f uses input 1"),
        (lambda m: mg.sum(MODEL(X)), [Tied()], r"uses parameter weights\.0 of input 0"),
        (lambda x: mg.tensor(float(x) ** 2), [np.array(3.0)], "uses input 0, .* not with values that float"),
    ],
)
def test_an_input_that_f_does_not_use_is_named(f, inputs, words):
    with pytest.raises(CheckError, match=words):
        check_grad(f, *inputs)


def test_an_input_without_derivative_is_used_where_an_operation_reads_it():
    check_grad(lambda x, y: x + mg.sign(y), X, X)
    check_grad(lambda x, y: x * y.detach()[0] * 0.0 + x, X, X * 0.0)
    check_grad(lambda x: x, X)
    check_grad(mg.checkpoint(mg.tanh), X)


def test_integers_and_bools_are_passed_through():
    check_grad(lambda c, x, i: mg.where(c, x, 2.0 * x)[i], X > 0, X, np.array([1, 1, 0]))


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (mg.abs, [0.0, 1.0]),
        (mg.relu, [0.0]),
        (lambda x: mg.max(x), [1.0, 1.0]),
        (mg.norm, [0.0, 0.0]),
        (mg.sort, [1.0, 1.0, 2.0]),
        (lambda x: mg.sqrt(abs(x)), [0.0, 2.0]),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_kink_is_noticed_and_named(f, x):
    with pytest.raises(CheckError, match="kink|jumps|not finite|nan|inf"):
        check_grad(f, np.array(x))


@pytest.mark.parametrize(
    ("f", "x", "words"),
    [
        # at equal distance from both slopes the derivative at a kink passes; the next one sees the jump by 2 u d
        (
            mg.abs,
            [0.0, 1.0],
            r"there the first derivative jumps .* changes by -(\S+) over .* by \1 over one up\. So f is not smooth",
        ),
        (
            lambda x: mg.maximum(x, 0.5),
            [0.5, 1.0],
            r"there the first derivative jumps .* changes by -(\S+) over .* by \1 over one up",
        ),
        (mg.relu, [0.0, 1.0], r"\(cotangent \. f\) has a kink: its slope is 0 on one side and 0\.1257 on the other"),
        (
            mg.round,
            [0.5],
            r"\(cotangent \. f\) jumps .* changes by 0 over a step of 0\.0001 down, and by 0\.1257 over one up",
        ),
    ],
)
def test_a_kink_is_told_from_a_jump(f, x, words):
    with pytest.raises(CheckError, match=words) as caught:
        check_grad(f, np.array(x))
    assert "cannot be checked" in str(caught.value) and "is wrong" not in str(caught.value)
    assert str(caught.value).endswith("is the sum of the elements of f, each times a fixed random number")


def test_a_wrong_derivative_of_a_smooth_function_is_not_blamed_on_a_kink():
    wrong = Primitive(
        "wrong abs", forward=lambda xp, x, /: xp.abs(x) * x, vjps=[lambda F, g, y, x: g * F.abs(x)], saves="x",
        samples=Samples("any", (Domain(-1.0, 1.0),), analytic=False),
    )  # fmt: skip
    with pytest.raises(CheckError, match="is wrong") as caught:
        check_grad(wrong, np.array([1.0, -2.0]))
    assert "kink" not in str(caught.value)


NEAR = [
    (mg.relu, [3e-4, 1.0]),
    (mg.relu, [-3e-4, 1.0]),
    (mg.relu, [2e-5, -4e-6, 1.0]),
    (lambda x: x * abs(x), [3e-4, -2.0]),  # its second derivative jumps
    (lambda x: mg.sqrt(abs(x)), [5e-4, 2.0]),
    (lambda x: mg.log(mg.maximum(x, -5.0)), [5e-4, 2.0]),  # with the longest step outside of the domain
    (lambda x: mg.max(x), [1.0, 1.0003]),
]


@pytest.mark.parametrize(("f", "x"), NEAR)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_right_derivative_near_a_kink_passes(f, x, seed):
    check_grad(f, np.array(x), seed=seed)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_kink_that_only_all_inputs_at_once_cross_with_any_step_says_nothing():
    x = np.array([5e-6] + 399 * [0.0])
    check_grad(lambda x: mg.relu(mg.sum(x)), x)
    with pytest.raises(CheckError, match="input 0 at index"):
        check_grad(lambda x: mg.relu(mg.sum(x)) * 1.00002 - mg.relu(mg.sum(x)).detach() * 0.00002, x)


def scaled(f, factor, x):
    """f, with another derivative where the factor is not 1."""
    y = f(x)
    return y.detach() * 1.0 + factor * (y - y.detach())


@pytest.mark.parametrize(("f", "x"), NEAR)
def test_a_wrong_derivative_near_a_kink_is_found_and_not_excused(f, x):
    check_grad(partial(scaled, f, 1.0), np.array(x), order=1)
    with pytest.raises(CheckError, match=r"the first derivative of .* is wrong for input 0 at index") as caught:
        check_grad(partial(scaled, f, 1.0 + 2e-5), np.array(x), order=1)
    assert "kink" not in str(caught.value)


@pytest.mark.parametrize("x", [3e-4, -3e-4, 4e-5])
def test_the_derivative_of_the_other_side_of_a_kink_is_wrong(x):
    other = with_rules("relu", lambda F, g, y, x: g * F.where(y > 0, y * 0.0, y * 0.0 + 1.0))
    with pytest.raises(
        CheckError, match=r"is wrong for input 0 at index \(0,\): got \S+, expected \S+ \(central .*step"
    ):
        check_grad(lambda v: tape.apply(other, v), np.array([x]), order=1)


def test_a_wrong_second_derivative_near_a_kink_is_found():
    primitive = with_rules("square", frozen)
    with pytest.raises(CheckError, match="second derivative is wrong"):
        check_grad(lambda x: tape.apply(primitive, mg.relu(x)), np.array([3e-4, 1.0]))


def test_a_step_below_the_resolution_of_f_excuses_nothing():
    """Next to 100 float32 numbers are 8e-6 apart: with shorter steps such a function looks constant."""
    with pytest.raises(CheckError, match="is wrong for input 0"):
        check_grad(lambda x: x.detach().to("float32").to("float64") + 0.0 * x, np.array([100.0, 101.0]), order=1)


def test_rounding_of_short_steps_excuses_nothing():
    """1e8 + |x|: shorter steps cannot see an error of a hundredth, but the longest one does."""
    f = partial(scaled, lambda x: abs(x) + 1e8, 1.0)
    check_grad(f, np.array([1.0, 2.0]), order=1)
    wrong = partial(scaled, lambda x: abs(x) + 1e8, 1.01)
    with pytest.raises(
        CheckError, match=r"is wrong .*, unless f has a kink within 0\.001 of the inputs: shorter steps"
    ):
        check_grad(wrong, np.array([1.0, 2.0]), order=1)


@pytest.mark.parametrize(
    ("f", "x", "words"),
    [
        (mg.log, [-1.0, 2.0], r"f is not finite at index \(0,\) of its result: nan \(1 of 2 values .* of its domain"),
        (mg.sqrt, [2.0, -1.0], r"f is not finite at index \(1,\) of its result: nan"),
        (lambda x: x / 0.0, [1.0, -1.0], r"f is not finite at index \(0,\) of its result: inf \(2 of 2 values"),
        (lambda x: mg.sum(mg.exp(x)), [800.0], r"f is not finite at index \(\) of its result: inf"),
        (mg.exp, np.array([1.0, 100.0], np.float32), r"index \(1,\) of its result, computed in float32: inf"),
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_points_outside_of_the_domain_are_not_blamed_on_the_derivative(f, x, words):
    with pytest.raises(CheckError, match=words):
        check_grad(f, np.array(x))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_infinite_gradient_is_said_to_be_one():
    with pytest.raises(CheckError, match=r"the gradient of input 0 at index \(0,\) is inf, where f is finite"):
        check_grad(mg.sqrt, np.array([0.0, 2.0]))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("f", "large"), [(mg.multiply, 1e10), (lambda a, b: abs(a) * b, 1e6)])
def test_a_large_element_hides_no_wrong_one(f, large, order):
    both = lambda x, first: mg.concat([f(x[:1], first), x[1:] * x[1:]])  # noqa: E731
    x = np.array([1.0, large])
    check_grad(lambda x: both(x, x[:1]), x, order=order)
    with pytest.raises(CheckError, match=r"wrong for input 0 at index \(0,\): .* relative error 0\.5; 1 of 2"):
        check_grad(lambda x: both(x, x[:1].detach()), x, order=order)


def test_a_right_derivative_passes_where_the_complex_step_fails():
    x = np.array([-1.1])
    check_grad(lambda x: x**100, x)
    with pytest.raises(CheckError, match=r"expected -\S+ \(central differences\), relative error 0\.0099"):
        check_grad(partial(scaled, lambda x: x**100, 1.01), x)


@pytest.mark.parametrize("at", [1.7e9, 1e13])
def test_steps_between_numbers_that_are_far_apart_are_not_rounded(at):
    check_grad(lambda x: mg.softplus(x - at), np.array([at]))
    with pytest.raises(CheckError, match="is wrong"):
        check_grad(partial(scaled, lambda x: mg.softplus(x - at), 1.01), np.array([at]))


def test_a_function_may_go_on_in_float32():
    x = np.array([1.0, 2.0])
    check_grad(lambda x: mg.sin(x.to("float32")), x)
    with pytest.raises(CheckError, match="is wrong"):
        check_grad(partial(scaled, lambda x: mg.sin(x.to("float32")), 1.1), x)


@pytest.mark.parametrize("step", [0, -1e-3, 1e-30, 1e-14, float("nan"), float("inf")])
def test_a_step_that_hides_all_errors_is_refused(step):
    with pytest.raises(ValueError, match="takes steps from 1e-6 on"):
        check_grad(lambda x: abs(x) * x.detach(), np.array([1.0]), step=step)


@pytest.mark.parametrize("domain", [
    Domain(0.0, 0.08, avoid=(0.0,)), Domain(0.96, 2.0, avoid=(1.0,)), Domain(-1.0, 1.0, avoid=(0.1, 0.0)),
    Domain(-1.0, 1.0, avoid=(-9.0, 1.01)), Domain(2.0, 2.0),
])  # fmt: skip
def test_values_are_drawn_from_a_domain_away_from_its_kinks(domain):
    x = drawn_values(np.random.default_rng(0), (10_000,), "float64", domain)
    assert domain.low <= x.min() <= x.max() <= domain.high
    assert all(np.abs(x - kink).min() >= 0.05 for kink in domain.avoid)
    assert type(drawn_values(np.random.default_rng(0), (), "float32", domain)) is np.ndarray


def test_a_domain_without_values_is_refused():
    with pytest.raises(DataError, match="has no values 0.05 away from what it avoids"):
        drawn_values(np.random.default_rng(0), (), "float64", Domain(0.0, 0.04, avoid=(0.0,)))


def test_misuse_is_refused():
    w = mg.ones(3)
    with pytest.raises(ValueError, match="order=3"):
        check_grad(mg.exp, X, order=3)
    with pytest.raises(DTypeError, match="floating input, got none: give what is differentiated"):
        check_grad(lambda: mg.sum(mg.Parameter([1.0])))
    with pytest.raises(DTypeError, match="floating input, got int64 for input 0"):
        check_grad(mg.abs, np.arange(3))
    with pytest.raises(DTypeError, match="bool"):
        check_grad(lambda x: x > 0, X)
    with pytest.raises(DTypeError, match="tuple"):
        check_grad(lambda x: (x, x), X)
    with pytest.raises(DTypeError, match="runs f in float64"):
        check_grad(lambda x: x * w, X.astype("float32"))


def test_only_the_strategies_need_hypothesis():
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import minigrad as mg\n"
        "from minigrad.errors import MissingDependencyError\n"
        "mg.testing.check_grad(mg.exp, mg.tensor([1.0]))\n"
        "try: mg.testing.strategies\n"
        "except MissingDependencyError as error: print(error)\n"
    )
    root = Path(mg.__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert "needs hypothesis" in result.stdout


def axes(draw):
    shape = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))
    return [shape, shape], {"axis": draw(st.integers(0, len(shape) - 1))}, lambda values: [values[0], values[1] + 10.0]


@given(st.data())
def test_a_family_of_shapes_may_be_a_function(data):
    row = Primitive(
        "row",
        forward=lambda xp, a, b, /, *, axis: xp.sum(a * b, axis=axis),
        vjps=[
            lambda F, g, y, a, b, axis: F.expand_dims(g, axis=axis) * b,
            lambda F, g, y, a, b, axis: F.expand_dims(g, axis=axis) * a,
        ],
        saves="ab",
        samples=Samples(axes, (Domain(-3, 3),)),
    )
    (a, b), options = data.draw(primitive_inputs(row))
    assert a.shape == b.shape and options.keys() == {"axis"} and b.min() >= 7
    check_grad(lambda a, b: row(a, b, **options), a, b)


@given(st.data())
def test_a_family_that_draws_another_number_of_arrays_is_refused(data):
    for shapes in (axes, "matmul"):
        row = Primitive("row", forward=lambda xp, x, /: x, vjps=None, samples=Samples(shapes, (Domain(-3, 3),)))
        with pytest.raises(MinigradError, match="of primitive 'row' draws 2 arrays, .* takes 1"):
            data.draw(primitive_inputs(row))


@given(st.data())
def test_a_family_that_is_none_is_refused_with_the_names_of_all(data):
    row = Primitive("row", forward=lambda xp, x, /: x, vjps=None, samples=Samples("anny", (Domain(-3, 3),)))
    with pytest.raises(MinigradError, match="'row' has the shape family 'anny', .* 'any', 'broadcast', 'reduce', .*"):
        data.draw(primitive_inputs(row))


@pytest.mark.parametrize("domains", [(), (-3, 3), Domain(-3, 3), [Domain(-3, 3)]])
def test_samples_without_a_tuple_of_domains_are_refused(domains):
    with pytest.raises(MinigradError, match="the domains of samples are a tuple of at least one Domain"):
        Samples("any", domains)
