from __future__ import annotations

import math
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from faulty_photos import photo
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from pocketvision.data.looks import (
    ALIKE,
    NEAR,
    SIDE,
    Looks,
    likeness,
    look_of,
    near_pairs,
    thumbnail,
    views_of,
)
from pocketvision.data.pixels import decode, open_image


def encoded(image: Image.Image, quality: int = 90, format: str = "JPEG") -> Image.Image:
    """The image after a way through a file, as it is decoded for its look."""
    file = BytesIO()
    image.save(file, format, quality=quality)
    with open_image(BytesIO(file.getvalue())) as opened:
        return decode(opened, SIDE // 2)


def scaled(image: Image.Image, by: float) -> Image.Image:
    width, height = round(image.width * by), round(image.height * by)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def cropped(image: Image.Image, share: float) -> Image.Image:
    dx, dy = round(image.width * share), round(image.height * share)
    return image.crop((dx, dy, image.width - dx, image.height - dy))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "quality 40": lambda image: encoded(image, 40),
    "png": lambda image: encoded(image, format="PNG"),
    "half as large": lambda image: encoded(scaled(image, 0.5)),
    "twice as large": lambda image: encoded(scaled(image, 2.0)),
    "square": lambda image: encoded(image.resize((128, 128), Image.Resampling.BILINEAR)),
    "brighter": lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.3)),
    "less contrast": lambda image: encoded(ImageEnhance.Contrast(image).enhance(0.7)),
    "grey": lambda image: encoded(image.convert("L")),
    "cropped": lambda image: encoded(cropped(image, 0.02)),
}


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def is_copy(one: Image.Image, other: Image.Image) -> bool:
    near = distance(look_of(one), look_of(other)) <= NEAR
    return near and likeness(views_of(one), views_of(other)) >= ALIKE


def test_look_is_the_signs_of_low_frequencies() -> None:
    """The discrete cosine transform written out, frequencies 1 to 8 in both directions."""
    image = photo(1)
    grey = thumbnail(image).astype(np.float64)

    def wave(frequency: int, place: int) -> float:
        return math.cos(math.pi * frequency * (2 * place + 1) / (2 * SIDE))

    values = np.array(
        [
            sum(
                grey[y, x] * wave(down, y) * wave(across, x)
                for y in range(SIDE)
                for x in range(SIDE)
            )
            for down in range(1, 9)
            for across in range(1, 9)
        ]
    )
    bits = "".join("1" if value > np.median(values) else "0" for value in values)
    assert look_of(image) == int(bits, 2)


def test_half_of_the_bits_are_set() -> None:
    assert {look_of(photo(seed)).bit_count() for seed in range(20)} == {32}


def test_different_photos_are_far_apart() -> None:
    looks = [look_of(photo(seed)) for seed in range(40)]
    pairs = [distance(a, b) for row, a in enumerate(looks) for b in looks[:row]]
    assert min(pairs) > NEAR


@pytest.mark.parametrize("change", COPIES)
def test_copies_are_near_and_alike(change: str) -> None:
    photos = [photo(seed, (160, 120)) for seed in range(20)]
    assert all(is_copy(encoded(image), COPIES[change](image)) for image in photos)


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (200, 200), "white"),
        Image.new("RGB", (64, 64), (90, 10, 3)),
        photo(1, (SIDE - 2, 90)),
        Image.fromarray(np.full((99, 99), 7, np.uint8) + np.eye(99, dtype=np.uint8)),
    ],
    ids=["white", "plain", "small", "nearly plain"],
)
def test_images_that_show_too_little_have_no_look(image: Image.Image) -> None:
    assert look_of(image) == 0


def test_images_without_a_look_are_near_to_none() -> None:
    assert near_pairs(np.zeros(5, np.uint64), at_most=100).shape == (0, 2)
    assert near_pairs(np.zeros(0, np.uint64), at_most=100).shape == (0, 2)


def brute_force(looks: Looks, distance: int) -> list[list[int]]:
    return [
        [i, j]
        for i in range(len(looks))
        for j in range(i + 1, len(looks))
        if looks[i] and looks[j] and (int(looks[i]) ^ int(looks[j])).bit_count() <= distance
    ]


@st.composite
def clustered_looks(draw: st.DrawFn) -> Looks:
    """Hashes around a few centres, some equal, some 0."""
    centres = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    flips = st.lists(st.integers(0, 63), max_size=12)
    hashes = draw(st.lists(st.tuples(st.sampled_from([0, *centres]), flips), max_size=40))
    return np.array(
        [centre ^ sum(1 << bit for bit in set(bits)) for centre, bits in hashes], dtype=np.uint64
    )


@settings(max_examples=100)
@given(looks=clustered_looks(), within=st.integers(0, 12))
def test_near_pairs_are_those_of_brute_force(looks: Looks, within: int) -> None:
    assert near_pairs(looks, distance=within, at_most=10_000).tolist() == brute_force(looks, within)


def test_near_pairs_among_crowded_looks() -> None:
    """Many share bits: the neighbours that are compared are far apart too."""
    generator = np.random.default_rng(0)
    looks = generator.integers(1, 2**8, 300, dtype=np.uint64) * np.uint64(0x0001_0001_0001_0001)
    assert near_pairs(looks, at_most=10**6).tolist() == brute_force(looks, NEAR)


def test_equal_looks_do_not_explode() -> None:
    looks = np.full(100_000, 0x0F0F_1234_5678_9ABC, dtype=np.uint64)
    pairs = near_pairs(looks, at_most=500)
    assert len(pairs) == 500
    assert (pairs[:, 0] < pairs[:, 1]).all()


def test_likeness_is_symmetric_and_does_not_see_brightness() -> None:
    image = photo(1)
    one, other = views_of(image), views_of(photo(2))
    assert likeness(one, one) == pytest.approx(1.0)
    assert likeness(one, other) == pytest.approx(likeness(other, one))
    assert likeness(one, views_of(image.point(lambda value: value // 2 + 30))) > 0.99
    assert likeness(one[:1], (255 - one[0],)) == pytest.approx(-1.0)
    assert likeness(one, views_of(Image.new("RGB", (64, 64)))) == 0.0


def test_two_things_of_one_outline_are_no_copies() -> None:
    """The same coarse picture with another texture: near by its hash, told apart by its detail."""
    coarse = np.asarray(photo(3, (64, 64)).resize((8, 8)).resize((256, 256))).astype(np.int64)
    generator = np.random.default_rng(0)

    def print_on_it() -> Image.Image:
        texture = generator.integers(-40, 41, (32, 32, 1)).repeat(8, axis=0).repeat(8, axis=1)
        return Image.fromarray((coarse + texture).clip(0, 255).astype(np.uint8))

    one, other = print_on_it(), print_on_it()
    assert likeness(views_of(one), views_of(other)) < ALIKE
    assert not is_copy(one, other)


@pytest.fixture(scope="module")
def photos() -> list[Path]:
    root = os.environ.get("POCKETVISION_TEST_DATA")
    if not root or not (Path(root) / "data/clothing10_192").is_dir():
        pytest.skip("$POCKETVISION_TEST_DATA names no folder with data/clothing10_192")
    return sorted((Path(root) / "data/clothing10_192/test").rglob("*.jpg"))[::6]


@pytest.mark.parametrize("change", COPIES)
def test_copies_of_real_photos_are_found(photos: list[Path], change: str) -> None:
    assert len(photos) == 62
    found = 0
    for path in photos:
        with Image.open(path) as image:
            found += is_copy(encoded(image.convert("RGB")), COPIES[change](image.convert("RGB")))
    assert found >= 0.95 * len(photos)
