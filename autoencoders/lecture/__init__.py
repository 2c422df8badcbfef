"""The lecture, module by module, in one command: `python -m autoencoders lecture`."""

from .report import prepare, run, summary, write
from .walk import SETTINGS, Settings

__all__ = ["SETTINGS", "Settings", "prepare", "run", "summary", "write"]
