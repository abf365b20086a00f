"""The images that carry the recorded figures, found again by their content."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from pocketvision.data.folders import SPLITS
from pocketvision.data.index import Index, read_index
from pocketvision.data.layout import folders_in
from pocketvision.data.shards import shards_in
from pocketvision.errors import DataError
from pocketvision.fitting.artefact import Artefact


def recorded_images(artefact: Artefact, data: Path) -> tuple[Index, np.ndarray, np.ndarray]:
    """The recorded headline split in `data`: the files there, its rows, and their labels (n,).

    data: the folder of the fit, wherever it lies now, or as much of it as holds that split.

    Raises: DataError: some of its images are not in `data`, or bear classes of another name.
    """
    split = artefact.record.data.headline_split
    index = read_index(_folder_of(split, data))
    wanted = Counter(artefact.state.headline_hashes)
    # Copies may lie in other splits, under other classes: those of the recorded split come first.
    order = np.argsort(index.splits != SPLITS.index(split), kind="stable")
    rows = []
    for row in order.tolist():
        content = index.hashes[row].tobytes().hex()
        if wanted[content] > 0:
            wanted[content] -= 1
            rows.append(row)
    if missing := wanted.total():
        raise DataError(
            f"{missing} of the {len(rows) + missing} images that carry the recorded accuracy are "
            f"not in {data} (compared by content); give the folder the network was fitted to."
        )
    labels = _labels(artefact, index, rows, data)
    return index, np.array(rows, dtype=np.int64), labels


def _folder_of(split: str, data: Path) -> Path:
    """`data`, or its part where it holds that split and no training images."""
    part = data / split
    alone = part.is_dir() and not (data / "train").exists()
    return part if alone and (folders_in(part) or shards_in(part)) else data


def _labels(artefact: Artefact, index: Index, rows: list[int], data: Path) -> np.ndarray:
    names = [index.classes[index.labels[row]] for row in rows]
    number = {name: k for k, name in enumerate(artefact.classes)}
    if unknown := sorted(set(names) - number.keys()):
        raise DataError(f"{data} has classes the network does not know: {unknown}.")
    return np.array([number[name] for name in names], dtype=np.int64)
