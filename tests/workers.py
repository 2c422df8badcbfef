"""One BLAS thread for each worker of pytest -n: two that share two cores wait for each other instead. Before NumPy."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
