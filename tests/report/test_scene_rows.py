"""What a scene's tables say: means over seeds, shares in words, rows in order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scene_records import scene_record

from pocketvision.errors import ConfigError
from pocketvision.report import scene_rows
from pocketvision.report.scene_figures import scene_figures
from pocketvision.scene_record import Leakage, Spread


@pytest.mark.parametrize(
    ("fraction", "written"),
    [
        (0, "0 %"),
        (1e-6, "under 0.1 %"),
        (0.0005, "0.1 %"),
        (0.412, "41.2 %"),
        (0.9994, "99.9 %"),
        (0.99999, "over 99.9 %"),
        (1, "100 %"),
    ],
)
def test_a_share_is_none_or_all_only_where_it_is(fraction: float, written: str) -> None:
    assert scene_rows.share(fraction) == written


def test_leakage_is_said_in_words() -> None:
    assert scene_rows.leak_words(Leakage(centre=0, window=0.25)) == (
        "0 % of test windows hold a training centre; 25.0 % share pixels with a training window"
    )
    assert scene_rows.leak_sentence(Leakage(centre=0.0001, window=1)) == (
        "Of the test windows under 0.1 % hold a training centre and 100 % share pixels with a "
        "training window."
    )
    assert scene_rows.leak_range([0, 0]) == "0 %"
    assert scene_rows.leak_range([0.974, 0.961]) == "96.1 % to 97.4 %"


def test_steps_say_where_the_time_cut_them_short() -> None:
    run = scene_record().runs[0]
    runs = [replace(run, steps=steps, steps_asked=3000) for steps in (1180, 1204)]
    assert scene_rows.steps_words(runs) == "1,180 to 1,204 of 3,000"
    assert scene_rows.steps_words([replace(run, steps=3000, steps_asked=3000)]) == "3,000"
    assert scene_rows.steps_words([replace(run, steps=None, steps_asked=None)]) == "–"


def test_spreads_are_written_with_their_deviation() -> None:
    several, one = Spread(mean=0.7312, std=0.0123, n=3), Spread(mean=0.7312, std=None, n=1)
    assert scene_rows.spread_percent(several) == "73.1 ± 1.2 %"
    assert scene_rows.spread_percent(one) == "73.1 %"
    assert scene_rows.spread_number(several) == "0.731 ± 0.012"
    assert scene_rows.spread_number(one) == "0.731"
    assert scene_rows.spread_seconds(Spread(mean=1284.6, std=25.2, n=3)) == "1,285 ± 25 s"
    assert scene_rows.spread_seconds(Spread(mean=0.614, std=None, n=1)) == "0.61 s"


def test_methods_are_gathered_over_their_seeds() -> None:
    record = scene_record()
    rows = scene_rows.method_rows(record)
    assert [(row.label, row.training, row.overall.n) for row in rows] == [
        ("HybridSN", "dense", 3),
        ("HybridSN", "patch by patch", 3),
        ("compact network", "dense", 3),
        ("SVM", "–", 3),
    ]
    assert [row.shipped for row in rows] == [True, False, False, False]
    first = [run.scores for run in record.runs if (run.method, run.training) == ("svm", "svm")]
    assert rows[-1].overall.mean == pytest.approx(sum(one.overall for one in first) / 3)
    assert rows[0].dense_macs == 24_100_000
    assert rows[2].dense_macs is None


def test_each_run_has_the_leakage_of_its_own_split() -> None:
    record = scene_record()
    leaks = [Leakage(centre=0.1 * k, window=0.5) for k in range(3)]
    splits = [
        replace(split, leakage=leak) for split, leak in zip(record.splits, leaks, strict=True)
    ]
    row = scene_rows.method_rows(replace(record, splits=tuple(splits)))[0]
    assert row.centre_leak == "0 % to 20.0 %"
    assert row.window_leak == "50.0 %"


def test_a_run_without_its_split_is_refused() -> None:
    record = scene_record(seeds=2)
    with pytest.raises(ConfigError, match=r"hybridsn has seed=1, but the splits have \[0\]"):
        scene_rows.method_rows(replace(record, splits=record.splits[:1]))


def test_classes_keep_their_order_and_their_pixels() -> None:
    record = scene_record()
    rows = scene_rows.scene_class_rows(record)
    assert [row.name for row in rows] == list(record.scene.classes)
    assert [row.labelled for row in rows][:3] == [46, 1428, 830]
    assert all(row.train + row.test + row.dropped == row.labelled for row in rows)
    assert all((row.recall is None) == (row.test == 0) for row in rows)
    assert rows[0].colour == "#e63c3c"
    assert rows[1].taken_for == "Corn"
    assert rows[0].taken_for == ""


def test_files_are_compared_by_the_time_of_a_pixel() -> None:
    rows = scene_rows.file_rows(scene_record().files)
    assert [(row.file.form, row.file.precision) for row in rows] == [
        ("dense", "f32"),
        ("dense", "int8"),
        ("patch", "int8"),
        ("patch", "f32"),
    ]
    assert rows[0].median_us == pytest.approx(1000 * 410 / 1600)
    assert rows[0].low_us < rows[0].median_us < rows[0].high_us


def test_figures_hold_the_means_and_the_curves() -> None:
    record = scene_record()
    figures = scene_figures(record)
    assert list(figures) == ["methods", "curves-loss", "curves-accuracy", "confusion"]
    overall = figures["methods"].plot["data"][0]
    rows = scene_rows.method_rows(record)
    assert overall["x"] == [100 * row.overall.mean for row in rows]
    assert overall["error_x"]["array"] == [100 * (row.overall.std or 0) for row in rows]
    assert figures["curves-loss"].plot["data"][0]["y"] == [one.loss for one in record.curves]
    assert "pixels lie on the diagonal" in figures["confusion"].alt
    assert all(figure.how_to_read.endswith(".") for figure in figures.values())
    assert all(figure.alt.endswith(".") for figure in figures.values())


def test_what_is_missing_gives_no_figure() -> None:
    record = replace(scene_record(), runs=(), curves=(), confusion=())
    assert scene_figures(record) == {}
