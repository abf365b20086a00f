"""An edited record contradicts itself, whichever figure was edited."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest

from pocketvision.fitting.artefact import Artefact
from pocketvision.fitting.consistency import contradictions
from pocketvision.record.run import Record


def said(fitted: Artefact, record: Record) -> list[str]:
    edited = copy.copy(fitted)
    edited.record = record
    return contradictions(edited, fitted.state)


def better_headline(record: Record) -> Record:
    headline = replace(record.headline, value=1.25, low=1.2, high=1.3)
    shipped = next(c for c in record.verification if c.subject == "shipped")
    drop = shipped.reference_accuracy.value - 1.25
    others = tuple(c for c in record.verification if c is not shipped)
    verification = (*others, replace(shipped, accuracy=headline, drop=drop))
    return replace(record, headline=headline, verification=verification)


def other_images(record: Record) -> Record:
    first, *rest = record.confusion
    return replace(record, confusion=((first[0], first[1] + 1), *rest))


def smaller_drop(record: Record) -> Record:
    *others, last = record.verification
    return replace(record, verification=(*others, replace(last, drop=last.drop - 0.01)))


def smaller_file(record: Record) -> Record:
    return replace(record, shipped=replace(record.shipped, size_bytes=1))


def other_threads(record: Record) -> Record:
    return replace(record, shipped=replace(record.shipped, threads=0))


def nothing_shipped(record: Record) -> Record:
    variants = tuple(replace(v, shipped=False) for v in record.variants)
    return replace(record, variants=variants)


def tighter_budget(record: Record) -> Record:
    return replace(record, budget=replace(record.budget, latency_ms=1e-6))


def no_verdict(record: Record) -> Record:
    return replace(record, verdict=replace(record.verdict, met=None))


def smaller_network(record: Record) -> Record:
    return replace(record, network=replace(record.network, macs=1))


def other_seed(record: Record) -> Record:
    return replace(record, seed=record.seed + 1)


def swapped_interval(record: Record) -> Record:
    latency = replace(record.latency, median_ms=0.5 * record.latency.low_ms)
    variants = tuple(replace(v, latency=latency) if v.shipped else v for v in record.variants)
    return replace(record, latency=latency, variants=variants)


def test_record_as_written_does_not(fitted: Artefact) -> None:
    assert contradictions(fitted, fitted.state) == []


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (better_headline, "right do not make 125.00%"),
        (other_images, "of 13 images right, the headline"),
        (other_images, "has other images than the test split"),
        (smaller_drop, "where its accuracies differ by"),
        (smaller_file, "size of the shipped file: given twice, differently"),
        (other_threads, "threads of the shipped file: given twice, differently"),
        (nothing_shipped, "0 of the files that were compared are marked as shipped"),
        (tighter_budget, "is met, and the figures are beyond it"),
        (no_verdict, "the verdict knows no budget, and 200 ms and 2 MB was asked for"),
        (smaller_network, "the MACs of the network are not those of network.json"),
        (other_seed, "the seed of the record are not those of run.json"),
        (swapped_interval, "the latency lies outside its own interval"),
    ],
)
def test_edited_figure_is_named(
    fitted: Artefact, edit: Callable[[Record], Record], sentence: str
) -> None:
    found = said(fitted, edit(fitted.record))
    assert any(sentence in contradiction for contradiction in found), found
