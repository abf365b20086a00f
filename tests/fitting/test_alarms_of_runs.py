"""Trainings that go wrong, from images to record: named, answered once, then stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_runs import QUICK, Told

from pocketvision.data.cache import DecodedImages
from pocketvision.data.images import scan
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import StreamedPixels
from pocketvision.errors import ConfigError, GateError
from pocketvision.fitting import ship, training, variants
from pocketvision.fitting.artefact import read_state
from pocketvision.fitting.examination import named_classes
from pocketvision.fitting.pipeline import run_fit
from pocketvision.models import registry
from pocketvision.train import trainer
from pocketvision.train.alarms import DIVERGED, Diverged, batch_statistics
from pocketvision.train.module import TaskModule
from pocketvision.train.trainer import TrainResult

BRIEF = replace(QUICK, epochs=2, precisions=("int8",))


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here hangs on throughput or memory."""
    monkeypatch.setattr(ship, "shipped_throughput", lambda *_: None)
    monkeypatch.setattr(variants, "can_measure_memory", lambda: False)


def write_noise(folder: Path, counts: dict[str, int]) -> Path:
    """Classes that nothing tells apart."""
    generator = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def test_training_that_diverges_twice_stops_with_its_reason(photos: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "out", Told()
    config = replace(BRIEF, data=str(photos), learning_rate=100.0)
    message = (
        r"The training loss became \S+ at step \d+\. It had diverged before, and the learning rate "
        r"is 10 since; the run stops\. Look for broken images \(pocketvision doctor .*\), or give"
    )
    with pytest.raises(GateError, match=message):
        run_fit(config, out, told)
    state = read_state(out)
    assert state.status == "failed"
    assert [alarm.code for alarm in state.alarms] == [DIVERGED]
    assert state.train is not None
    assert state.train.learning_rate == 10
    assert any("on at a learning rate of 10 instead of 100." in s for s in told.sentences)
    with pytest.raises(ConfigError, match="holds a run that failed"):
        run_fit(config, out)


def test_training_that_diverges_once_goes_on_slower_and_the_record_says_so(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two trainings, it does not forget the first."""
    lives: list[float] = []

    def diverge_once(*args: Any, **named: Any) -> TrainResult:
        module = args[0]
        assert isinstance(module, TaskModule)
        config = module.config
        lives.append(config.learning_rate)
        if len(lives) == 1:
            raise Diverged("The training loss became nan at step 1.")
        if len(lives) == 2:
            raise KeyboardInterrupt
        return trainer.fit(*args, **named)

    monkeypatch.setattr(training, "fit", diverge_once)
    config, out = replace(BRIEF, data=str(photos), learning_rate=0.01), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_fit(config, out)
    artefact = run_fit(config, out)
    assert lives == pytest.approx([0.01, 0.001, 0.001])
    (alarm,) = (alarm for alarm in artefact.record.alarms if alarm.code == DIVERGED)
    assert alarm.severity == "warning"
    assert "went back to its start and on at a learning rate of 0.001" in alarm.sentence
    assert "diverged" not in artefact.record.verdict.sentence


def test_no_image_is_looked_at_alone(tmp_path: Path) -> None:
    """Of one image whose maps are one pixel, a batch norm has no statistics."""
    samples = scan(write_noise(tmp_path, {"a": 5, "b": 4}))
    network = registry.spec("mobilenet_v1", width=0.25, resolution=32, num_classes=2).build(seed=0)
    pre, pixels = (
        Preprocessing.for_resolution(32),
        StreamedPixels(contents=DecodedImages(index=samples.index, side=32)),
    )
    pre = replace(pre, side=32)
    twin = batch_statistics(network)
    assert len(named_classes(twin, pixels, np.arange(9), pre, batch_size=2)) == 9


def test_network_that_only_knows_the_majority_is_named_in_the_verdict(tmp_path: Path) -> None:
    photos = write_noise(tmp_path / "photos", {"many": 60, "few": 20})
    told = Told()
    artefact = run_fit(replace(BRIEF, data=str(photos), epochs=8), tmp_path / "out", told)
    (alarm,) = (alarm for alarm in artefact.record.alarms if alarm.code == "majority-class")
    assert alarm.severity == "error"
    assert "names 'many' for 100.0% of 12 val images, of which 75.0% are" in alarm.sentence
    assert alarm.sentence in artefact.record.verdict.sentence
    assert alarm.sentence in told.sentences
