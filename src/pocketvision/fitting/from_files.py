"""Numbers from image files: the float network and exported files on the same pixels."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import normalise
from pocketvision.fitting.artefact import read_pixels
from pocketvision.fitting.reporter import Reporter
from pocketvision.models.arch import Network
from pocketvision.runtimes.runtime import Session


class Images(Protocol):
    """Image files by row; `data.images.Samples` and `data.index.Index` are such."""

    def read_unchanged(self, row: int) -> bytes:
        """The file, if it still is what was scanned. Raises: DataError."""
        ...

    def where(self, row: int) -> str:
        """The file's path, for messages."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRun:
    """Logits of several predictors on the same image files.

    logits: name -> (n, K) float32. labels: (n,) int64. decode_ms: median per image file.
    """

    logits: dict[str, np.ndarray]
    labels: np.ndarray
    decode_ms: float


def network_logits(
    network: Network, pixels: np.ndarray, preprocessing: Preprocessing
) -> np.ndarray:
    """(n, H, W, 3) uint8 -> (n, K) float32 of the float network, in PyTorch."""
    with torch.inference_mode():
        images = normalise(torch.from_numpy(pixels), preprocessing)
        logits: np.ndarray = network.eval()(images).numpy()
    return logits


def pixels_of_row(images: Images, row: int, preprocessing: Preprocessing) -> np.ndarray:
    """(resolution, resolution, 3) uint8 of one image file.

    Raises: DataError: it changed since it was scanned, or cannot be read any more.
    """
    return read_pixels(images.read_unchanged(row), preprocessing, where=images.where(row))


def run_on_files(
    images: Images,
    rows: np.ndarray,
    labels: np.ndarray,
    preprocessing: Preprocessing,
    network: Network,
    sessions: dict[str, Session],
    reporter: Reporter,
) -> FileRun:
    """Decode each file once and hand its pixels to the float network ("float") and all sessions.

    labels: (n,) of those rows.

    Raises: DataError: a file changed since it was scanned, or cannot be read any more.
    """
    logits: dict[str, list[np.ndarray]] = {"float": [], **{name: [] for name in sessions}}
    decoding: list[float] = []
    with reporter.progress("Verifying from image files") as advance:
        for number, row in enumerate(rows.tolist()):
            start = time.perf_counter()
            pixels = pixels_of_row(images, row, preprocessing)[None]
            decoding.append(time.perf_counter() - start)
            logits["float"].append(network_logits(network, pixels, preprocessing)[0])
            for name, session in sessions.items():
                logits[name].append(session.run(pixels)[0])
            advance(number + 1, len(rows), "")
    return FileRun(
        logits={name: np.stack(values) for name, values in logits.items()},
        labels=labels,
        decode_ms=float(np.median(decoding)) * 1e3,
    )
