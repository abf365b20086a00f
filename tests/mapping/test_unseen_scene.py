"""A scene as a stranger brings it, through every command: ENVI, their own split, odd names."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from pocketvision.cli import app
from pocketvision.data.scene.reading import open_scene
from pocketvision.scene_record import SceneRecord
from pocketvision.storage import from_json

pytestmark = pytest.mark.slow

HEIGHT, WIDTH, BANDS = 66, 58, 37
CLASSES = ("Winter wheat", "Blé dur", "Wald & Wiese", "<b>Wasser</b>", "森林")
COLOURS = ((230, 200, 40), (180, 120, 30), (40, 140, 60), (30, 90, 200), (10, 70, 40))
NO_DATA = 65535
HOLE = np.s_[20:26, 0:9]  # without a measurement, labelled pixels among them
FIELD = 11  # side of a field in pixels; between fields lies one without a label
MAP_INFO = "{UTM, 1, 1, 700000, 4200000, 15, 15, 34, North, WGS-84, units=Meters}"


def stranger_labels() -> NDArray[np.uint8]:
    """(H, W): fields in turn, with an unlabelled pixel between them."""
    rows, columns = np.indices((HEIGHT, WIDTH))
    labels = (rows // FIELD + 2 * (columns // FIELD)) % len(CLASSES) + 1
    labels[(rows % FIELD == 0) | (columns % FIELD == 0)] = 0
    numbers: NDArray[np.uint8] = labels.astype(np.uint8)
    return numbers


def stranger_cube(labels: NDArray[np.uint8], bands: int, seed: int) -> NDArray[np.uint16]:
    """(H, W, bands): a smooth curve for each class, light that changes from row to row, noise."""
    generator = np.random.default_rng(seed)
    places = np.linspace(0, 1, bands)
    centres = generator.uniform(0, 1, (len(CLASSES) + 1, 3, 1))
    curves = 2000 + 3000 * np.exp(-((places - centres) ** 2) / 0.02).sum(1)
    light = 1 + 0.1 * np.sin(np.arange(HEIGHT) / 9)[:, None, None]
    noise = generator.normal(0, 150, (*labels.shape, bands))
    cube: NDArray[np.uint16] = (curves[labels] * light + noise).astype(np.uint16)
    cube[HOLE] = NO_DATA
    return cube


def write_envi(stem: Path, values: NDArray[Any], fields: dict[str, str]) -> Path:
    """Big-endian numbers, band interleaved by pixel, behind 512 bytes of something else."""
    height, width, *bands = values.shape
    numbers = values.astype(values.dtype.newbyteorder(">"))
    stem.with_suffix(".raw").write_bytes(bytes(512) + numbers.tobytes())
    described = {
        "description": "{written by hand,\n  field campaign 2026}",
        "samples": width,
        "lines": height,
        "bands": bands[0] if bands else 1,
        "header offset": 512,
        "data type": {"uint8": 1, "uint16": 12}[values.dtype.name],
        "interleave": "bip",
        "byte order": 1,
    }
    lines = [f"{key} = {value}" for key, value in (described | fields).items()]
    header = stem.with_suffix(".hdr")
    header.write_text("\r\n".join(["ENVI", *lines, ""]), encoding="utf-8")
    return header


def write_stranger(folder: Path, bands: int = BANDS, seed: int = 0) -> Path:
    """The scene, and its split in a file beside the folder; returns the folder."""
    folder.mkdir(parents=True)
    labels = stranger_labels()
    wavelengths = np.linspace(0.42, 2.45, bands)
    write_envi(
        folder / "Überflug 3",
        stranger_cube(labels, bands, seed),
        {
            "data ignore value": str(NO_DATA),
            "wavelength units": "Micrometers",
            "wavelength": "{" + ", ".join(f"{one:.4f}" for one in wavelengths) + "}",
            "map info": MAP_INFO,
        },
    )
    colours = [part for colour in ((0, 0, 0), *COLOURS) for part in colour]
    write_envi(
        folder / "ground truth",
        labels,
        {
            "file type": "ENVI Classification",
            "classes": str(len(CLASSES) + 1),
            "class names": "{Unclassified, " + ", ".join(CLASSES) + "}",
            "class lookup": "{" + ", ".join(map(str, colours)) + "}",
        },
    )
    write_envi(mask_of(folder).with_suffix(""), stranger_split(labels), {})
    return folder


def mask_of(folder: Path) -> Path:
    return folder.parent / f"{folder.name} split.hdr"


def stranger_split(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W): 1 train in the west, 2 test in the east, and two fields' width of neither."""
    mask = np.zeros_like(labels)
    mask[:, : 3 * FIELD] = 1
    mask[:, 4 * FIELD :] = 2
    mask[labels == 0] = 0
    return mask


def pocketvision(*words: object) -> int:
    """The exit code of the command, run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["pocketvision", *map(str, words)])
        try:
            app.main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


def fit_words(folder: Path, out: Path) -> list[object]:
    return [
        *("fit", folder, "--task", "hyperspectral", "--split", "given", "--mask", mask_of(folder)),
        *("--models", "mobile_patch", "--models", "svm", "--window", 9, "--components", 13),
        *("--steps", 150, "--device", "cpu", "--out", out),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stranger(tmp_path_factory.mktemp("data") / "Tarla Bölgesi 7")


@pytest.fixture(scope="module")
def fitted(folder: Path) -> Path:
    """What `fit` makes of it."""
    out = folder.parent / "fitted scene"
    assert pocketvision(*fit_words(folder, out)) == 0
    return out


def record_of(fitted: Path) -> SceneRecord:
    return from_json(SceneRecord, (fitted / "record.json").read_bytes(), source="record.json")


def test_scene_is_read_as_it_was_written(folder: Path) -> None:
    scene = open_scene(folder)
    assert (scene.name, scene.classes, scene.colours) == (folder.name, CLASSES, COLOURS)
    assert scene.no_data == NO_DATA
    assert scene.wavelengths_nm[:: BANDS - 1] == pytest.approx((420, 2450))
    assert scene.georeference is not None
    np.testing.assert_array_equal(
        scene.cube.rows(0, HEIGHT), stranger_cube(stranger_labels(), BANDS, 0)
    )
    assert scene.labels is not None
    np.testing.assert_array_equal(scene.labels, stranger_labels())


def test_doctor_counts_what_is_missing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pocketvision("doctor", folder, "--window", 9, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["missing"] == 6 * 9
    assert tuple(found["classes"]) == CLASSES
    held = (stranger_labels()[HOLE] > 0).sum()
    assert any(
        f"{held} pixels without a measurement have a label" in str(one) for one in found["findings"]
    )


def test_fit_scores_the_given_split(fitted: Path, folder: Path) -> None:
    """By sums of one's own, from the map and the mask."""
    record = record_of(fitted)
    labels = stranger_labels()
    labels[HOLE] = 0
    mask = stranger_split(labels)
    assert record.scene.classes == CLASSES
    assert (record.scene.missing, record.scene.georeferenced) == (54, True)
    (split,) = record.splits
    assert (split.kind, split.leakage.centre, split.leakage.window) == ("given", 0, 0)
    assert sum(split.train) == (mask == 1).sum()
    named = np.load(fitted / "classes.npy")
    assert not named[HOLE].any()
    test = mask == 2
    assert record.headline.n == test.sum()
    assert record.headline.overall == pytest.approx((named[test] == labels[test]).mean())
    assert record.headline.overall > 0.9


def test_pages_hold_names_and_no_markup_of_theirs(fitted: Path) -> None:
    report = (fitted / "report.html").read_text(encoding="utf-8")
    assert "<b>Wasser" not in report
    assert "&lt;b&gt;Wasser&lt;/b&gt;" in report
    assert "Wald &amp; Wiese" in report
    assert "森林" in report
    assert "Blé dur" in (fitted / "README.md").read_text(encoding="utf-8")


def test_map_keeps_place_and_hole(fitted: Path, folder: Path, tmp_path: Path) -> None:
    out, unsure = tmp_path / "the map.tif", tmp_path / "unsure.npy"
    words = ("map", fitted, folder, "--out", out, "--uncertainty", unsure)
    assert pocketvision(*words) == 0
    with rasterio.open(out) as file:
        np.testing.assert_array_equal(file.read(1), np.load(fitted / "classes.npy"))
        assert (file.crs.to_epsg(), file.transform.c, file.transform.a) == (32634, 700_000, 15)
        assert file.colormap(1)[2] == (*COLOURS[1], 255)
    doubts = np.load(unsure)
    assert np.isnan(doubts[HOLE]).all()


def test_shipped_script_gives_the_same_map(fitted: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "cube.npy", stranger_cube(stranger_labels(), BANDS, 0))
    words: list[str | Path] = [
        sys.executable,
        fitted / "model" / "run.py",
        "cube.npy",
        "classes.npy",
    ]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, timeout=300)
    named = np.load(tmp_path / "classes.npy")
    np.testing.assert_array_equal(named, np.load(fitted / "classes.npy"))


def test_verify_passes_where_everything_has_moved(
    fitted: Path, folder: Path, tmp_path: Path
) -> None:
    moved, mask = tmp_path / "elsewhere", mask_of(folder)
    shutil.copytree(folder, moved)
    for path in (mask, mask.with_suffix(".raw")):
        shutil.copy(path, tmp_path / f"mask{path.suffix}")
    copied = shutil.copytree(fitted, tmp_path / "copied")
    assert pocketvision("verify", copied, moved, "--mask", tmp_path / "mask.hdr") == 0


def test_another_scene_starts_from_it(fitted: Path, tmp_path: Path) -> None:
    """With other bands."""
    other = write_stranger(tmp_path / "other field", bands=29, seed=5)
    words = [*fit_words(other, tmp_path / "tuned"), "--weights", fitted]
    assert pocketvision(*words) == 0
    record = record_of(tmp_path / "tuned")
    assert record.network.start != record_of(fitted).network.start
    assert record.headline.overall > 0.9
