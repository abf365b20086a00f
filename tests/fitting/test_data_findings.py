from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from faulty_photos import FAULTS, faulty_photos, photo, save, sound_photos
from small_runs import Told

from pocketvision.data.images import scan
from pocketvision.fitting import data_findings
from pocketvision.fitting.artefact import Artefact
from pocketvision.fitting.data_findings import find_faults


def test_sound_photos_are_not_talked_about(tmp_path: Path) -> None:
    reporter = Told()
    assert find_faults(scan(sound_photos(tmp_path)), reporter) == ()
    assert reporter.sentences == ["Examining images"]


def test_errors_and_warnings_are_said_and_notes_kept(tmp_path: Path) -> None:
    sound_photos(tmp_path)
    FAULTS["copies-across-splits"](tmp_path)
    FAULTS["extension"](tmp_path)
    reporter = Told()
    found = find_faults(scan(tmp_path), reporter)
    assert [(one.severity, one.code) for one in found] == [
        ("error", "copies-across-splits"),
        ("note", "extension"),
    ]
    (said,) = reporter.sentences[1:]
    assert said.startswith("Error: 1 of 18 test images are in another split too")


def test_at_most_eight_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty_photos(tmp_path)
    shutil.rmtree(tmp_path / "train" / "lonely")
    samples = scan(tmp_path, skip_bad=True)
    everything, few = Told(), Told()
    grave = [one for one in find_faults(samples, everything) if one.severity != "note"]
    assert len(grave) == 13
    assert len(everything.sentences) == 1 + 8 + 1
    assert everything.sentences[-1] == f"and 5 more: pocketvision doctor {tmp_path}"
    monkeypatch.setattr(data_findings, "MOST_SAID", 13)
    find_faults(samples, few)
    assert [line.split(":")[0] for line in few.sentences[1:]] == ["Error"] * 6 + ["Warning"] * 7


def test_leaks_into_a_split_set_aside_are_found(tmp_path: Path) -> None:
    """The folder has no splits; what is told is of those that the training will use."""
    for number in range(40):
        for label, name in enumerate(("a", "b")):
            save(tmp_path / name / f"{number}.jpg", 100 * label + number)
            again = photo(100 * label + number)
            again.save(tmp_path / name / f"{number} again.jpg", quality=60)
    samples = scan(tmp_path)
    assert samples.split_origins["test"] == "set aside"
    (found,) = find_faults(samples, Told())[:1]
    assert found.code == "near-across-splits"


def test_findings_stand_in_the_record(fitted: Artefact) -> None:
    assert [one.code for one in fitted.record.findings] == ["small-images"]
    assert fitted.record.findings[0].sentence.startswith("80 images with a side below 32 pixels")
