"""Data sets to train on: digits, patches of photographs, curves in the plane; whitening, and the IDX file format."""

from autoencoders.datasets.curves import Curve, circle, spiral, two_moons
from autoencoders.datasets.dataset import Dataset
from autoencoders.datasets.handwritten import digits, mnist
from autoencoders.datasets.idx import read_idx, write_idx
from autoencoders.datasets.patches import natural_patches
from autoencoders.datasets.whitening import Whitening, pca_whitening, zca_whitening

__all__ = [
    "Curve",
    "Dataset",
    "Whitening",
    "circle",
    "digits",
    "mnist",
    "natural_patches",
    "pca_whitening",
    "read_idx",
    "spiral",
    "two_moons",
    "write_idx",
    "zca_whitening",
]
