"""Small square patches of photographs: the data on which a sparse or denoising autoencoder finds oriented edges."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from autoencoders.inputs import array_in, as_array, positive
from minigrad.errors import DataError, DTypeError, MissingDependencyError, ShapeError
from minigrad.random import Generator

PICTURES = (".png", ".jpg", ".jpeg")
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green, blue: ITU-R BT.601
FLAT = 10 / 255**2  # about the variance of the noise in a photograph: flat patches are not blown up to it

Images = str | os.PathLike[str] | Sequence[ArrayLike] | NDArray[Any]


def natural_patches(
    n: int, size: int = 8, images: Images | None = None, seed: int = 0, normalize: str | None = "contrast"
) -> NDArray[np.float32]:
    """Square patches of photographs, cut out at random places.

    Every place at which a patch fits into one of the images is as likely as every other. Colours become grey by their
    luminance.

    Parameters
    ----------
    n : int, at least 1
        How many.
    size : int, at least 1
        The side of a patch in pixels.
    images : path of a folder, or sequence of array_like, optional
        A folder: every PNG, JPEG and .npy file in it (not below it), in the order of their names. Arrays: grey, shape
        (h, w), or in colour, (h, w, 3) or with an alpha channel, which is ignored, (h, w, 4). Unsigned integers are
        divided by their largest value; floats are taken as they are, in [0, 1] if they are grey levels. By default the
        two photographs that come with scikit-learn.
    seed : int, 0 or more
        Decides the places. (The grey levels in a JPEG file may depend on its decoder, in the last digit.)
    normalize : {"contrast", "ufldl", None}
        "contrast": from every patch its mean is subtracted, then it is divided by its standard deviation,
        sqrt(variance + 10 / 255^2). "ufldl": from every patch its mean is subtracted, then all values are cut off at 3
        standard deviations of them all, and mapped to [0.1, 0.9]: targets for a sigmoid output. None: grey levels.

    Returns
    -------
    ndarray of float32, shape (n, size * size)
        One patch per row; ``patches[i].reshape(size, size)`` is picture i.

    Raises
    ------
    DataError, ShapeError, DTypeError
        There are no images, one cannot be read or is smaller than a patch, or an argument is out of range.
    MissingDependencyError
        Pillow, which reads PNG and JPEG files, is not installed, or scikit-learn, which brings the photographs.

    Notes
    -----
    Source: B. A. Olshausen and D. J. Field, "Emergence of simple-cell receptive field properties by learning a sparse
    code for natural images", Nature 381 (1996). "contrast": A. Coates, H. Lee and A. Y. Ng, "An analysis of
    single-layer networks in unsupervised feature learning", AISTATS (2011), section 3. "ufldl": A. Ng et al., UFLDL
    tutorial, exercise "Sparse autoencoder".

    Examples
    --------
    >>> patches = natural_patches(1000, size=8, normalize="ufldl")
    >>> patches.shape, round(float(patches.min()), 4), round(float(patches.max()), 4)
    ((1000, 64), 0.1, 0.9)
    """
    n, size = positive(n, "n", "natural_patches"), positive(size, "size", "natural_patches")
    if normalize is not None and normalize not in NORMALIZATIONS:
        raise DataError(
            f"natural_patches: got normalize={normalize!r}; expected one of {', '.join(NORMALIZATIONS)}, or None."
        )
    generator = Generator(seed)
    pictures = [_grey(image, name) for name, image in _load(images)]
    if not pictures:
        raise DataError("natural_patches: got no images; expected at least one.")
    for i, picture in enumerate(pictures):
        if min(picture.shape) < size:
            raise ShapeError(
                f"natural_patches: image {i} has shape {picture.shape}; expected at least {size} x {size} pixels."
            )
    patches = _cut(pictures, n, size, generator).reshape(n, -1)
    if normalize is not None:
        patches = NORMALIZATIONS[normalize](patches)
    return patches.astype(np.float32)


def _cut(pictures: list[NDArray[Any]], n: int, size: int, generator: Generator) -> NDArray[Any]:
    """n patches, shape (n, size, size): place number i, of all in all pictures, is drawn uniformly."""
    windows = [sliding_window_view(picture, (size, size)) for picture in pictures]
    places = np.array([window.shape[0] * window.shape[1] for window in windows])
    ends = np.cumsum(places)
    drawn = generator.integers(0, int(ends[-1]), (n,)).numpy()
    source = np.searchsorted(ends, drawn, side="right")
    patches = np.empty((n, size, size))
    for i, window in enumerate(windows):
        mine = source == i
        rows, columns = np.divmod(drawn[mine] - (ends[i] - places[i]), window.shape[1])
        patches[mine] = window[rows, columns]
    return patches


def _contrast(patches: NDArray[Any]) -> NDArray[Any]:
    centred = patches - patches.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + FLAT))


def _ufldl(patches: NDArray[Any]) -> NDArray[Any]:
    centred = patches - patches.mean(axis=1, keepdims=True)
    limit = 3 * centred.std() or 1.0  # all patches may be flat
    return np.asarray(0.5 + 0.4 * np.clip(centred / limit, -1, 1))


NORMALIZATIONS = {"contrast": _contrast, "ufldl": _ufldl}


def _load(images: Images | None) -> list[tuple[str, NDArray[Any]]]:
    """The images as they are stored, each with a name for messages."""
    if images is None:
        return [(f"photograph {i}", image) for i, image in enumerate(_sample_photographs())]
    if not isinstance(images, str | os.PathLike):
        return [(f"image {i}", as_array(image, f"natural_patches: image {i}")) for i, image in enumerate(images)]
    folder = Path(images).expanduser()
    if not folder.is_dir():
        raise DataError(f"natural_patches: {folder} is not a folder; expected one with PNG, JPEG or .npy files.")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (*PICTURES, ".npy"))
    if not files:
        raise DataError(f"natural_patches: {folder} holds no PNG, JPEG or .npy file.")
    return [(str(path), _read(path)) for path in files]


def _read(path: Path) -> NDArray[Any]:
    """What an image file holds."""
    if path.suffix.lower() == ".npy":
        return array_in(path, str(path))
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError(
            f"natural_patches needs Pillow to read {path}: pip install pillow; .npy files and arrays need nothing"
        ) from error
    try:
        with Image.open(path) as image:
            plain = image.mode in ("L", "RGB") or image.mode.startswith("I;16")
            return np.asarray(image if plain else image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: not a readable image: {error}") from error


def _sample_photographs() -> list[NDArray[Any]]:
    try:
        from sklearn.datasets import load_sample_images

        return list(load_sample_images().images)
    except ImportError as error:  # scikit-learn raises it too, where it finds no Pillow
        raise MissingDependencyError(
            "natural_patches needs scikit-learn, which brings the photographs, and Pillow, which reads them: "
            "pip install scikit-learn pillow, or name images of your own"
        ) from error


def _grey(image: NDArray[Any], name: str) -> NDArray[Any]:
    """Floating grey levels, shape (h, w)."""
    if image.dtype.kind not in "uf":
        raise DTypeError(f"natural_patches: {name} has dtype {image.dtype}; expected unsigned integers or floats.")
    colour = image.ndim == 3 and image.shape[2] in (3, 4)
    if (image.ndim != 2 and not colour) or image.size == 0:
        raise ShapeError(f"natural_patches: {name} has shape {image.shape}; expected (h, w), (h, w, 3) or (h, w, 4).")
    if not np.isfinite(image).all():
        raise DataError(f"natural_patches: {name} contains NaN or infinity.")
    levels = image / np.iinfo(image.dtype).max if image.dtype.kind == "u" else image.astype(np.float64)
    return np.asarray(levels[:, :, :3] @ LUMA if colour else levels)
