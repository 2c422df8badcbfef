"""Commands: run the lecture, train a model, use it, look into it."""

from .main import main

__all__ = ["main"]
