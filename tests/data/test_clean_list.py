from __future__ import annotations

from pathlib import Path

import pytest
from faulty_photos import FAULTS, PECULIAR, faulty_photos, save, sound_photos
from hypothesis import given, settings
from hypothesis import strategies as st
from index_columns import columns

from pocketvision.data.clean import write_clean_list
from pocketvision.data.doctor import examine_index
from pocketvision.data.index import read_index
from pocketvision.errors import ConfigError, DataError


def test_clean_list_leaves_out_what_misleads(tmp_path: Path) -> None:
    faulty = faulty_photos(tmp_path / "photos")
    before = {path: path.stat().st_mtime_ns for path in faulty.rglob("*.jpg") if path.exists()}
    index = read_index(faulty)
    found = examine_index(index)
    assert [(len(rule.rows), rule.why.split(",")[0]) for rule in found.left_out] == [
        (4, "that have different labels"),
        (2, "that val or test has too"),
        (2, "that are there more than once"),
    ]
    left_out = {index.paths[row] for rule in found.left_out for row in rule.rows.tolist()}
    assert {"train/cat/02.jpg", "train/dog/cat or dog.jpg", "train/cat/04.jpg"} <= left_out
    assert {"train/dog/seen.jpg", "train/dog/darker.jpg"} <= left_out
    assert not any(path.startswith(("test", "val")) for path in left_out)
    clean = tmp_path / "clean.txt"
    assert write_clean_list(clean, index, found.left_out) == len(index) - 8
    again = examine_index(read_index(faulty, only=clean))
    assert again.images == len(index) - 8
    assert again.left_out == ()
    copies_and_faults = {code for code in FAULTS if code.startswith(("contra", "copies", "near"))}
    copies_and_faults |= {"empty", "decompression-bomb", "truncated", "unreadable"}
    assert {one.finding.code for one in again.findings} & copies_and_faults == {"near-within-split"}
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_names_come_back_from_a_clean_list(tmp_path: Path) -> None:
    photos = sound_photos(tmp_path / "photos")
    for add in PECULIAR:
        add(photos)
    index = read_index(photos)
    clean = tmp_path / "clean.txt"
    write_clean_list(clean, index, ())
    again = read_index(photos, only=clean)
    assert sorted(again.paths) == sorted(index.paths)
    assert {"train/cat/a\nb.jpg", "train/cat/# no comment.jpg"} <= set(again.paths)


def test_clean_list_never_replaces_a_file(tmp_path: Path) -> None:
    photos = sound_photos(tmp_path / "photos")
    there = tmp_path / "clean.txt"
    there.write_text("mine")
    with pytest.raises(ConfigError, match=r"clean.txt exists; give --fix the name of a new file"):
        write_clean_list(there, read_index(photos), ())
    assert there.read_text() == "mine"


def test_clean_list_that_would_be_empty_is_not_written(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / "photos" / name / "same.jpg", 1)
    index = read_index(tmp_path / "photos")
    with pytest.raises(DataError, match=r"No image of .*photos' would be left; .*is not written"):
        write_clean_list(tmp_path / "clean.txt", index, examine_index(index).left_out)
    assert not (tmp_path / "clean.txt").exists()


@settings(max_examples=100)
@given(
    files=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(0, 2)), min_size=6, max_size=30
    )
)
def test_list_keeps_one_of_every_image_with_one_label(
    files: list[tuple[int, int, int]],
) -> None:
    """In the last split that has it; images with two labels are gone."""
    contents, labels, splits = zip(*files, strict=True)
    index = columns(labels, contents=contents, splits=splits)
    out = {row for rule in examine_index(index).left_out for row in rule.rows.tolist()}
    kept = [file for row, file in enumerate(files) if row not in out]
    expected = {
        (content, max(split for c, _, split in files if c == content))
        for content in set(contents)
        if len({label for c, label, _ in files if c == content}) == 1
    }
    assert sorted((content, split) for content, _, split in kept) == sorted(expected)
