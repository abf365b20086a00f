"""Ship the chosen file: model/, the headline figure from image files, record, report, card."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np

from pocketvision.budget import format_latency, format_size
from pocketvision.fitting.artefact import CARD, MODEL, RECORD, REPORT, TRAINING, Artefact
from pocketvision.fitting.plan import mark_chosen
from pocketvision.fitting.run import Run, stopwatch
from pocketvision.fitting.standalone import standalone_script
from pocketvision.fitting.training import SHORTENED, preprocessing_for
from pocketvision.fitting.variants import Built, card_of
from pocketvision.fitting.verify import FileRun, run_on_files
from pocketvision.measure.accuracy import compare, confusion
from pocketvision.measure.count import count
from pocketvision.measure.device import machine
from pocketvision.models.arch import Network
from pocketvision.record import (
    SCHEMA_VERSION,
    Accuracy,
    BudgetSummary,
    Comparison,
    NetworkSummary,
    Record,
    Shipped,
    Step,
    Variant,
    Verdict,
)
from pocketvision.report.card import render_card
from pocketvision.report.html import render_report
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import Session
from pocketvision.storage import sha256_file, to_json, write_atomic
from pocketvision.train.trainer import METRICS, read_metrics

SHIPPED = "shipped"  # the name of the shipped file among those compared


def finish(run: Run, network: Network, built: list[Built], chosen: Built) -> Artefact:
    """Write everything that comes out of the run, and mark it done."""
    shipped = _write_model(run, network, chosen)
    with stopwatch() as seconds:
        files = _run_headline(run, network, built, chosen)
    verification = _compare_files(run, files)
    split, top1 = run.samples.headline_split, verification[-1].accuracy.top1
    note = f"from image files: {top1:.1%} on {split}"
    run.add_steps(Step(name="verify", seconds=seconds[0], note=note))
    record = _record(run, network, built, chosen, shipped, files, verification)
    write_atomic(run.out / RECORD, to_json(record))
    write_atomic(run.out / REPORT, render_report(record))
    write_atomic(run.out / CARD, render_card(record))
    run.save(replace(run.state, status="done"))
    return Artefact(run.out)


def _write_model(run: Run, network: Network, chosen: Built) -> Shipped:
    """model/ appears whole: it is filled beside its place and then renamed."""
    variant, threads = chosen.variant, run.config.threads
    runtime = get_runtime(variant.runtime)
    building, folder = run.out / f".{MODEL}", run.out / MODEL
    for leftover in (building, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    building.mkdir()
    for file in runtime.files(chosen.path):
        shutil.copyfile(file, building / file.name)
    card = card_of(run, network)
    script = standalone_script(variant.runtime, variant.precision, threads, card)
    write_atomic(building / "run.py", script)
    building.rename(folder)
    paths = sorted(folder.iterdir())
    session = runtime.session(folder / runtime.file_name("model"), variant.precision, threads)
    return Shipped(
        options=session.describe(),
        runtime=variant.runtime,
        precision=variant.precision,
        threads=threads,
        files={path.name: sha256_file(path) for path in paths},
        size_bytes=sum(path.stat().st_size for path in paths),
    )


def _run_headline(run: Run, network: Network, built: list[Built], chosen: Built) -> FileRun:
    samples = run.samples
    rows = samples.indices(samples.headline_split)
    threads = run.config.threads
    sessions: dict[str, Session] = {}
    for entry in built:
        variant = entry.variant
        runtime = get_runtime(variant.runtime)
        shipped = run.out / MODEL / runtime.file_name("model")
        path = shipped if entry is chosen else entry.path
        sessions[_subject(entry, chosen)] = runtime.session(path, variant.precision, threads)
    return run_on_files(
        [samples.root / samples.paths[row] for row in rows],
        samples.labels[rows],
        preprocessing_for(run, network.spec),
        network,
        sessions,
        run.reporter,
    )


def _compare_files(run: Run, files: FileRun) -> tuple[Comparison, ...]:
    """Every file against the float network, the shipped one last."""
    names = sorted(files.logits.keys() - {"float"}, key=lambda name: (name == SHIPPED, name))
    return tuple(
        compare(
            files.logits[name],
            files.logits["float"],
            files.labels,
            subject=name,
            reference="float network",
            split=run.samples.headline_split,
        )
        for name in names
    )


def _subject(built: Built, chosen: Built) -> str:
    return SHIPPED if built is chosen else f"{built.variant.precision} on {built.variant.runtime}"


def _record(
    run: Run,
    network: Network,
    built: list[Built],
    chosen: Built,
    shipped: Shipped,
    files: FileRun,
    verification: tuple[Comparison, ...],
) -> Record:
    config, samples, spec = run.config, run.samples, network.spec
    counted = count(spec)
    headline = verification[-1].accuracy
    classes = len(samples.classes)
    matrix = confusion(files.logits[SHIPPED], files.labels, classes)
    return Record(
        schema_version=SCHEMA_VERSION,
        created=run.state.created,
        command=run.state.command,
        seed=config.seed,
        verdict=_verdict(run, chosen.variant, shipped, headline),
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
        decode_ms=files.decode_ms,
        variants=tuple(replace(b.variant, shipped=b is chosen) for b in built),
        verification=verification,
        confusion=tuple(tuple(int(v) for v in row) for row in np.asarray(matrix)),
        tried=mark_chosen(run.state.tried, spec.label, shipped.runtime, shipped.precision),
        epochs=read_metrics(run.out / TRAINING / METRICS),
        steps=run.state.steps,
        machine=machine(),
        spent_s=round(run.clock.spent_s, 3),
        peak_bytes=chosen.variant.peak_bytes,
    )


def _verdict(run: Run, variant: Variant, shipped: Shipped, headline: Accuracy) -> Verdict:
    budget = run.config.budget
    latency, size = format_latency(variant.latency.median_ms), format_size(shipped.size_bytes)
    peak = variant.peak_bytes
    memory = "" if peak is None else f" and {format_size(peak)} of memory"
    split = run.samples.headline_split
    remark = " (val, used for selection)" if split == "val" else ""
    measured = (
        f"{run.spec.label} answers in {latency} as {variant.precision} on {variant.runtime}, "
        f"takes {size}{memory}, and gets {headline.top1:.1%} of {headline.n} {split} images "
        f"right{remark}."
    )
    trained = next(step for step in reversed(run.state.steps) if step.name == "train")
    if SHORTENED in trained.note:
        measured = f"{measured} The time allowed {trained.note.split(', ')[1]}."
    if budget.is_open:
        return Verdict(met=None, sentence=measured)
    return Verdict(met=True, sentence=f"{measured} The budget is {budget}.")
