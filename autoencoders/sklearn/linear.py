"""The linear autoencoder as a scikit-learn estimator."""

from __future__ import annotations

from typing import Any

import minigrad as mg
from autoencoders.models import Autoencoder
from autoencoders.sklearn.base import BaseAutoencoder


class LinearAutoencoder(BaseAutoencoder):
    """An autoencoder with one linear layer each way and the squared error: it learns what PCA computes.

    Parameters
    ----------
    n_components : int, at least 1
        The width of the code.
    tied, weight_decay, epochs, batch_size, learning_rate, validation_fraction, patience, random_state, verbose
        As for `AutoencoderTransformer`, whose attributes it has as well. The default learning rate is larger.

    Notes
    -----
    Without weight decay the best it can do is the error of ``PCA(n_components)``, by a code that spans the same
    subspace, though its axes need not be the principal directions. Source: the lecture; P. Baldi and K. Hornik, "Neural
    networks and principal component analysis", Neural Networks 2 (1989).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from autoencoders import pca
    >>> X = load_digits().data / 16
    >>> estimator = LinearAutoencoder(n_components=8, epochs=30, random_state=0).fit(X)
    >>> bool(-estimator.score(X) < 1.05 * pca.reconstruction_floor(X, 8))
    True
    """

    def __init__(
        self,
        n_components: int = 32,
        *,
        tied: bool = False,
        weight_decay: float = 0.0,
        epochs: int = 100,
        batch_size: int = 64,
        learning_rate: float = 1e-2,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            n_components=n_components,
            hidden_layer_sizes=(),
            activation="linear",
            output="linear",
            tied=tied,
            loss="squared_error",
            weight_decay=weight_decay,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            validation_fraction=validation_fraction,
            patience=patience,
            random_state=random_state,
            verbose=verbose,
        )

    def _objective(self, model: Autoencoder, x: mg.Tensor) -> dict[str, mg.Tensor]:
        return {"reconstruction": self._reconstruction(model, model.encode(x), x)}
