"""What a run has to work through, as far as it is known by now."""

from __future__ import annotations

from pocketvision.data.cache import DecodedImages, is_stored, shortage, store_bytes
from pocketvision.data.stream import decoding_seconds
from pocketvision.fitting.earlier_runs import usual_ratios
from pocketvision.fitting.forecast import UNMEASURED_S, Workload, count_quantized
from pocketvision.fitting.run import Run


def workload_of(run: Run, resolution: int | None = None) -> Workload:
    """The images each phase will see; without a resolution, at the largest of the ranking."""
    samples = run.samples
    largest = max((spec.resolution for spec in run.state.ranking), default=0)
    shape = run.task.preprocessing(resolution or largest or 1, samples.shorter_side)
    contents = DecodedImages(index=samples.index, side=shape.side, whole=shape.whole)
    there = is_stored(contents)
    return Workload(
        stored=len(samples),
        undecoded=0 if there else len(samples),
        train=len(samples.indices("train")),
        val=len(samples.indices("val")),
        headline=len(samples.indices(samples.headline_split)),
        runtimes=len(run.runtimes),
        quantized=count_quantized(run.runtimes, run.config.precisions),
        resolution=resolution or largest,
        batch_size=run.config.batch_size or run.task.batch_size,
        fine_tuning=run.config.weights is not None,
        streamed="" if there else shortage(store_bytes(len(samples), shape.side)),
        decoding_s=0.0 if there else _decoding_s(run, contents),
        files_s=_files_s(run),
        ratios=usual_ratios(run.config.task),
    )


def forecast_of(run: Run, step: str) -> float | None:
    """What a step after the training is planned to take; None where the time has no limit."""
    if run.clock.limit_s is None:
        return None
    return round(workload_of(run, run.spec.resolution).finishing_s[step], 3)


def finishing_deadline(run: Run) -> float | None:
    """The `time.monotonic()` at which the steps after the training have to begin; None: any."""
    if run.clock.limit_s is None:
        return None
    return run.clock.deadline(workload_of(run, run.spec.resolution).finish_s)


def _decoding_s(run: Run, contents: DecodedImages) -> float:
    """Of one image; timed once for every side."""
    if contents.side not in run.decoding:
        run.decoding[contents.side] = decoding_seconds(contents)
    return run.decoding[contents.side]


def _files_s(run: Run) -> float:
    """One image through all files of the network being trained, or the next to be."""
    state = run.state
    names = {spec.label for spec in state.ranking[state.attempt : state.attempt + 1]}
    latencies_ms = [
        tried.latency.median_ms
        for tried in state.tried
        if tried.network in names and not tried.latency.is_by_table
    ]
    return sum(latencies_ms) / 1e3 if latencies_ms else UNMEASURED_S
