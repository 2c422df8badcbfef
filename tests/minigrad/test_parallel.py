"""Work on several threads: nothing is lost, nothing is computed too early, and the bits do not depend on it."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import openblas, parallel
from minigrad.errors import DataError
from minigrad.native import available
from minigrad.primitives import products
from minigrad.program.kernels import Source, compilable
from minigrad.program.phases import Share, Stage, overlap, phases, region


@given(st.integers(0, 300), st.integers(1, 5))
def test_splits_are_consecutive_and_begin_where_inner_loops_do(rows, parts):
    slices = parallel.splits(rows, parts)
    assert [i for s in slices for i in range(rows)[s]] == list(range(rows))
    assert len(slices) <= parts or rows <= parallel.ROWS * parts
    assert len(slices) <= parts
    assert all(s.start % parallel.ROWS == 0 for s in slices)


def test_every_call_is_made_and_the_first_share_by_the_caller():
    made = []
    for _ in range(50):
        made.clear()
        parallel.run([[(lambda i=i: made.append((i, threading.get_ident())), ())] * 3 for i in range(3)])
        assert sorted(i for i, _ in made) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert {thread for i, thread in made if i == 0} == {threading.get_ident()}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_error_comes_back_from_any_thread_after_all_have_ended(place):
    def fail():
        raise ValueError("told")

    made = []
    shares = [[(made.append, (i,))] for i in range(3)]
    shares[place] = [(fail, ())]
    with pytest.raises(ValueError, match="told"):
        parallel.run(shares)
    assert sorted(made) == [i for i in range(3) if i != place]
    parallel.run([[(made.append, (i,))] for i in range(3)])
    assert len(made) == 5


def test_shares_may_share_out_work_themselves():
    made = []
    inner = [[(made.append, (i,))] for i in range(2)]
    parallel.run([[(parallel.run, (inner,))] for _ in range(2)])
    assert sorted(made) == [0, 0, 1, 1]


def test_workers_follow_what_the_caller_says_about_overflow():
    large = np.full(10, 1000.0, np.float32)
    with np.errstate(over="ignore"):
        parallel.run([[(np.exp, (large,))]] * 2)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        parallel.run([[(np.exp, (np.zeros(1),))], [(np.exp, (large,))]])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own():
    parallel.run([[], [], []])
    child = os.fork()
    if child == 0:
        made = []
        parallel.run([[(made.append, (i,))] for i in range(3)])
        os._exit(0 if sorted(made) == [0, 1, 2] else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="there are no signals to threads here")
def test_an_interruption_waits_for_the_other_threads():
    done = []

    def slowly(number):
        time.sleep(0.2)
        done.append(number)

    main = threading.main_thread().ident
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
    try:
        threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            parallel.run([[], [(slowly, (1,))]])
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == [1]
    parallel.run([[], [(slowly, (2,))]])
    assert done == [1, 2]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers of signals here")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # interruptions that Python dropped
def test_interruptions_at_any_moment_do_no_harm_to_later_work():
    def interrupt(*_):
        raise KeyboardInterrupt

    def add(i):
        done[i] += 1

    before = signal.signal(signal.SIGALRM, interrupt)
    done = [0, 0]
    shares = [[(add, (i,))] for i in range(2)]

    def go_on():  # not in the `try` itself, past whose handler Ctrl-C in a loop may come out from Python 3.12 on
        # what a signal raises inside of a callback of the garbage collector (hypothesis has one), Python drops
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            parallel.run(shares)

    try:
        for i in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-4 + 1e-6 * i)
                go_on()
            except KeyboardInterrupt:
                pass
            done[:] = [0, 0]
            parallel.run(shares)
            assert done == [1, 1]
            assert parallel._free  # nobody keeps the workers
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("given", ["x", "0", "-1", "1.5"])
def test_a_number_of_threads_that_is_none_is_refused(given, monkeypatch):
    monkeypatch.setenv("MINIGRAD_THREADS", given)
    with pytest.raises(DataError, match="MINIGRAD_THREADS"):
        parallel.cores.__wrapped__()


@pytest.mark.cpu_only
def test_the_first_product_says_that_the_setting_is_wrong_not_the_shapes(monkeypatch):
    monkeypatch.setenv("MINIGRAD_THREADS", "x")
    monkeypatch.setattr(parallel, "cores", parallel.cores.__wrapped__)  # as in a process that has not asked yet
    with pytest.raises(DataError, match="^the environment variable MINIGRAD_THREADS is 'x'"):
        mg.ones((128, 128)) @ mg.ones((128, 128))


@pytest.mark.parametrize("begun", [False, True])
def test_work_while_python_exits_needs_no_other_thread(begun):
    code = f"""
import os
from minigrad import parallel

class Late:
    def __del__(self, run=parallel.run, write=os.write):
        made = []
        run([[(made.append, (i,))] for i in range(3)])
        write(1, bytes(str(made), "ascii"))

late = Late()
{"parallel.run([[], [], []])" if begun else ""}
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert (ended.stdout, ended.stderr) == ("[0, 1, 2]", "")


# Products


@pytest.fixture
def two_parts(monkeypatch):
    """Cut products in two, also where BLAS has one thread, as in the workers of pytest -n."""
    if openblas._functions() is None:
        pytest.skip("NumPy has no OpenBLAS here")
    monkeypatch.setattr(openblas, "product_parts", lambda: 2)


LAYOUTS = {
    "rows": np.ascontiguousarray,
    "columns": np.asfortranarray,
    "strided": lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
}


@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("right", LAYOUTS)
@pytest.mark.parametrize(
    "shape", [(128, 90, 100), (3, 500, 800), (500, 1, 900), (1, 700, 50), (700, 50, 1), (256, 257, 9)]
)
def test_a_cut_product_is_the_product(two_parts, left, right, shape):
    rng = np.random.default_rng(0)
    m, k, n = shape
    for dtype, error in (("float32", 1e-5), ("float64", 1e-13)):
        a = LAYOUTS[left](rng.normal(size=(m, k)).astype(dtype))
        b = LAYOUTS[right](rng.normal(size=(k, n)).astype(dtype))
        assert products.cut(a, b)
        found = products.matmul(np, a, b)
        assert found.dtype == a.dtype and found.flags.c_contiguous
        np.testing.assert_allclose(found, a.astype("float64") @ b.astype("float64"), rtol=error, atol=error * k**0.5)


def test_a_compiled_product_has_the_bits_of_the_eager_one(two_parts):
    rng = np.random.default_rng(1)
    x, w = (mg.tensor(rng.normal(size=s).astype("float32")) for s in [(128, 300), (300, 200)])

    def f(x, w):
        y = mg.tanh(x @ w)
        return y @ w.mT, y.mT @ x

    compiled = mg.compile(f)
    compiled(x, w)
    for expected, found in zip(f(x, w), compiled(x, w), strict=True):
        assert expected.numpy().tobytes() == found.numpy().tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_what_is_not_cut_has_the_same_bits_with_one_thread_of_blas(two_parts, dtype):
    """A replay keeps OpenBLAS to one thread where an eager product that is not cut leaves it alone."""
    get, put = openblas._functions()
    before = get()
    rng = np.random.default_rng(0)
    try:
        for m, k, n in itertools.product([1, 3, 33, 64, 90, 4000], repeat=3):
            if m * k * n >= products.MANAGED:
                continue
            a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
            for left, right in itertools.product([a, np.asfortranarray(a)], [b, np.asfortranarray(b)]):
                if products.cut(left, right) is None:
                    put(2)
                    expected = left @ right
                    put(1)
                    assert expected.tobytes() == (left @ right).tobytes(), (m, k, n)
    finally:
        put(before)


def test_blas_has_its_threads_again_afterwards(two_parts):
    get, _ = openblas._functions()
    before = get()
    a = np.ones((300, 300), "float32")
    with openblas.in_one_thread():
        assert get() == 1
        products.matmul(np, a, a)
        assert get() == 1
    assert get() == before
    with pytest.raises(ValueError):
        products.matmul(np, a, a, out=np.empty((2, 2), "float32"))
    assert get() == before


def test_blas_keeps_threads_that_somebody_else_sets_meanwhile(two_parts):
    get, put = openblas._functions()
    before = get()
    try:
        with openblas.in_one_thread():
            put(3)
        assert get() == 3
    finally:
        put(before)


def test_parts_do_not_depend_on_who_multiplies_when_they_are_first_asked_for():
    if openblas._functions() is None:
        pytest.skip("NumPy has no OpenBLAS here")
    expected = openblas.product_parts.__wrapped__()
    with openblas.in_one_thread():
        assert openblas.product_parts.__wrapped__() == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_during_a_product_has_all_threads_of_blas(two_parts):
    get, put = openblas._functions()
    before = get()
    put(2)
    try:
        with openblas.in_one_thread():
            child = os.fork()
            if child == 0:
                os._exit(0 if get() == 2 else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        put(before)


# Phases


@st.composite
def stages(draw):
    """Stages that write pieces of one memory and read others; the shares of a stage write different pieces."""
    found = []
    for number in range(draw(st.integers(1, 8))):
        cuts = sorted(draw(st.sets(st.integers(0, 12), min_size=2, max_size=4)))
        pieces = [slice(a, b) for a, b in itertools.pairwise(cuts)][: draw(st.integers(1, 3))]
        sources = [draw(st.integers(0, 11)) for _ in pieces]
        inside = {i for piece in pieces for i in range(piece.start, piece.stop)}
        found.append((number, [(p, s if s not in inside else p.start) for p, s in zip(pieces, sources, strict=True)]))
    return found


def compute(memory, number, piece, source):
    memory[piece] = memory[piece] * 3 + memory[source] + number


@given(stages(), st.integers(1, 3))
def test_threads_of_a_phase_can_run_in_any_order(drawn, threads):
    expected, memory = np.arange(12), np.arange(12)
    bound = []
    for number, shares in drawn:
        for piece, source in shares:
            compute(expected, number, piece, source)
        bound.append(Stage([
            Share([(compute, (memory, number, p, s))], [memory[p], memory[s : s + 1]], [memory[p]], 1e6)
            for p, s in shares
        ]))  # fmt: skip
    found = phases(bound, threads)
    assert sum(len(calls) for phase in found for calls in phase.shares) == sum(
        len(calls) for stage in bound for calls in [share.calls for share in stage.shares]
    )
    for phase in found:
        for calls in reversed(phase.shares):
            parallel.make(calls)
    assert (memory == expected).all()


def test_small_work_is_not_handed_to_another_thread():
    memory = np.zeros(8)
    small = Stage([Share([(print, ())], [], [memory[i : i + 4]], cost=100.0) for i in (0, 4)])
    large = Stage([Share([(print, ())], [], [memory[i : i + 4]], cost=1e6) for i in (0, 4)])
    assert [len(phase.shares) for phase in phases([small], 2)] == [1]
    assert [len(phase.shares) for phase in phases([large], 2)] == [2]


def test_rows_that_only_need_their_own_rows_share_a_phase():
    a, b, c = (np.zeros((8, 5)) for _ in range(3))

    def rows(read, written):
        return Stage([Share([(print, ())], [read[i : i + 4]], [written[i : i + 4]], 1e6) for i in (0, 4)])

    whole = Stage([Share([(print, ())], [c], [a], 1e6)])
    assert len(phases([rows(a, b), rows(b, c)], 2)) == 1
    assert len(phases([rows(a, b), rows(b, c), whole], 2)) == 2


def test_what_is_unknown_runs_alone():
    memory = np.zeros(8)
    known = Stage([Share([(print, ())], [], [memory[i : i + 4]], 1e6) for i in (0, 4)])
    unknown = Stage([Share([(print, ())], [], [], 0.0)], alone=True)
    found = phases([known, unknown, known], 2)
    assert [phase.alone for phase in found] == [False, True, False]


windows = st.tuples(st.integers(0, 5), st.integers(1, 6), st.integers(0, 7), st.integers(1, 8))


@given(windows, windows)
def test_regions_overlap_where_elements_do(one, other):
    """Windows of a matrix are told apart exactly, unless one of them is a row, whose step is not known."""
    matrix = np.arange(48).reshape(6, 8)
    a, b = (matrix[r : r + m, c : c + n] for r, m, c, n in (one, other))
    common = bool(set(a.flat) & set(b.flat))
    found = overlap(region(a), region(b))
    assert found == overlap(region(b), region(a))
    assert found or not common
    if all(len(x) > 1 and x.shape[1] < 8 for x in (a, b)):
        assert found == common


# Kernels


@pytest.mark.skipif(not available(), reason="llvmlite is not installed")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_kernel_on_some_columns_leaves_the_others_alone(dtype):
    dtype = np.dtype(dtype)
    source = Source(flat=False)
    x, row, column, number = (source.load(kind, dtype) for kind in ("full", "row", "column", "single"))
    y = source.compute("multiply", [source.compute("add", [x, row], dtype), column], dtype)
    source.store(source.compute("subtract", [y, number], dtype), 0)
    rng = np.random.default_rng(0)
    whole, b, c, d = (rng.normal(size=s).astype(dtype) for s in [(7, 50), (20,), (7, 1), ()])
    expected = whole.copy()
    expected[:, 10:30] = (whole[:, 10:30] + b) * c - d
    source.call([whole[:, 10:30], b, c, d], (7, 20))()
    assert whole.tobytes() == expected.tobytes()


@pytest.mark.skipif(not available(), reason="llvmlite is not installed")
@given(st.floats(width=32, allow_nan=False), st.sampled_from(["float32", "float64"]))
def test_numbers_in_a_kernel_are_exact(number, dtype):
    dtype = np.dtype(dtype)
    assert compilable("multiply", [dtype, None], dtype)
    source = Source(flat=True)
    source.store(source.compute("multiply", [source.load("full", dtype), number], dtype))
    one, found = np.ones(3, dtype), np.empty(3, dtype)
    source.call([one, found], (3,))()
    assert found.tobytes() == np.full(3, number, dtype).tobytes()


def test_convolution_in_blocks_on_threads_has_the_bits_of_one_thread(two_parts, monkeypatch):
    rng = np.random.default_rng(2)
    x, w = (
        mg.tensor(rng.normal(size=s).astype("float32"), requires_grad=True) for s in [(64, 4, 28, 28), (8, 4, 3, 3)]
    )

    def all_three():
        y = mg.conv2d(x, w, stride=2, padding=1)
        return [a.numpy().tobytes() for a in (y, *mg.autograd.grad(mg.square(y).sum(), [x, w]))]

    shared = all_three()
    monkeypatch.setattr(parallel, "run", lambda shares: [parallel.make(calls) for calls in reversed(shares)])
    assert all_three() == shared
