"""Corruption for denoising autoencoders: the model sees a damaged x and is asked for the clean one.

Every call draws anew and leaves x as it was. x may be an array, which becomes a tensor of its dtype, on the default
device. Call these in the objective, never in an encoder: the target is the clean
x, and a trained model encodes clean data (Vincent et al. 2008).
"""

from __future__ import annotations

from numpy.typing import ArrayLike

import minigrad as mg
from autoencoders.inputs import data_tensor, floating, number
from minigrad.random import Generator


def masking_noise(x: mg.Tensor | ArrayLike, q: float, generator: Generator | None = None) -> mg.Tensor:
    """Return x with every value replaced by 0 with probability q, independently.

    Parameters
    ----------
    x : Tensor or array_like, any shape, floating
    q : float in [0, 1]
        The expected fraction of values that are lost.
    generator : Generator, optional
        By default the thread's default generator, which `fit` seeds.

    Returns
    -------
    Tensor
        Of the shape and dtype of x, and of its device. What is kept is not rescaled.

    Raises
    ------
    DataError
        q is not a probability.
    DTypeError
        x is neither a floating tensor nor a floating array.

    Notes
    -----
    Source: P. Vincent, H. Larochelle, Y. Bengio and P.-A. Manzagol, "Extracting and composing robust features with
    denoising autoencoders", ICML (2008).

    Examples
    --------
    >>> import minigrad as mg
    >>> noisy = masking_noise(mg.ones((1000,)), q=0.25, generator=mg.random.Generator(0))
    >>> bool(0.7 < noisy.mean().item() < 0.8)
    True
    """
    x = _floating(x, "masking_noise")
    return mg.where(_uniform(x, generator) < number(q, "q", "masking_noise", high=1.0), 0.0, x)


def gaussian_noise(x: mg.Tensor | ArrayLike, sigma: float, generator: Generator | None = None) -> mg.Tensor:
    """Return x plus independent normal noise of mean 0 and standard deviation sigma.

    Parameters
    ----------
    x : Tensor or array_like, any shape, floating
    sigma : float, at least 0
        In units of x.
    generator : Generator, optional
        By default the thread's default generator, which `fit` seeds.

    Returns
    -------
    Tensor
        Of the shape and dtype of x, and of its device. Values are not clipped to the range of x.

    Raises
    ------
    DataError
        sigma is negative or not finite.
    DTypeError
        x is neither a floating tensor nor a floating array.

    Notes
    -----
    Source: P. Vincent et al., "Stacked denoising autoencoders", JMLR 11 (2010), section 3.3.

    Examples
    --------
    >>> import minigrad as mg
    >>> noisy = gaussian_noise(mg.zeros((1000,)), sigma=0.5, generator=mg.random.Generator(0))
    >>> bool(0.2 < (noisy * noisy).mean().item() < 0.3)
    True
    """
    x = _floating(x, "gaussian_noise")
    sigma = number(sigma, "sigma", "gaussian_noise")
    generator = mg.random.default_generator() if generator is None else generator
    return x + generator.normal(x.shape, dtype=x.dtype, device=x.device) * sigma


def salt_and_pepper_noise(
    x: mg.Tensor | ArrayLike,
    q: float,
    generator: Generator | None = None,
    *,
    low: float = 0.0,
    high: float = 1.0,
) -> mg.Tensor:
    """Return x with every value replaced with probability q, by `low` or by `high` as a fair coin falls.

    Parameters
    ----------
    x : Tensor or array_like, any shape, floating
    q : float in [0, 1]
        The expected fraction of values that are replaced.
    generator : Generator, optional
        By default the thread's default generator, which `fit` seeds.
    low, high : float
        The ends of the range of x: pepper and salt.

    Returns
    -------
    Tensor
        Of the shape and dtype of x, and of its device.

    Raises
    ------
    DataError
        q is not a probability.
    DTypeError
        x is neither a floating tensor nor a floating array.

    Notes
    -----
    Source: P. Vincent et al., "Stacked denoising autoencoders", JMLR 11 (2010), section 3.3.

    Examples
    --------
    >>> import minigrad as mg
    >>> salt_and_pepper_noise(mg.full((3,), 0.5), q=0.0)
    tensor([0.5, 0.5, 0.5])
    """
    x = _floating(x, "salt_and_pepper_noise")
    q = number(q, "q", "salt_and_pepper_noise", high=1.0)
    u = _uniform(x, generator)  # [0, q/2) is pepper, [q/2, q) is salt
    return mg.where(u < q / 2, float(low), mg.where(u < q, float(high), x))


def _floating(x: mg.Tensor | ArrayLike, caller: str) -> mg.Tensor:
    return floating(data_tensor(x, caller, "x"), caller, "mg.tensor(...), or a floating array")


def _uniform(x: mg.Tensor, generator: Generator | None) -> mg.Tensor:
    generator = mg.random.default_generator() if generator is None else generator
    return generator.uniform(x.shape, device=x.device)
