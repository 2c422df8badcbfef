"""Softmax regression: the classifier that shows what codes are good for, alone or on top of a model to fine-tune it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import minigrad as mg
from autoencoders.features import codes, in_pieces
from autoencoders.history import History
from autoencoders.inputs import as_array, number, positive
from autoencoders.models.base import Configured, check_floating
from autoencoders.objectives import sum_of
from autoencoders.sources import is_stream
from autoencoders.training import fit
from minigrad import nn, optim
from minigrad.errors import DataError, DTypeError, ShapeError

STEEP = 1e-2  # a hundred times the slope at which rounding to float32 ends the search


class SoftmaxRegression(Configured):
    """P(class k | x) = softmax(h W + b)_k, where h is x itself, or the code of x by a model below.

    Parameters
    ----------
    inputs : int, at least 1
        The width of h.
    classes : array_like of K labels, K at least 2
        The labels of the outputs, in their order.
    model : Module with a method encode, optional
        Its parameters become parameters of this module too; they stay its own.
    dropout : float in [0, 1)
        The probability with which each number of h is left out in training.
    dtype : str or dtype
        Of W and b, which begin at 0: on fixed h the problem is convex.

    Examples
    --------
    >>> model = SoftmaxRegression(3, ["cat", "dog"])
    >>> model.predict_proba(np.zeros((1, 3))).tolist(), model.predict(np.zeros((1, 3))).tolist()
    ([[0.5, 0.5]], ['cat'])
    """

    def __init__(
        self, inputs: int, classes: ArrayLike, model: Any = None, dropout: float = 0.0, dtype: Any = "float32"
    ) -> None:
        super().__init__()
        check_floating("SoftmaxRegression", dtype)
        self.classes = _label_array(classes, "SoftmaxRegression: classes")
        if self.classes.ndim != 1 or len(self.classes) < 2:
            raise DataError(f"SoftmaxRegression: got classes {classes!r}; expected at least two in their order")
        if len(set(self.classes.tolist())) < len(self.classes):
            raise DataError(f"SoftmaxRegression: got classes {self.classes.tolist()}; expected each of them once")
        if model is not None:
            self.model = model
        self.dropout = nn.Dropout(dropout)
        place = None if model is None else next((p.device for p in model.parameters()), None)
        # a generator of its own: nothing is drawn from the default one for weights that are set to 0
        self.linear = nn.Linear(inputs, len(self.classes), dtype=dtype, generator=mg.random.Generator(0), device=place)
        self.linear.weight.assign(mg.zeros(self.linear.weight.shape, dtype, place))

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The shape of one sample."""
        return getattr(self.model, "input_shape", None) if hasattr(self, "model") else self.linear.weight.shape[:1]

    def config(self) -> dict[str, Any]:
        """Return the labels as JSON knows them: a file holds them, so that it is not read for other classes."""
        return {"classes": [c if isinstance(c, bool | int | float | str) else repr(c) for c in self.classes.tolist()]}

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        """Return the logits, shape (m, K), of samples x."""
        h = self.model.encode(x) if hasattr(self, "model") else x
        return self.linear(self.dropout(h.reshape(len(h), -1)))

    def predict_proba(self, X: mg.Tensor | ArrayLike) -> NDArray[Any]:
        """Return the probability of every class, shape (m, K), for samples X, shape (m, ...)."""
        return in_pieces(lambda x: mg.softmax(self(x), axis=-1), self, X, 4096, "predict_proba")

    def predict(self, X: mg.Tensor | ArrayLike) -> NDArray[Any]:
        """Return the most probable label, shape (m,), for samples X, shape (m, ...)."""
        return self.classes[self.predict_proba(X).argmax(axis=1)]

    def accuracy(self, X: mg.Tensor | ArrayLike, y: ArrayLike) -> float:
        """Return the fraction of samples whose most probable label is that of y, shape (m,)."""
        found, labels = self.predict(X), _label_array(y, "accuracy: y")
        if labels.shape != found.shape:
            raise ShapeError(f"accuracy: y has shape {labels.shape}; expected {found.shape}, a label for every sample")
        if _family(labels) != _family(found):  # such are never equal
            raise DTypeError(
                f"accuracy: y has dtype {labels.dtype}; expected labels such as {self.classes[:2].tolist()}, "
                f"of dtype {self.classes.dtype}"
            )
        return float(np.mean(found == labels))


def softmax_regression(
    X: ArrayLike, y: ArrayLike, *, l2: float = 1e-4, max_iter: int = 200, dtype: Any = "float32"
) -> SoftmaxRegression:
    """Fit a softmax regression to the end, by L-BFGS on all samples.

    Parameters
    ----------
    X : array_like, shape (m, n)
        Pixels, or the codes of an encoder.
    y : array_like, shape (m,)
        Labels, of any kind that can be compared.
    l2 : float, at least 0
        Factor of the sum of the squared weights, beside the mean cross entropy per sample.
    max_iter : int, at least 1
        Iterations of L-BFGS; it ends sooner when nothing changes any more.
    dtype : str or dtype
        Of the parameters: "float64" finds the minimum more exactly.

    Returns
    -------
    SoftmaxRegression
        With ``predict``, ``predict_proba`` and ``accuracy``.

    Raises
    ------
    ShapeError, DataError, DTypeError
        X or y is unusable, there are less than two classes, or l2 is negative.

    Warns
    -----
    RuntimeWarning
        The search ended far from the minimum, as it does when max_iter is too small.

    Notes
    -----
    Source: the lecture, which measures features by a classifier on top of them. Minimised is
    -(1/m) sum_i log P(y_i | x_i) + l2 |W|^2; biases are not decayed. Without decay the result does not depend on the
    units of X. With it, features below about sqrt(l2) in magnitude need weights that cost more than they gain: what
    is left is the frequencies of the classes, in the biases. Bring such features to a magnitude near 1.

    Examples
    --------
    >>> X = np.array([[0.0, 1.0], [0.1, 0.9], [1.0, 0.0], [0.8, 0.1]])
    >>> model = softmax_regression(X, ["left", "left", "right", "right"])
    >>> model.accuracy(X, ["left", "left", "right", "right"]), model.predict([[0.2, 0.8]]).tolist()
    (1.0, ['left'])
    """
    samples = as_array(X, "softmax_regression: X")
    if samples.dtype.kind not in "biuf":
        raise DTypeError(f"softmax_regression: X has dtype {samples.dtype}; expected real numbers")
    if samples.ndim != 2 or samples.size == 0:
        raise ShapeError(f"softmax_regression: X has shape {samples.shape}; expected (samples, features)")
    l2 = number(l2, "l2", "softmax_regression")
    classes, numbers = _labels(y, len(samples), "softmax_regression")
    model = SoftmaxRegression(samples.shape[1], classes, dtype=dtype)
    largest = max(abs(float(samples.max())), abs(float(samples.min())))  # NaN, if there is one: it is both
    if not math.isfinite(largest):
        raise DataError("softmax_regression: X contains NaN or infinity; remove or replace such values first")
    if largest > 1e30 or 0 < largest < 1e-30:
        raise DataError(f"softmax_regression: the largest number of X is {largest:g} in magnitude; rescale X")
    squares = np.einsum("ij,ij->i", samples, samples, dtype=np.float64, casting="same_kind")  # without a copy of X
    scale = float(np.sqrt(squares.sum() / samples.size)) or 1.0
    # In units of `scale` the features are near 1, and the problem is well scaled whatever their own units. The decay in
    # such units is l2 / scale^2; where that is above 1 it would rule, so the unit is then the one in which it is 1.
    unit = max(scale, math.sqrt(l2))

    def objective(model: Any, x: mg.Tensor, y: mg.Tensor) -> dict[str, mg.Tensor]:
        return {
            "cross entropy": mg.cross_entropy(model(x), y),
            "decay": l2 / unit**2 * mg.sum(mg.square(model.linear.weight)),
        }

    optimizer = optim.LBFGS(model.parameters(), max_iter=max_iter, tolerance_grad=0.0)
    x = mg.tensor(samples / unit, dtype=model.linear.weight.dtype, device=model.linear.weight.device)
    fit(model, x, objective, y=numbers, epochs=1, optimizer=optimizer, progress=False)
    # features and decay are near 1 or less in these units, so a slope of that size is one that could still be followed
    with mg.enable_grad():  # as `fit` does: a caller's no_grad is about the caller's own computations
        total = sum_of(objective(model, x, mg.tensor(numbers, device=x.device)))
        gradients = mg.autograd.grad(total, list(model.parameters()))
    slope = max(float(mg.abs(g).max().item()) for g in gradients)
    if slope > STEEP:
        warnings.warn(
            f"softmax_regression: L-BFGS ended where the objective still has a slope of {slope:.2g}, far from its "
            f"minimum; more than max_iter={max_iter} iterations, or dtype='float64', would come closer",
            RuntimeWarning,
            stacklevel=2,
        )
    weight = model.linear.weight
    weight.assign(weight.device.put((weight.detach().numpy() / np.float64(unit)).astype(weight.dtype)))
    return model


def fine_tune(
    model: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epochs: int,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    corrupt: Callable[[mg.Tensor], mg.Tensor] | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    progress: bool = True,
    callback: Callable[[Any, History], bool | None] | None = None,
    softmax: SoftmaxRegression | None = None,
) -> SoftmaxRegression:
    """Put a softmax on top of a model's code and train both with labels, by Adam; the learning rate falls to near 0.

    Parameters
    ----------
    model : Module with a method encode
        Such as a pretrained `StackedAutoencoder`. Its encoder is trained in place.
    X : array_like, shape (m, ...)
        Samples of the model.
    y : array_like, shape (m,)
        Labels, of any kind that can be compared.
    epochs, batch_size, seed, progress, callback
        As for `fit`.
    learning_rate : float above 0
        Of the first epoch; it falls linearly.
    corrupt : callable, optional
        Noise on the input in training, such as ``lambda x: ae.masking_noise(x, 0.1)``.
    dropout : float in [0, 1)
        On the code in training.
    softmax : SoftmaxRegression, optional
        Where the softmax begins, such as ``softmax_regression(codes, y)``; it is left as it is. By default it begins at
        0, and the first steps move a good encoder away from where it was.

    Returns
    -------
    SoftmaxRegression
        On top of the model.

    Raises
    ------
    ShapeError, DataError, DTypeError
        X or y is unusable, or an argument out of range; nothing has changed then.

    Notes
    -----
    Source: G. Hinton and R. Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313
    (2006); P. Vincent et al., "Stacked denoising autoencoders", JMLR 11 (2010), section 3.5.

    Examples
    --------
    >>> import autoencoders as ae
    >>> digits = ae.datasets.digits()
    >>> model = ae.StackedAutoencoder((64, 32, 16), output="sigmoid")
    >>> histories = model.pretrain(digits.x_train, lambda layer, x: ae.squared_error(layer(x), x), epochs=3)
    >>> classifier = fine_tune(model, digits.x_train, digits.y_train, epochs=10, learning_rate=0.02)
    >>> classifier.accuracy(digits.x_test, digits.y_test) > 0.5
    True
    """
    epochs = positive(epochs, "epochs", "fine_tune")
    learning_rate = number(learning_rate, "learning_rate", "fine_tune", inside=True)
    if is_stream(X):
        raise DTypeError(
            f"fine_tune: X is {type(X).__name__}, an iterable of batches; expected an array of samples, since y has a "
            "label for each of its rows"
        )
    samples = as_array(X, "fine_tune: X")
    if samples.ndim < 2 or samples.size == 0:
        raise ShapeError(f"fine_tune: X has shape {samples.shape}; expected (samples, ...), none of them empty")
    classes, numbers = _labels(y, len(samples), "fine_tune")
    if not any(True for _ in getattr(model, "parameters", list)()):
        raise DTypeError(f"fine_tune: got {type(model).__name__}; expected a model with parameters and a method encode")
    width = codes(model, samples[:1]).size
    whole = SoftmaxRegression(width, classes, model, dropout, next(model.parameters()).dtype)
    if softmax is not None:
        if not isinstance(softmax, SoftmaxRegression):
            raise DTypeError(f"fine_tune: got softmax={softmax!r}; expected a SoftmaxRegression")
        if softmax.linear.weight.shape != whole.linear.weight.shape:
            raise ShapeError(
                f"fine_tune: softmax has weights of shape {softmax.linear.weight.shape}; expected "
                f"{whole.linear.weight.shape}, codes and classes"
            )
        if not np.array_equal(softmax.classes, classes):
            raise DataError(f"fine_tune: softmax has classes {softmax.classes.tolist()}; expected {classes.tolist()}")
        dtype = whole.linear.weight.dtype  # of the model: softmax_regression may have searched in float64
        whole.linear.load_state_dict({name: a.astype(dtype) for name, a in softmax.linear.state_dict().items()})

    def objective(net: Any, x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
        return mg.cross_entropy(net(x if corrupt is None else corrupt(x)), y)

    fit(
        whole, samples, objective, y=numbers, epochs=epochs, batch_size=batch_size, seed=seed, progress=progress,
        optimizer=optim.Adam(whole.parameters(), lr=learning_rate), callback=callback,
        schedule=lambda epoch: learning_rate * (1 - (epoch - 1) / epochs),
    )  # fmt: skip
    return whole


def _label_array(labels: ArrayLike, name: str) -> NDArray[Any]:
    """Return labels as an array, of strings where all are, which pandas has in arrays of Python objects."""
    found = as_array(labels, name)
    if found.dtype.kind == "O" and found.size and all(isinstance(label, str) for label in found.flat):
        return found.astype(str)
    return found


def _labels(y: ArrayLike, samples: int, caller: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the classes in y in their order, and for every sample the number of its class."""
    labels = _label_array(y, f"{caller}: y")
    if labels.shape != (samples,):
        raise ShapeError(f"{caller}: y has shape {labels.shape}; expected ({samples},), a label for every row of X")
    if labels.dtype.kind in "fcmM" and not np.isfinite(labels).all():
        raise DataError(f"{caller}: y contains NaN, NaT or infinity; expected labels")
    if labels.dtype.kind == "O":
        raise DTypeError(f"{caller}: y holds Python objects; expected an array of numbers or strings")
    classes, numbers = np.unique(labels, return_inverse=True)
    return classes, numbers


def _family(labels: NDArray[Any]) -> str:
    """Return what labels are: numbers of all types are one family, and so are strings of all types."""
    kind = labels.dtype.kind
    return "number" if kind in "biufc" else "string" if kind in "UT" else kind
