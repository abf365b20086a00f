"""Begin a search, or go on with one that was interrupted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pocketvision.budget import format_latency
from pocketvision.data.images import Samples, scan
from pocketvision.errors import ConfigError, in_range
from pocketvision.fitting.artefact import RUN, read_state
from pocketvision.fitting.candidates import resolutions_for
from pocketvision.fitting.fine_tuning import networks_of
from pocketvision.fitting.folder import make_folder, read_unfinished, taken
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.run import Clock
from pocketvision.fitting.target_table import TargetTable, open_target
from pocketvision.models.space import SearchSpace
from pocketvision.progress import counted
from pocketvision.record.words import Precision
from pocketvision.runtimes.registry import get_runtime
from pocketvision.searching.fastest import fastest_file
from pocketvision.searching.narrowing import narrowing_seconds
from pocketvision.searching.scaled_table import ScaledTable
from pocketvision.searching.search_config import MULTIPLIERS, PUBLISHED, SearchConfig, SearchState
from pocketvision.searching.search_outlook import pace_here, planned_here
from pocketvision.searching.search_plan import arms_of
from pocketvision.searching.search_rivals import (
    Planned,
    Planner,
    published_network,
    with_multipliers,
)
from pocketvision.searching.search_run import ARMS, SEARCHING, STATE, Images, Searching
from pocketvision.searching.search_space import Table, chosen_space, own_space, target_of
from pocketvision.searching.search_work import member_of_weights, new_supernet
from pocketvision.storage import remove_parts, to_json
from pocketvision.train.config import TrainConfig
from pocketvision.train.devices import as_run_here, check_devices
from pocketvision.workers.pool import check_workers, exchangeable

SLACK = 1.12  # over the latency asked for, where NetAdapt comes behind


def open_search(config: SearchConfig, out: Path, reporter: Reporter) -> Searching:
    """The search that `out` holds unfinished, or a new one; `out` exists afterwards.

    Raises: ConfigError: `out` holds something else, or a search on other images; no such space or
    weights, or weights of none of its members. ArtefactError: a file that describes no space, or
    weights that cannot be begun with. DataError: unusable images. BudgetError: the latency is below
    that of every member, or the time too short. Also as `check_workers`.
    """
    clock = Clock(config.budget.time_s)
    check_workers(config.workers)
    target = open_target(config.target)
    if target is not None:
        config = _as_of(target, config)
    earlier = _earlier(config, out, target)
    if earlier is None:
        _check_names(config, reporter)
    with reporter.progress("Reading images") as advance:
        samples = scan(
            config.data,
            seed=config.seed,
            skip_bad=config.skip_bad,
            progress=counted(advance),
        )
    check_devices(_training_of(config, earlier), len(samples.indices("train")))
    if earlier is None:
        planner = Planner(
            config=config, samples=samples, target=target, reporter=reporter, clock=clock
        )
        searching = _begin(planner, out)
        make_folder(out, f"{SEARCHING}/{STATE}", to_json(searching.state))
        return searching
    if earlier.fingerprint != samples.fingerprint:
        raise ConfigError(
            f"{out} holds an unfinished search on other images than {config.data} has now; give "
            "another --out, or remove the folder."
        )
    reporter.say(f"Going on with the unfinished search in {out}.")
    remove_parts(out / SEARCHING)
    clock.earlier_s = _spent_s(earlier, out / SEARCHING / ARMS)
    return Searching(
        config=config,
        out=out,
        reporter=reporter,
        clock=clock,
        state=earlier,
        samples=samples,
        table=_table(earlier, target),
    )


def _check_names(config: SearchConfig, reporter: Reporter) -> None:
    """What is wrong with space and weights is told before images are read.

    Raises: as `open_search`.
    """
    space = None if config.space is None else own_space(config)
    if config.weights is not None and space is not None:
        member_of_weights(config.weights, space, reporter)
    elif config.weights is not None:
        networks_of(config.weights, reporter)


def _training_of(config: SearchConfig, earlier: SearchState | None = None) -> TrainConfig:
    """With the devices asked for; those of a supernet that is being trained on them are kept."""
    is_begun = earlier is not None and not earlier.steps_made
    return TrainConfig(
        accelerator=earlier.accelerator if earlier is not None and is_begun else config.accelerator,
        devices=config.devices,
        nodes=config.nodes,
    )


def _spent_s(state: SearchState, arms: Path) -> float:
    """All that was spent, in an arm too that was killed on its way: it keeps a clock of its own,
    and the state of the search is written when it ends.
    """
    done = {arm.name for arm in state.arms}
    spent_s = 0.0
    for folder in arms.glob("*"):
        if folder.name not in done:
            begun = (folder / RUN).exists()  # what was narrowed before is on its clock
            spent_s += read_state(folder).spent_s if begun else narrowing_seconds(folder)
    return max(state.spent_s, state.arm_begun_s + spent_s)


def _table(state: SearchState, target: TargetTable | None) -> Table:
    """The table as it was scaled when the search began."""
    if target is not None:
        return target
    table = ScaledTable(get_runtime(state.runtime), state.precision, state.config.threads)
    table.scale = state.scale
    return table


def _as_of(target: TargetTable, config: SearchConfig) -> SearchConfig:
    """The search with what the table is of. Raises: ConfigError: something else was asked for."""
    target.refuse_another(config.runtime, config.precision, config.threads)
    return replace(config, runtime=target.table.runtime, precision=target.table.precision)


def _earlier(config: SearchConfig, out: Path, target: TargetTable | None) -> SearchState | None:
    """Raises: ConfigError: `out` is taken, or the table of its target was changed."""
    if not out.exists():
        return None
    state = read_unfinished(SearchState, out / SEARCHING / STATE, out)
    if target is not None:
        target.refuse_changed(state.target_sha256, state.config.target, out)
    is_same = replace(state.config, workers=config.workers) == config
    if not (is_same and exchangeable(state.config.workers, config.workers)):
        raise taken(out, "unfinished")
    if (out / RUN).exists():
        raise taken(out, read_state(out).status)
    return state


def _begin(planner: Planner, out: Path) -> Searching:
    """Choose the space, time its blocks, and plan.

    Raises: as `open_search`; ConfigError, ArtefactError: weights that cannot be begun with.
    """
    config, samples, reporter = planner.config, planner.samples, planner.reporter
    plain = with_multipliers(planner)
    space, name, precision = _what(planner, plain)
    _check_sides(space, samples)
    table = planner.target or ScaledTable(get_runtime(name), precision, config.threads)
    _say_space(planner, space, f"{precision} on {name}")
    published = None
    if config.baselines == "all":
        published = published_network(planner, None if plain is None else plain.rival)
    supernet = new_supernet(config, space, len(samples.classes), reporter)
    images = None if config.by_work else Images.of(samples, space, config.seed, reporter)
    pace = None if images is None else pace_here(config, images, supernet, reporter)
    there = {MULTIPLIERS: plain is not None, PUBLISHED: published is not None}
    arms = tuple(name for name in arms_of(config) if there.get(name, True))
    planned, timing_s = planned_here(planner, space, table, arms, pace)
    state = SearchState(
        config=config,
        fingerprint=samples.fingerprint,
        space=space,
        runtime=name,
        precision=precision,
        scale=table.scale if isinstance(table, ScaledTable) else 1.0,
        limit_ms=target_of(config, table) * (SLACK if planned.netadapt else 1.0),
        threads=1 if pace is None else pace.threads,
        plan=planned,
        accelerator=as_run_here(_training_of(config)).accelerator,
        search_s=timing_s,
        multiplied=None if plain is None else plain.rival,
        published=published,
        target_sha256="" if planner.target is None else planner.target.sha256,
    )
    return Searching(
        config=config,
        out=out,
        reporter=reporter,
        clock=planner.clock,
        state=state,
        samples=samples,
        table=table,
        decoded=images,
    )


def _check_sides(space: SearchSpace, samples: Samples) -> None:
    """Raises: ConfigError: a side that the networks that are found could not be trained at."""
    fitting = resolutions_for(samples.shorter_side, space.resolutions)
    if too_large := sorted(set(space.resolutions) - set(fitting)):
        raise ConfigError(
            f"{space.name} has the resolution {too_large[0]}, which would enlarge the images "
            f"({samples.shorter_side} px) too much; leave it away, with --resolution "
            f"{' --resolution '.join(map(str, fitting))}."
        )
    for side in space.resolutions:
        in_range("resolution", side, 32, 1024)  # as of `fit`


def _what(planner: Planner, plain: Planned | None) -> tuple[SearchSpace, str, Precision]:
    """The space to search, and the runtime and precision that the latency is of."""
    if plain is not None:
        space, base = chosen_space(planner, plain)
        return space, *plain.fastest(base)
    config, space = planner.config, own_space(planner.config)
    if planner.target is not None:
        return space, planner.target.table.runtime, planner.target.table.precision
    smallest = space.spec(space.smallest(), len(planner.samples.classes))
    name, precision, _ = fastest_file(smallest, config.runtime, config.precision, config.threads)
    return space, name, precision


def _say_space(planner: Planner, space: SearchSpace, what: str) -> None:
    """what: the latency is of."""
    where = "" if planner.target is None else f" by the table of {planner.target.described}"
    planner.reporter.say(
        f"Searching {space.name} (x{', x'.join(f'{w:g}' for w in space.widths)} "
        f"@{', @'.join(map(str, space.resolutions))}, {space.members:.1e} networks) for "
        f"{format_latency(planner.config.latency_ms)} as {what}{where}."
    )
