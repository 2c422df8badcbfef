"""The workloads in HIPS autograd, with the updates written in NumPy."""

from importlib.metadata import version as version_of

import autograd.numpy as np
import numpy
from autograd import grad, make_vjp, value_and_grad

from . import numpy_updates
from .workloads import CHAIN, CODE, RHO, WEIGHT_DECAY, Arrays, LeftOut, Workload


def version():
    return f"HIPS autograd {version_of('autograd')}"


def make(workload: Workload, arrays: Arrays, flavour: str):
    if workload.kind == "convolutional":
        raise LeftOut("no strided convolution")
    if workload.kind == "lbfgs":
        raise LeftOut("no L-BFGS of its own")
    if workload.kind == "chain":
        gradient = grad(chain)
        return lambda: gradient(arrays.x), lambda g: g
    parameters = [p.copy() for p in (*arrays.weights, *arrays.biases)]
    given = arrays.mask if workload.masked else arrays.signs
    gradients_of = value_and_grad(lambda p: loss_of(workload, p, arrays.x, given))
    if workload.kind == "evaluation":
        return lambda: gradients_of(parameters), lambda r: [r[0], *(numpy.vdot(g, g) for g in r[1])]
    update = numpy_updates.make(workload.optimizer, parameters, workload.lr)

    def step():
        loss, gradients = gradients_of(parameters)
        update(gradients)
        return loss

    return step, lambda loss: [loss]


def chain(x):
    y = x
    for _ in range(CHAIN // 2):
        y = y * x
        y = y + x
    return np.sum(y)


def layers(h, W, b):
    for w, v in zip(W, b, strict=True):
        h = 0.5 * (np.tanh(0.5 * (np.dot(h, w) + v)) + 1.0)  # the sigmoid, as in autograd's own examples
    return h


def loss_of(workload, parameters, x, given):
    W, b = parameters[: len(parameters) // 2], parameters[len(parameters) // 2 :]
    code, m = len(W) // 2, len(x)
    if workload.penalty == "hutchinson":
        pull_back, h = make_vjp(lambda x: layers(x, W[:code], b[:code]))(x)
        penalty = np.sum(pull_back(given) ** 2) / m
    else:
        h = layers(x * given if workload.masked else x, W[:code], b[:code])
    loss = np.sum((layers(h, W[code:], b[code:]) - x) ** 2) / m
    if workload.penalty == "sparse":
        rho = np.mean(h, axis=0)
        penalty = np.sum(RHO * np.log(RHO / rho) + (1 - RHO) * np.log((1 - RHO) / (1 - rho)))
    elif workload.penalty == "contractive":
        penalty = np.sum(np.dot((h * (1 - h)) ** 2, np.sum(W[0] ** 2, axis=0))) / m
    if workload.penalty:
        loss = loss + CODE * penalty
    if workload.kind == "evaluation":
        loss = loss + 0.5 * WEIGHT_DECAY * sum(np.sum(w**2) for w in W)
    return loss
