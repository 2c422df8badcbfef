"""Modules find their parameters once, save and load them whole; layers and initial values are what they say."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import DataError, DeviceError, DTypeError, ShapeError


class Everything(nn.Module):
    """A module that holds things in all possible ways."""

    def __init__(self):
        self.own = mg.Parameter([1.0, 2.0])
        self.layers = [nn.Linear(2, 3), (nn.Linear(3, 2, bias=False), nn.Tanh())]
        self.by_name = {"a": mg.Parameter(3.0)}
        self.tied = self.layers[0]
        self.also_tied = self.own
        self.constant = mg.tensor([5.0])
        self.size = (784, 500)


NAMES = ["own", "by_name.a", "layers.0.weight", "layers.0.bias", "layers.1.0.weight"]


def test_parameters_are_found_everywhere_and_once():
    model = Everything()
    assert [name for name, _ in model.named_parameters()] == NAMES
    assert [id(p) for p in model.parameters()] == [id(p) for _, p in model.named_parameters()]
    assert dict(model.named_parameters())["own"] is model.own
    assert list(model.state_dict()) == NAMES


def test_modules_are_found_once_even_in_a_cycle():
    model = Everything()
    model.layers[0].parent = model
    assert [name for name, _ in model.named_modules()] == ["", "layers.0", "layers.1.0", "layers.1.1"]
    assert [name for name, _ in model.named_parameters()] == NAMES


def test_two_parameters_of_one_name_are_refused():
    model = nn.Module()
    model.a = {"b.c": mg.Parameter(1.0), "b": {"c": mg.Parameter(2.0)}}
    with pytest.raises(DataError, match=r"'a\.b\.c'"):
        model.state_dict()


def test_call_is_forward_and_a_module_without_one_says_so():
    assert nn.Identity()(7) == 7
    with pytest.raises(NotImplementedError, match="Module has no forward"):
        nn.Module()(1)


def test_train_and_eval_reach_every_module():
    model = Everything()
    assert model.training
    assert model.eval() is model
    assert not any(m.training for _, m in model.named_modules())
    model.train()
    assert all(m.training for _, m in model.named_modules())
    assert nn.Module().training


def test_zero_grad_forgets_all_gradients():
    model = nn.Linear(2, 1)
    model(mg.ones((3, 2))).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_a_state_is_a_copy_and_loads_into_another_module():
    a, b = Everything(), Everything()
    state = a.state_dict()
    assert any((state[n] != b.state_dict()[n]).any() for n in NAMES)
    before = a.own.detach().numpy().copy()
    b.load_state_dict(state)
    for name, array in state.items():
        np.testing.assert_array_equal(b.state_dict()[name], array)
        array[...] = 99.0
    np.testing.assert_array_equal(a.own.detach().numpy(), before)
    np.testing.assert_array_equal(b.own.detach().numpy(), before)
    assert b.tied is b.layers[0] and b.tied.weight is b.layers[0].weight


def test_a_state_may_hold_the_tensors_that_it_is_loaded_into():
    model = nn.Module()
    model.a, model.b = mg.Parameter([1.0]), nn.Buffer([2.0])
    model.load_state_dict({"a": model.b, "b": model.a})
    assert (model.a.item(), model.b.item()) == (2.0, 1.0)
    model.load_state_dict({"a": model.b.numpy(), "b": model.a.detach().numpy()})
    assert (model.a.item(), model.b.item()) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda s: s.pop("by_name.a"), DataError, "'by_name.a' missing"),
        (lambda s: s.update(typo=np.zeros(1)), DataError, "'typo' not expected"),
        (
            lambda s: s.update({"layers.0.bias": np.zeros(4, "float32")}),
            ShapeError,
            r"'layers.0.bias' has shape \(4,\)",
        ),
        (lambda s: s.update({"layers.0.bias": np.zeros((1, 3), "float32")}), ShapeError, r"expected \(3,\)"),
        (lambda s: s.update({"by_name.a": np.float64(1)}), DTypeError, "'by_name.a' is float64, expected float32"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, error, words):
    model = Everything()
    before = model.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    change(state)
    with pytest.raises(error, match=words):
        model.load_state_dict(state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_state_that_is_no_dict_is_refused():
    with pytest.raises(DTypeError, match="got list"):
        nn.Linear(1, 1).load_state_dict([1, 2])


def test_not_strict_loads_what_both_sides_have_and_still_checks_it():
    model = nn.Linear(2, 1)
    model.load_state_dict({"bias": mg.tensor([4.0]), "other": np.zeros(9)}, strict=False)
    assert model.bias.item() == 4.0
    with pytest.raises(ShapeError):
        model.load_state_dict({"bias": np.zeros(2, "float32")}, strict=False)


def test_to_converts_the_same_parameter_objects():
    model = nn.Sequential(nn.Linear(3, 2))
    weight = model[0].weight
    before = weight.detach().numpy().copy()
    model(mg.ones((1, 3))).sum().backward()
    assert model.to("float64") is model
    assert model[0].weight is weight and weight.dtype == np.float64 and weight.grad is None
    np.testing.assert_array_equal(weight.detach().numpy(), before)
    model(mg.ones((1, 3), dtype="float64")).sum().backward()
    assert weight.grad.dtype == np.float64
    model.to("cpu")
    with pytest.raises(DTypeError, match="int64"):
        model.to("int64")
    with pytest.raises(DeviceError):
        model.to("cuda:9999")
    assert weight.dtype == np.float64 and weight.device is mg.device("cpu")


def test_repr_shows_the_tree():
    model = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Sequential(nn.ReLU()))
    assert repr(model) == (
        "Sequential(\n  (0): Linear(4, 2, bias=False)\n  (1): Sequential(\n    (0): ReLU()\n  )\n)"
    )  # fmt: skip
    assert repr(nn.Sigmoid()) == "Sigmoid()"


def test_linear_is_x_w_plus_b_with_any_leading_axes():
    layer = nn.Linear(3, 2, dtype="float64", generator=mg.random.Generator(1))
    layer.bias.assign(np.array([5.0, 7.0]))
    x = np.random.default_rng(0).normal(size=(4, 5, 3))
    expected = x @ layer.weight.detach().numpy() + np.array([5.0, 7.0])
    np.testing.assert_allclose(layer(mg.tensor(x)).detach().numpy(), expected, rtol=1e-14)
    assert layer(mg.tensor(x[0, 0])).shape == (2,)
    assert nn.Linear(3, 2, bias=False).bias is None


def test_linear_draws_from_its_generator_alone():
    a, b = (nn.Linear(3, 2, generator=mg.random.Generator(4)).weight.detach().numpy() for _ in range(2))
    np.testing.assert_array_equal(a, b)
    mg.random.seed(4)
    np.testing.assert_array_equal(nn.Linear(3, 2).weight.detach().numpy(), a)


@pytest.mark.parametrize(
    ("build", "error"),
    [
        (lambda: nn.Linear(0, 2), ShapeError),
        (lambda: nn.Linear(2, -1), ShapeError),
        (lambda: nn.Linear(2.0, 1), DTypeError),
        (lambda: nn.Linear(2, 1, dtype="int32"), DTypeError),
        (lambda: nn.Linear(2, 1, init=lambda shape, generator, dtype: np.zeros((1, 2))), ShapeError),
        (lambda: nn.Linear(2, 1)(mg.ones((4, 3))), ShapeError),
        (lambda: nn.Linear(2, 1)(mg.tensor(1.0)), ShapeError),
        (lambda: nn.Sequential(mg.tanh), DTypeError),
    ],
)
def test_layers_refuse_what_they_cannot_use(build, error):
    with pytest.raises(error, match="Linear|Sequential"):
        build()


def test_sequential_composes_in_order_and_repeats_a_shared_module():
    tanh, double = nn.Tanh(), nn.Linear(1, 1, bias=False, init=lambda s, g, d: np.full(s, 2.0))
    model = nn.Sequential(double, tanh, double, tanh)
    x = np.array([[0.3]], "float32")
    expected = np.tanh(2 * np.tanh(2 * x))
    np.testing.assert_allclose(model(mg.tensor(x)).detach().numpy(), expected, rtol=1e-6)  # float32 roundings
    assert [name for name, _ in model.named_parameters()] == ["0.weight"]
    assert len(model) == 4 and list(model) == [double, tanh, double, tanh] and model[-1] is tanh
    assert list(model[1:3]) == [tanh, double]


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (nn.Identity, lambda x: x),
        (nn.Sigmoid, lambda x: 1 / (1 + np.exp(-x))),
        (nn.Tanh, np.tanh),
        (nn.ReLU, lambda x: np.maximum(x, 0)),
        (nn.Softplus, lambda x: np.log(1 + np.exp(x))),
    ],
)
def test_activation_modules(module, function):
    x = np.linspace(-3, 3, 13)
    np.testing.assert_allclose(module()(mg.tensor(x)).numpy(), function(x), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "variance", "uniform"),
    [
        ("xavier_uniform", 2 / (300 + 500), True),
        ("xavier_normal", 2 / (300 + 500), False),
        ("he_uniform", 2 / 300, True),
        ("he_normal", 2 / 300, False),
        ("uniform_fan_in", 1 / (3 * 300), True),
    ],
)
def test_initial_values_have_the_published_distribution(name, variance, uniform, dtype):
    w = getattr(nn.init, name)((300, 500), mg.random.Generator(2), dtype).numpy()
    assert w.shape == (300, 500) and w.dtype == dtype
    # 150,000 draws: the relative standard error of the variance is at most sqrt(2 / 150000) = 0.4 %
    assert w.var() == pytest.approx(variance, rel=0.02)
    assert abs(w.mean()) < 5 * np.sqrt(variance / w.size)
    bound = np.sqrt(3 * variance)
    if uniform:
        assert np.abs(w).max() <= bound * (1 + 1e-6) and np.abs(w).max() > 0.999 * bound
    else:
        assert np.abs(w).max() > 1.5 * bound


def test_initialisers_without_generator_use_the_default_one():
    mg.random.seed(8)
    drawn = nn.init.he_normal((3, 2)).numpy()
    np.testing.assert_array_equal(nn.init.he_normal((3, 2), mg.random.Generator(8)).numpy(), drawn)
    np.testing.assert_array_equal(nn.init.zeros((2, 3), dtype="float64").numpy(), np.zeros((2, 3)))


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (0, 3), 5])
def test_initialisers_need_a_matrix(shape):
    for name in ("xavier_uniform", "xavier_normal", "he_uniform", "he_normal", "uniform_fan_in"):
        with pytest.raises(ShapeError, match=name):
            getattr(nn.init, name)(shape)


def test_a_module_that_holds_its_parent_has_a_repr():
    parent, child = nn.Module(), nn.Module()
    parent.child, child.parent = child, parent
    assert repr(parent) == "Module(\n  (child): Module(\n    (parent): ...\n  )\n)"


def test_an_embedding_of_nothing():
    assert nn.Embedding(3, 2)([]).shape == (0, 2)
