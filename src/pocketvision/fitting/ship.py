"""Ship the chosen file: model/, the headline figure from image files, record, report, card."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

from pocketvision.budget import format_latency, format_size
from pocketvision.errors import ArtefactError
from pocketvision.fitting.artefact import (
    CARD,
    MODEL,
    RECORD,
    REPORT,
    TRAINING,
    Artefact,
    altered_files,
)
from pocketvision.fitting.choice import Built, nearest_variant
from pocketvision.fitting.earlier_runs import learn
from pocketvision.fitting.from_files import FileRun, run_on_files
from pocketvision.fitting.measuring import shipped_throughput
from pocketvision.fitting.narrowing import narrowing_left
from pocketvision.fitting.plan import mark_chosen
from pocketvision.fitting.run import Run, stopwatch
from pocketvision.fitting.seal import seal_of
from pocketvision.fitting.shipped import STEM, fill_model, shipped_facts
from pocketvision.fitting.training import preprocessing_for
from pocketvision.fitting.variants import card_of
from pocketvision.fitting.workload import forecast_of, workload_of
from pocketvision.measure.count import count
from pocketvision.measure.device import machine
from pocketvision.measure.profile import profile_layers
from pocketvision.measure.untrained import noise
from pocketvision.models.networks import AnyNetwork
from pocketvision.record import (
    SCHEMA_VERSION,
    BudgetSummary,
    Comparison,
    NetworkSummary,
    OnTarget,
    Record,
    Score,
    Shipped,
    Step,
    Variant,
    Verdict,
)
from pocketvision.report.card import render_card
from pocketvision.report.html import render_report
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import Session
from pocketvision.storage import from_json, to_json, write_into
from pocketvision.train.watch import METRICS, read_metrics

SHIPPED = "shipped"  # the name of the shipped file among those compared
NEAREST = "nearest"  # and of the one that is shown where none ships


def finish(run: Run, network: AnyNetwork, built: list[Built], chosen: Built) -> Artefact:
    """Write everything that comes out of the run, and mark it done."""
    record = _record_left(run)
    if record is None:
        shipped = _write_model(run, network, chosen)
        record = _measure(run, network, built, chosen, shipped)
        if run.target is None:  # what a file takes here was not known to its plan
            learn(run.config.task, workload_of(run, run.spec.resolution), run.state.steps)
    _write_pages(run, record)
    run.save(replace(run.state, status="done", seal=seal_of(run.out)))
    return Artefact(run.out)


def _record_left(run: Run) -> Record | None:
    """The record, if the run was interrupted behind its last figure and model/ still is as then."""
    path = run.out / RECORD
    if not run.did("verify") or not path.exists():
        return None
    try:
        record = from_json(Record, path.read_bytes(), source=str(path))
    except ArtefactError:  # it is written anew
        return None
    return None if altered_files(run.out / MODEL, record.shipped.files) else record


def finish_missed(run: Run, network: AnyNetwork, built: list[Built], reason: str) -> None:
    """Nothing ships: record and report show what was found, by the file that came nearest."""
    nearest = nearest_variant(built)
    shown = _shipped(run, nearest, nearest.path, files={})
    record = _measure(run, network, built, nearest, shown, reason)
    _write_pages(run, record)
    run.save(replace(run.state, status="failed"))


def _write_pages(run: Run, record: Record) -> None:
    write_into(run.out / REPORT, render_report(record))
    write_into(run.out / CARD, render_card(record))


def _write_model(run: Run, network: AnyNetwork, chosen: Built) -> Shipped:
    """model/ appears whole: it is filled beside its place and then renamed."""
    variant, threads = chosen.variant, run.config.threads
    building, folder = run.out / f".{MODEL}", run.out / MODEL
    for leftover in (building, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    building.mkdir()
    card = card_of(run, network)
    hashes = fill_model(chosen.path, building, variant.runtime, variant.precision, threads, card)
    building.rename(folder)
    return _shipped(
        run, chosen, folder / get_runtime(variant.runtime).file_name(STEM), files=hashes
    )


def _shipped(run: Run, chosen: Built, model: Path, *, files: dict[str, str]) -> Shipped:
    variant = chosen.variant
    return shipped_facts(
        model,
        variant.runtime,
        variant.precision,
        run.config.threads,
        files=files,
        size_bytes=variant.size_bytes,
    )


def _measure(
    run: Run,
    network: AnyNetwork,
    built: list[Built],
    chosen: Built,
    shipped: Shipped,
    missed: str = "",
) -> Record:
    """The figures from image files, and the record of all of them, written.

    missed: why nothing ships; empty: `chosen` does.
    """
    subject = SHIPPED if not missed else NEAREST
    with stopwatch() as seconds:
        files = _run_headline(run, network, built, chosen, subject)
        model = chosen.path
        if not missed:
            model = run.out / MODEL / get_runtime(shipped.runtime).file_name(STEM)
        runtime = get_runtime(shipped.runtime)
        evidence = run.task.evidence(
            run.samples,
            run.samples.indices(run.samples.headline_split),
            files.answers[subject],
            preprocessing_for(run, network.spec),
            partial(runtime.session, model, shipped.precision, shipped.threads),
        )
        layers = profile_layers(
            runtime, model, shipped.precision, shipped.threads, noise(1, network.spec)
        )
        throughput = shipped_throughput(model, shipped, network.spec)
    verification = _compare_files(run, files, subject)
    split, score = run.samples.headline_split, verification[-1].accuracy.value
    note = f"from image files: {score:.1%} on {split}"
    planned_s = forecast_of(run, "verify")
    run.add_steps(Step(name="verify", seconds=seconds[0], note=note, forecast_s=planned_s))
    record = replace(
        _record(run, network, built, chosen, shipped, files, verification, missed),
        confusion=evidence.confusion,
        calibration=evidence.calibration,
        mistakes=evidence.mistakes,
        segmentation=evidence.segmentation,
        detection=evidence.detection,
        layers=layers,
        throughput=throughput,
    )
    write_into(run.out / RECORD, to_json(record))
    return record


def _run_headline(
    run: Run, network: AnyNetwork, built: list[Built], chosen: Built, subject: str
) -> FileRun:
    samples = run.samples
    rows = samples.indices(samples.headline_split)
    threads = run.config.threads
    sessions: dict[str, Session] = {}
    for entry in built:
        variant = entry.variant
        runtime = get_runtime(variant.runtime)
        shipped = run.out / MODEL / runtime.file_name(STEM)
        is_shipped = entry is chosen and subject == SHIPPED
        path = shipped if is_shipped else entry.path
        name = subject if entry is chosen else f"{variant.precision} on {variant.runtime}"
        sessions[name] = runtime.session(path, variant.precision, threads)
    return run_on_files(
        samples,
        rows,
        preprocessing_for(run, network.spec),
        network,
        sessions,
        run.reporter,
    )


def _compare_files(run: Run, files: FileRun, subject: str) -> tuple[Comparison, ...]:
    """Every file against the float network, `subject` last."""
    names = sorted(files.answers.keys() - {"float"}, key=lambda name: (name == subject, name))
    split = run.samples.headline_split
    judge = run.task.judge(run.samples, run.samples.indices(split))
    return tuple(
        judge.compare(
            files.answers[name],
            files.answers["float"],
            subject=name,
            reference_name="float network",
            split=split,
        )
        for name in names
    )


def _record(
    run: Run,
    network: AnyNetwork,
    built: list[Built],
    chosen: Built,
    shipped: Shipped,
    files: FileRun,
    verification: tuple[Comparison, ...],
    missed: str,
) -> Record:
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
        verdict=_verdict(run, chosen.variant, shipped, headline, missed),
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
        target=_on_target(run, chosen.variant),
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


def _on_target(run: Run, variant: Variant) -> OnTarget | None:
    if run.target is None or variant.target is None:
        return None
    return OnTarget(table=run.target.described, latency=variant.target)


def _answers_in(run: Run, variant: Variant) -> str:
    """'5 ms as int8 on onnxruntime', and by what, where it was not measured."""
    here = format_latency(variant.latency.median_ms)
    if run.target is None or variant.target is None:
        return f"{here} as {variant.precision} on {variant.runtime}"
    there = format_latency(variant.target.median_ms)
    return (
        f"{there} by the table of {run.target.described}, not measured there ({here} measured on "
        "this machine)"
    )


def _verdict(run: Run, variant: Variant, shipped: Shipped, headline: Score, missed: str) -> Verdict:
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


def _shortened(run: Run) -> list[str]:
    """The sentence on a training that the time cut short; none otherwise."""
    assert run.state.train is not None
    planned, epochs = run.state.train.epochs, read_metrics(run.out / TRAINING / METRICS)
    # The end may come within an epoch, though never within one that is the only one written.
    whole = epochs[-1].steps // epochs[0].steps if epochs else 0
    return [f"The time allowed {whole} of {planned} epochs."] if whole < planned else []
