"""Models as files: safetensors with the configuration as JSON in its metadata. Nothing in a file is ever executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from autoencoders.checkpoints import FORMAT as CHECKPOINT
from autoencoders.models.base import Configured, Model
from autoencoders.models.convolutional import ConvAutoencoder
from autoencoders.models.dense import Autoencoder
from autoencoders.models.stacked import StackedAutoencoder
from autoencoders.models.topk import TopKAutoencoder
from autoencoders.models.variational import VariationalAutoencoder
from minigrad import files, nn
from minigrad.errors import DataError, DTypeError, ShapeError

KINDS: dict[str, type[Model]] = {
    kind.__name__: kind
    for kind in (Autoencoder, ConvAutoencoder, StackedAutoencoder, TopKAutoencoder, VariationalAutoencoder)
}
OWN = "Module"  # any other module: the file has its arrays, and its code is the user's
FORMATS = {f"autoencoders.{kind}/1": kind for kind in (*KINDS, OWN)}


def save_model(model: nn.Module, path: str | Path) -> Path:
    """Write a model as one safetensors file, its configuration as JSON in the file's metadata.

    Parameters
    ----------
    model : Module
        A model of this package, which `load_model` makes anew, or any other module: of any other `Model`, such as an
        `EncoderDecoder`, the file has parameters and buffers and its ``config()``, which must be equal (of a
        `SoftmaxRegression` the labels); of any other module parameters and buffers alone.
    path : str or Path
        The file, or an existing folder, in which it becomes ``model.safetensors``.

    Returns
    -------
    Path
        The file. It is complete or, after an error, as it was before.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_model(Autoencoder((4, 2)), folder)
    ...     path.name, load_model(folder)
    ('model.safetensors', Autoencoder(4-2-4, activation='sigmoid', output='linear', tied=False))
    """
    file = _model_file(path)
    kind, config = _kind(model)
    metadata = {"format": f"autoencoders.{kind}/1", "config": json.dumps(config), "model": repr(model)}
    files.save(file, model.state_dict(), metadata)
    return file


def load_model(path: str | Path, into: nn.Module | None = None) -> Any:
    """Read a model that `save_model` wrote.

    Parameters
    ----------
    path : str or Path
        The file, or the folder that holds ``model.safetensors``.
    into : Module, optional
        A module made as the saved one was, to be filled and returned: for modules of your own. Others are made from
        the configuration in the file.

    Returns
    -------
    Module
        With the parameters and buffers bit for bit as they were saved; on the CPU, or where `into` is.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DataError
        The file is not one of `save_model`, its arrays do not fit its configuration or `into`, or it holds a module
        of yours and `into` is missing. `into` is unchanged then.

    Examples
    --------
    >>> import tempfile
    >>> net = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_model(net, folder)
    ...     again = load_model(path, into=nn.Sequential(nn.Linear(3, 2), nn.Tanh()))
    >>> bool((again[0].weight == net[0].weight).min())
    True
    """
    file = _model_file(path)
    kind, config, state, metadata = _read(file)
    if into is None:
        if kind == OWN:
            raise DataError(
                f"{file}: holds a module of your own; make one like it and pass it: load_model(path, into=module). "
                f"It was {metadata.get('model', 'not described')}"
            )
        into = _make(file, kind, config)
    elif (kind, config) != _kind(into):
        raise DataError(
            f"{file}: holds {metadata.get('model', kind)}, which differs in {_differences(kind, config, into)}; "
            f"expected a model like into, {into!r}"
        )
    return _fill(into, file, state)


def describe_file(path: str | Path) -> str:
    """Return what a model's file holds: the model, and a line for each of its arrays.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(describe_file(save_model(nn.Linear(3, 2), folder)))
    Linear(3, 2)
    bias                         float32[2]
    weight                       float32[3, 2]
    """
    file = _model_file(path)
    kind, config, state, metadata = _read(file)
    text = metadata.get("model", kind)
    if kind != OWN:
        model = _fill(_make(file, kind, config), file, state)
        text, state = repr(model), model.state_dict()
    return "\n".join([text, *(f"{name:28} {array.dtype}{list(array.shape)}" for name, array in state.items())])


def _kind(model: nn.Module) -> tuple[str, dict[str, Any]]:
    """Return what a file says of a model: the kind and the configuration."""
    kind = type(model).__name__ if type(model) in KINDS.values() else OWN  # a subclass has code of its own
    config = model.config() if isinstance(model, Configured) else {}
    return kind, json.loads(json.dumps(config))  # as a file gives it back: tuples become lists


def _differences(kind: str, config: Any, into: nn.Module) -> str:
    """Return in what the kind or the configuration in a file is not that of a model: descriptions may be the same."""
    expected_kind, expected = _kind(into)
    if kind != expected_kind or not isinstance(config, dict):
        return f"its format: {kind} {config!r}, not {expected_kind} {expected!r}"
    return " and ".join(
        f"{name}: {config.get(name, 'nothing')!r}, not {expected.get(name, 'nothing')!r}"
        for name in {**config, **expected}
        if name not in config or name not in expected or config[name] != expected[name]
    )


def _read(file: Path) -> tuple[str, dict[str, Any], dict[str, np.ndarray], dict[str, str]]:
    """Return the kind of a model's file, the configuration, the arrays and the metadata."""
    state, metadata = files.load_with_metadata(file)
    kind = FORMATS.get(metadata.get("format", ""))
    if metadata.get("format") == CHECKPOINT:
        raise DataError(
            f"{file}: is a checkpoint of a training, not a saved model: finish the training, which saves it: by the "
            "same `train` command with --resume, in Python by fit(..., resume=True) and save_model"
        )
    if kind is None:
        raise DataError(
            f"{file}: not a saved autoencoder: got format {metadata.get('format')!r}; expected one of "
            f"{', '.join(FORMATS)}"
        )
    try:
        config = json.loads(metadata["config"])
    except (KeyError, ValueError, RecursionError) as error:
        raise _damaged(file, metadata.get("config"), error) from error
    return kind, config, state, metadata


def _make(file: Path, kind: str, config: Any) -> Model:
    """Return a new model of the configuration in a file."""
    half = isinstance(config, dict) and config.get("dtype") == "float16"  # of a model that was converted
    try:
        model = KINDS[kind](**({**config, "dtype": "float32"} if half else config))
        if half:
            model.to("float16")
    except (TypeError, ValueError, AttributeError, OverflowError, MemoryError) as error:
        raise _damaged(file, config, error) from error
    if model.config() != config:  # an argument was left out, or is none of the architecture
        raise _damaged(file, config, f"expected {', '.join(model.config())}")
    return model


def _fill(model: nn.Module, file: Path, state: dict[str, np.ndarray]) -> nn.Module:
    """Give a model the arrays of a file; return it."""
    try:
        model.load_state_dict(state)
    except (DataError, DTypeError, ShapeError) as error:
        raise DataError(f"{file}: its arrays do not fit {model!r}: {error}") from error
    return model


def _damaged(file: Path, config: Any, problem: object) -> DataError:
    return DataError(f"{file}: its configuration is damaged ({problem}); got {config!r}")


def _model_file(path: str | Path) -> Path:
    path = Path(path)
    return path / "model.safetensors" if path.is_dir() else path
