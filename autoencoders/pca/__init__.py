"""Principal component analysis: the exact answer that a linear autoencoder is measured against.

With X of shape (m, n), one sample per row, and centred X = U S V^T, the best that any affine map through k numbers can
do is to leave out the directions V_k+1 ... V_n (Eckart and Young 1936; Baldi and Hornik 1989). No encoder, however
deep, gets below that floor on its training set if its decoder is one affine layer of width k. Weight decay and noise
move the optimum of a linear autoencoder to other places that are known as exactly. For several answers about the same
large data, `principal_components` decomposes them once; the other functions then take what it returns in place of X.

Everything is computed and returned in float64, whatever the data, because these are reference values.
"""

from autoencoders.pca.angles import principal_angles
from autoencoders.pca.denoising import (
    gaussian_noise_autoencoder,
    gaussian_noise_floor,
    masking_noise_autoencoder,
    masking_noise_floor,
)
from autoencoders.pca.linear import LinearAutoencoder, l2_autoencoder, l2_floor, linear_autoencoder
from autoencoders.pca.spectrum import (
    PrincipalComponents,
    explained_variance,
    explained_variance_ratio,
    normalize,
    principal_components,
    principal_directions,
    reconstruction_floor,
)

__all__ = [
    "LinearAutoencoder",
    "PrincipalComponents",
    "explained_variance",
    "explained_variance_ratio",
    "gaussian_noise_autoencoder",
    "gaussian_noise_floor",
    "l2_autoencoder",
    "l2_floor",
    "linear_autoencoder",
    "masking_noise_autoencoder",
    "masking_noise_floor",
    "normalize",
    "principal_angles",
    "principal_components",
    "principal_directions",
    "reconstruction_floor",
]
