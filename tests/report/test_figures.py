import json
import math
from dataclasses import replace
from typing import Any

import pytest
from records import BUDGET, FRUIT, HOSTILE, NO_BUDGET, full_record, many_classes

from pocketvision.report.figures import HEAT_MAP_CLASSES, all_figures


def test_a_full_record_gives_every_figure() -> None:
    assert list(all_figures(full_record())) == [
        "tried-latency",
        "tried-size",
        "curves-loss",
        "curves-top1",
        "confusion",
    ]


def test_what_is_missing_gives_no_figure() -> None:
    record = replace(full_record(num_epochs=0), tried=(), confusion=())
    assert all_figures(record) == {}


@pytest.mark.parametrize("id", ["tried-latency", "tried-size"])
def test_every_tried_network_is_one_mark_and_the_chosen_one_is_ringed(id: str) -> None:
    record = full_record()
    traces = all_figures(record)[id].plot["data"]
    assert traces[-1]["name"] == "chosen"
    assert len(traces[-1]["x"]) == 1
    assert sum(len(trace["x"]) for trace in traces[:-1]) == len(record.tried)
    named = [trace["name"] for trace in traces if trace.get("showlegend")]
    assert sorted(named) == ["bf16", "f32", "int8"]


def test_latency_intervals_belong_to_their_marks() -> None:
    for trace in all_figures(full_record())["tried-latency"].plot["data"][:-1]:
        upper = trace["error_x"]["array"]
        assert upper == pytest.approx([0.03 * x for x in trace["x"]])


def test_budget_lines_stand_where_the_budget_is() -> None:
    figures = all_figures(full_record(budget=BUDGET))
    line = figures["tried-latency"].plot["layout"]["shapes"][1]
    assert (line["x0"], line["label"]["text"]) == (5.0, "budget 5 ms")
    line = figures["tried-size"].plot["layout"]["shapes"][1]
    assert (line["x0"], line["label"]["text"]) == (4.0, "budget 4 MB")


@pytest.mark.parametrize(("limit", "side"), [(1.9, "left"), (20.0, "right")])
def test_the_budget_is_named_where_there_is_room(limit: float, side: str) -> None:
    record = full_record(budget=replace(BUDGET, latency_ms=limit))
    line = all_figures(record)["tried-latency"].plot["layout"]["shapes"][1]
    assert line["label"]["xanchor"] == side


def test_memory_is_named_over_a_mark_where_it_was_measured() -> None:
    record = full_record()
    measured = tuple(replace(one, peak_bytes=13_400_000) for one in record.tried)
    for tried, words in ((record.tried, 0), (measured, len(measured))):
        traces = all_figures(replace(record, tried=tried))["tried-size"].plot["data"][:-1]
        texts = [text for trace in traces for text in trace["customdata"]]
        assert sum(text.endswith("<br>13.4 MB of memory") for text in texts) == words


def test_no_budget_draws_no_line() -> None:
    figures = all_figures(full_record(budget=NO_BUDGET))
    assert "shapes" not in figures["tried-latency"].plot["layout"]
    assert "shapes" not in figures["tried-size"].plot["layout"]


def test_the_budget_is_inside_the_axis() -> None:
    far = replace(BUDGET, latency_ms=900.0)
    low, high = all_figures(full_record(budget=far))["tried-latency"].plot["layout"]["xaxis"][
        "range"
    ]
    assert low < math.log10(900) < high


def test_confusion_rows_are_shares_and_empty_cells_are_gaps() -> None:
    record = full_record()
    trace = all_figures(record)["confusion"].plot["data"][0]
    for row, counts in zip(trace["z"], record.confusion, strict=True):
        assert sum(share or 0 for share in row) == pytest.approx(1, abs=1e-3)
        assert [share is None for share in row] == [count == 0 for count in counts]
    assert trace["text"][0][0] == str(record.confusion[0][0])


@pytest.mark.parametrize(("count", "labelled"), [(2, True), (30, True), (120, True), (200, False)])
def test_confusion_names_its_classes_while_there_is_room(count: int, labelled: bool) -> None:
    figure = all_figures(full_record(classes=many_classes(count)))["confusion"]
    axis = figure.plot["layout"]["yaxis"]
    assert axis["showticklabels"] is labelled
    assert len(axis["ticktext"]) == count
    assert max(map(len, axis["ticktext"])) <= 24
    assert not labelled or figure.height >= 11 * count


def test_too_many_classes_give_no_heat_map() -> None:
    classes = many_classes(HEAT_MAP_CLASSES + 1)
    assert "confusion" not in all_figures(full_record(classes=classes))


def test_a_class_without_images_is_an_empty_row() -> None:
    record = full_record(classes=FRUIT[:2])
    figures = all_figures(replace(record, confusion=((0, 0), (1, 3))))
    assert figures["confusion"].plot["data"][0]["z"] == [[None, None], [0.25, 0.75]]


def test_names_reach_plotly_without_tags() -> None:
    labels = all_figures(full_record(classes=HOSTILE))["confusion"].plot["layout"]["xaxis"][
        "ticktext"
    ]
    assert labels[0].startswith("&lt;script&gt;")
    assert not any("<" in label or ">" in label for label in labels)


def test_network_labels_reach_plotly_without_tags() -> None:
    record = full_record()
    record = replace(record, tried=(replace(record.tried[0], network="<a href=x>y</a>"),))
    hover = all_figures(record)["tried-latency"].plot["data"][0]["customdata"][0]
    assert hover.startswith("<b>&lt;a href=x&gt;y&lt;/a&gt;</b><br>")


def test_every_figure_has_words() -> None:
    for figure in all_figures(full_record()).values():
        assert figure.how_to_read.endswith(".")
        assert figure.alt.endswith(".")


def test_colours_are_names_of_the_style_sheet() -> None:
    allowed = ("--", "rgba(0,0,0,0)")
    plots = {name: figure.plot for name, figure in all_figures(full_record()).items()}
    colours = _colours(json.loads(json.dumps(plots)))
    assert len(colours) > 20
    assert all(colour.startswith(allowed) for colour in colours)


def _colours(value: Any, key: str = "") -> list[str]:
    if isinstance(value, dict):
        return [colour for k, v in value.items() for colour in _colours(v, k)]
    if isinstance(value, list):
        return [colour for item in value for colour in _colours(item, key)]
    is_colour = "color" in key and key not in ("colorbar",) and isinstance(value, str)
    return [value] if is_colour else []
