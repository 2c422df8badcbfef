"""The domains on which many rows are tested. What one row alone needs stands in that row."""

from __future__ import annotations

from .registry import Domain

REAL = Domain(-3.0, 3.0)
SMALL = Domain(-2.0, 2.0)  # of sums of products
UNIT = Domain(-1.0, 1.0)  # the entries that the families of matrices of `minigrad/testing/families.py` begin with
INSIDE_ONE = Domain(-0.9, 0.9)
POSITIVE = Domain(0.1, 4.0)
NONZERO = Domain(-3.0, 3.0, avoid=(0.0,))
ANY_BOOL = Domain(0, 1, kind="bool")
