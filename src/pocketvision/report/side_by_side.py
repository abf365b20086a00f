"""The schema of a comparison of networks: what the table and its page read."""

from __future__ import annotations

from dataclasses import dataclass

from pocketvision.record.files import Prior
from pocketvision.record.timing import Latency, Machine
from pocketvision.record.words import Precision


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedFile:
    """One network as a file of one runtime x precision, exported untrained and measured.

    size_bytes: of all files needed to run. latency: of one image. batched: of one run on a batch.
    images_per_s: the batch over the median of `batched`.
    """

    runtime: str
    precision: Precision
    size_bytes: int
    latency: Latency
    batched: Latency
    images_per_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One network of the comparison; files is empty where nothing was timed."""

    network: str  # label, e.g. "mobilenet_v3_small x0.75 @96"
    name: str
    width: float
    resolution: int
    macs: int
    parameters: int
    peak_activation_bytes: int
    published: Prior
    files: tuple[TimedFile, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SideBySide:
    """Networks against each other; everything timed was timed in turns, in one go.

    batch: images per run of `TimedFile.batched`. machine: where it was timed; None: nothing was.
    """

    networks: tuple[Side, ...]
    threads: int
    batch: int
    machine: Machine | None = None
