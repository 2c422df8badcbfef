"""The dtypes that tensors have."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import DTypeError


def number_dtype(dtype: Any) -> np.dtype:
    """Return a dtype of numbers or bools in the byte order of this machine, or raise.

    NumPy would take None for float64; and of two byte orders of one dtype, which do not mix, an error names twice the
    same.

    Examples
    --------
    >>> number_dtype(">f4") is np.dtype("float32")
    True
    """
    if dtype is None:
        raise DTypeError("got None where a dtype is expected, such as 'float32'")
    found = np.dtype(dtype)
    if found.kind not in "biufc":
        raise DTypeError(f"tensors hold numbers and bools, got dtype {found}")
    return found if found.isnative else np.dtype(found.type)
