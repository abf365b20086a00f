"""How far long work is, as it tells whoever asked for it."""

from __future__ import annotations

from collections.abc import Callable

Advance = Callable[[int, int, str], None]  # steps done, steps in all, a note
