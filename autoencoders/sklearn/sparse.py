"""The sparse autoencoder as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import minigrad as mg
from autoencoders.models import Autoencoder
from autoencoders.regularizers import kl_sparsity, l1
from autoencoders.sklearn.base import BaseAutoencoder
from minigrad.errors import DataError


class SparseAutoencoder(BaseAutoencoder):
    """An autoencoder whose hidden units are rarely active: by the KL penalty on their means, or by an L1 norm.

    Parameters
    ----------
    n_components : int, at least 1
        The width of the code.
    penalty : {"kl", "l1"}
        "kl": sum_l KL(rho || mean activation of unit l), for codes of activation="sigmoid". "l1": the L1 norm of the
        code, for any activation.
    rho : float, 0 < rho < 1
        The mean activation that "kl" asks for; "l1" does not use it.
    beta : float, at least 0
        The factor of the penalty.
    hidden_layer_sizes, activation, output, tied, loss, weight_decay, epochs, batch_size, learning_rate,
    validation_fraction, patience, random_state, verbose
        As for `AutoencoderTransformer`, whose attributes it has as well.

    Notes
    -----
    The means are those of a batch, so `batch_size` should not be tiny. Source: the lecture; A. Ng, "Sparse
    autoencoder", CS294A lecture notes (2011).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X = load_digits().data / 16
    >>> estimator = SparseAutoencoder(40, rho=0.1, beta=3.0, epochs=20, random_state=0).fit(X)
    >>> bool(abs(estimator.transform(X).mean() - 0.1) < 0.05)
    True
    """

    def __init__(
        self,
        n_components: int = 32,
        *,
        penalty: str = "kl",
        rho: float = 0.05,
        beta: float = 3.0,
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
        self.penalty = penalty
        self.rho = rho
        self.beta = beta

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self._check_choice("penalty", ("kl", "l1"))
        self._check_number("rho")
        self._check_number("beta")
        if self.penalty == "kl" and self.activation != "sigmoid":
            raise DataError(
                f"SparseAutoencoder: got penalty='kl' with activation={self.activation!r}; expected "
                "activation='sigmoid', whose means are in [0, 1], or penalty='l1'"
            )

    def _objective(self, model: Autoencoder, x: mg.Tensor) -> dict[str, mg.Tensor]:
        h = model.encode(x)
        penalty = kl_sparsity(h, self.rho) if self.penalty == "kl" else l1(h)
        return {"reconstruction": self._reconstruction(model, h, x), "sparsity": self.beta * penalty}
