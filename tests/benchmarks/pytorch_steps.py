"""The workloads in PyTorch: eager, with fused optimizers, and with torch.compile (loss compiled, optimizer fused).

On a GPU also with the whole step captured in a CUDA graph by hand, of the loss as it is or compiled.
"""

import os

import torch
from torch import nn
from torch._inductor.exc import CppCompileError, InductorError, InvalidCxxCompiler
from torch.nn import functional as F

from .workloads import CHAIN, CODE, HISTORY, MAX_ITER, RHO, WEIGHT_DECAY, Arrays, LeftOut, Workload

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))


def version():
    return f"PyTorch {torch.__version__}"


on_gpu = False


def prepare(device, precision):
    """Compute there from now on, and that exactly."""
    global on_gpu
    if not torch.cuda.is_available():
        raise LeftOut("PyTorch finds no GPU")
    torch.set_default_device(device)
    torch.set_float32_matmul_precision({"float32": "highest", "tf32": "high"}[precision])
    on_gpu = True


def synchronize():
    torch.cuda.synchronize()


def stamp():
    """Return an event at this place in the work of the GPU."""
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def seconds_between(start, end):
    return start.elapsed_time(end) / 1e3


def device_memory():
    """Return the bytes that PyTorch's allocator holds."""
    return torch.cuda.memory_reserved()


def make(workload: Workload, arrays: Arrays, flavour: str):
    if flavour.startswith("graph") and not on_gpu:
        raise LeftOut("CUDA graphs are for GPUs")
    if "compile" in flavour:
        torch.compiler.reset()  # all workloads share the code of a loss, and other sizes would be compiled as any size
    if on_gpu:
        torch.cuda.empty_cache()  # what was measured before
    if flavour in ("fused", "graph", "graph of compiled") and workload.kind not in ("dense", "convolutional"):
        raise LeftOut("no optimizer of PyTorch's that could be fused in this workload")
    makers = {"chain": chain, "evaluation": evaluation, "lbfgs": lbfgs}
    return makers.get(workload.kind, training)(workload, arrays, flavour)


def compiled_if(wanted, f):
    """Return f, compiled in a mode if one is wanted: that happens when it is first called, and needs a C++ compiler."""
    if not wanted:
        return f
    # on a GPU the best mode for small steps: graphs of forward and backward. By hand, a graph holds the whole step
    compiled = torch.compile(f, mode="reduce-overhead" if on_gpu and wanted == "reduce-overhead" else "default")

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

    f = compiled_if("default" if flavour == "compile" else "", f)
    x = torch.tensor(arrays.x, requires_grad=True)

    def step():
        f(x).backward()
        gradient, x.grad = x.grad, None
        return gradient

    return step, lambda g: g.cpu().numpy()


def training(workload, arrays, flavour):
    make_loss = convolutional if workload.kind == "convolutional" else dense
    parameters, loss_of = make_loss(workload, arrays)
    if "compile" in flavour:
        loss_of = compiled_if("reduce-overhead" if flavour == "compile" else "default", loss_of)
    capturable = {"capturable": True} if "graph" in flavour and workload.optimizer == "Adam" else {}
    optimizer = getattr(torch.optim, workload.optimizer)(
        parameters, lr=workload.lr, fused=flavour != "eager", **capturable
    )
    batch = [torch.tensor(a) for a in (arrays.x, arrays.mask, arrays.signs) if a is not None]

    def step():
        optimizer.zero_grad()
        loss = loss_of(*batch)
        loss.backward()
        optimizer.step()
        return loss

    if "graph" in flavour:
        step = captured(step, parameters, optimizer)
    return step, lambda loss: [loss.item()]


def captured(step, parameters, optimizer):
    """Return the step as a CUDA graph, after PyTorch's notes on capturing a whole network; nothing has changed then."""
    initial = [p.detach().clone() for p in parameters]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    optimizer.zero_grad()  # so that the graph writes gradients into memory of its own, and does not add to any
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    with torch.no_grad():
        for p, start in zip(parameters, initial, strict=True):
            p.copy_(start)
        for state in optimizer.state.values():
            for kept in state.values():
                if isinstance(kept, torch.Tensor):
                    kept.zero_()

    def replay():
        graph.replay()
        return loss

    return replay


def parameters_of(arrays):
    """Return weights and biases: Parameters, which a CUDA graph of torch.compile reads in place. It copies tensors."""
    return ([nn.Parameter(torch.tensor(p)) for p in group] for group in (arrays.weights, arrays.biases))


def dense(workload, arrays):
    W, b = parameters_of(arrays)
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
    W, b = parameters_of(arrays)

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

    objective = compiled_if("default" if flavour == "compile" else "", objective)
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
