"""Boxes: overlap, suppression and selection, by hand and by law."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pocketvision.boxes import Boxes, Objects, Scores, Selection, areas, iou, select, suppressed
from pocketvision.errors import ConfigError

corners = arrays.arrays(np.float32, (6, 4), elements=st.floats(0, 1, width=32))


def boxes_of(values: Boxes) -> Boxes:
    """Any four numbers as a box."""
    return np.concatenate(
        [np.minimum(values[:, :2], values[:, 2:]), np.maximum(values[:, :2], values[:, 2:])], 1
    )


def test_overlap_by_hand() -> None:
    first = np.array([[0, 0, 0.5, 0.5]], np.float32)
    second = np.array(
        [[0, 0, 0.5, 0.5], [0.25, 0, 0.75, 0.5], [0.5, 0.5, 1, 1], [0, 0, 0, 0]], np.float32
    )
    np.testing.assert_allclose(iou(first, second), [[1, 1 / 3, 0, 0]], rtol=1e-6)


@given(corners)
def test_overlap_is_symmetric_and_between_0_and_1(values: Boxes) -> None:
    boxes = boxes_of(values)
    found = iou(boxes, boxes)
    np.testing.assert_array_equal(found, found.T)
    assert ((found >= 0) & (found <= 1 + 1e-6)).all()
    assert (np.diag(found)[areas(boxes) > 1e-6] > 0.999).all()


@given(corners, st.permutations(range(6)), st.floats(0.1, 0.9))
def test_none_that_stays_overlaps_another_and_each_that_goes_overlaps_a_better_one(
    values: Boxes, order: list[int], threshold: float
) -> None:
    boxes, scores = boxes_of(values), np.array([place / 6 for place in order], np.float32)
    kept = suppressed(boxes, scores, threshold)
    overlaps = iou(boxes, boxes) > threshold
    assert list(scores[kept]) == sorted(scores[kept], reverse=True)
    for row in range(len(boxes)):
        better = [other for other in kept if scores[other] > scores[row] and overlaps[other, row]]
        assert bool(better) == (row not in kept)


def test_of_equal_scores_the_first_stays() -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.float32)
    assert suppressed(boxes, np.array([0.5, 0.5], np.float32), 0.5).tolist() == [0]


def test_selection_is_by_class_and_leaves_the_background() -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 0, 0.9, 1], [-1, 0.5, 0.5, 2]], np.float32)
    scores = np.array([[0.1, 0.8, 0.1], [0.2, 0.7, 0.6], [0.9, 0.05, 0.05]], np.float32)
    found = select(boxes, scores, Selection(least=0.06, overlap=0.5))
    assert found.classes.tolist() == [1, 2]
    np.testing.assert_allclose(found.scores, [0.8, 0.6])
    every = select(boxes, scores, Selection(least=0.01))
    assert every.boxes.min() == 0  # clipped to the image
    assert every.boxes.max() == 1
    assert len(select(boxes, scores, Selection(least=0.01, most=2)).classes) == 2
    assert len(select(boxes, scores, Selection(least=0.01, candidates=1)).classes) == 2


def by_definition(boxes: Boxes, scores: Scores, selection: Selection) -> list[tuple[int, int]]:
    """Class and row of what is told: each class for itself and whole, then the surest of all."""
    told: list[tuple[float, int, int]] = []
    for label in range(1, scores.shape[1]):
        rows = [row for row in range(len(boxes)) if scores[row, label] > selection.least]
        rows = sorted(rows, key=lambda row: -scores[row, label])[: selection.candidates]
        kept: list[int] = []
        for row in rows:
            if all(iou(boxes[[row]], boxes[[k]])[0, 0] <= selection.overlap for k in kept):
                kept.append(row)
        told += [(-float(scores[row, label]), label, row) for row in kept]
    return [
        (label, row) for _, label, row in sorted(told, key=lambda one: one[0])[: selection.most]
    ]


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 8), st.integers(1, 8))
def test_looking_at_the_surest_alone_tells_the_same(
    seed: int, classes: int, candidates: int, most: int
) -> None:
    generator = np.random.default_rng(seed)
    boxes = boxes_of((generator.integers(0, 5, (12, 4)) / 4).astype(np.float32))
    scores = (generator.integers(0, 6, (12, classes + 1)) / 5).astype(np.float32)  # many are equal
    selection = Selection(least=0.1, overlap=0.3, candidates=candidates, most=most)
    found, expected = select(boxes, scores, selection), by_definition(boxes, scores, selection)
    assert found.classes.tolist() == [label for label, _ in expected]
    np.testing.assert_array_equal(found.boxes, boxes[[row for _, row in expected]])
    np.testing.assert_array_equal(found.scores, [scores[row, label] for label, row in expected])


def test_nothing_found_is_empty() -> None:
    found = select(np.zeros((2, 4), np.float32), np.zeros((2, 3), np.float32), Selection())
    assert found.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("field", "value"), [("least", 1.1), ("overlap", -0.1), ("most", 0), ("candidates", 0)]
)
def test_selection_refuses_what_is_not_allowed(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{field}={value} is"):
        Selection(**{field: value})  # type: ignore[arg-type]  # what is tested


def some_objects(counts: tuple[int, ...]) -> Objects:
    """Objects of images with that many each, all different."""
    total = sum(counts)
    corners = np.linspace(0, 0.5, 2 * total, dtype=np.float32).reshape(total, 2)
    return Objects(
        boxes=np.concatenate([corners, corners + 0.25], axis=1),
        labels=np.arange(total, dtype=np.int32),
        ignored=np.arange(total) % 2 == 1,
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


@given(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.data())
def test_images_are_taken_with_their_objects(counts: list[int], data: st.DataObject) -> None:
    objects = some_objects(tuple(counts))
    order = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=6))
    taken = objects.take(np.array(order, np.int64))
    assert len(taken) == len(order)
    for place, image in enumerate(order):
        np.testing.assert_array_equal(taken.of(place).labels, objects.of(image).labels)
        np.testing.assert_array_equal(taken.of(place).boxes, objects.of(image).boxes)
        np.testing.assert_array_equal(taken.of(place).ignored, objects.of(image).ignored)


def test_columns_of_objects_belong_together() -> None:
    objects = some_objects((1, 2))
    with pytest.raises(ConfigError, match=r"labels .*2.*3"):
        replace(objects, labels=objects.labels[:2])
