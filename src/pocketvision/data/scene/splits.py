"""Which labelled pixels of a scene are trained on and which are tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.scene.blocks import search
from pocketvision.data.scene.scene import Labels, Mask
from pocketvision.errors import ConfigError, DataError, at_least, choice, in_range

Kind = Literal["blocks", "random", "given"]
Guard = Literal["none", "centre", "full"]

BLOCK_WINDOWS = 2  # side of a block, in windows


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SceneSplit:
    """Training and test pixels, (H, W) each and without a common one.

    window: side of the square a pixel is classified by. guard: how far test pixels keep from
    training pixels: "centre": no test window holds a training centre, a pixel whose label was
    learned; "full": none shares pixels with a training window. notes: what the split could not do.
    """

    kind: Kind
    guard: Guard
    window: int
    seed: int
    train: Mask
    test: Mask
    notes: tuple[str, ...] = ()


def reach_of(guard: Guard, window: int) -> int:
    """Chebyshev distance from a training pixel within which a guard allows no test pixel."""
    return {"none": 0, "centre": window // 2, "full": window - 1}[guard]


def random_split(
    labels: Labels,
    *,
    window: int,
    seed: int,
    train_share: float | None = None,
    train_per_class: int | None = None,
    classes: Sequence[str] = (),
) -> SceneSplit:
    """Pixels drawn at random within each class: the protocol of most papers, which lets test
    windows hold training centres.

    Every class with two pixels has one in train and one in test. labels: (H, W), 0 unlabelled.
    train_share: of each class, 0.001..0.999. train_per_class: instead, so many pixels of each
    class, and half of a class that has fewer than twice as many. classes: names, for messages.

    Raises: ConfigError: not one of the two, or outside its range; an even window.
            DataError: no labelled pixel, or a scene smaller than the window.
    """
    _check(labels, window)
    if (train_share is None) == (train_per_class is None):
        raise ConfigError(
            f"train_share={train_share} and train_per_class={train_per_class}; expected one."
        )
    if train_share is not None:
        in_range("train_share", train_share, 0.001, 0.999)
    if train_per_class is not None:
        at_least("train_per_class", train_per_class, 1)
    random = np.random.default_rng(seed)
    train = np.zeros(labels.shape, np.bool_)
    notes = []
    for label in present(labels):
        pixels = np.flatnonzero(labels == label)
        wanted = _wanted(len(pixels), train_share, train_per_class)
        train.flat[random.permutation(pixels)[:wanted]] = True
        if train_per_class is not None and wanted < train_per_class:
            notes.append(
                f"{class_name(label, classes)} ({pixel_count(len(pixels))}) has too few for "
                f"{train_per_class} to train on: {wanted} are."
            )
    test = (labels > 0) & ~train
    return _split("random", "none", window, seed, train, test, labels, classes, notes)


def _wanted(pixels: int, share: float | None, per_class: int | None) -> int:
    """Training pixels of a class."""
    if per_class is not None:
        return max(1, min(per_class, pixels // 2))
    assert share is not None
    return max(1, min(round(share * pixels), pixels - 1))


def given_split(
    labels: Labels, mask: NDArray[Any], window: int, *, classes: Sequence[str] = ()
) -> SceneSplit:
    """The split of a published mask (H, W): 1 train, 2 test, 0 neither.

    Raises: ConfigError: an even window. DataError: another size than the labels', other values, no
            pixel to train or to test on, or a scene smaller than the window.
    """
    _check(labels, window)
    if mask.shape != labels.shape:
        raise DataError(f"The split mask is {mask.shape}; the labels are {labels.shape}.")
    others = np.setdiff1d(mask, (0, 1, 2))
    if len(others):
        raise DataError(
            f"The split mask holds {', '.join(str(value) for value in others[:5])}; expected 1 for "
            "train, 2 for test, 0 for neither."
        )
    labelled = labels > 0
    train, test = (mask == 1) & labelled, (mask == 2) & labelled
    for name, value, chosen in (("train", 1, train), ("test", 2, test)):
        if not chosen.any():
            raise DataError(
                f"The split mask marks no labelled pixel for {name}; mark some with {value}."
            )
    unlabelled = int(((mask > 0) & ~labelled).sum())
    notes = []
    if unlabelled:
        notes.append(f"{pixel_count(unlabelled)} of the split mask without a label: left out.")
    return _split("given", "none", window, 0, train, test, labels, classes, notes)


def blocks_split(
    labels: Labels,
    *,
    train_share: float,
    window: int,
    seed: int,
    guard: Guard = "centre",
    classes: Sequence[str] = (),
) -> SceneSplit:
    """Whole blocks, twice the window wide, to train or to test on, with a guard band between.

    Of many seeded choices within ten points of `train_share` of the labelled pixels the one that
    keeps most classes in both, with 5 pixels and 5 % of the class in each; then what comes nearest
    to the share, then what keeps most test pixels. A class that no training block holds is trained
    on, not tested. labels: (H, W), 0 unlabelled. train_share: 0.01..0.99.
    classes: names, for messages.

    Raises: ConfigError: an unknown guard, a share outside its range, an even window.
            DataError: no labelled pixel, a scene smaller than the window, or no class in both.
    """
    choice("guard", guard, get_args(Guard))
    in_range("train_share", train_share, 0.01, 0.99)
    _check(labels, window)
    side, reach = BLOCK_WINDOWS * window, reach_of(guard, window)
    train, test = search(labels, side=side, reach=reach, train_share=train_share, seed=seed)
    if not np.isin(labels[test], labels[train]).any():
        raise DataError(
            f"Blocks of {side} x {side} pixels leave no class both to train and to test on in a "
            f"scene of {labels.shape[0]} x {labels.shape[1]}; take a smaller --window, or "
            "--split random, whose test windows hold training centres."
        )
    return _split("blocks", guard, window, seed, train, test, labels, classes, [])


def _split(
    kind: Kind,
    guard: Guard,
    window: int,
    seed: int,
    train: Mask,
    test: Mask,
    labels: Labels,
    classes: Sequence[str],
    notes: list[str],
) -> SceneSplit:
    """The split, with a note for each class that is not in both."""
    sizes, trained, tested = (_counts(labels, where) for where in (labels > 0, train, test))
    for label in present(labels):
        who = f"{class_name(label, classes)} ({pixel_count(int(sizes[label]))})"
        if not tested[label] and not trained[label]:
            notes.append(f"{who} is neither trained on nor tested.")
        elif not tested[label] and trained[label] == sizes[label]:
            notes.append(f"{who} is trained on whole: no pixel of it is left to test.")
        elif not tested[label]:
            notes.append(
                f"{who} is trained on with {trained[label]}, not tested: no other pixel of it may "
                "be tested."
            )
        elif not trained[label]:
            notes.append(f"{who} is tested but not trained on: no pixel of it can be right.")
    return SceneSplit(
        kind=kind,
        guard=guard,
        window=window,
        seed=seed,
        train=train,
        test=test,
        notes=tuple(notes),
    )


def present(labels: Labels) -> list[int]:
    """Labels that occur, 0 left out."""
    return [int(label) for label in np.unique(labels) if label > 0]


def class_name(label: int, classes: Sequence[str]) -> str:
    """The name of a label from 1 up; `class 3` where names are not given."""
    return classes[label - 1] if label <= len(classes) else f"class {label}"


def pixel_count(number: int) -> str:
    """`1 pixel`, `1,234 pixels`."""
    return f"{number:,} pixel" if number == 1 else f"{number:,} pixels"


def _counts(labels: Labels, where: Mask) -> NDArray[np.int64]:
    """(greatest label + 1,) pixels of each label within `where`."""
    counts: NDArray[np.int64] = np.bincount(labels[where], minlength=int(labels.max()) + 1)
    return counts


def _check(labels: Labels, window: int) -> None:
    at_least("window", window, 1)
    if window % 2 == 0:
        raise ConfigError(f"window={window} is even; expected an odd number, for a middle pixel.")
    height, width = labels.shape
    if min(height, width) < window:
        raise DataError(
            f"The window of {window} x {window} pixels is larger than the scene of {height} x "
            f"{width}; take a smaller --window."
        )
    if not (labels > 0).any():
        raise DataError("No pixel of the scene has a label; a split needs labelled pixels.")
