"""Connected regions of a label map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.scene.scene import Labels


def count_regions(labels: Labels, num_classes: int) -> tuple[int, ...]:
    """Connected regions of each class, in which pixels touch by their edges; labels: (H, W)."""
    starts = np.ones(labels.shape, np.bool_)
    starts[:, 1:] = labels[:, 1:] != labels[:, :-1]
    run = (np.cumsum(starts) - 1).reshape(labels.shape)  # of equal labels along a row
    touching = (labels[1:] == labels[:-1]) & (labels[1:] > 0)
    joins = np.unique(np.stack([run[:-1][touching], run[1:][touching]]), axis=1)
    roots = _roots(int(run[-1, -1]) + 1, joins[0], joins[1])
    is_root = roots == np.arange(len(roots))
    counts = np.bincount(labels[starts][is_root], minlength=num_classes + 1)
    return tuple(int(count) for count in counts[1:])


def _roots(nodes: int, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """(nodes,) the least node that each is connected with, by edges one[i] - other[i]."""
    root = np.arange(nodes)
    while True:
        a, b = root[one], root[other]
        apart = a != b
        if not apart.any():
            return root
        np.minimum.at(root, np.maximum(a, b)[apart], np.minimum(a, b)[apart])
        while (root[root] != root).any():
            root = root[root]
