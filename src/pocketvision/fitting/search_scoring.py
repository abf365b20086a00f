"""Scoring members: generation after generation, each way to search in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pocketvision.budget import format_latency
from pocketvision.compress.controller import Controller
from pocketvision.compress.evolution import Evolution, EvolutionConfig
from pocketvision.compress.sampling import Limit, RandomSearch, Sampler, Scored, front
from pocketvision.errors import BudgetError
from pocketvision.fitting.reporter import Advance
from pocketvision.fitting.search_config import Finalist, LoggedScore
from pocketvision.fitting.search_log import ScoreLog
from pocketvision.fitting.search_start import Searching
from pocketvision.fitting.search_work import WEIGHTS, JudgeWork
from pocketvision.fitting.workers import Pool, open_pool
from pocketvision.measure.count import count
from pocketvision.models.space import Member
from pocketvision.models.spaces import familiar
from pocketvision.record import Sampling

BYTES_PER_WEIGHT = 4
TIMED_A_GENERATION = 1  # members, whole; each takes seconds, in INT8 most
CORRECTED_BY = 6  # that were timed last


class MeasuredLimit:
    """The hard limit, by the table; set right by members that were timed whole.

    A search finds the networks that a table thinks too fast. So the best of every generation is
    timed, and all sums are multiplied with what these take beyond their own.
    """

    def __init__(self, searching: Searching) -> None:
        self.searching = searching
        self.correction = 1.0
        self.limit = Limit(latency_of=self.latency_ms, limit_ms=searching.state.limit_ms)
        self._sums: dict[Member, float] = {}

    def latency_ms(self, member: Member) -> float:
        """As far as it is known now."""
        return self.correction * self._sum_ms(member)

    def correct(self) -> None:
        """Take over what was timed last."""
        last = self.searching.state.finalists[-CORRECTED_BY:]
        ratios = [one.latency.median_ms / self._sum_ms(one.member) for one in last]
        self.correction = statistics.median(ratios) if ratios else 1.0

    def _sum_ms(self, member: Member) -> float:
        if member not in self._sums:
            searching = self.searching
            spec = searching.state.space.spec(member, len(searching.samples.classes))
            self._sums[member] = searching.table.latency_ms(spec)
        return self._sums[member]


def time_whole(searching: Searching, scored: Sequence[Scored]) -> None:
    """Time members that were not timed yet; they are finalists then, and saved as such."""
    classes = len(searching.samples.classes)
    for one in scored:
        if any(one.member == finalist.member for finalist in searching.state.finalists):
            continue
        spec = searching.state.space.spec(one.member, classes)
        found = Finalist(
            member=one.member,
            latency=searching.table.timed_whole(spec),
            accuracy=one.accuracy,
        )
        finalists = (*searching.state.finalists, found)
        searching.save(replace(searching.state, finalists=finalists))


def _samplers(searching: Searching, limit: Limit) -> dict[Sampling, Sampler]:
    """Every way to search, in turn at equal evaluations."""
    config, space = searching.config, searching.state.space
    evolution = EvolutionConfig(objective=config.objective, exponent=config.exponent)
    ways: dict[Sampling, Sampler] = {
        "evolution": Evolution(space, limit, config.seed, evolution, familiar(space)),
        "random": RandomSearch(space, limit, config.seed + 1),
    }
    if config.method == "rl":
        controller = Controller(
            space, limit, config.seed, target_ms=searching.target_ms, exponent=config.exponent
        )
        return {"rl": controller, **ways}
    return ways


def score_members(searching: Searching, log: ScoreLog, deadline: float | None) -> None:
    """All evaluations of every way; what is logged already is not made again.

    deadline: a `time.monotonic()` after which no further generation begins; each way has then been
    given as many evaluations as the others.
    """
    config, plan, measured = searching.config, searching.state.plan, MeasuredLimit(searching)
    samplers = _samplers(searching, measured.limit)
    with (
        open_pool(config.workers) as pool,
        searching.reporter.progress("Scoring members") as advance,
    ):
        scoring = _Scoring(
            searching=searching,
            log=log,
            limit=measured.limit,
            pool=pool,
            work=_work(searching),
            total=len(samplers) * plan.evaluations,
            advance=advance,
        )
        for generation in range(-(-plan.evaluations // plan.generation)):
            if generation and deadline is not None and time.monotonic() > deadline:
                searching.reporter.say(
                    f"Scored {generation * plan.generation} of {plan.evaluations} members by each "
                    "way in the time there is."
                )
                break
            size = min(plan.generation, plan.evaluations - generation * plan.generation)
            measured.correct()
            for origin, sampler in samplers.items():
                try:
                    members = sampler.ask(size)
                except BudgetError as error:  # the space is used up, or a correction left none
                    if not log.entries:
                        raise
                    searching.reporter.say(f"{error} What was scored has to do.")
                    return
                scoring.score(origin, generation, members)
                found = log.scored(origin, generation)
                sampler.tell(found)
                if origin == config.method:
                    best = sorted(found, key=lambda one: -one.accuracy)
                    time_whole(searching, best[:TIMED_A_GENERATION])


def _work(searching: Searching) -> JudgeWork:
    state, images = searching.state, searching.images
    return JudgeWork(
        path=searching.folder / WEIGHTS,
        space=state.space,
        classes=len(searching.samples.classes),
        train=images.train,
        held_out=images.held_out,
        preprocessing=images.preprocessing,
        threads=state.threads if searching.config.workers is None else 1,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scoring:
    """What all generations share. total: scores there will be."""

    searching: Searching
    log: ScoreLog
    limit: Limit
    pool: Pool
    work: JudgeWork
    total: int
    advance: Advance

    def score(self, origin: Sampling, generation: int, members: Sequence[Member]) -> None:
        """Score a generation; those of its members that an interrupted run scored are there."""
        rest = members[len(self.log.of(origin, generation)) :]

        def known(place: int, accuracy: float) -> None:
            self.log.add(self.entry(origin, generation, rest[place], accuracy))
            self.advance(len(self.log.entries), self.total, _front_note(self.log))

        self.pool.scores(self.work, rest, known)

    def entry(
        self, origin: Sampling, generation: int, member: Member, accuracy: float
    ) -> LoggedScore:
        """The line of the log."""
        spec = self.searching.state.space.spec(member, len(self.searching.samples.classes))
        return LoggedScore(
            origin=origin,
            generation=generation,
            member=member,
            latency_ms=self.limit.latency_of(member),
            size_bytes=BYTES_PER_WEIGHT * count(spec).parameters,
            accuracy=accuracy,
        )


def _front_note(log: ScoreLog) -> str:
    """The front as it grows: its two ends."""
    best = front(log.all_scored)
    ends = [best[0], best[-1]] if len(best) > 1 else best
    told = " to ".join(f"{format_latency(one.latency_ms)} {one.accuracy:.1%}" for one in ends)
    return f"front of {len(best)}: {told}"
