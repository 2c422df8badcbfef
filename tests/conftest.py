"""What all tests share: how much hypothesis tries, where the data are, and what is skipped without a GPU."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import minigrad as mg
from minigrad import devices
from tests import standin

# A loaded machine is no reason to fail: no deadlines. "ci" draws the same examples in every run, "random" new ones.
settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("random", deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# With MINIGRAD_TEST_DEVICE=standin all tensors are made on a device that is not there: see tests/standin.py.
_machine = contextlib.ExitStack()
if os.environ.get("MINIGRAD_TEST_DEVICE") == "standin":
    devices._State.device = _machine.enter_context(standin.machine())[0]
HAS_GPU = mg.cuda_is_available()


def pytest_unconfigure() -> None:
    _machine.close()


DATA = Path(os.environ.get("AUTOENCODERS_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


@pytest.fixture(scope="module", params=["stand-in", pytest.param("cuda", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest) -> Iterator[devices.Device]:
    """A GPU, or what stands in for one, under the name "cuda"; the CPU stays the default device."""
    with contextlib.ExitStack() as stack:
        if request.param == "stand-in":
            stack.enter_context(standin.machine())
        stack.enter_context(mg.use_device("cpu"))
        yield mg.device("cuda")


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The folder with the real MNIST files; a test that asks for it is skipped where there is none."""
    folder = DATA / "mnist"
    if not folder.is_dir():
        pytest.skip("needs MNIST: set AUTOENCODERS_DATA to the folder above mnist/")
    return folder


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not HAS_GPU:
        pytest.skip("needs a CUDA device, and CuPy to use it")
