"""Heap: freed memory that the process keeps for the next step.

A training step takes and frees megabytes of arrays. glibc gives free memory at the end of its heap back to the system
where it is more than twice the largest block that was freed so far and had pages of its own (mallopt(3), at
M_MMAP_THRESHOLD: "dynamic"), and then takes it anew, page by page: that can cost as much as the step. After one block
of 32 MB, the largest that counts, it keeps up to 64 MB. Other systems do not mind.
"""

from __future__ import annotations

import numpy as np

LARGEST = 2**25 - 2**13  # bytes; with what malloc adds, not above 32 MB


def keep_freed_memory() -> None:
    """Take such a block, which costs no memory as long as nothing is written to it, and free it."""
    np.empty(LARGEST, np.uint8)
