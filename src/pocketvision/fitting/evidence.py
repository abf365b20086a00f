"""What the record shows of a shipped classifier beyond its figures: calibration, mistakes."""

from __future__ import annotations

import numpy as np

from pocketvision.data.folders import printable
from pocketvision.data.images import Samples
from pocketvision.data.pixels import centre_crop
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import open_pixels
from pocketvision.fitting.pictures import as_jpeg, small_image
from pocketvision.fitting.tasks.task import Evidence, Open
from pocketvision.measure.accuracy import confusion
from pocketvision.measure.calibration import calibration, softmax
from pocketvision.record.scores import Mistake
from pocketvision.runtimes.runtime import Session

MISTAKES = 24
THUMBNAIL_SIDE = 96
TEMPERATURE_IMAGES = 2048  # of val: one number needs no more
BATCH = 64


def classifier_evidence(
    samples: Samples, rows: np.ndarray, logits: np.ndarray, pre: Preprocessing, open_session: Open
) -> Evidence:
    """Evidence on one file of a classifier. logits: (n, K) of it, from image files of `rows`.

    Raises: DataError: an image changed since it was scanned.
    """
    split, labels = samples.headline_split, samples.labels[rows]
    if split == "val":
        val_logits, val_rows = logits, rows
    else:
        val_rows = _spread_out(samples.indices("val"), TEMPERATURE_IMAGES)
        val_logits = _stored_logits(samples, val_rows, open_session(), pre)
    return Evidence(
        confusion=confusion(logits, labels, len(samples.classes)),
        calibration=calibration(
            logits,
            labels,
            split=split,
            val_logits=val_logits,
            val_labels=samples.labels[val_rows],
        ),
        mistakes=worst_mistakes(samples, rows, logits),
    )


def worst_mistakes(samples: Samples, rows: np.ndarray, logits: np.ndarray) -> tuple[Mistake, ...]:
    """Images named wrongly, at most `MISTAKES` of them, the surest first.

    rows: (n,) of `samples`. logits: (n, K).
    Raises: DataError: one of their files changed since it was scanned.
    """
    probabilities = softmax(logits)
    named, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(named != samples.labels[rows])
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES]
    return tuple(
        Mistake(
            path=printable(samples.paths[rows[k]]),
            true=samples.classes[samples.labels[rows[k]]],
            named=samples.classes[named[k]],
            probability=float(sure[k]),
            thumbnail=thumbnail(samples.read_unchanged(int(rows[k]))),
        )
        for k in worst
    )


def thumbnail(content: bytes) -> str:
    """The whole image of a file as a JPEG of at most `THUMBNAIL_SIDE` pixels a side, base64."""
    return as_jpeg(small_image(content, THUMBNAIL_SIDE))


def _stored_logits(
    samples: Samples, rows: np.ndarray, session: Session, pre: Preprocessing
) -> np.ndarray:
    """(n, K) of the images as they were decoded for training."""
    parts = np.array_split(rows, -(-len(rows) // BATCH))
    batches = open_pixels(samples, pre.side).batches(parts)
    return np.concatenate(
        [session.run(np.ascontiguousarray(centre_crop(batch, pre.resolution))) for batch in batches]
    )


def _spread_out(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the rows, at even distances."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]
