"""The card that travels with a file, and what calibration accepts."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.runtimes.registry import RUNTIMES
from pocketvision.runtimes.runtime import Calibration, FileCard, Int8Config, check_pixels

CARD = FileCard(name="net", classes=("a",), preprocessing=Preprocessing.for_resolution(96))


@given(name=st.text(), classes=st.lists(st.text()).map(tuple), resolution=st.integers(32, 512))
def test_card_survives_metadata(name: str, classes: tuple[str, ...], resolution: int) -> None:
    card = FileCard(
        name=name, classes=classes, preprocessing=Preprocessing.for_resolution(resolution)
    )
    pairs = {**card.to_metadata(), "other": "left alone"}
    assert FileCard.from_metadata(pairs, source="file") == card


def test_metadata_are_readable_without_us() -> None:
    pairs = CARD.to_metadata()
    assert pairs["name"] == "net"
    assert json.loads(pairs["classes"]) == ["a"]
    assert json.loads(pairs["mean"]) == list(CARD.preprocessing.mean)
    assert (pairs["resolution"], pairs["side"], pairs["format_version"]) == ("96", "110", "1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": None, "std": None}, "f was not written by pocketvision: .* lack classes, std"),
        ({"format_version": "2"}, r"f has format version 2; .* reads up to 1: update pocketvision"),
        ({"classes": "[1]"}, r"the metadata of f is not a valid _Flat: classes.0"),
        ({"mean": "nonsense"}, r"the metadata of f is not a valid"),
        ({"side": "50"}, r"the metadata of f are unusable: resolution=96 is out of range"),
    ],
)
def test_damaged_metadata_are_refused(change: dict[str, str | None], message: str) -> None:
    pairs = {**CARD.to_metadata(), **change}
    kept = {key: value for key, value in pairs.items() if value is not None}
    with pytest.raises(ArtefactError, match=message):
        FileCard.from_metadata(kept, source="f")


def test_calibration_refuses_what_it_cannot_use() -> None:
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    with pytest.raises(ConfigError, match="calibration pixels are float32; expected uint8"):
        Calibration(pixels=pixels.astype(np.float32))
    with pytest.raises(ConfigError, match="at least one image; got none"):
        Calibration(pixels=pixels[:0])
    with pytest.raises(ConfigError, match="calibration pixels is 8x8x3"):
        Calibration(pixels=pixels[0])
    with pytest.raises(ConfigError, match=r"percentile=50 is out of range; expected 90 to 100"):
        Int8Config(percentile=50)
    with pytest.raises(ConfigError, match=r"ranges='minmix' is unknown.* Did you mean 'minmax'"):
        Int8Config(ranges="minmix")  # type: ignore[arg-type]


def test_pixels_must_be_images_of_the_right_shape() -> None:
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    check_pixels(pixels, (8, 8, 3))
    with pytest.raises(ConfigError, match="pixels is 2x8x8x3; expected anyx9x9x3"):
        check_pixels(pixels, (9, 9, 3))
    with pytest.raises(ConfigError, match="pixels is 8x8x3; expected anyx8x8x3"):
        check_pixels(pixels[0], (8, 8, 3))
    with pytest.raises(ConfigError, match="pixels are int64; expected uint8"):
        check_pixels(pixels.astype(np.int64), (8, 8, 3))
    with pytest.raises(ConfigError, match="no image"):
        check_pixels(pixels[:0], (8, 8, 3))


def test_registry_names_the_runtimes() -> None:
    assert {name: runtime.name for name, runtime in RUNTIMES.items()} == {
        "onnxruntime": "onnxruntime",
        "openvino": "openvino",
    }
    assert all(runtime.precisions[0] == "f32" for runtime in RUNTIMES.values())
