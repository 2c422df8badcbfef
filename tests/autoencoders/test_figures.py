"""Figures: what is drawn is what was given, axes are labelled, every figure is exported, and nothing global changes."""

import io
import itertools
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import autoencoders as ae
import minigrad as mg
from autoencoders import features, figures
from minigrad.errors import DataError, DTypeError, MissingDependencyError, ShapeError

rng = np.random.default_rng(0)
H = rng.uniform(size=(20, 5))
ANGLES = np.linspace(0, 6, 15)
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
TANGENTS = np.stack([-np.sin(ANGLES), np.cos(ANGLES)], axis=1)
PLANAR = {
    "one": ae.Autoencoder((2, 5), activation="tanh", dtype="float64"),
    "two": ae.Autoencoder((2, 6, 4), dtype="float64"),
}
codes_of_sigmoids = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(0, 1))

# every figure, with two models where it compares models
EVERY = {
    "filters": lambda: figures.filters({"a": rng.normal(size=(6, 9)), "b": mg.ones((6, 2))}, (2, 3), count=4),
    "reconstructions": lambda: figures.reconstructions({"input": H, "output": H**2}, (5, 1)),
    "curves": lambda: figures.curves({"a": [3.0, 2.0, 1.0], "b": [9, 8]}, "error", ("floor", 0.5)),
    "bars": lambda: figures.bars({"a": 1.5, "b": 2}, "error"),
    "kl_curve": lambda: figures.kl_curve([0.05, 0.5]),
    "error_against_floor": lambda: figures.error_against_floor(H, {"a": {1: 0.5, 3: 0.4}, "b": {2: 0.7}}),
    "sweep": lambda: figures.sweep(
        [0.1, 1.0], {"a": [1.0, 2.0], "b": [[1.0, 2.0], [3.0, 5.0]]}, "noise", "error", True
    ),
    "codes_2d": lambda: figures.codes_2d(H, np.arange(20) % 2),
    "activation_histograms": lambda: figures.activation_histograms({"a": H, "b": mg.tensor(H[:, :2])}),
    "mean_activations": lambda: figures.mean_activations({"a": H, "b": H[:, :2]}, rho=0.05),
    "saturation": lambda: figures.saturation({"a": H, "b": H[:, :2]}),
    "jacobian_norms": lambda: figures.jacobian_norms({"a": H[:, 0], "b": H[:5, 1]}),
    "singular_values": lambda: figures.singular_values({"a": -np.sort(-H), "b": -np.sort(-H[:, :2])}),
    "contractive_picture": lambda: figures.contractive_picture(PLANAR, CIRCLE, TANGENTS, CIRCLE, grid=4),
}
PICTURES = {"filters", "reconstructions"}  # they have no axes to label
TOLERANCE = {"rtol": 1e-12, "atol": 1e-14}  # a few roundings


def axes_of(figure):
    (axes,) = figure.axes
    return axes


def labels_of(axes):
    return axes.get_legend_handles_labels()[1]


def test_every_figure_is_tested():
    assert set(EVERY) == set(figures.__all__) - {"mosaic"}  # which is an array


@pytest.mark.parametrize("name", EVERY)
def test_a_figure_is_labelled_and_exported_without_a_change_of_settings(name):
    before = dict(matplotlib.rcParams)
    figure = EVERY[name]()
    for kind, begins in (("pdf", b"%PDF"), ("png", b"\x89PNG")):
        file = io.BytesIO()
        figure.savefig(file, format=kind)  # a warning, of a glyph that is missing for example, is an error here
        assert file.getvalue().startswith(begins)
        assert len(file.getvalue()) > 2000
    assert dict(matplotlib.rcParams) == before
    if name not in PICTURES:
        for axes in figure.axes:
            inner = axes.get_subplotspec().colspan.start > 0  # shares the label of its neighbour
            assert (axes.get_xlabel() or name == "bars") and (axes.get_ylabel() or inner)
        if name not in ("bars", "codes_2d"):
            assert figure.axes[-1].get_legend() is not None or figure.legends


def test_pyplot_is_not_imported():
    program = "import sys, autoencoders.figures as f; f.kl_curve(0.1); assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", EVERY)
def test_without_matplotlib_the_extra_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match="figures need matplotlib: pip install"):
        EVERY[name]()


# ---------------------------------------------------------------- images


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


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_filters_with_the_largest_norms_come_first(dtype):
    weight = np.zeros((4, 3), dtype)
    weight[:, 0], weight[:, 1], weight[:, 2] = [1, 0, 0, 0], [0, 3, 0, 0], [0, 0, 2, 0]
    axes = axes_of(figures.filters({"model": weight}, (2, 2), count=2, columns=2))
    shown = axes.images[0].get_array()
    np.testing.assert_array_equal(shown[:, :2], [[0, 1], [0, 0]])
    np.testing.assert_array_equal(shown[:, 3:], [[0, 0], [1, 0]])
    assert axes.images[0].get_clim() == (-1, 1)
    assert axes.get_title() == "model: 2 of 3 filters"


@pytest.mark.parametrize("epochs", [1, 3, 100])
def test_curves_of_many_models_are_told_apart_without_colour(epochs):
    lines = axes_of(figures.curves({f"model {i}": np.full(epochs, 1.0) for i in range(10)}, "loss")).lines
    assert len({line.get_marker() for line in lines}) == 10
    for line in lines:  # at least one marker is on the line
        start, step = line.get_markevery()
        assert 1 <= len(range(start, epochs, step)) <= 8


def test_filters_whose_norms_differ_by_rounding_keep_their_order():
    units = np.eye(4, dtype=np.float32) * (1 + np.float32([0, 1, -2, 3]) * np.finfo(np.float32).eps)
    drawn = axes_of(figures.filters({"directions": units}, (2, 2), columns=4)).images[0].get_array()
    expected = figures.mosaic(np.eye(4), (2, 2), 4, symmetric=True)
    np.testing.assert_allclose(drawn, expected, rtol=0, atol=0)


def test_a_few_filters_leave_no_empty_paper_above_and_below():
    for count, shape in ((20, (8, 8)), (64, (8, 8)), (8, (2, 16))):
        figure = figures.filters({"model": np.eye(shape[0] * shape[1])[:, :count]}, shape)
        (picture,) = axes_of(figure).images
        rows, columns = picture.get_array().shape
        width, height = figure.get_size_inches()
        assert height - width * rows / columns == pytest.approx(0.3)  # the title


@pytest.mark.parametrize("count, grid", [(1, (1, 1)), (3, (1, 3)), (4, (2, 2)), (5, (2, 3)), (7, (3, 3))])
def test_many_models_wrap_into_rows(count, grid):
    figure = figures.filters({f"model {i}": np.eye(4) for i in range(count)}, (2, 2))
    assert [axes.get_title() for axes in figure.axes] == [f"model {i}: 4 filters" for i in range(count)]
    assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == grid


def test_reconstructions_show_every_row_with_its_name():
    rows = {"input": H[:4], "corrupted": mg.tensor(H[4:8]), "output": H[8:12]}
    figure = figures.reconstructions(rows, (1, 5))
    for i, (axes, name) in enumerate(zip(figure.axes, rows, strict=True)):
        assert axes.get_ylabel() == name
        shown = np.asarray(axes.images[0].get_array())
        np.testing.assert_array_equal(shown[~np.isnan(shown)], H[4 * i : 4 * i + 4].ravel())
        assert axes.images[0].get_clim() == (0, 1)


# ---------------------------------------------------------------- lines


def test_curves_start_at_epoch_1_and_show_the_floor():
    axes = axes_of(figures.curves({"a": [6.0, 2.0], "b": [4.0]}, "error", ("floor", 1.5)))
    assert labels_of(axes) == ["a", "b", "floor"]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1, 2])
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [6.0, 2.0])
    assert set(axes.lines[2].get_ydata()) == {1.5}
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("epoch", "error", "log")


def test_a_logarithmic_scale_over_less_than_a_decade_has_marks_enough_to_read_it():
    axes = axes_of(figures.curves({"a": [58.0, 30.0, 18.5]}, "error", ("floor", 18.2)))
    low, high = axes.get_ylim()
    assert [y for y in axes.get_yticks() if low <= y <= high] == [20, 30, 40, 50, 60]


@pytest.mark.parametrize("values, scale", [([3.1, 1.0], "log"), ([2.9, 1.0], "linear"), ([9, 0], "linear")])
def test_the_scale_is_logarithmic_where_that_is_possible_and_of_use(values, scale):
    assert axes_of(figures.curves({"a": values}, "loss")).get_yscale() == scale


def test_models_have_lines_of_their_own_colour_and_dashes():
    axes = axes_of(figures.curves({f"model {i}": [1.0, 2.0] for i in range(10)}, "loss"))
    assert len({line.get_color() for line in axes.lines}) == 10
    assert len({str(line._dash_pattern) for line in axes.lines[:5]}) == 5


def test_bars_are_as_high_as_their_values():
    axes = axes_of(figures.bars({"a": 1.5, "b": mg.tensor(2.0)}, "error"))
    assert [bar.get_height() for bar in axes.patches] == [1.5, 2.0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]
    assert [text.get_text() for text in axes.texts] == ["1.5", "2"]


@settings(max_examples=10)  # hundreds of calls each
@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=3))
def test_the_kl_curve_is_the_divergence_with_its_zero_at_rho(targets):
    axes = axes_of(figures.kl_curve(targets))
    for line, rho in zip(axes.lines, targets, strict=True):
        r, penalty = line.get_data()
        expected = rho * np.log(rho / r) + (1 - rho) * np.log((1 - rho) / (1 - r))
        np.testing.assert_allclose(penalty, expected, rtol=1e-12, atol=1e-13)  # terms up to 7 cancel near rho
        (marked,) = line.get_markevery()
        assert (r[marked], abs(penalty[marked]) < 1e-14) == (rho, True)


def test_the_floor_is_that_of_pca_as_far_as_the_widest_model():
    figure = figures.error_against_floor(mg.tensor(H), {"a": {3: 0.4, 1: 0.5}, "b": {4: 0.7}})
    floor, a, b = axes_of(figure).lines
    widths = floor.get_xdata()
    assert widths.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(floor.get_ydata(), [ae.pca.reconstruction_floor(H, int(k)) for k in widths], **TOLERANCE)
    assert [a.get_xdata().tolist(), a.get_ydata().tolist()] == [[1, 3], [0.5, 0.4]]
    assert [b.get_xdata().tolist(), b.get_ydata().tolist()] == [[4], [0.7]]


def test_errors_that_are_equal_do_not_hide_each_other():
    a, b, c = axes_of(figures.error_against_floor(H, {name: {2: 0.5} for name in "abc"})).lines[1:]
    assert a.get_markersize() > b.get_markersize() > c.get_markersize()
    assert {line.get_fillstyle() for line in (a, b, c)} == {"none"}


def test_names_below_bars_do_not_run_into_each_other():
    figure = figures.bars({"masking 25%": 1.0, "masking 50%": 2.0, "weight decay": 3.0, "tied weights": 4.0}, "error")
    figure.savefig(io.BytesIO())
    for place, label in zip(axes_of(figure).get_xticks(), axes_of(figure).get_xticklabels(), strict=True):
        assert (label.get_ha(), label.get_rotation_mode()) == ("right", "anchor")  # it ends below its bar
        assert label.get_position()[0] == place


def test_the_floor_ends_where_it_is_zero():
    flat = H[:, :2] @ rng.normal(size=(2, 5))  # rank 2: from k = 2 on there is no error but rounding
    floor = axes_of(figures.error_against_floor(flat, {"deep": {4: 0.1}})).lines[0]
    assert floor.get_xdata().tolist() == [1]


def test_an_exact_model_is_drawn_at_an_error_of_zero():
    figure = figures.error_against_floor(H, {"exact": {5: 0.0}, "wide": {2: 100.0}})
    axes = axes_of(figure)
    assert [line.get_ydata().tolist() for line in axes.lines[1:]] == [[0.0], [100.0]]
    assert axes.get_yscale() == "linear"  # a logarithmic one would leave it out
    assert axes.get_ylim()[0] <= 0.0
    figure.savefig(io.BytesIO())
    assert axes_of(figures.error_against_floor(np.ones((4, 3)), {"exact": {1: 0.0}})).lines[1].get_ydata().tolist() == [
        0.0
    ]


def test_a_sweep_shows_the_mean_and_the_range_of_repetitions_in_order():
    figure = figures.sweep([0.5, 0.1], {"a": [[5.0, 7.0], [1.0, 1.5]], "b": [4.0, 3.0]}, "noise", "error")
    (a, _, (range_of_a,)), (b, _, _) = axes_of(figure).containers
    assert (a.get_xdata().tolist(), a.get_ydata().tolist()) == ([0.1, 0.5], [1.25, 6.0])
    assert b.get_ydata().tolist() == [3.0, 4.0]
    np.testing.assert_allclose(range_of_a.get_segments(), [[[0.1, 1], [0.1, 1.5]], [[0.5, 5], [0.5, 7]]])
    assert labels_of(axes_of(figure)) == ["a", "b"]


# ---------------------------------------------------------------- codes


def test_codes_of_two_units_are_drawn_as_they_are():
    labels = np.array(["cat", "dog"] * 10)
    figure = figures.codes_2d(H[:, :2], labels)
    axes = axes_of(figure)
    assert labels_of(axes) == ["cat", "dog"]
    for points, label in zip(axes.collections, ["cat", "dog"], strict=True):
        np.testing.assert_array_equal(points.get_offsets(), H[labels == label, :2])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cat", "dog"]
    assert "unit 1" in axes.get_xlabel()


def test_wider_codes_are_drawn_in_their_principal_directions():
    axes = axes_of(figures.codes_2d(H + 3.0))
    _, s, Vt = np.linalg.svd(H - H.mean(axis=0), full_matrices=False)
    shown = np.asarray(axes.collections[0].get_offsets())
    np.testing.assert_allclose(abs(shown), abs((H - H.mean(axis=0)) @ Vt[:2].T), atol=1e-12)
    assert f"principal direction 2 ({100 * s[1] ** 2 / (s**2).sum():.0f} % of variance)" == axes.get_ylabel()


@pytest.mark.parametrize("low, high", [(-0.09, 0.08), (-1.6, 1.8), (0.0, 0.17), (1000.0, 9000.0)])
def test_the_marks_below_codes_do_not_run_together(low, high):
    codes = np.stack([np.linspace(low, high, 20), H[:, 0]], axis=1)
    figure = figures.codes_2d(codes, np.arange(20) % 10)
    figure.savefig(io.BytesIO())  # lays it out
    axes = axes_of(figure)
    left, right = axes.get_xlim()
    marks = [mark.label1 for mark in axes.xaxis.get_major_ticks() if left <= mark.get_loc() <= right]
    places = [mark.get_window_extent() for mark in marks]
    assert len(marks) >= 3
    assert all(b.x0 - a.x1 > 10 for a, b in itertools.pairwise(places))  # pixels, of 100 in an inch


def test_ten_classes_are_told_apart():
    axes = axes_of(figures.codes_2d(rng.normal(size=(50, 2)), np.arange(50) % 10))
    assert len({tuple(points.get_facecolor()[0]) for points in axes.collections}) == 10
    shapes = {points.get_paths()[0].vertices.tobytes() for points in axes.collections}
    assert len(shapes) == 10  # without colour too: two of the palette are orange


@settings(max_examples=25)
@given(codes_of_sigmoids, st.integers(1, 9))
def test_histograms_count_all_activations_in_the_same_bins(h, bins):
    axes = axes_of(figures.activation_histograms({"a": h, "b": h / 2}, bins))
    a, b = (patch.get_data() for patch in axes.patches)
    np.testing.assert_array_equal(a.edges, b.edges)
    assert len(a.values) == bins
    assert a.values.sum() == pytest.approx(1) and b.values.sum() == pytest.approx(1)
    inner = a.edges[1:-1]
    np.testing.assert_allclose(np.cumsum(a.values)[:-1], [(h < e).mean() for e in inner], **TOLERANCE)


@settings(max_examples=15)
@given(codes_of_sigmoids)
def test_units_are_sorted_and_the_dead_counted(h):
    axes = axes_of(figures.mean_activations({"a": h}, rho=0.05, threshold=0.01))
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), np.sort(features.mean_activations(h))[::-1])
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), np.arange(h.shape[1]) + 1)
    dead = int((h <= 0.01).all(axis=0).sum())
    assert labels_of(axes) == [f"a: {dead} of {h.shape[1]} dead", "ρ = 0.05"]
    assert set(axes.lines[1].get_ydata()) == {0.05}
    axes = axes_of(figures.saturation({"a": h}))
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), np.sort(features.saturation(h))[::-1])


# ---------------------------------------------------------------- Jacobians


@pytest.mark.parametrize("value", [0.0, 5e-324, 0.1, -3.0])
def test_codes_that_differ_by_rounding_have_a_histogram(value):
    h = np.array([[value, np.nextafter(value, 1)]])
    for codes in (h, h.astype(np.float32)):
        counts, edges, _ = axes_of(figures.activation_histograms({"a": codes})).patches[0].get_data()
        assert (counts.sum(), counts.max()) == (1, 1)
        assert (np.diff(edges) > 0).all()


def test_norms_are_a_cumulative_distribution():
    norms = np.array([2.0, 0.5, 1.0, 0.5])
    axes = axes_of(figures.jacobian_norms({"a": norms}))
    x, y = axes.lines[0].get_data()
    assert labels_of(axes) == ["a: mean 1"]
    assert axes.lines[0].get_drawstyle() == "steps-post"
    for value in (0.0, 0.4, 0.5, 0.9, 1.0, 1.5, 2.0):
        assert y[np.searchsorted(x, value, side="right") - 1] == (norms <= value).mean()


def test_spectra_are_drawn_as_mean_and_middle():
    spectra = -np.sort(-rng.uniform(1, 9, size=(50, 3)))
    axes = axes_of(figures.singular_values({"a": spectra}))
    np.testing.assert_allclose(axes.lines[0].get_ydata(), spectra.mean(axis=0), **TOLERANCE)
    band = axes.collections[0].get_paths()[0].vertices
    for i in range(3):
        drawn = band[band[:, 0] == i + 1, 1]
        np.testing.assert_allclose([drawn.min(), drawn.max()], np.quantile(spectra[:, i], [0.1, 0.9]), **TOLERANCE)
    assert axes.get_legend().get_title().get_text() == "mean, and the middle 80 %"


def test_a_spectrum_fills_its_axes_where_directions_are_lost_but_for_rounding():
    spectra = np.array([[2.0, 1.0, 1e-17], [1.0, 0.5, 1e-18]])
    low, high = axes_of(figures.singular_values({"a": spectra})).get_ylim()
    assert 1.9 < high < 3  # the upper end of the band is just below 2
    assert 1e-5 < low < 2e-4


def test_the_contractive_picture_shows_reconstructions_and_both_speeds():
    figure = figures.contractive_picture(PLANAR, CIRCLE, TANGENTS, CIRCLE, grid=4)
    factor = float(figure.get_suptitle().split("×")[1])
    for i, (name, model) in enumerate(PLANAR.items()):
        upper, lower = figure.axes[i], figure.axes[2 + i]
        assert upper.get_title() == name
        points, arrows = upper.collections
        np.testing.assert_array_equal(points.get_offsets(), CIRCLE)
        at = arrows.XY
        assert at.shape == (16, 2)
        assert (at.min(axis=0) < CIRCLE.min(axis=0)).all() and (at.max(axis=0) > CIRCLE.max(axis=0)).all()
        expected = factor * (model(at).detach().numpy() - at)  # the title rounds the factor to two digits
        np.testing.assert_allclose(np.stack([arrows.U, arrows.V], axis=1), expected, rtol=0.05, atol=1e-12)
        assert labels_of(lower) == ["along", "across"]
        for patch, directions in zip(lower.patches, (TANGENTS, CIRCLE), strict=True):
            values, edges, _ = patch.get_data()
            speeds = features.directional_norms(model.encode, CIRCLE, directions)
            np.testing.assert_array_equal(values, np.histogram(speeds, edges)[0])
            assert values.sum() == len(CIRCLE)


# ---------------------------------------------------------------- refusals


def test_refusals():
    bad = np.where(np.arange(20)[:, None] == 2, np.nan, H)
    for call, error, words in [
        (lambda: figures.mosaic(np.zeros((2, 4)), (3, 3), 2), ShapeError, r"\(count, 9\)"),
        (lambda: figures.mosaic(np.zeros((2, 4)), (2, 2), 0), DataError, "mosaic: got columns=0"),
        (lambda: figures.mosaic(np.zeros((2, 4)), (4,), 1), ShapeError, r"shape=\(4,\); expected two positive"),
        (lambda: figures.mosaic(np.zeros((2, 4)), (-2, -2), 1), ShapeError, "expected two positive"),
        (lambda: figures.filters({}, (2, 2)), DataError, "filters: got nothing to draw"),
        (
            lambda: figures.curves(ae.History(), "loss"),
            DTypeError,
            r"got History; .* history.terms is one, and history.plot\(\)",
        ),
        (lambda: figures.filters(np.eye(4), (2, 2)), DTypeError, "filters: got ndarray; expected a mapping"),
        (lambda: figures.filters({"a": np.eye(5)}, (2, 2)), ShapeError, r"filters got 'a' of shape .*\(count, 4\)"),
        (lambda: figures.reconstructions({"a": H, "b": H[:3]}, (5, 1)), ShapeError, "{'a': 20, 'b': 3} images"),
        (lambda: figures.curves({"a": [1.0, np.inf]}, "loss"), DataError, r"curves: 'a'\[1\] is inf"),
        (lambda: figures.curves({"a": []}, "loss"), ShapeError, r"\(epochs\), none of them empty"),
        (lambda: figures.curves({"a": [1.0]}, "loss", ("floor", np.nan)), DataError, r"floor\[0\] is nan"),
        (lambda: figures.bars({"a": "high"}, "loss"), DTypeError, "bars: 'a' has dtype"),
        (lambda: figures.kl_curve([0.5, 1.0]), DataError, "rho=1; expected mean activations strictly"),
        (lambda: figures.kl_curve([]), ShapeError, "none of them empty"),
        (lambda: figures.error_against_floor(H, {"a": {0: 1.0}}), DataError, "'a': got width=0"),
        (lambda: figures.error_against_floor(H, {"a": {1: -0.5}}), DataError, "error of -0.5; expected at least 0"),
        (lambda: figures.error_against_floor(H, {"a": [1.0]}), DTypeError, "'a': got list; expected a mapping"),
        (lambda: figures.sweep([1.0], {"a": [1.0, 2.0]}, "", ""), ShapeError, "'a' has 2 results for 1 settings"),
        (lambda: figures.sweep([0.0], {"a": [1.0]}, "", "", True), DataError, "cannot show the setting 0"),
        (lambda: figures.codes_2d(H[:, :1]), ShapeError, "expected two units or more"),
        (lambda: figures.codes_2d(bad), DataError, r"codes_2d: h\[2, 0\] is nan, one of 5"),
        (lambda: figures.codes_2d(H, [1, 2]), ShapeError, r"labels have shape \(2,\); expected \(20,\)"),
        (lambda: figures.codes_2d(H, np.ma.masked_less(np.arange(20), 3)), DataError, "labels has 3 masked values"),
        (
            lambda: figures.codes_2d(H, [0.0, np.nan] * 10),
            DataError,
            r"labels\[1\] is nan, one of 10 that are no class",
        ),
        (lambda: figures.codes_2d(H, np.array(["NaT"] * 20, "M8[D]")), DataError, r"labels\[0\] is NaT, one of 20"),
        (lambda: figures.codes_2d(H, ["a", None] * 10), DTypeError, "labels cannot be put in order .*one kind for all"),
        (lambda: figures.activation_histograms({"a": H}, 0), DataError, "bins=0"),
        (lambda: figures.activation_histograms({"a": H.astype(complex)}), DTypeError, "'a' has dtype complex128"),
        (lambda: figures.mean_activations({"a": H}, rho=np.nan), DataError, "rho=nan"),
        (lambda: figures.saturation({"a": H + 1}), DataError, "expected .0, 1. for activation='sigmoid'"),
        (lambda: figures.jacobian_norms({"a": [-1.0]}), DataError, "'a' has a norm of -1"),
        (lambda: figures.singular_values({"a": [[1.0, 2.0]]}), DataError, "'a' is not a spectrum"),
        (lambda: figures.contractive_picture(PLANAR, H, H, H), ShapeError, r"X of shape \(20, 5\)"),
        (lambda: figures.contractive_picture(PLANAR, CIRCLE, CIRCLE, CIRCLE, 1), ShapeError, "grid=1"),
        (lambda: figures.contractive_picture(PLANAR, CIRCLE, 2 * CIRCLE, CIRCLE), DataError, "has length 2"),
    ]:
        with pytest.raises(error, match=words):
            call()


@pytest.mark.parametrize("dpi", [72, 100, 150])
def test_labels_of_reconstructions_are_not_cut_off(dpi):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    rows = {name: np.ones((10, 16)) for name in ("input", "masking 25%", "a label that is longer than most")}
    figure = figures.reconstructions(rows, (4, 4))
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axes in figure.axes:
        assert axes.yaxis.label.get_window_extent(canvas.get_renderer()).x0 >= 0
