"""What searches found and where their time went, as the pages of recipes tell it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from plotting import table

from pocketvision.budget import format_latency
from pocketvision.fitting.artefact import load
from pocketvision.measure.count import count
from pocketvision.record.searched import Arm
from pocketvision.record.words import Sampling
from pocketvision.searching.search_config import SEARCH, Method, SearchState
from pocketvision.searching.search_log import ScoreLog
from pocketvision.searching.search_run import ARMS, SEARCHING, STATE
from pocketvision.storage import from_json


def state_in(out: Path) -> SearchState:
    """How far the search in a folder has come."""
    path = out / SEARCHING / STATE
    return from_json(SearchState, path.read_bytes(), source=str(path))


def arm_folder(out: Path) -> Path:
    """Where what was found is trained."""
    return out / SEARCHING / ARMS / SEARCH


def arm_of(state: SearchState) -> Arm:
    """What it came to."""
    return next(arm for arm in state.arms if arm.name == SEARCH)


def how_searched(outs: Mapping[int, Path], method: Method, classes: int) -> list[str]:
    """What was found and where the time went. outs: the folder of each seed's search."""
    states = {seed: state_in(out) for seed, out in outs.items()}
    found = [*_found_lines(states, classes), ""]
    if method == "work":
        return ["What the searches found:", "", *found, *_work_table(states, outs)]
    return [
        "What the searches found, before NetAdapt and fine-tuning:",
        "",
        *found,
        *_score_table(states, outs),
        "Best: expected accuracy with the weights that all members share, of training images held "
        "out; all members scored are within the latency by the table of blocks.",
        "",
    ]


def _found_lines(states: Mapping[int, SearchState], classes: int) -> list[str]:
    lines = []
    for seed, state in states.items():
        if state.found is not None:
            work = count(state.space.spec(state.found.member, classes)).macs
            how = "by the table" if state.target_sha256 else f"untrained as {state.precision}"
            lines.append(
                f"- Seed {seed}: {state.found.member.described}; {work:,} multiply-accumulates, "
                f"{format_latency(state.found.latency.median_ms)} {how}."
            )
    return lines


def _work_table(states: Mapping[int, SearchState], outs: Mapping[int, Path]) -> list[str]:
    rows = []
    for seed, state in states.items():
        came_to_nothing = bool(arm_of(state).note)
        epochs = "–" if came_to_nothing else str(len(load(arm_folder(outs[seed])).record.epochs))
        row = (str(seed), _space(state), str(len(state.finalists)), epochs, *_minutes(state))
        rows.append(row)
    titles = ("seed", "space", "finalists", "epochs", "before the search, min")
    return table((*titles, "search, min", "training, min"), rows)


def _score_table(states: Mapping[int, SearchState], outs: Mapping[int, Path]) -> list[str]:
    rows = []
    for seed, state in states.items():
        log = ScoreLog(outs[seed] / SEARCHING)
        ways: tuple[Sampling, Sampling] = ("evolution", "random")
        best = (_best(log, way) for way in ways)
        rows.append((str(seed), _space(state), f"{state.steps_made:,}", *best, *_minutes(state)))
    titles = (
        *("seed", "space", "steps of the supernet", "evolution: scored, best"),
        *("random: scored, best", "before the search, min", "search, min", "fine-tuning, min"),
    )
    return table(titles, rows)


def _space(state: SearchState) -> str:
    return f"{state.space.name} @{', @'.join(map(str, state.space.resolutions))}"


def _minutes(state: SearchState) -> list[str]:
    """Before the search, of it, and behind it."""
    arm = arm_of(state)
    seconds = (state.spent_s - arm.seconds, state.search_s, arm.seconds - state.search_s)
    return [f"{max(0.0, value) / 60:.1f}" for value in seconds]


def _best(log: ScoreLog, way: Sampling) -> str:
    """How many members it scored, and the best expected accuracy among them."""
    scores = [entry.accuracy for entry in log.entries if entry.origin == way]
    return f"{len(scores)}, {max(scores):.1%}" if scores else "0"
