"""Scoring members: generation after generation, each way to search in turn."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pocketvision.budget import format_latency
from pocketvision.compress.controller import Controller
from pocketvision.compress.evolution import Evolution, EvolutionConfig
from pocketvision.compress.sampling import Limit, RandomSearch, Sampler, front
from pocketvision.fitting.reporter import Advance
from pocketvision.fitting.search_config import LoggedScore
from pocketvision.fitting.search_log import ScoreLog
from pocketvision.fitting.search_start import Searching
from pocketvision.fitting.search_work import WEIGHTS, JudgeWork
from pocketvision.fitting.workers import Pool, open_pool
from pocketvision.measure.count import count
from pocketvision.models.space import Member
from pocketvision.record import Sampling

BYTES_PER_WEIGHT = 4


def limit_of(searching: Searching) -> Limit:
    """The hard limit, by the table."""
    space, classes = searching.state.space, len(searching.samples.classes)

    @functools.lru_cache(maxsize=100_000)
    def latency_ms(member: Member) -> float:
        return searching.table.latency_ms(space.spec(member, classes))

    return Limit(latency_of=latency_ms, limit_ms=searching.state.limit_ms)


def _samplers(searching: Searching, limit: Limit) -> dict[Sampling, Sampler]:
    """Every way to search, in turn at equal evaluations."""
    config, space = searching.config, searching.state.space
    evolution = EvolutionConfig(objective=config.objective, exponent=config.exponent)
    ways: dict[Sampling, Sampler] = {
        "evolution": Evolution(space, limit, config.seed, evolution),
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
    config, plan, limit = searching.config, searching.state.plan, limit_of(searching)
    samplers = _samplers(searching, limit)
    with (
        open_pool(config.workers) as pool,
        searching.reporter.progress("Scoring members") as advance,
    ):
        scoring = _Scoring(
            searching=searching,
            log=log,
            limit=limit,
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
            for origin, sampler in samplers.items():
                scoring.score(origin, generation, sampler.ask(size))
                sampler.tell(log.scored(origin, generation))


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
