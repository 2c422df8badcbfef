"""Lowering: which array functions the forward of an elementwise primitive calls, found by running it on symbols.

A forward such as `xp.divide(xp.exp(x), 1.0 + xp.exp(x))` is then a list of calls that can be made tile by tile with
preallocated results, the very same calls in the same order as in eager execution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class ArrayCall:
    """One array function, its inputs (symbols and numbers) and its result."""

    __slots__ = ("inputs", "name", "result")

    def __init__(self, name: str, inputs: tuple, result: Symbol) -> None:
        self.name = name
        self.inputs = inputs
        self.result = result

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.inputs))})"


class Symbol:
    """Stands for an array of one dtype inside a forward, and writes down what is done with it."""

    __array_ufunc__ = None  # a NumPy function called on it directly is an error, and the forward then stays as it is

    def __init__(self, dtype: np.dtype, calls: list[ArrayCall]) -> None:
        self.dtype = dtype
        self._calls = calls

    def astype(self, dtype: Any, copy: bool = True) -> Symbol:
        """Write down a conversion."""
        result = Symbol(np.dtype(dtype), self._calls)
        self._calls.append(ArrayCall("astype", (self,), result))
        return result

    def __neg__(self) -> Symbol:
        return _write(self._calls, "negative", (self,))

    def __add__(self, other: Any) -> Symbol:
        return _write(self._calls, "add", (self, other))

    def __radd__(self, other: Any) -> Symbol:
        return _write(self._calls, "add", (other, self))

    def __sub__(self, other: Any) -> Symbol:
        return _write(self._calls, "subtract", (self, other))

    def __rsub__(self, other: Any) -> Symbol:
        return _write(self._calls, "subtract", (other, self))

    def __mul__(self, other: Any) -> Symbol:
        return _write(self._calls, "multiply", (self, other))

    def __rmul__(self, other: Any) -> Symbol:
        return _write(self._calls, "multiply", (other, self))

    def __truediv__(self, other: Any) -> Symbol:
        return _write(self._calls, "divide", (self, other))

    def __rtruediv__(self, other: Any) -> Symbol:
        return _write(self._calls, "divide", (other, self))

    def __lt__(self, other: Any) -> Symbol:
        return _write(self._calls, "less", (self, other))

    def __le__(self, other: Any) -> Symbol:
        return _write(self._calls, "less_equal", (self, other))

    def __gt__(self, other: Any) -> Symbol:
        return _write(self._calls, "greater", (self, other))

    def __ge__(self, other: Any) -> Symbol:
        return _write(self._calls, "greater_equal", (self, other))

    def __eq__(self, other: Any) -> Any:
        return _write(self._calls, "equal", (self, other)) if _is_operand(other) else NotImplemented

    def __ne__(self, other: Any) -> Any:
        return _write(self._calls, "not_equal", (self, other)) if _is_operand(other) else NotImplemented

    __hash__ = object.__hash__  # a symbol is a key by its identity

    def __bool__(self) -> bool:
        raise NotLowered("a forward that looks at values")


class NotLowered(Exception):
    """A forward does something that cannot be written down as calls of elementwise array functions."""


class _Functions:
    """The array module as a forward sees it while it runs on symbols."""

    def __init__(self, calls: list[ArrayCall]) -> None:
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name, None)
        if isinstance(found, float | type):
            return found
        if not isinstance(found, np.ufunc) and name not in ("where", "clip"):
            raise NotLowered(name)

        def function(*inputs: Any, out: None = None, **options: Any) -> Symbol:
            if options:
                raise NotLowered(f"{name} with {options}")
            return _write(self._calls, name, inputs)

        return function


def is_number(x: Any) -> bool:
    """Return whether an input of a call is a number, or None, and not an array or a symbol."""
    return x is None or isinstance(x, bool | int | float | complex | np.generic)


def _is_operand(x: Any) -> bool:
    return isinstance(x, Symbol | bool | int | float | complex | np.generic)


def _write(calls: list[ArrayCall], name: str, inputs: tuple) -> Symbol:
    if not all(is_number(x) or isinstance(x, Symbol) for x in inputs):
        raise NotLowered(f"{name} of {inputs}")
    blanks = [np.zeros(1, x.dtype) if isinstance(x, Symbol) else x for x in inputs]
    with np.errstate(all="ignore"):
        result = getattr(np, name)(*blanks)
    if not isinstance(result, np.ndarray):
        raise NotLowered(f"{name} with several results")
    symbol = Symbol(result.dtype, calls)
    calls.append(ArrayCall(name, inputs, symbol))
    return symbol


def lower(
    forward: Callable, inputs: list[Any], metadata: dict[str, Any], dtype: np.dtype
) -> tuple[list, list[ArrayCall]]:
    """Return the symbols (or numbers) of the inputs, and the calls; the last call makes the result, of `dtype`.

    Parameters
    ----------
    forward : callable
        Of an elementwise primitive.
    inputs : list of dtype or number
        A dtype for each array.
    metadata : dict
    dtype : dtype
        Of the result, as `tape.apply` settled it.

    Raises
    ------
    NotLowered
        The forward does more than call elementwise functions of the array module.

    Examples
    --------
    >>> f32 = np.dtype("float32")
    >>> _, calls = lower(lambda xp, x: xp.exp(-xp.abs(x)), [f32], {}, f32)
    >>> [call.name for call in calls]
    ['abs', 'negative', 'exp']
    """
    calls: list[ArrayCall] = []
    symbols = [Symbol(x, calls) if isinstance(x, np.dtype) else x for x in inputs]
    try:
        result = forward(_Functions(calls), *symbols, **metadata)
    except (TypeError, AttributeError, ValueError) as error:
        raise NotLowered(str(error)) from error
    if not isinstance(result, Symbol):
        raise NotLowered("a forward that does not compute its result")
    if result.dtype != dtype or not calls or calls[-1].result is not result:
        result = result.astype(dtype)
    return symbols, calls
