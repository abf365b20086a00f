"""Small folders of annotated images, written in each of the three formats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

SIZE = (100, 50)  # of every image, in pixels

Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels from the image's edge
Drawn = tuple[str, Box]


class Folder:
    """A folder that grows."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, path: str, content: str | bytes) -> None:
        """A file."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    def image(self, *paths: str) -> None:
        """Tiny pictures; nobody opens them here."""
        for path in paths:
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (2, 1)).save(self.root / path)

    def xml(self, path: str, objects: str = "", size: tuple[int, int] = SIZE) -> None:
        """A VOC file around `objects`."""
        width, height = size
        self.put(
            path,
            f"<annotation><size><width>{width}</width><height>{height}</height></size>"
            f"{objects}</annotation>",
        )

    def voc(self, scenes: Mapping[str, Sequence[Drawn]], under: str = "") -> None:
        """JPEGImages/ and Annotations/."""
        for name, drawn in scenes.items():
            self.image(f"{under}JPEGImages/{name}.png")
            objects = "".join(voc_object(label, box) for label, box in drawn)
            self.xml(f"{under}Annotations/{name}.xml", objects)

    def coco(
        self, path: str, scenes: Mapping[str, Sequence[Drawn]], images: str | None = None
    ) -> None:
        """A COCO file; its images as well where there is a folder for them."""
        for name in scenes if images is not None else ():
            self.image(f"{images}{name}.png")
        self.put(path, json.dumps(coco_document(scenes)))

    def yolo(
        self, scenes: Mapping[str, Sequence[Drawn]], names: Sequence[str], split: str = ""
    ) -> None:
        """images/ and labels/."""
        for name, drawn in scenes.items():
            self.image(f"images/{split}{name}.png")
            lines = "".join(yolo_line(names.index(label), box) for label, box in drawn)
            self.put(f"labels/{split}{name}.txt", lines)
        self.put("data.yaml", f"names: [{', '.join(names)}]\n")


def voc_object(label: str, box: Box, extra: str = "") -> str:
    """Pixels counted from 1, both ends included."""
    x0, y0, x1, y1 = box
    return (
        f"<object><name>{label}</name>{extra}<bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
    )


def coco_document(scenes: Mapping[str, Sequence[Drawn]]) -> dict[str, list[dict[str, object]]]:
    """Images, categories and annotations, numbered from 1, 10 and 100."""
    labels = sorted({label for drawn in scenes.values() for label, _ in drawn})
    boxes = [
        (image, label, box)
        for image, drawn in enumerate(scenes.values(), start=1)
        for label, box in drawn
    ]
    return {
        "images": [
            {"id": number, "file_name": f"{name}.png", "width": SIZE[0], "height": SIZE[1]}
            for number, name in enumerate(scenes, start=1)
        ],
        "categories": [{"id": 10 + number, "name": name} for number, name in enumerate(labels)],
        "annotations": [
            {
                "id": 100 + number,
                "image_id": image,
                "category_id": 10 + labels.index(label),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
            }
            for number, (image, label, (x0, y0, x1, y1)) in enumerate(boxes)
        ],
    }


def yolo_line(number: int, box: Box) -> str:
    """Centre and extent in fractions."""
    x0, y0, x1, y1 = box
    centre = (x0 + x1) / 2 / SIZE[0], (y0 + y1) / 2 / SIZE[1]
    extent = (x1 - x0) / SIZE[0], (y1 - y0) / SIZE[1]
    return f"{number} {' '.join(f'{value:.8f}' for value in centre + extent)}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
