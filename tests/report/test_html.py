import itertools
import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import plotly.offline
import pytest
from records import BUDGET, FRUIT, HOSTILE, NO_BUDGET, full_record, latency, many_classes

from pocketvision.record import Record, Step, Verdict
from pocketvision.report import html
from pocketvision.report.figures import all_figures
from pocketvision.report.html import render_report
from pocketvision.report.templates import FOLDER

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags, attributes and the text outside scripts and styles."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        (self.scripts if inside in ("script", "style") else self.words).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, attribute: str) -> list[str]:
        return [attrs[attribute] or "" for _, attrs in self.tags if attribute in attrs]


def missed() -> Record:
    """Over its budget, noisy, headline from val, files skipped, names out to do harm."""
    record = full_record(
        classes=HOSTILE,
        budget=replace(BUDGET, latency_ms=1.9),
        verdict=Verdict(met=False, sentence="2.10 ms were measured, and 1.9 ms were asked."),
    )
    return replace(
        record,
        latency=latency(2.1, "another process kept a core busy"),
        data=replace(record.data, headline_split="val", skipped=HOSTILE),
    )


def bare() -> Record:
    """Nothing that may be absent is there."""
    record = full_record(
        classes=FRUIT[:2],
        budget=NO_BUDGET,
        verdict=Verdict(met=None, sentence="No budget was given."),
        num_epochs=0,
    )
    return replace(record, tried=(), variants=(), verification=(), confusion=(), steps=())


def with_memory() -> Record:
    """Peak memory asked for, measured of every file, and over its budget."""
    record = full_record(budget=replace(BUDGET, memory_bytes=12_000_000))
    return replace(
        record,
        peak_bytes=13_400_000,
        variants=tuple(replace(one, peak_bytes=13_400_000) for one in record.variants),
        tried=tuple(replace(one, peak_bytes=10 * one.size_bytes) for one in record.tried),
    )


RECORDS: dict[str, Callable[[], Record]] = {
    "full": full_record,
    "missed": missed,
    "bare": bare,
    "with memory": with_memory,
    "two classes": lambda: full_record(classes=FRUIT[:2]),
    "many classes": lambda: full_record(classes=many_classes(120), budget=NO_BUDGET),
}


@pytest.fixture(params=RECORDS, scope="module")
def source(request: pytest.FixtureRequest) -> str:
    return render_report(RECORDS[request.param]())


def test_elements_are_nested_and_ids_unique(source: str) -> None:
    page = Page(source)
    assert page.open == []
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    targets = [href[1:] for href in page.values("href")] + page.values("aria-labelledby")
    assert targets
    assert set(targets) <= set(ids)


def test_headings_start_with_one_h1_and_skip_no_level(source: str) -> None:
    levels = [int(tag[1]) for tag, _ in Page(source).tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_nothing_is_fetched(source: str) -> None:
    page = Page(source)
    assert all(href.startswith("#") for href in page.values("href"))
    assert not page.values("src")
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert "@import" not in source
    assert "url(" not in (FOLDER / "style.css").read_text()


def test_report_is_below_six_megabytes(source: str) -> None:
    assert len(source.encode()) < 6_000_000


def test_plotly_is_there_once() -> None:
    library = plotly.offline.get_plotlyjs()
    assert "</script" not in library.lower()  # it would end the element it lies in
    assert render_report(full_record()).count(library) == 1


def test_the_same_record_gives_the_same_text() -> None:
    assert render_report(full_record()) == render_report(full_record())


def test_verdict_comes_first_with_its_figures() -> None:
    text = Page(render_report(full_record())).text
    first = text[: text.index("Everything that was tried")]
    for words in (
        "Budget met",
        "It fits: 2.10 ms of 5 ms and 1.86 MB of 4 MB.",
        "91.1 % 95 % interval 86.3 to 94.4 %; 175 of n = 192 images",
        "2.10 ms 95 % interval 2.06 to 2.16 ms; p95 2.39 ms; 1 thread; onnxruntime int8",
        "decoding an image file, not included: 1.37 ms",
        "of 5 ms · within",
        "of 4 MB · within",
    ):
        assert words in first
    assert "used for selection" not in first


def test_a_missed_budget_and_its_reservations_are_said() -> None:
    text = Page(render_report(missed())).text
    first = text[: text.index("Everything that was tried")]
    for words in (
        "Budget missed",
        "of 1.9 ms · over",
        "val, used for selection",
        "The latency cannot be trusted: another process kept a core busy",
    ):
        assert words in first


def test_no_budget_is_said() -> None:
    text = Page(render_report(bare())).text
    assert "No budget given" in text
    assert text.count("no limit asked") == 2


def test_essential_numbers_need_no_script() -> None:
    record = full_record()
    text = Page(render_report(record)).text
    for one in record.tried:
        assert one.network in text
    for words in (
        "ImageNet from the papers",
        "the reference itself",
        "✕ failed",
        "lemon orange 4 16.7 %",  # most frequent confusion
        "All 30 epochs as a table",
        "512 train images calibrate the ranges",
        "−0.4 points",
        "network.safetensors",
        "5d0c" * 16,
        "AMD EPYC 9R14",
        "avx512_vnni",
        record.command,
        "1 MB = 10⁶ bytes",
        "No file was skipped.",
    ):
        assert words in text


def test_absent_parts_are_said() -> None:
    text = Page(render_report(bare())).text
    assert "There was no training, so there are no curves." in text
    assert "No candidates were measured." in text
    assert "Nothing was verified from image files." in text


def test_harmful_names_stay_words() -> None:
    source = render_report(missed())
    page = Page(source)
    assert {tag for tag, _ in page.tags} == {
        tag for tag, _ in Page(render_report(full_record())).tags
    } | {
        "li",
        "ul",
    }
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    for name in HOSTILE:
        assert " ".join(name.split()) in page.text
    assert source.lower().count("<script") == 3


def test_embedded_json_cannot_end_its_element() -> None:
    source = render_report(missed())
    found = re.search(r'<script type="application/json" id="figures-data">(.*?)</script>', source)
    assert found is not None
    assert not set("<>&'\u2028\u2029") & set(found[1])
    figures = json.loads(found[1])
    assert figures["confusion"]["layout"]["xaxis"]["ticktext"][0].startswith("&lt;script&gt;")


def test_figures_that_json_cannot_hold_are_gaps() -> None:
    record = full_record(num_epochs=3)
    broken = replace(record.epochs[1], val_loss=math.nan, train_loss=math.inf)
    record = replace(record, epochs=(record.epochs[0], broken, record.epochs[2]))
    source = render_report(record)
    found = re.search(r'id="figures-data">(.*?)</script>', source)
    assert found is not None
    train, val = json.loads(found[1])["curves-loss"]["data"]
    assert train["y"][1] is None
    assert val["y"][1] is None
    assert "not finite" in Page(source).text


def test_a_long_list_of_skipped_files_is_cut_and_said() -> None:
    record = full_record()
    skipped = tuple(f"broken/{i}.jpg" for i in range(1234))
    text = Page(render_report(replace(record, data=replace(record.data, skipped=skipped)))).text
    assert "1,234 skipped files" in text
    assert "The first 200; record.json lists all." in text


def test_reading_order_is_chosen_fitting_others() -> None:
    rows = html.in_reading_order(full_record().tried)
    assert rows[0].chosen
    fits = [row.fits for row in rows]
    assert fits == sorted(fits, reverse=True)


def test_latency_is_over_when_its_upper_bound_is() -> None:
    just = replace(BUDGET, latency_ms=2.12)  # median 2.10, upper bound 2.16
    bars = {bar.label: bar for bar in html.budget_bars(full_record(budget=just))}
    assert bars["Latency"].over
    assert not bars["Size"].over


def test_memory_is_shown_where_it_was_measured() -> None:
    record = with_memory()
    text = Page(render_report(record)).text
    assert "Peak memory (resident) 13.4 MB to open the file and run it" in text
    assert "Peak memory 13.4 MB of 12 MB · over" in text
    assert text.count("13.4 MB") == 2 + len(record.variants)
    assert "peak_bytes" not in text
    bar = {bar.label: bar for bar in html.budget_bars(record)}["Peak memory"]
    assert bar.over
    assert "Peak memory" not in {bar.label for bar in html.budget_bars(full_record())}


def test_bars_stay_inside_their_box() -> None:
    for record in (full_record(), missed(), bare()):
        for bar in html.budget_bars(record):
            marks = [bar.fill, bar.limit_at, bar.low, bar.high]
            assert all(mark is None or 0 <= mark <= 100 for mark in marks)


def test_class_rows_count_each_class() -> None:
    record = full_record()
    rows = html.class_rows(record)
    assert sum(row.count for row in rows) == record.headline.n
    assert sum(row.right for row in rows) == record.headline.correct
    assert rows[0].recall == min(row.recall for row in rows)
    assert {row.name: row.taken_for for row in rows}["lemon"] == "orange"
    assert {row.name: row.taken_for for row in rows}["apple"] == ""


def test_a_class_without_images_has_no_recall() -> None:
    record = replace(full_record(classes=FRUIT[:2]), confusion=((0, 0), (1, 3)))
    assert [row.name for row in html.class_rows(record)] == ["banana"]


def test_steps_change_against_the_last_that_had_the_figure() -> None:
    steps = (
        Step(name="train", seconds=1, top1=0.9, size_bytes=4),
        Step(name="export", seconds=1),
        Step(name="quantize", seconds=1, top1=0.893, size_bytes=1),
    )
    rows = html.step_rows(steps)
    assert [row.top1_change for row in rows] == ["", "", "−0.7 points"]
    assert [row.size_change for row in rows] == ["", "", "×0.25"]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDS)
def test_a_browser_draws_it_without_complaint(name: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on PATH")
    page = tmp_path / "report.html"
    page.write_text(render_report(RECORDS[name]()), encoding="utf-8")
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
    assert drawn == len(all_figures(RECORDS[name]()))
    assert 'class="js"' in done.stdout
    assert "<img" not in re.sub(r"(?s)<script.*?</script>", "", done.stdout)
