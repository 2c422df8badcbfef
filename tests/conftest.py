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


# what these check is true of the CPU alone: shared memory with NumPy, what is printed, a device of the test's own
OF_THE_CPU = (
    "test_a_rule_may_return_an_array_that_is_not_to_be_written_to",
    "test_what_nobody_else_keeps_becomes_the_gradient_without_a_copy",
    "test_numpy_is_a_read_only_view",
    "test_what_a_forward_takes_its_rule_takes_too",  # an axis that is an array of NumPy
    "test_numpy_gets_a_copy_unless_it_wants_none",
    "test_repr_shows_values_dtype_and_origin",
    "test_slips_of_the_hand_are_named",
    "test_two_devices_in_one_operation_are_refused",
    "test_to_changes_dtype_with_a_gradient_of_the_original_dtype",
    "test_dlpack_shares_memory_both_ways",
    "test_a_tensor_that_goes_through_dlpack_keeps_its_version",
    "test_the_first_product_says_that_the_setting_is_wrong_not_the_shapes",
    "test_what_a_rule_keeps_is_not_written_to",
    "test_no_way_out_of_the_graph_is_silent",
    "test_repr_says_where_a_tensor_comes_from",
    "test_a_bad_gradient_of_a_good_loss_is_caught_too",  # at which batch: terms are read later
    "test_tied_weights_are_one_array",
    "test_tied_weights_of_a_stack_are_one_array",
    # the stand-in shares the host's memory no more than a GPU does: check_grad cannot see what f does to its inputs
    "test_gradients_that_share_memory_are_found",
    "test_changed_inputs_are_found",
    "test_the_message_names_input_index_values_and_error",
    "test_a_wrong_first_derivative_is_found",
    # of numbers that are made into tensors, values are read on the CPU alone; and it is the device to compare with
    "test_a_number_of_the_objective_that_is_another_is_named",
    "test_what_cannot_be_compared_is_accepted",
    # fit compares with the recording: there is none on the stand-in, and a later one on a GPU
    "test_what_a_recording_cannot_repeat_is_noticed",
    "test_generators_and_counters_of_the_user_are_state_like_any_other",
    "test_a_number_that_a_callback_changes_is_noticed",
    "test_a_number_that_a_callback_changes_is_noticed_with_lbfgs_too",
    "test_a_gradient_that_Python_decides_about_is_noticed",
)
# and these fail on a real GPU, for reasons that docs/gpu.md gives
NOT_ON_A_GPU = (
    # the last bits of replay and of eager execution differ, and those of products of batches of several sizes
    "test_a_batch_norm_is_replayed_with_its_running_values",
    "test_a_convolutional_autoencoder_learns_and_replays_its_bits",
    "test_a_resumed_training_gives_the_bits_of_an_uninterrupted_one",
    "test_more_epochs_go_on_where_fewer_ended",
    "test_damage_is_noticed_and_the_previous_checkpoint_is_named_and_whole",
    "test_a_write_that_fails_leaves_the_last_checkpoint",
    "test_a_killed_process_leaves_a_checkpoint_that_goes_on",
    "test_train_then_encode_and_reconstruct_equal_the_model",
    "test_the_command_line_uses_every_saved_model",
    "test_features_classifies_the_codes",
    # tracemalloc sees the memory of the host; CuPy does not warn; cuSOLVER's eigenvalues in float32 are less exact
    "test_memory_is_freed_between_forward_and_backward",
    "test_reductions_of_nothing",
    "test_float32_stays_float32_forward_and_backward[eigh]",
)


# and these on the stand-in, where nothing is recorded or replayed, and which multiplies otherwise than the CPU
NOT_ON_THE_STAND_IN = (
    "test_a_step_that_reads_values_goes_on_without_compiling_and_says_why",
    "test_bad_values_in_later_batches_are_refused",
    "test_a_recording_that_fails_leaves_no_trace",
    "test_a_replayed_step_lets_go_of_the_gradients",
    "test_a_step_that_fails_while_it_is_recorded_leaves_the_gradients",
    "test_train_then_encode_and_reconstruct_equal_the_model",
    "test_features_classifies_the_codes",
    "test_the_number_of_no_class_is_found_in_any_batch_although_the_step_is_compiled",
    "test_an_objective_that_counts_its_calls_is_called_for_batches_only",
    "test_a_number_that_a_callback_changes_makes_the_objective_unknown",
    "test_the_copy_of_a_compiled_method_is_that_of_the_copied_object",
    "test_the_copy_of_a_compiled_function_records_anew",
    "test_a_compiled_function_that_is_compiled_again_is_another",
)
FILES_NOT_ON_THE_STAND_IN = ("test_cuda_graphs.py",)

# replay on the CPU, bit for bit; and kernels of GPUs on the host
FILES_OF_THE_CPU = (
    "test_a_rule_may_return_an_array_that_is_not_to_be_written_to",
    "test_what_nobody_else_keeps_becomes_the_gradient_without_a_copy",
    "test_compile.py",
    "test_compiled_variants.py",
    "test_cuda_kernels.py",
    "test_cuda_reductions.py",
    "test_cuda_replay.py",
    "test_cuda_training.py",
    "test_cuda_variants.py",
    "test_epilogues.py",
    "test_loops.py",
)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not HAS_GPU:
        pytest.skip("needs a CUDA device, and CuPy to use it")
    name = item.name.partition("[")[0]
    if ELSEWHERE != "cpu" and (name in OF_THE_CPU or item.path.name in FILES_OF_THE_CPU):
        pytest.skip("is about the CPU")
    if STAND_IN and (name in NOT_ON_THE_STAND_IN or item.path.name in FILES_NOT_ON_THE_STAND_IN):
        pytest.skip("is not so on a device that is not there")
    if ELSEWHERE == "cuda" and not {name, item.name}.isdisjoint(NOT_ON_A_GPU):
        pytest.skip("is not so on a GPU, see docs/gpu.md")
