"""Compiled steps as CUDA graphs, on a real GPU: eager numbers, memory that nothing else gets, the same bits again."""

import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim

pytestmark = [pytest.mark.gpu, pytest.mark.not_on_standin]


@pytest.fixture
def place():
    with mg.use_device("cuda") as found:
        yield found


def training(compiled, sizes=(37, 64, 10), optimizer=optim.Adam):
    mg.random.seed(0)
    model = nn.Sequential(nn.Linear(sizes[0], sizes[1]), nn.Sigmoid(), nn.Linear(sizes[1], sizes[2]))
    made = optimizer(model.parameters(), lr=1e-2)
    noise = mg.random.Generator(3)
    noise.uniform((1,))  # the counter is on the device before anything is recorded

    def step(x, y):
        loss = mg.mean(mg.square(model(x * (noise.uniform(x.shape) < 0.9)) - y))
        made.zero_grad()
        loss.backward()
        optim.clip_grad_norm(model.parameters(), 1.0)
        made.step()
        return loss

    return model, made, mg.compile(step) if compiled else step


def batches(n, rows=24):
    rng = np.random.default_rng(1)
    return [tuple(mg.tensor(rng.normal(size=(rows, k)).astype("f4")) for k in (37, 10)) for _ in range(n)]


def test_replays_are_eager_steps_with_other_data_and_learning_rates_and_canaries_stay_whole(place):
    xp = place.xp
    data = batches(12)
    results = []
    for compiled in (False, True):
        model, made, step = training(compiled)
        canaries, losses = [], []
        for number, (x, y) in enumerate(data * 3):
            made.lr = 1e-2 / (1 + number)
            losses.append(step(x, y))
            # memory that is taken and given back between replays: a graph must use none of it
            canaries.append(xp.full(1000 * (number % 7 + 1), number, xp.float32))
            if number % 5 == 4:
                del canaries[:3]
        for canary in canaries:
            assert (canary == canary[0]).all() and float(canary[0]) == int(canary[0])
        results.append(([loss.item() for loss in losses], model.state_dict()))
        if compiled:
            (entry,) = next(iter(step._entries.values()))
            assert entry.replay._graph is not None
    (expected, eager), (got, replayed) = results
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    for name, array in eager.items():
        np.testing.assert_allclose(replayed[name], array, rtol=1e-3, atol=1e-5)


def test_deterministic_replays_give_the_same_bits(place):
    def run():
        model, _, step = training(True)
        losses = [step(x, y) for x, y in batches(8)]
        return [loss.item() for loss in losses], model.state_dict()

    mg.deterministic(True)
    try:
        (first, a), (second, b) = run(), run()
    finally:
        mg.deterministic(False)
    assert first == second
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_what_cannot_be_captured_goes_on_launch_by_launch(place):
    a = mg.tensor(np.eye(3, dtype="f4") * 2.0)
    solve = mg.compile(lambda a, b: mg.solve(a, b))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i in range(5):
            b = mg.tensor(np.full((3, 1), float(i), "f4"))
            np.testing.assert_allclose(solve(a, b).numpy(), np.full((3, 1), i / 2))
    assert any("not run as a CUDA graph" in str(w.message) for w in caught)
    # and the device is fine
    _, _, step = training(True)
    assert all(np.isfinite(step(x, y).item()) for x, y in batches(5))


def test_graphs_of_several_kinds_of_batches_keep_their_memory_apart(place):
    model, _, step = training(True)
    expected, _, eager = training(False)
    for _ in range(5):
        for rows in (24, 7, 100):
            (x, y) = batches(1, rows)[0]
            np.testing.assert_allclose(step(x, y).item(), eager(x, y).item(), rtol=1e-4)
    for p, q in zip(model.parameters(), expected.parameters(), strict=True):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-3, atol=1e-5)


def test_tf32_is_recorded_anew_and_differs(place):
    x = mg.tensor(np.random.default_rng(0).normal(size=(256, 512)).astype("f4"))
    product = mg.compile(lambda x: x @ x.mT)
    exact = x.numpy().astype("f8") @ x.numpy().astype("f8").T

    def error():
        for _ in range(3):
            found = product(x)
        return np.abs(found.numpy() - exact).max() / np.abs(exact).max()

    full = error()
    mg.set_matmul_precision("tf32")
    try:
        coarse = error()
    finally:
        mg.set_matmul_precision("float32")
    assert full < 1e-6 < 1e-5 < coarse < 1e-2
    assert error() == full
