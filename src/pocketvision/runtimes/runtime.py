"""What a runtime offers, and what travels with a file that it runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ArtefactError, ConfigError, check_shape, choice, in_range
from pocketvision.record.words import Precision, TaskName
from pocketvision.storage import from_json, to_json

FORMAT_VERSION = 1
MAX_THREADS = 256

Pixels = NDArray[np.uint8]  # (N, H, W, C), as a camera gives them
Logits = NDArray[np.float32]  # (N, K)
Answers = NDArray[Any]  # (N, ...): (N, K) logits of a classifier, else as `onnxfile.ANSWERS` says


@dataclass(frozen=True, kw_only=True, slots=True)
class FileCard:
    """What an exported file says about itself: network, classes in the order of the logits, input.

    A file exported before its classes are known (a candidate being timed) has none. task: what its
    answers are (`onnxfile.ANSWERS`). selects: a detector's file that selects boxes itself
    (`nms.with_selection`).
    """

    name: str
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing
    task: TaskName = "classify"
    selects: bool = False

    def to_metadata(self) -> dict[str, str]:
        """Flat text pairs, lists as JSON: what ONNX and OpenVINO files can carry."""
        return {
            "name": self.name,
            "classes": to_json(self.classes, indent=None).strip(),
            "mean": to_json(self.preprocessing.mean, indent=None).strip(),
            "std": to_json(self.preprocessing.std, indent=None).strip(),
            "resolution": str(self.preprocessing.resolution),
            "side": str(self.preprocessing.side),
            "whole": json.dumps(self.preprocessing.whole),
            "task": self.task,
            "selects": json.dumps(self.selects),
            "format_version": str(FORMAT_VERSION),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], *, source: str) -> FileCard:
        """The inverse of `to_metadata`; other keys are left alone.

        Raises: ArtefactError: a key is missing, a value is not what it should be, or the file was
        written by a later version.
        """
        keys = [field.name for field in fields(_Flat) if field.default is MISSING]
        if missing := [key for key in keys if key not in metadata]:
            raise ArtefactError(
                f"{source} was not written by pocketvision: its metadata lack {', '.join(missing)}."
            )
        known = [field.name for field in fields(_Flat) if field.name in metadata]
        texts = {key: json.dumps(metadata[key]) for key in ("name", "task") if key in metadata}
        values = {key: metadata[key] for key in known} | texts
        text = ",".join(f'"{key}":{value}' for key, value in values.items())
        flat = from_json(_Flat, f"{{{text}}}", source=f"the metadata of {source}")
        if flat.format_version > FORMAT_VERSION:
            raise ArtefactError(
                f"{source} has format version {flat.format_version}; this pocketvision reads up to "
                f"{FORMAT_VERSION}: update pocketvision."
            )
        try:
            preprocessing = Preprocessing(
                resolution=flat.resolution,
                side=flat.side,
                mean=flat.mean,
                std=flat.std,
                whole=flat.whole,
            )
        except ConfigError as error:
            raise ArtefactError(f"the metadata of {source} are unusable: {error}") from error
        return cls(
            name=flat.name,
            classes=flat.classes,
            preprocessing=preprocessing,
            task=flat.task,
            selects=flat.selects,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Flat:
    """A card as it lies in a file."""

    name: str
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resolution: int
    side: int
    format_version: int
    whole: bool = False  # files of before know of centres and classes alone
    task: TaskName = "classify"
    selects: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8Config:
    """How a float network becomes integers.

    ranges: of the activations. "minmax" keeps all values; "percentile" leaves 100 - percentile of
    them outside, half on each side; "mse" has the least squared error, "entropy" the least
    divergence; "chosen" takes for each tensor the one of these that disturbs the layers after it
    least. equalise: channels are scaled alike where that changes nothing. round_weights: together,
    so that errors cancel, rather than each to the nearest. correct_biases: layers keep the mean
    they have in float. float_layers: names of layers that stay in float.

    A runtime that cannot do one of these says what it does in its place.
    Raises: ConfigError: unknown ranges, a percentile outside 90..100.
    """

    ranges: Literal["chosen", "minmax", "percentile", "mse", "entropy"] = "chosen"
    percentile: float = 99.99
    equalise: bool = True
    round_weights: bool = True
    correct_biases: bool = True
    float_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        choice("ranges", self.ranges, ("chosen", "minmax", "percentile", "mse", "entropy"))
        in_range("percentile", self.percentile, 90, 100)


PLAIN_INT8 = Int8Config(ranges="minmax", equalise=False, round_weights=False, correct_biases=False)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Calibration:
    """Images that set the ranges of integer activations, and how.

    pixels: uint8 (N, H, W, C), N >= 1, at the resolution of the file.
    Raises: ConfigError: other pixels.
    """

    pixels: Pixels
    config: Int8Config = field(default_factory=Int8Config)

    def __post_init__(self) -> None:
        check_shape("calibration pixels", self.pixels.shape, (None, None, None, None))
        if self.pixels.dtype != np.uint8:
            raise ConfigError(f"calibration pixels are {self.pixels.dtype}; expected uint8.")
        if len(self.pixels) == 0:
            raise ConfigError("calibration needs at least one image; got none.")


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorRuns:
    """One operator as the runtime executes it: after fusion, under the runtime's own names.

    times_ms: of every run; 0 where it took less than the profiler's microsecond.
    """

    name: str
    operator: str
    times_ms: tuple[float, ...]


class Session(Protocol):
    """A file opened for running."""

    def run(self, pixels: Pixels) -> Answers:
        """(N, H, W, C) uint8 -> (N, ...) answers. Raises: ConfigError: other pixels."""
        ...

    def describe(self) -> dict[str, str]:
        """The options in force: runtime, version, precision, threads and what else matters."""
        ...


class Runtime(Protocol):
    """Something that runs files: converts, quantizes and opens them.

    `extra`: the optional dependency that brings it; empty when always there.
    """

    @property
    def name(self) -> str: ...

    @property
    def extra(self) -> str: ...

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What this machine runs natively, float first."""
        ...

    def check(self) -> None:
        """Raises: MissingExtraError: the runtime is not installed."""
        ...

    def file_name(self, stem: str) -> str:
        """The name of the file to hand to `session`: stem + this runtime's ending."""
        ...

    def files(self, path: Path) -> tuple[Path, ...]:
        """All files that must be shipped for `path` to run, `path` first."""
        ...

    def convert(self, float_onnx: Path, target: Path) -> None:
        """Write the float file of this runtime from an exported one. Raises: ArtefactError."""
        ...

    def compress_weights(self, float_onnx: Path, target: Path) -> None:
        """Write the w8 file of this runtime from an exported one. Raises: ArtefactError."""
        ...

    def quantize(self, float_onnx: Path, target: Path, calibration: Calibration) -> None:
        """Write the INT8 file of this runtime. Raises: ArtefactError, ConfigError."""
        ...

    def session(self, path: Path, precision: Precision, threads: int) -> Session:
        """Open a file. Raises: ArtefactError, ConfigError, MissingExtraError."""
        ...

    def profile(
        self, path: Path, precision: Precision, threads: int, pixels: Pixels, runs: int
    ) -> tuple[OperatorRuns, ...]:
        """What each operator takes in `runs` runs on `pixels`. Raises: as `session`."""
        ...


def check_pixels(pixels: Pixels, shape: tuple[int, int, int]) -> None:
    """Raises: ConfigError: unless pixels are uint8 (N, *shape), N >= 1."""
    if pixels.dtype != np.uint8:
        raise ConfigError(f"pixels are {pixels.dtype}; expected uint8, 0 to 255.")
    if pixels.ndim != 4 or pixels.shape[1:] != shape or len(pixels) == 0:
        check_shape("pixels", pixels.shape, (None, *shape))
        raise ConfigError("pixels hold no image; expected at least one.")
