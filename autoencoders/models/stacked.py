"""The stacked autoencoder: trained layer by layer, then used as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

import minigrad as mg
from autoencoders.history import History
from autoencoders.inputs import as_array
from autoencoders.models.dense import Autoencoder
from autoencoders.sources import is_stream
from autoencoders.training import Objective, fit
from minigrad import optim
from minigrad.errors import DataError, DTypeError


class StackedAutoencoder(Autoencoder):
    """A deep `Autoencoder` whose layers can be trained one after the other, each on the codes of the one before.

    Parameters, attributes and errors are those of `Autoencoder`; three widths or more make a stack.

    Notes
    -----
    Source: Y. Bengio, P. Lamblin, D. Popovici and H. Larochelle, "Greedy layer-wise training of deep networks", NIPS 19
    (2006); P. Vincent et al., "Stacked denoising autoencoders", JMLR 11 (2010), section 3.5: noise goes into the
    layer that is being trained, and its clean codes are the data of the next.

    Examples
    --------
    Pretrain each layer as a denoising autoencoder, then fine-tune with labels; all of it moves the same weights:

    >>> import autoencoders as ae
    >>> digits = ae.datasets.digits()
    >>> model = StackedAutoencoder((64, 32, 16), output="sigmoid")
    >>> def denoising(layer, x):
    ...     return ae.squared_error(layer(ae.masking_noise(x, 0.25)), x)
    >>> histories = model.pretrain(digits.x_train[:200], denoising, epochs=2)
    >>> [history.epochs for history in histories], model.encode(digits.x_test).shape
    ([2, 2], (359, 16))
    >>> classifier = ae.fine_tune(model, digits.x_train[:200], digits.y_train[:200], epochs=2)
    >>> classifier.model is model
    True
    """

    def layer(self, i: int) -> Autoencoder:
        """Return encoder layer i and the decoder layer that mirrors it as an autoencoder that shares their parameters.

        Its output is that of the whole model for i = 0, and the activation, as of the codes that it is trained on, for
        the others.
        """
        if not 0 <= i < len(self.encoder_layers):
            raise DataError(f"layer: got i={i!r}; expected 0 to {len(self.encoder_layers) - 1} for {self}")
        output = self.activation if i else self.output
        mirror = len(self.decoder_layers) - 1 - i
        single = Autoencoder(self.sizes[i : i + 2], self.activation, output, self.tied).train(self.training)
        single.encoder_layers = self.encoder_layers[i : i + 1]
        single.decoder_layers = self.decoder_layers[mirror : mirror + 1]
        return single

    def pretrain(
        self,
        X: mg.Tensor | ArrayLike,
        objective: Objective | Sequence[Objective],
        *,
        epochs: int,
        batch_size: int = 128,
        optimizer: Callable[[Iterable[mg.Parameter]], optim.Optimizer] | None = None,
        seed: int = 0,
        progress: bool = True,
        compile: bool = True,
    ) -> list[History]:
        """Train the layers in place from the data up, each on the clean codes of the one before.

        To train them in another way, call `fit` on each `layer`.

        Parameters
        ----------
        X : Tensor or array_like, shape (samples, sizes[0])
        objective : callable, or a sequence with one for each layer
            ``objective(layer, x)``, as for `fit`, of an `Autoencoder` with one layer and its data x.
        epochs, batch_size, progress, compile
            As for `fit`, for each layer.
        optimizer : callable, optional
            Makes the optimizer of a layer from its parameters: ``lambda p: optim.SGD(p, lr=0.1)``. By default that of
            `fit`.
        seed : int
            Layer i is trained with seed + i.

        Returns
        -------
        list of History
            One for each layer.

        Raises
        ------
        DataError, DTypeError
            The number of objectives is not that of the layers, the optimizer is no callable, or X is no array.
        Exception
            What `fit` raises; the layers before stay trained.
        """
        count = len(self.encoder_layers)
        objectives = list(objective) if isinstance(objective, Sequence) else [objective] * count
        if len(objectives) != count:
            raise DataError(
                f"pretrain: got {len(objectives)} objectives; expected one, or one for each of {count} layers"
            )
        if optimizer is not None and not callable(optimizer):
            raise DTypeError(
                f"pretrain: got {type(optimizer).__name__} for optimizer, and each layer needs its own; expected a "
                "callable that makes one, such as lambda parameters: optim.Adam(parameters)"
            )
        if is_stream(X):
            raise DTypeError(
                f"pretrain: X is {type(X).__name__}, an iterable of batches; expected an array of samples, whose codes "
                "are the data of the next layer"
            )
        x = as_array(X, "pretrain: X")
        histories = []
        for i, goal in enumerate(objectives):
            layer = self.layer(i)
            made = None if optimizer is None else optimizer(layer.parameters())
            histories.append(
                fit(
                    layer, x, goal, epochs=epochs, batch_size=batch_size, optimizer=made, seed=seed + i,
                    progress=progress, compile=compile,
                )
            )  # fmt: skip
            with mg.no_grad():
                pieces = [layer.encode(x[start : start + batch_size]).numpy() for start in range(0, len(x), batch_size)]
            x = np.concatenate(pieces)
        return histories
