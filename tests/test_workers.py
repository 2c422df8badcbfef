"""The workers of pytest -n do not fight for the cores."""

import os

import pytest


def test_a_worker_has_one_blas_thread():
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("is about the workers of pytest -n")
    threadpoolctl = pytest.importorskip("threadpoolctl")
    blas = [
        pool
        for pool in threadpoolctl.threadpool_info()
        if pool["internal_api"] == "openblas" and "numpy" in pool["filepath"]
    ]
    assert blas and all(pool["num_threads"] == int(os.environ["OPENBLAS_NUM_THREADS"]) for pool in blas)
