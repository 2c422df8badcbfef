"""7.1: an encoder, a decoder, the two losses, and the gradients that the lecture derives by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

import autoencoders as ae
import minigrad as mg
from autoencoders.lecture.section import Formula, Plot, Section, Table, Text
from autoencoders.lecture.walk import Walk, cross_entropy, squared, squared_error

DECODERS = ("sigmoid", "linear", "tanh")


def encode(x: Any, W: Any, b: Any) -> Any:
    return mg.sigmoid(x @ W + b)


def decode_real(h: Any, W: Any, c: Any) -> Any:
    return h @ W + c


def decode_binary(h: Any, W: Any, c: Any) -> Any:
    return mg.sigmoid(h @ W + c)


def gradients_by_hand(
    x: np.ndarray, W: np.ndarray, b: np.ndarray, D: np.ndarray, c: np.ndarray, binary: bool
) -> dict[str, np.ndarray]:
    h = 1 / (1 + np.exp(-(x @ W + b)))
    z = h @ D + c
    dz = (1 / (1 + np.exp(-z)) - x if binary else 2 * (z - x)) / len(x)  # here alone the losses differ
    da = (dz @ D.T) * h * (1 - h)
    return {"W": x.T @ da, "b": da.sum(axis=0), "D": h.T @ dz, "c": dz.sum(axis=0)}


def largest_difference(x: np.ndarray, binary: bool, seed: int) -> float:
    """Return the largest difference between our gradients and those derived by hand, relative to the largest entry."""
    output = "sigmoid" if binary else "linear"
    model = ae.Autoencoder((x.shape[1], 20), output=output, dtype="float64", seed=seed)
    objective = cross_entropy if binary else squared
    objective(model, mg.tensor(x.astype(np.float64))).backward()
    (encoder,), (decoder,) = model.encoder_layers, model.decoder_layers
    ours = {"W": encoder.weight, "b": encoder.bias, "D": decoder.weight, "c": decoder.bias}
    values = {name: p.detach().numpy() for name, p in ours.items()}
    by_hand = gradients_by_hand(x.astype(np.float64), **values, binary=binary)
    return max(
        float(np.abs(p.grad.numpy() - by_hand[name]).max() / np.abs(by_hand[name]).max()) for name, p in ours.items()
    )


def difference_from_formulas(x: np.ndarray, seed: int) -> float:
    """Return how far the models are from the three formulas above, in float64."""
    found = []
    for output, decode in (("linear", decode_real), ("sigmoid", decode_binary)):
        model = ae.Autoencoder((x.shape[1], 20), output=output, dtype="float64", seed=seed)
        (encoder,), (decoder,) = model.encoder_layers, model.decoder_layers
        inputs = mg.tensor(x.astype(np.float64))
        by_formula = decode(encode(inputs, encoder.weight, encoder.bias), decoder.weight, decoder.bias)
        found.append(float(mg.max(mg.abs(by_formula - model(inputs))).item()))
    return max(found)


def section(walk: Walk) -> Section:
    """Compare decoders on binary and on real inputs, and our gradients with those derived by hand."""
    s = walk.settings
    mean, scale = walk.train.mean(axis=0), walk.train.std()
    sets = {
        "binary": tuple((x > 0.5).astype(np.float32) for x in (walk.train, walk.test)),
        "real": tuple(((x - mean) / scale).astype(np.float32) for x in (walk.train, walk.test)),
    }
    errors: dict[str, dict[str, float]] = {}
    shown: dict[str, np.ndarray] = {}
    for kind, (train, test) in sets.items():
        errors[kind] = {}
        for output in DECODERS:
            walk.say(f"7.1 {kind} inputs, {output} decoder: {walk.pixels}-{s.narrow}-{walk.pixels}, {s.epochs} epochs")
            model = ae.Autoencoder((walk.pixels, s.narrow), output=output, seed=walk.seed)
            walk.fit(model, train, squared, s.epochs, lr=3e-3)
            errors[kind][output] = squared_error(model, test)
            if kind == "real":
                shown[output] = model(test[:10]).numpy() * scale + mean
    walk.say("7.1 binary inputs, sigmoid decoder, cross entropy")
    entropy_model = ae.Autoencoder((walk.pixels, s.narrow), output="sigmoid", seed=walk.seed)
    walk.fit(entropy_model, sets["binary"][0], cross_entropy, s.epochs, lr=3e-3)
    errors["binary"]["sigmoid, cross entropy"] = squared_error(entropy_model, sets["binary"][1])
    differences = {
        "cross entropy": largest_difference(sets["binary"][0][:50], True, walk.seed),
        "squared error": largest_difference(sets["real"][0][:50], False, walk.seed),
    }
    difference = difference_from_formulas(walk.train[:50], walk.seed)
    rows = [
        (f"{output} decoder", *(f"{errors[kind][output]:.2f}" for kind in ("binary", "real"))) for output in DECODERS
    ]
    rows.append(("sigmoid decoder, cross entropy", f"{errors['binary']['sigmoid, cross entropy']:.2f}", "–"))
    best = min(DECODERS, key=errors["real"].__getitem__)
    return Section(
        "7.1",
        "Encoder, decoder, loss",
        [
            Text(
                "An autoencoder is an encoder, which turns an input <em>x</em> into a code <em>h</em>, and a decoder, "
                "which tries to restore <em>x</em> from it. If the code is narrower than the input "
                "(<em>undercomplete</em>), it has to find out what matters. If it is wider (<em>overcomplete</em>), it "
                "could simply copy, and something else must keep it from that: sections 7.3 to 7.6."
            ),
            Formula((r"$h = \sigma(x W + b)$",), encode),
            Text(
                "What the decoder ends in depends on the data. Inputs that are 0 or 1 want a sigmoid, whose outputs "
                "are probabilities; inputs of any size want a linear decoder, because a sigmoid cannot leave (0, 1), "
                "and a tanh cannot leave (−1, 1)."
            ),
            Formula((r"$\hat{x} = h W^{*} + c$",), decode_real),
            Formula((r"$\hat{x} = \sigma(h W^{*} + c)$",), decode_binary),
            Text(f"Models of this package are these formulas: on 50 images they differ by {difference:.0e}."),
            Table(
                ("squared error per test image", "binary inputs", "real inputs"),
                rows,
                f"All with {s.narrow} units and {s.epochs} epochs. Binary: pixels above ½ or not. Real: pixels minus "
                "their means, in units of the standard deviation of all.",
            ),
            Text(
                f"On real inputs the {best} decoder is the best, and both that are bounded fail at values beyond. On "
                f"binary "
                "inputs the squared errors are close; there the sigmoid has a meaning, since its outputs are "
                "probabilities."
            ),
            Plot(
                "decoders",
                ae.figures.reconstructions({"input": walk.test[:10], **shown}, walk.data.image_shape),
                "Real inputs: ten test images and what each decoder makes of them, back in units of pixels.",
            ),
            Text("The loss for real inputs is the squared error, summed over pixels and averaged over images:"),
            Formula(
                (r"$\mathcal{L} = \frac{1}{m}\sum_{i=1}^{m}\sum_{j=1}^{n} (\hat{x}_{ij} - x_{ij})^2$",),
                squared,
            ),
            Text(
                "For binary inputs it is the cross entropy, which we compute from the values before the last sigmoid:"
            ),
            Formula(
                (
                    r"$\mathcal{L} = -\frac{1}{m}\sum_{i=1}^{m}\sum_{j=1}^{n} "
                    r"[\,x_{ij}\log\hat{x}_{ij} + (1 - x_{ij})\log(1-\hat{x}_{ij})\,]$",
                ),
                cross_entropy,
            ),
            Text(
                "Both can be differentiated by hand. For both the error at the last layer is a difference, 2(x̂ − "
                "x)/m and "
                "(x̂ − x)/m, and the rest is the same chain rule (in the code D is W*):"
            ),
            Formula(
                (
                    r"$\frac{\partial\mathcal{L}}{\partial W^{*}} = h^{T}\,\frac{\partial\mathcal{L}}{\partial z},"
                    r"\qquad z = h W^{*} + c$",
                    r"$\frac{\partial\mathcal{L}}{\partial W} = x^{T}\,[\,\frac{\partial\mathcal{L}}{\partial z}"
                    r"{W^{*}}^{T}\odot h\odot(1-h)\,]$",
                ),
                gradients_by_hand,
            ),
            Text(
                "minigrad was not told this formula. Its gradients differ from it by at most "
                f"{differences['squared error']:.1e} (squared error) and {differences['cross entropy']:.1e} (cross "
                "entropy) of the largest entry: the rounding of float64."
            ),
        ],
        {"errors": errors, "gradient_differences": differences, "formula_difference": difference, "units": s.narrow},
    )
