"""Stochastic gradient descent and Adam on NumPy arrays, in place: for the implementations that have no optimizer."""

import numpy as np

from .workloads import BETAS, EPS


def make(optimizer, parameters, lr):
    """Return a function that takes gradients and changes the parameters; it may change the gradients too."""
    return {"SGD": sgd, "Adam": adam}[optimizer](parameters, np.float32(lr))


def sgd(parameters, lr):
    scaled = [np.empty_like(p) for p in parameters]

    def update(gradients):
        for p, g, s in zip(parameters, gradients, scaled, strict=True):
            np.multiply(g, lr, out=s)
            np.subtract(p, s, out=p)

    return update


def adam(parameters, lr):
    beta1, beta2 = map(np.float32, BETAS)
    one, eps = np.float32(1), np.float32(EPS)
    kept = [(np.zeros_like(p), np.zeros_like(p), np.empty_like(p)) for p in parameters]  # means and room to work in
    steps = 0

    def update(gradients):
        nonlocal steps
        steps += 1
        rate = np.float32(lr / (1 - BETAS[0] ** steps))
        root = np.float32(1 / np.sqrt(1 - BETAS[1] ** steps))
        for p, g, (mean, square, work) in zip(parameters, gradients, kept, strict=True):
            np.multiply(g, one - beta1, out=work)
            np.multiply(mean, beta1, out=mean)
            np.add(mean, work, out=mean)
            np.multiply(g, g, out=work)
            np.multiply(work, one - beta2, out=work)
            np.multiply(square, beta2, out=square)
            np.add(square, work, out=square)
            np.sqrt(square, out=work)
            np.multiply(work, root, out=work)
            np.add(work, eps, out=work)
            np.divide(mean, work, out=work)
            np.multiply(work, rate, out=work)
            np.subtract(p, work, out=p)

    return update
