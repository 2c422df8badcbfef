"""The tape: `apply`, where every operation passes.

It computes a result and, where a gradient may be wanted, leaves a `Node` that remembers how. `sweep.sweep` walks the
nodes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .devices import out_of_memory
from .errors import DataError, DeviceError, DTypeError, LinAlgError, ShapeError
from .modes import state
from .node import Node
from .tensor import Tensor, tensor

if TYPE_CHECKING:
    from .primitives.registry import Primitive

SCALARS = (float, int, bool, complex)


class NotAnOperand(TypeError):
    """An operation got what is neither a number nor an array nor a tensor, nor numbers in a list."""


_new = Tensor.__new__


def apply(primitive: Primitive, *inputs: Any, **metadata: Any) -> Tensor:
    """Apply `primitive` to tensors and Python scalars (positional) with static metadata (keyword)."""
    arrays: list[Any] = []
    parents: list[Node | None] = []
    device = dtype = None
    mixed = tracked = False
    for x in inputs:
        if isinstance(x, Tensor):
            array = x._array
            arrays.append(array)
            if device is None:
                device = x.device
                dtype = array.dtype
            else:
                if x.device is not device:
                    raise _device_mismatch(primitive, inputs)
                if array.dtype is not dtype:
                    mixed = True
            node = x._node
            parents.append(node)
            if node is not None:
                tracked = True
        elif x.__class__ in SCALARS:  # weak: it takes the tensors' dtype
            arrays.append(x)
            parents.append(None)
        else:
            return apply(primitive, *_as_inputs(primitive, inputs), **metadata)
    if device is None:
        return apply(primitive, tensor(inputs[0]), *inputs[1:], **metadata)
    try:
        array = primitive.forward(device.xp, *arrays, **metadata)
    except DataError:  # of a setting, such as MINIGRAD_THREADS, not of the inputs
        raise
    except (ValueError, TypeError, IndexError) as error:
        raise refused(primitive, inputs, metadata, error) from error
    except MemoryError as error:
        raise out_of_memory(device, f"the result of {_call(primitive, inputs, metadata)}", error) from None
    if array.__class__ is not device.array_type:
        array = device.xp.asarray(array)
    if mixed or array.dtype is not dtype:
        array = _settle_dtype(primitive, arrays, array)
        if array is None:
            return apply(primitive, *(x.to("float32") if isinstance(x, Tensor) else x for x in inputs), **metadata)
        if tracked and array.dtype.kind == "c" and state.grad_enabled and primitive.vjps is not None:
            raise DTypeError(
                f"{_call(primitive, inputs, metadata)} would give complex numbers that require grad, and derivatives "
                "are those of real numbers; compute with real and imaginary parts, or under mg.no_grad()"
            )
        tracked = tracked and array.dtype.kind == "f"  # bools and integers have no derivative
    version = None
    if primitive.may_share:
        if primitive.foreign:
            array = _apart(device.xp, primitive, arrays, array)
        if primitive.view:
            if array is arrays[0]:  # it would be two tensors, of which one may change, and one variable of a program
                array = array.view()
            version = inputs[0]._version
            # where there was nothing to view, as in x[[0, 1]] or x.T.reshape(-1), it is a copy
            if version is not None and array.base is not arrays[0] and not device.xp.may_share_memory(array, arrays[0]):
                version = None
    result = _new(Tensor)
    result._array = array
    result.device = device
    result._version = version
    result._node = None
    if tracked and state.grad_enabled and primitive.vjps is not None:
        node = Node(array, device)
        node.primitive = primitive
        node.parents = tuple(parents)
        node.metadata = {**primitive.defaults, **metadata} if primitive.defaults else metadata
        if primitive.saves_result:
            node.result = array
            if version is not None:
                node.versions = ((version, version.count),)
        _save_inputs(node, primitive, inputs)
        result._node = node
    if state.observer is not None:
        state.observer(primitive, inputs, result, metadata)
    return result


def _apart(xp: Any, primitive: Primitive, arrays: list, array: Any) -> Any:
    """Return a result that shares memory with an input, though its row does not say so, as an array of its own."""
    may_be_view = array.base is not None or xp is not np  # CuPy's windows have no base
    for x in arrays[1:] if primitive.view else arrays:
        if x is array or (may_be_view and x.__class__ not in SCALARS and xp.may_share_memory(array, x)):
            return array.copy()
    return array


def _save_inputs(node: Node, primitive: Primitive, inputs: tuple) -> None:
    """Keep the inputs whose values the rules read, with their versions; of the others only shape and dtype."""
    if not primitive.saves_inputs:
        # the parents' nodes tell shapes and dtypes; an input without a node gets one that leads nowhere
        node.inputs = node.parents
        if None in node.parents:
            node.inputs = tuple(
                p or (Node(x._array, node.device) if isinstance(x, Tensor) else x)
                for p, x in zip(node.parents, inputs, strict=True)
            )
        return
    if not primitive.saves_all_inputs:
        inputs = tuple(
            x if x.__class__ in SCALARS or primitive.saves_input(position) else x._node or Node(x._array, node.device)
            for position, x in enumerate(inputs)
        )
    node.inputs = inputs
    for x in inputs:
        if isinstance(x, Tensor) and x._version is not None:
            changeable = (x._version, x._version.count)
            node.versions = (changeable,) if node.versions is None else (*node.versions, changeable)


def _as_inputs(primitive: Primitive, inputs: tuple) -> list:
    """Turn ndarrays and NumPy scalars among the inputs into tensors and weak scalars."""
    device = next((x.device for x in inputs if isinstance(x, Tensor)), None)
    result: list[Any] = []
    for x in inputs:
        if isinstance(x, Tensor) or x.__class__ in SCALARS:
            result.append(x)
        elif isinstance(x, np.longdouble | np.clongdouble):  # whose item() is itself
            result.append(float(x) if isinstance(x, np.longdouble) else complex(x))
        elif isinstance(x, np.generic):
            result.append(x.item())
        elif isinstance(x, np.ndarray) or (device is not None and isinstance(x, device.array_type)):
            result.append(tensor(x, device=device))
        else:
            error = TypeError if isinstance(x, list | tuple) else NotAnOperand
            raise error(
                f"{primitive.name} takes tensors, arrays and numbers, got {type(x).__name__}; wrap it in mg.tensor(...)"
            )
    return result


def _settle_dtype(primitive: Primitive, arrays: list, result: Any) -> Any:
    """Give a floating result the floating dtype of its inputs: nothing promotes silently.

    Return None for what NumPy computed in float16 because all inputs are bools and integers of 8 bits.
    """
    if primitive.foreign and result.dtype.kind not in "biufc":  # NumPy makes an array of anything
        raise DTypeError(
            f"the forward of {primitive.name} returned {type(result[()]).__name__}, not an array of numbers"
        )
    floating = {a.dtype for a in arrays if hasattr(a, "dtype") and a.dtype.kind in "fc"}
    if len(floating) > 1 and not any(d.kind == "c" for d in floating):
        names = " and ".join(sorted(d.name for d in floating))
        raise DTypeError(
            f"{primitive.name} got {names}, which do not mix; convert one of them: a tensor with t.to('float32'), an "
            "array of NumPy with array.astype('float32')"
        )
    if not primitive.keeps_dtype or result.dtype.kind != "f":
        return result
    if not floating and result.dtype == "float16":
        return None
    return result.astype(floating.pop() if floating else np.dtype("float32"), copy=False)


def _device_mismatch(primitive: Primitive, inputs: tuple) -> DeviceError:
    places = {i: x.device.name for i, x in enumerate(inputs) if isinstance(x, Tensor)}
    first = next(iter(places.values()))
    other = next(i for i, name in places.items() if name != first)
    where = ", ".join(f"input {i} on {name}" for i, name in places.items())
    return DeviceError(
        f"{primitive.name} needs all inputs on one device, got {where}; move input {other} with t.to({first!r})"
    )


def refused(primitive: Primitive, inputs: tuple, metadata: dict, error: Exception) -> Exception:
    """Return an error that says which operation refused which inputs, tensors or variables, of the class of NumPy's."""
    message = f"{_call(primitive, inputs, metadata)}: {error}"
    if isinstance(error, IndexError):
        return IndexError(message)
    if isinstance(error, np.linalg.LinAlgError):
        return LinAlgError(message)
    return ShapeError(message) if isinstance(error, ValueError) else DTypeError(message)


def _call(primitive: Primitive, inputs: tuple, metadata: dict) -> str:
    """Return a call with shapes in the place of tensors: "matmul(float32[2, 3], float32[4, 5])"."""
    shapes = ", ".join(
        f"{x.dtype.name}{list(x.shape)}" if hasattr(x, "dtype") else repr(x)
        for x in inputs
    )  # fmt: skip
    return f"{primitive.name}({shapes}{''.join(f', {k}={v!r}' for k, v in metadata.items())})"
