"""What a run says before it begins: the images, what will happen, and how long it should take."""

from __future__ import annotations

from pocketvision.fitting import forecast
from pocketvision.fitting.candidates import Candidate
from pocketvision.fitting.plan import MeasuredCache
from pocketvision.fitting.run import Run
from pocketvision.fitting.workload import workload_of
from pocketvision.intervals import wilson

FEW_HEADLINE_IMAGES = 100


def say_forecast(run: Run, candidates: list[Candidate]) -> None:
    samples, config, say = run.samples, run.config, run.reporter.say
    counts = ", ".join(f"{name} {len(samples.indices(name))}" for name in samples.split_origins)
    say(f"{len(samples.paths)} images, {len(samples.classes)} classes ({counts}).")
    if samples.headline_split == "val":
        say("Too few images for a test split: figures will be on val, which also selects.")
    headline = len(samples.indices(samples.headline_split))
    if headline < FEW_HEADLINE_IMAGES:
        few = f"Figures will rest on {headline} images of {samples.headline_split}"
        most = f"{wilson(headline, headline)[0]:.0%} can be claimed (95 %)"
        counted = run.task.metric == "top-1"
        say(f"{few}: even if all are named right, no more than {most}." if counted else f"{few}.")
    if config.budget.is_open:
        say("No --latency, --size or --memory: only the time to train limits the network.")
    if config.weights is None:
        say("No weights given: training starts from scratch. On few photos, --weights helps most.")
    largest = max(c.spec.resolution for c in candidates)
    unknown = _unmeasured(run, candidates) if run.target is None else 0
    sentence = forecast.forecast_sentence(
        workload_of(run, largest),
        planning_s=forecast.planning_seconds(
            unknown,
            [runtime.name for runtime in run.runtimes],
            memory=config.budget.memory_bytes is not None,
            cost=run.task.candidate_cost,
        ),
        unknown=unknown,
        side=run.task.preprocessing(largest, samples.shorter_side).side,
        budget=config.budget,
    )
    say(sentence)


def _unmeasured(run: Run, candidates: list[Candidate]) -> int:
    """How many candidates no run on this machine measured before."""
    config, cache = run.config, MeasuredCache(run.config.threads)
    return sum(
        not all(
            cache.holds(c.spec, runtime, config.precisions, config.budget)
            for runtime in run.runtimes
        )
        for c in candidates
    )
