from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from pocketvision.data.splits import split_by_content

SHARES = {"test": 0.15, "val": 0.15}
sizes = st.lists(st.integers(1, 120), min_size=1, max_size=4)
seeds = st.integers(0, 2**32)


def files(class_sizes: list[int]) -> tuple[list[str], list[int]]:
    labels = [label for label, size in enumerate(class_sizes) for _ in range(size)]
    return [f"content {row}" for row in range(len(labels))], labels


@given(sizes, seeds)
def test_shares_are_met_within_one_image(class_sizes: list[int], seed: int) -> None:
    hashes, labels = files(class_sizes)
    splits = split_by_content(hashes, labels, SHARES, seed=seed)
    assert len(splits) == len(hashes)
    found = Counter(zip(labels, splits, strict=True))
    for label, size in enumerate(class_sizes):
        assert sum(found[label, name] for name in ("train", "val", "test")) == size
        for name in SHARES:
            assert abs(found[label, name] - 0.15 * size) <= 1
        assert found[label, "train"] >= 1
        if size >= 3:
            assert found[label, "val"] >= 1
            assert found[label, "test"] >= 1


@given(sizes, seeds, st.randoms())
def test_order_does_not_matter(class_sizes: list[int], seed: int, random: Random) -> None:
    hashes, labels = files(class_sizes)
    expected = dict(zip(hashes, split_by_content(hashes, labels, SHARES, seed=seed), strict=True))
    pairs = list(zip(hashes, labels, strict=True))
    random.shuffle(pairs)
    shuffled = [content for content, _ in pairs]
    splits = split_by_content(shuffled, [label for _, label in pairs], SHARES, seed=seed)
    assert dict(zip(shuffled, splits, strict=True)) == expected


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=80), seeds)
def test_equal_files_share_a_split(pairs: list[tuple[int, int]], seed: int) -> None:
    hashes = [str(content) for content, _ in pairs]
    labels = [label for _, label in pairs]
    splits = split_by_content(hashes, labels, SHARES, seed=seed)
    assert len(set(zip(hashes, splits, strict=True))) == len(set(hashes))


@given(st.lists(st.integers(1, 9), min_size=2, max_size=12), seeds)
def test_copies_in_a_class_leave_something_for_both(copies: list[int], seed: int) -> None:
    hashes = [str(content) for content, count in enumerate(copies) for _ in range(count)]
    splits = split_by_content(hashes, [0] * len(hashes), {"val": 0.15}, seed=seed)
    found = Counter(splits)
    assert found["val"] >= 1
    assert found["train"] >= 1
    assert found["val"] <= max(0.15 * len(hashes) + 1, min(copies))


def test_seed_changes_the_choice() -> None:
    hashes, labels = files([50])
    assert split_by_content(hashes, labels, SHARES, seed=0) != split_by_content(
        hashes, labels, SHARES, seed=1
    )


def test_choice_is_the_same_everywhere() -> None:
    hashes, labels = files([10])
    splits = split_by_content(hashes, labels, {"val": 0.2}, seed=0)
    assert [row for row, name in enumerate(splits) if name == "val"] == [5, 9]  # by sha256sum


def test_nothing_to_set_aside_is_all_train() -> None:
    assert split_by_content(["x", "y"], [0, 1], {}, seed=0) == ("train", "train")
