"""The scene of a run, and the pixels that it trains and tests on."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from pocketvision.data.scene.reading import open_scene, read_mask
from pocketvision.data.scene.scene import Labels, Mask, Scene, missing
from pocketvision.data.scene.splits import SceneSplit, blocks_split, given_split, random_split
from pocketvision.errors import DataError
from pocketvision.mapping.config import SceneConfig
from pocketvision.storage import sha256_bytes


def read_scene(config: SceneConfig, data: str) -> Scene:
    """The scene in `data` with labels; those of pixels without a measurement are taken away.

    Raises: DataError: no labels, or files that cannot be read.
    """
    scene = open_scene(data, labels=config.labels, no_data=config.no_data)
    if scene.labels is None:
        raise DataError(
            f"{data} has no labels, and training needs some; name their file with --labels."
        )
    labels = np.where(measured_pixels(scene), scene.labels, np.int16(0))
    return replace(scene, labels=labels)


def labels_of(scene: Scene) -> Labels:
    """(H, W), 0 unlabelled, of a scene that `read_scene` gave."""
    assert scene.labels is not None
    return scene.labels


def measured_pixels(scene: Scene) -> Mask:
    """(H, W): true where a measurement lies."""
    measured = np.empty(scene.cube.shape[:2], np.bool_)
    for start, stop in scene.chunks():
        measured[start:stop] = ~missing(scene.cube.rows(start, stop), scene.no_data)
    return measured


def cube_sha256(scene: Scene) -> str:
    """SHA-256 of the spectra, as float32: the same whatever labels, names and file they come with.

    It tells whether weights have seen this cube.
    """
    digest = hashlib.sha256(f"{scene.cube.shape}".encode())
    for start, stop in scene.chunks():
        digest.update(np.ascontiguousarray(scene.cube.rows(start, stop), "<f4").data)
    return digest.hexdigest()


def split_scene(config: SceneConfig, scene: Scene, window: int) -> tuple[SceneSplit, ...]:
    """One split for each seed.

    Raises: DataError: labels that cannot be split, one class to train on, or nothing to test on.
    """
    splits = tuple(_split(config, scene, window, seed) for seed in config.seeds)
    for split in splits:
        _check(split, labels_of(scene))
    return splits


def split_sha256(*splits: SceneSplit) -> str:
    """Changes with any training or test pixel."""
    return sha256_bytes(b"".join(s.train.tobytes() + s.test.tobytes() for s in splits))


def _split(config: SceneConfig, scene: Scene, window: int, seed: int) -> SceneSplit:
    labels = labels_of(scene)
    if config.split == "given":
        assert config.mask is not None
        mask = read_mask(config.mask, scene.cube.shape)
        given = given_split(labels, mask, window=window, classes=scene.classes)
        return replace(given, seed=seed)  # of the training: the split itself has none
    if config.split == "random":
        counted = config.train_per_class is not None
        return random_split(
            labels,
            train_share=None if counted else config.train_share,
            train_per_class=config.train_per_class,
            window=window,
            seed=seed,
            classes=scene.classes,
        )
    return blocks_split(
        labels,
        train_share=config.train_share,
        window=window,
        guard=config.guard,
        seed=seed,
        classes=scene.classes,
    )


def _check(split: SceneSplit, labels: Labels) -> None:
    trained = len(np.unique(labels[split.train]))
    if trained < 2:
        raise DataError(
            f"The training pixels are of {trained} class; a classifier needs two or more: label "
            "more, or change --split or --train-share."
        )
    if not split.test.any():
        raise DataError(
            "No labelled pixel is left to test on; label more, or change --split or --train-share."
        )
