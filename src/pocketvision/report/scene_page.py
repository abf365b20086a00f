"""report.html of a scene: one file that works offline, verdict, scores and leakage first.

As on the photos' page, everything essential is in tables, text and pictures without JavaScript.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from plotly.offline import get_plotlyjs

from pocketvision.errors import check_shape
from pocketvision.record.run import BudgetSummary
from pocketvision.report import scene_rows, text
from pocketvision.report.html import OPEN_ROWS
from pocketvision.report.narrowing_chart import narrowing_chart
from pocketvision.report.plots import embedded
from pocketvision.report.rows import Bar, measured_bars, most_frequent_confusions, step_rows
from pocketvision.report.scene_figures import scene_figures
from pocketvision.report.scene_pictures import (
    SPLIT_COLOURS,
    SPLIT_NAMES,
    Classes,
    Pixels,
    class_map,
    data_uri,
    no_label,
    ramp,
)
from pocketvision.report.search_rows import narrowing_rows
from pocketvision.report.templates import FOLDER, template
from pocketvision.scene_record import FileFigures, SceneRecord

LARGEST_SIDE = 1200  # of a map on the page; larger ones are thinned


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScenePictures:
    """What the maps of the page are painted from; all of one (H, W).

    truth, predicted: 0 no label, k the class k - 1. uncertainty: 0..1, NaN where nothing was
    measured. split: 0 unlabelled, 1 train, 2 test, 3 dropped. false_colour: (h, w, 3), 0..255.

    Raises: ConfigError: shapes that differ.
    """

    truth: Classes
    predicted: Classes
    uncertainty: NDArray[np.floating]
    split: Classes
    false_colour: Pixels | None = None

    def __post_init__(self) -> None:
        check_shape("truth", self.truth.shape, (None, None))
        for name in ("predicted", "uncertainty", "split"):
            check_shape(name, getattr(self, name).shape, self.truth.shape)
        if self.false_colour is not None:
            check_shape("false_colour", self.false_colour.shape, (None, None, 3))


@dataclass(frozen=True, kw_only=True, slots=True)
class MapPicture:
    """One map of the page, explained by a caption or by a legend."""

    title: str
    uri: str
    alt: str
    caption: str = ""
    legend: Literal["", "ramp", "split"] = ""


def render_scene_report(record: SceneRecord, pictures: ScenePictures) -> str:
    """The whole report as one HTML document; the same arguments give the same text.

    Raises: ConfigError: a run whose seed no split has. DataError: a map with classes that the
    record does not know.
    """
    figures, chart = scene_figures(record), narrowing_chart(record.narrowing)
    split = record.splits[0]
    classes = scene_rows.scene_class_rows(record)
    return template("scene.html").render(
        record=record,
        split=split,
        split_word=scene_rows.SPLITS[split.kind],
        leak=scene_rows.leak_words(split.leakage),
        verdict_word=text.verdict_word(record.verdict.met),
        bars=budget_bars(record),
        limited=is_limited(record.budget),
        shipped=shipped_file(record),
        rows=scene_rows,
        methods=scene_rows.method_rows(record),
        classes=classes,
        absent=[row.name for row in classes if not row.test],
        confusions=most_frequent_confusions(record.confusion, record.scene.classes),
        files=scene_rows.file_rows(record.files),
        step_rows=step_rows(record.steps),
        maps=map_pictures(record, pictures),
        legend=legend(record),
        split_legend=split_legend(pictures.split),
        ramp_uri=data_uri(ramp(np.linspace(0, 1, 256)[None])),
        thinned=thinning(pictures.truth.shape),
        narrowed=narrowing_rows(record.narrowing),
        judged_on="pixels",
        open_rows=OPEN_ROWS,
        charts={} if chart is None else {chart.id: chart},
        figures=figures,
        figures_json=embedded(figures),
        plotly=Markup(get_plotlyjs()),
        style=Markup(_style("style.css") + _style("charts.css") + _style("scene.css")),
    )


def budget_bars(record: SceneRecord) -> list[Bar]:
    """The shipped file against the budget; none without a budget or a shipped file."""
    shipped = shipped_file(record)
    if shipped is None or not is_limited(record.budget):
        return []
    latency, *others = measured_bars(
        record.budget,
        latency=shipped.budgeted,
        size_bytes=record.shipped.size_bytes,
        peak_bytes=None,
        spent_s=record.spent_s,
    )
    return [replace(latency, label="Latency of one pixel"), *others]


def shipped_file(record: SceneRecord) -> FileFigures | None:
    """The exported file that lies in model/; None where none was shipped."""
    return next((file for file in record.files if file.shipped), None)


def is_limited(budget: BudgetSummary) -> bool:
    """True when anything was limited."""
    limits = (budget.latency_ms, budget.size_bytes, budget.memory_bytes, budget.time_s)
    return any(limit is not None for limit in limits)


def map_pictures(record: SceneRecord, pictures: ScenePictures) -> list[MapPicture]:
    """Every map there is, in the order of the page."""
    colours, step = record.scene.colours, thinning(pictures.truth.shape)
    size = f"{record.scene.height:,} by {record.scene.width:,} pixels"
    maps = [
        MapPicture(
            title="Ground truth",
            uri=data_uri(class_map(pictures.truth[::step, ::step], colours)),
            alt=f"Map of the labelled pixels by class, {size}.",
            caption="The labelled pixels, all that can be learned and tested.",
        ),
        MapPicture(
            title="Prediction",
            uri=data_uri(class_map(pictures.predicted[::step, ::step], colours)),
            alt=f"Map of the class named for every pixel, {size}.",
            caption="The class named for every pixel.",
        ),
        MapPicture(
            title="Uncertainty",
            uri=data_uri(ramp(pictures.uncertainty[::step, ::step])),
            alt=f"Map of the uncertainty, {size}; its mean is {_mean(pictures.uncertainty)}.",
            legend="ramp",
        ),
        MapPicture(
            title="Split",
            uri=data_uri(class_map(pictures.split[::step, ::step], SPLIT_COLOURS)),
            alt=f"Map of training, test and dropped pixels, {size}.",
            legend="split",
        ),
    ]
    return maps if pictures.false_colour is None else [_scene(pictures.false_colour, size), *maps]


def thinning(shape: tuple[int, ...]) -> int:
    """Every how manieth pixel a map of (H, W) shows, so that it has at most `LARGEST_SIDE`."""
    return math.ceil(max(shape) / LARGEST_SIDE)


def legend(record: SceneRecord) -> list[tuple[str, str]]:
    """Names and CSS colours of the classes, pixels without a label last."""
    scene = record.scene
    named = zip(scene.classes, map(scene_rows.css_colour, scene.colours), strict=True)
    return [*named, ("no label", scene_rows.css_colour(no_label(scene.colours)))]


def split_legend(split: Classes) -> list[tuple[str, str, int]]:
    """Names, CSS colours and pixels of a split's parts that have any, unlabelled ones last."""
    colours = (*SPLIT_COLOURS, no_label(SPLIT_COLOURS))
    counts = [int((split == k).sum()) for k in (1, 2, 3, 0)]
    names = (*SPLIT_NAMES, "unlabelled")
    rows = zip(names, map(scene_rows.css_colour, colours), counts, strict=True)
    return [row for row in rows if row[2]]


def _scene(false_colour: Pixels, size: str) -> MapPicture:
    step = thinning(false_colour.shape[:2])
    return MapPicture(
        title="Scene",
        uri=data_uri(Image.fromarray(false_colour[::step, ::step])),
        alt=f"The scene in false colour, {size}.",
        caption="In false colour: three bands as red, green and blue.",
    )


def _mean(uncertainty: NDArray[np.floating]) -> str:
    known = uncertainty[np.isfinite(uncertainty)]
    return f"{known.mean():.2f}" if known.size else "unknown"


def _style(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
