"""Death at every change of the disk, without processes: nothing reaches the disk behind it."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from pocketvision.errors import ArtefactError
from pocketvision.fitting.artefact import TRAINING, read_state
from pocketvision.storage import sha256_bytes, to_json
from pocketvision.train.watch import METRICS, read_metrics

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "shutil.copyfile")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
DEATHS_AT_ONE_CHANGE = 3  # seconds in the state make moments endless on a slow machine
RANDOM = re.compile(r"\.[a-z0-9_]{8}(?=[./]|$)")


class Killed(BaseException):
    """The process is no more."""


def dying(function: Any, calls: list[int], *, after: int) -> Any:
    """`function`; the process dies when those that share `calls` were called more often."""

    def called(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] > after:
            raise Killed
        return function(*arguments, **named)

    return called


class Reaper:
    """Kills before each change below `folder` that it has not killed at yet, a few times at most.

    It hears of changes from the interpreter itself, so a new one is met unasked. A change is known
    by its kind, its path, and how far the run in `out` had come on the disk.
    """

    def __init__(self, folder: Path, out: Path) -> None:
        self.folder, self.out = folder, out
        self.killed_at: list[str] = []
        self.deaths: Counter[str] = Counter()
        self.alive = False
        self.dead = False
        sys.addaudithook(self._hear)  # for ever: there is no way to take it back

    def live(self) -> None:
        """From now on it kills, once; call it again to be reborn."""
        self.alive, self.dead = True, False

    def rest(self) -> None:
        """From now on nobody dies."""
        self.alive = self.dead = False

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.alive:
            return
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if not (writes or event in CHANGES):
            return
        place = self._place(event, arguments)
        if place is None:
            return
        if self.dead:
            raise Killed
        if writes:  # nothing has changed before it that had not before the last change
            return
        self.alive = False  # looking at the disk is no change
        moment = f"{event} {place} {self._progress()}"
        self.alive = True
        change = f"{event} {place}"
        if moment not in self.killed_at and self.deaths[change] < DEATHS_AT_ONE_CHANGE:
            self.killed_at.append(moment)
            self.deaths[change] += 1
            self.dead = True
            raise Killed

    def _place(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        """The path that is changed, without what is random in it; None: it is elsewhere."""
        path = arguments[1] if event in ("os.rename", "shutil.copyfile") else arguments[0]
        if not isinstance(path, (str, bytes, os.PathLike)):
            return None
        absolute = os.path.abspath(os.fsdecode(path))
        if not absolute.startswith(f"{self.folder}{os.sep}"):
            return None
        return RANDOM.sub("", os.path.relpath(absolute, self.folder))

    def _progress(self) -> str:
        try:
            state = replace(read_state(self.out), spent_s=0.0)
        except ArtefactError:
            return "nothing"
        epochs = len(read_metrics(self.out / TRAINING / METRICS))
        return f"{sha256_bytes(to_json(state).encode())[:8]} {epochs}"
