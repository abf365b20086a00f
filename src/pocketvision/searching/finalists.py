"""Which of the members that were scored is the best: the sum over the table is not trusted, so the
best by it are timed whole."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pocketvision.fitting.ranking import Measured, may_fit
from pocketvision.measure.count import count
from pocketvision.models.space import Member
from pocketvision.record.words import Sampling
from pocketvision.searching.search_config import Finalist, LoggedScore
from pocketvision.searching.search_log import ScoreLog
from pocketvision.searching.search_run import Searching
from pocketvision.searching.search_scoring import MeasuredLimit, scoring_work, time_scored

FINALISTS, MOST_FINALISTS = 8, 40  # members timed whole; and where none is fast enough
ALIKE = 6  # of the best members, whose answers say what chance does to scores


def chance_among_the_best(searching: Searching, log: ScoreLog) -> float:
    """By how much scores of equally good members may differ, as the answers of the best say."""
    scored = sorted(log.entries, key=lambda one: -one.accuracy)
    best = list(dict.fromkeys(one.member for one in scored))[:ALIKE]
    scorer, answers = scoring_work(searching).open(), []
    with searching.reporter.progress("Comparing the best members") as advance:
        for number, member in enumerate(best):
            advance(number, len(best), "")
            answers.append(scorer.answers(member))
    return chance_between(answers)


def chance_between(answers: Sequence[Tensor]) -> float:
    """By how much the mean answers of equally good members may differ: three standard errors, since
    one of them is the best of hundreds. 0.0 for fewer than two.

    answers: (N,) of each member to the same images. The standard error is of differences, image by
    image, and the median over all pairs.
    """
    errors = [
        float(torch.std(one - other)) / math.sqrt(len(one))
        for one, other in itertools.combinations(answers, 2)
    ]
    return 3 * statistics.median(errors) if errors else 0.0


def best_finalist(
    searching: Searching, log: ScoreLog, ways: Collection[Sampling], chance: float
) -> Finalist:
    """The best of all members that these ways to search scored, of those timed whole.

    Scores that differ by no more than `chance` count as equal. Where none is within the limits, the
    next are timed; in the end, the fastest is taken.
    """
    measured, generations = MeasuredLimit(searching), searching.state.plan.generations
    measured.correct(before=generations)
    # Of one that two ways asked for, the first line counts.
    scored = {one.member: one for one in reversed(log.entries) if one.origin in ways}
    within = [one for one in scored.values() if measured.limit.holds(one.member)]
    ranking = sorted(within, key=_merit(searching, within, chance))
    if not ranking and not _timed(searching, scored):  # a correction left none
        ranking = sorted(scored.values(), key=lambda one: one.latency_ms)[:1]
    with searching.reporter.progress("Timing finalists") as advance:
        for number, one in enumerate(ranking[:MOST_FINALISTS]):
            if number >= FINALISTS and able_finalists(searching, scored):
                break
            advance(number, FINALISTS, "")
            time_scored(searching, one, behind=generations)
    if able := able_finalists(searching, scored):
        return min(able, key=_merit(searching, able, chance))
    return min(_timed(searching, scored), key=lambda one: one.latency.median_ms)


def fast_finalist(
    searching: Searching, like: Finalist, ways: Collection[Sampling]
) -> Finalist | None:
    """The best that these ways asked for and that needs no narrowing, at the input side of another;
    None: there is none.

    Where the time turns out to be too short for narrowing that one.
    """
    fast = [
        one
        for one in searching.state.finalists
        if one.origin in ways
        and one.latency.median_ms <= searching.target_ms
        and one.member.resolution == like.member.resolution
    ]
    return max(fast, key=lambda one: one.accuracy, default=None)


def _merit(
    searching: Searching, scored: Collection[LoggedScore | Finalist], chance: float
) -> Callable[[LoggedScore | Finalist], tuple[int, float]]:
    """To sort by: first those whose scores differ from the best by no more than chance, most work
    first; then the rest, best first.
    """
    space, classes = searching.state.space, len(searching.samples.classes)
    best = max((one.accuracy for one in scored), default=0.0)
    least = best - chance

    def merit(one: LoggedScore | Finalist) -> tuple[int, float]:
        macs = count(space.spec(one.member, classes)).macs if one.accuracy >= least else 0
        return -macs, -one.accuracy

    return merit


def _timed(searching: Searching, members: Collection[Member]) -> list[Finalist]:
    return [one for one in searching.state.finalists if one.member in members]


def able_finalists(searching: Searching, members: Collection[Member]) -> list[Finalist]:
    """Those within the limit of latency, whose trained files may be within size and memory."""
    rest, limit_ms = replace(searching.config.budget, latency_ms=None), searching.state.limit_ms

    def may_ship(one: Finalist) -> bool:
        size, peak = one.size_bytes or 0, one.peak_bytes
        return may_fit(Measured(size_bytes=size, latency=one.latency, peak_bytes=peak), rest)

    return [
        one
        for one in _timed(searching, members)
        if one.latency.median_ms <= limit_ms and may_ship(one)
    ]
