"""A node of the graph: how a tensor was made."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .devices import Device
    from .primitives.registry import Primitive
    from .tensor import Tensor, Version


class Node:
    """How a tensor was made: its primitive, the parents' nodes, and the values that the derivative rules need.

    A node knows the shape and dtype of its tensor but never holds the tensor itself, so graphs have no cycles. It is
    also what a rule gets for an input that it did not declare as saved: shape and dtype, no values.
    A leaf has no primitive; it keeps the gradient.
    """

    __slots__ = (
        "__weakref__", "device", "dtype", "grad", "hooks", "id", "inputs", "metadata", "parents", "primitive", "result",
        "shape", "versions",
    )  # fmt: skip
    __array_ufunc__ = None  # an array times a node is an error, not an array of objects

    primitive: Primitive | None
    parents: tuple[Node | None, ...]
    # tensors where the value is saved, nodes in the place of others, and numbers; None once the graph is released
    inputs: tuple | None
    metadata: dict[str, Any]
    result: Any  # an array, if it is saved: the tensor would hold this node
    versions: tuple[tuple[Version, int], ...] | None  # of what is saved and assign() could change
    hooks: dict[object, Callable] | None
    grad: Tensor | None

    def __init__(self, array: Any, device: Device) -> None:
        self.id = next(ids)
        self.shape: tuple[int, ...] = array.shape
        self.dtype = array.dtype
        self.device = device
        self.primitive = None
        self.parents = self.inputs = ()
        self.metadata = NO_METADATA
        self.result = self.versions = self.hooks = self.grad = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        size = 1
        for n in self.shape:
            size *= n
        return size

    def __repr__(self) -> str:
        return f"<node {self.primitive.name if self.primitive else 'leaf'} {self.dtype}{list(self.shape)}>"


ids = itertools.count()  # they grow, so that the order of ids is the order of making
NO_METADATA: dict[str, Any] = {}  # that of all leaves
