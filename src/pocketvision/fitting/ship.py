"""Ship the chosen file: model/, the headline figure from image files, record, report, card."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

from pocketvision.errors import ArtefactError
from pocketvision.fitting.artefact import CARD, MODEL, RECORD, REPORT, Artefact, altered_files
from pocketvision.fitting.choice import Built, nearest_variant
from pocketvision.fitting.earlier_runs import learn
from pocketvision.fitting.from_files import FileRun, run_on_files
from pocketvision.fitting.making import card_of
from pocketvision.fitting.measuring import shipped_throughput
from pocketvision.fitting.run import Run, stopwatch
from pocketvision.fitting.seal import seal_of
from pocketvision.fitting.shipped import STEM, fill_model, shipped_facts
from pocketvision.fitting.summing_up import record_of
from pocketvision.fitting.training import preprocessing_for
from pocketvision.fitting.workload import forecast_of, workload_of
from pocketvision.measure.profile import profile_layers
from pocketvision.measure.untrained import noise
from pocketvision.models.networks import AnyNetwork
from pocketvision.record.files import Shipped
from pocketvision.record.run import Record, Step
from pocketvision.record.scores import Comparison
from pocketvision.report.card import render_card
from pocketvision.report.html import render_report
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import Session
from pocketvision.storage import from_json, to_json, write_into

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
    """The record, if the run was interrupted behind its last figure and model/ still is as then.

    Not that of a run that had shipped nothing, and is measured again.
    """
    path = run.out / RECORD
    if not run.did("verify") or not path.exists():
        return None
    try:
        record = from_json(Record, path.read_bytes(), source=str(path))
    except ArtefactError:  # it is written anew
        return None
    missed = record.verdict.met is False
    return None if missed or altered_files(run.out / MODEL, record.shipped.files) else record


def finish_missed(
    run: Run, network: AnyNetwork, built: list[Built], reason: str, *, too_slow: bool
) -> None:
    """Nothing ships: record and report show what was found, by the file that came nearest.

    too_slow: nothing but a latency is against it, which the plan had within the budget.
    """
    nearest = nearest_variant(built)
    shown = _shipped(run, nearest, nearest.path, files={})
    record = _measure(run, network, built, nearest, shown, reason)
    _write_pages(run, record)
    run.save(replace(run.state, status="failed", too_slow=too_slow))


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
        record_of(run, network, built, chosen, shipped, files, verification, missed),
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
