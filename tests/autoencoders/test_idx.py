"""The IDX format: what is written is read back bit for bit, and every kind of damage is reported by name."""

import gzip
import itertools
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from autoencoders.datasets import idx, read_idx, write_idx
from minigrad.errors import DataError, DTypeError, ShapeError

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
EXAMPLE = np.array([[1, -2, 300], [4, 5, -6]], np.int16)
EXAMPLE_BYTES = bytes.fromhex("00000b02 00000002 00000003 0001fffe012c00040005fffa")


def message_for(path, content):
    """What reading a file with this content complains of; the complaint must name the file."""
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """One folder for the many examples of a property."""
    return tmp_path_factory.mktemp("idx")


# ---------------------------------------------------------------- the round trip


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(CODES)), order=st.sampled_from("<>"), gzipped=st.booleans())
def test_what_is_written_is_read_back_bit_for_bit(scratch, data, name, order, gzipped):
    """Every type, either byte order, empty sides, NaN and negative zero; and the bytes are those of the format."""
    shape = data.draw(array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=4))
    array = data.draw(arrays(order + name, shape))
    path = scratch / ("a.gz" if gzipped else "a")
    write_idx(path, array)
    content = path.read_bytes()
    assert content.startswith(b"\x1f\x8b") == gzipped
    big_endian = array.astype(">" + name).tobytes()
    header = struct.pack(f">BBBB{len(shape)}I", 0, 0, CODES[name], len(shape), *shape)
    assert (gzip.decompress(content) if gzipped else content) == header + big_endian

    back = read_idx(path)
    assert back.dtype == np.dtype(name) and back.dtype.isnative and back.shape == shape
    assert back.astype(">" + name).tobytes() == big_endian
    assert back.flags.writeable


def test_gzip_is_seen_from_the_content_not_from_the_name(tmp_path):
    (tmp_path / "plain.gz").write_bytes(EXAMPLE_BYTES)
    (tmp_path / "zipped").write_bytes(gzip.compress(EXAMPLE_BYTES))
    (tmp_path / "parts").write_bytes(gzip.compress(EXAMPLE_BYTES[:9]) + gzip.compress(EXAMPLE_BYTES[9:]))
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(read_idx(path), EXAMPLE)
        np.testing.assert_array_equal(read_idx(str(path)), EXAMPLE)


def test_an_array_larger_than_one_read_arrives_whole(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, 3 * 2**20 + 5, dtype=np.uint8)
    for name in ("a", "a.gz"):
        write_idx(tmp_path / name, array)
        np.testing.assert_array_equal(read_idx(tmp_path / name), array)


def test_the_same_array_gives_the_same_gzip_file(tmp_path, monkeypatch):
    contents = set()
    for now, name in [(1e9, "a.gz"), (1.5e9, "b.gz")]:
        monkeypatch.setattr("time.time", lambda now=now: now)
        write_idx(tmp_path / name, EXAMPLE)
        contents.add((tmp_path / name).read_bytes())
    assert len(contents) == 1


# ---------------------------------------------------------------- damage


def test_every_shorter_file_is_refused(tmp_path):
    zipped = gzip.compress(EXAMPLE_BYTES, mtime=0)
    for length in range(len(EXAMPLE_BYTES)):
        words = "not an IDX file" if length < 4 else "header is cut short" if length < 12 else "cut short"
        assert words in message_for(tmp_path / "a", EXAMPLE_BYTES[:length])
        # cut before it was compressed: the gzip file itself is whole
        assert words in message_for(tmp_path / "a", gzip.compress(EXAMPLE_BYTES[:length]))
    for length in range(2, len(zipped)):
        assert "damaged gzip file" in message_for(tmp_path / "a", zipped[:length])


def test_bytes_after_the_array_are_refused(tmp_path):
    for extra in (b"\0", b"x" * 1000):
        assert "more bytes follow" in message_for(tmp_path / "a", EXAMPLE_BYTES + extra)
        assert "more bytes follow" in message_for(tmp_path / "a", gzip.compress(EXAMPLE_BYTES + extra))
    assert "damaged gzip file" in message_for(tmp_path / "a", gzip.compress(EXAMPLE_BYTES) + b"x")


def test_no_flipped_bit_of_a_gzip_file_goes_unnoticed(tmp_path):
    """Bits that say only when and where the file was made may flip; the array must not."""
    zipped, path = gzip.compress(EXAMPLE_BYTES, mtime=0), tmp_path / "a"
    noticed = 0
    for position, bit in itertools.product(range(len(zipped)), range(8)):
        damaged = bytearray(zipped)
        damaged[position] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(read_idx(path), EXAMPLE)
        except DataError as error:
            assert str(path) in str(error)
            noticed += 1
    assert noticed >= 8 * (len(zipped) - 10)  # all but some of the 10 bytes of the gzip header


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"\x89PNG\r\n\x1a\n" + b"0" * 99, b"<!DOCTYPE html>", b"\0\0\x08\0", b"\0\0\x0a\x01\0\0\0\0"]
    + [b"\0\0\x08\x41" + b"\0\0\0\1" * 65, b"\0\1\x08\1\0\0\0\1x", b"\1\0\x08\1\0\0\0\1x"],
    ids=["empty", "one byte", "png", "html", "no dimensions", "unknown type", "65 dimensions", "byte 1", "byte 0"],
)
def test_what_is_not_idx_is_refused(tmp_path, content):
    message = message_for(tmp_path / "a", content)
    assert "not an IDX file" in message
    assert (content[:4].hex(" ") if len(content) >= 4 else f"it holds {len(content)} bytes") in message


def peak_memory(read):
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (2**28,), (2**20, 5)])
def test_a_header_that_promises_too_much_takes_no_memory(tmp_path, pack, shape):
    content = pack(struct.pack(f">BBBB{len(shape)}I", 0, 0, 0x0E, len(shape), *shape) + bytes(1000))
    (tmp_path / "a").write_bytes(content)
    assert peak_memory(lambda: message_for(tmp_path / "a", content)) < 2**20
    assert f"promises an array of shape {shape}" in message_for(tmp_path / "a", content)


def test_a_promise_that_a_gzip_file_might_keep_is_not_paid_in_advance(tmp_path):
    """2 MB of noise could unpack to 2 GB, so the length alone does not refuse 1 GB."""
    noise = np.random.default_rng(0).bytes(2**21)
    content = gzip.compress(b"\0\0\x08\1" + struct.pack(">I", 2**30) + noise, compresslevel=1)
    assert peak_memory(lambda: message_for(tmp_path / "a", content)) < 2**24
    assert f"only {2**21} bytes follow" in message_for(tmp_path / "a", content)


def test_a_small_array_before_a_flood_is_refused_without_unpacking_the_flood(tmp_path):
    content = gzip.compress(b"\0\0\x08\1\0\0\0\1x" + bytes(2**26), compresslevel=1)
    assert peak_memory(lambda: message_for(tmp_path / "a", content)) < 2**21


def test_an_empty_array_of_impossible_sides_is_refused(tmp_path):
    assert "no array can have" in message_for(tmp_path / "a", b"\0\0\x08\4\0\0\0\0" + b"\xff" * 12)


def test_a_missing_file_is_a_plain_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "nothing")


# ---------------------------------------------------------------- refusing to write


@pytest.mark.parametrize(
    ("array", "error", "words"),
    [
        (np.array([1, 2], np.int64), DTypeError, "no code for int64"),
        (np.array([1, 2], np.uint16), DTypeError, "no code for uint16"),
        (np.array([True]), DTypeError, "no code for bool"),
        (np.array([1j], np.complex64), DTypeError, "no code for complex64"),
        (np.array(["a"]), DTypeError, "no code for <U1"),
        (np.uint8(3), ShapeError, r"got shape \(\)"),
        (np.broadcast_to(np.uint8(0), 2**32), ShapeError, r"got shape \(4294967296,\)"),
    ],
)
def test_what_the_format_cannot_hold_is_not_written(tmp_path, array, error, words):
    with pytest.raises(error, match=words):
        write_idx(tmp_path / "a", array)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError("no space left")

    write_idx(tmp_path / "a", EXAMPLE)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_idx(tmp_path / "a", EXAMPLE + 1)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), EXAMPLE)


def test_the_deflate_bound_holds_for_the_most_compressible_data():
    """The reader refuses a gzip file by its length alone, so the bound must never refuse a good one."""
    zeros = bytes(2**26)
    assert len(zeros) <= idx._MAX_DEFLATE_RATIO * len(zlib.compress(zeros, 9))


def test_masked_values_are_not_written(tmp_path):
    with pytest.raises(DataError, match="write_idx: array has 1 masked values; fill them"):
        write_idx(tmp_path / "a", np.ma.masked_equal(EXAMPLE, 300))
    assert not list(tmp_path.iterdir())
