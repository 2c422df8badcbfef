"""Patches of photographs: where they come from, with what probability, how they are normalised, what is refused."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoencoders.datasets import natural_patches
from minigrad.errors import DataError, DTypeError, MissingDependencyError, ShapeError

SETTINGS = settings(max_examples=30, deadline=None)


def numbered(shape, start=0):
    """An image in which every grey level tells its place; exact in float32."""
    return np.arange(start, start + shape[0] * shape[1], dtype=np.float64).reshape(shape)


@st.composite
def images_and_sizes(draw):
    size = draw(st.integers(1, 4))
    sides = st.integers(size, 7)
    shapes = draw(st.lists(st.tuples(sides, sides), min_size=1, max_size=3))
    return [numbered(shape, 100 * i) for i, shape in enumerate(shapes)], size


@SETTINGS
@given(images_and_sizes(), st.integers(1, 40), st.integers(0, 2**63))
def test_every_patch_is_a_piece_of_an_image(case, n, seed):
    images, size = case
    patches = natural_patches(n, size, images, seed, normalize=None)
    assert patches.shape == (n, size * size) and patches.dtype == np.float32
    for patch in patches.reshape(n, size, size):
        image = images[int(patch[0, 0]) // 100]
        row, column = np.argwhere(image == patch[0, 0])[0]
        np.testing.assert_array_equal(patch, image[row : row + size, column : column + size])


def test_every_place_in_every_image_is_as_likely():
    images = [numbered((5, 4)), numbered((3, 9), 100)]  # 4 x 3 and 2 x 8 places
    drawn = natural_patches(28_000, 2, images, normalize=None)[:, 0]
    _, counts = np.unique(drawn, return_counts=True)
    assert len(counts) == 28
    assert np.abs(counts - 1000).max() < 6 * np.sqrt(1000)  # six standard deviations


def test_the_seed_decides():
    image = [numbered((50, 50))]
    one, same, other = (natural_patches(9, 3, image, seed, None) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert natural_patches(4, 1, image, 0, None)[:, 0].tolist() == GOLDEN


# The places of the first patches with seed 0, written down so that no release moves them unnoticed.
GOLDEN = [997.0, 1839.0, 2430.0, 1734.0]


def test_the_photographs_of_scikit_learn():
    pytest.importorskip("PIL")
    photographs = pytest.importorskip("sklearn.datasets").load_sample_images().images
    patches = natural_patches(300, 5, normalize=None)
    by_hand = natural_patches(300, 5, photographs, normalize=None)
    np.testing.assert_array_equal(patches, by_hand)
    assert patches.min() >= 0 and patches.max() <= 1 and patches.std() > 0.1


# ---------------------------------------------------------------- colours and levels


def test_colours_become_grey_by_luminance():
    rgb = np.zeros((2, 2, 3), np.uint8)
    rgb[0, 0], rgb[0, 1], rgb[1, 0], rgb[1, 1] = [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]
    rgba = np.concatenate([rgb, np.full((2, 2, 1), 7, np.uint8)], axis=2)
    for image in (rgb, rgba, (rgb / 255).astype(np.float32)):
        np.testing.assert_allclose(
            natural_patches(1, 2, [image], normalize=None), [[0.299, 0.587, 0.114, 1]], rtol=1e-6
        )


@pytest.mark.parametrize(("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1), (np.float64, 1)])
def test_levels_reach_from_0_to_1(dtype, largest):
    image = np.array([[0, largest]], dtype)
    assert sorted(natural_patches(50, 1, [image], normalize=None)[:, 0].tolist())[::49] == [0, 1]


def test_floats_are_taken_as_they_are():
    """Such as whitened photographs, which have no range."""
    assert natural_patches(1, 1, [np.array([[-2.5]])], normalize=None).tolist() == [[-2.5]]


# ---------------------------------------------------------------- normalisation


@SETTINGS
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_contrast_gives_every_patch_mean_0_and_its_own_scale(seed, size):
    image = [np.random.default_rng(seed).random((9, 9))]
    raw = natural_patches(20, size, image, seed, None).astype(np.float64)
    patches = natural_patches(20, size, image, seed)
    np.testing.assert_allclose(patches.mean(axis=1), 0, atol=1e-6)
    variances = raw.var(axis=1)
    np.testing.assert_allclose(patches.var(axis=1), variances / (variances + 10 / 255**2), rtol=1e-5)
    brighter = natural_patches(20, size, [image[0] + 0.5], seed)
    np.testing.assert_allclose(brighter, patches, atol=1e-5)


@SETTINGS
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_ufldl_cuts_at_three_deviations_and_maps_to_0_1_to_0_9(seed, size):
    rng = np.random.default_rng(seed)
    image = [rng.random((9, 9)) + 20 * (rng.random((9, 9)) < 0.02)]  # a few values that are cut off
    raw = natural_patches(200, size, image, seed, None).astype(np.float64)
    patches = natural_patches(200, size, image, seed, "ufldl")
    centred = raw - raw.mean(axis=1, keepdims=True)
    limit = 3 * centred.std()
    expected = (np.maximum(np.minimum(centred, limit), -limit) / limit + 1) * 0.4 + 0.1
    np.testing.assert_allclose(patches, expected, atol=1e-6)
    assert patches.min() >= np.float32(0.1) and patches.max() <= np.float32(0.9)


@pytest.mark.parametrize(("normalize", "value"), [("contrast", 0.0), ("ufldl", 0.5), (None, 0.25)])
def test_flat_patches_stay_finite(normalize, value):
    patches = natural_patches(5, 2, [np.full((4, 4), 0.25)], normalize=normalize)
    np.testing.assert_allclose(patches, value, atol=1e-6)


# ---------------------------------------------------------------- folders


def write_pictures(folder):
    """Three 4 x 4 pictures under names whose order is not the order of writing."""
    Image = pytest.importorskip("PIL.Image")
    levels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    Image.fromarray(levels + 100).save(folder / "c.png")
    np.save(folder / "a.npy", levels)
    Image.fromarray(np.repeat(levels[:, :, None] + 200, 3, axis=2)).save(folder / "b.PNG")
    (folder / "notes.txt").write_text("not a picture")
    (folder / "below").mkdir()
    return [levels, levels + 200, levels + 100]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_folder_is_read_in_the_order_of_names(tmp_path, monkeypatch, backwards):
    """Whatever the order in which the file system lists them."""
    images = write_pictures(tmp_path)
    listed = sorted(tmp_path.iterdir(), reverse=backwards)
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(listed))
    expected = natural_patches(40, 2, images, normalize=None)
    for folder in (tmp_path, str(tmp_path)):
        np.testing.assert_allclose(natural_patches(40, 2, folder, normalize=None), expected, rtol=1e-6)


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "CMYK", "1"])
def test_pictures_of_any_mode(tmp_path, mode):
    Image = pytest.importorskip("PIL.Image")
    levels = np.array([[0, 255], [255, 0]], np.uint8)
    name = "x.jpg" if mode == "CMYK" else "x.png"
    Image.fromarray(levels).convert(mode).save(tmp_path / name, **({"quality": 100} if mode == "CMYK" else {}))
    patch = natural_patches(1, 2, tmp_path, normalize=None)
    np.testing.assert_allclose(patch, [[0, 1, 1, 0]], atol=0.02)  # JPEG loses a little


def test_16_bits_are_kept(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    levels = np.array([[0, 1000, 32768, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "x.png")
    by_hand = natural_patches(20, 1, [levels], normalize=None)
    np.testing.assert_array_equal(natural_patches(20, 1, tmp_path, normalize=None), by_hand)
    assert set(by_hand[:, 0]) == set((levels[0] / 65535).astype(np.float32))


def test_the_photographs_beside_the_project():
    pytest.importorskip("PIL")
    data = Path(os.environ.get("AUTOENCODERS_DATA") or Path(__file__).parents[3] / "shared" / "data")
    folder = data / "natural"
    if not folder.is_dir():
        pytest.skip("needs photographs: set AUTOENCODERS_DATA to the folder above natural/")
    patches = natural_patches(2000, 8, folder)
    assert patches.shape == (2000, 64) and np.isfinite(patches).all() and 0.8 < patches.std() < 1


# ---------------------------------------------------------------- refusals


def test_bad_arguments_are_refused(tmp_path):
    image = np.ones((4, 5))
    (tmp_path / "empty").mkdir()
    for arguments, error, words in [
        (dict(n=0), DataError, "n=0; expected at least 1"),
        (dict(n=1.5), DTypeError, "n=1.5; expected an integer"),
        (dict(size=0), DataError, "size=0"),
        (dict(size=5), ShapeError, r"image 0 has shape \(4, 5\); expected at least 5 x 5"),
        (dict(seed=-1), DataError, "seed"),
        (dict(normalize="zca"), DataError, "normalize='zca'; expected one of contrast, ufldl, or None"),
        (dict(images=[]), DataError, "no images"),
        (dict(images=[image, image[0]]), ShapeError, r"image 1 has shape \(5,\)"),
        (dict(images=[np.ones((4, 4, 2))]), ShapeError, r"expected \(h, w\), \(h, w, 3\)"),
        (dict(images=[image[:0]]), ShapeError, r"shape \(0, 5\)"),
        (dict(images=[image * np.nan]), DataError, "image 0 contains NaN"),
        (dict(images=[image.astype(np.int64)]), DTypeError, "int64; expected unsigned integers or floats"),
        (dict(images=[[["a"]]]), DTypeError, "<U1"),
        (dict(images=tmp_path / "missing"), DataError, "missing is not a folder"),
        (dict(images=tmp_path / "empty"), DataError, "empty holds no PNG"),
    ]:
        with pytest.raises(error, match=words):
            natural_patches(**{"n": 3, "size": 2, "images": [image], **arguments})


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.npy"])
@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n\x00\x00", b"\x93NUMPY\x01\x00"])
def test_a_damaged_file_is_named(tmp_path, name, content):
    pytest.importorskip("PIL")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: not a readable"):
        natural_patches(3, 2, tmp_path)


def test_a_picture_that_is_cut_short_is_named(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    for name in ("x.png", "x.jpg"):
        path = tmp_path / name
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(DataError, match=rf"{name}: not a readable image"):
            natural_patches(3, 2, tmp_path)
        path.unlink()


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(DataError, match=r"x.npy: not a readable .npy file"):
        natural_patches(3, 2, tmp_path)


def test_an_array_file_with_a_damaged_header_is_named(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((8, 8)))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes().replace(b"}", b" "))
    with pytest.raises(DataError, match=r"x.npy: not a readable .npy file"):
        natural_patches(3, 2, tmp_path)


def test_without_pillow_pictures_are_refused_and_arrays_are_not(tmp_path, monkeypatch):
    write_pictures(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependencyError, match=r"Pillow to read .*b.PNG: pip install pillow"):
        natural_patches(3, 2, tmp_path)
    (tmp_path / "b.PNG").unlink()
    (tmp_path / "c.png").unlink()
    assert len(natural_patches(3, 2, tmp_path)) == 3


def test_without_scikit_learn_images_of_ones_own_still_serve(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingDependencyError, match="or name images of your own"):
        natural_patches(3)
    assert len(natural_patches(3, 2, [np.ones((4, 4))])) == 3


def test_masked_pixels_are_refused():
    assert len(natural_patches(3, 2, [np.ma.masked_array(np.ones((4, 4)))])) == 3  # nothing is under the mask
    with pytest.raises(DataError, match="natural_patches: image 1 has 1 masked values"):
        natural_patches(3, 2, [np.ones((4, 4)), np.ma.masked_equal(np.eye(1, 16).reshape(4, 4), 1)])
