from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorly.datasets import load_indian_pines

from pocketvision.data.images import scan
from pocketvision.data.samples import SAMPLES, write_sample
from pocketvision.data.scene.facts import read_facts
from pocketvision.data.scene.reading import check_values, open_scene
from pocketvision.errors import ConfigError, DataError, MissingExtraError

datasets = pytest.importorskip("sklearn.datasets")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample("digits", tmp_path_factory.mktemp("samples") / "deep" / "digits")


def test_digits_are_complete_and_split_70_15_15(digits: Path) -> None:
    samples = scan(digits)
    assert samples.classes == tuple("0123456789")
    assert set(samples.split_origins.values()) == {"given"}
    assert len(samples) == 1797
    assert set(samples.shorter_sides.tolist()) == {8}
    for split in samples.summary().splits:
        share = 0.7 if split.name == "train" else 0.15
        totals = np.bincount(samples.labels)
        assert np.abs(np.array(split.counts) - share * totals).max() <= 1.5


def test_digits_are_the_real_ones(digits: Path) -> None:
    data = datasets.load_digits()
    for number in (1, 900, 1797):
        (path,) = digits.glob(f"*/{data.target[number - 1]}/digit-{number:04d}.png")
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("L", (8, 8))
            assert np.abs(np.asarray(image) - data.images[number - 1] * 255 / 16).max() <= 0.5


def test_writing_again_gives_the_same(digits: Path, tmp_path: Path) -> None:
    again = scan(write_sample("digits", tmp_path / "again"))
    first = scan(digits)
    assert again.fingerprint == first.fingerprint
    assert sorted(again.paths) == sorted(first.paths)


def test_existing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="exists; give a folder that does not, or remove it"):
        write_sample("digits", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written: "):
        write_sample("digits", tmp_path / "file" / "digits")


def test_unknown_sample(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"sample='digit' is unknown.*\['digits', 'indian-pines'\]\. Did you mean 'digits'\?",
    ):
        write_sample("digit", tmp_path / "new")


def test_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pocketvision\[samples\]'"):
        write_sample("digits", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_every_sample_has_a_writer() -> None:
    assert sorted(SAMPLES) == ["digits", "indian-pines"]


@pytest.fixture(scope="module")
def pines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample("indian-pines", tmp_path_factory.mktemp("samples") / "pines")


def test_indian_pines_has_its_published_counts(pines: Path) -> None:
    scene = open_scene(pines)
    assert scene.labels is not None
    counts = np.bincount(scene.labels.ravel())[1:]
    assert counts.sum() == 10_249
    assert dict(zip(scene.classes, counts.tolist(), strict=True)) == {
        "Alfalfa": 46,
        "Corn-notill": 1428,
        "Corn-mintill": 830,
        "Corn": 237,
        "Grass-pasture": 483,
        "Grass-trees": 730,
        "Grass-pasture-mowed": 28,
        "Hay-windrowed": 478,
        "Oats": 20,
        "Soybean-notill": 972,
        "Soybean-mintill": 2455,
        "Soybean-clean": 593,
        "Wheat": 205,
        "Woods": 1265,
        "Buildings-Grass-Trees-Drives": 386,
        "Stone-Steel-Towers": 93,
    }


def test_indian_pines_has_its_published_spectra(pines: Path) -> None:
    scene = open_scene(pines)
    assert (scene.name, scene.cube.shape) == ("Indian Pines", (145, 145, 200))
    assert scene.cube.dtype == np.uint16
    assert len(scene.wavelengths_nm) == 200
    assert (min(scene.wavelengths_nm), max(scene.wavelengths_nm)) == (400.02, 2498.96)
    original = load_indian_pines().tensor
    np.testing.assert_array_equal(scene.cube.rows(70, 75), original[70:75])
    check_values(scene)


def test_indian_pines_names_source_and_licence(pines: Path) -> None:
    facts = read_facts(pines)
    assert "doi:10.4231/R7RX991C" in str(facts.source)
    assert "creativecommons.org/licenses/by/3.0" in str(facts.licence)


def test_indian_pines_without_tensorly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorly.datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pocketvision\[hyperspectral\]'"):
        write_sample("indian-pines", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
