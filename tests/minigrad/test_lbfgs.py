"""L-BFGS: minima of known functions, the Wolfe conditions, restart from a state, and what it refuses."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.errors import DataError, DivergenceError, DTypeError

rng = np.random.default_rng(0)


def minimise(f, start, dtype="float64", **options):
    w = mg.Parameter(np.asarray(start, dtype))
    optimizer = optim.LBFGS([w], **{"max_iter": 200, **options})
    values = []

    def closure():
        optimizer.zero_grad()
        loss = f(w)
        loss.backward()
        values.append(loss.item())
        return loss

    final = optimizer.step(closure)
    return w.detach().numpy(), final, values, optimizer


def rosenbrock(w):
    return (100.0 * (w[1:] - w[:-1] ** 2) ** 2 + (1.0 - w[:-1]) ** 2).sum()


def test_rosenbrock_in_ten_dimensions():
    w, final, values, optimizer = minimise(
        rosenbrock, np.tile([-1.2, 1.0], 5), tolerance_change=0.0, tolerance_grad=1e-9
    )
    np.testing.assert_allclose(w, 1.0, atol=1e-8)
    assert final < 1e-16 and final == min(values) and optimizer.evaluations == len(values) < 250


def test_a_quadratic_is_solved_in_about_as_many_steps_as_dimensions():
    q = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    a = mg.tensor(q @ np.diag(np.logspace(0, 2, 8)) @ q.T)
    b = mg.tensor(rng.normal(size=8))
    w, _, values, _ = minimise(
        lambda w: 0.5 * (w @ (a @ w)) - b @ w, np.zeros(8), tolerance_change=0.0, history_size=20
    )
    np.testing.assert_allclose(w, np.linalg.solve(a.numpy(), b.numpy()), atol=1e-7)
    assert len(values) < 60


def test_every_accepted_step_meets_the_strong_wolfe_conditions():
    w = mg.Parameter(np.array([-1.2, 1.0]))
    optimizer = optim.LBFGS([w], max_iter=1)

    def closure():
        optimizer.zero_grad()
        loss = rosenbrock(w)
        loss.backward()
        return loss

    for _ in range(20):
        x, f = w.detach().numpy().copy(), closure().item()
        g = w.grad.numpy().copy()
        optimizer.step(closure)
        d = w.detach().numpy() - x
        new = closure().item()
        assert new <= f + 1e-4 * (g @ d) + 1e-15
        assert abs(w.grad.numpy() @ d) <= 0.9 * abs(g @ d) + 1e-12


def test_float32_parameters_of_several_shapes():
    ws = [mg.Parameter(rng.normal(size=s).astype("float32")) for s in [(2, 3), (), (4,)]]
    optimizer = optim.LBFGS(ws, max_iter=50)

    def closure():
        optimizer.zero_grad()
        loss = sum(((w - 0.5) ** 2 * (i + 1.0)).sum() for i, w in enumerate(ws))
        loss.backward()
        return loss

    assert optimizer.step(closure) < 1e-10
    assert all(w.dtype == np.float32 for w in ws)
    np.testing.assert_allclose(ws[0].detach().numpy(), 0.5, atol=1e-5)


def test_a_wall_of_inf_is_backed_away_from():
    f = lambda w: -mg.log(w).sum() + w.sum() * 1e-3  # noqa: E731  minimum at 1000, NaN below 0
    with np.errstate(all="ignore"):
        w, *_ = minimise(lambda w: f(1000.0 - w), [999.0, 1.0], tolerance_change=0.0)
    np.testing.assert_allclose(1000.0 - w, 1000.0, rtol=1e-3)


@pytest.mark.parametrize("lr", [0.0, 5e-324])
def test_where_the_learning_rate_has_become_0_no_step_is_made(lr):
    w = mg.Parameter([-1.2, 1.0])
    optimizer = optim.LBFGS([w], lr=lr)

    def closure():
        optimizer.zero_grad()
        loss = rosenbrock(w)
        loss.backward()
        return loss

    assert optimizer.step(closure) == closure().item()
    assert w.detach().numpy().tolist() == np.float32([-1.2, 1.0]).tolist()
    optimizer.lr = 1.0
    assert optimizer.step(closure) < 1.0 < rosenbrock(mg.tensor([-1.2, 1.0])).item()


def test_a_restored_optimizer_continues_bit_for_bit():
    results = []
    for restore in (False, True):
        w = mg.Parameter(np.array([-1.2, 1.0]))
        optimizer = optim.LBFGS([w], max_iter=5)

        def closure(w=w):
            w.grad = None
            loss = rosenbrock(w)
            loss.backward()
            return loss

        optimizer.step(closure)
        if restore:
            state = optimizer.state_dict()
            optimizer = optim.LBFGS([w], max_iter=5)
            optimizer.load_state_dict(state)
        optimizer.step(closure)
        results.append((w.detach().numpy().tobytes(), optimizer.evaluations))
    assert results[0] == results[1]


def test_a_new_optimizer_has_a_state_too():
    w = mg.Parameter(np.array([1.0, 2.0]))
    state = optim.LBFGS([w]).state_dict()
    assert state["pairs"].shape == (0, 2, 2)
    optim.LBFGS([w]).load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"evaluations": np.array([1, 2])}, r"evaluations is \[1 2\]; expected an integer"),
        ({"evaluations": np.array(-1)}, "evaluations is -1"),
        ({"evaluations": np.array(1.5)}, "evaluations is 1.5"),
        ({"pairs": np.full((1, 2, 2), np.nan)}, "pairs are not finite"),
        ({"pairs": np.full((1, 2, 2), "a")}, "pairs are not finite"),
    ],
)
def test_a_damaged_state_changes_nothing(change, words):
    w = mg.Parameter(np.array([1.0, 2.0]))
    optimizer = optim.LBFGS([w], lr=0.5)
    before = optimizer.state_dict()
    state = {name: array + 1 for name, array in before.items()} | change
    with pytest.raises(DataError, match=words):
        optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])


def test_refusals():
    w = mg.Parameter(np.array([1.0]))
    with pytest.raises(DataError, match="max_iter=0"):
        optim.LBFGS([w], max_iter=0)
    assert optim.LBFGS([w], max_iter=np.int64(3)).max_iter == 3
    with pytest.raises(DTypeError, match="closure"):
        optim.LBFGS([w]).step()
    optimizer = optim.LBFGS([w])

    def closure():
        optimizer.zero_grad()
        loss = (w * np.nan).sum()
        loss.backward()
        return loss

    with pytest.raises(DivergenceError, match="loss is nan"):
        optimizer.step(closure)
    assert w.item() == 1.0
    with pytest.raises(DataError, match="pairs"):
        optimizer.load_state_dict(optim.SGD([w], lr=0.1).state_dict())


def test_a_closure_that_leaves_no_gradients_is_refused():
    w = mg.Parameter([1.0, 2.0])
    optimizer = optim.LBFGS([w])

    def closure():
        loss = (w * w).sum()
        optimizer.zero_grad()
        loss.backward()
        return loss.detach()

    for f in (mg.compile(closure), lambda: 1.0):
        w.grad = None
        with pytest.raises(DataError, match="no parameter has a gradient"):
            optimizer.step(f)
        assert w.detach().numpy().tolist() == [1.0, 2.0]
        assert optimizer.step_counts == [0]


def test_the_value_is_no_worse_than_that_of_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    start = np.tile([-1.2, 1.0], 5)
    _, ours, values, _ = minimise(rosenbrock, start, max_iter=60)
    w = torch.tensor(start, requires_grad=True)
    theirs = torch.optim.LBFGS([w], max_iter=60, history_size=10, line_search_fn="strong_wolfe")
    count = []

    def closure():
        theirs.zero_grad()
        loss = (100.0 * (w[1:] - w[:-1] ** 2) ** 2 + (1.0 - w[:-1]) ** 2).sum()
        loss.backward()
        count.append(1)
        return loss

    theirs.step(closure)
    assert ours <= max(closure().item(), 1e-12) * 1.01 or len(values) < len(count)


def test_a_state_is_a_dict():
    optimizer = mg.optim.LBFGS([mg.Parameter([1.0])])
    for state in (None, 3, ["pairs", "evaluations"]):
        with pytest.raises(DTypeError, match="a state is a dict of arrays by name"):
            optimizer.load_state_dict(state)
