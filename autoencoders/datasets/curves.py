"""Curves in the plane, with their directions: to see what a contractive or denoising autoencoder does along and across.

Data on a curve vary in one direction at every point. An encoder that is to keep that variation and nothing else must be
sensitive along the tangent and insensitive along the normal (Rifai et al. 2011; Alain and Bengio 2014).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoencoders.inputs import number, positive
from minigrad.random import Generator

INNER, OUTER = 1.5 * math.pi, 4.5 * math.pi  # of the spiral: the angles between which the swiss roll is usually drawn


class Curve(NamedTuple):
    """Points on, or near, a curve in the plane, and the directions of the curve there.

    Attributes
    ----------
    points : ndarray of float32, shape (n, 2)
        One point per row.
    tangents : ndarray of float32, shape (n, 2)
        The unit vector along the curve, where the point lay before noise moved it.
    normals : ndarray of float32, shape (n, 2)
        The unit vector across the curve: the tangent, turned clockwise by a right angle.
    """

    points: NDArray[np.float32]
    tangents: NDArray[np.float32]
    normals: NDArray[np.float32]


def circle(n: int, noise: float = 0.0, seed: int = 0) -> Curve:
    """Points on the unit circle, uniform along it; the normals point outwards.

    Parameters
    ----------
    n : int, at least 1
        How many points.
    noise : float, at least 0
        The standard deviation of the gaussian noise that is added to both coordinates.
    seed : int, 0 or more
        Decides the places, which do not depend on the noise, and the noise.

    Returns
    -------
    Curve

    Raises
    ------
    DTypeError, DataError
        An argument is of the wrong type or out of range.

    Examples
    --------
    >>> points, tangents, normals = circle(5)
    >>> bool(np.allclose(points, normals)), bool(np.allclose((tangents * normals).sum(axis=1), 0))
    (True, True)
    """
    generator = Generator(seed)
    angle = 2 * np.pi * _places(n, "circle", generator)
    direction = _at(angle)
    return _curve(direction, _left_of(direction), noise, "circle", generator)


def spiral(n: int, noise: float = 0.0, seed: int = 0) -> Curve:
    """Points on a spiral of one and a half turns around the origin, uniform along it, out to radius 1.

    It is the cross-section of the swiss roll, r = t / (4.5 pi) for angles t from 1.5 pi to 4.5 pi: a curve along which
    two points may be far from each other, though near in the plane (neighbouring turns are 0.44 apart).

    Parameters
    ----------
    n, noise, seed
        As for `circle`.

    Returns
    -------
    Curve

    Raises
    ------
    DTypeError, DataError
        As for `circle`.

    Notes
    -----
    Source: J. B. Tenenbaum, V. de Silva and J. C. Langford, "A global geometric framework for nonlinear dimensionality
    reduction", Science 290 (2000), for the swiss roll.

    Examples
    --------
    >>> points = spiral(1000).points
    >>> bool((np.hypot(*points.T) > 1 / 3 - 1e-6).all() and (np.hypot(*points.T) < 1 + 1e-6).all())
    True
    """
    generator = Generator(seed)
    start, end = _spiral_length(np.array([INNER, OUTER]))
    t = _spiral_angle(start + (end - start) * _places(n, "spiral", generator))
    radial = _at(t)
    around = _left_of(radial)
    tangents = (radial + t[:, None] * around) / np.sqrt(1 + t * t)[:, None]
    return _curve(t[:, None] / OUTER * radial, tangents, noise, "spiral", generator)


def two_moons(n: int, noise: float = 0.0, seed: int = 0) -> Curve:
    """Points on two interleaved half circles of radius 1, uniform along them: a curve in two pieces.

    The upper one is (cos t, sin t), the lower one (1 - cos t, 1/2 - sin t), for t from 0 to pi. The normals point away
    from the centres, (0, 0) and (1, 1/2), of the circles.

    Parameters
    ----------
    n, noise, seed
        As for `circle`. A point lies on either moon with the same probability.

    Returns
    -------
    Curve

    Raises
    ------
    DTypeError, DataError
        As for `circle`.

    Examples
    --------
    >>> two_moons(200, noise=0.05, seed=1).points.shape
    (200, 2)
    """
    generator = Generator(seed)
    angle = 2 * np.pi * _places(n, "two_moons", generator)
    # from the centre of the lower circle, (1 - cos t, 1/2 - sin t) is the direction t + pi
    direction = _at(angle)
    centre = np.where((angle < np.pi)[:, None], [0.0, 0.0], [1.0, 0.5])
    return _curve(centre + direction, _left_of(direction), noise, "two_moons", generator)


def _at(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _left_of(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vectors, turned anticlockwise by a right angle."""
    x, y = vectors.T
    return np.stack([-y, x], axis=1)


def _spiral_length(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """The length of r = t from the origin to the angle t."""
    return np.asarray((t * np.sqrt(1 + t * t) + np.arcsinh(t)) / 2)


def _spiral_angle(length: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `_spiral_length`, by Newton's method."""
    t = np.sqrt(2 * length)
    for _ in range(4):  # from 1 % off, each step squares the error
        t = t - (_spiral_length(t) - length) / np.sqrt(1 + t * t)
    return np.asarray(t)


def _places(n: int, caller: str, generator: Generator) -> NDArray[np.float64]:
    """n numbers, uniform in [0, 1)."""
    return generator.uniform((positive(n, "n", caller),), dtype="float64").numpy()


def _curve(
    points: NDArray[np.float64], tangents: NDArray[np.float64], noise: float, caller: str, generator: Generator
) -> Curve:
    moved = points + number(noise, "noise", caller) * generator.normal(points.shape, dtype="float64").numpy()
    arrays = (moved, tangents, -_left_of(tangents))
    return Curve(*(array.astype(np.float32) for array in arrays))
