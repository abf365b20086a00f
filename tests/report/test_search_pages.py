"""How a network was searched for and narrowed: the front is right, and names stay words."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import HOSTILE, full_record
from search_records import LIMIT_MS, arms, narrowing, search
from test_charts import elements
from test_html import Page
from whole_records import whole_record

from pocketvision.record.run import Record
from pocketvision.record.searched import Narrowing, Search, SearchedNetwork
from pocketvision.report.arms_chart import arms_chart
from pocketvision.report.card import render_card
from pocketvision.report.chart import Chart
from pocketvision.report.frontier import MOST_MARKS, stairs, thinned
from pocketvision.report.html import render_report
from pocketvision.report.narrowing_chart import narrowing_chart
from pocketvision.report.search_chart import search_chart
from pocketvision.report.search_rows import (
    method_rows,
    narrowing_rows,
    narrowing_sentence,
    origins_words,
    search_front,
    whole_front,
)
from pocketvision.storage import from_json, to_json


def chart_of(found: Search | Narrowing) -> Chart:
    chart = search_chart(found) if isinstance(found, Search) else narrowing_chart(found)
    assert chart is not None
    return chart


def page_of(found: Search | Narrowing | None) -> Page:
    """The page of a record that holds nothing of the kind but this."""
    record = full_record()
    if isinstance(found, Search):
        record = replace(record, search=found)
    elif found is not None:
        record = replace(record, narrowing=found)
    return Page(render_report(record))


def scored(*points: tuple[float, float]) -> tuple[SearchedNetwork, ...]:
    one = search().scored[0]
    return tuple(replace(one, latency_ms=ms, accuracy=accuracy) for ms, accuracy in points)


def spaced(text: str) -> str:
    return " ".join(text.split())


def is_beaten(one: SearchedNetwork, others: Sequence[SearchedNetwork]) -> bool:
    return any(
        other.latency_ms <= one.latency_ms
        and other.accuracy >= one.accuracy
        and (other.latency_ms, other.accuracy) != (one.latency_ms, one.accuracy)
        for other in others
    )


def test_the_front_of_a_search_holds_those_that_none_beats() -> None:
    found = search(400).scored
    front = search_front(found)
    assert len(front) > 3
    assert all(is_beaten(one, found) != (one in front) for one in found)
    assert front == sorted(front, key=lambda one: one.latency_ms)


def test_the_whole_front_minds_the_size_too() -> None:
    found = search(200).scored
    front = whole_front(found)
    assert set(map(id, search_front(found))) < set(map(id, front))

    def beats(other: SearchedNetwork, one: SearchedNetwork) -> bool:
        return other is not one and (
            other.latency_ms <= one.latency_ms
            and other.size_bytes <= one.size_bytes
            and other.accuracy >= one.accuracy
        )

    assert all(any(beats(other, one) for other in found) != (one in front) for one in found)
    broken = replace(found[0], accuracy=float("nan"))
    assert whole_front((broken,)) == []


def test_methods_are_compared_at_equal_evaluations() -> None:
    rows = method_rows(search(120).scored)  # 60 by evolution, 30 by each of the others
    assert [(row.method, row.scored) for row in rows] == [
        ("evolution", 30),
        ("random search", 30),
        ("reinforcement learning", 30),
    ]
    own = [one for one in search(120).scored if one.origin == "evolution"][:30]
    best = sorted((one.accuracy for one in own), reverse=True)
    assert rows[0].best.accuracy == best[0]
    assert rows[0].mean == pytest.approx(sum(best[:3]) / 3)
    assert method_rows(scored((1.0, 0.5))) == method_rows(()) == []
    text = page_of(search()).text
    assert "The methods at equal evaluations" in text
    assert f"reinforcement learning 30 {rows[2].best.accuracy:.1%}".replace("%", " %") in text
    assert "at equal evaluations" not in page_of(replace(search(), scored=scored((1, 0.5)))).text


def test_files_that_were_timed_in_turns_have_a_column_of_their_own() -> None:
    text = page_of(search()).text
    assert "In turns" in text
    assert "2.04 ms" in text
    assert "and are compared by that" in text
    alone = tuple(replace(arm, in_turns=None) for arm in arms())
    assert "n turns" not in page_of(replace(search(), arms=alone)).text


def test_the_front_is_drawn_as_steps_up_to_the_limit() -> None:
    found = replace(search(), scored=scored((1.0, 0.5), (2.0, 0.8), (1.5, 0.4)))
    chart = chart_of(found)
    assert len(elements(chart.wide, "best")) == 2
    assert len(elements(chart.wide, "scored")) == 1
    corners = re.findall(r"([\d.]+) ([\d.]+)", elements(chart.wide, "front")[0]["d"])
    (a, low), (b, still), (c, high), (end, last) = corners
    assert low == still
    assert high == last
    assert b == c
    assert float(a) < float(b) < float(end)
    assert float(end) == pytest.approx(float(elements(chart.wide, "veil")[0]["x"]), abs=0.2)
    assert ">limit 2.4 ms</text>" in chart.wide


def test_arms_are_drawn_by_their_files_with_intervals_and_the_budget() -> None:
    found = search()
    chart = arms_chart(found, full_record().budget)
    assert chart is not None
    assert [key.words for key in chart.keys] == ["search", "multipliers", "front", "shipped"]
    for drawing in (chart.wide, chart.narrow):
        (best,), (rival,) = elements(drawing, "evolution"), elements(drawing, "second")
        assert len(elements(drawing, "interval")) == 4
        assert len(elements(drawing, "ring")) == 1
        assert elements(drawing, "ring")[0]["cx"] == best["cx"]
        assert spaced(HOSTILE[0]) in spaced(best["data-tip"])
        assert "multipliers: mobilenet_v3_small x0.75 @128" in rival["data-tip"]
        assert "2.16 ms" in rival["data-tip"]  # in turns, not at the end of its own arm
    assert "search 89.6 % at 2.04 ms, multipliers 87.5 % at 2.16 ms" in chart.alt


def test_fewer_than_two_files_are_no_chart() -> None:
    found, budget = search(), full_record().budget
    assert arms_chart(None, budget) is None
    assert arms_chart(replace(found, arms=(found.arms[0], found.arms[2])), budget) is None


def test_arms_without_a_budget_of_latency_or_with_another_name_are_drawn_too() -> None:
    first, second, _ = search().arms
    found = replace(search(), arms=(first, replace(second, name="<b>")))
    chart = arms_chart(found, replace(full_record().budget, latency_ms=None))
    assert chart is not None
    assert not elements(chart.wide, "veil")
    assert [key.words for key in chart.keys][:2] == ["search", "<b>"]


def test_stairs_go_right_before_they_go_up() -> None:
    assert stairs([(1.0, 50.0), (2.0, 70.0)], 3.0) == [(1, 50), (2, 50), (2, 70), (3, 70)]


def test_methods_have_marks_of_their_own_and_are_named() -> None:
    chart = chart_of(search())
    assert [key.words for key in chart.keys] == [
        "evolution",
        "random search",
        "reinforcement learning",
        "front",
    ]
    assert all("r" in one for one in elements(chart.wide, "evolution"))
    assert all("d" in one for one in elements(chart.wide, "random"))
    assert len(elements(chart.wide, "rl")) == 30
    alone = replace(search(), scored=scored((1.0, 0.5)))
    assert [key.words for key in chart_of(alone).keys] == ["random search", "front"]


def test_thinning_keeps_the_front_and_is_said() -> None:
    found = search(5_000)
    chart = chart_of(found)
    front = search_front(found.scored)
    for drawing in (chart.wide, chart.narrow):
        best, others = elements(drawing, "best"), elements(drawing, "scored")
        assert len(best) == len(front)
        assert len(best) + len(others) == MOST_MARKS
        tips = {spaced(one["data-tip"]) for one in best}
        assert all(any(f"{one.latency_ms:.3g}" in tip for tip in tips) for one in front)
    assert f"{MOST_MARKS} of the 5,000 are drawn: the whole front" in chart.how_to_read
    assert "thinned" not in chart_of(search(120)).how_to_read
    shares = [len(elements(chart.wide, one)) / MOST_MARKS for one in ("random", "rl")]
    assert min(shares) > 0.15


def test_a_front_of_more_than_a_chart_holds_is_drawn_whole() -> None:
    points = [(1 + k / 1000, 0.5 + k / 1000) for k in range(MOST_MARKS + 40)]
    found = replace(search(), scored=scored(*points, (1.3, 0.5)))
    chart = chart_of(found)
    assert len(elements(chart.wide, "best")) == MOST_MARKS + 40
    assert elements(chart.wide, "scored") == []


@given(st.integers(0, 500), st.integers(0, 50))
def test_thinning_is_even(count: int, most: int) -> None:
    kept = thinned(range(count), most)
    assert len(kept) == min(count, most)
    gaps = {after - before for before, after in itertools.pairwise(kept)}
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(
    ("points", "logarithmic"),
    [([(1.0, 0.5), (2.3, 0.6)], False), ([(0.2, 0.5), (2.3, 0.6)], True)],
)
def test_an_axis_is_logarithmic_where_latencies_are_far_apart(
    points: list[tuple[float, float]], logarithmic: bool
) -> None:
    chart = chart_of(replace(search(), scored=scored(*points)))
    assert ("logarithmic" in chart.wide) == logarithmic


def test_what_is_no_number_is_not_drawn() -> None:
    found = replace(search(), scored=scored((math.nan, 0.5), (1.0, math.nan), (1.0, 0.6)))
    chart = chart_of(found)
    assert len(elements(chart.wide, "mark")) == 1
    assert search_chart(replace(found, scored=found.scored[:2])) is None
    assert search_chart(replace(found, scored=())) is None
    assert search_chart(None) is None
    steps = narrowing().steps
    lost = replace(steps[2], accuracy=math.nan)
    broken = replace(narrowing(), steps=(*steps[:2], lost, *steps[3:]))
    assert "nan" not in chart_of(broken).wide
    assert narrowing_chart(replace(broken, steps=(lost,))) is None
    assert narrowing_chart(None) is None


def test_a_narrowing_is_a_path_from_the_seed_to_a_ring() -> None:
    found = narrowing()
    chart = chart_of(found)
    assert len(elements(chart.wide, "fits")) == len(found.steps)
    assert len(elements(chart.wide, "proposal")) == sum(len(one.proposals) for one in found.steps)
    line = re.findall(r"([\d.]+) ([\d.]+)", elements(chart.wide, "path")[0]["d"])
    across = [float(x) for x, _ in line]
    assert len(across) == len(found.steps)
    assert across == sorted(across, reverse=True)
    ring = elements(chart.wide, "ring")[0]
    assert (ring["cx"], ring["cy"]) == line[-1]
    assert ">seed</text>" in chart.wide
    assert ">target 2.2 ms</text>" in chart.wide


def test_many_proposals_are_all_drawn_as_one_path() -> None:
    groups = [f"blocks.{k}.expansion" for k in range(60)]
    chart = chart_of(narrowing(30, groups))
    assert elements(chart.wide, "proposal") == []
    (dots,) = elements(chart.wide, "proposals")
    assert dots["d"].count("M") == 30 * 60
    assert len(chart.wide) < 60_000


def test_rows_of_a_narrowing_know_the_width_that_was_taken() -> None:
    found = narrowing()
    first, *others = narrowing_rows(found)
    assert (first.number, first.taken) == (0, None)
    for row in others:
        assert row.taken in row.step.proposals
        assert row.taken is not None
        assert row.taken.group == row.step.chosen
    assert narrowing_rows(None) == []


def test_a_sentence_says_from_where_to_where_it_was_narrowed() -> None:
    found = replace(narrowing(1), seed="mobilenet_v2 @96", threads=2)
    asked = "2.2 ms were asked for, with onnxruntime int8 and 2 threads."
    start = "NetAdapt narrowed mobilenet_v2 @96 in 1 step from 4.10 ms to 3.69 ms; "
    assert narrowing_sentence(found) == start + asked
    unchanged = "NetAdapt left mobilenet_v2 @96 as it is, at 4.10 ms; "
    assert narrowing_sentence(replace(found, steps=found.steps[:1])) == unchanged + asked


def test_origins_are_counted_the_most_first() -> None:
    words = "60 by evolution, 30 by random search, 30 by reinforcement learning"
    assert origins_words(search().scored) == words
    assert origins_words(()) == ""


def test_the_page_says_what_the_search_gave_and_what_its_figures_are() -> None:
    page = page_of(search())
    for words in (
        "The search was worth its time: it gets 2.1 points more than multipliers.",
        "The same time and data, otherwise",
        "89.6 % 84.5 to 93.2 %, n = 192",
        "noisy: another process kept a core busy",
        "came to nothing: no file of it is within 2.4 ms",
        "v3_small with about 1.2e+12 members",
        "120 networks: 60 by evolution",
        "480 training images that were held out",
        "the sum over a table of blocks",
        "the weights that all members share, batch norms measured anew for each",
        "neither val nor test",
        "The front as a table",
    ):
        assert words in page.text
    for one in search_front(search().scored):
        assert spaced(one.described) in page.text
    assert page.text.count("shipped") > page_of(None).text.count("shipped")


def test_way_that_came_to_nothing_says_why_below_the_table() -> None:
    found = replace(search(), arms=arms()[:2])
    assert "came to nothing: no file" in page_of(search()).text
    assert "came to nothing" not in page_of(found).text
    assert "The same time and data" not in page_of(replace(found, arms=())).text


def test_a_search_that_scored_nothing_shows_its_ways_alone() -> None:
    page = page_of(replace(search(), scored=()))
    assert "The same time and data, otherwise" in page.text
    assert "chart-search" not in page.values("id")
    assert "The front as a table" not in page.text


def test_the_page_tells_every_step_of_a_narrowing() -> None:
    found = narrowing()
    text = page_of(found).text
    for words in (
        spaced(narrowing_sentence(found)),
        f"0 the seed: {spaced(found.seed)} 4.10 ms 90.0 % –",
        "The latency of a step is measured",
        "fine-tuned briefly",
        "neither val nor test",
    ):
        assert words in text
    for row in narrowing_rows(found)[1:]:
        assert row.taken is not None
        assert f"{row.number} {row.step.chosen} made {row.taken.width} wide" in text


def test_latencies_of_a_target_are_not_said_to_be_measured() -> None:
    text = page_of(replace(narrowing(), target="onnxruntime int8 on Cortex-A76")).text
    assert "sums over the table of onnxruntime int8 on Cortex-A76; nothing was measured" in text
    assert "Latency, by table" in text
    assert "The latency of a step is measured" not in text


def test_parts_are_there_with_their_figures_and_in_order() -> None:
    hrefs = Page(render_report(whole_record())).values("href")
    assert hrefs[1:5] == ["#tried", "#search", "#narrowing", "#variants"]
    old = page_of(None)
    assert not {"search", "narrowing", "chart-search"} & set(old.values("id"))
    assert "narrowing" not in page_of(search()).values("id")
    assert "search" not in page_of(narrowing()).values("id")


def test_names_of_members_groups_and_notes_stay_words() -> None:
    groups = list(HOSTILE)
    found = replace(narrowing(8, groups), seed=HOSTILE[1])
    source = render_report(replace(whole_record(), search=search(), narrowing=found))
    page = Page(source)
    plain = {tag for tag, _ in Page(render_report(full_record())).tags}
    assert not {"a", "b", "img"} & ({tag for tag, _ in page_of(found).tags} - plain)
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert not any("javascript:" in (href or "") for href in page.values("href"))
    tips = {spaced(tip) for tip in page.values("data-tip")}
    for name in HOSTILE:
        assert any(tip.startswith(f"{spaced(name)} made") for tip in tips)


def test_long_choices_are_clipped_in_tips_alone() -> None:
    long = tuple(replace(one, described="k3 " * 400) for one in scored((1.0, 0.5)))
    found = replace(search(), scored=long)
    assert len(elements(chart_of(found).wide, "best")[0]["data-tip"]) < 250
    assert spaced("k3 " * 400) in page_of(found).text


def test_thousands_of_networks_leave_the_page_light() -> None:
    record = replace(whole_record(), search=search(5_000), narrowing=narrowing(40, ["x"] * 60))
    assert len(render_report(record).encode()) < 600_000


def test_the_card_says_both_in_a_line() -> None:
    found = replace(search(), sentence="It *was*\n| <b>worth</b> it.")
    card = render_card(replace(full_record(), search=found, narrowing=narrowing(2)))
    said = "How the network was searched for: It \\*was\\* \\| &lt;b&gt;worth&lt;/b&gt; it."
    assert f"\n\n{said}\n\nHow the network was narrowed: NetAdapt narrowed" in card
    assert "in 2 steps from 4.10 ms to 3.32 ms; 2.2 ms were asked for" in card
    old = render_card(full_record())
    assert "searched for" not in old
    assert "narrowed" not in old


def test_both_survive_the_file() -> None:
    record = whole_record()
    assert from_json(Record, to_json(record), source="record.json") == record
    assert max(one.latency_ms for one in search().scored) <= LIMIT_MS
