"""Kernels: runs of arithmetic inside a tile, compiled by Numba where it is installed.

A kernel makes one pass over its arrays where NumPy makes one per operation. Only operations that IEEE 754 defines to
the last bit are compiled (+, -, *, /, sqrt, comparisons, choices); exp, log and the like stay NumPy's, whose last bits
another library would not give. So results are the same with and without Numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

EXPRESSIONS = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
    "negative": "-{0}",
    "square": "{0} * {0}",
    "sqrt": "np.sqrt({0})",
    "abs": "abs({0})",
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "logical_and": "{0} and {1}",
    "logical_or": "{0} or {1}",
    "logical_not": "not {0}",
    "where": "{1} if {0} else {2}",
    "astype": "{0}",
}
FLOATS = {np.dtype("float32"): "np.float32", np.dtype("float64"): "np.float64"}
_compiled: dict[str, Callable] = {}


def available() -> bool:
    """Return whether Numba is installed."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def expression(name: str, inputs: list[tuple[str, Any]], dtype: np.dtype) -> str | None:
    """Return the source of one call on scalars, or None where its bits are not defined.

    `inputs` are pairs of a source text and a dtype, which is None for a number.
    """
    template = EXPRESSIONS.get(name)
    kinds = {d for _, d in inputs if d is not None}
    boolean = np.dtype(bool)
    if template is None or not kinds <= {*FLOATS, boolean} or dtype not in (*FLOATS, boolean):
        return None
    floats = kinds - {boolean}
    if len(floats) > 1 and name != "astype":
        return None
    working = next(iter(floats), dtype)  # comparisons have a boolean result
    if dtype != boolean and name != "astype" and working != dtype:
        return None

    def converted(text: str, d: Any) -> str:
        return text if d == working or working == boolean else f"{FLOATS[working]}({text})"

    if name in ("logical_and", "logical_or", "logical_not"):
        return template.format(*(text for text, _ in inputs)) if kinds == {boolean} else None
    if name == "where":
        (condition, _), *choices = inputs
        if dtype not in FLOATS:
            return None
        texts = [t if d == dtype else f"{FLOATS[dtype]}({t})" for t, d in choices]
        return template.format(condition, *texts)
    if name == "astype":
        return f"{FLOATS[dtype]}({inputs[0][0]})" if dtype in FLOATS else None
    if working == boolean:
        return None
    return template.format(*(converted(text, d) for text, d in inputs))


def source(lines: list[str], parameters: list[tuple[str, str]], results: list[tuple[str, str]], flat: bool) -> str:
    """Return the source of a kernel.

    Parameters
    ----------
    lines : list of str
        Assignments to scalars, in order.
    parameters : list of (name, kind)
        Arrays that are read, each into a scalar "name"; kind is "full", "row", "column" or "single".
    results : list of (name, scalar)
        Arrays that are written, and the scalar that each one gets. A name may be a parameter's.
    flat : bool
        Whether the arrays have one axis, or two.
    """
    place = "i" if flat else "i, j"
    index = {"full": place, "row": "j", "column": "i, 0", "single": "()"}
    names = list(dict.fromkeys([*(f"A{n}" for n, _ in parameters), *(n for n, _ in results)]))
    text = [f"def kernel({', '.join(names)}):"]
    text += [f"    {n} = A{n}[()]" for n, kind in parameters if kind == "single"]
    first = results[0][0]
    text.append(f"    for i in range({first}.shape[0]):")
    indent = "        "
    if not flat:
        text += [f"        {n} = A{n}[i, 0]" for n, kind in parameters if kind == "column"]
        text.append(f"        for j in range({first}.shape[1]):")
        indent += "    "
    text += [f"{indent}{n} = A{n}[{index[kind]}]" for n, kind in parameters if kind in ("full", "row")]
    text += [indent + line for line in lines]
    text += [f"{indent}{array}[{place}] = {scalar}" for array, scalar in results]
    return "\n".join(text) + "\n"


def build(text: str) -> Callable:
    """Return the compiled kernel of a source; one that was built before is reused."""
    import numba

    if text not in _compiled:
        names: dict[str, Any] = {"np": np}
        exec(compile(text, "<minigrad kernel>", "exec"), names)
        # as in NumPy, a division by 0 gives inf or NaN; without fastmath nothing is reordered or contracted
        _compiled[text] = numba.njit(names["kernel"], error_model="numpy", nogil=True)
    return _compiled[text]
