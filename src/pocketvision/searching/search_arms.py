"""The arms of a search: what was found, and what the same time gives without searching."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from pocketvision.compress.pace import TooLittleTime
from pocketvision.errors import BudgetError, GateError, NoisyError
from pocketvision.fitting.artefact import (
    REPORT,
    RUN,
    Artefact,
    load,
    read_state,
)
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.folder import PREPARED
from pocketvision.fitting.pipeline import run_fit
from pocketvision.models.arch import ArchSpec
from pocketvision.record.run import Record
from pocketvision.record.scores import Score
from pocketvision.record.searched import Arm
from pocketvision.searching.search_config import (
    MULTIPLIERS,
    PUBLISHED,
    RANDOM,
    SEARCH,
    SHARING,
    Finalist,
)
from pocketvision.searching.search_run import ARMS, Searching
from pocketvision.searching.shrink import run_shrink
from pocketvision.searching.shrink_config import ShrinkConfig
from pocketvision.searching.shrink_start import AlreadyFast

FOUND, DRAWN, LARGEST = "found", "drawn", "largest"  # folders of networks
FAST = "_fast"  # behind the first two: the best that needs no narrowing
NETADAPT_STEP, NETADAPT_BATCHES = 0.03, 10  # of a search, which leaves little to cut
NETADAPT_SHARE = 0.2  # of what is left of the arm; the rest trains what comes of it


def run_arms(searching: Searching, command: str) -> None:
    """Each arm in turn; those that are done stay as they are."""
    works = _works(searching)
    for name, work in works.items():
        if any(arm.name == name for arm in searching.state.arms):
            continue
        searching.reporter.say(f"Arm {name!r}.")
        if not (searching.folder / ARMS / name).exists():
            begun_s = round(searching.clock.spent_s, 3)
            searching.save(replace(searching.state, arm_begun_s=begun_s))
        arm = _ran(searching, name, work, command)
        searching.save(replace(searching.state, arms=(*searching.state.arms, arm)))
    _measure_again(searching, works, command)


def _measure_again(searching: Searching, works: Mapping[str, Work], command: str) -> None:
    """Arms that nothing but a latency was against, which their plan had within the budget.

    Arms are measured one after the other, and some of them in slow minutes of a shared machine.
    """
    for arm in searching.state.arms:
        if not arm.note or not _may_be_fast(searching.folder / ARMS / arm.name):
            continue
        searching.reporter.say(f"Measuring arm {arm.name!r} again.")
        try:
            again = _ran(searching, arm.name, works[arm.name], command)
        except NoisyError as error:
            searching.reporter.say(f"Arm {arm.name!r} stays what it was: {error}")
            continue
        if not again.note:
            arms = (again if one is arm else one for one in searching.state.arms)
            searching.save(replace(searching.state, arms=tuple(arms)))


def _may_be_fast(folder: Path) -> bool:
    """True for an arm to be measured again, or whose second measurement was interrupted."""
    return _was_too_slow(folder) or (
        (folder / RUN).exists() and read_state(folder).status == "unfinished"
    )


def _was_too_slow(folder: Path) -> bool:
    return (folder / RUN).exists() and read_state(folder).too_slow


Work = Callable[[Path, str], Artefact]


def _works(searching: Searching) -> dict[str, Work]:
    """What each arm does, given its folder and the command."""
    state = searching.state
    assert state.found is not None
    plain = _fit_config(searching, state.plan.arm_s)
    works = {SEARCH: _tuning(searching, state.found, FOUND)}
    if state.drawn is not None:
        works[RANDOM] = _tuning(searching, state.drawn, DRAWN)
    begun = replace(plain, weights=searching.config.weights)  # as `published_network` says
    if state.multiplied is not None and MULTIPLIERS in state.arm_names:
        works[MULTIPLIERS] = _fitting(searching, _named(plain, state.multiplied))
    if state.published is not None and PUBLISHED in state.arm_names:
        works[PUBLISHED] = _fitting(searching, _named(begun, state.published))
    return works


def _named(config: FitConfig, spec: ArchSpec) -> FitConfig:
    """A fit of this network of the registry alone, which the search timed when it began."""
    return replace(
        config,
        models=(spec.name,),
        widths=(spec.width,),
        resolutions=(spec.resolution,),
        timed_within=True,
    )


def _tuning(searching: Searching, found: Finalist, name: str) -> Work:
    """name: of the folder that holds the network."""
    return lambda folder, command: _tune(searching, found, searching.folder / name, folder, command)


def _fitting(searching: Searching, config: FitConfig) -> Work:
    return lambda folder, command: _fit(searching, config, folder, command)


def _fit(searching: Searching, config: FitConfig, folder: Path, command: str) -> Artefact:
    return run_fit(config, folder, searching.reporter, command=command, lead=searching.lead)


def _fit_config(searching: Searching, time_s: float | None) -> FitConfig:
    config = searching.config
    return FitConfig(
        data=config.data,
        budget=replace(config.budget, time_s=time_s),
        resolutions=config.resolutions,
        runtimes=() if config.runtime is None else (config.runtime,),
        precisions=() if config.precision is None else (config.precision,),
        threads=config.threads,
        target=config.target,
        max_drop_points=config.max_drop_points,
        epochs=config.epochs,
        batch_size=config.batch_size,
        augmentation=config.augmentation,
        accelerator=config.accelerator,
        devices=config.devices,
        nodes=config.nodes,
        skip_bad=config.skip_bad,
        seed=config.seed,
    )


def _tune(
    searching: Searching, found: Finalist, source: Path, folder: Path, command: str
) -> Artefact:
    """NetAdapt where what was found is still too slow, and the fine-tuning.

    source: the folder that holds it. folder: of the arm.
    """
    state, plan = searching.state, searching.state.plan
    left_s = None if plan.arm_s is None else max(1.0, plan.arm_s - state.search_s)
    is_fast = found.latency.median_ms <= searching.target_ms
    goes_on = (folder / RUN).exists() and not (folder / PREPARED).exists()  # without NetAdapt
    within = read_state(folder).config.timed_within if goes_on else is_fast
    fast = source.with_name(source.name + FAST)
    if goes_on and read_state(folder).config.weights == str(fast):
        source = fast
    if plan.netadapt and not is_fast and not goes_on:
        shrinking = _shrink_config(searching, source, left_s)
        try:
            return run_shrink(
                shrinking, folder, searching.reporter, command=command, lead=searching.lead
            )
        except AlreadyFast:  # in another precision
            within = True
        except TooLittleTime:
            if not fast.exists():
                raise
            source, within = fast, True
            searching.reporter.say(
                "The time is too short for NetAdapt: the best network that is within the latency "
                "without it is trained instead."
            )
    fitting = replace(
        _fit_config(searching, left_s),
        weights=str(source),
        teacher=None if searching.config.by_work else str(searching.folder / LARGEST),
        timed_within=within,
        resolutions=(found.member.resolution,),
        learning_rate=searching.config.learning_rate,
    )
    return _fit(searching, fitting, folder, command)


def _shrink_config(searching: Searching, source: Path, time_s: float | None) -> ShrinkConfig:
    config = searching.config
    return ShrinkConfig(
        source=str(source),
        teacher=str(searching.folder / LARGEST),
        images=config.data,
        budget=replace(config.budget, time_s=time_s),
        runtime=config.runtime,
        precision=config.precision,
        threads=config.threads,
        target=config.target,
        step=NETADAPT_STEP,
        adapting_share=NETADAPT_SHARE,
        multiple=searching.state.space.multiple,
        brief_steps=NETADAPT_BATCHES,
        batch_size=config.batch_size,
        augmentation=config.augmentation,
        epochs=config.epochs,
        long_rate=config.learning_rate,
        accelerator=config.accelerator,
        devices=config.devices,
        nodes=config.nodes,
        max_drop_points=config.max_drop_points,
        workers=config.workers,
        skip_bad=config.skip_bad,
        seed=config.seed,
    )


def _ran(searching: Searching, name: str, work: Work, command: str) -> Arm:
    """What an arm came to; one that comes to nothing says why.

    Raises: NoisyError: it cannot be told on a machine that is so busy.
    """
    folder, begun = searching.folder / ARMS / name, time.monotonic()
    before_s = searching.state.search_s if name in SHARING else 0.0
    try:
        record = _finished(folder) or work(folder, command).record
    except NoisyError:
        raise
    except (BudgetError, GateError) as error:
        searching.reporter.say(f"Arm {name!r} came to nothing: {error}")
        return Arm(
            name=name,
            network="",
            latency=None,
            size_bytes=None,
            accuracy=None,
            seconds=round(before_s + time.monotonic() - begun, 1),
            shipped=False,
            note=str(error),
        )
    return Arm(
        name=name,
        network=record.network.label,
        latency=record.budgeted,
        size_bytes=record.shipped.size_bytes,
        accuracy=_on_val(record),
        seconds=round(before_s + record.spent_s, 1),
        shipped=False,
    )


def _finished(folder: Path) -> Record | None:
    """What an arm came to that ended just before the search was interrupted; None: it has not, or
    is measured again.

    Raises: GateError: it ended without anything to ship.
    """
    if not (folder / RUN).exists():
        return None
    if _was_too_slow(folder):
        return None
    status = read_state(folder).status
    if status == "failed":
        raise GateError(f"Its network missed the budget or its gate; {folder / REPORT} says why.")
    return load(folder).record if status == "done" else None


def _on_val(record: Record) -> Score | None:
    """Top-1 of the shipped file on val."""
    shipped = next(variant for variant in record.variants if variant.shipped)
    return record.val_score if shipped.comparison is None else shipped.comparison.accuracy
