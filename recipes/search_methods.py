"""Evolution, MnasNet's controller and random search: as many scores each, on one supernet.

    python recipes/search_methods.py SEARCHED --work WORK --page recipes/search_methods.md

SEARCHED is a folder that `pocketvision search` wrote, and its images lie where they lay: the ways
share its supernet, its limit of latency and the reward of the papers, ACC * (LAT / target)^w. With
each seed every way asks for --evaluations members, a generation at a time. What was scored lies in
--work and is not scored again.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from plotting import gain_cell, machine_line, spread_cell, table

from pocketvision.budget import format_latency
from pocketvision.compress.controller import Controller
from pocketvision.compress.evolution import Evolution, EvolutionConfig
from pocketvision.compress.sampling import (
    REWARD_EXPONENT,
    Limit,
    RandomSearch,
    Sampler,
    Scored,
    reward,
)
from pocketvision.data.images import Samples, scan
from pocketvision.fitting.reporter import Silent
from pocketvision.models.space import Member, SearchSpace
from pocketvision.models.spaces import familiar
from pocketvision.record.words import Sampling
from pocketvision.runtimes.registry import get_runtime
from pocketvision.searching.scaled_table import ScaledTable
from pocketvision.searching.search_config import SearchState
from pocketvision.searching.search_run import SEARCHING, STATE, Images
from pocketvision.searching.search_work import WEIGHTS, JudgeWork
from pocketvision.storage import from_json, to_json, write_atomic

NAMES: dict[Sampling, str] = {
    "evolution": "evolution",
    "rl": "the controller",
    "random": "random search",
}
PAIRS: tuple[tuple[Sampling, Sampling], ...] = (
    ("evolution", "random"),
    ("rl", "random"),
    ("evolution", "rl"),
)
GENERATION = 16
SCORES = "scores.json"
SAVED_EVERY = 16  # scores


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a way came to with one seed. Rewards as they are; accuracy 0..1, ms of the best."""

    way: Sampling
    seed: int
    best: float
    accuracy: float
    latency_ms: float
    tenth: float  # mean reward of the best tenth


class Judge:
    """Accuracy of members with the shared weights, 0..1; what is known is kept in a file."""

    def __init__(self, path: Path, score: Callable[[Member], float]) -> None:
        self.path, self.score = path, score
        there = path.exists()
        kind = dict[str, float]
        self.known = from_json(kind, path.read_bytes(), source=str(path)) if there else kind()

    def accuracy(self, member: Member) -> float:
        key = to_json(member, indent=None)
        if key not in self.known:
            self.known[key] = self.score(member)
            if len(self.known) % SAVED_EVERY == 0:
                self.save()
        return self.known[key]

    def save(self) -> None:
        write_atomic(self.path, to_json(self.known, indent=None))


def main() -> None:
    """Read the arguments, score, and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("searched", type=Path, help="what `pocketvision search` wrote")
    parser.add_argument("--work", type=Path, required=True, help="folder for scores")
    parser.add_argument("--evaluations", type=int, default=96, help="of each way, with each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--page", type=Path, help="file to write; default: printed")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    path = asked.searched / SEARCHING / STATE
    state = from_json(SearchState, path.read_bytes(), source=str(path))
    samples = scan(state.config.data, seed=state.config.seed, skip_bad=state.config.skip_bad)
    score = scoring(state, samples, asked.searched / SEARCHING)
    known, limit = Judge(asked.work / SCORES, score), limit_of(state, len(samples.classes))
    found = [
        outcome(way, seed, state.space, limit, known.accuracy, asked.evaluations)
        for seed in asked.seeds
        for way in NAMES
    ]
    known.save()
    text = "\n".join(page(state, samples, found, asked))
    if asked.page is None:
        print(text)
    else:
        asked.page.write_text(text + "\n")


def scoring(state: SearchState, samples: Samples, folder: Path) -> Callable[[Member], float]:
    """What scores a member as the search did. folder: of the supernet."""
    images = Images.of(samples, state.space, state.config.seed, Silent())
    work = JudgeWork(
        path=folder / WEIGHTS,
        space=state.space,
        classes=len(samples.classes),
        train=images.train,
        held_out=images.held_out,
        preprocessing=images.preprocessing,
        threads=state.threads,
    )
    return work.open().score


def limit_of(state: SearchState, classes: int) -> Limit:
    """The hard limit of the search, by the table as it was scaled when that began."""
    table = ScaledTable(get_runtime(state.runtime), state.precision, state.config.threads)
    table.scale = state.scale

    def latency_ms(member: Member) -> float:
        return table.latency_ms(state.space.spec(member, classes))

    return Limit(latency_of=latency_ms, limit_ms=state.limit_ms)


def sampler(way: Sampling, seed: int, space: SearchSpace, limit: Limit) -> Sampler:
    """A way to search from its beginning; all have the same reward."""
    match way:
        case "evolution":
            return Evolution(
                space, limit, seed, EvolutionConfig(objective="reward"), familiar(space)
            )
        case "rl":
            return Controller(space, limit, seed, target_ms=limit.limit_ms)
        case _:
            return RandomSearch(space, limit, seed)


def outcome(
    way: Sampling,
    seed: int,
    space: SearchSpace,
    limit: Limit,
    accuracy: Callable[[Member], float],
    evaluations: int,
) -> Outcome:
    """Ask and score, a generation at a time."""
    asking, scored = sampler(way, seed, space, limit), list[Scored]()
    while len(scored) < evaluations:
        members = asking.ask(min(GENERATION, evaluations - len(scored)))
        found = [
            Scored(
                member=member,
                generation=len(scored) // GENERATION,
                latency_ms=limit.latency_of(member),
                size_bytes=0,
                accuracy=accuracy(member),
            )
            for member in members
        ]
        asking.tell(found)
        scored += found
        print(f"seed {seed}, {NAMES[way]}: {len(scored)} of {evaluations}", flush=True)
    return summed_up(way, seed, scored, limit)


def summed_up(way: Sampling, seed: int, scored: Sequence[Scored], limit: Limit) -> Outcome:
    """The best, and the mean of the best tenth."""
    rewards = {id(one): _reward(one, limit) for one in scored}
    ranked = sorted(scored, key=lambda one: -rewards[id(one)])
    tenth = ranked[: max(1, len(ranked) // 10)]
    return Outcome(
        way=way,
        seed=seed,
        best=rewards[id(ranked[0])],
        accuracy=ranked[0].accuracy,
        latency_ms=ranked[0].latency_ms,
        tenth=statistics.fmean(rewards[id(one)] for one in tenth),
    )


def _reward(one: Scored, limit: Limit) -> float:
    return reward(one.accuracy, one.latency_ms, limit.limit_ms, REWARD_EXPONENT)


def page(
    state: SearchState, samples: Samples, found: Sequence[Outcome], asked: argparse.Namespace
) -> list[str]:
    """Figures of all ways and seeds, and their differences."""
    evaluations, seeds, space = asked.evaluations, asked.seeds, state.space
    name = "search_methods.md" if asked.page is None else asked.page.name
    sides = ", ".join(f"@{side}" for side in space.resolutions)

    def of(way: Sampling, name: str) -> list[float]:
        return [100 * getattr(one, name) for one in found if one.way == way]

    seed_words = " ".join(map(str, seeds))
    return [
        "# Ways to search at equal evaluations",
        "",
        "Evolution, MnasNet's controller (reinforcement learning) and random search ask for as "
        f"many members each: {evaluations} with each of {len(seeds)} seeds, {GENERATION} at a "
        f"time. All share one supernet of {state.steps_made:,} steps in {space.name} {sides} on "
        f"images of {len(samples.classes)} classes ({len(samples.indices('train')):,} of train), "
        f"the limit of {format_latency(state.limit_ms)} and the papers' reward, ACC * (LAT / "
        f"limit)^w, w = {REWARD_EXPONENT}. The seeds are those of the ways; the supernet is one.",
        "",
        "```",
        f"python recipes/search_methods.py SEARCHED --work WORK --evaluations {evaluations} "
        f"--seeds {seed_words} --page recipes/{name}",
        "```",
        "",
        *table(
            ["way", "seed", "best reward", "its accuracy", "its ms", "best tenth, mean reward"],
            [
                [
                    NAMES[one.way],
                    str(one.seed),
                    f"{100 * one.best:.2f}",
                    f"{one.accuracy:.1%}",
                    f"{one.latency_ms:.3g}",
                    f"{100 * one.tenth:.2f}",
                ]
                for one in sorted(found, key=lambda one: list(NAMES).index(one.way))
            ],
        ),
        "Rewards in hundredths: the accuracy in per cent of a network that takes what the limit "
        "is. Over the seeds, mean ± standard deviation:",
        "",
        *table(
            ["way", "best", "best tenth"],
            [
                [NAMES[way], spread_cell(of(way, "best")), spread_cell(of(way, "tenth"))]
                for way in NAMES
            ],
        ),
        "Differences within a seed, with Student's 95 % interval over seeds:",
        "",
        *table(
            ["", "best", "best tenth"],
            [
                [
                    f"{NAMES[first]} over {NAMES[second]}",
                    gain_cell(of(first, "best"), of(second, "best")),
                    gain_cell(of(first, "tenth"), of(second, "tenth")),
                ]
                for first, second in PAIRS
            ],
        ),
        "Accuracy is expected accuracy, the mean probability of the right class, with the weights "
        "that all members share, of training images that nothing learned from. Latency is the sum "
        "over the table of blocks. Rewards rank members; no trained network has them.",
        "",
        machine_line(("torch", "onnxruntime"), state.threads),
    ]


if __name__ == "__main__":
    main()
