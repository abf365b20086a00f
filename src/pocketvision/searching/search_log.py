"""scored.jsonl: every member that was scored, a line each, in the order it was asked for."""

from __future__ import annotations

import os
from pathlib import Path

from pocketvision.compress.sampling import Scored
from pocketvision.errors import ArtefactError
from pocketvision.record.words import Sampling
from pocketvision.searching.search_config import LoggedScore
from pocketvision.storage import from_json, to_json, write_into

LOG = "scored.jsonl"


class ScoreLog:
    """The log in a folder. A line that a killed process left half written is cut off."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG
        self.entries: list[LoggedScore] = []
        content = self.path.read_bytes() if self.path.exists() else b""
        lines = content.split(b"\n")
        for number, line in enumerate(lines[:-1]):
            self.entries.append(_entry(line, f"{self.path}, line {number + 1}"))
        if lines[-1]:
            write_into(self.path, b"".join(line + b"\n" for line in lines[:-1]))

    def add(self, entry: LoggedScore) -> None:
        """Append a line that is on the disk when this returns."""
        with self.path.open("ab") as file:
            file.write(to_json(entry, indent=None).encode())
            file.flush()
            os.fsync(file.fileno())
        self.entries.append(entry)

    def of(self, origin: Sampling, generation: int) -> list[LoggedScore]:
        """What one way to search had scored in a generation, so far."""
        return [e for e in self.entries if (e.origin, e.generation) == (origin, generation)]

    def scored(self, origin: Sampling, generation: int) -> list[Scored]:
        """The same, as a method of search is told it."""
        return [_scored(entry) for entry in self.of(origin, generation)]

    @property
    def all_scored(self) -> list[Scored]:
        """Of all ways and generations."""
        return [_scored(entry) for entry in self.entries]


def _scored(entry: LoggedScore) -> Scored:
    return Scored(
        member=entry.member,
        generation=entry.generation,
        latency_ms=entry.latency_ms,
        size_bytes=entry.size_bytes,
        accuracy=entry.accuracy,
    )


def _entry(line: bytes, where: str) -> LoggedScore:
    """Raises: ArtefactError: a line that is no score; the message says where."""
    try:
        return from_json(LoggedScore, line, source=where)
    except ArtefactError as error:
        raise ArtefactError(
            f"{error} Remove that file to score all members again, or give another --out."
        ) from error
