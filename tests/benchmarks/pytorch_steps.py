"""The workloads in PyTorch: eager, with fused optimizers, and with torch.compile (loss compiled, optimizer fused)."""

import os

import torch
from torch._inductor.exc import CppCompileError, InductorError, InvalidCxxCompiler
from torch.nn import functional as F

from .workloads import CHAIN, CODE, HISTORY, MAX_ITER, RHO, WEIGHT_DECAY, Arrays, LeftOut, Workload

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))


def version():
    return f"PyTorch {torch.__version__}"


def make(workload: Workload, arrays: Arrays, flavour: str):
    if flavour == "fused" and workload.kind not in ("dense", "convolutional"):
        raise LeftOut("no optimizer of PyTorch's that could be fused in this workload")
    makers = {"chain": chain, "evaluation": evaluation, "lbfgs": lbfgs}
    return makers.get(workload.kind, training)(workload, arrays, flavour)


def compiled_if(wanted, f):
    """Return f, compiled if wanted: that happens when it is first called, and needs a C++ compiler."""
    if not wanted:
        return f
    compiled = torch.compile(f)

    def call(*args):
        try:
            return compiled(*args)
        except InductorError as error:
            if not isinstance(error.inner_exception, CppCompileError | InvalidCxxCompiler):
                raise
            raise LeftOut("torch.compile found no working C++ compiler") from error

    return call


def chain(workload, arrays, flavour):
    def f(x):
        y = x
        for _ in range(CHAIN // 2):
            y = y * x
            y = y + x
        return y.sum()

    f = compiled_if(flavour == "compile", f)
    x = torch.tensor(arrays.x, requires_grad=True)

    def step():
        f(x).backward()
        gradient, x.grad = x.grad, None
        return gradient

    return step, lambda g: g.numpy()


def training(workload, arrays, flavour):
    make_loss = convolutional if workload.kind == "convolutional" else dense
    parameters, loss_of = make_loss(workload, arrays)
    loss_of = compiled_if(flavour == "compile", loss_of)
    optimizer = getattr(torch.optim, workload.optimizer)(parameters, lr=workload.lr, fused=flavour != "eager")
    batch = [torch.tensor(a) for a in (arrays.x, arrays.mask, arrays.signs) if a is not None]

    def step():
        loss = loss_of(*batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, lambda loss: [loss.item()]


def dense(workload, arrays):
    W, b = ([torch.tensor(p, requires_grad=True) for p in group] for group in (arrays.weights, arrays.biases))
    code = len(W) // 2

    def layers(h, W, b):
        for w, v in zip(W, b, strict=True):
            h = torch.sigmoid(torch.addmm(v, h, w))
        return h

    def loss_of(x, given=None):
        if workload.penalty == "hutchinson":
            h, pull_back = torch.func.vjp(lambda x: layers(x, W[:code], b[:code]), x)
            penalty = pull_back(given)[0].square().sum() / len(x)
        else:
            h = layers(x * given if workload.masked else x, W[:code], b[:code])
        loss = (layers(h, W[code:], b[code:]) - x).square().sum() / len(x)
        if workload.penalty == "sparse":
            rho = h.mean(0)
            penalty = (RHO * torch.log(RHO / rho) + (1 - RHO) * torch.log((1 - RHO) / (1 - rho))).sum()
        elif workload.penalty == "contractive":
            penalty = ((h * (1 - h)).square() @ W[0].square().sum(0)).sum() / len(x)
        return loss + CODE * penalty if workload.penalty else loss

    return [*W, *b], loss_of


def convolutional(workload, arrays):
    W, b = ([torch.tensor(p, requires_grad=True) for p in group] for group in (arrays.weights, arrays.biases))

    def loss_of(x):
        h = F.relu(F.conv2d(x, W[0], b[0], stride=2, padding=1))
        h = F.relu(F.conv2d(h, W[1], b[1], stride=2, padding=1))
        h = F.relu(F.conv_transpose2d(h, W[2], b[2], stride=2, padding=1, output_padding=1))
        h = torch.sigmoid(F.conv_transpose2d(h, W[3], b[3], stride=2, padding=1, output_padding=1))
        return (h - x).square().sum() / len(x)

    return [*W, *b], loss_of


def full_batch(workload, arrays, flavour):
    """Return the parameters, and a function that returns the objective of L-BFGS, with a graph."""
    parameters, loss_of = dense(workload, arrays)
    weights, x = parameters[: len(arrays.weights)], torch.tensor(arrays.x)

    def objective(x):
        return loss_of(x) + 0.5 * WEIGHT_DECAY * sum(w.square().sum() for w in weights)

    objective = compiled_if(flavour == "compile", objective)
    return parameters, lambda: objective(x)


def evaluation(workload, arrays, flavour):
    parameters, objective = full_batch(workload, arrays, flavour)

    def step():
        loss = objective()
        return loss, torch.autograd.grad(loss, parameters)

    return step, lambda result: [result[0].item(), *(g.square().sum().item() for g in result[1])]


def lbfgs(workload, arrays, flavour):
    parameters, objective = full_batch(workload, arrays, flavour)
    initial = [p.detach().clone() for p in parameters]

    def step():
        with torch.no_grad():
            for p, start in zip(parameters, initial, strict=True):
                p.copy_(start)
        optimizer = torch.optim.LBFGS(
            parameters,
            max_iter=MAX_ITER,
            max_eval=10 * MAX_ITER,
            history_size=HISTORY,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )
        values = []

        def closure():
            optimizer.zero_grad()
            loss = objective()
            loss.backward()
            values.append(loss.item())
            return loss

        optimizer.step(closure)
        return values

    # PyTorch returns the first value only; the best one seen is where it ends, up to rounding
    return step, lambda values: [values[0], min(values), len(values)]
