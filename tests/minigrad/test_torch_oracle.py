"""PyTorch as an oracle: the value and every gradient of each operation on drawn inputs, in float32 and float64.

Every row of the table is here, or is named among those that PyTorch does not have. Run where torch is installed.
"""

# ruff: noqa: E501  one line for each operation
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import tape
from minigrad.primitives.indexing import ARRAY
from minigrad.testing.strategies import primitive_inputs

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
F = torch.nn.functional


def axes(x, axis):
    return tuple(range(x.ndim)) if axis is None else axis


def index_of(static, arrays):
    remaining = iter(arrays)
    return tuple(next(remaining) if part is ARRAY else part for part in static)


def scatter_add(v, *i, shape, index):
    # an index of a view, so that negative steps and repeats are PyTorch's own affair
    places = torch.as_tensor(
        np.arange(int(np.prod(shape))).reshape(shape)[index_of(index, [a.numpy() for a in i])].copy()
    )
    return (
        torch.zeros(int(np.prod(shape)), dtype=v.dtype)
        .index_add(0, places.reshape(-1), v.expand(places.shape).reshape(-1))
        .reshape(shape)
    )


def getitem(x, *i, index):
    places = np.arange(x.numel()).reshape(x.shape)[index_of(index, [a.numpy() for a in i])]
    return x.reshape(-1)[torch.as_tensor(np.asarray(places).copy())]


def index_set(x, v, *i, index):
    places = torch.as_tensor(
        np.asarray(np.arange(x.numel()).reshape(x.shape)[index_of(index, [a.numpy() for a in i])]).copy()
    )
    flat = torch.broadcast_to(
        v.reshape(v.shape[v.ndim - places.ndim :] if v.ndim > places.ndim else v.shape), places.shape
    )
    return x.reshape(-1).index_put((places.reshape(-1),), flat.reshape(-1)).reshape(x.shape)


def reduced(f):
    """sum, mean, amax ... over no axis at all (axis=()) mean over all axes in PyTorch."""
    return lambda x, axis=None, keepdims=False: x.clone() if axis == () else f(x, axes(x, axis), keepdims)


def along(f, x, axis):
    if axis is None:
        return f(x.reshape(-1), 0).reshape(x.shape)
    if isinstance(axis, int):
        return f(x, axis)
    log = x - (torch.logsumexp(x, axis, True) if axis else x)  # PyTorch has them for one axis only
    return log if f is torch.log_softmax else torch.exp(log)


def sum_to(x, shape):
    return x.sum_to_size(shape) if shape or x.ndim else x.clone()


ROWS = {
    **{n: getattr(torch, n) for n in (
        "add", "subtract", "multiply", "divide", "negative", "square", "sqrt", "exp", "expm1", "log", "log1p", "tanh",
        "sigmoid", "relu", "abs", "sign", "maximum", "minimum", "log2", "log10", "exp2", "logaddexp", "floor", "ceil",
        "round", "erf", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "arcsinh", "arccosh",
        "arctanh", "arctan2", "hypot", "isnan", "isinf", "isfinite", "logical_not", "logical_and",
        "logical_or", "less", "less_equal", "greater", "greater_equal", "not_equal", "where", "matmul",
    )},
    "power": torch.pow,
    "equal": torch.eq,
    "softplus": F.softplus,
    "clip": lambda x, low=None, high=None: torch.clamp(x, low, high),
    "astype": lambda x, dtype: x.to(getattr(torch, dtype.name)),
    "zeros_like": torch.zeros_like,
    "getitem": getitem,
    "scatter_add": scatter_add,
    "index_set": index_set,
    "cumsum": lambda x, axis=None: torch.cumsum(x.reshape(-1), 0) if axis is None else torch.cumsum(x, axis),
    "argmax": lambda x, axis=None, keepdims=False: torch.as_tensor(np.argmax(x.detach().numpy(), axis, keepdims=keepdims)),
    "any": reduced(lambda x, a, k: torch.any(x, a, k) if x.ndim else x.bool()),
    "all": reduced(lambda x, a, k: torch.all(x, a, k) if x.ndim else x.bool()),
    "sum": reduced(lambda x, a, k: torch.sum(x, a, k) if x.ndim else x.clone()),
    "mean": reduced(lambda x, a, k: torch.mean(x, a, k) if x.ndim else x.clone()),
    "max": reduced(lambda x, a, k: torch.amax(x, a, k) if x.ndim else x.clone()),
    "min": reduced(lambda x, a, k: torch.amin(x, a, k) if x.ndim else x.clone()),
    "logsumexp": reduced(lambda x, a, k: torch.logsumexp(x, a, k) if x.ndim else x.clone()),
    "softmax": lambda x, axis=-1: along(torch.softmax, x, axis),
    "log_softmax": lambda x, axis=-1: along(torch.log_softmax, x, axis),
    "tril": lambda x, k=0: torch.tril(x, k),
    "triu": lambda x, k=0: torch.triu(x, k),
    "sum_to": sum_to,
    "reshape": lambda x, shape: torch.reshape(x, shape),
    "permute_dims": lambda x, axes: torch.permute(x, axes),
    "matrix_transpose": lambda x: x.mT,
    "broadcast_to": lambda x, shape: torch.broadcast_to(x, shape),
    "expand_dims": lambda x, axis: torch.as_tensor(x).reshape(np.expand_dims(x.detach().numpy(), axis).shape),
    "squeeze": lambda x, axis=None: x.reshape(np.squeeze(x.detach().numpy(), axis).shape),
    "concat": lambda *x, axis=0: torch.cat(x, axis),
    "stack": lambda *x, axis=0: torch.stack(x, axis),
    "einsum": lambda *x, subscripts: torch.einsum(subscripts, *x),
    "inv": torch.linalg.inv,
    "solve": lambda a, b: (
        torch.linalg.solve(a, b[:, None].expand(*a.shape[:-1], 1))[..., 0] if b.ndim == 1 else torch.linalg.solve(a, b)
    ),
    "det": torch.linalg.det,
    "slogdet": lambda x: torch.stack(torch.linalg.slogdet(x), -1),
    "cholesky": torch.linalg.cholesky,
}  # fmt: skip
NONE = {
    "assign": "writes into its input",
    "stop_gradient": "is detach, tested in test_program",
    "random_uniform": "another stream of numbers; vectors in test_philox",
    "random_normal": "another stream of numbers; vectors in test_philox",
    "random_integers": "another stream of numbers; vectors in test_philox",
    "argmin": "the first of equal values is NumPy's rule, not PyTorch's",
    "argsort": "the order of equal values is NumPy's",
    "windows2d": "another layout; conv2d below",
    "fold2d": "another layout; conv2d below",
    "conv2d": "padding as pairs; mg.conv2d below",
    "conv2d_transpose": "mg.conv_transpose2d below",
    "conv2d_kernel": "the derivative of conv2d below",
    "qr": "parts side by side; mg.qr below",
    "eigh": "parts side by side; mg.eigh below",
    "svd": "parts side by side; mg.svd below",
    "spectral_divide": "a part of the derivative of eigh and svd",
}
SPREAD = {"inv", "solve", "det", "slogdet", "cholesky", "power"}  # where conditioning multiplies rounding


def assert_as_in_pytorch(ours, theirs, inputs, loose=1.0):
    """Compare values, then gradients for one random cotangent."""
    a = [mg.tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
    b = [torch.tensor(np.array(x, order="C"), requires_grad=x.dtype.kind == "f") for x in inputs]
    y, z = ours(*a), theirs(*b)
    assert y.shape == tuple(z.shape), (y.shape, tuple(z.shape))
    floats = [x.dtype for x in inputs if x.dtype.kind == "f"] or [np.dtype("float64")]
    eps = np.finfo(floats[0]).eps * 2000 * loose  # sums of up to some hundred terms, and products of them

    def close(found, expected, what):
        scale = max(1.0, np.max(np.abs(expected), initial=0.0))
        np.testing.assert_allclose(found, expected, rtol=eps, atol=eps * scale, err_msg=what)

    close(y.detach().numpy(), z.detach().numpy(), "value")
    if not y.requires_grad or not z.requires_grad:
        assert not z.requires_grad or y.dtype.kind != "f" or np.all([t.grad is None for t in b])
        return
    g = np.random.default_rng(0).normal(size=y.shape).astype(y.dtype)
    y.backward(mg.tensor(g))
    z.backward(torch.tensor(g))
    for i, (s, t) in enumerate(zip(a, b, strict=True)):
        if s.requires_grad:
            found = np.zeros(s.shape) if s.grad is None else s.grad.numpy()
            close(found, np.zeros(s.shape) if t.grad is None else t.grad.numpy(), f"gradient of input {i}")


@pytest.mark.parametrize("name", sorted(ROWS))
@settings(max_examples=50)
@given(data=st.data())
def test_rows(name, data):
    row = mg.primitives[name]
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    inputs, metadata = data.draw(primitive_inputs(row, dtype))
    if name == "einsum" and len(set(metadata["subscripts"].split("->")[1])) < len(
        metadata["subscripts"].split("->")[1]
    ):
        return  # a diagonal output, which PyTorch does not have
    assert_as_in_pytorch(
        lambda *x: tape.apply(row, *x, **metadata), lambda *x: ROWS[name](*x, **metadata), inputs,
        1000.0 if name in SPREAD else 1.0,
    )  # fmt: skip


def test_every_row_is_compared_or_excused():
    assert set(ROWS) | set(NONE) == set(mg.primitives)
    assert not set(ROWS) & set(NONE)


def symmetric(x):
    return (x + x.mT) * 0.5


def eig_invariants(values, vectors):
    # V diag(1, 2, ...) V^T is the same for both signs of every vector
    n = values.shape[-1]
    ramp = np.arange(1.0, n + 1).astype(str(values.dtype).removeprefix("torch."))
    ramp = torch.as_tensor(ramp) if isinstance(values, torch.Tensor) else ramp
    return (vectors * ramp) @ vectors.mT + values[..., None, :]


def svd_invariants(u, s, vh):
    n = s.shape[-1]
    ramp = np.arange(1.0, n + 1).astype(str(s.dtype).removeprefix("torch."))
    ramp = torch.as_tensor(ramp) if isinstance(s, torch.Tensor) else ramp
    return (u * ramp) @ vh + s.sum()


def normal(*shape):
    return lambda rng: rng.normal(size=shape)


def distinct(*shape):
    return lambda rng: rng.permutation(np.linspace(-2.0, 2.0, int(np.prod(shape)))).reshape(shape)


def well_conditioned(n):
    return lambda rng: (
        np.linalg.qr(rng.normal(size=(n, n)))[0] @ np.diag(np.arange(1.0, n + 1) ** 1.0) + 0.1 * rng.normal(size=(n, n))
    )


CLASSES = np.array([0, 2, 1, 1])
PUBLIC = {
    "norm": (lambda x: mg.norm(x, axis=1), lambda x: torch.linalg.vector_norm(x, dim=1), [normal(3, 4)]),
    "norm of all": (mg.norm, torch.linalg.vector_norm, [normal(3, 4)]),
    "var": (lambda x: mg.var(x, axis=0), lambda x: torch.var(x, 0, correction=0), [normal(3, 4)]),
    "std": (lambda x: mg.std(x, axis=(0, 2)), lambda x: torch.std(x, (0, 2), correction=0), [normal(3, 2, 4)]),
    "prod": (lambda x: mg.prod(x, axis=1), lambda x: torch.prod(x, 1), [normal(3, 4)]),
    "prod with zeros": (
        lambda x: mg.prod(x * (abs(x) > 0.5), axis=1), lambda x: torch.prod(x * (abs(x) > 0.5), 1), [normal(4, 3)],
    ),
    "cumprod": (lambda x: mg.cumprod(x, axis=1), lambda x: torch.cumprod(x, 1), [normal(3, 4)]),
    "reciprocal": (mg.reciprocal, torch.reciprocal, [lambda rng: rng.uniform(0.5, 2.0, (3, 4))]),
    "gelu": (mg.gelu, F.gelu, [normal(3, 4)]),
    "gelu by tanh": (lambda x: mg.gelu(x, "tanh"), lambda x: F.gelu(x, approximate="tanh"), [normal(3, 4)]),
    "silu": (mg.silu, F.silu, [normal(3, 4)]),
    "elu": (lambda x: mg.elu(x, 0.7), lambda x: F.elu(x, 0.7), [normal(3, 4)]),
    "huber": (
        lambda x, y: mg.huber(x - y, delta=0.6),
        lambda x, y: F.huber_loss(x, y, reduction="none", delta=0.6), [normal(3, 4), normal(3, 4)],
    ),
    "cross_entropy": (lambda x: mg.cross_entropy(x, CLASSES), lambda x: F.cross_entropy(x, torch.as_tensor(CLASSES)), [normal(4, 3)]),
    "pad": (lambda x: mg.pad(x, ((1, 0), (2, 3))), lambda x: F.pad(x, (2, 3, 1, 0)), [normal(3, 4)]),
    "roll": (lambda x: mg.roll(x, (1, -2), (0, 1)), lambda x: torch.roll(x, (1, -2), (0, 1)), [normal(3, 4)]),
    "flip": (lambda x: mg.flip(x, 1), lambda x: torch.flip(x, (1,)), [normal(3, 4)]),
    "tile": (lambda x: mg.tile(x, (2, 1, 3)), lambda x: torch.tile(x, (2, 1, 3)), [normal(3, 4)]),
    "repeat": (lambda x: mg.repeat(x, 3, axis=1), lambda x: torch.repeat_interleave(x, 3, 1), [normal(3, 4)]),
    "moveaxis": (lambda x: mg.moveaxis(x, 0, -1), lambda x: torch.moveaxis(x, 0, -1), [normal(2, 3, 4)]),
    "diagonal": (lambda x: mg.diagonal(x, 1, 0, 2), lambda x: torch.diagonal(x, 1, 0, 2), [normal(3, 2, 4)]),
    "trace": (mg.trace, torch.trace, [normal(3, 4)]),
    "outer": (mg.outer, torch.outer, [normal(3), normal(4)]),
    "ravel": (mg.ravel, torch.ravel, [normal(3, 4)]),
    "split": (lambda x: mg.split(x, 2, axis=1)[1], lambda x: torch.split(x, 2, 1)[1], [normal(3, 4)]),
    "sort": (lambda x: mg.sort(x, axis=0), lambda x: torch.sort(x, 0).values, [distinct(3, 4)]),
    "topk": (lambda x: mg.topk(x, 2)[0], lambda x: torch.topk(x, 2).values, [distinct(3, 4)]),
    "take": (lambda x: mg.take(x, [2, 0, 2], axis=1), lambda x: x[:, [2, 0, 2]], [normal(3, 4)]),
    "take_along_axis": (
        lambda x: mg.take_along_axis(x, np.array([[0, 3], [1, 1], [2, 0]]), axis=1),
        lambda x: torch.take_along_dim(x, torch.tensor([[0, 3], [1, 1], [2, 0]]), 1), [normal(3, 4)],
    ),
    "nan_to_num": (mg.nan_to_num, torch.nan_to_num, [lambda rng: np.where(rng.random((3, 4)) < 0.3, np.nan, rng.normal(size=(3, 4)))]),
    "conv2d": (
        lambda x, w: mg.conv2d(x, w, stride=(2, 1), padding=(1, 2)), lambda x, w: F.conv2d(x, w, stride=(2, 1), padding=(1, 2)),
        [normal(2, 3, 6, 5), normal(4, 3, 3, 2)],
    ),
    "conv_transpose2d": (
        lambda x, w: mg.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1),
        lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1), [normal(2, 3, 4, 3), normal(3, 2, 3, 3)],
    ),
    "max_pool2d": (lambda x: mg.max_pool2d(x, 2), lambda x: F.max_pool2d(x, 2), [distinct(2, 2, 4, 6)]),
    "avg_pool2d": (lambda x: mg.avg_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), [normal(2, 2, 4, 6)]),
    "upsample2x": (mg.upsample2x, lambda x: F.interpolate(x, scale_factor=2, mode="nearest"), [normal(2, 2, 3, 2)]),
    "einsum with dots": (
        lambda a, b: mg.einsum("...ij,jk->...ki", a, b), lambda a, b: torch.einsum("...ij,jk->...ki", a, b),
        [normal(2, 3, 4), normal(4, 2)],
    ),
    "qr": (lambda x: mg.qr(x)[0] @ mg.qr(x)[1] ** 2, lambda x: torch.linalg.qr(x)[0] @ torch.linalg.qr(x)[1] ** 2, [well_conditioned(4)]),
    "eigh": (lambda x: eig_invariants(*mg.eigh(symmetric(x))), lambda x: eig_invariants(*torch.linalg.eigh(symmetric(x))), [well_conditioned(4)]),
    "svd": (lambda x: svd_invariants(*mg.svd(x)), lambda x: svd_invariants(*torch.linalg.svd(x, full_matrices=False)), [well_conditioned(4)]),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_functions(name, dtype):
    ours, theirs, makers = PUBLIC[name]
    for seed in range(25):
        rng = np.random.default_rng(seed)
        inputs = [make(rng).astype(dtype) for make in makers]
        assert_as_in_pytorch(ours, theirs, inputs, 1000.0 if name in ("qr", "eigh", "svd") else 1.0)


def test_every_public_function_of_tensors_is_compared():
    covered = {name.split(" ")[0] for name in PUBLIC} | set(mg.primitives)
    others = {
        "Compiled", "Device", "Parameter", "Program", "Tensor", "arange", "checkpoint", "compile", "cuda_is_available", "deterministic",
        "detect_anomaly", "device", "draw", "enable_grad", "from_dlpack", "full", "grad", "hessian", "hvp", "jacobian", "jvp",
        "load", "matmul_precision", "no_grad", "one_hot", "ones", "primitive", "record", "save", "set_matmul_precision", "tensor",
        "use_device", "value_and_grad", "vjp", "zeros",
    }  # fmt: skip
    public = {n for n in dir(mg) if callable(getattr(mg, n)) and not n.startswith("_")}
    assert public - covered - others == set()
