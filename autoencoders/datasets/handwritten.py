"""Handwritten digits, small (scikit-learn's 8x8 ones) and large (MNIST)."""

from __future__ import annotations

import operator
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoencoders.datasets.dataset import Dataset
from autoencoders.datasets.download import MNIST_FILES, download_mnist_file
from autoencoders.datasets.idx import read_idx
from minigrad.errors import DataError, MissingDependencyError


def digits(test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """scikit-learn's bundled digits: 1797 images of 8x8 pixels in ten classes. Needs no network.

    Parameters
    ----------
    test_fraction : float
        The share of the images that become the test part, strictly between 0 and 1.
    seed : int, 0 or more
        Decides which images those are. The same seed gives the same split on every machine.

    Returns
    -------
    Dataset
        64 pixels per row; the 17 grey levels 0..16 of the source are divided by 16.

    Raises
    ------
    MissingDependencyError
        scikit-learn is not installed.
    ValueError
        ``test_fraction`` would leave one of the two parts empty, or ``seed`` is negative.

    Notes
    -----
    Source: E. Alpaydin and C. Kaynak, "Optical recognition of handwritten digits", UCI repository, 1998 (its test set).

    Examples
    --------
    >>> data = digits(test_fraction=0.25, seed=1)
    >>> data
    Dataset(train=1348, test=449, image_shape=(8, 8))
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependencyError(
            "ae.datasets.digits needs scikit-learn, which brings the images: pip install scikit-learn"
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    x = (pixels / 16).astype(np.float32)
    y = labels.astype(np.int64)

    n_test = round(test_fraction * len(x)) if 0 < test_fraction < 1 else 0
    if not 0 < n_test < len(x):
        raise ValueError(
            f"digits: got test_fraction={test_fraction}; expected a number between 0 and 1 "
            f"that leaves both parts of the {len(x)} images non-empty."
        )
    seed = operator.index(seed)
    if seed < 0:
        raise ValueError(f"digits: got seed={seed}; expected 0 or more.")
    # Raw bits of PCG64 are promised never to change; those of Generator.permutation are not.
    order = np.argsort(np.random.PCG64(seed).random_raw(len(x)), kind="stable")
    test, train = order[:n_test], order[n_test:]
    return Dataset(x[train], y[train], x[test], y[test], (8, 8))


def mnist(root: str | os.PathLike[str] | None = None, download: bool = False) -> Dataset:
    """MNIST: 60,000 training and 10,000 test images of 28x28 pixels in ten classes.

    The four IDX files (``train-images-idx3-ubyte`` and so on), gzipped or not, are looked for in ``root``; without a
    ``root``, first in ``mnist/`` under ``$AUTOENCODERS_DATA``, then in the user's cache (``autoencoders/mnist`` under
    ``$XDG_CACHE_HOME`` or ``~/.cache``). Any data set that is published in the very same form, such as
    Fashion-MNIST, can be read from a ``root`` too.

    Parameters
    ----------
    root : str or path-like, optional
        The folder that holds the files.
    download : bool
        Fetch the files that are missing from a public mirror into ``root``, or into the cache; about 12 MB, checked
        against known checksums. Without it nothing is ever downloaded.

    Returns
    -------
    Dataset
        784 pixels per row; the grey levels 0..255 of the source are divided by 255.

    Raises
    ------
    DataError
        The files are not found (the message lists where they were looked for), are damaged, do not belong together,
        or cannot be downloaded.

    Notes
    -----
    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition",
    Proc. IEEE 86 (1998).

    Examples
    --------
    >>> mnist(download=True)  # doctest: +SKIP
    Dataset(train=60000, test=10000, image_shape=(28, 28))
    """
    folders = [Path(root).expanduser()] if root is not None else _default_folders()
    for folder in folders:
        if not _missing(folder):
            return _load(_files_in(folder))
    if not download:
        raise DataError(_not_found(folders))
    target = folders[-1]  # the cache, unless the caller named a folder
    for name in _missing(target):
        download_mnist_file(name, target)
    return _load(_files_in(target))


def _default_folders() -> list[Path]:
    """Where MNIST may lie when the caller does not say."""
    folders = []
    if os.environ.get("AUTOENCODERS_DATA"):
        folders.append(Path(os.environ["AUTOENCODERS_DATA"]).expanduser() / "mnist")
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # the XDG standard says to ignore a relative path
        cache = Path.home() / ".cache"
    return [*folders, cache / "autoencoders" / "mnist"]


def _files_in(folder: Path) -> dict[str, Path]:
    """Those of the four files that ``folder`` holds; where one lies there plain and gzipped, the plain one."""
    return {name: path for name in MNIST_FILES for path in (folder / f"{name}.gz", folder / name) if path.is_file()}


def _missing(folder: Path) -> list[str]:
    """Those that it does not hold."""
    return [name for name in MNIST_FILES if name not in _files_in(folder)]


def _not_found(folders: list[Path]) -> str:
    """The message that lists every place looked in, and the ways out."""
    lines = ["MNIST was not found. Looked in:"]
    for folder in folders:
        lines.append(
            f"  {folder}: " + (f"lacks {', '.join(_missing(folder))}" if folder.is_dir() else "no such folder")
        )
    lines.append(
        'To fetch it (about 12 MB), run python -c "import autoencoders as ae; ae.datasets.mnist(download=True)". Or '
        "get the four files yourself (plain or .gz) and put them into mnist/ in the folder that AUTOENCODERS_DATA "
        "names, or name their folder: ae.datasets.mnist(root=...)."
    )
    return "\n".join(lines)


def _load(files: dict[str, Path]) -> Dataset:
    """Read and check the four files."""
    x_train, y_train = _load_part(files["train-images-idx3-ubyte"], files["train-labels-idx1-ubyte"])
    x_test, y_test = _load_part(files["t10k-images-idx3-ubyte"], files["t10k-labels-idx1-ubyte"])
    return Dataset(x_train, y_train, x_test, y_test, (28, 28))


def _load_part(images_path: Path, labels_path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pixels in [0, 1] and labels of one part."""
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or len(images) == 0:
        raise DataError(f"{images_path}: expected images, uint8 of shape (n, 28, 28); found {_describe(images)}.")
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise DataError(f"{labels_path}: expected labels, uint8 of shape (n,); found {_describe(labels)}.")
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images, but {labels_path} holds {len(labels)} labels: "
            "the two files do not belong together."
        )
    if labels.max() > 9:
        first = int(np.argmax(labels > 9))
        raise DataError(f"{labels_path}: label number {first} is {labels[first]}; expected digits 0 to 9.")
    pixels = np.divide(images.reshape(len(images), -1), 255, dtype=np.float32)
    return pixels, labels.astype(np.int64)


def _describe(array: NDArray[Any]) -> str:
    """Dtype and shape in words, with a guess at what was given instead."""
    guess = {1: " (a file of labels?)", 3: " (a file of images?)"}.get(array.ndim, "")
    return f"{array.dtype} of shape {array.shape}{guess}"
