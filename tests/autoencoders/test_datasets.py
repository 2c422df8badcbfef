"""scikit-learn's digits, and MNIST: where it is looked for, what is refused, and how it is downloaded."""

import gzip
import hashlib
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from autoencoders.datasets import Dataset, digits, download, mnist, read_idx, write_idx
from minigrad.errors import DataError, MissingDependencyError

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = download.MNIST_FILES
DATA = Path(os.environ.get("AUTOENCODERS_DATA") or Path(__file__).parents[3] / "shared" / "data")
needs_mnist = pytest.mark.skipif(
    not (DATA / "mnist").is_dir(), reason="needs MNIST: set AUTOENCODERS_DATA to the folder above mnist/"
)


@pytest.fixture(autouse=True)
def no_places_but_those_of_the_test(tmp_path, monkeypatch):
    """No data of this machine is found, and no server but our own is reached."""
    monkeypatch.delenv("AUTOENCODERS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "MNIST_MIRRORS", ())


def small_mnist(seed=0):
    """The four arrays of a data set in MNIST's form, 7 + 3 images."""
    rng = np.random.default_rng(seed)
    return {
        TRAIN_IMAGES: rng.integers(0, 256, (7, 28, 28), dtype=np.uint8),
        TRAIN_LABELS: rng.integers(0, 10, 7, dtype=np.uint8),
        TEST_IMAGES: rng.integers(0, 256, (3, 28, 28), dtype=np.uint8),
        TEST_LABELS: rng.integers(0, 10, 3, dtype=np.uint8),
    }


def write(folder, files, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in files.items():
        write_idx(folder / (name + suffix), array)
    return folder


def assert_holds(data, files):
    for x, images in [(data.x_train, files[TRAIN_IMAGES]), (data.x_test, files[TEST_IMAGES])]:
        assert x.dtype == np.float32 and x.shape == (len(images), 784)
        np.testing.assert_array_equal(x, images.reshape(-1, 784).astype(np.float32) / np.float32(255))
    for y, labels in [(data.y_train, files[TRAIN_LABELS]), (data.y_test, files[TEST_LABELS])]:
        assert y.dtype == np.int64
        np.testing.assert_array_equal(y, labels)
    assert data.image_shape == (28, 28)


# ---------------------------------------------------------------- digits


def test_digits_are_split_without_loss_and_every_image_keeps_its_label():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    data = digits(test_fraction=0.3, seed=5)
    assert isinstance(data, Dataset) and data.image_shape == (8, 8)
    assert data.x_train.dtype == data.x_test.dtype == np.float32
    assert data.y_train.dtype == data.y_test.dtype == np.int64
    assert data.x_test.shape == (539, 64) and data.x_train.shape == (1258, 64)  # 539.1 of 1797
    x, y = np.concatenate([data.x_train, data.x_test]), np.concatenate([data.y_train, data.y_test])
    pixels, labels = load_digits(return_X_y=True)
    ours = sorted((*row, label) for row, label in zip((x * 16).tolist(), y.tolist(), strict=True))
    assert ours == sorted((*row, label) for row, label in zip(pixels.tolist(), labels.tolist(), strict=True))
    assert set(data.y_test.tolist()) == set(range(10))


def test_the_seed_alone_decides_the_split():
    pytest.importorskip("sklearn")
    for one, same in zip(digits(seed=3), digits(seed=3), strict=True):
        np.testing.assert_array_equal(one, same)
    assert not np.array_equal(digits(seed=3).y_test, digits(seed=4).y_test)
    assert digits(seed=0).y_test[:10].tolist() == GOLDEN_LABELS


# The labels of the first test images with seed 0, written down so that no release changes the split unnoticed.
GOLDEN_LABELS = [0, 6, 3, 8, 1, 8, 4, 1, 5, 8]


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, 1e-9, 1 - 1e-9, float("nan")])
def test_a_fraction_that_leaves_a_part_empty_is_refused(fraction):
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match="test_fraction"):
        digits(test_fraction=fraction)


def test_a_bad_seed_is_refused():
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match="seed=-1"):
        digits(seed=-1)
    with pytest.raises(TypeError):
        digits(seed=None)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingDependencyError, match=r"pip install scikit-learn"):
        digits()


# ---------------------------------------------------------------- where MNIST is looked for


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_is_read_from_a_root(tmp_path, suffix):
    files = small_mnist()
    data = mnist(write(tmp_path / "here", files, suffix))
    assert_holds(data, files)
    assert repr(data) == "Dataset(train=7, test=3, image_shape=(28, 28))"


def test_the_data_folder_comes_before_the_cache_and_an_incomplete_one_is_passed_over(tmp_path, monkeypatch):
    in_cache, in_data = small_mnist(1), small_mnist(2)
    write(tmp_path / "cache" / "autoencoders" / "mnist", in_cache)
    assert_holds(mnist(), in_cache)
    write(tmp_path / "data" / "mnist", in_data)
    monkeypatch.setenv("AUTOENCODERS_DATA", str(tmp_path / "data"))
    assert_holds(mnist(), in_data)
    (tmp_path / "data" / "mnist" / TEST_LABELS).unlink()
    assert_holds(mnist(), in_cache)


@pytest.mark.parametrize("value", ["", "relative"])
def test_without_an_absolute_xdg_cache_the_home_cache_serves(tmp_path, monkeypatch, value):
    files = small_mnist()
    write(tmp_path / "home" / ".cache" / "autoencoders" / "mnist", files)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert_holds(mnist(), files)
    assert_holds(mnist("~/.cache/autoencoders/mnist"), files)


def test_when_nothing_is_found_every_place_is_named_and_nothing_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "urlopen", lambda *_, **__: pytest.fail("went to the network unasked"))
    monkeypatch.setenv("AUTOENCODERS_DATA", str(tmp_path / "data"))
    files = small_mnist()
    del files[TRAIN_LABELS], files[TEST_IMAGES]
    partial = write(tmp_path / "data" / "mnist", files)
    with pytest.raises(DataError) as caught:
        mnist()
    assert f"{partial}: lacks {TRAIN_LABELS}, {TEST_IMAGES}\n" in str(caught.value)
    assert f"{tmp_path / 'cache' / 'autoencoders' / 'mnist'}: no such folder\n" in str(caught.value)
    assert "ae.datasets.mnist(download=True)" in str(caught.value) and "AUTOENCODERS_DATA" in str(caught.value)

    write(tmp_path / "data" / "mnist", small_mnist())
    with pytest.raises(DataError, match="elsewhere: no such folder"):
        mnist(tmp_path / "elsewhere")  # a root that is named is the only place
    assert not (tmp_path / "elsewhere").exists()


# ---------------------------------------------------------------- files that are not MNIST


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        (TRAIN_IMAGES, np.zeros(7, np.uint8), r"expected images.*shape \(7,\) \(a file of labels\?\)"),
        (TEST_LABELS, np.zeros((3, 28, 28), np.uint8), r"expected labels.*shape \(3, 28, 28\) \(a file of images\?\)"),
        (TRAIN_IMAGES, np.zeros((7, 784), np.uint8), r"expected images.*shape \(7, 784\)"),
        (TRAIN_IMAGES, np.zeros((7, 28, 27), np.uint8), r"expected images.*shape \(7, 28, 27\)"),
        (TEST_IMAGES, np.zeros((0, 28, 28), np.uint8), r"expected images.*shape \(0, 28, 28\)"),
        (TEST_IMAGES, np.zeros((3, 28, 28), np.float32), "expected images, uint8.*float32"),
        (TRAIN_LABELS, np.zeros(7, np.int32), "expected labels, uint8.*int32"),
        (TRAIN_LABELS, np.zeros((7, 1), np.uint8), r"expected labels.*shape \(7, 1\)"),
        (TRAIN_LABELS, np.zeros(6, np.uint8), "holds 7 images, but .* holds 6 labels"),
        (TEST_LABELS, np.array([1, 2, 10], np.uint8), "label number 2 is 10; expected digits 0 to 9"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, name, array, words):
    folder = write(tmp_path, small_mnist())
    write_idx(folder / name, array)
    with pytest.raises(DataError, match=words) as caught:
        mnist(folder)
    assert str(folder / name) in str(caught.value)


def test_a_damaged_file_is_named(tmp_path):
    folder = write(tmp_path, small_mnist(), ".gz")
    damaged = folder / f"{TEST_IMAGES}.gz"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(DataError, match="damaged gzip file") as caught:
        mnist(folder)
    assert str(damaged) in str(caught.value)


# ---------------------------------------------------------------- download


class Mirror:
    """An HTTP server on this machine; ``serves`` maps a file's name to its bytes, ``asked`` lists the requests."""

    def __init__(self):
        self.serves, self.asked, self.shorten_by, self.awake = {}, [], 0, threading.Event()
        self.awake.set()
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.rpartition("/")[2]
                mirror.asked.append(name)
                mirror.awake.wait()
                if name not in mirror.serves:
                    return self.send_error(404)
                self.send_response(200)
                self.send_header("Content-Length", str(len(mirror.serves[name])))
                self.end_headers()
                self.wfile.write(mirror.serves[name][: len(mirror.serves[name]) - mirror.shorten_by])

            def log_message(self, *_):
                """Keep the test's output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/mnist/"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.awake.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def mirrors(monkeypatch):
    """Two mirrors, tried in this order; the second is good, and the checksums are those of what it serves."""
    first, second = Mirror(), Mirror()
    for name, array in small_mnist().items():
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        content = header + array.tobytes()
        second.serves[f"{name}.gz"] = gzip.compress(content)
        expected = download.Content(hashlib.md5(content).hexdigest(), len(content))
        monkeypatch.setitem(download.MNIST_FILES, name, expected)
    monkeypatch.setattr(download, "MNIST_MIRRORS", (first.url, second.url))
    yield first, second
    first.close()
    second.close()


def spoil_nothing_served(first, second, monkeypatch):
    return "HTTP Error 404"


def spoil_other_content(first, second, monkeypatch):
    first.serves = {name: gzip.compress(b"something else") for name in second.serves}
    return "wrong checksum"


def spoil_longer_content(first, second, monkeypatch):
    first.serves = {name: gzip.compress(gzip.decompress(data) + b"x") for name, data in second.serves.items()}
    return "wrong checksum"


def spoil_not_gzip(first, second, monkeypatch):
    first.serves = dict.fromkeys(second.serves, b"<html>Please log in</html>")
    return "Not a gzipped file"


def spoil_cut_short(first, second, monkeypatch):
    first.serves, first.shorten_by = second.serves, 5
    return "ended before"


def spoil_damaged(first, second, monkeypatch):
    """Byte 10 is the first after the gzip header."""
    first.serves = {name: data[:10] + b"\x07" + data[11:] for name, data in second.serves.items()}
    return "invalid block type"


def spoil_refused(first, second, monkeypatch):
    first.close()
    return "refused"


def spoil_silent(first, second, monkeypatch):
    """Our own time-out is long enough for a slow test machine, so the first mirror alone gets a short one."""

    def impatient(url, timeout):
        return urlopen(url, timeout=0.05 if url.startswith(first.url) else timeout)

    first.awake.clear()
    monkeypatch.setattr(download, "urlopen", impatient)
    return "timed out"


SPOILERS = [
    spoil_nothing_served,
    spoil_other_content,
    spoil_longer_content,
    spoil_not_gzip,
    spoil_cut_short,
    spoil_damaged,
    spoil_refused,
    spoil_silent,
]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_a_mirror_that_fails_is_followed_by_the_next(tmp_path, monkeypatch, mirrors, spoil):
    first, second = mirrors
    spoil(first, second, monkeypatch)
    monkeypatch.setenv("AUTOENCODERS_DATA", str(tmp_path / "shared"))  # a place to read from, never to write to
    assert_holds(mnist(download=True), small_mnist())
    assert not (tmp_path / "shared").exists()
    cache = tmp_path / "cache" / "autoencoders" / "mnist"
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == second.serves


@pytest.mark.parametrize("spoil", SPOILERS)
def test_when_every_mirror_fails_each_is_named_with_its_reason_and_nothing_is_left(
    tmp_path, monkeypatch, mirrors, spoil
):
    first, second = mirrors
    reason = spoil(first, second, monkeypatch)
    monkeypatch.setattr(download, "MNIST_MIRRORS", (first.url, second.url.replace("/mnist/", "/moved/")))
    second.serves = {}
    with pytest.raises(DataError) as caught:
        mnist(tmp_path / "root", download=True)
    lines = str(caught.value).splitlines()
    assert first.url in lines[1] and reason in lines[1]
    assert "/moved/" in lines[2] and "404" in lines[2]
    assert str(tmp_path / "root") in lines[3]
    assert list((tmp_path / "root").iterdir()) == []


def test_only_what_is_missing_is_fetched(tmp_path, mirrors):
    files = small_mnist()
    root = write(tmp_path / "root", {name: files[name] for name in (TRAIN_IMAGES, TEST_LABELS)})
    assert_holds(mnist(root, download=True), files)
    assert sorted(mirrors[1].asked) == sorted([f"{TRAIN_LABELS}.gz", f"{TEST_IMAGES}.gz"])
    assert_holds(mnist(root, download=True), files)
    assert len(mirrors[1].asked) == 2


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch, mirrors):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        mnist(tmp_path / "root", download=True)
    assert list((tmp_path / "root").iterdir()) == []


# ---------------------------------------------------------------- the real thing


@needs_mnist
def test_the_real_mnist():
    data = mnist(DATA / "mnist")
    assert data.x_train.shape == (60000, 784) and data.x_test.shape == (10000, 784)
    assert data.x_train.min() == 0 and data.x_train.max() == 1
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9] and data.y_test[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.x_train.mean(dtype=np.float64) == pytest.approx(0.1306605, abs=1e-6)


@needs_mnist
def test_the_checksums_are_those_of_the_real_files(tmp_path):
    for name, expected in download.MNIST_FILES.items():
        content = gzip.decompress((DATA / "mnist" / f"{name}.gz").read_bytes())
        assert (hashlib.md5(content).hexdigest(), len(content)) == expected
        write_idx(tmp_path / name, read_idx(DATA / "mnist" / f"{name}.gz"))
        assert (tmp_path / name).read_bytes() == content
