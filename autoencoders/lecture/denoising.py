"""7.4: restore the clean input from a corrupted one."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import autoencoders as ae
import minigrad as mg
from autoencoders.lecture.section import Formula, Plot, Section, Table, Text
from autoencoders.lecture.walk import CORRUPTION, NOISES, Walk, cross_entropy, masked

PATCH = 12  # pixels


def masking(x: mg.Tensor, q: float) -> mg.Tensor:
    return ae.masking_noise(x, q)


def denoising(model: Any, x: mg.Tensor, q: float) -> mg.Tensor:
    h = model.encode(masking(x, q))
    return ae.binary_cross_entropy_with_logits(model.decode_logits(h), x)  # not the noisy x


def gaussian_denoising(model: Any, x: mg.Tensor, sigma: float) -> mg.Tensor:
    return ae.squared_error(model(ae.gaussian_noise(x, sigma)), x)


def preferred_input(W: mg.Tensor) -> mg.Tensor:
    return W / mg.norm(W, axis=0)


def blobs(model: Any, x: mg.Tensor, factor: float) -> dict[str, mg.Tensor]:
    return {"error": ae.squared_error(model(x), x), "decay": factor * ae.l2(model)}


def section(walk: Walk) -> Section:
    """Train a plain model and two denoising ones; compare reconstructions, filters and features; then patches."""
    walk.compare("plain", cross_entropy)
    for q in NOISES:
        walk.compare(masked(q), partial(denoising, q=q))
    trained = {name: walk.models[name] for name in ("plain", *(masked(q) for q in NOISES))}
    accuracy = {}
    for name in ("pixels", *trained):
        walk.say(f"7.4 softmax regression: {name}")
        accuracy[name] = walk.accuracy(name)
    errors = {name: walk.errors(model) for name, model in trained.items()}
    patches, patch_numbers = _patches(walk)
    test, corrupted = walk.test[:10], walk.corrupted[:10]
    rows = {"input": test, "corrupted": corrupted}
    rows |= {f"{name}": model(corrupted).numpy() for name, model in trained.items()}
    return Section(
        "7.4",
        "Denoising autoencoders",
        [
            Text(
                "Corrupt the input, drawn anew for each batch, and ask for the clean one. Copying is no longer a "
                "solution: to fill in what is missing the model has to know which pixels go together."
            ),
            Formula((r"$P(\tilde{x}_{ij} = 0) = q,\qquad P(\tilde{x}_{ij} = x_{ij}) = 1 - q$",), masking),
            Formula((r"$h = \sigma(\tilde{x} W + b),\qquad \min\ \mathcal{L}(\hat{x}, x)$",), denoising),
            Plot(
                "denoised",
                ae.figures.reconstructions(rows, walk.data.image_shape),
                f"Test images, {CORRUPTION:.0%} of whose pixels were set to 0, and what each model makes of them.",
            ),
            Table(
                ("model", "from clean input", "from corrupted input", "accuracy on codes"),
                [("pixels", "", "", f"{accuracy['pixels']:.2%}")]
                + [
                    (name, f"{e['test']:.2f}", f"{e['from corrupted']:.2f}", f"{accuracy[name]:.2%}")
                    for name, e in errors.items()
                ],
                "Squared error per test image, and the accuracy on test images of a softmax regression that is "
                "trained on the codes of the clean training images."
                + "".join(
                    f" {name.capitalize()} does worse from clean input: it never saw all pixels at once."
                    for name, e in errors.items()
                    if e["test"] > e["from corrupted"]
                ),
            ),
            Text(
                "A unit answers most strongly, among inputs of length 1, to its own weights: x = W<sub>l</sub>/|W"
                "<sub>l</sub>|. So the weights can be looked at as pictures."
            ),
            Formula((r"$\mathrm{argmax}_{\|x\|\leq 1}\ W_l\cdot x = W_l\,/\,\|W_l\|$",), preferred_input),
            Plot(
                "filters",
                ae.figures.filters(
                    {name: preferred_input(m.encoder_weights[0].detach()) for name, m in trained.items()},
                    walk.data.image_shape,
                ),
                "The inputs of norm 1 that excite the first 64 units most. With more noise a unit can rely less on "
                "single pixels."
                + (
                    " In 8 × 8 pixels there is little room to see it; run with --data mnist."
                    if walk.name == "digits"
                    else ""
                ),
            ),
            *patches,
        ],
        {"errors": errors, "accuracy": accuracy, "patches": patch_numbers},
    )


def _patches(walk: Walk) -> tuple[list[Text | Formula | Plot], dict[str, float]]:
    """Train on patches of photographs: with gaussian noise, with weight decay, and beside them PCA."""
    s = walk.settings
    patches = ae.datasets.natural_patches(s.patches, size=PATCH, seed=walk.seed, normalize=None)
    patches -= patches.mean(axis=1, keepdims=True)
    white = ae.datasets.zca_whitening(patches, epsilon=float(patches.var()))(patches).astype(np.float32)
    white /= white.std()
    weights: dict[str, np.ndarray] = {}
    numbers: dict[str, float] = {}
    for name, activation, objective in (
        ("gaussian noise", "relu", partial(gaussian_denoising, sigma=2.0)),
        ("weight decay", "sigmoid", partial(blobs, factor=0.5)),
    ):
        walk.say(f"7.4 {s.patches} patches of photographs, {name}")
        model = ae.Autoencoder((PATCH**2, 100), activation, tied=True, seed=walk.seed)
        if activation == "relu":  # off for most inputs from the start
            model.encoder_layers[0].bias.assign(mg.full((100,), -0.5))
        history = walk.fit(model, white, objective, s.patch_epochs)
        weights[name] = model.encoder_weights[0].detach().numpy()
        numbers[name] = history.loss[-1]
    weights["PCA"] = ae.pca.principal_directions(white, 64)
    blocks: list[Text | Formula | Plot] = [
        Text(
            f"On {PATCH} × {PATCH} patches of the two photographs that come with scikit-learn, partly whitened, "
            f"strong gaussian noise (twice the standard "
            "deviation of the pixels, ReLU units) leads to detectors of edges, weight decay (sigmoid units) to smears, "
            "and PCA to waves that fill the patch, each finer than the one before, until they look like noise."
        ),
        Formula((r"$\tilde{x} = x + \sigma\,\varepsilon,\ \ \varepsilon\sim\mathcal{N}(0, I)$",), gaussian_denoising),
        Plot(
            "patches", ae.figures.filters(weights, (PATCH, PATCH)),
            "Filters on patches of photographs, those with the largest norms; the directions of PCA in their order.",
        ),
    ]  # fmt: skip
    return blocks, numbers
