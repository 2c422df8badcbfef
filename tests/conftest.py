"""What all tests share: how much hypothesis tries, where the data are, and what is skipped without a GPU."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import tests.workers  # noqa: F401 (first: it has to come before NumPy)

# isort: split
import pytest
from hypothesis import HealthCheck, settings

import minigrad as mg
from minigrad import devices
from tests import host_kernels, standin

# A loaded machine is no reason to fail: no deadlines. "ci" draws the same examples in every run, "random" new ones.
settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("random", deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# With MINIGRAD_TEST_DEVICE=standin all tensors are made on a device that is not there (see tests/standin.py), with
# MINIGRAD_TEST_DEVICE=cuda on a real one.
_machine = contextlib.ExitStack()
ELSEWHERE = os.environ.get("MINIGRAD_TEST_DEVICE", "cpu")
STAND_IN = ELSEWHERE == "standin"
if ELSEWHERE != "cpu":
    devices._State.device = _machine.enter_context(standin.machine())[0] if STAND_IN else mg.device(ELSEWHERE)
HAS_GPU = mg.cuda_is_available()


def pytest_unconfigure() -> None:
    _machine.close()


DATA = Path(os.environ.get("AUTOENCODERS_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


@pytest.fixture(scope="module", params=["stand-in", pytest.param("cuda", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest) -> Iterator[devices.Device]:
    """A GPU, or what stands in for one, under the name "cuda"; the CPU stays the default device."""
    with contextlib.ExitStack() as stack:
        if request.param == "stand-in" and not STAND_IN:
            stack.enter_context(standin.machine())
        stack.enter_context(mg.use_device("cpu"))
        yield mg.device("cuda")


@pytest.fixture(params=["host", pytest.param("cuda", marks=pytest.mark.gpu)])
def machine(request: pytest.FixtureRequest) -> Callable:
    """What compiles generated kernels and returns a function that launches them: on the host, or on a GPU."""
    if request.param == "host":
        if host_kernels.GXX is None:
            pytest.skip("needs g++ to run kernels on the host")
        return host_kernels.compiled
    if host_kernels.nvrtc() is None:
        pytest.skip("needs NVRTC: pip install nvidia-cuda-nvrtc")
    return host_kernels.compiled_on_gpu


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The folder with the real MNIST files; a test that asks for it is skipped where there is none."""
    folder = DATA / "mnist"
    if not folder.is_dir():
        pytest.skip("needs MNIST: set AUTOENCODERS_DATA to the folder above mnist/")
    return folder


# what these check is true of the CPU alone: shared memory with NumPy, what is printed, a device of the test's own
OF_THE_CPU = (
    "test_numpy_is_a_read_only_view",
    "test_repr_shows_values_dtype_and_origin",
    "test_two_devices_in_one_operation_are_refused",
    "test_to_changes_dtype_with_a_gradient_of_the_original_dtype",
    "test_dlpack_shares_memory_both_ways",
    "test_no_way_out_of_the_graph_is_silent",
    "test_repr_says_where_a_tensor_comes_from",
    "test_a_bad_gradient_of_a_good_loss_is_caught_too",  # at which batch: terms are read later
    "test_tied_weights_are_one_array",
    "test_tied_weights_of_a_stack_are_one_array",
)


# replay on the CPU, bit for bit; and kernels of GPUs on the host
FILES_OF_THE_CPU = (
    "test_compile.py",
    "test_cuda_kernels.py",
    "test_cuda_reductions.py",
    "test_cuda_replay.py",
    "test_cuda_training.py",
)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not HAS_GPU:
        pytest.skip("needs a CUDA device, and CuPy to use it")
    if ELSEWHERE != "cpu" and (item.name.partition("[")[0] in OF_THE_CPU or item.path.name in FILES_OF_THE_CPU):
        pytest.skip("is about the CPU")
