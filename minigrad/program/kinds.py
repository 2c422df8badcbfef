"""Kinds: what two calls of a compiled function must have in common, so that one program serves both."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from .. import modes, trees
from ..devices import default_device
from ..errors import DTypeError
from ..tensor import Tensor


def kind_of(args: tuple, nodes: dict[Any, int] | None = None) -> tuple:
    """Return what two calls must have in common to be served by one program; `nodes` are those of tensors before."""
    kind: list[Any] = [modes.grad_enabled(), default_device().name]
    nodes = {} if nodes is None else nodes
    for x in args:
        if isinstance(x, Tensor):
            a, node = x._array, x._node
            kind += (type(x), a.shape, a.dtype, a.strides, x.device.name)
            # which of them are one variable, and whether it is a leaf
            kind += (None,) if node is None else (nodes.setdefault(node, len(nodes)), node.primitive is None)
        elif isinstance(x, trees.TREES):
            if attributes := trees.attributes(x):
                raise DTypeError(
                    f"a compiled function got a {type(x).__name__} with the attributes {', '.join(attributes)}, in "
                    "which a change would go unnoticed; give them as arguments of their own, or as items"
                )
            kind += [type(x), len(x), *(map(_hashed, x) if isinstance(x, dict) else ())]
            if isinstance(x, defaultdict):
                kind += _hashed(x.default_factory)
            kind += kind_of(tuple(x.values()) if isinstance(x, dict) else tuple(x), nodes)
        elif isinstance(x, np.ndarray):
            kind += (np.ndarray, x.shape, x.dtype, x.strides)
        else:
            kind += _hashed(x)
    return tuple(kind)


def is_same(x: Any, y: Any) -> bool:
    """Return whether two arguments that are no tensors are one to a program."""
    if x is y:
        return True
    a, b = _value(x), _value(y)
    try:
        return hash(a) == hash(b) and a == b  # tensors in a set are equal where their values are
    except TypeError:
        return bool(a == b)


def _value(x: Any) -> tuple:
    """Return what tells an argument that is no tensor from others, also after it was changed in place."""
    if isinstance(x, slice):
        return (slice, *map(_value, (x.start, x.stop, x.step)))
    if isinstance(x, set | frozenset | tuple):  # a set in the order in which a step would go through it
        return (type(x), *map(_value, x))
    # 0.0 and -0.0 are equal
    return (type(x), x, repr(x)) if isinstance(x, float | complex | np.inexact) else (type(x), x)


def _hashed(x: Any) -> tuple:
    value = _value(x)
    try:
        hash(value)
    except TypeError as error:
        raise DTypeError(
            f"a compiled function got a {type(x).__name__}, in which a change would go unnoticed ({error}). Give what "
            "is used of it as tensors, numbers, lists or dicts, or give its class a hash, as a frozen dataclass has"
        ) from error
    return value
