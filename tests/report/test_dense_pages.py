"""What the report shows of networks that name pixels or find objects."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from dense_records import PICTURES, detector_record, segmenter_record
from records import FRUIT, HOSTILE, full_record
from test_html import Page
from whole_records import whole_record

from pocketvision.record.run import Record
from pocketvision.report import precision_chart
from pocketvision.report.detection_rows import detection_rows
from pocketvision.report.html import render_report
from pocketvision.report.precision_chart import precision_recall_chart
from pocketvision.report.segmentation_rows import segmentation_rows

DENSE = pytest.mark.parametrize("make", [segmenter_record, detector_record])


def test_figures_of_pixels_stand_on_the_page() -> None:
    text = Page(render_report(segmenter_record())).text
    first = text[: text.index("Everything that was tried")]
    assert "It reaches mIoU 76.1% on 40 test images." in first
    assert "Mean intersection over union (mIoU, test) 76.1 %" in first
    assert "95 % interval 73.1 to 80.1 %; n = 40 images" in first
    for words in (
        "Counted in pixels on test, n = 40 images, with the shipped file",
        "91.7 % of the pixels are named rightly.",
        "banana 60.9 % 16.7 % 70.0 % 82.4 % apple (25%)",
        "apple 91.4 % 83.3 % 96.0 % 95.0 % banana (3%)",
        "cherry – 0.0 % – 0.0 % –",
        "of each class, the pixels that are of it and named so",
    ):
        assert words in text
    assert text.index("banana 60.9 %") < text.index("apple 91.4 %") < text.index("cherry –")


def test_figures_of_objects_stand_on_the_page() -> None:
    text = Page(render_report(detector_record())).text
    first = text[: text.index("Everything that was tried")]
    assert "Mean average precision (mAP, test) 24.9 %" in first
    for words in (
        "AP at IoU 0.50 46.8 %",
        "AP at IoU 0.75 22.6 %",
        "AP of small, medium, large objects 5.3 % , 31.7 % , –",
        "Recall of at most 100 boxes 39.4 %",
        "banana 8.7 % 20.4 % 17",
        "apple 41.2 % 73.1 % 61",
        "cherry – – 0",
        "COCO’s average precision, the mean over classes",
    ):
        assert words in text
    assert text.index("banana 8.7 %") < text.index("apple 41.2 %") < text.index("cherry – – 0")


@DENSE
def test_worst_images_are_embedded_in_their_order(make: Callable[[], Record]) -> None:
    page = Page(render_report(make()))
    assert page.values("src") == [f"data:image/jpeg;base64,{one}" for one in PICTURES]
    assert "places" in page.values("id")
    of_first = "21.3 %" if make is segmenter_record else "2 found of 9"
    of_second = "34.7 %" if make is segmenter_record else "13 found of 9"
    assert f"{of_first} val/apple.jpg {of_second} val/banana.jpg" in page.text


@DENSE
def test_harmful_names_of_classes_stay_words(make: Callable[..., Record]) -> None:
    tags = {tag for tag, _ in Page(render_report(make())).tags}
    for names in (HOSTILE[:3], HOSTILE[3:6], HOSTILE[5:]):
        page = Page(render_report(make(classes=names)))
        assert {tag for tag, _ in page.tags} == tags
        assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
        for name in names:
            assert " ".join(name.split()) in page.text


def test_precision_by_recall_is_drawn_with_a_curve_for_each_class_and_their_mean() -> None:
    source = render_report(detector_record())
    drawing = source[source.index('id="chart-precision-recall"') :]
    drawing = drawing[: drawing.index("</figure>")]  # the key's lines come before the pictures
    wide, narrow = drawing[drawing.index('class="wide"') :].split('<div class="narrow">')
    for picture in (wide, narrow):
        paths = re.findall(r'<path class="line (first|second)"', picture)
        assert sorted(paths) == ["first", "second", "second"]
    # Where a tenth of the apples is found, and the mean there of the two classes with objects.
    assert "apple\nrecall 10 %\n96.5 %" in wide
    assert "mean\nrecall 10 %\n75.3 %" in wide
    assert "of 2 classes; the mean precision is" in drawing


def test_curves_of_many_classes_give_way_to_their_mean() -> None:
    figures = detector_record().detection
    assert figures is not None
    many = precision_chart.MOST_CLASSES + 1
    crowded = replace(figures, precisions=figures.precisions[:1] * many)
    chart = precision_recall_chart(crowded, [f"class {k}" for k in range(many)])
    assert chart is not None
    assert 'class="line first"' in chart.wide
    assert 'class="line second"' not in chart.wide


def test_nothing_to_be_found_has_no_curve_and_no_figure() -> None:
    record = detector_record()
    assert record.detection is not None
    empty = replace(
        record.detection,
        ap50=None,
        ap75=None,
        class_aps=(None,) * 3,
        class_ap50s=(None,) * 3,
        precisions=((), (), ()),
    )
    assert precision_recall_chart(empty, FRUIT[:3]) is None
    page = Page(render_report(replace(record, detection=empty)))
    assert "chart-precision-recall" not in page.values("id")
    assert "AP at IoU 0.50 –" in page.text


def test_rows_of_another_task_are_none() -> None:
    assert segmentation_rows(detector_record()) == []
    assert detection_rows(segmenter_record()) == []
    assert not segmentation_rows(full_record())
    assert not detection_rows(full_record())


@DENSE
def test_every_score_is_called_by_its_name(make: Callable[[], Record]) -> None:
    """What is no top-1 is nowhere called accuracy, apart from the published figures of ImageNet."""
    record = make()
    metric = record.headline.metric
    text = Page(render_report(record)).text
    for words in (
        f"Gate Budget {metric} on val Lost, points",  # variants
        f"Lost is the float network’s {metric} minus the variant’s",
        f"labels: {metric} may be at most 1.0 percentage points below",
        f"Lost is the float network’s {metric} minus the file’s",
        f"Step Time {metric} Latency",
        f"File Reference Split {metric} Reference’s",
        f"95 % intervals: the bootstrap’s for an {metric}, of the paired difference",
        f"agreement is the share of {'pixels' if metric == 'mIoU' else 'boxes'} that both",
    ):
        assert words in text
    assert not re.search("accuracy on|top-1 may|s accuracy minus|Wilson", text, re.IGNORECASE)


def test_top_1_is_called_accuracy() -> None:
    text = Page(render_report(whole_record())).text
    for words in (
        "Gate Budget Accuracy on val Lost, points",
        "Step Time Accuracy Latency",
        "File Reference Split Accuracy Reference’s",
        "95 % intervals: Wilson’s for an accuracy, of the paired difference",
        "agreement is the share of images on which both name the same class.",
    ):
        assert words in text
