"""Numerical derivatives: what a gradient is compared with, from values of the function alone.

Of a function in which every operation is analytic the complex step, f'(x) = Im f(x + ih) / h, which subtracts nothing
and is exact to rounding (W. Squire and G. Trapp, "Using complex variables to estimate derivatives of real functions",
SIAM Review 1998); otherwise central differences, extrapolated twice to step 0 (Richardson). A second derivative is
always found by differences of the first one, since a gradient cannot be computed at complex numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

COMPLEX_STEP = 1e-30
EPS = float(np.finfo(np.float64).eps)

Arrays = Sequence[np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """A numerical derivative: how far rounding may have moved it, and the step that it was found with."""

    value: float
    rounding: float
    step: float

    def near(self, other: float, rtol: float, scale: float) -> bool:
        """Return whether another number is the same but for rounding and a relative difference; NaN is not."""
        return abs(other - self.value) <= rtol * max(scale, abs(self.value)) + self.rounding


@dataclass(frozen=True)
class Verdict:
    """What became of a comparison: `expected` is the estimate to believe."""

    right: bool
    expected: Estimate
    settled: bool = True  # a shorter step gives the same estimate
    undecided: bool = False  # a shorter step agrees, but only because its rounding would hide the difference


@dataclass(frozen=True)
class NumericalDerivative:
    """The derivatives of (weights . evaluate) at `point`, found from values; `steps`, of differences, fall.

    Values are as coarse as `eps` says.
    """

    evaluate: Callable[[Arrays], np.ndarray]
    point: Arrays
    weights: np.ndarray
    complex_step: bool
    steps: Sequence[float]
    eps: float = EPS

    def representable(self, direction: Arrays) -> list[np.ndarray]:
        """Return a direction like this one, along which no step is rounded when it is added to the point."""
        shortest, longest = self.steps[-1] / 4, self.steps[0]
        result = []
        for x, d in zip(self.point, direction, strict=True):
            apart = 2.0 * np.spacing(np.abs(x).astype(np.float64) + longest * np.abs(d))  # of neighbouring numbers
            count = np.maximum(np.rint(shortest * np.abs(d) / apart), 1.0)
            result.append(np.where(d == 0, 0.0, np.copysign(count * apart / shortest, d)))
        return result

    def _at(self, direction: Arrays, t: complex) -> np.ndarray:
        with np.errstate(all="ignore"):  # a long step may leave the domain; a shorter one then decides
            return self.evaluate([x + t * d for x, d in zip(self.point, direction, strict=True)])

    def along(self, direction: Arrays, step: float) -> Estimate:
        """Return the derivative along `direction`."""
        if self.complex_step:
            slope = self._at(direction, 1j * COMPLEX_STEP).imag / COMPLEX_STEP
            return Estimate(float(self.weights @ slope), 0.0, step)
        steps = (step, step / 2, step / 4)
        values = [(self._at(direction, h), self._at(direction, -h)) for h in steps]
        with np.errstate(invalid="ignore"):
            slopes = [(up - down) / (2 * h) for h, (up, down) in zip(steps, values, strict=True)]
            for factor in (4.0, 16.0):  # removes the terms in step^2, then in step^4
                slopes = [(factor * b - a) / (factor - 1.0) for a, b in pairwise(slopes)]
            # only what changes is rounded: the other values of f are subtracted from themselves
            changes = np.any([up != down for up, down in values], axis=0)
            rounding = 32.0 * EPS / steps[-1] * float(np.abs(self.weights) @ np.abs(changes * values[-1][0]))
            return Estimate(float(self.weights @ slopes[0]), rounding, step)

    def judge(self, got: float, direction: Arrays, rtol: float, scale: float) -> Verdict:
        """Compare a derivative along `direction`: with the longest step, and where that differs, with shorter ones.

        A shorter step overrules a longer one only if the two differ by more than rounding explains: then f is not
        smooth as far as the longer one reaches. Otherwise the longer one is the more exact of the two.
        """
        scale = max(scale, abs(got))
        first = self.along(direction, self.steps[0])
        if first.near(got, rtol, scale):
            return Verdict(True, first)
        if self.complex_step:
            return Verdict(False, first)
        undecided, longer = False, first
        for step in self.steps[1:]:
            shorter = self.along(direction, step)
            if shorter.near(got, rtol, scale):
                if not shorter.near(first.value, rtol, scale):
                    return Verdict(True, shorter)
                undecided = True
            if shorter.near(longer.value, rtol, scale):
                return Verdict(False, longer, True, undecided)
            longer = shorter
        return Verdict(False, longer, False, undecided)

    def kink(self, direction: Arrays, steps: Sequence[float]) -> str:
        """Return what a kink or a jump along `direction` looks like, if one of the steps finds it, or "".

        The two one-sided slopes of a smooth function come ten times closer with a tenth of the step; those over a jump
        grow ten times.
        """
        for step in steps:
            if found := self._kink(direction, step):
                return found
        return ""

    def _kink(self, direction: Arrays, step: float) -> str:
        middle = self._at(direction, 0.0)
        slopes = []
        for h in (step, step / 10):
            slopes.append([float(self.weights @ (self._at(direction, s * h) - middle)) / (s * h) for s in (1, -1)])
        (right, left), (right_near, left_near) = slopes
        noise = 100.0 * self.eps / step * float(np.abs(self.weights) @ np.abs(middle))
        size = max(abs(right_near), abs(left_near))
        bends = abs(right_near - left_near) > max(0.5 * abs(right - left), 1e-3 * size + noise)
        jumps = size > 5.0 * max(abs(right), abs(left)) + noise  # the slope of a step grows without end
        if not bends and not jumps:
            return ""
        h = step / 10
        if jumps:
            down, up = -left_near * h + 0.0, right_near * h + 0.0
            return (
                f"jumps or is infinitely steep: it changes by {down:.4g} over a step of {h:g} down, and by {up:.4g} "
                "over one up"
            )
        return (
            f"has a kink: its slope is {left_near + 0.0:.4g} on one side and {right_near + 0.0:.4g} on the other, from "
            "close by"
        )
