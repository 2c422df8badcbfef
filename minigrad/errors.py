"""The errors of both packages: a small tree, each also a subclass of the built-in error that people expect."""

import numpy as np


class MinigradError(Exception):
    """Base of every error that minigrad and autoencoders raise on purpose."""


class ShapeError(MinigradError, ValueError):
    """Shapes that do not fit together."""


class DTypeError(MinigradError, TypeError):
    """A dtype that an operation cannot take, or two that do not mix."""


class LinAlgError(MinigradError, np.linalg.LinAlgError):
    """A singular matrix, one that is not positive definite, or a spectrum at which no derivative exists."""


class DeviceError(MinigradError, RuntimeError):
    """A device that is not there, or two devices in one operation."""


class OutOfMemoryError(MinigradError, MemoryError):
    """An array that does not fit into the memory of its device."""


class GraphError(MinigradError, RuntimeError):
    """A use of the recorded graph that cannot give a right gradient."""


class RecordingError(GraphError):
    """Something that a recorded program could not repeat, such as a value that was read into Python."""


class DivergenceError(MinigradError, FloatingPointError):
    """A loss, a gradient or a parameter that became NaN or infinite."""


class AnomalyError(MinigradError, FloatingPointError):
    """A NaN or an infinity that `detect_anomaly` found."""


class DataError(MinigradError, ValueError):
    """A file or an array whose contents are not what was asked for."""


class MissingDependencyError(MinigradError, ImportError):
    """An optional package that is not installed."""


class CheckError(MinigradError, AssertionError):
    """A gradient check that failed."""
