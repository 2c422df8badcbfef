"""What is compared: training steps as data, with the arrays that every implementation starts from.

A workload says nothing about how it is computed; each `*_steps.py` of this folder does, for one library.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

CHAIN = 100  # operations
RHO = 0.05  # the mean activation that the sparse penalty asks for
CODE = 1.0  # the strength of the penalties on the code
WEIGHT_DECAY = 1e-4  # of full-batch L-BFGS, as in CS294A
BETAS, EPS = (0.9, 0.999), 1e-8  # Adam
MAX_ITER, HISTORY = 20, 10  # L-BFGS
CHANNELS = (1, 16, 32)


class LeftOut(Exception):
    """An implementation does not have a workload; says why."""


@dataclass(frozen=True)
class Workload:
    """One row of the comparison.

    `kind` says what one call does: "chain" (forward and backward of a chain of small operations), "dense" and
    "convolutional" (a training step: forward, backward, update), "evaluation" (value and gradient), "lbfgs" (a whole
    step of up to MAX_ITER iterations from the initial weights).

    A dense model has `sizes` and back, sigmoid units everywhere, and minimises (1/m) sum (x_hat - x)^2 plus the
    `penalty`: "sparse" is CODE * sum_l KL(RHO || rho_hat_l), "contractive" CODE * (1/m) sum_i |J(x_i)|^2 in closed
    form, "hutchinson" its estimate CODE * (1/m) sum_i |J(x_i)^T v_i|^2 with given signs v. Evaluation and lbfgs have
    the sparse penalty and WEIGHT_DECAY / 2 times the squares of the weights. `masked` multiplies the input, not the
    target, by a given mask.
    """

    name: str
    kind: str
    sizes: tuple[int, ...] = ()
    batch: int = 0
    optimizer: str = "SGD"
    lr: float = 0.0
    penalty: str = ""
    masked: bool = False

    @property
    def operations(self) -> int:
        """Return by how many the time of one call is divided."""
        return CHAIN if self.kind == "chain" else 1

    def quick(self) -> "Workload":
        """Return the same with an eighth of the widths and of the batch: for trying out, not for figures."""
        return replace(self, sizes=tuple(max(n // 8, 4) for n in self.sizes), batch=max(self.batch // 8, 4))


def dense(name: str, sizes: Sequence[int], batch: int, lr: float = 0.02, **more) -> Workload:
    return Workload(name, "dense", tuple(sizes), batch, lr=lr, **more)


LECTURE = (784, 500)
GROWTH = (128, 256, 512, 1024, 2048, 4096)
GROWTH_NAME = "784-{}-784, batch 128, growth"

WORKLOADS = {
    w.name: w
    for w in [
        Workload("chain of 100 operations, 10 elements, per operation", "chain", batch=10),
        dense("784-64-784, batch 32", (784, 64), 32),
        dense("784-500-784, batch 128", LECTURE, 128),
        dense("784-500-784, batch 128, Adam", LECTURE, 128, optimizer="Adam", lr=1e-3),
        dense("784-1000-784, batch 256", (784, 1000), 256),
        dense("784-1000-500-250-30 and back, batch 128", (784, 1000, 500, 250, 30), 128),
        dense("denoising 784-500-784, batch 128", LECTURE, 128, masked=True),
        dense("sparse 784-500-784, batch 128", LECTURE, 128, penalty="sparse"),
        dense("contractive, closed form, 784-500-784, batch 128", LECTURE, 128, penalty="contractive"),
        dense("contractive, Hutchinson, 784-500-784, batch 128", LECTURE, 128, penalty="hutchinson"),
        Workload("convolutional 1-16-32 and back, batch 128", "convolutional", batch=128, lr=5e-4),
        Workload(
            "L-BFGS 64-25-64, 10,000 patches, value and gradient", "evaluation", (64, 25), 10_000, penalty="sparse"
        ),
        Workload("L-BFGS 64-25-64, 10,000 patches, 20 iterations", "lbfgs", (64, 25), 10_000, penalty="sparse"),
        # wide layers overshoot with a rate that moves narrow ones enough for the check
        *(dense(GROWTH_NAME.format(w), (784, w), 128, lr=0.02 if w <= 1024 else 0.005) for w in GROWTH),
    ]
}


# steps that are small for a GPU, and steps that are not; those of the CPU can be asked for too
ON_GPU = {
    w.name: w
    for w in [
        *(
            WORKLOADS[name]
            for name in ("784-64-784, batch 32", "784-500-784, batch 128", "784-500-784, batch 128, Adam")
        ),
        WORKLOADS["784-1000-784, batch 256"],
        *(dense(f"784-1000-784, batch {batch}", (784, 1000), batch) for batch in (4096, 16384)),
        *(
            dense(f"784-1000-500-250-30 and back, batch {batch}", (784, 1000, 500, 250, 30), batch)
            for batch in (256, 4096)
        ),
    ]
}


def workloads(device: str) -> dict[str, Workload]:
    """Return what can be measured there, by name."""
    return WORKLOADS if device == "cpu" else {**ON_GPU, **{n: w for n, w in WORKLOADS.items() if w.kind == "dense"}}


class Arrays(NamedTuple):
    """What a workload starts from, in one dtype."""

    x: np.ndarray
    weights: list[np.ndarray]  # (inputs, outputs) for dense layers; kernels as PyTorch has them
    biases: list[np.ndarray]
    mask: np.ndarray | None  # of the shape of x: one of four values is 0
    signs: np.ndarray | None  # of the shape of the code: the directions of Hutchinson's estimate


def arrays(workload: Workload, dtype: str = "float32") -> Arrays:
    """Return the data and initial weights: those of float64 are the float32 ones, converted."""
    rng = np.random.default_rng(0)
    if workload.kind == "chain":
        x = np.linspace(0.5, 1.0, workload.batch)
        shapes = []
    elif workload.kind == "convolutional":
        x = rng.random((workload.batch, 1, 28, 28))
        kernels = [(b, a, 3, 3) for a, b in pairwise(CHANNELS)]
        shapes = [*kernels, *reversed(kernels)]  # a transposed convolution has the kernel of the convolution
    else:
        n = workload.sizes[0]
        waves = rng.normal(size=(n, n)) / np.arange(1, n + 1)[:, None]  # a few directions hold most of the variance
        x = 1 / (1 + np.exp(-rng.normal(size=(workload.batch, n)) @ waves))
        shapes = list(pairwise([*workload.sizes, *workload.sizes[-2::-1]]))
    weights = [rng.normal(0, 1 / np.sqrt(np.prod(s) / max(s[:2])), s) for s in shapes]
    outputs = [s[1] for s in shapes]
    if workload.kind == "convolutional":
        outputs = [*CHANNELS[1:], *CHANNELS[-2::-1]]
    mask = rng.random(x.shape) >= 0.25 if workload.masked else None
    signs = rng.choice([-1.0, 1.0], (workload.batch, workload.sizes[-1])) if workload.penalty == "hutchinson" else None

    def convert(a):
        return None if a is None else a.astype("float32").astype(dtype)

    return Arrays(
        convert(x), [convert(w) for w in weights], [np.zeros(n, dtype) for n in outputs], convert(mask), convert(signs)
    )
