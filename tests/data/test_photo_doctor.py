from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import pytest
from faulty_photos import CLASSES, FAULTS, faulty_photos, photo, save, sound_photos
from index_columns import columns
from PIL import Image

from pocketvision.data import copies
from pocketvision.data.clean import write_clean_list
from pocketvision.data.doctor import PhotoFindings, examine_index
from pocketvision.data.findings import FileFinding
from pocketvision.data.index import MODES, read_index
from pocketvision.data.pixels import FORMATS

SEVERITIES = {
    **dict.fromkeys(("unreadable", "truncated", "empty", "decompression-bomb"), "error"),
    **dict.fromkeys(("contradictory-labels", "copies-across-splits", "class-missing"), "error"),
    **dict.fromkeys(("near-within-split", "mixed-modes", "extension", "small-images"), "note"),
}


def examine(folder: Path, only: Path | None = None) -> PhotoFindings:
    return examine_index(read_index(folder, only=only))


def by_code(found: PhotoFindings) -> dict[str, FileFinding]:
    return {one.finding.code: one for one in found.findings}


def sentence(found: PhotoFindings, code: str) -> str:
    return by_code(found)[code].finding.sentence


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_photos(tmp_path_factory.mktemp("sound") / "photos")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faulty_photos(tmp_path_factory.mktemp("faulty") / "photos")


@pytest.fixture
def photos(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound folder, to be spoilt."""
    return Path(shutil.copytree(sound, tmp_path / "photos"))


def test_sound_photos_have_no_finding(sound: Path) -> None:
    found = examine(sound)
    assert found.findings == ()
    assert found.left_out == ()
    assert found.exit_code == 0
    assert found.images == 108
    assert found.classes == CLASSES
    assert found.counts == {"train": (24,) * 3, "val": (6,) * 3, "test": (6,) * 3}


@pytest.mark.parametrize("code", FAULTS)
def test_every_fault_is_found(photos: Path, code: str) -> None:
    FAULTS[code](photos)
    found = examine(photos)
    one = by_code(found)[code]
    assert one.finding.severity == SEVERITIES.get(code, "warning")
    assert all((photos / file).exists() for file in one.files)
    only_notes = all(other.finding.severity == "note" for other in found.findings)
    assert found.exit_code == (0 if only_notes else 1)


def test_all_faults_at_once_the_gravest_first(faulty: Path) -> None:
    found = examine(faulty)
    severities = [one.finding.severity for one in found.findings]
    assert severities == sorted(severities, key=("error", "warning", "note").index)
    assert found.findings[0].finding.code == "contradictory-labels"
    assert set(by_code(found)) == set(FAULTS)
    assert found.exit_code == 1


def test_copies_are_named_with_what_they_copy(faulty: Path) -> None:
    found = examine(faulty)
    assert sentence(found, "contradictory-labels").startswith(
        "1 image with different labels, the files being equal: "
        "train/cat/02.jpg = train/dog/cat or dog.jpg. "
    )
    assert sentence(found, "copies-across-splits").startswith(
        "1 of 31 test images are in another split too, the files being equal: "
        "test/dog/01.jpg = train/dog/seen.jpg. "
    )
    assert "test/dog/00.jpg ~ train/dog/darker.jpg" in sentence(found, "near-across-splits")
    assert by_code(found)["near-contradictory-labels"].files == (
        "train/dog/cat again.jpg",
        "train/cat/04.jpg",
    )
    assert by_code(found)["near-within-split"].files == ("train/cat/03.jpg", "train/cat/larger.jpg")
    assert "train/cat/a\\nb again.jpg = train/cat/a\\nb.jpg" in sentence(
        found, "copies-within-split"
    )


def test_files_that_cannot_be_used_are_told_apart(faulty: Path) -> None:
    found = examine(faulty)
    assert by_code(found)["empty"].files == ("train/cat/empty.jpg",)
    assert by_code(found)["truncated"].files == ("train/cat/cut.jpg",)
    assert by_code(found)["unreadable"].files == ("train/cat/dangling.jpg", "train/cat/notes.jpg")
    assert sentence(found, "decompression-bomb").startswith(
        "1 oversized image: train/dog/bomb.png: Image size (2500000000 pixels) exceeds limit"
    )
    assert "leave them out with --skip-bad or a clean list." in sentence(found, "truncated")


def test_class_of_one_image_is_an_error_where_val_is_set_aside(tmp_path: Path) -> None:
    for label, (name, count) in enumerate({"cat": 4, "dog": 4, "lonely": 1}.items()):
        for number in range(count):
            save(tmp_path / name / f"{number}.jpg", 100 * label + number)
    found = by_code(examine(tmp_path))["one-image"].finding
    assert found.severity == "error"
    assert found.sentence.startswith("lonely: one image")
    assert found.sentence.endswith("Add images, or remove the class.")


def test_classes_and_files_are_told_with_figures(faulty: Path) -> None:
    found = examine(faulty)
    assert sentence(found, "class-missing").startswith(
        "val has no readable image of lonely; test has no readable image of lonely. "
    )
    assert sentence(found, "one-image").startswith("lonely: one image")
    assert sentence(found, "tiny-classes").startswith("rare (3): fewer than 20 images")
    assert sentence(found, "imbalance").startswith(
        "train has 274 images of cat, but 1 of lonely; --class-weights makes"
    )
    assert "away: grey (grey: 100%, others 0%)." in sentence(found, "mode-shortcut")
    assert "away: drawn (PNG: 100%, others 0%)." in sentence(found, "format-shortcut")
    assert "402 colour, 36 grey" in sentence(found, "mixed-modes")
    assert "train/cat/really_png.jpg is PNG" in sentence(found, "extension")
    assert "train/cat/stamp.png (20x16)" in sentence(found, "small-images")


def test_near_copies_could_be_parted_where_a_split_is_set_aside(tmp_path: Path) -> None:
    for number in range(40):
        save(tmp_path / "a" / f"{number}.jpg", number)
        save(tmp_path / "b" / f"{number}.jpg", 100 + number)
    photo(7).save(tmp_path / "a" / "again.jpg", quality=60)
    index = read_index(tmp_path)
    found = examine_index(index)
    assert by_code(found)["near-within-split"].finding.severity == "warning"
    assert "The split that `fit` sets aside may part them" in sentence(found, "near-within-split")
    (rule,) = found.left_out
    assert rule.why == "that look like another, and could be parted from it"
    assert index.paths[int(rule.rows[0])] in ("a/7.jpg", "a/again.jpg")
    assert sentence(found, "set-aside") == (
        "No val and no test: `fit` sets 15% of each class aside for each, by content."
    )


def test_too_few_images_for_a_test_split_are_told(tmp_path: Path) -> None:
    for number in range(29):
        save(tmp_path / "a" / f"{number}.jpg", number)
        save(tmp_path / "b" / f"{number}.jpg", 100 + number)
    found = examine(tmp_path)
    assert "No val: `fit` sets 15% of each class aside for it" in sentence(found, "set-aside")
    assert "a has 29 images (30 are needed to set one aside)" in sentence(found, "no-test")
    assert found.exit_code == 0


def test_folder_without_images(tmp_path: Path) -> None:
    found = examine(tmp_path)
    assert [one.finding.code for one in found.findings] == ["no-images"]
    assert found.exit_code == 1


def test_one_class_is_too_few(tmp_path: Path) -> None:
    for number in range(20):
        save(tmp_path / "cat" / f"{number}.jpg", number)
    assert "Only one class, 'cat'; put images of others" in sentence(examine(tmp_path), "one-class")


def test_class_names_that_cannot_be_printed(photos: Path) -> None:
    (photos / "train" / "a\nb").mkdir()
    found = examine(photos)
    assert sentence(found, "class-names").startswith("Class names that cannot be printed: a\\nb; ")


def test_closed_file_is_unreadable(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refuse(path: str, *rest: int) -> int:
        if str(path).endswith("train/cat/03.jpg"):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *rest)

    monkeypatch.setattr(os, "open", refuse)
    found = examine(photos)
    assert "train/cat/03.jpg: Permission denied" in sentence(found, "unreadable")


def test_images_in_shards_are_examined(photos: Path, tmp_path: Path) -> None:
    FAULTS["contradictory-labels"](photos)
    FAULTS["near-across-splits"](photos)
    FAULTS["truncated"](photos)
    for split in ("train", "val", "test"):
        (tmp_path / "shards" / split).mkdir(parents=True)
        with tarfile.open(tmp_path / "shards" / split / "0.tar", "w") as shard:
            for folder in sorted((photos / split).iterdir()):
                shard.add(folder, folder.name)
    index = read_index(tmp_path / "shards")
    found = examine_index(index)
    assert sentence(found, "contradictory-labels").startswith(
        "1 image with different labels, the files being equal: "
        "train/0.tar/cat/02.jpg = train/0.tar/dog/cat or dog.jpg. "
    )
    assert by_code(found)["truncated"].files == ("train/0.tar/cat/cut.jpg",)
    assert "near-across-splits" in by_code(found)
    write_clean_list(tmp_path / "clean.txt", index, found.left_out)
    assert examine(tmp_path / "shards", tmp_path / "clean.txt").findings == ()


def test_file_that_changes_after_it_was_indexed_is_near_to_none(photos: Path) -> None:
    FAULTS["near-within-split"](photos)
    index = read_index(photos)
    (photos / "train/cat/larger.jpg").write_bytes(b"other")
    assert examine_index(index).findings == ()


def test_comparison_that_was_cut_short_is_told(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FAULTS["near-within-split"](photos)
    monkeypatch.setattr(copies, "MOST_PAIRS", 1)
    assert "pairs of images have similar hashes" in sentence(examine(photos), "near-unfinished")


@pytest.mark.parametrize(("rare", "told"), [(21, False), (20, True)])
def test_imbalance_is_told_from_ten_to_one(rare: int, told: bool) -> None:
    found = examine_index(columns([0] * 200 + [1] * rare))
    assert ("imbalance" in by_code(found)) == told


@pytest.mark.parametrize(
    ("of_a", "of_b", "told"),
    [(40, 0, True), (20, 4, True), (19, 0, False), (20, 5, False), (0, 0, False), (40, 40, False)],
)
def test_mode_that_gives_a_class_away(of_a: int, of_b: int, told: bool) -> None:
    """Half of one class and at most a tenth of the others."""
    grey = MODES.index("grey")
    modes = [grey] * of_a + [0] * (40 - of_a) + [grey] * of_b + [0] * (40 - of_b)
    found = examine_index(columns([0] * 40 + [1] * 40, modes=modes))
    assert ("mode-shortcut" in by_code(found)) == told


def test_format_that_gives_a_class_away_names_its_files() -> None:
    png = FORMATS.index("PNG")
    formats = [0] * 40 + [png] * 39 + [0]
    found = examine_index(columns([0] * 40 + [1] * 40, formats=formats))
    one = by_code(found)["format-shortcut"]
    assert "a (JPEG: 100%, others 2%), b (PNG: 98%, others 0%)" in one.finding.sentence
    assert len(one.files) == 79


def test_transparent_images_are_a_mode_of_their_own(photos: Path) -> None:
    Image.new("RGBA", (64, 64), (1, 2, 3, 4)).save(photos / "train/cat/glass.png")
    assert "108 colour, 1 transparent" in sentence(examine(photos), "mixed-modes")


def test_real_photos_have_one_garment_in_two_classes() -> None:
    root = os.environ.get("POCKETVISION_TEST_DATA")
    if not root or not (Path(root) / "data/clothing10_192").is_dir():
        pytest.skip("$POCKETVISION_TEST_DATA names no folder with data/clothing10_192")
    found = examine(Path(root) / "data/clothing10_192")
    assert [one.finding.code for one in found.findings] == ["near-contradictory-labels"]
    assert [file.split("/")[1] for file in found.findings[0].files] == ["skirt", "shorts"]
