"""Freed memory stays with the process from step to step."""

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
if sys.argv[1] == "with":
    import minigrad

def step():
    arrays = [np.ones(1_500_000) for _ in range(3)]  # of 12 MB

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(5):
    step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about the C library of GNU")
def test_pages_are_not_taken_anew_in_every_step():
    """Three arrays of 12 MB are more than twice the largest one: by itself glibc gives them back in every step."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}

    def faults(how):
        run = subprocess.run([sys.executable, "-c", CODE, how], check=True, env=environment, capture_output=True)
        return int(run.stdout)

    assert 10 * faults("with") < faults("without")
