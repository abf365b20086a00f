"""A searched network against networks with width and resolution multipliers, for the same time.

    python recipes/search_cifar10.py CIFAR10 --page recipes/search_cifar10.md

Per seed, `search` without arms of its own, and `fit` of each of --rivals, with as many minutes. As
many arms as --cores run at a time, each on a core of its own. Finished arms lie in --work and are
not made again; one that was interrupted goes on when the same command is given. What came out is
timed in turns when all arms are done. With --weights the search begins with them, and so do rivals
of the same family, such as mobilenet_v2:0.5:64 with those of a MobileNetV2 x1: with the channels
of the largest norm, as many in every layer as their multiplier leaves.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

from paired import (
    RULE,
    Pair,
    PairedOptions,
    Trial,
    about_target,
    arguments,
    arms_table,
    attempt,
    check_settings,
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
from searched import arm_folder, arm_of, how_searched, state_in
from side_by_side import how_run, on_cores

from pocketvision.budget import Budget, format_latency, parse_latency
from pocketvision.cli.display import TerminalReporter
from pocketvision.errors import GateError
from pocketvision.fitting.artefact import RUN, Artefact, load
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.pipeline import run_fit
from pocketvision.models import registry
from pocketvision.models.narrow import narrow
from pocketvision.models.weights import NETWORK_FILE, load_weights, save, spec_of
from pocketvision.record.words import Precision
from pocketvision.searching.search import run_search
from pocketvision.searching.search_config import SEARCH, Method, SearchConfig
from pocketvision.searching.search_run import SEARCHING, STATE
from pocketvision.searching.search_start import open_search

OURS, RIVAL = "The searched network", "the best with plain multipliers"
PRECISION: Precision = "f32"  # of all files, so that like is compared with like
RUNTIME = "onnxruntime"
CLASSES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Options(PairedOptions):
    """What the command line said. space, supernet_steps, evaluations: None: as `search` chooses;
    the latter two are not for the method "work", which trains no supernet.

    rivals: as "mobilenet_v3_small:0.5:48", a name with its multiplier and input side. weights: a
    file of trained ones, with which the search begins, and rivals of its network's name. target: a
    latency table, by which the search meets its latency; None: as measured in its arm. cores: that
    have an arm each at a time.
    """

    latency: str
    resolution: int
    method: Method
    rivals: tuple[str, ...]
    cores: int = 1
    space: str | None = None
    weights: str | None = None
    target: str | None = None
    supernet_steps: int | None = None
    evaluations: int | None = None


def search_config(asked: Options, seed: int, data: Path) -> SearchConfig:
    """The search of one seed, without arms beside it."""
    return SearchConfig(
        data=str(data),
        budget=Budget(latency_ms=parse_latency(asked.latency), time_s=asked.time_s),
        space=asked.space,
        resolutions=(asked.resolution,),
        runtime=RUNTIME,
        precision=PRECISION,
        target=asked.target,
        method=asked.method,
        supernet_steps=asked.supernet_steps,
        evaluations=asked.evaluations,
        baselines="none",
        weights=asked.weights,
        epochs=asked.epochs,
        seed=seed,
    )


def rival_config(asked: Options, seed: int, data: Path, rival: str) -> FitConfig:
    """The training of a rival. Its latency is no budget, but measured with that of the others."""
    name, width, side = rival.split(":")
    return FitConfig(
        data=str(data),
        budget=Budget(time_s=asked.time_s),
        models=(name,),
        widths=(float(width),),
        resolutions=(int(side),),
        runtimes=(RUNTIME,),
        precisions=(PRECISION,),
        weights=rival_weights(asked, name, float(width)),
        epochs=asked.epochs,
        seed=seed,
    )


def rival_weights(asked: Options, name: str, width: float) -> str | None:
    """The folder of the weights with which a rival begins, narrowed to its multiplier; None: it is
    no form of the network that the weights are of.
    """
    if asked.weights is None or spec_of(Path(asked.weights)).name != name:
        return None
    folder = asked.work / f"weights-{name}-{width:g}"
    if not (folder / NETWORK_FILE).exists():  # written behind the weights
        spec = spec_of(Path(asked.weights))
        whole = spec.build()
        load_weights(whole, asked.weights)
        slim = registry.spec(name, width=width, num_classes=spec.num_classes)
        save(narrow(whole, slim), folder)
    return str(folder)


def know_device(asked: Options) -> None:
    """Time what a search times when it begins, and what this machine knows from then on."""
    seed = asked.seeds[0]
    config = search_config(asked, seed, subset(asked, seed))
    with tempfile.TemporaryDirectory() as folder:
        open_search(config, Path(folder) / "begun", TerminalReporter())


def make_search(asked: Options, seed: int) -> None:
    """Begin a search or go on with it. Where it comes to nothing, that is its result."""
    out = out_of(asked, seed, SEARCH)
    if (out / RUN).exists():
        return
    try:
        run_search(search_config(asked, seed, subset(asked, seed)), out, TerminalReporter())
    except GateError:
        if not (out / SEARCHING / STATE).exists() or not state_in(out).arms:
            raise


def make_rival(asked: Options, seed: int, rival: str) -> None:
    """Begin the training of a rival or go on with it."""
    found_rival(asked, seed, rival)


def found_rival(asked: Options, seed: int, rival: str) -> Artefact | str:
    """The rival, trained; or why there is none."""
    out, config = out_of(asked, seed, rival), rival_config(asked, seed, subset(asked, seed), rival)
    return attempt(out, lambda: run_fit(config, out, TerminalReporter()))


def make_all(asked: Options) -> None:
    """All arms of all seeds that are not made yet, as many at a time as there are cores."""
    for seed in asked.seeds:
        subset(asked, seed)
        for rival in asked.rivals:
            rival_config(asked, seed, asked.data, rival)  # its weights are there before it begins
    searches = [seed for seed in asked.seeds if not (out_of(asked, seed, SEARCH) / RUN).exists()]
    pieces: list[Callable[[], object]] = [partial(know_device, asked)] if searches else []
    for seed in asked.seeds:
        rivals = [partial(make_rival, asked, seed, rival) for rival in asked.rivals]
        pieces += [*rivals[:1], partial(make_search, asked, seed), *rivals[1:]]
    on_cores(asked.cores, pieces)


def trial(asked: Options, seed: int) -> Trial:
    """What all arms of a seed came to, on the test images."""
    out = out_of(asked, seed, SEARCH)
    arm = arm_of(state_in(out))
    arms: dict[str, Artefact | str] = {
        SEARCH: arm.note or load(arm_folder(out)),
        **{rival: found_rival(asked, seed, rival) for rival in asked.rivals},
    }
    fits = {
        name: found.record.spent_s for name, found in arms.items() if isinstance(found, Artefact)
    }
    return trial_of(seed, arms, fits | {SEARCH: arm.seconds}, subset(asked, seed))


def out_of(asked: Options, seed: int, arm: str) -> Path:
    """The folder of an arm of a seed."""
    return asked.work / f"seed-{seed}" / arm.replace(":", "-")


def pairs_of(trials: Sequence[Trial]) -> list[Pair]:
    """What was searched beside the rival that is best on val, of the seeds that have both."""
    pairs = []
    for one in trials:
        rivals = [entry for entry in one.entries if entry.arm != SEARCH]
        if rivals and (ours := one.entry(SEARCH)):
            rival = max(rivals, key=lambda entry: entry.val_score)
            pairs.append(Pair(seed=one.seed, ours=ours, rival=rival))
    return pairs


def rivals_table(trials: Sequence[Trial], asked: Options) -> list[str]:
    """How long every rival was trained."""
    rows = []
    for one in trials:
        for rival in asked.rivals:
            if entry := one.entry(rival):
                epochs = len(load(out_of(asked, one.seed, rival)).record.epochs)
                rows.append(
                    (str(one.seed), entry.network, str(epochs), f"{entry.seconds / 60:.1f}")
                )
    return table(("seed", "rival", "epochs", "min in all"), rows)


def page(trials: Sequence[Trial], asked: Options) -> list[str]:
    """The page, line by line."""
    pairs = pairs_of(trials)
    return [
        "# A search against multipliers, for the same time",
        "",
        "Does an architecture that was searched for on the images and the machine beat the best "
        "of several networks with width and resolution multipliers, each trained for the same "
        "total time (search included), at about the same measured latency? The search has inputs "
        f"of {asked.resolution} px and a limit of {format_latency(parse_latency(asked.latency))}; "
        "the rivals are networks near it, named on the command line before any was trained. The "
        "rival of a seed is the one that is best on val, though it take longer. All files are "
        f"{PRECISION}. {RULE}",
        *about_weights(asked),
        *about_target(asked.target),
        "",
        "```",
        command("search_cifar10", asked),
        "```",
        "",
        *outcome(pairs, trials, OURS, RIVAL),
        *arms_table(trials, pairs),
        *failures(trials, asked.work),
        *how_searched(
            {seed: out_of(asked, seed, SEARCH) for seed in asked.seeds}, asked.method, CLASSES
        ),
        "Candidates and blocks were timed before all arms, which this machine does once and then "
        "knows."
        if asked.target is None
        else "Nothing was timed in the arms of the searches.",
        "",
        *rivals_table(trials, asked),
        how_run(asked.cores),
        "",
        *conditions(trials, asked),
    ]


def about_weights(asked: Options) -> list[str]:
    """Who begins with trained weights."""
    if asked.weights is None:
        return []
    name = spec_of(Path(asked.weights)).name
    return [
        "",
        f"The search begins with the weights in {Path(asked.weights).name}, which were trained on "
        f"ImageNet. So do rivals that are a {name}: with those channels of each layer that have "
        "the largest norm. Other rivals have none to begin with, and train from scratch.",
    ]


def options() -> Options:
    """Parse the command line."""
    parser = arguments(__doc__, work="cifar10-search", minutes=20)
    parser.add_argument("--latency", default="0.25ms", help="of the search")
    parser.add_argument("--resolution", type=int, default=64, help="of the search, in pixels")
    parser.add_argument(
        "--rivals",
        nargs="+",
        default=["mobilenet_v3_small:0.35:64"],
        help="name:multiplier:pixels of each",
    )
    parser.add_argument("--cores", type=int, default=1, help="with an arm each at a time")
    parser.add_argument("--method", choices=get_args(Method), default="evolution")
    parser.add_argument("--space", help="name or TOML file; else as `search` chooses")
    parser.add_argument("--weights", help="to begin with, of ImageNet, at multiplier 1")
    parser.add_argument("--target", help="latency table, as `profile` writes it, for the search")
    parser.add_argument("--supernet-steps", type=int, help="else as the time allows")
    parser.add_argument("--evaluations", type=int, help="of each way; else as the time allows")
    given = given_words(parser)
    return Options(**given | {"rivals": tuple(given["rivals"])})


def main() -> None:
    """Make what is not made yet, and write the page."""
    asked = options()
    check_settings(asked)
    make_all(asked)
    publish_trials(asked, partial(trial, asked), partial(page, asked=asked))


if __name__ == "__main__":
    main()
