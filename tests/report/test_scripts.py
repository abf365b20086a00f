"""The scripts that print committed figures and draw the picture of the README."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from records import full_record
from search_records import search

from pocketvision.storage import to_json

SCRIPTS = Path(__file__).parents[2] / "scripts"


Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a script with words of a command line, and return what it printed."""

    def printed(script: str, *words: object) -> str:
        monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
        runpy.run_path(str(SCRIPTS / script), run_name="__main__")
        return capsys.readouterr().out

    return printed


def test_figures_print_what_the_record_says(run: Run, tmp_path: Path) -> None:
    record = full_record()
    path = tmp_path / "record.json"
    path.write_text(to_json(record))
    page = run("figures.py", path)
    assert record.command in page
    assert record.machine.cpu in page
    assert f"{record.headline.value:.1%} of {record.headline.n}" in page
    assert page.count("(shipped)") == 1
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert all(line.endswith("|") for line in rows)
    assert len(rows) >= 8 + len(record.variants) + len(record.verification)


def test_picture_is_the_same_for_the_same_record(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(to_json(full_record()))
    pictures = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for picture in pictures:
        run("plot_demo.py", path, picture)
    first, second = (picture.read_bytes() for picture in pictures)
    assert first == second
    assert b"shipped: " in first


def test_search_figures_print_every_arm_and_draw_the_front(run: Run, tmp_path: Path) -> None:
    record = replace(full_record(), search=search())
    path, picture = tmp_path / "record.json", tmp_path / "images" / "search.svg"
    path.write_text(to_json(record))
    page = run("search_figures.py", path, "--picture", picture)
    assert search().sentence in page
    assert "![Members that were scored](images/search.svg)" in page
    for arm in search().arms:
        assert f"| {arm.name}" in page
    assert "came to nothing: no file of it" in page
    first = picture.read_bytes()
    run("search_figures.py", path, "--picture", picture)
    assert picture.read_bytes() == first
    path.write_text(to_json(full_record()))
    with pytest.raises(SystemExit, match=r"record\.json is not of a search\.$"):
        run("search_figures.py", path)


def test_times_are_printed_beside_what_was_given_and_planned(run: Run, tmp_path: Path) -> None:
    record = full_record()
    steps = (
        replace(record.steps[0], name="train", seconds=90.0, forecast_s=100.0),
        replace(record.steps[0], name="verify", seconds=7.0, forecast_s=None),
    )
    kept, late, open_ended = tmp_path / "kept", tmp_path / "late", tmp_path / "open"
    for folder, given_s, spent_s in ((kept, 600, 540), (late, 600, 720), (open_ended, None, 720)):
        folder.mkdir()
        budget = replace(record.budget, time_s=given_s)
        made = replace(record, budget=budget, spent_s=spent_s, steps=steps)
        (folder / "record.json").write_text(to_json(made))
    page = run("kept_times.py", kept, late, open_ended)
    assert f"| {kept} | 10 m | 9 m | 90% |" in page
    assert f"| {late} | 10 m | 12 m | 120% (late) |" in page
    assert f"| {open_ended} | 10 m" not in page
    assert page.count("| train | 100 s | 90 s | 90% |") == 3
    assert "| verify |" not in page
