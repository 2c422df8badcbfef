"""Grad mode, observers, the default device and the default generator belong to a thread."""

import os
import signal
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import autograd, nn, optim


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
            assert not mg.modes.grad_enabled()
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


def in_turns(first, second):
    """Run `first(pause)` in a thread, and `second()` in another while the first waits in `pause()`."""
    paused, go_on, errors = threading.Event(), threading.Event(), []

    def pause():
        paused.set()
        assert go_on.wait(10)

    def run_first():
        try:
            first(pause)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run_first)
    thread.start()
    assert paused.wait(10)
    other = threading.Thread(target=second)
    other.start()
    other.join()
    go_on.set()
    thread.join()
    assert not errors


@pytest.mark.parametrize("mode", [mg.no_grad, mg.enable_grad])
def test_threads_in_one_decorated_function_or_block_leave_their_modes_as_they_were(mode):
    """The first to enter is the first to leave."""
    shared, modes = mode(), []
    decorated = shared(lambda wait: wait())

    def block(wait):
        with shared:
            wait()

    for enter in (decorated, block):
        first_is_in, both_are_in, first_is_out = (threading.Event() for _ in range(3))

        def first(enter=enter, first_is_in=first_is_in, both_are_in=both_are_in, first_is_out=first_is_out):
            enter(lambda: (first_is_in.set(), both_are_in.wait(10)))
            modes.append(mg.modes.grad_enabled())
            first_is_out.set()

        def second(enter=enter, first_is_in=first_is_in, both_are_in=both_are_in, first_is_out=first_is_out):
            mg.modes.state.grad_enabled = False
            first_is_in.wait(10)
            enter(lambda: (both_are_in.set(), first_is_out.wait(10)))
            modes.append(mg.modes.grad_enabled())

        threads = [threading.Thread(target=first), threading.Thread(target=second)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert modes == [True, False] * 2


def test_gradients_of_threads_add_up_in_one_leaf():
    w = mg.Parameter([1.0])
    (w * 1.0).sum().backward()

    def first(pause):
        waits = [pause]

        def before_it_is_stored(primitive, *_):
            if primitive.name == "add" and waits:
                waits.pop()()

        with mg.observers.observing(before_it_is_stored):
            (w * 10.0).sum().backward()

    in_turns(first, (w * 100.0).sum().backward)
    assert w.grad.item() == 111.0


@pytest.mark.parametrize("draw", ["uniform", "permutation"])
def test_threads_that_share_a_generator_get_different_numbers(draw, monkeypatch):
    generator, expected = mg.random.Generator(5), mg.random.Generator(5)
    counted = [getattr(expected, draw)(5).numpy().tolist() for _ in range(2)]
    found = []
    started = threading.Event()
    other = threading.Thread(target=lambda: (started.set(), found.append(getattr(generator, draw)(5).numpy().tolist())))
    blocks = mg.philox.blocks

    def drawn_but_not_counted(*arguments):
        if threading.current_thread() is not other:
            other.start()
            started.wait(10)
            other.join(0.2)  # it waits for this draw: the time is how long it would have had to overtake
        return blocks(*arguments)

    monkeypatch.setattr(mg.random.philox, "blocks", drawn_but_not_counted)
    found.append(getattr(generator, draw)(5).numpy().tolist())
    other.join()
    assert sorted(found) == sorted(counted) and found[0] != found[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@mg.use_device("cpu")  # CUDA does not work in a forked child
def test_a_child_waits_for_no_thread_of_its_parent():
    """One that was drawing, or adding up gradients, when the child was forked."""
    generator, p = mg.random.Generator(0), mg.Parameter([1.0])
    taken, stop = threading.Event(), threading.Event()

    def hold():
        with generator._lock, autograd._storing:
            taken.set()
            stop.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(60)
    try:
        child = os.fork()
        if child == 0:
            passed = False
            try:
                signal.alarm(20)  # ends it if it hangs
                generator.uniform((2,))
                (p * p).sum().backward()
                passed = p.grad.item() == 2.0
            finally:
                os._exit(0 if passed else 1)  # whatever happens, it must not go on as a second pytest
    finally:
        stop.set()
        thread.join()
    assert os.waitpid(child, 0)[1] == 0


def test_backward_in_a_handler_does_not_wait_for_the_backward_that_it_interrupts():
    p = mg.Parameter([1.0])
    with autograd._storing:
        (p * p).sum().backward()
    assert p.grad.item() == 2.0
