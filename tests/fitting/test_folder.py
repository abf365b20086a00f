"""The output folder: refused before the work, made whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pocketvision.errors import ConfigError
from pocketvision.fitting import folder
from pocketvision.fitting.folder import check_writable, make_folder, taken


def test_folder_that_can_be_made_is_allowed(tmp_path: Path) -> None:
    check_writable(tmp_path / "new")
    check_writable(tmp_path / "some" / "new" / "folders")


def test_parent_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"out cannot be made: .*file is not a folder that can"):
        check_writable(tmp_path / "file" / "below" / "out")


def test_parent_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match="is not a folder that can be written"):
        check_writable(tmp_path / "out")


@pytest.mark.parametrize(
    ("status", "holds"),
    [
        ("done", "a finished run"),
        ("failed", "a run that failed its gate or budget"),
        ("unfinished", "an unfinished run with other options"),
        (None, "something else"),
    ],
)
def test_folder_in_use_says_what_it_holds(status: str | None, holds: str) -> None:
    error = taken(Path("out"), status)
    assert str(error) == (
        f"The output folder out exists and holds {holds}; nothing was changed. Give another --out, "
        "or remove the folder."
    )


def test_folder_appears_with_its_file(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    make_folder(out, "run.json", "state")
    assert (out / "run.json").read_text() == "state"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_leftover_of_a_killed_run_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".out.new").mkdir()
    (tmp_path / ".out.new" / "half").write_text("")
    make_folder(tmp_path / "out", "run.json", "state")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run.json"]


def test_folder_is_not_there_when_its_file_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "write_atomic", fail)
    with pytest.raises(KeyboardInterrupt):
        make_folder(tmp_path / "out", "run.json", "state")
    assert not (tmp_path / "out").exists()
