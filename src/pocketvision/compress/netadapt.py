"""NetAdapt: a network becomes faster step by step, each time where it costs the least accuracy.

Source: Yang et al., NetAdapt, Algorithm 1; in the form of Howard et al., Searching for MobileNetV3,
section 4.2: every proposal cuts the latency by at least a share of the seed's, and the one with the
largest ratio of accuracy change to latency change is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pocketvision.budget import format_latency, rounded_up
from pocketvision.errors import BudgetError, in_range
from pocketvision.models.networks import AnySpec
from pocketvision.models.patch import PatchSpec
from pocketvision.models.width_groups import WidthGroup
from pocketvision.models.widths import Spec, groups_of, least_width, narrower, widths_of

STEP = 0.01  # of the seed's latency, MobileNetV3's delta
NARROWED = (0.5, 0.0)  # of each width, at least, in the forms between
MULTIPLE = 8  # of channels, where a block allows it
SMALLEST_STEP = 0.001  # of the seed's latency

Asked = TypeVar("Asked", AnySpec, PatchSpec, contravariant=True)


class Latencies(Protocol[Asked]):
    """Where latencies come from: a table."""

    def ensure(self, specs: Iterable[Asked]) -> None:
        """Time what these networks need, all at once."""
        ...

    def latency_ms(self, spec: Asked) -> float: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal(Generic[Spec]):
    """One group of widths made narrower. latency_ms: of the network then, by the table."""

    group: str
    width: int
    spec: Spec
    latency_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried(Generic[Spec]):
    """A proposal after its short fine-tuning. accuracy: expected, of what was held out, 0..1."""

    proposal: Proposal[Spec]
    accuracy: float


def propose(
    spec: Spec, table: Latencies[Spec], target_ms: float, multiple: int = MULTIPLE
) -> list[Proposal[Spec]]:
    """For every group of widths the widest that brings the network to `target_ms`.

    A group that cannot do so alone proposes nothing. multiple: of channels; a group that has no
    width of it, such as a small one, is left as it is.

    Raises: ConfigError: a multiple below 1.
    """
    searches = [
        _Search(spec, group, widths)
        for group in groups_of(spec)
        if (widths := widths_of(spec, group, multiple))
    ]
    # All groups are halved together, so that a table has many networks to time at once.
    table.ensure([search.narrowest for search in searches])
    able = [s for s in searches if table.latency_ms(s.narrowest) <= target_ms]
    while open_searches := [search for search in able if search.is_open]:
        table.ensure([search.middle for search in open_searches])
        for search in open_searches:
            search.halve(table.latency_ms(search.middle) <= target_ms)
    return [search.found(table) for search in able]


class _Search(Generic[Spec]):
    """Bisection over the widths of one group, the widest first."""

    def __init__(self, spec: Spec, group: WidthGroup, widths: Sequence[int]) -> None:
        self.spec: Spec = spec
        self.group, self.widths = group, widths
        self.low, self.high = -1, len(widths) - 1  # too slow or unknown; fast enough

    @property
    def narrowest(self) -> Spec:
        return self._at(len(self.widths) - 1)

    @property
    def is_open(self) -> bool:
        return self.high - self.low > 1

    @property
    def middle(self) -> Spec:
        return self._at((self.low + self.high) // 2)

    def halve(self, fast_enough: bool) -> None:
        """Go on in the half that the middle's latency points to."""
        middle = (self.low + self.high) // 2
        self.low, self.high = (self.low, middle) if fast_enough else (middle, self.high)

    def found(self, table: Latencies[Spec]) -> Proposal[Spec]:
        spec = self._at(self.high)
        return Proposal(
            group=self.group.name,
            width=self.widths[self.high],
            spec=spec,
            latency_ms=table.latency_ms(spec),
        )

    def _at(self, place: int) -> Spec:
        return narrower(self.spec, self.group, self.widths[place])


def best(tried: Sequence[Tried[Spec]], accuracy: float, latency_ms: float) -> Tried[Spec]:
    """The one that loses the least accuracy for each millisecond it saves.

    accuracy, latency_ms: of the network that all were proposed for.
    Source: Howard et al., Searching for MobileNetV3, section 4.2, step 2 (c).
    """

    def ratio(one: Tried[Spec]) -> float:
        return (one.accuracy - accuracy) / (latency_ms - one.proposal.latency_ms)

    return max(tried, key=ratio)


def narrowest(spec: Spec, multiple: int = MULTIPLE, share: float = 0.0) -> Spec:
    """The network with every group as narrow as it can be: no proposals lead further.

    share: of its width that every group keeps at least.
    """
    place = 0
    while place < len(groups := groups_of(spec)):
        least = least_width(spec, groups[place], multiple, share * groups[place].width)
        if least is not None:
            spec = narrower(spec, groups[place], least)
        place += 1
    return spec


def forms_between(spec: Spec) -> list[Spec]:
    """The network, about half as wide everywhere, and as narrow as can be: whoever knows what the
    blocks of these take knows about what those of any narrowed form take.
    """
    forms = [spec]
    for share in NARROWED:
        forms.append(narrowest(spec, share=share))
    return forms


def next_target(latency_ms: float, seed_ms: float, budget_ms: float, step: float = STEP) -> float:
    """What the next proposals have to reach: a step less, but no less than the budget asks for.

    Raises: ConfigError: a step outside 0.001..0.5.
    """
    in_range("step", step, 0.001, 0.5)
    return max(budget_ms, latency_ms - step * seed_ms)


def proposals_of_a_step(
    spec: Spec,
    table: Latencies[Spec],
    *,
    seed_ms: float,
    budget_ms: float,
    asked_ms: float,
    step: float,
    multiple: int,
) -> list[Proposal[Spec]]:
    """Those that cut a whole step; where no width alone can, half a step, and so on.

    seed_ms: what the first network of all took. budget_ms: what an untrained network may take, so
    that what ships takes no more than asked_ms.

    Raises: BudgetError: no width can be narrowed any more.
    """
    latency_ms = table.latency_ms(spec)
    while step >= SMALLEST_STEP:
        target_ms = next_target(latency_ms, seed_ms, budget_ms, step)
        if found := propose(spec, table, target_ms, multiple):
            return found
        step /= 2
    raise BudgetError(
        f"{spec.label} takes {format_latency(latency_ms)} and cannot be narrowed further in "
        f"multiples of {multiple}. Ask for --latency {_enough(latency_ms, budget_ms, asked_ms)}ms."
    )


def _enough(latency_ms: float, budget_ms: float, asked_ms: float) -> str:
    """What to ask for, so that an untrained network may take `latency_ms`."""
    return rounded_up(1.02 * latency_ms * asked_ms / budget_ms)


def check_reachable(
    spec: Spec, table: Latencies[Spec], budget_ms: float, multiple: int, asked_ms: float
) -> None:
    """Raises: BudgetError: not even the narrowest form of the network meets the budget.

    budget_ms, asked_ms: as for `proposals_of_a_step`.
    """
    least_ms = table.latency_ms(narrowest(spec, multiple))
    if least_ms > budget_ms:
        raise BudgetError(
            f"{spec.label} cannot be made as fast as {asked_ms:.3g} ms by narrowing: with every "
            f"width at its least it takes about {least_ms:.3g} ms, untrained. Ask for --latency "
            f"{_enough(least_ms, budget_ms, asked_ms)}ms, or begin with a smaller network or "
            "resolution."
        )
