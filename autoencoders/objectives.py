"""What is minimised: the terms of an objective, their means over an epoch, and the noise that they draw."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import minigrad as mg
from autoencoders.snapshots import generators_of, undone
from autoencoders.sources import Batch, Source
from minigrad import nn
from minigrad.errors import DataError, DTypeError, GraphError, ShapeError

Objective = Callable[..., mg.Tensor | Mapping[str, mg.Tensor]]

# One seed, three independent streams: how the data are shuffled does not depend on how much noise is drawn.
SHUFFLE, NOISE, VALIDATION_NOISE = 1, 2, 3
VALIDATION_COUNTER = 2**63  # a generator of the model keeps its stream, and draws there what no training gets to


def check_objective(objective: Objective, parts: int) -> None:
    """Raise unless an objective can be called with a model and so many parts of a batch."""
    if not callable(objective):
        raise DTypeError(f"fit: got objective={objective!r}; expected a function of the model and a batch")
    try:
        signature = inspect.signature(objective)
    except (TypeError, ValueError):  # of some callables Python knows none
        return
    try:
        signature.bind(None, *(None,) * parts)
    except TypeError as error:
        call, why = ("objective(model, x, y)", "with y") if parts == 2 else ("objective(model, x)", "without y")
        name = getattr(objective, "__name__", type(objective).__name__)
        raise DTypeError(f"fit: {why}, it is called as {call}, but the objective is {name}{signature}") from error


def terms_of(objective: Objective, model: nn.Module, batch: Batch) -> Mapping[str, mg.Tensor]:
    """Return the terms of an objective on a batch by name, each a scalar tensor."""
    result = objective(model, *batch)
    terms = {"loss": result} if isinstance(result, mg.Tensor) else result
    if not isinstance(terms, Mapping) or not terms:
        raise DTypeError(f"fit: the objective returned {result!r}; expected a scalar tensor or a dict of them")
    for name, term in terms.items():
        if not isinstance(name, str) or not isinstance(term, mg.Tensor):
            raise DTypeError(
                f"fit: the objective's term {name!r} is a {type(term).__name__}; expected tensors, named by str"
            )
        if name == "seconds" or name.startswith("validation "):
            raise DataError(
                f"fit: the objective's term {name!r} has the name of another curve of a History; give it another"
            )
        if term.shape != ():
            raise ShapeError(
                f"fit: the objective's term {name!r} has shape {term.shape}; expected a scalar, such as a sum or a mean"
            )
    return terms


def sum_of(terms: Mapping[str, mg.Tensor]) -> mg.Tensor:
    """Return the sum of the terms: what is minimised."""
    first, *others = terms.values()
    total = sum(others, start=first)
    if not total.requires_grad:
        raise GraphError("fit: the objective does not depend on the model's parameters; compute it with model(x)")
    return total


class Means:
    """Means over all samples of the terms that come batch by batch."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._samples = 0

    def add(self, values: Mapping[str, float], size: int) -> None:
        """Take in the means over a batch of `size` samples."""
        if self._sums and values.keys() != self._sums.keys():
            raise DataError(
                f"fit: the objective returned the terms {sorted(values)}, and {sorted(self._sums)} for an earlier "
                "batch; expected the same names every time"
            )
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * size
        self._samples += size

    @property
    def values(self) -> dict[str, float]:
        """The means by name."""
        return {name: total / self._samples for name, total in self._sums.items()}


class Unread:
    """Terms of batches that stay on a GPU, where the host would have to wait for each of them, to be read together."""

    def __init__(self) -> None:
        self._kept: list[tuple[Any, tuple[str, ...], mg.Tensor]] = []

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, batch: Any, names: tuple[str, ...], vector: mg.Tensor) -> None:
        """Keep the terms of a batch, which `vector_of` made a vector of."""
        self._kept.append((batch, names, vector))

    def read(self) -> Iterator[tuple[Any, dict[str, float]]]:
        """Yield what `batch` was for each of them, with the values of the terms, and forget them."""
        kept, self._kept = self._kept, []
        if kept:
            values = iter(mg.concat([vector for _, _, vector in kept]).numpy().tolist())
            yield from ((batch, {name: next(values) for name in names}) for batch, names, _ in kept)


def vector_of(terms: Mapping[str, mg.Tensor]) -> mg.Tensor:
    """Return a copy of the terms as one vector, without a graph; terms of several dtypes as float64."""
    same = len({t.dtype for t in terms.values()}) == 1
    return mg.stack([t.detach() if same else t.detach().to("float64") for t in terms.values()])


def measure(model: nn.Module, source: Source, objective: Objective, seed: int) -> dict[str, float]:
    """Return the means of the terms over all samples, always with the same noise, without a change to anything."""
    means, unread = Means(), Unread()
    with undone(), noise(seed, VALIDATION_NOISE):
        for generator in generators_of(model).values():
            generator.set_state({**generator.state(), "counter": VALIDATION_COUNTER})
        for batch in source.batches(None, shuffle=False):
            if batch[0].device.type == "cpu":
                terms = _without_graph(objective, model, batch)
                means.add({name: float(term.item()) for name, term in terms.items()}, len(batch[0]))
            else:  # a look at the values of every batch would make the host wait
                with mg.modes.unchecked() if len(unread) else nullcontext():
                    terms = _without_graph(objective, model, batch)
                unread.add(len(batch[0]), tuple(terms), vector_of(terms))
        for size, values in unread.read():
            means.add(values, size)
    return means.values


def _without_graph(objective: Objective, model: nn.Module, batch: Batch) -> Mapping[str, mg.Tensor]:
    try:
        with mg.no_grad():
            return terms_of(objective, model, batch)
    except GraphError:  # it takes gradients of its own
        return terms_of(objective, model, batch)


@contextmanager
def noise(seed: int, stream: int) -> Iterator[Any]:
    """Let the default generator draw from `seed` and `stream` inside the block, and go on as before after it."""
    generator = mg.random.default_generator()
    before = generator.state()
    generator.set_state({"seed": seed, "stream": stream, "counter": 0})
    try:
        yield generator
    finally:
        generator.set_state(before)
