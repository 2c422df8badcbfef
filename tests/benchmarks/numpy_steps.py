"""The dense workloads written straight in NumPy: forward, backward and update by hand, into buffers made once.

This is what a careful person would write who has no library for derivatives. It is the fair reference: a library that
runs on NumPy can hope to come near it, and to pass it only by doing what one does not write by hand.
"""

import numpy as np

from . import numpy_updates
from .workloads import CODE, HISTORY, MAX_ITER, RHO, WEIGHT_DECAY, Arrays, LeftOut, Workload


def version():
    return f"NumPy {np.__version__}"


def make(workload: Workload, arrays: Arrays, flavour: str):
    if workload.kind not in ("dense", "evaluation", "lbfgs") or workload.penalty in ("contractive", "hutchinson"):
        raise LeftOut("not written by hand")
    parameters = [p.copy() for p in (*arrays.weights, *arrays.biases)]
    decay = 0.0 if workload.kind == "dense" else WEIGHT_DECAY
    x, mask = arrays.x.copy(), arrays.mask
    gradients_of = value_and_gradients(workload, parameters, decay)
    if workload.kind == "evaluation":
        return lambda: gradients_of(x, mask), lambda r: [r[0], *(np.vdot(g, g) for g in r[1])]
    if workload.kind == "lbfgs":
        return lbfgs(parameters, lambda: gradients_of(x, mask))
    update = numpy_updates.make(workload.optimizer, parameters, workload.lr)

    def step():
        loss, gradients = gradients_of(x, mask)
        update(gradients)
        return loss

    return step, lambda loss: [loss]


def value_and_gradients(workload, parameters, decay):
    """Return a function of x that computes the loss and the gradients of all parameters, in memory of its own."""
    layers = len(parameters) // 2
    W, b = parameters[:layers], parameters[layers:]
    m, code = workload.batch, layers // 2
    a = [np.empty((m, w.shape[1]), w.dtype) for w in W]  # activations
    d = [np.empty_like(v) for v in a]  # derivatives by what goes into the sigmoids
    work = [np.empty_like(v) for v in a]
    damaged = np.empty((m, W[0].shape[0]), W[0].dtype)
    gradients = [np.empty_like(p) for p in parameters]
    square = [np.empty_like(w) for w in W] if decay else []
    half, one = np.float32(0.5), np.float32(1)

    def run(x, mask):
        x_in = x if mask is None else np.multiply(x, mask, out=damaged)
        h = x_in
        for w, v, out in zip(W, b, a, strict=True):
            np.matmul(h, w, out=out)
            np.add(out, v, out=out)
            np.multiply(out, half, out=out)  # the sigmoid of z is (1 + tanh(z / 2)) / 2; exp would be slower
            np.tanh(out, out=out)
            np.multiply(out, half, out=out)
            h = np.add(out, half, out=out)
        delta = np.subtract(h, x, out=d[-1])
        loss = float(np.vdot(delta, delta)) / m
        np.multiply(delta, np.float32(2 / m), out=delta)
        for i in reversed(range(layers)):
            slope = np.subtract(one, a[i], out=work[i])
            np.multiply(slope, a[i], out=slope)
            delta = np.multiply(d[i], slope, out=d[i])
            np.matmul((a[i - 1] if i else x_in).T, delta, out=gradients[i])
            np.sum(delta, axis=0, out=gradients[layers + i])
            if i:
                np.matmul(delta, W[i].T, out=d[i - 1])
            if i == code and workload.penalty == "sparse":
                rho = np.mean(a[i - 1], axis=0)
                kl = RHO * np.log(RHO / rho) + (1 - RHO) * np.log((1 - RHO) / (1 - rho))
                loss += CODE * float(np.sum(kl))
                np.add(d[i - 1], (CODE / m) * ((1 - RHO) / (1 - rho) - RHO / rho), out=d[i - 1])
        for w, g, s in zip(W if decay else [], gradients, square, strict=False):
            loss += 0.5 * decay * float(np.vdot(w, w))
            np.add(g, np.multiply(w, np.float32(decay), out=s), out=g)
        return loss, gradients

    return run


def lbfgs(parameters, evaluate):
    """L-BFGS-B of SciPy without bounds, which is what NumPy's users have; its arithmetic is in float64."""
    from scipy.optimize import minimize

    ends = np.cumsum([p.size for p in parameters])
    start = np.concatenate([p.ravel() for p in parameters]).astype(np.float64)

    def step():
        values = []

        def value_and_gradient(vector):
            for p, part in zip(parameters, np.split(vector, ends[:-1]), strict=True):
                p[...] = part.reshape(p.shape)
            loss, gradients = evaluate()
            values.append(loss)
            return loss, np.concatenate([g.ravel() for g in gradients]).astype(np.float64)

        options = {"maxiter": MAX_ITER, "maxcor": HISTORY, "ftol": 0.0, "gtol": 0.0}
        found = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
        return values, found.fun

    return step, lambda result: [result[0][0], result[1], len(result[0])]
