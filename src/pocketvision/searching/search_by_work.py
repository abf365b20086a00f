"""A search that trains nothing before it has found: the member that does most work within the
latency, whose weights are then trained for all of the arm's time.

Source: of work within the budget, Lin et al., MCUNet, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from time import monotonic

from pocketvision.budget import count_of, format_latency
from pocketvision.compress.busiest import WorkOf, busiest_members
from pocketvision.compress.sampling import LatencyOf, Limit
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.measure.count import count
from pocketvision.measure.fitted_sums import Whole, fit_sums
from pocketvision.models.arch import Network
from pocketvision.models.space import Member
from pocketvision.models.spaces import like
from pocketvision.models.weights import save as save_network
from pocketvision.searching.finalists import able_finalists
from pocketvision.searching.search_arms import FOUND
from pocketvision.searching.search_config import Finalist
from pocketvision.searching.search_plan import evened_out
from pocketvision.searching.search_run import Searching
from pocketvision.searching.search_scoring import time_whole
from pocketvision.searching.search_work import new_supernet

ROUNDS, TIMED = 4, 3  # what is timed in one sets the table right for the next


def find_by_work(searching: Searching) -> None:
    """Time finalists; afterwards the member that was found has its folder, and is not trained here.

    Raises: ConfigError, ArtefactError: weights that cannot be begun with.
    """
    begun = monotonic() - searching.state.search_s
    found = _busiest_finalist(searching)
    searching.reporter.say(
        f"Found {found.member.described}: {format_latency(found.latency.median_ms)}, "
        f"{count_of(work_of(searching, found.member), 'multiply-accumulate')}."
    )
    _keep(searching, found.member)
    searching.pause(begun)
    state = replace(searching.state, found=found)
    searching.save(replace(state, plan=evened_out(state, searching.clock.remaining_s)))


def work_of(searching: Searching, member: Member) -> int:
    """Its multiply-accumulates."""
    return count(searching.state.space.spec(member, len(searching.samples.classes))).macs


def _busiest_finalist(searching: Searching) -> Finalist:
    """Of those timed whole and within the limits, the one that does most; else the fastest."""
    # Every round asks for the same members.
    work: WorkOf = cache(partial(work_of, searching))
    sum_ms: LatencyOf = cache(partial(_sum_ms, searching))
    with searching.reporter.progress("Timing finalists") as advance:
        for attempt in range(ROUNDS):
            members = _proposed(searching, attempt, work, sum_ms)
            for number, member in enumerate(members):
                advance(TIMED * attempt + number, TIMED * ROUNDS, "")
                time_whole(searching, member, origin="work", accuracy=0.0, behind=attempt)
    finalists = searching.state.finalists
    if able := able_finalists(searching, [one.member for one in finalists]):
        return max(able, key=lambda one: work(one.member))
    return min(finalists, key=lambda one: one.latency.median_ms)


def _proposed(searching: Searching, attempt: int, work: WorkOf, sum_ms: LatencyOf) -> list[Member]:
    """Members to time: the busiest, as far as what was timed before tells; at first also the
    network with a plain multiplier and the smallest member, by which sums are set right.
    """
    state = searching.state
    expected = _expected(state.finalists, attempt, sum_ms)
    limit = Limit(latency_of=expected, limit_ms=state.limit_ms)
    busiest = busiest_members(state.space, limit, work, number=TIMED)
    if attempt:
        return busiest
    known = state.multiplied
    base = None if known is None else like(state.space, known.name, known.width, known.resolution)
    return [*busiest, *([] if base is None else [base]), state.space.smallest()]


def _expected(finalists: Sequence[Finalist], attempt: int, sum_ms: LatencyOf) -> LatencyOf:
    """The latency of members by the table, set right by those timed in earlier attempts."""
    fit = fit_sums(
        [
            Whole(
                sum_ms=sum_ms(one.member),
                blocks=_blocks(one.member),
                latency_ms=one.latency.median_ms,
            )
            for one in finalists
            if one.timed_in < attempt
        ]
    )
    return lambda member: fit.latency_ms(sum_ms(member), _blocks(member))


def _blocks(member: Member) -> int:
    return sum(map(len, member.stages))


def _sum_ms(searching: Searching, member: Member) -> float:
    return searching.table.latency_ms(
        searching.state.space.spec(member, len(searching.samples.classes))
    )


def _keep(searching: Searching, member: Member) -> None:
    """Write it as a network of its own: with its share of the weights asked for, or as it is built.

    Raises: ConfigError, ArtefactError: as `warm_start`.
    """
    config, classes = searching.config, searching.samples.classes
    save_network(
        _begun(searching, member),
        searching.folder / FOUND,
        classes=classes,
        preprocessing=Preprocessing.for_resolution(
            member.resolution, searching.samples.shorter_side
        ),
        trained=config.weights is not None,
    )


def _begun(searching: Searching, member: Member) -> Network:
    config, space, classes = searching.config, searching.state.space, len(searching.samples.classes)
    if config.weights is None:
        return space.spec(member, classes).build(seed=config.seed)
    return new_supernet(config, space, classes, searching.reporter).extract(member)
