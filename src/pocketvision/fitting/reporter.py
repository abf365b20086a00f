"""How long work shows itself: sentences and progress, as the caller wishes to see them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from pocketvision.progress import Advance


class Reporter(Protocol):
    """What the main job tells while it runs."""

    def say(self, sentence: str) -> None:
        """Show one sentence."""

    def progress(self, title: str) -> AbstractContextManager[Advance]:
        """A piece of long work; the function it gives is called as the work advances."""


class Silent:
    """Tells nothing; the default of the Python API."""

    def say(self, sentence: str) -> None:
        pass

    @contextlib.contextmanager
    def progress(self, title: str) -> Iterator[Advance]:
        yield lambda done, total, note: None
