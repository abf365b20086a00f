"""Shortcuts of what has tests of its own and takes seconds, for tests of the whole main job."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from torch import nn

import pocketvision
from pocketvision.fitting import footprint
from pocketvision.measure.memory import ProcessPeak, measure_process
from pocketvision.runtimes.direct import write_directly
from pocketvision.runtimes.export import frozen_copy
from pocketvision.runtimes.onnxfile import read_model, write_model
from pocketvision.runtimes.runtime import PLAIN_INT8, FileCard

EXPORTING = ("making", "quantize", "quantize_source", "int8_rungs")


def export_quickly(network: nn.Module, path: Path, card: FileCard) -> None:
    """As `export_onnx`, whose nodes `write_directly` is held to."""
    answering: Any = network
    with TemporaryDirectory() as folder:
        direct = Path(folder) / "direct.onnx"
        write_directly(frozen_copy(getattr(answering, "network", answering)), direct, card)
        model = read_model(direct)
    model.producer_name, model.producer_version = "pocketvision", pocketvision.__version__
    write_model(model, path)


class Peaks:
    """As `measure_process`, which is asked once for files of the same names and sizes."""

    def __init__(self, measure: Callable[..., ProcessPeak]) -> None:
        self.measure = measure
        self.known: dict[Hashable, ProcessPeak] = {}

    def __call__(self, folder: Path, shape: tuple[int, ...], repeats: int) -> ProcessPeak:
        sizes = sorted((path.name, path.stat().st_size) for path in folder.iterdir())
        key = (tuple(sizes), shape, repeats)
        if key not in self.known:
            self.known[key] = self.measure(folder, shape, repeats)
        return self.known[key]


@contextmanager
def quick_files() -> Iterator[None]:
    """Files without the exporter, INT8 without the search for ranges, memory of one process."""
    with pytest.MonkeyPatch.context() as patch:
        for module in EXPORTING:
            patch.setattr(f"pocketvision.fitting.{module}.export_onnx", export_quickly)
        patch.setattr("pocketvision.compress.ladder.Int8Config", lambda: PLAIN_INT8)
        patch.setattr("pocketvision.fitting.variants.REPEATS", 1)
        patch.setattr(footprint, "measure_process", Peaks(measure_process))
        yield
