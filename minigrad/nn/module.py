"""Module: a function with parameters, which finds them in its attributes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from reprlib import recursive_repr
from typing import Any, Self

import numpy as np

from .. import observers
from ..devices import Device, device
from ..dtypes import number_dtype
from ..errors import DataError, DTypeError
from ..parameter import Parameter
from ..state import check
from ..tensor import Tensor, tensor


class Buffer(Tensor):
    """A tensor that belongs to a module and is saved with it, but is not trained, such as a running mean.

    Examples
    --------
    >>> from minigrad import nn
    >>> nn.Buffer([0.0, 0.0])
    buffer([0., 0.])
    """

    __slots__ = ()

    def __init__(self, data: Any, dtype: Any = None, device: Any = None) -> None:
        source = tensor(data, dtype=dtype, device=device)
        self._array, self.device, self._node, self._version = source._array, source.device, None, source._version


class Module:
    """A function with parameters: subclass it, set parameters and modules as attributes, and write `forward`.

    Parameters and modules are found in the attributes, and in lists, tuples and dicts there. A parameter or module
    that is held twice (tied weights) is one: it is reported once, under the first name.

    Attributes
    ----------
    training : bool
        What `train` and `eval` set, for a forward pass that differs between the two.

    Examples
    --------
    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> class Scale(nn.Module):
    ...     def __init__(self):
    ...         self.factor = mg.Parameter([2.0])
    ...
    ...     def forward(self, x):
    ...         return self.factor * x
    >>> scale = Scale()
    >>> scale(mg.tensor([3.0])).numpy()
    array([6.], dtype=float32)
    >>> [name for name, _ in scale.named_parameters()]
    ['factor']
    """

    _training: bool = True

    @property
    def training(self) -> bool:
        """Whether this module is being trained."""
        observers.note(self, "_training")  # what is recorded now holds for this mode only
        return self._training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the result; a subclass says how."""
        raise NotImplementedError(f"{type(self).__name__} has no forward method; write one in the class")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    # What it holds

    def _attributes(self) -> Iterable[tuple[str, Any]]:
        """Return what to search for parameters and modules, by name."""
        return vars(self).items()

    def _members(self) -> Iterator[tuple[str, Parameter | Buffer | Module]]:
        """Yield the parameters, buffers and modules that this one holds itself, as often as it holds them."""
        for name, value in self._attributes():
            yield from _held(name, value)

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """Yield this module, under the name "", and all modules below it, each once, with dotted names."""
        stack: list[tuple[str, Module]] = [("", self)]
        seen: set[int] = set()
        while stack:
            prefix, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield prefix, module
            children = [(_join(prefix, name), m) for name, m in module._members() if isinstance(m, Module)]
            stack += reversed(children)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield every parameter once, with its dotted name, such as "encoder.0.weight".

        Raises
        ------
        DataError
            Two parameters have the same name: a key of a dict with a dot or a number as the key makes that possible.
        """
        return ((name, t) for name, t in self.named_tensors() if isinstance(t, Parameter))

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Yield every buffer once, with its dotted name."""
        return ((name, t) for name, t in self.named_tensors() if isinstance(t, Buffer))

    def named_tensors(self) -> Iterator[tuple[str, Parameter | Buffer]]:
        """Yield every parameter and buffer once, with its dotted name."""
        seen: set[int] = set()
        names: set[str] = set()
        for prefix, module in self.named_modules():
            for own_name, held in module._members():
                if isinstance(held, Module) or id(held) in seen:
                    continue
                name = _join(prefix, own_name)
                if name in names:
                    raise DataError(f"two parameters are called {name!r}; rename the key of the dict that holds one")
                seen.add(id(held))
                names.add(name)
                yield name, held

    def parameters(self) -> Iterator[Parameter]:
        """Yield every parameter once."""
        return (parameter for _, parameter in self.named_parameters())

    # Saved values

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return a copy of the values of every parameter and buffer, by name.

        Examples
        --------
        >>> from minigrad import nn
        >>> {name: array.shape for name, array in nn.Linear(3, 2).state_dict().items()}
        {'weight': (3, 2), 'bias': (2,)}
        """
        return {name: held.detach().numpy().copy() for name, held in self.named_tensors()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Set the parameters and buffers to the values of `state`, or change nothing and raise.

        Parameters
        ----------
        state : dict of str to array or Tensor
            As `state_dict` returns it.
        strict : bool
            Whether the names must be those of this module; otherwise names on one side only are left out.

        Raises
        ------
        DataError, ShapeError, DTypeError
            A name is missing or unknown, or an array has another shape or dtype than its parameter.
        """
        held: dict[str, Tensor] = dict(self.named_tensors())
        arrays = check(f"{type(self).__name__}.load_state_dict", held, state, strict)
        # all copies are made before the first change: a value may be the memory of another of these tensors
        copies = {name: held[name].device.put(array) for name, array in arrays.items()}
        for name, copy in copies.items():
            held[name].assign(copy)

    # What it does to all below

    def train(self, mode: bool = True) -> Self:
        """Set `training` here and in every module below; return this module."""
        for _, module in self.named_modules():
            observers.note(module, "_training")  # a program holds for the mode in which the step began
            module._training = bool(mode)
        return self

    def eval(self) -> Self:
        """Set `training` to False here and in every module below; return this module."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradient of every parameter."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self, target: Any) -> Self:
        """Move parameters and buffers to another device, or convert them to another floating dtype; return this module.

        The parameters stay the same objects and lose their gradients. What an optimizer keeps for them follows to the
        other device at its next step; for another dtype, make the optimizer after the conversion.

        Parameters
        ----------
        target : str, Device or dtype
            "cpu", "cuda", "cuda:1", a device, or a dtype such as "float64".

        Examples
        --------
        >>> from minigrad import nn
        >>> nn.Linear(3, 2).to("float64").weight.dtype
        dtype('float64')
        """
        options: dict[str, Any]
        if isinstance(target, Device) or (isinstance(target, str) and target.partition(":")[0] in ("cpu", "cuda")):
            options = {"device": device(target)}
        else:
            options = {"dtype": number_dtype(target)}
            if options["dtype"].kind != "f":
                raise DTypeError(f"parameters are floating, so Module.to cannot convert them to {options['dtype']}")
        # all copies are made before the first parameter changes: a full device leaves the module as it was
        moved = [
            (held, type(held)(held.detach(), **options))
            for _, held in self.named_tensors()
            if "device" in options or held.dtype.kind == "f"  # a buffer may count
        ]
        for held, copy in moved:
            if held._version is not None:  # a graph that saved the tensor would read the copy
                held._version.count += 1
            held._array, held.device, held._node, held._version = copy._array, copy.device, copy._node, copy._version
        return self

    def describe(self) -> str:
        """Return what `repr` shows in the parentheses, before the modules below; a subclass may say more."""
        return ""

    @recursive_repr()  # a module may hold one that holds it
    def __repr__(self) -> str:
        children = [(name, repr(module)) for name, module in self._members() if isinstance(module, Module)]
        lines = "".join(f"\n  ({name}): " + text.replace("\n", "\n  ") for name, text in children)
        return f"{type(self).__name__}({self.describe()}{lines}{chr(10) if lines else ''})"


def _held(name: str, value: Any) -> Iterator[tuple[str, Parameter | Buffer | Module]]:
    """Yield the parameters, buffers and modules in an attribute, looking into lists, tuples and dicts."""
    if isinstance(value, Parameter | Buffer | Module):
        yield name, value
    elif isinstance(value, list | tuple | dict):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _held(f"{name}.{key}", item)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
