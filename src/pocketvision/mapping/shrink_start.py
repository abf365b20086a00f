"""Begin a narrowing on a scene, or go on with one that was interrupted."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from pocketvision.budget import format_latency, format_time
from pocketvision.compress.netadapt import check_reachable
from pocketvision.compress.pace import Costs
from pocketvision.data.scene.bands import reduce_scene
from pocketvision.data.scene.reading import check_values
from pocketvision.data.scene.scene import Scene
from pocketvision.data.scene.splits import SceneSplit
from pocketvision.errors import ConfigError
from pocketvision.fitting.folder import PREPARED, make_folder, read_unfinished, taken
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.run import Clock
from pocketvision.mapping.artefact import SceneArtefact, load_patch_network
from pocketvision.mapping.config import SceneConfig
from pocketvision.mapping.costs import other_seconds
from pocketvision.mapping.layer_table import LayerTable
from pocketvision.mapping.narrowing import SceneLessons, SceneNarrowing, timed_files
from pocketvision.mapping.reading import (
    cube_sha256,
    labels_of,
    read_scene,
    split_scene,
    split_sha256,
)
from pocketvision.mapping.scene_target import SceneTarget, open_scene_target
from pocketvision.mapping.shrink_config import SceneShrinkConfig, SceneShrinkState
from pocketvision.narrowing.loop import paced
from pocketvision.narrowing.state import STATE, NarrowedStep
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.storage import remove_parts, to_json
from pocketvision.train.scene import settled
from pocketvision.workers.pool import check_workers, exchangeable

TIMING_S = 8.0  # of new layers and of a whole file, a step


def open_scene_shrink(config: SceneShrinkConfig, out: Path, reporter: Reporter) -> SceneNarrowing:
    """The run that `out` holds unfinished, or a new one; `out` exists afterwards.

    Raises: ConfigError: `out` holds something else; another scene or split than the network was
    fitted to; a network that is as fast already; a table of a target that lacks it. ArtefactError:
    no network. BudgetError: the latency or the time is out of reach. Also as `check_workers`.
    """
    clock, folder = Clock(config.budget.time_s), out / PREPARED
    check_workers(config.workers)
    target = open_scene_target(config.target)
    earlier = _earlier(config, out, target)
    source = SceneArtefact(config.source)
    fitting = _fitting(config, source, target)
    with reporter.progress("Reading the scene"):
        scene = read_scene(fitting, config.data)
        check_values(scene)
    split = split_scene(fitting, scene, source.network.spec.window)[0]
    _refuse_another_scene(config, source, scene, split)
    if earlier is not None and earlier.fingerprint != scene.fingerprint:
        raise ConfigError(
            f"{out} holds an unfinished run on another scene than {config.data} has now; give "
            "another --out, or remove the folder."
        )
    bands = reduce_scene(scene, source.reduction)
    map_s, finish_s = other_seconds(
        fitting, scene, split, {source.network.spec.name: source.network}
    )
    work = SceneNarrowing(
        config=config,
        fitting=fitting,
        folder=folder,
        reporter=reporter,
        clock=clock,
        state=earlier or _new_state(config, source, scene, target),
        scene=scene,
        split=split,
        lessons=SceneLessons.of(bands, labels_of(scene), split, fitting.seed),
        seed=source.network,
        network=source.network,
        table=target or LayerTable("f32", fitting.threads),
        finish_s=finish_s + sum(map_s.values()),
    )
    if earlier is None:
        _settle(work)
        make_folder(out, f"{PREPARED}/{STATE}", to_json(work.state))
    else:
        reporter.say(f"Going on with the unfinished run in {out}.")
        remove_parts(out)
        clock.earlier_s = earlier.spent_s
        work.network = load_patch_network(work.network_folder)[0]
        work.table = target or _table_of(earlier, fitting.threads)
    return work


def _refuse_another_scene(
    config: SceneShrinkConfig, source: SceneArtefact, scene: Scene, split: SceneSplit
) -> None:
    """Raises: ConfigError: not the scene and the split that the network was fitted to."""
    if source.state.seen.get(cube_sha256(scene)) != split_sha256(split):
        raise ConfigError(
            f"{config.data} is not what {config.source} was fitted to, or its labels or mask have "
            "changed: narrowing judges by the pixels that were trained on. Give that scene, or fit "
            "to this one with --weights."
        )


def _new_state(
    config: SceneShrinkConfig, source: SceneArtefact, scene: Scene, target: SceneTarget | None
) -> SceneShrinkState:
    """Before the pace is settled and the network is timed."""
    return SceneShrinkState(
        config=config,
        fingerprint=scene.fingerprint,
        precision="f32",
        step=config.step,
        brief_steps=config.brief_steps,
        threads=torch.get_num_threads(),
        arithmetic="f32",
        steps=(NarrowedStep(network=source.network.spec, latency=None, accuracy=0.0),),
        target_sha256="" if target is None else target.sha256,
    )


def _table_of(state: SceneShrinkState, threads: int) -> LayerTable:
    """Layers to be timed anew, and the scale that the last whole file sets."""
    table = LayerTable(state.precision, threads)
    network, latency = [(s.network, s.latency) for s in state.steps if s.latency is not None][-1]
    assert latency is not None
    table.meet(network, latency)
    return table


def _earlier(
    config: SceneShrinkConfig, out: Path, target: SceneTarget | None
) -> SceneShrinkState | None:
    """Raises: ConfigError: `out` is taken."""
    if not out.exists():
        return None
    state = read_unfinished(SceneShrinkState, out / PREPARED / STATE, out)
    if target is not None:
        target.refuse_changed(state.target_sha256, state.config.target, out)
    is_same = replace(state.config, workers=config.workers) == config
    if not (is_same and exchangeable(state.config.workers, config.workers)):
        raise taken(out, "unfinished")
    return state


def _fitting(
    config: SceneShrinkConfig, source: SceneArtefact, target: SceneTarget | None
) -> SceneConfig:
    """The run on the scene that comes afterwards, as the one that made the network was."""
    was = source.state.config
    if target is not None:
        was = replace(was, precisions=(target.table.precision,), threads=target.table.threads)
    return replace(
        was,
        data=config.data,
        labels=config.labels or was.labels,
        budget=config.budget,
        methods=(source.network.spec.name,),
        attention=None,
        window=None,
        components=None,
        repeats=1,
        steps=config.steps,
        weights=config.source,
        narrowed=None,
        target=config.target,
        max_drop_points=config.max_drop_points,
    )


def _settle(work: SceneNarrowing) -> None:
    """Find what the latency is of, set the scale, score the seed, and fit the pace to the time.

    Raises: ConfigError: the network is as fast as asked. BudgetError: the latency cannot be
    reached, or not in the time.
    """
    config, spec, target_ms = work.config, work.seed.spec, work.target_ms
    precision, latency = _fastest(work)
    if latency.median_ms <= target_ms:
        raise ConfigError(
            f"{spec.label} takes {format_latency(latency.median_ms)} a pixel as {precision}"
            f"{_by_what(work)}, within {format_latency(config.latency_ms)} already; ask for less "
            "--latency."
        )
    seed = NarrowedStep(network=spec, latency=latency, accuracy=0.0)
    work.state = replace(work.state, precision=precision, steps=(seed,))
    if isinstance(work.table, LayerTable):
        work.table = LayerTable(precision, work.fitting.threads)
    table = work.table
    with work.reporter.progress("Timing layers"):
        table.meet(spec, latency)
        check_reachable(spec, table, target_ms, config.multiple, config.latency_ms)
    accuracy, costs = _tried(work)
    crew = config.workers if isinstance(config.workers, int) else 1
    pace = paced(work, spec, config.step, config.brief_steps, costs, crew)
    work.reporter.say(
        f"{spec.label} takes {format_latency(latency.median_ms)} a pixel as {precision}"
        f"{_by_what(work)}; "
        f"{format_latency(config.latency_ms)} are asked for. About {pace.count} steps of "
        f"{pace.step:.1%}, {pace.proposals} proposals each, every one trained for "
        f"{pace.brief_steps} steps: about {format_time(pace.seconds)}, and the long training."
    )
    work.state = replace(
        work.state,
        step=pace.step,
        brief_steps=pace.brief_steps,
        score_s=round(costs.proposal_s(pace.brief_steps), 3),
        steps=(replace(seed, accuracy=accuracy),),
    )


def _fastest(work: SceneNarrowing) -> tuple[Precision, Latency]:
    """Of the files measured here, or as the table of a target has it."""
    fitting, spec = work.fitting, work.seed.spec
    if isinstance(work.table, SceneTarget):
        return work.table.table.precision, work.timed_whole(spec)
    with work.reporter.progress("Measuring the network"):
        found = timed_files(fitting, work.scene, work.split, spec, fitting.precisions)
    return min(found.items(), key=lambda pair: pair[1].median_ms)


def _by_what(work: SceneNarrowing) -> str:
    table = work.table
    return f" by the table of {table.described}" if isinstance(table, SceneTarget) else ""


def _tried(work: SceneNarrowing) -> tuple[float, Costs]:
    """The expected accuracy of the seed, and what scoring a proposal takes with the threads and the
    arithmetic that are fastest, which are kept.
    """
    threads = 0 if work.config.workers is None else 1  # of each worker
    open_choice = replace(work.brief, threads=threads, precision="auto")
    with work.reporter.progress("Timing training steps"):
        found, step_s = settled(work.seed, work.lessons.train, open_choice, work.seed)
    arithmetic: Literal["f32", "bf16"] = "bf16" if found.precision == "bf16" else "f32"
    work.state = replace(work.state, threads=found.threads, arithmetic=arithmetic)
    begin = time.monotonic()
    accuracy = work.lessons.expected_accuracy(work.seed, found.threads)
    judging_s = time.monotonic() - begin
    table_s = 0.0 if isinstance(work.table, SceneTarget) else TIMING_S
    return accuracy, Costs(table_s=table_s, fixed_s=judging_s, step_s=step_s)
