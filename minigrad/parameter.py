"""Parameters: the tensors that training changes."""

from __future__ import annotations

from typing import Any

from .errors import GraphError
from .tensor import Tensor, tensor


class Parameter(Tensor):
    """A leaf that requires grad and that modules and optimizers find: `mg.Parameter(data)` copies `data`.

    `w -= step` is refused: Python would make `w` the name of another tensor, which no module or optimizer has.
    """

    __slots__ = ()

    def __init__(self, data: Any, dtype: Any = None, device: Any = None) -> None:
        source = tensor(data, dtype=dtype, device=device, requires_grad=True)
        self._array = source._array
        self.device = source.device
        self._node = source._node
        self._version = source._version

    def __iadd__(self, other: Any) -> Tensor:
        raise _not_in_place("+")

    def __isub__(self, other: Any) -> Tensor:
        raise _not_in_place("-")

    def __imul__(self, other: Any) -> Tensor:
        raise _not_in_place("*")

    def __itruediv__(self, other: Any) -> Tensor:
        raise _not_in_place("/")

    def __ipow__(self, other: Any) -> Tensor:
        raise _not_in_place("**")

    def __imatmul__(self, other: Any) -> Tensor:
        raise _not_in_place("@")


def _not_in_place(operator: str) -> GraphError:
    return GraphError(
        f"w {operator}= x would make w a new tensor, no parameter any more; to change a parameter, write "
        f"w.assign(w {operator} x), and for a new tensor y = w {operator} x"
    )
