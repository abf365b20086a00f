"""Records and maps of a scene for tests: Indian Pines' labels, everything else made up.

The same arguments give the same record.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from records import NO_BUDGET, full_record, latency

from pocketvision.measure.scene_scores import confusion_of, score, score_confusion
from pocketvision.record.run import BudgetSummary, Step, Verdict
from pocketvision.record.words import Precision
from pocketvision.report.scene_page import ScenePictures
from pocketvision.scene_record import (
    SCENE_SCHEMA_VERSION,
    Curve,
    FileFigures,
    Form,
    Leakage,
    MethodRun,
    PatchNetworkSummary,
    ReductionSummary,
    SceneRecord,
    SceneSummary,
    ShippedScene,
    SplitFigures,
)

Labels = NDArray[np.uint8]
Kind = Literal["blocks", "random"]

CROPS = (
    *("Alfalfa", "Corn-notill", "Corn-mintill", "Corn", "Grass-pasture", "Grass-trees"),
    *("Grass-pasture-mowed", "Hay-windrowed", "Oats", "Soybean-notill", "Soybean-mintill"),
    *("Soybean-clean", "Wheat", "Woods", "Buildings-Grass-Trees-Drives", "Stone-Steel-Towers"),
)
COLOURS = (
    *((230, 60, 60), (240, 150, 50), (250, 205, 80), (175, 130, 40), (120, 190, 80)),
    *((40, 120, 60), (170, 215, 130), (90, 200, 190), (130, 60, 30), (70, 130, 200)),
    *((40, 70, 150), (150, 185, 235), (215, 180, 140), (15, 75, 45), (150, 90, 170)),
    (90, 90, 100),
)
METHODS: tuple[tuple[str, Literal["dense", "patches", "svm"], float, float, float], ...] = (
    # method, training, share of wrong pixels, seconds of training and of the map
    ("hybridsn", "dense", 0.21, 148.0, 3.4),
    ("hybridsn", "patches", 0.22, 1260.0, 96.0),
    ("mobile_patch", "dense", 0.24, 31.0, 0.6),
    ("svm", "svm", 0.36, 9.5, 4.1),
)
HALF_WINDOW, BLOCK = 12, 29


def labels() -> Labels:
    """Indian Pines' ground truth (145, 145), 0..16."""
    spec = importlib.util.find_spec("tensorly")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "datasets" / "data" / "Indian_pines_gt.npy"
    loaded: Labels = np.load(path).astype(np.uint8)
    return loaded


def scene_record(
    *,
    kind: Kind = "blocks",
    classes: Sequence[str] = CROPS,
    budget: BudgetSummary = NO_BUDGET,
    verdict: Verdict | None = None,
    seeds: int = 3,
) -> SceneRecord:
    """A finished run on Indian Pines; classes: at most 16 names, the other labels are left out."""
    count = len(classes)
    truth = _kept(count)
    wrong = 0.02 if kind == "random" else 0.21
    split = _split_of(kind, truth, 0)
    test = split_pixels(kind, truth, 0) == 2
    predicted = _noisy(truth, wrong, 0)
    confusion = confusion_of(predicted[test] - 1, truth[test] - 1, count)
    network = PatchNetworkSummary(
        method="hybridsn",
        label="hybridsn 30 bands @25",
        window=25,
        parameters=5_122_176,
        macs=247_957_760,
        dense_macs=24_100_000,
        start="from scratch",
    )
    machine = full_record().machine
    return SceneRecord(
        schema_version=SCENE_SCHEMA_VERSION,
        task="hyperspectral",
        created="2026-03-14T09:26:53Z",
        command="pocketvision fit scenes/indian-pines --task hyperspectral --out fitted",
        seed=0,
        verdict=verdict
        or Verdict(met=None, sentence="A map of the whole scene in 3.40 s, 78.9 % of test pixels."),
        budget=budget,
        scene=_scene(truth, tuple(classes)),
        reduction=ReductionSummary(
            method="pca",
            whiten=True,
            bands=200,
            components=30,
            explained=0.9987,
            fitted_on=sum(split.train),
        ),
        network=network,
        splits=tuple(_split_of(kind, truth, seed) for seed in range(seeds)),
        runs=tuple(
            _run(kind, truth, wrong, seed, *method) for method in METHODS for seed in range(seeds)
        ),
        headline=score_confusion(confusion),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        files=_files(),
        shipped=ShippedScene(
            form="dense",
            precision="f32",
            threads=1,
            files={"model.onnx": "3b" * 32, "run.py": "9f" * 32},
            size_bytes=20_560_000,
        ),
        map_seconds=3.42,
        curves=_curves(60),
        steps=(
            Step(name="split", seconds=0.4, note="blocks of 50 pixels"),
            Step(name="train", seconds=148.0, score=0.789),
            Step(name="export", seconds=8.2, latency_ms=410.0, size_bytes=20_560_000),
            Step(name="map", seconds=3.4),
        ),
        machine=machine,
        spent_s=5421.0,
    )


def scene_pictures(kind: Kind = "blocks", classes: Sequence[str] = CROPS) -> ScenePictures:
    """The maps that belong to `scene_record` of the same arguments."""
    truth = _kept(len(classes))
    rng = np.random.default_rng(1)
    predicted = _noisy(truth, 0.21, 0)
    ground = np.where(truth == 0, _nearest(truth), predicted).astype(np.uint8)
    uncertain = 0.12 + 0.6 * (ground != _nearest(truth)) + 0.25 * rng.random(truth.shape)
    bands = np.stack([255 - 12 * ground, 60 + 9 * ground, 40 + 7 * ground], axis=-1)
    return ScenePictures(
        truth=truth,
        predicted=ground,
        uncertainty=uncertain.astype(np.float32),
        split=split_pixels(kind, truth, 0),
        false_colour=bands.astype(np.uint8),
    )


def split_pixels(kind: Kind, truth: Labels, seed: int) -> Labels:
    """(H, W): 0 unlabelled, 1 train, 2 test, 3 dropped: blocks with a guard, or 30 % at random."""
    rng = np.random.default_rng(seed)
    if kind == "random":
        parts = np.where(rng.random(truth.shape) < 0.3, 1, 2)
        return np.where(truth == 0, 0, parts).astype(np.uint8)
    side = math.ceil(truth.shape[0] / BLOCK)
    blocks = rng.random((side, side)) < 0.4
    train = np.kron(blocks, np.ones((BLOCK, BLOCK), bool))[: truth.shape[0], : truth.shape[1]]
    train &= truth > 0
    near = train.copy()
    for axis in (0, 1):
        rolled = [np.roll(near, k, axis) for k in range(-HALF_WINDOW, HALF_WINDOW + 1)]
        near = np.any(rolled, axis=0)
    parts = np.where(train, 1, np.where(near, 3, 2))
    return np.where(truth == 0, 0, parts).astype(np.uint8)


def _kept(count: int) -> Labels:
    truth = labels()
    return np.where(truth <= count, truth, 0).astype(np.uint8)


def _nearest(truth: Labels) -> Labels:
    """Every pixel takes the last label on its left, class 11 before the first."""
    filled = truth.copy()
    filled[:, 0] = np.where(filled[:, 0] == 0, min(11, int(truth.max())), filled[:, 0])
    for x in range(1, truth.shape[1]):
        filled[:, x] = np.where(filled[:, x] == 0, filled[:, x - 1], filled[:, x])
    return filled


def _noisy(truth: Labels, wrong: float, seed: int) -> Labels:
    """The truth, with patches of 5 by 5 pixels named as the class after the next."""
    rng = np.random.default_rng(seed)
    side = math.ceil(truth.shape[0] / 5)
    patches = np.kron(rng.random((side, side)) < wrong, np.ones((5, 5), bool))
    other = (truth.astype(int) + 1) % int(truth.max()) + 1
    return np.where(patches[: truth.shape[0], : truth.shape[1]], other, truth).astype(np.uint8)


def _counts(truth: Labels, where: NDArray[np.bool_]) -> tuple[int, ...]:
    counts = np.bincount(truth[where], minlength=int(truth.max()) + 1)[1:]
    return tuple(counts.tolist())


def _split_of(kind: Kind, truth: Labels, seed: int) -> SplitFigures:
    split = split_pixels(kind, truth, seed)
    blocks = kind == "blocks"
    test = _counts(truth, split == 2)
    untested = [CROPS[k] for k, count in enumerate(test) if not count]
    return SplitFigures(
        kind=kind,
        guard="centre" if blocks else "none",
        window=25,
        seed=seed,
        train=_counts(truth, split == 1),
        test=test,
        dropped=_counts(truth, split == 3),
        leakage=Leakage(centre=0.0, window=0.412) if blocks else Leakage(centre=0.9996, window=1),
        notes=tuple(f"{name} lies within one block: it is not tested." for name in untested),
    )


def _scene(truth: Labels, classes: tuple[str, ...]) -> SceneSummary:
    return SceneSummary(
        name="Indian Pines",
        height=truth.shape[0],
        width=truth.shape[1],
        bands=200,
        dtype="uint16",
        classes=classes,
        colours=COLOURS[: len(classes)],
        counts=_counts(truth, truth > 0),
        missing=0,
        wavelengths_nm=tuple(400.0 + 10.5 * band for band in range(200)),
        georeferenced=False,
        fingerprint="5d0c" * 16,
        cube_sha256="a1b2" * 16,
    )


def _run(
    kind: Kind,
    truth: Labels,
    base: float,
    seed: int,
    method: str,
    training: Literal["dense", "patches", "svm"],
    wrong: float,
    train_seconds: float,
    map_seconds: float,
) -> MethodRun:
    test = split_pixels(kind, truth, seed) == 2
    predicted = _noisy(truth, base * wrong / METHODS[0][2], seed)
    sizes = {"hybridsn": (5_122_176, 247_957_760), "mobile_patch": (92_400, 3_120_000)}
    parameters, macs = sizes.get(method, (None, None))
    return MethodRun(
        method=method,
        training=training,
        seed=seed,
        scores=score(predicted[test] - 1, truth[test] - 1, int(truth.max())),
        train_seconds=train_seconds * (1 + 0.02 * seed),
        map_seconds=map_seconds * (1 + 0.01 * seed),
        parameters=parameters,
        macs=macs,
        steps=None if method == "svm" else 1200 if training == "patches" else 3000,
        steps_asked=None if method == "svm" else 3000,
        learned_from=int((split_pixels(kind, truth, seed) == 1).sum()),
    )


def _files() -> tuple[FileFigures, ...]:
    def one(form: Form, precision: Precision, ms: float, size: int, lost: float) -> FileFigures:
        return FileFigures(
            form=form,
            precision=precision,
            size_bytes=size,
            latency=latency(ms),
            pixels=1600 if form == "dense" else 1,
            pixel_latency=latency(ms if form == "patch" else 12.3 if lost == 0 else 6.4),
            unlabelled_agreement=1.0 if lost == 0 else 0.984,
            tile_agreement=None if form == "patch" else 1.0 if lost == 0 else 0.987,
            agreement=1.0 if lost == 0 else 0.991,
            compared=2048,
            drop=lost,
            largest_difference=2.1e-5 if lost == 0 else 0.84,
            passed_gate=lost < 0.01,
            within_budget=True,
            shipped=(form, precision) == ("dense", "f32"),
        )

    return (
        one("patch", "f32", 11.8, 20_550_000, 0.0),
        one("patch", "int8", 6.1, 5_190_000, 0.012),
        one("dense", "int8", 188.0, 5_200_000, 0.004),
        one("dense", "f32", 410.0, 20_560_000, 0.0),
    )


def _curves(count: int) -> tuple[Curve, ...]:
    return tuple(
        Curve(
            step=20 * i,
            seconds=2.4 * i,
            learning_rate=0.001 * (1 + math.cos(math.pi * i / count)) / 2,
            loss=2.4 * math.exp(-i / 12) + 0.06 + 0.02 * math.sin(i),
            accuracy=0.985 - 0.9 * math.exp(-i / 9),
        )
        for i in range(1, count + 1)
    )


def hostile_record(names: Sequence[str]) -> SceneRecord:
    """Names that would do harm wherever a name may stand."""
    record = scene_record(kind="random", classes=names, seeds=1)
    return replace(
        record,
        scene=replace(record.scene, name=names[1]),
        splits=(replace(record.splits[0], notes=tuple(names)),),
        network=replace(record.network, label=names[0]),
        verdict=Verdict(met=False, sentence=names[4]),
    )
