"""Which networks the planner measures: names x widths x resolutions, thinned to a few dozen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from pocketvision.budget import Budget
from pocketvision.errors import ConfigError
from pocketvision.measure.count import Count, count
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec
from pocketvision.models.networks import AnySpec
from pocketvision.models.published import prior
from pocketvision.record.files import Prior

RESOLUTIONS = (32, 48, 64, 96, 128, 160, 192, 224)
MAX_ENLARGEMENT = 4  # of the images' median shorter side
MAX_CANDIDATES = 36


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One network the budget might allow, with what can be known without running it."""

    spec: AnySpec
    count: Count
    prior: Prior

    @property
    def classifier(self) -> ArchSpec:
        """The network, of a classifier: searches know of no other."""
        assert isinstance(self.spec, ArchSpec)
        return self.spec


def resolutions_for(
    shorter_side: int, asked: tuple[int, ...], usual: tuple[int, ...] = RESOLUTIONS
) -> tuple[int, ...]:
    """The resolutions to try for images of this (median) shorter side, in pixels.

    usual: those of the task, of which the smallest is tried whatever the images.

    Raises: ConfigError: every resolution asked for would enlarge the images beyond 4x.
    """
    limit = max(MAX_ENLARGEMENT * shorter_side, usual[0])
    fitting = tuple(r for r in asked or usual if r <= limit)
    if not fitting:
        raise ConfigError(
            f"resolution={min(asked)} would enlarge the images ({shorter_side} px) more than "
            f"{MAX_ENLARGEMENT}x; ask for {limit} or less."
        )
    return fitting


def select_names(patterns: tuple[str, ...]) -> list[str]:
    """Registry names that match any of `patterns`; without one, those that the planner considers.

    Raises: ConfigError: a pattern without a match.
    """
    if not patterns:
        return [name for name in registry.list_models() if registry.MODELS[name].planned]
    matches = (name for pattern in patterns for name in registry.find_models(pattern))
    return list(dict.fromkeys(matches))


Make = Callable[[str, float, int], ArchSpec]  # of a name, a width and a resolution


def plain(name: str, width: float, resolution: int) -> ArchSpec:
    """A network of the registry as it is."""
    return registry.spec(name, width=width, resolution=resolution)


def list_backbones(
    names: list[str], widths: tuple[float, ...], resolutions: tuple[int, ...], make: Make = plain
) -> list[ArchSpec]:
    """Every combination."""
    return [
        make(name, width, resolution)
        for name in names
        for width in widths or registry.widths(name)
        for resolution in resolutions
    ]


def list_candidates(
    names: list[str],
    widths: tuple[float, ...],
    resolutions: tuple[int, ...],
    num_classes: int,
) -> list[Candidate]:
    """Classifiers, every combination, as candidates."""
    return candidates_on(
        list_backbones(names, widths, resolutions), lambda one: one.with_classes(num_classes)
    )


def candidates_on(
    backbones: list[ArchSpec], network: Callable[[ArchSpec], AnySpec]
) -> list[Candidate]:
    """What the task makes of each backbone it can stand on.

    Raises: ConfigError: it can stand on none of them.
    """
    found: list[Candidate] = []
    refused: ConfigError | None = None
    for backbone in backbones:
        try:
            found.append(as_candidate(network(backbone)))
        except ConfigError as error:
            refused = error
    if not found and refused is not None:
        raise refused
    return found


def as_candidate(spec: AnySpec) -> Candidate:
    """Count a network and look up what the papers say of it, or of what it stands on."""
    counted = count(spec)
    body = spec if isinstance(spec, ArchSpec) else spec.backbone
    expected = prior(
        body.name, macs=_imagenet_macs(body), width=body.width, resolution=body.resolution
    )
    if body.variant and expected.source == "published":  # of the network without the variation
        expected = replace(expected, source="interpolated")
    return Candidate(spec=spec, count=counted, prior=expected)


def _imagenet_macs(spec: ArchSpec) -> int:
    """MACs with the papers' 1000 classes, to which their accuracies belong."""
    return count(spec.with_classes(1000)).macs


def thin(
    candidates: list[Candidate], budget: Budget, limit: int = MAX_CANDIDATES
) -> list[Candidate]:
    """At most `limit` candidates: the best priors in each of equal steps of log MACs.

    Networks whose INT8 weights alone exceed the size or the memory are dropped, unless that drops
    everything.
    """
    size = min(budget.size_bytes or math.inf, budget.memory_bytes or math.inf)
    light = [c for c in candidates if c.count.parameters <= size]
    pool = light or sorted(candidates, key=lambda c: c.count.parameters)[:1]
    if len(pool) <= limit:
        return pool
    smallest = min(pool, key=lambda c: c.count.macs)
    low, high = math.log(smallest.count.macs), math.log(max(c.count.macs for c in pool))
    steps = max(1, limit // 2)
    bins: dict[int, list[Candidate]] = {}
    for candidate in sorted(pool, key=lambda c: -c.prior.top1):
        step = int((math.log(candidate.count.macs) - low) / (high - low + 1e-9) * steps)
        bins.setdefault(step, []).append(candidate)
    ranked = sorted(
        ((rank, -c.prior.top1, c) for members in bins.values() for rank, c in enumerate(members)),
        key=lambda entry: entry[:2],
    )
    kept = [c for _, _, c in ranked[: limit - 1]]
    return kept if smallest in kept else [*kept, smallest]
