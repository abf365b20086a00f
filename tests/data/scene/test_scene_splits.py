from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorly.datasets import load_indian_pines

from pocketvision.data.scene import blocks
from pocketvision.data.scene.blocks import (
    best_assignment,
    count_cells,
    dilate,
    lay_grid,
    propose,
    scores,
)
from pocketvision.data.scene.scene import Labels, Mask
from pocketvision.data.scene.splits import (
    Guard,
    SceneSplit,
    blocks_split,
    given_split,
    random_split,
    reach_of,
)
from pocketvision.errors import ConfigError, DataError

GUARDS: tuple[Guard, ...] = ("none", "centre", "full")


@pytest.fixture(scope="module")
def indian_pines() -> Labels:
    labels: Labels = load_indian_pines().ticks[0].astype(np.int16)
    return labels


@pytest.fixture(autouse=True)
def _brief_search(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Laws hold for every choice of blocks, so a short search will do."""
    if "indian_pines" not in request.fixturenames:
        monkeypatch.setattr(blocks, "GRIDS", 8)


def patches(rows: int, columns: int, side: int, classes: int, seed: int = 0) -> Labels:
    """Fields of one class each."""
    fields = np.random.default_rng(seed).integers(1, classes + 1, (rows, columns))
    return np.kron(fields, np.ones((side, side))).astype(np.int16)


def per_class(labels: Labels, where: Mask) -> list[int]:
    return [int((labels[where] == label).sum()) for label in range(1, int(labels.max()) + 1)]


def far_apart(split: SceneSplit, reach: int) -> bool:
    """Whether no test pixel lies within `reach` of a training pixel, by all pairs."""
    train, test = np.argwhere(split.train), np.argwhere(split.test)
    distance = np.abs(train[:, None] - test).max(axis=-1)
    return bool(distance.min() > reach)


@settings(max_examples=60)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 5), st.integers(0, 2**32))
def test_dilation_reaches_every_pixel_of_the_square(
    height: int, width: int, radius: int, seed: int
) -> None:
    bits = np.random.default_rng(seed).integers(0, 4, (2, height, width)).astype(np.uint16)
    spread = dilate(bits, radius)
    for at in np.ndindex(bits.shape):
        n, y, x = at
        near = bits[n, max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
        assert spread[at] == np.bitwise_or.reduce(near, axis=None)


def test_random_split_has_the_papers_3074_of_10249_pixels(indian_pines: Labels) -> None:
    split = random_split(indian_pines, train_share=0.3, window=25, seed=0)
    assert int(split.train.sum()) + int(split.test.sum()) == 10_249
    assert abs(int(split.train.sum()) - 3_074) <= 3
    assert per_class(indian_pines, split.train)[8] == 6  # of 20 pixels of oats
    assert not split.notes


@given(
    st.lists(st.integers(2, 40), min_size=1, max_size=4),
    st.floats(0.001, 0.999),
    st.integers(0, 99),
)
def test_random_split_has_every_class_in_both(sizes: list[int], share: float, seed: int) -> None:
    flat = np.repeat(np.arange(len(sizes) + 1), [9, *sizes]).astype(np.int16)
    labels = np.random.default_rng(seed).permutation(flat)[:, None].repeat(1, axis=1)
    split = random_split(labels, train_share=share, window=1, seed=seed)
    assert not (split.train & split.test).any()
    assert ((split.train | split.test) == (labels > 0)).all()
    for size, train in zip(sizes, per_class(labels, split.train), strict=True):
        assert 1 <= train <= size - 1
        assert train in (1, size - 1) or abs(train - share * size) <= 0.5


def test_random_split_per_class_takes_half_of_small_classes() -> None:
    labels = np.repeat(np.array([1, 2, 3], np.int16), [40, 20, 1])[:, None]
    split = random_split(
        labels, train_per_class=15, window=1, seed=0, classes=("Corn", "Oats", "Lone")
    )
    assert per_class(labels, split.train) == [15, 10, 1]
    assert split.notes == (
        "Oats (20 pixels) has too few for 15 to train on: 10 are.",
        "Lone (1 pixel) has too few for 15 to train on: 1 are.",
        "Lone (1 pixel) is trained on whole: no pixel of it is left to test.",
    )


@pytest.mark.parametrize("guard", GUARDS)
def test_splits_follow_from_the_seed(guard: Guard) -> None:
    labels = patches(10, 10, 6, 4)
    cut = partial(blocks_split, labels, train_share=0.3, window=5, guard=guard)
    np.testing.assert_array_equal(cut(seed=3).train, cut(seed=3).train)
    assert (cut(seed=3).train != cut(seed=4).train).any()
    draw = partial(random_split, labels, train_share=0.3, window=5)
    np.testing.assert_array_equal(draw(seed=3).train, draw(seed=3).train)
    assert (draw(seed=3).train != draw(seed=4).train).any()


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("window", [1, 3, 7])
def test_no_test_pixel_lies_within_the_guard(guard: Guard, window: int) -> None:
    labels = patches(8, 7, 6, 3, seed=window)
    labels[::3, ::4] = 0
    split = blocks_split(labels, train_share=0.4, window=window, guard=guard, seed=0)
    assert not (split.train & split.test).any()
    assert (labels[split.train | split.test] > 0).all()
    assert far_apart(split, reach_of(guard, window))


def test_only_pixels_within_the_guard_are_dropped() -> None:
    labels = patches(8, 7, 6, 3)
    split = blocks_split(labels, train_share=0.4, window=7, seed=0)
    dropped = (labels > 0) & ~split.train & ~split.test
    assert dropped.any()
    assert (dilate(split.train, 3)[dropped]).all()


@settings(max_examples=40)
@given(
    st.integers(5, 30),
    st.integers(5, 30),
    st.integers(1, 3),
    st.sampled_from(GUARDS),
    st.integers(0, 2**32),
)
def test_cells_score_an_assignment_as_its_pixels_would(
    height: int, width: int, half: int, guard: Guard, seed: int
) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, (height, width)).astype(np.int16)
    labels[0, 0] = 1
    window = 2 * half + 1
    reach = reach_of(guard, window)
    grid = lay_grid(labels, 2 * window, (int(random.integers(2 * window)), 0), reach)
    trained = propose(grid, 1, 0.4, random)
    train = np.zeros(labels.shape, bool)
    train[labels > 0] = trained[0][grid.block]
    test = (labels > 0) & ~dilate(train, reach)
    present = [label for label in (1, 2, 3) if (labels == label).any()]
    train_counts, test_counts, sizes = (
        np.array([(labels[where] == label).sum() for label in present])
        for where in (train, test, labels > 0)
    )
    expected = scores(train_counts[None], test_counts[None], sizes, 0.4)[:, 0]
    _, found = best_assignment(grid, count_cells(grid, labels), trained, 0.4)
    assert tuple(found) == tuple(expected)


def test_blocks_of_large_fields_keep_every_class_near_the_share() -> None:
    labels = patches(20, 20, 12, 5)
    split = blocks_split(labels, train_share=0.3, window=5, seed=0)
    assert not split.notes
    assert min(per_class(labels, split.train)) >= 5
    assert min(per_class(labels, split.test)) >= 5
    assert abs(split.train.sum() / labels.size - 0.3) <= 0.1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_blocks_of_indian_pines_keep_12_classes_in_both(indian_pines: Labels, seed: int) -> None:
    split = blocks_split(indian_pines, train_share=0.3, window=25, seed=seed)
    train, test = per_class(indian_pines, split.train), per_class(indian_pines, split.test)
    assert min(train) > 0
    both = [t >= 0.05 * n and u >= 0.05 * n for t, u, n in zip(train, test, SIZES, strict=True)]
    assert sum(both) >= 11
    assert sum(u > 0 for u in test) >= 12
    assert abs(sum(train) / 10_249 - 0.3) <= 0.1
    assert len(split.notes) == sum(u == 0 for u in test)


SIZES = (46, 1428, 830, 237, 483, 730, 28, 478, 20, 972, 2455, 593, 205, 1265, 386, 93)


def test_a_class_within_one_block_is_trained_on_and_said() -> None:
    labels = patches(10, 10, 6, 2)
    labels[30:32, 30:33] = 3
    split = blocks_split(
        labels, train_share=0.3, window=7, seed=0, classes=("Corn", "Woods", "Oats")
    )
    assert per_class(labels, split.train)[2] > 0
    assert per_class(labels, split.test)[2] == 0
    assert len(split.notes) == 1
    assert re.match(r"Oats \(6 pixels\) is trained on (whole|with \d, not tested)", split.notes[0])


def test_a_given_mask_is_the_split() -> None:
    labels = np.array([[1, 1, 2, 2, 3], [0, 1, 2, 0, 3]], np.int16)
    mask = np.array([[1, 2, 1, 2, 2], [1, 0, 0, 0, 2]], np.uint8)
    split = given_split(labels, mask, 1, classes=("Corn", "Woods"))
    np.testing.assert_array_equal(split.train, (mask == 1) & (labels > 0))
    np.testing.assert_array_equal(split.test, mask == 2)
    assert (split.kind, split.guard, split.window) == ("given", "none", 1)
    assert split.notes == (
        "1 pixel of the split mask without a label: left out.",
        "class 3 (2 pixels) is tested but not trained on: no pixel of it can be right.",
    )


def test_a_given_mask_may_leave_classes_out() -> None:
    labels = np.array([[1, 1, 2, 2, 3]], np.int16)
    split = given_split(labels, np.array([[1, 2, 1, 0, 0]]), 1)
    assert split.notes == (
        "class 2 (2 pixels) is trained on with 1, not tested: no other pixel of it may be tested.",
        "class 3 (1 pixel) is neither trained on nor tested.",
    )


def test_masks_that_are_no_split_are_refused() -> None:
    labels = np.ones((4, 4), np.int16)
    with pytest.raises(DataError, match=r"split mask is \(3, 4\); the labels are \(4, 4\)"):
        given_split(labels, np.ones((3, 4)), 1)
    with pytest.raises(DataError, match="split mask holds 3, 7; expected 1 for train"):
        given_split(labels, np.array([[1, 2, 3, 7]] * 4), 1)
    with pytest.raises(DataError, match="no labelled pixel for train; mark some with 1"):
        given_split(labels, np.full((4, 4), 2), 1)
    with pytest.raises(DataError, match="no labelled pixel for test; mark some with 2"):
        given_split(labels, np.ones((4, 4)), 1)


def test_options_out_of_range_are_refused() -> None:
    labels = patches(4, 4, 5, 2)
    with pytest.raises(ConfigError, match="train_share=None and train_per_class=None; expected o"):
        random_split(labels, window=3, seed=0)
    with pytest.raises(ConfigError, match=r"train_share=1.0 is out of range"):
        random_split(labels, train_share=1.0, window=3, seed=0)
    with pytest.raises(ConfigError, match="train_per_class=0 is not allowed"):
        random_split(labels, train_per_class=0, window=3, seed=0)
    with pytest.raises(ConfigError, match="window=4 is even; expected an odd number"):
        blocks_split(labels, train_share=0.3, window=4, seed=0)
    with pytest.raises(ConfigError, match=r"train_share=0.0 is out of range"):
        blocks_split(labels, train_share=0.0, window=3, seed=0)
    with pytest.raises(ConfigError, match=r"guard='center' is unknown.*Did you mean 'centre'"):
        blocks_split(labels, train_share=0.3, window=3, seed=0, guard="center")  # type: ignore[arg-type]


def test_scenes_that_cannot_be_split_are_refused() -> None:
    with pytest.raises(DataError, match="window of 25 x 25 pixels is larger than the scene of 8 x"):
        blocks_split(np.ones((8, 40), np.int16), train_share=0.3, window=25, seed=0)
    with pytest.raises(DataError, match="No pixel of the scene has a label"):
        random_split(np.zeros((8, 8), np.int16), train_share=0.3, window=3, seed=0)
    lump = np.zeros((60, 60), np.int16)
    lump[20:24, 20:24] = 1
    with pytest.raises(DataError, match=r"leave no class both to train.*hold training centres"):
        blocks_split(lump, train_share=0.3, window=9, seed=0, guard="full")
