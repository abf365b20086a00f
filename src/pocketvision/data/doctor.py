"""What may be wrong with a folder of images, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketvision.budget import count_of
from pocketvision.data.clean import Rule, rules
from pocketvision.data.copies import find_copies
from pocketvision.data.copy_findings import copy_findings
from pocketvision.data.findings import FileFinding, finding, listed, paths_of, shown
from pocketvision.data.folders import SPLITS, Skipped
from pocketvision.data.images import LEAST_FOR_TEST, SHARE_SET_ASIDE
from pocketvision.data.index import MODES, Index
from pocketvision.data.pixels import FORMATS
from pocketvision.data.threads import Progress
from pocketvision.record.words import SEVERITIES

TINY_CLASS = 20  # images
IMBALANCE = 10  # the largest class of train over its smallest
SMALL_SIDE = 32  # pixels, the least that networks take
MOSTLY, HARDLY = 0.5, 0.1  # share of a class, and of the others, that give the class away
LEAST_SHORTCUT = 5  # images

FORMAT_OF = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "bmp": "BMP"}

Counts = npt.NDArray[np.int64]  # (splits, classes)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PhotoFindings:
    """What was found; the gravest findings come first.

    counts: readable images by split that the folder has, and class in the order of `classes`, or
    what `counted` says. totals: images of each split. left_out: what a clean list leaves out of the
    readable files.
    """

    folder: str
    images: int
    classes: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    findings: tuple[FileFinding, ...]
    left_out: tuple[Rule, ...]
    totals: dict[str, int]
    counted: str = "images"

    @property
    def exit_code(self) -> int:
        """1 where a finding is an error or a warning; else 0."""
        return int(any(found.finding.severity != "note" for found in self.findings))


def examine_index(index: Index, progress: Progress | None = None) -> PhotoFindings:
    """Everything that can be known of images before training.

    Works on the columns of the index, and looks again at images whose hashes are similar.
    progress: called with (done, all) meanwhile.
    """
    counts = _counts(index)
    missing = _missing_splits(counts)
    copies = find_copies(index, progress)
    found = [
        *copy_findings(index, copies, set_aside=bool(missing)),
        *_unusable(index.skipped),
        *_layout(index, counts),
        *_classes(index, counts, missing),
        *_shortcuts(index),
        *file_findings(index),
        *_set_aside(index, counts, missing),
    ]
    return PhotoFindings(
        folder=shown(str(index.root)),
        images=len(index),
        classes=index.classes,
        counts={name: tuple(row.tolist()) for name, row in _present(counts)},
        findings=tuple(sorted(found, key=lambda one: SEVERITIES.index(one.finding.severity))),
        left_out=rules(index, copies, set_aside=bool(missing)),
        totals={name: int(row.sum()) for name, row in _present(counts)},
    )


def _counts(index: Index) -> Counts:
    counts = np.zeros((len(SPLITS), len(index.classes)), dtype=np.int64)
    np.add.at(counts, (index.splits, index.labels), 1)
    return counts


def _present(counts: Counts) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """Name and class counts of every split that holds images."""
    for name, row in zip(SPLITS, counts, strict=True):
        if row.any():
            yield name, row


def _missing_splits(counts: Counts) -> tuple[str, ...]:
    """What `fit` sets aside from train, as `images.scan` does."""
    train, val, test = counts
    if not train.any():
        return ()
    enough = not test.any() and train.min() >= LEAST_FOR_TEST
    return (*(() if val.any() else ("val",)), *(("test",) if enough else ()))


def _unusable(skipped: tuple[Skipped, ...]) -> Iterator[FileFinding]:
    """Files that `fit` stops at."""
    left = list(skipped)
    for code, what, is_so in _FAULTS:
        files = [file for file in left if is_so(file.reason.lower())]
        left = [file for file in left if not is_so(file.reason.lower())]
        if files:
            names = [str(file).rstrip(".") for file in files]
            sentence = (
                f"{count_of(len(files), what)}: {listed(names, '; ')}. Repair or remove them, or "
                "leave them out with --skip-bad or a clean list."
            )
            yield finding("error", code, sentence, [file.path for file in files])


_FAULTS: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("empty", "empty file", lambda reason: reason == "empty file"),
    (
        "decompression-bomb",
        "oversized image",
        lambda reason: "bomb" in reason or "too large" in reason,
    ),
    ("truncated", "truncated file", lambda reason: "truncated" in reason),
    ("unreadable", "unreadable file", lambda _: True),
)


def _layout(index: Index, counts: Counts) -> Iterator[FileFinding]:
    """What `fit` refuses."""
    if not len(index):
        sentence = (
            "No readable image lies in a class folder; put the images of each class in a folder "
            "that has its name."
        )
        yield finding("error", "no-images", sentence)
        return
    if len(index.classes) < 2:
        sentence = f"Only one class, {index.classes[0]!r}; put images of others in folders beside."
        yield finding("error", "one-class", sentence)
    unprintable = [name for name in index.classes if not name.isprintable()]
    if unprintable:
        sentence = (
            f"Class names that cannot be printed: {listed(unprintable)}; rename their folders."
        )
        yield finding("error", "class-names", sentence)
    incomplete = [
        f"{split} has no readable image of {listed(absent)}"
        for split, row in _present(counts)
        if (absent := [index.classes[label] for label in np.flatnonzero(row == 0)])
    ]
    if incomplete:
        sentence = (
            f"{'; '.join(incomplete)}. Every class needs one in every split there is: add images, "
            "or remove the class."
        )
        yield finding("error", "class-missing", sentence)


def _classes(index: Index, counts: Counts, missing: tuple[str, ...]) -> Iterator[FileFinding]:
    """Classes too small to be learned or to be told of. missing: splits that `fit` sets aside."""
    total, train = counts.sum(axis=0), counts[SPLITS.index("train")]
    single = [name for name, count in zip(index.classes, total, strict=True) if count == 1]
    if single:
        sentence = f"{listed(single)}: one image, to train on or to validate with, not both."
        if "val" in missing:  # which has one of every class
            yield finding("error", "one-image", f"{sentence} Add images, or remove the class.")
        else:
            yield finding("warning", "one-image", sentence)
    tiny = [
        f"{shown(name)} ({count})"
        for name, count in zip(index.classes, total.tolist(), strict=True)
        if 1 < count < TINY_CLASS
    ]
    if tiny:
        sentence = (
            f"{listed(tiny)}: fewer than {TINY_CLASS} images; what is learned of such a class, and "
            "its accuracy, is a matter of chance. Add images, or leave it out."
        )
        yield finding("warning", "tiny-classes", sentence)
    present = np.flatnonzero(train)
    if len(present) and train.max() >= IMBALANCE * train[present].min():
        most, least = int(train.argmax()), int(present[train[present].argmin()])
        sentence = (
            f"train has {train[most]:,} images of {shown(index.classes[most])}, but "
            f"{train[least]:,} of {shown(index.classes[least])}; --class-weights makes rare "
            "classes count more. Read the accuracy of each class, not the whole one alone."
        )
        yield finding("warning", "imbalance", sentence)


def _shortcuts(index: Index) -> Iterator[FileFinding]:
    """A class that its files give away: a network learns that, and not what the images show."""
    for code, what, names, column in (
        ("mode-shortcut", "colour mode", MODES, index.modes),
        ("format-shortcut", "file format", FORMATS, index.formats),
    ):
        table = np.zeros((len(index.classes), len(names)), dtype=np.int64)
        np.add.at(table, (index.labels, column), 1)
        classes = table.sum(axis=1, keepdims=True)
        share = table / np.maximum(classes, 1)
        others = (table.sum(axis=0) - table) / np.maximum(len(index) - classes, 1)
        apart = (share >= MOSTLY) & (others <= HARDLY) & (table >= LEAST_SHORTCUT)
        apart &= classes < len(index)
        given_away = [
            f"{shown(index.classes[label])} ({names[kind]}: {share[label, kind]:.0%}, others "
            f"{others[label, kind]:.0%})"
            for label, kind in np.argwhere(apart).tolist()
        ]
        if given_away:
            sentence = (
                f"The {what} gives classes away: {listed(given_away)}. A network may learn that "
                "instead of what the images show; save all classes in the same way."
            )
            rows = np.flatnonzero(apart[index.labels, column])
            yield finding("warning", code, sentence, paths_of(index, rows))


def file_findings(index: Index) -> Iterator[FileFinding]:
    """Peculiar files that are used all the same."""
    kinds = np.bincount(index.modes, minlength=len(MODES))
    if (kinds > 0).sum() > 1:
        parts = [f"{count:,} {name}" for name, count in zip(MODES, kinds, strict=True) if count]
        sentence = (
            f"Mixed colour modes: {', '.join(parts)}. All become RGB: grey is repeated, "
            "transparency laid on white."
        )
        rows = np.flatnonzero(index.modes != kinds.argmax())
        yield finding("note", "mixed-modes", sentence, paths_of(index, rows))
    if wrong := [row for row in range(len(index)) if _is_mislabelled(index, row)]:
        names = [f"{index.paths[row]} is {FORMATS[index.formats[row]]}" for row in wrong]
        sentence = (
            f"{count_of(len(wrong), 'file')} with an extension that does not fit: {listed(names)}. "
            "They are read by their content; other programs may refuse them."
        )
        yield finding("note", "extension", sentence, paths_of(index, wrong))
    small = np.flatnonzero(index.sizes.min(axis=1) < SMALL_SIDE)
    if len(small):
        sentence = (
            f"{count_of(len(small), 'image')} with a side below {SMALL_SIDE} pixels: "
            f"{listed([_with_size(index, row) for row in small.tolist()])}. They are enlarged."
        )
        yield finding("note", "small-images", sentence, paths_of(index, small))


def _is_mislabelled(index: Index, row: int) -> bool:
    suffix = index.paths[row].rpartition(".")[2].lower()
    return FORMAT_OF.get(suffix, "") not in ("", FORMATS[index.formats[row]])


def _with_size(index: Index, row: int) -> str:
    width, height = index.sizes[row].tolist()
    return f"{shown(index.paths[row])} ({width}x{height})"


def _set_aside(index: Index, counts: Counts, missing: tuple[str, ...]) -> Iterator[FileFinding]:
    """What `fit` does about splits that are not there."""
    if missing:
        sentence = f"No {' and no '.join(missing)}: `fit` sets {SHARE_SET_ASIDE:.0%} of each class "
        sentence += f"aside for {'it' if len(missing) == 1 else 'each'}, by content."
        yield finding("note", "set-aside", sentence)
    train, _, test = counts
    if not test.any() and "test" not in missing and train.any():
        least = int(train.argmin())
        sentence = (
            f"No test, and {shown(index.classes[least])} has {count_of(train[least], 'image')} "
            f"({LEAST_FOR_TEST} are needed to set one aside): accuracy will be told on val, which "
            "also selects."
        )
        yield finding("note", "no-test", sentence)
