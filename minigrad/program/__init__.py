"""Record a function once; then print, check, run, differentiate and draw what it did."""

from .compile import Compiled, compile
from .draw import draw
from .program import Equation, Program, Variable
from .record import record
