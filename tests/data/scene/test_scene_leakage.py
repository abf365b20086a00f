from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorly.datasets import load_indian_pines

from pocketvision.data.scene.leakage import leakage, split_figures
from pocketvision.data.scene.scene import Labels
from pocketvision.data.scene.splits import SceneSplit, blocks_split, random_split
from pocketvision.scene_record import Leakage


@pytest.fixture(scope="module")
def indian_pines() -> Labels:
    labels: Labels = load_indian_pines().ticks[0].astype(np.int16)
    return labels


def brute_force(split: SceneSplit) -> Leakage:
    """From the sets of pixels that windows hold, one test pixel at a time."""
    half = split.window // 2
    height, width = split.train.shape

    def window(y: int, x: int) -> set[tuple[int, int]]:
        rows = range(max(0, y - half), min(height, y + half + 1))
        columns = range(max(0, x - half), min(width, x + half + 1))
        return {(row, column) for row in rows for column in columns}

    centres = {(int(y), int(x)) for y, x in np.argwhere(split.train)}
    seen = {pixel for centre in centres for pixel in window(*centre)}
    windows = [window(int(y), int(x)) for y, x in np.argwhere(split.test)]
    return Leakage(
        centre=sum(bool(w & centres) for w in windows) / max(1, len(windows)),
        window=sum(bool(w & seen) for w in windows) / max(1, len(windows)),
    )


@settings(max_examples=80)
@given(
    st.integers(1, 14),
    st.integers(1, 14),
    st.sampled_from([1, 3, 5, 7]),
    st.floats(0.5, 1),
    st.integers(0, 2**32),
)
def test_leakage_is_that_of_the_windows_themselves(
    height: int, width: int, window: int, empty: float, seed: int
) -> None:
    chance = np.random.default_rng(seed).random((height, width))
    split = SceneSplit(
        kind="given",
        guard="none",
        window=window,
        seed=0,
        train=chance > empty + (1 - empty) / 2,
        test=chance < (1 - empty) / 2,
    )
    assert leakage(split) == brute_force(split)


def test_guards_keep_their_word_on_indian_pines(indian_pines: Labels) -> None:
    centre = leakage(blocks_split(indian_pines, train_share=0.3, window=25, seed=0))
    assert centre.centre == 0
    assert centre.window > 0
    full = blocks_split(indian_pines, train_share=0.3, window=25, seed=0, guard="full")
    assert leakage(full) == Leakage(centre=0, window=0)


def test_every_test_window_of_a_random_split_holds_a_training_centre(indian_pines: Labels) -> None:
    split = random_split(indian_pines, train_share=0.3, window=25, seed=0)
    assert leakage(split) == Leakage(centre=1, window=1)


def test_figures_count_every_labelled_pixel_once(indian_pines: Labels) -> None:
    split = blocks_split(indian_pines, train_share=0.3, window=25, seed=0)
    figures = split_figures(split, indian_pines, 16)
    sums = [sum(c) for c in zip(figures.train, figures.test, figures.dropped, strict=True)]
    assert sums == [int((indian_pines == label).sum()) for label in range(1, 17)]
    assert (figures.kind, figures.guard, figures.window, figures.seed) == (
        "blocks",
        "centre",
        25,
        0,
    )
    assert figures.notes == split.notes
    assert figures.leakage == leakage(split)
