"""Which arm of a search ships, and what is said of the search beside the others."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from pocketvision.intervals import wilson
from pocketvision.models.space import Member
from pocketvision.models.spaces import V3_SMALL
from pocketvision.record.scores import Score
from pocketvision.record.searched import Arm
from pocketvision.record.timing import Latency
from pocketvision.record.words import Sampling
from pocketvision.searching.search_config import Finalist
from pocketvision.searching.search_verdict import best_of, by_chance, sentence_of, verdict

LATENCY = Latency(median_ms=1.0, p95_ms=1.0, low_ms=1.0, high_ms=1.0, runs=9, threads=1)


def accuracy(correct: int) -> Score:
    low, high = wilson(correct, 100)
    return Score(value=correct / 100, low=low, high=high, correct=correct, n=100)


def arm(name: str, correct: int | None, ms: float = 1.0) -> Arm:
    latency = Latency(median_ms=ms, p95_ms=ms, low_ms=ms, high_ms=ms, runs=9, threads=1)
    return Arm(
        name=name,
        network=f"network of {name}",
        latency=None if correct is None else latency,
        size_bytes=None if correct is None else 1,
        accuracy=None if correct is None else accuracy(correct),
        seconds=1.0,
        shipped=False,
        note="" if correct is not None else "too slow",
    )


@pytest.mark.parametrize(
    ("arms", "best", "sentence"),
    [
        (
            (arm("search", 90), arm("multipliers", 50)),
            "search",
            r"worth its time: 90\.0%",
        ),
        ((arm("search", 52), arm("multipliers", 50)), "search", "so this may be chance"),
        (
            (arm("search", 50), arm("multipliers", 52)),
            "multipliers",
            "did not beat",
        ),
        ((arm("search", 50), arm("multipliers", 50, ms=0.9)), "multipliers", "did not beat"),
        ((arm("search", None), arm("multipliers", 50)), "multipliers", "to nothing: too slow"),
        (
            (arm("search", 50), arm("multipliers", None)),
            "search",
            "Nothing that needs no search came",
        ),
        ((arm("search", 50),), "search", "Nothing that needs no search was trained beside it"),
    ],
)
def test_the_best_ships_and_it_is_said_whether_searching_was_worth_it(
    arms: tuple[Arm, ...], best: str, sentence: str
) -> None:
    found = best_of(arms)
    assert found is not None
    assert found.name == best
    assert re.search(sentence, sentence_of(arms))


def test_arms_are_compared_by_what_their_files_take_in_turns() -> None:
    in_turns = replace(LATENCY, median_ms=0.7)
    slower = replace(arm("search", 50, ms=0.9), in_turns=replace(LATENCY, median_ms=0.8))
    faster = replace(arm("multipliers", 50, ms=1.1), in_turns=in_turns)
    assert best_of((slower, faster)) is faster
    sentence = sentence_of((slower, faster))
    assert "of val at 0.8 ms, against 50.0% at 0.7 ms of multipliers" in sentence


@pytest.mark.parametrize(
    ("arms", "best", "sentence"),
    [
        (
            (arm("search", 90), arm("random", 50), arm("multipliers", 40)),
            "search",
            r"worth its time: 90\.0% .* against 40\.0% .* of multipliers .*, with the same "
            r"supernet, time and number of scores, came to 50\.0% at 1 ms \(network of random\)\.$",
        ),
        (
            (arm("search", 50), arm("random", 52), arm("multipliers", 40)),
            "random",
            r"worth its time.* 52\.0% .*; their intervals overlap, so this may be chance\. That is "
            r"what ships\.$",
        ),
        (
            (arm("search", 50), arm("random", 90), arm("multipliers", 60)),
            "random",
            r"did not beat what needs none: [^.]*50\.0%.* the same time\. Random search .*90\.0%.* "
            r"That is what ships\.$",
        ),
        (
            (arm("search", 50), arm("random", None)),
            "search",
            r"Nothing that needs no search .* Random search came to nothing: too slow$",
        ),
        (
            (arm("search", None), arm("random", 50), arm("multipliers", None)),
            "random",
            r"search came to nothing: too slow Random search .*50\.0%.* That is what ships\.$",
        ),
    ],
)
def test_random_search_is_told_by_itself(arms: tuple[Arm, ...], best: str, sentence: str) -> None:
    found = best_of(arms)
    assert found is not None
    assert found.name == best
    assert re.search(sentence, verdict(arms, None, "evolution", ()))


@pytest.mark.parametrize(
    ("origin", "method", "drawn", "told"),
    [
        ("evolution", "evolution", False, []),
        (
            "random",
            "rl",
            True,
            [
                "The network of the search was found by random search, which scored as many "
                "members as the controller."
            ],
        ),
        (
            "evolution",
            "evolution",
            True,
            ["Random search came upon the network of the search too."],
        ),
    ],
)
def test_what_random_search_found_is_not_told_as_the_method_s(
    origin: Sampling, method: Sampling, drawn: bool, told: list[str]
) -> None:
    member: Member = V3_SMALL.largest()
    found = Finalist(member=member, latency=LATENCY, accuracy=0.5, origin=origin)
    assert by_chance(found, method, {member} if drawn else ()) == told
    assert by_chance(None, method, ()) == []
