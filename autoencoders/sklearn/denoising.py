"""The denoising autoencoder as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import minigrad as mg
from autoencoders.corruption import gaussian_noise, masking_noise, salt_and_pepper_noise
from autoencoders.models import Autoencoder
from autoencoders.sklearn.base import BaseAutoencoder
from minigrad.errors import DataError

NOISES: dict[str, Callable[[mg.Tensor, float], mg.Tensor]] = {
    "masking": masking_noise,
    "gaussian": gaussian_noise,
    "salt_and_pepper": salt_and_pepper_noise,
}

PROBABILITIES = ("masking", "salt_and_pepper")  # of which the level is one


class DenoisingAutoencoder(BaseAutoencoder):
    """An autoencoder that learns to restore the clean x from a damaged one; `transform` encodes clean data.

    Parameters
    ----------
    n_components : int, at least 1
        The width of the code.
    noise : {"masking", "gaussian", "salt_and_pepper"}
        Values are set to 0; normal noise is added; or values become 0 or 1, for data in [0, 1].
    level : float
        The probability that a value is damaged; for gaussian noise, its standard deviation in units of the data.
    hidden_layer_sizes, activation, output, tied, loss, weight_decay, epochs, batch_size, learning_rate,
    validation_fraction, patience, random_state, verbose
        As for `AutoencoderTransformer`, whose attributes it has as well.

    Notes
    -----
    Noise is drawn anew in every epoch. Source: the lecture; P. Vincent, H. Larochelle, Y. Bengio and P.-A. Manzagol,
    "Extracting and composing robust features with denoising autoencoders", ICML (2008).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X = load_digits().data / 16
    >>> estimator = DenoisingAutoencoder(40, noise="masking", level=0.25, epochs=5, random_state=0)
    >>> estimator.fit_transform(X).shape
    (1797, 40)
    """

    def __init__(
        self,
        n_components: int = 32,
        *,
        noise: str = "masking",
        level: float = 0.25,
        hidden_layer_sizes: Sequence[int] = (),
        activation: str = "sigmoid",
        output: str = "linear",
        tied: bool = False,
        loss: str = "squared_error",
        weight_decay: float = 0.0,
        epochs: int = 100,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            n_components=n_components,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            output=output,
            tied=tied,
            loss=loss,
            weight_decay=weight_decay,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            validation_fraction=validation_fraction,
            patience=patience,
            random_state=random_state,
            verbose=verbose,
        )
        self.noise = noise
        self.level = level

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self._check_choice("noise", tuple(NOISES))
        self._check_number("level")
        if self.noise in PROBABILITIES and self.level > 1:
            raise DataError(
                f"{type(self).__name__}: got level={self.level!r}; expected a probability, at most 1, for "
                f"noise={self.noise!r}"
            )

    def _objective(self, model: Autoencoder, x: mg.Tensor) -> dict[str, mg.Tensor]:
        damaged = NOISES[self.noise](x, self.level)
        return {"reconstruction": self._reconstruction(model, model.encode(damaged), x)}
