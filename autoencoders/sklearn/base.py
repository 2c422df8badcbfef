"""What all estimators share: everything but the objective."""

from __future__ import annotations

import math
import numbers
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

import minigrad as mg
from autoencoders import losses
from autoencoders.features import in_pieces, squared_errors
from autoencoders.inputs import positive, refuse_masked
from autoencoders.models import Autoencoder
from autoencoders.regularizers import l2
from autoencoders.training import fit
from minigrad import optim
from minigrad.errors import DataError, DTypeError

LOSSES = ("squared_error", "cross_entropy")
DTYPES = (np.float64, np.float32)  # kept as they are; what is neither becomes the first
ROWS = 4096  # encoded at a time, so that the memory for hidden layers does not grow with the data


class BaseAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """An `Autoencoder` that is trained by `fit`; a subclass adds its parameters and the terms of its objective.

    The parameters are described at `AutoencoderTransformer`. As scikit-learn demands, the constructor only stores
    them, and they are checked when the estimator is fitted.
    """

    def __init__(
        self,
        n_components: int,
        hidden_layer_sizes: Sequence[int],
        activation: str,
        output: str,
        tied: bool,
        loss: str,
        weight_decay: float,
        epochs: int,
        batch_size: int,
        learning_rate: float,
        validation_fraction: float,
        patience: int | None,
        random_state: Any,
        verbose: bool,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.output = output
        self.tied = tied
        self.loss = loss
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.verbose = verbose

    @abstractmethod
    def _objective(self, model: Autoencoder, x: mg.Tensor) -> dict[str, mg.Tensor]:
        """Return the terms to minimise on a batch x, without the weight decay."""

    def _reconstruction(self, model: Autoencoder, h: mg.Tensor, x: mg.Tensor) -> mg.Tensor:
        """Return how far what the code h decodes to is from x."""
        if self.loss == "cross_entropy":
            return losses.binary_cross_entropy_with_logits(model.decode_logits(h), x)
        return losses.squared_error(model.decode(h), x)

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Train a new model on X; y is ignored.

        Parameters
        ----------
        X : array_like, shape (m, n)
            One sample per row, finite. float32 data make a float32 model, all others a float64 one.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ShapeError, DTypeError, DataError, ValueError, TypeError
            A parameter or X is unusable.
        DivergenceError
            The training diverged. After any error the estimator is as it was before.
        """
        self._check_parameters()
        # it writes n_features_in_ into the estimator: into a clone until the training has succeeded
        train = self._samples(X, clone(self))
        if self.loss == "cross_entropy" and not (train.min() >= 0 and train.max() <= 1):
            raise DataError(
                f"{type(self).__name__}: loss='cross_entropy' needs X in [0, 1], but it reaches from {train.min():g} "
                f"to {train.max():g}; rescale it (MinMaxScaler), or use loss='squared_error'"
            )
        random = check_random_state(self.random_state)
        seed = int(random.randint(np.iinfo(np.int32).max))
        held_out = None
        if self.validation_fraction > 0:
            fraction = float(self.validation_fraction)  # train_test_split takes no other number for a fraction
            train, held_out = train_test_split(train, test_size=fraction, random_state=random)
        sizes = (train.shape[1], *self.hidden_layer_sizes, self.n_components)
        model = Autoencoder(sizes, self.activation, self.output, self.tied, seed=seed, dtype=train.dtype)

        def objective(model: Autoencoder, x: mg.Tensor) -> dict[str, mg.Tensor]:
            terms = self._objective(model, x)
            return {**terms, "weight_decay": self.weight_decay * l2(model)} if self.weight_decay else terms

        history = fit(
            model,
            train,
            objective,
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=optim.Adam(model.parameters(), lr=self.learning_rate),
            seed=seed,
            progress=bool(self.verbose),
            validation=held_out,
            patience=self.patience,
        )
        validate_data(self, X, skip_check_array=True)
        self.model_, self.history_, self.n_iter_ = model, history, history.epochs
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return the codes of X, shape (m, n_components), in the dtype of the training data.

        Parameters
        ----------
        X : array_like, shape (m, n)
            Clean samples: corruption is for training only.
        """
        return self._in_pieces(self._model().encode, self._samples(X))

    def inverse_transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return the reconstructions, shape (m, n), that codes X, shape (m, n_components), decode to."""
        model = self._model()
        refuse_masked(X, f"{type(self).__name__}: X")
        return self._in_pieces(model.decode, check_array(X, dtype=DTYPES))

    def score_samples(self, X: ArrayLike) -> NDArray[Any]:
        """Return the negative squared reconstruction error of every sample, summed over its features.

        It is the squared error whatever `loss` is, so that models with different losses can be compared; the lower,
        the less a sample is like the training data.

        Parameters
        ----------
        X : array_like, shape (m, n)

        Returns
        -------
        ndarray, shape (m,)
            At most 0, in squared units of X.
        """
        model = self._model()
        return -squared_errors(model, self._samples(X), batch_size=ROWS)

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Return the mean of `score_samples`: higher is better. y is ignored.

        On the training data, minus it is never below ``pca.reconstruction_floor(X, n_components)`` if the decoder is
        one linear layer.
        """
        return float(np.mean(self.score_samples(X), dtype=np.float64))

    @property
    def _n_features_out(self) -> int:
        """How many columns `transform` returns; get_feature_names_out reads it."""
        return self.model_.sizes[-1]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _model(self) -> Autoencoder:
        check_is_fitted(self)
        return self.model_

    def _samples(self, X: ArrayLike, new: Self | None = None) -> NDArray[Any]:
        """Return X as samples that this estimator takes, or with which a new one like it is to be fitted."""
        refuse_masked(X, f"{type(self).__name__}: X")  # scikit-learn would take what is under the mask
        samples: NDArray[Any] = validate_data(self if new is None else new, X, dtype=DTYPES, reset=new is not None)
        return samples

    def _in_pieces(self, function: Callable[[mg.Tensor], mg.Tensor], X: NDArray[Any]) -> NDArray[Any]:
        """Return function(X), computed for some rows at a time."""
        return in_pieces(function, function, X, ROWS, type(self).__name__)

    def _check_parameters(self) -> None:
        """Raise for what neither `Autoencoder` nor `fit` would refuse under its name here."""
        self._check_choice("loss", LOSSES)
        if self.loss == "cross_entropy" and self.output != "sigmoid":
            raise DataError(
                f"{type(self).__name__}: got loss='cross_entropy' with output={self.output!r}; expected "
                "output='sigmoid', or loss='squared_error'"
            )
        for name in ("weight_decay", "learning_rate"):
            self._check_number(name)
        self._check_number("validation_fraction", below=1.0)
        if not isinstance(self.hidden_layer_sizes, Sequence):
            raise DTypeError(
                f"{type(self).__name__}: got hidden_layer_sizes={self.hidden_layer_sizes!r}; expected a tuple of "
                "widths, such as (128,)"
            )
        owner = type(self).__name__
        positive(self.n_components, "n_components", owner)
        for i, width in enumerate(self.hidden_layer_sizes):
            positive(width, f"hidden_layer_sizes[{i}]", owner)

    def _check_choice(self, name: str, choices: Sequence[str]) -> None:
        value = getattr(self, name)
        if value not in choices:
            raise DataError(f"{type(self).__name__}: got {name}={value!r}; expected one of {', '.join(choices)}")

    def _check_number(self, name: str, below: float = math.inf) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise DTypeError(f"{type(self).__name__}: got {name}={value!r}; expected a number")
        if not 0 <= float(value) < below:
            limits = "of at least 0" if below == math.inf else f"in [0, {below:g})"
            raise DataError(f"{type(self).__name__}: got {name}={value!r}; expected a finite number {limits}")
