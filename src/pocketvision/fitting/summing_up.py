"""What a run came to, as its record and its verdict tell it."""

from __future__ import annotations

from dataclasses import replace

from pocketvision.budget import format_latency, format_size
from pocketvision.fitting.artefact import TRAINING
from pocketvision.fitting.choice import Built
from pocketvision.fitting.from_files import FileRun
from pocketvision.fitting.narrowing import narrowing_left
from pocketvision.fitting.plan import mark_chosen
from pocketvision.fitting.run import Run
from pocketvision.measure.count import count
from pocketvision.measure.device import machine
from pocketvision.models.networks import AnyNetwork
from pocketvision.record.files import Shipped, Variant
from pocketvision.record.run import SCHEMA_VERSION, BudgetSummary, NetworkSummary, Record, Verdict
from pocketvision.record.scores import Comparison, Score
from pocketvision.train.watch import METRICS, read_metrics


def record_of(
    run: Run,
    network: AnyNetwork,
    built: list[Built],
    chosen: Built,
    shipped: Shipped,
    files: FileRun,
    verification: tuple[Comparison, ...],
    missed: str,
) -> Record:
    """All figures but those of `Evidence`. missed: why nothing ships; empty: `chosen` does."""
    config, samples, spec = run.config, run.samples, network.spec
    counted = count(spec)
    headline = verification[-1].accuracy
    tried = run.state.tried
    if not missed:
        tried = mark_chosen(tried, spec.label, shipped.runtime, shipped.precision)
    return Record(
        schema_version=SCHEMA_VERSION,
        created=run.state.created,
        command=run.state.command,
        seed=config.seed,
        verdict=verdict_of(run, chosen.variant, shipped, headline, missed),
        budget=BudgetSummary(
            latency_ms=config.budget.latency_ms,
            size_bytes=config.budget.size_bytes,
            time_s=config.budget.time_s,
            threads=config.threads,
            max_drop_points=config.max_drop_points,
            memory_bytes=config.budget.memory_bytes,
        ),
        data=samples.summary(),
        network=NetworkSummary(
            name=spec.name,
            label=spec.label,
            width=spec.width,
            resolution=spec.resolution,
            parameters=counted.parameters,
            macs=counted.macs,
            peak_activation_bytes=counted.peak_activation_bytes,
            start=run.state.start,
        ),
        shipped=shipped,
        headline=headline,
        latency=chosen.variant.latency,
        target=None if run.target is None else run.target.told(chosen.variant.target),
        decode_ms=files.decode_ms,
        variants=tuple(replace(b.variant, shipped=b is chosen and not missed) for b in built),
        verification=verification,
        confusion=(),
        tried=tried,
        epochs=read_metrics(run.out / TRAINING / METRICS),
        steps=run.state.steps,
        machine=machine(),
        spent_s=round(run.clock.spent_s, 3),
        peak_bytes=chosen.variant.peak_bytes,
        conditions=run.state.conditions,
        findings=run.state.findings,
        alarms=run.state.alarms,
        quantization=run.state.quantization,
        train_score=run.state.train_score,
        val_score=run.state.val_score,
        task=config.task,
        narrowing=narrowing_left(run.out),
    )


def verdict_of(
    run: Run, variant: Variant, shipped: Shipped, headline: Score, missed: str
) -> Verdict:
    """Whether the budget was met, and the figures of the file that ships or came nearest."""
    budget = run.config.budget
    size, peak = format_size(shipped.size_bytes), variant.peak_bytes
    memory = "" if peak is None else f" and {format_size(peak)} of memory"
    split = run.samples.headline_split
    remark = " (val, used for selection)" if split == "val" else ""
    measured = (
        f"{run.spec.label} answers in {_answers_in(run, variant)}, "
        f"takes {size}{memory}, and {headline.reached(f'{split} images')}{remark}."
    )
    sentences = [measured, *_shortened(run)]
    sentences += [alarm.sentence for alarm in run.state.alarms if alarm.severity == "error"]
    if missed:
        sentence = " ".join([missed, "Of the file that came nearest:", *sentences])
        return Verdict(met=False, sentence=sentence)
    if budget.is_open:
        return Verdict(met=None, sentence=" ".join(sentences))
    return Verdict(met=True, sentence=" ".join([*sentences, f"The budget is {budget}."]))


def _answers_in(run: Run, variant: Variant) -> str:
    """'5 ms as int8 on onnxruntime', and by what, where it was not measured."""
    if run.target is None or variant.target is None:
        here = format_latency(variant.latency.median_ms)
        return f"{here} as {variant.precision} on {variant.runtime}"
    return run.target.in_words(variant.target, variant.latency)


def _shortened(run: Run) -> list[str]:
    """The sentence on a training that the time cut short; none otherwise."""
    assert run.state.train is not None
    planned, epochs = run.state.train.epochs, read_metrics(run.out / TRAINING / METRICS)
    # The end may come within an epoch, though never within one that is the only one written.
    whole = epochs[-1].steps // epochs[0].steps if epochs else 0
    return [f"The time allowed {whole} of {planned} epochs."] if whole < planned else []
