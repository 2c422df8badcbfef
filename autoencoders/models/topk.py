"""The top-k autoencoder: only the k strongest units of each sample are active; units that never are can be revived."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import minigrad as mg
from autoencoders.losses import squared_error
from autoencoders.models.base import as_input, check_width
from autoencoders.models.dense import Autoencoder
from minigrad import nn
from minigrad.errors import ShapeError
from minigrad.nn.layers import positive
from minigrad.random import Generator


class TopKAutoencoder(Autoencoder):
    """An autoencoder with k active units per sample: h = z = x W + b where z is among the k largest, else 0.

    Sparsity is exact and needs no penalty; there may be far more units than inputs. Of equal values the first counts
    as larger.

    Parameters
    ----------
    sizes : (int, int)
        Inputs and units: (784, 2000).
    k : int
        How many units are active; from 1 to the number of units.
    output : {"linear", "sigmoid", "tanh", "relu"}
        Of the reconstruction: linear for data of any range, sigmoid for data in [0, 1].
    tied : bool
        Whether the decoder weight is the transpose of the encoder weight.
    seed : int
        Of the initial weights.
    generator : Generator, optional
        Draws the initial weights instead of one made from `seed`.
    dtype : str or dtype
        Of the parameters: "float32" or "float64".

    Attributes
    ----------
    idle : Buffer, shape (units,), int64
        For how many samples in a row each unit has not been active. Every call of `encode` in training mode counts.

    Raises
    ------
    ShapeError, DTypeError, DataError
        sizes are not two positive integers, k is not between 1 and the number of units, or an output is unknown.

    Notes
    -----
    A unit that is never among the k largest gets no gradient, and stays so: it is dead. Add
    ``model.dead_unit_error(x, x_hat, after)`` to the objective to revive such units.

    Source: A. Makhzani and B. Frey, "k-Sparse autoencoders", ICLR (2014), algorithm 1; L. Gao et al., "Scaling and
    evaluating sparse autoencoders" (2024), section 2.3 and appendix A.2.

    Examples
    --------
    >>> import numpy as np
    >>> import autoencoders as ae
    >>> model = TopKAutoencoder((6, 20), k=3)
    >>> def objective(model, x):
    ...     x_hat = model(x)
    ...     return {
    ...         "reconstruction": ae.squared_error(x_hat, x),
    ...         "revival": model.dead_unit_error(x, x_hat, after=100) / 32,
    ...     }
    >>> X = np.random.default_rng(0).normal(size=(50, 6))
    >>> history = ae.fit(model, X, objective, epochs=2)
    >>> (model.encode(X).numpy() != 0).sum(axis=1).tolist() == [3] * 50
    True
    """

    def __init__(
        self,
        sizes: Sequence[int],
        k: int,
        output: str = "linear",
        tied: bool = False,
        *,
        seed: int = 0,
        generator: Generator | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(sizes, "linear", output, tied, seed=seed, generator=generator, dtype=dtype)
        if len(self.sizes) != 2:
            raise ShapeError(f"TopKAutoencoder: got sizes={sizes!r}; expected two, (inputs, units)")
        self.k = _count(k, "k", "TopKAutoencoder", self.sizes[1])
        self.idle = nn.Buffer(np.zeros(self.sizes[1], np.int64))

    def preactivations(self, x: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return z = x W + b, shape (..., units), of x, shape (..., inputs)."""
        x = as_input(self, x)
        check_width(x, self.sizes[0], self, "encode")
        return self.encoder_layers[0](x)

    def encode(self, x: mg.Tensor | ArrayLike) -> mg.Tensor:
        """Return the code, shape (..., units), of x, shape (..., inputs): all but k values of each sample are 0."""
        z = self.preactivations(x)
        kept = _largest(z, self.k)
        if self.training:
            self._count_idle(kept)
        return mg.where(kept, z, 0.0)

    def dead_units(self, after: int) -> NDArray[np.intp]:
        """Return the numbers of the units that have not been active for at least `after` samples in a row.

        Examples
        --------
        >>> model = TopKAutoencoder((2, 3), k=1)
        >>> _ = model.encoder_layers[0].bias.assign([0.0, 100.0, 0.0])
        >>> _ = model.encode(np.ones((8, 2)))
        >>> model.dead_units(after=8)
        array([0, 2])
        """
        return np.flatnonzero(self.idle.numpy() >= positive(after, "after", "dead_units"))

    def dead_unit_error(self, x: mg.Tensor, x_hat: mg.Tensor, after: int, k: int | None = None) -> mg.Tensor:
        """Return how badly the dead units reconstruct what is missing: their way back to life.

        Of the dead units of each sample the k largest pre-activations z go through the decoder weight D, as if they
        were a code: (1/m) sum_i |e_i - z_i D|^2 with e = x - x_hat, where e counts as given.

        Parameters
        ----------
        x, x_hat : Tensor, shape (m, inputs)
            Data and their reconstruction.
        after : int, at least 1
            A unit is dead when it has not been active for so many samples.
        k : int, optional
            By default half as many as there are inputs, or all units if they are fewer.

        Returns
        -------
        Tensor, 0-d
            To be added to the objective with a small factor, such as 1/32. It has a gradient for the weights of dead
            units alone, and is 0 while there is none.

        Notes
        -----
        Source: Gao et al. (2024), appendix A.2 (AuxK loss).
        """
        positive(after, "after", "dead_unit_error")
        inputs, units = self.sizes
        most = min(units, max(1, inputs // 2)) if k is None else _count(k, "k", "dead_unit_error", units)
        dead = self.idle >= after
        z = self.preactivations(x)
        kept = mg.logical_and(_largest(mg.where(dead, z, -np.inf), most), dead)
        missing = (x - x_hat).detach()
        error = squared_error(mg.where(kept, z, 0.0) @ self.decoder_weights[0], missing)
        return mg.where(mg.any(dead), error, 0.0)

    def _count_idle(self, kept: mg.Tensor) -> None:
        kept = kept.reshape(-1, self.sizes[1])
        with mg.no_grad():
            self.idle.assign(mg.where(mg.any(kept, axis=0), 0, self.idle + kept.shape[0]))

    def config(self) -> dict[str, Any]:
        """Return sizes, k, output, tied and dtype."""
        config = super().config()
        return {"sizes": config["sizes"], "k": self.k, **{name: config[name] for name in ("output", "tied", "dtype")}}

    def describe(self) -> str:
        """Return the widths, k, output, and whether weights are tied."""
        inputs, units = self.sizes
        return f"{inputs}-{units}-{inputs}, k={self.k}, output={self.output!r}, tied={self.tied}"


def _largest(z: mg.Tensor, k: int) -> mg.Tensor:
    """Return where the k largest values of each row are, as bools of the shape of z, shape (..., units)."""
    rows = z.detach().reshape(-1, z.shape[-1])
    columns = mg.argsort(rows, axis=1, descending=True)[:, :k]
    lines = mg.arange(rows.shape[0], device=z.device).reshape(-1, 1)
    return mg.zeros(rows.shape, "bool", z.device).at[lines, columns].set(True).reshape(z.shape)


def _count(k: int, name: str, owner: str, most: int) -> int:
    number = positive(k, name, owner)
    if number > most:
        raise ShapeError(f"{owner}: got {name}={k}; expected at most the {most} units that there are")
    return number
