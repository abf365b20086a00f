"""Begin a run, or go on with one that was interrupted: scan, plan, forecast, output folder."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pocketvision.data.images import Samples
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.fitting import forecast
from pocketvision.fitting.artefact import RUN, read_state
from pocketvision.fitting.config import FitConfig, RunState
from pocketvision.fitting.data_findings import find_faults
from pocketvision.fitting.folder import check_room, is_free, make_folder, taken
from pocketvision.fitting.foretelling import say_forecast
from pocketvision.fitting.planning import (
    candidates_of,
    planned_sentence,
    ranked,
    refuse_too_short,
)
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.run import Clock, Run, stopwatch
from pocketvision.fitting.target_table import TargetTable, open_target
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.fitting.training import base_config, settle
from pocketvision.measure.device import machine
from pocketvision.models.pretrained import is_published
from pocketvision.progress import counted
from pocketvision.record.run import Step
from pocketvision.runtimes.registry import get_runtime, installed_runtimes
from pocketvision.runtimes.runtime import Runtime
from pocketvision.storage import remove_parts, to_json
from pocketvision.train.devices import check_devices


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
    if state is not None and state.too_slow and state.config == config:
        return measured_anew(state)
    if state is None or state.status != "unfinished" or state.config != config:
        raise taken(out, state.status if state else None)
    return state


def measured_anew(state: RunState) -> RunState:
    """That of a run which failed by a latency alone, to go on with its trained network."""
    files = tuple(replace(file, latency=None) for file in state.files)
    return replace(state, status="unfinished", too_slow=False, files=files)


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
    candidates = candidates_of(config, samples, runtimes, reporter, target)
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
    say_forecast(run, candidates)
    check_room(out, forecast.out_bytes([c.count.parameters for c in candidates], len(runtimes)))
    refuse_too_short(run, candidates)
    with stopwatch() as seconds:
        tried, ranking = ranked(run, candidates)
    reporter.say(planned_sentence(config, tried, ranking, len(candidates)))
    run.state = replace(run.state, tried=tried, ranking=tuple(c.spec for c in ranking))
    attempt = settle(run, 0)
    how = "measured" if target is None else f"by the table of {target.described}"
    step = Step(name="plan", seconds=seconds[0], note=f"{len(tried)} files {how}")
    spent_s = round(clock.spent_s, 3)
    run.state = replace(run.state, attempt=attempt, steps=(step,), spent_s=spent_s)
    make_folder(out, RUN, to_json(run.state))
    return run


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
