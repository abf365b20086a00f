"""Networks of the registry that are within the budget of a search, before anything is trained: what
it is held against, and lies around."""

from __future__ import annotations

from dataclasses import dataclass

from pocketvision.data.images import Samples
from pocketvision.errors import BudgetError
from pocketvision.fitting.candidates import (
    MAX_CANDIDATES,
    Candidate,
    list_candidates,
    resolutions_for,
    select_names,
    thin,
)
from pocketvision.fitting.fine_tuning import networks_of
from pocketvision.fitting.plan import measure_candidates
from pocketvision.fitting.ranking import rank
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.run import Clock
from pocketvision.fitting.target_plan import NotCovered, covered, weigh_candidates
from pocketvision.fitting.target_table import TargetTable
from pocketvision.models.arch import ArchSpec
from pocketvision.models.spaces import SPACES, V3_LARGE, V3_SMALL
from pocketvision.record.files import Tried
from pocketvision.record.words import Precision
from pocketvision.runtimes.registry import get_runtime, installed_runtimes
from pocketvision.searching.search_config import SearchConfig

FAMILIES = {  # with plain multipliers, the rivals of a search, and what its space lies around
    "mobilenet_v3_large": V3_LARGE,
    "mobilenet_v3_small": V3_SMALL,
    "mobilenet_v3_large_minimalistic": V3_LARGE,
    "mobilenet_v3_small_minimalistic": V3_SMALL,
}
PLANNING_SHARE = 0.1  # of the time, for the candidates of the baselines


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

    def among(
        self,
        *,
        models: tuple[str, ...] = (),
        widths: tuple[float, ...] = (),
        at_any_side: bool = False,
    ) -> Planned:
        """Those of these names and multipliers; empty: all.

        at_any_side: not only of the resolutions asked for.

        Raises: BudgetError: none is within the budget; the message names the nearest. NotCovered:
        the table of a target has none of them.
        """
        config, samples = self.config, self.samples
        asked = () if at_any_side else config.resolutions
        sides = resolutions_for(samples.shorter_side, asked)
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
    is none, and which space to search, at which sides, is known without.

    Raises: as `Planner.among`, where it is not known.
    """
    config = planner.config
    try:
        return planner.among(models=tuple(FAMILIES))
    except (BudgetError, NotCovered) as error:
        if config.space is None or (config.space in SPACES and not config.resolutions):
            raise
        planner.reporter.say(f"Nothing with plain multipliers is beside this search: {error}")
        return None


def with_weights(planner: Planner) -> Planned | None:
    """The networks of the weights that are within the budget, at any input side; None: none is.

    Raises: ConfigError, ArtefactError: weights that are not there, or cannot be read.
    """
    assert planner.config.weights is not None
    known = networks_of(planner.config.weights, planner.reporter)
    named = [spec for spec in known if not spec.variant]  # others are of no name
    names = tuple(dict.fromkeys(spec.name for spec in named))
    widths = tuple(dict.fromkeys(spec.width for spec in named))
    if not names:
        return None
    try:
        return planner.among(models=names, widths=widths, at_any_side=True)
    except (BudgetError, NotCovered):
        return None


def published_network(planner: Planner, rival: ArchSpec | None) -> ArchSpec | None:
    """The best of the published networks within the budget, if it is another than `rival`, the best
    with plain multipliers, which has an arm already; where there is no rival, none is looked for.
    Where the search begins with weights, the best of their networks, at any input side: it begins
    with them too. None: there is none.

    Raises: as `with_weights`.
    """
    if planner.config.weights is not None:
        begun = with_weights(planner)
        return None if begun is None else begun.candidates[0].classifier
    if rival is None:
        return None
    try:
        best = planner.among(widths=(1.0,)).candidates[0].classifier
    except (BudgetError, NotCovered):
        return None
    return None if best == rival else best
