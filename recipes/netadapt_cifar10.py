"""NetAdapt against uniform shrinking: the same start, the same latency, the same time.

    python recipes/netadapt_cifar10.py CIFAR10 --page recipes/netadapt_cifar10.md

Before anything is trained, two forms of a MobileNetV3-Small are chosen: all widths by the largest
factor, and the largest lower resolution, whose whole network takes no longer than --share of what
the MobileNetV3-Small takes: untrained and timed beside the anchor of all tables here, or by a
latency table, --target. Per seed, the MobileNetV3-Small is trained for --start-epochs; both forms
are fine-tuned with it as their teacher, for --minutes each; and NetAdapt has as many, fine-tuning
included, to make it as fast as the form that is better on val. As many seeds as --cores are made at
a time, each on a core of its own. The files that come out are timed in turns when all are done.
Finished pieces lie in --work and are not made again; what was interrupted goes on when the same
command is given again.

Source: Yang et al., NetAdapt, section 4, where multipliers are the rivals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from kept import made_once
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
    val_score,
)
from plotting import table
from side_by_side import how_run, on_cores
from uniform_shrinking import lower_resolution, uniform_widths

from pocketvision.budget import Budget, format_latency
from pocketvision.cli.display import TerminalReporter
from pocketvision.compress.netadapt import STEP
from pocketvision.data.folders import list_images
from pocketvision.data.transforms import Augmentation
from pocketvision.errors import GateError
from pocketvision.fitting.artefact import Artefact, load
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.folder import PREPARED
from pocketvision.fitting.pipeline import run_fit
from pocketvision.fitting.target_table import open_target
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec
from pocketvision.models.narrow import narrow
from pocketvision.models.weights import NETWORK_FILE
from pocketvision.models.weights import save as save_network
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Options(PairedOptions):
    """What the command line said. share: of the start's latency, that the uniform forms may take.
    step, brief_steps: of NetAdapt. cores: that have a seed each at a time. target: a latency table,
    by which forms are chosen and NetAdapt meets its latency; None: as measured.
    """

    share: float
    start_epochs: int
    resolution: int
    step: float = STEP
    brief_steps: int = 20
    cores: int = 1
    target: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """The start in a faster form. latency_ms: of an untrained file of the whole network, or by the
    table, its upper end, which a budget is held against.
    """

    spec: ArchSpec
    latency_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Forms:
    """forms.json: what uniform shrinking comes to, for all seeds.

    limit_ms: what a form may take. forms: by arm; an arm that has none is not among them.
    """

    limit_ms: float
    forms: dict[str, Form]


# What uniform shrinking comes to


def forms_of(asked: Options) -> Forms:
    """The forms of both uniform arms; timed once."""
    return made_once(Forms, asked.work / "forms.json", lambda: timed_forms(asked))


def timed_forms(asked: Options) -> Forms:
    """The largest form of either arm that is within the share of the start's latency."""
    classes = list_images(asked.data).classes
    whole_ms = latency_by(asked.target)
    start = registry.spec(NETWORK, resolution=asked.resolution, num_classes=len(classes))
    limit_ms = asked.share * whole_ms(start)
    found = {
        arm: look(start, lambda form: whole_ms(form) <= limit_ms)
        for arm, look in ((WIDTH, uniform_widths), (RESOLUTION, lower_resolution))
    }
    forms = {
        arm: Form(spec=spec, latency_ms=whole_ms(spec))
        for arm, spec in found.items()
        if spec is not None
    }
    return Forms(limit_ms=limit_ms, forms=forms)


def latency_by(target: str | None) -> Callable[[ArchSpec], float]:
    """What a budget must allow for a whole network, in ms: by the table; else of an untrained file,
    timed now beside the anchor of all tables here.
    """
    device = open_target(target)
    if device is not None:
        return lambda spec: device.timed_whole(spec).high_ms
    table = ScaledTable(get_runtime(RUNTIME), PRECISION, 1)
    return lambda spec: table.timed_whole(spec).median_ms


# The arms


def config(asked: Options, seed: int, data: Path, *, side: int) -> FitConfig:
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


def uniform(asked: Options, seed: int, data: Path, start: Artefact, arm: str) -> Artefact | str:
    """All widths by one factor, or a lower resolution; then fine-tuned."""
    folder, known = asked.work / f"seed-{seed}", forms_of(asked)
    form = known.forms.get(arm)
    if form is None:
        return f"None is within {format_latency(known.limit_ms)}."
    begun = replace(
        config(asked, seed, data, side=form.spec.resolution),
        budget=Budget(time_s=asked.time_s),
        models=(),
        widths=(),
        weights=str(weights_of(start, form.spec, folder / f"{arm}-start")),
        teacher=str(start.folder),
        epochs=asked.epochs,
    )
    return attempt(folder / arm, lambda: fit(begun, folder / arm))


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


def better(scores: Mapping[str, float]) -> str | None:
    """The uniform arm that NetAdapt is held against, by scores on val; None: there is none."""
    return max(scores, key=lambda arm: scores[arm], default=None)


def netadapt(
    asked: Options, seed: int, data: Path, start: Artefact, rival: str | None
) -> Artefact | str:
    """Narrowed step by step until it is as fast as its rival, then fine-tuned."""
    if rival is None:
        return "No uniform form came to anything that it could be held against."
    out = asked.work / f"seed-{seed}" / NETADAPT
    latency_ms = forms_of(asked).forms[rival].latency_ms
    shrinking = ShrinkConfig(
        source=str(start.folder),
        images=str(data),
        budget=Budget(latency_ms=latency_ms, time_s=asked.time_s),
        target=asked.target,
        runtime=RUNTIME,
        precision=PRECISION,
        step=asked.step,
        brief_steps=asked.brief_steps,
        augmentation=Augmentation(),
        epochs=asked.epochs,
        seed=seed,
    )
    return attempt(out, lambda: run_shrink(shrinking, out, TerminalReporter()))


def arms_of(asked: Options, seed: int) -> dict[str, Artefact | str]:
    """The start and what it was made faster to, three ways; made where they are not yet."""
    data = subset(asked, seed)
    start = started(asked, seed, data)
    forms = {arm: uniform(asked, seed, data, start, arm) for arm in (WIDTH, RESOLUTION)}
    scores = {
        arm: val_score(found.record) for arm, found in forms.items() if isinstance(found, Artefact)
    }
    narrowed = netadapt(asked, seed, data, start, better(scores))
    return {START: start, NETADAPT: narrowed, **forms}


def make_arms(asked: Options, seed: int) -> None:
    """Begin the arms of a seed or go on with them."""
    arms_of(asked, seed)


def make_all(asked: Options) -> None:
    """All that is not made yet: the forms while nothing else runs, then as many seeds at a time as
    there are cores.
    """
    forms_of(asked)
    on_cores(asked.cores, [partial(make_arms, asked, seed) for seed in asked.seeds])


def trial(asked: Options, seed: int) -> Trial:
    """What the files of all arms say of the test images, and how fast they are."""
    arms = arms_of(asked, seed)
    seconds = {
        arm: found.record.spent_s for arm, found in arms.items() if isinstance(found, Artefact)
    }
    return trial_of(seed, arms, seconds, subset(asked, seed))


def narrowing_of(asked: Options, seed: int) -> ShrinkState:
    """What NetAdapt did, step by step."""
    path = asked.work / f"seed-{seed}" / NETADAPT / PREPARED / STATE
    return from_json(ShrinkState, path.read_bytes(), source=str(path))


# The page


def pairs_of(trials: Sequence[Trial]) -> list[Pair]:
    """NetAdapt beside the uniform arm that is better on val, of the seeds that have both."""
    pairs = []
    for one in trials:
        uniform = {
            arm: entry for arm in (WIDTH, RESOLUTION) if (entry := one.entry(arm)) is not None
        }
        rival = better({arm: entry.val_score for arm, entry in uniform.items()})
        if rival is not None and (ours := one.entry(NETADAPT)) is not None:
            pairs.append(Pair(seed=one.seed, ours=ours, rival=uniform[rival]))
    return pairs


def arms_details(trials: Sequence[Trial], asked: Options) -> list[str]:
    """What each arm did in its time."""
    rows = []
    for one in trials:
        if one.entry(NETADAPT) is None:
            continue
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
        f"three ways with {asked.minutes:g} minutes each. Two are uniform: all widths at the "
        "largest common factor (multiples of 8, filters of the largest norm stay), and the largest "
        "lower resolution (multiples of 8 px), of which the whole untrained network takes "
        f"{asked.share:.0%} of the start's latency at most: "
        f"{format_latency(forms_of(asked).limit_ms)}. The rival is the one that is better on val, "
        "and NetAdapt is asked for its latency. All are fine-tuned with the start as their "
        f"teacher. {RULE}",
        *about_target(asked.target),
        "",
        "```",
        command("netadapt_cifar10", asked),
        "```",
        "",
        *outcome(pairs, trials, OURS, RIVAL),
        *arms_table(trials, pairs),
        *failures(trials, asked.work),
        *arms_details(trials, asked),
        f"The minutes of NetAdapt are narrowing and fine-tuning together. {how_run(asked.cores)}",
        "",
        *conditions(trials, asked),
    ]


def options() -> Options:
    """Parse the command line."""
    parser = arguments(__doc__, work="cifar10-netadapt", minutes=10)
    parser.add_argument("--start-epochs", type=int, default=30, help="of what all arms begin with")
    parser.add_argument(
        "--share", type=float, default=0.6, help="of the start's latency, for the uniform forms"
    )
    parser.add_argument("--resolution", type=int, default=64, help="of the start, in pixels")
    parser.add_argument(
        "--step", type=float, default=STEP, help="of NetAdapt, share of the latency"
    )
    parser.add_argument("--brief-steps", type=int, default=20, help="of each of its proposals")
    parser.add_argument("--cores", type=int, default=1, help="with a seed each at a time")
    parser.add_argument("--target", help="latency table, as `profile` writes it")
    return Options(**given_words(parser))


def main() -> None:
    """Make what is not made yet, and write the page."""
    asked = options()
    check_settings(asked)
    make_all(asked)
    publish_trials(asked, partial(trial, asked), partial(page, asked=asked))


if __name__ == "__main__":
    main()
