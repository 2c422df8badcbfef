"""Figures of data, training and what a model learned.

Each function takes arrays, checks them, and returns a matplotlib Figure, to be saved with
``figure.savefig("name.pdf")``; nothing is shown or saved, and no global setting of matplotlib is touched. They are
made to be read at half the width of a page, and colours are told apart with any kind of colour vision.
"""

from autoencoders.figures.codes import activation_histograms, codes_2d, mean_activations, saturation
from autoencoders.figures.contraction import contractive_picture, jacobian_norms, singular_values
from autoencoders.figures.images import filters, mosaic, reconstructions
from autoencoders.figures.lines import bars, curves, error_against_floor, kl_curve, sweep

__all__ = [
    "activation_histograms",
    "bars",
    "codes_2d",
    "contractive_picture",
    "curves",
    "error_against_floor",
    "filters",
    "jacobian_norms",
    "kl_curve",
    "mean_activations",
    "mosaic",
    "reconstructions",
    "saturation",
    "singular_values",
    "sweep",
]
