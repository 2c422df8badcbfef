"""What the sections of the lecture share: the data, the settings, how a model is trained and how it is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import autoencoders as ae
import minigrad as mg
from autoencoders.history import History
from minigrad import optim

Reconstruct = Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class Settings:
    """Sizes and lengths of the experiments on one data set."""

    hidden: int  # units of the models that are compared
    epochs: int
    batch_size: int
    narrow: int  # units of the models with different decoders
    rank: int  # of the linear autoencoder
    ranks: tuple[int, ...]  # at which errors are compared with the floor of PCA
    linear_epochs: tuple[int, ...]
    linear_rates: tuple[float, ...]
    few: int  # images that are too few for a wide model
    wide: int  # its units
    few_epochs: int
    decays: tuple[float, ...]  # factors of the squared weights, for few images
    patches: int
    patch_epochs: int
    toy_epochs: int
    decay: float  # factors of the penalties of the models that are compared
    sparsity: float
    contraction: float


SETTINGS = {
    "digits": Settings(
        hidden=100, epochs=100, batch_size=64, narrow=16, rank=10, ranks=(2, 5, 10, 20, 40),
        linear_epochs=(150, 100), linear_rates=(3e-3, 3e-4), few=100, wide=144, few_epochs=600,
        decays=(1e-4, 1e-3, 1e-2), patches=20_000, patch_epochs=40, toy_epochs=300,
        decay=2e-3, sparsity=0.5, contraction=0.3,
    ),
    "mnist": Settings(
        hidden=500, epochs=8, batch_size=128, narrow=64, rank=32, ranks=(2, 10, 32, 64, 100),
        linear_epochs=(4, 2), linear_rates=(1e-3, 1e-4), few=500, wide=1000, few_epochs=100,
        decays=(1e-4, 1e-3, 1e-2), patches=20_000, patch_epochs=40, toy_epochs=300,
        decay=2e-3, sparsity=0.5, contraction=0.3,
    ),
}  # fmt: skip
DURATIONS = {
    "digits": "about a minute on two idle cores",
    "mnist": "about 4 minutes on two idle cores with llvmlite installed, longer without",
}
NOISES = (0.25, 0.5)  # of the two denoising models
CORRUPTION = 0.25  # of the test images that everything is tried on
DEAD = 0.01  # a unit that never is above it is dead
LOOKED_AT = 500  # test images, the first ones, at which the Jacobian of an encoder is measured


def masked(q: float) -> str:
    """Return the name of the denoising model that was trained with masking noise q."""
    return f"masking {q:.0%}"


def squared(model: Any, x: mg.Tensor) -> mg.Tensor:
    return ae.squared_error(model(x), x)


def cross_entropy(model: Any, x: mg.Tensor) -> mg.Tensor:
    return ae.binary_cross_entropy_with_logits(model.decode_logits(model.encode(x)), x)


def squared_error(reconstruct: Reconstruct, x: np.ndarray, inputs: np.ndarray | None = None) -> float:
    """Return the squared error per sample of reconstruct(inputs) against x; `inputs` are x unless they are given."""
    return float(ae.features.squared_errors(reconstruct, x, inputs).mean())


class Walk:
    """The walk through the lecture on one data set.

    Parameters
    ----------
    name : {"digits", "mnist"}
    seed : int
        Decides everything that is random.
    settings : Settings
    say : callable
        Is told what begins.

    Attributes
    ----------
    models : dict of str to Autoencoder
        Those that the last section compares, by their names in the report.
    """

    def __init__(self, name: str, seed: int, settings: Settings, say: Callable[[str], Any]) -> None:
        self.name = name
        self.seed = seed
        self.settings = settings
        self.say = say
        self.data = ae.datasets.digits() if name == "digits" else ae.datasets.mnist()
        self.train, self.test = self.data.x_train, self.data.x_test
        self.pixels = self.train.shape[1]
        self.models: dict[str, ae.Autoencoder] = {}
        self.curves: dict[str, list[float]] = {}
        self._accuracies: dict[str, float] = {}
        generator = mg.random.Generator(seed, stream=9)
        self.corrupted = ae.masking_noise(mg.tensor(self.test), CORRUPTION, generator=generator).numpy()

    @cached_property
    def components(self) -> ae.pca.PrincipalComponents:
        """The principal components of the training images, for every section that asks."""
        return ae.pca.principal_components(self.train)

    def compare(self, name: str, objective: Callable[[Any, mg.Tensor], Any], tied: bool = False) -> ae.Autoencoder:
        """Train one of the models that the last section compares."""
        self.say(f"{name}: {self.pixels}-{self.settings.hidden}-{self.pixels}, {self.settings.epochs} epochs")
        model = ae.Autoencoder((self.pixels, self.settings.hidden), output="sigmoid", tied=tied, seed=self.seed)
        history = self.fit(model, self.train, objective, self.settings.epochs)
        self.models[name] = model
        self.curves[name] = next(iter(history.terms.values()))
        return model

    def fit(
        self,
        model: ae.Autoencoder,
        X: np.ndarray,
        objective: Callable[[Any, mg.Tensor], Any],
        epochs: int,
        lr: float = 1e-3,
        seed: int = 0,
    ) -> History:
        """Train a model with Adam."""
        return ae.fit(
            model, X, objective, epochs=epochs, batch_size=self.settings.batch_size,
            optimizer=optim.Adam(model.parameters(), lr=lr), seed=self.seed + seed,
        )  # fmt: skip

    def accuracy(self, name: str) -> float:
        """Return the accuracy on test images of a softmax regression on the codes of a model, or on "pixels"."""
        if name not in self._accuracies:
            train, test = self.train, self.test
            if name != "pixels":
                train, test = (ae.features.codes(self.models[name], x) for x in (train, test))
            found = ae.softmax_regression(train, self.data.y_train, l2=1e-5)
            self._accuracies[name] = found.accuracy(test, self.data.y_test)
        return self._accuracies[name]

    def errors(self, reconstruct: Reconstruct) -> dict[str, float]:
        """Return squared errors per image: on training and test images, and on test images from corrupted ones."""
        return {
            "train": squared_error(reconstruct, self.train),
            "test": squared_error(reconstruct, self.test),
            "from corrupted": squared_error(reconstruct, self.test, self.corrupted),
        }
