import json
import math
from dataclasses import replace
from typing import Any

import pytest
from records import FRUIT, HOSTILE, full_record, many_classes

from pocketvision.record.run import Record
from pocketvision.report.plots import HEAT_MAP_CLASSES, Figure, confusion_matrix, embedded


def heat_map(record: Record) -> Figure:
    figure = confusion_matrix(record.confusion, record.data.classes)
    assert figure is not None
    return figure


def test_confusion_rows_are_shares_and_empty_cells_are_gaps() -> None:
    record = full_record()
    trace = heat_map(record).plot["data"][0]
    for row, counts in zip(trace["z"], record.confusion, strict=True):
        assert sum(share or 0 for share in row) == pytest.approx(1, abs=1e-3)
        assert [share is None for share in row] == [count == 0 for count in counts]
    assert trace["text"][0][0] == str(record.confusion[0][0])


@pytest.mark.parametrize(("count", "labelled"), [(2, True), (30, True), (120, True), (200, False)])
def test_confusion_names_its_classes_while_there_is_room(count: int, labelled: bool) -> None:
    figure = heat_map(full_record(classes=many_classes(count)))
    axis = figure.plot["layout"]["yaxis"]
    assert axis["showticklabels"] is labelled
    assert len(axis["ticktext"]) == count
    assert max(map(len, axis["ticktext"])) <= 24
    assert not labelled or figure.height >= 11 * count


def test_too_many_classes_give_no_heat_map() -> None:
    classes = many_classes(HEAT_MAP_CLASSES + 1)
    record = full_record(classes=classes)
    assert confusion_matrix(record.confusion, classes) is None


def test_a_class_without_images_is_an_empty_row() -> None:
    record = full_record(classes=FRUIT[:2])
    figure = heat_map(replace(record, confusion=((0, 0), (1, 3))))
    assert figure.plot["data"][0]["z"] == [[None, None], [0.25, 0.75]]


def test_names_reach_plotly_without_tags() -> None:
    labels = heat_map(full_record(classes=HOSTILE)).plot["layout"]["xaxis"]["ticktext"]
    assert labels[0].startswith("&lt;script&gt;")
    assert not any("<" in label or ">" in label for label in labels)


def test_embedded_json_cannot_end_its_element() -> None:
    figure = heat_map(full_record(classes=HOSTILE))
    assert not set("<>&'\u2028\u2029") & set(embedded({"confusion": figure}))
    found = json.loads(embedded({"confusion": figure}))["confusion"]
    assert found["height"] == figure.height
    assert found["layout"]["xaxis"]["ticktext"][0].startswith("&lt;script&gt;")


def test_what_json_cannot_hold_is_a_gap() -> None:
    plot = {"data": [{"y": [1.0, math.nan, math.inf]}]}
    figure = replace(heat_map(full_record()), plot=plot)
    assert json.loads(embedded({"a": figure}))["a"]["data"] == [{"y": [1.0, None, None]}]


def test_colours_are_names_of_the_style_sheet() -> None:
    colours = _colours(json.loads(json.dumps(heat_map(full_record()).plot)))
    assert len(colours) > 5
    assert all(colour.startswith(("--", "rgba(0,0,0,0)")) for colour in colours)


def _colours(value: Any, key: str = "") -> list[str]:
    if isinstance(value, dict):
        return [colour for k, v in value.items() for colour in _colours(v, k)]
    if isinstance(value, list):
        return [colour for item in value for colour in _colours(item, key)]
    is_colour = "color" in key and key not in ("colorbar",) and isinstance(value, str)
    return [value] if is_colour else []
