"""Which anchor answers for which object, and what the multibox loss counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pocketvision.boxes import Objects
from pocketvision.errors import ConfigError
from pocketvision.models.detector import decoded
from pocketvision.nn.ssdlite import AnchorSpec
from pocketvision.train.multibox import (
    LONE_NEGATIVES,
    Targets,
    hard_negatives,
    matched,
    multibox_loss,
    targets_of,
)

ANCHORS = AnchorSpec().boxes(((4, 4), (2, 2), (1, 1)))  # (126, 4)
# Four squares of half the image.
SQUARES = torch.tensor(
    [[0.25, 0.25, 0.5, 0.5], [0.75, 0.25, 0.5, 0.5], [0.25, 0.75, 0.5, 0.5], [0.75, 0.75, 0.5, 0.5]]
)

places = st.integers(0, 90)
boxes_drawn = st.lists(
    st.tuples(places, places, st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=6
)
seeds = st.integers(0, 2**31)


def boxes_of(drawn: list[tuple[int, int, int, int]]) -> Tensor:
    """Corners from places and sides in hundredths."""
    values = torch.tensor(drawn, dtype=torch.float32).reshape(-1, 4) / 100
    return torch.cat([values[:, :2], values[:, :2] + values[:, 2:]], 1)


def numbered(boxes: Tensor, anchors: Tensor, ignored: tuple[int, ...] = ()) -> Targets:
    """Targets in which every object has a class of its own."""
    hidden = torch.tensor([row in ignored for row in range(len(boxes))], dtype=torch.bool)
    return matched(boxes, torch.arange(len(boxes)), hidden, anchors)


def some_targets(seed: int, images: int = 3) -> Targets:
    """Of images with one to four objects, of which one in five is ignored."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, 5, images)
    total = int(counts.sum())
    low = generator.uniform(0, 0.6, (total, 2))
    corners = np.concatenate([low, low + generator.uniform(0.05, 0.4, (total, 2))], 1)
    return targets_of(
        Objects(
            boxes=corners.astype(np.float32),
            labels=generator.integers(0, 3, total).astype(np.int32),
            ignored=generator.uniform(size=total) < 0.2,
            starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        ),
        ANCHORS,
    )


def some_outputs(seed: int, images: int = 3) -> tuple[Tensor, Tensor]:
    """Logits of three classes and codes."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, len(ANCHORS), 4, generator=generator)
    return logits, torch.randn(images, len(ANCHORS), 4, generator=generator)


def test_anchors_take_what_they_overlap_and_objects_their_best_anchor() -> None:
    boxes = torch.tensor(
        [[0, 0, 0.5, 0.45], [0.9, 0.1, 1.0, 0.2], [0.55, 0.6, 0.9, 0.9]]  # IoU 0.9, 0.04, 0.42
    )
    found = numbered(boxes, SQUARES)
    assert found.labels.tolist() == [1, 2, 0, 3]
    assert found.codes[2].tolist() == [0, 0, 0, 0]
    torch.testing.assert_close(decoded(found.codes, SQUARES)[[0, 1, 3]], boxes)


def test_an_anchor_that_is_best_for_two_goes_to_the_later_one() -> None:
    boxes = torch.tensor([[0, 0, 0.5, 0.5], [0.1, 0.1, 0.2, 0.2]])
    assert numbered(boxes, SQUARES).labels.tolist() == [2, 0, 0, 0]
    assert numbered(boxes.flip(0), SQUARES).labels.tolist() == [2, 0, 0, 0]


def test_anchors_on_an_ignored_object_alone_are_left_out() -> None:
    boxes = torch.tensor([[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0.9, 0.9, 1, 1]])
    found = numbered(boxes, SQUARES, ignored=(1, 2, 3))
    assert found.labels.tolist() == [1, 0, 0, 0]
    assert found.left_out.tolist() == [False, True, False, False]


def test_objects_without_extent_and_images_without_objects_have_no_positives() -> None:
    flat = torch.tensor([[0.2, 0.2, 0.2, 0.7]])
    for boxes in (flat, torch.zeros(0, 4)):
        found = numbered(boxes, SQUARES)
        assert found.labels.sum() == 0
        assert found.codes.isfinite().all()
        assert not found.left_out.any()


@given(boxes_drawn)
def test_every_object_has_an_anchor_unless_a_later_one_took_it(
    drawn: list[tuple[int, int, int, int]],
) -> None:
    boxes = boxes_of(drawn)
    found = numbered(boxes, ANCHORS)
    for row in range(len(boxes)):
        if not (found.labels == row + 1).any():
            best = numbered(boxes[row : row + 1], ANCHORS).labels > 0
            assert (found.labels[best] > row + 1).any()


@given(boxes_drawn)
def test_codes_are_those_of_the_objects(drawn: list[tuple[int, int, int, int]]) -> None:
    boxes = boxes_of(drawn)
    found = numbered(boxes, ANCHORS)
    positive = found.labels > 0
    told = decoded(found.codes, ANCHORS)[positive]
    torch.testing.assert_close(told, boxes[found.labels[positive] - 1], atol=1e-5, rtol=1e-4)


def test_loss_by_hand() -> None:
    targets = Targets(
        labels=torch.tensor([[1, 0, 0, 0, 0, 0]]),
        codes=torch.zeros(1, 6, 4),
        left_out=torch.tensor([[False, False, False, False, False, True]]),
    )
    # The background's lead; the last would surprise most, but is left out.
    lead = torch.tensor([[0.0, 3.0, -1.0, 1.0, -2.0, -9.0]])
    logits = torch.stack([lead, torch.zeros_like(lead)], -1)
    codes = torch.tensor([[[2.0, 0.5, 0, 0]] + [[7.0] * 4] * 5])
    classification, localisation = multibox_loss(logits, codes, targets)
    expected = torch.tensor(2.0).log() + F.softplus(torch.tensor([1.0, -1.0, 2.0])).sum()
    torch.testing.assert_close(classification, expected)
    assert localisation == 1.5 + 0.125


def test_images_without_objects_teach_and_many_weigh_no_more_than_one() -> None:
    anchors = len(ANCHORS)
    nothing = Targets(
        labels=torch.zeros(1, anchors, dtype=torch.int64),
        codes=torch.zeros(1, anchors, 4),
        left_out=torch.zeros(1, anchors, dtype=torch.bool),
    )
    logits, codes = some_outputs(0, images=1)
    surprise = F.cross_entropy(logits[0], nothing.labels[0], reduction="none")
    classification, localisation = multibox_loss(logits, codes, nothing)
    torch.testing.assert_close(classification, surprise.topk(LONE_NEGATIVES).values.sum())
    assert localisation == 0
    eight = Targets(
        labels=nothing.labels.repeat(8, 1),
        codes=nothing.codes.repeat(8, 1, 1),
        left_out=nothing.left_out.repeat(8, 1),
    )
    again, _ = multibox_loss(logits.repeat(8, 1, 1), codes.repeat(8, 1, 1), eight)
    torch.testing.assert_close(again, classification)


def test_positives_are_never_negatives_where_these_run_out() -> None:
    targets = Targets(
        labels=torch.tensor([[1, 1, 0]]),
        codes=torch.zeros(1, 3, 4),
        left_out=torch.zeros(1, 3, dtype=torch.bool),
    )
    assert hard_negatives(torch.tensor([[5.0, 4.0, 1.0]]), targets).tolist() == [
        [False, False, True]
    ]


@given(seeds, st.permutations(range(3)))
def test_order_of_the_images_does_not_matter(seed: int, order: list[int]) -> None:
    targets, (logits, codes) = some_targets(seed), some_outputs(seed)
    other = Targets(
        labels=targets.labels[order], codes=targets.codes[order], left_out=targets.left_out[order]
    )
    torch.testing.assert_close(
        multibox_loss(logits[order], codes[order], other), multibox_loss(logits, codes, targets)
    )


@given(seeds)
def test_only_positives_and_the_hardest_negatives_get_a_gradient(seed: int) -> None:
    targets, (logits, codes) = some_targets(seed), some_outputs(seed)
    losses = multibox_loss(logits.requires_grad_(), codes.requires_grad_(), targets)
    torch.autograd.backward(losses)
    assert logits.grad is not None
    assert codes.grad is not None
    moved, positive = logits.grad.abs().sum(-1) > 0, targets.labels > 0
    assert ((codes.grad.abs().sum(-1) > 0) <= positive).all()
    surprise = -logits.detach().log_softmax(-1).gather(-1, targets.labels[..., None])[..., 0]
    for image, able in enumerate(~positive & ~targets.left_out):
        wanted = 3 * int(positive[image].sum()) or LONE_NEGATIVES
        hardest = sorted(surprise[image][able].tolist(), reverse=True)[:wanted]
        negative = moved[image] & ~positive[image]
        assert (negative <= able).all()
        assert sorted(surprise[image][negative].tolist(), reverse=True) == hardest


def test_shapes_that_do_not_match_are_refused() -> None:
    targets, (logits, codes) = some_targets(0), some_outputs(0)
    with pytest.raises(ConfigError, match="logits is 2x126x4; expected 3x126xany"):
        multibox_loss(logits[:2], codes, targets)
    with pytest.raises(ConfigError, match="codes is 3x125x4; expected 3x126x4"):
        multibox_loss(logits, codes[:, 1:], targets)
