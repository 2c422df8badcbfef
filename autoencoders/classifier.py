"""Softmax regression: the classifier that shows what codes are good for, and that is put on top to fine-tune."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import minigrad as mg
from autoencoders.training import fit
from minigrad import nn, optim
from minigrad.errors import DataError, DTypeError, ShapeError


class SoftmaxRegression(nn.Module):
    """P(class k | x) = softmax(x W + b)_k: what `softmax_regression` returns.

    Parameters
    ----------
    inputs : int, at least 1
    classes : array_like of K labels, K at least 2
        The labels of the outputs, in their order.
    dtype : str or dtype
        Of the parameters, which begin at 0: the problem is convex.

    Examples
    --------
    >>> model = SoftmaxRegression(3, ["cat", "dog"])
    >>> model.predict_proba(np.zeros((1, 3))).tolist(), model.predict(np.zeros((1, 3))).tolist()
    ([[0.5, 0.5]], ['cat'])
    """

    def __init__(self, inputs: int, classes: ArrayLike, dtype: Any = "float32") -> None:
        super().__init__()
        self.classes = np.asarray(classes)
        if self.classes.ndim != 1 or len(self.classes) < 2:
            raise DataError(f"SoftmaxRegression: got classes {self.classes.tolist()}; expected at least two")
        self.linear = nn.Linear(inputs, len(self.classes), dtype=dtype)
        self.linear.weight.assign(mg.zeros(self.linear.weight.shape, dtype))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.linear.weight.shape[:1]

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        """Return the logits, shape (m, K), of samples x, shape (m, inputs)."""
        return self.linear(x)

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Return the probability of every class, shape (m, K), for samples of shape (m, inputs)."""
        weight = self.linear.weight
        with mg.no_grad():
            logits = self(mg.tensor(np.asarray(X), dtype=weight.dtype, device=weight.device))
            return mg.softmax(logits, axis=-1).numpy()

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable label, shape (m,), for samples of shape (m, inputs)."""
        return self.classes[self.predict_proba(X).argmax(axis=1)]

    def accuracy(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return the fraction of samples whose most probable label is that of y, shape (m,)."""
        return float(np.mean(self.predict(X) == np.asarray(y)))


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

    Notes
    -----
    Source: the lecture, which measures features by a classifier on top of them. Minimised is
    -(1/m) sum_i log P(y_i | x_i) + l2 |W|^2; biases are not decayed.

    Examples
    --------
    >>> X = np.array([[0.0, 1.0], [0.1, 0.9], [1.0, 0.0], [0.8, 0.1]])
    >>> model = softmax_regression(X, ["left", "left", "right", "right"])
    >>> model.accuracy(X, ["left", "left", "right", "right"]), model.predict([[0.2, 0.8]]).tolist()
    (1.0, ['left'])
    """
    samples, labels = np.asarray(X), np.asarray(y)
    if samples.ndim != 2 or samples.size == 0:
        raise ShapeError(f"softmax_regression: X has shape {samples.shape}; expected (samples, features)")
    if labels.shape != samples.shape[:1]:
        raise ShapeError(
            f"softmax_regression: y has shape {labels.shape}; expected ({len(samples)},), a label for every row of X"
        )
    if not 0 <= l2 < float("inf"):
        raise DataError(f"softmax_regression: got l2={l2!r}; expected a factor of at least 0")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise DataError("softmax_regression: y contains NaN or infinity; expected labels")
    if labels.dtype.kind == "O":
        raise DTypeError("softmax_regression: y holds Python objects; expected an array of numbers or strings")
    classes, numbers = np.unique(labels, return_inverse=True)
    model = SoftmaxRegression(samples.shape[1], classes, dtype)

    def objective(model: Any, x: mg.Tensor, y: mg.Tensor) -> dict[str, mg.Tensor]:
        return {
            "cross entropy": mg.cross_entropy(model(x), y),
            "decay": l2 * mg.sum(mg.square(model.linear.weight)),
        }

    optimizer = optim.LBFGS(model.parameters(), max_iter=max_iter)
    fit(model, samples, objective, y=numbers, epochs=1, optimizer=optimizer, progress=False)
    return model
