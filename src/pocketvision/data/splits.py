"""A split that follows from the content of the files alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from pocketvision.storage import sha256_bytes


def split_by_content(
    hashes: Sequence[str], labels: Sequence[int], shares: Mapping[str, float], *, seed: int
) -> tuple[str, ...]:
    """The split of every file: one of `shares`, or "train".

    Of every class, round(share * n) files go to each named split: those that come first in the
    order of sha256(seed, content hash). So names, order and machine do not matter. Files of equal
    content go to one split, whatever their labels; with such copies a share is met as nearly as
    whole groups allow. A named split gets at least one file of each class that has two different
    files to spare, and the last group stays in train.

    hashes: hexadecimal SHA-256 of each file. labels: class of each file.
    """
    by_class: dict[int, Counter[str]] = {}
    for content, label in zip(hashes, labels, strict=True):
        by_class.setdefault(label, Counter())[content] += 1
    chosen: dict[str, str] = {}
    for label in sorted(by_class):
        copies = by_class[label]
        order = sorted(copies, key=lambda content: sha256_bytes(f"{seed}:{content}".encode()))
        for name, share in shares.items():
            _fill(name, share, copies, order, chosen)
        for content in order:
            chosen.setdefault(content, "train")
    return tuple(chosen[content] for content in hashes)


def _fill(
    name: str, share: float, copies: Counter[str], order: list[str], chosen: dict[str, str]
) -> None:
    """Choose contents of one class for split `name`, leaving at least one for train."""
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
