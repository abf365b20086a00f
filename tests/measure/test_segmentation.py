"""Intersection over union: by hand, by law, and with intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketvision.errors import ConfigError, DataError
from pocketvision.measure.segmentation import (
    SegmentationJudge,
    class_ious,
    iou_score,
    mean_iou,
    pixel_accuracy,
    pixel_confusion,
)

TRUTH = np.array([[0, 0, 1, 1], [0, 2, 2, 255]], np.uint8)
NAMED = np.array([[0, 1, 1, 1], [0, 2, 0, 1]], np.uint8)


def judge_of(masks: list[np.ndarray], classes: int = 3) -> SegmentationJudge:
    return SegmentationJudge(
        read=lambda row: masks[row], rows=np.arange(len(masks)), classes=classes
    )


def test_by_hand() -> None:
    counts = pixel_confusion(NAMED, TRUTH, 3)
    np.testing.assert_array_equal(counts, [[2, 1, 0], [0, 2, 0], [1, 0, 1]])
    np.testing.assert_allclose(class_ious(counts), [2 / 4, 2 / 3, 1 / 2])
    assert float(mean_iou(counts)) == pytest.approx((2 / 4 + 2 / 3 + 1 / 2) / 3)
    assert pixel_accuracy(counts) == pytest.approx(5 / 7)


def test_classes_that_do_not_occur_do_not_count() -> None:
    counts = pixel_confusion(NAMED, TRUTH, 9)
    assert np.isnan(class_ious(counts)[3:]).all()
    assert float(mean_iou(counts)) == pytest.approx((2 / 4 + 2 / 3 + 1 / 2) / 3)


def test_small_maps_are_judged_at_the_size_of_the_mask() -> None:
    larger = TRUTH.repeat(3, 0).repeat(3, 1)
    counts = pixel_confusion(TRUTH, larger, 256)
    assert float(mean_iou(counts[:255, :255])) == 1
    np.testing.assert_array_equal(
        pixel_confusion(NAMED, larger, 3), 9 * pixel_confusion(NAMED, TRUTH, 3)
    )


@given(st.integers(0, 1000))
def test_a_perfect_answer_scores_one(seed: int) -> None:
    truth = np.random.default_rng(seed).integers(0, 3, (2, 4, 5)).astype(np.uint8)
    found = judge_of(list(truth)).compare(
        truth, truth, subject="a", reference_name="b", split="val"
    )
    assert found.accuracy.value == found.accuracy.low == found.accuracy.high == 1
    assert (found.drop, found.drop_low, found.drop_high, found.agreement) == (0, 0, 0, 1)
    assert (found.accuracy.metric, found.accuracy.n, found.accuracy.correct) == ("mIoU", 2, None)


def noisy(truth: np.ndarray, share: float, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    wrong = generator.random(truth.shape) < share
    return np.where(wrong, generator.integers(0, 3, truth.shape), truth).astype(np.uint8)


def test_a_worse_answer_drops_and_the_interval_says_so() -> None:
    truth = np.random.default_rng(0).integers(0, 3, (40, 8, 8)).astype(np.uint8)
    better, worse = noisy(truth, 0.1, 1), noisy(truth, 0.3, 2)
    judge = judge_of(list(truth))
    found = judge.compare(worse, better, subject="worse", reference_name="better", split="val")
    assert 0 < found.drop_low < found.drop < found.drop_high
    assert found.drop == pytest.approx(found.reference_accuracy.value - found.accuracy.value)
    assert found.agreement == pytest.approx(float((better == worse).mean()))
    back = judge.compare(better, worse, subject="better", reference_name="worse", split="val")
    assert back.drop == pytest.approx(-found.drop)
    assert back.drop_low == pytest.approx(-found.drop_high)


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_more_images_of_the_same_kind_narrow_the_interval(seed: int) -> None:
    truth = np.random.default_rng(seed).integers(0, 3, (8, 6, 6)).astype(np.uint8)
    counts = judge_of(list(truth)).counts(noisy(truth, 0.4, seed))
    few, many = iou_score(counts), iou_score(np.concatenate([counts] * 10))
    assert few.low <= few.value <= few.high
    assert many.value == pytest.approx(few.value)
    assert many.high - many.low < few.high - few.low


def test_the_judge_of_some_images() -> None:
    masks = [np.full((2, 2), k, np.uint8) for k in range(3)]
    some = judge_of(masks).take(np.array([2, 0]))
    assert len(some) == 2
    answers = np.stack([masks[2], masks[0]])
    assert some.compare(
        answers, answers, subject="a", reference_name="b", split="val"
    ).accuracy.value == pytest.approx(1)


def test_answers_of_another_shape_and_no_images() -> None:
    judge = judge_of([TRUTH])
    with pytest.raises(ConfigError, match=r"answers is 2x2x4; expected 1xanyxany"):
        judge.counts(np.stack([NAMED, NAMED]))
    with pytest.raises(ConfigError, match=r"answers of a is 1x2x4; expected 1x1x4"):
        judge.compare(NAMED[None], NAMED[None, :1], subject="a", reference_name="b", split="val")
    with pytest.raises(DataError, match="there are no images to measure a network on"):
        judge_of([]).compare(NAMED[:0], NAMED[:0], subject="a", reference_name="b", split="val")
