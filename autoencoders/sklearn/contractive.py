"""The contractive autoencoder as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import minigrad as mg
from autoencoders.contractive import METHODS, contractive
from autoencoders.models import Autoencoder
from autoencoders.sklearn.base import BaseAutoencoder


class ContractiveAutoencoder(BaseAutoencoder):
    """An autoencoder whose code moves little with its input: the squared norm of the encoder's Jacobian is added.

    Parameters
    ----------
    n_components : int, at least 1
        The width of the code.
    strength : float, at least 0
        The factor of the penalty (1/m) sum_i |J(x_i)|^2.
    method : {"auto", "closed", "exact", "hutchinson"}
        How the penalty is computed: see `ae.contractive`. "closed" is for one layer, without hidden_layer_sizes.
    hidden_layer_sizes, activation, output, tied, loss, weight_decay, epochs, batch_size, learning_rate,
    validation_fraction, patience, random_state, verbose
        As for `AutoencoderTransformer`, whose attributes it has as well.

    Notes
    -----
    Source: the lecture; S. Rifai, P. Vincent, X. Muller, X. Glorot and Y. Bengio, "Contractive auto-encoders: explicit
    invariance during feature extraction", ICML (2011).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X = load_digits().data / 16
    >>> estimator = ContractiveAutoencoder(40, strength=0.1, epochs=5, random_state=0).fit(X)
    >>> list(estimator.history_.terms)
    ['reconstruction', 'contraction']
    """

    def __init__(
        self,
        n_components: int = 32,
        *,
        strength: float = 0.1,
        method: str = "auto",
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
        self.strength = strength
        self.method = method

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self._check_number("strength")
        self._check_choice("method", METHODS)

    def _objective(self, model: Autoencoder, x: mg.Tensor) -> dict[str, mg.Tensor]:
        return {
            "reconstruction": self._reconstruction(model, model.encode(x), x),
            "contraction": self.strength * contractive(model.encode, x, self.method),
        }
