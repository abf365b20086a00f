"""The page and the card of a scene: scores with their leakage first, and names stay text."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from records import BUDGET, HOSTILE
from scene_records import CROPS, hostile_record, scene_pictures, scene_record
from search_records import narrowing
from test_html import Page

from pocketvision.errors import ConfigError, DataError
from pocketvision.record.run import Verdict
from pocketvision.report.scene_card import render_scene_card
from pocketvision.report.scene_figures import scene_figures
from pocketvision.report.scene_page import LARGEST_SIDE, ScenePictures, render_scene_report
from pocketvision.scene_record import SceneRecord

Case = tuple[SceneRecord, ScenePictures]


def bare() -> Case:
    """Nothing that may be absent is there."""
    record = scene_record(classes=CROPS[:3], seeds=1)
    record = replace(
        record,
        runs=(),
        files=(),
        curves=(),
        steps=(),
        splits=(replace(record.splits[0], notes=()),),
        scene=replace(record.scene, wavelengths_nm=()),
        reduction=replace(record.reduction, method="standardise", explained=None),
        confusion=((0, 0, 0),) * 3,
    )
    return record, replace(scene_pictures(classes=CROPS[:3]), false_colour=None)


def missed() -> Case:
    """A split at random, over its budget."""
    sentence = "410 ms were measured, and 5 ms were asked."
    record = scene_record(
        kind="random", budget=BUDGET, verdict=Verdict(met=False, sentence=sentence), seeds=1
    )
    return record, scene_pictures("random")


CASES: dict[str, Callable[[], Case]] = {
    "blocks": lambda: (scene_record(), scene_pictures()),
    "random": missed,
    "bare": bare,
    "narrowed": lambda: (replace(scene_record(), narrowing=narrowing()), scene_pictures()),
    "hostile": lambda: (hostile_record(HOSTILE), scene_pictures("random", HOSTILE)),
}


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    return {name: render_scene_report(*case()) for name, case in CASES.items()}


def test_a_narrowing_is_told_with_its_chart_and_what_judged_it(sources: dict[str, str]) -> None:
    page = sources["narrowed"]
    assert 'href="#narrowing"' in page
    assert 'id="chart-narrowing"' in page
    assert "training pixels that were held out: no test pixel was used" in page
    assert "the sum over a table of layers" in page
    assert 'id="narrowing"' not in sources["blocks"]


@pytest.mark.parametrize("name", CASES)
def test_elements_are_nested_and_headings_in_order(name: str, sources: dict[str, str]) -> None:
    page = Page(sources[name])
    assert page.open == []
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    targets = [href[1:] for href in page.values("href")] + page.values("aria-labelledby")
    assert set(targets) <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_fetched(name: str, sources: dict[str, str]) -> None:
    page = Page(sources[name])
    assert all(href.startswith("#") for href in page.values("href"))
    assert all(src.startswith("data:image/png;base64,") for src in page.values("src"))
    assert all("alt" in attributes for tag, attributes in page.tags if tag == "img")
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert len(sources[name].encode()) < 6_000_000


def test_the_same_record_gives_the_same_page(sources: dict[str, str]) -> None:
    assert render_scene_report(*CASES["blocks"]()) == sources["blocks"]


def test_scores_come_first_with_their_leakage(sources: dict[str, str]) -> None:
    record, _ = CASES["blocks"]()
    text = Page(sources["blocks"]).text
    first = text[: text.index("Ground truth")]
    leak = "0 % of test windows hold a training centre; 41.2 % share pixels with a training window"
    assert f"Overall accuracy (OA, split in blocks) {record.headline.overall:.1%}" in first.replace(
        " %", "%"
    )
    assert first.count(leak) == 3  # beside OA, AA and kappa
    assert f"{record.headline.kappa:.3f} {leak}" in first
    assert "Without a test pixel, and so without a say in AA: Alfalfa," in first
    assert "This split leaks" not in text


def test_a_random_split_is_warned_of_above_its_figures(sources: dict[str, str]) -> None:
    text = Page(sources["random"]).text
    warning = text.index("This split leaks: pixels were drawn at random, so over 99.9 % of test")
    assert warning < text.index("Overall accuracy")
    assert "for comparison with papers that split the same way only" in text
    assert "Budget missed" in text
    assert "Latency of one pixel 12.3 ms of 5 ms · over" in text
    assert "Latency is that of one pixel from its window, by the shipped file." in text


def test_essential_numbers_need_no_script(sources: dict[str, str]) -> None:
    record, _ = CASES["blocks"]()
    text = Page(sources["blocks"]).text
    for words in (
        *record.scene.classes,
        "HybridSN shipped dense",
        "HybridSN patch by patch",
        "compact network",
        "5,122,176",
        "248 M 24.1 M",
        "1,285 ± 25 s 97.0 ± 1.0 s",
        "256 µs 251 to 264 µs",
        "99.1 % n = 2,048; 98.4 % without a label; 98.7 % of a tile",
        "1,200 of 3,000",
        "✕ failed",
        "Guard centre: no test window holds a training centre.",
        "Oats lies within one block: it is not tested. (seed 0)",
        "99.87 % of that of the training pixels",
        "Every seed as a table",
        "Why random splits flatter",
        record.scene.fingerprint,
        record.command,
        "AMD EPYC 9R14",
    ):
        assert words in text


def test_maps_stand_side_by_side_in_their_colours(sources: dict[str, str]) -> None:
    page = Page(sources["blocks"])
    alts = [attributes["alt"] or "" for tag, attributes in page.tags if tag == "img"]
    assert [alt.partition(",")[0] for alt in alts if alt] == [
        "The scene in false colour",
        "Map of the labelled pixels by class",
        "Map of the class named for every pixel",
        "Map of the uncertainty",
        "Map of training",
    ]
    styles = page.values("style")
    assert styles.count("background: #e63c3c") == 2  # the legend and the table of classes
    bare_page = Page(sources["bare"])
    assert len([tag for tag, _ in bare_page.tags if tag == "img"]) == 5  # the ramp among them


def test_many_classes_are_named_below_the_maps() -> None:
    names = tuple(f"class {k}" for k in range(1, 31))
    record, pictures = bare()
    zeros = (0,) * 30
    split = replace(record.splits[0], train=zeros, test=zeros, dropped=zeros)
    record = replace(
        record,
        scene=replace(record.scene, classes=names, colours=((9, 99, 199),) * 30, counts=(1,) * 30),
        splits=(split,),
        headline=replace(record.headline, per_class=(None,) * 30),
        confusion=(zeros,) * 30,
    )
    source = render_scene_report(record, pictures)
    assert source.count('<ul class="legend">') == 1
    assert Page(source).text.count("class 30") == 3  # that legend, the table, what AA leaves out


def test_a_part_without_pixels_is_not_in_the_legend(sources: dict[str, str]) -> None:
    legends = {
        name: source[source.index('class="legend inline"') :].partition("</ul>")[0]
        for name, source in sources.items()
    }
    assert "dropped" in legends["blocks"]
    assert "dropped" not in legends["random"]


def test_absent_parts_are_said(sources: dict[str, str]) -> None:
    text = Page(sources["bare"]).text
    for words in (
        "No method was trained.",
        "No file was exported.",
        "There was no training, so there are no curves.",
        "Wavelengths unknown",
        "each band standardised",
    ):
        assert words in text
    assert "Variance kept" not in text


def test_harmful_names_stay_words(sources: dict[str, str]) -> None:
    page = Page(sources["hostile"])
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in Page(sources["random"]).tags} | {
        "li",
        "ul",
    }
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    for name in HOSTILE:
        assert " ".join(name.split()) in page.text
    assert sources["hostile"].lower().count("<script") == 3


def test_large_maps_are_thinned_and_it_is_said() -> None:
    record, pictures = bare()
    high = np.zeros((2 * LARGEST_SIDE + 1, 3), np.uint8)
    large = replace(
        pictures, truth=high, predicted=high, split=high, uncertainty=high.astype(np.float32)
    )
    text = Page(render_scene_report(record, large)).text
    assert "Every 3 pixels one is shown; the map files hold all." in text


def test_maps_that_do_not_fit_are_refused() -> None:
    record, pictures = bare()
    with pytest.raises(ConfigError, match="predicted is 144x145; expected 145x145"):
        replace(pictures, predicted=pictures.predicted[1:])
    with pytest.raises(ConfigError, match="false_colour is 145x145; expected anyxanyx3"):
        replace(pictures, false_colour=np.zeros((145, 145), np.uint8))
    beyond = replace(pictures, predicted=pictures.predicted + np.uint8(1))
    with pytest.raises(DataError, match="classes go from 2 to 4, but there are 3 colours"):
        render_scene_report(record, beyond)


def test_the_card_says_what_it_is_and_how_it_was_split() -> None:
    record, _ = CASES["blocks"]()
    card = render_scene_card(record)
    for words in (
        "# Indian Pines, hybridsn 30 bands @25",
        "**No budget given.** A map of the whole scene in 3.40 s",
        "python model/run.py cube.npy classes.npy",
        "pocketvision map . cube.npy",
        "test pixels, split in blocks; 0 % of test windows hold a training centre;",
        "| HybridSN, shipped, dense | 3 |",
        "| Latency of one pixel | 12.3 ms | from its window, the shipped file, 1 thread |",
        "| dense f32, shipped | 100 % of 2,048 | 256 µs (251 to 264) | 12.3 ms | 20.6 MB |",
        "| 1 | Alfalfa | 46 | 0 | 0 | not tested |",
        "- Oats lies within one block: it is not tested.",
        "- split in blocks, seed 0, guard centre:",
        "## Licence",
    ):
        assert words in card
    assert "This split leaks" not in card
    assert card == render_scene_card(record)


def test_the_card_of_a_random_split_warns_before_its_figures() -> None:
    card = render_scene_card(missed()[0])
    assert card.index("**This split leaks:**") < card.index("| Overall accuracy |")


@pytest.mark.parametrize("name", CASES)
def test_tables_of_the_card_are_whole(name: str) -> None:
    card = render_scene_card(CASES[name]()[0])
    assert "<" not in card
    for block in re.findall(r"(?:^\|.*\n)+", card, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_browser_draws_it_without_complaint(
    name: str, sources: dict[str, str], tmp_path: Path
) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on PATH")
    page = tmp_path / "report.html"
    page.write_text(sources[name], encoding="utf-8")
    command = [
        chromium,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
        "--virtual-time-budget=8000",
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    drawn = len(re.findall(r'class="canvas js-plotly-plot"', done.stdout))
    assert drawn == len(scene_figures(CASES[name]()[0]))
    assert 'class="js"' in done.stdout
    images = re.findall(r"<img [^>]*", re.sub(r"(?s)<script.*?</script>", "", done.stdout))
    assert len(images) in (5, 6)
    assert all(image.startswith('<img src="data:image/png;') for image in images)
