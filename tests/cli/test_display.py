"""What the verbs print, word for word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import Run

from pocketvision.cli import devices, display
from pocketvision.record.run import Verdict
from pocketvision.record.scores import Comparison, Score
from pocketvision.record.timing import Latency
from pocketvision.record.words import Metric


def artefact(metric: Metric, folder: Path) -> Any:
    """What the summary reads of a fitted network."""
    score = Score(value=0.5, low=0.4, high=0.6, n=40, metric=metric)
    compared = Comparison(
        subject="shipped",
        reference="float network",
        split="test",
        accuracy=score,
        reference_accuracy=score,
        drop=0.0,
        drop_low=0.0,
        drop_high=0.0,
        agreement=0.984,
        largest_difference=None,
    )
    record = SimpleNamespace(
        verdict=Verdict(met=None, sentence="No budget was given."),
        headline=score,
        verification=(compared,),
        target=None,
        latency=Latency(median_ms=2.0, p95_ms=2.2, low_ms=1.9, high_ms=2.1, runs=9, threads=1),
        decode_ms=1.0,
        shipped=SimpleNamespace(size_bytes=1_000_000),
        peak_bytes=None,
    )
    return SimpleNamespace(record=record, folder=folder, state=SimpleNamespace(spent_s=60.0))


@pytest.mark.parametrize(
    ("metric", "score", "agreed"),
    [
        ("top-1", "Accuracy   50.00%", "images on which both name the same class"),
        ("mIoU", "mIoU       50.00%", "pixels that both name alike"),
        ("mAP", "mAP        50.00%", "boxes that both find"),
    ],
)
def test_summary_names_the_score_of_the_task(
    metric: Metric,
    score: str,
    agreed: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    display.print_summary(artefact(metric, tmp_path))
    printed = capsys.readouterr().out
    assert f"{score} (40.00% to 60.00%, n = 40)" in printed
    assert f"Agreement  98.40% with the float network: the share of {agreed}\n" in printed


BRACKETS = "map[a] [/x].png"  # to rich a tag that opens and one that closes what was not open


def test_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    display.tell(f"Wrote {BRACKETS}")
    display.tell("caf\udce9 :cat:", display.err, style="red")
    display.TerminalReporter().say(BRACKETS)
    display.LineProgress(BRACKETS)
    printed = capsys.readouterr()
    assert printed.out == f"Wrote {BRACKETS}\n"
    assert printed.err == f"caf\\udce9 :cat:\n{BRACKETS}\n{BRACKETS} ...\n"


def test_folder_in_brackets_is_named_in_the_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / BRACKETS
    display.print_summary(artefact("top-1", folder))
    assert f"Report     {folder / 'report.html'}\n" in capsys.readouterr().out


def test_sample_names_a_folder_in_brackets(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "map[a] ["
    folder.mkdir()
    assert run("sample", "digits", folder / "x]").out == f"Wrote {folder / 'x]'}\n"


def test_profile_names_a_file_in_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    table: Any = SimpleNamespace(wholes=(), dense=())
    devices.print_check(table, None, Path(BRACKETS))
    assert capsys.readouterr().out.endswith(f"Wrote {BRACKETS}\n")


def test_what_is_printed_with_markup_is_escaped() -> None:
    """All other text goes through `tell`."""
    for path in sorted(Path(display.__file__).parent.glob("*.py")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if ".print(" in line and ".print(grid)" not in line:
                assert "escape(" in line or "markup=False" in line, f"{path.name}: {line}"


def test_record_is_printed_where_text_is_not_utf_8_by_default(tmp_path: Path) -> None:
    record = '{"classes": ["café"]}'
    (tmp_path / "record.json").write_text(record, encoding="utf-8")
    code = "import pathlib, sys; from pocketvision.cli import display as d; "
    code += "d.print_record(pathlib.Path(sys.argv[1]))"
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "utf-8"}
    printed = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", code, tmp_path],
        check=True,
        capture_output=True,
        env=os.environ | plain,
    )
    assert printed.stdout.decode("utf-8") == f"{record}\n"
