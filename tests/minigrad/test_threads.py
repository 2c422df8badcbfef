"""Grad mode, observers, the default device and the default generator belong to a thread."""

import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim


def train(seed, compiled, barrier=None):
    """Train a small model with noise; return all that it ends with. Threads that wait for each other interleave."""
    mg.random.seed(seed)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 5))
    optimizer = optim.Adam(model.parameters(), lr=0.05)

    def step(x):
        optimizer.zero_grad()
        loss = mg.square(model(x * (mg.random.uniform(x.shape) > 0.25)) - x).mean()
        loss.backward()
        optimizer.step()
        return loss

    step = mg.compile(step) if compiled else step
    x = mg.tensor(np.random.default_rng(seed).normal(size=(6, 5)).astype("float32"))
    losses = []
    for _ in range(15):
        losses.append(step(x).item())
        with mg.no_grad():
            if barrier is not None:
                barrier.wait()
            assert not mg.tape.grad_enabled()
    return losses, [a.tobytes() for a in model.state_dict().values()], mg.random.default_generator().state()


@pytest.mark.parametrize("compiled", [False, True])
def test_two_threads_get_what_each_would_get_alone(compiled):
    expected = {}
    for seed in (1, 2):
        alone = threading.Thread(target=lambda seed=seed: expected.update({seed: train(seed, compiled)}))
        alone.start()
        alone.join()
    found, barrier = {}, threading.Barrier(2)
    both = [
        threading.Thread(target=lambda seed=seed: found.update({seed: train(seed, compiled, barrier)}))
        for seed in (1, 2)
    ]
    for t in both:
        t.start()
    for t in both:
        t.join()
    assert found == expected


def test_a_recording_in_one_thread_does_not_see_another():
    started, go_on = threading.Event(), threading.Event()

    def other():
        started.wait()
        assert (mg.tensor([1.0]) * 2).item() == 2.0  # reading a value is refused only where a program is recorded
        with mg.use_device("cpu"):
            mg.exp(mg.tensor([0.0]))
        go_on.set()

    thread = threading.Thread(target=other)
    thread.start()

    def f(x):
        y = x + 1.0
        started.set()
        assert go_on.wait(10)
        return y * 2.0

    program = mg.record(f)(mg.tensor([1.0]))
    thread.join()
    assert [e.primitive.name for e in program.equations] == ["add", "multiply"]


def test_a_graph_may_go_backward_in_another_thread():
    w = mg.Parameter([2.0])
    loss = (w * w).sum()
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()
    assert w.grad.item() == 4.0
