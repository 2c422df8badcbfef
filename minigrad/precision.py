"""`mg.set_matmul_precision`: how exactly matrix products of float32 are computed on a GPU."""

from __future__ import annotations

from .devices import matmul_settings, opened
from .errors import DataError

PRECISIONS = ("float32", "tf32")


def set_matmul_precision(precision: str) -> None:
    """Set how matrix products of float32 are computed on GPUs from now on, in all threads.

    Parameters
    ----------
    precision : {"float32", "tf32"}
        "float32", which is the default: all 24 bits of both factors. "tf32": 11 bits of each, which is a relative error
        of up to 5e-4 per factor, with sums in float32; several times faster on GPUs with tensor cores, from compute
        capability 8.0.

    Raises
    ------
    DataError
        It is none of these; nothing has changed then.

    Notes
    -----
    Only products on a GPU change (`@`, `matmul`, `einsum` of matrices), of float32 only; products of stacks of matrices
    stay in full float32, and on the CPU nothing changes. The setting is CuPy's too: other code of this process that
    uses CuPy computes with it, and the environment variable CUPY_TF32 has no effect. A compiled step that runs in
    another thread meanwhile may use either. Steps that were compiled before are recorded anew for it.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.set_matmul_precision("tf32")
    >>> mg.matmul_precision()
    'tf32'
    >>> mg.set_matmul_precision("float32")
    """
    if precision not in PRECISIONS:
        raise DataError(f"set_matmul_precision: got {precision!r}; expected one of {', '.join(map(repr, PRECISIONS))}")
    matmul_settings.precision = precision
    for place in opened():
        place.set_products(precision)


def matmul_precision() -> str:
    """Return what `set_matmul_precision` was last called with.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.matmul_precision()
    'float32'
    """
    return matmul_settings.precision
