"""Tools to test gradients: `check_grad`, and hypothesis strategies in `minigrad.testing.strategies`."""

from typing import Any

from .check import check_grad

__all__ = ["check_grad", "strategies"]


def __getattr__(name: str) -> Any:
    if name == "strategies":  # imported when asked for, because it needs hypothesis
        from importlib import import_module

        return import_module(".strategies", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
