"""An autoencoder of any two modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

import minigrad as mg
from autoencoders.models.base import Model, as_input, check_activations, check_samples, widths_of
from minigrad import nn
from minigrad.errors import DTypeError


class EncoderDecoder(Model):
    """An encoder and a decoder of your own, as a model: h = encoder(x), x_hat = output(decoder(h)).

    Parameters
    ----------
    encoder, decoder : Module
        The decoder stops before the output activation, so that `decode_logits` has something to return. If both hold
        the same module or parameter, it is one.
    output : {"linear", "sigmoid", "tanh", "relu"}
        The activation after the decoder: linear for data of any range, sigmoid for data in [0, 1].
    input_shape : sequence of int, optional
        The shape of one sample, to be checked by `encode` and `fit`.

    Raises
    ------
    DTypeError, DataError, ShapeError
        An argument is no module, `output` is unknown, or `input_shape` is not of positive integers.

    Notes
    -----
    `save_model` writes its parameters and buffers, `output` and `input_shape`; to read them, make the two modules anew
    and call ``load_model(path, into=EncoderDecoder(encoder, decoder, output, input_shape))`` with the same two.

    Examples
    --------
    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> encoder = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.GELU())
    >>> model = EncoderDecoder(encoder, nn.Linear(4, 6), output="sigmoid", input_shape=(6,))
    >>> x = mg.zeros((5, 6))
    >>> model.encode(x).shape, model(x).shape
    ((5, 4), (5, 6))
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        output: str = "linear",
        input_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        for name, module in (("encoder", encoder), ("decoder", decoder)):
            if not isinstance(module, nn.Module):
                raise DTypeError(
                    f"EncoderDecoder: got {name}={module!r}; expected a module, such as nn.Sequential(nn.Linear(6, 4))"
                )
        check_activations("EncoderDecoder", output=output)
        self.output = output
        self.input_shape = (
            None if input_shape is None else widths_of(input_shape, "input_shape", 1, "(1, 28, 28)", "EncoderDecoder")
        )
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return encoder(x)."""
        x = as_input(self, x)
        if self.input_shape is not None:
            check_samples(x, self.input_shape, self, "encode")
        return self.encoder(x)

    def decode_linear(self, h: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return decode(h) before its output activation."""
        return self.decoder(as_input(self, h))

    def config(self) -> dict[str, Any]:
        """Return what is known of the architecture; the two modules are code of yours."""
        return {"output": self.output, "input_shape": self.input_shape and list(self.input_shape)}

    def describe(self) -> str:
        """Return the output activation; the two modules follow it."""
        return f"output={self.output!r}"

    __repr__ = nn.Module.__repr__
