"""What integers cost, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pocketvision.compress.ladder import Subject
from pocketvision.compress.layers import alone, culprits, decibels, quantized_layers, sqnr_db
from pocketvision.record.files import QuantizedLayer
from pocketvision.runtimes.int8.static import Quantized, static_int8
from pocketvision.runtimes.onnxruntime import in_batches
from pocketvision.runtimes.runtime import PLAIN_INT8, Int8Config


@pytest.fixture(scope="module")
def batches(subject: Subject) -> Sequence[NDArray[np.uint8]]:
    return in_batches(subject.calibration, 4)


@pytest.fixture(scope="module")
def quantized(
    subject: Subject,
    batches: Sequence[NDArray[np.uint8]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Quantized:
    return static_int8(subject.float_onnx, tmp_path_factory.mktemp("q"), batches, PLAIN_INT8)


@pytest.fixture(scope="module")
def rows(quantized: Quantized, batches: Sequence[NDArray[np.uint8]]) -> tuple[QuantizedLayer, ...]:
    return quantized_layers(quantized, batches)


def test_every_layer_has_a_row_in_the_order_of_the_network(
    rows: tuple[QuantizedLayer, ...],
) -> None:
    names = [row.name for row in rows]
    assert names[0] == "blocks.0.conv"
    assert names[-1] == "head.classifier"
    assert "blocks.1.attention.reduce" in names
    assert len(set(names)) == len(names)
    assert {row.operator for row in rows} >= {"conv 1x1", "depthwise 3x3", "linear"}
    assert sum(row.macs_share for row in rows) == pytest.approx(1)
    assert all(row.in_integers for row in rows)
    assert rows[0].ranges == "pixels"
    assert {row.ranges for row in rows[1:]} == {"minmax"}
    assert all(row.low <= 0 <= row.high for row in rows)
    assert all(row.weight_spread >= 1 for row in rows)


def test_layers_left_in_float_are_marked(
    subject: Subject, batches: Sequence[NDArray[np.uint8]], tmp_path: Path
) -> None:
    config = Int8Config(ranges="minmax", float_layers=("blocks.2.depthwise.conv",))
    found = static_int8(subject.float_onnx, tmp_path, batches, config)
    left = [row.name for row in quantized_layers(found, batches) if not row.in_integers]
    assert left == ["blocks.2.depthwise.conv"]


def test_noise_adds_up_towards_the_end(rows: tuple[QuantizedLayer, ...]) -> None:
    noise = [row.sqnr_db for row in rows if "project" in row.name]
    assert noise[0] > noise[-1] > 5


def test_alone_costs_less_than_all_together(
    quantized: Quantized,
    rows: tuple[QuantizedLayer, ...],
    batches: Sequence[NDArray[np.uint8]],
    subject: Subject,
) -> None:
    assert subject.judge is not None
    judged = (in_batches(subject.judged, 8), subject.judge)
    seen: list[tuple[int, int]] = []
    found = alone(quantized, rows, batches, judged, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(rows), len(rows))
    for row in found:
        assert row.alone_sqnr_db is not None
        assert row.alone_sqnr_db > 10
        assert row.alone is not None
        assert row.alone.accuracy.n == len(subject.judged)
    ranked = [row.alone_sqnr_db for row in culprits(found) if row.alone_sqnr_db is not None]
    assert ranked == sorted(ranked)


def test_sqnr_is_a_ratio_in_decibels() -> None:
    signal = np.array([-1, 1, -1, 1], np.float32)
    assert sqnr_db(signal, signal + np.float32(0.1)) == pytest.approx(20, abs=1e-4)
    assert sqnr_db(signal, signal) == 120
    constant = np.ones(4, np.float32)
    assert sqnr_db(constant, constant + 1) == -120


@pytest.mark.parametrize(
    ("power", "noise", "ratio_db"),
    [(100.0, 1.0, 20), (1.0, 0.0, 120), (1e20, 1e-20, 120), (0.0, 1.0, -120)],
)
def test_decibels_stay_within_what_is_told(power: float, noise: float, ratio_db: float) -> None:
    assert decibels(power, noise) == pytest.approx(ratio_db)
