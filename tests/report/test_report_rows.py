from dataclasses import replace

import pytest
from dense_records import segmenter_record
from records import BUDGET, FRUIT, NO_BUDGET, full_record
from scene_records import scene_record
from whole_records import missed_record, whole_record

from pocketvision.record.run import Step
from pocketvision.report import rows
from pocketvision.report.scene_rows import scene_class_rows
from pocketvision.report.segmentation_rows import segmentation_rows


def test_reading_order_is_chosen_fitting_others() -> None:
    found = rows.in_reading_order(full_record().tried)
    assert found[0].chosen
    fits = [row.fits for row in found]
    assert fits == sorted(fits, reverse=True)


def test_latency_is_over_when_its_upper_bound_is() -> None:
    just = replace(BUDGET, latency_ms=2.12)  # median 2.10, upper bound 2.16
    bars = {bar.label: bar for bar in rows.budget_bars(full_record(budget=just))}
    assert bars["Latency"].over
    assert not bars["Size"].over


def test_bars_stay_inside_their_box() -> None:
    for record in (full_record(), missed_record(), full_record(budget=NO_BUDGET)):
        for bar in rows.budget_bars(record):
            marks = [bar.fill, bar.limit_at, bar.low, bar.high]
            assert all(mark is None or 0 <= mark <= 100 for mark in marks)


def test_class_rows_count_each_class() -> None:
    record = full_record()
    found = rows.class_rows(record)
    assert sum(row.count for row in found) == record.headline.n
    assert sum(row.right for row in found) == record.headline.correct
    assert found[0].recall == min(row.recall for row in found)
    assert {row.name: row.taken_for for row in found}["lemon"] == "orange"
    assert {row.name: row.taken_for for row in found}["apple"] == ""


def test_of_classes_named_equally_often_the_first_is_told_of_every_task() -> None:
    """Whatever their names are: the last in the alphabet comes first here."""
    names, confusion = ("zebra", "yak", "ant"), ((0, 2, 2), (3, 0, 3), (1, 1, 5))
    images = replace(full_record(classes=names), confusion=confusion)
    pixels = replace(segmenter_record(classes=names), confusion=confusion)
    spectra = scene_record()
    names_of_scene = (*names, *spectra.scene.classes[3:])
    spectra = replace(
        spectra,
        scene=replace(spectra.scene, classes=names_of_scene),
        confusion=tuple(
            tuple(confusion[i][j] if max(i, j) < 3 else 0 for j in range(len(names_of_scene)))
            for i in range(len(names_of_scene))
        ),
    )
    expected = {"zebra": "yak", "yak": "zebra", "ant": "zebra"}
    assert {row.name: row.taken_for for row in rows.class_rows(images)} == expected
    found = {row.name: row.taken_for.split(" (")[0] for row in segmentation_rows(pixels)}
    assert found == expected
    scene = scene_class_rows(spectra)
    assert {row.name: row.taken_for for row in scene[:3]} == expected
    assert scene[3].taken_for == ""


def test_a_class_without_images_has_no_recall() -> None:
    record = replace(full_record(classes=FRUIT[:2]), confusion=((0, 0), (1, 3)))
    assert [row.name for row in rows.class_rows(record)] == ["banana"]


def test_steps_change_against_the_last_that_had_the_figure() -> None:
    steps = (
        Step(name="train", seconds=1, score=0.9, size_bytes=4),
        Step(name="export", seconds=1),
        Step(name="quantize", seconds=1, score=0.893, size_bytes=1),
    )
    found = rows.step_rows(steps)
    assert [row.score_change for row in found] == ["", "", "−0.7 points"]
    assert [row.size_change for row in found] == ["", "", "×0.25"]
    assert [row.share for row in found] == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_recall_has_its_interval_and_precision_its_column() -> None:
    record = replace(full_record(classes=FRUIT[:2]), confusion=((8, 2), (4, 6)))
    banana, apple = rows.class_rows(record)
    assert (banana.name, banana.recall, banana.precision) == ("banana", 0.6, 0.75)
    assert (apple.name, apple.recall) == ("apple", 0.8)
    assert apple.precision == pytest.approx(2 / 3)
    assert (apple.low, apple.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_a_class_that_is_never_named_has_no_precision() -> None:
    record = replace(full_record(classes=FRUIT[:2]), confusion=((0, 5), (0, 5)))
    assert rows.class_rows(record)[0].precision is None


def test_operators_are_summed_by_kind_and_the_slowest_stand_alone() -> None:
    layers = whole_record().layers
    kinds = rows.kind_rows(layers)
    assert sum(row.layers for row in kinds) == len(layers)
    assert sum(row.share for row in kinds) == pytest.approx(1)
    assert [row.share for row in kinds] == sorted((row.share for row in kinds), reverse=True)
    shown, rest = rows.slowest_layers(layers)
    assert len(shown) == rows.LAYERS_SHOWN
    assert rest is not None
    assert rest.layers == len(layers) - rows.LAYERS_SHOWN
    assert sum(one.share for one in shown) + rest.share == pytest.approx(1)
    assert min(one.median_ms for one in shown) >= max(
        one.median_ms for one in layers if one not in shown
    )


def test_few_operators_leave_no_rest() -> None:
    layers = whole_record().layers[:4]
    shown, rest = rows.slowest_layers(layers)
    assert (len(shown), rest) == (4, None)
    assert rows.kind_rows(()) == []
