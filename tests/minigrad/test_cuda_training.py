"""Steps of optimizers and of training in generated CUDA kernels: see tests/host_kernels.py."""

import numpy as np
import pytest

import minigrad as mg
from tests.cuda_cases import Training, needs_nvrtc, sums, within
from tests.host_kernels import compile_for_gpu, doubles

pytestmark = pytest.mark.cpu_only

SHAPES = [(30, 20), (20,), (20, 30), (30,), (), (1, 1), (0, 3), (5,)]
OPTIMIZERS = {
    "SGD": lambda ps: mg.optim.SGD(ps, lr=0.037, weight_decay=0.3),
    "momentum": lambda ps: mg.optim.SGD(ps, lr=0.037, momentum=0.8, nesterov=True),
    "Adam": lambda ps: mg.optim.Adam(ps, lr=0.037),
    "decay": lambda ps: mg.optim.Adam(ps, lr=0.037, weight_decay=0.1),
    "AdamW": lambda ps: mg.optim.AdamW(ps, lr=0.037, weight_decay=0.1),
    "RMSprop": lambda ps: mg.optim.RMSprop(ps, lr=0.037, momentum=0.8),
    "Adagrad": lambda ps: mg.optim.Adagrad(ps, lr=0.037),
}


def update(make, dtype="float32"):
    rng = np.random.default_rng(0)
    leaves = [mg.Parameter(rng.normal(size=shape).astype(dtype)) for shape in SHAPES]
    optimizer = make(leaves)

    def step(*gradients):
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = gradient * 1.0
        optimizer.step()
        return optimizer._lr * 1.0

    return Training(step, [rng.normal(size=shape).astype(dtype) for shape in SHAPES])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_updates_of_every_optimizer_give_what_their_operations_give(dtype, machine):
    trainings = [update(make, dtype) for make in OPTIMIZERS.values()]
    launch = machine([kernel for training in trainings for kernel in training.replay.kernels])
    for training in trainings:
        training.assert_as_operations(launch, within(4))  # Adam's powers of its rates


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_updates_all_parameters_in_one_launch(name):
    training = update(OPTIMIZERS[name])
    made = training.replay.kernels
    # the counters and rates, and the parameters; one without axes joins the rates of AdamW
    assert len(made) <= 2 + (name == "AdamW")
    assert made[-1].source.count("void part") <= 3  # one text for all, one for single numbers, and what is returned
    # what changes from step to step is read, not part of the text
    assert not any("0.037" in kernel.source for kernel in made)


def autoencoder(optimizer, penalty):
    rng = np.random.default_rng(0)
    leaves = W, b, V, c = [
        mg.Parameter(rng.normal(0, 0.3, shape).astype("f4")) for shape in ((30, 12), (12,), (12, 30), (30,))
    ]
    optimizer = optimizer(leaves)
    generator = mg.random.Generator(3)

    def step(x):
        noisy = x + 0.1 * generator.normal(x.shape)
        h = mg.sigmoid(noisy @ W + b)
        y = mg.sigmoid(h @ V + c)
        loss = penalty(x, h, y, W)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return Training(step, [rng.uniform(0, 1, (50, 30)).astype("f4")])


PENALTIES = {
    "squares": lambda x, h, y, W: mg.square(y - x).sum(axis=1).mean(),
    "cross-entropy": lambda x, h, y, W: -(x * mg.log(y) + (1.0 - x) * mg.log(1.0 - y)).sum(axis=1).mean(),
    "decay": lambda x, h, y, W: mg.square(y - x).mean() + 0.01 * mg.square(W).sum() + 0.01 * mg.abs(h).mean(),
    "contractive": lambda x, h, y, W: (
        mg.square(y - x).mean() + 0.1 * (mg.square(h * (1.0 - h)) * mg.square(W).sum(axis=0)).sum(axis=1).mean()
    ),
    "sparsity": lambda x, h, y, W: mg.square(y - x).mean() + mg.square(h.mean(axis=0) - 0.05).sum(),
    "softmax": lambda x, h, y, W: -(mg.log_softmax(y) * x).mean() + mg.logsumexp(h, axis=1).mean(),
}


def test_training_steps_give_what_operations_give(machine):
    trainings = {name: autoencoder(OPTIMIZERS["momentum"], penalty) for name, penalty in PENALTIES.items()}
    launch = machine([kernel for training in trainings.values() for kernel in training.replay.kernels])
    for training in trainings.values():
        training.assert_as_operations(launch, sums(5.0))


@needs_nvrtc
def test_updates_are_cuda():
    assert (
        len(compile_for_gpu([kernel for make in OPTIMIZERS.values() for kernel in update(make).replay.kernels]))
        > 10_000
    )


@needs_nvrtc
def test_a_training_step_in_float32_computes_in_float32():
    """Besides the few numbers that optimizers keep in float64."""
    made = autoencoder(OPTIMIZERS["Adam"], PENALTIES["cross-entropy"]).replay.kernels
    single = [k for k in made if not any(getattr(p, "dtype", None) == "float64" for p in k.parameters)]
    assert len(single) >= len(made) - 1
    # the angles of normal draws are below 7, but NVIDIA's sin and cos have a branch for angles above 1e5
    assert not doubles(compile_for_gpu([k for k in single if "cosf(" not in k.source], "compute_90"))
