"""200 training steps of every variant: replaying the recorded step gives what running it gives, to the last bit."""

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from minigrad import nn, optim

pytestmark = pytest.mark.cpu_only

RNG = np.random.default_rng(0)
X = RNG.random((72, 16)).astype(np.float32)
Y = RNG.integers(0, 3, 72)
EPOCHS, BATCH = 67, 32  # three batches an epoch, the last one smaller: 201 steps


def dense(**kwargs):
    return lambda: ae.Autoencoder((16, 10), output="sigmoid", **kwargs)


def entropy(model, x):
    return ae.binary_cross_entropy_with_logits(model.decode_logits(model.encode(x)), x)


def denoising(noise):
    return lambda model, x: ae.squared_error(model(noise(x)), x)


def emphasised(model, x):
    x_tilde = ae.masking_noise(x, 0.3)
    return ae.huber(model(x_tilde), x, delta=0.2, weights=ae.emphasis(x_tilde, x, 1.0, 0.2))


def contractive(method):
    return lambda model, x: {
        "error": ae.squared_error(model(x), x),
        "contraction": 0.1 * ae.contractive(model.encode, x, method=method),
    }


def variational(model, x):
    mean, log_variance = model.distribution(x)
    logits = model.decode_logits(model.sample(mean, log_variance))
    return ae.binary_cross_entropy_with_logits(logits, x) + ae.gaussian_kl(mean, log_variance)


def topk(model, x):
    x_hat = model(x)
    return {"error": ae.squared_error(x_hat, x), "dead": model.dead_unit_error(x, x_hat, after=64) / 32}


def brought_by_a_user():
    mg.random.seed(0)  # layers draw their weights from the default generator
    # no bias in front of BatchNorm: its gradient is 0 up to rounding, and Adam would make steps of the last bits
    encoder = nn.Sequential(
        nn.Linear(16, 12, bias=False), nn.BatchNorm(12), nn.GELU(), nn.Dropout(0.2), nn.Linear(12, 6)
    )
    return ae.EncoderDecoder(encoder, nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 16)), output="sigmoid")


VARIANTS = {
    "plain": (dense(), entropy),
    "probabilities": (dense(), lambda model, x: ae.binary_cross_entropy(model(x), x)),
    "linear": (lambda: ae.Autoencoder((16, 4), "linear"), denoising(lambda x: x)),
    "tied": (dense(tied=True), entropy),
    "deep": (lambda: ae.Autoencoder((16, 12, 8, 3), "tanh", "sigmoid", tied=True), entropy),
    "weight decay": (dense(), lambda model, x: entropy(model, x) + 1e-3 * ae.l2(model)),
    "masking": (dense(), denoising(lambda x: ae.masking_noise(x, 0.25))),
    "gaussian": (dense(activation="relu"), denoising(lambda x: ae.gaussian_noise(x, 0.5))),
    "salt and pepper": (dense(), denoising(lambda x: ae.salt_and_pepper_noise(x, 0.2))),
    "emphasised": (dense(), emphasised),
    "KL": (dense(), lambda model, x: entropy(model, x) + 0.3 * ae.kl_sparsity(model.encode(x), 0.05)),
    "L1": (
        dense(activation="relu"),
        lambda model, x: (
            entropy(model, x)
            + 0.1 * ae.l1(model.encode(x) * mg.norm(model.decoder_weights[0], axis=1))
            + ae.decoder_norm(model.decoder_weights[0])
            + 0.1 * ae.orthogonality(model.encoder_weights[0])
        ),
    ),
    "contractive, closed": (dense(), contractive("closed")),
    "contractive, exact": (dense(activation="tanh"), contractive("exact")),
    "contractive, hutchinson": (lambda: ae.Autoencoder((16, 12, 8), output="sigmoid"), contractive("hutchinson")),
    "convolutional": (lambda: ae.ConvAutoencoder((1, 4, 4), (3, 4), code=5, output="sigmoid"), entropy),
    "variational": (lambda: ae.VariationalAutoencoder((16, 12), 3), variational),
    "top-k": (lambda: ae.TopKAutoencoder((16, 40), 3, output="sigmoid"), topk),
    "a user's modules": (brought_by_a_user, entropy),
}
OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.01),
    "momentum": lambda p: optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.01),
}


def state_after(make, objective, compile, optimizer="Adam", **kwargs):
    model = make()
    X_ = X.reshape(-1, *model.input_shape) if getattr(model, "input_shape", None) else X
    made = OPTIMIZERS[optimizer](model.parameters())
    history = ae.fit(
        model, X_, objective, epochs=EPOCHS, batch_size=BATCH, optimizer=made, compile=compile, **kwargs,
        schedule=lambda epoch: 0.01 / (1 + 0.1 * epoch),
    )  # fmt: skip
    return {**model.state_dict(), **{f"optimizer {k}": v for k, v in made.state_dict().items()}}, history.terms


def check_equal_bits(make, objective, **kwargs):
    (eager, terms), (compiled, compiled_terms) = (
        state_after(make, objective, compile, **kwargs) for compile in (False, True)
    )
    assert terms == compiled_terms
    for name, array in eager.items():
        assert np.array_equal(array, compiled[name], equal_nan=True), name
    first = next(iter(terms.values()))
    assert first[-1] < first[0]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_compiled_training_is_the_eager_one(name):
    check_equal_bits(*VARIANTS[name])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_with_every_optimizer(optimizer):
    check_equal_bits(*VARIANTS["masking"], optimizer=optimizer, max_norm=1.0)


def test_a_compiled_fine_tuning_is_the_eager_one():
    def make():
        return ae.SoftmaxRegression(8, range(3), ae.StackedAutoencoder((16, 12, 8), seed=2), dropout=0.2)

    check_equal_bits(make, lambda model, x, y: mg.cross_entropy(model(x), y), y=Y)
