"""The report: the sections in their order, as one self-contained HTML file, and all numbers as JSON."""

from __future__ import annotations

import base64
import importlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minigrad.atomic import write_atomically
from minigrad.errors import MissingDependencyError

from . import comparison, contraction, decay, decoders, denoising, principal, sparse
from .section import Section
from .walk import SETTINGS, Settings, Walk

# In the order in which they run: sparse compares with the plain model of denoising, contraction with the models of
# denoising and decay, comparison with all. They are shown by their numbers.
SECTIONS = (decoders, principal, denoising, decay, sparse, contraction, comparison)


@dataclass
class Results:
    """What the report shows: sections in the order of the lecture, and every number by name."""

    sections: list[Section]
    numbers: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether all modules are there."""
        return len(self.sections) == len(SECTIONS)


def run(
    data: str,
    seed: int = 0,
    settings: Settings | None = None,
    say: Callable[[str], Any] = print,
    so_far: Callable[[Results], Any] | None = None,
) -> Results:
    """Run all experiments on "digits" or "mnist".

    `say` is told what begins, and `so_far` is given the results of the modules that are done, after each of them.
    Everything but the seconds is a function of the data, the settings and the seed.
    """
    begin = time.perf_counter()
    chosen = SETTINGS[data] if settings is None else settings
    walk = Walk(data, seed, chosen, say)
    sections: list[Section] = []
    for module in SECTIONS:
        sections.append(module.section(walk))
        results = _results(walk, sections, time.perf_counter() - begin)
        if so_far is not None:
            so_far(results)
    return results


def _results(walk: Walk, done: list[Section], seconds: float) -> Results:
    sections = sorted(done, key=lambda section: section.number)
    numbers = {
        "data": walk.name,
        "seed": walk.seed,
        "settings": asdict(walk.settings),
        "train_images": len(walk.train),
        "test_images": len(walk.test),
        **{section.number: section.numbers for section in sections},
        "modules": f"{len(sections)} of {len(SECTIONS)}",
        "seconds": seconds,
    }
    return Results(sections, numbers)


def summary(numbers: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return a table for the terminal: squared errors on test images, from corrupted ones, accuracy on codes.

    The accuracy is that of a softmax regression, as in the report.
    """
    rank = numbers["7.2"]["rank"]
    rows = [("squared error per test image", "clean", "corrupted", "accuracy on codes")]
    for name, errors in numbers["7.2"]["errors"].items():
        rows.append((f"{name}, {rank} numbers", f"{errors['test']:.3f}", f"{errors['from corrupted']:.3f}", ""))
    for name, n in numbers["7.7"]["models"].items():
        rows.append((name, f"{n['error test']:.3f}", f"{n['error from corrupted']:.3f}", f"{n['accuracy']:.2%}"))
    return rows


def prepare(folder: str | Path) -> Path:
    """Make the folder, and find out before any training whether the report can be written.

    Raises
    ------
    MissingDependencyError
        jinja2 or matplotlib is not installed.
    OSError
        The folder cannot be made or written to.
    """
    for name in ("jinja2", "matplotlib"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingDependencyError(f"the report needs {name}: pip install {name}") from error
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    return folder


def write(results: Results, folder: str | Path) -> Path:
    """Write `report.html` and `results.json` into a folder, which is made if need be; return the report's path."""
    return Report(folder).write(results)


class Report:
    """The two files in a folder, which is made if need be; written again and again, each picture is drawn once."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = prepare(folder)
        self.path = self._folder / "report.html"
        self._drawn: dict[Any, str] = {}  # formulas and figures as data URLs

    def write(self, results: Results) -> Path:
        """Write `report.html` and `results.json`, each atomically; return the report's path."""
        import jinja2

        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        html = environment.get_template("report.html.j2").render(
            sections=results.sections,
            numbers=results.numbers,
            complete=results.complete,
            formula=lambda latex: self._once(_formula, latex),
            picture=lambda figure: self._once(_picture, figure),
        )
        write_atomically(self._folder / "results.json", (json.dumps(results.numbers, indent=1) + "\n").encode())
        write_atomically(self.path, html.encode())
        return self.path

    def _once(self, draw: Callable[[Any], str], what: Any) -> str:
        if what not in self._drawn:
            self._drawn[what] = draw(what)
        return self._drawn[what]


def _formula(latex: str) -> str:
    """Return a formula as a data URL of an SVG, drawn by matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.1, 0.1))
    figure.text(0, 0, latex, size=15, math_fontfamily="cm")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.02)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _picture(figure: Any) -> str:
    """Return a figure as a data URL of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
