"""Which candidates there are, which of them are within the budget, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pocketvision.budget import Budget, format_latency, format_time
from pocketvision.data.images import Samples
from pocketvision.errors import BudgetError
from pocketvision.fitting import forecast
from pocketvision.fitting.artefact import refuse_scenes
from pocketvision.fitting.candidates import (
    MAX_CANDIDATES,
    Candidate,
    as_candidate,
    candidates_on,
    list_backbones,
    resolutions_for,
    select_names,
    thin,
)
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.plan import measure_candidates
from pocketvision.fitting.ranking import HEADROOM, planned_ms, rank
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.run import Run
from pocketvision.fitting.target_plan import covered, weigh_candidates
from pocketvision.fitting.target_table import TargetTable
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.fitting.tasks.task import Task
from pocketvision.fitting.workload import workload_of
from pocketvision.record.files import Tried
from pocketvision.runtimes.runtime import Runtime

PLANNING_SHARE = 0.15  # of the time asked for; fewer candidates are measured when it is short
MIN_CANDIDATES = 6
MEASURED_AGAIN = 3  # times at most, whichever network is first then


def candidates_of(
    config: FitConfig,
    samples: Samples,
    runtimes: list[Runtime],
    reporter: Reporter,
    target: TargetTable | None,
) -> list[Candidate]:
    """What to measure: the weights' own networks, or names x widths, at every resolution.

    Of these, those whose blocks are in the table of a target. Raises: ConfigError: none is.
    """
    task, classes = TASKS[config.task], len(samples.classes)
    resolutions = resolutions_for(samples.shorter_side, config.resolutions, task.resolutions)
    if config.weights is not None:
        refuse_scenes(Path(config.weights))
        specs = task.weights_specs(config, classes, reporter)
        everything = [as_candidate(spec.at(side)) for spec in specs for side in resolutions]
    else:
        names = select_names(config.models)
        backbones = list_backbones(names, config.widths, resolutions, task.backbone)
        everything = candidates_on(backbones, lambda one: task.network(one, classes, config.head))
    if target is not None:
        everything = covered(everything, target, reporter)
    return thin(everything, config.budget, _candidate_limit(config, runtimes, task))


def _candidate_limit(config: FitConfig, runtimes: list[Runtime], task: Task) -> int:
    if config.budget.time_s is None:
        return MAX_CANDIDATES
    names = [runtime.name for runtime in runtimes]
    with_memory = config.budget.memory_bytes is not None
    each = forecast.planning_seconds(1, names, memory=with_memory, cost=task.candidate_cost)
    affordable = int(PLANNING_SHARE * config.budget.time_s / each)
    return min(MAX_CANDIDATES, max(MIN_CANDIDATES, affordable))


def ranked(run: Run, candidates: list[Candidate]) -> tuple[tuple[Tried, ...], list[Candidate]]:
    """What the candidates measure, and those within the budget, best prior first.

    The first of them is what the time is spent on: where its figures are noisy, it is measured
    again.

    Raises: as `rank`.
    """
    config, budget = run.config, planned_budget(run.config)
    deadline = run.clock.deadline((1 - 2 * PLANNING_SHARE) * (config.budget.time_s or 0))
    if run.target is not None:
        tried = weigh_candidates(candidates, run.target, budget, run.reporter, deadline)
        return tried, rank(candidates, tried, budget, f"by the table of {run.target.described}")

    def measured(some: list[Candidate]) -> tuple[Tried, ...]:
        return measure_candidates(
            some, run.runtimes, config.precisions, budget, config.threads, run.reporter, deadline
        )

    tried = measured(candidates)
    ranking = rank(candidates, tried, budget)
    for _ in range(MEASURED_AGAIN):
        label = ranking[0].spec.label
        if not any(one.latency.noise for one in tried if one.network == label):
            break
        others = tuple(one for one in tried if one.network != label)
        tried = (*others, *measured(ranking[:1]))
        ranking = rank(candidates, tried, budget)
    return tried, ranking


def planned_budget(config: FitConfig) -> Budget:
    """What candidates are held against.

    A network with a teacher was made for the latency: there is no other to rank before it, so that
    the headroom for what the final measurement may add is left to the gate. Where it was timed
    within the latency before, a slow minute of the machine says nothing against it, and all of that
    is left to the gate; a table has no slow minutes.
    """
    budget = config.budget
    if config.teacher is None or budget.latency_ms is None:
        return budget
    if config.timed_within and config.target is None:
        return replace(budget, latency_ms=None)
    return replace(budget, latency_ms=HEADROOM * budget.latency_ms)


def planned_sentence(
    config: FitConfig, tried: Sequence[Tried], ranking: Sequence[Candidate], candidates: int
) -> str:
    """What was found. candidates: how many there were."""
    label, latency_ms = ranking[0].spec.label, config.budget.latency_ms
    latencies = [one.latency for one in tried if one.network == label]
    if latency_ms is not None and latencies and config.target is None:
        fastest = min(latencies, key=planned_ms)
        if planned_ms(fastest) > HEADROOM * latency_ms:
            return (
                f"{label} takes {format_latency(fastest.median_ms)} now, and was within "
                f"{config.budget} when it was made: it is trained all the same, and measured again "
                "behind that."
            )
    return (
        f"{len(ranking)} of {candidates} candidates fit {config.budget}; best by published "
        f"accuracy: {label}."
    )


def refuse_too_short(run: Run, candidates: list[Candidate]) -> None:
    """Raises: BudgetError: the time does not even hold what comes after the training."""
    remaining = run.clock.remaining_s
    work = workload_of(run, min(c.spec.resolution for c in candidates))
    needed = work.finish_s + work.decode_s
    if remaining is not None and remaining <= needed:
        raise BudgetError(
            f"The time is too short: decoding, quantizing, verifying and measuring take about "
            f"{format_time(needed)}, and training comes on top. Ask for "
            f"{format_time(max(1.0, needed - remaining))} more, and for as long as it is to train."
        )
