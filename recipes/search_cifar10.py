"""A searched network against the best width multiplier at one input side, for the same time.

    python recipes/search_cifar10.py CIFAR10 --page recipes/search_cifar10.md

Per seed, `search` with two arms: what its search finds, and what `fit` makes of the same minutes
from MobileNetV3 with plain multipliers. Finished seeds lie in --work and are not made again; one
that was interrupted goes on when the same command is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from paired import (
    RULE,
    Pair,
    PairedOptions,
    Trial,
    arguments,
    arms_table,
    command,
    conditions,
    failures,
    given_words,
    outcome,
    publish_trials,
    subset,
    trial_of,
)
from plotting import table

from pocketvision.budget import Budget, format_latency, parse_latency
from pocketvision.cli.display import TerminalReporter
from pocketvision.errors import GateError
from pocketvision.fitting.artefact import RUN, Artefact, load
from pocketvision.record.words import Sampling
from pocketvision.searching.search import run_search
from pocketvision.searching.search_config import MULTIPLIERS, SEARCH, SearchConfig, SearchState
from pocketvision.searching.search_log import ScoreLog
from pocketvision.searching.search_plan import arms_of
from pocketvision.searching.search_run import ARMS, SEARCHING, STATE
from pocketvision.storage import from_json

OURS, RIVAL = "The searched network", "the best with plain multipliers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Options(PairedOptions):
    """What the command line said. space, supernet_steps, evaluations: None: as `search` chooses."""

    latency: str
    resolution: int
    space: str | None = None
    supernet_steps: int | None = None
    evaluations: int | None = None


def config(asked: Options, seed: int, data: Path) -> SearchConfig:
    """The search of one seed; both of its arms have the same time."""
    time_s = None if asked.time_s is None else 2 * asked.time_s
    return SearchConfig(
        data=str(data),
        budget=Budget(latency_ms=parse_latency(asked.latency), time_s=time_s),
        space=asked.space,
        resolutions=(asked.resolution,),
        runtime="onnxruntime",
        supernet_steps=asked.supernet_steps,
        evaluations=asked.evaluations,
        baselines="multipliers",
        epochs=asked.epochs,
        seed=seed,
    )


def trial(asked: Options, seed: int) -> Trial:
    """Search, and run what both arms ship on the test images."""
    data, out = subset(asked, seed), out_of(asked, seed)
    if not (out / RUN).exists():
        search(config(asked, seed, data), out)
    arms = {arm.name: arm for arm in state_of(out).arms}
    found: dict[str, Artefact | str] = {
        name: arm.note or load(out / SEARCHING / ARMS / name) for name, arm in arms.items()
    }
    return trial_of(seed, found, {name: arm.seconds for name, arm in arms.items()}, data)


def search(asked: SearchConfig, out: Path) -> None:
    """Begin a search or go on with it. Where no arm comes to anything, that is its result."""
    try:
        run_search(asked, out, TerminalReporter())
    except GateError:
        if not (out / SEARCHING / STATE).exists() or len(state_of(out).arms) < len(arms_of(asked)):
            raise


def out_of(asked: Options, seed: int) -> Path:
    """The folder of the search of a seed."""
    return asked.work / f"seed-{seed}" / "searched"


def state_of(out: Path) -> SearchState:
    """How far a search has come."""
    path = out / SEARCHING / STATE
    return from_json(SearchState, path.read_bytes(), source=str(path))


def pairs_of(trials: Sequence[Trial]) -> list[Pair]:
    """What was searched beside its rival, of the seeds that have both."""
    return [
        Pair(seed=one.seed, ours=ours, rival=rival)
        for one in trials
        if (ours := one.entry(SEARCH)) and (rival := one.entry(MULTIPLIERS))
    ]


def search_table(asked: Options) -> list[str]:
    """What was searched and scored, and where the time went."""
    rows = []
    for seed in asked.seeds:
        out = out_of(asked, seed)
        state, log = state_of(out), ScoreLog(out / SEARCHING)
        seconds = {arm.name: arm.seconds for arm in state.arms}
        minutes = (
            state.spent_s - sum(seconds.values()),
            state.search_s,
            seconds[SEARCH] - state.search_s,
            seconds[MULTIPLIERS],
        )
        rows.append(
            (
                str(seed),
                f"{state.space.name} @{', @'.join(map(str, state.space.resolutions))}",
                f"{state.steps_made:,}",
                *(best_cell(log, origin) for origin in ("evolution", "random")),
                *(f"{max(0.0, value) / 60:.1f}" for value in minutes),
            )
        )
    titles = (
        *("seed", "space", "steps of the supernet", "evolution: scored, best"),
        *("random: scored, best", "before the arms, min", "search, min"),
        *("its fine-tuning, min", "multipliers, min"),
    )
    return table(titles, rows)


def best_cell(log: ScoreLog, origin: Sampling) -> str:
    """How many members a way to search scored, and the best expected accuracy among them."""
    scores = [entry.accuracy for entry in log.entries if entry.origin == origin]
    return f"{len(scores)}, {max(scores):.1%}" if scores else "0"


def found_lines(asked: Options) -> list[str]:
    """What each search found, in words."""
    states = {seed: state_of(out_of(asked, seed)) for seed in asked.seeds}
    return [
        *(
            f"- Seed {seed}: {state.found.member.described}, "
            f"{format_latency(state.found.latency.median_ms)} untrained as {state.precision}."
            for seed, state in states.items()
            if state.found is not None
        ),
        "",
    ]


def page(trials: Sequence[Trial], asked: Options) -> list[str]:
    """The page, line by line."""
    pairs = pairs_of(trials)
    return [
        "# A search against multipliers, for the same time",
        "",
        "Does an architecture that was searched for on the images and the machine beat the best "
        "MobileNetV3 with a width multiplier, trained for the same total time (search included), "
        f"within the same measured latency? Both have inputs of {asked.resolution} px: what was "
        "published says too little of small inputs to choose their side by it. The rival is the "
        "best of MobileNetV3-Large and -Small by published accuracy; their minimalistic forms, "
        f"whose blocks the space has, are not among the rivals. {RULE}",
        "",
        "```",
        command("search_cifar10", asked),
        "```",
        "",
        *outcome(pairs, trials, OURS, RIVAL),
        *arms_table(trials, pairs),
        *failures(trials, asked.work),
        "What the searches found, before NetAdapt and fine-tuning:",
        "",
        *found_lines(asked),
        *search_table(asked),
        "Best: expected accuracy with the weights that all members share, of training images held "
        "out; all members scored are within the latency by the table of blocks. Before the arms: "
        "reading images, timing candidates and blocks, which this machine does once and then "
        "knows. The time of the search arm is search and fine-tuning together.",
        "",
        *conditions(trials, asked),
    ]


def options() -> Options:
    """Parse the command line."""
    parser = arguments(__doc__, work="cifar10-search", minutes=20)
    parser.add_argument("--latency", default="0.25ms", help="of both arms")
    parser.add_argument("--resolution", type=int, default=64, help="of both arms, in pixels")
    parser.add_argument("--space", help="name or TOML file; else as `search` chooses")
    parser.add_argument("--supernet-steps", type=int, help="else as the time allows")
    parser.add_argument("--evaluations", type=int, help="of each way; else as the time allows")
    return Options(**given_words(parser))


def main() -> None:
    """Make what is not made yet, and write the page."""
    asked = options()
    publish_trials(asked, partial(trial, asked), partial(page, asked=asked))


if __name__ == "__main__":
    main()
