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
from pocketvision.measure.judge import Answers
from pocketvision.models.answering import answering
from pocketvision.models.networks import AnyNetwork
from pocketvision.runtimes.runtime import Session

FLOAT_PIXELS = 64 * 64 * 64  # in a batch of the float network; PyTorch is slow with single images


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
    """Answers of several predictors on the same image files.

    answers: name -> (n, ...). decode_ms: median per image file.
    """

    answers: dict[str, Answers]
    decode_ms: float


def network_answers(
    network: AnyNetwork, pixels: np.ndarray, preprocessing: Preprocessing
) -> Answers:
    """(n, H, W, 3) uint8 -> (n, ...) answers of the float network, in PyTorch."""
    with torch.inference_mode():
        images = normalise(torch.from_numpy(pixels), preprocessing)
        found = answering(network.eval())(images)
    answers: Answers = (found if isinstance(found, torch.Tensor) else found[-1]).numpy()
    return answers


def pixels_of_row(images: Images, row: int, preprocessing: Preprocessing) -> np.ndarray:
    """(resolution, resolution, 3) uint8 of one image file.

    Raises: DataError: it changed since it was scanned, or cannot be read any more.
    """
    return read_pixels(images.read_unchanged(row), preprocessing, where=images.where(row))


def run_on_files(
    images: Images,
    rows: np.ndarray,
    preprocessing: Preprocessing,
    network: AnyNetwork,
    sessions: dict[str, Session],
    reporter: Reporter,
) -> FileRun:
    """Decode each file once and hand its pixels to the float network ("float") and all sessions.

    Files are asked for one image at a time, as they will be; the float network, which is only
    compared with, for as many as are quick at once.

    Raises: DataError: a file changed since it was scanned, or cannot be read any more.
    """
    answers: dict[str, list[np.ndarray]] = {"float": [], **{name: [] for name in sessions}}
    decoding: list[float] = []
    together = max(1, min(len(rows), FLOAT_PIXELS // preprocessing.resolution**2))
    with reporter.progress("Verifying from image files") as advance:
        for first in range(0, len(rows), together):
            batch: list[np.ndarray] = []
            for row in rows[first : first + together].tolist():
                start = time.perf_counter()
                batch.append(pixels_of_row(images, row, preprocessing))
                decoding.append(time.perf_counter() - start)
                for name, session in sessions.items():
                    answers[name].append(session.run(batch[-1][None])[0])
                advance(len(decoding), len(rows), "")
            answers["float"] += list(network_answers(network, np.stack(batch), preprocessing))
    return FileRun(
        answers={name: np.stack(values) for name, values in answers.items()},
        decode_ms=float(np.median(decoding)) * 1e3,
    )
