"""The images that carry the recorded figures, found again by their content."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from pocketvision.data.folders import SPLITS
from pocketvision.data.index import Index, read_clean_list, read_index
from pocketvision.data.layout import folders_in
from pocketvision.data.shards import shards_in
from pocketvision.errors import DataError
from pocketvision.fitting.artefact import Artefact
from pocketvision.fitting.from_files import Images
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.measure.accuracy import LabelJudge
from pocketvision.measure.judge import Judge


def recorded_images(
    artefact: Artefact, data: Path, only: str | Path | None = None
) -> tuple[Images, np.ndarray, Judge]:
    """The recorded headline split in `data`: the files there, its rows, and who knows their truth.

    data: the folder of the fit, wherever it lies now, or as much of it as holds that split. only:
    its clean list, if it had one; None: where it lay, if it still lies there.

    Raises: DataError: some of its images are not in `data`, or bear classes of another name; or the
    clean list is missing, and they lie there under several classes.
    """
    if artefact.record.task != "classify":
        return _with_annotations(artefact, data, only)
    split = artefact.record.data.headline_split
    index = read_index(_folder_of(split, data))
    wanted = Counter(artefact.state.headline_hashes)
    listed = _listed(artefact, index, only)
    if listed is None and artefact.state.config.only is not None:
        _refuse_ambiguous(artefact, index, wanted)
    # Copies may lie in other splits, under other classes: those of the clean list come first, and
    # those of the recorded split.
    elsewhere = index.splits != SPLITS.index(split)
    order = np.lexsort([elsewhere] if listed is None else [elsewhere, ~listed])
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
    return index, np.array(rows, dtype=np.int64), LabelJudge(labels=labels)


def _with_annotations(
    artefact: Artefact, data: Path, only: str | Path | None
) -> tuple[Images, np.ndarray, Judge]:
    """As `recorded_images`, where more than a folder's name belongs to an image."""
    task, config = TASKS[artefact.record.task], artefact.state.config
    asked = replace(config, data=str(data), only=config.only if only is None else str(only))
    samples = task.scan(asked, lambda done, total: None)
    wanted = Counter(artefact.state.headline_hashes)
    rows = []
    for row in samples.indices(artefact.record.data.headline_split).tolist():
        if wanted[samples.hashes[row]] > 0:
            wanted[samples.hashes[row]] -= 1
            rows.append(row)
    if samples.classes != artefact.classes or wanted.total():
        raise DataError(
            f"{data} does not hold the {len(artefact.state.headline_hashes)} images that carry the "
            "recorded figures, with the same classes; give the folder the network was fitted to."
        )
    return samples, np.array(rows), task.judge(samples, np.array(rows))


def _listed(artefact: Artefact, index: Index, only: str | Path | None) -> np.ndarray | None:
    """(N,) which rows stand in the clean list; None where there is none, or it is not there."""
    asked = artefact.state.config.only if only is None else only
    if asked is None or (only is None and not Path(asked).is_file()):
        return None
    names, above = read_clean_list(Path(asked)), index.root.name
    # The folder may be a split of the one that the list is of.
    return np.array([p in names or f"{above}/{p}" in names for p in index.paths], dtype=bool)


def _refuse_ambiguous(artefact: Artefact, index: Index, wanted: Counter[str]) -> None:
    """Raises: DataError: only the clean list could tell under which class some images count."""
    labels: dict[str, set[int]] = {}
    for row in range(len(index)):
        content = index.hashes[row].tobytes().hex()
        if content in wanted:
            labels.setdefault(content, set()).add(int(index.labels[row]))
    if several := sum(len(found) > 1 for found in labels.values()):
        raise DataError(
            f"{several} of the recorded images lie under several classes, and the clean list that "
            f"told which, {artefact.state.config.only}, is not there; say where with --only."
        )


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
