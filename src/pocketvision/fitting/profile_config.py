"""What a latency table is of: the blocks of a space or of named networks, or whole networks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

from pocketvision.budget import count_of
from pocketvision.compress.netadapt import forms_between
from pocketvision.errors import ConfigError, choice, in_range
from pocketvision.fitting.candidates import (
    candidates_on,
    list_backbones,
    list_candidates,
    select_names,
)
from pocketvision.fitting.config import HeadName
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.measure.table import terms
from pocketvision.models.arch import ArchSpec
from pocketvision.models.networks import AnySpec, DenseSpec
from pocketvision.models.registry import find_models
from pocketvision.models.space import SearchSpace
from pocketvision.models.spaces import find_space
from pocketvision.record.words import Precision, TaskName
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import MAX_THREADS

WHOLES = 20  # members of the space and networks, drawn at random, that check the table
DRAWS = 1000  # of members, at most: few of a small space are new
CLASSES = (10, 1000)  # heads of other sizes lie on the line through these
WHOLE_CLASSES = (10, 100, 1000)  # of whole networks that are named: one alone makes three
MAX_CLASSES = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileConfig:
    """What to time. space: None: networks alone. models: name patterns of networks, in all widths
    that `fit` tries. resolutions: pixels, of the space's if there is one; empty: its smallest.
    classes, head: of segmenters and detectors; heads of classifiers are timed for any number.

    Raises: ConfigError: a field outside what is allowed.
    """

    task: TaskName = "classify"
    space: str | None = "v3_large"
    models: tuple[str, ...] = ()
    resolutions: tuple[int, ...] = ()
    runtime: str = "onnxruntime"
    precision: Precision = "int8"
    threads: int = 1
    classes: int | None = None
    head: HeadName | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        in_range("threads", self.threads, 1, MAX_THREADS)
        self._check_task()
        for pattern in self.models:
            find_models(pattern)
        self._check_resolutions()
        offered = get_runtime(self.runtime).precisions
        if self.precision not in offered:
            raise ConfigError(
                f"precision={self.precision!r} is not offered by {self.runtime}; expected one of "
                f"{', '.join(offered)}."
            )

    def _check_task(self) -> None:
        choice("task", self.task, get_args(TaskName))
        if self.head is not None:
            choice("head", self.head, get_args(HeadName))
        for name, value, tasks in (
            ("classes", self.classes, ("segment", "detect")),
            ("head", self.head, ("segment",)),
        ):
            if value is not None and self.task not in tasks:
                raise ConfigError(
                    f"{name}={value!r} has no meaning with task={self.task!r}; leave it away."
                )
        if self.task == "classify":
            return
        if self.space is not None or not (self.models and self.resolutions):
            raise ConfigError(
                f"task={self.task!r} has no search space: give networks and their resolutions "
                f"(space={self.space!r}, models={list(self.models)}, resolutions="
                f"{list(self.resolutions)}), such as --models mobilenet_v3_small --resolution 256."
            )
        if self.classes is None:
            raise ConfigError(
                f"task={self.task!r} needs the number of classes that the images will have, "
                "without the background of boxes: their heads are timed with it. Give --classes."
            )
        in_range("classes", self.classes, 1, MAX_CLASSES)

    def _check_resolutions(self) -> None:
        if self.space is not None:
            find_space(self.space)
        elif not (self.models and self.resolutions):
            raise ConfigError(
                "without a space, give the networks and their resolutions, such as --models "
                "mobilenet_v3_small --resolution 96."
            )
        for resolution in self.resolutions:  # as of a search, also where the space has others
            in_range("resolution", resolution, 32, 1024)

    @property
    def searched(self) -> SearchSpace | None:
        """The space at the resolutions asked for."""
        if self.space is None:
            return None
        space = find_space(self.space)
        return replace(space, resolutions=self.resolutions or (min(space.resolutions),))

    @property
    def described(self) -> str:
        """'v3_large', 'mobilenet_v3_small' or both."""
        return " and ".join([*([self.space] if self.space else []), *self.models])


class Networks(NamedTuple):
    """What a table needs: carriers of all blocks and heads, and whole members that check it; or
    whole segmenters or detectors.
    """

    carriers: list[AnySpec]
    wholes: list[ArchSpec]
    dense: list[DenseSpec]


def networks_of(config: ProfileConfig) -> Networks:
    """The carriers of every block, and different whole networks drawn with the seed; of other tasks
    than classification, the networks that `fit` plans with, and the carriers of these and of
    narrower forms, as `shrink` makes them.
    """
    if config.classes is not None:
        dense = _dense(config, config.classes)
        forms = [form for spec in dense for form in forms_between(spec)]
        return Networks(_carriers(forms), [], dense)
    space, generator = config.searched, random.Random(config.seed)
    specs: list[ArchSpec] = []
    wholes: list[ArchSpec] = []
    if space is not None:
        specs += [space.spec(m, classes) for m in space.covering() for classes in CLASSES]
        wholes += _drawn(space, generator)
    if config.models:
        sides = config.resolutions if space is None else space.resolutions
        specs += _named(config.models, sides, CLASSES)
        known = _named(config.models, sides, WHOLE_CLASSES)
        wholes += generator.sample(known, min(WHOLES, len(known)))
    return Networks(_carriers(specs), wholes, [])


def _carriers(specs: Sequence[AnySpec]) -> list[AnySpec]:
    return list(dict.fromkeys(carrier for spec in specs for carrier in terms(spec)))


def _dense(config: ProfileConfig, classes: int) -> list[DenseSpec]:
    task, names = TASKS[config.task], select_names(config.models)
    backbones = list_backbones(names, (), config.resolutions, task.backbone)
    found = candidates_on(backbones, lambda one: task.network(one, classes, config.head))
    return [spec for c in found if not isinstance(spec := c.spec, ArchSpec)]


def _drawn(space: SearchSpace, generator: random.Random) -> list[ArchSpec]:
    """Members that differ, as WHOLES asks for; fewer where the space has no more."""
    found: dict[ArchSpec, None] = {}
    for _ in range(DRAWS):
        if len(found) == WHOLES:
            break
        found[space.spec(space.sample(generator), CLASSES[0])] = None
    return list(found)


def _named(
    patterns: tuple[str, ...], sides: tuple[int, ...], classes: tuple[int, ...]
) -> list[ArchSpec]:
    """What `fit` plans with under these names."""
    names = select_names(patterns)
    return [c.classifier for count in classes for c in list_candidates(names, (), sides, count)]


def counted_networks(config: ProfileConfig, networks: Networks) -> str:
    """'83 blocks of v3_large and 20 whole networks', or '5 networks of task segment'."""
    if networks.dense:
        on = f"of task {config.task} on {config.described}"
        parts = f"{len(networks.carriers)} blocks and heads"
        return f"{count_of(len(networks.dense), 'whole network')} and {parts} {on}"
    whole = count_of(len(networks.wholes), "whole network")
    return f"{count_of(len(networks.carriers), 'block')} of {config.described} and {whole}"
