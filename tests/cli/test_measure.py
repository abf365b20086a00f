"""`pocketvision measure`: what it prints of files and of fitted folders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pocketvision.cli.app import app
from pocketvision.errors import ConfigError
from pocketvision.fitting import measuring
from pocketvision.measure import onnxfile
from pocketvision.measure.throughput import Timing, as_throughput
from pocketvision.record.timing import Conditions, Latency

LATENCY = Latency(median_ms=5.0, p95_ms=6.0, low_ms=4.9, high_ms=5.2, runs=60, threads=1)
BATCHED = replace(LATENCY, median_ms=20.0, low_ms=19.0, high_ms=25.0, batch=8)
QUIET = Conditions(
    load=0.42, governor="performance", steal=0.0, busy=0.031, throttled=0, pinned=True
)
TIMING = Timing(
    latency=LATENCY,
    conditions=QUIET,
    throughput=as_throughput(BATCHED),
    decode_ms=2.14,
    peak_bytes=13_100_000,
)
NOISE = (
    "the 95 % interval spans 80% of the median (at most 20% can be trusted): other processes took "
    "40% of the cores; stop other programs and measure again"
)


def measured(monkeypatch: pytest.MonkeyPatch, timing: Timing, *words: object) -> str:
    """What the command prints where it finds these figures."""
    monkeypatch.setattr(onnxfile, "measure_file", lambda *_, **__: timing)
    done = CliRunner().invoke(app, ["measure", *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_every_figure_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, TIMING, "x.onnx", "--batch", 8).splitlines() == [
        "Latency     5 ms (4.9 to 5.2), p95 6 ms, 1 thread",
        "Throughput  400 images/s (320 to 421.1), 8 a run",
        "Decoding    2.1 ms an image file, not in the latency",
        "Memory      13.1 MB at its peak, beyond an empty session",
        "Conditions  load 0.42, governor performance, steal 0.0%, other processes 3.1%, throttled "
        "0, pinned",
    ]


def test_what_was_not_measured_or_said_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = Conditions(
        load=None, governor=None, steal=None, busy=None, throttled=None, pinned=False
    )
    bare = Timing(latency=replace(LATENCY, threads=2), conditions=unknown)
    assert measured(monkeypatch, bare, "x.onnx").splitlines() == [
        "Latency     5 ms (4.9 to 5.2), p95 6 ms, 2 threads",
        "Conditions  load ?, governor ?, steal ?, other processes ?, throttled ?, not pinned",
    ]


def test_noise_is_told_in_place_of_the_number_and_json_keeps_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noisy = replace(
        TIMING,
        latency=replace(LATENCY, high_ms=8.9, noise=NOISE),
        throughput=as_throughput(replace(BATCHED, noise=NOISE)),
    )
    latency, throughput, *_ = measured(monkeypatch, noisy, "x.onnx").splitlines()
    assert latency == f"Latency     too noisy to say, between 4.9 ms and 8.9 ms: {NOISE}"
    assert throughput == (f"Throughput  too noisy to say, between 320 and 421.1 images/s: {NOISE}")
    found = json.loads(measured(monkeypatch, noisy, "x.onnx", "--json"))
    assert (found["latency"]["median_ms"], found["latency"]["noise"]) == (5.0, NOISE)
    assert found["throughput"]["images_per_s"] == 400
    assert found["conditions"]["busy"] == 0.031


def test_fitted_folder_is_measured_under_its_own_options(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[Path, int]] = []

    def measure_fitted(folder: Path, *, batch: int, reporter: object) -> Timing:
        asked.append((folder, batch))
        return TIMING

    monkeypatch.setattr(measuring, "measure_fitted", measure_fitted)
    assert "400 images/s" in measured(monkeypatch, TIMING, tmp_path, "--batch", 8)
    assert asked == [(tmp_path, 8)]
    for words in (["--threads", "1"], ["--shape", "x=1,2"]):
        refused = CliRunner().invoke(app, ["measure", str(tmp_path), *words])
        assert isinstance(refused.exception, ConfigError)
        assert "measured under the options it was recorded with" in str(refused.exception)
