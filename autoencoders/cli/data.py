"""What --data, --labels and --images name: samples in rows, their classes, and the shape of a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

import minigrad as mg
from autoencoders import datasets
from autoencoders.inputs import array_in
from minigrad.errors import MinigradError

NAMES = "digits, mnist, patches (of photographs, 8 by 8), or a .npy file of shape (samples, features)"
PATCHES, PATCH = 10_000, 8
SMALLEST = 4  # pixels of the side of a picture: 4 or 9 features are seldom one
PICTURES = f"a square number of features, {SMALLEST} by {SMALLEST} or more, is taken for a picture"


class Data(NamedTuple):
    """Samples with what is known about them; y are None without labels."""

    x_train: np.ndarray
    x_test: np.ndarray
    y_train: np.ndarray | None
    y_test: np.ndarray | None
    image_shape: tuple[int, int] | None


def read(
    name: str, labels: str | None = None, images: Path | None = None, seed: int = 0, held_out: float = 0.0
) -> Data:
    """Return what --data names; a file of arrays is both training and test data, or is split if it has labels.

    A fraction `held_out` of it is test data then.
    """
    if images is not None and name != "patches":
        raise MinigradError(f"--images is for --data patches, got --data {name}")
    if labels is not None and not name.endswith(".npy"):
        raise MinigradError(f"--labels is for --data with a .npy file, got --data {name}")
    if name in ("digits", "mnist"):
        known = datasets.digits() if name == "digits" else datasets.mnist()
        return Data(known.x_train, known.x_test, known.y_train, known.y_test, known.image_shape)
    if name == "patches":
        found = datasets.natural_patches(PATCHES, PATCH, images, seed, normalize="ufldl")
        return Data(found, found, None, None, (PATCH, PATCH))
    if not name.endswith(".npy"):
        raise MinigradError(f"--data takes digits, mnist, patches or a .npy file, got {name!r}")
    x = array_in(name, f"--data {name}")
    if x.ndim != 2 or x.size == 0 or x.dtype.kind not in "biuf":
        raise MinigradError(
            f"--data {name}: expected real numbers of shape (samples, features), got {x.dtype}{list(x.shape)}"
        )
    if not np.isfinite(x).all():
        raise MinigradError(
            f"--data {name}: {int((~np.isfinite(x)).sum())} values are NaN or infinite; remove them first"
        )
    side = math.isqrt(x.shape[1])
    shape = (side, side) if side >= SMALLEST and side**2 == x.shape[1] else None
    if labels is None:
        return Data(x, x, None, None, shape)
    y = array_in(labels, f"--labels {labels}")
    if y.shape != (len(x),):
        raise MinigradError(f"--labels {labels}: expected shape ({len(x)},), a label for each sample, got {y.shape}")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise MinigradError(f"--labels {labels}: contains NaN or infinity; expected classes")
    if len(np.unique(y)) > len(y) // 2:
        raise MinigradError(
            f"--labels {labels}: {len(np.unique(y))} different values for {len(y)} samples are no classes"
        )
    if not held_out:
        return Data(x, x, y, y, shape)
    (x, test), (y, y_test) = split(seed, held_out, "--data", x, y)
    return Data(x, test, y, y_test, shape)


def split(seed: int, fraction: float, option: str, *arrays: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each array in two parts, the second with a random fraction of the rows."""
    m = len(arrays[0])
    order = mg.random.Generator(seed, 4).permutation(m).numpy()
    count = round(fraction * m)
    if not 0 < count < m:
        raise MinigradError(f"{option} leaves {m - count} of {m} samples to train on; expected some for both parts")
    return [(a[order[count:]], a[order[:count]]) for a in arrays]
