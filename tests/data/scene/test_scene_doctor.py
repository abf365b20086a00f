from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from pocketvision.data.scene import blocks
from pocketvision.data.scene import scene as scene_module
from pocketvision.data.scene.doctor import SceneFindings, examine
from pocketvision.data.scene.reading import check_values
from pocketvision.data.scene.regions import count_regions
from pocketvision.data.scene.scene import ArrayCube, Labels, Scene
from pocketvision.errors import DataError
from pocketvision.record.words import Finding
from pocketvision.storage import from_json, to_json

Values = NDArray[np.float32]


@pytest.fixture(autouse=True)
def _brief_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Laws hold for every choice of blocks, so a short search will do."""
    monkeypatch.setattr(blocks, "GRIDS", 8)


def smooth(height: int = 40, width: int = 36, bands: int = 6) -> Values:
    """Bands of slow waves with little noise."""
    y, x = np.indices((height, width))
    waves = [np.sin(0.1 * (b + 1) * x / 2) + np.cos(0.13 * y + b) for b in range(bands)]
    noise = np.random.default_rng(0).normal(scale=0.02, size=(height, width, bands))
    cube: Values = (np.stack(waves, axis=-1) + noise + 5).astype(np.float32)
    return cube


def fields() -> Labels:
    return np.kron(np.indices((8, 6)).sum(axis=0) % 2 + 1, np.ones((5, 6))).astype(np.int16)


def scene_of(
    cube: NDArray[np.generic], labels: Labels | None = None, no_data: float | None = None
) -> Scene:
    number = 0 if labels is None else int(labels.max())
    return Scene(
        name="planted",
        cube=ArrayCube(array=cube),
        labels=labels,
        classes=tuple(f"crop {k}" for k in range(1, number + 1)),
        class_ids=tuple(range(1, number + 1)),
        colours=((0, 0, 0),) * number,
        no_data=no_data,
    )


def found(findings: SceneFindings, code: str) -> Finding:
    return next(finding for finding in findings.findings if finding.code == code)


def test_a_sound_scene_has_nothing_but_notes() -> None:
    findings = examine(scene_of(smooth(), fields()), window=3)
    assert findings.exit_code == 0
    assert {finding.severity for finding in findings.findings} == {"note"}
    assert findings.shape == (40, 36, 6)
    assert findings.dtype == "float32"
    assert findings.counts == (720, 720)
    assert (findings.dead, findings.noisy, findings.duplicated) == ((), (), ())
    assert [split.guard for split in findings.splits] == ["none", "centre", "full"]
    sentence = found(findings, "random-split").sentence
    assert "(432 pixels to train, 1,008 to test, 0 dropped)" in sentence
    assert (
        f"{findings.splits[0].leakage.centre:.1%} of test windows hold a training centre, "
        in sentence
    )
    assert (
        f"{findings.splits[0].leakage.window:.1%} share pixels with a training window" in sentence
    )


def test_findings_come_back_from_json() -> None:
    findings = examine(scene_of(smooth(), fields()), window=3)
    assert from_json(SceneFindings, to_json(findings), source="the test") == findings


def test_dead_and_duplicated_bands_are_named() -> None:
    cube = smooth()
    cube[..., 1] = 7
    cube[..., 4] = cube[..., 2]
    findings = examine(scene_of(cube))
    assert (findings.dead, findings.duplicated) == ((2,), ((3, 5),))
    assert findings.likeness[1] is None
    assert found(findings, "dead-bands").sentence.startswith("band 2 of 6 is constant or empty")
    assert "bands 3, 5" in found(findings, "duplicated-bands").sentence
    assert findings.exit_code == 1


def test_an_empty_band_does_not_hide_the_others() -> None:
    cube = smooth()
    cube[..., 3] = np.nan
    findings = examine(scene_of(cube, no_data=-1))
    assert findings.dead == (4,)
    assert findings.missing == 40 * 36
    assert found(findings, "missing-pixels").severity == "error"
    assert "Without band 4 it may be fewer" in found(findings, "missing-pixels").sentence
    assert sum(value is not None for value in findings.likeness) == 5


def test_a_scene_without_a_value_is_an_error_not_a_crash() -> None:
    findings = examine(scene_of(np.full((9, 9, 2), np.nan)))
    assert findings.value_range is None
    assert findings.exit_code == 1


def test_values_of_missing_pixels_do_not_count() -> None:
    cube = smooth()
    cube[3:6, 4:9] = -9999
    cube[0, 0, 2] = np.nan
    findings = examine(scene_of(cube, no_data=-9999))
    assert findings.missing == 16
    assert findings.value_range is not None
    assert findings.value_range[0] > 0
    assert min(value for value in findings.likeness if value is not None) > 0.9
    assert found(findings, "missing-pixels").severity == "note"


def test_noise_in_one_band_is_named() -> None:
    cube = smooth()
    cube[..., 5] = np.random.default_rng(1).normal(size=cube.shape[:2])
    findings = examine(scene_of(cube))
    assert findings.noisy == (6,)
    assert findings.likeness[5] == pytest.approx(0, abs=0.1)
    assert found(findings, "noisy-bands").severity == "warning"


def test_shuffled_pixels_are_an_error() -> None:
    cube = smooth()
    mixed = np.random.default_rng(1).permutation(cube.reshape(-1, 6)).reshape(cube.shape)
    finding = found(examine(scene_of(mixed)), "shuffled-pixels")
    assert finding.severity == "error"
    assert "In 6 of 6 bands" in finding.sentence


def test_likeness_is_its_definition() -> None:
    cube = smooth(height=7, width=9, bands=2).astype(np.float64) + 1e6
    steps = np.diff(cube, axis=1)
    expected = 1 - (steps**2).mean(axis=(0, 1)) / (2 * cube.var(axis=(0, 1)))
    assert examine(scene_of(cube)).likeness == pytest.approx(tuple(expected), abs=1e-4)


def test_chunks_do_not_change_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    cube = smooth()
    cube[..., 4] = cube[..., 2]
    whole = examine(scene_of(cube, fields()), window=3)
    monkeypatch.setattr(scene_module, "CHUNK_BYTES", 3 * cube[0].nbytes)
    assert examine(scene_of(cube, fields()), window=3) == whole


def test_tiny_and_absent_classes_are_named() -> None:
    labels = fields()
    labels[20:22, 10:12] = 3
    scene = replace(scene_of(smooth(), labels), classes=("Corn", "Woods", "Oats", "Wheat"))
    findings = examine(scene, window=5)
    assert findings.counts[2:] == (4, 0)
    assert found(findings, "tiny-classes").sentence.startswith("Oats (4): fewer than 50")
    assert found(findings, "empty-classes").sentence.startswith("Wheat: no labelled pixel")
    assert "Oats (1): in one or two" in found(findings, "few-regions").sentence
    assert "smallest 4" in found(findings, "imbalance").sentence
    assert "It cannot test Oats, Wheat" in found(findings, "blocks-centre").sentence
    assert [f.severity for f in findings.findings] == sorted(
        (f.severity for f in findings.findings), key=("error", "warning", "note").index
    )


def test_splits_that_cannot_be_made_are_findings() -> None:
    lump = np.zeros((40, 36), np.int16)
    lump[10:13, 10:13] = 1
    findings = examine(scene_of(smooth(), lump), window=9)
    assert "leave no class both to train and to test" in found(findings, "blocks-full").sentence
    too_large = examine(scene_of(smooth(), fields()), window=99)
    assert "larger than the scene" in found(too_large, "no-split").sentence
    assert too_large.splits == ()


def test_a_scene_without_labels_can_still_be_examined() -> None:
    findings = examine(scene_of(smooth()))
    assert (findings.counts, findings.regions, findings.splits) == ((), (), ())
    assert found(findings, "no-labels").severity == "note"


def test_a_file_that_seems_to_be_misread_comes_first() -> None:
    findings = examine(replace(scene_of(smooth()), suspicions=("It looks like bsq.",)))
    assert findings.findings[0] == Finding(
        severity="error", code="misread", sentence="It looks like bsq."
    )


def test_what_training_would_stop_at_is_an_error_in_the_same_words() -> None:
    cube = smooth()
    cube[0, :5, 2] = np.inf
    cube[1, :3] = -9999
    scene = scene_of(cube)
    errors = [f.sentence for f in examine(scene).findings if f.code == "undeclared-values"]
    assert errors[0].startswith("5 of 1,440 pixels have NaN or infinite values")
    assert errors[1].startswith("3 of 1,440 pixels have -9999 in every band")
    for sentence in errors:
        assert found(examine(scene), "undeclared-values").severity == "error"
        with pytest.raises(DataError) as raised:
            check_values(replace(scene, no_data=None if "NaN" in sentence else np.nan))
        assert str(raised.value) == sentence


def test_no_data_in_some_bands_only_is_said() -> None:
    cube = smooth()
    cube[3, 4:9, 1] = cube[3, 6, 4] = -9999
    cube[0, 0] = -9999
    findings = examine(scene_of(cube, no_data=-9999))
    finding = found(findings, "partial-no-data")
    assert finding.severity == "warning"
    assert finding.sentence.startswith(
        "5 pixels have the no-data value -9999 in some bands only (bands 2, 5 of 6)"
    )
    assert findings.missing == 1


def test_spectra_of_zeros_are_said() -> None:
    cube = smooth()
    cube[:2, :3] = 0
    finding = found(examine(scene_of(cube)), "zero-spectra")
    assert finding.severity == "warning"
    assert finding.sentence == (
        "6 pixels have 0 in every band; if they are without a measurement, say so with --no-data 0."
    )
    assert "value is -1: if" in found(examine(scene_of(cube, no_data=-1)), "zero-spectra").sentence
    declared = examine(scene_of(cube, no_data=0))
    assert declared.missing == 6
    assert "zero-spectra" not in {finding.code for finding in declared.findings}


def test_labels_of_missing_pixels_are_left_out_and_counted() -> None:
    cube, labels = smooth(), fields()
    cube[:2, :3] = np.nan
    labels[0, 0] = 0
    findings = examine(scene_of(cube, labels, no_data=np.nan), window=3)
    assert sum(findings.counts) == 1440 - 6
    assert found(findings, "labels-left-out").sentence == (
        "5 pixels without a measurement have a label: left out."
    )


def test_bands_declared_bad_are_named() -> None:
    finding = found(examine(replace(scene_of(smooth()), bad_bands=(2, 5))), "bad-bands")
    assert finding.severity == "warning"
    assert finding.sentence.startswith("bands 2, 5 of 6 are declared bad in the file (bbl = 0)")


@settings(max_examples=80)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32))
def test_regions_are_those_of_scipy(height: int, width: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, (height, width)).astype(np.int16)
    expected = tuple(int(ndimage.label(labels == k)[1]) for k in (1, 2))
    assert count_regions(labels, 2) == expected
