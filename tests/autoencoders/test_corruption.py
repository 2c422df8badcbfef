"""Corruption: what is drawn, how often, from which generator.

Frequencies are checked at six standard deviations with fixed seeds, so that no test can fail by chance.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autoencoders as ae
import minigrad as mg
from minigrad.errors import DataError, DTypeError
from minigrad.random import Generator

N = 40_000
NOISES = [
    lambda x, generator=None: ae.masking_noise(x, 0.5, generator),
    lambda x, generator=None: ae.gaussian_noise(x, 0.5, generator),
    lambda x, generator=None: ae.salt_and_pepper_noise(x, 0.5, generator),
]
each_noise = pytest.mark.parametrize("noise", NOISES, ids=["masking", "gaussian", "salt_and_pepper"])


def near_frequency(count, p):
    return abs(count / N - p) <= 6 * np.sqrt(p * (1 - p) / N)


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1), st.integers(0, 2**32))
def test_masking_loses_a_fraction_q_and_keeps_the_rest_as_it_is(q, seed):
    x = np.linspace(1, 2, N)
    noisy = ae.masking_noise(mg.tensor(x), q, Generator(seed)).numpy()
    lost = noisy == 0
    assert near_frequency(lost.sum(), q)
    assert (noisy[~lost] == x[~lost]).all()


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1), st.integers(0, 2**32))
def test_salt_and_pepper_come_in_equal_parts(q, seed):
    x = np.linspace(0.25, 0.75, N)
    noisy = ae.salt_and_pepper_noise(mg.tensor(x), q, Generator(seed)).numpy()
    assert near_frequency((noisy == 0).sum(), q / 2)
    assert near_frequency((noisy == 1).sum(), q / 2)
    rest = (noisy != 0) & (noisy != 1)
    assert (noisy[rest] == x[rest]).all()


def test_salt_and_pepper_take_the_ends_of_the_range():
    noisy = ae.salt_and_pepper_noise(mg.zeros((1000,)), 1.0, Generator(0), low=-1.0, high=3.0).numpy()
    assert set(noisy.tolist()) == {-1.0, 3.0}


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 10), st.integers(0, 2**32))
def test_gaussian_noise_has_mean_0_and_deviation_sigma(sigma, seed):
    x = np.linspace(0, 1, N)
    noise = ae.gaussian_noise(mg.tensor(x), sigma, Generator(seed)).numpy() - x
    assert abs(noise.mean()) <= 6 * sigma / np.sqrt(N) + 1e-15
    assert abs(noise.std() - sigma) <= 6 * sigma / np.sqrt(2 * N) + 1e-15


def test_masking_does_not_pair_up_neighbours():
    lost = ae.masking_noise(mg.ones((200, 200)), 0.5, Generator(1)).numpy() == 0
    for pairs in (lost[:, 1:] & lost[:, :-1], lost[1:] & lost[:-1]):
        assert near_frequency(pairs.sum() * N / pairs.size, 0.25)


@each_noise
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_clean_data_are_never_touched(noise, dtype):
    before = np.random.default_rng(0).random((20, 5)).astype(dtype)
    x = mg.tensor(before)
    noisy = noise(x)
    assert noisy.dtype == dtype and noisy.shape == x.shape
    assert (x.numpy() == before).all() and (noisy.numpy() != before).any()


@each_noise
def test_every_call_draws_anew(noise):
    x = mg.full((50,), 0.5)
    generator = Generator(3)
    assert (noise(x, generator).numpy() != noise(x, generator).numpy()).any()
    assert (noise(x).numpy() != noise(x).numpy()).any()


@each_noise
def test_the_seed_decides(noise):
    x = mg.full((50,), 0.5)
    assert (noise(x, Generator(3)).numpy() == noise(x, Generator(3)).numpy()).all()
    mg.random.seed(3)
    assert (noise(x).numpy() == noise(x, Generator(3)).numpy()).all()


def test_no_noise_at_strength_0():
    x = mg.tensor(np.random.default_rng(0).random((20, 5)))
    for clean in (ae.masking_noise(x, 0), ae.gaussian_noise(x, 0), ae.salt_and_pepper_noise(x, 0)):
        assert (clean.numpy() == x.numpy()).all()


def test_gradients_flow_through_what_was_kept():
    x = mg.tensor(np.full(100, 0.5), requires_grad=True)
    noisy = ae.masking_noise(x, 0.5, Generator(0))
    noisy.sum().backward()
    assert (x.grad.numpy() == (noisy.detach().numpy() != 0)).all()


@pytest.mark.parametrize("noise", [ae.masking_noise, ae.salt_and_pepper_noise])
@pytest.mark.parametrize("q", [-0.1, 1.1, float("nan")])
def test_q_must_be_a_probability(noise, q):
    with pytest.raises(DataError, match=r"expected a finite number in \[0, 1\]"):
        noise(mg.zeros((3,)), q)


@pytest.mark.parametrize("sigma", [-0.1, float("inf"), float("nan")])
def test_sigma_must_be_a_deviation(sigma):
    with pytest.raises(DataError, match="expected a finite number of at least 0"):
        ae.gaussian_noise(mg.zeros((3,)), sigma)


@each_noise
def test_only_floating_tensors_can_be_corrupted(noise):
    with pytest.raises(DTypeError, match="int64"):
        noise(mg.arange(3))
    with pytest.raises(DTypeError, match="int64; expected a floating tensor, .* or a floating array"):
        noise(np.arange(3))
    with pytest.raises(DTypeError, match="dtype <U1"):
        noise(np.array(["a"]))


@each_noise
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_array_is_corrupted_as_a_tensor_of_its_dtype(noise, dtype):
    x = np.random.default_rng(0).random((5, 4)).astype(dtype)
    before = x.copy()
    mg.random.seed(0)
    expected = noise(mg.tensor(x))
    mg.random.seed(0)
    noisy = noise(x)
    assert noisy.dtype == dtype and (noisy.numpy() == expected.numpy()).all()
    assert (noisy.numpy() != x).any() and (x == before).all()
