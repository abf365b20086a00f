"""The network that another one learns from."""

from __future__ import annotations

from pathlib import Path

import torch

from pocketvision.errors import ConfigError
from pocketvision.fitting.run import Run
from pocketvision.models.detector import DetectorSpec
from pocketvision.models.networks import AnyNetwork, AnySpec, task_of
from pocketvision.models.weights import load


def teacher_of(run: Run) -> AnyNetwork | None:
    """The network to learn from, if one was asked for. Raises: as `teacher_in`."""
    if run.config.teacher is None:
        return None
    return teacher_in(run.config.teacher, run.spec, run.samples.classes)


def teacher_in(folder: str, spec: AnySpec, classes: tuple[str, ...]) -> AnyNetwork:
    """The network in a folder, from which that of `spec` is to learn.

    Raises: ArtefactError: the folder holds no network. ConfigError: one for another task, or with
    other classes or anchors.
    """
    network, file = load(Path(folder))
    named = f"teacher={folder!r}"
    if task_of(network.spec) != task_of(spec):
        raise ConfigError(
            f"{named} is of {network.spec.label}, which is for another task than {spec.label}."
        )
    if (file.classes or classes) != classes:
        raise ConfigError(
            f"{named} tells other classes apart: {', '.join(file.classes)}; the images have "
            f"{', '.join(classes)}."
        )
    if isinstance(network.spec, DetectorSpec) and isinstance(spec, DetectorSpec):
        theirs = network.spec.at(spec.resolution)
        if not torch.equal(theirs.anchors(), spec.anchors()):
            raise ConfigError(
                f"{named} has other anchors than {spec.label}; give a detector of its kind."
            )
    return network
