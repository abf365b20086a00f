"""What the time of a search is spent on: how long arms are, and what is in that of the search."""

from __future__ import annotations

import math
import random
import statistics
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pocketvision.budget import format_time
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Batch, Rows
from pocketvision.errors import BudgetError
from pocketvision.models.supernet import Supernet
from pocketvision.searching.search_config import (
    MULTIPLIERS,
    PUBLISHED,
    RANDOM,
    SEARCH,
    SHARING,
    SearchConfig,
    SearchPlan,
    SearchState,
)
from pocketvision.train.batches import PixelSource
from pocketvision.train.supernet import SupernetConfig, answers_of, train_supernet

SHIPPING_SHARE = 0.98  # of the time; the best arm is then copied, and the report is written
SUPERNET_SHARE, SCORING_SHARE = 0.35, 0.1  # of the arm's training; then NetAdapt, fit
MOST_ASKED = 0.8  # of it, for steps and evaluations whose number is asked for
GOOD_EPOCHS = 8  # a slower space is passed over for one with so many
AMPLE_EPOCHS = 30  # from which on a space is not tightened, and scores are worth following
DEFAULT_EPOCHS, DEFAULT_EVALUATIONS = 30, 128  # without a limit of time
NETADAPT_NEEDS_S = 1200.0  # of the arm: below, its proposals would be trained too little
MARGIN = 1.15  # judging takes longer on a machine that others use too
TIMED = 4  # steps of each kind, and judgings


@dataclass(frozen=True, slots=True)
class _Noise:
    """Pixels that hold nothing, for timing."""

    side: int

    def __len__(self) -> int:
        return 1 << 20

    def take(self, rows: Rows) -> Batch:
        generator = np.random.default_rng(0)
        return generator.integers(0, 256, (len(rows), self.side, self.side, 3), dtype=np.uint8)

    def batches(self, batches: Sequence[Rows]) -> Iterator[Batch]:
        return (self.take(rows) for rows in batches)


def noise_source(side: int, classes: int, images: int) -> PixelSource:
    """Images of noise, as many as named, of this side, with labels."""
    rows = np.arange(images)
    return PixelSource(pixels=_Noise(side), indices=rows, labels=rows % classes)


def seconds_per_step(
    supernet: Supernet,
    source: PixelSource,
    preprocessing: Preprocessing,
    config: SearchConfig,
    threads: int = 0,
) -> float:
    """What a step takes here: the median of a few. They change the weights.

    threads: of the CPU; 0: as many as PyTorch takes by itself.
    """
    durations: list[float] = []
    last = [time.perf_counter()]

    def on_step(done: int, total: int, note: str) -> None:
        now = time.perf_counter()
        durations.append(now - last[0])
        last[0] = now

    training = supernet_config(config, steps=2 * TIMED + 2, threads=threads)
    with tempfile.TemporaryDirectory() as folder:
        halved = replace(training, alone=0.5)
        train_supernet(supernet, source, preprocessing, halved, Path(folder), on_step=on_step)
    # The first of each kind also allocates.
    alone, together = durations[1 : len(durations) // 2], durations[len(durations) // 2 + 1 :]
    share = training.alone
    return share * statistics.median(alone) + (1 - share) * statistics.median(together)


def seconds_per_judging(
    supernet: Supernet,
    source: PixelSource,
    held_out: PixelSource,
    preprocessing: Preprocessing,
    threads: int,
) -> float:
    """What scoring a member takes: the median of a few drawn evenly."""
    generator = random.Random(0)
    durations = []
    for _ in range(TIMED):
        start = time.perf_counter()
        member = supernet.space.sample(generator)
        answers_of(supernet, member, source, held_out, preprocessing, threads)
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def supernet_config(
    config: SearchConfig, *, steps: int, threads: int = 0, rate: float | None = None
) -> SupernetConfig:
    """The training of the supernet, as asked for. rate: of learning; None: the usual one."""
    return SupernetConfig(
        steps=steps,
        learning_rate=config.learning_rate if rate is None else rate,
        members=config.members,
        batch_size=config.batch_size,
        augmentation=config.augmentation,
        accelerator=config.accelerator,
        threads=threads,
        seed=config.seed,
    )


class TooShort(BudgetError):
    """The time does not hold a search."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchPace:
    """Seconds of a step of the supernet, and of scoring a member with all workers at work.

    per_epoch: steps. threads: of the CPU, that the steps are fastest with.
    """

    step_s: float
    judging_s: float
    per_epoch: int
    threads: int = 1


def plan_of(
    config: SearchConfig,
    pace: SearchPace,
    *,
    arms: int,
    arm_s: float | None,
    finish_s: float,
    spent_s: float = 0.0,
) -> SearchPlan:
    """How many steps and evaluations there will be.

    arms: that share the time. arm_s: what each has; None: no limit. finish_s: of it, for what comes
    behind the training. spent_s: of it, already, on the arm of the search.

    Raises: TooShort: not even for an epoch or two of the supernet and one generation, or not for
    the steps and evaluations that were asked for.
    """
    step_s, judging_s, per_epoch = pace.step_s, pace.judging_s, pace.per_epoch
    ways = 3 if config.method == "rl" else 2
    netadapt = config.netadapt and (arm_s is None or arm_s >= NETADAPT_NEEDS_S)
    steps = config.supernet_steps or DEFAULT_EPOCHS * per_epoch
    evaluations = config.evaluations or DEFAULT_EVALUATIONS
    if arm_s is not None:
        training_s = max(0.0, arm_s - finish_s - spent_s)
        score_s = MARGIN * judging_s * ways
        _refuse_too_short(config, per_epoch * step_s, score_s, training_s, arms)
        steps = config.supernet_steps or int(SUPERNET_SHARE * training_s / step_s)
        evaluations = config.evaluations or int(SCORING_SHARE * training_s / score_s)
        asked_s = (config.supernet_steps or 0) * step_s + (config.evaluations or 0) * score_s
        if asked_s > MOST_ASKED * training_s:
            raise TooShort(
                f"The time is too short for the --supernet-steps or --evaluations asked for: they "
                f"take about {format_time(asked_s)}, and the arm of the search has "
                f"{format_time(training_s)} for training. Ask for fewer, or for about "
                f"{_more(asked_s / MOST_ASKED - training_s, arms)} more."
            )
    return SearchPlan(
        before_s=round(spent_s, 1),
        supernet_steps=steps,
        supernet_s=round(steps * step_s, 1),
        scoring_s=round(ways * evaluations * judging_s, 1),
        judging_s=round(judging_s, 3),
        evaluations=evaluations,
        generation=min(config.generation, evaluations),
        netadapt=netadapt,
        arm_s=None if arm_s is None else round(arm_s),
    )


def plan_by_work(
    *, arms: int, arm_s: float | None, finish_s: float, spent_s: float = 0.0
) -> SearchPlan:
    """That of a search which trains nothing before it has found: all of the arm's time is for what
    was found. Arguments as of `plan_of`.

    Raises: TooShort: nothing is left for it.
    """
    if arm_s is not None and arm_s <= finish_s + spent_s:
        raise TooShort(
            "The time is too short for a search: its arm has "
            f"{format_time(max(0.0, arm_s))}, and timing blocks and what comes behind the training "
            f"take {format_time(finish_s + spent_s)}. "
            f"Ask for about {_more(finish_s + spent_s - arm_s + 60, arms)} more."
        )
    return SearchPlan(
        before_s=round(spent_s, 1),
        supernet_steps=0,
        supernet_s=0.0,
        scoring_s=0.0,
        evaluations=0,
        generation=1,
        netadapt=False,
        arm_s=None if arm_s is None else round(arm_s),
    )


def _refuse_too_short(
    config: SearchConfig, epoch_s: float, score_s: float, training_s: float, arms: int
) -> None:
    """Raises: TooShort: for what the time decides, it holds less than is worth it."""
    needs_s: dict[str, float] = {}
    if config.supernet_steps is None:
        epochs = config.least_epochs
        needs_s[f"{epochs} epochs of the supernet"] = epochs * epoch_s / SUPERNET_SHARE
    if config.evaluations is None:
        needs_s[f"one generation of {config.generation} members"] = (
            config.generation * score_s / SCORING_SHARE
        )
    least_s = max(needs_s.values(), default=0.0)
    if training_s < least_s:
        raise TooShort(
            f"The time is too short for a search: its arm has {format_time(training_s)} for "
            f"training, and a search with {' and '.join(needs_s)} needs {format_time(least_s)}. "
            f"Ask for about {_more(least_s - training_s, arms)} more, or for smaller --resolution."
        )


def _more(arm_s: float, arms: int) -> str:
    """So many seconds more for each arm, as --time takes it."""
    return f"{math.ceil(arm_s * arms / 60)}m"


def arms_of(config: SearchConfig) -> tuple[str, ...]:
    """The arms that may share the time, by their names."""
    drawn = () if config.by_work else (RANDOM,)  # where nothing is scored, nothing is compared
    plain = () if config.baselines == "none" else (MULTIPLIERS,)
    return (SEARCH, *drawn, *plain, PUBLISHED) if config.baselines == "all" else (SEARCH, *plain)


def seconds_of_an_arm(left_s: float, arms: Collection[str]) -> float:
    """What each arm has of the time left, the same for all, before the search begins.

    Where random search has an arm of its own, its supernet and scores are those of the search.
    """
    shared = SUPERNET_SHARE + SCORING_SHARE
    return SHIPPING_SHARE * left_s / (len(arms) - shared * (RANDOM in arms))


def evened_out(state: SearchState, left_s: float | None) -> SearchPlan:
    """The plan, when the search has found what it trains: its phases took more or less than was
    planned, and random search may have no arm.

    left_s: of the time; None: no limit.
    """
    if left_s is None:
        return state.plan
    arms = state.arm_names
    spent_s = state.search_s * len(set(SHARING) & set(arms))
    return replace(state.plan, arm_s=max(1, round((SHIPPING_SHARE * left_s + spent_s) / len(arms))))
