"""The models: a file for each kind, what they have in common in `base`, and their files in `files`."""

from autoencoders.models.base import ACTIVATIONS, Model
from autoencoders.models.convolutional import ConvAutoencoder
from autoencoders.models.dense import Autoencoder
from autoencoders.models.encoder_decoder import EncoderDecoder
from autoencoders.models.files import describe_file, load_model, save_model
from autoencoders.models.stacked import StackedAutoencoder
from autoencoders.models.topk import TopKAutoencoder
from autoencoders.models.variational import VariationalAutoencoder, gaussian_kl

__all__ = [
    "ACTIVATIONS",
    "Autoencoder",
    "ConvAutoencoder",
    "EncoderDecoder",
    "Model",
    "StackedAutoencoder",
    "TopKAutoencoder",
    "VariationalAutoencoder",
    "describe_file",
    "gaussian_kl",
    "load_model",
    "save_model",
]
