"""The autoencoder: dense layers down to a code and back, and its file."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import minigrad as mg
from minigrad import files, nn
from minigrad.errors import DataError, DTypeError, ShapeError
from minigrad.random import Generator

ACTIVATIONS: dict[str, Callable[[mg.Tensor], mg.Tensor]] = {
    "linear": lambda z: z,
    "sigmoid": mg.sigmoid,
    "tanh": mg.tanh,
    "relu": mg.relu,
}
FORMAT = "autoencoders.Autoencoder/1"


class Autoencoder(nn.Module):
    """A dense autoencoder: h = encode(x), x_hat = decode(h).

    Every encoder layer computes act(x W + b), as in H = XW of the lecture; the decoder mirrors the widths, with
    `output` instead of `activation` in its last layer.

    Parameters
    ----------
    sizes : sequence of int, at least two
        The widths from the data to the code: (784, 500) is 784-500-784, and (784, 500, 30) is 784-500-30-500-784.
    activation : {"sigmoid", "tanh", "relu", "linear"}
        Of every layer but the last, the code included.
    output : {"linear", "sigmoid", "tanh", "relu"}
        Of the last layer: linear for data of any range, sigmoid for data in [0, 1].
    tied : bool
        Whether every decoder weight is the transpose of its encoder weight: one array, with gradients from both uses.
    seed : int
        Of the initial weights.
    generator : Generator, optional
        Draws the initial weights instead of one made from `seed`.
    dtype : str or dtype
        Of the parameters: "float32" or "float64".

    Attributes
    ----------
    sizes, activation, output, tied
        As given.
    encoder_weights, decoder_weights : list of Tensor, shapes (inputs, outputs)
        In the order in which data pass them.

    Raises
    ------
    ShapeError, DTypeError, DataError
        sizes are not at least two positive integers, or an activation is unknown.

    Notes
    -----
    Weights start uniform in +-sqrt(6 / (inputs + outputs)), biases at 0 (X. Glorot and Y. Bengio, "Understanding the
    difficulty of training deep feedforward neural networks", AISTATS 2010).

    Examples
    --------
    >>> import minigrad as mg
    >>> model = Autoencoder((64, 16), output="sigmoid", tied=True)
    >>> model
    Autoencoder(64-16-64, activation='sigmoid', output='sigmoid', tied=True)
    >>> x = mg.zeros((5, 64))
    >>> model.encode(x).shape, model(x).shape
    ((5, 16), (5, 64))
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "sigmoid",
        output: str = "linear",
        tied: bool = False,
        *,
        seed: int = 0,
        generator: Generator | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        self.sizes = _check_sizes(sizes)
        for name, value in (("activation", activation), ("output", output)):
            if value not in ACTIVATIONS:
                raise DataError(f"Autoencoder: got {name}={value!r}; expected one of {', '.join(ACTIVATIONS)}")
        if np.dtype(dtype).kind != "f":
            raise DTypeError(f"Autoencoder: got dtype={dtype!r}; expected a floating dtype such as 'float32'")
        self.activation, self.output, self.tied = activation, output, bool(tied)
        generator = Generator(seed) if generator is None else generator
        back = self.sizes[::-1]
        self.encoder_layers = nn.Sequential(*_layers(self.sizes, False, generator, dtype))
        self.decoder_layers = nn.Sequential(*_layers(back, self.tied, generator, dtype))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.sizes[:1]

    @property
    def encoder_weights(self) -> list[mg.Tensor]:
        """The weight of every encoder layer, shape (inputs, outputs)."""
        return [layer.weight for layer in self.encoder_layers]

    @property
    def decoder_weights(self) -> list[mg.Tensor]:
        """The weight of every decoder layer, shape (inputs, outputs); with tied weights, views of the encoder's."""
        if self.tied:
            return [weight.mT for weight in reversed(self.encoder_weights)]
        return [layer.weight for layer in self.decoder_layers]

    def encode(self, x: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return the code h, shape (..., sizes[-1]), of x, shape (..., sizes[0])."""
        h = self._input(x, self.sizes[0], "encode")
        act = ACTIVATIONS[self.activation]
        for layer in self.encoder_layers:
            h = act(h @ layer.weight + layer.bias)
        return h

    def decode(self, h: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return the reconstruction x_hat, shape (..., sizes[0]), of a code h, shape (..., sizes[-1])."""
        return ACTIVATIONS[self.output](self._decode_linear(h))

    def decode_logits(self, h: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return decode(h) before its sigmoid, for `binary_cross_entropy_with_logits`; only with output="sigmoid"."""
        if self.output != "sigmoid":
            raise DataError(
                f"decode_logits: this model has output={self.output!r}; logits belong to output='sigmoid', "
                "and a model trained on them would decode to something else"
            )
        return self._decode_linear(h)

    def forward(self, x: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return decode(encode(x))."""
        return self.decode(self.encode(x))

    def _decode_linear(self, h: mg.Tensor | ArrayLike) -> mg.Tensor:
        z = self._input(h, self.sizes[-1], "decode")
        act = ACTIVATIONS[self.activation]
        for i, (layer, weight) in enumerate(zip(self.decoder_layers, self.decoder_weights, strict=True)):
            z = (act(z) if i else z) @ weight + layer.bias
        return z

    def _input(self, x: mg.Tensor | ArrayLike, width: int, caller: str) -> mg.Tensor:
        """x as a tensor of the right width. Arrays are converted to the model's dtype and device, tensors are not."""
        weight = self.encoder_weights[0]
        if not isinstance(x, mg.Tensor):
            x = mg.tensor(np.asarray(x), dtype=weight.dtype, device=weight.device)
        if x.ndim == 0 or x.shape[-1] != width:
            raise ShapeError(f"{caller}: got shape {x.shape}; expected (..., {width}) for sizes {self.sizes}")
        return x

    def __repr__(self) -> str:
        widths = "-".join(str(n) for n in (*self.sizes, *self.sizes[-2::-1]))
        return f"Autoencoder({widths}, activation={self.activation!r}, output={self.output!r}, tied={self.tied})"

    def save(self, path: str | Path) -> Path:
        """Write the model to a file: see `save_model`."""
        return save_model(self, path)

    @staticmethod
    def load(path: str | Path) -> Autoencoder:
        """Read a model from a file: see `load_model`."""
        return load_model(path)


class _Bias(nn.Module):
    """A decoder layer with tied weights: all it has of its own is the bias."""

    def __init__(self, width: int, dtype: Any) -> None:
        super().__init__()
        self.bias = mg.Parameter(np.zeros(width, dtype))


def save_model(model: Autoencoder, path: str | Path) -> Path:
    """Write a model as one safetensors file, its configuration as JSON in the file's metadata.

    Parameters
    ----------
    model : Autoencoder
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
    config = {
        "sizes": list(model.sizes),
        "activation": model.activation,
        "output": model.output,
        "tied": model.tied,
        "dtype": model.encoder_weights[0].dtype.name,
    }
    files.save(file, model.state_dict(), metadata={"format": FORMAT, "config": json.dumps(config)})
    return file


def load_model(path: str | Path) -> Autoencoder:
    """Read a model that `save_model` wrote.

    Parameters
    ----------
    path : str or Path
        The file, or the folder that holds ``model.safetensors``.

    Returns
    -------
    Autoencoder
        On the CPU, with the parameters bit for bit as they were saved.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DataError
        The file is not one of `save_model`, or its arrays do not fit its configuration.
    """
    file = _model_file(path)
    state, metadata = files.load_with_metadata(file)
    if metadata.get("format") != FORMAT:
        raise DataError(f"{file}: not a saved autoencoder: expected format {FORMAT!r}, got {metadata.get('format')!r}")
    try:
        config = json.loads(metadata["config"])
        model = Autoencoder(**{name: config[name] for name in ("sizes", "activation", "output", "tied", "dtype")})
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: its configuration is damaged ({error}); got {metadata.get('config')!r}") from error
    try:
        model.load_state_dict(state)
    except (DataError, DTypeError, ShapeError) as error:
        raise DataError(f"{file}: its arrays do not fit {model}: {error}") from error
    return model


def _model_file(path: str | Path) -> Path:
    path = Path(path)
    return path / "model.safetensors" if path.is_dir() else path


def _check_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    try:
        widths = tuple(operator.index(n) for n in sizes)
    except TypeError:
        raise DTypeError(
            f"Autoencoder: got sizes={sizes!r}; expected a sequence of integers such as (784, 500)"
        ) from None
    if len(widths) < 2 or min(widths) < 1:
        raise ShapeError(f"Autoencoder: got sizes={sizes!r}; expected two or more positive widths such as (784, 500)")
    return widths


def _layers(widths: tuple[int, ...], tied: bool, generator: Generator, dtype: Any) -> list[nn.Module]:
    """The layers between neighbouring widths; with tied weights only their biases."""
    if tied:
        return [_Bias(n, dtype) for n in widths[1:]]
    return [nn.Linear(n, k, generator=generator, dtype=dtype) for n, k in pairwise(widths)]
