"""One workload in one library, timed in this process: `python -m tests.benchmarks.workloads NAME LIBRARY`.

Prints the seconds of one call (of one operation for the chain), the median over many, as JSON.
"""

import json
import statistics
import sys
import time
from itertools import pairwise

import numpy as np

CHAIN, WIDTH = 100, 10
LIBRARIES = ("minigrad", "minigrad compiled", "torch", "jax", "autograd", "mygrad")


# A chain of small operations


def products_and_sums(x):
    y = x
    for _ in range(CHAIN // 2):
        y = y * x
        y = y + x
    return y


def chain(library):
    """100 small operations on 10 elements, forward and backward; the figure is per operation."""
    start = np.linspace(0.5, 1.0, WIDTH, dtype=np.float32)
    if library.startswith("minigrad"):
        import minigrad as mg

        x = mg.tensor(start, requires_grad=True)
        if library == "minigrad compiled":
            gradient = mg.compile(mg.grad(lambda x: products_and_sums(x).sum()), kernels=True)
            return gradient, (x.detach(),), CHAIN
    elif library == "torch":
        import torch

        torch.set_num_threads(1)
        x = torch.tensor(start, requires_grad=True)
    elif library == "mygrad":
        import mygrad

        x = mygrad.tensor(start)
    elif library == "autograd":
        from autograd import grad

        return grad(lambda x: products_and_sums(x).sum()), (start,), CHAIN
    else:
        import jax

        gradient = jax.jit(jax.grad(lambda x: products_and_sums(x).sum()))
        return lambda x: gradient(x).block_until_ready(), (jax.numpy.array(start),), CHAIN

    def step():
        products_and_sums(x).sum().backward()
        if library == "mygrad":
            x.null_grad()
        else:
            x.grad = None

    return step, (), CHAIN


# Training steps of dense autoencoders: sigmoid units, squared error


def weights(sizes):
    rng = np.random.default_rng(0)
    pairs = list(pairwise(sizes))
    return [rng.normal(0, 1 / np.sqrt(a), (a, b)).astype(np.float32) for a, b in pairs], [
        np.zeros(b, np.float32) for _, b in pairs
    ]


def dense(sizes, batch, optimizer="SGD"):
    """A maker of training steps for a dense autoencoder of these sizes."""

    def make(library):
        W, b = weights(sizes)
        x = np.random.default_rng(1).random((batch, sizes[0]), dtype=np.float32)
        if library.startswith("minigrad"):
            return minigrad_dense(W, b, x, optimizer, library == "minigrad compiled")
        if library == "torch":
            return torch_dense(W, b, x, optimizer)
        if library == "jax" and optimizer == "SGD":
            return jax_dense(W, b, x)
        return None

    return make


def minigrad_dense(W, b, x, optimizer, compiled):
    import minigrad as mg

    W, b = [mg.Parameter(w) for w in W], [mg.Parameter(v) for v in b]
    chosen = getattr(mg.optim, optimizer)([*W, *b], lr=1e-3)

    def step(x):
        h = x
        for w, v in zip(W, b, strict=True):
            h = mg.sigmoid(h @ w + v)
        loss = mg.square(h - x).sum(axis=1).mean()
        chosen.zero_grad()
        loss.backward()
        chosen.step()
        return loss

    return (mg.compile(step, kernels=True) if compiled else step), (mg.tensor(x),), 1


def torch_dense(W, b, x, optimizer):
    import torch

    W = [torch.tensor(w, requires_grad=True) for w in W]
    b = [torch.tensor(v, requires_grad=True) for v in b]
    chosen = getattr(torch.optim, optimizer)([*W, *b], lr=1e-3, fused=True)

    def step(x):
        h = x
        for w, v in zip(W, b, strict=True):
            h = torch.sigmoid(torch.addmm(v, h, w))
        loss = ((h - x) ** 2).sum(1).mean()
        chosen.zero_grad()
        loss.backward()
        chosen.step()
        return loss

    return step, (torch.tensor(x),), 1


def jax_dense(W, b, x):
    import jax

    def loss(parameters, x):
        h = x
        for w, v in zip(*parameters, strict=True):
            h = jax.nn.sigmoid(h @ w + v)
        return ((h - x) ** 2).sum(1).mean()

    def update(parameters, x):
        value, gradient = jax.value_and_grad(loss)(parameters, x)
        return value, jax.tree.map(lambda p, g: p - 1e-3 * g, parameters, gradient)

    update = jax.jit(update, donate_argnums=0)
    state = [jax.tree.map(jax.numpy.array, (W, b))]

    def step(x):
        value, state[0] = update(state[0], x)
        jax.block_until_ready(state[0])
        return value

    return step, (jax.numpy.array(x),), 1


# A convolutional autoencoder: 1-16-32 channels and back, stride 2, 3x3, MNIST size, batch 128


def convolutional(library):
    x = np.random.default_rng(1).random((128, 1, 28, 28), dtype=np.float32)
    if library.startswith("minigrad"):
        import minigrad as mg
        from minigrad import nn

        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(16, 1, 3, 2, 1, 1), nn.Sigmoid(),
        )  # fmt: skip
        chosen = mg.optim.SGD(model.parameters(), lr=1e-3)
        square, tensor = mg.square, mg.tensor
    elif library == "torch":
        import torch
        from torch import nn

        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(16, 1, 3, 2, 1, 1), nn.Sigmoid(),
        )  # fmt: skip
        chosen = torch.optim.SGD(model.parameters(), lr=1e-3, fused=True)
        square, tensor = torch.square, torch.tensor
    else:
        return None

    def step(x):
        loss = square(model(x) - x).mean()
        chosen.zero_grad()
        loss.backward()
        chosen.step()
        return loss

    if library == "minigrad compiled":
        step = mg.compile(step, kernels=True)
    return step, (tensor(x),), 1


WORKLOADS = {
    "chain": chain,
    "784-64-784, batch 32": dense((784, 64, 784), 32),
    "784-500-784, batch 128": dense((784, 500, 784), 128),
    "784-500-784, batch 128, Adam": dense((784, 500, 784), 128, "Adam"),
    "784-1000-784, batch 256": dense((784, 1000, 784), 256),
    "784-1000-500-250-30 and back, batch 128": dense((784, 1000, 500, 250, 30, 250, 500, 1000, 784), 128),
    "convolutional 1-16-32, batch 128": convolutional,
}


def main(name, library):
    made = WORKLOADS[name](library)
    if made is None:
        print("null")
        return
    step, arguments, per = made
    step(*arguments)  # compiles
    times, begun = [], time.perf_counter()
    while len(times) < 30 or (time.perf_counter() - begun < 2.0 and len(times) < 1000):
        before = time.perf_counter()
        step(*arguments)
        times.append((time.perf_counter() - before) / per)
    print(json.dumps(statistics.median(times[len(times) // 5 :])))


if __name__ == "__main__":
    main(*sys.argv[1:])
