"""What may be wrong with images that have masks or boxes, before anything is trained on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pocketvision.boxes import iou
from pocketvision.budget import count_of
from pocketvision.data.clean import Rule, rules
from pocketvision.data.copies import find_copies
from pocketvision.data.copy_findings import copy_findings
from pocketvision.data.doctor import PhotoFindings, file_findings
from pocketvision.data.findings import FileFinding, finding, listed, paths_of, shown
from pocketvision.data.folders import SPLITS, printable
from pocketvision.data.images import SHARE_SET_ASIDE
from pocketvision.data.masks.samples import MaskedSamples
from pocketvision.data.objects.samples import BoxedSamples
from pocketvision.data.threads import Progress
from pocketvision.record.words import SEVERITIES

FEW = 20  # images or objects of a class in train
IMBALANCE = 100  # the commonest class of train over the rarest, in pixels or objects
DOUBLED = 0.9  # IoU of two boxes of a class that mark one object

AnnotatedSamples = MaskedSamples | BoxedSamples


def examine_annotated(samples: AnnotatedSamples, progress: Progress | None = None) -> PhotoFindings:
    """Everything that can be known before training; the gravest findings come first.

    samples: scanned with skip_bad, so that what cannot be used is among the findings. progress:
    called with (done, all) while images are compared.
    """
    index, given = samples.index, "set aside" not in samples.split_origins.values()
    copies = find_copies(index, progress)
    found = [
        *copy_findings(index, copies, set_aside=not given),
        *_unusable(samples),
        *_classes(samples),
        *(_of_boxes(samples) if isinstance(samples, BoxedSamples) else ()),
        *file_findings(index),
        *_set_aside(samples),
    ]
    splits = [name for name in SPLITS if name in samples.split_origins]
    return PhotoFindings(
        folder=shown(str(index.root)),
        images=len(index),
        classes=samples.classes,
        counts={name: samples.counts(name) for name in splits},
        findings=tuple(sorted(found, key=lambda one: SEVERITIES.index(one.finding.severity))),
        left_out=_left_out(samples, rules(index, copies, set_aside=not given)),
        totals={name: len(samples.indices(name)) for name in splits},
        counted="objects" if isinstance(samples, BoxedSamples) else "images with it",
    )


def _unusable(samples: AnnotatedSamples) -> Iterator[FileFinding]:
    """What `fit` stops at."""
    skipped = samples.index.skipped
    if skipped:
        names = [str(entry).rstrip(".") for entry in skipped]
        sentence = (
            f"{count_of(len(skipped), 'fault')}: {listed(names, '; ')}. Repair them, or go on "
            "without with --skip-bad."
        )
        yield finding("error", "unusable", sentence, [entry.path for entry in skipped])


def _left_out(samples: AnnotatedSamples, of_copies: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """What a clean list leaves out: first, images whose boxes are not used as they are stated.

    `fit` refuses such boxes, as it would any that were mended without a word.
    """
    faulty = {entry.path for entry in samples.index.skipped}
    rows = [row for row, path in enumerate(samples.paths) if printable(path) in faulty]
    if not rows:
        return of_copies
    rest = [replace(rule, rows=np.setdiff1d(rule.rows, rows)) for rule in of_copies]
    mended = Rule(why="with a box that is clipped or left out", rows=np.array(rows, np.int64))
    return (mended, *(rule for rule in rest if len(rule.rows)))


def _classes(samples: AnnotatedSamples) -> Iterator[FileFinding]:
    """Classes that cannot be learned, or hardly."""
    unit = "object" if isinstance(samples, BoxedSamples) else "image"
    train = np.array(samples.counts("train"))
    absent = [samples.classes[k] for k in np.flatnonzero(train == 0)]
    if absent:
        sentence = (
            f"train has no {unit} of {listed(absent)}: what is named but not shown cannot be "
            "learned; add some, or leave the name out."
        )
        yield finding("warning", "class-absent", sentence)
    few = [f"{shown(samples.classes[k])} ({train[k]})" for k in np.flatnonzero(_few(train))]
    if few:
        sentence = (
            f"{listed(few)}: fewer than {FEW} {unit}s in train; what is learned of such a class, "
            "and its score, is a matter of chance."
        )
        yield finding("warning", "tiny-classes", sentence)
    work, what = train, f"{unit}s"
    if isinstance(samples, MaskedSamples):
        work, what = samples.masks.pixels[samples.indices("train")].sum(axis=0), "pixels"
    there = np.flatnonzero(work)
    if len(there) and work.max() >= IMBALANCE * work[there].min():
        most, least = int(work.argmax()), int(there[work[there].argmin()])
        remedy = "; --class-weights makes rare classes count more" if what == "pixels" else ""
        sentence = (
            f"train has {work[most]:,} {what} of {shown(samples.classes[most])}, but "
            f"{work[least]:,} of {shown(samples.classes[least])}{remedy}. Read the figures of each "
            "class, not the mean alone."
        )
        yield finding("warning", "imbalance", sentence)


def _few(train: np.ndarray) -> np.ndarray:
    few: np.ndarray = (train > 0) & (train < FEW)
    return few


def _of_boxes(samples: BoxedSamples) -> Iterator[FileFinding]:
    """Images without objects, and objects that are marked twice."""
    objects = samples.objects
    bare = np.flatnonzero(np.diff(objects.starts) == 0)
    if len(bare):
        sentence = (
            f"{count_of(len(bare), 'image')} without an object, from which a network learns what "
            "is none; if objects were forgotten there, it learns not to find them."
        )
        yield finding("note", "no-objects", sentence, paths_of(samples.index, bare))
    doubled = [row for row in range(len(objects)) if _has_doubled(samples, row)]
    if doubled:
        sentence = (
            f"{count_of(len(doubled), 'image')} with two boxes of a class on one object (IoU above "
            f"{DOUBLED}): {listed(paths_of(samples.index, doubled))}. Keep one of each."
        )
        yield finding("warning", "doubled-boxes", sentence, paths_of(samples.index, doubled))


def _has_doubled(samples: BoxedSamples, row: int) -> bool:
    one = samples.objects.of(row)
    overlaps = np.triu(iou(one.boxes, one.boxes), k=1) > DOUBLED
    same = one.labels[:, None] == one.labels[None]
    return bool((overlaps & same).any())


def _set_aside(samples: AnnotatedSamples) -> Iterator[FileFinding]:
    """What `fit` does about splits that are not there."""
    missing = [name for name, origin in samples.split_origins.items() if origin == "set aside"]
    if missing:
        sentence = f"No {' and no '.join(missing)}: `fit` sets {SHARE_SET_ASIDE:.0%} aside for "
        sentence += f"{'it' if len(missing) == 1 else 'each'}, by content."
        yield finding("note", "set-aside", sentence)


def as_trained(samples: AnnotatedSamples) -> AnnotatedSamples:
    """The same with the splits of the index as trained on."""
    index = replace(samples.index, splits=samples.split_codes)
    return replace(samples, index=index)
