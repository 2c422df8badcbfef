"""What the packages look up in the array module is there in CuPy too, with the keywords that they give."""

import ast

import pytest

from tests import cupy_names
from tests.standin import TABLE

USED = cupy_names.used_names()


def test_cupy_has_all_names_and_keywords_that_are_used():
    missing = set(USED) - set(TABLE["names"])
    assert not missing, f"run python -m tests.cupy_names where CuPy {TABLE['cupy']} is installed: {missing}"
    for name, keywords in USED.items():
        known = TABLE["names"][name]
        assert known is None or keywords <= set(known), name


def test_the_table_is_that_of_the_installed_cupy():
    cupy = pytest.importorskip("cupy", reason="needs CuPy to look the names up")
    for name, keywords in TABLE["names"].items():
        now = cupy_names.keywords_of(cupy_names.lookup(cupy, name))
        assert keywords is None or set(USED.get(name, ())) <= set(now or ()), name
    assert set(TABLE["ndarray"]) <= set(dir(cupy.ndarray))


def test_the_census_sees_every_way_to_write_a_name():
    found: dict[str, set[str]] = {}
    code = "xp.a.b(1, k=2)\nplace.xp.c\nx.device.xp.d(xp.e(n=1))\nnot_xp.f\nxp"
    cupy_names._Visitor(found).visit(ast.parse(code))
    assert found == {"a.b": {"k"}, "c": set(), "d": set(), "e": {"n"}}
    assert {"linalg.inv", "add.at", "matmul", "cuda.runtime.setDevice"} <= set(USED)
