"""What watches kernels on the host finds what compute-sanitizer finds on a GPU: see tests/host_gpu.cpp."""

import numpy as np
import pytest

from minigrad.program.cuda import Kernel
from tests.host_kernels import GXX, compiled

pytestmark = pytest.mark.skipif(GXX is None, reason="needs g++ to run kernels on the host")
VECTOR = "template <class T, int N> struct alignas(sizeof(T) * N) Vector { T at[N]; };\n"
INDEX = "const unsigned int i = blockIdx.x * blockDim.x + threadIdx.x;"


def launch(body, *arrays, grid=1, block=8, order="forwards"):
    """Run a kernel with one float pointer per array, p0, p1, ...; its threads have a number i."""
    parameters = ", ".join(f"float* p{i}" for i in range(len(arrays)))
    source = f'{VECTOR}extern "C" __global__ void kernel({parameters}) {{ {INDEX}\n{body} }}\n'
    compiled([Kernel("kernel", source, (grid, 1, 1), (block, 1, 1), ())])(
        Kernel("kernel", source, (grid, 1, 1), (block, 1, 1), ()), arrays, order
    )


def zeros(n):
    return np.zeros(n, "f4")


def test_threads_at_places_of_their_own_are_right():
    a = zeros(16)
    launch("p0[i] = p0[i] + 1.0f;", a, grid=2)
    assert (a == 1).all()


@pytest.mark.parametrize("order", ["forwards", "backwards"])
def test_what_a_barrier_orders_is_right(order):
    a, b = np.arange(8, dtype="f4"), zeros(8)
    exchange = "__shared__ float s[8]; s[i] = p0[i]; __syncthreads(); p1[i] = s[7 - i];"
    launch(exchange, a, b, order=order)
    assert (b == a[::-1]).all()
    with pytest.raises(AssertionError, match="no barrier between them"):
        launch(exchange.replace("__syncthreads();", ""), a, b, order=order)


def test_a_sum_over_a_warp_is_right_and_does_not_order_shared_memory():
    a, b = np.arange(32, dtype="f4"), zeros(32)
    tree = "for (int by = 16; by > 0; by /= 2) x += __shfl_down_sync(0xffffffff, x, by, 32);"
    launch(f"float x = p0[i]; {tree} if (i == 0) p1[0] = x;", a, b, block=32)
    assert b[0] == a.sum()
    with pytest.raises(AssertionError, match="no barrier between them"):
        launch(f"__shared__ float s[32]; float x = p0[i]; s[i] = x; {tree} p1[i] = x + s[31 - i];", a, b, block=32)


@pytest.mark.parametrize(
    "body",
    [
        "p0[i / 2] = i;",  # two write
        "p0[i] = i > 0 ? p0[i - 1] : 0.0f;",  # one reads what its neighbour writes
        "if (i < 15) p0[i] = p0[i + 1];",  # and over the border of two blocks
        "__syncthreads(); p0[0] = blockIdx.x;",  # a barrier orders one block, not two
        "if (i > 0) p0[i - 1] = 1.0f; p0[i] = 2.0f;",
    ],
)
@pytest.mark.parametrize("order", ["forwards", "backwards"])
def test_races_in_memory_are_found(body, order):
    with pytest.raises(AssertionError, match="no barrier between them"):
        launch(body, zeros(16), grid=2, order=order)


def test_a_read_before_a_write_of_another_block_is_found_also_among_many_reads():
    with pytest.raises(AssertionError, match="no barrier between them"):
        launch("p1[i] = p0[0]; if (i == 31) p0[0] = 1.0f;", zeros(1), zeros(32), grid=4)


def test_blocks_have_shared_memory_of_their_own():
    a = zeros(16)
    launch("__shared__ float s[8]; s[threadIdx.x] = 1.0f; __syncthreads(); p0[i] = s[7 - threadIdx.x];", a, grid=2)
    assert (a == 1).all()


@pytest.mark.parametrize("grid", [1, 2])
def test_shared_memory_that_nobody_wrote_is_found(grid):
    body = "__shared__ float s[8]; if (i < 7) s[threadIdx.x] = p0[i]; __syncthreads(); p1[i] = s[threadIdx.x];"
    a, b = zeros(16), zeros(16)
    with pytest.raises(AssertionError, match="no thread of the block wrote"):
        launch(body, a, b, grid=grid)
    launch(body.replace("if (i < 7)", ""), a, b, grid=grid)


@pytest.mark.parametrize(
    "body",
    ["p1[i] = p0[i + 9];", "p1[i] = p0[(int)i - 1];", "p0[i + 1] = 1.0f;", "__shared__ float s[7]; s[i] = 0.0f;"],
)
def test_accesses_outside_of_arrays_are_found(body):
    block = zeros(64)
    with pytest.raises(AssertionError, match="outside of the arrays"):
        launch(body, block[16:24], block[40:48])


def test_accesses_that_are_not_aligned_are_found():
    a, b = zeros(12), zeros(12)
    a, b = (x[-x.ctypes.data // 4 % 4 :] for x in (a, b))
    body = "if (i == 0) { Vector<float, 4> v = *(const Vector<float, 4>*)(p0 + 1); p1[0] = v.at[0]; }"
    with pytest.raises(AssertionError, match="not aligned"):
        launch(body, a, b)
    launch(body.replace("p0 + 1", "p0 + 4"), a, b)


@pytest.mark.parametrize(
    "body", ["if (i < 4) __syncthreads();", "if (i < 4) { __syncthreads(); p0[i] = 1.0f; return; }"]
)
def test_a_barrier_that_some_threads_do_not_reach_is_found(body):
    with pytest.raises(AssertionError, match="not all threads reach"):
        launch(body, zeros(8))
