"""The workloads in minigrad and autoencoders, as a user writes them: eager and compiled."""

import contextlib

import autoencoders as ae
import minigrad as mg
from minigrad.native import available

from .workloads import CHAIN, CHANNELS, CODE, HISTORY, MAX_ITER, RHO, WEIGHT_DECAY, Arrays, Workload

available()  # loads and starts llvmlite where it is installed: not counted as memory, as what peers import is not


def version():
    return f"minigrad {mg.__version__}, {'with' if available() else 'without'} llvmlite"


_place = contextlib.ExitStack()


def prepare(device, precision):
    """Compute there from now on, and that exactly."""
    _place.enter_context(mg.use_device(device))
    mg.set_matmul_precision(precision)


def synchronize():
    mg.devices.default_device().xp.cuda.get_current_stream().synchronize()


def stamp():
    """Return an event at this place in the work of the GPU."""
    return mg.devices.default_device().xp.cuda.get_current_stream().record()


def seconds_between(start, end):
    return mg.devices.default_device().xp.cuda.get_elapsed_time(start, end) / 1e3


def device_memory():
    """Return the bytes that CuPy's pool holds."""
    return mg.devices.default_device().xp.get_default_memory_pool().total_bytes()


def make(workload: Workload, arrays: Arrays, flavour: str):
    place = mg.devices.default_device()
    if place.type != "cpu":
        place.xp.get_default_memory_pool().free_all_blocks()  # what was measured before
    makers = {"chain": chain, "evaluation": evaluation, "lbfgs": lbfgs}
    return makers.get(workload.kind, training)(workload, arrays, flavour == "compiled")


def compiled_if(wanted, step):
    kernels = available() if mg.devices.default_device().type == "cpu" else None  # LLVM's are for the CPU
    return mg.compile(step, kernels=kernels) if wanted else step


def chain(workload, arrays, compiled):
    def f(x):
        y = x
        for _ in range(CHAIN // 2):
            y = y * x
            y = y + x
        return y.sum()

    if compiled:
        x = mg.tensor(arrays.x)
        gradient = compiled_if(True, mg.grad(f))
        return lambda: gradient(x), lambda g: g.numpy()
    x = mg.tensor(arrays.x, requires_grad=True)

    def step():
        f(x).backward()
        gradient, x.grad = x.grad, None
        return gradient

    return step, lambda g: g.numpy()


def training(workload, arrays, compiled):
    update, batch = training_step(workload, arrays)
    step = compiled_if(compiled, update)
    return lambda: step(*batch), lambda loss: [loss.item()]


def training_step(workload, arrays):
    """Return a step of training as a function of a batch, and the batch."""
    model, loss_of = (convolutional if workload.kind == "convolutional" else dense)(workload, arrays)
    optimizer = getattr(mg.optim, workload.optimizer)(model.parameters(), lr=workload.lr)
    batch = [mg.tensor(a) for a in (arrays.x, arrays.mask, arrays.signs) if a is not None]

    def update(*batch):
        loss = loss_of(*batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return update, batch


def dense(workload, arrays):
    model = ae.Autoencoder(workload.sizes, output="sigmoid", dtype=arrays.x.dtype)
    for p, initial in zip(model.encoder_weights + model.decoder_weights, arrays.weights, strict=True):
        p.assign(initial)

    def loss_of(x, given=None):
        if workload.penalty == "hutchinson":  # what ae.contractive does, with given signs
            h, pull_back = mg.vjp(model.encode, x)
            penalty = mg.sum(mg.square(pull_back(given)[0])) / len(x)
        else:
            h = model.encode(x * given if workload.masked else x)
        loss = ae.squared_error(model.decode(h), x)
        if workload.penalty == "sparse":
            penalty = ae.kl_sparsity(h, RHO)
        elif workload.penalty == "contractive":
            penalty = ae.contractive(model.encode, x, "closed", codes=h)
        return loss + CODE * penalty if workload.penalty else loss

    return model, loss_of


def convolutional(workload, arrays):
    a, b, c = CHANNELS
    nn = mg.nn
    model = nn.Sequential(
        nn.Conv2d(a, b, 3, 2, 1), nn.ReLU(), nn.Conv2d(b, c, 3, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(c, b, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(b, a, 3, 2, 1, 1), nn.Sigmoid(),
    ).to(arrays.x.dtype)  # fmt: skip
    for p, initial in zip((p for p in model.parameters() if p.ndim > 1), arrays.weights, strict=True):
        p.assign(initial)
    return model, lambda x: ae.squared_error(model(x), x)


def differentiated(workload, arrays, compiled):
    """Return the parameters, and a function that returns the value of the objective of L-BFGS and its gradients."""
    model, loss_of = dense(workload, arrays)
    layers = [*model.encoder_layers, *model.decoder_layers]
    parameters, x = [*(l.weight for l in layers), *(l.bias for l in layers)], mg.tensor(arrays.x)

    def evaluate(x):
        loss = loss_of(x) + 0.5 * WEIGHT_DECAY * ae.l2(model)
        return loss.detach(), list(mg.autograd.grad(loss, parameters))

    f = compiled_if(compiled, evaluate)
    return parameters, lambda: f(x)


def evaluation(workload, arrays, compiled):
    _, f = differentiated(workload, arrays, compiled)
    return f, lambda result: [result[0].item(), *(mg.sum(mg.square(g)).item() for g in result[1])]


def lbfgs(workload, arrays, compiled):
    parameters, f = differentiated(workload, arrays, compiled)
    initial = [p.numpy().copy() for p in parameters]

    def step():
        for p, start in zip(parameters, initial, strict=True):
            p.assign(start)
        values = []

        def closure():
            value, gradients = f()
            values.append(value.item())
            for p, g in zip(parameters, gradients, strict=True):
                p.grad = g
            return values[-1]

        optimizer = mg.optim.LBFGS(
            parameters, max_iter=MAX_ITER, history_size=HISTORY, tolerance_grad=0.0, tolerance_change=0.0
        )
        return values, optimizer.step(closure)

    return step, lambda result: [result[0][0], result[1], len(result[0])]
