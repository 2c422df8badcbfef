"""Generators: reproducible, independent, and restored from three integers."""

import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DataError, DTypeError


def test_the_same_seed_gives_the_same_numbers_and_others_do_not():
    draw = lambda seed, stream=0: mg.random.Generator(seed, stream).uniform((1000,)).numpy()  # noqa: E731
    np.testing.assert_array_equal(draw(5), draw(5))
    assert np.mean(draw(5) == draw(6)) < 0.01
    assert np.mean(draw(5) == draw(5, 1)) < 0.01


@pytest.mark.parametrize("kind", ["uniform", "normal", "integers", "permutation"])
def test_a_restored_generator_continues_where_it_was_saved(kind):
    arguments = {"integers": (0, 1000, (50,)), "permutation": (50,)}.get(kind, ((50,),))
    a = mg.random.Generator(1)
    a.uniform((7,))
    state = a.state()
    expected = [getattr(a, kind)(*arguments).numpy().copy() for _ in range(2)]
    assert (expected[0] != expected[1]).any()
    b = mg.random.Generator(99)
    b.set_state(state)
    for e in expected:
        np.testing.assert_array_equal(getattr(b, kind)(*arguments).numpy(), e)


def test_dtypes_shapes_and_ranges():
    g = mg.random.Generator(0)
    assert g.uniform().shape == ()
    assert g.uniform(3).shape == (3,)
    assert g.normal((2, 0)).shape == (2, 0)
    assert g.uniform((4,), dtype="float64").dtype == np.float64
    whole = g.integers(-2, 3, (1000,)).numpy()
    assert set(whole.tolist()) == {-2, -1, 0, 1, 2}
    assert sorted(g.permutation(20).numpy().tolist()) == list(range(20))


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "a"])
def test_a_bad_seed_is_refused(seed):
    with pytest.raises(DataError, match="seed"):
        mg.random.Generator(seed)


def test_a_bad_state_changes_nothing():
    g = mg.random.Generator(4)
    with pytest.raises(DataError, match="counter"):
        g.set_state({"seed": 1, "stream": 0})
    assert g.state() == {"seed": 4, "stream": 0, "counter": 0}
    with pytest.raises(DataError, match="negative"):
        g.uniform((-1,))
    assert g.counter == 0


def test_the_default_generator_belongs_to_a_thread():
    mg.random.seed(3)
    expected = mg.random.uniform((4,)).numpy().copy()
    mg.random.seed(3)
    seen = []
    thread = threading.Thread(target=lambda: (mg.random.seed(8), seen.append(mg.random.normal((4,)))))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(mg.random.uniform((4,)).numpy(), expected)
    assert len(seen) == 1


def test_a_state_comes_back_from_a_file(tmp_path):
    g = mg.random.Generator(2**64 - 1, 7)
    g.uniform((3,))
    mg.save(tmp_path / "g", g.state())
    other = mg.random.Generator(0)
    other.set_state(mg.load(tmp_path / "g"))
    assert other.state() == g.state()
    for bad in (np.array(0.5), np.array([1]), np.array(-1), 2**64):
        with pytest.raises(DataError, match="the counter of a generator is an integer in"):
            other.set_state({**g.state(), "counter": bad})
    assert other.state() == g.state()


def test_ends_are_whole():
    for low, high in ((0.5, 3.9), ("0", "3"), (0, None)):
        with pytest.raises(DTypeError, match="integers got .*; expected an integer"):
            mg.random.Generator(0).integers(low, high)
