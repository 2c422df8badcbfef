"""Autoencoders as scikit-learn estimators, one per variant of the lecture, for pipelines and grid searches.

Inside this package `import sklearn` means scikit-learn. `import autoencoders` does not import this package.
"""

from minigrad.errors import MissingDependencyError

try:
    import sklearn
except ImportError as error:
    raise MissingDependencyError(
        "autoencoders.sklearn needs scikit-learn 1.6 or newer: pip install scikit-learn"
    ) from error

from autoencoders.sklearn.contractive import ContractiveAutoencoder
from autoencoders.sklearn.denoising import DenoisingAutoencoder
from autoencoders.sklearn.linear import LinearAutoencoder
from autoencoders.sklearn.plain import AutoencoderTransformer
from autoencoders.sklearn.sparse import SparseAutoencoder

__all__ = [
    "AutoencoderTransformer",
    "ContractiveAutoencoder",
    "DenoisingAutoencoder",
    "LinearAutoencoder",
    "SparseAutoencoder",
]
