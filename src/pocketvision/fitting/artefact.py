"""The folder that comes out, and how it is opened again."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from pocketvision.boxes import Detections, Selection, select
from pocketvision.data.masks.mask import resized_mask
from pocketvision.data.pixels import centre_crop, load_pixels, open_image, to_rgb
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ArtefactError, ConfigError, DataError
from pocketvision.fitting.config import RunState
from pocketvision.models.arch import Network
from pocketvision.models.weights import load as load_network
from pocketvision.record.run import SCHEMA_VERSION, Record
from pocketvision.record.words import TaskName
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import Session
from pocketvision.storage import from_json, sha256_file

MODEL = "model"  # what to ship, and only that
CANDIDATES = "candidates"
TRAINING = "training"
RUN = "run.json"
RECORD = "record.json"
REPORT = "report.html"
CARD = "README.md"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """Classes and their probabilities, most probable first."""

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]

    @property
    def top(self) -> str:
        """The most probable class."""
        return self.classes[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Versioned:
    schema_version: int
    task: str = "classify"


class Artefact:
    """A fitted network, read from its folder.

    Raises: ArtefactError: the folder is missing, unfinished, or not one of ours.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.record = _read_record(self.folder)
        self.shipped = self.record.shipped
        self.network, description = load_network(self.folder)
        self.classes = description.classes
        if description.preprocessing is None:
            raise ArtefactError(f"{self.folder / 'network.json'} names no preprocessing.")
        self.preprocessing: Preprocessing = description.preprocessing
        self._session: Session | None = None

    def __repr__(self) -> str:
        return f"Artefact({str(self.folder)!r}: {self.record.network.label})"

    @property
    def classifier(self) -> Network:
        """The trained float network of a classification. Raises: ConfigError: it is another."""
        self._check_task("classify", "classes of images")
        assert isinstance(self.network, Network)
        return self.network

    @property
    def state(self) -> RunState:
        """What was asked, and the frozen plan."""
        return read_state(self.folder)

    @property
    def model_file(self) -> Path:
        """The file in model/ that the runtime opens."""
        runtime = get_runtime(self.shipped.runtime)
        return self.folder / MODEL / runtime.file_name("model")

    def session(self) -> Session:
        """The shipped file, opened under the options it was measured with.

        Raises: MissingExtraError: its runtime is not installed. ArtefactError: the file is not
        there, or is no model.
        """
        if self._session is None:
            runtime = get_runtime(self.shipped.runtime)
            runtime.check()
            self._session = runtime.session(
                self.model_file, self.shipped.precision, self.shipped.threads
            )
        return self._session

    def altered_files(self) -> list[str]:
        """Names in model/ that are missing, not recorded, or not what the record says."""
        return altered_files(self.folder / MODEL, self.shipped.files)

    def pixels(self, image: str | Path | Image.Image) -> np.ndarray:
        """(1, resolution, resolution, 3) uint8, as the network sees `image`. Raises: DataError."""
        pre = self.preprocessing
        return read_pixels(image, pre)[None]

    def logits(self, image: str | Path | Image.Image) -> np.ndarray:
        """(K,) float32 of the shipped classifier.

        Raises: DataError: an unreadable image. ConfigError: it is no classifier.
        """
        self._check_task("classify", "classes of images")
        row: np.ndarray = self.session().run(self.pixels(image))[0]
        return row

    def segment(self, image: str | Path | Image.Image) -> np.ndarray:
        """(H, W) uint8: the class of every pixel of the upright image.

        Raises: DataError: an unreadable image. ConfigError: the network does not name pixels.
        """
        self._check_task("segment", "classes of pixels")
        classes = self.session().run(self.pixels(image))[0]
        height, width, _ = upright(image).shape
        return resized_mask(classes, (height, width))

    def detect(
        self, image: str | Path | Image.Image, selection: Selection | None = None
    ) -> Detections:
        """What is found in an image; class k of `classes` is k + 1 in `Detections.classes`.

        selection: which boxes are told; None: nearly all, as an evaluation wants it.
        Raises: DataError: an unreadable image. ConfigError: the network does not find objects.
        """
        self._check_task("detect", "objects")
        found = self.session().run(self.pixels(image))[0]
        return select(found[:, :4], found[:, 4:], selection or Selection())

    def _check_task(self, task: TaskName, what: str) -> None:
        if self.record.task != task:
            raise ConfigError(
                f"{self.folder} holds a network for the task {self.record.task!r}, which does not "
                f"tell {what}."
            )

    def predict(self, image: str | Path | Image.Image) -> Prediction:
        """Classify one image with the shipped file. Raises: DataError: an unreadable image."""
        logits = self.logits(image).astype(np.float64)
        chances = np.exp(logits - logits.max())
        chances /= chances.sum()
        order = np.argsort(-chances, kind="stable")
        return Prediction(
            classes=tuple(self.classes[k] for k in order),
            probabilities=tuple(float(chances[k]) for k in order),
        )


def upright(image: str | Path | Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of a whole image, as it is seen. Raises: DataError: it cannot be read."""
    try:
        if isinstance(image, Image.Image):
            return np.asarray(to_rgb(image))
        with open_image(image) as found:
            found.load()
            return np.asarray(to_rgb(found))
    except (OSError, ValueError) as error:
        raise DataError(f"{image} cannot be read as an image: {error}") from error


def altered_files(folder: Path, recorded: dict[str, str]) -> list[str]:
    """Names in `folder` that are missing, not recorded, or of another SHA-256 than recorded."""
    here = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    return sorted(
        name
        for name in here.keys() | recorded.keys()
        if name not in here
        or name not in recorded
        or not here[name].is_file()
        or sha256_file(here[name]) != recorded[name]
    )


def read_pixels(
    image: str | Path | bytes | Image.Image, preprocessing: Preprocessing, *, where: str = ""
) -> np.ndarray:
    """(resolution, resolution, 3) uint8 of one image.

    image: a path, the content of a file, or a Pillow image. where: its name in messages.

    Raises: DataError: it cannot be read.
    """
    source = BytesIO(image) if isinstance(image, bytes) else image
    name = where or (image if isinstance(image, str | Path) else "the image")
    try:
        pixels = load_pixels(source, preprocessing.side, preprocessing.whole)
    except FileNotFoundError as error:
        raise DataError(f"{name} does not exist.") from error
    except Exception as error:  # Pillow raises many kinds for broken files
        raise DataError(f"{name} cannot be read as an image: {error}") from error
    return centre_crop(pixels, preprocessing.resolution)


def load(folder: str | Path) -> Artefact:
    """Open a folder that `fit` wrote. Raises: ArtefactError."""
    return Artefact(folder)


def refuse_scenes(folder: Path) -> None:
    """Raises: ArtefactError: `folder` holds a network fitted to a scene."""
    if (folder / RECORD).is_file():
        _read_head(folder / RECORD)


def read_state(folder: Path) -> RunState:
    """run.json of `folder`. Raises: ArtefactError: it is missing or damaged."""
    path = folder / RUN
    if not path.is_file():
        raise ArtefactError(f"{path} does not exist.")
    return from_json(RunState, path.read_bytes(), source=str(path))


def _read_record(folder: Path) -> Record:
    if not folder.is_dir():
        raise ArtefactError(f"{folder} is not a folder; give the folder that `fit` wrote.")
    path = folder / RECORD
    if not path.is_file():
        unfinished = (folder / RUN).is_file()
        reason = "its run has not finished" if unfinished else "it holds no record.json"
        remedy = (
            "run the same `fit` command again to go on" if unfinished else "was it made by `fit`?"
        )
        raise ArtefactError(f"{folder} is not a fitted network: {reason}; {remedy}")
    version = _read_head(path).schema_version
    if version > SCHEMA_VERSION:
        raise ArtefactError(
            f"{path} has schema version {version}; this pocketvision reads up to "
            f"{SCHEMA_VERSION}: update pocketvision."
        )
    record = from_json(Record, path.read_bytes(), source=str(path))
    if not record.shipped.files:
        raise ArtefactError(
            f"{folder} holds a run that missed its gate or its budget, and nothing to ship; "
            f"{folder / REPORT} says why."
        )
    return record


def _read_head(path: Path) -> _Versioned:
    head = from_json(_Versioned, path.read_bytes(), source=str(path), extra="ignore")
    if head.task not in get_args(TaskName):
        raise ArtefactError(
            f"{path.parent} holds a network for {head.task} scenes, not for photos; use "
            "`pocketvision map`, or pocketvision.SceneArtefact from Python."
        )
    return head
