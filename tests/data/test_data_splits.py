from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketvision.data.folders import SPLITS
from pocketvision.data.splits import sorted_rows, split_by_content

SHARES = {"test": 0.15, "val": 0.15}
sizes = st.lists(st.integers(1, 120), min_size=1, max_size=4)
seeds = st.integers(0, 2**32)


def digests(contents: Sequence[str]) -> npt.NDArray[np.uint8]:
    """(n, 32), the SHA-256 of each text."""
    made = [bytearray(hashlib.sha256(text.encode()).digest()) for text in contents]
    return np.array(made, dtype=np.uint8).reshape(-1, 32)


def split(
    contents: Sequence[str], labels: Sequence[int], shares: Mapping[str, float], seed: int
) -> tuple[str, ...]:
    codes = split_by_content(digests(contents), np.array(labels, int), shares, seed=seed)
    return tuple(SPLITS[code] for code in codes)


def split_by_objects(
    hashes: Sequence[str], labels: Sequence[int], shares: Mapping[str, float], seed: int
) -> tuple[str, ...]:
    """The rule as sets and dictionaries of single files, as version 0.1.0 had it."""
    by_class: dict[int, Counter[str]] = {}
    for content, label in zip(hashes, labels, strict=True):
        by_class.setdefault(label, Counter())[content] += 1
    chosen: dict[str, str] = {}

    def place(content: str) -> str:
        return hashlib.sha256(f"{seed}:{content}".encode()).hexdigest()

    def fill(name: str, share: float, copies: Counter[str], order: list[str]) -> None:
        wanted = max(1, math.floor(share * copies.total() + 0.5))
        have = sum(copies[content] for content in order if chosen.get(content) == name)
        free = [content for content in order if content not in chosen]
        in_train = any(chosen.get(content) == "train" for content in order)
        spare = len(free) if in_train else len(free) - 1
        if have == 0 and spare > 0 and min(copies[content] for content in free) > wanted:
            chosen[min(free, key=lambda content: copies[content])] = name
            return
        for content in free:
            if spare > 0 and have + copies[content] <= wanted:
                chosen[content] = name
                have += copies[content]
                spare -= 1

    for label in sorted(by_class):
        copies = by_class[label]
        order = sorted(copies, key=place)
        for name, share in shares.items():
            fill(name, share, copies, order)
        for content in order:
            chosen.setdefault(content, "train")
    return tuple(chosen[content] for content in hashes)


def files(class_sizes: list[int]) -> tuple[list[str], list[int]]:
    labels = [label for label, size in enumerate(class_sizes) for _ in range(size)]
    return [f"content {row}" for row in range(len(labels))], labels


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=1, max_size=90),
    st.sampled_from([SHARES, {"val": 0.15}, {"test": 0.4}, {}]),
    seeds,
)
def test_columns_give_what_objects_gave(
    pairs: list[tuple[int, int]], shares: dict[str, float], seed: int
) -> None:
    contents, labels = [str(content) for content, _ in pairs], [label for _, label in pairs]
    hexadecimal = [row.tobytes().hex() for row in digests(contents)]
    expected = split_by_objects(hexadecimal, labels, shares, seed)
    assert split(contents, labels, shares, seed) == expected


@given(sizes, seeds)
def test_shares_are_met_within_one_image(class_sizes: list[int], seed: int) -> None:
    contents, labels = files(class_sizes)
    splits = split(contents, labels, SHARES, seed)
    assert len(splits) == len(contents)
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
    contents, labels = files(class_sizes)
    expected = dict(zip(contents, split(contents, labels, SHARES, seed), strict=True))
    pairs = list(zip(contents, labels, strict=True))
    random.shuffle(pairs)
    shuffled = [content for content, _ in pairs]
    splits = split(shuffled, [label for _, label in pairs], SHARES, seed)
    assert dict(zip(shuffled, splits, strict=True)) == expected


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=80), seeds)
def test_equal_files_share_a_split(pairs: list[tuple[int, int]], seed: int) -> None:
    contents = [str(content) for content, _ in pairs]
    splits = split(contents, [label for _, label in pairs], SHARES, seed)
    assert len(set(zip(contents, splits, strict=True))) == len(set(contents))


@given(st.lists(st.integers(1, 9), min_size=2, max_size=12), seeds)
def test_copies_in_a_class_leave_something_for_both(copies: list[int], seed: int) -> None:
    contents = [str(content) for content, count in enumerate(copies) for _ in range(count)]
    found = Counter(split(contents, [0] * len(contents), {"val": 0.15}, seed))
    assert found["val"] >= 1
    assert found["train"] >= 1
    assert found["val"] <= max(0.15 * len(contents) + 1, min(copies))


def test_seed_changes_the_choice() -> None:
    contents, labels = files([50])
    assert split(contents, labels, SHARES, 0) != split(contents, labels, SHARES, 1)


def test_choice_is_the_same_everywhere() -> None:
    contents, labels = files([10])
    splits = split(contents, labels, {"val": 0.2}, 0)
    assert [row for row, name in enumerate(splits) if name == "val"] == [0, 8]  # by sha256sum


def test_nothing_to_set_aside_is_all_train() -> None:
    assert split(["x", "y"], [0, 1], {}, 0) == ("train", "train")


def test_nothing_at_all_is_nothing() -> None:
    assert split([], [], SHARES, 0) == ()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=40))
def test_rows_are_sorted_as_hexadecimal_texts_are(pairs: list[tuple[int, int]]) -> None:
    hashes = digests([str(content) for content, _ in pairs])
    labels = np.array([label for _, label in pairs], dtype=np.int32)
    texts = [(label, row.tobytes().hex()) for label, row in zip(labels, hashes, strict=True)]
    expected = sorted(range(len(pairs)), key=lambda row: texts[row])
    assert sorted_rows(hashes, labels).tolist() == expected
