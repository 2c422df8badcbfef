"""Fetch the four files of MNIST from a public mirror, and keep only what has the right checksum."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import zlib
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from minigrad.atomic import write_atomically
from minigrad.errors import DataError


class Content(NamedTuple):
    """What an unpacked file must be."""

    md5: str
    size: int


MNIST_FILES = {
    "train-images-idx3-ubyte": Content("6bbc9ace898e44ae57da46a324031adb", 47_040_016),
    "train-labels-idx1-ubyte": Content("a25bea736e30d166cdddb491f175f624", 60_008),
    "t10k-images-idx3-ubyte": Content("2646ac647ad5339dbf082846283269ea", 7_840_016),
    "t10k-labels-idx1-ubyte": Content("27ae3e4e09519cfbb04c329615203637", 10_008),
}
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
TIMEOUT_SECONDS = 30.0  # without a sign of life from the server


def download_mnist_file(name: str, folder: Path) -> None:
    """Save ``name``.gz in ``folder`` (made if missing) from the first mirror that serves the right content."""
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for mirror in MNIST_MIRRORS:
        url = f"{mirror}{name}.gz"
        try:
            packed = _fetch(url, MNIST_FILES[name])
        except (OSError, EOFError, zlib.error, http.client.HTTPException, DataError) as error:
            failures.append(f"  {url}: {error or type(error).__name__}")
            continue
        write_atomically(folder / f"{name}.gz", packed)
        return
    raise DataError(
        f"could not download {name}.gz; tried:\n"
        + "\n".join(failures)
        + f"\nCheck the network connection, or get the file elsewhere and put it into {folder}."
    )


def _fetch(url: str, expected: Content) -> bytes:
    """The gzipped file at ``url``; DataError unless it unpacks to what is expected."""
    with urlopen(url, timeout=TIMEOUT_SECONDS) as response:
        packed: bytes = response.read(expected.size + 1024)  # no gzip file is longer than that
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        unpacked = file.read(expected.size + 1)  # one byte more shows a file that is too long, and no bomb goes off
    md5 = hashlib.md5(unpacked, usedforsecurity=False).hexdigest()
    if md5 != expected.md5:
        raise DataError(f"wrong checksum: the MD5 of its content is {md5}, expected {expected.md5}")
    return packed
