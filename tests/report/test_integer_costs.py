"""What the integers cost: the culprits named, the gate's files told, and names stay words."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from records import full_record
from test_charts import elements
from test_html import Page
from whole_records import MARKUP, many_layers, quantization, whole_record

from pocketvision.record.files import Quantization, QuantizedLayer
from pocketvision.record.run import Record
from pocketvision.report import quantization_rows as rows
from pocketvision.report.chart import Chart
from pocketvision.report.html import OPEN_ROWS, render_report
from pocketvision.report.quantization_chart import quantization_chart
from pocketvision.storage import from_json, to_json

WORST = ["blocks.1.depthwise", MARKUP, "blocks.2.depthwise"]


def chart_of(found: Quantization) -> Chart:
    chart = quantization_chart(found)
    assert chart is not None
    return chart


def not_alone(found: Quantization) -> Quantization:
    """The same where no layer was tried alone."""
    layers = tuple(replace(one, alone_sqnr_db=None, alone=None) for one in found.layers)
    return replace(found, layers=layers)


def with_layers(*layers: QuantizedLayer) -> Quantization:
    return replace(quantization(), layers=layers)


def by_agreement(found: Quantization) -> Quantization:
    return replace(found, judged_by="agreement")


def page_of(found: Quantization) -> Page:
    return Page(render_report(replace(whole_record(), quantization=found)))


def labels(drawing: str) -> list[str]:
    root = ElementTree.fromstring(drawing)
    return [e.text or "" for e in root.iter("text") if e.attrib.get("class") == "chosen"]


def test_the_worst_are_those_whose_logits_are_noisiest_alone() -> None:
    found = rows.worst_first(quantization().layers)
    assert [row.layer.name for row in found[:3]] == WORST
    assert [row.number for row in found[:3]] == [3, 8, 6]
    assert [row.culprit for row in found] == [True] * 3 + [False] * 9
    alone = [row.layer.alone_sqnr_db or math.inf for row in found]
    assert alone == sorted(alone)


def test_a_layer_that_was_not_tried_alone_comes_after_those_that_were() -> None:
    first, *others = quantization().layers
    untried = replace(first, alone_sqnr_db=None, alone=None, sqnr_db=-3.0)
    found = rows.worst_first([untried, *others])
    assert found[-1].layer is untried


def test_without_such_figures_a_layer_in_float_is_not_blamed_for_the_noise_of_others() -> None:
    layers = not_alone(quantization()).layers
    named = [row.layer.name for row in rows.culprits(layers)]
    assert named == ["blocks.1.project.conv", "blocks.2.expand.conv", "blocks.2.depthwise"]
    assert rows.blame(layers) == "noisiest"
    assert rows.culprits([one for one in layers if not one.in_integers]) == []


def test_equally_bad_layers_stay_in_the_order_of_the_network() -> None:
    layers = [replace(one, alone_sqnr_db=30.0) for one in quantization().layers]
    assert [row.number for row in rows.worst_first(layers)] == list(range(1, 13))


def test_culprits_are_named_in_words() -> None:
    words = rows.culprits_sentence(quantization())
    assert words.startswith(
        "blocks.1.depthwise (depthwise 3x3, 2.0 % of the arithmetic) costs most: when it alone is "
        "in integers, the logits have an SQNR of 11.6 dB and 3.1 points are lost (95 % interval "
        "+2.0 to +4.4); it is left in float. Next comes <b>blocks</b>.4"
    )
    assert words.endswith(
        "Then blocks.2.depthwise (depthwise 5x5, 3.6 % of the arithmetic): when it alone is in "
        "integers, the logits have an SQNR of 26.3 dB and 1.0 points are lost (95 % interval "
        "−0.1 to +2.3)."
    )
    assert "98.4 % of images are named as before" in rows.culprits_sentence(
        by_agreement(quantization())
    )


def test_culprits_by_their_own_noise_are_said_to_be_noisy_and_no_more() -> None:
    words = rows.culprits_sentence(not_alone(quantization()))
    assert words.startswith(
        "blocks.1.project.conv (conv 1x1, 7.1 % of the arithmetic) has the noisiest output: an "
        "SQNR of 14.1 dB inside the INT8 network. Next comes blocks.2.expand.conv"
    )
    assert "costs" not in words


def test_ranges_are_counted_by_method_the_most_frequent_first() -> None:
    assert rows.ranges_words(quantization().ranges) == "61 by mse, 20 by percentile, 9 by minmax"
    assert rows.ranges_words({}) == ""


def test_the_section_is_there_where_the_record_has_it() -> None:
    page = Page(render_report(whole_record()))
    assert "#integers" in page.values("href")
    assert "What the integers cost" in page.text
    ids = page.values("id")
    assert ids.index("variants") < ids.index("integers") < ids.index("classes")
    without = Page(render_report(full_record()))
    assert not {"integers", "layers-table"} & set(without.values("id"))
    assert "#integers" not in without.values("href")
    assert rows.integer_rows(None) is None
    assert quantization_chart(None) is None


def test_the_section_says_how_it_was_made() -> None:
    page = page_of(quantization())
    found = quantization()
    start = page.text.index("What the integers cost " + found.sentence)
    section = page.text[start : page.text.index("Class by class")]
    for words in (
        "Runtime onnxruntime",
        "labels: top-1 may be at most 1.0 percentage points below the float network’s",
        "Calibrated on 512 images",
        "Weights 8 bits",
        "Ranges of tensors 61 by mse, 20 by percentile, 9 by minmax",
        "Equalised pairs 7",
        "Filled widths 3",
        "Corrected biases 52",
        "Guarded channels 4",
        rows.culprits_sentence(found),
        "All 12 layers as a table The worst first",
    ):
        assert words in section


def test_files_that_the_gate_looked_at_have_passed_or_failed() -> None:
    text = page_of(quantization()).text
    for words in (
        "How the gate was passed",
        "post-training none +4.7 +3.6 to +6.0 not timed 1.82 MB ✕ failed 23 s",
        "layers in float 1 layer blocks.1.depthwise +2.1 +1.0 to +3.4 not timed 1.84 MB ✕ failed",
        "2 layers blocks.1.depthwise <b>blocks</b>.4",
        "+0.5 −0.6 to +1.8 2.10 ms 2.06 to 2.16 ms 1.86 MB ✓ passed 15 s",
        "float all the reference itself 3.30 ms 3.23 to 3.40 ms 4.21 MB ✓ passed 2 s",
    ):
        assert words in text


def test_a_gate_that_nothing_passed_is_not_called_passed() -> None:
    found = quantization()
    text = page_of(replace(found, rungs=found.rungs[:2])).text
    assert "What the gate looked at" in text
    assert "How the gate was passed" not in text
    assert "looked at" not in page_of(replace(found, rungs=())).text


def test_without_labels_agreement_is_shown_and_no_loss() -> None:
    text = page_of(by_agreement(quantization())).text
    assert "may be at most 1.0 percentage points below 100 %" in text
    assert "post-training none 98.4 % n = 192 not timed" in text
    assert "Alone: agreement" in text
    assert "Alone: lost" not in text


def test_the_table_has_every_layer_the_worst_first_and_marked() -> None:
    source = render_report(whole_record())
    table = source[source.index('id="layers-table"') :]
    table = table[: table.index("</table>")]
    assert table.count("<tr") == 1 + len(quantization().layers)
    assert table.count('<tr class="culprit">') == table.count("costs most</span>") == 3
    text = Page(f"<table {table}</table>").text
    assert (
        "blocks.1.depthwise costs most 3 depthwise 3x3 2.0 % −0.740 to 11.8 percentile 30.7 "
        "left in float 8.9 dB 11.6 dB +3.1 +2.0 to +4.4 agreement 98.4 %"
    ) in text
    assert "head.classifier 12 linear 8.2 % −0.740 to 6.00 mse 1.70 yes 23.9 dB 51.6 dB 0.0" in text


def test_columns_of_what_was_not_measured_are_left_out() -> None:
    text = page_of(not_alone(quantization())).text
    assert "Alone" not in text
    assert "noisiest 4 conv 1x1" in text
    half = replace(quantization().layers[0], alone=None, alone_sqnr_db=None)
    text = page_of(with_layers(half, *quantization().layers[1:])).text
    assert "yes 41.3 dB – –" in text


def test_names_of_layers_stay_words() -> None:
    source = render_report(whole_record())
    assert "<b>" not in source
    assert Page(source).text.count(MARKUP) >= 3  # the gate's table, the sentence, the layers'
    for drawing in (chart_of(quantization()).wide, chart_of(quantization()).narrow):
        tags = {e.tag for e in ElementTree.fromstring(drawing).iter()}
        assert tags <= {"svg", "g", "path", "circle", "rect", "text"}
        tips = [one["data-tip"] for one in elements(drawing, "unseen")]
        assert any(tip.startswith(MARKUP) for tip in tips)


def test_the_chart_names_the_worst_three_and_tells_float_from_integers() -> None:
    chart = chart_of(quantization())
    assert sorted(labels(chart.wide)) == [
        "<b>blocks</b>.4['squee…'] & \"gate\"",
        "blocks.1.depthwise",
        "blocks.2.depthwise",
    ]
    assert len(labels(chart.narrow)) == 3
    for drawing in (chart.wide, chart.narrow):
        assert len(elements(drawing, "layer")) == len(elements(drawing, "alone")) == 12
        assert len(elements(drawing, "unseen")) == 12
        assert len(elements(drawing, "in-float")) == 2
        assert len(elements(drawing, "culprit")) == 3
    assert [key.words for key in chart.keys] == [
        "output of a layer in integers",
        "left in float",
        "costs most",
        "logits, when the layer alone is in integers",
    ]
    assert "Costs most: blocks.1.depthwise, <b>blocks</b>" in chart.alt
    tips = [one["data-tip"] for one in elements(chart.wide, "unseen")]
    assert tips[2] == (
        "blocks.1.depthwise depthwise 3x3, 2.0 % of the multiply-adds SQNR 8.9 dB inside the INT8 "
        "network alone in integers: logits 11.6 dB alone in integers: 3.1 points are lost (95 % "
        "interval +2.0 to +4.4) left in float"
    )


def test_a_louder_signal_is_a_higher_bar() -> None:
    bars = elements(chart_of(quantization()).wide, "layer")
    heights = [float(bar["height"]) for bar in bars]
    values = [one.sqnr_db for one in quantization().layers]
    order = sorted(range(12), key=values.__getitem__)
    assert sorted(range(12), key=heights.__getitem__) == order
    lefts = [float(bar["x"]) for bar in bars]
    assert lefts == sorted(lefts)


def test_without_layers_tried_alone_the_chart_has_bars_only() -> None:
    chart = chart_of(not_alone(quantization()))
    assert elements(chart.wide, "alone") == []
    assert "logits" not in chart.how_to_read
    assert [key.words for key in chart.keys][-1] == "noisiest"
    assert sorted(labels(chart.wide)) == [
        "blocks.1.project.conv",
        "blocks.2.depthwise",
        "blocks.2.expand.conv",
    ]


@pytest.mark.parametrize("count", [1, 2, 12, 13, 120])
def test_any_number_of_layers_makes_a_whole_page(count: int) -> None:
    found = many_layers(quantization(), count)
    chart = chart_of(found)
    assert chart_of(found) == chart  # the same record gives the same chart
    for drawing in (chart.wide, chart.narrow):
        width = float(ElementTree.fromstring(drawing).attrib["width"])
        bars = elements(drawing, "layer")
        assert len(bars) == count
        assert all(0 < float(bar["width"]) <= 28 for bar in bars)
        assert all(0 < float(bar["x"]) < width for bar in bars)
        assert len(labels(drawing)) == min(3, count)
    record = replace(whole_record(), quantization=found)
    source = render_report(record)
    assert source == render_report(record)
    assert len(source.encode()) < 400_000
    page = Page(source)
    assert page.open == []
    assert ("search-layers" in page.values("for")) == (count > OPEN_ROWS)
    assert ("The layer as a table" in page.text) == (count == 1)


def test_what_lies_beyond_the_axis_is_drawn_at_its_edge_and_said() -> None:
    one = replace(quantization().layers[0], alone_sqnr_db=None, alone=None)
    loud, at_edge = (replace(one, sqnr_db=value) for value in (400.0, 80.0))
    faint = replace(one, sqnr_db=-90.0)
    chart = chart_of(with_layers(loud, at_edge, faint, one))
    heights = [float(bar["height"]) for bar in elements(chart.wide, "layer")]
    assert heights[0] == heights[1]
    assert heights[2] == pytest.approx(heights[0] / 4, abs=0.2)
    assert "outside −20 to 80 dB is drawn at the edge" in chart.how_to_read
    assert "at the edge" not in chart_of(with_layers(one)).how_to_read
    tip = elements(chart.wide, "unseen")[0]["data-tip"]
    assert "SQNR 400.0 dB" in tip


def test_noise_above_its_signal_is_a_bar_below_zero() -> None:
    one = replace(quantization().layers[0], alone_sqnr_db=None, alone=None)
    chart = chart_of(with_layers(replace(one, sqnr_db=-6.0), replace(one, sqnr_db=0.0), one))
    below, none, above = elements(chart.wide, "layer")
    zero = float(above["y"]) + float(above["height"])
    assert float(below["y"]) == pytest.approx(zero, abs=0.11)
    assert float(below["height"]) > 10
    assert float(none["height"]) == 0


def test_no_layers_no_chart() -> None:
    found = with_layers()
    assert quantization_chart(found) is None
    page = page_of(found)
    assert "layers-table" not in page.values("id")
    assert "What the integers cost" in page.text


def test_layers_that_all_stayed_in_float_are_drawn_and_none_is_blamed() -> None:
    layers = (replace(one, in_integers=False) for one in not_alone(quantization()).layers)
    chart = chart_of(with_layers(*layers))
    assert [key.words for key in chart.keys] == ["left in float"]
    assert labels(chart.wide) == []
    assert chart.alt.endswith("12 left in float. The table below has all figures.")


def test_a_record_with_it_comes_back_from_its_file() -> None:
    record = whole_record()
    again = from_json(Record, to_json(record), source="record.json")
    assert again == record
    assert render_report(again) == render_report(record)
