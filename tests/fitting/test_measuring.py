"""Measuring a fitted folder again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import write_photos

from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.fitting.artefact import Artefact
from pocketvision.fitting.measuring import SHIPPED_BATCH, measure_fitted, shipped_throughput
from pocketvision.measure.memory import can_measure_memory
from pocketvision.storage import to_json


def test_fitted_folder_gives_every_figure(fitted: Artefact) -> None:
    timing = measure_fitted(fitted.folder, batch=4)
    assert timing.latency.threads == fitted.shipped.threads
    assert timing.latency.batch == 1
    assert timing.throughput is not None
    assert timing.throughput.latency.batch == 4
    assert timing.decode_ms is not None
    assert timing.decode_ms > 0
    assert (timing.peak_bytes is not None) == can_measure_memory()


def test_without_its_images_decoding_is_not_measured(
    fitted: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketvision.fitting.measuring.can_measure_memory", lambda: False)
    folder = tmp_path / "moved"
    shutil.copytree(fitted.folder, folder)
    gone = replace(fitted.state.config, data=str(tmp_path / "gone"))
    (folder / "run.json").write_text(to_json(replace(fitted.state, config=gone)))
    timing = measure_fitted(folder)
    assert (timing.decode_ms, timing.throughput, timing.peak_bytes) == (None, None, None)
    photos = write_photos(tmp_path / "gone", per_class=2)
    (photos / "dark below" / "000.png").write_text("no image any more")
    assert measure_fitted(folder).decode_ms is not None
    shutil.rmtree(tmp_path / "gone")
    (tmp_path / "gone" / "dark below").mkdir(parents=True)
    assert measure_fitted(folder).decode_ms is None


def test_other_folders_and_batches_are_refused(fitted: Artefact, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"is not a fitted network: it holds no record\.json"):
        measure_fitted(tmp_path)
    with pytest.raises(ConfigError, match="batch=0 is out of range; expected 1 to 1024"):
        measure_fitted(fitted.folder, batch=0)


def test_throughput_taken_while_threads_had_to_wait_is_noisy(
    fitted: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = replace(fitted.record.latency, batch=SHIPPED_BATCH, noise="")
    monkeypatch.setattr(
        "pocketvision.measure.throughput.measure_latency", lambda *_, **__: {"shipped": quiet}
    )
    monkeypatch.setattr("pocketvision.measure.conditions._shares", lambda *_: (0.0, 1.0))
    found = shipped_throughput(fitted.model_file, fitted.shipped, fitted.network.spec)
    assert found.latency.noise.startswith("its threads had to wait: ")


def test_record_holds_the_throughput_and_the_conditions(fitted: Artefact) -> None:
    found = fitted.record.throughput
    assert found is not None
    assert found.latency.batch == SHIPPED_BATCH
    assert found.low <= found.images_per_s <= found.high
    assert found.images_per_s == 1000 * SHIPPED_BATCH / found.latency.median_ms
    assert fitted.record.conditions == fitted.state.conditions
    assert fitted.record.conditions is not None
