"""Figures of detectors: a case on paper, laws, and the bootstrap against the evaluator."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketvision.boxes import Detections, Objects
from pocketvision.errors import ConfigError, DataError, GateError, MissingExtraError
from pocketvision.measure import detection_matches
from pocketvision.measure.detection import (
    Sizes,
    ap_draws,
    detection_scores,
    matched_share,
    percentile_interval,
)
from pocketvision.measure.detection_matches import match

Found = tuple[float, int, Sequence[float]]  # score, class, box

needs_extra = pytest.mark.skipif(
    importlib.util.find_spec("faster_coco_eval") is None, reason="needs faster-coco-eval"
)
NAMES = ("cat", "dog", "owl")


def told(*rows: Found) -> Detections:
    """What was found in an image."""
    return Detections(
        boxes=np.array([row[2] for row in rows], np.float32).reshape(-1, 4),
        scores=np.array([row[0] for row in rows], np.float32),
        classes=np.array([row[1] for row in rows], np.int64),
    )


def objects_of(*images: Sequence[tuple[int, bool, Sequence[float]]]) -> Objects:
    """Label, whether ignored, and box of the objects of each image."""
    rows = [row for image in images for row in image]
    return Objects(
        boxes=np.array([row[2] for row in rows], np.float32).reshape(-1, 4),
        labels=np.array([row[0] for row in rows], np.int32),
        ignored=np.array([row[1] for row in rows], bool),
        starts=np.cumsum([0, *(len(image) for image in images)]).astype(np.int64),
    )


def square(images: int) -> Sizes:
    """Images of 100x100 pixels."""
    return np.full((images, 2), 100, np.int32)


A, B = (0.1, 0.1, 0.5, 0.5), (0.7, 0.7, 0.9, 0.9)  # 40x40 pixels, and 20x20 that are missed
C, D = (0.1, 0.1, 0.5, 0.5), (0.6, 0.6, 0.9, 0.9)  # of which the second is ignored
ON_PAPER = objects_of([(0, False, A), (0, False, B)], [(0, False, C), (0, True, D)])
FOUND = (
    told((0.9, 1, A)),
    told((0.95, 1, D), (0.8, 1, (0.7, 0.1, 0.9, 0.3)), (0.7, 1, (0.1, 0.1, 0.5, 0.35))),
)


@needs_extra
def test_scores_on_paper() -> None:
    # Best first: the ignored object, which does not count; A, right; a false one; C with an IoU of
    # 0.625, right at 3 of 10 thresholds. Of 3 objects, precision is 1 up to recall 1/3 (34 of the
    # 101 recalls), 2/3 up to 2/3 (33 more, at those thresholds), then 0.
    scores = detection_scores(FOUND, ON_PAPER, square(2), ("cat", "dog"))
    low, high = (34 + 33 * 2 / 3) / 101, 34 / 101
    assert scores.ap == pytest.approx((3 * low + 7 * high) / 10)
    assert scores.ap50 == pytest.approx(low)
    assert scores.ap75 == pytest.approx(high)
    assert scores.per_class == (scores.ap, None)  # there is no dog
    assert scores.per_class_ap50 == (scores.ap50, None)
    assert scores.recall == pytest.approx((3 * 2 / 3 + 7 * 1 / 3) / 10)
    # B is small. A and C are medium, and what else was found is small and does not count there.
    assert scores.ap_small == 0
    assert scores.ap_medium == pytest.approx((3 * 1 + 7 * 51 / 101) / 10)
    assert scores.ap_large is None


@needs_extra
def test_curve_on_paper() -> None:
    cats, dogs = detection_scores(FOUND, ON_PAPER, square(2), ("cat", "dog")).precisions
    assert cats == pytest.approx([1] * 34 + [2 / 3] * 33 + [0] * 34)
    assert dogs == ()


@needs_extra
def test_areas_are_in_pixels_of_the_image() -> None:
    large = np.array([[300, 400], [300, 400]], np.int32)
    scores = detection_scores(FOUND, ON_PAPER, large, ("cat",))
    assert scores.ap_small is None  # B has 60x80 pixels
    assert scores.ap_medium == 0
    assert scores.ap_large == pytest.approx((3 * 1 + 7 * 51 / 101) / 10)


@needs_extra
def test_nothing_found_and_nothing_there_are_legal(capsys: pytest.CaptureFixture[str]) -> None:
    empty, nothing = objects_of([], []), (told(), told())
    missed = detection_scores(nothing, ON_PAPER, square(2), ("cat",))
    assert (missed.ap, missed.recall, missed.ap_large) == (0, 0, None)
    assert not ap_draws(nothing, ON_PAPER, square(2), ("cat",), seed=0).any()
    for found in (nothing, FOUND):
        scores = detection_scores(found, empty, square(2), ("cat",))
        assert (scores.ap, scores.recall, scores.per_class) == (None, None, (None,))
        assert scores.precisions == ((),)
        draws = ap_draws(found, empty, square(2), ("cat",), seed=0)
        assert np.isnan(draws).all()
        assert percentile_interval(draws) is None
    assert capsys.readouterr() == ("", "")  # the evaluator likes to talk


def some_images(
    seed: int, images: int = 12, boxes: int = 30
) -> tuple[list[Detections], Objects, Sizes]:
    """Objects of three classes, found more or less, among false ones.

    Many scores of different images are equal, but none within one: there the order of an image's
    copies would matter.
    """
    generator = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(images):
        low = generator.uniform(0, 0.6, (generator.integers(0, 8), 2))
        corners = np.concatenate([low, low + generator.uniform(0.02, 0.4, low.shape)], 1)
        labels = generator.integers(0, 3, len(corners))
        ignored = generator.uniform(size=len(corners)) < 0.2
        truth.append(list(zip(labels.tolist(), ignored.tolist(), corners.tolist(), strict=True)))
        rows: list[Found] = []
        for place, score in enumerate((generator.permutation(500)[:boxes] / 500).tolist()):
            named = int(generator.integers(1, 4))
            x, y, width, height = generator.uniform(0.02, 0.5, 4)
            box = [x, y, x + width, y + height]
            if place % 2 and len(corners):
                row = int(generator.integers(len(corners)))
                named = int(labels[row]) + 1
                moved = corners[row] + generator.normal(0, 0.02, 4)
                box = [*np.minimum(moved[:2], moved[2:]), *np.maximum(moved[:2], moved[2:])]
            rows.append((score, named, box))
        found.append(told(*sorted(rows, reverse=True)))
    sizes = generator.integers(50, 400, (images, 2)).astype(np.int32)
    return found, objects_of(*truth), sizes


@needs_extra
@pytest.mark.parametrize(("seed", "images", "boxes"), [(0, 12, 30), (1, 40, 8), (2, 3, 400)])
def test_every_image_once_gives_the_evaluator_s_ap(seed: int, images: int, boxes: int) -> None:
    found, objects, sizes = some_images(seed, images, boxes)
    (ap,) = match(found, objects, sizes, 3).ap(np.ones((1, images), np.int64))
    scores = detection_scores(found, objects, sizes, NAMES)
    assert ap == pytest.approx(scores.ap, abs=1e-9)
    assert [np.mean(one) for one in scores.precisions] == pytest.approx(scores.per_class_ap50)


@needs_extra
@settings(max_examples=10)
@given(st.integers(0, 1000), st.lists(st.integers(0, 11), min_size=3, max_size=12))
def test_weights_are_images_taken_several_times(seed: int, order: list[int]) -> None:
    found, objects, sizes = some_images(seed)
    rows = np.sort(np.array(order, np.int64))
    taken = [found[row] for row in rows.tolist()]
    scores = detection_scores(taken, objects.take(rows), sizes[rows], NAMES)
    (ap,) = match(found, objects, sizes, 3).ap(np.bincount(rows, minlength=12)[None])
    assert np.isnan(ap) if scores.ap is None else ap == pytest.approx(scores.ap, abs=1e-9)


@needs_extra
@pytest.mark.parametrize("at_once", [1, 500])
def test_samples_are_judged_alike_however_many_at_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, objects, sizes = some_images(5)
    expected = ap_draws(found, objects, sizes, NAMES, seed=0)
    monkeypatch.setattr(detection_matches, "AT_ONCE", at_once)
    assert ap_draws(found, objects, sizes, NAMES, seed=0).tolist() == expected.tolist()


@needs_extra
def test_interval_holds_the_value_and_repeats() -> None:
    found, objects, sizes = some_images(3)
    draws, other = (ap_draws(found, objects, sizes, NAMES, seed=seed) for seed in (1, 2))
    interval = percentile_interval(draws)
    assert len(draws) == 201
    assert draws[0] == pytest.approx(detection_scores(found, objects, sizes, NAMES).ap, abs=1e-9)
    assert interval is not None
    assert 0 < interval[0] < draws[0] < interval[1] < 1
    np.testing.assert_array_equal(draws, ap_draws(found, objects, sizes, NAMES, seed=1))
    assert (draws[1:] != other[1:]).any()


@needs_extra
def test_draws_of_two_detectors_are_of_the_same_images() -> None:
    found, objects, sizes = some_images(3)
    fewer = [replace(one, classes=np.where(one.scores > 0.9, 1, one.classes)) for one in found]
    own, other = (ap_draws(part, objects, sizes, NAMES, seed=1) for part in (fewer, found))
    drop, alone = percentile_interval(other - own), percentile_interval(other)
    assert drop is not None
    assert alone is not None
    assert drop[0] < other[0] - own[0] < drop[1]
    assert drop[1] - drop[0] < alone[1] - alone[0]  # what images have in common cancels


def test_agreement_is_of_class_place_and_about_the_score() -> None:
    box, near, far = (0, 0, 0.5, 0.5), (0, 0, 0.5, 0.3), (0, 0, 0.5, 0.2)  # IoU 1, 0.6, 0.4
    first = (told((0.31, 1, box), (0.2, 2, far)), told())
    assert matched_share(first, first) == 1
    assert matched_share(first, (told((0.29, 1, near)), told())) == 1
    assert matched_share(first, (told((0.1, 1, box)), told())) == 0  # too faint
    assert matched_share(first, (told((0.9, 2, box)), told())) == 0
    assert matched_share(first, (told((0.9, 1, far)), told())) == 0
    other = (told((0.9, 1, box)), told((0.8, 3, box)))
    assert matched_share(first, other) == matched_share(other, first) == 2 / 3


def test_agreement_of_detectors_that_find_nothing_is_one() -> None:
    faint = (told((0.2, 1, A)),)
    assert matched_share(faint, (told(),)) == 1
    with pytest.raises(ConfigError, match="found is 1; expected 2"):
        matched_share(faint, FOUND)


def broken(scores: Sequence[float]) -> tuple[Detections, Detections]:
    """One more box of the second image."""
    return FOUND[0], told(*((score, 1, A) for score in scores))


@needs_extra
@pytest.mark.parametrize(
    ("measure", "error", "message"),
    [
        (lambda: detection_scores((), objects_of(), square(0), ("a",)), DataError, "no images"),
        (
            lambda: detection_scores(FOUND[:1], ON_PAPER, square(2), ("a",)),
            ConfigError,
            "found is 1; expected 2",
        ),
        (
            lambda: ap_draws(FOUND, ON_PAPER, square(3), ("a",), seed=0),
            ConfigError,
            "sizes is 3x2; expected 2x2",
        ),
        (
            lambda: detection_scores(
                FOUND, replace(ON_PAPER, labels=ON_PAPER.labels + 1), square(2), "a"
            ),
            DataError,
            "labels of objects: classes go from 1 to 1, but there are 1: 0 to 0",
        ),
        (
            lambda: detection_scores((told((0.5, 0, A)), told()), ON_PAPER, square(2), ("a",)),
            DataError,
            "found: classes go from 0 to 0, but there are 1: 1 to 1",
        ),
        (
            lambda: ap_draws(broken([0.1, float("nan")]), ON_PAPER, square(2), ("a",), seed=0),
            GateError,
            "not numbers on 1 of 2 images",
        ),
        (
            lambda: ap_draws(FOUND, ON_PAPER, square(2), ("a",), seed=0, draws=0),
            ConfigError,
            "draws=0 is not allowed",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(
    measure: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        measure()


def test_absent_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    sentence = r"needs faster_coco_eval.*pip install 'pocketvision\[detection\]'"
    with pytest.raises(MissingExtraError, match=sentence):
        detection_scores(FOUND, ON_PAPER, square(2), ("cat",))
    with pytest.raises(MissingExtraError, match=sentence):
        ap_draws(FOUND, ON_PAPER, square(2), ("cat",), seed=0)
