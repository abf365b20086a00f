"""Ship the chosen file: model/, the whole map through it, record, report, card."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pocketvision.budget import format_latency, format_size, format_time
from pocketvision.data.scene.bands import BandReduction
from pocketvision.data.scene.leakage import split_figures
from pocketvision.data.scene.scene import Labels
from pocketvision.data.scene.splits import SceneSplit
from pocketvision.errors import GateError
from pocketvision.fitting.artefact import CARD, MODEL, RECORD, REPORT
from pocketvision.fitting.narrowing import narrowing_left
from pocketvision.fitting.run import stopwatch
from pocketvision.fitting.seal import seal_of
from pocketvision.fitting.waiting import Patience
from pocketvision.mapping.artefact import (
    BANDS,
    CLASSES,
    MAP,
    MODEL_FILE,
    SceneArtefact,
    load_patch_network,
)
from pocketvision.mapping.files import (
    Built,
    build_files,
    choose_file,
    missed_sentence,
    timed_again,
    too_slow_alone,
)
from pocketvision.mapping.maps import write_array
from pocketvision.mapping.reading import labels_of, measured_pixels
from pocketvision.mapping.run import SceneRun
from pocketvision.mapping.standalone import scene_script
from pocketvision.mapping.tiles import classify_scene
from pocketvision.measure.device import machine
from pocketvision.measure.scene_scores import confusion_of, score_confusion
from pocketvision.models.patch import PatchNetwork
from pocketvision.progress import counted
from pocketvision.record.run import BudgetSummary, Step, Verdict
from pocketvision.report.scene_card import render_scene_card
from pocketvision.report.scene_page import ScenePictures, render_scene_report
from pocketvision.report.scene_pictures import false_colour, map_with_legend, png
from pocketvision.report.scene_rows import leak_sentence
from pocketvision.report.text import percent
from pocketvision.runtimes.scene_onnx import open_scene_session
from pocketvision.scene_record import (
    SCENE_SCHEMA_VERSION,
    FileFigures,
    Leakage,
    PatchNetworkSummary,
    SceneRecord,
    SceneSummary,
    Scores,
    ShippedScene,
)
from pocketvision.storage import sha256_file, to_json, write_into

TIME_TOLERANCE = 1.1  # of the time asked for: what comes behind the trainings is an estimate


def finish(run: SceneRun) -> SceneArtefact:
    """Export, gate and ship the trained network, map the scene with it, and write the report.

    Raises: GateError: no file passes its gate within the budget.
    """
    network, _ = load_patch_network(run.out)
    reduction = BandReduction.load(run.out / BANDS)
    built, chosen = _built(run, network, reduction)
    if chosen is None:
        run.save(replace(run.state, status="failed"))
        raise GateError(missed_sentence(run, built))
    shipped = _write_model(run, chosen)
    with stopwatch() as seconds:
        classes, uncertainty, map_seconds = _map(run, chosen)
    run.add_step(Step(name="map", seconds=seconds[0], note="the whole scene, by the shipped file"))
    record = _record(run, reduction, built, chosen, shipped, classes, map_seconds)
    _write_maps(run, classes)
    write_into(run.out / REPORT, render_scene_report(record, _pictures(run, classes, uncertainty)))
    write_into(run.out / CARD, render_scene_card(record))
    write_into(run.out / RECORD, to_json(record))  # the last: with it the folder can be opened
    run.save(replace(run.state, status="done", seal=seal_of(run.out)))
    return SceneArtefact(run.out)


def _built(
    run: SceneRun, network: PatchNetwork, reduction: BandReduction
) -> tuple[list[Built], Built | None]:
    """All files and the one to ship, measured again in a while where only latency is against it."""
    built = build_files(run, network, reduction)
    patience = Patience(run.clock, run.reporter)
    while (chosen := choose_file(built)) is None:
        slow = None if run.target else too_slow_alone(built, run.config.budget)
        if slow is None or not patience.waits(_slower_sentence(run, slow), _measuring_s(run)):
            break
        built = timed_again(run, built)
    return built, chosen


def _slower_sentence(run: SceneRun, slow: Built) -> str:
    return (
        f"{run.state.spec.label} takes up to "
        f"{format_latency(slow.figures.pixel_latency.high_ms)} a pixel now, and was within "
        f"{run.config.budget} when it was chosen: the machine may be slower for a while."
    )


def _measuring_s(run: SceneRun) -> float:
    return next((step.seconds for step in run.state.steps if step.name == "measure"), 0.0)


def _write_model(run: SceneRun, chosen: Built) -> ShippedScene:
    """model/ appears whole: it is filled beside its place and then renamed."""
    building, folder = run.out / f".{MODEL}", run.out / MODEL
    for leftover in (building, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    building.mkdir()
    shutil.copyfile(chosen.path, building / MODEL_FILE)
    write_into(building / "run.py", scene_script(chosen.card, run.config.threads))
    building.rename(folder)
    paths = sorted(folder.iterdir())
    return ShippedScene(
        form=chosen.figures.form,
        precision=chosen.figures.precision,
        threads=run.config.threads,
        files={path.name: sha256_file(path) for path in paths},
        size_bytes=sum(path.stat().st_size for path in paths),
    )


def _map(run: SceneRun, chosen: Built) -> tuple[Labels, NDArray[np.float32], float]:
    """Classes 0..K and uncertainty (H, W) of the whole scene, and the seconds they took."""
    path = run.out / MODEL / MODEL_FILE
    session = open_scene_session(path, chosen.figures.precision, run.config.threads)
    height, width, _ = run.scene.cube.shape
    classes = np.zeros((height, width), np.int16)
    uncertainty = np.zeros((height, width), np.float32)
    start = time.monotonic()
    with run.reporter.progress("Mapping the scene") as advance:
        classify_scene(
            run.scene,
            session,
            classes,
            uncertainty=uncertainty,
            progress=counted(advance),
        )
    return classes, uncertainty, time.monotonic() - start


def _record(
    run: SceneRun,
    reduction: BandReduction,
    built: list[Built],
    chosen: Built,
    shipped: ShippedScene,
    classes: Labels,
    map_seconds: float,
) -> SceneRecord:
    config, scene, spec = run.config, run.scene, run.state.spec
    labels, first = labels_of(scene), run.splits[0]
    confusion = confusion_of(classes[first.test] - 1, labels[first.test] - 1, len(scene.classes))
    headline = score_confusion(confusion)
    splits = tuple(split_figures(split, labels, len(scene.classes)) for split in run.splits)
    height, width, bands = scene.cube.shape
    files = tuple(replace(b.figures, shipped=b is chosen) for b in built)
    return SceneRecord(
        schema_version=SCENE_SCHEMA_VERSION,
        task="hyperspectral",
        created=run.state.created,
        command=run.state.command,
        seed=config.seed,
        verdict=_verdict(run, chosen.figures, shipped, headline, splits[0].leakage),
        budget=BudgetSummary(
            latency_ms=config.budget.latency_ms,
            size_bytes=config.budget.size_bytes,
            time_s=config.budget.time_s,
            threads=config.threads,
            max_drop_points=config.max_drop_points,
        ),
        scene=SceneSummary(
            name=scene.name,
            height=height,
            width=width,
            bands=bands,
            dtype=str(scene.cube.dtype),
            classes=scene.classes,
            colours=scene.colours,
            counts=tuple(int((labels == k + 1).sum()) for k in range(len(scene.classes))),
            missing=int((~measured_pixels(scene)).sum()),
            wavelengths_nm=scene.wavelengths_nm,
            georeferenced=scene.georeference is not None,
            fingerprint=scene.fingerprint,
            cube_sha256=run.state.cube_sha256,
        ),
        reduction=reduction.summary,
        network=PatchNetworkSummary(
            method=spec.name,
            label=spec.label,
            window=spec.window,
            parameters=sum(layer.parameters for layer in spec.layers()),
            macs=sum(layer.macs for layer in spec.layers()),
            dense_macs=round(spec.dense_macs(height, width) / (height * width)),
            start=run.state.start,
        ),
        splits=splits,
        runs=run.state.runs,
        headline=headline,
        confusion=tuple(tuple(int(v) for v in row) for row in confusion),
        files=files,
        shipped=shipped,
        map_seconds=map_seconds,
        curves=run.state.curves,
        steps=run.state.steps,
        machine=machine(),
        spent_s=round(run.clock.spent_s, 3),
        narrowing=narrowing_left(run.out),
        target=None if run.target is None else run.target.told(chosen.figures.target),
    )


def _verdict(
    run: SceneRun, file: FileFigures, shipped: ShippedScene, headline: Scores, leakage: Leakage
) -> Verdict:
    """What was reached, and whether the time was kept: files over the budget are not shipped."""
    budget, spent_s = run.config.budget, run.clock.spent_s
    sentences = [
        f"{run.state.spec.label} as {file.precision} names {percent(headline.overall)} of "
        f"{headline.n:,} test pixels rightly (AA {percent(headline.average)}, kappa "
        f"{headline.kappa:.3f}), takes {_takes(run, file)} for one pixel from its window, and "
        f"{format_size(shipped.size_bytes)}.",
        leak_sentence(leakage),
    ]
    if not budget.is_open:
        sentences.append(f"The budget is {budget}.")
    if budget.time_s is not None:
        sentences.append(f"It took {format_time(spent_s)} of {format_time(budget.time_s)} asked.")
    sentences += _shortened(run)
    if budget.is_open and budget.time_s is None:
        return Verdict(met=None, sentence=" ".join(sentences))
    in_time = budget.time_s is None or spent_s <= TIME_TOLERANCE * budget.time_s
    return Verdict(met=in_time, sentence=" ".join(sentences))


def _takes(run: SceneRun, file: FileFigures) -> str:
    """'5 ms', and by what, where it was not measured."""
    if run.target is None or file.target is None:
        return format_latency(file.pixel_latency.median_ms)
    return f"{run.target.in_words(file.target, file.pixel_latency)},"


def _shortened(run: SceneRun) -> list[str]:
    """The sentence on a training of the shipped network that the time cut short; none otherwise."""
    first = next(one for one in run.state.runs if one.method == run.state.spec.name)
    if first.steps is None or first.steps == first.steps_asked:
        return []
    return [f"The time held {first.steps:,} of {first.steps_asked:,} steps of its training."]


def _write_maps(run: SceneRun, classes: Labels) -> None:
    """map.png with its legend, and classes.npy with 0 for no measurement and k for class k - 1."""
    scene = run.scene
    counts = [int((classes == k + 1).sum()) for k in range(len(scene.classes))]
    picture = map_with_legend(
        classes, scene.classes, scene.colours, title=scene.name, counts=counts
    )
    write_into(run.out / MAP, png(picture))
    write_array(classes, run.out / CLASSES)


def _pictures(run: SceneRun, classes: Labels, uncertainty: NDArray[np.float32]) -> ScenePictures:
    scene, labels, split = run.scene, labels_of(run.scene), run.splits[0]
    return ScenePictures(
        truth=labels,
        predicted=classes,
        uncertainty=uncertainty,
        split=split_classes(labels, split),
        false_colour=false_colour(
            scene.cube,
            scene.chunks(),
            wavelengths_nm=scene.wavelengths_nm,
            no_data=scene.no_data,
        ),
    )


def split_classes(labels: Labels, split: SceneSplit) -> NDArray[np.uint8]:
    """(H, W): 0 unlabelled, 1 train, 2 test, 3 labelled but in neither."""
    kinds = np.where(labels > 0, 3, 0).astype(np.uint8)
    kinds[split.train] = 1
    kinds[split.test] = 2
    return kinds
