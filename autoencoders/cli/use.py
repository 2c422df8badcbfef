"""encode, reconstruct, features: what a trained model is for."""

from __future__ import annotations

import argparse
import importlib
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from autoencoders import classifier, models
from autoencoders import features as measures
from autoencoders.cli import data
from autoencoders.cli.options import Help, check_out, check_replace, fraction, noise, number, whole
from minigrad.atomic import write_atomically
from minigrad.errors import MinigradError, MissingDependencyError


def encode(commands: Any) -> None:
    """Add the command."""
    _add_use(commands, "encode", "write the codes of data", measures.codes)


def reconstruct(commands: Any) -> None:
    """Add the command."""
    _add_use(commands, "reconstruct", "write the reconstructions of data", measures.reconstructions)


def features(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser(
        "features", help="classify by the codes of a model, or fine-tune it to classify", usage="%(prog)s [options]",
        formatter_class=Help,
    )  # fmt: skip
    command.add_argument("--model", type=Path, metavar="FILE", help="without it, pixels are classified")
    command.add_argument("--data", default="digits", help="digits, mnist, or a .npy file with --labels")
    command.add_argument("--labels", metavar="FILE.npy", help="classes of the samples; a fifth is kept to test")
    command.add_argument(
        "--classifier", default="softmax", help="softmax, or a class of scikit-learn such as sklearn.svm.SVC"
    )
    command.add_argument("--l2", type=number(0.0), default=1e-5, help="factor of the squared weights of softmax")
    command.add_argument(
        "--fine-tune", type=whole(1), metavar="EPOCHS", help="train the encoder and the softmax on top, from there"
    )
    command.add_argument("--noise", type=noise, default=None, help="on the input while fine-tuning")
    command.add_argument("--dropout", type=fraction, default=0.0, help="before the softmax while fine-tuning")
    command.add_argument("--learning-rate", type=number(0.0, above=True), default=1e-3, help="of fine-tuning")
    command.add_argument("--batch-size", type=whole(1), default=128, help="of fine-tuning")
    command.add_argument("--seed", type=whole(0), default=0)
    command.set_defaults(run=_features)


def load(options: argparse.Namespace, x: np.ndarray) -> tuple[Any, np.ndarray]:
    """Return the model of --model, and rows in the shape of its samples."""
    model = models.load_model(options.model)
    width = math.prod(model.input_shape)
    if x.shape[1] != width:
        raise MinigradError(
            f"--data {options.data} has {x.shape[1]} features, but --model {options.model} takes {width}"
        )
    return model, x.reshape(-1, *model.input_shape)


def _add_use(commands: Any, name: str, text: str, use: Callable[[Any, np.ndarray], np.ndarray]) -> None:
    command = commands.add_parser(name, help=text, formatter_class=Help)
    command.add_argument("--model", type=Path, required=True, metavar="FILE")
    command.add_argument("--data", default="digits", help=f"{data.NAMES}; of digits and mnist the test images")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.npy")
    command.add_argument("--force", action="store_true", help="replace the file that --out names, if there is one")

    def run(options: argparse.Namespace) -> None:
        check_out(options.out, ".npy")
        check_replace(options.out, options.force, model=options.model, data=options.data)
        model, x = load(options, data.read(options.data).x_test)
        result = use(model, x).reshape(len(x), -1)  # a row per sample, as the data
        buffer = io.BytesIO()
        np.save(buffer, result)
        write_atomically(options.out, buffer.getvalue())
        print(f"saved: {options.out}, {result.dtype}{list(result.shape)}")

    command.set_defaults(run=run)


def _features(options: argparse.Namespace) -> None:
    estimator = None if options.classifier == "softmax" else _estimator(options.classifier)
    if options.fine_tune is None and (options.noise or options.dropout):
        raise MinigradError("--noise and --dropout are for --fine-tune")
    if options.fine_tune is not None and (options.model is None or estimator is not None):
        raise MinigradError("--fine-tune needs --model, and its classifier is softmax")
    found = data.read(options.data, options.labels, seed=options.seed, held_out=0.2)
    if found.y_train is None or found.y_test is None:
        raise MinigradError(f"--data {options.data} has no classes; give them with --labels FILE.npy")
    model, train, test = None, found.x_train, found.x_test
    if options.model is not None:
        model, train = load(options, train)
        test = test.reshape(-1, *model.input_shape)
    given = train, test
    if model is not None:
        train, test = (measures.codes(model, x).reshape(len(x), -1) for x in given)
    if estimator is None:
        softmax = classifier.softmax_regression(train, found.y_train, l2=options.l2)
        scores = [softmax.accuracy(x, y) for x, y in ((train, found.y_train), (test, found.y_test))]
    else:
        try:
            estimator.fit(train, found.y_train)
        except ValueError as error:
            raise MinigradError(f"--classifier {options.classifier}: {error}") from error
        scores = [estimator.score(x, y) for x, y in ((train, found.y_train), (test, found.y_test))]
    what = "the inputs" if model is None else f"codes of {model}"
    print(f"{options.classifier} on {what}: accuracy {scores[0]:.2%} on train, {scores[1]:.2%} on test", flush=True)
    if options.fine_tune is not None:
        _fine_tune(options, model, softmax, given[0], found.y_train, given[1], found.y_test)


def _fine_tune(
    options: argparse.Namespace,
    model: Any,
    softmax: classifier.SoftmaxRegression,
    train: np.ndarray,
    y: np.ndarray,
    test: np.ndarray,
    y_test: np.ndarray,
) -> None:
    """Train the encoder and the softmax on top, with labels; print the error on test data."""

    def report(net: Any, history: Any) -> None:
        if history.epochs % 10 == 0 or history.epochs == options.fine_tune:
            error = 1 - net.accuracy(test, y_test)
            print(f"epoch {history.epochs}: cross entropy {history.loss[-1]:.5f}, test error {error:.2%}", flush=True)

    whole_model = classifier.fine_tune(
        model, train, y, epochs=options.fine_tune, batch_size=options.batch_size, seed=options.seed,
        learning_rate=options.learning_rate, corrupt=options.noise, dropout=options.dropout, callback=report,
        softmax=softmax,
    )  # fmt: skip
    accuracy = whole_model.accuracy(test, y_test)
    print(f"fine-tuned {model}: accuracy {accuracy:.2%} on test, error {1 - accuracy:.2%} on test")


def _estimator(name: str) -> Any:
    """Return an estimator of scikit-learn with its own settings, by the name of its class."""
    module, _, kind = name.rpartition(".")
    if not module.startswith("sklearn."):
        raise MinigradError(f"--classifier {name}: expected softmax or a class of scikit-learn such as sklearn.svm.SVC")
    try:
        importlib.import_module("sklearn")
    except ImportError as error:
        raise MissingDependencyError(f"--classifier {name} needs scikit-learn: pip install scikit-learn") from error
    try:
        estimator = getattr(importlib.import_module(module), kind)()
    except (ImportError, AttributeError, TypeError) as error:
        raise MinigradError(
            f"--classifier {name}: scikit-learn has no such class to be made without arguments"
        ) from error
    from sklearn.base import is_classifier

    if not is_classifier(estimator):
        raise MinigradError(f"--classifier {name}: expected a classifier of scikit-learn")
    return estimator
