from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketvision.data import transforms
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.storage import from_json, to_json


@pytest.mark.parametrize(
    ("resolution", "shorter_side", "side"),
    [
        (224, None, 256),
        (160, None, 183),
        (160, 192, 183),  # room enough: the usual side
        (160, 170, 170),  # as far as the images have it
        (160, 160, 160),
        (32, 8, 32),  # digits: no enlarging only to be cropped
    ],
)
def test_side_follows_from_the_resolution(
    resolution: int, shorter_side: int | None, side: int
) -> None:
    assert Preprocessing.for_resolution(resolution, shorter_side).side == side


@given(st.integers(1, 3500), st.none() | st.integers(1, 5000))
def test_side_is_never_below_the_resolution(resolution: int, shorter_side: int | None) -> None:
    preprocessing = Preprocessing.for_resolution(resolution, shorter_side)
    assert resolution <= preprocessing.side <= round(resolution / 0.875)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": 0}, "side=0 is out of range; expected 1 to 4096"),
        ({"side": 5000}, "side=5000 is out of range"),
        ({"resolution": 0}, "resolution=0 is out of range; expected 1 to 36"),
        ({"resolution": 37}, "resolution=37 is out of range; expected 1 to 36"),
        ({"mean": (0.0, 0.0)}, r"mean=\(0.0, 0.0\) must be three numbers \(RGB\) from 0 to 255"),
        ({"mean": (0.0, 0.0, 256.0)}, "mean=.* must be three numbers"),
        ({"mean": (0.0, 0.0, math.nan)}, "mean=.* must be three numbers"),
        ({"std": (1.0, 1.0, 0.0)}, r"std=.* must be three numbers \(RGB\) above 0"),
        ({"std": (1.0, 1.0, math.inf)}, "std=.* must be three numbers"),
        ({"std": (1.0, 1.0)}, "std=.* must be three numbers"),
    ],
)
def test_bad_values_are_refused(change: dict[str, object], message: str) -> None:
    values: dict[str, object] = {"resolution": 32, "side": 36} | change
    with pytest.raises(ConfigError, match=message):
        Preprocessing(**values)  # type: ignore[arg-type]


def test_json_round_trip_and_validation() -> None:
    preprocessing = Preprocessing(resolution=32, side=36, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    text = to_json(preprocessing)
    assert from_json(Preprocessing, text, source="x") == preprocessing
    with pytest.raises(ArtefactError, match="resolution=99 is out of range"):
        from_json(Preprocessing, text.replace("32", "99"), source="x")


def test_transforms_offers_the_same_class() -> None:
    assert transforms.Preprocessing is Preprocessing


def test_importing_it_needs_no_torch() -> None:
    code = "import sys, pocketvision.data.preprocessing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
