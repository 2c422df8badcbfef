"""The report: one self-contained HTML file, and its numbers as JSON."""

from __future__ import annotations

import base64
import importlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from minigrad.errors import MissingDependencyError
from minigrad.files import write_atomically

from .experiments import Results


def table(numbers: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return the rows of the table: model, and squared error per image on train, test, and corrupted test images."""
    rank, units = numbers["settings"]["rank"], numbers["settings"]["hidden"]
    return [
        (name, f"{m['error_train']:.3f}", f"{m['error_test']:.3f}", f"{m['error_test_from_corrupted']:.3f}")
        for name, m in (
            (f"PCA, {rank} directions", numbers["pca"]),
            (f"linear, {rank} units", numbers["linear"]),
            (f"plain, {units} units", numbers["plain"]),
            (f"denoising, {units} units", numbers["denoising"]),
        )
    ]


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
            raise MissingDependencyError(f"the report needs {name}: pip install 'minigrad[autoencoders]'") from error
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    return folder


def write(results: Results, folder: str | Path) -> Path:
    """Write `report.html` and `results.json` into a folder, which is made if need be; return the report's path."""
    folder = prepare(folder)
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    images = {name: _as_data(figure) for name, figure in results.figures.items()}
    html = environment.get_template("report.html.j2").render(
        numbers=results.numbers, rows=table(results.numbers), images=images
    )
    write_atomically(folder / "results.json", (json.dumps(results.numbers, indent=1) + "\n").encode())
    write_atomically(folder / "report.html", html.encode())
    return folder / "report.html"


def _as_data(figure: Any) -> str:
    """Return a figure as PNG in a data URL."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
