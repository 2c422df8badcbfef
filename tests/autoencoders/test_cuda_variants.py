"""Steps of every variant of autoencoder in generated CUDA kernels, run on the host: see tests/host_kernels.py."""

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from tests.autoencoders.test_compiled_variants import VARIANTS, X, Y
from tests.cuda_cases import Training, sums

pytestmark = pytest.mark.cpu_only

LAUNCHED = ("elementwise", "reduction", "rows")


def training(model, objective, *batch):
    # not by Adam: where a gradient is 0 but for rounding, as before a batch normalization, it divides noise by noise
    optimizer = mg.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def step(*batch):
        terms = objective(model, *batch)
        loss = sum(terms.values()) if isinstance(terms, dict) else terms
        optimizer.zero_grad()
        loss.backward()
        mg.optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return Training(step, batch)


def test_every_variant_gives_what_its_operations_give(machine):
    mg.random.seed(0)
    mg.random.uniform(device="cpu")  # brings the generator back from where an earlier test may have used it
    trainings = {}
    for name, (make, objective) in VARIANTS.items():
        model = make()
        trainings[name] = training(
            model, objective, X[:32].reshape(-1, *(getattr(model, "input_shape", None) or (16,)))
        )
    classifier = ae.SoftmaxRegression(8, range(3), ae.StackedAutoencoder((16, 12, 8), seed=2), dropout=0.2)
    trainings["fine-tuning"] = training(classifier, lambda m, x, y: mg.cross_entropy(m(x), y), X[:32], np.array(Y[:32]))
    launch = machine([kernel for t in trainings.values() for kernel in t.replay.kernels])
    for name, t in trainings.items():
        t.assert_as_operations(launch, sums(20.0))
        # what is left to a library are products, and what sorts or gathers
        names = {e.primitive.name for group, _ in t.replay.steps if not group.kind for e in group.equations}
        assert names.isdisjoint({"exp", "add", "sum", "mean", "random_uniform", "random_normal"}), (name, names)
        assert {group.kind for group, _ in t.replay.steps} <= {*LAUNCHED, ""}
