"""The table of primitives: what one row holds, and what a row must have to be accepted."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from .. import tape
from ..errors import MinigradError, ShapeError


@dataclass(frozen=True)
class Domain:
    """Values that one array input is drawn from when a primitive is tested."""

    low: float
    high: float
    kind: str = "real"  # "real", "bool" or "int"
    avoid: tuple[float, ...] = ()  # kinks, kept at a distance when derivatives are compared


@dataclass(frozen=True)
class Samples:
    """A plain description of valid inputs; `minigrad.testing` turns it into hypothesis strategies.

    Attributes
    ----------
    shapes : str or callable
        A family of shapes: "any" (each input has one of its own), "broadcast" (they broadcast against each other), or a
        key of `FAMILIES` in `minigrad/testing/families.py`, where a new family of the library is added. It is looked up
        when inputs are drawn, for which hypothesis is needed. A family draws the options of the forward too. A function
        is a family as those of `FAMILIES` are: from hypothesis' `draw` to (shapes, options, None or a function that
        turns arrays of free numbers into valid inputs).
    domains : tuple of Domain
        One for each input; the last one also stands for further inputs.
    ties : bool
        Whether there are kinks where inputs are equal to each other.
    analytic : bool
        Whether the forward is a complex-analytic function, so that the complex step is valid.
    """

    shapes: str | Callable[[Any], tuple]
    domains: tuple[Domain, ...]
    ties: bool = False
    analytic: bool = True

    def __post_init__(self) -> None:
        domains: Any = self.domains
        if not isinstance(domains, tuple) or not domains or not all(isinstance(d, Domain) for d in domains):
            raise MinigradError(
                f"the domains of samples are a tuple of at least one Domain, one for each input, got {domains!r}"
            )


class Primitive:
    """One operation: its forward, and one derivative rule per array input. Calling it applies it to tensors."""

    def __init__(
        self,
        name: str,
        forward: Callable,
        vjps: Sequence[Callable | None] | Callable | None,
        samples: Samples | None = None,
        saves: str = "",
        elementwise: bool = False,
        keeps_dtype: bool = True,
        view: bool = False,
        effect: bool = False,
        doc: str = "",
    ) -> None:
        self.name = name  # first: a traceback may print an object that is then refused
        if not isinstance(name, str) or not name:
            raise MinigradError(f"the name of a primitive is a string, got {name!r}")
        if name in primitives:  # passes and compiled steps know those of the table by their names
            raise MinigradError(f"there is already a primitive called {name!r}")
        parameters = list(inspect.signature(forward).parameters.values())[1:]
        unclear = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        if unclear:
            raise MinigradError(
                f"primitive {name!r}: its forward takes {', '.join(unclear)} by position and by name; write arrays "
                "before a `/`, and options and `out` after a `*`: (xp, x, /, *, axis, out=None)"
            )
        inputs = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
        rest = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
        metadata = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "out"]
        self.metadata = [p.name for p in metadata]
        self.defaults = {p.name: p.default for p in metadata if p.default is not p.empty}
        self.forward = forward
        self.arity = len(inputs)
        self.variadic = bool(rest)
        self.vjps: Any = vjps
        self.rule_for_any: Any = vjps if callable(vjps) else None  # one rule takes any position of many inputs
        self.saves = saves
        self.saves_result = "y" in saves
        self.saved_inputs = tuple(n in saves for n in inputs)
        self.saves_rest = bool(rest) and rest[0] in saves
        self.saves_inputs = self.saves_rest or any(self.saved_inputs)
        self.saves_all_inputs = all(self.saved_inputs) and (self.saves_rest or not rest)
        self.takes_out = any(p.name == "out" for p in parameters)
        self.elementwise = elementwise
        self.keeps_dtype = keeps_dtype
        self.view = view
        self.effect = effect  # writes into its first input and returns it
        # what a foreign forward returns is checked in each call; what those of the library return, by tests
        self.foreign = not effect and not str(getattr(forward, "__module__", "")).startswith("minigrad.")
        self.may_share = view or self.foreign
        self.__doc__ = doc
        if taken := {"F", "g", "y"} & {*inputs, *rest}:
            raise MinigradError(
                f"primitive {name!r} calls an array {min(taken)!r}; in its rules F, g and y are the namespace, the "
                "cotangent and the result: use another letter"
            )
        unknown = set(saves) - {"y", *inputs, *rest}
        if unknown:
            raise MinigradError(f"primitive {name!r} saves {sorted(unknown)}, which its forward does not take")
        if not isinstance(samples, Samples):
            raise MinigradError(f"primitive {name!r} has no samples: without them its derivatives cannot be tested")
        self.samples = samples
        if isinstance(vjps, Sequence) and len(vjps) != self.arity:
            raise MinigradError(f"primitive {name!r} has {len(vjps)} derivative rules for {self.arity} array inputs")
        for rule in [vjps] if callable(vjps) else vjps or ():
            takes = [*(["position"] if callable(vjps) else []), "F", "g", "y", *inputs, *rest]
            if rule is not None and not _can_be_called(rule, takes, self.metadata):
                expected = ", ".join([*takes, *(f"{option}=" for option in self.metadata)])
                raise MinigradError(
                    f"primitive {name!r}: its derivative rules are called as rule({expected}), and one cannot be"
                )

    def saves_input(self, position: int) -> bool:
        """Return whether the rules read the value of the input at `position`."""
        return self.saved_inputs[position] if position < self.arity else self.saves_rest

    def __call__(self, *args: Any, **metadata: Any) -> Any:
        if self.variadic and self.arity == 0:
            arrays, given = tuple(*args[:1]), args[1:]
            if args and not arrays:
                raise ShapeError(f"{self.name} needs at least one array, got an empty sequence")
        elif self.variadic:
            arrays, given = args, ()
        else:
            arrays, given = args[: self.arity], args[self.arity :]
        if len(given) > len(self.metadata) or (not self.variadic and len(arrays) < self.arity) or not arrays:
            takes = f"{self.arity or 'a sequence of'} array{'s' * (self.arity != 1)}"
            raise TypeError(
                f"{self.name} takes {takes} and {self.metadata or 'nothing else'}, got {len(args)} arguments"
            )
        unknown = metadata.keys() - self.metadata if metadata else None
        if unknown:
            options = f"has the options {', '.join(self.metadata)}" if self.metadata else "has no options"
            raise TypeError(f"{self.name} {options}; got {min(unknown)}")
        if given:
            metadata = {**dict(zip(self.metadata, given, strict=False)), **metadata}
        return tape.apply(self, *arrays, **metadata)

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        # a row of the table goes by its name into a pickle; any other only copies, as itself
        return (_row, (self.name,)) if primitives.get(self.name) is self else self.name


def _can_be_called(function: Callable, arguments: list[str], options: list[str]) -> bool:
    """Return whether a function takes so many arguments, and options of these names."""
    try:
        inspect.signature(function).bind(*arguments, **dict.fromkeys(options))
    except TypeError:
        return False
    except ValueError:  # a function written in C does not tell
        return True
    return True


primitives: dict[str, Primitive] = {}
namespaces: dict[Any, SimpleNamespace] = {}  # the F of rules by array module; None: on tensors


def _row(name: str) -> Primitive:
    """Return the primitive that was pickled."""
    return primitives[name]


def primitive(name: str, **row: Any) -> Primitive:
    """Add one row to the table: see `Primitive` for its fields."""
    primitives[name] = Primitive(name, **row)
    namespaces.clear()  # a row of the same name may have been taken out
    return primitives[name]
