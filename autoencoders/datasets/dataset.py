"""What every data set of this package looks like once it is in memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Dataset(NamedTuple):
    """Labelled images, flattened to rows, split into a training and a test part.

    Attributes
    ----------
    x_train, x_test : ndarray of float32, shape (n, pixels)
        One image per row, every pixel in [0, 1].
    y_train, y_test : ndarray of int64, shape (n,)
        The class of each row.
    image_shape : tuple of int
        (height, width); ``x_train[i].reshape(image_shape)`` is picture i.
    """

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    image_shape: tuple[int, int]

    def __repr__(self) -> str:
        return f"Dataset(train={len(self.x_train)}, test={len(self.x_test)}, image_shape={self.image_shape})"
