"""NetAdapt, step by step, until the latency asked for.

Every proposal's score and every step are saved as they are known; what was interrupted goes on from
there, to the same networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from pocketvision.budget import format_latency
from pocketvision.compress.netadapt import (
    Proposal,
    Tried,
    best,
    next_target,
    proposals_of_a_step,
    propose,
)
from pocketvision.compress.pace import HURRIED, Costs, Pace, check_held, pace_for
from pocketvision.models.widths import Spec
from pocketvision.narrowing.narrower import Kept, Narrower, Net
from pocketvision.narrowing.state import NarrowedStep, network_folder
from pocketvision.record.searched import NarrowingProposal
from pocketvision.workers.pool import Pool


def paced(
    narrower: Narrower[Spec, Net, Kept],
    spec: Spec,
    step: float,
    brief_steps: int,
    costs: Costs,
    crew: int = 1,
) -> Pace:
    """The pace asked for, or what the time holds. spec: of the seed; others: as of `pace_for`.

    Raises: TooLittleTime: the time does not hold any.
    """
    table, config, target_ms = narrower.table, narrower.config, narrower.target_ms
    latency_ms = table.latency_ms(spec)

    @cache
    def proposals_of(step: float) -> int:
        first_ms = next_target(latency_ms, latency_ms, target_ms, step)
        return len(propose(spec, table, first_ms, config.multiple))

    with narrower.reporter.progress("Planning steps"):
        pace = pace_for(
            step,
            brief_steps,
            to_cut=1 - target_ms / latency_ms,
            proposals_of=proposals_of,
            costs=costs,
            share_s=narrower.share_s,
            crew=crew,
        )
    check_held(
        pace,
        narrower.share_s,
        fixed_s=narrower.clock.spent_s + narrower.finish_s,
        adapting_share=config.adapting_share,
    )
    return pace


def narrow(narrower: Narrower[Spec, Net, Kept], pool: Pool) -> None:
    """Step after step, until a whole network is within the latency.

    Raises: BudgetError: no width can be narrowed any more. WorkerError: as `Pool.scores`.
    """
    while not narrower.state.done:
        last: NarrowedStep[Spec] = narrower.state.steps[-1]
        if last.latency is None:
            _measure(narrower, last)
            continue
        narrower.table.meet(last.network, last.latency)
        _step(narrower, last, pool)


def _measure(narrower: Narrower[Spec, Net, Kept], last: NarrowedStep[Spec]) -> None:
    """Time the network behind the last step; it is done where that is fast enough."""
    state: Kept = narrower.state
    latency = narrower.timed_whole(last.network)
    narrower.save(
        replace(
            state,
            steps=(*state.steps[:-1], replace(last, latency=latency)),
            done=latency.median_ms <= narrower.target_ms,
            narrowed_s=round(narrower.clock.spent_s, 1),
        )
    )
    narrower.reporter.say(
        f"Step {len(state.steps) - 1}, {last.chosen}: {format_latency(latency.median_ms)}, "
        f"{last.accuracy:.1%} {narrower.expected} (the seed {state.steps[0].accuracy:.1%})."
    )


def _step(narrower: Narrower[Spec, Net, Kept], last: NarrowedStep[Spec], pool: Pool) -> None:
    """Propose, score every proposal, and take the best. Raises: as `narrow`."""
    table, spec = narrower.table, last.network
    latency_ms = table.latency_ms(spec)
    proposals = proposals_of_a_step(
        spec,
        table,
        seed_ms=narrower.seed_latency.median_ms,
        budget_ms=narrower.target_ms,
        asked_ms=narrower.config.latency_ms,
        step=HURRIED if narrower.is_late else narrower.state.step,
        multiple=narrower.config.multiple,
    )
    tried = _score(narrower, proposals, latency_ms, pool)
    chosen = best(tried, last.accuracy, latency_ms)
    scoring = narrower.scoring()
    network = scoring.open().tuned(scoring.task(chosen.proposal, tried.index(chosen)))
    made = NarrowedStep(
        network=chosen.proposal.spec,
        latency=None,
        accuracy=chosen.accuracy,
        chosen=chosen.proposal.group,
        proposals=narrower.state.pending,
    )
    state = replace(narrower.state, steps=(*narrower.state.steps, made), pending=())
    narrower.keep(network, network_folder(state, narrower.folder, narrower.config.source))
    narrower.network = network
    narrower.save(state)


def _score(
    narrower: Narrower[Spec, Net, Kept],
    proposals: Sequence[Proposal[Spec]],
    latency_ms: float,
    pool: Pool,
) -> list[Tried[Spec]]:
    """All proposals with their accuracy; what an interrupted run scored is taken from there."""
    number, before = len(narrower.state.steps), narrower.state.steps[-1].accuracy
    scored = [(one.group, one.width) for one in narrower.state.pending]
    if scored != [(one.group, one.width) for one in proposals[: len(scored)]]:
        narrower.save(replace(narrower.state, pending=()))  # the table was timed anew since
    first = len(narrower.state.pending)
    scoring = narrower.scoring()
    tasks = [scoring.task(proposal, place) for place, proposal in enumerate(proposals)]
    with narrower.reporter.progress(f"Step {number}") as advance:

        def known(place: int, accuracy: float) -> None:
            proposal = proposals[first + place]
            found = NarrowingProposal(
                group=proposal.group,
                width=proposal.width,
                latency_ms=proposal.latency_ms,
                accuracy=accuracy,
            )
            narrower.save(replace(narrower.state, pending=(*narrower.state.pending, found)))
            note = f"{format_latency(latency_ms)}, {before:.1%} expected"
            advance(first + place + 1, len(proposals), note)

        pool.scores(scoring, tasks[first:], known)
    pairs = zip(proposals, narrower.state.pending, strict=True)
    return [Tried(proposal=proposal, accuracy=one.accuracy) for proposal, one in pairs]
