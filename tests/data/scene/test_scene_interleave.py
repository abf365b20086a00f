from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from tensorly.datasets import load_indian_pines

from pocketvision.data.scene.doctor import examine
from pocketvision.data.scene.envi_header import INTERLEAVES, Interleave
from pocketvision.data.scene.interleave import arrange, likely_interleave
from pocketvision.data.scene.reading import check_values, open_scene
from pocketvision.data.scene.scene import Scene
from pocketvision.errors import DataError

Array = NDArray[Any]

STORED: dict[Interleave, tuple[int, int, int]] = {
    "bsq": (2, 0, 1),
    "bil": (0, 2, 1),
    "bip": (0, 1, 2),
}
interleaves = pytest.mark.parametrize("true", INTERLEAVES)
declarations = pytest.mark.parametrize("declared", INTERLEAVES)


def stored(cube: Array, interleave: Interleave) -> Array:
    """The numbers in the order of a file."""
    return np.ascontiguousarray(cube.transpose(STORED[interleave])).ravel()


def opened(folder: Path, cube: Array, true: Interleave, declared: Interleave) -> Scene:
    height, width, bands = cube.shape
    (folder / "cube.img").write_bytes(stored(cube, true).astype("<i2").tobytes())
    (folder / "cube.hdr").write_text(
        f"ENVI\nsamples = {width}\nlines = {height}\nbands = {bands}\ndata type = 2\n"
        f"interleave = {declared}\n"
    )
    return open_scene(folder)


@pytest.fixture(scope="module")
def pines() -> Array:
    return np.asarray(load_indian_pines().tensor, dtype="<i2")


@interleaves
def test_numbers_are_arranged_as_they_were_stored(true: Interleave) -> None:
    cube = np.arange(60).reshape(3, 4, 5)
    np.testing.assert_array_equal(arrange(stored(cube, true), (3, 4, 5), true), cube)


@declarations
@interleaves
@pytest.mark.parametrize("part", [np.s_[:40, :30], np.s_[60:90, 40:140], np.s_[:, :12]])
def test_interleave_is_seen_on_real_spectra(
    pines: Array, part: Any, declared: Interleave, true: Interleave
) -> None:
    cube = pines[part]
    assert likely_interleave(stored(cube, true), cube.shape, declared, None) == true


@declarations
@interleaves
def test_a_wrong_interleave_is_refused_and_an_error_of_the_doctor(
    pines: Array, tmp_path: Path, declared: Interleave, true: Interleave
) -> None:
    scene = opened(tmp_path, pines[:40, :30], true, declared)
    if declared == true:
        assert scene.suspicions == ()
        check_values(scene)
        return
    with pytest.raises(
        DataError,
        match=rf"cube\.hdr' says interleave = {declared}, but .* far more alike when the numbers "
        rf"are read as {true}; change the line to: interleave = {true}$",
    ):
        check_values(scene)
    first = examine(scene, window=3).findings[0]
    assert (first.severity, first.sentence) == ("error", scene.suspicions[0])


@settings(max_examples=100)
@given(
    shape=st.tuples(st.integers(2, 60), st.integers(2, 60), st.integers(2, 60)),
    scales=st.tuples(st.floats(0.5, 12), st.floats(0, 8)),
    uneven=st.floats(0, 5),
    noise=st.floats(0, 0.3),
    true=st.sampled_from(INTERLEAVES),
    seed=st.integers(0, 2**32),
)
def test_a_smooth_scene_in_the_right_interleave_is_never_suspected(
    shape: tuple[int, int, int],
    scales: tuple[float, float],
    uneven: float,
    noise: float,
    true: Interleave,
    seed: int,
) -> None:
    """scales: in pixels and in bands, over which the scene changes; uneven: offsets of bands."""
    random = np.random.default_rng(seed)
    cube = gaussian_filter(random.normal(size=shape), (scales[0], *scales))
    cube = cube / cube.std() + noise * random.normal(size=shape)
    cube = cube * random.uniform(0.1, 5, shape[2]) + uneven * random.normal(size=shape[2])
    assert likely_interleave(stored(cube, true), shape, true, None) == true


@declarations
def test_interleave_of_noise_is_the_declared_one(declared: Interleave) -> None:
    noise = np.random.default_rng(0).standard_normal((20, 18, 16)).astype("<f4")
    noise[:3] = np.nan
    assert likely_interleave(noise.ravel(), noise.shape, declared, None) == declared


@declarations
def test_a_small_scene_is_not_judged(pines: Array, declared: Interleave) -> None:
    for cube in (pines[:1, :1], pines[:7, :30], pines[:40, :30, :7]):
        assert likely_interleave(stored(cube, "bip"), cube.shape, declared, None) == declared


@interleaves
def test_pixels_without_a_measurement_do_not_count(pines: Array, true: Interleave) -> None:
    cube = pines[:40, :30].copy()
    cube[::2, ::2] = -9999
    assert likely_interleave(stored(cube, true), cube.shape, "bip", -9999) == true
