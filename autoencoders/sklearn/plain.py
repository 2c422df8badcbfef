"""The plain autoencoder as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import minigrad as mg
from autoencoders.models import Autoencoder
from autoencoders.sklearn.base import BaseAutoencoder


class AutoencoderTransformer(BaseAutoencoder):
    """An autoencoder of any depth: `transform` encodes, `inverse_transform` decodes.

    Parameters
    ----------
    n_components : int, at least 1
        The width of the code; it may be larger than the number of features.
    hidden_layer_sizes : tuple of int
        The widths of the layers between the data and the code. The decoder mirrors them: with 64 features, (40,) and
        10 components, the model is 64-40-10-40-64.
    activation : {"sigmoid", "tanh", "relu", "linear"}
        Of every layer but the last, the code included.
    output : {"linear", "sigmoid", "tanh", "relu"}
        Of the last layer: linear for data of any range, such as standardised ones; sigmoid for data in [0, 1].
    tied : bool
        Whether the weights of the decoder are the transposes of the encoder's.
    loss : {"squared_error", "cross_entropy"}
        The error of the reconstruction, summed over features. The cross entropy needs output="sigmoid" and data in
        [0, 1].
    weight_decay : float, at least 0
        The factor of the sum of all squared weights (biases are not decayed), which is added to the objective.
    epochs : int, at least 1
        How often the model sees all training data, at most.
    batch_size : int, at least 1
        Samples per step.
    learning_rate : float, at least 0
        Of Adam.
    validation_fraction : float in [0, 1)
        The part of the data, drawn at random, that is not trained on: the objective is measured on it after every
        epoch, and `patience` goes by that. With 0 all data are trained on, and `patience` goes by the training loss.
    patience : int, at least 1, optional
        Stop when the loss has not fallen for so many epochs, and keep the model of the best epoch.
    random_state : int, RandomState or None
        Of the initial weights, the order of the samples, the split and all noise. With an int, equal data give equal
        models, bit for bit, on the same machine.
    verbose : bool
        Show a progress bar, if tqdm is installed and standard error is a terminal.

    Attributes
    ----------
    model_ : Autoencoder
        The trained model: ``model_.encoder_weights``, `ae.save_model`, ...
    history_ : History
        The terms of the objective, epoch by epoch.
    n_iter_ : int
        How many epochs were run.
    n_features_in_ : int
        The number of features of the training data.
    feature_names_in_ : ndarray of str
        Their names, if the training data were a data frame with names that are strings.

    Notes
    -----
    Features are not scaled: put a StandardScaler, or a MinMaxScaler for output="sigmoid", before it in a pipeline.
    The objective, its penalties apart, is that of the lecture: the loss of x_hat = decode(encode(x)).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> estimator = AutoencoderTransformer(n_components=2, activation="tanh", epochs=20, random_state=0).fit(X)
    >>> estimator.transform(X).shape, estimator.n_iter_
    ((150, 2), 20)
    >>> estimator.model_
    Autoencoder(4-2-4, activation='tanh', output='linear', tied=False)
    """

    def __init__(
        self,
        n_components: int = 32,
        *,
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

    def _objective(self, model: Autoencoder, x: mg.Tensor) -> dict[str, mg.Tensor]:
        return {"reconstruction": self._reconstruction(model, model.encode(x), x)}
