"""Autoencoders on minigrad: models, losses, regularizers, corruption, training, and PCA as the exact answer."""

from autoencoders import datasets, features, figures, pca
from autoencoders.classifier import SoftmaxRegression, fine_tune, softmax_regression
from autoencoders.contractive import contractive
from autoencoders.corruption import gaussian_noise, masking_noise, salt_and_pepper_noise
from autoencoders.features import max_activation_inputs
from autoencoders.history import History
from autoencoders.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    emphasis,
    huber,
    squared_error,
)
from autoencoders.models import (
    Autoencoder,
    ConvAutoencoder,
    EncoderDecoder,
    Model,
    StackedAutoencoder,
    TopKAutoencoder,
    VariationalAutoencoder,
    gaussian_kl,
    load_model,
    save_model,
)
from autoencoders.regularizers import decoder_norm, kl_sparsity, l1, l2, orthogonality
from autoencoders.training import fit
from minigrad.errors import DivergenceError
from minigrad.version import __version__

__all__ = [
    "Autoencoder",
    "ConvAutoencoder",
    "DivergenceError",
    "EncoderDecoder",
    "History",
    "Model",
    "SoftmaxRegression",
    "StackedAutoencoder",
    "TopKAutoencoder",
    "VariationalAutoencoder",
    "__version__",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "contractive",
    "datasets",
    "decoder_norm",
    "emphasis",
    "features",
    "figures",
    "fine_tune",
    "fit",
    "gaussian_kl",
    "gaussian_noise",
    "huber",
    "kl_sparsity",
    "l1",
    "l2",
    "load_model",
    "masking_noise",
    "max_activation_inputs",
    "orthogonality",
    "pca",
    "salt_and_pepper_noise",
    "save_model",
    "softmax_regression",
    "squared_error",
]
