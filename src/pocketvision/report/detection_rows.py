"""Classes of objects as rows of a table."""

from __future__ import annotations

from dataclasses import dataclass

from pocketvision.record.run import Record


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectRow:
    """One class on the headline split. ap, ap50: None where there is no such object."""

    name: str
    objects: int
    ap: float | None
    ap50: float | None


def detection_rows(record: Record) -> list[ObjectRow]:
    """All classes, the hardest first, those without objects last; none of another task."""
    figures = record.detection
    if figures is None:
        return []
    headline = record.data.headline_split
    counts = next(s.counts for s in record.data.splits if s.name == headline)
    rows = [
        ObjectRow(name=name, objects=count, ap=ap, ap50=ap50)
        for name, count, ap, ap50 in zip(
            record.data.classes, counts, figures.class_aps, figures.class_ap50s, strict=True
        )
    ]
    return sorted(rows, key=lambda row: 2.0 if row.ap is None else row.ap)
