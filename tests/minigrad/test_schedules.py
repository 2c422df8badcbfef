"""Learning-rate schedules and gradient clipping."""

import copy
import math
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.errors import DataError, DTypeError


def rates(make, steps, lr=2.0):
    optimizer = optim.SGD([mg.Parameter([1.0])], lr=lr)
    schedule = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.lr)
        schedule.step()
    return found


def test_formulas():
    assert rates(lambda o: optim.StepDecay(o, 2, 0.5), 5) == [2, 2, 1, 1, 0.5]
    np.testing.assert_allclose(rates(lambda o: optim.ExponentialDecay(o, 0.9), 4), 2 * 0.9 ** np.arange(4), rtol=1e-15)
    np.testing.assert_allclose(
        rates(lambda o: optim.CosineDecay(o, 4, floor=0.1), 6),
        [2 * (0.1 + 0.45 * (1 + math.cos(math.pi * min(n, 4) / 4))) for n in range(6)], rtol=1e-15,
    )  # fmt: skip
    assert rates(lambda o: optim.LinearWarmup(o, 4, lambda n: 0.5**n), 7) == [0.5, 1, 1.5, 2, 2, 1, 0.5]
    assert rates(lambda o: optim.StepDecay(o, np.int64(2), 0.5), 3) == [2, 2, 1]
    assert rates(lambda o: optim.Schedule(o, lambda n: 1 / (n + 1)), 3) == [2, 1, 2 / 3]


def test_plateau_waits_for_patience_and_forgives_progress():
    optimizer = optim.SGD([mg.Parameter([1.0])], lr=1.0)
    schedule = optim.ReduceOnPlateau(optimizer, factor=0.5, patience=2)
    seen = []
    for value in [5, 4, 4, 3, 3, 3, 3, 3, 2]:
        schedule.step(value)
        seen.append(optimizer.lr)
    assert seen == [1, 1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    with pytest.raises(DataError, match="needs the value"):
        schedule.step()


MAKERS = [
    lambda o: optim.StepDecay(o, 2, 0.5), lambda o: optim.CosineDecay(o, 9),
    lambda o: optim.ReduceOnPlateau(o, 0.5, 1), lambda o: optim.LinearWarmup(o, 3),
    lambda o: optim.ExponentialDecay(o, 0.5),
]  # fmt: skip


@pytest.mark.parametrize("make", MAKERS)
def test_a_restored_schedule_continues(make):
    values = [3.0, 2.0, 2.0, 2.0, 1.0, 1.0]
    optimizers = [optim.SGD([mg.Parameter([1.0])], lr=2.0) for _ in range(2)]
    first, second = (make(o) for o in optimizers)
    for v in values[:3]:
        first.step(v)
    second.load_state_dict(first.state_dict())
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    for v in values[3:]:
        first.step(v)
        second.step(v)
        assert optimizers[0].lr == optimizers[1].lr
    with pytest.raises(DataError, match="expected"):
        first.load_state_dict({"steps": 1})


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda schedule: pickle.loads(pickle.dumps(schedule))])
@pytest.mark.parametrize("make", MAKERS)
def test_a_copy_of_a_schedule_goes_its_own_way(make, copied):
    schedule = make(optim.SGD([mg.Parameter([1.0])], lr=1.0))
    other = copied(schedule)
    value = (5.0,) if isinstance(schedule, optim.ReduceOnPlateau) else ()
    for name in {"factor", "floor", "every", "total"} & set(vars(schedule)):
        setattr(schedule, name, getattr(schedule, name) + 1)
    expected = make(optim.SGD([mg.Parameter([1.0])], lr=1.0))
    for _ in range(6):
        other.step(*value)
        expected.step(*value)
        assert other.optimizer.lr == expected.optimizer.lr
    assert schedule.steps == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": "abc"}, "got steps='abc'; expected an integer of at least 0"),
        ({"steps": -1}, "steps=-1"),
        ({"steps": 1.5}, "steps=1.5"),
        ({"steps": np.array([1, 2])}, "steps=array"),
        ({"reduced": -3}, "reduced=-3; expected an integer of at least 0"),
        ({"base": math.nan}, "base=nan; expected a finite number of at least 0"),
        ({"base": math.inf}, "base=inf"),
        ({"base": None}, "base=None"),
        ({"best": math.nan}, "best=nan; expected a number"),
    ],
)
def test_a_damaged_state_changes_nothing(change, words):
    schedule = optim.ReduceOnPlateau(optim.SGD([mg.Parameter([1.0])], lr=2.0), 0.5, 1)
    for value in (3.0, 2.0, 2.0):
        schedule.step(value)
    before = schedule.state_dict()
    state = {name: value + 1 for name, value in before.items()} | change
    with pytest.raises(DataError, match=words):
        schedule.load_state_dict(state)
    assert schedule.state_dict() == before and before["reduced"] == 1


def test_a_state_may_come_from_a_file_as_arrays():
    schedule = optim.ReduceOnPlateau(optim.SGD([mg.Parameter([1.0])], lr=2.0))
    schedule.load_state_dict(
        {
            "base": np.array(0.5),
            "steps": np.array(3),
            "best": mg.tensor(math.inf),
            "waited": 2.0,
            "reduced": np.int64(1),
        }
    )
    assert schedule.state_dict() == {"base": 0.5, "steps": 3, "best": math.inf, "waited": 2, "reduced": 1}
    assert type(schedule.steps) is int and type(schedule.base) is float
    with pytest.raises(DTypeError, match="got a list"):
        schedule.load_state_dict([1])


def test_a_step_whose_factor_is_refused_does_not_count():
    optimizer = optim.SGD([mg.Parameter([1.0])], lr=2.0)
    schedule = optim.Schedule(optimizer, lambda n: -1.0 if n == 2 else 1.0)
    schedule.step()
    for _ in range(2):
        with pytest.raises(DataError, match="lr=-2"):
            schedule.step()
    assert (schedule.steps, optimizer.lr) == (1, 2.0)
    plateau = optim.ReduceOnPlateau(optimizer, 0.5, patience=1)
    plateau.step(1.0)
    before = plateau.state_dict()
    plateau.factor = -0.5
    with pytest.raises(DataError, match="lr=-1"):
        plateau.step(1.0)
    assert plateau.state_dict() == before


def test_a_factor_is_a_function():
    o = optim.SGD([mg.Parameter([1.0])], lr=2.0)
    for call, words in [
        (lambda: optim.Schedule(o, 0.5), "Schedule: got factor=0.5; expected a function"),
        (lambda: optim.LinearWarmup(o, 3, then=5), "LinearWarmup: got then=5; expected a function"),
    ]:
        with pytest.raises(DTypeError, match=words):
            call()
    assert o.lr == 2.0


def test_bad_arguments():
    o = optim.SGD([mg.Parameter([1.0])], lr=2.0)
    for call, words in [
        (lambda: optim.StepDecay(o, 0), "every=0"),
        (lambda: optim.ExponentialDecay(o, 1.5), "factor=1.5"),
        (lambda: optim.CosineDecay(o, 4, floor=2), "floor=2"),
        (lambda: optim.CosineDecay(o, 4, floor="x"), r"floor='x'; expected a number in \[0, 1\]"),
        (lambda: optim.ReduceOnPlateau(o, patience=True), "patience=True"),
        (lambda: optim.ReduceOnPlateau(o, threshold=math.nan), "threshold=nan; expected a finite number of at least 0"),
        (lambda: optim.ReduceOnPlateau(o, threshold=-0.1), "threshold=-0.1"),
        (lambda: optim.ReduceOnPlateau(o, threshold="x"), "threshold='x'"),
        (lambda: optim.clip_grad_norm([], 1.0), "no parameter"),
        (lambda: optim.clip_grad_norm([], 0), "max_norm=0"),
        (lambda: optim.clip_grad_value([], -1), "max_value=-1"),
    ]:
        with pytest.raises(DataError, match=words):
            call()
    with pytest.raises(DTypeError, match="got a float"):
        optim.StepDecay(0.1, 2)
    assert o.lr == 2.0


@pytest.mark.parametrize("clip", [optim.clip_grad_norm, optim.clip_grad_value])
def test_clipping_takes_several_parameters(clip):
    w = mg.Parameter([3.0, 4.0])
    (w * w).sum().backward()
    for given in (w, w.grad, None):
        with pytest.raises(DTypeError, match=r"expected a list of parameters: model\.parameters\(\)"):
            clip(given, 1.0)
    np.testing.assert_array_equal(w.grad.numpy(), [6.0, 8.0])


@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_clipping_by_the_common_norm(limit):
    rng = np.random.default_rng(0)
    ps = [mg.Parameter(rng.normal(size=s)) for s in [(3, 2), (), (4,)]]
    gs = [rng.normal(size=p.shape) for p in ps[:2]]
    for p, g in zip(ps[:2], gs, strict=True):
        p.grad = mg.tensor(g)
    norm = math.sqrt(sum((g**2).sum() for g in gs))
    np.testing.assert_allclose(optim.clip_grad_norm(ps, limit).item(), norm, rtol=1e-14)
    for p, g in zip(ps[:2], gs, strict=True):
        # the denominator has 1e-6 added, as in PyTorch
        np.testing.assert_allclose(p.grad.numpy(), g * min(1, limit / (norm + 1e-6)), rtol=1e-14)
    assert ps[2].grad is None


def test_clipping_is_part_of_a_compiled_step():
    def make():
        w = mg.Parameter(np.arange(1.0, 4.0))
        optimizer = optim.SGD([w], lr=0.5)

        def step(x):
            optimizer.zero_grad()
            loss = (w * w * x).sum()
            loss.backward()
            norm = optim.clip_grad_norm([w], 1.0)
            optim.clip_grad_value([w], 0.7)
            optimizer.step()
            return loss, norm

        return step, w

    (eager, w), (step, v) = make(), make()
    compiled = mg.compile(step)
    for _ in range(4):
        x = mg.tensor(np.random.default_rng(1).random(3))
        assert [t.item() for t in eager(x)] == [t.item() for t in compiled(x)]
        np.testing.assert_array_equal(w.detach().numpy(), v.detach().numpy())


def test_reduce_on_plateau_knows_negative_losses():
    optimizer = optim.SGD([mg.Parameter([1.0])], lr=1.0)
    schedule = optim.ReduceOnPlateau(optimizer, 0.5, 2)
    for value in (-3.0, -3.0, -3.0, -2.9999, -2.9998):
        schedule.step(value)
    assert schedule.best == -3.0 and optimizer.lr < 1.0


def test_the_arguments_are_attributes():
    optimizer = optim.SGD([mg.Parameter([1.0])], lr=1.0)
    then = math.exp
    step, cosine = optim.StepDecay(optimizer, 2, 0.5), optim.CosineDecay(optimizer, 4, floor=0.25)
    exponential, warmup = optim.ExponentialDecay(optimizer, 0.75), optim.LinearWarmup(optimizer, 3, then)
    assert (step.every, step.factor, cosine.total, cosine.floor) == (2, 0.5, 4, 0.25)
    assert (exponential.factor, warmup.total, warmup.then) == (0.75, 3, then)


class Recent(optim.Schedule):
    """A schedule with a state of its own: an array, a text, and nothing yet."""

    def __init__(self, optimizer):
        self.recent, self.phase, self.best = np.zeros(2), "first", None
        super().__init__(optimizer, lambda n: 1.0)

    def state_dict(self):
        return {**super().state_dict(), "recent": self.recent, "phase": self.phase, "best": self.best}


def test_a_state_of_ones_own_comes_back():
    schedule = Recent(optim.SGD([mg.Parameter([1.0])], lr=1.0))
    schedule.recent[:], schedule.phase, schedule.best = (3.0, 4.0), "second", 0.5
    again = Recent(optim.SGD([mg.Parameter([1.0])], lr=1.0))
    again.load_state_dict(schedule.state_dict())
    schedule.recent[0] = 9.0  # is not shared
    assert again.recent.tolist() == [3.0, 4.0] and (again.phase, again.best) == ("second", 0.5)


class Own(optim.Schedule):
    """A schedule with numbers of its own, one of which it keeps by a property."""

    def __init__(self, optimizer, value, refused=()):
        self.value, self.waited, self.refused = value, 0, refused
        super().__init__(optimizer, lambda n: 1.0)

    @property
    def last(self):
        return self.waited

    @last.setter
    def last(self, value):
        if value in self.refused:
            raise ValueError(f"last={value}")

    def state_dict(self):
        return {**super().state_dict(), "value": self.value, "waited": self.waited, "last": self.last}


@pytest.mark.parametrize("fresh", [0, 0.0, False])
@pytest.mark.parametrize("saved", [True, False, -3, 7, 0.5, 2.0, math.inf, math.nan, np.float32(0.5), np.bool_(True)])
def test_numbers_of_ones_own_come_back_as_they_were(fresh, saved):
    schedule, again = (Own(optim.SGD([mg.Parameter([1.0])], lr=1.0), value) for value in (saved, fresh))
    schedule.step()
    schedule.waited = -1  # a count only of the library's own schedule that has this name
    again.load_state_dict(schedule.state_dict())
    assert type(again.value) is type(saved) and repr(again.value) == repr(saved)
    assert (again.steps, again.waited) == (1, -1)
    again.load_state_dict({**schedule.state_dict(), "value": np.array(4)})  # from a file
    assert again.value == 4 and type(again.value) is int


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"steps": True}, DataError, "steps=True; expected an integer of at least 0"),
        ({"steps": -1}, DataError, "steps=-1"),
        ({"base": False}, DataError, "base=False; expected a finite number of at least 0"),
        ({"last": 5}, ValueError, "last=5"),
    ],
)
def test_of_a_schedule_of_ones_own_all_is_loaded_or_nothing(change, error, words):
    schedule = Own(optim.SGD([mg.Parameter([1.0])], lr=1.0), 0, refused=(5,))
    before = schedule.state_dict()
    with pytest.raises(error, match=words):
        schedule.load_state_dict({"value": 2, "waited": 3, "last": 0, "base": 4.0, "steps": 6} | change)
    assert schedule.state_dict() == before
