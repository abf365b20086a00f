"""Values to files and back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from pocketvision import storage
from pocketvision.errors import ArtefactError


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    values: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    name: str
    inner: Inner
    limit: float | None = None


VALUE = Outer(name="é\n<b>", inner=Inner(values=(1, 2)))


def test_json_round_trip_keeps_the_value_and_the_text() -> None:
    text = storage.to_json(VALUE)
    assert storage.from_json(Outer, text, source="x") == VALUE
    assert storage.to_json(storage.from_json(Outer, text, source="x")) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "x.json is not a valid Outer: the whole text: Invalid JSON"),
        ('{"name": "a"}', "x.json is not a valid Outer: inner: Field required"),
        ('{"name": 1, "inner": {"values": []}}', "name: Input should be a valid string"),
        (
            '{"name": "a", "inner": {"values": ["z"]}}',
            r"inner\.values\.0: Input should be a valid int",
        ),
        ('{"name": "a", "inner": {"values": []}, "more": 1}', "more: Unexpected keyword"),
    ],
)
def test_reading_says_where_the_text_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        storage.from_json(Outer, text, source="x.json")


def test_write_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "file.txt"
    storage.write_atomic(path, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        storage.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["file.txt"]


def test_write_into_a_folder_that_vanished_does_not_make_it_anew(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        storage.write_into(tmp_path / "gone" / "file.txt", "text")
    assert list(tmp_path.iterdir()) == []


def test_what_stopped_the_writing_is_raised_where_nothing_can_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    def refuse(*_: object) -> None:
        raise OSError("read-only")

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(OSError, match="disk full"):
        storage.write_atomic(tmp_path / "file.txt", "text")


def test_half_written_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in (".run.json.abc12345.part", "deep/.last.ckpt.0_xyz123.part", "kept.part", "kept"):
        (tmp_path / name).write_text("")
    storage.remove_parts(tmp_path)
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
    assert left == ["deep", "kept", "kept.part"]


def test_hash_of_file_and_bytes_agree(tmp_path: Path) -> None:
    storage.write_atomic(tmp_path / "a", b"abc")
    assert storage.sha256_file(tmp_path / "a") == storage.sha256_bytes(b"abc")
    assert storage.sha256_bytes(b"abc").startswith("ba7816bf")
