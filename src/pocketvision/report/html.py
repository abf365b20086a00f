"""report.html: one file that works offline, the verdict first.

Charts are SVG, so nothing on the page needs JavaScript; page.js adds tips, and tables that can be
sorted and searched. The page's policy lets that one script run, by its hash, and no other.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from markupsafe import Markup

from pocketvision.record.run import Record
from pocketvision.record.words import TaskName
from pocketvision.report import rows, text
from pocketvision.report.arms_chart import arms_chart
from pocketvision.report.chart import Chart
from pocketvision.report.confusion_chart import NAMED_CLASSES, confusion_chart
from pocketvision.report.detection_rows import detection_rows
from pocketvision.report.narrowing_chart import narrowing_chart
from pocketvision.report.precision_chart import precision_recall_chart
from pocketvision.report.quantization_chart import quantization_chart
from pocketvision.report.quantization_rows import integer_rows
from pocketvision.report.search_chart import search_chart
from pocketvision.report.search_rows import narrowing_rows, search_rows
from pocketvision.report.segmentation_rows import segmentation_rows
from pocketvision.report.templates import FOLDER, template
from pocketvision.report.training_charts import loss_chart, reliability_chart, score_chart
from pocketvision.report.tried_chart import tried_chart

SKIPPED_SHOWN = 200  # record.json holds the rest
FINDINGS_SHOWN = 50
OPEN_ROWS = 12  # a table of more rows than these is folded under its chart
STYLES = ("style.css", "charts.css")
# What the confusion matrix of a task counts.
COUNTED: dict[TaskName, str] = {"classify": "image", "segment": "pixel", "detect": "object"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One part of the page: where it is, and what the navigation calls it."""

    id: str
    name: str


def render_report(record: Record) -> str:
    """The whole report as one HTML document; the same record gives the same text."""
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    layers, other_layers = rows.slowest_layers(record.layers)
    return template("report.html").render(
        record=record,
        split=text.accuracy_split(record),
        verdict_word=text.verdict_word(record.verdict.met),
        is_shipped=bool(record.shipped.files),
        sections=sections(record),
        bars=rows.budget_bars(record),
        tried=rows.in_reading_order(record.tried),
        searched=search_rows(record.search),
        narrowed=narrowing_rows(record.narrowing),
        judged_on="images",
        integers=integer_rows(record.quantization),
        classes=rows.class_rows(record) if record.task == "classify" else [],
        pixels=segmentation_rows(record),
        object_rows=detection_rows(record),
        confusions=rows.most_frequent_confusions(record.confusion, record.data.classes),
        kinds=rows.kind_rows(record.layers),
        layers=layers,
        other_layers=other_layers,
        step_rows=rows.step_rows(record.steps),
        splits=[(split, rows.spread(split)) for split in record.data.splits],
        class_counts=text.class_counts(record.data),
        skipped=record.data.skipped[:SKIPPED_SHOWN],
        findings=record.findings[:FINDINGS_SHOWN],
        open_rows=OPEN_ROWS,
        named_classes=NAMED_CLASSES,
        charts=all_charts(record),
        script=Markup(script),
        script_hash=script_hash(script),
        style=Markup("\n".join((FOLDER / name).read_text(encoding="utf-8") for name in STYLES)),
    )


def all_charts(record: Record) -> dict[str, Chart]:
    """Every chart the record has data for, by id."""
    charts = [
        tried_chart(record.tried, record.budget),
        arms_chart(record.search, record.budget),
        search_chart(record.search),
        narrowing_chart(record.narrowing),
        quantization_chart(record.quantization),
        confusion_chart(record.confusion, record.data.classes, COUNTED[record.task]),
        reliability_chart(record.calibration),
        precision_recall_chart(record.detection, record.data.classes),
        loss_chart(record.epochs),
        score_chart(record.epochs, record.headline.metric),
    ]
    return {chart.id: chart for chart in charts if chart is not None}


def sections(record: Record) -> list[Section]:
    """The parts that the record has figures for, in the order of the page."""
    there: tuple[tuple[str, str, object], ...] = (
        ("tried", "Tried", record.tried),
        ("search", "Search", record.search),
        ("narrowing", "Narrowing", record.narrowing),
        ("variants", "Variants", record.variants),
        ("integers", "Integers", record.quantization),
        ("classes", "Classes", record.confusion or record.detection),
        ("places", "Places", record.segmentation or record.detection),
        ("mistakes", "Mistakes", record.mistakes),
        ("calibration", "Calibration", record.calibration),
        ("learning", "Learning", record.epochs or record.alarms or record.train_score),
        ("speed", "Speed", record.layers or record.throughput or record.conditions),
        ("steps", "Steps", record.steps),
        ("verification", "Verification", record.verification),
        ("data", "Data", True),
        ("provenance", "Provenance", True),
        ("definitions", "Definitions", True),
    )
    return [Section(id=id, name=name) for id, name, found in there if found]


def script_hash(script: str) -> str:
    """What a content security policy calls a script that stands between its tags as it is."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
