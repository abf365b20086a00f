"""Forecasts learn from what earlier runs took on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import QUICK

from pocketvision.fitting import ship
from pocketvision.fitting.earlier_runs import KEPT, LEAST, MOST, EarlierRuns, learn, usual_ratios
from pocketvision.fitting.forecast import Workload
from pocketvision.fitting.pipeline import run_fit
from pocketvision.fitting.run import Run
from pocketvision.fitting.workload import workload_of
from pocketvision.record.run import Step
from pocketvision.storage import from_json

WORK = Workload(
    stored=100,
    undecoded=0,
    train=80,
    val=10,
    headline=10,
    runtimes=1,
    quantized=1,
    resolution=64,
    batch_size=8,
    fine_tuning=False,
)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("POCKETVISION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def took(ratio: float, *names: str) -> list[Step]:
    return [Step(name=name, seconds=ratio * WORK.constant_s[name]) for name in names]


def test_a_machine_without_runs_takes_the_constants() -> None:
    assert usual_ratios("classify") == {}
    assert WORK.finishing_s == WORK.constant_s


def test_the_median_of_earlier_runs_is_expected() -> None:
    for ratio in (1.5, 2.0, 4.0):
        learn("classify", WORK, took(ratio, "export", "quantize"))
    found = usual_ratios("classify")
    assert found == pytest.approx({"export": 2.0, "quantize": 2.0})
    scaled = replace(WORK, ratios=found)
    assert scaled.finishing_s["export"] == pytest.approx(2 * WORK.constant_s["export"])
    assert scaled.finishing_s["verify"] == WORK.constant_s["verify"]
    more = WORK.constant_s["export"] + WORK.constant_s["quantize"]
    assert scaled.finish_s == pytest.approx(WORK.finish_s + more)
    assert usual_ratios("segment") == {}


def test_a_step_that_was_made_again_counts_once_and_others_do_not() -> None:
    steps = [Step(name="train", seconds=9.0), *took(9.0, "export"), *took(1.5, "export")]
    learn("detect", WORK, steps)
    assert usual_ratios("detect") == pytest.approx({"export": 1.5})


def test_what_is_learned_is_bounded_and_old_runs_are_forgotten(cache: Path) -> None:
    learn("classify", WORK, took(100.0, "export"))
    assert usual_ratios("classify") == {"export": MOST}
    for _ in range(KEPT):
        learn("classify", WORK, took(0.01, "export"))
    assert usual_ratios("classify") == {"export": LEAST}
    (path,) = (cache / "times").iterdir()
    kept = from_json(EarlierRuns, path.read_bytes(), source="a test").times["classify export"]
    assert len(kept) == KEPT


def test_a_damaged_file_is_as_good_as_none(cache: Path) -> None:
    learn("classify", WORK, took(2.0, "export"))
    (path,) = (cache / "times").iterdir()
    path.write_text("no json")
    assert usual_ratios("classify") == {}


def test_a_cache_that_cannot_be_written_ends_nothing(cache: Path) -> None:
    cache.mkdir()
    (cache / "times").write_text("in the way")
    learn("classify", WORK, took(2.0, "export"))
    assert usual_ratios("classify") == {}


def test_fit_learns_from_its_own_steps(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Workload] = []

    def take(run: Run, resolution: int | None = None) -> Workload:
        asked.append(workload_of(run, resolution))
        return asked[-1]

    monkeypatch.setattr(ship, "learn", learn)
    monkeypatch.setattr(ship, "workload_of", take)
    record = run_fit(replace(QUICK, data=str(photos), epochs=1), tmp_path / "out").record
    seconds = {step.name: step.seconds for step in record.steps}
    planned_s = asked[-1].constant_s
    bounded = {
        name: min(MOST, max(LEAST, seconds[name] / planned)) for name, planned in planned_s.items()
    }
    assert usual_ratios("classify") == pytest.approx(bounded)
