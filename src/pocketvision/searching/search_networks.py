"""Which space a search is in, and what is known of it before anything is trained: the networks with
plain multipliers around which it lies, and the latency of its blocks."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from pocketvision.budget import format_latency
from pocketvision.data.images import Samples
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import BudgetError
from pocketvision.fitting.candidates import (
    MAX_CANDIDATES,
    Candidate,
    list_candidates,
    resolutions_for,
    select_names,
    thin,
)
from pocketvision.fitting.plan import measure_candidates
from pocketvision.fitting.ranking import HEADROOM, rank
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.run import Clock
from pocketvision.fitting.target_plan import NotCovered, covered, weigh_candidates
from pocketvision.fitting.target_table import TargetTable
from pocketvision.measure.count import count
from pocketvision.models.arch import ArchSpec
from pocketvision.models.space import SearchSpace
from pocketvision.models.spaces import SPACES, V3_LARGE, V3_SMALL, find_space, resized, tightened
from pocketvision.models.supernet import Supernet
from pocketvision.record.files import Tried
from pocketvision.record.words import Precision
from pocketvision.runtimes.registry import get_runtime, installed_runtimes
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
from pocketvision.train.batches import num_batches

FAMILIES = {  # with plain multipliers, the rivals of a search, and what its space lies around
    "mobilenet_v3_large": V3_LARGE,
    "mobilenet_v3_small": V3_SMALL,
    "mobilenet_v3_large_minimalistic": V3_LARGE,
    "mobilenet_v3_small_minimalistic": V3_SMALL,
}
SPREAD = 1.01  # the interval of a quiet measurement reaches so far above its median
SCALED_BY = 5  # members
RESERVE_S = 240.0  # of an arm, for timing blocks and what comes behind the training
ROOM = (
    0.8  # of the latency: what the smallest member of a space may take, so that there is a choice
)
PLANNING_SHARE = 0.1  # of the time, for the candidates of the baselines

Table = ScaledTable | TargetTable


def target_of(config: SearchConfig, table: Table) -> float:
    """The latency asked for, less what a trained file may take more than an untrained one."""
    if isinstance(table, TargetTable):  # the same for both, but sums over it are off
        return config.latency_ms / (1 + table.spread)
    return config.latency_ms / HEADROOM / SPREAD


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """Networks within the budget, best prior first, and all that was measured."""

    candidates: list[Candidate]
    tried: tuple[Tried, ...]

    @property
    def ranking(self) -> list[Candidate]:
        """Best first. Where priors are extrapolated, that is the one that does most
        multiply-accumulates within the budget.

        Source: of work within the budget, Lin et al., MCUNet, section 3.1.
        """
        if self.candidates[0].prior.source != "extrapolated":
            return self.candidates
        return sorted(self.candidates, key=lambda candidate: -candidate.count.macs)

    @property
    def rival(self) -> ArchSpec:
        """What the arm of multipliers trains."""
        return self.ranking[0].classifier

    def fastest(self, candidate: Candidate) -> tuple[str, Precision]:
        """The runtime and precision in which a network is fastest."""
        own = [one for one in self.tried if one.network == candidate.spec.label]
        best = min(own, key=lambda one: one.latency.median_ms)
        return best.runtime, best.precision


@dataclass(frozen=True, kw_only=True, slots=True)
class Planner:
    """Finds networks of the registry within the budget, as `fit` would."""

    config: SearchConfig
    samples: Samples
    target: TargetTable | None
    reporter: Reporter
    clock: Clock

    def among(self, *, models: tuple[str, ...] = (), widths: tuple[float, ...] = ()) -> Planned:
        """Those of these names and multipliers; empty: all.

        Raises: BudgetError: none is within the budget; the message names the nearest. NotCovered:
        the table of a target has none of them.
        """
        config, samples = self.config, self.samples
        sides = resolutions_for(samples.shorter_side, config.resolutions)
        found = list_candidates(select_names(models), widths, sides, len(samples.classes))
        if self.target is not None:
            found = covered(found, self.target, self.reporter)
        candidates = thin(found, config.budget, MAX_CANDIDATES)
        tried = self._tried(candidates)
        return Planned(candidates=rank(candidates, tried, config.budget), tried=tried)

    def _tried(self, candidates: list[Candidate]) -> tuple[Tried, ...]:
        config = self.config
        reserve_s = (1 - PLANNING_SHARE) * (config.budget.time_s or 0)
        deadline = self.clock.deadline(reserve_s)
        if self.target is not None:
            return weigh_candidates(candidates, self.target, config.budget, self.reporter, deadline)
        return measure_candidates(
            candidates,
            [get_runtime(config.runtime)] if config.runtime else installed_runtimes(),
            () if config.precision is None else (config.precision,),
            config.budget,
            config.threads,
            self.reporter,
            deadline,
        )


def with_multipliers(planner: Planner) -> Planned | None:
    """Networks with plain multipliers within the budget, and of the table of a target; None: there
    is none, and a space of the user's own is searched.

    Raises: as `Planner.among`, where there is no such space.
    """
    try:
        return planner.among(models=tuple(FAMILIES))
    except (BudgetError, NotCovered) as error:
        if planner.config.space is None or planner.config.space in SPACES:
            raise
        planner.reporter.say(f"Nothing with plain multipliers is beside this search: {error}")
        return None


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

    Without a name, that of the best network around which a supernet gets enough epochs in the time;
    as it is where there is time for many, else tightened. By work, that of the best network, with
    what decides on work left to choose. A space whose smallest member hardly meets the latency is
    passed over.

    Raises: ConfigError: no such space, or resolutions it cannot have.
    """
    config, ranking = planner.config, planned.ranking
    if config.space is not None:
        return _named(config, ranking[0].classifier), ranking[0]
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


def _named(config: SearchConfig, base: ArchSpec) -> SearchSpace:
    """The space asked for. Raises: ConfigError: no such space, or sides it cannot have."""
    space = own_space(config)
    if config.resolutions or config.space not in SPACES:
        return space
    # Of a space that is built in, one input side: each of them has blocks to time and to train.
    return replace(space, resolutions=(base.resolution,))


def published_network(planner: Planner, rival: ArchSpec) -> ArchSpec | None:
    """The best of the published networks within the budget, if it is another than the best with
    plain multipliers, which has an arm already."""
    try:
        best = planner.among(widths=(1.0,)).candidates[0].classifier
    except (BudgetError, NotCovered):
        return None
    return None if best == rival else best


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
