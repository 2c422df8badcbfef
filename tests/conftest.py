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
settings.register_profile("few", parent=settings.get_profile("ci"), max_examples=10)
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


# the markers by which a test says where it does not run, and whether this is such a place
ELSEWHERE_SKIPS = {"cpu_only": ELSEWHERE != "cpu", "not_on_standin": STAND_IN, "not_on_gpu": ELSEWHERE == "cuda"}


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not HAS_GPU:
        pytest.skip("needs a CUDA device, and CuPy to use it")
    for name, here in ELSEWHERE_SKIPS.items():
        marker = item.get_closest_marker(name)
        if marker and here:
            pytest.skip(": ".join([name, *marker.args]))
