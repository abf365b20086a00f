"""What test windows see of training, counted exactly."""

from __future__ import annotations

import numpy as np

from pocketvision.data.scene.blocks import dilate
from pocketvision.data.scene.scene import Labels, Mask
from pocketvision.data.scene.splits import SceneSplit, reach_of
from pocketvision.scene_record import Leakage, SplitFigures


def leakage(split: SceneSplit) -> Leakage:
    """Shares of the test windows that hold a training centre, and that share pixels with a
    training window. Both are 0 where nothing is tested.

    Two windows of odd side w share a pixel of the scene exactly where their centres are at most
    w - 1 apart in rows and in columns.
    """
    return Leakage(
        centre=_share_near(split, reach_of("centre", split.window)),
        window=_share_near(split, reach_of("full", split.window)),
    )


def split_figures(split: SceneSplit, labels: Labels, num_classes: int) -> SplitFigures:
    """The split as a record has it; labels: (H, W), 0 unlabelled, 1..num_classes."""
    dropped = (labels > 0) & ~split.train & ~split.test
    return SplitFigures(
        kind=split.kind,
        guard=split.guard,
        window=split.window,
        seed=split.seed,
        train=class_counts(labels, num_classes, split.train),
        test=class_counts(labels, num_classes, split.test),
        dropped=class_counts(labels, num_classes, dropped),
        leakage=leakage(split),
        notes=split.notes,
    )


def class_counts(labels: Labels, num_classes: int, where: Mask) -> tuple[int, ...]:
    """Pixels of each class within a mask (H, W)."""
    counts = np.bincount(labels[where], minlength=num_classes + 1)
    return tuple(int(count) for count in counts[1:])


def _share_near(split: SceneSplit, reach: int) -> float:
    tested = int(split.test.sum())
    near = split.test & dilate(split.train, reach)
    return int(near.sum()) / max(1, tested)
