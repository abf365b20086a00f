"""The doctor on photos, on the command line: answers, exit codes, and no traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from faulty_photos import FAULTS, PECULIAR, faulty_photos, sound_photos


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
