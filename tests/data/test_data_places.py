"""Masks and objects go where the pixels go."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketvision.boxes import Objects
from pocketvision.data.places import LEAST_SEEN, seen_masks, seen_objects
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import Augmentation, Views, augmented
from pocketvision.errors import ConfigError

SIDE = 32
seeds = st.integers(0, 10_000)


def objects_of(*boxes: tuple[float, float, float, float]) -> Objects:
    """One image with those boxes."""
    return Objects(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.arange(len(boxes), dtype=np.int32),
        ignored=np.zeros(len(boxes), bool),
        starts=np.array([0, len(boxes)], np.int64),
    )


def whole(mirrored: bool = False) -> Views:
    return Views(boxes=[[0, 0, SIDE, SIDE]], mirrored=[mirrored])


@given(seeds)
def test_mask_and_image_stay_together(seed: int) -> None:
    """A mask that is drawn into its image, in large flat patches, is still that after a view."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 2, (2, 2, 2)).astype(np.uint8)
    masks = torch.from_numpy(patches.repeat(SIDE // 2, 1).repeat(SIDE // 2, 2))
    pixels = (masks[..., None] * 255).expand(-1, -1, -1, 3).contiguous()
    pre = Preprocessing(resolution=24, side=SIDE, mean=(0, 0, 0), std=(255, 255, 255))
    still = Augmentation(brightness=0, contrast=0, saturation=0)
    images, views = augmented(pixels, pre, still, np.random.default_rng(seed))
    seen = seen_masks(masks, views, 24)
    # At the border of two patches the image has values between.
    flat = (images[:, 0] < 0.1) | (images[:, 0] > 0.9)
    assert flat.float().mean() > 0.7
    assert (seen[flat] == images[:, 0].round().to(torch.uint8)[flat]).all()


def test_seen_as_it_is_a_mask_does_not_change() -> None:
    masks = torch.randint(0, 255, (1, SIDE, SIDE), dtype=torch.uint8)
    assert (seen_masks(masks, whole(), SIDE) == masks).all()


def test_flipping_twice_is_nothing() -> None:
    masks = torch.randint(0, 255, (1, SIDE, SIDE), dtype=torch.uint8)
    once = seen_masks(masks, whole(mirrored=True), SIDE)
    assert (once == masks.flip(2)).all()
    assert (seen_masks(once, whole(mirrored=True), SIDE) == masks).all()
    objects = objects_of((0.1, 0.2, 0.5, 0.9), (0, 0, 1, 1))
    turned = seen_objects(objects, whole(mirrored=True), SIDE)
    np.testing.assert_allclose(turned.boxes[0], [0.5, 0.2, 0.9, 0.9], rtol=1e-6)
    back = seen_objects(turned, whole(mirrored=True), SIDE)
    np.testing.assert_allclose(back.boxes, objects.boxes, atol=1e-6)


@given(seeds)
def test_box_and_pixels_agree_after_a_view(seed: int) -> None:
    """A rectangle drawn in pixels is where its box says, to a pixel."""
    rng = np.random.default_rng(seed)
    x, y = np.sort(rng.choice(SIDE, 2, replace=False)), np.sort(rng.choice(SIDE, 2, replace=False))
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
    mask[0, y[0] : y[1], x[0] : x[1]] = 1
    objects = objects_of(tuple(np.array([x[0], y[0], x[1], y[1]]) / SIDE))
    still = Augmentation(brightness=0, contrast=0, saturation=0)
    pre = Preprocessing.of_whole(SIDE)
    _, views = augmented(mask[..., None].expand(-1, -1, -1, 3), pre, still, rng)
    seen, found = seen_masks(mask, views, 64)[0], seen_objects(objects, views, SIDE)
    if not len(found.boxes):
        assert not seen.any()
        return
    left, top, right, bottom = (found.boxes[0] * 64).tolist()
    rows, columns = seen.any(1).nonzero(), seen.any(0).nonzero()
    if not len(rows):  # narrower than a pixel of the view
        assert min(right - left, bottom - top) < 1
        return
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose([left, top, right, bottom], [int(e) for e in edges], atol=1.01)


def test_objects_outside_are_left_out_and_cut_ones_ignored() -> None:
    """The right half is seen: a box in the left half, one cut in two, one mostly to the left."""
    objects = objects_of((0, 0, 0.4, 1), (0.25, 0, 0.75, 1), (0.1, 0, 0.6, 1), (0.5, 0, 1, 0.5))
    found = seen_objects(
        objects, Views(boxes=[[0, SIDE // 2, SIDE, SIDE // 2]], mirrored=[False]), SIDE
    )
    assert found.labels.tolist() == [1, 2, 3]
    assert found.ignored.tolist() == [False, True, False]
    np.testing.assert_allclose(found.boxes[0], [0, 0, 0.5, 1])
    assert 0.5 > LEAST_SEEN > 0.2


def test_as_many_as_there_are_views() -> None:
    with pytest.raises(ConfigError, match=r"masks is 2x4x4; expected 1xanyxany"):
        seen_masks(torch.zeros(2, 4, 4, dtype=torch.uint8), whole(), 4)
    with pytest.raises(ConfigError, match=r"objects is 2; expected 1"):
        seen_objects(Objects.joined([objects_of(), objects_of()]), whole(), 4)
