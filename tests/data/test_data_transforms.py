from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pocketvision.data.pixels import centre_crop
from pocketvision.data.transforms import (
    Augmentation,
    Preprocessing,
    augment,
    crop_boxes,
    eval_batch,
    normalise,
)
from pocketvision.errors import ConfigError

PLAIN = Augmentation(min_scale=1, flip=0, brightness=0, contrast=0, saturation=0)
SAME = Preprocessing(resolution=16, side=16)
ROOM = Preprocessing(resolution=16, side=20)
KEY = (0, 0, 0)


def pixels(n: int = 4, side: int = 16, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8))


def targets(n: int = 4, classes: int = 3) -> Tensor:
    return torch.eye(classes)[torch.arange(n) % classes]


def images(
    augmentation: Augmentation, preprocessing: Preprocessing = SAME, step: int = 0
) -> Tensor:
    batch = pixels(side=preprocessing.side)
    return augment(batch, targets(), preprocessing, augmentation, (0, 0, step))[0]


def is_channels_last(batch: Tensor) -> bool:
    return batch.is_contiguous(memory_format=torch.channels_last)


def test_normalise_subtracts_and_divides() -> None:
    preprocessing = replace(SAME, mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 4.0))
    colour = torch.tensor([11, 24, 38], dtype=torch.uint8).expand(2, 16, 16, 3)
    result = normalise(colour, preprocessing)
    assert result.shape == (2, 3, 16, 16)
    assert result.dtype == torch.float32
    assert is_channels_last(result)
    assert (result == torch.tensor([1.0, 2.0, 2.0]).view(1, 3, 1, 1)).all()


@pytest.mark.parametrize(("resolution", "side"), [(16, 16), (16, 20), (16, 19), (1, 4)])
def test_eval_batch_is_the_normalised_centre(resolution: int, side: int) -> None:
    preprocessing = Preprocessing(resolution=resolution, side=side)
    batch = pixels(side=side)
    result = eval_batch(batch, preprocessing)
    centre = torch.from_numpy(centre_crop(batch.numpy(), resolution).copy())
    assert is_channels_last(result)
    assert torch.equal(result, normalise(centre, preprocessing))


def test_nothing_to_do_gives_exactly_the_eval_batch() -> None:
    result, same = augment(pixels(), targets(), SAME, PLAIN, KEY)
    assert torch.equal(result, eval_batch(pixels(), SAME))
    assert torch.equal(same, targets())


def test_flipping_twice_is_the_identity() -> None:
    always = replace(PLAIN, flip=1)
    once = images(always)
    assert torch.equal(once.flip(3), eval_batch(pixels(), SAME))
    back, _ = augment(pixels().flip(2), targets(), SAME, always, KEY)
    assert torch.equal(back, eval_batch(pixels(), SAME))


def test_flip_probability_is_met() -> None:
    result, _ = augment(pixels(400), targets(400), SAME, replace(PLAIN, flip=0.3), KEY)
    plain = eval_batch(pixels(400), SAME)
    flipped = sum(not torch.equal(a, b) for a, b in zip(result, plain, strict=True))
    assert 80 <= flipped <= 160


@pytest.mark.parametrize("preprocessing", [SAME, ROOM])
@pytest.mark.parametrize(
    "mix", [{}, {"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}]
)
def test_key_alone_decides(preprocessing: Preprocessing, mix: dict[str, float]) -> None:
    augmentation = replace(Augmentation(), **mix)
    batch = pixels(side=preprocessing.side)
    untouched = batch.clone()
    state = torch.get_rng_state()
    seen = []
    for key in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)):
        first = augment(batch, targets(), preprocessing, augmentation, key)
        torch.rand(3)
        again = augment(batch, targets(), preprocessing, augmentation, key)
        assert torch.equal(first[0], again[0])
        assert torch.equal(first[1], again[1])
        seen.append(first[0])
    torch.set_rng_state(state)
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])
    assert torch.equal(batch, untouched)


def test_global_random_state_is_left_alone() -> None:
    torch_state, numpy_state = torch.get_rng_state(), str(np.random.get_state())
    images(Augmentation(mixup=0.2, cutmix=1))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert str(np.random.get_state()) == numpy_state


@settings(max_examples=40)
@given(
    st.floats(0.01, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1),
    st.floats(0, 2), st.floats(0, 2), st.integers(0, 2**31), st.integers(1, 5),
)  # fmt: skip
def test_output_stays_in_range(
    min_scale: float, brightness: float, contrast: float, saturation: float,
    mixup: float, cutmix: float, seed: int, n: int,
) -> None:  # fmt: skip
    augmentation = Augmentation(
        min_scale=min_scale, brightness=brightness, contrast=contrast, saturation=saturation,
        mixup=mixup, cutmix=cutmix,
    )  # fmt: skip
    result, mixed = augment(pixels(n, 20), targets(n), ROOM, augmentation, (seed, 0, 0))
    assert result.shape == (n, 3, 16, 16)
    assert result.dtype == torch.float32
    assert is_channels_last(result)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (ROOM.mean, ROOM.std))
    assert (result >= -mean / std - 1e-5).all()
    assert (result <= (255 - mean) / std + 1e-5).all()
    assert torch.allclose(mixed.sum(1), torch.ones(n))
    assert (mixed >= 0).all()


@given(st.integers(1, 64), st.integers(1, 600), st.floats(0.01, 1), st.integers(0, 999))
def test_crop_boxes_lie_within_the_square(n: int, side: int, min_scale: float, seed: int) -> None:
    boxes = np.array(crop_boxes(n, side, min_scale, np.random.default_rng(seed)))
    assert boxes.shape == (n, 4)
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (height >= 1).all()
    assert (width >= 1).all()
    assert (top + height <= side).all()
    assert (left + width <= side).all()


def test_crop_boxes_follow_scale_and_ratio() -> None:
    boxes = np.array(crop_boxes(4000, 1000, 0.35, np.random.default_rng(0)))
    area = boxes[:, 2] * boxes[:, 3] / 1e6
    ratio = boxes[:, 3] / boxes[:, 2]
    assert 0.349 < area.min() < 0.36
    assert 0.99 < area.max() <= 1
    assert abs(area.mean() - 0.675) < 0.02
    assert 0.749 < ratio.min() < 0.76
    assert 1.32 < ratio.max() < 1.335
    assert abs(np.log(ratio).mean()) < 0.02


def test_whole_square_is_resized_when_nothing_is_cropped() -> None:
    flat = torch.full((2, 20, 20, 3), 77, dtype=torch.uint8)
    result, _ = augment(flat, targets(2), ROOM, PLAIN, KEY)
    assert torch.equal(result, eval_batch(flat, ROOM))


def denormalised(batch: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (SAME.mean, SAME.std))
    return batch * std + mean


def test_brightness_scales_all_pixels() -> None:
    dark = pixels() // 3
    result, _ = augment(dark, targets(), SAME, replace(PLAIN, brightness=0.5), KEY)
    factor = denormalised(result) / dark.permute(0, 3, 1, 2).clamp(min=1)
    factor = factor[(dark.permute(0, 3, 1, 2) > 20)]
    assert 0.49 <= factor.min() <= factor.max() <= 1.51
    assert len(set(factor.mul(1000).round().tolist())) <= 12  # one factor per image, up to rounding


def test_contrast_keeps_the_mean_grey() -> None:
    middle = pixels() // 3 + 80
    result, _ = augment(middle, targets(), SAME, replace(PLAIN, contrast=0.5), KEY)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    before = (middle.permute(0, 3, 1, 2) * weights).sum(1).mean((1, 2))
    after = (denormalised(result) * weights).sum(1).mean((1, 2))
    assert torch.allclose(before, after, atol=0.01)
    assert not torch.allclose(result, eval_batch(middle, SAME), atol=0.01)


def test_saturation_keeps_each_grey() -> None:
    middle = pixels() // 3 + 80
    result, _ = augment(middle, targets(), SAME, replace(PLAIN, saturation=0.5), KEY)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    before = (middle.permute(0, 3, 1, 2) * weights).sum(1)
    assert torch.allclose((denormalised(result) * weights).sum(1), before, atol=0.01)
    assert not torch.allclose(result, eval_batch(middle, SAME), atol=0.01)


def test_mixup_mixes_images_as_it_mixes_targets() -> None:
    result, mixed = augment(pixels(), targets(4, 4), SAME, replace(PLAIN, mixup=1), KEY)
    plain = eval_batch(pixels(), SAME)
    expected = torch.einsum("nk,kchw->nchw", mixed, plain)  # target k belongs to image k
    assert torch.allclose(result, expected, atol=1e-5)
    assert 0 < mixed[0, 0] < 1


def test_cutmix_pastes_the_share_it_says() -> None:
    shares = []
    for step in range(30):
        key = (0, 0, step)
        result, mixed = augment(pixels(), targets(4, 4), SAME, replace(PLAIN, cutmix=1), key)
        plain = eval_batch(pixels(), SAME)
        own = (result == plain).all(1).float().mean((1, 2))
        other = (result == plain.roll(1, 0)).all(1).float().mean((1, 2))
        assert torch.allclose(own, mixed.diagonal(), atol=1e-3)
        assert torch.allclose(own + other, torch.ones(4), atol=1e-3)
        shares.append(float(mixed[0, 0]))
    assert min(shares) < 0.3
    assert max(shares) > 0.7


def test_each_batch_takes_mixup_or_cutmix() -> None:
    cut = 0
    for step in range(60):
        result = images(replace(PLAIN, mixup=1, cutmix=1), step=step)
        cut += bool((result[0] == eval_batch(pixels(), SAME)[0]).all(0).any())
    assert 18 <= cut <= 42


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("min_scale", 0.0, "min_scale=0.0 is out of range; expected 0.01 to 1"),
        ("min_scale", 1.1, "min_scale=1.1"),
        ("flip", -0.1, "flip=-0.1 is out of range; expected 0 to 1"),
        ("brightness", 1.5, "brightness=1.5 is out of range; expected 0 to 1"),
        ("contrast", float("nan"), "contrast=nan is out of range"),
        ("saturation", -1.0, "saturation=-1.0 is out of range"),
        ("mixup", -1.0, "mixup=-1.0 is out of range; expected 0 to 10"),
        ("cutmix", 11.0, "cutmix=11.0 is out of range; expected 0 to 10"),
    ],
)
def test_bad_values_are_refused(name: str, value: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Augmentation(**{name: value})


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match="pixels is 4x17x17x3; expected anyx16x16x3"):
        eval_batch(pixels(side=17), SAME)
    with pytest.raises(ConfigError, match=r"pixels are torch.float32; expected torch.uint8"):
        eval_batch(pixels().float(), SAME)
    with pytest.raises(ConfigError, match="targets is 3x3; expected 4xany"):
        augment(pixels(), targets(3), SAME, PLAIN, KEY)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_device_of_the_pixels_is_kept() -> None:
    batch, labels = pixels(side=20), targets()
    expected = augment(batch, labels, ROOM, Augmentation(mixup=0.2), KEY)
    result = augment(batch.cuda(), labels.cuda(), ROOM, Augmentation(mixup=0.2), KEY)
    assert result[0].device.type == result[1].device.type == "cuda"
    assert torch.allclose(result[0].cpu(), expected[0], atol=0.05)  # bytes are rounded on a CPU
    assert torch.allclose(result[1].cpu(), expected[1])
