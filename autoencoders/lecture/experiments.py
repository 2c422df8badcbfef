"""The experiments of the lecture (CS7015, lecture 7): PCA, a plain and a denoising autoencoder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import minigrad as mg
from autoencoders import corruption, datasets, figures, losses, models, pca, training
from minigrad import optim


@dataclass(frozen=True)
class Settings:
    """Sizes and lengths of the experiments on one data set."""

    hidden: int
    rank: int
    noise: float
    batch_size: int
    plain_epochs: int
    denoising_epochs: int
    linear_epochs: tuple[int, ...]
    linear_rates: tuple[float, ...]


SETTINGS = {
    "digits": Settings(100, 10, 0.25, 64, 100, 100, (150, 100), (3e-3, 3e-4)),
    "mnist": Settings(500, 32, 0.25, 128, 8, 8, (4, 2), (1e-3, 1e-4)),
}


@dataclass
class Results:
    """What the report shows: numbers by name, and figures by name."""

    numbers: dict[str, Any]
    figures: dict[str, Any]


def denoising(noise: float) -> Callable[[Any, mg.Tensor], mg.Tensor]:
    """Return the objective of a denoising autoencoder, of a plain one for noise 0: cross entropy on logits."""

    def objective(model: Any, x: mg.Tensor) -> mg.Tensor:
        corrupted = corruption.masking_noise(x, noise) if noise else x
        return losses.binary_cross_entropy_with_logits(model.decode_logits(model.encode(corrupted)), x)

    return objective


def _linear_objective(model: Any, x: mg.Tensor) -> mg.Tensor:
    return losses.squared_error(model(x), x)


def _error(model: Callable[[np.ndarray], Any], x: np.ndarray, inputs: np.ndarray) -> float:
    """Squared error per image of model(inputs) against x, measured in pieces that fit in memory."""
    total = 0.0
    with mg.no_grad():
        for start in range(0, len(x), 5000):
            x_hat = model(inputs[start : start + 5000])
            x_hat = x_hat.numpy() if isinstance(x_hat, mg.Tensor) else x_hat
            total += float(np.sum((x_hat.astype(np.float64) - x[start : start + 5000]) ** 2))
    return total / len(x)


def run(data: str, seed: int = 0, settings: Settings | None = None, say: Callable[[str], Any] = print) -> Results:
    """Run all experiments on "digits" or "mnist"; `say` is told what begins.

    Everything is a function of the data, the settings and the seed.
    """
    chosen = SETTINGS[data] if settings is None else settings
    set_ = datasets.digits() if data == "digits" else datasets.mnist()
    begin = time.perf_counter()
    train, test = set_.x_train, set_.x_test
    pixels, rank = train.shape[1], chosen.rank

    say(f"PCA: {len(train)} training images of {pixels} pixels, {rank} directions")
    exact = pca.linear_autoencoder(train, rank)
    floor = pca.reconstruction_floor(train, rank)

    say(f"linear autoencoder {pixels}-{rank}-{pixels}, by gradient descent")
    linear = models.Autoencoder((pixels, rank), activation="linear", seed=seed)
    linear_loss: list[float] = []
    mean = train.mean(axis=0)
    for number, (epochs, rate) in enumerate(zip(chosen.linear_epochs, chosen.linear_rates, strict=True)):
        history = training.fit(
            linear, train - mean, _linear_objective, epochs=epochs, batch_size=chosen.batch_size,
            optimizer=optim.Adam(linear.parameters(), lr=rate), seed=seed + number,
        )  # fmt: skip
        linear_loss += history.loss
    decoder = linear.decoder_weights[0].detach().numpy().T
    angles = pca.principal_angles(decoder, exact.encoder_weight)

    trained: dict[str, models.Autoencoder] = {}
    histories: dict[str, list[float]] = {}
    for name, noise, epochs in (
        ("plain", 0.0, chosen.plain_epochs),
        ("denoising", chosen.noise, chosen.denoising_epochs),
    ):
        say(f"{name} autoencoder {pixels}-{chosen.hidden}-{pixels}, {epochs} epochs")
        model = models.Autoencoder((pixels, chosen.hidden), output="sigmoid", seed=seed)
        history = training.fit(
            model, train, denoising(noise), epochs=epochs, batch_size=chosen.batch_size, seed=seed,
        )  # fmt: skip
        trained[name], histories[name] = model, history.loss

    generator = mg.random.Generator(seed, stream=9)
    corrupted = corruption.masking_noise(mg.tensor(test), chosen.noise, generator=generator).numpy()
    p = np.clip(train.astype(np.float64), 1e-300, 1.0)
    q = np.clip(1.0 - train.astype(np.float64), 1e-300, 1.0)
    numbers: dict[str, Any] = {
        "data": data,
        "seed": seed,
        "settings": asdict(chosen),
        "train_images": len(train),
        "test_images": len(test),
        "pca": {"floor_train": floor},
        "linear": {"largest_angle_degrees": float(np.degrees(angles.max()))},
        "cross_entropy_floor_train": float(-np.sum(p * np.log(p) + q * np.log(q)) / len(train)),
    }
    measured: dict[str, Callable[[np.ndarray], Any]] = {
        "pca": exact,
        "linear": lambda x: linear(x - mean).numpy() + mean,
        **trained,
    }
    for name, reconstruct in measured.items():
        numbers.setdefault(name, {}).update(
            error_train=_error(reconstruct, train, train),
            error_test=_error(reconstruct, test, test),
            error_test_from_corrupted=_error(reconstruct, test, corrupted),
        )
    numbers["linear"]["above_floor_percent"] = 100 * (numbers["linear"]["error_train"] / floor - 1)
    for name, curve in histories.items():
        numbers[name]["cross_entropy_last_epoch"] = curve[-1]
    numbers["curves"] = {"linear": linear_loss, **histories}
    numbers["seconds"] = time.perf_counter() - begin
    return Results(numbers, _figures(set_, trained, linear, mean, corrupted, numbers))


def _figures(set_: Any, trained: dict, linear: Any, mean: np.ndarray, corrupted: np.ndarray, numbers: dict) -> dict:
    shown = slice(0, 10)
    test, shape = set_.x_test, set_.image_shape
    with mg.no_grad():
        rows = {
            "input": test[shown],
            f"linear {numbers['settings']['rank']}": linear(test[shown] - mean).numpy() + mean,
            "plain": trained["plain"](test[shown]).numpy(),
            "corrupted": corrupted[shown],
            "plain of corrupted": trained["plain"](corrupted[shown]).numpy(),
            "denoising of corrupted": trained["denoising"](corrupted[shown]).numpy(),
        }
    return {
        "reconstructions": figures.reconstructions(rows, shape),
        "filters": figures.filters(
            {name: model.encoder_weights[0].detach().numpy() for name, model in trained.items()}, shape
        ),
        "linear": figures.curves(
            {"linear autoencoder": numbers["curves"]["linear"]}, "squared error per image",
            ("PCA: exact floor", numbers["pca"]["floor_train"]),
        ),
        "learning": figures.curves(
            {name: numbers["curves"][name] for name in trained}, "cross entropy per image (nats)",
            ("entropy of the pixels", numbers["cross_entropy_floor_train"]),
        ),
        "errors": figures.bars(
            {
                "PCA": numbers["pca"]["error_test"],
                "linear": numbers["linear"]["error_test"],
                "plain": numbers["plain"]["error_test"],
                "denoising": numbers["denoising"]["error_test"],
            },
            "squared error per test image",
        ),
    }  # fmt: skip
