"""The exact identities of linear autoencoders, 1 to 7: principal components, weight decay, noise. In float64.

An optimum is shown by three things: its loss is the one that the formula says, the gradient there is zero, and no
perturbation of the parameters, small or large, does better. Expectations over noise are exact, not sampled: all masks
are enumerated, and for gaussian noise, on which a squared error depends quadratically, 2 n points have its moments.

Tolerances: a loss is a sum of a few dozen products of numbers of the size of x, so rounding is some hundred eps of
1 + E|x|^2; 1e-12 leaves a margin of ten. Where a test needs more it says why.
"""

from itertools import product

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import autoencoders as ae
import minigrad as mg
from autoencoders import pca
from minigrad import nn, optim

SETTINGS = settings(max_examples=25, deadline=None)
BRIEF = settings(max_examples=8, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # no shrinking
seeds = st.integers(0, 2**32 - 1)


@st.composite
def data_and_widths(draw, max_columns=6):
    """Any small matrix, with a mean, of any rank, with constant columns now and then; and a width for it."""
    m, n = draw(st.integers(2, 9)), draw(st.integers(1, max_columns))
    X = draw(arrays(np.float64, (m, n), elements=st.floats(-9, 9, width=32)))
    return X, draw(st.integers(1, min(m, n)))


def size_of(X):
    return 1 + (X**2).sum() / len(X)


def orthogonal(rng, n, k=None):
    return np.linalg.qr(rng.standard_normal((n, n)))[0][:, :k]


def mixing(rng, k):
    """An invertible matrix, with singular values between 1/2 and 2."""
    return orthogonal(rng, k) * rng.uniform(0.5, 2, k) @ orthogonal(rng, k)


def linear_model(W, b, D, c, tied=False):
    """The model with these weights and biases."""
    model = ae.Autoencoder(W.shape, activation="linear", tied=tied, dtype="float64")
    for p, value in zip(model.parameters(), (W, b, c) if tied else (W, b, D, c), strict=True):
        p.assign(value)
    return model


def model_of(best):
    return linear_model(best.encoder_weight, best.encoder_bias, best.decoder_weight, best.decoder_bias)


def check_minimum(model, objective, least, size, rng):
    """The objective() is `least`, stationary, and never less."""
    parameters = list(model.parameters())
    value = objective()
    assert abs(value.item() - least) <= 1e-12 * size
    for gradient in mg.autograd.grad(value, parameters):
        assert np.abs(gradient.numpy()).max() <= 1e-11 * size  # twice the products of the loss, times a weight up to 4
    best = [p.detach().numpy().copy() for p in parameters]
    for step in (1e-4, 1e-2, 1.0, 10.0):
        for p, array in zip(parameters, best, strict=True):
            p.assign(array + step * rng.standard_normal(p.shape))
        assert objective().item() >= least - 1e-12 * size


class Chosen:
    """Stands in for a generator: every sample gets the same noise, which the test has chosen."""

    def __init__(self, noise):
        self.noise = noise

    def uniform(self, shape, dtype="float32", device=None):
        return mg.tensor(np.broadcast_to(self.noise, shape).astype(dtype))

    def normal(self, shape, dtype="float32", device=None):
        return mg.tensor(np.broadcast_to(self.noise, shape).astype(dtype))


# ---------------------------------------------------------------- 1 to 4: linear models and principal components


@SETTINGS
@given(data_and_widths(), seeds)
def test_1_the_linear_optimum_is_the_floor_in_every_basis_of_the_code(case, seed):
    (X, k), rng = case, np.random.default_rng(seed)
    best, x = pca.linear_autoencoder(X, k), mg.tensor(X)
    G, b = mixing(rng, k), rng.standard_normal(k)
    W, D = best.encoder_weight @ G, np.linalg.inv(G) @ best.decoder_weight
    model = linear_model(W, b, D, X.mean(axis=0) @ (np.eye(X.shape[1]) - W @ D) - b @ D)
    np.testing.assert_allclose(model(x).numpy(), best(X), rtol=0, atol=1e-12 * np.sqrt(size_of(X)))
    check_minimum(model, lambda: ae.squared_error(model(x), x), pca.reconstruction_floor(X, k), size_of(X), rng)


@SETTINGS
@given(data_and_widths(), seeds)
def test_2_normalized_data_need_no_bias_and_sum_to_the_floor(case, seed):
    X, k = case
    z, V = mg.tensor(pca.normalize(X)), pca.principal_directions(X, k)
    floor, rounding = pca.reconstruction_floor(X, k), 1e-12 * size_of(X)
    covariance = (z.mT @ z).numpy()  # that it is np.cov is tested in test_pca.py
    assert abs(np.trace(covariance) - np.trace(V.T @ covariance @ V) - floor) <= rounding
    off_diagonal = V.T @ covariance @ V - np.diag(pca.explained_variance(X)[:k])
    assert np.abs(off_diagonal).max() <= rounding
    W = mg.tensor(V)
    assert abs(ae.squared_error(z @ W @ W.mT, z).item() * len(X) - floor) <= rounding
    other = mg.tensor(orthogonal(np.random.default_rng(seed), X.shape[1], k))
    assert ae.squared_error(z @ other @ other.mT, z).item() * len(X) >= floor - rounding


class DeepThenAffine(nn.Module):
    """A deep encoder of any kind, and one affine decoder."""

    def __init__(self, n, k, activation, seed):
        super().__init__()
        self.encoder = ae.Autoencoder((n, 7, 5, k), activation=activation, seed=seed, dtype="float64")
        self.decoder = nn.Linear(k, n, dtype="float64")

    def forward(self, x):
        return self.decoder(self.encoder.encode(x))


@SETTINGS
@given(data_and_widths(), seeds, st.sampled_from(["sigmoid", "tanh", "relu"]), st.floats(0.1, 30))
def test_3_no_deep_encoder_with_one_affine_decoder_beats_the_floor(case, seed, activation, scale):
    """With random weights, of any size, and the best decoder for each."""
    X, k = case
    model, rng = DeepThenAffine(X.shape[1], k, activation, 0), np.random.default_rng(seed)
    for p in model.parameters():
        p.assign(scale * rng.standard_normal(p.shape))
    H = np.column_stack([model.encoder.encode(X).numpy(), np.ones(len(X))])
    best_decoder = np.linalg.lstsq(H, X, rcond=None)[0]
    loss = ae.squared_error(mg.tensor(H @ best_decoder), mg.tensor(X)).item()
    assert loss >= pca.reconstruction_floor(X, k) - 1e-12 * size_of(X)


@BRIEF
@given(data_and_widths(), st.integers(0, 100), st.sampled_from(["sigmoid", "tanh", "relu"]))
def test_3_nor_does_one_that_is_trained(case, seed, activation):
    X, k = case
    model = DeepThenAffine(X.shape[1], k, activation, seed)
    history = ae.fit(
        model,
        X,
        lambda model, x: ae.squared_error(model(x), x),
        epochs=30,
        batch_size=len(X),
        optimizer=optim.Adam(model.parameters(), lr=0.1),
        compile=False,  # so few steps are done before they would be compiled
    )
    assert min(history.loss) >= pca.reconstruction_floor(X, k) - 1e-12 * size_of(X)
    if pca.explained_variance(X)[0] > 0.1:
        assert min(history.loss) < history.loss[0]  # it was trained


def test_3_needs_the_affine_decoder():
    """A decoder that can bend draws a parabola from one number; no affine one can."""
    t = np.linspace(-1, 1, 9)[:, None]
    x = mg.tensor(np.hstack([t, t**2]))
    h = x[:, :1]
    assert ae.squared_error(mg.concat([h, h * h], axis=1), x).item() == 0 < 0.1 < pca.reconstruction_floor(x.numpy(), 1)


@SETTINGS
@given(data_and_widths(), seeds, st.floats(0.5, 2))
def test_4_tied_weights_are_orthonormal_at_the_optimum(case, seed, scale):
    (X, k), rng = case, np.random.default_rng(seed)
    V, x = pca.principal_directions(X, k), mg.tensor(X)
    mean, floor = X.mean(axis=0), pca.reconstruction_floor(X, k)
    W = V @ orthogonal(rng, k)
    model = linear_model(W, np.zeros(k), None, mean - mean @ W @ W.T, tied=True)
    np.testing.assert_allclose(W.T @ W, np.eye(k), atol=1e-14)
    np.testing.assert_allclose(W @ W.T, V @ V.T, atol=1e-14)
    check_minimum(model, lambda: ae.squared_error(model(x), x), floor, size_of(X), rng)
    # longer or shorter columns cost (1 - scale^2)^2 of the variance that they should pass on
    W = scale * W
    model = linear_model(W, np.zeros(k), None, mean - mean @ W @ W.T, tied=True)
    excess = (1 - scale**2) ** 2 * pca.explained_variance(X)[:k].sum()
    assert abs(ae.squared_error(model(x), x).item() - floor - excess) <= 1e-11 * size_of(X)


# ---------------------------------------------------------------- 5: weight decay


@SETTINGS
@given(data_and_widths(), seeds, st.floats(0, 1.2), st.floats(0.5, 2))
def test_5_weight_decay_shrinks_the_directions_and_leaves_only_rotations_free(case, seed, share, scale):
    (X, k), rng = case, np.random.default_rng(seed)
    strength = share * pca.explained_variance(X)[0]
    best, x, O = pca.l2_autoencoder(X, k, strength), mg.tensor(X), orthogonal(rng, k)
    W, D, c = best.encoder_weight @ O, O.T @ best.decoder_weight, best.decoder_bias
    np.testing.assert_allclose(W, D.T, atol=1e-15)  # balanced
    least = pca.l2_floor(X, k, strength)

    def loss(model):
        return ae.squared_error(model(x), x) + strength * ae.l2(model)

    model = linear_model(W, np.zeros(k), D, c)
    check_minimum(model, lambda: loss(model), least, size_of(X), rng)
    unbalanced = linear_model(scale * W, np.zeros(k), D / scale, c)
    excess = strength * (scale - 1 / scale) ** 2 * (W**2).sum()
    assert abs(loss(unbalanced).item() - least - excess) <= 1e-11 * size_of(X)


@SETTINGS
@given(seeds, st.integers(1, 4), st.floats(0, 0.5))
def test_5_weight_decay_finds_the_principal_directions_themselves(seed, k, share):
    """Variances 8, 4, 2, 1 and a strength below 1/2: the a_i differ by 1 % of the strength, enough at 1e-11."""
    rng = np.random.default_rng(seed)
    U = np.linalg.qr(np.column_stack([np.ones(9), rng.standard_normal((9, 4))]))[0][:, 1:]
    V = orthogonal(rng, 5, 4)
    X, strength = rng.standard_normal(5) + 3 * U * np.sqrt([8, 4, 2, 1]) @ V.T, 0.01 + share * 0.9
    best = pca.l2_autoencoder(X, k, strength)
    left, lengths, _ = np.linalg.svd(best.encoder_weight @ orthogonal(rng, k), full_matrices=False)
    np.testing.assert_allclose(lengths**2, 1 - strength / np.array([8, 4, 2, 1.0])[:k], rtol=1e-12)
    np.testing.assert_allclose(np.abs((left * V[:, :k]).sum(axis=0)), 1, rtol=1e-11)


# ---------------------------------------------------------------- 6 and 7: noise


@SETTINGS
@given(data_and_widths(), seeds, st.floats(0, 3))
def test_6_gaussian_noise_is_weight_decay_on_the_whole_map(case, seed, sigma):
    """The points +-sqrt(n) e_j, with equal weights, have the mean 0 and the covariance 1 of the noise."""
    (X, k), rng = case, np.random.default_rng(seed)
    n, x = X.shape[1], mg.tensor(X)
    W, b, D, c = (rng.standard_normal(shape) for shape in [(n, k), k, (k, n), n])
    model = linear_model(W, b, D, c)
    points = [Chosen(sign * np.sqrt(n) * e) for e in np.eye(n) for sign in (1, -1)]
    expected = np.mean([ae.squared_error(model(ae.gaussian_noise(x, sigma, p)), x).item() for p in points])
    by_formula = ae.squared_error(model(x), x).item() + sigma**2 * ae.l2(mg.tensor(W @ D)).item()
    np.testing.assert_allclose(expected, by_formula, rtol=1e-12)


@SETTINGS
@given(data_and_widths(), seeds, st.floats(0.015625, 3))
def test_6_the_optimum_under_gaussian_noise_shrinks_by_the_share_of_the_signal(case, seed, sigma):
    X, k = case
    best, x = pca.gaussian_noise_autoencoder(X, k, sigma), mg.tensor(X)
    V, variances = pca.principal_directions(X, k), pca.explained_variance(X)[:k]
    shrunk = V * (variances / (variances + sigma**2)) @ V.T
    np.testing.assert_allclose(best.encoder_weight @ best.decoder_weight, shrunk, atol=1e-14)
    model = model_of(best)

    def loss():
        return ae.squared_error(model(x), x) + sigma**2 * ae.l2(model.encoder_weights[0] @ model.decoder_weights[0])

    size = size_of(X) + 9 * X.shape[1]
    check_minimum(model, loss, pca.gaussian_noise_floor(X, k, sigma), size, np.random.default_rng(seed))


def expected_under_masking(model, x, q):
    """The mean over all masks, each with its probability. A row does not care that the others have the same mask."""
    total = mg.zeros((), dtype="float64")
    for lost in product([False, True], repeat=x.shape[1]):
        probability = q ** sum(lost) * (1 - q) ** (len(lost) - sum(lost))
        noisy = ae.masking_noise(x, q, Chosen(np.where(lost, 0.0, 1.0)))
        total = total + probability * ae.squared_error(model(noisy), x)
    return total


@SETTINGS
@given(data_and_widths(max_columns=3), seeds, st.floats(0, 0.95))
def test_7_the_optimum_under_masking_noise(case, seed, q):
    (X, k), rng = case, np.random.default_rng(seed)
    x, model = mg.tensor(X), model_of(pca.masking_noise_autoencoder(X, k, q))
    least = pca.masking_noise_floor(X, k, q)
    # A column with q C_jj small beside the others needs large weights, of which the gradient's rounding is a multiple.
    weights = max(1, *(np.abs(p.detach().numpy()).max() for p in model.parameters()))
    check_minimum(model, lambda: expected_under_masking(model, x, q), least, size_of(X) * weights**2, rng)


@SETTINGS
@given(seeds, st.integers(1, 3), st.floats(0.015625, 0.95))
def test_7_no_other_span_of_the_decoder_is_better(seed, k, q):
    """For a decoder with orthonormal rows P^T the best encoder is A P, A being the optimum of full rank."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((8, 3)) * rng.uniform(0.5, 2, 3) + rng.standard_normal(3)
    x, full, least = mg.tensor(X), pca.masking_noise_autoencoder(X, 3, q), pca.masking_noise_floor(X, k, q)
    A, mean = full.encoder_weight @ full.decoder_weight, X.mean(axis=0)
    P = orthogonal(rng, 3, k)
    other = linear_model(A @ P, np.zeros(k), P.T, mean - (1 - q) * mean @ A @ P @ P.T)
    loss = expected_under_masking(other, x, q)
    assert loss.item() >= least - 1e-12 * size_of(X)
    encoder_gradient, decoder_bias_gradient = mg.autograd.grad(
        loss, [other.encoder_weights[0], other.decoder_layers[0].bias]
    )
    assert max(np.abs(encoder_gradient.numpy()).max(), np.abs(decoder_bias_gradient.numpy()).max()) <= 1e-11 * size_of(
        X
    )


@SETTINGS
@given(seeds, st.integers(1, 6), st.floats(0.015625, 0.95))
def test_7_without_a_limit_of_rank_it_is_the_marginalised_autoencoder(seed, n, q):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((12, n)) * rng.uniform(0.5, 2, n)
    X -= X.mean(axis=0)
    best = pca.masking_noise_autoencoder(X, n, q)
    C = X.T @ X / len(X)
    chen = C @ np.linalg.inv((1 - q) * C + q * np.diag(np.diag(C)))  # of samples in columns: ours is its transpose
    np.testing.assert_allclose((best.encoder_weight @ best.decoder_weight).T, chen, atol=1e-11)  # C: condition 1e3
    np.testing.assert_allclose(best.decoder_bias, 0, atol=1e-14)
