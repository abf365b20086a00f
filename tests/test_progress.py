"""Progress of work that only counts."""

from __future__ import annotations

import pytest

from pocketvision.progress import counted


@pytest.mark.parametrize(("notes", "note"), [((), ""), (("bytes",), "bytes")])
def test_counted_work_always_has_the_same_note(notes: tuple[str, ...], note: str) -> None:
    told: list[tuple[int, int, str]] = []
    count = counted(lambda *words: told.append(words), *notes)
    count(3, 7)
    assert told == [(3, 7, note)]
