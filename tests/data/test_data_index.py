from __future__ import annotations

import errno
import hashlib
import os
import pickle
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pocketvision.data import index as index_module
from pocketvision.data.columns import Coded, HexDigests, Texts
from pocketvision.data.folders import SPLITS, list_images
from pocketvision.data.images import scan
from pocketvision.data.index import MODES, Index, clean_line, read_clean_list, read_index
from pocketvision.data.looks import look_of
from pocketvision.data.pixels import FORMATS, open_image
from pocketvision.errors import DataError

MARKUP = "<b>&amp; é\n'\""  # a name that is legal, and trouble everywhere it is printed


def picture(seed: int, size: tuple[int, int] = (6, 5)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def fill(folder: Path, names: list[str], start: int = 0) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(start + number).save(folder / name, format="png")
    return folder


def small(tmp_path: Path) -> Path:
    return fill(tmp_path / "photos", [f"{c}/{n}.png" for c in "ab" for n in range(3)])


def test_rows_say_what_the_files_are(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    fill(folder / "train", ["a/x.png", "b/y.png"])
    fill(folder / "val", ["a/z.png"], start=5)
    (folder / "val" / "c").mkdir()
    found = read_index(folder)
    assert len(found) == 3
    assert found.root == folder
    assert found.classes == ("a", "b", "c")
    by_path = {path: row for row, path in enumerate(found.paths)}
    assert set(by_path) == {"train/a/x.png", "train/b/y.png", "val/a/z.png"}
    for path, row in by_path.items():
        split, label, _ = path.split("/")
        content = (folder / path).read_bytes()
        assert SPLITS[found.splits[row]] == split
        assert found.classes[found.labels[row]] == label
        assert found.hashes[row].tobytes() == hashlib.sha256(content).digest()
        assert found.looks[row] == look_of(Image.open(folder / path).convert("RGB"))
        assert found.sizes[row].tolist() == [6, 5]
        assert found.read(row) == content == found.read_unchanged(row)
        assert found.where(row) == str(folder / path)
    columns = (found.labels, found.splits, found.hashes, found.looks, found.sizes, found.formats)
    assert [column.dtype for column in columns] == [
        np.int32, np.int8, np.uint8, np.uint64, np.int32, np.int8,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "name", "format_", "named"),
    [
        ("RGB", "x.jpg", "JPEG", "colour"),
        ("L", "x.jpg", "JPEG", "grey"),
        ("1", "x.png", "PNG", "grey"),
        ("RGBA", "x.png", "PNG", "transparent"),
        ("LA", "x.png", "PNG", "transparent"),
        ("P", "x.bmp", "BMP", "palette"),
        ("I;16", "x.png", "PNG", "16-bit"),
        ("CMYK", "x.jpg", "JPEG", "cmyk"),
        ("RGB", "x.webp", "WEBP", "colour"),
        ("RGB", "x.jpg", "PNG", "colour"),  # a name that lies
    ],
)
def test_format_and_mode_are_those_of_the_content(
    tmp_path: Path, mode: str, name: str, format_: str, named: str
) -> None:
    folder = small(tmp_path)
    size = (40, 30)
    image = picture(1, size).quantize() if mode == "P" else Image.new(mode, size)
    image.save(folder / "a" / name, format=format_)
    found = read_index(folder)
    (row,) = (row for row, path in enumerate(found.paths) if path == f"a/{name}")
    assert FORMATS[found.formats[row]] == format_
    assert MODES[found.modes[row]] == named
    assert found.sizes[row].tolist() == [40, 30]


def test_jpeg_of_several_pictures_is_a_jpeg(tmp_path: Path) -> None:
    folder = small(tmp_path)
    picture(1).save(folder / "a" / "x.jpg", "MPO", save_all=True, append_images=[picture(2)])
    found = read_index(folder)
    (row,) = (row for row, path in enumerate(found.paths) if path == "a/x.jpg")
    assert FORMATS[found.formats[row]] == "JPEG"


def test_order_is_class_then_content_then_path(tmp_path: Path) -> None:
    folder = small(tmp_path)
    for name in ("a/9.png", "a/sub/0.png", "b/copy.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "a" / "1.png", folder / name)
    found = read_index(folder)
    keys = [
        (int(label), content.tobytes(), path)
        for label, content, path in zip(found.labels, found.hashes, found.paths, strict=True)
    ]
    assert keys == sorted(keys)


def test_files_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    folder = small(tmp_path)
    (folder / "a" / "bad.jpg").write_bytes(b"no image")
    found = read_index(folder)
    assert len(found) == 6
    assert [tuple(entry) for entry in found.skipped] == [
        ("a/bad.jpg", "train", "a", f"not an image of a known format ({', '.join(FORMATS)})")
    ]
    assert str(found.skipped[0]).startswith("a/bad.jpg: not an image")


def test_file_without_read_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, opened = small(tmp_path), os.open

    def refuse(path: str | os.PathLike[str], *flags: int) -> int:
        if os.fspath(path).endswith("1.png"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, *flags)

    monkeypatch.setattr(os, "open", refuse)
    assert [str(entry) for entry in read_index(folder).skipped] == [
        "a/1.png: Permission denied",
        "b/1.png: Permission denied",
    ]
    with pytest.raises(DataError, match=r"2 of 6 images cannot be used:\n  a/1.png: Permission"):
        scan(folder)


def test_file_that_is_cut_while_it_is_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is hashed is what is decoded: a half-written file never counts as an image."""
    folder, opened = small(tmp_path), open_image

    def cut_meanwhile(source: object) -> Image.Image:
        for path in folder.rglob("*.png"):
            path.write_bytes(b"rewritten by another program")
        return opened(source)  # type: ignore[arg-type]

    whole = {content.tobytes() for content in read_index(folder).hashes}
    monkeypatch.setattr(index_module, "open_image", cut_meanwhile)
    found = read_index(folder)
    assert {content.tobytes() for content in found.hashes} <= whole
    assert len(found) + len(found.skipped) == 6


def test_file_that_changed_since_is_refused(tmp_path: Path) -> None:
    found = read_index(small(tmp_path))
    path = found.root / found.paths[2]
    path.write_bytes(path.read_bytes() + b"!")
    assert found.read(2).endswith(b"!")
    with pytest.raises(DataError, match="was changed after it was scanned; scan the folder again"):
        found.read_unchanged(2)
    path.unlink()
    with pytest.raises(DataError, match="could be read when it was scanned, but not now"):
        found.read_unchanged(2)


@pytest.mark.skipif(os.name != "posix", reason="such names are not allowed elsewhere")
def test_any_name_is_taken_and_found_again(tmp_path: Path) -> None:
    names = [f"{c}/{name}.png" for c in ("a", "b") for name in (MARKUP, " ", "#", "\\n", "ü" * 80)]
    found = read_index(fill(tmp_path, names))
    assert set(found.paths) == set(names)
    assert all(found.read(row) for row in range(len(found)))


@pytest.mark.skipif(os.name != "posix", reason="such names are not allowed elsewhere")
def test_clean_list_comes_back(tmp_path: Path) -> None:
    names = ["a/x.png", "#b/y.png", "a/two\nlines.png", "a/back\\nslash.png", " b/é .png", "a/\r"]
    file = tmp_path / "clean.txt"
    file.write_text("# written by doctor\n\n" + "".join(f"{clean_line(name)}\n" for name in names))
    assert read_clean_list(file) == set(names)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_clean_line_is_one_line_that_is_no_comment(name: str) -> None:
    line = clean_line(name)
    assert "\n" not in line
    assert not line.startswith("#")
    assert index_module._unescape(line) == name


def test_only_the_files_of_a_clean_list_are_read(tmp_path: Path) -> None:
    folder, clean = small(tmp_path), tmp_path / "clean.txt"
    (folder / "a" / "bad.png").write_bytes(b"no image, and not in the list")
    clean.write_bytes(b"# clean\r\na/0.png\r\na/2.png\r\nb/1.png\r\nb/2.png\r\n")
    found = read_index(folder, only=clean)
    assert sorted(found.paths) == ["a/0.png", "a/2.png", "b/1.png", "b/2.png"]
    assert found.skipped == ()
    assert sorted(scan(folder, only=clean).splits) == ["train", "train", "val", "val"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nothing\n\n", r"The list '.*clean.txt' names no file; expected one path a line"),
        ("a/0.png\na/gone.png\nb/x.png\n", r"names 2 files that are not in .*'a/gone.png', 'b/x.p"),
    ],
)
def test_clean_lists_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    folder, clean = small(tmp_path), tmp_path / "clean.txt"
    clean.write_text(text)
    with pytest.raises(DataError, match=message):
        read_index(folder, only=clean)
    clean.unlink()
    with pytest.raises(DataError, match=r"The list '.*' cannot be read \(No such file"):
        read_index(folder, only=clean)


def test_symlink_loops_end(tmp_path: Path) -> None:
    folder = small(tmp_path)
    (folder / "a" / "loop").symlink_to(folder)
    (folder / "a" / "self.png").symlink_to(folder / "a" / "self.png")
    found = read_index(folder)
    assert [str(entry) for entry in found.skipped] == [
        "a/self.png: Too many levels of symbolic links"
    ]
    assert len(list_images(folder)) < 30


def test_index_can_be_sent_to_another_process(tmp_path: Path) -> None:
    found = read_index(small(tmp_path))
    again: Index = pickle.loads(pickle.dumps(found))
    assert list(again.paths) == list(found.paths)
    assert again.read_unchanged(4) == found.read(4)


@given(st.lists(st.text(max_size=9)), st.randoms())
def test_texts_are_a_sequence_of_strings(texts: list[str], random: object) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    column = Texts.of(texts)
    assert list(column) == texts
    assert len(column) == len(texts)
    assert list(column[1:-1]) == texts[1:-1]
    rows = np.arange(len(texts))[::-1].astype(np.int64)
    assert list(column.take(rows)) == texts[::-1]
    with pytest.raises(IndexError):
        column[len(texts)]


def test_views_read_like_the_texts_they_stand_for() -> None:
    hexadecimal = HexDigests(np.arange(64, dtype=np.uint8).reshape(2, 32))
    assert hexadecimal[0] == bytes(range(32)).hex()
    assert list(hexadecimal[1:]) == [bytes(range(32, 64)).hex()]
    coded = Coded(np.array([2, 0], dtype=np.int8), SPLITS)
    assert list(coded) == ["test", "train"]
    assert list(coded[:1]) == ["test"]


def test_a_listed_file_takes_few_bytes(tmp_path: Path) -> None:
    """Names, classes and splits of 20,000 files; benchmarks/data_scale.py measures a million."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(100):
            (tmp_path / name / f"{number:09}.jpg").touch()
    many = [entry for entry in os.walk(tmp_path) if entry[2]]
    repeated = [(p, d, [f"{n}-{f}" for n in range(100) for f in fs]) for p, d, fs in many]

    def taken() -> int:
        before = tracemalloc.get_traced_memory()[0]
        listing = list_images(tmp_path)
        assert len(listing) == 20_000
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "walk", lambda top, **_: [e for e in repeated if e[0] == str(top)])
            # The first may enlarge the interpreter's own table of strings.
            least = min(taken(), taken())
    finally:
        tracemalloc.stop()
    assert 20 < least / 20_000 < 80
