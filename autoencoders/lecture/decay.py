"""7.3: what keeps a wide model from copying: weight decay and tied weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import autoencoders as ae
import minigrad as mg
from autoencoders.lecture.section import Formula, Plot, Section, Table, Text
from autoencoders.lecture.walk import LOOKED_AT, Walk, cross_entropy, squared_error
from minigrad import optim


def decayed(model: Any, x: mg.Tensor, factor: float) -> dict[str, mg.Tensor]:
    return {"cross entropy": cross_entropy(model, x), "decay": factor / 2 * ae.l2(model)}


def tie(model: ae.Autoencoder) -> list[mg.Tensor]:
    return [weight.mT for weight in reversed(model.encoder_weights)]  # no array of its own


def linear_decayed(model: Any, x: mg.Tensor, factor: float) -> mg.Tensor:
    return ae.squared_error(model(x), x) + factor * ae.l2(model)


def section(walk: Walk) -> Section:
    """Train wide models on few images with and without decay, and a linear one against its exact optimum."""
    s = walk.settings
    few = walk.train[: s.few]
    rows, measured = [], {}
    for name, factor, tied in (
        ("no decay", 0.0, False),
        *((f"λ = {d:g}", d, False) for d in s.decays),
        ("tied", 0.0, True),
    ):
        walk.say(f"7.3 {name}: {walk.pixels}-{s.wide}-{walk.pixels} on {s.few} images")
        model = ae.Autoencoder((walk.pixels, s.wide), output="sigmoid", tied=tied, seed=walk.seed)
        walk.fit(model, few, partial(decayed, factor=factor), s.few_epochs)
        measured[name] = {
            "train": squared_error(model, few),
            "test": squared_error(model, walk.test),
            "squared weights": float(ae.l2(model).item()),
            "jacobian": float(ae.features.jacobian_norms(model.encode, walk.test[:LOOKED_AT]).mean()),
            "parameters": int(sum(p.size for p in model.parameters())),
        }
        m = measured[name]
        rows.append(
            (name, f"{m['train']:.2f}", f"{m['test']:.2f}", f"{m['squared weights']:.0f}", f"{m['jacobian']:.2f}",
             f"{m['parameters']:,}".replace(",", " "))
        )  # fmt: skip
    least = min(measured, key=lambda name: measured[name]["test"])
    tied_difference = max(
        float(mg.max(mg.abs(a - b)).item()) for a, b in zip(tie(model), model.decoder_weights, strict=True)
    )
    exact = _against_the_optimum(walk)
    walk.compare("weight decay", partial(decayed, factor=s.decay))
    walk.compare("tied weights", cross_entropy, tied=True)
    return Section(
        "7.3",
        "Regularization",
        [
            Text(
                f"A model with {s.wide} units for {walk.pixels} pixels is overcomplete: it could copy its input, and "
                f"on {s.few} training images it can learn them by heart. Weight decay makes that expensive. Its "
                "derivative is λW, so each step also shrinks the weights a little; biases are left alone."
            ),
            Formula((r"$\mathcal{L} + \frac{\lambda}{2}\,(\|W\|_F^2 + \|W^{*}\|_F^2)$",), decayed),
            Text(
                "The other way of the lecture is to tie the weights, W* = Wᵀ. That is half of the parameters, and one "
                "array: its gradient is the sum of what comes from the encoder and from the decoder."
            ),
            Formula((r"$W^{*} = W^{T}$",), tie),
            Table(
                ("model", "train", "test", "|W|²", "|J| on test", "parameters"),
                rows,
                f"Squared error per image after {s.few_epochs} epochs on {s.few} images, and on "
                f"{len(walk.test)} test images. |W|² counts every array once, so a tied "
                "weight once. |J| is the mean norm of the encoder's Jacobian (section 7.6) on "
                f"{len(walk.test[:LOOKED_AT])} of them.",
            ),
            Plot(
                "decay",
                ae.figures.bars(
                    {name: m["test"] / m["train"] for name, m in measured.items()}, "test error / train error"
                ),
                "The error on test images over that on the images of the training: 1 would be no overfitting at all.",
            ),
            Text(
                "Decay brings the two errors closer together, and makes weights and Jacobian smaller; it costs "
                "accuracy on "
                f"both. The smallest test error here is that of: {least}."
            ),
            Text(
                "For a linear autoencoder the optimum with decay is known in closed form. Here λ is the whole factor "
                "of the squared weights, without the ½ from above. The optimum is the principal directions "
                "themselves, each shrunk by √(1 − λ/sᵢ²), and those with sᵢ² ≤ λ left out. L-BFGS reached a loss of "
                f"{exact['reached']:.6f}; the formula says {exact['floor']:.6f}."
            ),
            Formula(
                (r"$\min\ \frac{1}{m}\|X - X W W^{*}\|_F^2 + \lambda\,(\|W\|_F^2 + \|W^{*}\|_F^2)$",), linear_decayed
            ),
        ],
        {"few images": measured, "linear optimum": exact, "tied_difference": tied_difference},
    )


def _against_the_optimum(walk: Walk) -> dict[str, float]:
    """Minimise the loss of a linear autoencoder with decay, and return it beside the exact minimum."""
    s = walk.settings
    walk.say("7.3 linear autoencoder with decay, against its exact optimum")
    exact = walk.train.astype(np.float64)
    centred = exact - exact.mean(axis=0)
    factor = float(ae.pca.explained_variance(walk.components)[s.rank // 2])  # half of the directions are worth it
    model = ae.Autoencoder((walk.pixels, s.rank), activation="linear", dtype="float64", seed=walk.seed)
    ae.fit(
        model, centred, partial(linear_decayed, factor=factor), epochs=1,
        optimizer=optim.LBFGS(model.parameters(), max_iter=200), seed=walk.seed,
    )  # fmt: skip
    reached = linear_decayed(model, mg.tensor(centred), factor).item()
    return {"factor": factor, "reached": reached, "floor": ae.pca.l2_floor(walk.components, s.rank, factor)}
