"""minigrad: a small tensor library with reverse-mode automatic differentiation, on NumPy or CuPy."""

from . import autograd, data, devices, errors, heap, modes, nn, node, observers, optim, random, tape, testing
from .anomaly import detect_anomaly
from .checkpoint import checkpoint
from .convolution import avg_pool2d, conv2d, conv_transpose2d, max_pool2d, upsample2x
from .creation import arange, from_dlpack, full, ones, zeros
from .determinism import deterministic
from .devices import Device, cuda_is_available, device, use_device
from .files import load, save
from .functions import (
    cross_entropy,
    cumprod,
    elu,
    gelu,
    huber,
    nan_to_num,
    norm,
    prod,
    reciprocal,
    silu,
    std,
    var,
)
from .linalg import eigh, einsum, outer, qr, slogdet, svd
from .manipulation import diagonal, flip, moveaxis, pad, ravel, repeat, roll, split, tile, trace
from .modes import enable_grad, no_grad
from .parameter import Parameter
from .precision import matmul_precision, set_matmul_precision
from .primitives import *  # the operations, by the names of the table
from .program import Compiled, Program, compile, draw, record
from .selection import one_hot, sort, take, take_along_axis, topk
from .tensor import Tensor, tensor
from .transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from .version import __version__

heap.keep_freed_memory()
