"""Commands: run the lecture, train a model, use it, describe it."""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from autoencoders import corruption, datasets, lecture, losses, models, regularizers, training
from autoencoders.contractive import contractive
from minigrad import optim
from minigrad.errors import MinigradError
from minigrad.files import write_atomically

NOISES: dict[str, Callable[[mg.Tensor, float], mg.Tensor]] = {
    "masking": corruption.masking_noise,
    "gaussian": corruption.gaussian_noise,
    "salt-and-pepper": corruption.salt_and_pepper_noise,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, 2 after an error in what was asked for, or 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt:
        print(f"autoencoders {options.command}: interrupted{_kept(options)}", file=sys.stderr)
        return 130
    except (MinigradError, OSError, MemoryError) as error:
        print(f"autoencoders {options.command}: {error}", file=sys.stderr)
        return 2
    return 0


def _kept(options: argparse.Namespace) -> str:
    """Return where an interrupted training goes on from, if it got that far."""
    if options.command != "train" or not _checkpoint(options.out).exists():
        return ""
    return f"; the last epoch is in {_checkpoint(options.out)}: the same command with --resume goes on from there"


def _checkpoint(out: Path) -> Path:
    return out.with_name(f"{out.stem}.checkpoint.safetensors")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m autoencoders", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("lecture", help="train, compare with PCA, write report.html and results.json")
    command.add_argument("--data", choices=("digits", "mnist"), default="digits")
    command.add_argument("--out", type=Path, default=Path("lecture-report"), metavar="DIR")
    command.add_argument("--seed", type=_whole(0), default=0)
    command.set_defaults(run=_lecture)

    command = commands.add_parser("train", help="train an autoencoder and save it")
    command.add_argument("--data", default="digits", help="digits, mnist, or a .npy file of shape (samples, features)")
    command.add_argument("--sizes", type=_sizes, help="widths from data to code, such as 784,500")
    command.add_argument("--activation", choices=tuple(models.ACTIVATIONS), default="sigmoid")
    command.add_argument("--output", choices=tuple(models.ACTIVATIONS), default="sigmoid")
    command.add_argument("--loss", choices=("cross-entropy", "squared"), default="cross-entropy")
    command.add_argument(
        "--noise", type=_noise, default=None, help="none, masking:0.25, gaussian:0.5, salt-and-pepper:0.1"
    )
    command.add_argument("--tied", action="store_true", help="decoder weights are the encoder's, transposed")
    command.add_argument("--l2", type=_number(0.0), default=0.0, help="factor of the sum of squared weights")
    command.add_argument("--epochs", type=_whole(1), default=20)
    command.add_argument("--batch-size", type=_whole(1), default=128)
    command.add_argument("--learning-rate", type=_number(0.0, above=True), default=1e-3)
    command.add_argument("--seed", type=_whole(0), default=0)
    command.add_argument("--contractive", type=_number(0.0), default=0.0, help="factor of the contractive penalty")
    command.add_argument("--sparsity", type=_sparsity, help="factor and target of the KL penalty, such as 3:0.05")
    command.add_argument("--validation", type=_number(0.0), default=0.0, help="fraction of the data to measure on only")
    command.add_argument("--patience", type=_whole(1), help="epochs without a lower loss after which to stop")
    command.add_argument("--out", type=Path, default=Path("model.safetensors"), metavar="FILE")
    command.add_argument("--resume", action="store_true", help="go on with an interrupted training of this command")
    command.set_defaults(run=_train)

    for name, use, text in (
        ("encode", lambda model, x: model.encode(x), "write the codes of data"),
        ("reconstruct", lambda model, x: model(x), "write the reconstructions of data"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--model", type=Path, required=True, metavar="FILE")
        command.add_argument(
            "--data",
            default="digits",
            help="digits, mnist (their test images), or a .npy file of shape (samples, features)",
        )
        command.add_argument("--out", type=Path, required=True, metavar="FILE.npy")
        command.set_defaults(run=_use(use))

    command = commands.add_parser("info", help="describe a saved model")
    command.add_argument("--model", type=Path, required=True, metavar="FILE")
    command.set_defaults(run=_info)
    return parser


def _lecture(options: argparse.Namespace) -> None:
    if options.out.exists() and not options.out.is_dir():
        raise MinigradError(f"--out {options.out}: there is a file of that name; name a folder")
    lecture.prepare(options.out)  # minutes of training are lost on a report that cannot be written
    results = lecture.run(options.data, options.seed)
    report = lecture.write(results, options.out)
    for row in (("squared error per image", "train", "test", "corrupted"), *lecture.table(results.numbers)):
        print(f"{row[0]:24} {row[1]:>9} {row[2]:>9} {row[3]:>9}")
    linear = results.numbers["linear"]
    print(
        f"linear: {linear['above_floor_percent']:.2f} % above the PCA floor; {results.numbers['seconds']:.0f} s in all"
    )
    print(f"report: {report}")


def _train(options: argparse.Namespace) -> None:
    if options.loss == "cross-entropy" and options.output != "sigmoid":
        raise MinigradError("--loss cross-entropy needs --output sigmoid; use --loss squared with another output")
    _check_out(options.out, ".safetensors")
    x = _data(options.data, "x_train")
    sizes = options.sizes or (x.shape[1], max(1, x.shape[1] // 2))
    if sizes[0] != x.shape[1]:
        raise MinigradError(f"--sizes begins with {sizes[0]}, but the data have {x.shape[1]} features")
    if options.loss == "cross-entropy" and not (x.min() >= 0 and x.max() <= 1):
        raise MinigradError(
            f"--loss cross-entropy needs data in [0, 1], but --data {options.data} reaches from {x.min():g} to "
            f"{x.max():g}; rescale them, or use --loss squared --output linear"
        )
    model = models.Autoencoder(sizes, options.activation, options.output, options.tied, seed=options.seed)

    def objective(model: Any, x: mg.Tensor) -> dict[str, mg.Tensor]:
        h = model.encode(x if options.noise is None else options.noise(x))
        if options.loss == "squared":
            terms = {"reconstruction": losses.squared_error(model.decode(h), x)}
        else:
            terms = {"reconstruction": losses.binary_cross_entropy_with_logits(model.decode_logits(h), x)}
        if options.l2:
            terms["l2"] = options.l2 * regularizers.l2(model)
        if options.contractive:
            terms["contraction"] = options.contractive * contractive(model.encode, x)
        if options.sparsity:
            factor, target = options.sparsity
            terms["sparsity"] = factor * regularizers.kl_sparsity(h, target)
        return terms

    held_out = x[:0]
    if options.validation:
        order = mg.random.Generator(options.seed, 4).permutation(len(x)).numpy()
        count = round(options.validation * len(x))
        if not 0 < count < len(x):
            raise MinigradError(f"--validation {options.validation:g} leaves {len(x) - count} of {len(x)} samples")
        x, held_out = x[order[count:]], x[order[:count]]
    checkpoint = _checkpoint(options.out)
    if options.resume and not checkpoint.exists():
        raise MinigradError(f"--resume: there is no {checkpoint}; leave it out to begin")

    history = training.fit(
        model,
        x,
        objective,
        epochs=options.epochs,
        batch_size=options.batch_size,
        seed=options.seed,
        optimizer=optim.Adam(model.parameters(), lr=options.learning_rate),
        validation=held_out if len(held_out) else None,
        patience=options.patience,
        checkpoint=checkpoint,
        resume=options.resume,
    )
    path = models.save_model(model, options.out)
    for finished in (checkpoint, checkpoint.with_name(f"{checkpoint.stem}.previous.safetensors")):
        finished.unlink(missing_ok=True)
    print(f"{model}: loss {history.loss[0]:.4f} after epoch 1, {history.loss[-1]:.4f} after epoch {history.epochs}")
    print(f"saved: {path}")


def _use(use: Callable[[models.Model, np.ndarray], mg.Tensor]) -> Callable[[argparse.Namespace], None]:
    def run(options: argparse.Namespace) -> None:
        _check_out(options.out, ".npy")
        model = models.load_model(options.model)
        x = _data(options.data, "x_test")
        features = math.prod(model.input_shape)
        if x.shape[1] != features:
            raise MinigradError(
                f"--data {options.data} has {x.shape[1]} features, but --model {options.model} takes {features}"
            )
        with mg.no_grad():
            result = use(model, x.reshape(-1, *model.input_shape)).numpy()
        result = result.reshape(len(x), -1)  # a row per sample, as the data
        buffer = io.BytesIO()
        np.save(buffer, result)
        write_atomically(options.out, buffer.getvalue())
        print(f"saved: {options.out}, {result.dtype}{list(result.shape)}")

    return run


def _info(options: argparse.Namespace) -> None:
    print(models.describe_file(options.model))


def _data(name: str, part: str) -> np.ndarray:
    if name == "digits":
        return getattr(datasets.digits(), part)
    if name == "mnist":
        return getattr(datasets.mnist(), part)
    if not name.endswith(".npy"):
        raise MinigradError(f"--data takes digits, mnist or a .npy file, got {name!r}")
    try:
        x = np.load(name, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise MinigradError(f"--data {name}: not a readable .npy file ({error})") from error
    if x.ndim != 2 or x.size == 0 or x.dtype.kind not in "biuf":
        raise MinigradError(
            f"--data {name}: expected real numbers of shape (samples, features), got {x.dtype}{list(x.shape)}"
        )
    if not np.isfinite(x).all():
        raise MinigradError(
            f"--data {name}: {int((~np.isfinite(x)).sum())} values are NaN or infinite; remove them first"
        )
    return x


def _check_out(path: Path, suffix: str) -> None:
    """Refuse what could not be written after the work, and names of which another kind of file is expected."""
    if path.suffix != suffix or path.is_dir():
        raise MinigradError(f"--out {path}: expected the name of a {suffix} file")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise MinigradError(f"--out {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise MinigradError(f"--out {path}: the folder {folder} is not writable")


def _whole(low: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {low}, got {text}")
        return value

    return whole_number


def _number(low: float, above: bool = False) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not low <= value < float("inf") or (above and value == low):
            raise argparse.ArgumentTypeError(
                f"expected a number {'above' if above else 'of at least'} {low:g}, got {text}"
            )
        return value

    return number


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if len(sizes) < 2 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"expected two or more positive widths such as 784,500, got {text!r}")
    return sizes


def _sparsity(text: str) -> tuple[float, float]:
    factor, _, target = text.partition(":")
    try:
        pair = float(factor), float(target)
    except ValueError:
        pair = (-1.0, 0.0)
    if pair[0] < 0 or not 0 < pair[1] < 1:
        raise argparse.ArgumentTypeError(f"expected a factor and a target in (0, 1), such as 3:0.05, got {text!r}")
    return pair


def _noise(text: str) -> Callable[[mg.Tensor], mg.Tensor] | None:
    if text == "none":
        return None
    kind, _, strength = text.partition(":")
    try:
        amount = float(strength)
        NOISES[kind](mg.zeros((1, 1)), amount)
    except (KeyError, ValueError, TypeError) as error:
        raise argparse.ArgumentTypeError(
            f"expected none or one of {', '.join(NOISES)} with a strength, such as masking:0.25, got {text!r}"
        ) from error
    return lambda x: NOISES[kind](x, amount)
