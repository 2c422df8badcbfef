"""The backward pass: `sweep` walks the nodes from the newest to the oldest and lets each hand its cotangent on.

The ids of nodes grow, so an id order is a topological order and nothing needs recursion. What a node hands to its
parents is told by the rules in the table of primitives.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from operator import attrgetter
from sys import getrefcount
from types import SimpleNamespace
from typing import Any

from .devices import Device, out_of_memory
from .errors import GraphError, MinigradError, OutOfMemoryError, ShapeError
from .modes import state
from .node import NO_METADATA, Node
from .primitives import primitives
from .primitives.registry import Primitive, namespaces
from .tape import apply
from .tensor import Tensor


def _count_of_one() -> int:
    """Return what `getrefcount` says of an object that one variable holds: 2, or 1 from Python 3.14 on."""
    x = object()
    return getrefcount(x)


HELD_HERE = _count_of_one()


def _namespace(xp: Any) -> SimpleNamespace:
    """Return the F of derivative rules: bare forwards on arrays of `xp`, or operations on tensors for None."""
    found = namespaces.get(xp)
    if found is None or len(found.__dict__) != len(primitives):
        bind = (lambda p: partial(apply, p)) if xp is None else (lambda p: partial(p.forward, xp))
        found = namespaces[xp] = SimpleNamespace(**{name: bind(p) for name, p in primitives.items()})
    return found


_number = attrgetter("id")


def reachable(roots: Iterable[Node], targets: set[Node] | None, beyond: bool = True) -> list[Node]:
    """Return the nodes to sweep, newest first: all that the roots depend on and that lead to a target (None: all).

    Without `beyond`, what is behind a target is left out.
    """
    seen = set(roots)
    stack = list(seen)
    while stack:
        node = stack.pop()
        if not beyond and targets is not None and node in targets:
            continue
        for parent in node.parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    nodes = sorted(seen, key=_number)
    if targets is not None:
        needed: set[Node] = set()
        for node in nodes:  # oldest first, so parents are decided before children
            if node in targets or any(parent in needed for parent in node.parents):
                needed.add(node)
        nodes = [node for node in nodes if node in needed]
    nodes.reverse()
    return nodes


def leaves(root: Node) -> set[Node]:
    """Return the leaves that `root` depends on."""
    return {node for node in reachable([root], None) if node.primitive is None}


def sweep(
    cotangents: dict[Node, Any],
    targets: set[Node] | None,
    retain_graph: bool,
    as_tensors: bool,
    beyond: bool = True,
) -> dict[Node, tuple[Any, bool]]:
    """Propagate cotangents from the roots back; return those of the targets (None: of all leaves).

    Without `beyond` the sweep ends before the targets, whose hooks are left to a sweep that goes on.

    Cotangents are raw arrays, or tensors with `as_tensors`: the rules are then operations like any other, which can
    be differentiated and recorded. Each comes with whether its memory belongs to nobody else.
    """
    before = state.sweeping
    try:
        return _sweep(cotangents, targets, retain_graph, as_tensors, beyond)
    finally:
        state.sweeping = before


def _sweep(
    cotangents: dict[Node, Any], targets: set[Node] | None, retain_graph: bool, as_tensors: bool, beyond: bool
) -> dict[Node, tuple[Any, bool]]:
    found: dict[Node, tuple[Any, bool]] = {}
    nodes = reachable(cotangents, targets, beyond)
    wanted = None if targets is None else set(nodes)
    owned: set[Node] = set()  # whose cotangent is memory of this sweep alone: a further term may be added in place
    F: Any = None
    device: Device | None = None
    for node in nodes:
        g = cotangents.pop(node, None)
        if g is None:
            continue
        if node.hooks is not None and (beyond or targets is None or node not in targets):
            g = _run_hooks(node, g, as_tensors)
        primitive = node.primitive
        if primitive is None or (targets is not None and node in targets):
            if targets is None or node in targets:
                found[node] = g, primitive is None and node in owned and node.hooks is None
            if primitive is None or not beyond or (wanted is not None and wanted.isdisjoint(node.parents)):
                continue
        if node.device is not device:
            device = node.device
            F = _namespace(None if as_tensors else device.xp)
        if as_tensors:
            state.sweeping = node
        if node.inputs is None or node.versions is not None:
            _check_saved(node, primitive)
        inputs: Any = node.inputs
        y: Any = node if node.result is None else node.result
        if as_tensors and y is not node:
            y = Tensor._wrap(y, device, node)
        elif primitive.saves_inputs and not as_tensors:
            inputs = [x._array if isinstance(x, Tensor) else x for x in inputs]
        for_any = primitive.rule_for_any
        for position, parent in enumerate(node.parents):
            if parent is None or (wanted is not None and parent not in wanted):
                continue
            rule = primitive.vjps[position] if for_any is None else partial(for_any, position)
            if rule is None:
                continue
            try:
                contribution = rule(F, g, y, *inputs, **node.metadata)
            except MemoryError as error:
                if isinstance(error, OutOfMemoryError):
                    raise
                raise out_of_memory(device, f"the derivative of {primitive.name}", error) from None
            except (TypeError, AttributeError) as error:
                if isinstance(error, MinigradError):
                    raise
                raise _failed(primitive, position, error) from error
            if contribution is None:
                continue
            try:
                fits = contribution.shape == parent.shape
            except AttributeError:
                raise _no_array(primitive, position, contribution) from None
            if not as_tensors and isinstance(contribution, Tensor):
                raise _no_array(primitive, position, contribution)
            if not fits:
                contribution = _sum_to(F, contribution, node, parent)
            if contribution.dtype is not parent.dtype and contribution.dtype != parent.dtype:
                contribution = F.astype(contribution, dtype=parent.dtype)
            known = cotangents.get(parent)
            if known is None:
                # nobody else holds it: neither the graph nor a rule that returns what it has at hand
                if not as_tensors and contribution.base is None and getrefcount(contribution) == HELD_HERE:
                    owned.add(parent)
                cotangents[parent] = contribution
            elif as_tensors or parent not in owned or known.strides != contribution.strides or not is_writable(known):
                # in place only where the sum would have the same layout: a program, whose sums are new, has these bits
                cotangents[parent] = known + contribution
                owned.add(parent)
            else:
                known += contribution
                cotangents[parent] = known
        if not retain_graph:  # the parents stay: a later pass must know whether it would have come through here
            node.inputs = None
            node.result = None
            node.metadata = NO_METADATA
    return found


def is_writable(a: Any) -> bool:
    """Return whether an array may be written to."""
    return getattr(a.flags, "writeable", True)  # CuPy knows no other arrays


def _failed(primitive: Primitive, position: int, error: Exception) -> GraphError:
    """Say which rule failed; what the graph does not keep has a node in its place, on which no function works."""
    failed = f"the derivative rule of {primitive.name} for input {position} failed: {error}"
    if Node.__name__ not in str(error):  # then it is about something else
        return GraphError(
            f"{failed}; a rule uses operators and F alone, not NumPy, and F has the rows of mg.primitives alone, which "
            "take their options by keyword"
        )
    kept = f"saves={primitive.saves!r}" if primitive.saves else "nothing (it has no `saves`)"
    return GraphError(
        f"{failed}; of its result and its inputs the graph keeps the values that the row names in `saves`, here "
        f"{kept}, and shape and dtype of all others"
    )


def _no_array(primitive: Primitive, position: int, returned: Any) -> GraphError:
    instead = "compute it from g, or with F.broadcast_to"
    if isinstance(returned, Tensor):
        instead = "make the tensor that it uses besides its arguments an input of the operation"
    return GraphError(
        f"the derivative rule of {primitive.name} for input {position} returned a {type(returned).__name__}, not an "
        f"array: {instead}"
    )


def _check_saved(node: Node, primitive: Primitive) -> None:
    """Raise where the values that a node's rules read are no longer there, or no longer the same."""
    if node.inputs is None:
        raise GraphError(
            f"the graph through {primitive.name} was released by an earlier backward pass; "
            "pass retain_graph=True to that one"
        )
    for version, count in node.versions or ():
        if version.count != count:
            raise GraphError(
                f"a value that {primitive.name} saved for its derivative was changed by assign() "
                "or Module.to() before backward; call backward first, or assign to another tensor"
            )


def _sum_to(F: SimpleNamespace, g: Any, node: Node, parent: Node) -> Any:
    """Undo broadcasting: bring a gradient to the shape of its input."""
    try:
        return F.sum_to(g, shape=parent.shape)
    except ValueError as error:
        assert node.primitive is not None
        raise ShapeError(
            f"a derivative rule of {node.primitive.name} returned shape {g.shape} for an input of shape {parent.shape}"
        ) from error


def _run_hooks(node: Node, g: Any, as_tensor: bool) -> Any:
    assert node.hooks is not None
    for hook in list(node.hooks.values()):
        new = hook(g if as_tensor else Tensor._wrap(node.device.xp.asarray(g), node.device, None))
        if new is not None:
            if not isinstance(new, Tensor) or new.shape != node.shape or new.dtype != node.dtype:
                raise ShapeError(f"a hook must return None or a tensor of shape {node.shape} and dtype {node.dtype}")
            g = new if as_tensor else new._array
    return g
