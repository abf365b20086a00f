"""Scoring members: generation after generation, each way to search in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pocketvision.budget import format_latency
from pocketvision.compress.busiest import busiest_members
from pocketvision.compress.controller import Controller
from pocketvision.compress.evolution import Evolution, EvolutionConfig
from pocketvision.compress.sampling import Limit, RandomSearch, Sampler, front
from pocketvision.errors import BudgetError
from pocketvision.fitting.run import saving
from pocketvision.fitting.target_plan import weighed
from pocketvision.measure.count import count
from pocketvision.models.arch import ArchSpec
from pocketvision.models.space import Member
from pocketvision.models.spaces import familiar
from pocketvision.progress import Advance
from pocketvision.record.words import Sampling
from pocketvision.runtimes.registry import get_runtime
from pocketvision.searching.search_config import Finalist, LoggedScore
from pocketvision.searching.search_log import ScoreLog
from pocketvision.searching.search_run import Searching
from pocketvision.searching.search_work import WEIGHTS, JudgeWork
from pocketvision.workers.pool import Pool, hanging_s, open_pool

BYTES_PER_WEIGHT = {"int8": 1, "w8": 1}  # of precisions; of others 4
CORRECTED_BY = 6  # that were timed last
BUSIEST = 4  # members that do most work, with which evolution begins


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

    def correct(self, before: int) -> None:
        """Take over what was timed last, before that generation.

        What came later does not count: a search that goes on asks for the same members again.
        """
        timed = [one for one in self.searching.state.finalists if one.timed_in < before]
        last = timed[-CORRECTED_BY:]
        ratios = [one.latency.median_ms / self._sum_ms(one.member) for one in last]
        self.correction = statistics.median(ratios) if ratios else 1.0

    def _sum_ms(self, member: Member) -> float:
        if member not in self._sums:
            searching = self.searching
            spec = searching.state.space.spec(member, len(searching.samples.classes))
            self._sums[member] = searching.table.latency_ms(spec)
        return self._sums[member]


def time_whole(
    searching: Searching, member: Member, *, origin: Sampling, accuracy: float, behind: int
) -> None:
    """Time a member that was not timed yet; it is a finalist then, and saved as such.

    behind: the generation that is over. Others: as of `Finalist`.
    """
    state = searching.state
    if any(member == finalist.member for finalist in state.finalists):
        return
    spec = state.space.spec(member, len(searching.samples.classes))
    latency = searching.table.timed_whole(spec)
    size, peak = _weight(searching, spec)
    found = Finalist(
        member=member,
        latency=latency,
        accuracy=accuracy,
        origin=origin,
        timed_in=behind,
        size_bytes=size,
        peak_bytes=peak,
    )
    searching.save(replace(state, finalists=(*state.finalists, found)))


def time_scored(searching: Searching, one: LoggedScore, *, behind: int) -> None:
    """As `time_whole`, a member that was scored."""
    time_whole(searching, one.member, origin=one.origin, accuracy=one.accuracy, behind=behind)


def _weight(searching: Searching, spec: ArchSpec) -> tuple[int | None, int | None]:
    """Bytes of the file and of its peak memory, where the budget limits them."""
    budget, state, threads = searching.config.budget, searching.state, searching.config.threads
    if budget.size_bytes is None and budget.memory_bytes is None:
        return None, None
    footprints = None if budget.memory_bytes is None else searching.footprints
    return weighed(spec, get_runtime(state.runtime), state.precision, threads, footprints)


def _samplers(searching: Searching, limit: Limit) -> dict[Sampling, Sampler]:
    """Every way to search, in turn at equal evaluations."""
    config, space = searching.config, searching.state.space
    evolution = EvolutionConfig(objective=config.objective, exponent=config.exponent)
    beginnings = _beginnings(searching, limit)
    ways: dict[Sampling, Sampler] = {
        "evolution": Evolution(space, limit, config.seed, evolution, beginnings),
        "random": RandomSearch(space, limit, config.seed + 1),
    }
    if config.method == "rl":
        controller = Controller(
            space, limit, config.seed, target_ms=searching.target_ms, exponent=config.exponent
        )
        return {"rl": controller, **ways}
    return ways


def _beginnings(searching: Searching, limit: Limit) -> list[Member]:
    """What evolution begins with: the networks of the family, and those that do most work."""
    space, classes = searching.state.space, len(searching.samples.classes)
    published = familiar(space)
    busiest = busiest_members(
        space,
        limit,
        lambda member: count(space.spec(member, classes)).macs,
        number=BUSIEST,
    )
    return [*published, *busiest]


def score_members(
    searching: Searching, log: ScoreLog, deadline: float | None, *, save: Callable[[], None]
) -> None:
    """All evaluations of every way; what is logged already is not made again.

    save: keeps how much time is spent, now and then. deadline: a `time.monotonic()` after which no
    further generation begins; each way has then been given as many evaluations as the others.
    """
    config, plan, measured = searching.config, searching.state.plan, MeasuredLimit(searching)
    samplers = _samplers(searching, measured.limit)
    timed_with = searching.state.config.workers  # whoever scores now
    crew = timed_with if isinstance(timed_with, int) else 1
    with (
        open_pool(config.workers, hang_s=hanging_s(crew * plan.judging_s)) as pool,
        searching.reporter.progress("Scoring members") as advance,
    ):
        scoring = _Scoring(
            searching=searching,
            log=log,
            limit=measured.limit,
            pool=pool,
            work=scoring_work(searching),
            total=len(samplers) * plan.evaluations,
            advance=saving(advance, save),
        )
        for generation in range(plan.generations):
            begun = bool(log.of(config.method, generation))
            late = deadline is not None and time.monotonic() > deadline
            if generation and late and not begun:
                searching.reporter.say(
                    f"Scored {generation * plan.generation} of {plan.evaluations} members by each "
                    "way in the time there is."
                )
                break
            size = min(plan.generation, plan.evaluations - generation * plan.generation)
            measured.correct(before=generation)
            for origin, sampler in samplers.items():
                try:
                    members = sampler.ask(size)
                except BudgetError as error:  # the space is used up, or a correction left none
                    if not log.entries:
                        raise
                    searching.reporter.say(f"{error} What was scored has to do.")
                    return
                scoring.score(origin, generation, members)
                sampler.tell(log.scored(origin, generation))
                if origin == config.method:
                    best = max(log.of(origin, generation), key=lambda one: one.accuracy)
                    time_scored(searching, best, behind=generation)


def scoring_work(searching: Searching) -> JudgeWork:
    """What scores members; the supernet is in its file."""
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
        state = self.searching.state
        spec = state.space.spec(member, len(self.searching.samples.classes))
        return LoggedScore(
            origin=origin,
            generation=generation,
            member=member,
            latency_ms=self.limit.latency_of(member),
            size_bytes=BYTES_PER_WEIGHT.get(state.precision, 4) * count(spec).parameters,
            accuracy=accuracy,
        )


def _front_note(log: ScoreLog) -> str:
    """The front as it grows: its two ends."""
    best = front(log.all_scored)
    ends = [best[0], best[-1]] if len(best) > 1 else best
    told = " to ".join(f"{format_latency(one.latency_ms)} {one.accuracy:.1%}" for one in ends)
    return f"front of {len(best)}: {told}"
