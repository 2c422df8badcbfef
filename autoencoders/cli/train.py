"""train: an autoencoder of dense layers, with any of the lecture's losses and penalties."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from autoencoders import divergence, losses, models, regularizers, training
from autoencoders.checkpoints import previous_of
from autoencoders.cli import data
from autoencoders.cli.options import (
    Help,
    check_out,
    check_replace,
    check_written,
    fraction,
    noise,
    number,
    sizes,
    sparsity,
    whole,
)
from autoencoders.contractive import contractive
from autoencoders.history import History
from minigrad import optim
from minigrad.atomic import Lock, write_atomically
from minigrad.errors import DivergenceError, MinigradError

LOSSES: dict[str, Callable[[mg.Tensor, mg.Tensor], mg.Tensor]] = {
    "squared": losses.squared_error,
    "huber": losses.huber,
}
OPTIMIZERS: dict[str, Callable[[Any, float], optim.Optimizer]] = {
    "adam": lambda parameters, lr: optim.Adam(parameters, lr=lr),
    "sgd": lambda parameters, lr: optim.SGD(parameters, lr=lr, momentum=0.9),
    "lbfgs": lambda parameters, lr: optim.LBFGS(parameters, max_iter=20),
}

SCHEDULES: dict[str, Callable[[float], float]] = {  # of the fraction of epochs that are done
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: (1.0 + math.cos(math.pi * done)) / 2,
}


def train(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser(
        "train", help="train an autoencoder and save it", usage="%(prog)s [options]", formatter_class=Help
    )
    command.add_argument("--data", default="digits", help=data.NAMES)
    command.add_argument("--images", type=Path, metavar="DIR", help="a folder of photographs for --data patches")
    command.add_argument(
        "--sizes", type=sizes, help="widths from data to code, such as 784,500; half of the features if left out"
    )
    command.add_argument("--activation", choices=tuple(models.ACTIVATIONS), default="sigmoid", help="of hidden layers")
    command.add_argument("--output", choices=tuple(models.ACTIVATIONS), default="sigmoid", help="of the last layer")
    command.add_argument(
        "--loss", choices=("cross-entropy", *LOSSES), default="cross-entropy", help="of the reconstruction"
    )
    command.add_argument(
        "--noise", type=noise, default=None,
        help="none, masking:0.25 (the fraction of values lost, in [0, 1]), gaussian:0.5 (the standard deviation), "
        "salt-and-pepper:0.1 (the fraction replaced)",
    )  # fmt: skip
    command.add_argument("--tied", action="store_true", help="decoder weights are the encoder's, transposed")
    command.add_argument("--l2", type=number(0.0), default=0.0, help="factor of the sum of squared weights")
    command.add_argument("--l1", type=number(0.0), default=0.0, help="factor of the L1 norm of the code")
    command.add_argument("--contractive", type=number(0.0), default=0.0, help="factor of the contractive penalty")
    command.add_argument("--sparsity", type=sparsity, help="factor and target of the KL penalty, such as 3:0.05")
    command.add_argument(
        "--pretrain", type=whole(1), metavar="EPOCHS", help="train layer by layer first, each so many epochs"
    )
    command.add_argument("--epochs", type=whole(0), default=30, help="0 only with --pretrain")
    command.add_argument("--batch-size", type=whole(1), default=64, help="samples in a step")
    command.add_argument(
        "--optimizer", choices=tuple(OPTIMIZERS), default="adam",
        help="sgd: with momentum 0.9; lbfgs: on all data at once, 20 iterations an epoch",
    )  # fmt: skip
    command.add_argument("--learning-rate", type=number(0.0, above=True), default=3e-3, help="of adam and sgd")
    command.add_argument(
        "--schedule", choices=tuple(SCHEDULES), default="constant",
        help="how the learning rate falls from epoch to epoch, to near 0 in the last",
    )  # fmt: skip
    command.add_argument("--seed", type=whole(0), default=0, help="of weights, order and noise")
    command.add_argument("--validation", type=fraction, default=0.0, help="fraction of the data to measure on only")
    command.add_argument("--patience", type=whole(1), help="epochs without a lower loss after which to stop")
    command.add_argument("--out", type=Path, default=Path("model.safetensors"), metavar="FILE", help="the file")
    command.add_argument("--force", action="store_true", help="replace the model that --out names, if there is one")
    command.add_argument("--resume", action="store_true", help="go on with an interrupted training of this command")
    command.set_defaults(run=run)


def kept(options: argparse.Namespace) -> str:
    """Return where an interrupted training goes on from, if it got that far."""
    if options.command != "train":
        return ""
    if not os.path.exists(checkpoint_of(options.out)):  # of a name that no file can have, too
        return ""
    return f"; the last epoch is in {checkpoint_of(options.out)}: the same command with --resume goes on from there"


def checkpoint_of(out: Path) -> Path:
    """Return the file that keeps the training until it is done."""
    return out.with_name(f"{out.stem}.checkpoint.safetensors")


def run(options: argparse.Namespace) -> None:
    """Train, save the model, and remove the checkpoint; of a training that ends before there is one nothing is left."""
    if options.loss == "cross-entropy" and options.output != "sigmoid":
        raise MinigradError("--loss cross-entropy needs --output sigmoid; use --loss squared with another output")
    if options.sparsity and options.activation != "sigmoid":
        raise MinigradError("--sparsity needs --activation sigmoid; use --l1 with another activation")
    if options.epochs == 0 and options.pretrain is None:
        raise MinigradError("--epochs 0 trains nothing; give at least 1, or --pretrain")
    if options.epochs == 0 and options.resume:
        raise MinigradError(
            "--resume goes on with epochs after those of --pretrain, and --epochs 0 has none; give more"
        )
    check_out(options.out, ".safetensors")
    check_written(options.out, previous_of(checkpoint_of(options.out)))  # whose name is the longest
    lock = Lock(options.out)
    try:
        lock.acquire()
    except BlockingIOError:
        raise MinigradError(
            f"--out {options.out}: another training is using it now; wait until that has ended, or give another name"
        ) from None
    try:
        _run(options)
    finally:
        lock.release()


def _run(options: argparse.Namespace) -> None:
    """Do it, while no other command has the same --out."""
    check_replace(options.out, options.force or options.resume)  # what is resumed was allowed to begin
    x = data.read(options.data, images=options.images, seed=options.seed).x_train
    model = _model(options, x)
    held_out = x[:0]
    if options.validation:
        ((x, held_out),) = data.split(options.seed, options.validation, f"--validation {options.validation:g}", x)
    checkpoint = checkpoint_of(options.out)
    _check_checkpoint(options, checkpoint)
    try:
        history = _train(options, model, x, held_out, checkpoint)
    except DivergenceError as error:
        left = f"; {checkpoint}, the training until then, is to be removed before" if checkpoint.exists() else ""
        told = str(error).removesuffix(divergence.ANOMALY)  # which is for Python
        raise DivergenceError(f"{told}Begin again with a smaller --learning-rate or other options{left}") from error
    finally:
        if not checkpoint.exists():
            _asked(checkpoint).unlink(missing_ok=True)
    path = models.save_model(model, options.out)
    for finished in (checkpoint, previous_of(checkpoint), _asked(checkpoint)):
        finished.unlink(missing_ok=True)
    print(model)
    if history is not None:
        print(f"loss {history.loss[0]:.4f} after epoch 1, {history.loss[-1]:.4f} after epoch {history.epochs}")
        if options.patience is not None:
            judged = history.validation or history.terms
            sums = [sum(values) for values in zip(*judged.values(), strict=True)]
            kind = "validation loss" if history.validation else "loss"
            print(f"the model is that of epoch {1 + int(np.argmin(sums))}, with the lowest {kind}, {min(sums):.4f}")
    print(f"saved: {path}")


def _train(
    options: argparse.Namespace, model: Any, x: np.ndarray, held_out: np.ndarray, checkpoint: Path
) -> History | None:
    """Train as the options say; return what `fit` measured, if it was called."""
    if options.pretrain is not None and not options.resume:
        _pretrain(options, model, x)
    if not options.epochs:
        return None
    return training.fit(
        model,
        x,
        _objective(options),
        epochs=options.epochs,
        batch_size=options.batch_size,
        seed=options.seed,
        optimizer=OPTIMIZERS[options.optimizer](model.parameters(), options.learning_rate),
        schedule=None if options.optimizer == "lbfgs" else _schedule(options, options.epochs),
        validation=held_out if len(held_out) else None,
        patience=options.patience,
        checkpoint=checkpoint,
        resume=options.resume,
    )


def _asked(checkpoint: Path) -> Path:
    """Return the file beside a checkpoint that says what was asked for."""
    return checkpoint.with_suffix(".json")


def _check_checkpoint(options: argparse.Namespace, checkpoint: Path) -> None:
    """Refuse to go on with another training, or to begin one over one that was interrupted."""
    given = {
        name: value if isinstance(value, int | float | str | None) else str(value)
        for name, value in vars(options).items()
        if name not in ("run", "resume", "force", "out", "epochs", "noise", "device")
    } | {"noise": options.noise and options.noise.__name__}
    asked = _asked(checkpoint)
    if not options.resume:
        if checkpoint.exists():
            raise MinigradError(
                f"{checkpoint} is of a training that was interrupted: --resume goes on with it; to begin another, "
                "remove it, or give another --out"
            )
        if previous_of(checkpoint).exists():
            raise MinigradError(f"{previous_of(checkpoint)} would be replaced: remove it, or give another --out")
        if asked.exists() and not _is_left_over(asked, given):
            raise MinigradError(f"{asked} would be replaced: rename or remove it, or give another --out")
        write_atomically(asked, json.dumps(given).encode())
        return
    if not checkpoint.exists():
        raise MinigradError(f"--resume: there is no {checkpoint}; leave it out to begin")
    try:
        before = json.loads(asked.read_text())
    except (OSError, ValueError) as error:
        raise MinigradError(f"--resume: {asked}, which says what was begun, cannot be read ({error})") from error
    if not isinstance(before, dict) or before.get("command") != given["command"]:
        raise MinigradError(f"--resume: {asked} does not say what was begun: it is not of this command")
    for name, value in given.items():
        if value != before.get(name, value):
            option = name.replace("_", "-")
            raise MinigradError(f"--resume: the training was begun with --{option} {before[name]}, not {value}")


def _is_left_over(asked: Path, given: dict[str, Any]) -> bool:
    """Return whether a file is of this command, killed before its first checkpoint, and not one of the user's."""
    try:
        before = json.loads(asked.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(before, dict) and before.keys() == given.keys() and before["command"] == given["command"]


def _model(options: argparse.Namespace, x: np.ndarray) -> models.Autoencoder:
    """Return the model that is asked for, if it fits the data."""
    widths = options.sizes or (x.shape[1], max(1, x.shape[1] // 2))
    if widths[0] != x.shape[1]:
        raise MinigradError(f"--sizes begins with {widths[0]}, but the data have {x.shape[1]} features")
    if options.loss == "cross-entropy" and not (x.min() >= 0 and x.max() <= 1):
        raise MinigradError(
            f"--loss cross-entropy needs data in [0, 1], but --data {options.data} reaches from {x.min():g} to "
            f"{x.max():g}; rescale them, or use --loss squared --output linear"
        )
    if options.pretrain is not None and len(widths) < 3:
        raise MinigradError(f"--pretrain trains layer by layer, and --sizes {widths} has one; leave it out")
    if options.pretrain is not None and options.loss == "cross-entropy" and options.activation != "sigmoid":
        raise MinigradError("--pretrain with --loss cross-entropy needs --activation sigmoid: codes are its targets")
    make: type[models.Autoencoder] = models.Autoencoder if options.pretrain is None else models.StackedAutoencoder
    return make(widths, options.activation, options.output, options.tied, seed=options.seed)


def _objective(options: argparse.Namespace) -> Callable[[Any, mg.Tensor], dict[str, mg.Tensor]]:
    def objective(model: Any, x: mg.Tensor) -> dict[str, mg.Tensor]:
        h = model.encode(x if options.noise is None else options.noise(x))
        if options.loss == "cross-entropy":
            terms = {"reconstruction": losses.binary_cross_entropy_with_logits(model.decode_logits(h), x)}
        else:
            terms = {"reconstruction": LOSSES[options.loss](model.decode(h), x)}
        if options.l2:
            terms["l2"] = options.l2 * regularizers.l2(model)
        if options.l1:
            terms["l1"] = options.l1 * regularizers.l1(h)
        if options.contractive:
            terms["contraction"] = options.contractive * contractive(model.encode, x)
        if options.sparsity:
            factor, target = options.sparsity
            terms["sparsity"] = factor * regularizers.kl_sparsity(h, target)
        return terms

    return objective


def _schedule(options: argparse.Namespace, epochs: int) -> Callable[[int], float]:
    """Return the learning rate as a function of the epoch, which begins at 1."""
    return lambda epoch: options.learning_rate * SCHEDULES[options.schedule]((epoch - 1) / epochs)


def _pretrain(options: argparse.Namespace, model: Any, x: np.ndarray) -> None:
    histories = model.pretrain(
        x,
        _objective(options),
        epochs=options.pretrain,
        batch_size=options.batch_size,
        seed=options.seed,
        optimizer=lambda parameters: OPTIMIZERS[options.optimizer](parameters, options.learning_rate),
    )
    for i, history in enumerate(histories):
        print(f"layer {i}: loss {history.loss[0]:.4f} after epoch 1, {history.loss[-1]:.4f} after {history.epochs}")
