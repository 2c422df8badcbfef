"""The entrance: options in, exit status out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import minigrad as mg
from autoencoders.cli import look, train, use
from minigrad.errors import MinigradError

COMMANDS = (look.lecture, train.train, use.encode, use.reconstruct, use.features, look.figures, look.info)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, 2 after an error in what was asked for, or 130 after Ctrl-C.

    It is 141 where the reader of what it prints has gone, as `head` does.
    """
    parser = argparse.ArgumentParser(
        prog="python -m autoencoders", description="Run the lecture, train an autoencoder, use it, look into it."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for add in COMMANDS:
        add(commands)
    for command in commands.choices.values():
        command.add_argument("--device", default="cpu", metavar="NAME", help="where to compute: cpu, cuda, cuda:1, ...")
    options = parser.parse_args(arguments)
    try:
        with mg.use_device(options.device):
            options.run(options)
        if sys.stdout is not None:  # as it is where it was closed
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        print(f"autoencoders {options.command}: interrupted{error}{train.kept(options)}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return 141  # as a shell says it of a program that the signal SIGPIPE ended
    except FileNotFoundError as error:
        missing = f"there is no {error.filename}" if error.filename else str(error)
        print(f"autoencoders {options.command}: {missing}", file=sys.stderr)
        return 2
    except (MinigradError, OSError, MemoryError) as error:
        kept = "" if isinstance(error, MinigradError) else train.kept(options)  # a full disk also interrupts
        print(f"autoencoders {options.command}: {error}{kept}", file=sys.stderr)
        return 2
    return 0
