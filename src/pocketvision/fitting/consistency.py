"""Whether the figures of a record can all be true at once: an edited one contradicts others."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from pocketvision.budget import Budget
from pocketvision.fitting.artefact import Artefact
from pocketvision.fitting.config import RunState
from pocketvision.fitting.ranking import fits
from pocketvision.measure.accuracy import accuracy
from pocketvision.measure.count import count
from pocketvision.measure.segmentation import class_ious, mean_iou
from pocketvision.record.run import Record
from pocketvision.record.scores import Score
from pocketvision.record.timing import Latency


def contradictions(artefact: Artefact, state: RunState) -> list[str]:
    """What the record says against itself, against network.json and against run.json."""
    record = artefact.record
    return [
        *_on_accuracy(record),
        *_on_confusion(record),
        *_on_drops(record),
        *_on_shipped_file(record),
        *_on_budget(record),
        *_on_network(artefact),
        *_on_run(record, state),
    ]


def _on_accuracy(record: Record) -> Iterator[str]:
    shipped = [c.accuracy for c in record.verification if c.subject == "shipped"]
    if shipped != [record.headline]:
        yield "the headline is not the accuracy of the shipped file"
    for found in {record.headline, *(c.reference_accuracy for c in record.verification)}:
        if not _follows(found):
            yield (
                f"{found.correct} of {found.n} right do not make {found.value:.2%} "
                f"({found.low:.2%} to {found.high:.2%})"
            )


def _follows(found: Score) -> bool:
    """True if share and interval are those of the counts; without counts, if they can be any."""
    if found.correct is None:
        return all(0 <= share <= 1 for share in (found.value, found.low, found.high))
    if not 0 <= found.correct <= found.n or found.n == 0:
        return False
    expected = accuracy(found.correct, found.n)
    pairs = ((expected.value, found.value), (expected.low, found.low), (expected.high, found.high))
    return all(math.isclose(a, b, rel_tol=0, abs_tol=1e-9) for a, b in pairs)


def _on_confusion(record: Record) -> Iterator[str]:
    match record.task:
        case "classify":
            yield from _on_images(record)
        case "segment":
            yield from _on_pixels(record)


def _on_pixels(record: Record) -> Iterator[str]:
    counts, figures = np.array(record.confusion), record.segmentation
    if figures is None or counts.shape != (len(record.data.classes),) * 2:
        yield "the confusion matrix of the pixels is not there"
        return
    expected, found = float(mean_iou(counts)), record.headline.value
    if not math.isclose(expected, found, rel_tol=0, abs_tol=1e-9):
        yield f"the pixels counted make a mIoU of {expected:.2%}, the headline says {found:.2%}"
    told = [np.nan if iou is None else iou for iou in figures.class_ious]
    if not np.allclose(class_ious(counts), told, rtol=0, atol=1e-9, equal_nan=True):
        yield "the pixels counted make other IoUs of the classes than those recorded"


def _on_images(record: Record) -> Iterator[str]:
    matrix, headline = record.confusion, record.headline
    right = sum(row[k] for k, row in enumerate(matrix) if k < len(row))
    total = sum(map(sum, matrix))
    if (right, total) != (headline.correct, headline.n):
        yield (
            f"the confusion matrix counts {right} of {total} images right, the headline "
            f"{headline.correct} of {headline.n}"
        )
    counts = [s.counts for s in record.data.splits if s.name == record.data.headline_split]
    if counts != [tuple(map(sum, matrix))]:
        yield f"the confusion matrix has other images than the {record.data.headline_split} split"


def _on_drops(record: Record) -> Iterator[str]:
    compared = [v.comparison for v in record.variants if v.comparison is not None]
    for comparison in (*record.verification, *compared):
        drop = comparison.reference_accuracy.value - comparison.accuracy.value
        if not math.isclose(drop, comparison.drop, rel_tol=0, abs_tol=1e-9):
            yield (
                f"{comparison.subject} drops {comparison.drop:.2%} on {comparison.split}, where "
                f"its accuracies differ by {drop:.2%}"
            )


def _on_shipped_file(record: Record) -> Iterator[str]:
    shipped, marked = record.shipped, [v for v in record.variants if v.shipped]
    if len(marked) != 1:
        yield f"{len(marked)} of the files that were compared are marked as shipped"
        return
    variant = marked[0]
    pairs = {
        "runtime": (variant.runtime, shipped.runtime),
        "precision": (variant.precision, shipped.precision),
        "size": (variant.size_bytes, shipped.size_bytes),
        "latency": (variant.latency, record.latency),
        "memory": (variant.peak_bytes, record.peak_bytes),
        "threads": (record.latency.threads, shipped.threads),
        "latency on the target": (variant.target, record.target and record.target.latency),
    }
    for name, (compared, headline) in pairs.items():
        if compared != headline:
            yield f"{name} of the shipped file: given twice, differently"
    if not (_in_order(record.latency) and _in_order(record.budgeted)):
        yield "the latency lies outside its own interval"


def _in_order(latency: Latency) -> bool:
    return 0 <= latency.low_ms <= latency.median_ms <= latency.high_ms


def _on_budget(record: Record) -> Iterator[str]:
    asked = record.budget
    budget = Budget(
        latency_ms=asked.latency_ms, size_bytes=asked.size_bytes, memory_bytes=asked.memory_bytes
    )
    size = record.shipped.size_bytes
    within = fits(record.budgeted, size, budget, peak_bytes=record.peak_bytes)
    if record.verdict.met and not within:
        yield f"the verdict says that {budget} is met, and the figures are beyond it"
    if record.verdict.met is None and not budget.is_open:
        yield f"the verdict knows no budget, and {budget} was asked for"


def _on_network(artefact: Artefact) -> Iterator[str]:
    recorded, spec = artefact.record.network, artefact.network.spec
    counted = count(spec)
    pairs = {
        "label": (recorded.label, spec.label),
        "MACs": (recorded.macs, counted.macs),
        "parameters": (recorded.parameters, counted.parameters),
        "classes": (artefact.record.data.classes, artefact.classes),
    }
    for name, (there, here) in pairs.items():
        if there != here:
            yield f"the {name} of the network are not those of network.json"


def _on_run(record: Record, state: RunState) -> Iterator[str]:
    pairs = {
        "images": (record.data.fingerprint, state.fingerprint),
        "seed": (record.seed, state.config.seed),
        "command": (record.command, state.command),
        "test images": (record.headline.n, len(state.headline_hashes)),
    }
    for name, (there, here) in pairs.items():
        if there != here:
            yield f"the {name} of the record are not those of run.json"
