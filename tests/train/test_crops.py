"""What a step sees: scenes whose spectra name their pixel and its class, so that nothing hides."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pocketvision.errors import ConfigError, DataError
from pocketvision.train import crops
from pocketvision.train.crops import CropSampler, Sampler, SceneBatch, SceneSource, WindowSampler

WINDOW, HALF = 5, 2
CLASS, NUMBER = 0, 1  # what the two bands of a tagged scene hold


def tagged(targets: NDArray[np.int64]) -> SceneSource:
    """Band 0: target + 1, so 0 where there is none. Band 1: the pixel's number, from 1 up."""
    numbers = np.arange(1, targets.size + 1).reshape(targets.shape)
    bands = np.stack([targets + 1, numbers], axis=-1).astype(np.float32)
    return SceneSource(bands=bands, targets=targets)


def sparse(height: int, width: int, classes: int = 3, seed: int = 0) -> SceneSource:
    """About a third of all pixels is for training."""
    drawn = np.random.default_rng(seed).integers(-2 * classes, classes, (height, width))
    return tagged(np.maximum(drawn, -1))


def samplers(source: SceneSource, seed: int = 0) -> tuple[Sampler, Sampler]:
    return (
        CropSampler(source, window=WINDOW, side=6, crops=3, seed=seed),
        WindowSampler(source, window=WINDOW, batch_size=8, seed=seed),
    )


def windows(batch: SceneBatch) -> Iterator[tuple[NDArray[np.float32], int]]:
    """The window and the target of everything that is learned from."""
    images = batch.images.numpy()
    targets = batch.targets.tolist()
    if batch.places is None:
        yield from zip(images, targets, strict=True)
        return
    for (n, row, left), target in zip(batch.places.tolist(), targets, strict=True):
        yield images[n, :, row : row + WINDOW, left : left + WINDOW], target


def equal(first: SceneBatch, second: SceneBatch) -> bool:
    if first.places is not None:
        assert second.places is not None
        if not torch.equal(first.places, second.places):
            return False
    return torch.equal(first.images, second.images) and torch.equal(first.targets, second.targets)


@pytest.mark.parametrize("shape", [(12, 12), (9, 17), (4, 20), (3, 3)])
def test_each_place_is_a_training_pixel_with_its_own_target(shape: tuple[int, int]) -> None:
    for sampler, step in product(samplers(sparse(*shape)), range(12)):
        batch = sampler.draw(step)
        assert len(batch.targets) > 0
        for window, target in windows(batch):
            assert window.shape == (2, WINDOW, WINDOW)
            assert window[CLASS, HALF, HALF] == target + 1


@pytest.mark.parametrize("shape", [(12, 12), (9, 17), (3, 4)])
def test_windows_are_the_scene_s_turned_or_mirrored(shape: tuple[int, int]) -> None:
    source = sparse(*shape)
    seen = set()
    for sampler, step in product(samplers(source), range(12)):
        for window, _ in windows(sampler.draw(step)):
            number = int(window[NUMBER, HALF, HALF]) - 1
            row, column = divmod(number, shape[1])
            original = source.cut(row - HALF, column - HALF, WINDOW, WINDOW).transpose(2, 0, 1)
            quarters = [np.rot90(original, k, (1, 2)) for k in range(4)]
            ways = [*quarters, *(turned[:, ::-1] for turned in quarters)]
            matches = [k for k, way in enumerate(ways) if np.array_equal(way, window)]
            assert matches
            seen.add(matches[0])
    assert seen == set(range(8))


def test_oblong_crops_are_turned_by_halves_and_keep_all_targets() -> None:
    source = sparse(4, 20)
    sampler = CropSampler(source, window=WINDOW, side=50, crops=1, seed=0)
    for step in range(8):
        batch = sampler.draw(step)
        assert batch.images.shape == (1, 2, 4 + WINDOW - 1, 20 + WINDOW - 1)
        numbers = {window[NUMBER, HALF, HALF] for window, _ in windows(batch)}
        assert numbers == set(source.bands[source.targets >= 0][:, NUMBER])


def test_beyond_the_scene_are_zeros() -> None:
    source = sparse(7, 7)
    batch = CropSampler(source, window=WINDOW, side=7, crops=2, seed=0).draw(0)
    inside = batch.images[:, NUMBER, HALF:-HALF, HALF:-HALF]
    assert (inside > 0).all()
    assert batch.images.count_nonzero() == inside.numel() + batch.images[:, CLASS].count_nonzero()


@pytest.mark.parametrize("corner", [(-9, 0), (0, -9), (7, 0), (0, 8), (-9, 8)])
def test_cut_wholly_beyond_the_scene_is_zeros(corner: tuple[int, int]) -> None:
    assert not sparse(7, 8).cut(*corner, 5, 6).any()


@given(st.integers(-6, 8), st.integers(-6, 9), st.integers(1, 12), st.integers(1, 12))
def test_cut_is_a_slice_of_the_padded_scene(top: int, left: int, height: int, width: int) -> None:
    source = sparse(7, 8)
    padded = np.pad(source.bands, ((20, 20), (20, 20), (0, 0)))
    expected = padded[20 + top : 20 + top + height, 20 + left : 20 + left + width]
    found = source.cut(top, left, height, width)
    assert found.dtype == np.float32
    assert np.array_equal(found, expected)


def test_draws_depend_on_seed_and_step_alone() -> None:
    source = sparse(12, 14)
    for number, used in enumerate(samplers(source)):
        for step in range(9):
            used.draw(step)
        torch.manual_seed(7)
        np.random.seed(7)
        fresh, other = samplers(source)[number], samplers(source, seed=1)[number]
        for step in (5, 0, 30):
            assert equal(used.draw(step), fresh.draw(step))
            assert not equal(used.draw(step), used.draw(step + 1))
            assert not equal(used.draw(step), other.draw(step))


def test_draws_leave_the_global_random_state() -> None:
    before = torch.get_rng_state()
    for sampler in samplers(sparse(9, 9)):
        sampler.draw(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_rare_classes_are_drawn_as_often() -> None:
    """A crop of one pixel shows the pixel it was drawn around: 4 of 900 are of the second class."""
    targets = np.zeros((30, 30), np.int64)
    targets[3, 4], targets[20, 7], targets[11, 29], targets[0, 0] = 1, 1, 1, 1
    sampler = CropSampler(tagged(targets), window=WINDOW, side=1, crops=20, seed=0)
    drawn = torch.cat([sampler.draw(step).targets for step in range(20)])
    assert len(drawn) == 400
    assert 0.42 < drawn.float().mean() < 0.58


def test_every_training_pixel_can_be_anywhere_in_a_crop() -> None:
    """A single pixel at the corner of the scene has one place before it is turned; one within
    has all."""
    targets = np.full((20, 20), -1, np.int64)
    targets[10, 9] = 0
    sampler = CropSampler(tagged(targets), window=WINDOW, side=3, crops=40, seed=0)
    places = sampler.draw(0).places
    assert places is not None
    assert {(row, left) for _, row, left in places.tolist()} == set(product(range(3), range(3)))


def test_labelled_pixels_of_a_step_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    source = tagged(np.arange(144).reshape(12, 12) % 3)
    sampler = CropSampler(source, window=WINDOW, side=6, crops=3, seed=0)
    whole = sampler.draw(0)
    assert len(whole.targets) == 3 * 36
    monkeypatch.setattr(crops, "MAX_LABELLED", 10)
    capped = sampler.draw(0)
    assert capped.places is not None
    assert len({tuple(place) for place in capped.places.tolist()}) == len(capped.targets) == 10
    assert torch.equal(capped.images, whole.images)
    assert all(window[CLASS, HALF, HALF] == target + 1 for window, target in windows(capped))


@settings(max_examples=40)
@given(st.integers(1, 70), st.integers(1, 80), st.integers(0, 3))
def test_an_epoch_of_windows_shows_every_training_pixel_once(
    pixels: int, batch_size: int, epoch: int
) -> None:
    targets = np.full((8, 9), -1, np.int64)
    targets.flat[np.random.default_rng(1).permutation(72)[:pixels]] = 0
    sampler = WindowSampler(tagged(targets), window=WINDOW, batch_size=batch_size, seed=0)
    steps = range(epoch * sampler.per_epoch, (epoch + 1) * sampler.per_epoch)
    batches = [sampler.draw(step) for step in steps]
    numbers = [int(window[NUMBER, HALF, HALF]) - 1 for b in batches for window, _ in windows(b)]
    assert sorted(numbers) == np.flatnonzero(targets >= 0).tolist()
    sizes = {len(batch.targets) for batch in batches}
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(2, pixels)  # batch norm has no statistics of a single window
    assert max(sizes) <= max(batch_size, 3)


def test_memory_mapped_bands_give_the_same_batches(tmp_path: Path) -> None:
    source = sparse(12, 13)
    np.save(tmp_path / "bands.npy", source.bands)
    mapped = np.load(tmp_path / "bands.npy", mmap_mode="r")
    lazy = SceneSource(bands=mapped, targets=source.targets)
    for here, there in zip(samplers(source), samplers(lazy), strict=True):
        assert equal(here.draw(2), there.draw(2))


def test_batches_are_what_a_network_takes() -> None:
    for sampler in samplers(sparse(12, 13)):
        batch = sampler.draw(0)
        assert batch.images.dtype == torch.float32
        assert batch.images.is_contiguous()
        assert batch.targets.dtype == torch.int64
        assert batch.places is None or batch.places.dtype == torch.int64


def test_targets_of_another_shape_are_refused() -> None:
    with pytest.raises(ConfigError, match="targets is 3x4; expected 4x4"):
        SceneSource(bands=np.zeros((4, 4, 2), np.float32), targets=np.zeros((3, 4), np.int64))


def test_scene_without_training_pixels_is_refused() -> None:
    with pytest.raises(DataError, match="the scene has no training pixels; label some, or change"):
        tagged(np.full((4, 4), -1, np.int64))
