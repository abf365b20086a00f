"""Which network is best for small inputs at one latency: as published, by work, by training.

    python recipes/small_inputs_cifar10.py CIFAR10 --page recipes/small_inputs_cifar10.md

Networks of the registry near one latency are trained for the same minutes each. What is finished
lies in --work and is not made again.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from kept import made_once
from paired import (
    PairedOptions,
    arguments,
    check_settings,
    command,
    given_words,
    publish,
    subset,
)
from plotting import machine_line, table
from timing import cell

from pocketvision.budget import Budget, format_latency, parse_latency
from pocketvision.cli.display import TerminalReporter
from pocketvision.data.images import Samples, scan
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Pixels, open_pixels
from pocketvision.fitting.candidates import Candidate, as_candidate
from pocketvision.fitting.examination import named_classes
from pocketvision.fitting.plan import measure_candidates
from pocketvision.measure.table import rank_correlation
from pocketvision.models import registry
from pocketvision.models.arch import Network
from pocketvision.record.files import Prior
from pocketvision.record.timing import Latency
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.train.batches import training_sources
from pocketvision.train.classify import Classification, rehearsal
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.devices import as_run_here
from pocketvision.train.pace import faster_threads
from pocketvision.train.trainer import fit

NETWORKS = (  # name, multiplier, input side: near 0.25 ms on the machine of the page
    ("mobilenet_v1", 0.5, 48),
    ("mobilenet_v1", 0.25, 96),
    ("mobilenet_v2", 0.35, 48),
    ("mobilenet_v2", 0.35, 64),
    ("mobilenet_v3_large", 0.35, 48),
    ("mobilenet_v3_large_minimalistic", 0.5, 48),
    ("mobilenet_v3_small", 0.75, 64),
    ("mobilenet_v3_small", 0.5, 64),
    ("mobilenet_v3_small_minimalistic", 1.0, 64),
    ("shufflenet_v2_x0_5", 1.0, 64),
)
SHARE = 0.95  # of the minutes; the rest is for validation
RESULTS = "network.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Options(PairedOptions):
    """What the command line said. minutes: of training, for each network."""

    latency: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """One network. latency: of an untrained float file. top1: 0..1, of the test images."""

    network: str
    latency: Latency
    macs: int
    prior: Prior
    epochs: int
    seconds: float
    top1: float
    n: int


def trained(asked: Options, samples: Samples, candidate: Candidate, latency: Latency) -> Trained:
    """Train for the minutes asked for, from scratch; judge on the test images."""
    spec = candidate.classifier
    network = spec.build(seed=asked.seeds[0])
    pre = Preprocessing.for_resolution(spec.resolution, samples.shorter_side)
    pixels = open_pixels(samples, pre.side)
    source, val = training_sources(samples, pixels)
    config, rate = faster_threads(
        lambda config: rehearsal(network, pre, config, len(source)),
        TrainConfig(seed=asked.seeds[0]),
    )
    epochs = asked.epochs or max(1, int(SHARE * 60 * asked.minutes / (rate * len(source))))
    begun = time.monotonic()
    course = Course(
        train=source,
        val=val,
        preprocessing=pre,
        config=as_run_here(replace(config, epochs=epochs, warmup_epochs=min(2.0, epochs / 4))),
    )
    with tempfile.TemporaryDirectory() as folder:
        result = fit(
            Classification(network, course),
            folder=Path(folder) / "training",
            deadline=begun + 60 * asked.minutes if asked.minutes else None,
        )
    seconds = time.monotonic() - begun
    return Trained(
        network=spec.label,
        latency=latency,
        macs=candidate.count.macs,
        prior=candidate.prior,
        epochs=len(result.epochs),
        seconds=round(seconds, 1),
        top1=on_test(network, samples, pre, pixels),
        n=len(samples.indices("test")),
    )


def on_test(network: Network, samples: Samples, pre: Preprocessing, pixels: Pixels) -> float:
    """Top-1, 0..1."""
    rows = samples.indices("test")
    named = named_classes(network, pixels, rows, pre, 256)
    return float((named == samples.labels[rows]).mean())


def all_trained(asked: Options) -> list[Trained]:
    """Every network within the latency, in the order of `NETWORKS`."""
    data = subset(asked, asked.seeds[0])
    samples = scan(data, seed=asked.seeds[0])
    candidates = [
        as_candidate(
            registry.spec(
                name,
                width=None if name.startswith("shufflenet_v2") else width,
                resolution=side,
                num_classes=len(samples.classes),
            )
        )
        for name, width, side in NETWORKS
    ]
    budget = Budget(latency_ms=parse_latency(asked.latency))
    tried = measure_candidates(candidates, [OnnxRuntime()], ("f32",), budget, 1, TerminalReporter())
    latencies = {entry.network: entry.latency for entry in tried if entry.fits}
    found = []
    for number, candidate in enumerate(candidates):
        if latency := latencies.get(candidate.spec.label):
            print(f"{candidate.spec.label} ...", flush=True)
            work = partial(trained, asked, samples, candidate, latency)
            found.append(made_once(Trained, asked.work / f"{number}-{RESULTS}", work))
    return found


def _correlation(first: Sequence[float], second: Sequence[float]) -> str:
    found = rank_correlation(np.array(first), np.array(second))
    return "not known" if found is None else f"{found:+.2f}"


def page(found: Sequence[Trained], asked: Options) -> list[str]:
    """The page, line by line."""
    by_top1 = sorted(found, key=lambda one: -one.top1)
    top1s, macs = [one.top1 for one in found], [float(one.macs) for one in found]
    priors = [one.prior.top1 for one in found]
    by_prior = max(found, key=lambda one: one.prior.top1)
    by_work = max(found, key=lambda one: one.macs)
    rows = [
        (
            one.network,
            cell(one.latency),
            f"{one.macs / 1e6:.2f}",
            f"{one.prior.top1:.0%}, {one.prior.source}",
            str(one.epochs),
            f"{one.top1:.1%}",
        )
        for one in by_top1
    ]
    return [
        "# Which network for small inputs at one latency",
        "",
        f"Networks below {format_latency(parse_latency(asked.latency))}, trained from scratch for "
        f"{asked.minutes:g} minutes each. Published accuracies are of inputs of 96 px and more and "
        "of far more work; what is expected of these networks is extrapolated from them. The rank "
        f"correlation with what training gives is {_correlation(priors, top1s)} for the "
        f"extrapolated accuracy, and {_correlation(macs, top1s)} for "
        f"multiply-accumulates. The first would choose {by_prior.network} ({by_prior.top1:.1%}), "
        f"the second {by_work.network} ({by_work.top1:.1%}).",
        "",
        "```",
        command("small_inputs_cifar10", asked),
        "```",
        "",
        *table(
            ("network", "ms in float", "million MACs", "expected", "epochs", "test top-1"),
            rows,
        ),
        f"{asked.images:,} training images, {found[0].n:,} test images (a standard error of half a "
        f"point), seed {asked.seeds[0]}. Latency: ONNX Runtime, 1 thread. "
        + machine_line(("torch", "onnxruntime"), threads=2),
    ]


def options() -> Options:
    """Parse the command line."""
    parser = arguments(__doc__, work="cifar10-small-inputs", minutes=3)
    parser.set_defaults(seeds=[0])
    parser.add_argument("--latency", default="0.25ms", help="that all are within")
    asked = Options(**given_words(parser))
    if len(asked.seeds) > 1:
        parser.error("one seed at a time; give each another --work.")
    return asked


def main() -> None:
    """Make what is not made yet, and write the page."""
    asked = options()
    check_settings(asked)
    publish(page(all_trained(asked), asked), asked.page)


if __name__ == "__main__":
    main()
