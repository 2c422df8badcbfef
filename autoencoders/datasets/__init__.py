"""Data sets to train on: scikit-learn's digits, MNIST, and the IDX file format that MNIST comes in."""

from autoencoders.datasets.dataset import Dataset
from autoencoders.datasets.handwritten import digits, mnist
from autoencoders.datasets.idx import read_idx, write_idx

__all__ = ["Dataset", "digits", "mnist", "read_idx", "write_idx"]
