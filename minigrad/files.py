"""Files of named arrays, in the safetensors format: nothing in them is ever executed, and each is whole or absent."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from .atomic import write_atomically
from .errors import DataError, DTypeError
from .state import to_array

_DTYPES = frozenset("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split())
_RESERVED = "__metadata__"


def save(path: str | os.PathLike[str], state: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write named arrays to a safetensors file; it is complete or, after an error, as it was before.

    Parameters
    ----------
    path : str or path-like
        The file, in a folder that exists; an existing file is replaced.
    state : dict of str to array, Tensor, number or another such dict
        Names of nested dicts are joined by dots. Bools, integers up to 64 bits and float16, float32 and float64.
    metadata : dict of str to str, optional
        Short texts to keep beside the arrays.

    Raises
    ------
    DTypeError
        A value is no array of a dtype that the format has, or metadata are not texts.
    DataError
        Two values get the same name, a dict contains itself, or a text has a character that UTF-8 lacks.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/a.safetensors", {"model": {"weight": np.ones(2)}, "epoch": 3})
    ...     load(f"{folder}/a.safetensors")
    {'epoch': array(3), 'model.weight': array([1., 1.])}
    """
    if not isinstance(state, Mapping):
        raise DTypeError(f"save: a state is a dict of arrays by name, got {type(state).__name__}")
    arrays: dict[str, np.ndarray] = {}
    for name, value in _flat("", state):
        if name in arrays or name == _RESERVED:
            raise DataError(
                f"save: the name {name!r} is {'reserved' if name == _RESERVED else 'there twice'}; rename it"
            )
        arrays[name] = _storable(name, value)
    if metadata is not None and not isinstance(metadata, Mapping):
        raise DTypeError(f"save: metadata are a dict of texts by name, got {type(metadata).__name__}")
    texts = dict(metadata or {})
    for key, text in texts.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise DTypeError(f"save: metadata are texts by name, got {key!r}: {text!r}; use str or json.dumps")
        _check_text(key)
        _check_text(text)
    write_atomically(path, _in_fixed_order(safetensors.numpy.save(arrays, texts or None)))


def _in_fixed_order(content: bytes) -> bytes:
    """Return a safetensors file with the texts in its header sorted: equal states then give equal files."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    if _RESERVED in header:
        header[_RESERVED] = dict(sorted(header[_RESERVED].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # as the format asks for, so that arrays stay aligned
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the arrays of a safetensors file, by their full names, sorted.

    Raises
    ------
    DataError
        The file is damaged, cut short or not in this format, or holds a dtype that NumPy lacks.
    OSError
        The file cannot be opened or read.
    """
    return load_with_metadata(path)[0]


def load_with_metadata(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays of a safetensors file, as `load` does, and the texts that `save` put beside them."""
    with open(path, "rb"):  # a missing file, a folder and a forbidden file get the error that Python users know
        pass
    try:
        with safetensors.safe_open(os.fspath(path), framework="np") as file:
            return {name: file.get_tensor(name) for name in sorted(file.keys())}, dict(file.metadata() or {})
    except (safetensors.SafetensorError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise DataError(
            f"{os.fspath(path)}: not a readable safetensors file ({error}); save or get it again"
        ) from error


def _check_text(text: str) -> None:
    """Raise for half of a surrogate pair, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"save: {text!r} has a character that UTF-8 lacks ({error.reason}); rename it") from None


def _flat(prefix: str, state: Mapping[str, Any], above: tuple[int, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield the values of nested dicts with dotted names; `above` are the ids of the dicts that this one is in."""
    if id(state) in above:
        raise DataError(f"save: the dict {prefix!r} contains itself; save what is in it once")
    for key, value in state.items():
        if not isinstance(key, str) or not key:
            raise DTypeError(f"save: names are non-empty texts, got {key!r}" + (f" in {prefix!r}" if prefix else ""))
        _check_text(key)
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping):
            yield from _flat(name, value, (*above, id(state)))
        else:
            yield name, value


def _storable(name: str, value: Any) -> np.ndarray:
    """Return a value as an array in C order: safetensors copies the memory as it lies, whatever the strides."""
    try:
        array = to_array(value)
    except ValueError as error:
        raise DTypeError(f"save: {name!r} is no array: {error}") from error
    if array.dtype.name not in _DTYPES:
        raise DTypeError(f"save: {name!r} has dtype {array.dtype}; safetensors files hold {', '.join(sorted(_DTYPES))}")
    return np.asarray(array, order="C")
