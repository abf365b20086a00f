"""What may be wrong with a scene, found in one pass over its cube."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pocketvision.data.scene.band_facts import NOISY, BandFacts, band_facts
from pocketvision.data.scene.leakage import class_counts, split_figures
from pocketvision.data.scene.regions import count_regions
from pocketvision.data.scene.scene import Labels, Scene
from pocketvision.data.scene.splits import Guard, blocks_split, pixel_count, random_split
from pocketvision.errors import DataError
from pocketvision.record.words import SEVERITIES, Finding, Severity
from pocketvision.scene_record import SplitFigures

TINY_CLASS = 50  # pixels
IMBALANCE = 20  # the largest class over the smallest
FEW_REGIONS = 2
SHUFFLED = 0.9  # share of noisy bands from which on it is the pixels that are out of place
NAMED = 8  # bands or classes a sentence names


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneFindings:
    """What was found; bands count from 1. The worst findings come first.

    value_range: least and greatest finite value of the measured pixels, None without one.
    missing: pixels without a measurement. dead: bands that are constant or hold no value.
    likeness: for each band 1 - (mean squared difference of pixels side by side) / (2 variance):
        1 for smooth bands, 0 for noise; None for dead ones. noisy: bands below 0.5.
    duplicated: groups of bands that are equal everywhere.
    counts, regions: labelled pixels and connected regions (edges touch) of each class.
    splits: random, blocks with the guard "centre", blocks with "full", as far as they can be made.
    """

    name: str
    shape: tuple[int, int, int]
    dtype: str
    value_range: tuple[float, float] | None
    missing: int
    dead: tuple[int, ...]
    likeness: tuple[float | None, ...]
    noisy: tuple[int, ...]
    duplicated: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    regions: tuple[int, ...]
    splits: tuple[SplitFigures, ...]
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """1 where a finding is an error or a warning; else 0."""
        return int(any(finding.severity != "note" for finding in self.findings))


def examine(
    scene: Scene, *, window: int = 25, train_share: float = 0.3, seed: int = 0
) -> SceneFindings:
    """Everything that can be known of a scene before training; one pass over the cube.

    window, train_share, seed: of the splits tried. Labels of missing pixels do not count.

    Raises: ConfigError: an even window, or a share outside 0.01..0.99.
    """
    bands = band_facts(scene)
    missing = int(bands.missing.sum())
    found = _value_findings(bands, scene)
    found += _missing_findings(bands, missing, scene)
    found += _band_findings(bands, scene)
    counts: tuple[int, ...] = ()
    regions: tuple[int, ...] = ()
    splits: list[SplitFigures] = []
    labels = None if scene.labels is None else np.where(bands.missing, np.int16(0), scene.labels)
    if labels is None or not (labels > 0).any():
        found.append(
            _finding("note", "no-labels", "No pixel has a label: the scene can be mapped only.")
        )
    else:
        number = len(scene.classes)
        counts = class_counts(labels, number, labels > 0)
        regions = count_regions(labels, number)
        found += _class_findings(scene.classes, counts, regions)
        splits, more = _try_splits(scene, labels, number, window, train_share, seed)
        found += more
    return SceneFindings(
        name=scene.name,
        shape=scene.cube.shape,
        dtype=str(scene.cube.dtype),
        value_range=bands.value_range,
        missing=missing,
        dead=bands.dead,
        likeness=bands.likeness,
        noisy=bands.noisy,
        duplicated=bands.duplicated,
        classes=scene.classes,
        counts=counts,
        regions=regions,
        splits=tuple(splits),
        findings=tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))),
    )


def _value_findings(bands: BandFacts, scene: Scene) -> list[Finding]:
    """What training would stop at, and values that may be no measurements."""
    values = bands.values
    found = [_finding("error", "misread", sentence) for sentence in scene.suspicions]
    found += [_finding("error", "undeclared-values", sentence) for sentence in values.faults()]
    if values.partial:
        where = [int(band) + 1 for band in np.flatnonzero(values.partial_bands)]
        sentence = (
            f"{pixel_count(values.partial)} have the no-data value {scene.no_data:.17g} in some "
            f"bands only ({_named('band', where)} of {len(values.partial_bands)}), and there it "
            "counts as a measurement; remove such bands, or give the pixels that value in all."
        )
        found.append(_finding("warning", "partial-no-data", sentence))
    if values.zero:
        sentence = f"{pixel_count(values.zero)} have 0 in every band; {values.advice(0)}"
        found.append(_finding("warning", "zero-spectra", sentence))
    return found


def _missing_findings(bands: BandFacts, missing: int, scene: Scene) -> list[Finding]:
    if not missing:
        return []
    height, width, _ = scene.cube.shape
    sentence = (
        f"{pixel_count(missing)} ({missing / (height * width):.1%}) have no measurement; they "
        "count as the mean spectrum."
    )
    if bands.empty:
        sentence += f" Without {_named('band', bands.empty)} it may be fewer."
    whole = missing == height * width
    found = [_finding("error" if whole else "note", "missing-pixels", sentence)]
    labelled = 0 if scene.labels is None else int((scene.labels[bands.missing] > 0).sum())
    if labelled:
        sentence = f"{pixel_count(labelled)} without a measurement have a label: left out."
        found.append(_finding("note", "labels-left-out", sentence))
    return found


def _band_findings(bands: BandFacts, scene: Scene) -> list[Finding]:
    number = scene.cube.shape[2]
    found = []
    if scene.bad_bands:
        sentence = (
            f"{_named('band', scene.bad_bands)} of {number} {_is(scene.bad_bands)} declared bad in "
            "the file (bbl = 0), and still in use; remove what the sensor did not measure."
        )
        found.append(_finding("warning", "bad-bands", sentence))
    if bands.dead:
        sentence = (
            f"{_named('band', bands.dead)} of {number} {_is(bands.dead)} constant or empty; remove "
            "what the sensor did not measure."
        )
        found.append(_finding("error" if bands.empty else "warning", "dead-bands", sentence))
    if bands.duplicated:
        groups = "; ".join(_named("band", group) for group in bands.duplicated[:NAMED])
        sentence = f"Equal everywhere: {groups}; keep one of each, or check how the cube was made."
        found.append(_finding("warning", "duplicated-bands", sentence))
    if len(bands.noisy) >= SHUFFLED * max(1, number - len(bands.dead)) and bands.noisy:
        sentence = (
            f"In {len(bands.noisy)} of {number} bands, pixels side by side are hardly alike "
            f"(likeness below {NOISY}); pixels are out of place: check the interleave, the order "
            "of the axes and the size."
        )
        found.append(_finding("error", "shuffled-pixels", sentence))
    elif bands.noisy:
        sentence = (
            f"In {_named('band', bands.noisy)} of {number}, pixels side by side are hardly alike "
            f"(likeness below {NOISY}); remove bands of noise and of water absorption."
        )
        found.append(_finding("warning", "noisy-bands", sentence))
    return found


def _class_findings(
    classes: Sequence[str], counts: tuple[int, ...], regions: tuple[int, ...]
) -> list[Finding]:
    found = []
    rows = list(zip(classes, counts, regions, strict=True))
    absent = [name for name, count, _ in rows if not count]
    if absent:
        sentence = f"{_listed(absent)}: no labelled pixel; such a class cannot be learned."
        found.append(_finding("warning", "empty-classes", sentence))
    tiny = [f"{name} ({count})" for name, count, _ in rows if 0 < count < TINY_CLASS]
    if tiny:
        sentence = (
            f"{_listed(tiny)}: fewer than {TINY_CLASS} labelled pixels; the accuracy of such a "
            "class is a matter of chance. Label more, or leave it out."
        )
        found.append(_finding("warning", "tiny-classes", sentence))
    present = [count for count in counts if count]
    if max(present) >= IMBALANCE * min(present):
        sentence = (
            f"The largest class has {max(present):,} pixels, the smallest {min(present):,}; read "
            "the average accuracy (AA) beside the overall one (OA)."
        )
        found.append(_finding("note", "imbalance", sentence))
    lumped = [f"{name} ({number})" for name, _, number in rows if 0 < number <= FEW_REGIONS]
    if lumped:
        sentence = (
            f"{_listed(lumped)}: in one or two connected regions; training and test pixels of such "
            "a class are neighbours, or it cannot be in both."
        )
        found.append(_finding("note", "few-regions", sentence))
    return found


def _try_splits(
    scene: Scene, labels: Labels, number: int, window: int, train_share: float, seed: int
) -> tuple[list[SplitFigures], list[Finding]]:
    splits: list[SplitFigures] = []
    found: list[Finding] = []
    try:
        drawn = random_split(
            labels, train_share=train_share, window=window, seed=seed, classes=scene.classes
        )
    except DataError as error:
        return [], [_finding("warning", "no-split", str(error))]
    splits.append(split_figures(drawn, labels, number))
    found.append(_finding("note", "random-split", _leakage_sentence("A random split", splits[-1])))
    guards: tuple[Guard, ...] = ("centre", "full")
    for guard in guards:
        what = f'A split by blocks with the guard "{guard}"'
        try:
            cut = blocks_split(
                labels,
                train_share=train_share,
                window=window,
                seed=seed,
                guard=guard,
                classes=scene.classes,
            )
        except DataError as error:
            severity: Severity = "warning" if guard == "centre" else "note"
            found.append(_finding(severity, f"blocks-{guard}", f"{what}: {error}"))
            continue
        figures = split_figures(cut, labels, number)
        splits.append(figures)
        found.append(_blocks_finding(what, guard, figures, scene.classes))
    return splits, found


def _blocks_finding(
    what: str, guard: Guard, figures: SplitFigures, classes: Sequence[str]
) -> Finding:
    sentence = _leakage_sentence(what, figures)
    untested = [name for name, count in zip(classes, figures.test, strict=True) if not count]
    if not untested:
        return _finding("note", f"blocks-{guard}", sentence)
    sentence += f" It cannot test {_listed(untested)}; a smaller --window may."
    return _finding("warning" if guard == "centre" else "note", f"blocks-{guard}", sentence)


def _leakage_sentence(what: str, figures: SplitFigures) -> str:
    return (
        f"{what} ({sum(figures.train):,} pixels to train, {sum(figures.test):,} to test, "
        f"{sum(figures.dropped):,} dropped): {figures.leakage.centre:.1%} of test windows hold a "
        f"training centre, {figures.leakage.window:.1%} share pixels with a training window."
    )


def _finding(severity: Severity, code: str, sentence: str) -> Finding:
    return Finding(severity=severity, code=code, sentence=sentence)


def _is(things: Sequence[object]) -> str:
    return "is" if len(things) == 1 else "are"


def _named(noun: str, numbers: Sequence[int]) -> str:
    """`band 3`, `bands 3, 4`."""
    return f"{noun if len(numbers) == 1 else noun + 's'} {_listed([str(n) for n in numbers])}"


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
