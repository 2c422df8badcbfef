"""Every optimizer follows its published formulas, and refuses bad input before it changes anything."""

import sys
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.errors import DataError, DeviceError, DTypeError, GraphError, ShapeError

try:
    import torch
except ImportError:
    torch = None

STEPS = 20
CONFIGURATIONS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.8}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.3}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": (0.7, 0.9), "eps": 1e-2, "weight_decay": 0.3}),
    ("Adam", {"lr": 0.05, "betas": (0.0, 0.0), "eps": 1e-2}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.05, "betas": (0.7, 0.9), "eps": 1e-2, "weight_decay": 0.3}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.05, "alpha": 0.7, "eps": 1e-2, "weight_decay": 0.3, "momentum": 0.8}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.5, "eps": 1e-2, "weight_decay": 0.3}),
]


def numpy_sgd(lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    """Sutskever et al. (2013) in PyTorch's form: a generator that is sent (p, g) and yields the next p."""
    v, p = 0.0, None
    while True:
        p, g = yield p
        g = g + weight_decay * p
        v = momentum * v + g
        p = p - lr * (g + momentum * v if nesterov else v)


def numpy_adam(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    """Kingma and Ba (2015), algorithm 1, line by line, on f(p) + weight_decay / 2 ||p||^2."""
    m, v, t, p = 0.0, 0.0, 0, None
    while True:
        p, g = yield p
        g = g + weight_decay * p
        t += 1
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        m_hat = m / (1 - betas[0] ** t)
        v_hat = v / (1 - betas[1] ** t)
        p = p - lr * m_hat / (np.sqrt(v_hat) + eps)


def numpy_adamw(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    """Loshchilov and Hutter (2019), algorithm 2, decay scaled by lr: both changes start from the same p."""
    adam, p = numpy_adam(lr, betas, eps), None
    next(adam)
    while True:
        p, g = yield p
        p = adam.send((p, g)) - lr * weight_decay * p


def numpy_rmsprop(lr=0.01, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0):
    """Tieleman and Hinton (2012) in PyTorch's form."""
    v, b, p = 0.0, 0.0, None
    while True:
        p, g = yield p
        g = g + weight_decay * p
        v = alpha * v + (1 - alpha) * g**2
        b = momentum * b + g / (np.sqrt(v) + eps)
        p = p - lr * b


def numpy_adagrad(lr=0.01, eps=1e-10, weight_decay=0.0):
    """Duchi et al. (2011), diagonal."""
    total, p = 0.0, None
    while True:
        p, g = yield p
        g = g + weight_decay * p
        total = total + g**2
        p = p - lr * g / (np.sqrt(total) + eps)


NUMPY = {
    "SGD": numpy_sgd,
    "Adam": numpy_adam,
    "AdamW": numpy_adamw,
    "RMSprop": numpy_rmsprop,
    "Adagrad": numpy_adagrad,
}


def gradients(dtype="float64"):
    """Steps of gradients for parameters of shapes (3, 2) and (); the second has none in every third step."""
    rng = np.random.default_rng(5)
    first = [rng.normal(size=(3, 2)).astype(dtype) for _ in range(STEPS)]
    second = [np.asarray(rng.normal(), dtype) if i % 3 else None for i in range(STEPS)]
    return list(zip(first, second, strict=True))


def starts(dtype="float64"):
    return np.arange(-2.0, 4.0).reshape(3, 2).astype(dtype), np.asarray(1.5, dtype)


def run(optimizer, parameters, steps):
    """Take steps with given gradients; yield the parameters' values after each."""
    for given in steps:
        optimizer.zero_grad()
        for p, g in zip(parameters, given, strict=True):
            p.grad = None if g is None else mg.tensor(g)
        optimizer.step()
        yield [p.detach().numpy().copy() for p in parameters]


@pytest.mark.parametrize(("name", "options"), CONFIGURATIONS)
def test_steps_follow_the_published_formulas(name, options):
    parameters = [mg.Parameter(start) for start in starts()]
    optimizer = getattr(optim, name)(parameters, **options)
    rules = [NUMPY[name](**options) for _ in parameters]
    expected = [next(rule) or start for rule, start in zip(rules, starts(), strict=True)]
    for given, values in zip(gradients(), run(optimizer, parameters, gradients()), strict=True):
        expected = [p if g is None else rule.send((p, g)) for rule, p, g in zip(rules, expected, given, strict=True)]
        for value, target in zip(values, expected, strict=True):
            # float64, the same formula in another order: roundings only, which 20 steps add up
            np.testing.assert_allclose(value, target, rtol=1e-12, atol=1e-13)


@pytest.mark.skipif(torch is None, reason="PyTorch is not installed: nothing to compare with")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), CONFIGURATIONS)
def test_steps_follow_pytorch(name, options, dtype):
    check_against_pytorch(name, options, dtype)


def check_against_pytorch(name, options, dtype):
    parameters = [mg.Parameter(start) for start in starts(dtype)]
    theirs = [torch.nn.Parameter(torch.tensor(start)) for start in starts(dtype)]
    optimizer = getattr(optim, name)(parameters, **options)
    peer = getattr(torch.optim, name)(theirs, **options)
    for given, values in zip(gradients(dtype), run(optimizer, parameters, gradients(dtype)), strict=True):
        for p, g in zip(theirs, given, strict=True):
            p.grad = None if g is None else torch.tensor(g)
        peer.step()
        for value, p in zip(values, theirs, strict=True):
            assert value.dtype == dtype
            # some 40 roundings of the dtype
            np.testing.assert_allclose(
                value, p.detach().numpy(), rtol=40 * np.finfo(dtype).eps, atol=1e-6 if dtype == "float32" else 1e-13
            )


@pytest.mark.parametrize(("name", "options"), CONFIGURATIONS)
def test_a_restored_optimizer_continues_bit_for_bit(name, options):
    steps = gradients("float32")
    parameters = [mg.Parameter(start) for start in starts("float32")]
    optimizer = getattr(optim, name)(parameters, **options)
    optimizer.lr = 0.07
    values = list(run(optimizer, parameters, steps[:7]))
    state = optimizer.state_dict()
    expected = list(run(optimizer, parameters, steps[7:]))

    again = [mg.Parameter(value) for value in values[-1]]
    restored = getattr(optim, name)(again, **options)
    restored.load_state_dict(state)
    assert restored.lr == 0.07
    for value, target in zip(run(restored, again, steps[7:]), expected, strict=True):
        np.testing.assert_array_equal(value[0], target[0])
        np.testing.assert_array_equal(value[1], target[1])


def test_a_state_may_hold_the_tensors_that_it_is_loaded_into():
    parameters = [mg.Parameter([1.0]), mg.Parameter([1.0])]
    optimizer = optim.SGD(parameters, lr=0.5, momentum=0.9)
    for p, g in zip(parameters, (1.0, 2.0), strict=True):
        p.grad = mg.tensor([g])
    optimizer.step()
    kept = dict(optimizer.named_tensors())
    swapped = {"velocity.0": kept["velocity[1]"], "velocity.1": kept["velocity[0]"]}
    optimizer.load_state_dict({**optimizer.state_dict(), **swapped})
    assert (kept["velocity[0]"].item(), kept["velocity[1]"].item()) == (2.0, 1.0)


def test_an_optimizer_finds_the_minimum():
    w = mg.Parameter(np.array([5.0, -3.0]))
    optimizer = optim.Adam([w], lr=0.1)
    for _ in range(400):
        optimizer.zero_grad()
        ((w - mg.tensor(np.array([1.0, 2.0]))) ** 2).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(w.detach().numpy(), [1, 2], atol=1e-3)
    assert w.is_leaf and w.requires_grad


def test_a_parameter_without_gradient_stays_with_all_its_state():
    a, b = mg.Parameter([1.0]), mg.Parameter([1.0])
    optimizer = optim.AdamW([a, b], lr=0.1)
    a.grad = mg.tensor([1.0])
    optimizer.step()
    assert b.item() == 1.0 and a.item() != 1.0
    assert optimizer.step_counts == [1, 0]


def test_a_step_before_backward_is_noticed():
    w = mg.Parameter([1.0])
    loss = (w * w).sum()
    w.grad = mg.tensor([1.0])
    optim.SGD([w], lr=0.1).step()
    with pytest.raises(GraphError, match="assign"):
        loss.backward()


@pytest.mark.parametrize("name", sorted(NUMPY))
def test_a_step_records_no_graph(name):
    w = mg.Parameter([1.0])
    w.grad = mg.tensor([1.0])
    results = []
    with mg.observers.observing(lambda primitive, inputs, result, metadata: results.append(result)):
        getattr(optim, name)([w], lr=0.1, weight_decay=0.1).step()
    assert results and not any(result.requires_grad for result in results)


def test_zero_grad():
    w = mg.Parameter([1.0])
    w.grad = mg.tensor([1.0])
    optim.SGD([w], lr=0.1).zero_grad()
    assert w.grad is None


W = mg.Parameter([1.0])


@pytest.mark.parametrize("name", sorted(NUMPY))
@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        ([], DataError, "no parameters"),
        ([W, W], DataError, "twice"),
        ([W, mg.tensor([1.0])], DTypeError, "item 1 is a Tensor"),
        ([("w", W)], DTypeError, "item 0 is a tuple"),
        (W, DTypeError, "got a Parameter"),
        (mg.nn.Linear(1, 1), DTypeError, r"got a Linear.*model\.parameters"),
    ],
)
def test_parameters_are_checked(name, parameters, error, words):
    with pytest.raises(error, match=words):
        getattr(optim, name)(parameters, lr=0.1)


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {"lr": bad}) for name in ("SGD", "Adam", "AdamW") for bad in (-0.1, float("nan"), float("inf"), "1", True)]
    + [(name, {"lr": 0.1, "weight_decay": bad}) for name in ("SGD", "Adam", "AdamW") for bad in (-1, None)]
    + [("SGD", {"lr": 0.1, "momentum": bad}) for bad in (-0.1, 1.0, "0.9")]
    + [("SGD", {"lr": 0.1, "nesterov": True})]
    + [("Adam", {"betas": bad}) for bad in (0.9, (0.9,), (1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9, 0.9, 0.9))]
    + [("Adam", {"eps": bad}) for bad in (0.0, -1e-8, float("nan"))],
)
def test_hyper_parameters_are_checked(name, options):
    with pytest.raises((DataError, DTypeError), match=f"{name}: got "):
        getattr(optim, name)([W], **options)


def test_a_learning_rate_set_later_is_used_and_checked():
    w = mg.Parameter([1.0])
    optimizer = optim.SGD([w], lr=0.1)
    optimizer.lr = np.float32(0.5)
    w.grad = mg.tensor([1.0])
    optimizer.step()
    assert w.item() == 0.5
    with pytest.raises(DataError, match="lr=-1"):
        optimizer.lr = -1
    assert optimizer.lr == 0.5


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ["SGD", "RMSprop"])
def test_momentum_that_is_set_later_begins_with_no_velocity(name, compiled):
    found = []
    for later in (False, True):
        w = mg.Parameter([1.0, -2.0])
        optimizer = getattr(optim, name)([w], lr=0.1, momentum=0.0 if later else 0.5)

        def step(w=w, optimizer=optimizer):
            w.grad = w.detach() * 1.0
            optimizer.step()

        optimizer.momentum = 0.5
        step = mg.compile(step) if compiled else step
        for _ in range(6):
            step()
        found.append((w.detach().numpy().tolist(), optimizer.step_counts, list(optimizer.state_dict())))
    assert found[0] == found[1] and found[0][1] == [6]


def test_a_gradient_of_another_dtype_changes_nothing():
    a, b = mg.Parameter([1.0]), mg.Parameter([1.0])
    optimizer = optim.Adam([a, b], lr=0.1)
    a.grad, b.grad = mg.tensor([1.0]), mg.tensor([1.0])
    b.grad._array = np.array([1.0])  # as a gradient it would be refused
    with pytest.raises(DTypeError, match="parameter 1 is float32, its gradient float64"):
        optimizer.step()
    assert a.item() == b.item() == 1.0 and optimizer.step_counts == [0, 0]


def test_a_model_converted_after_the_optimizer_was_made_is_noticed():
    layer = mg.nn.Linear(2, 1)
    optimizer = optim.Adam(layer.parameters())
    layer.to("float64")
    layer(mg.ones((1, 2), dtype="float64")).sum().backward()
    with pytest.raises(DTypeError, match="convert the model before"):
        optimizer.step()


def test_a_gradient_on_another_device_is_noticed():
    w = mg.Parameter([1.0])
    optimizer = optim.SGD([w], lr=0.1)
    w.grad = mg.tensor([1.0])
    w.grad.device = mg.Device("cuda", 0, np, np.ndarray)  # as a gradient it would be refused
    with pytest.raises(DeviceError, match="its gradient on cuda:0"):
        optimizer.step()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda s: s.pop("mean.1"), DataError, "'mean.1' missing"),
        (lambda s: s.update({"velocity.0": np.zeros(1)}), DataError, "'velocity.0' not expected"),
        (lambda s: s.update({"mean.0": np.zeros(2, "float32")}), ShapeError, "mean.0"),
        (lambda s: s.update({"mean.0": np.zeros((3, 2))}), DTypeError, "mean.0"),
        (lambda s: s.update({"step_counts": np.array([1, -1])}), DataError, "step_counts"),
        (lambda s: s.update({"lr": np.array(np.nan)}), DataError, "lr"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, error, words):
    parameters = [mg.Parameter(start) for start in starts("float32")]
    optimizer = optim.Adam(parameters, lr=0.1)
    list(run(optimizer, parameters, gradients("float32")[:3]))
    before = optimizer.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    change(state)
    with pytest.raises(error, match=words):
        optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])


# Steps that are replayed, from the fourth on


class Counting(optim.Optimizer):
    """A rule that counts and looks at values in Python, as no program can."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, lr)
        self.scale, self._t = np.array([1.0, 2.0]), 0

    def _update(self, position, parameter, gradient, scalars):
        self._t += 1
        if float(gradient.sum()) > 0:
            parameter.assign(parameter - scalars[0] * self._t * gradient)


def test_a_rule_of_ones_own_may_count_and_choose_in_python():
    w = mg.Parameter([0.0, 0.0])
    optimizer = Counting([w], lr=1.0)
    for _ in range(8):
        w.grad = mg.tensor([1.0, 1.0])
        optimizer.step()
    assert w.detach().numpy().tolist() == [-36.0, -36.0]


def test_hyper_parameters_and_frozen_parameters_that_change_later_act_at_once(monkeypatch):
    def trained(replays):
        monkeypatch.setattr(optim.optimizer, "STEPS_BEFORE_REPLAY", 3 if replays else 1000)
        rng = np.random.default_rng(0)
        parameters = [mg.Parameter(rng.normal(size=s).astype("float32")) for s in ((30, 40), (40,))]
        optimizer = optim.Adam(parameters)
        optimizer.betas = [0.9, 0.99]  # a list, that changes in place
        for i in range(60):
            if i == 10:
                optimizer.betas[0] = 0.5
            if i >= 30:
                optimizer.weight_decay = i / 1000  # another one in every step
            for j, p in enumerate(parameters):
                gradient = mg.tensor(rng.normal(size=p.shape).astype("float32"))
                p.grad = None if i in (17, 18) and j == 1 else gradient
            optimizer.step()
        assert (optimizer._replayed is not None) is False
        return [p.detach().numpy().tobytes() for p in parameters]

    assert trained(True) == trained(False)


@pytest.mark.not_on_standin
def test_a_replayed_step_lets_go_of_the_gradients():
    w = mg.Parameter(np.ones((300, 300), "float32"))
    optimizer = optim.SGD([w], lr=0.1, momentum=0.9)
    for _ in range(6):
        w.grad = mg.tensor(np.ones((300, 300), "float32"))
        optimizer.step()
        gone = weakref.ref(w.grad._array)
        w.grad = None
        assert gone() is None
    assert optimizer._replayed.programs


@pytest.mark.not_on_standin
def test_a_step_that_fails_while_it_is_recorded_leaves_the_gradients(monkeypatch):
    def fail(*_):
        raise MemoryError("no memory")

    w = mg.Parameter([1.0, 2.0])
    optimizer = optim.SGD([w], lr=0.5)
    monkeypatch.setattr(optim.optimizer, "STEPS_BEFORE_REPLAY", 0)
    monkeypatch.setattr(sys.modules["minigrad.program.compile"], "simplify", fail)
    w.grad = mg.tensor([1.0, 1.0])
    with pytest.raises(MemoryError):
        optimizer.step()
    assert w.grad.numpy().tolist() == [1.0, 1.0]


def test_a_parameter_that_replaced_another_is_updated():
    for make in (lambda p: optim.SGD(p, lr=0.5), lambda p: optim.Adam(p, lr=0.5)):
        old, new = mg.Parameter([1.0, 2.0]), mg.Parameter([1.0, 2.0])
        optimizer = make([old])
        for _ in range(6):
            old.grad = mg.tensor([1.0, 1.0])
            optimizer.step()
        before = old.numpy().copy(), new.numpy().copy()
        optimizer.parameters[0] = new
        new.grad = mg.tensor([1.0, 1.0])
        optimizer.step()
        assert (old.numpy() == before[0]).all() and (new.numpy() != before[1]).all()


@pytest.mark.parametrize("size", [1e25, 1e-25, 3.0])
def test_clipping_squares_what_fits(size):
    w, nothing = mg.Parameter([0.0, 0.0]), mg.Parameter(np.zeros(0, "float32"))
    w.grad, nothing.grad = mg.tensor([3 * size, 4 * size]), mg.tensor(np.zeros(0, "float32"))
    norm = optim.clip_grad_norm([w, nothing], 1.0)
    np.testing.assert_allclose(norm.item(), 5 * size, rtol=3e-7)  # a few roundings
    expected = [0.6, 0.8] if size > 1 else [3 * size, 4 * size]
    np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(("dtype", "largest"), [("float32", 3e38), ("float64", 1.7e308)])
@pytest.mark.parametrize("limit", [1.0, 1e-3, 1e30])
def test_clipping_is_right_where_the_norm_itself_overflows(dtype, largest, limit):
    w, small = mg.Parameter(np.zeros(4, dtype)), mg.Parameter(np.zeros(1, dtype))
    w.grad, small.grad = mg.tensor(np.full(4, largest, dtype)), mg.tensor(np.full(1, largest / 8, dtype))
    with np.errstate(over="ignore"):
        assert optim.clip_grad_norm([w, small], limit).item() == np.inf
    expected = limit / np.sqrt(4 + 1 / 64)  # the largest number cancels
    rtol = 8 * np.finfo(dtype).eps  # of a few roundings
    np.testing.assert_allclose(w.grad.numpy(), np.full(4, expected), rtol=rtol)
    np.testing.assert_allclose(small.grad.numpy(), [expected / 8], rtol=rtol)


@pytest.mark.parametrize("value", [0.0, np.inf, np.nan])
def test_clipping_reports_a_gradient_that_has_no_size(value):
    w = mg.Parameter([0.0, 0.0])
    w.grad = mg.tensor([0.0, value])
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(optim.clip_grad_norm([w], 1.0).item(), value)


def test_a_parameter_that_is_there_twice_is_clipped_once():
    w = mg.Parameter([0.0, 0.0])
    w.grad = mg.tensor([3.0, 4.0])
    assert optim.clip_grad_norm([w, w], 1.0).item() == 5.0
    np.testing.assert_allclose(w.grad.numpy(), [0.6, 0.8], rtol=1e-6)


def test_norms_of_small_dtypes_and_of_several_are_clipped():
    half = mg.Parameter(np.zeros(2, "float16"))
    half.grad = mg.tensor(np.array([300.0, 300.0], "float16"))
    norm = optim.clip_grad_norm([half], 0.1)
    assert abs(norm.item() - 300 * 2**0.5) < 0.1 and half.grad.dtype == np.float16
    np.testing.assert_allclose(half.grad.numpy(), [0.1 / 2**0.5] * 2, rtol=2e-3)
    other = mg.Parameter(np.zeros(1, "float64"))
    half.grad, other.grad = mg.tensor(np.array([3.0, 0.0], "float16")), mg.tensor(np.array([4.0]))
    assert optim.clip_grad_norm([half, other], np.float32(1.0)).item() == 5.0
    np.testing.assert_allclose(other.grad.numpy(), 4.0 / (5.0 + 1e-6), rtol=1e-15)
    assert (half.grad.dtype, other.grad.dtype) == (np.float16, np.float64)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop", "Adagrad"])
def test_an_epsilon_that_is_0_in_the_dtype_of_a_parameter_is_refused(name):
    half = mg.Parameter(np.ones(2, "float16"))
    with pytest.raises(DataError, match=r"eps=1e-(08|10) is 0 in float16, .* larger eps"):
        getattr(optim, name)([half], lr=0.1)
    optimizer = getattr(optim, name)([half], lr=0.1, eps=1e-4)
    for _ in range(6):
        half.grad = mg.tensor(np.zeros(2, "float16"))
        optimizer.step()
    assert np.isfinite(half.numpy()).all()
