"""The gate of INT8: every rung can be reached, and the sentence says what was shipped and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketvision.compress import ladder as module
from pocketvision.compress.ladder import Climbed, Subject, climb
from pocketvision.errors import GateError
from pocketvision.measure.accuracy import LabelJudge
from pocketvision.record.files import Quantization
from pocketvision.record.scores import Comparison
from pocketvision.record.timing import Latency
from pocketvision.runtimes.runtime import PLAIN_INT8
from pocketvision.train.alarms import Diverged

SLOW, FAST = 5.0, 2.0  # ms


def taking(ms: float) -> Latency:
    return Latency(median_ms=ms, p95_ms=ms, low_ms=ms, high_ms=ms, runs=1, threads=1)


def shipped(climbed: Climbed, int8_ms: float = FAST) -> tuple[Path, Quantization]:
    """The file that is taken, and what is recorded, if INT8 takes int8_ms and float SLOW."""
    timed = climbed.timed(
        {p: taking(SLOW if r.kind == "float" else int8_ms) for p, r in climbed.rungs.items()}
    )
    return timed.fastest, timed.quantization(timed.fastest)


def fail_until(monkeypatch: pytest.MonkeyPatch, passes: int) -> None:
    """The first files that are judged lose everything; file number `passes` loses nothing."""
    real, seen = LabelJudge.compare, []

    def compare(*words: Any, **options: Any) -> Comparison:
        seen.append(1)
        drop = 0.0 if len(seen) >= passes else 0.25
        return replace(real(*words, **options), drop=drop, drop_low=drop, drop_high=drop)

    monkeypatch.setattr(LabelJudge, "compare", compare)


def kinds(climbed: Climbed) -> list[tuple[str, bool]]:
    return [(rung.kind, rung.passed) for rung in climbed.rungs.values()]


def test_first_rung_is_enough_where_it_passes(subject: Subject, tmp_path: Path) -> None:
    said: list[str] = []
    found = climb(subject, tmp_path, explain=False, say=said.append)
    path, recorded = shipped(found)
    assert kinds(found) == [("float", True), ("post-training", True)]
    assert found.rungs[path].kind == "post-training"
    assert "INT8 is shipped" in recorded.sentence
    assert "2.50 times as fast as float" in recorded.sentence
    assert "So few images cannot tell half a point from nothing" in recorded.sentence
    assert said[-1].startswith("post-training: loses")
    assert all(layer.alone_sqnr_db is None for layer in recorded.layers)
    assert all(layer.alone is None for layer in recorded.layers)
    assert recorded.judged_by == "labels"


def test_files_that_were_not_timed_are_judged_alone(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_until(monkeypatch, passes=99)
    found = climb(replace(subject, max_drop_points=1), tmp_path, config=PLAIN_INT8, explain=False)
    assert found.passing == subject.float_onnx
    sentence = found.quantization(found.passing).sentence
    assert (
        sentence
        == "No INT8 file passes: in integers at least 25.00 points are lost, 1 are allowed."
    )
    last = list(found.rungs)[-1]
    assert found.quantization(last).sentence.startswith("INT8 with ")


def test_layers_are_left_in_float_worst_first(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_until(monkeypatch, passes=3)
    limited = replace(subject, max_drop_points=1.0)
    found = climb(limited, tmp_path, config=PLAIN_INT8, explain=False)
    _, recorded = shipped(found)
    assert kinds(found) == [
        ("float", True),
        ("post-training", False),
        ("layers in float", False),
        ("layers in float", True),
    ]
    one, two = (rung.float_layers for rung in list(found.rungs.values())[2:])
    assert (len(one), len(two)) == (1, 2)
    assert two[0] == one[0]
    left = {layer.name for layer in recorded.layers if not layer.in_integers}
    assert left == set(two)
    assert "INT8 with 2 layers in float is shipped" in recorded.sentence
    worst = min(recorded.layers, key=lambda layer: layer.alone_sqnr_db or 999)
    assert worst.name == one[0]


def test_training_is_the_last_rung_before_float(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module._Ladder, "leave_layers_in_float", lambda *_: None)
    fail_until(monkeypatch, passes=2)
    limited = replace(subject, max_drop_points=1.0)
    found = climb(
        limited, tmp_path, config=PLAIN_INT8, explain=False, train=lambda: subject.float_onnx
    )
    _, recorded = shipped(found)
    assert kinds(found)[-1] == ("after training", True)
    assert "INT8 after training for integers is shipped" in recorded.sentence


def test_training_that_diverges_leaves_the_float_file(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module._Ladder, "leave_layers_in_float", lambda *_: None)
    fail_until(monkeypatch, passes=99)
    said: list[str] = []

    def train() -> Path:
        raise Diverged("The loss became nan at step 3.")

    limited = replace(subject, max_drop_points=1.0)
    found = climb(limited, tmp_path, config=PLAIN_INT8, explain=False, train=train, say=said.append)
    path, _ = shipped(found)
    assert path == subject.float_onnx
    assert said[-1] == "The loss became nan at step 3. The rung of training is left out."


def test_float_is_shipped_where_nothing_passes(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_until(monkeypatch, passes=99)
    found = climb(replace(subject, max_drop_points=0), tmp_path, config=PLAIN_INT8, explain=False)
    path, recorded = shipped(found)
    assert path == subject.float_onnx
    assert recorded.sentence == (
        "The float file is shipped: in integers at least 25.00 points are lost, 0 are allowed."
    )


def test_float_is_shipped_where_integers_are_slower(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = climb(subject, tmp_path, config=PLAIN_INT8, explain=False)
    path, recorded = shipped(found, 9.0)
    assert path == subject.float_onnx
    assert "INT8 passes its gate, but takes 9 ms where float takes 5 ms" in (recorded.sentence)


def test_agreement_is_judged_where_there_are_no_labels(subject: Subject, tmp_path: Path) -> None:
    found = climb(replace(subject, judge=None), tmp_path, config=PLAIN_INT8, explain=False)
    path, recorded = shipped(found)
    assert recorded.judged_by == "agreement"
    assert "There were no labels: agreement with float was judged" in recorded.sentence
    compared = found.rungs[path].comparison
    assert compared is not None
    assert compared.drop == pytest.approx(1 - compared.agreement)


def test_max_drop_of_zero_takes_what_loses_nothing(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_until(monkeypatch, passes=1)
    found = climb(replace(subject, max_drop_points=0), tmp_path, config=PLAIN_INT8, explain=False)
    path, _ = shipped(found)
    assert found.rungs[path].kind == "post-training"


def test_logits_that_are_not_numbers_stop_it(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module._Ladder, "_answers", lambda *_: np.full((len(subject.judged), 4), np.nan, np.float32)
    )
    with pytest.raises(GateError, match="logits that are not numbers"):
        climb(subject, tmp_path, config=PLAIN_INT8, explain=False)
