"""The doctor on photos, on the command line: answers, exit codes, and no traceback."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from faulty_photos import FAULTS, PECULIAR, faulty_photos, sound_photos
from PIL import Image
from shapes import HEIGHT, WIDTH, write_boxes, write_masks

from pocketvision.data.masks.samples import scan_masks
from pocketvision.data.objects.samples import scan_objects
from pocketvision.errors import DataError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return sound_photos(tmp_path / "photos")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faulty_photos(tmp_path_factory.mktemp("faulty") / "photos")


def test_sound_photos_exit_with_0(run: Run, photos: Path) -> None:
    answer = run("doctor", photos)
    assert answer.code == 0
    assert "108 images, 3 classes; train 72, val 18, test 18." in answer.out
    assert "Nothing found." in answer.out


def test_notes_alone_exit_with_0(run: Run, photos: Path) -> None:
    FAULTS["extension"](photos)
    answer = run("doctor", photos)
    assert answer.code == 0
    assert "note: 1 file with an extension that does not fit" in answer.out


def test_findings_exit_with_1(run: Run, faulty: Path) -> None:
    answer = run("doctor", faulty)
    assert answer.code == 1
    lines = answer.out.splitlines()
    assert any(line.split() == ["été", "<b>&amp;", "24", "6", "6"] for line in lines)
    words = [line.split(":")[0] for line in lines]
    assert words.count("error") == 7
    assert words.index("error") < words.index("warning") < words.index("note")


def test_markup_in_names_is_printed_as_it_is(run: Run, photos: Path) -> None:
    for add in PECULIAR:
        add(photos)
    (photos / "train/cat/[red]x[/red].jpg").write_bytes(b"")
    assert "train/cat/[red]x[/red].jpg: empty file" in run("doctor", photos).out


def test_emoji_codes_in_names_are_printed_as_they_are(run: Run, photos: Path) -> None:
    (photos / "train/cat/:cat:.jpg").write_bytes(b"")
    for split in ("train", "val", "test"):
        (photos / split / "cat").rename(photos / split / ":cat:")
    answer = run("doctor", photos)
    assert "train/:cat:/:cat:.jpg: empty file" in answer.out
    assert any(line.split()[:1] == [":cat:"] for line in answer.out.splitlines())


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX systems alone")
def test_class_whose_name_is_no_text_is_in_the_json(run: Run, photos: Path) -> None:
    name = os.fsdecode(b"ch\xe9ri")
    for split in ("train", "val", "test"):
        (photos / split / "cat").rename(photos / split / name)
    answer = run("doctor", photos, "--json")
    assert answer.code == 1
    found = json.loads(answer.out)
    assert name in found["classes"]
    assert "class-names" in [one["code"] for one in found["findings"]]
    assert run("doctor", photos).code == 1


def test_json_holds_findings_with_their_files(run: Run, faulty: Path) -> None:
    answer = run("doctor", faulty, "--json")
    assert answer.code == 1
    found = json.loads(answer.out)
    assert found["images"] == sum(map(sum, found["counts"].values())) == 438
    assert found["exit_code"] == 1
    by_code = {one["code"]: one for one in found["findings"]}
    assert by_code["truncated"]["files"] == ["train/cat/cut.jpg"]
    assert by_code["truncated"]["severity"] == "error"
    assert [len(rule["files"]) for rule in found["left_out"]] == [4, 2, 2]


def test_fix_writes_a_list_that_only_reads(run: Run, faulty: Path, tmp_path: Path) -> None:
    clean = tmp_path / "clean.txt"
    before = sorted(faulty.rglob("*"))
    answer = run("doctor", faulty, "--fix", clean)
    assert answer.code == 1
    assert "430 of 443 files; left out are" in answer.err
    assert "5 that cannot be used" in answer.err
    assert "4 that have different labels, or look like such" in answer.err
    assert sorted(faulty.rglob("*")) == before
    again = json.loads(run("doctor", faulty, "--only", clean, "--json").out)
    assert again["images"] == 430
    assert again["left_out"] == []


def faulty_masks(folder: Path) -> Path:
    """Forty images: one and two masks cannot be used, one image is there twice."""
    write_masks(folder)
    (folder / "images" / "1.png").write_bytes(b"no image")
    Image.fromarray(np.full((HEIGHT, WIDTH), 7, np.uint8)).save(folder / "masks" / "2.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "masks" / "3.png")
    for kind in ("images", "masks"):
        shutil.copy(folder / kind / "5.png", folder / kind / "5 again.png")
    return folder


def faulty_boxes(folder: Path) -> Path:
    """Forty images: one cannot be used, two have boxes that are mended, one is there twice."""
    write_boxes(folder)
    (folder / "images" / "1.png").write_bytes(b"no image")
    (folder / "labels" / "2.txt").write_text(
        "0 0.5 0.5 0 0.1\n0 0.5 0.5 0 0.2\n1 0.5 0.5 0.2 0.2\n"
    )
    (folder / "labels" / "3.txt").write_text("0 0.9 0.5 0.4 0.4\n1 0.5 0.5 0.2 0.2\n")
    for kind, ending in (("images", "png"), ("labels", "txt")):
        shutil.copy(folder / kind / f"5.{ending}", folder / kind / f"5 again.{ending}")
    return folder


def test_fix_of_masks_writes_a_list_that_is_used_as_it_is(run: Run, tmp_path: Path) -> None:
    folder, clean = faulty_masks(tmp_path / "masks"), tmp_path / "clean.txt"
    answer = run("doctor", folder, "--task", "segment", "--fix", clean)
    assert answer.code == 1
    assert "37 of 41 files; left out are 3 that cannot be used 1 that are there mo" in answer.err
    with pytest.raises(DataError, match="2 of 41 images cannot be used"):
        scan_masks(folder)
    assert len(scan_masks(folder, only=clean)) == 37
    again = run("doctor", folder, "--task", "segment", "--only", clean)
    assert again.code == 0


def test_fix_of_boxes_writes_a_list_that_is_used_as_it_is(run: Run, tmp_path: Path) -> None:
    folder, clean = faulty_boxes(tmp_path / "boxes"), tmp_path / "clean.txt"
    answer = run("doctor", folder, "--task", "detect", "--fix", clean)
    assert answer.code == 1
    assert (
        "37 of 41 files; left out are 1 that cannot be used 2 with a box that is clipped or left "
        "out 1 that are there mo" in answer.err
    )
    with pytest.raises(DataError, match=r"3 of \d+ boxes in .* are faulty"):
        scan_objects(folder)
    assert len(scan_objects(folder, only=clean)) == 37
    again = run("doctor", folder, "--task", "detect", "--only", clean)
    assert again.code == 0


def test_fix_leaves_out_images_of_another_size_than_stated(run: Run, tmp_path: Path) -> None:
    folder, clean = write_masks(tmp_path / "voc", 30), tmp_path / "clean.txt"
    (folder / "images").rename(folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    shutil.rmtree(folder / "masks")
    for number in range(30):
        width = WIDTH + (number < 2)
        (folder / "Annotations" / f"{number}.xml").write_text(
            f"<annotation><size><width>{width}</width><height>{HEIGHT}</height></size><object>"
            "<name>red</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>20</xmax><ymax>20</ymax>"
            "</bndbox></object></annotation>"
        )
    answer = run("doctor", folder, "--task", "detect", "--fix", clean)
    assert answer.code == 1
    assert "28 of 30 files; left out are 2 that cannot be used" in answer.err
    assert len(scan_objects(folder, only=clean)) == 28


def test_fix_with_json_prints_json_alone(run: Run, photos: Path, tmp_path: Path) -> None:
    answer = run("doctor", photos, "--fix", tmp_path / "clean.txt", "--json")
    assert json.loads(answer.out)["findings"] == []
    assert "108 of 108 files; left out are none" in answer.err


def test_fix_never_replaces_a_file(run: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "clean.txt").write_text("mine")
    answer = run("doctor", photos, "--fix", tmp_path / "clean.txt")
    assert answer.code == 2
    assert "exists; give --fix the name of a new file" in answer.err
    assert (tmp_path / "clean.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "names no file"),
        ("# nothing\n\n", "names no file"),
        ("train/cat/00.jpg\ntrain/cat/none.jpg\n", "names 1 file"),
        (None, "cannot be read (No such file or directory)"),
    ],
    ids=["empty", "comments", "absent", "no list"],
)
def test_lists_of_no_use_exit_with_2(
    run: Run, photos: Path, tmp_path: Path, content: str | None, why: str
) -> None:
    clean = tmp_path / "clean.txt"
    if content is not None:
        clean.write_text(content)
    for words in (("doctor", photos), ("fit", photos, "--out", tmp_path / "out")):
        answer = run(*words, "--only", clean)
        assert answer.code == 2
        assert why in answer.err
    assert not (tmp_path / "out").exists()


def test_folder_that_is_not_there_exits_with_2(run: Run, tmp_path: Path) -> None:
    answer = run("doctor", tmp_path / "none")
    assert answer.code == 2
    assert "none' does not exist" in answer.err


def test_layout_that_cannot_be_read_exits_with_2(run: Run, photos: Path) -> None:
    (photos / "train").rename(photos / "training")
    answer = run("doctor", photos)
    assert answer.code == 2
    assert "but no train/ with class folders" in answer.err


@pytest.mark.parametrize("option", ["--labels", "--no-data", "--window", "--train-share", "--seed"])
def test_options_of_scenes_are_refused_for_photos(run: Run, photos: Path, option: str) -> None:
    answer = run("doctor", photos, option, "1")
    assert answer.code == 2
    assert f"{option} is an option for scenes, and {photos} holds no cube; leave" in answer.err


@pytest.mark.parametrize("option", ["--fix", "--only"])
def test_options_of_photos_are_refused_for_scenes(run: Run, tmp_path: Path, option: str) -> None:
    (tmp_path / "scene").mkdir()
    np.save(tmp_path / "scene" / "cube.npy", np.zeros((8, 8, 4), np.int16))
    answer = run("doctor", tmp_path / "scene", option, "x.txt")
    assert answer.code == 2
    assert f"{option} is an option for photos, and {tmp_path / 'scene'} is a scene" in answer.err


def test_array_beside_class_folders_makes_no_scene(run: Run, photos: Path) -> None:
    np.save(photos / "features.npy", np.zeros((8, 8, 4), np.int16))
    assert "108 images, 3 classes" in run("doctor", photos).out


def test_fit_refuses_a_class_that_a_clean_list_emptied(
    run: Run, photos: Path, tmp_path: Path
) -> None:
    clean = tmp_path / "clean.txt"
    names = [path.relative_to(photos).as_posix() for path in photos.rglob("*/cat/*.jpg")]
    clean.write_text("\n".join(names))
    answer = run("fit", photos, "--out", tmp_path / "out", "--only", clean)
    assert answer.code == 2
    assert "train has no readable image of 'dog'" in answer.err
