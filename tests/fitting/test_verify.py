"""The release gate: what it checks, and that it can fail."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import write_photos

from pocketvision.errors import ArtefactError, ConfigError, DataError
from pocketvision.fitting import verify as module
from pocketvision.fitting.artefact import Artefact
from pocketvision.fitting.verify import Verification, verify
from pocketvision.record import Latency
from pocketvision.storage import to_json, write_atomic


@pytest.fixture
def copy(fitted: Artefact, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted.folder, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def _same_latency(fitted: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorded latency again: timing itself is tested elsewhere, and cannot be relied on."""
    recorded = fitted.record.latency
    monkeypatch.setattr(module, "measure_latency", lambda sessions, *_: {"shipped": recorded})


def check(found: Verification, name: str) -> module.Check:
    return next(c for c in found.checks if c.name == name)


def test_untouched_artefact_passes_every_check(fitted: Artefact, photos: Path) -> None:
    found = verify(fitted.folder, photos)
    assert found.passed
    assert found.same_machine
    assert [c.name for c in found.checks] == ["files", "size", "accuracy", "agreement", "latency"]
    assert all(c.passed for c in found.checks)


@pytest.mark.parametrize("name", ["model.onnx", "run.py"])
def test_altered_file_fails(copy: Path, photos: Path, name: str) -> None:
    file = copy / "model" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    found = verify(copy, photos)
    assert not found.passed
    assert check(found, "files").found == f"altered, missing or added: {name}"


@pytest.mark.parametrize("name", ["model.onnx", "run.py"])
def test_missing_file_fails(copy: Path, photos: Path, name: str) -> None:
    (copy / "model" / name).unlink()
    assert not verify(copy, photos).passed


def test_added_file_fails_and_counts(copy: Path, photos: Path) -> None:
    (copy / "model" / "more.bin").write_bytes(b"0" * 1000)
    found = verify(copy, photos)
    assert check(found, "files").passed is False
    assert check(found, "size").passed is False


def test_copies_elsewhere_do_not_change_the_images(
    fitted: Artefact, photos: Path, tmp_path: Path
) -> None:
    """A recorded test image that lies under another class too is judged by its own."""
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    for file in sorted((moved / "dark below").iterdir())[:10]:
        shutil.copy(file, moved / "dark <b>above" / f"copy-{file.name}")
    files, _ = module.recorded_images(fitted, moved)
    assert len(files) == fitted.record.headline.n


def test_lower_accuracy_fails(copy: Path, photos: Path, fitted: Artefact) -> None:
    """The record claims more than the images show."""
    claimed = replace(fitted.record.headline, low=1.1)
    write_atomic(copy / "record.json", to_json(replace(fitted.record, headline=claimed)))
    found = verify(copy, photos)
    assert not found.passed
    assert check(found, "accuracy").passed is False


def test_slower_machine_fails_only_beyond_both_intervals(
    fitted: Artefact, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    high = fitted.record.latency.high_ms

    def timed(low: float) -> dict[str, Latency]:
        slow = replace(fitted.record.latency, low_ms=low, median_ms=low, high_ms=low)
        return {"shipped": slow}

    monkeypatch.setattr(module, "measure_latency", lambda *_: timed(1.1 * high))
    assert verify(fitted.folder, photos).passed
    monkeypatch.setattr(module, "measure_latency", lambda *_: timed(1.2 * high))
    assert check(verify(fitted.folder, photos), "latency").passed is False
    assert verify(fitted.folder, photos, latency="100s").passed


def test_other_machine_informs_about_latency_unless_a_limit_is_given(
    copy: Path, fitted: Artefact, photos: Path
) -> None:
    elsewhere = replace(fitted.record.machine, cpu="another")
    write_atomic(copy / "record.json", to_json(replace(fitted.record, machine=elsewhere)))
    found = verify(copy, photos)
    assert found.passed
    assert not found.same_machine
    assert check(found, "latency").passed is None
    limited = verify(copy, photos, latency="0.000001ms")
    assert check(limited, "latency").passed is False


def test_images_are_found_by_content_whatever_they_are_called(
    fitted: Artefact, photos: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    for number, file in enumerate(sorted((moved / "dark below").iterdir())):
        file.rename(file.with_name(f"renamed-{number}.png"))
    assert check(verify(fitted.folder, moved), "accuracy").passed


def test_missing_images_are_counted(fitted: Artefact, tmp_path: Path) -> None:
    other = write_photos(tmp_path / "photos", per_class=5)
    message = r"of the 12 images that carry the recorded accuracy are not in .*photos \(compared by"
    with pytest.raises(DataError, match=message):
        verify(fitted.folder, other)


def test_renamed_class_is_named(fitted: Artefact, photos: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    (moved / "dark below").rename(moved / "unheard of")
    with pytest.raises(DataError, match=r"classes the network does not know: \['unheard of'\]"):
        verify(fitted.folder, moved)


def test_bad_arguments_are_answered(fitted: Artefact, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="latency '5' has no unit"):
        verify(fitted.folder, photos, latency="5")
    with pytest.raises(ArtefactError, match="is not a fitted network"):
        verify(tmp_path, photos)


def test_record_of_a_later_version_is_said(copy: Path) -> None:
    text = (copy / "record.json").read_text()
    (copy / "record.json").write_text(text.replace('"schema_version": 1', '"schema_version": 9'))
    with pytest.raises(ArtefactError, match="schema version 9; this pocketvision reads up to 1"):
        Artefact(copy)


def test_damaged_record_says_where(copy: Path, photos: Path) -> None:
    (copy / "record.json").write_text('{"schema_version": 1}')
    with pytest.raises(ArtefactError, match=r"record\.json is not a valid Record: created: Field"):
        verify(copy, photos)
