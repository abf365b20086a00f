"""Which space a search is in, and the latency of its blocks, before anything is trained."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from pocketvision.budget import format_latency
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import BudgetError
from pocketvision.fitting.candidates import (
    Candidate,
    resolutions_for,
)
from pocketvision.fitting.fine_tuning import networks_of
from pocketvision.fitting.ranking import HEADROOM
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.target_table import TargetTable
from pocketvision.measure.count import count
from pocketvision.models.arch import ArchSpec
from pocketvision.models.space import SearchSpace
from pocketvision.models.spaces import (
    SPACES,
    find_space,
    resized,
    spaces_of,
    tightened,
)
from pocketvision.models.supernet import Supernet
from pocketvision.runtimes.registry import get_runtime
from pocketvision.searching.scaled_table import ScaledTable
from pocketvision.searching.search_config import SearchConfig
from pocketvision.searching.search_plan import (
    AMPLE_EPOCHS,
    GOOD_EPOCHS,
    SUPERNET_SHARE,
    arms_of,
    noise_source,
    seconds_of_an_arm,
    seconds_per_step,
)
from pocketvision.searching.search_rivals import FAMILIES, Planned, Planner, with_weights
from pocketvision.train.batches import num_batches

SPREAD = 1.01  # the interval of a quiet measurement reaches so far above its median
SCALED_BY = 5  # members
RESERVE_S = 240.0  # of an arm, for timing blocks and what comes behind the training
ROOM = (
    0.8  # of the latency: what the smallest member of a space may take, so that there is a choice
)

Table = ScaledTable | TargetTable


def target_of(config: SearchConfig, table: Table) -> float:
    """The latency asked for, less what a trained file may take more than an untrained one."""
    if isinstance(table, TargetTable):  # the same for both, but sums over it are off
        return config.latency_ms / (1 + table.spread)
    return config.latency_ms / HEADROOM / SPREAD


def own_space(config: SearchConfig) -> SearchSpace:
    """The space asked for, by name or file, at the resolutions asked for.

    Raises: ConfigError: no such space, or resolutions it cannot have. ArtefactError: a file that
    describes none.
    """
    assert config.space is not None
    space = _rounded(config, find_space(config.space))
    return replace(space, resolutions=config.resolutions) if config.resolutions else space


def _rounded(config: SearchConfig, space: SearchSpace) -> SearchSpace:
    """The space with the multiple of channels that was asked for."""
    return space if config.multiple is None else replace(space, multiple=config.multiple)


def chosen_space(planner: Planner, planned: Planned) -> tuple[SearchSpace, Candidate]:
    """The space to search, and the network with a plain multiplier that it lies around.

    Without a name, that which has the network whose weights the search begins with; without such
    weights, that of the best network around which a supernet gets enough epochs in the time;
    as it is where there is time for many, else tightened. By work, that of the best network, with
    what decides on work left to choose. A space whose smallest member hardly meets the latency is
    passed over.

    Raises: ConfigError: no such space, or resolutions it cannot have.
    """
    config, ranking = planner.config, planned.ranking
    name = config.space or _space_of_weights(planner)
    if name is not None:
        return _named(planner, name, ranking[0].classifier), ranking[0]
    options = _by_merit(planner, ranking)
    roomy = (option for option in options if _has_room(planner, planned, *option))
    return next(roomy, options[0])


def _by_merit(planner: Planner, ranking: list[Candidate]) -> list[tuple[SearchSpace, Candidate]]:
    """Spaces around the networks: first those in which a supernet gets enough epochs, as they are
    ranked; then those in which it gets most. By work, as they are ranked.
    """
    config = planner.config
    if config.by_work:
        bases = [candidate.classifier for candidate in ranking]
        spaces = [resized(_around(config, base), base.name) for base in bases]
        return list(zip(spaces, ranking, strict=True))
    options = [
        (space, candidate)
        for candidate in ranking
        for around in [_around(config, candidate.classifier)]
        for space in (around, tightened(around))
    ]
    if planner.clock.remaining_s is None or config.supernet_steps is not None:
        return options
    per_epoch = num_batches(len(planner.samples.indices("train")), config.batch_size)
    arm_s = seconds_of_an_arm(planner.clock.remaining_s, arms_of(config))
    supernet_s = SUPERNET_SHARE * max(0.0, arm_s - RESERVE_S)
    with planner.reporter.progress("Timing training steps"):
        step_s = _step_seconds(planner, [space for space, _ in options])
    epochs = [supernet_s / step_s(space) / per_epoch for space, _ in options]
    wanted = (AMPLE_EPOCHS, GOOD_EPOCHS) * len(ranking)  # of a whole space, and of a tightened one
    enough = [n for n, (have, want) in enumerate(zip(epochs, wanted, strict=True)) if have >= want]
    too_few = sorted(set(range(len(options))) - set(enough), key=lambda n: (-epochs[n], n))
    return [options[n] for n in (*enough, *too_few)]


def _has_room(planner: Planner, planned: Planned, space: SearchSpace, base: Candidate) -> bool:
    """Whether the smallest member, measured here, is well within the latency. True for a target:
    the blocks of a space need not be in its table.
    """
    if planner.target is not None:
        return True
    config = planner.config
    name, precision = planned.fastest(base)
    table = ScaledTable(get_runtime(name), precision, config.threads)
    smallest = space.spec(space.smallest(), len(planner.samples.classes))
    return table.timed_whole(smallest).median_ms <= ROOM * target_of(config, table)


def _step_seconds(planner: Planner, spaces: list[SearchSpace]) -> Callable[[SearchSpace], float]:
    """What a step of a supernet takes: along the line through the two that do most and least."""
    classes = len(planner.samples.classes)

    def work(space: SearchSpace) -> int:
        return count(space.spec(space.largest(), classes)).macs

    def timed(space: SearchSpace) -> float:
        side, config = max(space.resolutions), planner.config
        return seconds_per_step(
            Supernet(space, classes, seed=0),
            noise_source(side, classes, config.batch_size),
            Preprocessing(resolution=side, side=side),
            config,
        )

    ends = sorted((min(spaces, key=work), max(spaces, key=work)), key=work)
    (x0, x1), (y0, y1) = (work(space) for space in ends), (timed(space) for space in ends)
    slope = max(0.0, (y1 - y0) / (x1 - x0)) if x1 > x0 else 0.0
    return lambda space: y0 + slope * (work(space) - x0)


def _around(config: SearchConfig, base: ArchSpec) -> SearchSpace:
    """The space of a network's family, at its multiplier and input side."""
    sides = config.resolutions or (base.resolution,)
    space = replace(FAMILIES[base.name], widths=(base.width,), resolutions=sides)
    return _rounded(config, space)


def _space_of_weights(planner: Planner) -> str | None:
    """The space that is built in and has the network of the weights; None: there is none, or they
    are of several networks.
    """
    weights = planner.config.weights
    known = [] if weights is None else networks_of(weights, planner.reporter)
    return next(iter(spaces_of(known[0])), None) if len(known) == 1 else None


def _named(planner: Planner, name: str, base: ArchSpec) -> SearchSpace:
    """The space of that name. Raises: ConfigError: no such space, or sides it cannot have."""
    config = planner.config
    space = own_space(replace(config, space=name))
    if config.resolutions or name not in SPACES:
        return space
    # Of a space that is built in, one input side: each of them has blocks to time and to train.
    side = base.resolution if config.weights is None else _side_above(planner)
    return replace(space, resolutions=(side,))


def _side_above(planner: Planner) -> int:
    """The input side next above all at which a network of the weights is within the budget: there
    least of it has to be left away.
    """
    sides, within = resolutions_for(planner.samples.shorter_side, ()), with_weights(planner)
    largest = 0
    if within is not None:
        largest = max(candidate.spec.resolution for candidate in within.candidates)
    return next((side for side in sides if side > largest), sides[-1])


def time_blocks(
    config: SearchConfig,
    space: SearchSpace,
    classes: int,
    table: Table,
    reporter: Reporter,
) -> None:
    """Every block of the space; a few whole members set the scale.

    Raises: BudgetError: the smallest member is above the latency.
    """
    covering = space.covering()
    with reporter.progress("Timing blocks") as advance:
        for number, member in enumerate(covering):
            advance(number, len(covering), "")
            table.ensure([space.spec(member, classes)])
    smallest = space.spec(space.smallest(), classes)
    latency = table.timed_whole(smallest)
    target_ms = target_of(config, table)
    if latency.median_ms > target_ms:
        least_ms = 1.02 * config.latency_ms * latency.median_ms / target_ms
        raise BudgetError(
            f"Even the smallest member of {space.name} takes {format_latency(latency.median_ms)}, "
            f"and {format_latency(config.latency_ms)} are asked for. Ask for --latency "
            f"{least_ms:.3g}ms, or for a smaller --resolution or space."
        )
    generator = random.Random(0)
    drawn = [space.spec(space.sample(generator), classes) for _ in range(SCALED_BY)]
    table.meet(smallest, latency)
    ratios = {spec: table.timed_whole(spec).median_ms / table.latency_ms(spec) for spec in drawn}
    middle = sorted(drawn, key=lambda spec: ratios[spec])[SCALED_BY // 2]
    table.meet(middle, table.timed_whole(middle))


def idle_limit(config: SearchConfig, space: SearchSpace, classes: int, table: Table) -> str:
    """That the latency asked for rules no member out, and what to do; empty where it does."""
    largest_ms = table.latency_ms(space.spec(space.largest(), classes))
    if largest_ms > target_of(config, table):
        return ""
    larger = "" if config.by_work else ", with more --time it may be in a larger space"
    return (
        f"Even the largest member of {space.name} takes only about {format_latency(largest_ms)} of "
        f"{format_latency(config.latency_ms)}: with a lower --latency the search has something to "
        f"weigh{larger}."
    )
