from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pocketvision.data.cache import DecodedImages, shortage, store_bytes
from pocketvision.data.images import Samples, scan
from pocketvision.data.index import Index
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import (
    BATCHES_AHEAD,
    Pixels,
    StoredPixels,
    StreamedPixels,
    decoding_seconds,
    open_pixels,
)
from pocketvision.data.threads import GROUP
from pocketvision.errors import DataError
from pocketvision.models import registry
from pocketvision.train.batches import Batches, PixelSource, epoch_batches
from pocketvision.train.classify import Classification
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.trainer import fit

SIDE = 32


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETVISION_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    """24 JPEG photos of two classes, one dark and one bright."""
    rng = np.random.default_rng(0)
    for label, name in enumerate("ab"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 60, (90, 120, 3)) + 150 * label
            Image.fromarray(pixels.astype(np.uint8)).save(
                tmp_path / "photos" / name / f"{number}.jpg"
            )
    return scan(tmp_path / "photos")


@pytest.fixture
def both(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> tuple[Pixels, Pixels]:
    stored = open_pixels(samples, SIDE)
    streamed = StreamedPixels(contents=DecodedImages(index=samples.index, side=SIDE))
    assert isinstance(stored, StoredPixels)
    return stored, streamed


def source(pixels: Pixels, samples: Samples) -> PixelSource:
    return PixelSource(pixels=pixels, indices=np.arange(len(samples)), labels=samples.labels)


def test_stream_and_store_give_the_same_pixels(both: tuple[Pixels, Pixels]) -> None:
    rows = np.array([5, 0, 5, 23, 11])
    stored, streamed = (pixels.take(rows) for pixels in both)
    assert streamed.shape == (5, SIDE, SIDE, 3)
    assert streamed.dtype == np.uint8
    assert (stored == streamed).all()
    assert both[0].take(rows[:0]).shape == both[1].take(rows[:0]).shape == (0, SIDE, SIDE, 3)
    assert len(both[0]) == len(both[1]) == 24


def test_batches_come_in_order(samples: Samples, both: tuple[Pixels, Pixels]) -> None:
    batches = epoch_batches(len(samples), 5, seed=0, epoch=3)
    stored, streamed = (list(Batches(source(pixels, samples), batches)) for pixels in both)
    assert len(stored) == len(streamed) == 5
    for (pixels, labels), (others, other_labels) in zip(stored, streamed, strict=True):
        assert torch.equal(pixels, others)
        assert torch.equal(labels, other_labels)


def test_stream_can_be_left_and_sent_to_another_process(both: tuple[Pixels, Pixels]) -> None:
    batches = [np.arange(k, k + 4) for k in range(0, 24, 4)]
    for pixels in both:
        again = pickle.loads(pickle.dumps(pixels))
        first = next(again.batches(batches))  # the rest is never asked for
        assert (first == pixels.take(batches[0])).all()


def test_store_that_another_run_removed_is_made_up_for(
    samples: Samples, both: tuple[Pixels, Pixels]
) -> None:
    """Between two epochs it may go, where the cache is full."""
    stored, streamed = both
    assert isinstance(stored, StoredPixels)
    batches = [np.arange(k, k + 4) for k in range(0, 24, 4)]
    stored.path.unlink()
    for one, other in zip(stored.batches(batches), streamed.batches(batches), strict=True):
        assert (one == other).all()
    with pytest.raises(FileNotFoundError):
        StoredPixels(path=stored.path, rows=24, shape=(SIDE, SIDE, 3)).take(batches[0])


def test_store_in_use_is_not_the_longest_unused(both: tuple[Pixels, Pixels]) -> None:
    assert isinstance(both[0], StoredPixels)
    os.utime(both[0].path, (1, 1))
    both[0].take(np.arange(2))
    assert both[0].path.stat().st_mtime > 1


def test_few_images_are_decoded_ahead(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    index = samples.index
    original = Index.read_unchanged

    def noted(self: Index, row: int) -> bytes:
        read.append(row)
        return original(self, row)

    monkeypatch.setattr(Index, "read_unchanged", noted)
    stream = StreamedPixels(contents=DecodedImages(index=index, side=SIDE)).batches(
        [np.arange(24)] * 20
    )
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(read) <= (1 + BATCHES_AHEAD) * 24 + GROUP


def test_training_from_the_stream_gives_the_same_weights(
    samples: Samples, both: tuple[Pixels, Pixels], tmp_path: Path
) -> None:
    weights = []
    for number, pixels in enumerate(both):
        network = registry.spec("mobilenet_v1", width=0.25, resolution=32, num_classes=2).build(
            seed=0
        )
        course = Course(
            train=source(pixels, samples),
            val=source(pixels, samples),
            preprocessing=Preprocessing(resolution=32, side=SIDE),
            config=TrainConfig(epochs=2, batch_size=8, warmup_epochs=1, threads=1),
        )
        fit(Classification(network, course), folder=tmp_path / str(number))
        weights.append(network.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_images_without_room_are_streamed(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETVISION_CACHE_LIMIT", f"{store_bytes(24, SIDE) - 1}B")
    assert shortage(store_bytes(24, SIDE)).startswith(
        "the decoded images need 73.7 kB, but the cache may take"
    )
    assert isinstance(open_pixels(samples, SIDE), StreamedPixels)
    assert not (tmp_path / "cache").exists()
    monkeypatch.delenv("POCKETVISION_CACHE_LIMIT")
    assert shortage(store_bytes(24, SIDE)) == ""
    assert isinstance(open_pixels(samples, SIDE), StoredPixels)
    monkeypatch.setenv("POCKETVISION_CACHE_LIMIT", "1B")
    assert isinstance(open_pixels(samples, SIDE), StoredPixels)  # it is there already


def test_file_that_changes_between_two_epochs_stops_the_stream(samples: Samples) -> None:
    stream = StreamedPixels(contents=DecodedImages(index=samples.index, side=SIDE))
    stream.take(np.arange(24))
    path = samples.root / samples.paths[7]
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(DataError, match="was changed after it was scanned; scan the folder again"):
        list(stream.batches([np.arange(24)]))


def test_warnings_of_the_decoder_stay_unheard(samples: Samples) -> None:
    with warnings.catch_warnings():
        list(
            StreamedPixels(contents=DecodedImages(index=samples.index, side=SIDE)).batches(
                [np.arange(2)]
            )
        )
        warnings.warn_explicit("about a file", UserWarning, "x.py", 1, module="PIL.Image")


def test_few_images_tell_what_decoding_takes(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents, decoded = DecodedImages(index=samples.index, side=SIDE), list[int]()
    read = DecodedImages.row

    def row(self: DecodedImages, number: int) -> np.ndarray:
        decoded.append(number)
        return read(self, number)

    monkeypatch.setattr(DecodedImages, "row", row)
    monkeypatch.setattr("pocketvision.data.stream.TIMED", 5)
    assert 0 < decoding_seconds(contents) < 10
    assert sorted(decoded[1:]) == [0, 5, 11, 17, 23]
