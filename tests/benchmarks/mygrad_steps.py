"""The workloads in MyGrad, with the updates written in NumPy without its guard of memory, as it advises."""

import mygrad as mg
import numpy as np
from mygrad.nnet.activations import sigmoid

from . import numpy_updates
from .workloads import CHAIN, CODE, RHO, WEIGHT_DECAY, Arrays, LeftOut, Workload

mg.turn_memory_guarding_off()


def version():
    return f"MyGrad {mg.__version__}"


def make(workload: Workload, arrays: Arrays, flavour: str):
    if workload.kind == "convolutional":
        raise LeftOut("no transposed convolution")
    if workload.kind == "lbfgs":
        raise LeftOut("no L-BFGS of its own")
    if workload.penalty == "hutchinson":
        raise LeftOut("no second derivatives")
    if workload.kind == "chain":
        return chain(arrays)
    parameters = [mg.tensor(p, copy=True) for p in (*arrays.weights, *arrays.biases)]
    update = numpy_updates.make(workload.optimizer, [p.data for p in parameters], workload.lr)

    def evaluate():
        loss = loss_of(workload, parameters, arrays.x, arrays.mask)
        loss.backward()
        gradients = [p.grad for p in parameters]
        for p in parameters:
            p.null_grad()
        return float(loss), gradients

    def step():
        loss, gradients = evaluate()
        update(gradients)
        return loss

    if workload.kind == "evaluation":
        return evaluate, lambda r: [r[0], *(np.vdot(g, g) for g in r[1])]
    return step, lambda loss: [loss]


def chain(arrays):
    x = mg.tensor(arrays.x, copy=True)

    def step():
        y = x
        for _ in range(CHAIN // 2):
            y = y * x
            y = y + x
        y.sum().backward()
        gradient = x.grad
        x.null_grad()
        return gradient

    return step, lambda g: g


def layers(h, W, b):
    for w, v in zip(W, b, strict=True):
        h = sigmoid(mg.matmul(h, w) + v)
    return h


def loss_of(workload, parameters, x, mask):
    W, b = parameters[: len(parameters) // 2], parameters[len(parameters) // 2 :]
    code, per_sample = len(W) // 2, np.float32(1 / len(x))  # a Python number would make scalars float64, and gradients
    h = layers(x * mask if workload.masked else x, W[:code], b[:code])
    loss = mg.sum((layers(h, W[code:], b[code:]) - x) ** 2) * per_sample
    if workload.penalty == "sparse":
        rho = mg.mean(h, axis=0)
        penalty = mg.sum(RHO * mg.log(RHO / rho) + (1 - RHO) * mg.log((1 - RHO) / (1 - rho)))
    elif workload.penalty == "contractive":
        penalty = mg.sum(mg.matmul((h * (1 - h)) ** 2, mg.sum(W[0] ** 2, axis=0))) * per_sample
    if workload.penalty:
        loss = loss + np.float32(CODE) * penalty
    if workload.kind == "evaluation":
        for w in W:
            loss = loss + np.float32(0.5 * WEIGHT_DECAY) * mg.sum(w**2)
    return loss
