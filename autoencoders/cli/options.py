"""Types of options, and files that are named: each is refused with a message that names the option."""

from __future__ import annotations

import argparse
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import minigrad as mg
from autoencoders import corruption
from minigrad.atomic import check_writable
from minigrad.errors import DataError, MinigradError

N = TypeVar("N", int, float)

NOISES: dict[str, Callable[[mg.Tensor, float], mg.Tensor]] = {
    "masking": corruption.masking_noise,
    "gaussian": corruption.gaussian_noise,
    "salt-and-pepper": corruption.salt_and_pepper_noise,
}


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, argparse.SUPPRESS):
            return action.help
        return super()._get_help_string(action)


def _as(kind: Callable[[str], N], text: str) -> N | None:
    """Return the number in a text, or None where there is none: argparse would name the Python function."""
    try:
        return kind(text)
    except ValueError:
        return None


def fraction(text: str) -> float:
    """Return a number from 0 to below 1."""
    value = _as(float, text)
    if value is None or not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0 and below 1, got {text}")
    return value


def whole(low: int) -> Callable[[str], int]:
    """Return the type of whole numbers of at least `low`."""

    def whole_number(text: str) -> int:
        value = _as(int, text)
        if value is None or value < low:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {low}, got {text}")
        return value

    return whole_number


def number(low: float, above: bool = False) -> Callable[[str], float]:
    """Return the type of numbers of at least, or above, `low`."""

    def real_number(text: str) -> float:
        value = _as(float, text)
        if value is None or not low <= value < float("inf") or (above and value == low):
            raise argparse.ArgumentTypeError(
                f"expected a number {'above' if above else 'of at least'} {low:g}, got {text}"
            )
        return value

    return real_number


def sizes(text: str) -> tuple[int, ...]:
    """Return widths such as 784,500."""
    try:
        widths = tuple(int(part) for part in text.split(","))
    except ValueError:
        widths = ()
    if len(widths) < 2 or min(widths) < 1:
        raise argparse.ArgumentTypeError(f"expected two or more positive widths such as 784,500, got {text!r}")
    return widths


def sparsity(text: str) -> tuple[float, float]:
    """Return a factor and a mean activation, such as 3:0.05."""
    factor, _, target = text.partition(":")
    try:
        pair = float(factor), float(target)
    except ValueError:
        pair = (-1.0, 0.0)
    if not 0 <= pair[0] < float("inf") or not 0 < pair[1] < 1:
        raise argparse.ArgumentTypeError(f"expected a factor and a target in (0, 1), such as 3:0.05, got {text!r}")
    return pair


def noise(text: str) -> Callable[[mg.Tensor], mg.Tensor] | None:
    """Return a corruption such as masking:0.25."""
    if text == "none":
        return None
    kind, _, strength = text.partition(":")
    try:
        amount = float(strength)
        NOISES[kind](mg.zeros((1, 1)), amount)
    except DataError as error:  # which names the range
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error
    except (KeyError, ValueError) as error:
        raise argparse.ArgumentTypeError(
            f"expected none or one of {', '.join(NOISES)} with a strength, such as masking:0.25, got {text!r}"
        ) from error

    def corrupt(x: mg.Tensor) -> mg.Tensor:
        return NOISES[kind](x, amount)

    corrupt.__name__ = text
    return corrupt


def check_out(path: Path, suffix: str) -> None:
    """Refuse what could not be written after the work, and names of which another kind of file is expected."""
    if path.suffix != suffix or os.path.isdir(path):
        raise MinigradError(f"--out {path}: expected the name of a {suffix} file")
    folder = Path(os.path.realpath(path)).parent  # of a symbolic link, where the file is written
    if not folder.is_dir():
        raise MinigradError(f"--out {path}: there is no folder {folder}")
    check_written(path, path)


def check_written(out: Path, file: Path) -> None:
    """Refuse an --out for which a file, that itself or one beside it, could not be written."""
    try:
        check_writable(file)
    except OSError as error:
        problem = f"the folder {Path(os.path.realpath(file)).parent} is not writable ({error.strerror})"
        if error.errno == errno.ENAMETOOLONG:
            problem = "the name is too long, with what is added to it while files are written; give a shorter one"
        raise MinigradError(f"--out {out}: {problem}") from error


def check_replace(path: Path, force: bool, **inputs: object) -> None:
    """Refuse to replace a file without --force, and with it one that is read, which the options `inputs` name."""
    if not path.exists():
        return
    for name, given in inputs.items():
        if os.path.exists(str(given)) and path.samefile(str(given)):
            raise MinigradError(f"--out {path} is the file of --{name} too, and would replace it; give another name")
    if not force:
        raise MinigradError(f"--out {path} is there already: --force replaces it; or give another name")
