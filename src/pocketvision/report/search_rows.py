"""What a search and a narrowing came to, as pages and cards tell it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pocketvision.budget import count_of, format_latency
from pocketvision.record.searched import (
    Narrowing,
    NarrowingProposal,
    NarrowingStep,
    Search,
    SearchedNetwork,
)
from pocketvision.record.words import Sampling
from pocketvision.report import text
from pocketvision.report.frontier import Point, is_drawable, unbeaten

METHODS: dict[Sampling, str] = {
    "evolution": "evolution",
    "random": "random search",
    "rl": "reinforcement learning",
    "work": "the most multiply-accumulates within the limit",
}

COUNTABLE = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchRows:
    """What the section about the search shows besides the record itself.

    members: of the space, in words. origins: how many networks each method asked for. methods: side
    by side; none where there is only one. in_turns: the files of the arms were timed so. front:
    those that none beats in latency, size and accuracy at once, the fastest first.
    """

    members: str
    method: str
    origins: str
    methods: tuple[MethodRow, ...]
    in_turns: bool
    front: tuple[SearchedNetwork, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodRow:
    """What a method came to with as many networks as each of the others scored.

    mean: accuracy of its most accurate tenth.
    """

    method: str
    scored: int
    best: SearchedNetwork
    mean: float


@dataclass(frozen=True, kw_only=True, slots=True)
class NarrowingRow:
    """One step, counted from the seed, which is 0; taken: the proposal that it took, if known."""

    number: int
    step: NarrowingStep
    taken: NarrowingProposal | None


def search_rows(found: Search | None) -> SearchRows | None:
    """Rows and words of a search; None where there was none."""
    if found is None:
        return None
    return SearchRows(
        members=members_words(found.members),
        method=METHODS[found.method],
        origins=origins_words(found.scored),
        methods=tuple(method_rows(found.scored)),
        in_turns=any(arm.in_turns for arm in found.arms),
        front=tuple(whole_front(found.scored)),
    )


def search_front(scored: Sequence[SearchedNetwork]) -> list[SearchedNetwork]:
    """Those that no other beats in both accuracy and latency, the fastest first."""

    def point(one: SearchedNetwork) -> Point:
        return one.latency_ms, one.accuracy

    return unbeaten([one for one in scored if is_drawable(point(one))], point)


def whole_front(scored: Sequence[SearchedNetwork]) -> list[SearchedNetwork]:
    """Those that no other beats in latency, size and accuracy at once, the fastest first."""
    front: list[tuple[SearchedNetwork, tuple[float, float, float]]] = []
    costs = [(one, (one.latency_ms, -one.accuracy, one.size_bytes)) for one in scored]
    for one, cost in sorted(costs, key=lambda pair: pair[1]):  # what beats one stands before it
        beaten = any(all(a <= b for a, b in zip(other, cost, strict=True)) for _, other in front)
        if all(map(math.isfinite, cost)) and not beaten:
            front.append((one, cost))
    return [one for one, _ in front]


def method_rows(scored: Sequence[SearchedNetwork]) -> list[MethodRow]:
    """The methods at equal evaluations, in the order of their names; none for one alone."""
    by_method = {origin: [one for one in scored if one.origin == origin] for origin in METHODS}
    found = {origin: networks for origin, networks in by_method.items() if networks}
    equal = min(map(len, found.values()), default=0)
    if len(found) < 2:
        return []
    rows = []
    for origin, networks in found.items():
        best = sorted(networks[:equal], key=lambda one: (-one.accuracy, one.latency_ms))
        tenth = best[: max(1, equal // 10)]
        rows.append(
            MethodRow(
                method=METHODS[origin],
                scored=equal,
                best=best[0],
                mean=sum(one.accuracy for one in tenth) / len(tenth),
            )
        )
    return rows


def members_words(members: int) -> str:
    """'352' and '1,024', but 'about 3.5e+29'."""
    return f"{members:,}" if members < COUNTABLE else f"about {members:.1e}"


def method_words(method: Sampling) -> str:
    """'rl' -> 'reinforcement learning'."""
    return METHODS[method]


def origins_words(scored: Sequence[SearchedNetwork]) -> str:
    """Networks by the method that asked for them: '1,900 by evolution, 200 by random search'."""
    counts = {origin: sum(one.origin == origin for one in scored) for origin in METHODS}
    by_count = sorted(counts.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{count:,} by {METHODS[origin]}" for origin, count in by_count if count)


def narrowing_rows(found: Narrowing | None) -> list[NarrowingRow]:
    """The steps from the seed on; none where nothing was narrowed."""
    if found is None:
        return []
    return [
        NarrowingRow(number=number, step=step, taken=_taken(step))
        for number, step in enumerate(found.steps)
    ]


def expected_word(found: Narrowing) -> str:
    """What is expected of steps and proposals."""
    return "accuracy" if found.metric == "top-1" else found.metric


def narrowing_sentence(found: Narrowing) -> str:
    """From where to where a network was narrowed, and what was asked for."""
    first, last, count = found.steps[0], found.steps[-1], len(found.steps) - 1
    if count:
        steps = count_of(count, "step")
        start, end = text.milliseconds(first.latency_ms), text.milliseconds(last.latency_ms)
        said = f"NetAdapt narrowed {found.seed} in {steps} from {start} to {end}"
    else:
        said = f"NetAdapt left {found.seed} as it is, at {text.milliseconds(first.latency_ms)}"
    return (
        f"{said}; {format_latency(found.target_ms)} were asked for, with {found.runtime} "
        f"{found.precision} and {text.threads(found.threads)}."
    )


def _taken(step: NarrowingStep) -> NarrowingProposal | None:
    return next((one for one in step.proposals if one.group == step.chosen), None)
