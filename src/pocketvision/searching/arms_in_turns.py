"""The files of all arms timed against each other; before, each had minutes of its own."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from pocketvision.fitting.artefact import Artefact
from pocketvision.measure.latency import FINAL, Run, measure_latency
from pocketvision.measure.untrained import noise
from pocketvision.progress import counted
from pocketvision.searching.search_run import ARMS, Searching

IN_TURNS = replace(FINAL, retries=1)  # it decides on no budget


def time_in_turns(searching: Searching) -> None:
    """Keep what the arms' files take in turns, unless it is known or there is one file alone.

    For another device there is nothing to time here.
    """
    made = [arm for arm in searching.state.arms if arm.latency is not None]
    if searching.config.target or len(made) < 2 or all(arm.in_turns for arm in made):
        return
    runs = {arm.name: _run(Artefact(searching.folder / ARMS / arm.name)) for arm in made}
    with searching.reporter.progress("Timing the arms in turns") as advance:
        found = measure_latency(runs, IN_TURNS, searching.config.threads, progress=counted(advance))
    arms = (replace(arm, in_turns=found.get(arm.name)) for arm in searching.state.arms)
    searching.save(replace(searching.state, arms=tuple(arms)))


def _run(artefact: Artefact) -> Run:
    return partial(artefact.session().run, noise(1, artefact.network.spec))
