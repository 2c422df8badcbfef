"""The lecture, module by module, in one command: `python -m autoencoders lecture`."""

from .report import Report, Results, prepare, run, summary, write
from .walk import DURATIONS, SETTINGS, Settings

__all__ = ["DURATIONS", "SETTINGS", "Report", "Results", "Settings", "prepare", "run", "summary", "write"]
