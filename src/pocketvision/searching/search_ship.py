"""The best arm of a search by the images of val, shipped with a record of all."""

from __future__ import annotations

import shutil
from dataclasses import replace

from pocketvision.errors import GateError
from pocketvision.fitting.artefact import (
    CANDIDATES,
    CARD,
    RECORD,
    REPORT,
    RUN,
    TRAINING,
    Artefact,
    load,
    read_state,
)
from pocketvision.fitting.fine_tuning import FROM_SCRATCH
from pocketvision.fitting.folder import PREPARED
from pocketvision.fitting.seal import seal_of
from pocketvision.record.searched import Arm, Search, SearchedNetwork
from pocketvision.report.card import render_card
from pocketvision.report.html import render_report
from pocketvision.searching.search_config import SHARING, SearchConfig
from pocketvision.searching.search_log import ScoreLog
from pocketvision.searching.search_run import ARMS, Searching
from pocketvision.searching.search_verdict import best_of, verdict
from pocketvision.storage import to_json, write_into

STAYS = (CANDIDATES, TRAINING, PREPARED)  # in the arm's folder


def ship_best(searching: Searching, command: str) -> Artefact:
    """Copy the best arm's folder to where the search was asked to write; run.json comes last.

    Raises: GateError: no arm came to a network within the budget.
    """
    state, out = searching.state, searching.out
    best = best_of(state.arms)
    if best is None:
        reasons = " ".join(f"{arm.name}: {arm.note}" for arm in state.arms)
        raise GateError(f"No arm came to a network within {searching.config.budget}. {reasons}")
    source = searching.folder / ARMS / best.name
    for path in sorted(source.iterdir()):
        if path.name in (RUN, *STAYS):
            continue
        if path.is_dir():
            shutil.rmtree(out / path.name, ignore_errors=True)
            shutil.copytree(path, out / path.name)
        else:
            shutil.copyfile(path, out / path.name)
    arms = tuple(replace(arm, shipped=arm is best) for arm in state.arms)
    fitted = load(source)
    network = fitted.record.network
    if best.name in SHARING:
        network = replace(network, start=_start(searching.config))
    record = replace(
        fitted.record,
        network=network,
        command=command,
        budget=replace(fitted.record.budget, time_s=searching.config.budget.time_s),
        spent_s=round(searching.clock.spent_s, 3),
        search=_summary(searching, arms),
    )
    write_into(out / RECORD, to_json(record))
    write_into(out / REPORT, render_report(record))
    write_into(out / CARD, render_card(record))
    run_state = replace(
        read_state(source), command=command, spent_s=record.spent_s, seal=seal_of(out)
    )
    write_into(out / RUN, to_json(run_state))
    return Artefact(out)


def _start(config: SearchConfig) -> str:
    """How the training began of what was found, of which its own run knows only a folder."""
    begun = FROM_SCRATCH if config.weights is None else f"fine-tuned from part of {config.weights}"
    return begun if config.by_work else f"{begun}, at first in a supernet"


def _summary(searching: Searching, arms: tuple[Arm, ...]) -> Search:
    state, config, log = searching.state, searching.config, ScoreLog(searching.folder)
    drawn = {entry.member for entry in log.entries if entry.origin == "random"}
    return Search(
        space=state.space.name,
        members=state.space.members,
        method=config.method,
        runtime=state.runtime,
        precision=state.precision,
        threads=config.threads,
        limit_ms=state.limit_ms,
        supernet_steps=state.steps_made,
        held_out=0 if config.by_work else len(searching.images.held_out),
        scored=tuple(
            SearchedNetwork(
                origin=entry.origin,
                described=entry.member.described,
                resolution=entry.member.resolution,
                latency_ms=entry.latency_ms,
                size_bytes=entry.size_bytes,
                accuracy=entry.accuracy,
            )
            for entry in log.entries
        ),
        arms=arms,
        sentence=verdict(arms, state.found, config.method, drawn),
    )
