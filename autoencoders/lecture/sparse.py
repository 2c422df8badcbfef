"""7.5: codes in which most units are off most of the time."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import autoencoders as ae
import minigrad as mg
from autoencoders.lecture.section import Formula, Plot, Section, Table, Text
from autoencoders.lecture.walk import DEAD, Walk, cross_entropy

RHO = 0.05


def mean_activation(h: mg.Tensor) -> mg.Tensor:
    return mg.mean(h, axis=0)


def penalty(h: mg.Tensor, rho: float) -> mg.Tensor:
    rho_hat = mean_activation(h)
    return mg.sum(rho * mg.log(rho / rho_hat) + (1 - rho) * mg.log((1 - rho) / (1 - rho_hat)))


def slope_by_hand(rho: float, rho_hat: np.ndarray) -> np.ndarray:
    return -rho / rho_hat + (1 - rho) / (1 - rho_hat)


def sparse(model: Any, x: mg.Tensor, factor: float) -> dict[str, mg.Tensor]:
    return {
        "cross entropy": cross_entropy(model, x),
        "sparsity": factor * ae.kl_sparsity(model.encode(x), RHO),
    }


def section(walk: Walk) -> Section:
    """Train a sparse model; compare mean activations before and after, and with those of the plain model."""
    s = walk.settings
    untrained = ae.Autoencoder((walk.pixels, s.hidden), output="sigmoid", seed=walk.seed)
    model = walk.compare("sparse", partial(sparse, factor=s.sparsity))
    codes = {
        "before training": ae.features.codes(untrained, walk.train),
        "plain": ae.features.codes(walk.models["plain"], walk.train),
        "sparse": ae.features.codes(model, walk.train),
    }
    means = {name: ae.features.mean_activations(h) for name, h in codes.items()}
    numbers: dict[str, Any] = {
        "rho": RHO,
        "mean activation": {name: float(r.mean()) for name, r in means.items()},
        "penalty": {name: float(ae.kl_sparsity(mg.tensor(h), RHO).item()) for name, h in codes.items()},
        "active": {name: float((h > 0.5).mean()) for name, h in codes.items()},
        **_checks(codes["sparse"]),
    }
    return Section(
        "7.5",
        "Sparse autoencoders",
        [
            Text(
                "A hidden unit is on when its output is near 1. Let ρ̂<sub>l</sub> be its mean over the data. A sparse "
                f"autoencoder wants ρ̂<sub>l</sub> near a small ρ, here {RHO}:"
            ),
            Formula((r"$\hat{\rho}_l = \frac{1}{m}\sum_{i=1}^{m} h_{il}$",), mean_activation),
            Formula(
                (
                    r"$\Omega = \sum_{l=1}^{k}\ \rho\,\log\frac{\rho}{\hat{\rho}_l} + "
                    r"(1-\rho)\,\log\frac{1-\rho}{1-\hat{\rho}_l}$",
                ),
                penalty,
            ),
            Plot("kl", ae.figures.kl_curve((0.05, 0.2, 0.5)), "The penalty of one unit: it is 0 at ρ̂ = ρ."),
            Text(
                "The lecture derives its slope. ρ̂ is a mean over the batch, so every sample has its part in it: "
                "∂Ω/∂h<sub>il</sub> is this divided by m. minigrad's gradient of the penalty agrees to within "
                f"{numbers['gradient_difference']:.1e} of the largest entry."
            ),
            Formula(
                (
                    r"$\frac{\partial\Omega}{\partial\hat{\rho}_l} = "
                    r"-\frac{\rho}{\hat{\rho}_l} + \frac{1-\rho}{1-\hat{\rho}_l}$",
                ),
                slope_by_hand,
            ),
            Formula((r"$\mathcal{L} + \beta\,\Omega$",), sparse),
            Table(
                ("", "mean of ρ̂", "Ω", "units above ½ per image"),
                [
                    (name, f"{numbers['mean activation'][name]:.3f}", f"{numbers['penalty'][name]:.2f}",
                     f"{numbers['active'][name] * s.hidden:.1f} of {s.hidden}")
                    for name in codes
                ],
                f"On the training images. β = {s.sparsity:g}: the reconstruction pulls against the penalty, and the "
                f"mean "
                f"activation ends at {numbers['mean activation']['sparse']:.3f}, above ρ = {RHO}.",
            ),
            Plot(
                "means",
                ae.figures.mean_activations(codes, RHO, DEAD),
                f"ρ̂ of every unit, sorted. Dead: units never above {DEAD}.",
            ),
            Plot("activations", ae.figures.activation_histograms(codes), "How the activations are distributed."),
            Plot(
                "sparse_filters",
                ae.figures.filters(
                    {
                        "plain": ae.features.max_activation_inputs(walk.models["plain"].encoder_weights[0]),
                        "sparse": ae.features.max_activation_inputs(model.encoder_weights[0]),
                    },
                    walk.data.image_shape,
                ),
                "What the units look for: the inputs of norm 1 that excite 64 of them most.",
            ),
        ],
        numbers,
    )  # fmt: skip


def _checks(codes: np.ndarray) -> dict[str, float]:
    """Compare the gradient of the penalty, in float64, with the slope that is derived by hand."""
    h = mg.tensor(codes[:200].astype(np.float64))
    gradient = mg.grad(lambda h: penalty(h, RHO))(h)
    by_hand = slope_by_hand(RHO, h.numpy().mean(axis=0)) / len(h)
    return {"gradient_difference": float(np.abs(gradient.numpy() - by_hand).max() / np.abs(by_hand).max())}
