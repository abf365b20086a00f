"""A search that trains nothing before it has found: the member that does most work within the
latency, whose weights are then trained for all of the arm's time.

Source: of work within the budget, Lin et al., MCUNet, section 3.1.
"""

from __future__ import annotations

from dataclasses import replace
from time import monotonic

from pocketvision.budget import count_of, format_latency
from pocketvision.compress.busiest import busiest_members
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.measure.count import count
from pocketvision.models.space import Member
from pocketvision.models.spaces import like
from pocketvision.models.weights import save as save_network
from pocketvision.searching.finalists import able_finalists
from pocketvision.searching.search_arms import FOUND
from pocketvision.searching.search_config import Finalist
from pocketvision.searching.search_plan import evened_out
from pocketvision.searching.search_run import Searching
from pocketvision.searching.search_scoring import MeasuredLimit, time_whole

ROUNDS, TIMED = 4, 3  # what is timed in one sets the table right for the next


def find_by_work(searching: Searching) -> None:
    """Time finalists; afterwards the member that was found has its folder, and is not trained."""
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
    measured, state = MeasuredLimit(searching), searching.state
    known, space = state.multiplied, state.space
    base = None if known is None else like(space, known.name, known.width, known.resolution)
    with searching.reporter.progress("Timing finalists") as advance:
        for attempt in range(ROUNDS):
            measured.correct(before=attempt)
            members = busiest_members(
                space,
                measured.limit,
                lambda member: work_of(searching, member),
                number=TIMED,
            )
            if base is not None and not attempt:  # nothing that does less is worth a search
                members.append(base)
            for number, member in enumerate(members or [space.smallest()]):
                advance(TIMED * attempt + number, TIMED * ROUNDS, "")
                time_whole(searching, member, origin="work", accuracy=0.0, behind=attempt)
    finalists = searching.state.finalists
    if able := able_finalists(searching, [one.member for one in finalists]):
        return max(able, key=lambda one: work_of(searching, one.member))
    return min(finalists, key=lambda one: one.latency.median_ms)


def _keep(searching: Searching, member: Member) -> None:
    """Write it as a network of its own, as it is built."""
    classes = searching.samples.classes
    spec = searching.state.space.spec(member, len(classes))
    save_network(
        spec.build(seed=searching.config.seed),
        searching.folder / FOUND,
        classes=classes,
        preprocessing=Preprocessing.for_resolution(
            member.resolution, searching.samples.shorter_side
        ),
        trained=False,
    )
