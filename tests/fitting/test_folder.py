"""The output folder: refused before the work, made whole or not at all."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pocketvision.errors import ConfigError, StorageError
from pocketvision.fitting import folder
from pocketvision.fitting.folder import (
    check_room,
    check_writable,
    make_folder,
    storage_told,
    taken,
)


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


def test_disk_with_too_little_room_is_refused_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "free_bytes", lambda _: 20_000_000)
    check_room(tmp_path / "out", 20_000_000)
    message = r"out can come to take 20 MB, and its disk has 20 MB free; make room, or give"
    with pytest.raises(StorageError, match=message):
        check_room(tmp_path / "out", 20_000_001)


def test_room_is_that_of_the_disk_the_folder_would_be_on(tmp_path: Path) -> None:
    assert folder.free_bytes(tmp_path / "some" / "new" / "out") > 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_said_with_what_to_do(tmp_path: Path, code: int) -> None:
    path = str(tmp_path / "out" / "last.ckpt")
    message = f"The disk of {re.escape(path)} is full; make room and run the same command again"
    with pytest.raises(StorageError, match=f"{message}\\."), storage_told(tmp_path / "out"):
        raise OSError(code, os.strerror(code), path)
    (tmp_path / "out").mkdir()
    with (
        pytest.raises(StorageError, match=f"{message}: it goes on from here"),
        storage_told(tmp_path / "out"),
    ):
        raise OSError(code, os.strerror(code), path)


def test_other_troubles_of_a_disk_are_said_with_their_reason(tmp_path: Path) -> None:
    message = r"Read-only file system: /x/run\.json\. When that is put right, run the same command"
    with pytest.raises(StorageError, match=message), storage_told(tmp_path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/x/run.json")
    with pytest.raises(StorageError, match=f"gone wrong: {re.escape(str(tmp_path))}"):  # noqa: SIM117
        with storage_told(tmp_path):
            raise OSError("gone wrong")


def test_library_that_does_not_say_why_it_failed_is_explained_by_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    def attempt(free: Callable[[Path], int]) -> None:
        monkeypatch.setattr(folder, "free_bytes", free)
        with storage_told(tmp_path):
            fail()

    with pytest.raises(StorageError, match=r"The disk of .* is full; make room"):
        attempt(lambda _: 0)
    with pytest.raises(RuntimeError, match="iostream error"):
        attempt(lambda _: 10**9)
