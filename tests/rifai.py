"""The comparison of Rifai et al. (2011), table 1, by random search: `python -m tests.rifai --help`.

One layer of 1000 sigmoid units with tied weights is pretrained on 50,000 images of MNIST in five ways, and fine-tuned
with labels. Strengths, learning rates and epochs are drawn at random; the trial with the least error on the other
10,000 training images counts. Its error on the test images is reported, with the mean norm of the Jacobian on them and
how saturated the code is, both before fine-tuning.

Trials are a function of the seed, the model and their number. The file is written after each, and read when it is
there: the search goes on from it, if its trials were made as the new ones are to be. `--seconds 0` prints the table of
a file. AUTOENCODERS_DATA names the folder above mnist/.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import autoencoders as ae
import minigrad as mg
from minigrad import optim
from minigrad.atomic import write_atomically
from minigrad.errors import DivergenceError

UNITS, VALIDATION, TEST = 1000, 10_000, 10_000
EPOCHS, TUNING_EPOCHS, BATCHES = (20, 50, 100), (20, 40), (64, 128, 256)


def entropy(model, x, target):
    return ae.binary_cross_entropy_with_logits(model.decode_logits(model.encode(x)), target)


def plain(model, x, strength):
    return entropy(model, x, x)


def decayed(model, x, strength):
    return {"cross entropy": entropy(model, x, x), "decay": strength * ae.l2(model)}


def masked(model, x, strength):
    return entropy(model, ae.masking_noise(x, strength), x)


def noisy(model, x, strength):
    return entropy(model, ae.gaussian_noise(x, strength), x)


def contractive(model, x, strength):
    return {"cross entropy": entropy(model, x, x), "contraction": strength * ae.contractive(model.encode, x)}


@dataclass(frozen=True)
class Variant:
    """One row of the table: what is minimised, and from which range its strength is drawn."""

    objective: Callable
    low: float = 0.0
    high: float = 0.0
    logarithmic: bool = True


VARIANTS = {
    "CAE": Variant(contractive, 0.01, 1.0),
    "DAE-g": Variant(noisy, 0.1, 0.6, logarithmic=False),
    "DAE-b": Variant(masked, 0.1, 0.6, logarithmic=False),
    "AE+wd": Variant(decayed, 1e-5, 1e-2),
    "AE": Variant(plain),
}
PUBLISHED = {"CAE": 1.14, "DAE-g": 1.18, "DAE-b": 1.57, "AE+wd": 1.68, "AE": 1.78}  # percent


@dataclass(frozen=True)
class Split:
    """Images and labels: to train on, to choose by, and to report on."""

    x: np.ndarray
    y: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def mnist():
    data = ae.datasets.mnist()
    cut = len(data.x_train) - VALIDATION
    return Split(
        data.x_train[:cut], data.y_train[:cut], data.x_train[cut:], data.y_train[cut:], data.x_test, data.y_test
    )


def draw(name, number, seed, shorter=1):
    """Return the hyper-parameters of a trial. `shorter` divides the epochs, to try the script."""
    rng = np.random.default_rng([seed, list(VARIANTS).index(name), number])

    def between(low, high):
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    variant = VARIANTS[name]
    strength = 0.0
    if variant.high:
        linear = float(rng.uniform(variant.low, variant.high))
        strength = between(variant.low, variant.high) if variant.logarithmic else linear
    return {
        "strength": strength,
        "rate": between(3e-4, 5e-3),
        "epochs": max(1, int(rng.choice(EPOCHS)) // shorter),
        "batch": int(rng.choice(BATCHES)),
        "tuning_rate": between(2e-4, 3e-3),
        "tuning_epochs": max(1, int(rng.choice(TUNING_EPOCHS)) // shorter),
        "seed": int(rng.integers(2**31)),
    }


def trial(data, name, chosen, units=UNITS):
    """Pretrain, measure, fine-tune; return the figures."""
    begun, epochs = time.perf_counter(), chosen["epochs"]
    model = ae.Autoencoder((data.x.shape[1], units), output="sigmoid", tied=True, seed=chosen["seed"])
    history = ae.fit(
        model, data.x, partial(VARIANTS[name].objective, strength=chosen["strength"]),
        epochs=epochs, batch_size=chosen["batch"], seed=chosen["seed"], progress=False,
        optimizer=optim.Adam(model.parameters(), lr=chosen["rate"]),
        schedule=lambda epoch: chosen["rate"] * (1 - (epoch - 1) / epochs),
    )  # fmt: skip
    jacobian = float(ae.features.jacobian_norms(model.encode, data.x_test, 2048).mean())
    saturated = float(ae.features.saturation(ae.features.codes(model, data.x_test)).mean())
    pretrained = time.perf_counter() - begun
    classifier = ae.fine_tune(
        model, data.x, data.y, epochs=chosen["tuning_epochs"], batch_size=128, learning_rate=chosen["tuning_rate"],
        seed=chosen["seed"], progress=False,
    )  # fmt: skip
    return {
        "loss": history.loss[-1],
        "jacobian": jacobian,
        "saturated": saturated,
        "validation_error": 1 - classifier.accuracy(data.x_validation, data.y_validation),
        "test_error": 1 - classifier.accuracy(data.x_test, data.y_test),
        "pretraining_seconds": pretrained,
        "seconds": time.perf_counter() - begun,
    }


def settings(units, shorter):
    """Return what the trials of one table have in common."""
    device = mg.devices.default_device().type
    return {"device": device, "precision": mg.matmul_precision(), "units": units, "shorter": shorter}


def read(file):
    return json.loads(file.read_text(encoding="utf-8"))["trials"] if file.exists() else []


def search(data, seconds, names, seed, file, say=print, units=UNITS, shorter=1):
    """Run trials of the models in turn, after those that the file has, for about that long; return all of them."""
    trials, common = read(file), settings(units, shorter)
    for t in trials:
        others = {key: t.get(key, "not said") for key in common}
        if others != common:
            raise SystemExit(f"{file} has trials with {others}, not with {common}: name another file")
    end = time.perf_counter() + seconds
    longest = 0.0
    while longest == 0.0 or time.perf_counter() + longest < end:  # at least one
        done = {name: sum(t["model"] == name and t["search_seed"] == seed for t in trials) for name in names}
        name = min(names, key=lambda n: done[n])
        number, begun = done[name], time.perf_counter()
        chosen = draw(name, number, seed, shorter)
        try:
            found = trial(data, name, chosen, units)
        except DivergenceError as error:
            found = {"diverged": str(error)[:200], "seconds": time.perf_counter() - begun}
        trials.append({"model": name, "number": number, "search_seed": seed, **common, **chosen, **found})
        longest = max(longest, found["seconds"])
        write_atomically(file, json.dumps({"trials": trials}, indent=1).encode())
        if "diverged" in found:
            result = f"diverged: {found['diverged']}"
        else:
            result = f"validation {found['validation_error']:.2%}, |J| {found['jacobian']:.2f}"
        say(f"{name} {number}: strength {chosen['strength']:.3g}, {found['seconds']:.1f} s, {result}")
    return trials


def best(trials):
    """Return for every model the trial with the least error on the validation images."""
    found = {}
    for t in trials:
        if "diverged" not in t and t["validation_error"] < found.get(t["model"], {}).get("validation_error", 2.0):
            found[t["model"]] = t
    return {name: found[name] for name in VARIANTS if name in found}


def table(trials, test_images=TEST):
    """Return the best trials as Markdown. The interval of the error is that of 95 %, as in the paper."""
    common = ", ".join(f"{key} {trials[0].get(key, 'not said')}" for key in settings(UNITS, 1))
    lines = [
        f"{len(trials)} trials, {sum('diverged' in t for t in trials)} diverged; {common}.",
        "",
        "| model | strength | trials | validation | test error | published | mean norm of J | saturated |",
        "|---|" + "---:|" * 7,
    ]
    for name, t in best(trials).items():
        error = t["test_error"]
        half = 1.96 * np.sqrt(error * (1 - error) / test_images)
        count = sum(other["model"] == name for other in trials)
        lines.append(
            f"| {name} | {t['strength']:.3g} | {count} | {t['validation_error']:.2%} | {error:.2%} ± {half:.2%} | "
            f"{PUBLISHED[name]:.2f} % | {t['jacobian']:.2f} | {t['saturated']:.0%} |"
        )
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m tests.rifai", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda, cuda:1, ... (cpu)")
    parser.add_argument("--precision", choices=("float32", "tf32"), default="float32", help="of products on a GPU")
    parser.add_argument("--seconds", type=float, default=3600.0, help="for how long (3600); 0: only the table")
    parser.add_argument("--seed", type=int, default=0, help="of the search (0)")
    parser.add_argument("--json", type=Path, default=Path("rifai.json"), metavar="FILE", help="all trials (rifai.json)")
    parser.add_argument("--models", default=",".join(VARIANTS), metavar="NAMES", help=f"of {', '.join(VARIANTS)} (all)")
    parser.add_argument("--shorter", type=int, default=1, metavar="N", help="an Nth of the epochs, to try it out (1)")
    options = parser.parse_args(arguments)
    names = options.models.split(",")
    if not set(names) <= set(VARIANTS):
        parser.error(f"--models {options.models}: the models are {', '.join(VARIANTS)}")
    if not options.json.resolve().parent.is_dir():
        parser.error(f"--json {options.json}: its folder does not exist")
    if options.seconds:
        with mg.use_device(options.device):
            mg.set_matmul_precision(options.precision)
            data, say = mnist(), partial(print, flush=True)
            search(data, options.seconds, names, options.seed, options.json, say, shorter=options.shorter)
    trials = read(options.json)
    print(table(trials) if trials else f"{options.json} has no trials yet")


if __name__ == "__main__":
    main()
