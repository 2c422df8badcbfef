"""Files: what is saved is loaded bit for bit, damage is reported by name, and a failed write leaves the old file."""

import errno
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import minigrad as mg
from minigrad import atomic, files
from minigrad.atomic import Lock, write_atomically
from minigrad.errors import DataError, DTypeError

DTYPES = ["bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">f4", ">i2"]
ROOT = Path(mg.__file__).parents[1]
needs_locks = pytest.mark.skipif(not atomic.HAS_LOCKS, reason="the system has no locks on files")
STATE = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([1, 2, 3])}


@given(st.data())
def test_arrays_come_back_bit_for_bit(tmp_path_factory, data):
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    array = data.draw(arrays(dtype, array_shapes(min_dims=0, min_side=0, max_side=4)))
    array = data.draw(st.sampled_from([array, array.T, array[::-1] if array.ndim else array]))
    path = tmp_path_factory.mktemp("files") / "x"
    files.save(path, {"x": array})
    loaded = files.load(path)["x"]
    assert loaded.dtype == dtype.newbyteorder("=") and loaded.shape == array.shape
    assert loaded.tobytes() == array.astype(loaded.dtype).tobytes()
    assert loaded.flags.writeable


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "u1"])
def test_any_layout_in_memory_is_saved_by_its_values(tmp_path, dtype):
    base = np.arange(24).reshape(4, 6).astype(dtype)
    layouts = {"plain": base, "fortran": base.T, "backward": base[::-1], "gaps": base[::2, 1::3]}
    layouts["repeated"] = np.broadcast_to(base[0], (3, 6))
    files.save(tmp_path / "a", layouts)
    for name, array in files.load(tmp_path / "a").items():
        np.testing.assert_array_equal(array, layouts[name])


def test_nested_dicts_tensors_and_numbers_get_flat_names(tmp_path):
    model = mg.nn.Linear(2, 1)
    state = {"model": {"w": model.weight, "more": {"y": mg.tensor([2.0])}}, "epoch": 7, "lr": 0.5}
    files.save(tmp_path / "a", state)
    loaded = files.load(tmp_path / "a")
    assert list(loaded) == ["epoch", "lr", "model.more.y", "model.w"]
    np.testing.assert_array_equal(loaded["model.w"], model.weight.detach().numpy())
    assert loaded["epoch"] == 7 and loaded["epoch"].dtype == np.int64
    assert loaded["lr"] == 0.5 and loaded["lr"].dtype == np.float64


def test_models_and_optimizers_come_back(tmp_path):
    a, b = mg.nn.Linear(3, 2), mg.nn.Linear(3, 2)
    optimizer = mg.optim.Adam(a.parameters())
    a(mg.ones((1, 3))).sum().backward()
    optimizer.step()
    files.save(tmp_path / "a", a.state_dict())
    files.save(tmp_path / "o", optimizer.state_dict())
    b.load_state_dict(files.load(tmp_path / "a"))
    np.testing.assert_array_equal(b.weight.detach().numpy(), a.weight.detach().numpy())
    again = mg.optim.Adam(b.parameters(), lr=0.5)
    again.load_state_dict(files.load(tmp_path / "o"))
    assert again.lr == 1e-3 and again.step_counts == [1, 1]


def test_metadata_and_an_empty_state_come_back(tmp_path):
    files.save(tmp_path / "a", {}, metadata={"format": "äß", "config": "{}"})
    assert files.load_with_metadata(tmp_path / "a") == ({}, {"format": "äß", "config": "{}"})
    files.save(tmp_path / "b", STATE)
    assert files.load_with_metadata(tmp_path / "b")[1] == {}


CYCLE = {"a": {}}
CYCLE["a"]["b"] = CYCLE


def test_a_dict_that_is_there_twice_is_no_cycle(tmp_path):
    part = {"x": np.ones(1)}
    files.save(tmp_path / "a", {"first": part, "second": {"third": part}})
    assert sorted(files.load(tmp_path / "a")) == ["first.x", "second.third.x"]


@pytest.mark.parametrize(
    ("state", "metadata", "error", "words"),
    [
        ({"x": "text"}, None, DTypeError, "'x' has dtype <U4"),
        ({"x": np.array([1j])}, None, DTypeError, "'x' has dtype complex128"),
        ({"x": {"y": None}}, None, DTypeError, "'x.y' has dtype object"),
        ({"x": [[1], [2, 3]]}, None, DTypeError, "'x' is no array"),
        ({"x.y": np.zeros(1), "x": {"y": np.zeros(1)}}, None, DataError, "'x.y' is there twice"),
        ({"__metadata__": np.zeros(1)}, None, DataError, "reserved"),
        ({1: np.zeros(1)}, None, DTypeError, "got 1"),
        ({"x": {"": np.zeros(1)}}, None, DTypeError, "in 'x'"),
        ([np.zeros(1)], None, DTypeError, "got list"),
        (STATE, {"epochs": 3}, DTypeError, "'epochs': 3"),
        (STATE, ["epochs"], DTypeError, "metadata are a dict of texts by name, got list"),
        (STATE, {"a": "\ud800"}, DataError, r"'\\ud800' has a character that UTF-8 lacks"),
        (STATE, {"\ud800": "a"}, DataError, r"'\\ud800' has a character that UTF-8 lacks"),
        ({"x": {"\ud800": np.zeros(1)}}, None, DataError, r"'\\ud800' has a character that UTF-8 lacks"),
        (CYCLE, None, DataError, "the dict 'a.b' contains itself"),
    ],
)
def test_what_a_file_cannot_hold_is_refused_and_nothing_is_written(tmp_path, state, metadata, error, words):
    with pytest.raises(error, match=words):
        files.save(tmp_path / "a", state, metadata)
    assert list(tmp_path.iterdir()) == []


def test_every_truncation_and_every_foreign_file_is_reported_by_name(tmp_path):
    path = tmp_path / "model.safetensors"
    files.save(path, STATE, {"format": "x"})
    content = path.read_bytes()
    damaged = [content[:n] for n in range(len(content))]
    damaged += [content + b"x", b"PK\x03\x04" + content, b"\xff" * len(content), content.replace(b"F64", b"F99")]
    damaged += [content.replace(b'"F64"', b'"BF16"')]
    for bad in damaged:
        path.write_bytes(bad)
        with pytest.raises(DataError, match=r"model\.safetensors: not a readable"):
            files.load(path)


def test_missing_files_and_folders_are_the_usual_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        files.load(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        files.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder.*nowhere"):
        files.save(tmp_path / "nowhere" / "a", STATE)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    def fail(*arguments):
        raise OSError("no space left")

    files.save(tmp_path / "a", STATE)
    before = (tmp_path / "a").read_bytes()
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no space left"):
        files.save(tmp_path / "a", {"a": np.zeros(100)})
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == before


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")
    replace, seen = os.replace, []

    def look(source, target):
        seen.append(((tmp_path / "a").read_bytes(), source.read_bytes(), source.parent))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    write_atomically(tmp_path / "a", b"new")
    assert seen == [(b"old", b"new", tmp_path)]
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_symbolic_link_stays_and_its_file_is_written(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(Path("store") / "real")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "store" / "real").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["link", "real", "store"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "folder").mkdir()
    before = {path.name: path.lstat() for path in tmp_path.iterdir()}
    for name in before:
        with pytest.raises(OSError, match=rf"no regular file.*{name}"):
            write_atomically(tmp_path / name, b"new")
    assert {path.name: path.lstat() for path in tmp_path.iterdir()} == before


@pytest.mark.skipif(os.name != "posix", reason="the system has other permissions")
def test_a_file_that_is_replaced_hands_on_its_permissions(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    for mode in (0o600, 0o640):
        (tmp_path / "a").chmod(mode)
        write_atomically(tmp_path / "a", b"new")
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_an_error_of_a_write_names_the_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'a'}'") as caught:
        files.save(tmp_path / "a", STATE)
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / "a")
    assert os.listdir(tmp_path) == []


def process_that(code, lines=None):
    """Return a process that has come to the end of some code, and sleeps; add to `lines` what the code printed."""
    code = f"import os, sys, time\nfrom minigrad import atomic\n{code}\nprint(flush=True)\ntime.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    while line := process.stdout.readline().strip():
        lines.append(line)
    return process


@needs_locks
def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    others = [".a.notes.part", ".a.b.0123456789ab.part", ".b.0123456789ab.part", "a.0123456789ab.part"]
    for name in others:
        (tmp_path / name).write_bytes(b"")
    code = "os.fsync = lambda descriptor: (print(flush=True), time.sleep(600))\n"
    writer = process_that(code + f"atomic.write_atomically({str(tmp_path / 'a')!r}, b'half')")
    try:
        write_atomically(tmp_path / "a", b"one")
        (part,) = set(os.listdir(tmp_path)) - {"a", *others}
        assert re.fullmatch(r"\.a\.[0-9a-f]{12}\.part", part) and (tmp_path / part).read_bytes() == b"half"
    finally:
        writer.kill()
        writer.communicate()
    assert (tmp_path / part).exists()
    write_atomically(tmp_path / "a", b"two")
    assert sorted(os.listdir(tmp_path)) == sorted(["a", *others])
    assert (tmp_path / "a").read_bytes() == b"two"


@needs_locks
def test_a_lock_is_held_once_until_it_is_released_or_its_process_ends(tmp_path):
    (tmp_path / "link").symlink_to("a")
    lock = Lock(tmp_path / "a")
    lock.acquire()
    for name in ("a", "link"):
        with pytest.raises(BlockingIOError):
            Lock(tmp_path / name).acquire()
    Lock(tmp_path / "b").release()  # which was not taken
    lock.release()
    assert os.listdir(tmp_path) == ["link"]
    other = process_that(f"lock = atomic.Lock({str(tmp_path / 'a')!r})\nlock.acquire()")
    try:
        with pytest.raises(BlockingIOError):
            lock.acquire()
    finally:
        other.kill()
        other.communicate()
    lock.acquire()
    with pytest.raises(BlockingIOError):
        Lock(tmp_path / "a").acquire()
    lock.release()
    assert os.listdir(tmp_path) == ["link"]


@needs_locks
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_child_does_not_keep_the_lock_of_a_parent_that_was_killed(tmp_path):
    forking = """
begun, told = os.pipe()
child = os.fork()
if not child:
    os.close(1)  # whoever reads it waits for nobody else
    os.write(told, b"x")
    time.sleep(600)
os.read(begun, 1)
print(child, flush=True)"""
    parent = process_that(f"lock = atomic.Lock({str(tmp_path / 'a')!r})\nlock.acquire()\n{forking}", lines := [])
    child = int(lines[0])
    try:
        with pytest.raises(BlockingIOError):
            Lock(tmp_path / "a").acquire()
        parent.kill()
        parent.wait()
        os.kill(child, 0)  # lives
        lock = Lock(tmp_path / "a")
        lock.acquire()
        lock.release()
    finally:
        parent.kill()
        os.kill(child, signal.SIGKILL)
        parent.communicate()


@needs_locks
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_child_does_not_take_the_lock_of_its_parent_away(tmp_path):
    forking = """
child = os.fork()
if not child:
    try:
        lock.acquire()  # as it is taken, by the parent
        os._exit(2)
    except BlockingIOError:
        lock.release()
        os._exit(3)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(status, flush=True)"""
    parent = process_that(f"lock = atomic.Lock({str(tmp_path / 'a')!r})\nlock.acquire()\n{forking}", lines := [])
    try:
        assert lines == ["3"] and os.listdir(tmp_path) == [".a.lock"]
        with pytest.raises(BlockingIOError):
            Lock(tmp_path / "a").acquire()
    finally:
        parent.kill()
        parent.communicate()


@needs_locks
def test_a_lock_on_a_file_that_was_removed_meanwhile_is_taken_again(tmp_path, monkeypatch):
    lock, calls = atomic._lock, []

    def removing(file, wait):
        if not calls:
            os.unlink(file.name)  # as the holder does, between the open and the lock of this one
        calls.append(file)
        return lock(file, wait)

    monkeypatch.setattr(atomic, "_lock", removing)
    held = Lock(tmp_path / "a")
    held.acquire()
    assert len(calls) == 2 and os.listdir(tmp_path) == [".a.lock"]
    with pytest.raises(BlockingIOError):
        Lock(tmp_path / "a").acquire()
    held.release()


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOTSUP])
def test_without_locks_files_are_written_and_parts_stay(tmp_path, monkeypatch, error):
    def none(*arguments):
        raise OSError(error, "no locks")

    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", none)
    (tmp_path / ".a.0123456789ab.part").write_bytes(b"perhaps of a living writer")
    write_atomically(tmp_path / "a", b"x")
    assert sorted(os.listdir(tmp_path)) == [".a.0123456789ab.part", "a"]
    lock = Lock(tmp_path / "a")
    lock.acquire()
    lock.release()
    monkeypatch.setattr(atomic, "HAS_LOCKS", False)  # as on Windows
    write_atomically(tmp_path / "a", b"y")
    assert (tmp_path / "a").read_bytes() == b"y"
    assert sorted(os.listdir(tmp_path)) == [".a.0123456789ab.part", "a"]


def test_equal_states_give_equal_files(tmp_path):
    state, texts = {"b": np.arange(3.0), "a": np.ones((2, 2))}, {name: name * 3 for name in "zyxwvutsrq"}
    contents = set()
    for i in range(5):  # the library underneath writes texts in another order each time
        files.save(tmp_path / f"{i}.safetensors", state, texts)
        contents.add((tmp_path / f"{i}.safetensors").read_bytes())
    assert len(contents) == 1
    loaded, found = files.load_with_metadata(tmp_path / "0.safetensors")
    assert found == texts and (loaded["b"] == state["b"]).all()
