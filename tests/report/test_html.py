import itertools
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from dense_records import detector_record, segmenter_record
from records import BUDGET, FRUIT, HOSTILE, NO_BUDGET, full_record, latency, many_classes
from whole_records import missed_record, whole_record

from pocketvision.record.run import Record, Verdict
from pocketvision.report import rows
from pocketvision.report.html import FINDINGS_SHOWN, STYLES, render_report, script_hash
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
    "first schema": full_record,
    "whole": whole_record,
    "nothing shipped": missed_record,
    "hostile names": lambda: whole_record(full_record(classes=HOSTILE)),
    "missed": missed,
    "bare": bare,
    "with memory": with_memory,
    "segmenter": segmenter_record,
    "detector": detector_record,
    "segmenter of hostile names": lambda: segmenter_record(classes=HOSTILE[:3]),
    "detector of hostile names": lambda: detector_record(classes=HOSTILE[:3]),
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
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.values("src"))
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.tags}
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert "@import" not in source
    assert not any("url(" in (FOLDER / name).read_text() for name in STYLES)


def test_report_is_a_light_file(source: str) -> None:
    assert len(source.encode()) < 400_000


def test_a_thousand_classes_stay_below_a_megabyte_and_a_half() -> None:
    record = whole_record(full_record(classes=many_classes(1000), per_class=10))
    source = render_report(record)
    assert len(source.encode()) < 1_500_000
    page = Page(source)
    assert "1000 classes are too many for a heat map" in page.text
    assert "search-classes" in page.values("for")


def test_one_script_runs_and_it_is_ours(source: str) -> None:
    page = Page(source)
    script = (FOLDER / "page.js").read_text()
    assert "</script" not in script.lower()  # it would end the element it lies in
    assert source.lower().count("<script") == 1
    assert script in page.scripts
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert f"script-src '{script_hash(script)}';" in (policy or "")


def test_the_same_record_gives_the_same_text() -> None:
    assert render_report(full_record()) == render_report(full_record())


def test_verdict_comes_first_with_its_figures() -> None:
    text = Page(render_report(full_record())).text
    first = text[: text.index("Everything that was tried")]
    assert first.index("Budget met") < first.index("It fits") < first.index("91.1 %")
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
        "ImageNet from the papers or their authors’ checkpoints",
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


def test_absent_parts_are_left_out_with_their_links() -> None:
    page = Page(render_report(bare()))
    headings = ("tried", "variants", "classes", "mistakes", "calibration", "learning", "speed")
    assert not set(headings) & set(page.values("id"))
    assert page.values("href") == ["#main", "#data", "#provenance", "#definitions"]
    assert "mistakes" not in Page(render_report(full_record())).values("id")


def test_everything_a_record_holds_is_on_the_page() -> None:
    record = whole_record()
    text = Page(render_report(record)).text
    for words in (
        "With 8 images in one run: 612 images/s (95 % interval 598 to 625",
        "train 11 m 12 m planned",
        "QLinearConv 20",  # by kind
        "33 others",
        "1.2 % of the time of all cores",
        "performance",
        "Calibration error (ECE) 6.1 % on test, n = 192, ten bins",
        "Temperature 1.38 , fitted on val: probabilities are too high as they come",
        "ECE with the temperature 1.8 %",
        "✕ Error 3 images of test lie in train as well; take them out of train.",
        "! Warning Train is 9.7 points above val",
        "a gap of +9.7 points",
        "14 of the 17 images of test that were named wrongly",
        "52 of its 54 convolutions and matrix products run in integers: 98.7 %",
        "64.1 to 93.3 %",  # the interval of a recall
        "INT8 with 2 layers in float was shipped: it loses 0.5 points of at most 1.",
    ):
        assert words in text
    for one in record.mistakes:
        assert one.path in text


def test_nothing_shipped_is_said_first() -> None:
    text = Page(render_report(missed_record())).text
    first = text[: text.index("Everything that was tried")]
    assert "Budget missed" in first
    assert "Nothing was shipped: model/ is empty" in first
    assert "with the file that came nearest, from image files" in text
    assert "What lies in model/" not in text


def test_errors_of_the_training_stand_beside_the_verdict() -> None:
    record = whole_record()
    alarm = replace(record.alarms[0], severity="error", sentence="It learned one class only.")
    text = Page(render_report(replace(record, alarms=(alarm,)))).text
    assert text.index("It learned one class only.") < text.index("Everything that was tried")


def test_many_findings_are_cut_and_said() -> None:
    record = whole_record()
    findings = record.findings[:1] * (FINDINGS_SHOWN + 7)
    text = Page(render_report(replace(record, findings=findings))).text
    assert f"The first {FINDINGS_SHOWN} of {FINDINGS_SHOWN + 7}; record.json lists all." in text


def test_temperature_on_its_own_images_is_said() -> None:
    record = whole_record()
    assert record.calibration is not None
    found = replace(record.calibration, split="val", temperature=0.8)
    text = Page(render_report(replace(record, calibration=found))).text
    assert "1.8 % , on the images it was fitted on" in text
    assert "probabilities are too low as they come" in text


def test_harmful_names_stay_words() -> None:
    source = render_report(whole_record(full_record(classes=HOSTILE)))
    page = Page(source)
    assert {tag for tag, _ in page.tags} == {
        tag for tag, _ in Page(render_report(whole_record())).tags
    }
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert not any("javascript:" in (href or "") for href in page.values("href"))
    for name in HOSTILE:
        assert " ".join(name.split()) in page.text


def test_figures_that_are_no_numbers_leave_gaps() -> None:
    record = full_record(num_epochs=3)
    broken = replace(record.epochs[1], val_loss=math.nan, train_loss=math.inf)
    record = replace(record, epochs=(record.epochs[0], broken, record.epochs[2]))
    source = render_report(record)
    assert "not finite" in Page(source).text
    assert not re.search(r'="[^"]*(nan|inf)\b', source)


def test_a_long_list_of_skipped_files_is_cut_and_said() -> None:
    record = full_record()
    skipped = tuple(f"broken/{i}.jpg" for i in range(1234))
    text = Page(render_report(replace(record, data=replace(record.data, skipped=skipped)))).text
    assert "1,234 skipped files" in text
    assert "The first 200; record.json lists all." in text


def test_memory_is_shown_where_it_was_measured() -> None:
    record = with_memory()
    text = Page(render_report(record)).text
    assert "Peak memory (resident) 13.4 MB to open the file and run it" in text
    assert "Peak memory 13.4 MB of 12 MB · over" in text
    assert text.count("13.4 MB") == 2 + len(record.variants)
    assert "peak_bytes" not in text
    bar = {bar.label: bar for bar in rows.budget_bars(record)}["Peak memory"]
    assert bar.over
    assert "Peak memory" not in {bar.label for bar in rows.budget_bars(full_record())}
