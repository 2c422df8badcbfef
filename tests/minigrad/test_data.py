"""Minibatches: every row once, rows stay together, order by the generator alone, bad arguments refused at the call."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import data
from minigrad.errors import DataError, DTypeError, ShapeError
from tests import standin


@given(st.integers(0, 30), st.integers(1, 35), st.booleans(), st.booleans(), st.integers(0, 2**64 - 1))
def test_every_row_comes_once_with_its_partner(length, size, shuffle, drop_last, seed):
    X, y = np.arange(2 * length).reshape(length, 2), np.arange(length)
    generator = mg.random.Generator(seed)
    parts = list(data.batches(X, y, batch_size=size, generator=generator, shuffle=shuffle, drop_last=drop_last))
    whole, rest = divmod(length, size)
    assert [len(labels) for _, labels in parts] == [size] * whole + [rest] * (rest > 0 and not drop_last)
    for rows, labels in parts:
        np.testing.assert_array_equal(rows, X[labels])
    seen = [label for _, labels in parts for label in labels.tolist()]
    assert len(set(seen)) == len(seen)
    if not shuffle:
        assert seen == list(range(len(seen)))


def test_the_order_is_that_of_the_generator_and_differs_between_epochs():
    X = np.arange(100)

    def epochs(seed):
        generator = mg.random.Generator(seed)
        return [
            [r for (b,) in data.batches(X, batch_size=7, generator=generator) for r in b.tolist()] for _ in range(2)
        ]

    first, second = epochs(3)
    assert epochs(3) == [first, second]
    assert first != second and first != sorted(first) and epochs(4)[0] != first
    mg.random.seed(3)
    assert [r for (b,) in data.batches(X, batch_size=7) for r in b.tolist()] == first


def test_without_shuffling_the_generator_is_not_used():
    generator = mg.random.Generator(0)
    list(data.batches(np.arange(9), batch_size=2, generator=generator, shuffle=False))
    assert generator.counter == 0


@pytest.mark.parametrize("shuffle", [True, False])
def test_tensors_give_tensors_and_arrays_keep_their_dtype(shuffle):
    X, y = mg.tensor(np.arange(6.0).reshape(3, 2)), np.arange(3, dtype=np.uint8)
    for rows, labels in data.batches(X, y, batch_size=2, shuffle=shuffle):
        assert isinstance(rows, mg.Tensor) and rows.dtype == np.float64
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(rows.numpy(), X.numpy()[labels])


def test_a_memory_mapped_array_is_read_by_batches(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(20.0).reshape(10, 2))
    X = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert isinstance(X, np.memmap)
    rows = np.concatenate([x for (x,) in data.batches(X, batch_size=3, generator=mg.random.Generator(1))])
    np.testing.assert_array_equal(np.sort(rows, axis=0), X)


@pytest.mark.parametrize(
    ("arrays", "options", "error", "words"),
    [
        ((), {"batch_size": 1}, DataError, "no array"),
        (([1, 2],), {"batch_size": 1}, DTypeError, "array 0 is a list"),
        ((np.zeros(3), np.array(1.0)), {"batch_size": 1}, ShapeError, "array 1 is 0-d"),
        ((np.zeros(3), np.zeros((4, 2))), {"batch_size": 1}, ShapeError, r"\[3, 4\] rows"),
        ((np.zeros(3),), {"batch_size": 0}, DataError, "batch_size=0"),
        ((np.zeros(3),), {"batch_size": 2.0}, DTypeError, r"batch_size=2\.0"),
    ],
)
def test_bad_arguments_are_refused_by_the_call_itself(arrays, options, error, words):
    generator = mg.random.Generator(0)
    with pytest.raises(error, match=words):
        data.batches(*arrays, generator=generator, **options)
    assert generator.counter == 0


SENT = st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["float32", "int64"]), st.integers(1, 3)), max_size=8)


@given(SENT)
def test_batches_arrive_as_they_were_whatever_their_sizes_and_dtypes_and_stay_so(gpu, sizes):
    """The stand-in copies as late as it may, and refuses to fill an array anew from which it still copies."""
    rng = np.random.default_rng(len(sizes))
    parts = [(rng.integers(0, 9, (m, n)).astype(dtype), np.arange(m)) for m, dtype, n in sizes]
    scratch = [tuple(a.copy() for a in part) for part in parts]

    def overwritten_afterwards():
        for part in scratch:
            yield part
            for a in part:
                a[...] = -1  # the source of a batch may be used anew

    with mg.devices.transfer_guard():
        found = list(data.sent(overwritten_afterwards(), gpu))
    assert len(found) == len(parts)
    for got, expected in zip(found, parts, strict=True):
        for t, a in zip(got, expected, strict=True):
            assert t.device is gpu and t.dtype == a.dtype
            np.testing.assert_array_equal(t.numpy(), a)


def test_the_next_batch_is_not_asked_for_before_the_step_with_this_one(gpu):
    asked = []

    def parts():
        for i in range(4):
            asked.append(i)
            yield (np.full((2, 2), float(i)),)

    for i, (x,) in enumerate(data.sent(parts(), gpu)):
        assert asked[-1] == i and x.numpy()[0, 0] == i


@pytest.mark.parametrize("taken", [1, 2, 5])
def test_memory_of_the_host_is_given_back_only_when_nothing_is_copied_from_it(gpu, taken):
    if not hasattr(gpu, "precision"):
        pytest.skip("looks into the stand-in")
    parts = data.sent(((np.full((2, 2), i),) for i in range(5)), gpu)
    for _ in range(taken):
        next(parts)
    parts.close()  # as a loop does that is left early
    assert standin.copies_made[-1].running == 0


def test_a_copy_does_not_wait_for_the_step_beside_which_it_runs(gpu, monkeypatch):
    if not hasattr(gpu, "precision"):
        pytest.skip("looks into the stand-in")
    waited_for, marks = [], []

    class Noting(type(gpu.copies())):
        def mark(self):
            marks.append(super().mark())
            return marks[-1]

        def start(self, source, target, after):
            waited_for.append(after)
            return super().start(source, target, after)

    monkeypatch.setattr(type(gpu), "copies", lambda self: Noting())
    made_before_step = []
    for _ in data.sent(((np.full((2, 2), i),) for i in range(4)), gpu):
        made_before_step.append(marks[-1])
    for n in range(1, 4):
        assert waited_for[n] == made_before_step[n - 1]  # made before step n - 1 was queued


@pytest.mark.gpu
@pytest.mark.not_on_standin("steps that a GPU computes in milliseconds take the host minutes")
def test_copies_do_not_overtake_steps_that_take_long():
    """Each step computes far longer than a copy takes; memory that a copy wrote to too early would show."""
    place, count = mg.device("cuda"), 100
    w = mg.zeros((784, 784), device=place)
    seen = []
    for (x,) in data.sent(((np.full((4096, 784), float(i), "float32"),) for i in range(count)), place):
        y = x
        for _ in range(30):
            y = (y @ w) + x
        seen += [mg.min(y), mg.max(y)]
    np.testing.assert_array_equal(mg.stack(seen).numpy(), np.repeat(np.arange(count), 2))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("place", ["cpu", "gpu"])
def test_parts_of_a_tensor_are_what_indexing_gives(gpu, place, shuffle):
    x = mg.tensor(np.arange(14.0).reshape(7, 2), device=gpu if place == "gpu" else "cpu")
    plain = list(data.batches(x, batch_size=3, shuffle=shuffle, generator=mg.random.Generator(1)))
    w = mg.Parameter(x.numpy(), device=x.device)
    differentiable = list(data.batches(w, batch_size=3, shuffle=shuffle, generator=mg.random.Generator(1)))
    for (part,), (other,) in zip(plain, differentiable, strict=True):
        assert part.device is x.device and not part.requires_grad and other.requires_grad
        np.testing.assert_array_equal(part.numpy(), other.detach().numpy())
    if not shuffle:
        assert plain[0][0]._version is x._version  # a view knows when x changes


def test_batches_of_a_tensor_on_a_gpu_do_not_wait_for_it():
    with standin.machine() as (place, _):
        x = mg.tensor(np.arange(10.0), device=place)
        parts = list(data.batches(x, batch_size=3, generator=mg.random.Generator(0)))
        assert standin.counts.reads == 0
        assert sorted(np.concatenate([part.numpy() for (part,) in parts])) == list(range(10))


BATCHES = {
    "the second array grows": [
        (np.ones((4, 2)), np.arange(3.0)),
        (np.ones((3, 2)), np.arange(7.0)),
        (np.ones((1, 2)), np.arange(5.0)),
    ],
    "arrays without axes": [(np.ones((4, 2)), np.float64(i)) for i in range(4)],
    "bytes in the other order": [(np.arange(3, dtype=">f4") + i, np.arange(3, dtype=">i8")) for i in range(4)],
    "other types": [(np.arange(3).astype(kind),) for kind in ("f4", "i8", "?", "f2", "f4")],
    "other numbers of arrays": [(np.ones(2),) * count for count in (1, 3, 2, 1)],
    "nothing": [(np.ones((0, 2)),), (np.ones((2, 2)),), ()],
}


@pytest.mark.parametrize("name", BATCHES)
def test_batches_of_any_arrays_are_sent_as_they_are_copied_on_the_cpu(gpu, name):
    expected = list(data.sent(BATCHES[name], "cpu"))
    for arrays, wanted in zip(data.sent(BATCHES[name], gpu), expected, strict=True):
        assert [(a.dtype, a.numpy().tolist()) for a in arrays] == [(a.dtype, a.numpy().tolist()) for a in wanted]


def test_what_is_no_number_is_refused_as_on_the_cpu(gpu):
    for place in ("cpu", gpu):
        with pytest.raises(DTypeError, match="numbers and bools"):
            list(data.sent([(np.array(["a", "b"]),)], place))


def test_the_host_waits_for_copies_that_had_begun_when_another_one_failed(monkeypatch):
    start = standin.Copies.start

    def failing(self, source, target, after):
        if source.dtype == bool:
            raise RuntimeError("no copy")
        return start(self, source, target, after)

    monkeypatch.setattr(standin.Copies, "start", failing)
    with standin.machine() as (place, _):
        standin.copies_made.clear()
        with pytest.raises(RuntimeError, match="no copy"):
            list(data.sent([(np.ones(2), np.ones(2, bool))], place))
        assert [copies.running for copies in standin.copies_made] == [0]
