"""Points on curves: they lie on the curve, evenly, and the directions are those of the curve.

The arrays are float32: 2e-7 is a few units in the last place of coordinates of size 1.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoencoders.datasets import Curve, circle, spiral, two_moons
from minigrad.errors import DataError, DTypeError

SETTINGS = settings(max_examples=30, deadline=None)
CURVES = [circle, spiral, two_moons]
each_curve = pytest.mark.parametrize("curve", CURVES)
seeds = st.integers(0, 2**63)


@each_curve
@SETTINGS
@given(n=st.integers(1, 50), noise=st.floats(0, 2), seed=seeds)
def test_tangents_and_normals_are_a_frame_at_every_point(curve, n, noise, seed):
    data = curve(n, noise, seed)
    assert isinstance(data, Curve)
    assert all(a.shape == (n, 2) and a.dtype == np.float32 for a in data)
    tangents, normals = data.tangents, data.normals
    np.testing.assert_allclose(np.hypot(*tangents.T), 1, atol=2e-7)
    np.testing.assert_array_equal(normals, np.stack([tangents[:, 1], -tangents[:, 0]], axis=1))


@SETTINGS
@given(st.integers(1, 50), seeds)
def test_points_lie_on_the_circle(n, seed):
    points, _, normals = circle(n, seed=seed)
    np.testing.assert_allclose(points, normals, atol=2e-7)


@SETTINGS
@given(st.integers(1, 50), seeds)
def test_points_lie_on_the_spiral(n, seed):
    points = spiral(n, seed=seed).points.astype(np.float64)
    radius = np.hypot(*points.T)
    assert (radius > 1 / 3 - 2e-7).all() and (radius < 1 + 2e-7).all()
    t = 4.5 * np.pi * radius
    np.testing.assert_allclose(
        points, radius[:, None] * np.stack([np.cos(t), np.sin(t)], axis=1), atol=4e-6
    )  # 14 eps t


@SETTINGS
@given(st.integers(1, 50), seeds)
def test_points_lie_on_the_moons_with_normals_away_from_the_centres(n, seed):
    points, _, normals = two_moons(n, seed=seed)
    centres = points - normals
    upper = np.abs(centres).max(axis=1) < 4e-7
    lower = np.abs(centres - [1, 0.5]).max(axis=1) < 4e-7
    assert (upper ^ lower).all()
    assert (points[upper, 1] >= -2e-7).all() and (points[lower, 1] <= 0.5 + 2e-7).all()


@each_curve
def test_tangents_point_to_the_next_point(curve):
    """Neighbours on the curve at distance d: the chord is off the tangent by d^2 times the curvature / 2."""
    points, tangents, normals = (a.astype(np.float64) for a in curve(4000, seed=1))
    for i in range(0, 4000, 40):
        step = points - points[i]
        distance = np.hypot(*step.T)
        near = (distance < 0.05) & (distance > 0)
        assert near.sum() > 10
        assert (np.abs(step[near] @ normals[i]) < 2 * distance[near] ** 2 + 1e-6).all()  # curvature at most 3.1
        assert (np.abs(np.abs(step[near] @ tangents[i]) / distance[near] - 1) < 0.02).all()


def spiral_length(t):
    """From the origin to the angle t, for r = t / (4.5 pi)."""
    return (t * np.sqrt(1 + t * t) + np.arcsinh(t)) / 9 / np.pi


@each_curve
def test_points_are_even_along_the_curve(curve):
    """The share of the length before a point is uniform in [0, 1]: its first two moments, to six standard errors."""
    points, _, normals = (a.astype(np.float64) for a in curve(20_000, seed=2))
    if curve is spiral:
        ends = spiral_length(np.array([1.5, 4.5]) * np.pi)
        share = (spiral_length(4.5 * np.pi * np.hypot(*points.T)) - ends[0]) / (ends[1] - ends[0])
    else:
        share = np.arctan2(normals[:, 1], normals[:, 0]) / (2 * np.pi) % 1
    assert abs(share.mean() - 1 / 2) < 6 * np.sqrt(1 / 12 / 20_000)
    assert abs((share**2).mean() - 1 / 3) < 6 * np.sqrt(4 / 45 / 20_000)


@each_curve
def test_noise_moves_points_by_its_deviation_and_not_their_places(curve):
    clean, noisy = curve(20_000, seed=3), curve(20_000, noise=0.25, seed=3)
    np.testing.assert_array_equal(clean.tangents, noisy.tangents)
    moved = noisy.points.astype(np.float64) - clean.points
    assert np.abs(moved.mean(axis=0)).max() < 6 * 0.25 / np.sqrt(20_000)  # six standard errors
    np.testing.assert_allclose(moved.std(axis=0), 0.25, rtol=6 / np.sqrt(2 * 20_000))
    assert abs((moved[:, 0] * moved[:, 1]).mean()) < 6 * 0.25**2 / np.sqrt(20_000)


@each_curve
def test_the_seed_decides(curve):
    one, same, other = curve(9, 0.1, 5), curve(9, 0.1, 5), curve(9, 0.1, 6)
    np.testing.assert_array_equal(one.points, same.points)
    assert (one.points != other.points).any()


def test_the_first_points_are_written_down():
    """So that no release moves them unnoticed. The first one of the moons is on the upper one, a part of the circle."""
    first = [curve(1, seed=0).points[0].tolist() for curve in CURVES]
    np.testing.assert_allclose(first, GOLDEN, atol=1e-6)


GOLDEN = [[-0.80548096, 0.59262168], [-0.66656798, -0.14188987], [-0.80548096, 0.59262168]]


@each_curve
def test_bad_arguments_are_refused(curve):
    name = curve.__name__
    for arguments, error, words in [
        ((0,), DataError, f"{name}: got n=0; expected at least 1"),
        ((2.5,), DTypeError, f"{name}: got n=2.5; expected an integer"),
        ((3, -0.1), DataError, f"{name}: got noise=-0.1"),
        ((3, float("nan")), DataError, f"{name}: got noise=nan"),
        ((3, "a"), DTypeError, f"{name}: got noise='a'; expected a number"),
        ((3, 0.0, -1), DataError, "seed"),
    ]:
        with pytest.raises(error, match=words):
            curve(*arguments)
