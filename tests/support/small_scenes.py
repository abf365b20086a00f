"""A scene that is small enough for a test: four classes in patches, each with its own spectrum."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from pocketvision.data.scene.facts import FACTS_FILE
from pocketvision.mapping.config import SceneConfig
from pocketvision.progress import Advance

HEIGHT, WIDTH, BANDS, CLASSES = 40, 48, 20, 4
WINDOW = 9
SCENE_JSON = '{"name": "Small <b>scene", "classes": ["corn", "hay", "oats", "woods"]}'
TRANSFORM = (20.0, 0.0, 600_000.0, 0.0, -20.0, 4_000_000.0)

# One network that trains in a second, one split; generous, so that chance cannot fail a gate.
QUICK = SceneConfig(
    data="",
    methods=("mobile_patch",),
    window=WINDOW,
    components=6,
    steps=12,
    max_drop_points=100.0,
    accelerator="cpu",
)
# All methods, as the shared artefact is made.
WHOLE = SceneConfig(
    data="",
    methods=("hybridsn", "mobile_patch", "svm"),
    window=WINDOW,
    components=13,
    steps=60,
    max_drop_points=100.0,
    accelerator="cpu",
)


@dataclass
class Told:
    """A reporter that remembers what was said, and interrupts where it is asked to.

    interrupt: the beginning of the title of a progress, whose `after`-th advance, or whose start
    where `after` is 0, is interrupted.
    """

    interrupt: str = "nothing"
    after: int = 0
    sentences: list[str] = field(default_factory=list)

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)
        if sentence.startswith(self.interrupt):
            raise KeyboardInterrupt

    @contextmanager
    def progress(self, title: str) -> Iterator[Advance]:
        self.sentences.append(title)
        advances = 0

        def advance(done: int, total: int, note: str) -> None:
            nonlocal advances
            advances += 1
            if title.startswith(self.interrupt) and advances == self.after:
                raise KeyboardInterrupt

        if title.startswith(self.interrupt) and self.after == 0:
            raise KeyboardInterrupt
        yield advance


def small_labels() -> NDArray[np.uint8]:
    """(H, W): patches of 8x8 pixels in turn, every third row of patches without a label."""
    rows, columns = np.indices((HEIGHT, WIDTH)) // 8
    labels = (rows + 2 * columns + columns // 3) % CLASSES + 1
    labels[rows % 3 == 2] = 0
    numbers: NDArray[np.uint8] = labels.astype(np.uint8)
    return numbers


def small_cube(labels: NDArray[np.integer], bands: int = BANDS, seed: int = 0) -> NDArray[np.int16]:
    """(H, W, bands): a curve for each class, and noise that leaves them easily told apart."""
    generator = np.random.default_rng(seed)
    curves = generator.uniform(1000, 4000, (int(labels.max()) + 1, bands))
    noise = generator.normal(0, 300, (*labels.shape, bands))
    cube: NDArray[np.int16] = (curves[labels] + noise).astype(np.int16)
    return cube


def write_scene(
    folder: Path,
    cube: NDArray[np.generic] | None = None,
    labels: NDArray[np.generic] | None = None,
    facts: str = SCENE_JSON,
) -> Path:
    """cube.npy, labels.npy and scene.json."""
    labels = small_labels() if labels is None else labels
    folder.mkdir(parents=True)
    np.save(folder / "cube.npy", small_cube(small_labels()) if cube is None else cube)
    np.save(folder / "labels.npy", labels)
    (folder / FACTS_FILE).write_text(facts)
    return folder


def write_geotiff(
    path: Path,
    values: NDArray[np.generic],
    *,
    crs: str | None = "EPSG:32611",
    no_data: float | None = None,
    colours: dict[int, tuple[int, int, int]] | None = None,
) -> Path:
    """A cube (H, W, B) or a label map (H, W), with its place where `crs` names a system."""
    planes = np.moveaxis(values.reshape(*values.shape[:2], -1), -1, 0)
    count, height, width = planes.shape
    profile = {"height": height, "width": width, "count": count, "dtype": planes.dtype.name}
    if crs is not None:
        profile |= {"crs": crs, "transform": rasterio.Affine(*TRANSFORM)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", nodata=no_data, **profile) as file:
            file.write(planes)
            if colours is not None:
                file.write_colormap(1, {k: (*colour, 255) for k, colour in colours.items()})
    return path


IDS = (3, 7, 20, 200)  # of the classes in the label file of `write_placed`
COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200), (120, 90, 10))
HOLE = np.s_[6:10, 4:20]  # pixels without a measurement, labelled ones among them


def write_placed(folder: Path) -> Path:
    """cube.tif with a place and a hole of -9999, labels.tif with numbers that have gaps."""
    folder.mkdir(parents=True)
    labels = small_labels()
    cube = small_cube(labels)
    cube[HOLE] = -9999
    write_geotiff(folder / "cube.tif", cube, no_data=-9999)
    numbers = np.array([0, *IDS], np.uint8)[labels]
    colours = dict(zip(IDS, COLOURS, strict=True))
    write_geotiff(folder / "labels.tif", numbers, colours=colours)
    return folder


def write_envi(folder: Path, cube: NDArray[np.int16]) -> Path:
    """cube.img, band interleaved by line, with its header; returns the header."""
    folder.mkdir(parents=True, exist_ok=True)
    height, width, bands = cube.shape
    cube.transpose(0, 2, 1).astype("<i2").tofile(folder / "cube.img")
    header = folder / "cube.hdr"
    header.write_text(
        f"ENVI\nsamples = {width}\nlines = {height}\nbands = {bands}\nheader offset = 0\n"
        "data type = 2\ninterleave = bil\nbyte order = 0\n"
    )
    return header
