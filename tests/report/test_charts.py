import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import BUDGET, FRUIT, HOSTILE, NO_BUDGET, full_record, many_classes
from whole_records import CALIBRATION, whole_record

from pocketvision.record.files import Prior
from pocketvision.record.run import Record
from pocketvision.report.chart import Chart, Plane, Scale, around, mark
from pocketvision.report.confusion_chart import MOST_CLASSES, confusion_chart
from pocketvision.report.html import all_charts
from pocketvision.report.templates import FOLDER
from pocketvision.report.training_charts import reliability_chart
from pocketvision.report.tried_chart import pareto, tried_chart


def tried(record: Record) -> Chart:
    chart = tried_chart(record.tried, record.budget)
    assert chart is not None
    return chart


def elements(drawing: str, style: str) -> list[dict[str, str]]:
    """Attributes of the elements of an SVG that have the class `style`; XML turns line ends in
    them into spaces, which HTML does not."""
    root = ElementTree.fromstring(drawing)
    return [e.attrib for e in root.iter() if style in e.attrib.get("class", "").split()]


def test_a_whole_record_gives_every_chart_and_an_old_one_those_it_has_figures_for() -> None:
    assert list(all_charts(whole_record())) == [
        "tried",
        "arms",
        "search",
        "narrowing",
        "quantization",
        "confusion",
        "reliability",
        "curves-loss",
        "curves-score",
    ]
    assert "reliability" not in all_charts(full_record())
    assert all_charts(replace(full_record(num_epochs=0), tried=(), confusion=())) == {}


@pytest.mark.parametrize("classes", [FRUIT, HOSTILE, many_classes(50), many_classes(200)])
def test_charts_are_whole_and_have_words(classes: tuple[str, ...]) -> None:
    for chart in all_charts(whole_record(full_record(classes=classes))).values():
        assert chart.how_to_read.endswith(".")
        assert chart.alt.endswith(".")
        for drawing in (chart.wide, chart.narrow):
            root = ElementTree.fromstring(drawing)
            assert root.attrib["viewBox"].split()[2:] == [
                root.attrib["width"],
                root.attrib["height"],
            ]


def test_every_class_of_a_chart_is_in_the_style_sheets() -> None:
    style = (FOLDER / "charts.css").read_text() + (FOLDER / "style.css").read_text()
    drawings = [chart.wide for chart in all_charts(whole_record()).values()]
    used = {
        name
        for found in re.findall(r'class="([^"]+)"', "".join(drawings))
        for name in found.split()
    }
    assert len(used) > 15
    assert {name for name in used if f".{name}" not in style} == set()


def test_every_tried_network_is_one_mark_and_the_chosen_one_is_ringed_and_named() -> None:
    record = full_record()
    chart = tried(record)
    marks = elements(chart.wide, "fits") + elements(chart.wide, "open")
    assert len(marks) == len(record.tried)
    assert len(elements(chart.wide, "fits")) == sum(one.fits for one in record.tried)
    assert len(elements(chart.wide, "ring")) == 1
    assert ">mobilenet_v3_small x0.75 @128</text>" in chart.wide
    assert [key.words for key in chart.keys] == [
        "f32",
        "bf16",
        "int8",
        "over the budget",
        "front",
        "chosen and trained",
    ]


def test_a_larger_file_is_a_larger_mark() -> None:
    record = full_record()
    small = replace(record.tried[0], size_bytes=1_000_000, chosen=False)
    tried_two = (small, replace(small, network="large", size_bytes=9_000_000))
    chart = tried(replace(record, tried=tried_two))
    radii = {m["data-tip"].split(" onnx")[0]: float(m["r"]) for m in elements(chart.wide, "mark")}
    assert radii["large"] > 2 * radii[small.network]


def test_the_front_holds_those_that_none_beats() -> None:
    record = full_record()
    front = pareto(record.tried)
    for one in record.tried:
        beaten = any(
            other.latency.median_ms <= one.latency.median_ms
            and other.prior.top1 >= one.prior.top1
            and (other.latency.median_ms, other.prior.top1)
            != (one.latency.median_ms, one.prior.top1)
            for other in record.tried
        )
        assert beaten != (one in front)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12))
def test_the_front_rises_from_the_fastest_to_the_most_accurate(
    pairs: list[tuple[int, int]],
) -> None:
    base = full_record().tried[0]
    made = [
        replace(
            base,
            latency=replace(base.latency, median_ms=float(ms)),
            prior=Prior(top1=top1 / 10, source="published"),
        )
        for ms, top1 in pairs
    ]
    front = [(one.latency.median_ms, one.prior.top1) for one in pareto(made)]
    assert front[0][0] == min(ms for ms, _ in pairs)
    assert front[-1][1] == max(top1 for _, top1 in pairs) / 10
    assert front == sorted(front)
    assert len({top1 for _, top1 in front}) == len(front)


def test_the_budget_is_drawn_and_named_where_it_is() -> None:
    chart = tried(full_record(budget=BUDGET))
    assert ">budget 5 ms</text>" in chart.wide
    assert "the shaded side is over the latency asked for" in chart.how_to_read
    without = tried(full_record(budget=NO_BUDGET))
    assert "budget" not in without.wide
    assert "shaded" not in without.how_to_read
    far = tried(full_record(budget=replace(BUDGET, latency_ms=900.0)))
    veil = elements(far.wide, "veil")[0]
    assert 0 < float(veil["width"]) < 200


def test_memory_is_named_over_a_mark_where_it_was_measured() -> None:
    record = full_record()
    measured = tuple(replace(one, peak_bytes=13_400_000) for one in record.tried)
    assert "of memory" not in tried(record).wide
    chart = tried(replace(record, tried=measured))
    assert chart.wide.count("13.4 MB of memory") == len(measured)


def test_names_of_users_stay_words() -> None:
    for chart in all_charts(whole_record(full_record(classes=HOSTILE))).values():
        tags = {e.tag for e in ElementTree.fromstring(chart.wide).iter()}
        assert tags <= {"svg", "g", "path", "circle", "rect", "text"}
    record = full_record()
    record = replace(record, tried=(replace(record.tried[0], network='"><a href=x>y</a>'),))
    assert elements(tried(record).wide, "mark")[0]["data-tip"].startswith('"><a href=x>y</a> onnx')


def test_every_count_of_a_small_matrix_is_a_cell_that_says_itself() -> None:
    record = full_record()
    chart = confusion_chart(record.confusion, record.data.classes)
    assert chart is not None
    cells = elements(chart.wide, "cell")
    assert len(cells) == sum(cell > 0 for row in record.confusion for cell in row)
    tips = {cell["data-tip"] for cell in cells}
    assert "true: lemon named: orange 4 of 24 images, 16.7 %" in tips
    assert all(elements(chart.wide, f"h{shade}") for shade in (2, 8))


def test_a_large_matrix_is_a_few_paths() -> None:
    classes = many_classes(300)
    record = full_record(classes=classes)
    chart = confusion_chart(record.confusion, classes)
    assert chart is not None
    cells = elements(chart.wide, "cell")
    assert len(cells) <= 8
    drawn = sum(cell["d"].count("M") for cell in cells)
    assert drawn == sum(cell > 0 for row in record.confusion for cell in row)
    assert len(chart.wide) < 60_000
    assert "in the order of their names" in chart.how_to_read


def test_too_many_classes_or_no_counts_give_no_matrix() -> None:
    classes = many_classes(MOST_CLASSES + 1)
    assert confusion_chart(full_record(classes=classes).confusion, classes) is None
    assert confusion_chart((), FRUIT) is None
    assert confusion_chart(((0, 0), (0, 0)), FRUIT[:2]) is None


def test_a_class_without_images_is_an_empty_row() -> None:
    chart = confusion_chart(((0, 0), (1, 3)), FRUIT[:2])
    assert chart is not None
    assert len(elements(chart.wide, "cell")) == 2


def test_reliability_stands_where_it_was_measured() -> None:
    chart = reliability_chart(CALIBRATION)
    assert chart is not None
    marks = elements(chart.wide, "fits")
    assert len(marks) == len(CALIBRATION.bins)
    assert marks[-1]["data-tip"].endswith("n = 112")
    radii = [float(one["r"]) for one in marks]
    assert radii == sorted(radii)  # as many images as the bins of the record have
    assert reliability_chart(None) is None


def test_a_loss_that_is_no_number_is_a_gap_in_its_line() -> None:
    record = full_record(num_epochs=5)
    epochs = list(record.epochs)
    epochs[2] = replace(epochs[2], train_loss=math.nan)
    chart = all_charts(replace(record, epochs=tuple(epochs)))["curves-loss"]
    lines = [line["d"].count("M") for line in elements(chart.wide, "line")]
    assert lines == [1, 2]  # val, train


@given(
    st.floats(1e-4, 1e4),
    st.floats(1.2, 1e5),
    st.booleans(),
    st.integers(2, 12),
)
def test_ticks_lie_on_their_axis(low: float, factor: float, log: bool, count: int) -> None:
    scale = Scale(low=low, high=low * factor, logarithmic=log)
    ticks = scale.ticks(count)
    assert 0 < len(ticks) <= 2 * count + 2
    slack = 1e-6
    assert all(-slack <= scale.at(tick) <= 1 + slack for tick in ticks)
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize("last", [1, 2, 3, 12, 25, 120])
def test_ticks_of_what_is_counted_are_whole(last: int) -> None:
    ticks = Scale(low=0.5, high=last + 0.5, whole=True).ticks(11)
    assert ticks
    assert all(tick == pytest.approx(round(tick)) and 1 <= tick <= last for tick in ticks)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=6))
def test_a_scale_around_values_holds_all_that_are_finite(values: list[float]) -> None:
    scale = around(values)
    assert scale.low < scale.high
    assert all(0 <= scale.at(value) <= 1 for value in values if math.isfinite(value))


def test_a_plane_puts_its_corners_where_they_belong() -> None:
    plane = Plane(
        width=200,
        height=100,
        x=Scale(low=0, high=10),
        y=Scale(low=0, high=10),
        x_title="x",
        y_title="y",
    )
    assert plane.px(0) < plane.px(10) <= 200
    assert 0 <= plane.py(10) < plane.py(0) <= 100


def test_marks_of_one_radius_have_one_area() -> None:
    square = re.search(r"h([\d.]+)v", mark("square", 50, 50, 10, "fits"))
    diamond = re.search(r"l([\d.]+) ", mark("diamond", 50, 50, 10, "fits"))
    assert square is not None
    assert diamond is not None
    circle = math.pi * 10**2
    assert float(square[1]) ** 2 == pytest.approx(circle, rel=0.02)
    assert 2 * float(diamond[1]) ** 2 == pytest.approx(circle, rel=0.02)
