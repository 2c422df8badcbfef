"""Gradients of tensors that operations made: `Tensor.backward` and `grad`, both one `sweep`."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

from . import modes, observers
from .errors import GraphError, ShapeError
from .node import Node
from .sweep import is_writable, sweep
from .tensor import Tensor, Version, tensor


def stand_in(x: Tensor, connected: bool) -> Tensor:
    """Return a variable of the value of x to differentiate by: a leaf, or one that derivatives by x pass through.

    It has a node of its own: nested differentiations by one tensor do not get into each other's way.
    """
    if connected:
        return x - 0.0  # not x + 0.0, which makes 0 of -0, nor x * 1.0, which saves x
    return Tensor._wrap(x._array, x.device, Node(x._array, x.device), x._version)


def _seed(output: Tensor, gradient: Any, as_tensors: bool) -> Any:
    """Return the cotangent to start from, as the sweep wants it: a tensor or a raw array."""
    if output._node is None:
        raise GraphError("this tensor does not require grad: nothing that made it does, or it was made under no_grad")
    if gradient is None:
        if output.size != 1:
            raise ShapeError(
                f"only a scalar has a gradient without a direction, got shape {output.shape}; "
                "reduce it, or pass a gradient of that shape"
            )
        gradient = output.device.xp.ones(output.shape, output.dtype)
        if not as_tensors:
            return gradient
        gradient = Tensor._wrap(gradient, output.device, None)
        observers.note_seed(gradient)
        return gradient
    gradient = gradient if isinstance(gradient, Tensor) else tensor(gradient, output.dtype, output.device)
    output._check_gradient(gradient)
    if not as_tensors:
        return gradient._array
    observers.note_seed(gradient)
    return gradient


def _as_gradient(node: Node, g: Any, owned: bool, create_graph: bool) -> Tensor:
    """Wrap a finished cotangent as a tensor that shares its memory with nothing, unless it has a graph."""
    if isinstance(g, Tensor):
        if observers.recording():
            return observers.result_of(g)
        if create_graph and g._node is not None:
            return g
        # no derivative passes through it: it is what it would be if nobody looked at the operations
        g, owned = g._array, False
    array = node.device.xp.array(g, dtype=node.dtype, copy=None if owned and is_writable(g) else True)
    return Tensor._wrap(array, node.device, None, Version())


_storing = threading.RLock()  # held while one attribute is compared and set; a signal's handler may do so too


def _after_fork() -> None:
    """Let a child not wait for a thread of its parent."""
    global _storing
    _storing = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _accumulate(leaf: Node, new: Tensor) -> None:
    """Add to the gradient of a leaf, to which other threads may be adding theirs."""
    while True:
        before = leaf.grad
        if before is not None:
            observers.refuse_from_before(before)
        total = new if before is None else before + new
        with _storing:
            if leaf.grad is before:
                observers.note_gradient(leaf, added=True)
                leaf.grad = total
                return


def backward(output: Tensor, gradient: Any, retain_graph: bool, create_graph: bool) -> None:
    """Accumulate gradients in the leaves below `output`: see `Tensor.backward`."""
    # not `with`: an interrupt could come while the context manager, which is Python code, leaves
    before = modes.state.grad_enabled
    try:
        modes.state.grad_enabled = create_graph
        _backward(output, gradient, retain_graph, create_graph)
    finally:
        modes.state.grad_enabled = before


def _backward(output: Tensor, gradient: Any, retain_graph: bool, create_graph: bool) -> None:
    as_tensors = create_graph or observers.observed()
    seed = _seed(output, gradient, as_tensors)
    assert output._node is not None
    found = sweep({output._node: seed}, None, retain_graph or create_graph, as_tensors)
    for leaf, (g, owned) in found.items():
        _accumulate(leaf, _as_gradient(leaf, g, owned, create_graph))


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the sum of `outputs` with respect to each of `inputs`; no `.grad` is touched.

    Parameters
    ----------
    outputs, inputs : Tensor or sequence of Tensor
        Inputs may be leaves or results of operations.
    grad_outputs : Tensor, array or number, or a list or tuple of them, optional
        One cotangent for each output, of its shape; may be left out for scalars.
    retain_graph : bool, optional
        Keep the graph for another pass; by default the value of `create_graph`.
    create_graph : bool
        Let the pass leave nodes too, so that the gradients can be differentiated again.
    allow_unused : bool
        Return None for an input that the outputs do not depend on, instead of raising GraphError.

    Examples
    --------
    >>> import minigrad as mg
    >>> x = mg.tensor(3.0, requires_grad=True)
    >>> (dy,) = mg.autograd.grad(x ** 3, x, create_graph=True)
    >>> mg.autograd.grad(dy, x)
    (tensor(18.),)
    """
    outs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    ins = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    given = list(grad_outputs) if isinstance(grad_outputs, list | tuple) else [grad_outputs]
    if len(given) == 1 and given[0] is None:
        given *= len(outs)
    if len(given) != len(outs):
        raise ShapeError(f"grad got {len(outs)} outputs and {len(given)} grad_outputs")
    for i, x in enumerate(ins):
        if x._node is None:
            raise GraphError(f"input {i} of grad does not require grad")
    retain_graph = create_graph if retain_graph is None else retain_graph
    # not `with`: see `backward`
    before = modes.state.grad_enabled
    try:
        modes.state.grad_enabled = create_graph
        return _grad(outs, ins, given, retain_graph, create_graph, allow_unused)
    finally:
        modes.state.grad_enabled = before


def _grad(
    outs: list[Tensor], ins: list[Tensor], given: list, retain_graph: bool, create_graph: bool, allow_unused: bool
) -> tuple[Tensor | None, ...]:
    as_tensors = create_graph or observers.observed()
    cotangents: dict[Node, Any] = {}
    for output, gradient in zip(outs, given, strict=True):
        seed = _seed(output, gradient, as_tensors)
        assert output._node is not None
        known = cotangents.get(output._node)
        cotangents[output._node] = seed if known is None else known + seed
    targets = {x._node for x in ins if x._node is not None}
    found = sweep(cotangents, targets, retain_graph, as_tensors)
    result: list[Tensor | None] = []
    for i, x in enumerate(ins):
        assert x._node is not None
        if x._node in found:
            g, owned = found[x._node]
            result.append(_as_gradient(x._node, g, owned, create_graph))
            found[x._node] = g, False  # an input may be given twice
        elif allow_unused:
            result.append(None)
        else:
            raise GraphError(f"the outputs do not depend on input {i}; pass allow_unused=True to get None for it")
    return tuple(result)
