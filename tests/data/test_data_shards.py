from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pocketvision.data import shards
from pocketvision.data.images import scan
from pocketvision.data.index import read_index
from pocketvision.data.stream import open_pixels
from pocketvision.errors import DataError

Entry = tuple[str, bytes]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETVISION_CACHE", str(tmp_path / "cache"))


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, entries: Iterable[Entry]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in entries:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def labelled(labels: str, start: int = 0) -> list[Entry]:
    """key.png and key.cls for each letter."""
    entries: list[Entry] = []
    for number, label in enumerate(labels, start):
        entries += [(f"{number:05}.png", picture(number)), (f"{number:05}.cls", label.encode())]
    return entries


def in_folders(labels: str, start: int = 0) -> list[Entry]:
    """class/key.png for each letter."""
    return [(f"{label}/{n}.png", picture(n)) for n, label in enumerate(labels, start)]


def unpack(shard: Path, folder: Path) -> Path:
    """The images of a shard of class folders, as files."""
    with tarfile.open(shard) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read())
    return folder


def test_shards_give_what_class_folders_give(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "tars" / "0.tar", in_folders("abbaab" * 10))
    write_tar(tmp_path / "labelled" / "0.tar", labelled("abbaab" * 10))
    folders = scan(unpack(shard, tmp_path / "photos"))
    for packed in (scan(shard.parent), scan(tmp_path / "labelled")):
        assert packed.fingerprint == folders.fingerprint
        assert list(packed.splits) == list(folders.splits)
        assert [packed.read(row) for row in range(60)] == [folders.read(row) for row in range(60)]
        rows = np.arange(60)
        assert (open_pixels(packed, 6).take(rows) == open_pixels(folders, 6).take(rows)).all()


def test_paths_name_shard_and_member(tmp_path: Path) -> None:
    write_tar(tmp_path / "train" / "0.tar", labelled("ab"))
    write_tar(tmp_path / "train" / "1.tar", labelled("ab", 10))
    write_tar(tmp_path / "val" / "0.tar", labelled("ba", 20))
    samples = scan(tmp_path)
    assert sorted(samples.paths) == [
        "train/0.tar/00000.png", "train/0.tar/00001.png", "train/1.tar/00010.png",
        "train/1.tar/00011.png", "val/0.tar/00020.png", "val/0.tar/00021.png",
    ]  # fmt: skip
    assert samples.split_origins == {"train": "given", "val": "given"}
    row = list(samples.paths).index("val/0.tar/00020.png")
    assert samples.classes[samples.labels[row]] == "b"
    assert samples.where(row) == str(tmp_path / "val/0.tar/00020.png")


def test_class_folders_in_train_and_shards_in_val(tmp_path: Path) -> None:
    unpack(write_tar(tmp_path / "x" / "0.tar", in_folders("abab")), tmp_path / "photos" / "train")
    write_tar(tmp_path / "photos" / "val" / "0.tar", labelled("ab", 10))
    samples = scan(tmp_path / "photos")
    assert sorted(zip(samples.splits, samples.labels.tolist(), strict=True)) == [
        ("train", 0), ("train", 0), ("train", 1), ("train", 1), ("val", 0), ("val", 1),
    ]  # fmt: skip
    assert all(samples.index.read_unchanged(row) for row in range(6))


@pytest.mark.parametrize(
    ("name", "text", "label"),
    [
        ("x.cls", "1\n", "dog"),
        ("x.cls", " cat ", "cat"),
        ("x.json", json.dumps({"label": "dog", "more": [1]}), "dog"),
        ("x.json", json.dumps({"label": 0}), "cat"),
        ("x.CLS", "2", "2"),  # the name of a class goes before its index
    ],
)
def test_labels_are_names_or_indices(tmp_path: Path, name: str, text: str, label: str) -> None:
    (tmp_path / "classes.txt").write_text("cat\ndog\nbird\n2\n")
    write_tar(tmp_path / "0.tar", [(name, text.encode()), ("x.png", picture(0))])
    found = read_index(tmp_path)
    assert found.classes == ("2", "bird", "cat", "dog")
    assert [found.classes[k] for k in found.labels] == [label]
    assert found.skipped == ()


def test_without_classes_txt_the_labels_are_the_classes(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", labelled("1011", 0))
    assert read_index(tmp_path).classes == ("0", "1")


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([("x.png", b"")], "no label: expected a .cls or .json beside it in the tar, or a class"),
        ([("x.cls", b"7"), ("x.png", b"")], "unknown label '7'; classes.txt has neither that name"),
        ([("ox/x.png", b"")], "unknown label 'ox'"),
        ([("x.cls", b" "), ("x.png", b"")], "label 'x.cls': it is empty"),
        ([("x.cls", b"\xff"), ("x.png", b"")], "label 'x.cls': 'utf-8' codec can't decode"),
        ([("x.json", b"{"), ("x.png", b"")], "label 'x.json': Expecting property name"),
        ([("x.json", b"[1]"), ("x.png", b"")], "label 'x.json': no \"label\" that is a text or"),
        ([("x.json", b'{"label": true}'), ("x.png", b"")], "label 'x.json': no \"label\" that is"),
        ([("x.cls", b"0" * 2_000_000), ("x.png", b"")], "label 'x.cls': not a file of up to"),
        ([("x.json", b"[" * 500_000), ("x.png", b"")], "label 'x.json': nested too deeply to be"),
        ([("a/x.png", b"")], "empty file"),
        ([("a/x.png", b"no image")], "not an image of a known format"),
    ],
)
def test_members_that_cannot_be_used(tmp_path: Path, entries: list[Entry], reason: str) -> None:
    (tmp_path / "classes.txt").write_text("a\nb\n")
    write_tar(tmp_path / "0.tar", [*labelled("abab"), *entries])
    samples = scan(tmp_path, skip_bad=True)
    assert len(samples) == 4
    (line,) = samples.skipped
    assert line.startswith(f"0.tar/{entries[-1][0]}: {reason}")
    with pytest.raises(DataError, match="1 of 5 images cannot be used"):
        scan(tmp_path)


def test_tar_without_any_label_says_so(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [("x.png", picture(0)), ("y.png", picture(1))])
    with pytest.raises(DataError, match=r"2 of 2 images cannot be used:\n  0.tar/x.png: no label"):
        scan(tmp_path, skip_bad=True)


def test_links_in_a_tar_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(0))
    shard = write_tar(tmp_path / "photos" / "0.tar", in_folders("abab"))
    with tarfile.open(shard, "a") as tar:
        for name, kind in (("a/hard.png", tarfile.LNKTYPE), ("a/soft.png", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "../../secret.png"
            tar.addfile(member)
    samples = scan(tmp_path / "photos", skip_bad=True)
    assert len(samples) == 4
    assert [line.split(": ")[1][:20] for line in samples.skipped] == ["a link or a sparse f"] * 2


@pytest.mark.parametrize("name", ["../../a/x.png", "/a/x.png", "./a/x.png", "a/../../x.png"])
def test_path_tricks_are_names_and_nothing_more(tmp_path: Path, name: str) -> None:
    shard = write_tar(tmp_path / "photos" / "0.tar", [*in_folders("bb"), (name, picture(9))])
    before = sorted(tmp_path.rglob("*"))
    found = read_index(shard.parent)
    assert found.classes == ("a", "b")
    (row,) = np.flatnonzero(found.labels == 0)
    assert found.read_unchanged(int(row)) == picture(9)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["0.tar.gz", "0.tgz", "0.tar.zst", "0.tar"])
def test_compressed_shards_are_refused(tmp_path: Path, name: str) -> None:
    shard = write_tar(tmp_path / "0.tar", in_folders("abab"))
    content = gzip.compress(shard.read_bytes())
    shard.unlink()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}' is compressed, .* unpack it to a plain .tar"):
        scan(tmp_path)


def test_shard_that_is_cut_off(tmp_path: Path) -> None:
    """The last image before the cut is left out: its label might be what is missing."""
    shard = write_tar(tmp_path / "0.tar", in_folders("ababab"))
    whole = shard.read_bytes()
    end = 6 * 1024
    for cut, images in ((end, 5), (end - 100, 5), (3 * 1024 + 700, 2), (3 * 1024 + 100, 2)):
        shard.write_bytes(whole[:cut])
        found = read_index(tmp_path)
        assert len(found) == images
        (entry,) = found.skipped
        assert entry.path == "0.tar"
        assert entry.reason.startswith(f"damaged or cut off after {images} images (")
    with pytest.raises(DataError, match=r"1 of 3 images cannot be used:\n  0.tar: damaged or cut"):
        scan(tmp_path)


def test_header_that_is_damaged_drops_no_image_in_silence(tmp_path: Path) -> None:
    """Python's reader takes it for the end of the shard."""
    shard = write_tar(tmp_path / "0.tar", labelled("ababab"))
    content = bytearray(shard.read_bytes())
    content[6 * 1024] ^= 1  # the name of the fourth image
    shard.write_bytes(content)
    found = read_index(tmp_path)
    assert len(found) == 2
    (entry,) = found.skipped
    assert entry.reason == "damaged or cut off after 2 images (the header at byte 6144 is damaged)"
    with pytest.raises(DataError, match=r"0\.tar: damaged or cut off after 2 images \(the header"):
        scan(tmp_path)


def test_tar_files_put_together_are_told(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "0.tar", labelled("abab"))
    whole = shard.read_bytes()
    shard.write_bytes(whole + bytes(1 << 21) + whole)
    found = read_index(tmp_path)
    assert len(found) == 4
    with pytest.raises(DataError, match=r"after 4 images \(it goes on behind its end mark, as"):
        scan(tmp_path)
    shard.write_bytes(whole + bytes(1 << 21))
    assert read_index(tmp_path).skipped == ()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_pipe_is_no_shard_and_is_not_waited_for(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", labelled("abab"))
    os.mkfifo(tmp_path / "1.tar")
    with pytest.raises(DataError, match=r"1 of 5 images cannot be used:\n  1\.tar: not a reg"):
        scan(tmp_path)


def test_members_and_files_far_too_large_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tar(tmp_path / "tars" / "0.tar", in_folders("abab"))
    unpack(tmp_path / "tars" / "0.tar", tmp_path / "photos")
    monkeypatch.setattr(shards, "MAX_IMAGE_BYTES", 10)
    for folder in ("tars", "photos"):
        with pytest.raises(DataError, match=r"4 of 4 .*\n.*\.png: too large: \d+ B; an i.* 10 B"):
            scan(tmp_path / folder)


@pytest.mark.parametrize("content", [b"", b"I am no tar file" * 64])
def test_files_that_are_no_tar(tmp_path: Path, content: bytes) -> None:
    write_tar(tmp_path / "0.tar", in_folders("abab"))
    (tmp_path / "1.tar").write_bytes(content)
    assert [line[:8] for line in scan(tmp_path, skip_bad=True).skipped] == ["1.tar: d"]


def test_shard_that_changed_since(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "0.tar", in_folders("abab"))
    found = read_index(tmp_path)
    write_tar(shard, in_folders("abab", start=50))
    with pytest.raises(DataError, match=r"0.tar/.*was changed after it was scanned"):
        found.read_unchanged(0)
    shard.write_bytes(b"short")
    with pytest.raises(DataError, match=r"but not now \(the tar file ends before this member"):
        found.read_unchanged(3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a\nb\na\n", "has 3 names, 2 of them different"),
        (b"\n", "has 0 names"),
        (b"a\n \nb\n", "has no name in line 2, and what follows is numbered by its line"),
        (b"\xff\n", "is no UTF-8 text"),
        (b"a" * (1 << 24) + b"\n", r"classes.txt' has 16\.8 MB; expected the name of each class"),
    ],
)
def test_classes_txt_that_cannot_be_used(tmp_path: Path, text: bytes, message: str) -> None:
    write_tar(tmp_path / "0.tar", labelled("abab"))
    (tmp_path / "classes.txt").write_bytes(text)
    with pytest.raises(DataError, match=message):
        scan(tmp_path)


def test_class_of_classes_txt_without_images_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", labelled("abab"))
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    with pytest.raises(DataError, match="train has no readable image of 'c'"):
        scan(tmp_path)


def test_names_of_shards_tell_the_splits(tmp_path: Path) -> None:
    for number, name in enumerate(("set-train-0.tar", "set-train-1.tar", "set-val.tar")):
        write_tar(tmp_path / name, labelled("ab", 10 * number))
    samples = scan(tmp_path)
    assert sorted(samples.splits) == ["train"] * 4 + ["val"] * 2
    write_tar(tmp_path / "more.tar", labelled("ab", 50))
    with pytest.raises(DataError, match=r"named after splits, but 'more.tar' names none; name all"):
        scan(tmp_path)
    for name in ("more.tar", "set-train-0.tar", "set-train-1.tar"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match=r"named after splits, but none named train"):
        scan(tmp_path)


def test_class_folders_go_before_stray_tar_files(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "0.tar", in_folders("abab"))
    unpack(shard, tmp_path / "photos")
    (tmp_path / "photos" / "backup.tar").write_bytes(shard.read_bytes())
    (tmp_path / "photos" / "backup.tar.gz").write_bytes(b"")
    assert len(scan(tmp_path / "photos")) == 4


def test_members_beside_the_images_are_passed_over(tmp_path: Path) -> None:
    others = [("._a.png", b"x"), ("a/.hidden.png", b"x"), ("README.txt", b"x"), ("a/n.txt", b"x")]
    write_tar(tmp_path / "0.tar", [*in_folders("abab"), *others])
    assert read_index(tmp_path).skipped == ()
