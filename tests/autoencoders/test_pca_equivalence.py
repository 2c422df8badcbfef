"""A linear autoencoder trained by gradient descent finds the principal subspace, on data of any shape and spectrum.

The data have a gap after the k-th singular value; without one the subspace is not defined, and near none the descent is
slow. Here lambda_i = s_i^2 / m is 0.5 to 1.5 above the gap and 0, or 0.05 to 0.2, below it, so that the
misaligned part shrinks by a fixed factor per step. A subspace that is off by the angle t costs at least 0.3 sin^2 t
more than the floor: training that stops within 1e-8 of it has t < 2e-4.
"""

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import autoencoders as ae
from autoencoders import pca
from minigrad import optim

QUICK = settings(max_examples=15, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # no shrinking
EXCESS = 1e-8


@st.composite
def data_with_a_gap(draw):
    """X with a mean of its own and a known spectrum, and the number of directions above the gap."""
    n = draw(st.integers(2, 8))
    k = draw(st.integers(1, n - 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m = draw(st.integers(n + 1, 40))
    above = draw(st.lists(st.floats(0.5, 1.5), min_size=k, max_size=k))
    # 0 gives data of deficient rank; where the variance is tiny the encoder forgets its initial weights only slowly
    below = draw(st.lists(st.just(0.0) | st.floats(0.05, 0.2), min_size=n - k, max_size=n - k))
    U = np.linalg.qr(np.column_stack([np.ones(m), rng.standard_normal((m, n))]))[0][:, 1:]  # orthogonal to ones
    V = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return 0.1 * rng.standard_normal(n) + (U * np.sqrt(m * np.array(above + below))) @ V.T, k


def reconstruction(model, x):
    return ae.squared_error(model(x), x)


def descend(X, k, tied, seed):
    """Train by plain full-batch descent until the loss is at the floor, or for 5000 steps."""
    model = ae.Autoencoder((X.shape[1], k), activation="linear", tied=tied, seed=seed, dtype="float64")
    if tied:
        # Found by hypothesis: where the data have no variance, a tied column w with |w|^2 >= 2 orthogonal to them is a
        # stationary point that descent cannot leave (the curvature along v is 2 lambda (|w|^2 - 2)). So start small.
        for weight in model.encoder_weights:
            weight.assign(0.3 * weight.detach())
    optimizer = optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    enough = pca.reconstruction_floor(X, k) + EXCESS
    arguments = dict(
        batch_size=len(X), optimizer=optimizer, callback=lambda _, history: history.terms["loss"][-1] < enough
    )
    return model, ae.fit(model, X, reconstruction, epochs=5000, **arguments)


@QUICK
@given(data_with_a_gap(), st.booleans(), st.integers(0, 2**32 - 1))
def test_gradient_descent_ends_in_the_principal_subspace(data, tied, seed):
    X, k = data
    model, history = descend(X, k, tied, seed)
    V = pca.principal_directions(X, k)
    floor = pca.reconstruction_floor(X, k)
    assert min(history.loss) >= floor - 1e-12  # nothing beats the floor, on the way either
    assert history.loss[-1] <= floor + EXCESS
    D = model.decoder_weights[-1].detach().numpy()
    assert pca.principal_angles(D.T, V).max() < 1e-3
    # The encoder need not lie in the subspace (its part along directions without variance is free), but what it
    # lets through must be what PCA lets through: x_hat is the projection of x.
    np.testing.assert_allclose(model(X).detach().numpy(), pca.linear_autoencoder(X, k)(X), atol=1e-3)


@QUICK
@given(data_with_a_gap(), st.integers(0, 2**32 - 1))
def test_tied_weights_end_orthonormal(data, seed):
    X, k = data
    model, _ = descend(pca.normalize(X) * np.sqrt(len(X)), k, True, seed)
    W = model.encoder_weights[0].detach().numpy()
    np.testing.assert_allclose(W.T @ W, np.eye(k), atol=1e-3)
