"""The main job: plan -> train -> export -> quantize -> gate -> ship -> verify -> report.

No step goes back up, each writes its result atomically, and run.json says how far a run has come.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from pocketvision.budget import (
    Budget,
    format_latency,
    parse_latency,
    parse_memory,
    parse_size,
    parse_time,
)
from pocketvision.data.transforms import Augmentation
from pocketvision.errors import BudgetError, GateError, NoisyError
from pocketvision.fitting.artefact import RUN, Artefact, read_state
from pocketvision.fitting.choice import (
    choose_variant,
    missed_sentence,
    slower_than_planned,
    undecided,
)
from pocketvision.fitting.config import FitConfig, HeadName
from pocketvision.fitting.following import follow, is_follower, refuse_other_words
from pocketvision.fitting.leading import Lead, leading
from pocketvision.fitting.lock import working_in
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.fitting.run import Run, keeping_the_clock
from pocketvision.fitting.ship import finish, finish_missed
from pocketvision.fitting.start import open_run
from pocketvision.fitting.target_table import threads_asked
from pocketvision.fitting.training import (
    forget_training,
    run_training,
    settle,
    time_for_another,
)
from pocketvision.fitting.variants import build_variants, forget_latencies
from pocketvision.fitting.waiting import Patience
from pocketvision.record.timing import Latency
from pocketvision.record.words import TaskName


def fit(
    data: str | Path,
    out: str | Path,
    *,
    task: TaskName = "classify",
    latency: str | None = None,
    size: str | None = None,
    time: str | None = None,
    memory: str | None = None,
    models: tuple[str, ...] = (),
    resolutions: tuple[int, ...] = (),
    runtimes: tuple[str, ...] = (),
    threads: int | None = None,
    target: str | Path | None = None,
    max_drop: float = 1.0,
    epochs: int | None = None,
    weights: str | None = None,
    augmentation: Augmentation | None = None,
    head: HeadName | None = None,
    void: tuple[int, ...] = (),
    nms: Literal["outside", "inside"] = "outside",
    skip_bad: bool = False,
    seed: int = 0,
) -> Artefact:
    """Fit a network to labelled images and a budget; the Python face of `pocketvision fit`.

    data: a folder of class folders, or of train/ val/ (test/); of "segment", images and masks; of
    "detect", images and boxes (docs/places.md). out: the folder to write.
    latency "5ms", size "4MB", time "30m", memory "20MB"; models: name patterns; resolutions in
    pixels; max_drop: points of the score that a file may lose against the float network. target:
    the latency table of another device, that of the budget; threads: None: one, or the table's.
    head: of a segmenter; None: LR-ASPP, or that of the weights. void: values of masks that are no
    class, beside 255. nms: whether a detector's file selects boxes itself, as one more output.
    skip_bad: leave out what cannot be used.
    `FitConfig` has every option.

    Raises: ConfigError, DataError: unusable input. BudgetError: nothing meets the budget.
    GateError: the trained network misses the budget or its accuracy gate.
    """
    config = FitConfig(
        data=str(data),
        task=task,
        budget=parse_budget(latency, size, time, memory),
        models=models,
        resolutions=resolutions,
        runtimes=runtimes,
        threads=threads_asked(threads, None if target is None else str(target)),
        target=None if target is None else str(target),
        max_drop_points=max_drop,
        epochs=epochs,
        weights=weights,
        augmentation=augmentation or Augmentation(),
        head=head,
        void=void,
        nms=nms,
        skip_bad=skip_bad,
        seed=seed,
    )
    command = f"pocketvision.fit({str(data)!r}, {str(out)!r}, ...)  # options: run.json"
    return run_fit(config, Path(out), command=command)


def parse_budget(
    latency: str | None, size: str | None, time: str | None, memory: str | None = None
) -> Budget:
    """Four texts to a Budget; None stays no limit. Raises: ConfigError."""
    return Budget(
        latency_ms=None if latency is None else parse_latency(latency),
        size_bytes=None if size is None else parse_size(size),
        time_s=None if time is None else parse_time(time),
        memory_bytes=None if memory is None else parse_memory(memory),
    )


def run_fit(
    config: FitConfig,
    out: Path,
    reporter: Reporter | None = None,
    *,
    command: str = "",
    spent_s: float = 0.0,
    lead: Lead | None = None,
) -> Artefact:
    """Run the main job, or go on with it if `out` holds the same run unfinished.

    command: how it was asked for, for the record; empty: as this call. spent_s: of its time, before
    it begins. lead: of the run that this one is within, with as many nodes.

    Raises: as `fit`.
    """
    asked = command or f"run_fit({config!r}, {str(out)!r})"
    reporter = reporter or Silent()
    if is_follower(config.nodes):
        return follow(
            config, out, reporter, lambda: refuse_other_words(config, read_state(out).config)
        )
    with working_in(out, reporter.say), leading(config.nodes, out, reporter, lead) as lead:
        run = open_run(config, out, reporter, asked, spent_s)
        if lead is not None:
            run.together = partial(lead.training, out)
        with keeping_the_clock(run.out / RUN, lambda: run.save(run.state)):
            return _work(run)


MEASURES_AGAIN = "It was fast enough when it was chosen: the same command measures it again."


def _work(run: Run) -> Artefact:
    """Train, gate and ship the ranked networks in turn until one holds."""
    patience = Patience(run.clock, run.reporter)
    while True:
        network = run_training(run)
        built = build_variants(run, network)
        chosen = choose_variant(built)
        if chosen is not None:
            return finish(run, network, built, chosen)
        budget = run.config.budget
        table = "" if run.target is None else run.target.described
        reason = missed_sentence(run.spec.label, built, budget, run.config.max_drop_points, table)
        if noisy := undecided(built, budget):
            said = _noisy_sentence(run, noisy)
            if _measures_again(run, patience, said):
                continue
            forget_latencies(run)  # for when it goes on
            raise NoisyError(
                f"{said} Stop other programs and run the same command again; it goes on from here."
            )
        slower = slower_than_planned(built, run.spec.label, run.state.tried, budget)
        if slower and _measures_again(run, patience, _slower_sentence(run, *slower)):
            continue
        if not _next_candidate(run):
            finish_missed(run, network, built, reason, too_slow=slower is not None)
            again = "" if slower is None else f" {MEASURES_AGAIN}"
            raise GateError(
                f"{reason} The trained network stays in {run.out}, and report.html there shows "
                f"what was found.{again} Otherwise ask for more in another --out, and begin with "
                f"--weights {run.out} to keep what it learned."
            )
        run.reporter.say(f"{reason} Going on with {run.spec.label}.")


def _noisy_sentence(run: Run, noisy: Latency) -> str:
    return (
        f"The machine is too noisy to say whether {run.spec.label} meets {run.config.budget}: "
        f"between {format_latency(noisy.low_ms)} and {format_latency(noisy.high_ms)}."
    )


def _slower_sentence(run: Run, now: Latency, planned: Latency) -> str:
    return (
        f"{run.spec.label} takes up to {format_latency(now.high_ms)} now, and took "
        f"{format_latency(planned.high_ms)} when it was chosen: the machine may be slower for a "
        "while."
    )


def _measures_again(run: Run, patience: Patience, why: str) -> bool:
    """Wait, and forget what was measured; False: there is no more time for that."""
    measuring_s = [step.seconds for step in run.state.steps if step.name == "measure"][-1]
    if not patience.waits(why, measuring_s):
        return False
    forget_latencies(run)
    return True


def _next_candidate(run: Run) -> bool:
    """Move to the next ranked network; False when there is none, or no time to train it well."""
    if run.state.attempt + 1 >= len(run.state.ranking) or not time_for_another(run):
        return False
    try:
        attempt = settle(run, run.state.attempt + 1)
    except BudgetError:
        return False
    forget_training(run, attempt)
    return True
