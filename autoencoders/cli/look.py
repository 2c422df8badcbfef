"""lecture, figures, info: reports and pictures of models."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from autoencoders import features as measures
from autoencoders import figures as drawings
from autoencoders import lecture as lectures
from autoencoders import losses, models, pca
from autoencoders.cli import data
from autoencoders.cli.options import Help, whole
from autoencoders.cli.use import load
from minigrad.atomic import write_atomically
from minigrad.errors import MinigradError

SHOWN, MEASURED = 10, 500  # samples


def lecture(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser(
        "lecture", help="the lecture module by module: write report.html and results.json", formatter_class=Help,
        epilog="Both files are written after each module, with the modules so far: Ctrl-C keeps what is finished.",
    )  # fmt: skip
    times = "; ".join(f"{name} takes {duration}" for name, duration in lectures.DURATIONS.items())
    command.add_argument("--data", choices=tuple(lectures.SETTINGS), default="digits", help=times)
    command.add_argument("--out", type=Path, default=Path("lecture-report"), metavar="DIR", help="the folder")
    command.add_argument("--seed", type=whole(0), default=0, help="of everything random")
    command.set_defaults(run=_lecture)


def figures(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser("figures", help="draw what a model does with data", formatter_class=Help)
    command.add_argument("--model", type=Path, required=True, metavar="FILE")
    command.add_argument("--data", default="digits", help=f"{data.NAMES}; {data.PICTURES}")
    command.add_argument("--labels", metavar="FILE.npy", help="classes of the samples of --data, for colours")
    command.add_argument("--out", type=Path, default=Path("figures"), metavar="DIR", help="the folder")
    command.add_argument("--format", choices=("png", "pdf", "svg"), default="png", help="of the files")
    command.set_defaults(run=_figures)


def info(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser("info", help="describe a saved model, and with --data measure it")
    command.add_argument("--model", type=Path, required=True, metavar="FILE")
    command.add_argument("--data", help=f"{data.NAMES}; on it errors, the floor of PCA and the code are measured")
    command.set_defaults(run=_info)


def _lecture(options: argparse.Namespace) -> None:
    _folder(options.out)
    report = lectures.Report(options.out)  # first: minutes of training are lost on one that cannot be written
    say = partial(print, flush=True)  # a reader of a pipe, or of what a time limit left, sees how far it came
    say(f"the lecture on {options.data} takes {lectures.DURATIONS[options.data]}")
    finished = ""

    def so_far(results: lectures.Results) -> None:
        nonlocal finished
        report.write(results)
        finished = f"; {results.numbers['modules']} modules are finished, see {report.path}"

    try:
        results = lectures.run(options.data, options.seed, say=say, so_far=so_far)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(finished) from None  # the message goes on with it
    for row in lectures.summary(results.numbers):
        print(f"{row[0]:28} {row[1]:>9} {row[2]:>9} {row[3]:>17}")
    print(
        f"linear: {results.numbers['7.2']['above_floor_percent']:.2f} % above the PCA floor; "
        f"{results.numbers['seconds']:.0f} s in all"
    )
    print(f"report: {report.path}")


def _figures(options: argparse.Namespace) -> None:
    _folder(options.out)
    found = data.read(options.data, options.labels)
    model, x = load(options, found.x_test)
    h = measures.codes(model, x).reshape(len(x), -1)
    x_hat = measures.reconstructions(model, x[:SHOWN])
    activation = model.activation if isinstance(model, models.Autoencoder) else None  # of the code
    few = x[:MEASURED]
    drawn: dict[str, Callable[[], Any]] = {
        "codes": lambda: drawings.codes_2d(h, found.y_test),
        "activations": lambda: drawings.activation_histograms({"code": h}),
        "mean_activations": lambda: drawings.mean_activations({"code": h}),
        "jacobian_norms": lambda: drawings.jacobian_norms({"encoder": measures.jacobian_norms(model.encode, few)}),
        "singular_values": lambda: drawings.singular_values(
            {"encoder": measures.singular_values_along(model.encode, few[:100])}
        ),
        "error_and_floor": lambda: drawings.error_against_floor(
            found.x_test, {"model": {h.shape[1]: measures.squared_errors(model, x).mean()}}
        ),
    }
    shape = found.image_shape
    if shape is not None:
        rows = {"input": x[:SHOWN].reshape(len(x_hat), -1), "reconstruction": x_hat.reshape(len(x_hat), -1)}
        drawn["reconstructions"] = lambda: drawings.reconstructions(rows, shape)
        if isinstance(model, models.Autoencoder):
            first = measures.max_activation_inputs(model.encoder_weights[0])
            drawn["filters"] = lambda: drawings.filters({"first layer": first}, shape)
    if activation in ("sigmoid", "tanh"):
        drawn["saturation"] = lambda: drawings.saturation({"code": h}, activation)
    if h.shape[1] < 2 or (h.shape[1] > 2 and len(h) < 2):  # more than two units are projected onto the plane
        del drawn["codes"]
    if not 1 <= h.shape[1] <= min(found.x_test.shape):
        del drawn["error_and_floor"]  # PCA has no more directions than that
    options.out.mkdir(parents=True, exist_ok=True)
    if shape is None:
        print(
            f"--data {options.data}: {found.x_test.shape[1]} features are no picture ({data.PICTURES}); figures of "
            "pictures are left out"
        )
    for name, draw in drawn.items():
        buffer = io.BytesIO()
        draw().savefig(buffer, format=options.format, dpi=150)
        write_atomically(options.out / f"{name}.{options.format}", buffer.getvalue())
        print(f"saved: {options.out / name}.{options.format}")


def _info(options: argparse.Namespace) -> None:
    described = models.describe_file(options.model)
    found = None if options.data is None else data.read(options.data)
    print(described)
    if found is None:
        return
    model, x = load(options, found.x_test)
    h = measures.codes(model, x).reshape(len(x), -1)
    parts = {"train": found.x_train, "test": found.x_test}
    if found.x_train is found.x_test:
        parts = {"these data": found.x_test}
    for name, part in parts.items():
        rows = part.reshape(-1, *model.input_shape)
        print(f"squared error per sample, {name}: {measures.squared_errors(model, rows).mean():.4f}")
    if model.output == "sigmoid" and found.x_test.min() >= 0 and found.x_test.max() <= 1:
        for name, part in parts.items():
            entropy = _cross_entropy(model, part.reshape(-1, *model.input_shape))
            print(f"cross entropy per feature, {name}: {entropy:.5f} nats")
    if h.shape[1] <= min(found.x_train.shape):
        floor = pca.reconstruction_floor(found.x_train, h.shape[1])
        print(f"PCA floor (affine decoders) with {h.shape[1]} directions: {floor:.4f}")
    norms = measures.jacobian_norms(model.encode, x[:MEASURED])
    print(f"mean norm of the encoder's Jacobian: {norms.mean():.4f} on {len(norms)} samples")
    print(f"mean activation: {h.mean():.4f}; dead units: {int(measures.dead_units(h, 0.01).sum())} of {h.shape[1]}")


def _cross_entropy(model: Any, x: np.ndarray) -> float:
    """Return the cross entropy per feature."""

    def per_sample(part: mg.Tensor) -> mg.Tensor:
        loss = losses.binary_cross_entropy_with_logits(model.decode_logits(model.encode(part)), part)
        return mg.full((len(part),), loss.item(), "float64")

    return float(measures.in_pieces(per_sample, model, x, 4096, "info").mean() / x[0].size)


def _folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise MinigradError(f"--out {path}: there is a file of that name; name a folder")
