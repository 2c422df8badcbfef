"""C++ for scalars: the types, the numbers, and one table from the names of array functions to expressions.

Values of float16 are kept as `float` in registers and rounded after every operation, as NumPy and CuPy do. Nothing here
computes in double unless the program does: numbers take the dtype of the operation that they are in.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .kernel import Unsupported

BOOL, HALF, SINGLE, DOUBLE = (np.dtype(n) for n in ("bool", "float16", "float32", "float64"))
INT64, UINT64 = np.dtype("int64"), np.dtype("uint64")
_INTEGERS = {
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
}

# {0}, {1}, ... are the inputs in the dtype of the loop, {f} is "f" where that is float; {T} is its type
FLOATS = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
    "negative": "-{0}",
    "square": "{0} * {0}",
    "abs": "fabs{f}({0})",
    "fabs": "fabs{f}({0})",
    "sign": "sign_of({0})",
    "maximum": "maximum({0}, {1})",
    "minimum": "minimum({0}, {1})",
    "clip": "minimum(maximum({0}, {1}), {2})",
    "power": "pow{f}({0}, {1})",
    "logaddexp": "log_add_exp{f}({0}, {1})",
    "arctan2": "atan2{f}({0}, {1})",
    "hypot": "hypot{f}({0}, {1})",
    "isnan": "{0} != {0}",
    "isinf": "fabs{f}({0}) == {inf}",
    "isfinite": "fabs{f}({0}) < {inf}",
    "reciprocal": "({T})1 / {0}",
    "sqrt": "sqrt{f}({0})",
    "exp": "exp{f}({0})",
    "exp2": "exp2{f}({0})",
    "expm1": "expm1{f}({0})",
    "log": "log{f}({0})",
    "log2": "log2{f}({0})",
    "log10": "log10{f}({0})",
    "log1p": "log1p{f}({0})",
    "floor": "floor{f}({0})",
    "ceil": "ceil{f}({0})",
    "rint": "rint{f}({0})",
    "erf": "erf{f}({0})",
    "sin": "sin{f}({0})",
    "cos": "cos{f}({0})",
    "tan": "tan{f}({0})",
    "arcsin": "asin{f}({0})",
    "arccos": "acos{f}({0})",
    "arctan": "atan{f}({0})",
    "sinh": "sinh{f}({0})",
    "cosh": "cosh{f}({0})",
    "tanh": "tanh{f}({0})",
    "arcsinh": "asinh{f}({0})",
    "arccosh": "acosh{f}({0})",
    "arctanh": "atanh{f}({0})",
}
# of these exponents, as numbers: as exact, much faster, and for 2, 1, 1/2 and -1 what NumPy does
POWERS = {
    3.0: "{0} * {0} * {0}",
    2.0: "{0} * {0}",
    1.0: "{0}",
    0.5: "sqrt{f}({0})",
    -1.0: "({T})1 / {0}",
}
# {U} is the unsigned type of the same width, in which an overflow wraps around
INTEGERS = {
    "add": "({T})(({U}){0} + ({U}){1})",
    "subtract": "({T})(({U}){0} - ({U}){1})",
    "multiply": "({T})(({U}){0} * ({U}){1})",
    "negative": "({T})(0 - ({U}){0})",
    "square": "({T})(({U}){0} * ({U}){0})",
    "abs": "({T})({0} < 0 ? 0 - ({U}){0} : ({U}){0})",
    "sign": "sign_of({0})",
    "maximum": "maximum({0}, {1})",
    "minimum": "minimum({0}, {1})",
    "clip": "minimum(maximum({0}, {1}), {2})",
    "power": "({T})integer_power(({U}){0}, {1})",
    "floor": "{0}",
    "ceil": "{0}",
    "rint": "{0}",
    "isnan": "false",
    "isinf": "false",
    "isfinite": "true",
}
BOOLEANS = {
    "add": "{0} || {1}",
    "multiply": "{0} && {1}",
    "maximum": "{0} || {1}",
    "minimum": "{0} && {1}",
    "abs": "{0}",
    "floor": "{0}",
    "ceil": "{0}",
    "isnan": "false",
    "isinf": "false",
    "isfinite": "true",
}
ANY = {
    "where": "{0} ? {1} : {2}",
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "logical_and": "({0} != 0) && ({1} != 0)",
    "logical_or": "({0} != 0) || ({1} != 0)",
    "logical_not": "{0} == 0",
}
HELPERS = {
    "maximum": "template <class T> __device__ T maximum(T a, T b) { return a >= b || a != a ? a : b; }  // NaN stays",
    "minimum": "template <class T> __device__ T minimum(T a, T b) { return a <= b || a != a ? a : b; }",
    "sign_of": """\
template <class T> __device__ T sign_of(T x) { return x > 0 ? T(1) : x < 0 ? T(-1) : x == 0 ? T(0) : x; }""",
    "integer_power": """\
template <class U, class T> __device__ U integer_power(U a, T b) {
    if (b < 0) return a == U(1) ? U(1) : a == U(-1) ? (b % 2 ? a : U(1)) : U(0);
    U result = 1;
    for (; b > 0; b /= 2, a = a * a) if (b % 2) result = result * a;
    return result;
}""",
    "log_add_expf": """\
__device__ float log_add_expf(float a, float b) {
    if (a == b) return a + 0.6931472f;  // also where both are infinite
    return maximum(a, b) + log1pf(expf(-fabsf(a - b)));
}""",
    "log_add_exp": """\
__device__ double log_add_exp(double a, double b) {
    if (a == b) return a + 0.6931471805599453;
    return maximum(a, b) + log1p(exp(-fabs(a - b)));
}""",
    "from_half": """\
#ifdef __CUDACC__
__device__ float from_half(unsigned short h) { float x; asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h)); return x; }
__device__ unsigned short to_half(float x) {
    unsigned short h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x)); return h;
}
__device__ unsigned short to_half(double x) {
    unsigned short h; asm("cvt.rn.f16.f64 %0, %1;" : "=h"(h) : "d"(x)); return h;
}
#endif""",
}


def c_type(dtype: np.dtype) -> str:
    """Return the type of a scalar in a register."""
    if dtype in (HALF, SINGLE):
        return "float"
    if dtype == DOUBLE:
        return "double"
    if dtype == BOOL:
        return "bool"
    if dtype.name not in _INTEGERS:
        raise Unsupported(f"there are no kernels for {dtype.name}")
    return _INTEGERS[dtype.name]


def stored_type(dtype: np.dtype) -> str:
    """Return the type of an element in memory."""
    return "unsigned short" if dtype == HALF else c_type(dtype)


def loaded(text: str, dtype: np.dtype) -> str:
    """Return the register value of an element."""
    return f"from_half({text})" if dtype == HALF else text


def to_store(text: str, dtype: np.dtype) -> str:
    """Return the element of a register value."""
    return f"to_half({text})" if dtype == HALF else text


def literal(x: Any, dtype: np.dtype) -> str:
    """Return a number of the program as a constant of a dtype.

    Examples
    --------
    >>> literal(0.1, SINGLE), literal(2, DOUBLE), literal(-0.0, SINGLE), literal(True, INT64)
    ('0.1f', '2.0', '-0.0f', '1ll')
    """
    value = x.item() if isinstance(x, np.generic) else x
    if isinstance(value, complex):
        raise Unsupported("there are no kernels for complex numbers")
    if dtype == BOOL:
        return "true" if value else "false"
    if dtype.kind in "iu":
        if value != value or int(value) != value or not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            raise Unsupported(f"{value!r} is no {dtype.name}")
        if value == np.iinfo(np.int64).min:
            return "(-9223372036854775807ll - 1)"  # C++ has no negative constants
        text = f"{int(value)}{'ull' if dtype.kind == 'u' else 'll'}"
        return text if dtype.itemsize == 8 else f"({c_type(dtype)}){text}"
    with np.errstate(over="ignore"):
        value = float(dtype.type(value))
    if math.isnan(value):
        return "__int_as_float(0x7fc00000)" if dtype != DOUBLE else "__longlong_as_double(0x7ff8000000000000ll)"
    if math.isinf(value):
        return ("-" if value < 0 else "") + infinity(dtype)
    if dtype == DOUBLE:
        return repr(value)
    return f"{float(str(np.float32(value)))!r}f"  # the shortest decimal number that is this float


def infinity(dtype: np.dtype) -> str:
    """Return the positive infinity of a floating dtype."""
    return "__longlong_as_double(0x7ff0000000000000ll)" if dtype == DOUBLE else "__int_as_float(0x7f800000)"


def converted(text: str, dtype: np.dtype, to: np.dtype) -> str:
    """Return a register value of one dtype as one of another, as `astype` does."""
    if dtype == to or (dtype == HALF and to == SINGLE):
        return text
    if to == BOOL:
        return f"({text} != 0)"
    if to == HALF:
        return f"from_half(to_half({text if dtype.kind == 'f' else f'(float){text}'}))"
    return f"({c_type(to)}){text}"


def call(name: str, inputs: list[tuple[str, np.dtype] | Any], result: np.dtype) -> str:
    """Return the expression of one array function.

    Parameters
    ----------
    name : str
        Of a NumPy ufunc, or "where", "clip", "astype", "erf".
    inputs : list
        A pair of text and dtype for each array, anything else is a number.
    result : dtype
        Of what the function returns.

    Examples
    --------
    >>> call("maximum", [("x0", SINGLE), 0.0], SINGLE), call("exp", [("x0", HALF)], HALF)
    ('maximum(x0, 0.0f)', 'from_half(to_half(expf(x0)))')
    """
    if name == "astype":
        text, dtype = inputs[0]
        return converted(text, dtype, result)
    name = {"absolute": "abs", "true_divide": "divide"}.get(name, name)
    if name == "where":
        texts = [_in(inputs[0], BOOL), _in(inputs[1], result), _in(inputs[2], result)]
        return ANY["where"].format(*texts)
    if name == "clip" and None in inputs:
        name, inputs = ("minimum", [inputs[0], inputs[2]]) if inputs[1] is None else ("maximum", inputs[:2])
    loop = result if name in ("clip", "maximum", "minimum", "erf") else _loop(name, inputs)
    table = {"f": FLOATS, "b": BOOLEANS}.get(loop.kind, INTEGERS)
    if loop == BOOL and name in ("less", "less_equal", "greater", "greater_equal"):
        return ANY[name].format(*(f"(int){_in(x, loop)}" for x in inputs))
    template = ANY.get(name) or table.get(name)
    if name == "power" and loop.kind == "f" and not isinstance(inputs[1], tuple):
        exponent = float(inputs[1])
        # of float16 NumPy computes no roots, which differ from powers at -inf and -0.0
        template = POWERS.get(exponent, template) if (exponent, result) != (0.5, HALF) else template
    if template is None:
        raise Unsupported(f"there is no kernel for {name} of {loop.name}")
    text = template.format(
        *(_in(x, loop) for x in inputs),
        f="" if loop == DOUBLE else "f",
        T=c_type(loop),
        U=c_type(np.dtype(f"uint{max(32, 8 * loop.itemsize)}")) if loop.kind in "iu" else "",
        inf=infinity(loop),
    )
    if result == HALF:
        return f"from_half(to_half({text}))"
    return text


def _in(x: Any, dtype: np.dtype) -> str:
    """Return an input in the dtype of the loop."""
    if not isinstance(x, tuple):
        text = literal(x, dtype)
        return f"({text})" if text.startswith("-") else text
    text, own = x
    return converted(text, own, dtype)


def _loop(name: str, inputs: list) -> np.dtype:
    """Return the dtype in which NumPy computes a function: its rules for numbers without a dtype are these."""
    kinds: list[Any] = [
        x[1] if isinstance(x, tuple) else x.dtype if isinstance(x, np.generic) else type(x) for x in inputs
    ]
    if bool in kinds:
        kinds = [BOOL if k is bool else k for k in kinds]
    try:
        dtypes = getattr(np, name).resolve_dtypes((*kinds, None))[:-1]
    except (TypeError, AttributeError) as error:
        raise Unsupported(f"NumPy has no {name} of {kinds}: {error}") from error
    if len(set(dtypes)) > 1:
        raise Unsupported(f"there is no kernel for {name} of {' and '.join(d.name for d in dtypes)}")
    return dtypes[0]


def helpers(text: str) -> str:
    """Return the definitions of the helper functions that a text calls."""
    found: list[str] = []

    def need(body: str) -> None:
        for name, definition in HELPERS.items():
            if f"{name}(" in body.replace("to_half(", "from_half(") and name not in found:
                found.append(name)
                need(definition.split("{", 1)[1])

    need(text)
    # in the order of the table, in which a helper comes after those that it calls
    return "".join(f"{definition}\n" for name, definition in HELPERS.items() if name in found)
