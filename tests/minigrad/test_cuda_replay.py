"""Replay on a GPU, with kernels that run on the host: the numbers of a step as it is, whatever order lanes allow."""

import contextlib
import sys
from functools import partial
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from autoencoders import repeated
from minigrad.errors import DataError, GraphError
from minigrad.primitives.registry import Domain, Primitive, Samples
from minigrad.program.cuda.driver import Driver, module_text
from minigrad.program.cuda.lanes import Place, Use, places
from minigrad.program.cuda.products import Product, ProductsUnavailable, operand
from tests import standin
from tests.autoencoders.test_compiled_variants import OPTIMIZERS, VARIANTS, X
from tests.host_driver import HostDriver
from tests.host_kernels import GXX, compile_text_for_gpu, nvrtc

pytestmark = [pytest.mark.cpu_only, pytest.mark.skipif(GXX is None, reason="needs g++ to run kernels on the host")]


@pytest.fixture
def drivers(monkeypatch):
    """The drivers that programs on the stand-in get."""
    made = []

    def driver_of(place):
        made.append(HostDriver(place))
        return made[-1]

    # by its module, whose name in the package is that of the function
    monkeypatch.setattr(sys.modules["minigrad.program.compile"], "driver_of", driver_of)
    monkeypatch.setitem(repeated.RECORDED_AT, "cuda", 2)  # as on the CPU: these trainings are short
    with standin.machine(), mg.use_device("cpu"):
        yield made


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_as_on_the_cpu(drivers, name):
    def trained(device):
        make, objective = VARIANTS[name]
        model = make()
        samples = X.reshape(-1, *model.input_shape) if getattr(model, "input_shape", None) else X
        history = ae.fit(model, samples, objective, epochs=2, batch_size=8, seed=1, device=device)
        return history, model.state_dict()

    expected, on_cpu = trained("cpu")
    got, there = trained("cuda")
    assert drivers and all(driver.captured for driver in drivers)
    for term, values in expected.terms.items():
        np.testing.assert_allclose(got.terms[term], values, rtol=1e-4)
    for key, array in on_cpu.items():
        np.testing.assert_allclose(there[key], array, rtol=1e-4, atol=1e-4 * np.max(np.abs(array), initial=0.0))


def regression(device, optimizer):
    mg.random.seed(0)
    with mg.use_device(device):
        model = mg.nn.Sequential(mg.nn.Linear(6, 5), mg.nn.Tanh(), mg.nn.Linear(5, 2))
        x = mg.tensor(np.random.default_rng(0).normal(size=(7, 6)).astype("f4"))
    made = optimizer(model.parameters())

    def step(x):
        loss = mg.mean(mg.square(model(x) - x[:, :2]))
        made.zero_grad()
        loss.backward()
        mg.optim.clip_grad_norm(model.parameters(), 1.0)
        made.step()
        return loss

    return model, made, step, x


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_updates_of_every_optimizer_are_those_of_the_cpu_also_with_another_learning_rate(drivers, optimizer):
    def trained(device, compiled):
        model, made, step, x = regression(device, OPTIMIZERS[optimizer])
        run = mg.compile(step) if compiled else step
        losses = []
        for number in range(8):
            if number == 5:
                made.lr = 0.002
            losses.append(run(x))
        return [loss.item() for loss in losses], model.state_dict()

    expected, on_cpu = trained("cpu", compiled=False)
    got, there = trained("cuda", compiled=True)
    assert [driver.captured for driver in drivers] == [1]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    for name, array in on_cpu.items():
        np.testing.assert_allclose(there[name], array, rtol=1e-4, atol=1e-6)


def test_results_belong_to_the_caller_and_arguments_may_be_arrays_of_numpy(drivers):
    f = mg.compile(lambda x: (mg.exp(x), {"sum": mg.sum(x, axis=0), "same": x}))
    with mg.use_device("cuda"):
        given = [mg.tensor(np.full((3, 4), float(i))) for i in range(5)]
    results = [f(x) for x in given]
    for i, (x, (y, others)) in enumerate(zip(given, results, strict=True)):
        np.testing.assert_allclose(y.numpy(), np.exp(np.full((3, 4), float(i))))
        np.testing.assert_array_equal(others["same"].numpy(), x.numpy())
        assert others["sum"].numpy().tolist() == [3.0 * i] * 4
    assert f(mg.tensor(np.full((3, 4), 9.0), device="cuda"))[1]["sum"].numpy().tolist() == [27.0] * 4


def test_products_of_vectors_and_of_stacks_and_what_has_no_kernel(drivers):
    rng = np.random.default_rng(0)
    a, b, v = rng.normal(size=(2, 3, 4)), rng.normal(size=(4, 3)), rng.normal(size=4)

    def f(a, b, v):
        return (
            a @ b,
            a @ v,
            v @ b,
            v @ v,
            mg.cumsum(a.mT, axis=-1),
            mg.concat([v, b[:, 0]]),
            mg.einsum("ijk,kl->l", a, b),
        )

    expected = [t.numpy() for t in f(*map(mg.tensor, (a, b, v)))]
    there = [mg.tensor(x, device="cuda") for x in (a, b, v)]
    compiled = mg.compile(f)
    for _ in range(4):
        for got, wanted in zip(compiled(*there), expected, strict=True):
            np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-12)


def test_a_step_that_cannot_be_captured_goes_on_call_by_call_and_says_why(drivers, monkeypatch):
    def refuse(self, calls, places):
        raise NotImplementedError("calling cuSOLVER API during stream capture is currently unsupported")

    monkeypatch.setattr(HostDriver, "capture", refuse)
    model, _, step, x = regression("cuda", OPTIMIZERS["SGD"])
    expected, _, eager, _ = regression("cuda", OPTIMIZERS["SGD"])
    run = mg.compile(step)
    run(x), run(x)
    with pytest.warns(RuntimeWarning, match="not run as a CUDA graph.*cuSOLVER") as told:
        run(x)
    assert told[0].filename == __file__
    for _ in range(2):
        run(x)
    for _ in range(5):
        eager(x)
    for p, q in zip(model.parameters(), expected.parameters(), strict=True):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-5, atol=1e-7)


def test_after_a_capture_that_failed_a_driver_keeps_nothing_and_refuses_nothing():
    class Stream(contextlib.nullcontext):
        def begin_capture(self): ...
        def end_capture(self): ...
        def record(self): ...

    class Cuda:
        MemoryPool = type("MemoryPool", (), {"malloc": None})
        Stream = staticmethod(lambda non_blocking: Stream())
        using_allocator = staticmethod(contextlib.nullcontext)

    xp = type("xp", (), {"cuda": Cuda, "ndarray": np.ndarray, "asarray": staticmethod(np.asarray)})
    driver = Driver(xp, lanes=1)
    upload = partial(driver.namespace(False).asarray, [1.0])
    upload()
    with pytest.raises(RuntimeError, match="copied from the host"):
        driver.capture([upload], places([Use(frozenset(), frozenset())], 1))
    assert upload().tolist() == [1.0] and not driver.capturing


def test_memory_that_eager_steps_left_free_is_given_back_for_a_replay():
    free = [100]  # bytes in blocks of CuPy's own pool, beside 10 that are free

    class MemoryPool:
        def malloc(self, size):
            if size > 110 - sum(free):
                raise MemoryError
            return size

    class Stream(contextlib.nullcontext):
        def record(self): ...
        def wait_event(self, event): ...

    class Cuda:
        Stream = staticmethod(lambda non_blocking: Stream())
        get_current_stream = staticmethod(lambda: Stream())
        allocators: ClassVar[list] = []

        @staticmethod
        @contextlib.contextmanager
        def using_allocator(allocate):
            Cuda.allocators.append(allocate)
            yield
            Cuda.allocators.pop()

    Cuda.MemoryPool = MemoryPool

    pool = type("pool", (), {"free_all_blocks": staticmethod(free.clear)})
    driver = Driver(type("xp", (), {"cuda": Cuda, "get_default_memory_pool": staticmethod(lambda: pool)}), lanes=1)
    assert driver.memory(5) == 5 and free
    assert driver.memory(50) == 50 and not free
    with pytest.raises(MemoryError):
        driver.memory(500)
    free.append(100)
    made = []
    driver.run([lambda: made.append(Cuda.allocators[-1](50))])  # what a call of a replay makes on the way
    assert made == [50] and not free


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_arrays_one_behind_the_other(drivers, axis):
    f = mg.compile(lambda x: (mg.concat([x, x * 2.0], axis=axis), mg.any(x * 0.0, axis=axis)))
    x = np.arange(6.0).reshape(2, 3)
    for _ in range(3):
        expected, got = f(mg.tensor(x)), f(mg.tensor(x, device="cuda"))
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert drivers[0].captured


@pytest.mark.parametrize(
    "shapes", [((2, 3), (3, 4)), ((0, 3), (3, 4)), ((3,), (3, 4)), ((3,), (3,)), ((5, 1, 2, 3), (1, 6, 3, 4))]
)
@pytest.mark.parametrize("dtype", ["int64", "complex64"])
def test_products_that_cublaslt_does_not_take_are_left_to_cupy(shapes, dtype):
    class Refusing(Driver):
        def __init__(self):
            self.xp = np  # for CuPy, whose matmul is the same

        def product(self, a, b, out, tf32, tuned):
            return Product(self.xp, a, b, out, tf32, tuned).launch  # refuses before it needs a GPU

    a, b = (np.arange(np.prod(shape)).reshape(shape).astype(dtype) for shape in shapes)
    np.testing.assert_array_equal(Refusing().namespace(False).matmul(a, b), a @ b)


@pytest.mark.skipif(nvrtc() is None, reason="needs NVRTC: pip install nvidia-cuda-nvrtc")
def test_the_kernels_of_a_step_are_one_cuda_module(drivers):
    _, _, step, x = regression("cuda", OPTIMIZERS["Adam"])
    run = mg.compile(step)
    run(x)
    (driver,) = drivers
    assert len(driver.made) > 5 and compile_text_for_gpu(module_text({k.name: k.source for k in driver.made}))


def test_a_program_shows_the_kernels_and_the_plan_that_its_replay_has(drivers):
    _, _, step, x = regression("cuda", OPTIMIZERS["Adam"])
    run = mg.compile(step)
    run(x)
    (driver,), (program,) = drivers, run.programs
    ((entry,),) = run._entries.values()
    text = program.kernels()
    assert driver.made and all(kernel.source in text for kernel in driver.made)
    assert text.count("<<<") == len(driver.made)
    assert repr(program.plan()) == repr(entry.replay.plan)


def test_a_program_says_why_equations_have_no_kernel():
    samples = Samples("any", (Domain(-3.0, 3.0),), analytic=False)
    root = Primitive("own_root", lambda xp, x, /: xp.cbrt(x), [None], samples, elementwise=True)
    text = mg.record(lambda x, w: mg.exp(root(x @ w)))(mg.ones((2, 3)), mg.ones((3, 4))).kernels()
    assert text.splitlines() == [
        "// launch 1, left to a library",
        "//   a:f32[2,4] = matmul x w",
        "// launch 2, one by one by CuPy, because there is no kernel for cbrt of float32",
        "//   b:f32[2,4] = own_root a",
        "//   c:f32[2,4] = exp b",
    ]


FACTORS = {
    "integers": lambda rng: (rng.integers(0, 9, (3, 4)), rng.integers(0, 9, (4, 2))),
    "integers and floats": lambda rng: (rng.integers(0, 9, (3, 4)), rng.normal(size=(4, 2))),
    "a vector of integers": lambda rng: (rng.integers(0, 9, 4), rng.integers(0, 9, (4, 2))),
    "complex numbers": lambda rng: (rng.normal(size=(3, 4)) * 1j, rng.normal(size=(4, 2)) + 1j),
    "no rows": lambda rng: (np.ones((0, 4)), rng.normal(size=(4, 2))),
    "no summands": lambda rng: (np.ones((3, 0)), np.ones((0, 2))),
    "vectors of nothing": lambda rng: (np.ones(0), np.ones(0)),
    "stacks that broadcast": lambda rng: (rng.normal(size=(2, 1, 3, 4)), rng.normal(size=(5, 4, 2))),
    "a stack and a vector": lambda rng: (rng.normal(size=(5, 3, 4)), rng.normal(size=4)),
}


@pytest.mark.parametrize("factors", FACTORS)
def test_products_that_cublaslt_does_not_take(drivers, factors):
    a, b = FACTORS[factors](np.random.default_rng(0))
    f = mg.compile(lambda a, b: a @ b)
    expected = (mg.tensor(a) @ mg.tensor(b)).numpy()
    for _ in range(3):
        got = f(mg.tensor(a, device="cuda"), mg.tensor(b, device="cuda")).numpy()
        assert got.dtype == expected.dtype and got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_a_stack_that_lies_backwards_is_copied_for_cublaslt(drivers):
    with pytest.raises(ProductsUnavailable, match="backwards"):
        operand((2, 3, 4), (-48, 16, 4), 4, 2)
    f = mg.compile(lambda a, b: a[::-1] @ b)
    a, b = np.arange(24.0).reshape(2, 3, 4), np.arange(8.0).reshape(4, 2)
    for _ in range(3):
        got = f(mg.tensor(a, device="cuda"), mg.tensor(b, device="cuda")).numpy()
        np.testing.assert_array_equal(got, a[::-1] @ b)


def test_a_product_with_every_second_element_of_a_vector(drivers):
    f = mg.compile(lambda m, v: (m @ v[::2], v[::2] @ m, v[::2] @ v[1::2]))
    m, v = np.arange(16.0).reshape(4, 4), np.arange(8.0)
    for _ in range(3):
        got = f(mg.tensor(m, device="cuda"), mg.tensor(v, device="cuda"))
        for x, y in zip(got, (m @ v[::2], v[::2] @ m, v[::2] @ v[1::2]), strict=True):
            np.testing.assert_allclose(x.numpy(), y)


def test_more_arrays_than_a_kernel_takes(drivers):
    numbers = [mg.tensor(float(i), device="cuda") for i in range(700)]

    def total(x):
        for number in numbers:
            x = x + number
        return x

    f = mg.compile(total)
    for i in range(3):
        assert f(mg.tensor(float(i), device="cuda")).item() == sum(range(700)) + i
    assert all(len(kernel.parameters) <= 500 for driver in drivers for kernel in driver.made)


def test_a_step_without_operations_returns_what_it_knows(drivers):
    with mg.use_device("cuda"):
        w = mg.tensor([1.0])
        f = mg.compile(lambda: w)
        assert f() is w and f() is w


class _Current(standin.Gpu):
    """A device that notes when it becomes the current one."""

    __slots__ = ("chosen",)

    def make_current(self):
        self.chosen = True


def test_a_replay_makes_its_device_the_current_one(monkeypatch):
    monkeypatch.setattr(sys.modules["minigrad.program.compile"], "driver_of", HostDriver)
    place = _Current("cuda", 1, standin.Module(np, 1), standin.Array)
    with mg.devices.substituted(place):
        w, x = mg.tensor([1.0], device="cuda:1"), mg.tensor([2.0], device="cuda:1")
        with_argument, without = mg.compile(lambda x: x * 2.0), mg.compile(lambda: w.assign(w * 2.0))
        with_argument(x), without()
        for call in (lambda: with_argument(x), without):
            place.chosen = False
            call()
            assert place.chosen


class _Stream:
    def __init__(self, non_blocking):
        self.capturing = False

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def begin_capture(self):
        self.capturing = True

    def end_capture(self):
        assert self.capturing
        self.capturing = False
        raise RuntimeError("the capture was invalidated")

    def record(self):
        return object()

    def wait_event(self, event):
        pass


def test_after_a_failed_capture_nothing_is_refused_any_more_and_the_first_error_is_told():
    pool = SimpleNamespace(malloc=None)
    cuda = SimpleNamespace(MemoryPool=lambda: pool, Stream=_Stream, using_allocator=lambda f: contextlib.nullcontext())
    driver = Driver(SimpleNamespace(cuda=cuda, ndarray=np.ndarray, asarray=np.asarray), 2)

    def call():
        driver.namespace(False).asarray(3.0)

    with pytest.raises(RuntimeError, match="copied from the host"):
        driver.capture([call], [Place(0, ())])
    call()
    assert not driver._lanes[0].capturing


def test_another_gradient_than_that_of_the_recording_is_noticed_beside_the_counts_of_adam(drivers):
    calls = []

    def objective(model, x):
        calls.append(None)
        loss = 1e-4 * mg.mean(mg.square(model(x) - x))
        size = sum(mg.sum(p) for p in model.parameters()) * (-0.01 if len(calls) > 6 else 0.01)
        return loss + size - mg.stop_gradient(size)  # the same value

    model = mg.nn.Sequential(mg.nn.Linear(6, 5), mg.nn.Tanh(), mg.nn.Linear(5, 6))
    x = np.random.default_rng(0).normal(size=(40, 6)).astype("f4")
    with pytest.warns(RuntimeWarning, match="other values than its recording"):
        ae.fit(model, x, objective, epochs=2, batch_size=8, device="cuda")


def test_another_number_of_terms_than_that_of_the_recording_is_noticed(drivers):
    calls = []

    def objective(model, x):
        calls.append(None)
        loss = mg.mean(mg.square(model(x) - x))
        terms = {"a": loss, "b": loss * 2.0}
        return {**terms, "c": loss * 3.0} if len(calls) > 6 else terms

    model = mg.nn.Sequential(mg.nn.Linear(6, 5), mg.nn.Tanh(), mg.nn.Linear(5, 6))
    x = np.random.default_rng(0).normal(size=(200, 6)).astype("f4")
    with pytest.warns(RuntimeWarning, match="other values"), pytest.raises(DataError, match="the same names"):
        ae.fit(model, x, objective, epochs=1, batch_size=8, device="cuda")


def test_a_step_for_whose_replay_there_is_no_memory_is_done_once_and_then_runs_as_it_is(drivers, monkeypatch):
    def refuse(self, size):
        raise MemoryError("out of memory")

    monkeypatch.setattr(HostDriver, "memory", refuse)
    with mg.use_device("cuda"):
        w = mg.Parameter([1.0])

    @mg.compile
    def step():
        loss = mg.sum(w * 2.0)
        loss.backward()
        w.assign(w.detach() + w.grad)
        return loss

    with pytest.warns(RuntimeWarning, match="runs as it is, because of: MemoryError: out of memory"):
        results = [step()]
    assert w.detach().item() == 3.0
    results += [step(), step()]
    assert w.detach().item() == 7.0 and w.grad is None
    assert [loss.item() for loss in results] == [2.0, 6.0, 10.0] and not any(loss.requires_grad for loss in results)


def test_what_a_replay_assigned_before_an_error_invalidates_older_graphs(drivers, monkeypatch):
    with mg.use_device("cuda"):
        w = mg.Parameter([1.0, 2.0])
    step = mg.compile(lambda: w.assign(w.detach() * 2.0))
    step()
    loss = mg.sum(mg.square(w))
    run = HostDriver.run

    def failing(self, calls):
        run(self, calls)
        raise RuntimeError("the device is lost")

    monkeypatch.setattr(HostDriver, "run", failing)
    with pytest.raises(RuntimeError, match="lost"):
        step()
    assert w.detach().numpy().tolist() == [4.0, 8.0]
    with pytest.raises(GraphError, match="assign"):
        loss.backward()


def test_a_step_is_recorded_anew_where_the_same_bits_are_wanted_in_every_run(drivers):
    step = mg.compile(lambda x, i: mg.grad(lambda x: mg.sum(mg.square(x[i])))(x))
    x, i = mg.tensor([1.0, 2.0], device="cuda"), mg.tensor([0, 0, 1], device="cuda")
    step(x, i)
    try:
        mg.deterministic(True)
        step(x, i)
        assert len(drivers) == 2
    finally:
        mg.deterministic(False)
    step(x, i)
    assert len(drivers) == 2
