"""Figures: every pixel where it belongs, scales that show the sign, and labelled axes."""

import numpy as np
import pytest

from autoencoders import figures
from minigrad.errors import ShapeError


def test_a_mosaic_places_images_row_by_row_with_gaps():
    images = np.arange(12.0).reshape(3, 4)
    picture = figures.mosaic(images, (2, 2), columns=2)
    assert picture.shape == (5, 5)
    np.testing.assert_array_equal(picture[:2, :2], images[0].reshape(2, 2))
    np.testing.assert_array_equal(picture[:2, 3:], images[1].reshape(2, 2))
    np.testing.assert_array_equal(picture[3:, :2], images[2].reshape(2, 2))
    assert np.isnan(picture[2]).all()
    assert np.isnan(picture[:, 2]).all()
    assert np.isnan(picture[3:, 3:]).all()


def test_a_symmetric_mosaic_keeps_zero_in_the_middle():
    picture = figures.mosaic(np.array([[0.0, -4.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]]), (2, 2), 2, symmetric=True)
    np.testing.assert_array_equal(picture[:, :2], [[0.0, -1.0], [0.5, 0.0]])
    np.testing.assert_array_equal(picture[:, 3:], 0.0)


def test_images_of_another_size_are_refused():
    with pytest.raises(ShapeError, match=r"\(count, 9\)"):
        figures.mosaic(np.zeros((2, 4)), (3, 3), 2)


def test_the_filters_with_the_largest_norms_come_first():
    weight = np.zeros((4, 3))
    weight[:, 0], weight[:, 1], weight[:, 2] = [1, 0, 0, 0], [0, 3, 0, 0], [0, 0, 2, 0]
    shown = figures.filters({"model": weight}, (2, 2), count=2, columns=2).axes[0].images[0].get_array()
    np.testing.assert_array_equal(shown[:, :2], [[0, 1], [0, 0]])
    np.testing.assert_array_equal(shown[:, 3:], [[0, 0], [1, 0]])


def test_curves_start_at_epoch_1_and_show_the_floor():
    axes = figures.curves({"a": [3.0, 2.0], "b": [4.0]}, "error", ("floor", 1.5)).axes[0]
    assert [line.get_label() for line in axes.lines] == ["a", "b", "floor"]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1, 2])
    assert set(axes.lines[2].get_ydata()) == {1.5}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "error")
