"""Every example of the documentation runs: those in docstrings, and the Python blocks of README.md and docs/."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

import minigrad as mg
from tests import operations_page

pytestmark = pytest.mark.cpu_only("examples print where a tensor is, if it is not there")
ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(path for package in ("minigrad", "autoencoders") for path in (ROOT / package).rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def failures_of(examples: list[doctest.DocTest]) -> str:
    """Run examples; return what doctest says of those that fail."""
    report: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    for example in examples:
        runner.run(example, out=report.append, clear_globs=False)
    return "".join(report)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_examples_in_docstrings_are_true(path, tmp_path, monkeypatch):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    assert module.__file__ == str(path), "the package of this checkout is not the one that is imported"
    monkeypatch.chdir(tmp_path)  # what an example writes goes there
    failures = failures_of(doctest.DocTestFinder().find(module, name))
    assert not failures, failures


def run_page(path: Path) -> None:
    """Run the Python blocks of a page in order; fail where one prints something else than it says."""
    text = path.read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": path.stem}
    for block in PYTHON_BLOCK.finditer(text):
        code, line = block[1], text.count("\n", 0, block.start(1))
        if ">>>" in code:
            example = doctest.DocTestParser().get_doctest(code, names, path.name, str(path), line)
            example.globs = names  # get_doctest copies
            failures = failures_of([example])
            assert not failures, failures
        else:
            exec(compile("\n" * line + code, path, "exec"), names)


@pytest.fixture
def same_table():
    """Take out of the table what a page adds to it."""
    before = set(mg.primitives)
    yield
    for name in set(mg.primitives) - before:
        del mg.primitives[name]


@pytest.mark.usefixtures("same_table")
@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_the_python_blocks_of_a_page_run_in_order(path, tmp_path, monkeypatch):
    """The blocks of one page share their names; a block with >>> must also print what it says."""
    monkeypatch.chdir(tmp_path)
    run_page(path)


@pytest.mark.usefixtures("same_table")
def test_the_picture_of_a_training_step_is_the_one_that_its_page_draws(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(ROOT / "docs" / "programs.md")
    shown = ROOT / "docs" / "images" / "training-step.svg"
    assert (tmp_path / "step.svg").read_text(encoding="utf-8") == shown.read_text(encoding="utf-8")


def test_the_architecture_names_each_file_of_a_compiled_step_once():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+\.py)` \|", text, re.MULTILINE)
    assert sorted(named) == sorted(
        path.name for path in (ROOT / "minigrad" / "program").glob("*.py") if path.stem != "__init__"
    )


def test_the_page_of_all_operations_is_what_the_table_says():
    assert operations_page.PAGE.read_text(encoding="utf-8") == operations_page.page(), (
        "docs/operations.md is not up to date: write it anew by `python -m tests.operations_page`"
    )


def test_each_python_block_is_found():
    """A fence that is indented, or written `py` or `Python`, would never run."""
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        fences = re.findall(r"^\s*```\s*(?:py|python3?|pycon)\b", text, re.MULTILINE | re.IGNORECASE)
        assert len(PYTHON_BLOCK.findall(text)) == len(fences), name_of(path)
