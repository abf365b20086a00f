"""How far long work is, as it tells whoever asked for it."""

from __future__ import annotations

from collections.abc import Callable

Advance = Callable[[int, int, str], None]  # steps done, steps in all, a note
Count = Callable[[int, int], None]  # steps done, steps in all


def counted(advance: Advance, note: str = "") -> Count:
    """`advance` for work that has no notes of its own, or always this one."""
    return lambda done, total: advance(done, total, note)
