"""Where in the user's code an operation comes from."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import FrameType

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def frames() -> Iterator[FrameType]:
    """Yield the frames of this call, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def in_package(frame: FrameType) -> bool:
    """Return whether a frame runs code of this package."""
    return frame.f_code.co_filename.startswith(_PACKAGE)


def in_project(frame: FrameType) -> bool:
    """Return whether a frame runs code of minigrad or of the package beside it, autoencoders."""
    return in_package(frame) or frame.f_globals.get("__name__", "").partition(".")[0] == "autoencoders"


def user_line() -> str:
    """Return "file.py:12", the innermost line that is not in this package, or "autoencoders/file.py:12"."""
    for frame in frames():
        if not in_package(frame):
            path = frame.f_code.co_filename
            if in_project(frame):  # the user has no such file
                return f"autoencoders{path.rpartition('autoencoders')[2].replace(os.sep, '/')}:{frame.f_lineno}"
            return f"{os.path.basename(path)}:{frame.f_lineno}"
    return "?"
