from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pocketvision.data.cache import DecodedImages
from pocketvision.data.images import Samples, scan
from pocketvision.errors import DataError


def write(path: Path, seed: int, size: tuple[int, int] = (6, 5)) -> None:
    """A noise image whose content follows from the seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)


def fill(folder: Path, classes: dict[str, int], start: int = 0) -> Path:
    """Class folders with so many different images each."""
    for number, (name, count) in enumerate(classes.items()):
        for image in range(count):
            write(folder / name / f"{image}.png", start + 1000 * number + image)
    return folder


def counts(samples: Samples) -> dict[str, tuple[int, ...]]:
    return {split.name: split.counts for split in samples.summary().splits}


def by_content(samples: Samples) -> dict[tuple[str, int], str]:
    rows = zip(samples.hashes, samples.labels.tolist(), samples.splits, strict=True)
    return {(content, label): split for content, label, split in rows}


def test_unsplit_folder_is_split_70_15_15(tmp_path: Path) -> None:
    samples = scan(fill(tmp_path, {"b": 40, "a": 30}))
    assert samples.classes == ("a", "b")
    assert counts(samples) == {"train": (20, 28), "val": (5, 6), "test": (5, 6)}
    origins = {"train": "given", "val": "set aside", "test": "set aside"}
    assert samples.split_origins == origins
    assert samples.headline_split == "test"
    assert samples.shorter_sides.dtype == np.int32
    assert set(samples.shorter_sides.tolist()) == {5}
    assert len(samples) == 70
    assert all((tmp_path / path).is_file() for path in samples.paths)


def test_shorter_side_of_all_is_that_of_the_one_in_the_middle(tmp_path: Path) -> None:
    for name, sides in (("a", ((9, 4), (5, 8), (100, 100))), ("b", ((4, 4), (6, 9)))):
        (tmp_path / name).mkdir()
        for number, size in enumerate(sides):
            color = (50 * number, 0, 200 if name == "a" else 0)
            Image.new("RGB", size, color).save(tmp_path / name / f"{number}.png")
    assert scan(tmp_path).shorter_side == 5


def test_small_class_means_no_test_split(tmp_path: Path) -> None:
    samples = scan(fill(tmp_path, {"a": 29, "b": 40}))
    assert counts(samples) == {"train": (25, 34), "val": (4, 6)}
    assert samples.headline_split == "val"
    assert samples.indices("test").tolist() == []


def test_two_images_per_class_are_the_least(tmp_path: Path) -> None:
    assert counts(scan(fill(tmp_path, {"a": 2, "b": 2}))) == {"train": (1, 1), "val": (1, 1)}


@pytest.mark.parametrize("val", ["val", "valid", "validation", "VAL"])
def test_given_splits_are_kept(tmp_path: Path, val: str) -> None:
    fill(tmp_path / "train", {"a": 3, "b": 3})
    fill(tmp_path / val, {"a": 2, "b": 1}, start=100)
    fill(tmp_path / "test", {"a": 1, "b": 2}, start=200)
    samples = scan(tmp_path)
    assert counts(samples) == {"train": (3, 3), "val": (2, 1), "test": (1, 2)}
    assert set(samples.split_origins.values()) == {"given"}
    named = {"train": "train", "val": val, "test": "test"}
    for path, split in zip(samples.paths, samples.splits, strict=True):
        assert path.split("/")[0] == named[split]


def test_missing_val_is_15_percent_of_train(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"a": 20, "b": 3})
    fill(tmp_path / "test", {"a": 1, "b": 1}, start=100)
    samples = scan(tmp_path)
    assert counts(samples) == {"train": (17, 2), "val": (3, 1), "test": (1, 1)}
    assert samples.split_origins == {"train": "given", "val": "set aside", "test": "given"}


def test_missing_test_is_set_aside_from_train(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"a": 40, "b": 40})
    fill(tmp_path / "val", {"a": 4, "b": 4}, start=100)
    samples = scan(tmp_path)
    assert counts(samples) == {"train": (34, 34), "val": (4, 4), "test": (6, 6)}
    assert samples.split_origins == {"train": "given", "val": "given", "test": "set aside"}


def test_test_set_aside_never_holds_an_image_of_the_given_val(tmp_path: Path) -> None:
    """Copies that lie in train/ and val/ alike stay in train: in test they would be leaked."""
    folder = tmp_path / "photos"
    fill(folder / "train", {"a": 40, "b": 40})
    for name in ("a", "b"):
        for file in sorted((folder / "train" / name).iterdir())[:30]:
            copy = folder / "val" / name / file.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    samples = scan(folder)
    held = {split: {samples.hashes[i] for i in samples.indices(split)} for split in samples.splits}
    assert held["test"]
    assert not held["test"] & (held["val"] | held["train"])


def test_no_test_split_when_val_holds_everything(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    fill(folder / "train", {"a": 40, "b": 40})
    shutil.copytree(folder / "train", folder / "val")
    samples = scan(folder)
    assert samples.headline_split == "val"
    assert len(samples.indices("test")) == 0


def test_seed_changes_the_split_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 40, "b": 40})
    first, again, other = scan(tmp_path), scan(tmp_path), scan(tmp_path, seed=1)
    assert list(first.splits) == list(again.splits)
    assert first.fingerprint == again.fingerprint
    assert list(first.paths) == list(other.paths)
    assert list(first.splits) != list(other.splits)
    assert first.fingerprint != other.fingerprint


def test_renaming_and_moving_changes_nothing(tmp_path: Path) -> None:
    first = scan(fill(tmp_path / "one", {"a": 30, "b": 35}))
    for number, path in enumerate(sorted((tmp_path / "one").rglob("*.png"))):
        target = (
            tmp_path / "two" / path.parent.name / f"sub{number % 3}" / f"{97 * number % 89}.PNG"
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    second = scan(tmp_path / "two")
    assert len(second) == len(first)
    assert list(second.hashes) == list(first.hashes)
    assert list(second.splits) == list(first.splits)
    assert second.fingerprint == first.fingerprint


def test_copies_share_a_split_even_across_classes(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 30, "b": 30})
    for number in range(10):
        shutil.copy(tmp_path / f"a/{number}.png", tmp_path / f"a/copy{number}.png")
        shutil.copy(tmp_path / f"a/{number}.png", tmp_path / f"b/copy{number}.png")
    samples = scan(tmp_path)
    splits: dict[str, set[str]] = {}
    for content, split in zip(samples.hashes, samples.splits, strict=True):
        splits.setdefault(content, set()).add(split)
    assert {len(names) for names in splits.values()} == {1}


def test_fingerprint_depends_on_labels_contents_and_splits(tmp_path: Path) -> None:
    first = scan(fill(tmp_path, {"a": 4, "b": 4})).fingerprint
    write(tmp_path / "a" / "new.png", 77)
    more = scan(tmp_path).fingerprint
    (tmp_path / "a" / "new.png").rename(tmp_path / "b" / "new.png")
    other = scan(tmp_path).fingerprint
    (tmp_path / "b").rename(tmp_path / "c")
    assert len({first, more, other, scan(tmp_path).fingerprint}) == 4


def test_fingerprint_and_splits_are_those_of_version_0_1(tmp_path: Path) -> None:
    """Records and pixel stores made then are still found."""
    for label in "ab":
        for number in range(40):
            write(tmp_path / label / f"{number}.bmp", number + 100 * (label == "b" and number > 9))
    samples = scan(tmp_path, seed=3)
    assert samples.fingerprint.startswith("86877924dc79b77375d4aa6d4115be48")
    assert DecodedImages(index=samples.index, side=96).key.startswith(
        "e25cc27dc0280e7462158b366a026231"
    )
    splits = hashlib.sha256(" ".join(samples.splits).encode()).hexdigest()
    assert splits.startswith("0e1440856079de73533bd3f5251e8c2a")


def test_only_images_in_class_folders_count(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 4, "b": 4})
    for name in ("a/._0.png", ".hidden/0.png", "a/.git/0.png", "montage.png"):
        write(tmp_path / name, 5)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    write(tmp_path / "a" / "x.tiff", 6)
    (tmp_path / "README").write_text("x")
    assert len(scan(tmp_path)) == 8


@pytest.mark.parametrize(
    "name", ["x.jpg", "x.JPEG", "x.webp", "x.BMP", "deep/er/x.png", "x y é.png"]
)
def test_suffixes_and_subfolders(tmp_path: Path, name: str) -> None:
    fill(tmp_path, {"a": 2, "b": 2})
    write(tmp_path / "a" / name, 9)
    assert f"a/{name}" in scan(tmp_path).paths


def test_class_may_be_called_train(tmp_path: Path) -> None:
    assert scan(fill(tmp_path, {"bus": 3, "train": 3})).classes == ("bus", "train")


def test_symlink_loops_end(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "up").mkdir()
    (tmp_path / "b" / "up" / "loop").symlink_to(tmp_path / "b")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert len(scan(tmp_path)) == 6


def test_loop_brings_no_class_the_images_of_another(tmp_path: Path) -> None:
    fill(tmp_path / "photos", {"a": 3})
    fill(tmp_path / "store", {"x": 4}, start=50)
    (tmp_path / "photos" / "b").symlink_to(tmp_path / "store" / "x")
    (tmp_path / "store" / "x" / "back").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "a" / "up").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "a" / "far").symlink_to(tmp_path)
    samples = scan(tmp_path / "photos")
    assert np.bincount(samples.labels).tolist() == [3, 4]
    named = [samples.classes[label] for label in samples.labels]
    assert [path[0] for path in samples.paths] == named


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    fill(tmp_path / "store", {"x": 3})
    fill(tmp_path / "photos", {"a": 3}, start=50)
    (tmp_path / "photos" / "b").symlink_to(tmp_path / "store" / "x")
    assert scan(tmp_path / "photos").classes == ("a", "b")


def test_progress_counts_every_file(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    scan(fill(tmp_path, {"a": 4, "b": 4}), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 8) for done in range(1, 9)]


def break_text(path: Path) -> None:
    path.write_text("I am no image")


def break_truncated(path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-600])


def break_empty(path: Path) -> None:
    path.write_bytes(b"")


def break_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere.jpg")


def break_pipe(path: Path) -> None:
    os.mkfifo(path)


def break_float(path: Path) -> None:
    Image.new("F", (4, 4)).save(path, format="tiff")


BROKEN = {
    break_text: "not an image of a known format",
    break_truncated: "truncated",
    break_empty: "empty file",
    break_link: "No such file or directory",
    break_pipe: "not a regular file",
    break_float: "floating-point pixels have no known range",
}


@pytest.mark.parametrize("break_it", BROKEN, ids=lambda function: function.__name__)
def test_unreadable_files_are_named_or_skipped(tmp_path: Path, break_it: object) -> None:
    fill(tmp_path, {"a": 3, "b": 3})
    assert callable(break_it)
    break_it(tmp_path / "a" / "bad.jpg")
    reason = BROKEN[break_it]
    with pytest.raises(DataError, match=rf"1 of 7 images cannot be used:\n  a/bad.jpg: .*{reason}"):
        scan(tmp_path)
    with pytest.raises(DataError, match="Repair or remove them, or leave them out with --skip-bad"):
        scan(tmp_path)
    samples = scan(tmp_path, skip_bad=True)
    assert len(samples) == 6
    assert len(samples.skipped) == 1
    assert samples.skipped[0].startswith("a/bad.jpg: ")
    assert samples.summary().skipped == samples.skipped


def test_no_way_out_is_offered_that_leaves_no_image(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        break_text(tmp_path / name / "bad.jpg")
    with pytest.raises(DataError, match="None is left: repair them, or give others") as raised:
        scan(tmp_path)
    assert "--skip-bad" not in str(raised.value)


def test_bombs_are_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, {"a": 3, "b": 3})
    write(tmp_path / "a" / "big.png", 1, size=(20, 20))
    for limit in (300, 100):  # Pillow warns, and refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        samples = scan(tmp_path, skip_bad=True)
        assert [line.partition(":")[0] for line in samples.skipped] == ["a/big.png"]
        assert "bomb" in samples.skipped[0]


def test_ten_unreadable_files_are_named(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 3, "b": 3})
    for number in range(13):
        break_text(tmp_path / "a" / f"bad{number:02d}.png")
    with pytest.raises(DataError, match=r"13 of 19 images .*(?s:.)*bad09.*\n  and 3 others\.\n"):
        scan(tmp_path)


def test_missing_folder_and_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"The folder '.*none' does not exist; give a folder"):
        scan(tmp_path / "none")
    write(tmp_path / "a.png", 0)
    with pytest.raises(DataError, match=r"a.png' is a file; give the folder that holds"):
        scan(tmp_path / "a.png")


def test_folder_without_images_shows_the_layout(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    write(tmp_path / "loose.png", 0)
    with pytest.raises(
        DataError, match=r"holds no readable image .*\nExpected one folder per class"
    ):
        scan(tmp_path)


def test_one_class_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has only one class, 'cat'; expected at least 2"):
        scan(fill(tmp_path, {"cat": 3}))


def test_one_image_per_class_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one image per class, too few to set any aside"):
        scan(fill(tmp_path, {"a": 1, "b": 1}))


def test_class_that_cannot_be_validated_stops_the_scan(tmp_path: Path) -> None:
    message = r"cannot be set aside in .*: val would have no image of 'c'\. Every class needs 2"
    fill(tmp_path, {"a": 5, "b": 5, "c": 1})
    with pytest.raises(DataError, match=message):
        scan(tmp_path)
    shutil.copy(tmp_path / "c" / "0.png", tmp_path / "c" / "copy.png")
    with pytest.raises(DataError, match=message):
        scan(tmp_path)


def test_classes_that_differ_between_splits(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"a": 2, "b": 2, "c": 2})
    fill(tmp_path / "val", {"a": 2, "d": 2})
    with pytest.raises(
        DataError, match="train has no readable image of 'd'; val has no readable image of 'b', 'c'"
    ):
        scan(tmp_path)


def test_class_folder_without_images(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x.gif").write_bytes(b"GIF")
    with pytest.raises(
        DataError, match=r"train has no readable image of 'c'\. .*add images \(\.jpg"
    ):
        scan(tmp_path)


def test_class_left_without_images_after_skipping(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 3, "b": 3, "c": 0})
    (tmp_path / "c").mkdir()
    break_text(tmp_path / "c" / "x.png")
    with pytest.raises(DataError, match="no readable image of 'c'"):
        scan(tmp_path, skip_bad=True)


def test_closed_folders_are_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "a" / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"a/closed' cannot be read \(Permission denied\); change"):
        scan(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX systems alone")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 3, "b": 3})
    name = os.fsdecode(b"bad\xff.png")
    write(tmp_path / "a" / "x.png", 9)
    try:
        (tmp_path / "a" / "x.png").rename(tmp_path / "a" / name)
    except OSError:
        pytest.skip("this file system takes text alone")
    assert f"a/{name}" in scan(tmp_path).paths
    (tmp_path / "a" / name).write_bytes(b"")
    assert scan(tmp_path, skip_bad=True).skipped == (r"a/bad\udcff.png: empty file",)
    (tmp_path / "b").rename(tmp_path / os.fsdecode(b"b\xff"))
    with pytest.raises(DataError, match=r"class name 'b\\udcff' is not printable text; rename"):
        scan(tmp_path, skip_bad=True)


def test_val_twice_is_refused(tmp_path: Path) -> None:
    for name in ("train", "val", "valid"):
        fill(tmp_path / name, {"a": 2, "b": 2})
    with pytest.raises(DataError, match="has both val/ and valid/; keep one"):
        scan(tmp_path)


def test_splits_without_train_are_refused(tmp_path: Path) -> None:
    for name in ("val", "test"):
        fill(tmp_path / name, {"a": 2, "b": 2})
    with pytest.raises(DataError, match="has test/, val/ but no train/"):
        scan(tmp_path)


@pytest.mark.parametrize("name", ["test/1.png", "extra/a/1.png"])
def test_images_beside_the_splits_are_not_dropped_silently(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "train", {"a": 2, "b": 2})
    write(tmp_path / name, 9)
    with pytest.raises(
        DataError, match=rf"images in {name.split('/')[0]}/ that belong to no class"
    ):
        scan(tmp_path)


@pytest.fixture(scope="module")
def photos() -> Path:
    root = os.environ.get("POCKETVISION_TEST_DATA")
    if not root or not (Path(root) / "data/clothing10_192").is_dir():
        pytest.skip("$POCKETVISION_TEST_DATA names no folder with data/clothing10_192")
    return Path(root) / "data/clothing10_192"


def test_real_photos(photos: Path) -> None:
    samples = scan(photos)
    assert Counter(samples.splits) == {"train": 3068, "val": 341, "test": 372}
    assert len(samples.classes) == 10
    assert samples.headline_split == "test"
    assert samples.shorter_sides.min() == 192
    assert samples.skipped == ()
    folders = [path.split("/")[:2] for path in samples.paths]
    named = zip(samples.splits, (samples.classes[label] for label in samples.labels), strict=True)
    assert folders == [list(pair) for pair in named]
