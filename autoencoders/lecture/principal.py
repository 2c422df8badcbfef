"""7.2: a linear autoencoder is principal component analysis."""

from __future__ import annotations

from functools import partial

import numpy as np

import autoencoders as ae
from autoencoders.lecture.section import Formula, Plot, Section, Text
from autoencoders.lecture.walk import Walk, squared, squared_error


def normalize(X: np.ndarray) -> np.ndarray:
    return (X - X.mean(axis=0)) / np.sqrt(len(X))


def optimal_encoder(X: np.ndarray, k: int) -> np.ndarray:
    V_transposed = np.linalg.svd(normalize(X), full_matrices=False)[2]
    return V_transposed[:k].T  # W = V_k


def section(walk: Walk) -> Section:
    """Train linear autoencoders, and compare errors and subspaces with the exact answer."""
    s, train = walk.settings, walk.train
    mean = train.mean(axis=0)
    centred = train - mean
    walk.say(f"7.2 PCA: {len(train)} images of {walk.pixels} pixels")
    exact = ae.pca.linear_autoencoder(walk.components, s.rank)
    variances = ae.pca.explained_variance(walk.components)
    floors = {k: float(variances[k:].sum()) for k in s.ranks}
    reached: dict[str, dict[int, float]] = {"linear": {}, "sigmoid encoder": {}, "deep encoder": {}}
    curve: list[float] = []
    angles = np.zeros(1)
    for k in s.ranks:
        walk.say(f"7.2 linear autoencoder, {walk.pixels}-{k}-{walk.pixels}")
        linear = ae.Autoencoder((walk.pixels, k), activation="linear", seed=walk.seed)
        losses_of_linear: list[float] = []
        for number, (epochs, rate) in enumerate(zip(s.linear_epochs, s.linear_rates, strict=True)):
            losses_of_linear += walk.fit(linear, centred, squared, epochs, rate, seed=number).loss
        reached["linear"][k] = squared_error(linear, centred)
        if k == s.rank:
            curve = losses_of_linear
            decoder = linear.decoder_weights[0].detach().numpy().T
            angles = ae.pca.principal_angles(decoder, exact.encoder_weight)
            errors = walk.errors(partial(_of_pixels, linear, mean))
    for name, hidden in (("sigmoid encoder", ()), ("deep encoder", (4 * s.rank,))):
        walk.say(f"7.2 {name} with a linear decoder")
        model = _AffineDecoder((walk.pixels, *hidden, s.rank), seed=walk.seed)
        walk.fit(model, centred, squared, sum(s.linear_epochs))
        reached[name][s.rank] = squared_error(model, centred)
    walk.say("7.2 the formulas as they stand")
    pixels = train.astype(np.float64)
    V = optimal_encoder(pixels, s.rank)
    normalized = normalize(pixels)
    covariance = np.cov(pixels, rowvar=False, bias=True)
    numbers = {
        "rank": s.rank,
        "floor": floors[s.rank],
        "reached": reached["linear"][s.rank],
        "above_floor_percent": 100 * (reached["linear"][s.rank] / floors[s.rank] - 1),
        "largest_angle_degrees": float(np.degrees(angles.max())),
        "errors": {"linear": errors, "PCA": walk.errors(exact)},
        "floors": {str(k): v for k, v in floors.items()},
        "errors_by_rank": {name: {str(k): v for k, v in by_k.items()} for name, by_k in reached.items()},
        "covariance_difference": float(np.abs(normalized.T @ normalized - covariance).max()),
        "directions_angle_degrees": float(np.degrees(ae.pca.principal_angles(V, exact.encoder_weight).max())),
        "curve": curve,
    }
    return Section(
        "7.2",
        "A linear autoencoder is PCA",
        [
            Text(
                "With a linear encoder, a linear decoder and the squared error, the best code is the one that "
                "principal component analysis finds. Let <em>X</em> have its samples in rows. First its columns are "
                "centred and divided by √m:"
            ),
            Formula((r"$x_{ij} \leftarrow (x_{ij} - \bar{x}_j)\,/\,\sqrt{m}$",), normalize),
            Text(
                "Now XᵀX is the covariance matrix (here to within "
                f"{numbers['covariance_difference']:.0e}), and the best encoder is the first <em>k</em> right singular "
                "vectors:"
            ),
            Formula((r"$X = U\,\Sigma\,V^{T},\qquad H = X\,W,\qquad W = V_{\leq k}$",), optimal_encoder),
            Text(
                "What is lost is the variance outside of these directions, Σ<sub>i&gt;k</sub> sᵢ² of the "
                "normalised data, and <em>no</em> autoencoder with a decoder of one linear layer gets below that "
                "floor on its training data, however "
                f"deep its encoder. For k = {s.rank} the floor is {floors[s.rank]:.3f}. Gradient descent reached "
                f"{numbers['reached']:.3f}, that is {numbers['above_floor_percent']:.2f} % above. A sigmoid encoder "
                f"reached {reached['sigmoid encoder'][s.rank]:.3f}, a deep one {reached['deep encoder'][s.rank]:.3f}."
            ),
            Formula((r"$\min\ \frac{1}{m}\,\|X - X W W^{*}\|_F^2$",), squared),
            Plot(
                "floor",
                ae.figures.error_against_floor(walk.components, reached),
                "Errors on the training images and the exact floor. The linear models lie on it; none is below.",
            ),
            Plot(
                "linear",
                ae.figures.curves(
                    {f"linear, {s.rank} units": curve},
                    "squared error per image",
                    (f"PCA floor, {floors[s.rank]:.4g}", floors[s.rank]),
                ),
                "The loss falls to the floor and stays there.",
            ),
            Text(
                "The weights themselves need not be V<sub>k</sub>: for every invertible G the pair (WG, G⁻¹W*) does "
                "the same. What can be compared is the subspace: the largest angle between the decoder's and that of "
                f"PCA is {numbers['largest_angle_degrees']:.2f} degrees."
            ),
        ],
        numbers,
    )


def _of_pixels(model: ae.Autoencoder, mean: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the reconstruction of pixels by a model of centred ones."""
    return model(x - mean).numpy() + mean


class _AffineDecoder(ae.Autoencoder):
    """An autoencoder with sigmoid encoder layers and one affine layer as its decoder."""

    def __init__(self, sizes: tuple[int, ...], seed: int) -> None:
        super().__init__(sizes, seed=seed)
        last = ae.Autoencoder((sizes[0], sizes[-1]), seed=seed)
        self.decoder_layers = last.decoder_layers
