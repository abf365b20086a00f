from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from pocketvision.data import cache
from pocketvision.data.cache import DecodedImages, cache_folder, pixel_store, store_bytes
from pocketvision.data.images import Samples, scan
from pocketvision.data.pixels import load_pixels
from pocketvision.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def pixels_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POCKETVISION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pixels"


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return scan(tmp_path / "photos")


def decoded(samples: Samples, side: int) -> DecodedImages:
    return DecodedImages(index=samples.index, side=side)


def stores(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail(*_: object) -> None:
    raise AssertionError("decoded again")


@pytest.mark.parametrize("side", [4, 7, 12])
def test_row_i_is_file_i(samples: Samples, side: int) -> None:
    store = pixel_store(decoded(samples, side))
    assert store.shape == (8, side, side, 3)
    assert store.dtype == np.uint8
    assert store.nbytes == store_bytes(8, side)
    assert not store.flags.writeable
    for row, path in zip(store, samples.paths, strict=True):
        assert (row == load_pixels(samples.root / path, side)).all()


def test_whole_images_are_stretched_and_have_a_store_of_their_own(samples: Samples) -> None:
    whole = DecodedImages(index=samples.index, side=5, whole=True)
    store, centres = pixel_store(whole), pixel_store(decoded(samples, 5))
    for row, path in zip(store, samples.paths, strict=True):
        assert (row == load_pixels(samples.root / path, 5, whole=True)).all()
    assert whole.key != decoded(samples, 5).key
    assert (store != centres).any()


def test_second_use_decodes_nothing(
    samples: Samples, pixels_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = np.array(pixel_store(decoded(samples, 5)))
    monkeypatch.setattr(cache, "decode_all", fail)
    assert (pixel_store(decoded(samples, 5)) == first).all()
    assert len(stores(pixels_folder)) == 1
    with pytest.raises(AssertionError, match="decoded again"):
        pixel_store(decoded(samples, 6))


def test_renamed_and_moved_files_find_their_store(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = np.array(pixel_store(decoded(samples, 5)))
    (samples.root / "a" / "0.png").rename(samples.root / "a" / "zzz.png")
    moved = samples.root.rename(samples.root.with_name("moved"))
    monkeypatch.setattr(cache, "decode_all", fail)
    assert (pixel_store(decoded(scan(moved), 5)) == first).all()


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 10_000])
def test_broken_store_is_rebuilt(samples: Samples, pixels_folder: Path, content: bytes) -> None:
    first = np.array(pixel_store(decoded(samples, 5)))
    (pixels_folder / stores(pixels_folder)[0]).write_bytes(content)
    assert (pixel_store(decoded(samples, 5)) == first).all()


def test_progress_counts_every_image(samples: Samples) -> None:
    seen: list[tuple[int, int]] = []
    pixel_store(decoded(samples, 5), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 8) for done in range(1, 9)]


def test_interrupted_build_leaves_nothing(samples: Samples, pixels_folder: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pixel_store(decoded(samples, 5), progress=stop)
    assert stores(pixels_folder) == []


class Spoiling(NamedTuple):
    change: Callable[[Path], object]
    message: str


@pytest.mark.parametrize(
    "spoiling",
    [
        Spoiling(Path.unlink, r"could be read when it was scanned, but not now \(No such file"),
        Spoiling(lambda path: path.write_bytes(b"new"), "was changed after it was scanned"),
    ],
)
def test_files_changed_since_the_scan(
    samples: Samples, pixels_folder: Path, spoiling: Spoiling
) -> None:
    spoiling.change(samples.root / samples.paths[3])
    with pytest.raises(DataError, match=rf"{spoiling.message}.*; scan the folder again"):
        pixel_store(decoded(samples, 5))
    assert stores(pixels_folder) == []


def test_longest_unused_stores_go_first(
    samples: Samples, pixels_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETVISION_CACHE_LIMIT", f"{store_bytes(8, 5) * 3 + 10}B")
    names: dict[int, str] = {}
    for age, crop in ((300, 0), (200, 1), (100, 2)):
        before = set(stores(pixels_folder)) if pixels_folder.exists() else set()
        pixel_store(decoded(subset(samples, crop), 5))
        (name,) = set(stores(pixels_folder)) - before
        names[crop] = name
        past = time.time() - age
        os.utime(pixels_folder / name, (past, past))
    assert len(stores(pixels_folder)) == 3
    pixel_store(decoded(subset(samples, 0), 5))  # used again: no longer the oldest
    store = pixel_store(decoded(samples, 6))
    assert store.shape == (8, 6, 6, 3)
    left = stores(pixels_folder)
    assert names[0] in left
    assert names[1] not in left
    assert (
        sum(path.stat().st_size for path in pixels_folder.iterdir()) <= store_bytes(8, 5) * 3 + 10
    )


def subset(samples: Samples, turn: int) -> Samples:
    """The same files in another order: another store of the same size."""
    order = np.roll(np.arange(len(samples)), turn)
    index = replace(
        samples.index,
        paths=[samples.paths[row] for row in order.tolist()],
        labels=samples.index.labels[order],
        hashes=samples.index.hashes[order],
    )
    return replace(samples, index=index, split_codes=samples.split_codes[order])


def test_abandoned_builds_are_removed(samples: Samples, pixels_folder: Path) -> None:
    pixels_folder.mkdir(parents=True)
    for name, age in ((".old.tmp", 90_000), (".new.tmp", 60)):
        (pixels_folder / name).write_bytes(b"half")
        past = time.time() - age
        os.utime(pixels_folder / name, (past, past))
    pixel_store(decoded(samples, 5))
    left = stores(pixels_folder)
    assert ".new.tmp" in left
    assert ".old.tmp" not in left


def test_store_above_the_limit(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETVISION_CACHE_LIMIT", "100B")
    with pytest.raises(
        DataError,
        match=r"need 600 B, but the cache may take 100 B \(\$POCKETVISION_CACHE_LIMIT\); make room",
    ):
        pixel_store(decoded(samples, 5))


def test_limit_must_be_a_size(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETVISION_CACHE_LIMIT", "plenty")
    with pytest.raises(
        ConfigError, match="POCKETVISION_CACHE_LIMIT: size 'plenty' is not a number"
    ):
        pixel_store(decoded(samples, 5))


def test_disk_without_room(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(free=599))
    with pytest.raises(DataError, match=r"need 600 B, but the disk of '.*pixels' has 599 B free"):
        pixel_store(decoded(samples, 5))


def test_disk_that_fills_up_meanwhile(
    samples: Samples, pixels_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        DataError, match=r"cannot be written \(No space left on device\); make room"
    ):
        pixel_store(decoded(samples, 5))
    assert stores(pixels_folder) == []


@pytest.mark.skipif(os.name != "posix", reason="a file in the place of a folder, POSIX wording")
def test_folder_that_cannot_be_made(samples: Samples, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(
        DataError, match=r"cannot be written .*let \$POCKETVISION_CACHE name another"
    ):
        pixel_store(decoded(samples, 5))


def test_processes_may_build_at_once(samples: Samples, pixels_folder: Path) -> None:
    code = (
        "import sys; from pocketvision.data.images import scan;"
        "from pocketvision.data.cache import DecodedImages, pixel_store;"
        "contents = DecodedImages(index=scan(sys.argv[1]).index, side=64);"
        "print(int(pixel_store(contents).sum()))"
    )
    command = [sys.executable, "-c", code, str(samples.root)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    sums = {int(process.communicate()[0]) for process in running}
    assert sums == {int(pixel_store(decoded(samples, 64)).sum())}
    assert len(stores(pixels_folder)) == 1


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETVISION_CACHE", "~/there")
    assert cache_folder() == Path.home() / "there"
    monkeypatch.delenv("POCKETVISION_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert cache_folder() == Path("/some/where/pocketvision")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "pocketvision"
