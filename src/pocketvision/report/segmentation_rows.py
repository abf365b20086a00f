"""Classes of pixels as rows of a table."""

from __future__ import annotations

from dataclasses import dataclass

from pocketvision.record.run import Record
from pocketvision.report.rows import most_taken_for


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelRow:
    """One class on the headline split. share: of the pixels that have a class. recall, precision:
    None where nothing is of the class, or named so. taken_for: the class it is most often named as.
    """

    name: str
    iou: float | None
    share: float
    recall: float | None
    precision: float | None
    taken_for: str


def segmentation_rows(record: Record) -> list[PixelRow]:
    """All classes, the hardest first, those that do not occur last; none of another task."""
    if record.segmentation is None:
        return []
    confusion, names = record.confusion, record.data.classes
    total = sum(map(sum, confusion)) or 1
    named = [sum(column) for column in zip(*confusion, strict=True)]
    rows = []
    for k, (row, iou) in enumerate(zip(confusion, record.segmentation.class_ious, strict=True)):
        most = most_taken_for(row, k)
        rows.append(
            PixelRow(
                name=names[k],
                iou=iou,
                share=sum(row) / total,
                recall=row[k] / sum(row) if sum(row) else None,
                precision=row[k] / named[k] if named[k] else None,
                taken_for="" if most is None else f"{names[most]} ({row[most] / sum(row):.0%})",
            )
        )
    return sorted(rows, key=lambda row: 2.0 if row.iou is None else row.iou)
