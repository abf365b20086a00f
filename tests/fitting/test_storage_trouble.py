"""A full disk, a folder that vanishes, Ctrl-C: a sentence, nothing half written, and it goes on."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from small_runs import QUICK, Told, write_photos

from pocketvision.errors import StorageError
from pocketvision.fitting import folder, making, ship, training, variants
from pocketvision.fitting.artefact import read_state
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.pipeline import run_fit
from pocketvision.progress import Advance

WRITTEN = (
    "run.json",
    "metrics.csv",
    "last.ckpt",
    "network.safetensors",
    "model.onnx",
    "model",
    "record.json",
    "report.html",
)


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here hangs on throughput or memory."""
    monkeypatch.setattr(ship, "shipped_throughput", lambda *_: None)
    monkeypatch.setattr(variants, "can_measure_memory", lambda: False)


@pytest.fixture
def config(tmp_path: Path) -> FitConfig:
    photos = write_photos(tmp_path / "photos", per_class=12)
    return replace(QUICK, data=str(photos), epochs=1, precisions=("int8",))


class Full:
    """A disk that has no room for files of one name, in the folder `out`."""

    def __init__(self, out: Path, code: int) -> None:
        self.out, self.code = out, code
        self.name = ""
        self._replace, self._rename = os.replace, os.rename

    def replace(self, source: str | Path, target: str | Path) -> None:
        self._refuse(Path(target))
        self._replace(source, target)

    def rename(self, source: str | Path, target: str | Path) -> None:
        self._refuse(Path(target))
        self._rename(source, target)

    def _refuse(self, target: Path) -> None:
        if target.name == self.name and self.out in target.parents:
            raise OSError(self.code, os.strerror(self.code), str(target))


def test_disk_that_fills_up_at_any_file_is_a_sentence_and_the_run_goes_on(
    config: FitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    full = Full(out, errno.ENOSPC)
    monkeypatch.setattr(os, "replace", full.replace)
    monkeypatch.setattr(os, "rename", full.rename)
    for name in WRITTEN:
        full.name = name
        message = rf"The disk of .*{name} is full; make room and run the same command again: it"
        with pytest.raises(StorageError, match=message):
            run_fit(config, out)
        assert read_state(out).status == "unfinished"
        half = [path for path in out.rglob("*") if path.name.endswith(".part")]
        assert half == []
    full.name = ""
    told = Told()
    assert run_fit(config, out, told).state.status == "done"
    assert "Training" not in told.sentences


def test_folder_made_read_only_is_a_sentence(
    config: FitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    full = Full(out, errno.EROFS)
    full.name = "last.ckpt"
    monkeypatch.setattr(os, "replace", full.replace)
    with pytest.raises(StorageError, match=r"Read-only file system: .*last\.ckpt\. When that is"):
        run_fit(config, out)
    assert read_state(out).status == "unfinished"


class Meddler(Told):
    """Removes the output folder when the training begins."""

    def __init__(self, out: Path) -> None:
        super().__init__()
        self.out = out

    @contextmanager
    def progress(self, title: str) -> Iterator[Advance]:
        if title == "Training":
            shutil.rmtree(self.out)
        with super().progress(title) as advance:
            yield advance


def test_folder_that_vanishes_is_said_and_not_made_anew(config: FitConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    message = r"out was removed or renamed while the run wrote to it\. Put it back and run the same"
    with pytest.raises(StorageError, match=message):
        run_fit(config, out, Meddler(out))
    assert not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


@pytest.mark.parametrize(
    ("module", "name"),
    [(training, "save_network"), (making, "export_onnx"), (making, "build_files")],
)
def test_folder_that_vanishes_before_a_file_is_written_is_not_made_anew(
    config: FitConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    name: str,
) -> None:
    out, work = tmp_path / "out", getattr(module, name)

    def too_late(*given: object, **named: object) -> object:
        shutil.rmtree(out)
        return work(*given, **named)

    monkeypatch.setattr(module, name, too_late)
    with pytest.raises(StorageError, match=r"out was removed or renamed while the run wrote to it"):
        run_fit(config, out)
    assert not out.exists()


def test_disk_without_room_for_the_folder_is_refused_before_the_measurements(
    config: FitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "free_bytes", lambda _: 2_000_000)
    with pytest.raises(StorageError, match=r"out can come to take .* MB, and its disk has 2 MB"):
        run_fit(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_control_c_at_any_title_leaves_a_run_that_goes_on(
    config: FitConfig, tmp_path: Path
) -> None:
    class Impatient(Told):
        """Presses Ctrl-C at each new piece of work."""

        seen: set[str] = set()  # noqa: RUF012

        @contextmanager
        def progress(self, title: str) -> Iterator[Advance]:
            if title not in self.seen:
                self.seen.add(title)
                raise KeyboardInterrupt
            with super().progress(title) as advance:
                yield advance

    out = tmp_path / "out"
    for _ in range(20):
        try:
            artefact = run_fit(config, out, Impatient())
        except KeyboardInterrupt:
            continue
        break
    assert artefact.state.status == "done"
    assert len(Impatient.seen) >= 7
    assert not [path for path in out.rglob("*") if path.name.endswith(".part")]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


class Filler(Told):
    """Fills the disk when the training begins."""

    def __init__(self, disk: Path) -> None:
        super().__init__()
        self.disk = disk

    @contextmanager
    def progress(self, title: str) -> Iterator[Advance]:
        if title == "Training":
            room = shutil.disk_usage(self.disk).free
            (self.disk / "ballast").write_bytes(bytes(room - 500_000))
        with super().progress(title) as advance:
            yield advance


@pytest.mark.slow
def test_disk_that_really_is_full_is_a_sentence_and_the_run_goes_on(
    config: FitConfig, tmp_path: Path, small_disk: Path
) -> None:
    whole = run_fit(config, tmp_path / "whole")
    out = small_disk / "out"
    with pytest.raises(StorageError, match=r"The disk of .* is full; make room and run the same"):
        run_fit(config, out, Filler(small_disk))
    assert not [path for path in out.rglob("*") if path.name.endswith(".part")]
    (small_disk / "ballast").unlink()
    again = run_fit(config, out)
    weights = [(a.folder / "network.safetensors").read_bytes() for a in (whole, again)]
    assert weights[0] == weights[1]
