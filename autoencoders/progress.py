"""The progress bar of a training, where there is somebody to see it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _NoBar:
    """A progress bar that shows nothing."""

    def update(self, steps: int = 1) -> None:
        """Do nothing."""

    def set_postfix(self, **values: Any) -> None:
        """Do nothing."""


def _is_watched() -> bool:
    """Return whether standard error is a terminal; it may be there no more, or be replaced by what knows of none."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


@contextmanager
def progress_bar(steps: int | None, progress: bool) -> Iterator[Any]:
    """A progress bar on standard error, where there is somebody to see it."""
    if progress and _is_watched():
        try:
            from tqdm import tqdm
        except ImportError:
            pass
        else:
            with tqdm(total=steps, unit="batch", dynamic_ncols=True) as bar:
                yield bar
            return
    yield _NoBar()
