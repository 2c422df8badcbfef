"""7.6: codes that do not move when the input does, but where the data themselves move."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import autoencoders as ae
import minigrad as mg
from autoencoders.lecture.section import Formula, Plot, Section, Table, Text
from autoencoders.lecture.walk import LOOKED_AT, NOISES, Walk, cross_entropy, masked


def jacobian_norm(h: mg.Tensor, W: mg.Tensor) -> mg.Tensor:
    return mg.sum(mg.square(h * (1.0 - h)) @ mg.sum(mg.square(W), axis=0)) / len(h)


def contractive(model: Any, x: mg.Tensor, factor: float) -> dict[str, mg.Tensor]:
    return {"cross entropy": cross_entropy(model, x), "contraction": factor * ae.contractive(model.encode, x)}


def toy(model: Any, x: mg.Tensor, factor: float) -> dict[str, mg.Tensor]:
    return {"error": ae.squared_error(model(x), x), "contraction": factor * ae.contractive(model.encode, x)}


def section(walk: Walk) -> Section:
    """Train contractive models on a circle and on images; compare Jacobians along and across the data."""
    s = walk.settings
    model = walk.compare("contractive", partial(contractive, factor=s.contraction))
    picture, toy_numbers = _circle(walk)
    compared = {name: walk.models[name] for name in ("plain", "weight decay", masked(NOISES[0]), "contractive")}
    walk.say(f"7.6 Jacobians of {len(compared)} encoders")
    x = walk.test[:LOOKED_AT]
    norms = {name: ae.features.jacobian_norms(m.encode, x) for name, m in compared.items()}
    spectra = {name: ae.features.singular_values_along(m.encode, x[:100]) for name, m in compared.items()}
    along, across = _directions(walk, x)
    speeds = {
        name: (
            float(ae.features.directional_norms(m.encode, x, along).mean()),
            float(ae.features.directional_norms(m.encode, x, across).mean()),
        )
        for name, m in compared.items()
    }
    h = model.encode(x[:50])
    closed = jacobian_norm(h, model.encoder_weights[0]).item()
    exact = ae.contractive(model.encode, mg.tensor(x[:50]), "exact").item()
    return Section(
        "7.6",
        "Contractive autoencoders",
        [
            Text(
                "Penalise how much the code moves with the input: the squared norm of the encoder's Jacobian. The "
                "reconstruction pulls the other way, for it needs a code that follows the data. What remains is "
                "sensitivity mostly in the directions in which the data vary."
            ),
            Formula(
                (
                    r"$\Omega = \frac{1}{m}\sum_{i=1}^{m}\|J(x_i)\|_F^2$",
                    r"$\quad = \frac{1}{m}\sum_{i=1}^{m}\sum_{l=1}^{k}\,[\,h_{il}(1-h_{il})\,]^2\ \|W_l\|^2$",
                ),
                jacobian_norm,
            ),
            Text(
                "The second line holds for one sigmoid layer. Of the contractive model of these images it gives "
                f"on 50 test images {closed:.6f}, and the whole Jacobian, row by row, {exact:.6f}."
            ),
            Formula((r"$\mathcal{L} + \lambda\,\Omega$",), contractive),
            Text("Points around a circle show what that means: there is one direction along the data, and one across."),
            Plot(
                "circle", picture,
                "Above, where a reconstruction leads: arrows from x to r(x), shortened by the factor in the title. "
                "Below, how "
                "fast the code moves along the circle and across it.",
            ),
            Text(
                "Along the circle the code of the contractive model moves "
                f"{toy_numbers['contractive']:.1f} times as fast as across it; with the plain model the ratio is "
                f"{toy_numbers['plain']:.1f}."
            ),
            Table(
                ("model", "mean |J|", "along the data", "across", "ratio"),
                [
                    (name, f"{norms[name].mean():.3f}", f"{a:.4f}", f"{b:.4f}", f"{a / b:.2f}")
                    for name, (a, b) in speeds.items()
                ],
                f"On {len(x)} test images. Along: towards the nearest other image of the same class. Across: random "
                "directions.",
            ),
            Plot("norms", ae.figures.jacobian_norms(norms), "The norm of the Jacobian on test images."),
            Plot(
                "spectra", ae.figures.singular_values(spectra),
                "The singular values of the Jacobian: a contractive encoder keeps few directions and damps the others. "
                "A line leaves the picture below a ten-thousandth of the largest: pixels that are 0 in all images "
                "lose their weights to a penalty.",
            ),
        ],
        {
            "closed form": closed,
            "whole Jacobian": exact,
            "circle": toy_numbers,
            "norms": {name: float(n.mean()) for name, n in norms.items()},
            "along": {name: a for name, (a, _) in speeds.items()},
            "across": {name: b for name, (_, b) in speeds.items()},
        },
    )  # fmt: skip


def _circle(walk: Walk) -> tuple[Any, dict[str, float]]:
    """Return the picture of a plain and a contractive model of a circle, and how much faster codes move along it."""
    walk.say("7.6 a circle: plain and contractive")
    curve = ae.datasets.circle(500, noise=0.03, seed=walk.seed)
    points = 3 * curve.points  # a circle wide enough that tanh bends on the way across
    trained, ratios = {}, {}
    for name, factor in (("plain", 0.0), ("contractive", 1.0)):
        model = ae.Autoencoder((2, 50), activation="tanh", tied=True, seed=walk.seed)
        walk.fit(model, points, partial(toy, factor=factor), walk.settings.toy_epochs, lr=5e-3)
        along = ae.features.directional_norms(model.encode, points, curve.tangents).mean()
        across = ae.features.directional_norms(model.encode, points, curve.normals).mean()
        trained[name], ratios[name] = model, float(along / across)
    return ae.figures.contractive_picture(trained, points, curve.tangents, curve.normals), ratios


def _directions(walk: Walk, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors from each image to the nearest training image of its class, and in random directions."""
    steps = np.empty_like(x)
    labels = walk.data.y_test[: len(x)]
    for label in np.unique(labels):
        here, same = labels == label, walk.train[walk.data.y_train == label]
        wide = same.astype(np.float64)
        distances = (wide**2).sum(axis=1) - 2 * x[here] @ wide.T  # squared, but for |x|^2, which is alike for all
        steps[here] = same[np.argmin(distances, axis=1)] - x[here]
    noise = mg.random.Generator(walk.seed, stream=10).normal(x.shape).numpy()
    return (steps / np.linalg.norm(steps, axis=1, keepdims=True), noise / np.linalg.norm(noise, axis=1, keepdims=True))
