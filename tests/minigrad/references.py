"""What each primitive should compute, in plain float64 NumPy, by another formula where its forward has its own."""

import math

import numpy as np

from minigrad.primitives.indexing import ARRAY


def rebuilt(index, arrays):
    remaining = iter(arrays)
    return tuple(next(remaining) if part is ARRAY else part for part in index)


def positions(shape, i, index):
    """Return which elements of an array of `shape`, counted in C order, an index selects."""
    return np.asarray(np.arange(int(np.prod(shape))).reshape(shape)[rebuilt(index, i)])


def selected(x, *i, index):
    at = positions(x.shape, i, index)
    return np.array([x.flat[k] for k in at.ravel()]).reshape(at.shape)


def scattered(v, *i, shape, index):
    result = np.zeros(shape)
    for position, value in zip(positions(shape, i, index).ravel(), v.ravel(), strict=True):
        result.flat[position] += value
    return result


def replaced(x, v, *i, index):
    result = np.array(x)
    at = positions(x.shape, i, index)
    for position, value in zip(at.ravel(), np.broadcast_to(v, at.shape).ravel(), strict=True):
        result.flat[position] = value
    return result


def summed_to(x, shape):
    while x.ndim > len(shape):
        x = x.sum(0)
    for axis, n in enumerate(shape):
        if n == 1:
            x = x.sum(axis, keepdims=True)
    return x


def product(a, b):
    left = a[None, :] if a.ndim == 1 else a
    right = b[:, None] if b.ndim == 1 else b
    result = np.sum(left[..., :, :, None] * right[..., None, :, :], axis=-2)
    result = result[..., 0, :] if a.ndim == 1 else result
    return result[..., 0] if b.ndim == 1 else result


def average(x, axis, keepdims):
    total = np.sum(x, axis=axis, keepdims=keepdims)
    return total / (x.size / total.size)


REFERENCES = {
    # arithmetic
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "negative": lambda x: 0.0 - x,
    "power": lambda a, b: np.exp(b * np.log(a)),
    "square": lambda x: x * x,
    "sqrt": lambda x: x**0.5,
    "exp": np.exp,
    "expm1": lambda x: 2.0 * np.exp(x / 2.0) * np.sinh(x / 2.0),
    "log": np.log,
    "log1p": lambda x: np.log(1.0 + x),
    # activations
    "tanh": lambda x: (np.exp(2.0 * x) - 1.0) / (np.exp(2.0 * x) + 1.0),
    "sigmoid": lambda x: 0.5 + 0.5 * np.tanh(x / 2.0),
    "softplus": lambda x: np.log(np.exp(x) + 1.0),
    "relu": lambda x: np.where(x > 0, x, 0.0),
    # choices
    "abs": lambda x: np.where(x > 0, x, -x),
    "sign": lambda x: np.where(x > 0, 1.0, 0.0) - np.where(x < 0, 1.0, 0.0),
    "maximum": lambda a, b: np.where(a > b, a, b),
    "minimum": lambda a, b: np.where(a < b, a, b),
    "where": lambda c, a, b: c * a + ~c * b,
    "clip": lambda x, low=-np.inf, high=np.inf: np.where(x < low, low, np.where(x > high, high, x)),
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b,
    "logical_and": lambda a, b: a & b,
    "logical_not": lambda x: ~x,
    "isfinite": lambda x: np.abs(x) < np.inf,
    "astype": lambda x, dtype: np.array(x, dtype=dtype),
    "stop_gradient": np.array,
    "zeros_like": lambda x: np.zeros(x.shape),
    # reductions
    "sum": lambda x, axis, keepdims: np.sum(x, axis=axis, keepdims=keepdims),
    "mean": average,
    "max": lambda x, axis, keepdims: np.max(x, axis=axis, keepdims=keepdims),
    "min": lambda x, axis, keepdims: -np.max(-x, axis=axis, keepdims=keepdims),
    "logsumexp": lambda x, axis, keepdims: np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims)),
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "softmax": lambda x, axis: np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True),
    "log_softmax": lambda x, axis: x - np.log(np.sum(np.exp(x), axis=axis, keepdims=True)),
    "argsort": lambda x, axis, descending: np.argsort(-x if descending else x, axis=axis, kind="stable"),
    "sum_to": summed_to,
    # shapes
    "reshape": lambda x, shape: np.array(x.flatten()).reshape(shape),
    "permute_dims": lambda x, axes: np.transpose(x, axes),
    "matrix_transpose": lambda x: np.einsum("...ij->...ji", x),
    "broadcast_to": lambda x, shape: x + np.zeros(shape),
    "expand_dims": lambda x, axis: np.expand_dims(x, axis),
    "squeeze": lambda x, axis: np.squeeze(x, axis),
    "concat": lambda *x, axis: np.concatenate(x, axis),
    "stack": lambda *x, axis: np.stack(x, axis),
    # indexing and products
    "getitem": selected,
    "scatter_add": scattered,
    "index_set": replaced,
    "matmul": product,
}

# these forwards are NumPy's functions, and there is no second formula worth its rounding errors
REFERENCES |= {
    name: getattr(np, name)
    for name in (
        "all", "any", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "argmax", "argmin",
        "ceil", "cos", "cosh", "cumsum", "exp2", "floor", "hypot", "isinf", "isnan", "log10", "log2", "logaddexp",
        "logical_or", "round", "sin", "sinh", "tan",
    )
}  # fmt: skip
