"""A detector is judged as every other network is."""

from __future__ import annotations

import numpy as np
import pytest

from pocketvision.boxes import Objects
from pocketvision.errors import ConfigError, DataError, GateError
from pocketvision.measure.detection_judge import DetectionJudge

BOXES = np.array([[0.1, 0.1, 0.4, 0.5], [0.5, 0.5, 0.9, 0.9]], np.float32)


def judge(images: int = 3, objects: int = 2) -> DetectionJudge:
    """Every image with the same objects, one of each class."""
    return DetectionJudge(
        objects=Objects(
            boxes=np.tile(BOXES[:objects], (images, 1)),
            labels=np.tile(np.arange(objects, dtype=np.int32), images),
            ignored=np.zeros(images * objects, bool),
            starts=np.arange(images + 1) * objects,
        ),
        sizes=np.tile(np.array([[200, 100]], np.int32), (images, 1)),
        classes=("a", "b"),
    )


def answers(images: int = 3, score: float = 0.9, shift: float = 0.0) -> np.ndarray:
    """Two anchors an image, on the objects, each sure of its class."""
    chances = np.array([[1 - score, score, 0], [1 - score, 0, score]], np.float32)
    one = np.concatenate([BOXES + shift, chances], axis=1)
    return np.tile(one, (images, 1, 1)).astype(np.float32)


def test_a_perfect_detector() -> None:
    found = judge().compare(answers(), answers(), subject="a", reference_name="b", split="val")
    assert found.accuracy.value == found.accuracy.low == found.accuracy.high == pytest.approx(1)
    assert (found.accuracy.metric, found.accuracy.n, found.accuracy.correct) == ("mAP", 3, None)
    assert (found.drop, found.agreement, found.largest_difference) == (0, 1, 0)


def test_a_detector_that_is_off_drops() -> None:
    found = judge().compare(
        answers(shift=0.08), answers(), subject="a", reference_name="b", split="val"
    )
    assert found.accuracy.value < 0.7
    assert found.drop == pytest.approx(1 - found.accuracy.value)
    assert found.drop_low <= found.drop <= found.drop_high
    assert found.largest_difference == pytest.approx(0.08, abs=1e-6)


def test_some_images() -> None:
    some = judge().take(np.array([2, 0]))
    assert len(some) == 2
    assert some.score(some.found(answers(2))).value == pytest.approx(1)


def test_what_cannot_be_judged() -> None:
    with pytest.raises(ConfigError, match=r"answers is 3x2x6; expected 3xanyx7"):
        judge().found(answers()[..., :6])
    broken = answers()
    broken[1, 0, 0] = np.nan
    with pytest.raises(GateError, match=r"a gives boxes or scores that are not numbers on 1 of 3"):
        judge().compare(broken, answers(), subject="a", reference_name="b", split="val")
    nothing = judge(objects=0)
    with pytest.raises(DataError, match="there are no objects to be found"):
        nothing.score(nothing.found(answers()))
