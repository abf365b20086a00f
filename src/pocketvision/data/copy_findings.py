"""What copies among the images do to training and to its figures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pocketvision.budget import count_of
from pocketvision.data.copies import MOST_PAIRS, Copies, Rows
from pocketvision.data.findings import FileFinding, finding, listed, paths_of, shown
from pocketvision.data.folders import SPLITS
from pocketvision.data.index import Index
from pocketvision.record.words import Severity

EQUAL, LIKE = " = ", " ~ "  # between the names of equal files, and of images that look alike


def copy_findings(index: Index, copies: Copies, *, set_aside: bool) -> list[FileFinding]:
    """Copies with different labels, in different splits and within one, the gravest first.

    set_aside: `fit` will take a split out of train, which may part near duplicates there.
    """
    found = [
        *_contradictions(index, copies),
        *_leaks(index, copies),
        *_near(index, copies, set_aside),
        *_surplus(index, copies),
    ]
    if not copies.complete:
        sentence = (
            f"Over {MOST_PAIRS:,} pairs of images have similar hashes (frames of a video, or one "
            "scene again and again?); only so many were compared, and there may be more near "
            "duplicates."
        )
        found.append(finding("note", "near-unfinished", sentence))
    return found


def _contradictions(index: Index, copies: Copies) -> Iterator[FileFinding]:
    """No network can learn both labels of one image."""
    groups = [rows for rows in copies.groups() if _differ(index.labels[rows])]
    if groups:
        sentence = (
            f"{count_of(len(groups), 'image')} with different labels, the files being equal: "
            f"{_pairs(index, [_first_two(rows, index.labels) for rows in groups], EQUAL)}. Keep "
            "each in the one class that it shows."
        )
        files = paths_of(index, np.concatenate(groups))
        yield finding("error", "contradictory-labels", sentence, files)


def _leaks(index: Index, copies: Copies) -> Iterator[FileFinding]:
    """A network is not tested on images that it was trained on."""
    groups = [rows for rows in copies.groups() if _differ(index.splits[rows])]
    if groups:
        rows = np.concatenate(groups)
        held = [
            f"{shared:,} of {(index.splits == code).sum():,} {name} images"
            for code, name in enumerate(SPLITS)
            if name != "train" and (shared := int((index.splits[rows] == code).sum()))
        ]
        sentence = (
            f"{' and '.join(held)} are in another split too, the files being equal: "
            f"{_pairs(index, [_first_two(rows, index.splits) for rows in groups], EQUAL)}. "
            "Accuracy on such images is no accuracy; remove them from train."
        )
        yield finding("error", "copies-across-splits", sentence, paths_of(index, rows))


def _near(index: Index, copies: Copies, set_aside: bool) -> Iterator[FileFinding]:
    """Near duplicates: re-encoded, resized, brightened or slightly cropped copies."""
    labels: list[tuple[int, int]] = []
    splits: list[tuple[int, int]] = []
    within: list[tuple[int, int]] = []
    for one, other in copies.near_rows():
        pair = (int(one[0]), int(other[0]))
        both = np.append(one, other)
        if _differ(index.labels[both]):
            labels.append(_first_two(both, index.labels))
        if _differ(index.splits[both]):
            splits.append(_first_two(both, index.splits))
        elif not _differ(index.labels[both]):
            within.append(pair)
    if labels:
        yield _near_finding(
            *(index, "warning", "near-contradictory-labels", labels, "have different labels"),
            "Look at them, and keep each in the one class that it shows.",
        )
    if splits:
        yield _near_finding(
            *(index, "warning", "near-across-splits", splits, "lie in different splits"),
            "Accuracy on such images says too much; remove them from train.",
        )
    if within and set_aside:
        yield _near_finding(
            *(index, "warning", "near-within-split", within, "lie in train"),
            "The split that `fit` sets aside may part them; keep one of each.",
        )
    elif within:
        yield _near_finding(
            *(index, "note", "near-within-split", within, "lie in one split"),
            "They teach less than so many images seem to.",
        )


def _surplus(index: Index, copies: Copies) -> Iterator[FileFinding]:
    """Equal files of one class and split count more than once."""
    surplus: list[int] = []
    pairs: list[tuple[int, int]] = []
    for rows in copies.groups():
        places = index.splits[rows].astype(np.int64) * len(index.classes) + index.labels[rows]
        _, first, back = np.unique(places, return_index=True, return_inverse=True)
        again = [at for at in range(len(rows)) if first[back[at]] != at]
        surplus += rows[again].tolist()
        pairs += [(int(rows[first[back[at]]]), int(rows[at])) for at in again]
    if surplus:
        sentence = (
            f"{count_of(len(surplus), 'image')} more than once in one class and split: "
            f"{_pairs(index, pairs, EQUAL)}. They weigh more than others; keep one of each."
        )
        yield finding("warning", "copies-within-split", sentence, paths_of(index, surplus))


def _near_finding(
    index: Index,
    severity: Severity,
    code: str,
    pairs: list[tuple[int, int]],
    fault: str,
    advice: str,
) -> FileFinding:
    sentence = (
        f"{count_of(len(pairs), 'pair')} of images that look like copies (re-encoded, resized or "
        f"slightly cropped) {fault}: {_pairs(index, pairs, LIKE)}. {advice}"
    )
    files = paths_of(index, dict.fromkeys(row for pair in pairs for row in pair))
    return finding(severity, code, sentence, files)


def _differ(values: npt.NDArray[np.integer]) -> bool:
    return bool((values != values[0]).any())


def _first_two(rows: Rows, column: npt.NDArray[np.integer]) -> tuple[int, int]:
    """The first row, and the first that differs from it in a column."""
    return int(rows[0]), int(rows[np.argmax(column[rows] != column[rows[0]])])


def _pairs(index: Index, pairs: list[tuple[int, int]], between: str) -> str:
    names = [between.join(shown(index.paths[row]) for row in pair) for pair in pairs]
    return listed(names, "; ")
