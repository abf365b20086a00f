"""A budget of memory: measured as shipped, planned for, never exceeded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from quick import export_quickly
from small_runs import QUICK, Told

from pocketvision.budget import Budget
from pocketvision.errors import BudgetError, GateError
from pocketvision.fitting import variants
from pocketvision.fitting.artefact import Artefact, read_state
from pocketvision.fitting.choice import Built, choose_variant, missed_sentence
from pocketvision.fitting.footprint import Footprints
from pocketvision.fitting.pipeline import run_fit
from pocketvision.fitting.ranking import MEMORY_HEADROOM, fits
from pocketvision.measure import untrained
from pocketvision.measure.memory import can_measure_memory
from pocketvision.models import registry
from pocketvision.record.run import Record
from pocketvision.runtimes.export import at_resolution
from pocketvision.runtimes.onnxfile import write_model
from pocketvision.runtimes.registry import installed_runtimes
from pocketvision.runtimes.runtime import Runtime
from pocketvision.storage import from_json, to_json

pytestmark = pytest.mark.skipif(not can_measure_memory(), reason="peak memory is read from /proc")
MB = 1_000_000
SMALL = registry.spec("mobilenet_v1", width=0.25, resolution=32, num_classes=2)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "float.onnx"
    export_quickly(untrained.stand_in(SMALL), path, untrained.untrained_card(SMALL))
    return path


@pytest.mark.parametrize("runtime", installed_runtimes(), ids=lambda runtime: runtime.name)
def test_larger_images_take_more_memory(runtime: Runtime, exported: Path, tmp_path: Path) -> None:
    footprints, peaks = Footprints(threads=1, repeats=1), []
    for resolution in (SMALL.resolution, 512):
        source = tmp_path / f"{resolution}.onnx"
        write_model(at_resolution(exported, resolution), source)
        path = tmp_path / f"{resolution}" / runtime.file_name("model")
        runtime.convert(source, path)
        card = untrained.untrained_card(SMALL.at(resolution))
        peaks.append(footprints.measure(runtime, path, "f32", card))
    weights = sum(file.stat().st_size for file in runtime.files(path))
    assert peaks[0] > weights, "weights are resident, and activations come on top"
    pixels = 512**2 * 3 * 4  # of the normalised image alone
    assert peaks[1] > peaks[0] + pixels


def test_missed_memory_is_said_with_the_figure(fitted: Artefact) -> None:
    shipped = next(v for v in fitted.record.variants if v.shipped)
    over = replace(shipped, peak_bytes=30 * MB, within_budget=False)
    budget = Budget(memory_bytes=20 * MB)
    assert not fits(over.latency, over.size_bytes, budget, peak_bytes=over.peak_bytes)
    built = [Built(variant=over, path=Path("x"))]
    assert choose_variant(built) is None
    sentence = missed_sentence("small", built, budget, 1.0)
    assert "cannot be shipped within 20 MB of memory: " in sentence
    assert sentence.endswith(" and 30 MB of memory.")


def test_memory_is_measured_without_being_asked_for(fitted: Artefact) -> None:
    record = fitted.record
    assert record.budget.memory_bytes is None
    assert all(v.peak_bytes is not None and v.peak_bytes > 0 for v in record.variants)
    assert all(t.peak_bytes is None for t in record.tried), "candidates only when asked for"
    assert record.peak_bytes == next(v.peak_bytes for v in record.variants if v.shipped)
    assert "of memory, and gets" in record.verdict.sentence


def test_record_from_before_memory_was_measured_still_loads(fitted: Artefact) -> None:
    said = json.loads(to_json(fitted.record))
    for entry in (said, said["budget"], *said["variants"], *said["tried"]):
        for name in ("peak_bytes", "memory_bytes"):
            entry.pop(name, None)
    loaded = from_json(Record, json.dumps(said), source="record")
    assert loaded.peak_bytes is None
    assert loaded.headline == fitted.record.headline


def test_budget_of_memory_is_kept_by_what_ships(
    photos: Path, fitted: Artefact, tmp_path: Path
) -> None:
    peaks = {v.precision: v.peak_bytes or 0 for v in fitted.record.variants}
    assert MEMORY_HEADROOM * peaks["int8"] < peaks["f32"]
    limit = round((MEMORY_HEADROOM * peaks["int8"] + peaks["f32"]) / 2)
    told, budget = Told(), replace(QUICK.budget, memory_bytes=limit)
    config = replace(QUICK, data=str(photos), budget=budget, epochs=1)
    artefact = run_fit(config, tmp_path / "out", told)
    record = artefact.record
    assert artefact.shipped.precision == "int8"
    assert record.peak_bytes is not None
    assert record.peak_bytes <= limit == record.budget.memory_bytes
    assert {t.precision: t.fits for t in record.tried} == {"int8": True, "f32": False}
    assert {v.precision: v.within_budget for v in record.variants} == {"int8": True, "f32": False}
    assert record.verdict.sentence.endswith("of memory.")
    assert "Peak memory" in (tmp_path / "out" / "report.html").read_text()
    assert "of memory with 1 thread" in (tmp_path / "out" / "README.md").read_text()


def test_impossible_memory_names_the_nearest(photos: Path, tmp_path: Path) -> None:
    config = replace(QUICK, data=str(photos), budget=Budget(memory_bytes=1000))
    message = (
        r"No network meets 1 kB of memory on this machine \(2 files measured\)\. The nearest is "
        r"mobilenet_v1 x0\.25 @32 as int8 on onnxruntime: .* MB of memory\. Ask for --memory \S+MB"
    )
    with pytest.raises(BudgetError, match=message):
        run_fit(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_file_that_takes_more_than_planned_is_not_shipped(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Grown(Footprints):
        def measure(self, *_: object) -> int:
            return 30 * MB

    monkeypatch.setattr(variants, "Footprints", Grown)
    budget = replace(QUICK.budget, memory_bytes=20 * MB)
    config = replace(QUICK, data=str(photos), budget=budget, epochs=1)
    message = r"cannot be shipped within 200 ms and 2 MB and 20 MB of memory: f32 .* 30 MB of memo"
    with pytest.raises(GateError, match=message):
        run_fit(config, tmp_path / "out")
    assert not (tmp_path / "out" / "model").exists()
    assert read_state(tmp_path / "out").status == "failed"


@pytest.mark.slow
def test_system_that_does_not_say_leaves_the_figure_out(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "can_measure_memory", lambda: False)
    artefact = run_fit(replace(QUICK, data=str(photos), epochs=1), tmp_path / "out")
    assert artefact.record.peak_bytes is None
    assert "of memory" not in artefact.record.verdict.sentence
    assert "resident memory" in (tmp_path / "out" / "README.md").read_text()
