"""7.7: all variants side by side."""

from __future__ import annotations

import numpy as np

from autoencoders import features, figures
from autoencoders.lecture.section import Plot, Section, Table, Text
from autoencoders.lecture.walk import CORRUPTION, DEAD, LOOKED_AT, Walk


def section(walk: Walk) -> Section:
    """Measure every model that the sections before trained."""
    s = walk.settings
    rows, numbers = [], {}
    for name, model in walk.models.items():
        walk.say(f"7.7 {name}")
        h = features.codes(model, walk.test)
        errors = walk.errors(model)
        n = numbers[name] = {
            **{f"error {where}": e for where, e in errors.items()},
            "accuracy": walk.accuracy(name),
            "jacobian": float(features.jacobian_norms(model.encode, walk.test[:LOOKED_AT]).mean()),
            "mean activation": float(h.mean()),
            "saturated": float(np.mean(features.saturation(h))),
            "dead units": int(features.dead_units(h, threshold=DEAD).sum()),
        }
        rows.append(
            (name, f"{n['error test']:.2f}", f"{n['error from corrupted']:.2f}", f"{n['accuracy']:.2%}",
             f"{n['jacobian']:.2f}", f"{n['mean activation']:.3f}", f"{n['saturated']:.0%}", str(n["dead units"]))
        )  # fmt: skip
    return Section(
        "7.7",
        "All variants",
        [
            Text(
                f"All models have {walk.settings.hidden} sigmoid units, a sigmoid decoder and the cross entropy, and "
                f"were trained for {walk.settings.epochs} epochs. They differ in one line each."
            ),
            Table(
                ("model", "error", "from corrupted", "accuracy", "|J|", "mean h", "saturated", "dead"),
                rows,
                f"On test images. Error: squared, per image, from clean images and from those with {CORRUPTION:.0%} of "
                "the pixels lost. Accuracy: softmax regression on the codes. |J|: mean norm of the encoder's Jacobian "
                f"on {len(walk.test[:LOOKED_AT])} of them. "
                f"Saturated: activations within 0.05 of 0 or 1. Dead: units never above {DEAD}. The factors of the "
                "penalties "
                f"are {s.decay:g} (decay, λ), {s.sparsity:g} (sparsity, β) and {s.contraction:g} (contraction, λ).",
            ),
            Plot(
                "learning",
                figures.curves(walk.curves, "cross entropy per image (nats)"),
                "The cross entropy of each model while it was trained, for the denoising ones on corrupted inputs.",
            ),
            Plot(
                "errors",
                figures.bars(
                    {name: n["error from corrupted"] for name, n in numbers.items()},
                    "error from corrupted images",
                ),
                "Squared errors from corrupted test images: the denoising models were trained for that.",
            ),
        ],
        {"models": numbers, "curves": walk.curves},
    )
