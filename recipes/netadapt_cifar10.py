"""NetAdapt against uniform shrinking: the same start, the same latency, the same time.

    python recipes/netadapt_cifar10.py CIFAR10 --page recipes/netadapt_cifar10.md

Per seed, a MobileNetV3-Small is trained for --start-epochs. NetAdapt then has --minutes to make it
as fast as --share of its latency, by one table of blocks that is timed here before anything else.
Its rivals may be as slow as what it came to: all widths by the largest factor, or the largest lower
resolution, whose whole network takes no longer than NetAdapt's, both timed untrained beside the
table's anchor. They are fine-tuned with the start as their teacher, as NetAdapt is, and for as many
minutes. The files that come out are timed in turns. Finished pieces lie in --work and are not made
again; what was interrupted goes on when the same command is given.

Source: Yang et al., NetAdapt, section 4, where multipliers are the rivals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from kept import made_once
from paired import (
    RULE,
    Pair,
    PairedOptions,
    Trial,
    arguments,
    arms_table,
    attempt,
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

from pocketvision.budget import Budget, format_latency
from pocketvision.cli.display import TerminalReporter
from pocketvision.compress.netadapt import MULTIPLE, STEP
from pocketvision.data.transforms import Augmentation
from pocketvision.errors import GateError
from pocketvision.fitting.artefact import Artefact, load
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.device_profile import run_profile
from pocketvision.fitting.folder import PREPARED
from pocketvision.fitting.pipeline import run_fit
from pocketvision.fitting.profile_config import ProfileConfig
from pocketvision.fitting.target_table import TargetTable, open_target
from pocketvision.models.arch import ArchSpec
from pocketvision.models.narrow import narrow
from pocketvision.models.weights import NETWORK_FILE
from pocketvision.models.weights import save as save_network
from pocketvision.models.width_groups import resized, width_groups
from pocketvision.models.widths import widths_of
from pocketvision.narrowing.state import STATE
from pocketvision.record.words import Precision
from pocketvision.runtimes.registry import get_runtime
from pocketvision.searching.scaled_table import ScaledTable
from pocketvision.searching.shrink import run_shrink
from pocketvision.searching.shrink_config import ShrinkConfig, ShrinkState
from pocketvision.storage import from_json

START, NETADAPT, WIDTH, RESOLUTION = "start", "netadapt", "width", "resolution"
OURS, RIVAL = "NetAdapt", "the better of uniform widths and a lower resolution"
NETWORK = "mobilenet_v3_small"
RUNTIME = "onnxruntime"
PRECISION: Precision = "f32"  # of all files, so that like is compared with like
FACTORS = tuple(percent / 100 for percent in range(99, 4, -1))
SIDES = 8  # resolutions are multiples of it
LEAST_SIDE = 32  # that `fit` takes

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Options(PairedOptions):
    """What the command line said. share: of the start's latency. step, brief_steps: of NetAdapt."""

    share: float
    start_epochs: int
    resolution: int
    step: float = STEP
    brief_steps: int = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """What uniform shrinking came to, before it is trained. None: no form is fast enough.

    limit_ms: what it may take, which is what NetAdapt's network takes.
    """

    spec: ArchSpec | None
    limit_ms: float


# Uniform shrinking


def scaled(spec: ArchSpec, factor: float) -> ArchSpec:
    """Every width that can change at `factor` of what it is, as near as multiples of 8 allow."""
    for name, width in [(group.name, group.width) for group in width_groups(spec)]:
        (group,) = (each for each in width_groups(spec) if each.name == name)
        choices = (group.width, *widths_of(spec, group, MULTIPLE))
        nearest = min(choices, key=lambda choice: abs(choice - factor * width))
        spec = resized(spec, group, nearest)
    return spec


def first_within(choices: Sequence[T], within: Callable[[T], bool]) -> T | None:
    """The first that is within a limit, by bisection: what follows one that is, is too.

    What is returned was found to be within, whatever noise says of others; None: none was.
    """
    low, high = -1, len(choices)  # not within; within
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if within(choices[middle]) else (middle, high)
    return choices[high] if high < len(choices) else None


def uniform_widths(spec: ArchSpec, within: Callable[[ArchSpec], bool]) -> ArchSpec | None:
    """The form with the largest factor that is within a limit."""
    factor = first_within(FACTORS, lambda factor: within(scaled(spec, factor)))
    return None if factor is None else scaled(spec, factor)


def lower_resolution(spec: ArchSpec, within: Callable[[ArchSpec], bool]) -> ArchSpec | None:
    """The same network at the largest lower resolution that is within a limit."""
    return first_within([spec.at(side) for side in lower_sides(spec.resolution)], within)


def lower_sides(resolution: int) -> range:
    """Multiples of SIDES below a resolution, the largest first."""
    return range((resolution - 1) // SIDES * SIDES, LEAST_SIDE - 1, -SIDES)


def device_table(asked: Options) -> TargetTable:
    """What the blocks of the start take on this machine, at every resolution; timed once."""
    path = asked.work / "table.json"
    if not path.exists():
        sides = (asked.resolution, *lower_sides(asked.resolution))
        blocks = ProfileConfig(
            space=None, models=(NETWORK,), resolutions=sides, precision=PRECISION
        )
        run_profile(blocks, path, TerminalReporter())
    table = open_target(str(path))
    assert table is not None
    return table


def whole_ms(spec: ArchSpec) -> float:
    """Of an untrained file of the whole network, timed now beside the anchor of all tables here."""
    return ScaledTable(get_runtime(RUNTIME), PRECISION, 1).timed_whole(spec).median_ms


# The arms


def config(
    asked: Options,
    seed: int,
    data: Path,
    *,
    side: int,
) -> FitConfig:
    """What every fit here has in common, and all of it for the start."""
    return FitConfig(
        data=str(data),
        models=(NETWORK,),
        widths=(1.0,),
        resolutions=(side,),
        runtimes=(RUNTIME,),
        precisions=(PRECISION,),
        epochs=asked.start_epochs,
        seed=seed,
    )


def started(asked: Options, seed: int, data: Path) -> Artefact:
    """The network that all arms of a seed begin with. Raises: GateError: it missed its gate."""
    out = asked.work / f"seed-{seed}" / START
    found = attempt(out, lambda: fit(config(asked, seed, data, side=asked.resolution), out))
    if isinstance(found, str):
        raise GateError(found)
    return found


def fit(config: FitConfig, out: Path) -> None:
    """Begin a run or go on with it."""
    run_fit(config, out, TerminalReporter())


def target_ms(asked: Options, start: Artefact, device: TargetTable) -> float:
    """The latency that NetAdapt is to reach by the table, to three figures."""
    return float(f"{asked.share * device.timed_whole(start.classifier.spec).high_ms:.3g}")


def netadapt(
    asked: Options, seed: int, data: Path, start: Artefact, device: TargetTable
) -> Artefact | str:
    """Narrowed step by step, then fine-tuned."""
    out = asked.work / f"seed-{seed}" / NETADAPT
    shrinking = ShrinkConfig(
        source=str(start.folder),
        images=str(data),
        budget=Budget(latency_ms=target_ms(asked, start, device), time_s=asked.time_s),
        target=device.path,
        runtime=RUNTIME,
        precision=PRECISION,
        step=asked.step,
        brief_steps=asked.brief_steps,
        augmentation=Augmentation(),
        epochs=asked.epochs,
        seed=seed,
    )
    return attempt(out, lambda: run_shrink(shrinking, out, TerminalReporter()))


def uniform(
    asked: Options, seed: int, data: Path, start: Artefact, narrowed: Artefact | str, arm: str
) -> Artefact | str:
    """All widths by one factor, or a lower resolution; then fine-tuned."""
    if isinstance(narrowed, str):
        return "NetAdapt came to nothing that it could be held to."
    folder, limit = asked.work / f"seed-{seed}", narrowed.classifier.spec
    found = made_once(
        Form, folder / f"{arm}.json", lambda: form_within(start.classifier.spec, limit, arm)
    )
    if found.spec is None:
        return f"None is within {format_latency(found.limit_ms)}."
    begun = replace(
        config(asked, seed, data, side=found.spec.resolution),
        budget=Budget(time_s=asked.time_s),
        models=(),
        widths=(),
        weights=str(weights_of(start, found.spec, folder / f"{arm}-start")),
        teacher=str(start.folder),
        epochs=asked.epochs,
    )
    return attempt(folder / arm, lambda: fit(begun, folder / arm))


def form_within(spec: ArchSpec, limit: ArchSpec, arm: str) -> Form:
    """The largest form of an arm that takes no longer than the network `limit`."""
    limit_ms = whole_ms(limit)
    look = {WIDTH: uniform_widths, RESOLUTION: lower_resolution}[arm]
    return Form(spec=look(spec, lambda form: whole_ms(form) <= limit_ms), limit_ms=limit_ms)


def weights_of(start: Artefact, spec: ArchSpec, folder: Path) -> Path:
    """The folder of the start itself, where no width changes; else `folder`, with the weights that
    stay: the filters of the largest norm.
    """
    if spec == start.network.spec.at(spec.resolution):
        return start.folder
    if not (folder / NETWORK_FILE).exists():
        narrowed = narrow(start.classifier, spec)
        save_network(narrowed, folder, classes=start.classes, preprocessing=start.preprocessing)
    return folder


def trial(asked: Options, seed: int) -> Trial:
    """The start, all arms, and what their files say of the test images."""
    data, device = subset(asked, seed), device_table(asked)
    start = started(asked, seed, data)
    narrowed = netadapt(asked, seed, data, start, device)
    arms: dict[str, Artefact | str] = {
        START: start,
        NETADAPT: narrowed,
        WIDTH: uniform(asked, seed, data, start, narrowed, WIDTH),
        RESOLUTION: uniform(asked, seed, data, start, narrowed, RESOLUTION),
    }
    fits = {arm: found.record.spent_s for arm, found in arms.items() if isinstance(found, Artefact)}
    narrowing_s = narrowing_of(asked, seed).spent_s
    seconds = {arm: fit_s + narrowing_s * (arm == NETADAPT) for arm, fit_s in fits.items()}
    return trial_of(seed, arms, seconds, data)


def narrowing_of(asked: Options, seed: int) -> ShrinkState:
    """What NetAdapt did, step by step."""
    path = asked.work / f"seed-{seed}" / NETADAPT / PREPARED / STATE
    return from_json(ShrinkState, path.read_bytes(), source=str(path))


# The page


def pairs_of(trials: Sequence[Trial]) -> list[Pair]:
    """NetAdapt beside the uniform arm that is better on val, of the seeds that have both."""
    pairs = []
    for one in trials:
        rivals = [entry for arm in (WIDTH, RESOLUTION) if (entry := one.entry(arm)) is not None]
        if rivals and (ours := one.entry(NETADAPT)) is not None:
            rival = max(rivals, key=lambda entry: entry.val_score)
            pairs.append(Pair(seed=one.seed, ours=ours, rival=rival))
    return pairs


def arms_details(trials: Sequence[Trial], asked: Options) -> list[str]:
    """What each arm did in its time."""
    rows = []
    for one in trials:
        state = narrowing_of(asked, one.seed)
        scored = sum(len(step.proposals) for step in state.steps)
        rows.append(
            (
                str(one.seed),
                f"{state.config.latency_ms:g}",
                f"{len(state.steps) - 1}, {scored}",
                f"{state.spent_s / 60:.1f}",
                *(details(one, arm, asked) for arm in (NETADAPT, WIDTH, RESOLUTION)),
            )
        )
    titles = (
        *("seed", "ms asked of NetAdapt", "NetAdapt: steps, proposals", "narrowing, min"),
        *(f"{arm}: epochs, min in all" for arm in (NETADAPT, WIDTH, RESOLUTION)),
    )
    return table(titles, rows)


def details(one: Trial, arm: str, asked: Options) -> str:
    """Epochs of fine-tuning, and minutes of the whole arm."""
    entry = one.entry(arm)
    if entry is None:
        return ""
    record = load(asked.work / f"seed-{one.seed}" / arm).record
    return f"{len(record.epochs)}, {entry.seconds / 60:.1f}"


def page(trials: Sequence[Trial], asked: Options) -> list[str]:
    """The page, line by line."""
    pairs = pairs_of(trials)
    return [
        "# NetAdapt against uniform shrinking",
        "",
        f"A {NETWORK} @{asked.resolution}, trained for {asked.start_epochs} epochs, is made faster "
        f"three ways with {asked.minutes:g} minutes each: by NetAdapt, to {asked.share:.0%} of its "
        "latency by a table of blocks; then, as fast as what NetAdapt came to, with all widths at "
        "the largest common factor (multiples of 8, filters of the largest norm stay), and at the "
        "largest lower resolution (multiples of 8 px). For that whole networks were timed beside "
        "the table's anchor. All are fine-tuned with the start as their teacher. The rival is the "
        f"uniform one that is better on val. {RULE}",
        "",
        "```",
        command("netadapt_cifar10", asked),
        "```",
        "",
        *outcome(pairs, trials, OURS, RIVAL),
        *arms_table(trials, pairs),
        *failures(trials, asked.work),
        *arms_details(trials, asked),
        *conditions(trials, asked),
    ]


def options() -> Options:
    """Parse the command line."""
    parser = arguments(__doc__, work="cifar10-netadapt", minutes=10)
    parser.add_argument("--start-epochs", type=int, default=30, help="of what all arms begin with")
    parser.add_argument("--share", type=float, default=0.6, help="of the start's latency")
    parser.add_argument("--resolution", type=int, default=64, help="of the start, in pixels")
    parser.add_argument(
        "--step", type=float, default=STEP, help="of NetAdapt, share of the latency"
    )
    parser.add_argument("--brief-steps", type=int, default=20, help="of each of its proposals")
    return Options(**given_words(parser))


def main() -> None:
    """Make what is not made yet, and write the page."""
    asked = options()
    publish_trials(asked, partial(trial, asked), partial(page, asked=asked))


if __name__ == "__main__":
    main()
