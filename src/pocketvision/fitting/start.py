"""Begin a run, or go on with one that was interrupted: scan, plan, forecast, output folder."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pocketvision.budget import Budget, format_time
from pocketvision.data.images import Samples
from pocketvision.errors import ArtefactError, BudgetError, ConfigError
from pocketvision.fitting import forecast
from pocketvision.fitting.artefact import RUN, read_state, refuse_scenes
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
from pocketvision.fitting.config import FitConfig, RunState
from pocketvision.fitting.data_findings import find_faults
from pocketvision.fitting.folder import check_room, is_free, make_folder, taken
from pocketvision.fitting.plan import MeasuredCache, measure_candidates
from pocketvision.fitting.ranking import HEADROOM, rank
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.run import Clock, Run, stopwatch
from pocketvision.fitting.target_plan import covered, weigh_candidates
from pocketvision.fitting.target_table import TargetTable, open_target
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.fitting.tasks.task import Task
from pocketvision.fitting.training import base_config, settle
from pocketvision.fitting.workload import workload_of
from pocketvision.intervals import wilson
from pocketvision.measure.device import machine
from pocketvision.models.pretrained import is_published
from pocketvision.progress import counted
from pocketvision.record import Step, Tried
from pocketvision.runtimes.registry import get_runtime, installed_runtimes
from pocketvision.runtimes.runtime import Runtime
from pocketvision.storage import remove_parts, to_json
from pocketvision.train.devices import check_devices

PLANNING_SHARE = 0.15  # of the time asked for; fewer candidates are measured when it is short
MIN_CANDIDATES = 6
MEASURED_AGAIN = 3  # times at most, whichever network is first then
FEW_HEADLINE_IMAGES = 100


def open_run(
    config: FitConfig, out: Path, reporter: Reporter, command: str, spent_s: float = 0.0
) -> Run:
    """The run that `out` holds unfinished, or a new one, planned; its folder exists afterwards.

    command: how the run was asked for, for the record. spent_s: of the time of a new one, already.

    Raises: ConfigError: `out` holds something else. DataError: unusable images. BudgetError:
    nothing meets the budget; then `out` is not made. StorageError: the disk has too little room.
    """
    clock = Clock(config.budget.time_s)
    clock.earlier_s = spent_s
    target = open_target(config.target)
    if target is not None:
        config = _as_of(target, config)
    earlier = _unfinished_state(out, config, target)
    runtimes = _runtimes((earlier and earlier.runtimes) or config.runtimes)
    samples = _scan(config, reporter)
    _check_devices(config, out, earlier, len(samples.indices("train")))
    if earlier is None:
        return _begin(config, out, samples, runtimes, reporter, clock, command, target)
    if earlier.fingerprint != samples.fingerprint:
        raise ConfigError(
            f"{out} holds an unfinished run on other images than {config.data} has now; give "
            "another --out, or remove the folder."
        )
    reporter.say(f"Going on with the unfinished run in {out}.")
    remove_parts(out)
    clock.earlier_s = earlier.spent_s
    return Run(
        config=config,
        out=out,
        samples=samples,
        runtimes=runtimes,
        reporter=reporter,
        clock=clock,
        state=earlier,
        target=target,
    )


def _as_of(target: TargetTable, config: FitConfig) -> FitConfig:
    """The run with what the table is of as all that is chosen from. Raises: ConfigError."""
    target.refuse_other(config.runtimes, config.precisions, config.threads)
    table = target.table
    return replace(config, runtimes=(table.runtime,), precisions=(table.precision,))


def _unfinished_state(out: Path, config: FitConfig, target: TargetTable | None) -> RunState | None:
    """The state to go on from, None where `out` is free. Raises: ConfigError: it is taken."""
    if is_free(out):
        return None
    try:
        state = read_state(out)
    except (OSError, ArtefactError):
        state = None
    unfinished = state is not None and state.status == "unfinished"
    if state is not None and unfinished and target is not None:
        target.refuse_changed(state.target_sha256, state.config.target, out)
    if state is None or state.status != "unfinished" or state.config != config:
        raise taken(out, state.status if state else None)
    return state


def _scan(config: FitConfig, reporter: Reporter) -> Samples:
    with reporter.progress("Reading images") as advance:
        return TASKS[config.task].scan(config, counted(advance))


def _check_devices(config: FitConfig, out: Path, earlier: RunState | None, images: int) -> None:
    """Raises: ConfigError: the devices asked for are not there, or those a training began on."""
    begun = None if earlier is None or earlier.trained else earlier.train
    try:
        check_devices(begun or base_config(config), images)
    except ConfigError as error:
        if begun is None:
            raise
        raise ConfigError(
            f"The training in {out} began on {begun.devices} x {begun.accelerator} and would come "
            "out otherwise on another device; go on where that is, or give another --out. "
            f"({error})"
        ) from error


def _runtimes(names: tuple[str, ...]) -> list[Runtime]:
    if not names:
        return installed_runtimes()
    chosen = [get_runtime(name) for name in names]
    for runtime in chosen:
        runtime.check()
    return chosen


def _begin(
    config: FitConfig,
    out: Path,
    samples: Samples,
    runtimes: list[Runtime],
    reporter: Reporter,
    clock: Clock,
    command: str,
    target: TargetTable | None,
) -> Run:
    findings = find_faults(samples, reporter)
    candidates = _candidates(config, samples, runtimes, reporter, target)
    if config.weights is not None and not is_published(config.weights):
        # Weights of another network are refused now, not after the measurements. (Published ones
        # fit, and are downloaded for the chosen network alone.)
        network, _ = TASKS[config.task].start(candidates[0].spec, config, reporter)
        if target is not None:
            target.timed_whole(network.spec)  # it can be of another form than was planned with
    run = Run(
        config=config,
        out=out,
        samples=samples,
        runtimes=runtimes,
        reporter=reporter,
        clock=clock,
        state=replace(
            _first_state(config, samples, command),
            findings=findings,
            runtimes=tuple(runtime.name for runtime in runtimes),
            target_sha256="" if target is None else target.sha256,
        ),
        target=target,
    )
    _say_forecast(run, candidates)
    check_room(out, forecast.out_bytes([c.count.parameters for c in candidates], len(runtimes)))
    _refuse_too_short(run, candidates)
    with stopwatch() as seconds:
        tried, ranking = _ranked(run, candidates)
    reporter.say(
        f"{len(ranking)} of {len(candidates)} candidates fit {config.budget}; best by published "
        f"accuracy: {ranking[0].spec.label}."
    )
    run.state = replace(run.state, tried=tried, ranking=tuple(c.spec for c in ranking))
    attempt = settle(run, 0)
    how = "measured" if target is None else f"by the table of {target.described}"
    step = Step(name="plan", seconds=seconds[0], note=f"{len(tried)} files {how}")
    spent_s = round(clock.spent_s, 3)
    run.state = replace(run.state, attempt=attempt, steps=(step,), spent_s=spent_s)
    make_folder(out, RUN, to_json(run.state))
    return run


def _ranked(run: Run, candidates: list[Candidate]) -> tuple[tuple[Tried, ...], list[Candidate]]:
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

    A network with a teacher was made for the latency and measured whole: there is no other to rank
    before it, so that the headroom for what the final measurement may add is left to the gate.
    """
    budget = config.budget
    if config.teacher is None or budget.latency_ms is None:
        return budget
    return replace(budget, latency_ms=HEADROOM * budget.latency_ms)


def _refuse_too_short(run: Run, candidates: list[Candidate]) -> None:
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


def _candidates(
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


def _first_state(config: FitConfig, samples: Samples, command: str) -> RunState:
    headline = samples.indices(samples.headline_split)
    return RunState(
        status="unfinished",
        config=config,
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=machine().versions,
        fingerprint=samples.fingerprint,
        headline_hashes=tuple(sorted(samples.hashes[row] for row in headline)),
        tried=(),
        ranking=(),
    )


def _say_forecast(run: Run, candidates: list[Candidate]) -> None:
    samples, config, say = run.samples, run.config, run.reporter.say
    counts = ", ".join(f"{name} {len(samples.indices(name))}" for name in samples.split_origins)
    say(f"{len(samples.paths)} images, {len(samples.classes)} classes ({counts}).")
    if samples.headline_split == "val":
        say("Too few images for a test split: figures will be on val, which also selects.")
    headline = len(samples.indices(samples.headline_split))
    if headline < FEW_HEADLINE_IMAGES:
        few = f"Figures will rest on {headline} images of {samples.headline_split}"
        most = f"{wilson(headline, headline)[0]:.0%} can be claimed (95 %)"
        counted = run.task.metric == "top-1"
        say(f"{few}: even if all are named right, no more than {most}." if counted else f"{few}.")
    if config.budget.is_open:
        say("No --latency, --size or --memory: only the time to train limits the network.")
    if config.weights is None:
        say("No weights given: training starts from scratch. On few photos, --weights helps most.")
    largest = max(c.spec.resolution for c in candidates)
    unknown = _unmeasured(run, candidates) if run.target is None else 0
    sentence = forecast.forecast_sentence(
        workload_of(run, largest),
        planning_s=forecast.planning_seconds(
            unknown,
            [runtime.name for runtime in run.runtimes],
            memory=config.budget.memory_bytes is not None,
            cost=run.task.candidate_cost,
        ),
        unknown=unknown,
        side=run.task.preprocessing(largest, samples.shorter_side).side,
        budget=config.budget,
    )
    say(sentence)


def _unmeasured(run: Run, candidates: list[Candidate]) -> int:
    """How many candidates no run on this machine measured before."""
    config, cache = run.config, MeasuredCache(run.config.threads)
    return sum(
        not all(
            cache.holds(c.spec, runtime, config.precisions, config.budget)
            for runtime in run.runtimes
        )
        for c in candidates
    )
