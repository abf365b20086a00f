"""The release gate of a network for scenes: its figures again, on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pocketvision.budget import parse_latency
from pocketvision.data.scene.scene import Scene
from pocketvision.data.scene.splits import SceneSplit
from pocketvision.errors import ConfigError, DataError
from pocketvision.fitting.artefact import MODEL
from pocketvision.fitting.checks import (
    Check,
    Verification,
    files_check,
    latency_check,
    not_checked,
    on_recorded_machine,
    seal_check,
    size_check,
    target_check,
    versions_check,
)
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.fitting.seal import broken_seals
from pocketvision.mapping.artefact import MODEL_FILE, SceneArtefact
from pocketvision.mapping.files import measure_files
from pocketvision.mapping.reading import labels_of, read_scene, split_scene, split_sha256
from pocketvision.mapping.tiles import classify_scene
from pocketvision.measure.latency import FINAL
from pocketvision.measure.scene_scores import score
from pocketvision.progress import counted
from pocketvision.report.scene_rows import leak_words
from pocketvision.scene_record import FileFigures, Scores

ACCURACY_TOLERANCE = 0.002  # of OA: a runtime's rounding moves pixels that were undecided


def verify_scene(
    folder: str | Path,
    data: str | Path | None = None,
    *,
    latency: str | None = None,
    labels: str | Path | None = None,
    mask: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Verification:
    """Re-check a fitted folder on this machine: seal, files, size, accuracy from the cube, latency.

    data: the scene it was fitted to; None: accuracy is not checked, and the table says so. latency:
    a limit for one pixel from its window. labels, mask: where these files lie now; None: where they
    lay for the fit.

    Raises: ArtefactError: no artefact. DataError: another scene than the recorded one.
    """
    limit_ms = parse_latency(latency) if latency is not None else None
    reporter = reporter or Silent()
    artefact = SceneArtefact(folder)
    altered, seal = artefact.altered_files(), artefact.state.seal
    checks = [
        seal_check(len(seal), broken_seals(artefact.folder, seal)),
        files_check(len(artefact.record.shipped.files), altered),
    ]
    same = on_recorded_machine(artefact.record.machine)
    if MODEL_FILE in altered:
        # A model that is not the recorded one is not run: nothing is known about it.
        return Verification(checks=tuple(checks), same_machine=same)
    checks.append(size_check(artefact.folder / MODEL, artefact.record.shipped.size_bytes))
    if data is None:
        note = "needs the scene: verify FOLDER SCENE"
        checks.append(not_checked("accuracy", _scores_text(artefact.record.headline), note))
    else:
        scene, split = _recorded_scene(artefact, data, labels, mask, reporter)
        checks.append(_accuracy_check(artefact, _scores(artefact, scene, split, reporter)))
    checks += _latency_checks(artefact, same, limit_ms)
    if artefact.record.target is not None:
        checks.append(target_check(artefact.record.target))
    checks.append(versions_check(artefact.record.machine.versions))
    return Verification(checks=tuple(checks), same_machine=same)


def _recorded_scene(
    artefact: SceneArtefact,
    data: str | Path,
    labels: str | Path | None,
    mask: str | Path | None,
    reporter: Reporter,
) -> tuple[Scene, SceneSplit]:
    """The scene of the record, and the split that its headline is of."""
    state = artefact.state
    config = replace(
        state.config,
        labels=_now("labels", state.config.labels, labels),
        mask=_now("mask", state.config.mask, mask),
    )
    with reporter.progress("Reading the scene"):
        scene = read_scene(config, str(data))
    if scene.fingerprint != artefact.record.scene.fingerprint:
        raise DataError(
            f"{data} is not the scene that {artefact.folder} was fitted to (compared by content); "
            "give that one. For other cubes there is `pocketvision map`."
        )
    splits = split_scene(config, scene, state.spec.window)
    if split_sha256(*splits) != state.split_sha256:
        raise DataError(
            f"The split of {artefact.folder} cannot be made again: the mask, the labels or "
            "pocketvision have changed; fit again."
        )
    return scene, splits[0]


def _now(name: str, then: str | None, given: str | Path | None) -> str | None:
    """A file of the fit: as given now, else where it lay.

    Raises: ConfigError: the fit had none. DataError: it is there no more.
    """
    if given is not None:
        if then is None:
            raise ConfigError(f"the fit had no --{name}, so --{name} {given} cannot be checked.")
        return str(given)
    file, colon, _ = (then or "").rpartition(":")  # file.mat:name names a variable
    there = then is None or Path(then).exists() or (colon != "" and Path(file).exists())
    if not there:
        raise DataError(
            f"The fit had --{name} {then}, which is not there; say where with --{name}."
        )
    return then


def _scores(artefact: SceneArtefact, scene: Scene, split: SceneSplit, reporter: Reporter) -> Scores:
    classes = np.zeros(scene.cube.shape[:2], np.int16)
    with reporter.progress("Mapping the scene") as advance:
        classify_scene(
            scene,
            artefact.session(),
            classes,
            progress=counted(advance),
        )
    true = labels_of(scene)[split.test] - 1
    return score(classes[split.test] - 1, true, len(scene.classes))


def _accuracy_check(artefact: SceneArtefact, found: Scores) -> Check:
    recorded = artefact.record.headline
    return Check(
        name="accuracy",
        passed=found.overall >= recorded.overall - ACCURACY_TOLERANCE and found.n == recorded.n,
        recorded=_scores_text(recorded),
        found=_scores_text(found),
        note=f"from the cube; {leak_words(artefact.record.splits[0].leakage)}; fails "
        f"{ACCURACY_TOLERANCE:.1%} below",
    )


def _latency_checks(
    artefact: SceneArtefact, same_machine: bool, limit_ms: float | None
) -> list[Check]:
    """One pixel from its window, which a limit is for; and a tile, where maps go by tiles."""
    shipped = _shipped(artefact)
    key = (shipped.form, shipped.precision)
    tile, pixel = measure_files({key: artefact.session()}, FINAL, artefact.record.shipped.threads)[
        key
    ]
    checks = [latency_check(shipped.pixel_latency, pixel, same_machine, limit_ms, "latency")]
    if shipped.form == "dense":
        checks.append(latency_check(shipped.latency, tile, same_machine, None, "latency, tile"))
    pixels = (1, shipped.pixels)
    return [
        replace(check, note=f"pixels a run: {count}; {check.note}")
        for check, count in zip(checks, pixels, strict=False)
    ]


def _scores_text(scores: Scores) -> str:
    return f"OA {scores.overall:.2%}, kappa {scores.kappa:.4f} (n = {scores.n})"


def _shipped(artefact: SceneArtefact) -> FileFigures:
    return next(file for file in artefact.record.files if file.shipped)
