"""The page of a comparison: marks, words, and that names stay text."""

from __future__ import annotations

import json
import math
import re

import pytest
from records import HOSTILE, full_record, latency

from pocketvision.record.files import Prior
from pocketvision.report.side_by_side import Side, SideBySide, TimedFile
from pocketvision.report.side_by_side_page import render_page, side_by_side_figure


def timed_file(median_ms: float, precision: str, size_bytes: int, noise: str = "") -> TimedFile:
    return TimedFile(
        runtime="onnxruntime",
        precision="int8" if precision == "int8" else "f32",
        size_bytes=size_bytes,
        latency=latency(median_ms, noise),
        batched=latency(8 * median_ms),
        images_per_s=1000 / median_ms,
    )


def side(name: str, macs: int, *files: TimedFile, width: float = 1.0) -> Side:
    return Side(
        network=f"{name} x{width:g} @224",
        name=name,
        width=width,
        resolution=224,
        macs=macs,
        parameters=macs // 100,
        peak_activation_bytes=4_000_000,
        published=Prior(top1=0.7, source="published"),
        files=files,
    )


COUNTED = SideBySide(
    networks=(side("small", 50_000_000, width=0.5), side("large", 600_000_000)),
    threads=1,
    batch=8,
)
TIMED = SideBySide(
    networks=(
        side("small", 50_000_000, timed_file(2.0, "f32", 4_000_000)),
        side(
            "large",
            600_000_000,
            timed_file(4.0, "f32", 16_000_000),
            timed_file(3.0, "int8", 4_000_000, noise="the interval is wide"),
        ),
    ),
    threads=2,
    batch=8,
    machine=full_record().machine,
)


def test_without_latency_networks_stand_at_their_multiply_accumulates() -> None:
    figure = side_by_side_figure(COUNTED)
    (trace,) = figure.plot["data"]
    assert trace["x"] == [50, 600]
    assert trace["y"] == [70, 70]
    assert trace["text"] == ["small x0.5", "large"]
    low, high = figure.plot["layout"]["xaxis"]["range"]
    assert low < math.log10(50) < math.log10(600) < high
    assert "24.0 MB for the largest" in figure.how_to_read  # 6 million parameters in float32


def test_timed_files_are_grouped_by_precision() -> None:
    figure = side_by_side_figure(TIMED)
    f32, int8 = figure.plot["data"]
    assert (f32["name"], f32["x"]) == ("onnxruntime f32", [2, 4])
    assert (int8["name"], int8["x"]) == ("onnxruntime int8", [3])
    assert f32["marker"]["symbol"] != int8["marker"]["symbol"]
    assert f32["marker"]["color"] != int8["marker"]["color"]
    assert (f32["mode"], int8["mode"]) == ("markers+text", "markers")
    assert f32["error_x"]["array"] == pytest.approx([0.02 * x for x in f32["x"]], rel=0.6)
    assert "type" not in figure.plot["layout"]["xaxis"]  # a narrow range is linear


def test_the_area_of_a_mark_is_the_size_of_its_file() -> None:
    """Plotly: diameter = 2 sqrt(size / (2 sizeref)) pixels, so 44 for the largest."""
    for trace in side_by_side_figure(TIMED).plot["data"]:
        marker = trace["marker"]
        assert marker["sizemode"] == "area"
        across = [math.sqrt(2 * size / marker["sizeref"]) for size in marker["size"]]
        expected = [44 * math.sqrt(size / 16_000_000) for size in marker["size"]]
        assert across == pytest.approx(expected)


def test_the_page_holds_every_figure_and_loads_nothing() -> None:
    page = render_page(TIMED)
    table = page[page.index("<table>") : page.index("</table>")]
    assert table.count('<th scope="row"') == 3
    for words in ("70.0 %", "600 M", "16.0 MB", "4.00 ms", "333", "noisy: the interval is wide"):
        assert words in table
    assert TIMED.machine is not None
    assert TIMED.machine.cpu in page
    assert "2 threads" in page
    assert not re.search(r'(src|href)="', page[: page.index('<script type="application/json"')])
    assert render_page(TIMED) == page


def test_the_page_of_counted_networks_speaks_of_no_time() -> None:
    page = render_page(COUNTED)
    words = page[: page.index("<script")]
    assert "latency" not in words
    assert "2 networks side by side" in words


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stay_text(name: str) -> None:
    page = render_page(SideBySide(networks=(side(name, 1_000_000),), threads=1, batch=8))
    table = page[page.index("<table>") : page.index("</table>")]
    assert "<script" not in table
    assert "<img" not in table
    start = page.index('id="figures-data">') + len('id="figures-data">')
    data = page[start : page.index("</script>", start)]
    assert not set(data) & set("<>&'")
    text = json.loads(data)["side-by-side"]["data"][0]["text"][0]
    assert "<" not in text
