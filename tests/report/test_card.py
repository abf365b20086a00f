import re
from dataclasses import replace

import pytest
from records import BUDGET, FRUIT, HOSTILE, NO_BUDGET, full_record, latency
from whole_records import missed_record, whole_record

from pocketvision.record.run import Verdict
from pocketvision.report.card import render_card


def test_card_says_what_it_is_and_how_to_run_it() -> None:
    card = render_card(full_record())
    for words in (
        "# mobilenet\\_v3\\_small x0.75 @128",
        "**Budget met.** It fits: 2.10 ms of 5 ms and 1.86 MB of 4 MB.",
        "python model/run.py photo.jpg",
        "pocketvision predict . photo.jpg",
        "91.1 % (95 % interval 86.3 to 94.4 %, n = 192) | test;",
        "2.10 ms median (95 % interval 2.06 to 2.16 ms, p95 2.39 ms, 1 thread, batch 1, 400 runs)",
        "1.86 MB (1,860,000 bytes)",
        "The budget was 5 ms and 4 MB with 1 thread",
        "| 3 | golden kiwi | 123 | 24 | 24 |",
        "- val: 192 images, set aside",
        "Not measured:",
        "AMD EPYC 9R14, 2 cores",
        "pocketvision fit photos/ --latency 5ms",
        "## Licence",
    ):
        assert words in card


def test_memory_is_said_where_it_was_measured() -> None:
    record = full_record(budget=replace(BUDGET, memory_bytes=20_000_000))
    measured = replace(
        record,
        peak_bytes=13_400_000,
        variants=tuple(replace(one, peak_bytes=13_400_000) for one in record.variants),
    )
    card = render_card(measured)
    assert "| Peak memory | 13.4 MB | resident, of a process that opens `model/`" in card
    assert "The budget was 5 ms and 4 MB and 20 MB of memory with 1 thread" in card
    assert "| 1.86 MB | 13.4 MB | passed | within |" in card
    assert "resident memory" not in card
    assert "| 1.86 MB | – | passed | within |" in render_card(record)
    assert "energy, resident memory, and any other device" in render_card(record)


def test_the_same_record_gives_the_same_card() -> None:
    assert render_card(full_record()) == render_card(full_record())
    assert render_card(full_record()).endswith(".\n")


def test_headings_are_in_order_and_tables_whole() -> None:
    card = render_card(full_record())
    headings = re.findall(r"^(#+) ", card, flags=re.MULTILINE)
    assert headings[0] == "#"
    assert set(headings[1:]) == {"##"}
    for block in re.findall(r"(?:^\|.*\n)+", card, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1


def test_harmful_names_stay_words_in_their_cells() -> None:
    record = full_record(classes=HOSTILE)
    card = render_card(record)
    assert "<" not in card
    assert "\u2028" not in card
    rows = re.findall(r"^\| \d+ \| .* \|$", card, flags=re.MULTILINE)
    assert len(rows) == len(HOSTILE)
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in rows)
    assert r"\[a\](http\://a.example)" in card


def test_a_command_cannot_leave_its_fence() -> None:
    card = render_card(replace(full_record(), command="fit\n```\n# no heading"))
    assert "````\nfit\n```\n# no heading\n````" in card


def test_reservations_are_said() -> None:
    record = full_record(
        budget=replace(BUDGET, latency_ms=1.9),
        verdict=Verdict(met=False, sentence="2.10 ms were measured, and 1.9 ms were asked."),
    )
    record = replace(
        record,
        latency=latency(2.1, "a core was busy"),
        data=replace(record.data, headline_split="val", skipped=("a.jpg", "b.jpg")),
    )
    card = render_card(record)
    assert "**Budget missed.**" in card
    assert "val, used for selection" in card
    assert "**cannot be trusted: a core was busy**" in card
    assert "skipped files: 2" in card


def test_no_budget_is_said() -> None:
    card = render_card(
        full_record(
            classes=FRUIT[:2], budget=NO_BUDGET, verdict=Verdict(met=None, sentence="Done.")
        )
    )
    assert "**No budget given.** Done." in card
    assert "No budget was given." in card


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("from scratch", "follows from the rights in that data."),
        ("from scratch, at first in a supernet", "follows from the rights in that data."),
        ("imagenet.safetensors", "and from the licence of those weights."),
    ],
)
def test_licence_follows_the_origin_of_the_weights(start: str, words: str) -> None:
    record = full_record()
    assert words in render_card(replace(record, network=replace(record.network, start=start)))


def test_run_py_is_named_only_where_it_lies() -> None:
    record = full_record()
    shipped = replace(record.shipped, files={"model.xml": "0" * 64, "model.bin": "1" * 64})
    assert "run.py" not in render_card(replace(record, shipped=shipped))


def test_what_a_record_holds_more_is_said() -> None:
    card = render_card(whole_record())
    for words in (
        "| Throughput | 612 images/s (95 % interval 598 to 625) | 8 images in one run, 1 thread |",
        "| Calibration error (ECE) | 6.1 %; 1.8 % with logits divided by 1.38 | test;",
        "- error: 3 images of test lie in train as well; take them out of train.",
        "- warning in training: Train is 9.7 points above val",
    ):
        assert words in card
    assert "val was set aside by content" not in card  # a note
    assert "trusted as probabilities" not in card
    assert "trusted as probabilities" in render_card(full_record())


def test_what_the_integers_cost_is_one_line() -> None:
    record = whole_record()
    assert record.quantization is not None
    harmful = replace(record.quantization, sentence="It *loses*\n| <b>nothing</b>.")
    card = render_card(replace(record, quantization=harmful))
    assert "\n\nWhat the integers cost: It \\*loses\\* \\| &lt;b&gt;nothing&lt;/b&gt;.\n\n" in card
    assert "integers cost: INT8 with 2 layers in float was shipped" in render_card(record)
    assert "integers cost" not in render_card(full_record())


def test_a_card_of_nothing_shipped_does_not_say_how_to_run_it() -> None:
    card = render_card(missed_record())
    assert "**Budget missed.**" in card
    assert "Nothing was shipped: the figures are those of the file that came nearest" in card
    assert "## How to run" not in card
    assert "test; the file that came nearest, from image files" in card
