"""The product kernel: right, within a proven bound; the same bits however it is cut; no byte beyond its arrays."""

import ctypes
import itertools
import mmap
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minigrad import native
from minigrad.primitives import product_kernel, products
from minigrad.primitives.product_kernel import CHAIN, COLUMNS, DEPTH, ROWS
from tests.switching import run_at_once

pytestmark = pytest.mark.skipif(
    not native.available() or not native.multiplies_and_adds(), reason="needs llvmlite, and a processor with a * b + c"
)
DTYPES = ["float32", "float64"]
REGISTERS = [(32, 64), (16, 32), (32, 16)]  # of AVX-512, of AVX2, of NEON: LLVM builds each for any processor


@pytest.fixture(params=REGISTERS, ids=lambda r: f"{r[0]} registers of {r[1]} bytes")
def registers(request, monkeypatch):
    monkeypatch.setattr(native, "vector_registers", lambda: request.param)
    forget()
    yield request.param
    forget()


def forget():
    """Sources and cuts are kept for layouts alone: not for what a test changes."""
    for kept in (product_kernel.text, product_kernel._passed, products._cut):
        kept.cache_clear()


def multiply(a, b, out=None):
    out = np.empty((a.shape[0], b.shape[1]), a.dtype) if out is None else out
    product_kernel.call(a, b, out)()
    return out


def takes(a, b):
    return product_kernel.takes(product_kernel.layout(a), product_kernel.layout(b))


def roundings(k):
    """How often what a product a * b contributes to the result is rounded, at most.

    Once for each product of its chain, once for each other chain of its DEPTH, once for each other DEPTH.
    """
    chains = -(-min(k, DEPTH) // CHAIN)
    return min(k, CHAIN) + chains - 1 + -(-k // DEPTH) - 1


def assert_close(found, a, b):
    """Compare with a product in a wider type: |error| <= gamma |A| |B| (Higham, section 3.1), gamma = nu / (1 - nu).

    What is compared with is rounded itself: float64 against longer doubles costs as good as nothing, and where those
    are no longer, twice as much is allowed.
    """
    wider = np.float64 if a.dtype == np.float32 else np.longdouble
    u = np.finfo(a.dtype).eps / 2
    n = roundings(a.shape[1]) * (1 if np.finfo(wider).eps < u else 2)
    a, b = a.astype(wider), b.astype(wider)
    bound = n * u / (1 - n * u) * (np.abs(a) @ np.abs(b))
    assert (np.abs(found - a @ b) <= bound * (1 + 1e-3)).all()


LAYOUTS = {
    "C": lambda x: x,
    "F": np.asfortranarray,
    "rows reversed": lambda x: x[::-1].copy()[::-1],
    "columns reversed": lambda x: x[:, ::-1].copy()[:, ::-1],
    "every other row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "every third column": lambda x: np.repeat(x, 3, axis=1)[:, ::3],
    "some columns of a wider one": lambda x: np.hstack([x, x, x])[:, x.shape[1] : 2 * x.shape[1]],
    "some rows of a taller one, F": lambda x: np.asfortranarray(np.vstack([x, x, x]))[x.shape[0] : 2 * x.shape[0]],
    "one row": lambda x: np.broadcast_to(x[0], x.shape),
    "one column": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "one column, F": lambda x: np.broadcast_to(x[:, :1].copy(), x.shape),
}
sizes = st.integers(2, 70)


def drawn(seed, m, k, n, dtype):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)


@given(m=sizes, k=sizes, n=sizes, dtype=st.sampled_from(DTYPES), data=st.data())
def test_products_of_all_shapes_and_layouts(m, k, n, dtype, data):
    a, b = drawn(0, m, k, n, dtype)
    a, b = (LAYOUTS[data.draw(st.sampled_from(list(LAYOUTS)))](x) for x in (a, b))
    if not takes(a, b):
        b = np.asfortranarray(b) if data.draw(st.booleans()) else np.ascontiguousarray(b)
    assert takes(a, b)
    assert_close(multiply(a, b), a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize(("m", "k", "n"), [(ROWS + 13, 7, COLUMNS), (23, DEPTH + 9, COLUMNS + 5), (ROWS, 3, 700)])
def test_rows_that_are_copied_together(registers, dtype, order, m, k, n):
    """A with columns in one piece has the product of any other A with its values; nothing is read beyond its end."""
    a, b = drawn(10, m, k, n, dtype)
    b = np.asarray(b, order=order)
    columns = np.full((k, m + 3), np.nan, dtype)[:, :m].T
    columns[:] = a
    expected = multiply(a, b)
    assert_close(expected, a, b)
    np.testing.assert_array_equal(multiply(columns, b), expected)
    np.testing.assert_array_equal(multiply(columns[5:-2], b), expected[5:-2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "CF")
def test_the_edges_of_blocks_on_every_kind_of_processor(registers, dtype, order):
    """One less and one more than the heights and widths of blocks, and than two of them."""
    heights, vectors, lanes = product_kernel.blocks(np.dtype(dtype))
    width = vectors * lanes
    a, b = drawn(1, 2 * heights[0] + 5, 19, 2 * width + lanes + 1, dtype)
    b = np.asarray(b, order=order)
    whole = multiply(a, b)
    assert_close(whole, a, b)
    rows = sorted({2, *(h + d for h in heights for d in (-1, 0, 1)), sum(heights), sum(heights) - 1, a.shape[0]})
    for m in rows:
        np.testing.assert_array_equal(multiply(a[:m], b), whole[:m])
    for n in (1, 2, lanes - 1, lanes, lanes + 1, width - 1, width, width + 1, 2 * width - 1, 2 * width, 2 * width + 1):
        np.testing.assert_array_equal(multiply(a, b[:, :n]), whole[:, :n])


def test_blocks_fill_the_registers_and_no_more(registers):
    number, size = registers
    for dtype in map(np.dtype, DTYPES):
        heights, vectors, lanes = product_kernel.blocks(dtype)
        assert lanes * dtype.itemsize == size
        used = heights[0] * vectors + vectors + 1  # the sums, a row of B, and an element of A
        assert number - 4 * vectors < used <= number  # four more rows would not fit
        assert heights == sorted(heights, reverse=True)


DEPTHS = [CHAIN - 1, CHAIN, CHAIN + 1, 2 * CHAIN + 1, DEPTH - 1, DEPTH, DEPTH + 1, 2 * DEPTH, 2 * DEPTH + CHAIN + 3]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("k", DEPTHS)
def test_the_edges_of_chains_and_depths(dtype, order, k):
    a, b = drawn(2, 14, k, 37, dtype)
    assert_close(multiply(a, np.asarray(b, order=order)), a, b)


def test_products_are_rounded_once_and_added_in_chains_that_are_added_per_depth():
    """Which sums are formed shows where a large number makes each one added to it alone vanish."""
    a = np.ones((2, 2 * DEPTH), "float32")
    b = np.zeros((2 * DEPTH, 2), "float32")
    b[0], b[1 : 2 * CHAIN] = 2**24, 1  # of the first chain all ones vanish, of the second none
    assert (multiply(a, b) == 2**24 + CHAIN).all()
    b[1:] = 0
    b[DEPTH::CHAIN] = 1  # a one in each chain of the second depth: they are added first
    assert (multiply(a, b) == 2**24 + DEPTH // CHAIN).all()
    small = 2.0**-12  # (1 + small)**2 - 1 - 2 * small is small**2: rounded before it is added to, 0
    a = np.array([[1, 1 + small]] * 2, "float32")
    b = np.array([[-1 - 2 * small] * 2, [1 + small] * 2], "float32")
    assert (multiply(a, b) == small**2).all()


cuts = st.lists(st.integers(1, 60), max_size=4)


@given(dtype=st.sampled_from(DTYPES), order=st.sampled_from("CF"), k=st.sampled_from([7, CHAIN + 2, DEPTH + 3]),
       rows=cuts, columns=cuts)  # fmt: skip
@example(dtype="float32", order="C", k=7, rows=[1, 2, 3, 59], columns=[1, 33, 59])
def test_the_bits_do_not_depend_on_how_a_product_is_cut(dtype, order, k, rows, columns):
    a, b = drawn(3, 61, k, 61, dtype)
    b = np.asarray(b, order=order)
    whole = multiply(a, b)
    rows, columns = ([0, *sorted(set(x)), 61] for x in (rows, columns))
    for i, stop in itertools.pairwise(rows):
        for j, end in itertools.pairwise(columns):
            found = multiply(a[i:stop], b[:, j:end])
            assert found.tobytes() == whole[i:stop, j:end].tobytes()


def test_layouts_do_not_change_the_bits():
    for dtype in DTYPES:
        a, b = drawn(4, 30, 2 * CHAIN, 40, dtype)
        expected = multiply(a, b).tobytes()
        for name in ("F", "rows reversed", "columns reversed", "every other row", "every third column"):
            assert multiply(LAYOUTS[name](a), b).tobytes() == expected
        for name in ("F", "rows reversed", "every other row"):
            other = LAYOUTS[name](b)
            assert takes(a, other)
            assert multiply(a, other).tobytes() == expected


@given(m=sizes, k=st.sampled_from([3, 20, DEPTH + 1]), n=sizes, dtype=st.sampled_from(DTYPES),
       order=st.sampled_from("CF"))  # fmt: skip
def test_nothing_is_written_outside_of_the_result(m, k, n, dtype, order):
    a, b = drawn(5, m, k, n, dtype)
    around = np.full((m + 6, n + 90), 7.25, dtype)
    inside = around[3 : 3 + m, 40 : 40 + n]
    multiply(a, np.asarray(b, order=order), inside)
    assert inside.tobytes() == multiply(a, b).tobytes()
    inside[:] = 7.25
    assert (around == 7.25).all()


@given(m=st.integers(2, 30), k=st.sampled_from([2, 9, CHAIN + 1]), n=st.integers(2, 50), dtype=st.sampled_from(DTYPES),
       order=st.sampled_from("CF"), data=st.data())  # fmt: skip
def test_infinities_and_nans_are_where_they_should_be(m, k, n, dtype, order, data):
    a, b = drawn(6, m, k, n, dtype)
    for x in (a, b):
        for _ in range(data.draw(st.integers(0, 4))):
            place = data.draw(st.integers(0, x.shape[0] - 1)), data.draw(st.integers(0, x.shape[1] - 1))
            x[place] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.0]))
    with np.errstate(invalid="ignore"):
        expected = np.einsum("ik,kj->ij", a.astype("float64"), b.astype("float64"))
    found = multiply(a, np.asarray(b, order=order))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(found[np.isinf(expected)], expected[np.isinf(expected)])
    assert np.isfinite(found[np.isfinite(expected)]).all()


def at_an_edge(x, order, end):
    """Return a copy of x that ends just before, or begins just behind, memory that may not be read."""
    page = mmap.PAGESIZE
    inner = -(-x.nbytes // page) * page
    memory = mmap.mmap(-1, inner + 2 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for start in (address, address + page + inner):
        assert protect(start, page, 0) == 0
    copy = np.ndarray(x.shape, x.dtype, memory, page + (inner - x.nbytes if end else 0), order=order)
    copy[:] = x
    return copy


def multiply_at_edges():
    """For a process of its own, which ends where memory is touched that may not be."""
    for dtype in DTYPES:
        for m, k, n in [
            (2, 2, 2),
            (5, 17, 31),
            (13, 9, 33),
            (12, 16, 64),
            (7, 33, 47),
            (4, 31, 17),
            (3, DEPTH + 7, 19),
        ]:
            a, b = drawn(7, m, k, n, dtype)
            expected = multiply(a, b)
            for end in (False, True):
                for order in "CF":
                    out = at_an_edge(np.zeros_like(expected), "C", end)
                    multiply(at_an_edge(a, order, end), at_an_edge(b, order, end), out)
                    assert out.tobytes() == expected.tobytes()
    print("all read and written")


@pytest.mark.skipif(not hasattr(mmap, "PROT_READ"), reason="needs pages that may not be read")
def test_nothing_is_read_outside_of_the_operands():
    code = "from tests.minigrad.test_product_kernel import multiply_at_edges as f; f()"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.stdout == "all read and written\n", (done.returncode, done.stderr[-500:])


def test_threads_with_small_stacks_multiply():
    """What is packed is larger than their stacks. In a process of its own, which a stack that is too small ends."""
    code = f"""
import threading
import numpy as np
from tests.minigrad.test_product_kernel import drawn, multiply
found = []
threading.stack_size(64 * 1024)
for dtype in {DTYPES}:
    a, b = drawn(12, 30, {DEPTH + 3}, 100, dtype)
    for order in "CF":
        c = np.asarray(b, order=order)
        expected = multiply(a, c).tobytes()
        thread = threading.Thread(target=lambda: found.append(multiply(a, c).tobytes() == expected))
        thread.start()
        thread.join()
print(found)
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[True, True, True, True]\n", (done.returncode, done.stderr[-500:])


def test_the_text_is_valid_for_every_kind_of_processor(registers):
    import llvmlite.binding as llvm

    for dtype in map(np.dtype, DTYPES):
        for by_rows, copies in itertools.product((True, False), repeat=2):
            text = product_kernel.text(dtype, by_rows, copies)
            llvm.parse_assembly(text).verify()
            # a vector behind another one is no better aligned than it is large
            vectors = re.findall(r"(?:load|store) <.* align (\d+)", text)
            assert vectors and max(map(int, vectors)) == registers[1]


def test_which_products_the_kernel_takes(monkeypatch):
    a, b = drawn(8, 6, 7, 8, "float32")
    assert takes(a, b) and takes(a[::2, ::2], b[::2]) and takes(a, b[::-1])
    assert takes(a.T, a) and takes(a, a.T)
    for dtype in ("float16", "int32", "complex64", ">f4", "bool"):
        assert not takes(a.astype(dtype), b.astype(dtype))
    assert not takes(a, b.astype("float64"))
    for x, y in [(a[:1], b), (a, b[:, :1]), (a[:, :1], b[:1])]:
        assert not takes(x, y)
    assert not takes(a, b[:, ::2]) and not takes(a, b[:, ::-1])
    packed = np.zeros(6, [("x", "float32"), ("y", "int16")])  # elements six bytes apart
    odd = np.lib.stride_tricks.as_strided(packed["x"], (3, 2), (12, 6), writeable=False)
    assert not takes(odd, a[:2]) and not takes(a[:, :3], odd)
    monkeypatch.setattr(native, "multiplies_and_adds", lambda: False)
    assert not takes(a, b)


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(products, "PART", 2**14)
    monkeypatch.setattr(products, "COLUMNS", 2**20)
    forget()
    yield
    forget()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("shape", [(7, 300, 300), (300, 300, 7), (100, 70, 90), (80, 600, 400)])
def test_a_product_in_parts_is_the_product(small_parts, shape, dtype, order, monkeypatch):
    """Rows or columns, in any number of parts, in an `out` with wide rows, reversed, or over an operand."""
    m, k, n = shape
    a, b = drawn(9, m, k, n, dtype)
    b = np.asarray(b, order=order)
    expected = multiply(a, b)
    for cores in (1, 2, 3, 5):
        monkeypatch.setattr(products.parallel, "cores", lambda cores=cores: cores)
        how = products.cut(a, b)
        assert how.by_kernel and how.by_columns == (m < 8 or shape == (80, 600, 400))
        assert len(products.shares(how, a, b, expected)) == len(how.slices) == cores
        assert products.matmul(np, a, b).tobytes() == expected.tobytes()
        wide = np.zeros((m, n + 5), dtype)
        for out in (wide[:, 2 : 2 + n], np.zeros((m, n), dtype)[:, ::-1], np.zeros((n, m), dtype).T):
            assert products.matmul(np, a, b, out=out) is out
            assert np.ascontiguousarray(out).tobytes() == expected.tobytes()
    square = np.asarray(drawn(10, 90, 90, 90, dtype)[0], order=order)
    expected = multiply(square, square)
    for which in ("left", "right", "both"):
        copy = square.copy(order="K")
        left, right = (square if which == other else copy for other in ("right", "left"))
        assert products.matmul(np, left, right, out=copy).tobytes() == expected.tobytes()


def test_threads_multiply_matrices_of_one_layout_at_once(small_parts, monkeypatch):
    """What is prepared for a layout serves all products of it: one at a time, and none gets another's numbers."""
    monkeypatch.setattr(products.parallel, "cores", lambda: 2)
    problems = [drawn(20 + i, 80, 70, 90, "float32") for i in range(6)]
    assert len(products.cut(*problems[0]).slices) == 2
    expected = [multiply(a, b).tobytes() for a, b in problems]
    wrong = []

    def work(shift):
        for turn in range(200):
            i = (turn + shift) % len(problems)
            if products.matmul(np, *problems[i]).tobytes() != expected[i]:
                wrong.append(i)

    run_at_once([partial(work, shift) for shift in range(3)])
    assert not wrong


def test_a_result_that_does_not_fit_is_refused_as_numpy_does():
    a, b = drawn(11, 70, 80, 90, "float32")
    fixed = np.zeros((70, 90), "float32")
    fixed.flags.writeable = False
    for out in (np.zeros((70, 91), "float32"), np.zeros((70, 90), "int32"), fixed):
        before = out.copy()
        with pytest.raises((ValueError, TypeError)):
            products.matmul(np, a, b, out=out)
        np.testing.assert_array_equal(out, before)
    wider = np.zeros((70, 90), "float64")  # which NumPy converts to
    np.testing.assert_array_equal(products.matmul(np, a, b, out=wider), np.matmul(a, b, out=np.empty_like(wider)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_while_another_thread_multiplies_can_multiply():
    """A job that was half done in the parent is not begun anew: how far it was would be wrong."""
    code = """
import os, signal
import numpy as np
import minigrad as mg
from minigrad.primitives import products
a, b = mg.tensor(np.ones((128, 784), "f4")), mg.tensor(np.ones((784, 200), "f4"))
a @ b
job = products.cut(a._array, b._array).at_once._job
child = os.fork()
if child == 0:
    signal.alarm(20)  # ends a child that hangs
    for _ in range(20):
        assert float((a @ b)._array[0, 0]) == 784
    os._exit(products.cut(a._array, b._array).at_once._job is job)
assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""
    environment = {**os.environ, "MINIGRAD_THREADS": "2", "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)
