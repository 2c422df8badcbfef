"""The workloads in JAX: whole steps under jit, with the buffers of parameters and optimizer donated."""

import jax
from jax import lax
from jax import numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.optimize import minimize

from .workloads import BETAS, CHAIN, CODE, EPS, HISTORY, MAX_ITER, RHO, WEIGHT_DECAY, Arrays, LeftOut, Workload


def version():
    return f"JAX {jax.__version__}"


finished = jax.block_until_ready  # on the CPU too, steps are queued
_latest = []  # on a GPU: what is to be waited for at the end of many steps


def prepare(device, precision):
    """Compute on the GPU, which JAX does by itself, that exactly, and without a wait for each step."""
    global finished
    try:
        backend = jax.default_backend()
    except (AssertionError, RuntimeError):  # JAX was not installed for CUDA, or finds no GPU
        backend = None
    if backend != "gpu":
        raise LeftOut("JAX finds no GPU, or was not installed for CUDA")
    jax.config.update("jax_default_matmul_precision", {"float32": "highest", "tf32": "tensorfloat32"}[precision])

    def finished(result):
        _latest[:] = [result]
        return result


def synchronize():
    jax.block_until_ready(_latest)


def make(workload: Workload, arrays: Arrays, flavour: str):
    makers = {"chain": chain, "evaluation": evaluation, "lbfgs": lbfgs}
    return makers.get(workload.kind, training)(workload, arrays)


def chain(workload, arrays):
    def f(x):
        y = x
        for _ in range(CHAIN // 2):
            y = y * x
            y = y + x
        return y.sum()

    gradient, x = jax.jit(jax.grad(f)), jnp.array(arrays.x)
    return lambda: finished(gradient(x)), lambda g: g


def training(workload, arrays):
    loss_of = convolutional_loss if workload.kind == "convolutional" else dense_loss(workload)
    parameters = jax.tree.map(jnp.array, (arrays.weights, arrays.biases))
    means = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)] if workload.optimizer == "Adam" else []
    batch = [jnp.array(a) for a in (arrays.x, arrays.mask, arrays.signs) if a is not None]

    def update(state, *batch):
        parameters, means, t = state
        loss, gradients = jax.value_and_grad(loss_of)(parameters, *batch)
        t = t + 1
        if means:
            first = jax.tree.map(lambda m, g: BETAS[0] * m + (1 - BETAS[0]) * g, means[0], gradients)
            second = jax.tree.map(lambda v, g: BETAS[1] * v + (1 - BETAS[1]) * g * g, means[1], gradients)
            rate, root = workload.lr / (1 - BETAS[0] ** t), jnp.sqrt(1 - BETAS[1] ** t)
            changes = jax.tree.map(lambda m, v: rate * m / (jnp.sqrt(v) / root + EPS), first, second)
            means = [first, second]
        else:
            changes = jax.tree.map(lambda g: workload.lr * g, gradients)
        return loss, (jax.tree.map(jnp.subtract, parameters, changes), means, t)

    jitted = jax.jit(update, donate_argnums=0)
    state = (parameters, means, jnp.zeros((), jnp.float32))

    def step():
        nonlocal state
        loss, state = jitted(state, *batch)
        finished(state)
        return loss

    return step, lambda loss: [loss]


def layers(h, W, b):
    for w, v in zip(W, b, strict=True):
        h = jax.nn.sigmoid(h @ w + v)
    return h


def dense_loss(workload):
    def loss_of(parameters, x, given=None):
        W, b = parameters
        code = len(W) // 2
        if workload.penalty == "hutchinson":
            h, pull_back = jax.vjp(lambda x: layers(x, W[:code], b[:code]), x)
            penalty = jnp.square(pull_back(given)[0]).sum() / len(x)
        else:
            h = layers(x * given if workload.masked else x, W[:code], b[:code])
        loss = jnp.square(layers(h, W[code:], b[code:]) - x).sum() / len(x)
        if workload.penalty == "sparse":
            rho = h.mean(0)
            penalty = (RHO * jnp.log(RHO / rho) + (1 - RHO) * jnp.log((1 - RHO) / (1 - rho))).sum()
        elif workload.penalty == "contractive":
            penalty = (jnp.square(h * (1 - h)) @ jnp.square(W[0]).sum(0)).sum() / len(x)
        return loss + CODE * penalty if workload.penalty else loss

    return loss_of


def convolutional_loss(parameters, x):
    W, b = parameters
    h = x
    for i in (0, 1):
        h = lax.conv_general_dilated(h, W[i], (2, 2), [(1, 1), (1, 1)])
        h = jax.nn.relu(h + b[i][:, None, None])
    for i in (2, 3):  # the transpose: zeros between the pixels, kernel turned round, channels exchanged
        kernel = jnp.flip(W[i], (2, 3)).swapaxes(0, 1)
        h = lax.conv_general_dilated(h, kernel, (1, 1), [(1, 2), (1, 2)], lhs_dilation=(2, 2))
        h = h + b[i][:, None, None]
        h = jax.nn.relu(h) if i == 2 else jax.nn.sigmoid(h)
    return jnp.square(h - x).sum() / len(x)


def full_batch(workload):
    loss_of = dense_loss(workload)
    return lambda p, x: loss_of(p, x) + 0.5 * WEIGHT_DECAY * sum(jnp.square(w).sum() for w in p[0])


def evaluation(workload, arrays):
    parameters, x = jax.tree.map(jnp.array, (arrays.weights, arrays.biases)), jnp.array(arrays.x)
    f = jax.jit(jax.value_and_grad(full_batch(workload)))

    def read(result):
        return [result[0], *(jnp.square(g).sum() for group in result[1] for g in group)]

    return lambda: finished(f(parameters, x)), read


def lbfgs(workload, arrays):
    """JAX's own minimize, jitted as a whole. Its method is called experimental by its name."""
    vector, unravel = ravel_pytree(jax.tree.map(jnp.array, (arrays.weights, arrays.biases)))
    x, objective = jnp.array(arrays.x), full_batch(workload)

    @jax.jit
    def run(vector, x):
        found = minimize(
            lambda v: objective(unravel(v), x),
            vector,
            method="l-bfgs-experimental-do-not-rely-on-this",
            options={"maxiter": MAX_ITER, "maxcor": HISTORY, "ftol": 0.0, "gtol": 0.0},
        )
        return found.fun, found.nfev

    start = jax.jit(objective)(unravel(vector), x)
    return lambda: finished(run(vector, x)), lambda result: [start, *result]
