"""Machine code from LLVM's assembly: what is generated computes what it should, and what is kept is only our own."""

import ctypes
import gc
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minigrad import native
from minigrad.assembly import Code, module

pytestmark = pytest.mark.skipif(not native.available(), reason="llvmlite is not installed")
ROOT = Path(__file__).resolve().parents[2]


def adding(number):
    """The source of a function that adds a number to each element."""
    code = Code("double")
    with code.loop(0, "%n") as i:
        place = code.at("%x", i)
        code.store(code.let(f"fadd double {code.load(place)}, {float(number)}"), place)
    return module(code.define("internal void @add(ptr %x, i64 %n)"), "add", ["ptr", "i64"])


def added(text, anew=True):
    """What a source adds to 1: built for this call, or read from what is kept, unless this process may have it."""
    if anew:
        native._built.pop(text, None)
    x = np.ones(5)
    native.Call(text, (x,), (4,))()
    assert x[4] == 1 and len(set(x[:4])) == 1
    return x[0] - 1


@pytest.fixture
def folder(tmp_path, monkeypatch):
    place = tmp_path / "new" / "kept"
    monkeypatch.setenv("MINIGRAD_CACHE", str(place))
    return place


@pytest.fixture
def builds(monkeypatch):
    """The sources that LLVM had to build."""
    texts = []
    build = native._machine_code
    monkeypatch.setattr(native, "_machine_code", lambda text: texts.append(text) or build(text))
    return texts


# Where machine code is kept


def test_the_folder_is_what_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGRAD_CACHE", f" {tmp_path} ")
    assert native.cache_folder() == tmp_path
    for off in ("off", "OFF", " Off "):
        monkeypatch.setenv("MINIGRAD_CACHE", off)
        assert native.cache_folder() is None
    for unset in ("", "  "):
        monkeypatch.setenv("MINIGRAD_CACHE", unset)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert native.cache_folder() == tmp_path / "minigrad"
    monkeypatch.delenv("MINIGRAD_CACHE")
    assert native.cache_folder() == tmp_path / "minigrad"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the specification says to ignore
    assert native.cache_folder() is None
    for unset in (None, ""):
        monkeypatch.setenv("XDG_CACHE_HOME", unset) if unset is not None else monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert native.cache_folder() == tmp_path / ".cache" / "minigrad"


def test_nothing_is_kept_where_that_is_switched_off(monkeypatch, tmp_path, builds):
    monkeypatch.setenv("MINIGRAD_CACHE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    text = adding(1)
    assert added(text) == added(text) == 1
    assert builds == [text, text] and not list(tmp_path.iterdir())


def test_what_is_kept_is_built_once_and_computes_the_same(folder, builds):
    one, two = adding(1), adding(2)
    assert [added(one), added(two), added(one), added(two)] == [1, 2, 1, 2]
    assert builds == [one, two]
    assert len(list(folder.iterdir())) == 2
    if hasattr(os, "getuid"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_function_is_built_once_in_a_process(folder, builds):
    text = adding(3)
    native._built.pop(text, None)
    one, two = np.ones(5), np.ones(5)
    calls = [native.Call(text, (one,), (4,)), native.Call(text, (two,), (2,))]
    assert calls[0].pair[0] == calls[1].pair[0] and builds == [text]
    for call in calls:
        call()
    assert one.tolist() == [4, 4, 4, 4, 1] and two.tolist() == [4, 4, 1, 1, 1]  # each has words of its own


def test_what_is_passed_lies_in_words_that_may_be_changed():
    one, two = np.ones(5), np.ones(5)
    call = native.Call(adding(12), (one,), (4,))
    assert [*call.words] == [one.ctypes.data, 4] and [*call.pointers] == [0]
    assert call.pair[1] == ctypes.addressof(call.words)
    call.words[0], call.words[1] = two.ctypes.data, 2
    call()
    assert one.tolist() == [1] * 5 and two.tolist() == [13, 13, 1, 1, 1]


def test_a_call_keeps_its_arrays_alive():
    x = np.ones(5)
    call, gone = native.Call(adding(13), (x,), (4,)), weakref.ref(x)
    del x
    assert gone() is not None
    del call
    assert gone() is None


def test_in_haste_only_what_is_kept_is_used(folder, builds):
    kept, new = adding(1), adding(2)
    assert added(kept) == 1
    builds.clear()
    with native.only_kept():
        assert added(kept) == 1
        with pytest.raises(native.NotKept):
            added(new)
        with native.only_kept(), pytest.raises(native.NotKept):
            added(new)
        with pytest.raises(native.NotKept):
            added(new)
        others = []
        thread = threading.Thread(target=lambda: others.append(added(adding(3))))  # who is in no haste
        thread.start()
        thread.join()
    assert others == [3] and builds == [adding(3)]
    assert added(new) == 2
    with native.only_kept():  # in this process, or on disk
        assert added(new, anew=False) == added(new) == 2


def test_a_function_takes_what_a_call_takes(folder):
    x = np.ones(5)
    native.Function(adding(4), 2)(native.start_of(x), 3)
    assert x.tolist() == [5, 5, 5, 1, 1]


def arrays_of_all_kinds(folder):
    x = np.arange(24.0).reshape(4, 6)
    folder.mkdir(parents=True)
    mapped = np.memmap(folder / "file", "float32", "w+", 128, (6,))
    fixed = np.arange(3)
    fixed.flags.writeable = False
    views = [x.T, x[1:, ::-2], x[::-1], x[2, 3:], x[:0], np.broadcast_to(x[0], (3, 6)), x.view(np.matrix)]
    return [x, *views, np.zeros(()), np.zeros((0, 3)), mapped, mapped[2:], fixed, np.arange(5, dtype=np.int8)[3:]]


@pytest.mark.parametrize("known", [True, False])
def test_where_arrays_start(folder, monkeypatch, known):
    if not known:
        monkeypatch.setattr(native, "_DATA", 0)
    for a in arrays_of_all_kinds(folder):
        assert native.start_of(a) == a.__array_interface__["data"][0] == a.ctypes.data


def test_code_of_another_processor_or_compiler_is_not_loaded(folder, builds, monkeypatch):
    import llvmlite

    text = adding(4)
    added(text)
    name, features, names = native._target()
    with monkeypatch.context() as other:
        for target in [("another", features, names), (name, features + ",-avx", names)]:
            other.setattr(native, "_target", lambda target=target: target)
            assert added(text) == 4
    for owner, attribute in [(llvmlite, "__version__"), (native.platform, "machine")]:
        with monkeypatch.context() as other:
            value = "another" if owner is llvmlite else lambda: "another"
            other.setattr(owner, attribute, value)
            assert added(text) == 4
    assert builds == [text] * 5 and len(list(folder.iterdir())) == 5


def flip(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGE = {
    "empty": lambda content, other: b"",
    "torn in the digest": lambda content, other: content[:20],
    "torn after the digest": lambda content, other: content[:65],
    "torn in the code": lambda content, other: content[:-1],
    "longer": lambda content, other: content + b"\0",
    "a bit of the digest": lambda content, other: flip(content, 3),
    "a bit of the code": lambda content, other: flip(content, len(content) // 2),
    "no digest": lambda content, other: content.partition(b"\n")[2],
    "the code of another": lambda content, other: content.partition(b"\n")[0] + b"\n" + other.partition(b"\n")[2],
    "another file": lambda content, other: other,
    "zeros": lambda content, other: bytes(len(content)),
    "text": lambda content, other: b"not found\n",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_built_anew(folder, builds, damage):
    text, other = adding(5), adding(6)
    added(other)
    (foreign,) = folder.iterdir()
    added(text)
    (file,) = set(folder.iterdir()) - {foreign}
    good = file.read_bytes()
    file.write_bytes(DAMAGE[damage](good, foreign.read_bytes()))
    assert added(text) == 5
    assert builds == [other, text, text]
    assert file.read_bytes() == good  # mended
    assert added(text) == 5 and len(builds) == 3


def test_a_folder_in_the_place_of_a_file_does_no_harm(folder, builds):
    text = adding(7)
    added(text)
    (file,) = folder.iterdir()
    file.unlink()
    (file / "inside").mkdir(parents=True)
    assert added(text) == added(text) == 7
    assert len(builds) == 3 and list(folder.iterdir()) == [file]  # and no part of a file is left


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs owners of files")
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_may_write_to_is_not_trusted(folder, builds, mode):
    text = adding(8)
    added(text)
    (file,) = folder.iterdir()
    folder.chmod(mode)
    assert added(text) == 8 and len(builds) == 2  # what is there is not read,
    file.unlink()
    assert added(text) == 8 and len(builds) == 3
    assert not list(folder.iterdir())  # and nothing written
    folder.chmod(0o755)
    added(text)
    assert added(text) == 8 and len(builds) == 4


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs owners of files")
def test_a_folder_of_somebody_else_is_not_trusted(folder, builds, monkeypatch):
    text = adding(9)
    added(text)
    somebody = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: somebody)
    assert added(text) == 9 and len(builds) == 2


@pytest.mark.parametrize("error", [PermissionError, OSError, FileNotFoundError])
def test_a_folder_that_cannot_be_written_to_does_no_harm(folder, builds, monkeypatch, error):
    """Root may write anywhere, so the error is raised here."""

    def refuse(*args, **kwargs):
        raise error("no")

    text = adding(10)
    with monkeypatch.context() as patch:
        patch.setattr(native, "write_atomically", refuse)
        assert added(text) == 10 and not list(folder.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        assert added(text) == 10 and len(list(folder.iterdir())) == 0
    assert added(text) == 10 and len(list(folder.iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        assert added(text) == 10
    assert len(builds) == 4


def test_a_file_in_the_place_of_the_folder_does_no_harm(tmp_path, monkeypatch, builds):
    (tmp_path / "file").write_text("mine")
    text = adding(11)
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("MINIGRAD_CACHE", str(place))
        assert added(text) == 11
    assert len(builds) == 2 and (tmp_path / "file").read_text() == "mine"


def test_processes_that_begin_at_once_keep_one_whole_file(folder, builds):
    code = (
        "from tests.minigrad.test_native import added, adding\n"
        "from minigrad import native\n"
        "native.available()\n"  # which keeps one file more
        "input()\n"  # all are ready then
        "assert all(added(adding(n)) == n for n in range(20, 26))\n"
    )
    run = [sys.executable, "-c", code]
    processes = [subprocess.Popen(run, cwd=ROOT, stdin=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    for process in processes:
        process.stdin.close()
    assert len(list(folder.iterdir())) == 7
    assert all(added(adding(n)) == n for n in range(20, 26))
    assert not builds  # all were kept


def test_threads_that_build_at_once(folder):
    found = {}
    for n in range(3):
        native._built.pop(adding(30 + n), None)
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: added(adding(30 + n % 3), anew=False)})) for n in range(9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: 30 + n % 3 for n in range(9)}


def test_text_that_is_no_assembly_is_an_error_and_not_kept(folder):
    with pytest.raises(RuntimeError):
        native.Call("define void @kernel( {", (), ())
    assert not folder.exists()


def test_the_processor_has_vector_registers(monkeypatch):
    for features, machine, expected in [
        ({"avx512f", "fma"}, "x86_64", (True, (32, 64))),
        ({"fma", "avx2"}, "AMD64", (True, (16, 32))),
        ({"neon"}, "aarch64", (True, (32, 16))),
        ({"neon"}, "arm64", (True, (32, 16))),
        ({"sse2"}, "x86_64", (False, (32, 16))),
    ]:
        monkeypatch.setattr(native, "_target", lambda features=features: ("", "", frozenset(features)))
        monkeypatch.setattr(native.platform, "machine", lambda machine=machine: machine)
        found = native.multiplies_and_adds.__wrapped__()  # which keeps what it found
        assert (found, native.vector_registers()) == expected
    monkeypatch.setattr(native, "available", lambda: False)
    assert not native.multiplies_and_adds.__wrapped__()


# Loops


def run(code, parameters, arrays, numbers=()):
    """Do what a body says with its parameters: arrays first."""
    kinds = [parameter.split()[0] for parameter in parameters.split(", ")]
    text = module(code.define(f"internal void @body({parameters})"), "body", kinds)
    native.Call(text, arrays, numbers)()


_numbers = st.integers(-20, 20)


@given(start=_numbers, stop=_numbers, step=st.integers(1, 7), other=_numbers)
@example(start=3, stop=3, step=1, other=0)
@example(start=0, stop=6, step=3, other=2)
def test_loops_repeat_for_the_indices_of_range(start, stop, step, other):
    code = Code("i64")
    count = code.slot("i64")
    code.store(0, count, "i64")
    with code.loop("%first", "%last", step) as i, code.loop(i, "%other") as j:
        n = code.load(count, "i64")
        value = code.plus(code.times(i, 1000), code.minus(j, 1))
        code.store(value, code.at("%x", n))
        code.store(code.plus(n, 1), count, "i64")
    code.store(code.load(count, "i64"), "%n", "i64")
    x, n = np.full(41 * 41, -1), np.zeros(1, np.int64)
    run(code, "ptr %x, ptr %n, i64 %first, i64 %last, i64 %other", (x, n), (start, stop, other))
    expected = [1000 * i + j - 1 for i in range(start, stop, step) for j in range(i, other)]
    assert x[: n[0]].tolist() == expected and (x[n[0] :] == -1).all()


COMPARISONS = {"eq": "__eq__", "ne": "__ne__", "slt": "__lt__", "sle": "__le__", "sgt": "__gt__", "sge": "__ge__"}


def test_a_block_is_done_when_the_comparison_holds():
    code = Code("i64")
    for place, comparison in enumerate(COMPARISONS):
        with code.when("%a", comparison, "%b"):
            code.store(1, code.at("%x", place))
    with code.when("%a", "slt", 0), code.when("%b", "slt", 0):
        code.store(1, code.at("%x", 6))
    for a, b in [(1, 2), (2, 2), (3, 2), (-1, 1), (-3, -2), (1, -1)]:
        x = np.zeros(7, np.int64)
        run(code, "ptr %x, i64 %a, i64 %b", (x,), (a, b))
        assert x.tolist() == [*(int(getattr(a, name)(b)) for name in COMPARISONS.values()), int(a < 0 and b < 0)]


def test_elements_of_other_types_have_their_own_places():
    code = Code("float")
    with code.loop(0, 4) as i:
        byte = code.load(code.at("%bytes", i, "i8"), "i8")
        code.store(code.let(f"uitofp i8 {byte} to float"), code.at("%floats", i))
    given_bytes, floats = np.array([1, 200, 3, 255], np.uint8), np.zeros(4, "float32")
    run(code, "ptr %bytes, ptr %floats", (given_bytes, floats))
    assert floats.tolist() == [1, 200, 3, 255]


def test_a_broken_llvmlite_is_told_and_not_used(monkeypatch):
    def fail(*_):
        raise RuntimeError("no target")

    monkeypatch.setattr(native, "_kept", fail)
    native._built.pop("define void @kernel(ptr %words) { ret void }", None)
    with pytest.warns(RuntimeWarning, match="cannot build machine code here.*no target"):
        assert not native.available.__wrapped__()


def test_code_that_nobody_calls_any_more_is_let_go(monkeypatch):
    monkeypatch.setattr(native, "_last_built", deque(maxlen=2))
    x = np.ones(5)
    kept = native.Call(adding(40), (x,), (4,))
    for n in range(41, 47):
        native.Call(adding(n), (x,), (4,))()
    gc.collect()
    assert [n for n in range(40, 47) if adding(n) in native._built] == [40, 45, 46]
    x[:] = 1
    kept()
    assert x.tolist() == [41] * 4 + [1]


def test_files_of_others_are_never_removed(folder, monkeypatch):
    monkeypatch.setattr(native, "MOST_FILES", 3)
    folder.mkdir(parents=True, mode=0o700)
    for n in range(5):
        (folder / f"theirs{n}.o").write_bytes(b"theirs")
    for n in range(50, 60):
        native._built.pop(adding(n), None)
        native.Call(adding(n), (np.ones(5),), (4,))
    names = [file.name for file in folder.iterdir()]
    assert sum(name.startswith("theirs") for name in names) == 5 and len(names) - 5 <= 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_while_another_thread_builds_can_build(monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE", "off")
    going, built = True, 0

    def build():
        nonlocal built
        while going:
            built += 1
            native.Call(adding(1000 + built), (np.ones(5),), (4,))

    thread = threading.Thread(target=build)
    thread.start()
    try:
        for n in range(20):
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # ends it if it hangs
                os._exit(0 if added(adding(500 + n)) == 500 + n else 1)
            assert os.waitpid(child, 0)[1] == 0
            time.sleep(0.003)
    finally:
        going = False
        thread.join()
    assert built > 20
