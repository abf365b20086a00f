"""The experiments on hyperspectral scenes, end to end on a corner of one, and their pages."""

from __future__ import annotations

import dataclasses
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scripts import load

from pocketvision.data.samples import write_sample
from pocketvision.data.scene.leakage import leakage
from pocketvision.data.scene.reading import open_scene
from pocketvision.data.scene.scene import Scene
from pocketvision.models.hybridsn import hybridsn
from pocketvision.models.patch import PatchNetwork
from pocketvision.report.text import percent
from pocketvision.scene_record import Leakage, SceneRecord
from pocketvision.storage import to_json
from pocketvision.train.crops import SceneSource
from pocketvision.train.scene_config import SceneTrainConfig

WINDOW, BANDS = "9", "13"  # the smallest that HybridSN takes


kept = load("kept", "recipes")
scenes = load("scenes", "recipes")
dense = load("dense_training", "recipes")
transfer = load("scene_transfer", "recipes")
plotting = load("plotting", "recipes")
figures = load("scene_figures", "scripts")
samples = load("scene_records", "tests/report")


@pytest.fixture(scope="module")
def pines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Indian Pines, whole."""
    return write_sample("indian-pines", tmp_path_factory.mktemp("scenes") / "pines")


@pytest.fixture(scope="module")
def scene(pines: Path) -> Scene:
    return open_scene(pines)


@pytest.fixture(scope="module")
def corner(pines: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 x 40 pixels of it, every fifth band."""
    folder = tmp_path_factory.mktemp("scenes") / "corner"
    folder.mkdir()
    np.save(folder / "cube.npy", np.load(pines / "cube.npy")[10:50, 20:60, ::5])
    np.save(folder / "labels.npy", np.load(pines / "labels.npy")[10:50, 20:60])
    return folder


def run(
    recipe: ModuleType, words: list[object], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> str:
    """What a recipe prints."""
    monkeypatch.setattr(sys, "argv", [recipe.__name__, *map(str, words)])
    recipe.main()
    printed: str = capsys.readouterr().out
    return printed


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a training fails the test."""

    def fail(*_: object, **__: object) -> None:
        pytest.fail("a finished run was made again")

    monkeypatch.setattr(scenes, "train_scene", fail)


def table_rows(page: str, first: str) -> list[list[str]]:
    """The cells of the table whose first title is `first`."""
    lines = page.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = lines[start + 2 :]
    end = next((i for i, line in enumerate(rows) if not line.startswith("|")), len(rows))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows[:end]]


def dense_words(corner: Path, tmp_path: Path, *minutes: str) -> list[object]:
    return [
        *(corner, "--work", tmp_path / "runs", "--out", tmp_path, "--minutes", *minutes),
        *("--seeds", 2, "--window", WINDOW, "--components", BANDS),
    ]


def transfer_options(work: Path) -> Any:
    return transfer.Options(
        data=work,
        work=work,
        labels=(5, 8),
        seeds=1,
        source_steps=1,
        steps=1,
        window=9,
        components=13,
        threads=1,
        device="cpu",
    )


# scenes


def test_scene_without_labels_is_refused(corner: Path) -> None:
    unlabelled = dataclasses.replace(open_scene(corner), labels=None)
    with pytest.raises(SystemExit, match="has no labels, and training needs some"):
        scenes.labels_of(unlabelled)


def test_scene_is_written_where_there_is_none(tmp_path: Path) -> None:
    assert scenes.indian_pines(tmp_path / "new").cube.shape == (145, 145, 200)


def test_two_scenes_share_no_class_band_or_window(scene: Scene) -> None:
    a, b = scenes.two_scenes(scene, 9)
    assert not set(a.classes) & set(b.classes)
    assert a.classes == (
        *("Corn-notill", "Corn-mintill", "Corn", "Hay-windrowed", "Soybean-notill"),
        *("Soybean-clean", "Buildings-Grass-Trees-Drives"),
    )
    assert b.classes == (
        *("Grass-pasture", "Grass-trees", "Soybean-mintill", "Wheat", "Woods"),
    )  # fmt: skip
    assert a.cube.shape == (68, 145, 100)
    assert b.cube.shape == (68, 145, 90)
    cube = scene.cube.rows(0, 145)
    np.testing.assert_array_equal(a.cube.rows(0, 68), cube[:68, :, ::2])
    np.testing.assert_array_equal(b.cube.rows(0, 68), cube[77:, :, 1:180:2])  # 9 rows from A
    assert a.fingerprint != b.fingerprint


def test_labels_of_a_part_are_those_of_its_classes(scene: Scene) -> None:
    assert scene.labels is not None
    for part, rows in zip(scenes.two_scenes(scene, 9), (slice(0, 68), slice(77, 145)), strict=True):
        for number, name in enumerate(part.classes, 1):
            there = scene.labels[rows] == scene.classes.index(name) + 1
            np.testing.assert_array_equal(part.labels == number, there)


@pytest.mark.parametrize("seed", [0, 1])
def test_few_labels_leak_nothing_and_more_hold_the_fewer(scene: Scene, seed: int) -> None:
    _, b = scenes.two_scenes(scene, 9)
    splits = [scenes.few_labels(b, per_class, 9, seed) for per_class in (5, 50)]
    few, many = splits
    np.testing.assert_array_equal(few.test, many.test)
    assert not (few.train & ~many.train).any()
    assert np.bincount(b.labels[few.train]).tolist() == [0, 5, 5, 5, 5, 5]
    assert all(np.bincount(b.labels[few.test], minlength=6)[1:] > 0)
    assert [leakage(split).window for split in splits] == [0, 0]


def test_command_names_its_options_and_those_of_all() -> None:
    asked = transfer_options(Path())
    assert scenes.command("scene_transfer", asked, ("labels", "source_steps")) == (
        "python recipes/scene_transfer.py INDIAN_PINES --labels 5 8 --source-steps 1 --window 9 "
        "--components 13 --threads 1 --device cpu > recipes/scene_transfer.md"
    )


def test_what_is_made_is_made_once(tmp_path: Path) -> None:
    calls = []

    def make() -> Leakage:
        calls.append(1)
        return Leakage(centre=0.25, window=0.5)

    for _ in range(2):
        found = kept.made_once(Leakage, tmp_path / "runs" / "one.json", make)
        assert found == Leakage(centre=0.25, window=0.5)
    assert len(calls) == 1


# dense_training


def test_dense_training_end_to_end_and_again(
    corner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = dense_words(corner, tmp_path, "0.001", "0.002")
    page = run(dense, words, monkeypatch, capsys)
    rows = table_rows(page, "minutes planned (taken)")
    assert [row[1] for row in rows] == ["dense", "patch by patch"] * 2
    assert all(0 <= float(row[5].split(" ± ")[0]) <= 100 for row in rows)
    assert [row[8][-7:] for row in rows[1::2]] == ["(x1.00)"] * 2
    assert "--minutes 0.001 0.002 --seeds 2 --train-share 0.3" in page
    assert "Random splits leak" in page
    assert "torch " in page.splitlines()[-1]
    picture = tmp_path / "images" / "dense_training.svg"
    drawn = picture.read_bytes()
    forbid_training(monkeypatch)
    again = run(dense, words, monkeypatch, capsys)
    assert table_rows(again, "minutes planned (taken)") == rows
    assert picture.read_bytes() == drawn


def test_another_setting_is_another_run(
    corner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = [*dense_words(corner, tmp_path, "0.001"), "--seeds", 1]
    run(dense, words, monkeypatch, capsys)
    run(dense, [*words, "--train-share", 0.1], monkeypatch, capsys)
    assert len(list((tmp_path / "runs").rglob("*.json"))) == 4


def test_steps_are_those_that_fill_the_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "settled", lambda network, source, config: (config, 0.5))
    asked = dense.Options(
        data=Path(),
        work=Path(),
        out=Path(),
        minutes=(2.0,),
        seeds=1,
        train_share=0.3,
        window=9,
        components=13,
        threads=1,
        device="cpu",
    )
    plan = dense.planned(None, None, "dense", 2.0, 7, asked)
    assert plan.steps == 960  # four times 240: the deadline ends the training
    assert (plan.training, plan.seed, plan.warmup_steps) == ("dense", 7, 24)


def test_seen_pixels_of_patches_are_epochs() -> None:
    targets = np.arange(30).reshape(5, 6) % 3
    source = SceneSource(bands=np.zeros((5, 6, 2), np.float32), targets=targets)
    plan = SceneTrainConfig(training="patches", batch_size=10, warmup_steps=0)
    assert dense.pixels_seen(source, plan, 6) == 2 * 30


def test_seen_pixels_of_crops_are_all_that_they_hold() -> None:
    """A crop as large as the scene holds every training pixel."""
    targets = np.where(np.arange(36).reshape(6, 6) % 2, 1, -1)
    source = SceneSource(bands=np.zeros((6, 6, 2), np.float32), targets=targets)
    plan = SceneTrainConfig(training="dense", crops=3, side=6, warmup_steps=0)
    assert dense.pixels_seen(source, plan, 4) == 4 * 3 * 18


# scene_transfer


def test_transfer_keeps_all_but_the_last_layer() -> None:
    spec = hybridsn(bands=13, window=9, num_classes=3)
    source, network = spec.build(0), spec.with_classes(5).build(1)
    new = network.head.classifier.weight.clone()
    transfer.take_all_but_last_layer(network, source)
    same = [
        name
        for name, weight in network.state_dict().items()
        if torch.equal(weight, source.state_dict()[name])
    ]
    last = {"head.classifier.weight", "head.classifier.bias"}
    assert set(network.state_dict()) - set(same) == last
    assert torch.equal(network.head.classifier.weight, new)


def test_scene_transfer_end_to_end_and_again(
    pines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words: list[object] = [
        *(pines, "--work", tmp_path, "--labels", 5, 8, "--seeds", 1, "--source-steps", 2),
        *("--steps", 2, "--window", WINDOW, "--components", BANDS),
    ]
    page = run(transfer, words, monkeypatch, capsys)
    rows = table_rows(page, "labels a class")
    assert [row[:2] for row in rows] == [["5", "25"], ["8", "40"]]
    for row in rows:
        assert float(row[4]) == pytest.approx(float(row[3]) - float(row[2]), abs=0.011)
    assert [row[0] for row in table_rows(page, "scene")] == ["A", "B"]
    assert "cut out of one" in page
    assert "0 % of test windows hold a training centre, 0 % share" in page
    forbid_training(monkeypatch)
    assert table_rows(run(transfer, words, monkeypatch, capsys), "labels a class") == rows


def test_transfer_starts_from_the_network_of_scene_a(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are read again are those that were trained."""
    asked = transfer_options(tmp_path)
    a, _ = scenes.two_scenes(scene, 9)
    made: PatchNetwork = transfer.pretrained(a, 0, asked)[0]
    forbid_training(monkeypatch)
    read: PatchNetwork = transfer.pretrained(a, 0, asked)[0]
    for name, weight in made.state_dict().items():
        assert torch.equal(weight, read.state_dict()[name])


# plotting


def test_gain_is_paired_with_students_interval() -> None:
    gains = [1.0, 2.0, 3.0]
    half = 4.303 * statistics.stdev(gains) / math.sqrt(3)
    cell = plotting.gain_cell([11.0, 22.0, 33.0], [10.0, 20.0, 30.0])
    assert cell == f"+2.00 ({2 - half:+.2f} to {2 + half:+.2f})"
    assert plotting.gain_cell([1.0], [1.5]) == "-0.50"


def test_spread_is_told_only_of_several() -> None:
    assert plotting.spread_cell([1.0, 3.0]) == "2.00 ± 1.41"
    assert plotting.spread_cell([0.87651], decimals=4) == "0.8765"


# scene_figures


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Write a record as record.json of a folder."""

    def write(record: SceneRecord, folder: str) -> Path:
        path = tmp_path / folder / "record.json"
        path.parent.mkdir()
        path.write_text(to_json(record))
        return path

    return write


def test_figures_of_one_scene_are_the_records(written: Callable[..., Path]) -> None:
    record = samples.scene_record()
    page = "\n".join(figures.lines(figures.read([written(record, "fitted")])))
    assert record.command in page
    assert record.verdict.sentence in page
    assert f"OA {percent(record.headline.overall)}, AA " in page
    assert f"n = {record.headline.n:,}; 0 % of test windows hold a training centre" in page
    assert "| Narrowed |" not in page
    assert record.machine.cpu in page
    assert f"Python {record.machine.python}" in page
    assert "in blocks, guard centre, window 25, seeds 0 to 2" in page
    assert "| Test windows that hold a training centre | 0 % |" in page
    assert "| Test windows that share pixels with a training window | 41.2 % |" in page
    rows = table_rows(page, "file")
    assert [row[0] for row in rows].count("dense f32 (shipped)") == 1
    assert len(rows) == len(record.files)
    runs = [row for row in table_rows(page, "method") if row[0].startswith("HybridSN")]
    assert len(runs) == 2  # dense and patch by patch
    assert all("±" in row[2] for row in runs)


def test_minutes_and_microseconds_are_converted(written: Callable[..., Path]) -> None:
    record = samples.scene_record(seeds=1)
    page = "\n".join(figures.lines(figures.read([written(record, "fitted")])))
    shipped = table_rows(page, "method")[0]
    assert shipped[6:8] == ["0 %", "41.2 %"]
    assert shipped[8:10] == ["3,000", f"{record.runs[0].train_seconds / 60:.2f}"]
    file = next(file for file in record.files if file.shipped)
    microseconds = 1e3 * file.latency.median_ms / file.pixels
    assert table_rows(page, "file")[0][2].startswith(f"{microseconds:.0f} (")


def test_several_records_stand_in_one_table(written: Callable[..., Path]) -> None:
    blocks, random = samples.scene_record(), samples.scene_record(kind="random")
    paths = [written(blocks, "blocks"), written(random, "random")]
    page = "\n".join(figures.lines(figures.read(paths)))
    rows = table_rows(page, "run")
    assert [row[0] for row in rows] == ["blocks"] * 4 + ["random"] * 4
    assert "| Test windows that hold a training centre | 0 % | over 99.9 % |" in page
    assert f"- random: {random.verdict.sentence}" in page
    widths = {len(line.split("|")) for line in page.splitlines() if line.startswith("| Split")}
    assert widths == {5}


def test_records_of_one_name_are_refused(tmp_path: Path, written: Callable[..., Path]) -> None:
    path = written(samples.scene_record(), "fitted")
    with pytest.raises(SystemExit, match="give one record or more, of different names"):
        figures.read([path, path])
    with pytest.raises(SystemExit, match="give one record or more"):
        figures.read([])
