"""Search for an architecture on the user's images and device, and ship the best of what the time
gave: one supernet, many members scored, the finalists timed, NetAdapt, `fit`; and the same time for
networks that nobody searched for.

Every score is logged as it is known, and every phase saved: what was interrupted goes on from
there, to the same result.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from time import monotonic

from pocketvision.budget import format_latency
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import Augmentation
from pocketvision.errors import GateError
from pocketvision.fitting.artefact import Artefact
from pocketvision.fitting.following import is_follower
from pocketvision.fitting.leading import leading
from pocketvision.fitting.lock import working_in
from pocketvision.fitting.pipeline import parse_budget
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.fitting.run import keeping_the_clock, saving
from pocketvision.fitting.target_table import threads_asked
from pocketvision.models.space import Member
from pocketvision.models.supernet import Supernet
from pocketvision.models.weights import save as save_network
from pocketvision.record.words import Sampling
from pocketvision.searching.along import follow_search
from pocketvision.searching.arms_in_turns import time_in_turns
from pocketvision.searching.finalists import best_finalist, chance_among_the_best, fast_finalist
from pocketvision.searching.search_arms import DRAWN, FAST, FOUND, LARGEST, run_arms
from pocketvision.searching.search_by_work import find_by_work
from pocketvision.searching.search_config import Baselines, Finalist, Method, SearchConfig
from pocketvision.searching.search_log import ScoreLog
from pocketvision.searching.search_plan import evened_out, supernet_config
from pocketvision.searching.search_run import STATE, Searching
from pocketvision.searching.search_scoring import MeasuredLimit, score_members
from pocketvision.searching.search_ship import ship_best
from pocketvision.searching.search_start import open_search
from pocketvision.searching.search_verdict import WAYS
from pocketvision.searching.search_work import (
    WEIGHTS,
    load_supernet,
    new_supernet,
    save_supernet,
)
from pocketvision.train.alarms import Diverged, divergence_alarm, lowered_rate
from pocketvision.train.allocator import keep_freed_memory
from pocketvision.train.supernet import CHECKPOINT, calibrated, train_supernet
from pocketvision.workers.pool import Workers

DRAWS = 10  # for the training, until one is within the limit


def search(
    data: str | Path,
    out: str | Path,
    *,
    latency: str,
    time: str | None = None,
    size: str | None = None,
    memory: str | None = None,
    space: str | None = None,
    resolutions: tuple[int, ...] = (),
    target: str | Path | None = None,
    threads: int | None = None,
    method: Method = "evolution",
    baselines: Baselines = "all",
    weights: str | None = None,
    epochs: int | None = None,
    workers: Workers = None,
    max_drop: float = 1.0,
    augmentation: Augmentation | None = None,
    seed: int = 0,
) -> Artefact:
    """Search for an architecture; the Python face of `pocketvision search`.

    data, out, size, memory, epochs, max_drop: as `fit`. latency "3ms"; time "2h", for all of it,
    baselines included; space: "v3_large", "v3_small", or a TOML file; target: the latency table of
    another device; threads: None: one, or the table's. `SearchConfig` has every option.

    Raises: as `run_search`.
    """
    config = SearchConfig(
        data=str(data),
        budget=parse_budget(latency, size, time, memory),
        space=space,
        resolutions=resolutions,
        threads=threads_asked(threads, None if target is None else str(target)),
        target=None if target is None else str(target),
        method=method,
        baselines=baselines,
        weights=weights,
        epochs=epochs,
        workers=workers,
        max_drop_points=max_drop,
        augmentation=augmentation or Augmentation(),
        seed=seed,
    )
    command = f"pocketvision.search({str(data)!r}, {str(out)!r}, ...)  # options: search.json"
    return run_search(config, Path(out), command=command)


def run_search(
    config: SearchConfig, out: Path, reporter: Reporter | None = None, *, command: str = ""
) -> Artefact:
    """Search, compare with what the same time gives otherwise, and ship the best.

    An interrupted search goes on when it is called again.

    Raises: as `open_search`. GateError: no arm came to a network within the budget.
    """
    reporter = reporter or Silent()
    asked = command or f"run_search({config!r}, {str(out)!r})"
    if is_follower(config.nodes):
        return follow_search(config, out, reporter)
    with working_in(out, reporter.say), leading(config.nodes, out, reporter) as lead:
        searching = open_search(config, out, reporter)
        if lead is not None:
            lead.await_all()  # an hour later, when they are needed, nobody would look
        searching.lead = lead
        state_file = searching.folder / STATE
        with keeping_the_clock(state_file, lambda: searching.save(searching.state)):
            if searching.state.found is None:
                find_by_work(searching) if config.by_work else _search(searching)
            run_arms(searching, asked)
            time_in_turns(searching)
            return ship_best(searching, asked)


def _search(searching: Searching) -> None:
    """Supernet, scores, finalists; afterwards the member that was found has its folder."""
    keep_freed_memory()
    begun = monotonic() - searching.state.search_s
    supernet = _trained(searching, begun)
    searching.pause(begun)
    log = ScoreLog(searching.folder)
    plan = searching.state.plan
    late = searching.deadline(begun, plan.supernet_s + plan.scoring_s)
    score_members(searching, log, late, save=lambda: searching.pause(begun))
    searching.pause(begun)
    found, drawn = _chosen(searching, log)
    kept = {FOUND: found.member, LARGEST: supernet.space.largest()}
    if drawn is not None:
        kept[DRAWN] = drawn.member
    by_chance: set[Sampling] = {"random"}
    for name, one, ways in ((FOUND, found, set(WAYS)), (DRAWN, drawn, by_chance)):
        if one is not None and (fast := fast_finalist(searching, one, ways)) is not None:
            kept[name + FAST] = fast.member
    for name, member in kept.items():
        _keep(searching, supernet, member, searching.folder / name)
    searching.pause(begun)
    state = replace(searching.state, found=found, drawn=drawn)
    searching.save(replace(state, plan=evened_out(state, searching.clock.remaining_s)))


def _trained(searching: Searching, begun: float) -> Supernet:
    """The supernet behind its training; after a divergence it begins anew, once, at a lower rate.

    Raises: ConfigError, ArtefactError: weights that cannot be begun with. GateError: it diverged
    again.
    """
    config, state, reporter = searching.config, searching.state, searching.reporter
    path, classes = searching.folder / WEIGHTS, len(searching.samples.classes)
    if state.steps_made:
        return load_supernet(state.space, classes, path)
    supernet = new_supernet(config, state.space, classes, reporter)
    limit = MeasuredLimit(searching).limit

    def draw(generator: random.Random) -> Member:
        """What will be scored is what is trained: members within the limit, as far as possible."""
        drawn = [state.space.sample(generator) for _ in range(DRAWS)]
        return next((member for member in drawn if limit.holds(member)), drawn[0])

    rate = lowered_rate(config.learning_rate) if state.lowered else config.learning_rate
    try:
        with reporter.progress("Training the supernet") as advance:
            steps = train_supernet(
                supernet,
                searching.images.train,
                searching.images.preprocessing,
                supernet_config(
                    replace(config, accelerator=state.accelerator),
                    steps=state.plan.supernet_steps,
                    threads=state.threads,
                    rate=rate,
                ),
                searching.folder,
                draw=draw,
                on_step=saving(advance, lambda: searching.pause(begun)),
                say=searching.reporter.say,
                deadline=searching.deadline(begun, state.plan.supernet_s),
            )
    except Diverged as error:
        searching.pause(begun)
        _lower(searching, error)
        return _trained(searching, begun)
    save_supernet(supernet, path)
    searching.save(replace(searching.state, steps_made=steps))
    (searching.folder / CHECKPOINT).unlink(missing_ok=True)
    return supernet


def _lower(searching: Searching, error: Diverged) -> None:
    """Have the training begin anew at a lower rate. Raises: GateError: that was done before."""
    (searching.folder / CHECKPOINT).unlink(missing_ok=True)  # from there it would come to the same
    rate = searching.config.learning_rate
    lowered = lowered_rate(rate)
    if searching.state.lowered:
        raise GateError(
            f"{error} The supernet had diverged before, and learned at a rate of {lowered:.3g} "
            f"since. Look for broken images (pocketvision doctor {searching.config.data}), or give "
            "another --seed and another --out."
        ) from error
    alarm = divergence_alarm(error, epoch=0, rate=rate, lowered=lowered)
    searching.reporter.say(alarm.sentence)
    state = searching.state
    lost_s = state.search_s - state.plan.before_s
    searching.save(replace(state, lowered=True, lost_s=max(0.0, lost_s)))


def _chosen(searching: Searching, log: ScoreLog) -> tuple[Finalist, Finalist | None]:
    """The best of all that was scored; and of what was drawn at random, where random search is to
    have an arm of its own: if that is another network.
    """
    ways: set[Sampling] = {one.origin for one in log.entries}
    chance = chance_among_the_best(searching, log)
    searching.reporter.say(f"Scores within {100 * chance:.2g} points of the best count as equal.")
    found = best_finalist(searching, log, ways, chance)
    _say_found(searching, "Found", found)
    if searching.config.baselines != "all" or "random" not in ways:
        return found, None
    if any(one.member == found.member for one in log.entries if one.origin == "random"):
        searching.reporter.say("Random search scored it, so it has no arm of its own.")
        return found, None
    drawn = best_finalist(searching, log, {"random"}, chance)
    _say_found(searching, "Random search found", drawn)
    return found, drawn


def _say_found(searching: Searching, how: str, one: Finalist) -> None:
    searching.reporter.say(
        f"{how} {one.member.described}: {format_latency(one.latency.median_ms)}, "
        f"{one.accuracy:.1%} expected accuracy with shared weights."
    )


def _keep(searching: Searching, supernet: Supernet, member: Member, folder: Path) -> None:
    """Write a member with its share of the weights as a network of its own."""
    network = calibrated(supernet, member, searching.images.train, searching.images.preprocessing)
    save_network(
        network,
        folder,
        classes=searching.samples.classes,
        preprocessing=Preprocessing.for_resolution(
            member.resolution, searching.samples.shorter_side
        ),
    )
