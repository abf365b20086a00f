"""Checkpoints: whole or not at all, damage is seen, and no code in them runs."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pocketvision.errors import ArtefactError
from pocketvision.train.checkpoint import (
    SafeCheckpoints,
    is_whole,
    read_training,
    read_whole,
    there_and_whole,
)

STATE = {"epoch": 3, "state_dict": {"weight": torch.arange(1000.0)}}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    SafeCheckpoints().save_checkpoint(STATE, path)
    return path


def test_checkpoint_comes_back(checkpoint: Path) -> None:
    assert is_whole(checkpoint)
    found = SafeCheckpoints().load_checkpoint(checkpoint)
    assert found["epoch"] == 3
    assert torch.equal(found["state_dict"]["weight"], torch.arange(1000.0))
    assert [path.name for path in checkpoint.parent.iterdir()] == ["last.ckpt"]


def test_every_single_altered_bit_of_its_tensors_is_seen(checkpoint: Path) -> None:
    content = checkpoint.read_bytes()
    with zipfile.ZipFile(checkpoint) as archive:
        starts = [entry.header_offset for entry in archive.infolist() if "data/" in entry.filename]
    for place in range(starts[0] + 200, starts[0] + 4000, 97):
        checkpoint.write_bytes(
            content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]
        )
        assert not is_whole(checkpoint), place


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_checkpoint_cut_short_is_seen(checkpoint: Path, share: float) -> None:
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    assert not is_whole(checkpoint)


def test_bit_that_says_encrypted_is_seen(checkpoint: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    entry = content.index(b"PK\x01\x02")  # of the directory at the end
    content[entry + 8] |= 1
    checkpoint.write_bytes(content)
    assert not is_whole(checkpoint)


def test_checkpoint_is_replaced_whole_or_not_at_all(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checkpoint.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        SafeCheckpoints().save_checkpoint({"epoch": 4}, checkpoint)
    assert checkpoint.read_bytes() == before
    assert [path.name for path in checkpoint.parent.iterdir()] == ["last.ckpt"]


def test_folder_that_vanished_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SafeCheckpoints().save_checkpoint(STATE, tmp_path / "gone" / "last.ckpt")
    assert not (tmp_path / "gone").exists()


def test_whole_checkpoint_is_read_and_nothing_is_said(checkpoint: Path) -> None:
    told: list[str] = []
    found = read_whole(checkpoint, told.append)
    assert found is not None
    assert found["epoch"] == 3
    assert there_and_whole(checkpoint, told.append)
    assert read_whole(checkpoint.with_name("absent.ckpt"), told.append) is None
    assert not there_and_whole(checkpoint.with_name("absent.ckpt"), told.append)
    assert told == []


@pytest.mark.parametrize("read", [read_whole, there_and_whole])
def test_damaged_checkpoint_is_said_and_removed(
    checkpoint: Path, read: Callable[[Path, Callable[[str], None]], object]
) -> None:
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: len(content) // 2])
    told: list[str] = []
    assert not read(checkpoint, told.append)
    assert told == [f"{checkpoint} is damaged; the training begins again."]
    assert not checkpoint.exists()


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch it-ran",)


def test_checkpoint_that_needs_unpickling_is_refused_and_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"epoch": 1, "state_dict": Malicious()}, "last.ckpt")
    assert is_whole(Path("last.ckpt"))
    with pytest.raises(ArtefactError, match=r"last\.ckpt holds more than tensors and plain values"):
        read_training(Path("last.ckpt"))
    Path("bare.ckpt").write_bytes(pickle.dumps(Malicious()))
    assert not is_whole(Path("bare.ckpt"))
    assert not Path("it-ran").exists()
