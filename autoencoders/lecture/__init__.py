"""The lecture on real digits, in one command: `python -m autoencoders lecture`."""

from .experiments import SETTINGS, Settings, run
from .report import prepare, table, write

__all__ = ["SETTINGS", "Settings", "prepare", "run", "table", "write"]
