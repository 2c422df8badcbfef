"""The IDX file format, in which MNIST is published: a short big-endian header, then the raw array.

    byte 0, 1    zero
    byte 2       type of the numbers: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64
    byte 3       number of dimensions d
    4 d bytes    the shape, d unsigned 32-bit integers
    the rest     the array in C order

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits" (the section on file formats).
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autoencoders.inputs import as_array
from minigrad.atomic import write_atomically
from minigrad.errors import DataError, DTypeError, ShapeError

_TYPE_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
_TYPE_NAMES = {code: name for name, code in _TYPE_CODES.items()}
_MAX_DIMENSIONS = 64  # of a NumPy array
_MAX_DEFLATE_RATIO = 1032  # no deflate stream unpacks to more than this many times its own length
_CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an array from an IDX file, plain or gzipped.

    Whether the file is gzipped is seen from its first bytes, not from its name. Memory is taken only as bytes really
    arrive, so a damaged header cannot ask for more than the file holds.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    ndarray
        The array, in the byte order of this machine; its dtype is the one that the file declares.

    Raises
    ------
    DataError
        The file is not IDX, is cut short, carries bytes after the array, or is a damaged gzip file.
    OSError
        The file cannot be opened or read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_idx(f"{folder}/numbers.gz", np.array([[1, 2, 3]], dtype=np.int16))
    ...     read_idx(f"{folder}/numbers.gz")
    array([[1, 2, 3]], dtype=int16)
    """
    path = Path(path)
    with open(path, "rb") as file:
        length = os.fstat(file.fileno()).st_size
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not gzipped:
            return _read_array(path, file, length)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read_array(path, cast(BinaryIO, unpacked), length * _MAX_DEFLATE_RATIO)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{path}: damaged gzip file ({error}); get the file again.") from error


def _read_array(path: Path, stream: BinaryIO, most_bytes: int) -> NDArray[Any]:
    """Read header and array from ``stream``, which holds at most ``most_bytes`` bytes."""
    dtype, shape = _read_header(path, stream)
    header_bytes = 4 + 4 * len(shape)
    expected = math.prod(shape) * dtype.itemsize
    promise = f"its header promises an array of shape {shape} and type {dtype.name}, {expected} bytes"
    if expected > most_bytes - header_bytes:
        raise DataError(
            f"{path}: {promise}, but at most {most_bytes - header_bytes} bytes follow the header: "
            "the file is cut short or its header is damaged; get the file again."
        )
    if math.prod(size for size in shape if size) * dtype.itemsize > sys.maxsize:
        raise DataError(f"{path}: {promise}, a shape that no array can have: its header is damaged.")

    data = bytearray()
    while len(data) < expected:
        chunk = stream.read(min(_CHUNK, expected - len(data)))
        if not chunk:
            raise DataError(
                f"{path}: {promise}, but only {len(data)} bytes follow: the file is cut short; get it again."
            )
        data += chunk
    if stream.read(1):  # at the end of a gzip file this read also verifies its checksum
        raise DataError(f"{path}: {promise}, but more bytes follow: the file is damaged, or is not an IDX file.")
    return np.frombuffer(data, dtype).astype(dtype.newbyteorder("="), copy=False).reshape(shape)


def _read_header(path: Path, stream: BinaryIO) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The dtype (big-endian, as in the file) and the shape."""
    magic = stream.read(4)
    if len(magic) < 4:
        raise DataError(f"{path}: not an IDX file: it holds {len(magic)} bytes, and the header alone takes 8 or more.")
    if magic[:2] != b"\0\0" or magic[2] not in _TYPE_NAMES or not 1 <= magic[3] <= _MAX_DIMENSIONS:
        raise DataError(
            f"{path}: not an IDX file: it starts with the bytes {magic.hex(' ')}; expected 00 00, then a type code "
            f"({', '.join(f'{code:02x}' for code in _TYPE_NAMES)}), then the number of dimensions (01 to 40), all "
            "in hexadecimal."
        )
    dimensions = magic[3]
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise DataError(
            f"{path}: the header is cut short: it announces {dimensions} dimensions, {4 * dimensions} bytes, "
            f"but only {len(sizes)} bytes follow; get the file again."
        )
    return np.dtype(">" + _TYPE_NAMES[magic[2]]), struct.unpack(f">{dimensions}I", sizes)


def write_idx(path: str | os.PathLike[str], array: ArrayLike) -> None:
    """Write an array as an IDX file; a name that ends in ``.gz`` makes it gzipped.

    The file appears complete or not at all, and the same array always gives the same bytes.

    Parameters
    ----------
    path : str or path-like
        The file; an existing one is replaced.
    array : array_like
        uint8, int8, int16, int32, float32 or float64, with 1 or more dimensions.

    Raises
    ------
    DTypeError
        The format has no code for this dtype.
    DataError
        The array has masked values, which the format does not know.
    ShapeError
        The array has no dimension, or one that a 32-bit size cannot express.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_idx(f"{folder}/a", np.array([7, 8], dtype=np.uint8))
    ...     Path(f"{folder}/a").read_bytes().hex(" ")
    '00 00 08 01 00 00 00 02 07 08'
    """
    path = Path(path)
    array = as_array(array, "write_idx: array")
    name = f"{array.dtype.kind}{array.dtype.itemsize}"
    if name not in _TYPE_CODES:
        raise DTypeError(
            f"write_idx: the IDX format has no code for {array.dtype}; convert the array first, "
            "to uint8, int8, int16, int32, float32 or float64."
        )
    if array.ndim == 0 or max(array.shape) >= 2**32:
        raise ShapeError(f"write_idx: got shape {array.shape}; expected 1 or more dimensions, each below 2**32.")
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, _TYPE_CODES[name], array.ndim, *array.shape)
    content = header + array.astype(">" + name).tobytes()
    write_atomically(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
