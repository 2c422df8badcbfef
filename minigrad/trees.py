"""Nested lists, tuples and dicts of tensors, as functions take and return them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any

TREES = (list, tuple, dict)


def leaves(tree: Any) -> list[Any]:
    """Return what is not a list, tuple or dict."""
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, TREES):
        return [tree]
    result = []
    for item in tree:
        if isinstance(item, TREES):
            result += leaves(item)
        else:
            result.append(item)
    return result


def named_leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what is not a list, tuple or dict, each with its name: "params[0]" or "batch['x']"."""
    if isinstance(tree, dict):
        for key, item in tree.items():
            yield from named_leaves(item, f"{name}[{key!r}]")
    elif isinstance(tree, list | tuple):
        for i, item in enumerate(tree):
            yield from named_leaves(item, f"{name}[{i}]")
    else:
        yield name, tree


def refuse_keywords(what: str, keywords: dict[str, Any]) -> None:
    """Raise where arguments were given by name to what knows them by their position."""
    if keywords:
        names = ", ".join(keywords)
        raise TypeError(f"{what} takes its arguments by position, got {names} by name: leave the name out, f(x, y)")


def containers(tree: Any) -> Iterator[Any]:
    """Yield the lists, tuples and dicts that a tree is made of."""
    if isinstance(tree, TREES):
        yield tree
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from containers(item)


def attributes(tree: Any) -> list[str]:
    """Return the attributes of a list, tuple or dict of a class of its own, besides those that are its items."""
    found = getattr(tree, "__dict__", None)
    return [] if found is tree or not found else list(found)


def transform(f: Callable[[Any], Any], tree: Any) -> Any:
    """Return a tree of the same structure, of the same classes, with f(leaf) for every leaf."""
    if type(tree) is dict:
        return {key: transform(f, item) for key, item in tree.items()}
    if type(tree) is list:
        return [transform(f, item) for item in tree]
    result: Any
    if isinstance(tree, tuple):
        items = [transform(f, item) for item in tree]
        try:
            result = tuple.__new__(type(tree), items)
        except TypeError:  # such as time.struct_time
            return type(tree)(items)
        if hasattr(result, "__dict__"):
            vars(result).update(vars(tree))
        return result
    if isinstance(tree, list | dict):  # of another class, which may have attributes and be made from something else
        result = copy(tree)
        for key, item in tree.items() if isinstance(tree, dict) else enumerate(tree):
            result[key] = transform(f, item)
        if getattr(tree, "__dict__", None) is tree:  # its items are its attributes
            result.__dict__ = result
        return result
    return f(tree)
