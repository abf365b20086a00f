"""A finding about image files: a sentence for people, and the files it is about for machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pocketvision.data.folders import printable
from pocketvision.data.index import Index
from pocketvision.record.words import Finding, Severity

NAMED = 4  # files, pairs or classes that a sentence names


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFinding:
    """A finding, and the relative paths of all its files; none where it is about the whole."""

    finding: Finding
    files: tuple[str, ...] = ()


def finding(severity: Severity, code: str, sentence: str, files: Iterable[str] = ()) -> FileFinding:
    """A finding about files whose names need not be text."""
    return FileFinding(
        finding=Finding(severity=severity, code=code, sentence=sentence),
        files=tuple(map(printable, files)),
    )


def paths_of(index: Index, rows: Iterable[int]) -> list[str]:
    """The paths of rows."""
    return [index.paths[int(row)] for row in rows]


def shown(name: str) -> str:
    """A name on one line: what cannot be printed is escaped."""
    return name if name.isprintable() else name.encode("unicode_escape").decode()


def listed(names: Sequence[str], separator: str = ", ") -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return separator.join(map(shown, names[:NAMED])) + more
