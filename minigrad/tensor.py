"""Tensor: an array, where it lives, and how it was made."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from . import devices, indexing, modes, observers, tape
from . import primitives as P
from .devices import CPU, Device, default_device, device, to_numpy
from .dtypes import number_dtype
from .errors import DeviceError, DTypeError, GraphError, ShapeError
from .node import Node
from .ranges import check_holds


class Version:
    """How often a piece of memory was assigned to. Views of one memory share one version."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Tensor:
    """An n-dimensional array that knows its device and, where a gradient is wanted, the operation that made it.

    Make one with `mg.tensor`. Tensors never change, except leaves through `assign`.
    """

    __slots__ = ("__weakref__", "_array", "_node", "_version", "device")
    __array_ufunc__ = None  # ndarray + tensor asks the tensor
    __hash__ = object.__hash__

    _array: Any
    _node: Node | None
    _version: Version | None
    device: Device

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("make a tensor with mg.tensor(data)")

    @classmethod
    def _wrap(cls, array: Any, device: Device, node: Node | None, version: Version | None = None) -> Tensor:
        """Make a tensor around an array, without copying it."""
        result = Tensor.__new__(cls)
        result._array = array
        result.device = device
        result._node = node
        result._version = version
        if version is not None and modes.state.recording:
            observers.note_made(result)
        return result

    # What it is

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        return self._array.size

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to this tensor."""
        return self._node is not None

    @property
    def is_leaf(self) -> bool:
        """Whether no operation that left a node made this tensor."""
        return self._node is None or self._node.primitive is None

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` accumulated here (leaves only), of the same shape, dtype and device."""
        if self._node is None:
            return None
        gradient = self._node.grad
        if gradient is None:
            observers.note_no_gradient(self._node)
        else:
            observers.refuse_from_before(gradient)
        return gradient

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if self._node is None or not self.is_leaf:
            raise GraphError("only a leaf that requires grad has a gradient to set")
        if value is not None:
            self._check_gradient(value)
        observers.note_gradient(self._node, added=False)
        self._node.grad = value

    def _check_gradient(self, value: Any) -> None:
        """Raise unless `value` may be the gradient of this tensor."""
        if not isinstance(value, Tensor) or value.shape != self.shape:
            found = value.shape if isinstance(value, Tensor) else type(value).__name__
            raise ShapeError(f"the gradient of a tensor of shape {self.shape} must have that shape, got {found}")
        if value.dtype != self.dtype:
            raise DTypeError(f"the gradient of a {self.dtype.name} tensor must be that, got {value.dtype.name}")
        if value.device is not self.device:
            raise DeviceError(
                f"the gradient is on {value.device.name}, the tensor on {self.device.name}; move the gradient with "
                f"t.to({self.device.name!r})"
            )

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("a 0-d tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:  # else the IndexError of t[0] would be taken for the end
            raise TypeError("a 0-d tensor has no parts to iterate over")
        return (self[i] for i in range(self.shape[0]))

    def __repr__(self) -> str:
        values = np.array2string(
            np.asarray(to_numpy(self._array)), separator=", ", prefix=f"{type(self).__name__.lower()}("
        )
        extra = f", shape={self.shape}" if "..." in values or not self.size else ""
        extra += "" if self.dtype == np.float32 else f", dtype={self.dtype.name}"
        extra += "" if self.device is CPU else f", device={self.device.name}"
        if self._node is not None:
            made_by = self._node.primitive
            extra += f", made by {made_by.name}" if made_by is not None else ", requires_grad=True"
        return f"{type(self).__name__.lower()}({values}{extra})"

    # Its values

    def numpy(self) -> np.ndarray:
        """Return the values as a read-only NumPy array: a view of the memory on the CPU, a copy from a GPU."""
        observers.refuse_while_recording("numpy() reads a value", "return the tensor, or compute with it")
        array = to_numpy(self._array).view()
        array.flags.writeable = False
        return array

    def item(self) -> Any:
        """Return the only value as a Python number."""
        observers.refuse_while_recording(
            "item(), float() or a condition reads a value", "use mg.where for a choice, or return the tensor"
        )
        if self.size != 1:
            raise ShapeError(f"item() needs a tensor with one value, got shape {self.shape}")
        return to_numpy(self._array).item()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(
                f"the truth of a tensor of shape {self.shape} is not one answer; use mg.all(t), mg.any(t), or mg.where"
            )
        return bool(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self._node is not None:
            raise GraphError("NumPy would lose the gradient of this tensor; use mg's functions, or t.detach().numpy()")
        observers.refuse_while_recording("NumPy reads a value", "use mg's functions")
        if copy is False:
            if self.device.type != "cpu" or (dtype is not None and np.dtype(dtype) != self.dtype):
                raise ValueError(f"a tensor of {self.dtype.name} on {self.device.name} is no such array without a copy")
            return self.numpy()
        return np.array(to_numpy(self._array), dtype=dtype)

    def __dlpack__(self, **options: Any) -> Any:
        """Hand the memory to another library, without a copy. What it writes there, no version notices."""
        if self._node is not None:
            raise GraphError("another library would lose the gradient of this tensor; hand it t.detach()")
        observers.refuse_while_recording("another library reads a value", "use mg's functions")
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()

    # Copies

    def __deepcopy__(self, memo: dict) -> Tensor:
        observers.refuse_while_recording("a copy of a tensor is made", "use t itself, or t.detach()")
        self._refuse_graph("copied")
        copied = type(self)._wrap(self.device.put(self._array), self.device, None, Version())
        memo[id(self)] = copied
        if self._node is not None:
            copied._node = Node(copied._array, self.device)
            copied._node.grad = copy.deepcopy(self._node.grad, memo)
        return copied

    def __copy__(self) -> Tensor:
        return self.__deepcopy__({})

    def __reduce__(self) -> tuple:
        observers.refuse_while_recording("a tensor is pickled", "do it after the step")
        self._refuse_graph("pickled")
        gradient = None if self._node is None else self._node.grad
        return _restored, (type(self), to_numpy(self._array), self.device, self._node is not None, gradient)

    def _refuse_graph(self, what: str) -> None:
        if not self.is_leaf:
            raise GraphError(
                f"a tensor that an operation made with gradients cannot be {what}: its graph stays here. Use "
                "t.detach(), or do it with the leaves"
            )

    def detach(self) -> Tensor:
        """Return a tensor of the same memory through which no gradient flows."""
        if observers.recording():  # whoever differentiates the program must know
            return tape.apply(P.stop_gradient, self)
        return Tensor._wrap(self._array, self.device, None, self._version)

    def to(self, target: Any) -> Tensor:
        """Return this tensor on another device or with another dtype; itself when nothing changes.

        Moving between devices cuts the graph, so it is refused for a tensor that an operation made with gradients.
        """
        if isinstance(target, Device) or (isinstance(target, str) and target.partition(":")[0] in ("cpu", "cuda")):
            place = device(target)
            if place is self.device:
                return self
            if self._node is not None:
                raise GraphError("moving a tensor that requires grad would cut its graph; move the data or the module")
            return Tensor._wrap(place.put(self._array), place, None, Version())
        if target is not None and np.dtype(target) == self.dtype:
            return self
        return tape.apply(P.astype, self, dtype=number_dtype(target))

    # Changing a leaf

    def assign(self, value: Any) -> Tensor:
        """Write `value` (tensor, array or number, broadcast to this shape) into this leaf's memory; return the leaf.

        A graph that saved the old value then refuses to run backward.

        Raises
        ------
        DTypeError
            The dtype of the leaf does not hold the value; the leaf is then as it was.
        """
        if not self.is_leaf or self._version is None or not getattr(self._array.flags, "writeable", True):
            raise GraphError(
                "assign() changes leaves made by mg.tensor or mg.Parameter; this is an operation's result, or it is "
                "read-only memory: of another library, or of a view that repeats elements"
            )
        array = value._array if isinstance(value, Tensor) else value
        if isinstance(value, Tensor) and value.device is not self.device:
            raise DeviceError(
                f"assign() got a tensor on {value.device.name} for one on {self.device.name}; move it with "
                f"t.to({self.device.name!r})"
            )
        array = self.device.xp.asarray(array)
        if array.shape != self.shape and array.ndim:
            raise ShapeError(f"assign() got shape {array.shape} for a tensor of shape {self.shape}")
        source = value if isinstance(value, Tensor) else Tensor._wrap(array, self.device, None)
        if source.dtype != self.dtype:
            check_holds(self.dtype, value, "assign() got", "round it, or assign to a tensor of another dtype")
            source = tape.apply(P.astype, source, dtype=self.dtype)
        observers.before_assign(self)
        self._version.count += 1  # before: also an interrupted write may have changed something
        tape.apply(P.assign, self, source)
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        raise GraphError("tensors do not change in place: y = x.at[i].set(v) or .add(v) gives a new one")

    # Gradients

    def backward(self, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add the gradient of this tensor with respect to every leaf below it to the leaf's `grad`.

        Parameters
        ----------
        gradient : Tensor or array of this shape, optional
            The cotangent to start from; 1 for a scalar.
        retain_graph : bool
            Keep the graph for another backward pass.
        create_graph : bool
            Let the backward pass leave nodes too, so that the gradients can be differentiated.

        Notes
        -----
        What threads add to one leaf at the same time adds up, in an order that may differ from run to run.

        Examples
        --------
        >>> import minigrad as mg
        >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        tensor([2., 4.])
        """
        from .autograd import backward

        backward(self, gradient, retain_graph, create_graph)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call `hook(gradient)` when this tensor's gradient is complete; what it returns replaces the gradient.

        Returns a function that removes the hook.
        """
        if not callable(hook):
            raise DTypeError(f"register_hook takes a function of the gradient, got {type(hook).__name__}")
        if self._node is None:
            raise GraphError("this tensor requires no gradient, so a hook on it would never run")
        node = self._node
        if node.hooks is None:
            node.hooks = {}
        key = object()  # of this hook alone, also when it is gone
        node.hooks[key] = hook
        observers.note_hook(self, hook)

        def remove() -> None:
            if node.hooks is not None:
                node.hooks.pop(key, None)

        return remove

    # Operators

    def __add__(self, other: Any) -> Tensor:
        try:
            return tape.apply(P.add, self, other)
        except tape.NotAnOperand:
            return _ask(other, "__radd__")

    def __radd__(self, other: Any) -> Tensor:
        return tape.apply(P.add, other, self)

    def __sub__(self, other: Any) -> Tensor:
        try:
            return tape.apply(P.subtract, self, other)
        except tape.NotAnOperand:
            return _ask(other, "__rsub__")

    def __rsub__(self, other: Any) -> Tensor:
        return tape.apply(P.subtract, other, self)

    def __mul__(self, other: Any) -> Tensor:
        try:
            return tape.apply(P.multiply, self, other)
        except tape.NotAnOperand:
            return _ask(other, "__rmul__")

    def __rmul__(self, other: Any) -> Tensor:
        return tape.apply(P.multiply, other, self)

    def __truediv__(self, other: Any) -> Tensor:
        try:
            return tape.apply(P.divide, self, other)
        except tape.NotAnOperand:
            return _ask(other, "__rtruediv__")

    def __rtruediv__(self, other: Any) -> Tensor:
        return tape.apply(P.divide, other, self)

    def __pow__(self, other: Any) -> Tensor:
        if other.__class__ in (int, float) and other == 2:
            return tape.apply(P.square, self)
        try:
            return tape.apply(P.power, self, other)
        except tape.NotAnOperand:
            return _ask(other, "__rpow__")

    def __rpow__(self, other: Any) -> Tensor:
        return tape.apply(P.power, other, self)

    def __matmul__(self, other: Any) -> Tensor:
        try:
            return tape.apply(P.matmul, self, other)
        except tape.NotAnOperand:
            return _ask(other, "__rmatmul__")

    def __rmatmul__(self, other: Any) -> Tensor:
        return tape.apply(P.matmul, other, self)

    def __neg__(self) -> Tensor:
        return tape.apply(P.negative, self)

    def __abs__(self) -> Tensor:
        return tape.apply(P.abs, self)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        try:
            return tape.apply(P.equal, self, other)
        except tape.NotAnOperand:  # such as None
            return NotImplemented

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        try:
            return tape.apply(P.not_equal, self, other)
        except tape.NotAnOperand:
            return NotImplemented

    def __lt__(self, other: Any) -> Tensor:
        return tape.apply(P.less, self, other)

    def __le__(self, other: Any) -> Tensor:
        return tape.apply(P.less_equal, self, other)

    def __gt__(self, other: Any) -> Tensor:
        return tape.apply(P.greater, self, other)

    def __ge__(self, other: Any) -> Tensor:
        return tape.apply(P.greater_equal, self, other)

    # Shapes and reductions

    @property
    def T(self) -> Tensor:
        """All axes reversed."""
        return tape.apply(P.permute_dims, self, axes=tuple(range(self.ndim))[::-1])

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return tape.apply(P.matrix_transpose, self)

    def reshape(self, *shape: Any) -> Tensor:
        """Return this tensor with another shape: reshape(2, 3) or reshape((2, 3))."""
        lengths = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
        return tape.apply(P.reshape, self, shape=tuple(lengths))

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Sum over axis."""
        return tape.apply(P.sum, self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Mean over axis."""
        return tape.apply(P.mean, self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Largest value over axis."""
        return tape.apply(P.max, self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Smallest value over axis."""
        return tape.apply(P.min, self, axis=axis, keepdims=keepdims)

    # Indexing

    def __getitem__(self, index: Any) -> Tensor:
        static, arrays = indexing.split_index(self, index)
        return tape.apply(P.getitem, self, *arrays, index=static)

    @property
    def at(self) -> indexing.At:
        """`x.at[i].set(v)` and `x.at[i].add(v)`: new tensors with some values replaced or increased."""
        return indexing.At(self)


def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor with a copy of `data`.

    Parameters
    ----------
    data : number, nested lists, ndarray or Tensor
        Python floats become float32; arrays and tensors keep their dtype.
    dtype : optional
        The dtype to convert to.
    device : str or Device, optional
        Where it lives; by default where `data` lives, or the default device.
    requires_grad : bool
        Whether gradients are wanted; floating dtypes only.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.tensor([[1.0, 2.0]])
    tensor([[1., 2.]])
    """
    if isinstance(data, Tensor):
        observers.refuse_while_recording("mg.tensor(t) copies a value", "use t itself, or t.detach()")
        if data._node is not None:
            raise GraphError("mg.tensor(t) would lose the gradient of t; use t itself, or mg.tensor(t.detach())")
        place = data.device if device is None else devices.device(device)
        data = data._array
    else:
        place = default_device() if device is None else devices.device(device)
    if not hasattr(data, "dtype"):
        data = np.asarray(_plain(data), dtype)
        dtype = np.float32 if dtype is None and data.dtype == np.float64 else dtype
    array = place.put(data, number_dtype(data.dtype if dtype is None else dtype))
    if requires_grad and array.dtype.kind != "f":
        raise DTypeError(f"only real floating tensors have gradients, got {array.dtype.name}; pass dtype='float32'")
    return Tensor._wrap(array, place, Node(array, place) if requires_grad else None, Version())


def _restored(cls: type[Tensor], array: Any, place: Device, requires_grad: bool, gradient: Tensor | None) -> Tensor:
    """Return the leaf that was pickled."""
    array = place.put(array)
    node = Node(array, place) if requires_grad else None
    if node is not None:
        node.grad = gradient
    return cls._wrap(array, place, node, Version())


def as_tensor(x: Any) -> Tensor:
    """Return x itself if it is a tensor, else a new tensor of its values."""
    return x if isinstance(x, Tensor) else tensor(x)


def _ask(other: Any, method: str) -> Any:
    """Let Python ask an operand of another library by its own method, or raise again where it has none."""
    if hasattr(type(other), method):
        return NotImplemented
    raise  # what the operator is handling


def _plain(data: Any) -> Any:
    """Replace 0-d tensors inside nested lists by numbers; a tensor with gradients there would lose them."""
    if isinstance(data, list | tuple):
        return [_plain(x) for x in data]
    if isinstance(data, Tensor):
        if data.requires_grad:
            raise GraphError("a list of tensors that require grad would lose their gradients; use mg.stack")
        return data.numpy()
    return data
