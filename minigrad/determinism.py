"""`mg.deterministic`: the same bits in every run, also where threads of a GPU would add in the order they come."""

from __future__ import annotations


class _Setting:
    deterministic = False


setting = _Setting()


def deterministic(on: bool) -> None:
    """Let equal programs with equal seeds give equal bits on a GPU too, at some cost in speed. For all threads.

    On the CPU that is so in any case. On a GPU the threads that add to one place do so in any order, which changes the
    last bits: gradients of indexing (`take`, `Embedding`, `x.at[i].add`), and running sums. With this switch the terms
    are sorted and added in a fixed order. Writes to one place (`x.at[i].set` with an index that repeats) then leave
    the last value, as on the CPU. Steps that were compiled before are recorded anew for it.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.deterministic(True)
    >>> mg.deterministic(False)
    """
    setting.deterministic = bool(on)


def is_deterministic() -> bool:
    """Return what `deterministic` was last called with."""
    return setting.deterministic
