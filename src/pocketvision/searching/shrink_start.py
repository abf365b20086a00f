"""Begin a narrowing, or go on with one that was interrupted: what the latency is of, how far apart
the steps are, which images judge."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from pathlib import Path

import torch

from pocketvision.budget import format_latency, format_time
from pocketvision.compress.netadapt import check_reachable
from pocketvision.compress.pace import TIMING_S, Costs
from pocketvision.data.images import Samples
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import open_pixels
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.earlier_runs import usual_ratios
from pocketvision.fitting.folder import PREPARED, make_folder, read_unfinished, taken
from pocketvision.fitting.forecast import Workload, planning_seconds
from pocketvision.fitting.ranking import planned_ms
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.run import Clock
from pocketvision.fitting.target_table import TargetTable, open_target
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.fitting.tasks.task import Task
from pocketvision.fitting.teaching import teacher_in
from pocketvision.models.networks import AnyNetwork, AnySpec, task_of
from pocketvision.models.weights import load
from pocketvision.narrowing.loop import paced
from pocketvision.narrowing.state import STATE, NarrowedStep
from pocketvision.progress import counted
from pocketvision.runtimes.registry import get_runtime, installed_runtimes
from pocketvision.searching.adapting import Adapting
from pocketvision.searching.fastest import fastest_file
from pocketvision.searching.held_out import parts_of
from pocketvision.searching.scaled_table import ScaledTable
from pocketvision.searching.shrink_config import ShrinkConfig, ShrinkState
from pocketvision.searching.shrink_work import Lessons
from pocketvision.storage import remove_parts, to_json
from pocketvision.train.brief import fine_tune_briefly
from pocketvision.train.config import TrainConfig
from pocketvision.train.devices import check_devices
from pocketvision.workers.pool import check_workers, exchangeable

TIMED_STEPS = 4  # of training, for the forecast


class AlreadyFast(ConfigError):
    """The network is within the latency asked for: there is nothing to narrow."""


def open_shrink(config: ShrinkConfig, out: Path, reporter: Reporter) -> Adapting:
    """The run that `out` holds unfinished, or a new one; `out` exists afterwards.

    Raises: ConfigError: `out` holds something else; images of other classes; a network that is as
    fast already. ArtefactError: no network. BudgetError: the latency or the time is out of reach.
    Also as `check_workers`.
    """
    clock, folder = Clock(config.budget.time_s), out / PREPARED
    check_workers(config.workers)
    target = open_target(config.target)
    if target is not None:
        config = _as_of(target, config)
    earlier = _earlier(config, out, target)
    seed, file = load(Path(config.source))
    if file.preprocessing is None:
        raise ArtefactError(f"{config.source} names no preprocessing; give a folder of fit.")
    task = TASKS[task_of(seed.spec)]
    samples = _samples(config, task, reporter)
    if samples.classes != file.classes:
        void = ", with the --void that it was fitted with" if task.name == "segment" else ""
        raise ConfigError(
            f"images={config.images!r} have the classes {', '.join(samples.classes)}; the network "
            f"in {config.source} tells {', '.join(file.classes)} apart: give images of these{void}."
        )
    devices = TrainConfig(
        accelerator=config.accelerator, devices=config.devices, nodes=config.nodes
    )
    check_devices(devices, len(samples.indices("train")))
    lessons = _lessons(samples, task, file.preprocessing, config.seed, reporter)
    if earlier is not None and earlier.fingerprint != samples.fingerprint:
        raise ConfigError(
            f"{out} holds an unfinished run on other images than {config.images} has now; give "
            "another --out, or remove the folder."
        )
    state = earlier or _begin(config, seed, samples, reporter, target)
    clock.earlier_s = state.spent_s
    adapting = Adapting(
        config=config,
        folder=folder,
        reporter=reporter,
        clock=clock,
        state=state,
        seed=seed,
        teacher=teacher_in(config.teacher, seed.spec, file.classes) if config.teacher else seed,
        network=seed,
        lessons=lessons,
        classes=file.classes,
        finish_s=_finish_s(config, seed.spec, samples),
        table=target or ScaledTable(get_runtime(state.runtime), state.precision, config.threads),
    )
    if earlier is None:
        _settle(adapting)
        make_folder(out, f"{PREPARED}/{STATE}", to_json(adapting.state))
    else:
        reporter.say(f"Going on with the unfinished run in {out}.")
        remove_parts(out)
        adapting.network = load(adapting.network_folder)[0]
    return adapting


def _samples(config: ShrinkConfig, task: Task, reporter: Reporter) -> Samples:
    """The images, with what the task needs to know of them. Raises: DataError, ConfigError."""
    wanted = FitConfig(
        data=config.images,
        task=task.name,
        seed=config.seed,
        skip_bad=config.skip_bad,
        void=config.void,
    )
    with reporter.progress("Reading images") as advance:
        return task.scan(wanted, counted(advance))


def _lessons(
    samples: Samples, task: Task, preprocessing: Preprocessing, seed: int, reporter: Reporter
) -> Lessons:
    """Decode the images, and set those aside that judge."""
    with reporter.progress("Decoding images") as advance:
        pixels = open_pixels(
            samples, preprocessing.side, counted(advance), whole=preprocessing.whole
        )
    train, held_out = parts_of(task.sources(samples, pixels, preprocessing)[0], seed)
    return Lessons(samples=samples, train=train, held_out=held_out, preprocessing=preprocessing)


def _as_of(target: TargetTable, config: ShrinkConfig) -> ShrinkConfig:
    """The run with what the table is of. Raises: ConfigError: something else was asked for."""
    target.refuse_another(config.runtime, config.precision, config.threads)
    return replace(config, runtime=target.table.runtime, precision=target.table.precision)


def _earlier(config: ShrinkConfig, out: Path, target: TargetTable | None) -> ShrinkState | None:
    """Raises: ConfigError: `out` is taken, or the table of its target was changed."""
    if not out.exists():
        return None
    state = read_unfinished(ShrinkState, out / PREPARED / STATE, out)
    if target is not None:
        target.refuse_changed(state.target_sha256, state.config.target, out)
    is_same = replace(state.config, workers=config.workers) == config
    if not (is_same and exchangeable(state.config.workers, config.workers)):
        raise taken(out, "unfinished")
    return state


def _finish_s(config: ShrinkConfig, spec: AnySpec, samples: Samples) -> float:
    """Exporting, quantizing, verifying and measuring, as `fit` foretells it."""
    task = TASKS[task_of(spec)]
    runtimes = [get_runtime(config.runtime)] if config.runtime else installed_runtimes()
    work = Workload.fine_tuning_of(
        samples,
        resolution=spec.resolution,
        runtimes=runtimes,
        precisions=() if config.precision is None else (config.precision,),
        batch_size=config.batch_size or task.batch_size,
        ratios=usual_ratios(task.name),
    )
    names = [runtime.name for runtime in runtimes]
    return work.finish_s + planning_seconds(1, names, cost=task.candidate_cost)


def _begin(
    config: ShrinkConfig,
    seed: AnyNetwork,
    samples: Samples,
    reporter: Reporter,
    target: TargetTable | None,
) -> ShrinkState:
    """What the latency is of, and how fast the seed is.

    Raises: ConfigError: it is as fast as asked already; the table of a target lacks its blocks.
    """
    if target is None:
        with reporter.progress("Measuring the network"):
            name, precision, latency = fastest_file(
                seed.spec, config.runtime, config.precision, config.threads
            )
    else:
        name, precision = target.table.runtime, target.table.precision
        latency = target.timed_whole(seed.spec)
    if planned_ms(latency) <= config.latency_ms:
        where = "" if target is None else f" by the table of {target.described}"
        raise _already_fast(seed.spec, config, latency.median_ms, f"{precision} on {name}{where}")
    return ShrinkState(
        config=config,
        fingerprint=samples.fingerprint,
        runtime=name,
        precision=precision,
        step=config.step,
        brief_steps=config.brief_steps,
        threads=torch.get_num_threads() if config.workers is None else 1,
        steps=(NarrowedStep(network=seed.spec, latency=latency, accuracy=0.0),),
        target_sha256="" if target is None else target.sha256,
    )


def _already_fast(spec: AnySpec, config: ShrinkConfig, latency_ms: float, on: str) -> AlreadyFast:
    return AlreadyFast(
        f"{spec.label} takes {format_latency(latency_ms)} as {on}, within "
        f"{format_latency(config.latency_ms)} already; ask for less --latency."
    )


def _settle(adapting: Adapting) -> None:
    """Set the scale, score the seed, and fit the pace to the time.

    Raises: BudgetError: the latency cannot be reached, or not in the time. AlreadyFast: by the
    table there is nothing to cut.
    """
    config, state, seed, table = adapting.config, adapting.state, adapting.seed, adapting.table
    target_ms, seed_latency = adapting.target_ms, adapting.seed_latency
    with adapting.reporter.progress("Timing blocks"):
        table.meet(seed.spec, seed_latency)
        latency_ms = table.latency_ms(seed.spec)
        if latency_ms <= target_ms:
            on = f"{state.precision} on {state.runtime}{_by_what(table)}"
            raise _already_fast(seed.spec, config, latency_ms, on)
        check_reachable(seed.spec, table, target_ms, config.multiple, config.latency_ms)
    accuracy, costs = _tried(adapting)
    crew = config.workers if isinstance(config.workers, int) else 1
    pace = paced(adapting, seed.spec, config.step, config.brief_steps, costs, crew)
    adapting.reporter.say(
        f"{seed.spec.label} takes {format_latency(seed_latency.median_ms)} as "
        f"{state.precision} on {state.runtime}{_by_what(table)}; "
        f"{format_latency(config.latency_ms)} are asked for. "
        f"About {pace.count} steps of {pace.step:.1%}, {pace.proposals} proposals each, every "
        f"one trained for {pace.brief_steps} batches: about {format_time(pace.seconds)}, and the "
        "fine-tuning."
    )
    adapting.state = replace(
        state,
        step=pace.step,
        brief_steps=pace.brief_steps,
        score_s=round(costs.proposal_s(pace.brief_steps), 3),
        steps=(replace(state.steps[0], accuracy=accuracy),),
    )


def _tried(adapting: Adapting) -> tuple[float, Costs]:
    """The expected score of the seed, and what scoring a proposal takes."""
    lessons, brief = adapting.lessons, adapting.brief
    seed = lessons.of(adapting.seed, adapting.teacher, brief)
    copied = lessons.of(copy.deepcopy(adapting.seed), adapting.teacher, brief)
    fine_tune_briefly(copied, 1)  # the first training of a process takes longer
    begin = time.monotonic()
    score = seed.expected_score()
    judged = time.monotonic()
    fine_tune_briefly(copied, 1)
    first = time.monotonic()
    fine_tune_briefly(copied, 1 + TIMED_STEPS)
    first_s, more_s = first - judged, time.monotonic() - first
    step_s = max(0.0, more_s - first_s) / TIMED_STEPS
    by_table = isinstance(adapting.table, TargetTable)
    table_s = 0.0 if by_table else TIMING_S * adapting.task.candidate_cost
    fixed_s = judged - begin + max(0.0, first_s - step_s)
    return score, Costs(table_s=table_s, fixed_s=fixed_s, step_s=step_s)


def _by_what(table: ScaledTable | TargetTable) -> str:
    return f" by the table of {table.described}" if isinstance(table, TargetTable) else ""
