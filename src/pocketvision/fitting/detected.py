"""What a detector finds: scored, recorded and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pocketvision.boxes import Boxes, Detections, Objects
from pocketvision.data.folders import printable
from pocketvision.data.objects.samples import BoxedSamples
from pocketvision.fitting.artefact import upright
from pocketvision.fitting.pictures import as_jpeg, as_png, small_image, voc_colours
from pocketvision.fitting.tasks.task import Evidence
from pocketvision.measure.detection import SURE, detection_scores
from pocketvision.measure.detection_judge import DetectionJudge
from pocketvision.measure.judge import Answers
from pocketvision.record.scores import DetectedImage, DetectionFigures, Score
from pocketvision.storage import write_atomic

SHOWN = 12  # images in the report, the worst
SHOWN_SIDE = 320  # pixels of the longer side of each
TRUTH = (255, 255, 255)  # the colour of what was to be found


def judge_of(samples: BoxedSamples, rows: np.ndarray) -> DetectionJudge:
    """Who knows the objects of those rows."""
    return DetectionJudge(
        objects=samples.objects.take(rows), sizes=samples.sizes[rows], classes=samples.classes
    )


def score_of(samples: BoxedSamples, rows: np.ndarray, answers: Answers) -> Score:
    """mAP of the answers for those rows."""
    judge = judge_of(samples, rows)
    return judge.score(judge.found(answers))


def detector_evidence(samples: BoxedSamples, rows: np.ndarray, answers: Answers) -> Evidence:
    """What is recorded of the shipped file's answers for those rows.

    Raises: DataError: an image changed since it was scanned.
    """
    judge = judge_of(samples, rows)
    found = judge.found(answers)
    scores = detection_scores(found, judge.objects, judge.sizes, judge.classes)
    order = _worst_first(found, judge.objects)[:SHOWN]
    return Evidence(
        detection=DetectionFigures(
            ap50=scores.ap50,
            ap75=scores.ap75,
            ap_small=scores.ap_small,
            ap_medium=scores.ap_medium,
            ap_large=scores.ap_large,
            class_aps=scores.per_class,
            class_ap50s=scores.per_class_ap50,
            recall=scores.recall,
            precisions=scores.precisions,
            images=tuple(
                DetectedImage(
                    path=printable(samples.paths[int(rows[k])]),
                    objects=int((~judge.objects.of(k).ignored).sum()),
                    found=int((found[k].scores >= SURE).sum()),
                    picture=_picture(samples, int(rows[k]), judge.objects.of(k), found[k]),
                )
                for k in order
            ),
        )
    )


def _worst_first(found: Sequence[Detections], objects: Objects) -> list[int]:
    """Images by how many more or fewer sure boxes there are than objects."""
    wrong = [
        abs(int((one.scores >= SURE).sum()) - int((~objects.of(k).ignored).sum()))
        for k, one in enumerate(found)
    ]
    return sorted(range(len(wrong)), key=lambda k: -wrong[k])


def _picture(samples: BoxedSamples, row: int, truth: Objects, found: Detections) -> str:
    """The image with what was to be found in white, and what was found in colours."""
    image = small_image(samples.read_unchanged(row), SHOWN_SIDE)
    draw = ImageDraw.Draw(image)
    for box in truth.boxes:
        draw.rectangle(_in_pixels(box, image.size), outline=TRUTH)
    _draw(draw, image.size, _sure(found))
    return as_jpeg(image)


def _sure(found: Detections) -> Detections:
    kept = found.scores >= SURE
    return Detections(
        boxes=found.boxes[kept], scores=found.scores[kept], classes=found.classes[kept]
    )


def picture_of(image: Path, found: Detections, names: Sequence[str], out: Path) -> None:
    """Write a PNG of an image file with boxes and their classes in it, atomically.

    Raises: DataError: it cannot be read.
    """
    drawn = Image.fromarray(upright(image))
    draw = ImageDraw.Draw(drawn)
    _draw(draw, drawn.size, found, names)
    write_atomic(out, as_png(drawn))


def _draw(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    found: Detections,
    names: Sequence[str] = (),
) -> None:
    colours = voc_colours(256)
    width = max(1, round(max(size) / 320))
    for box, score, number in zip(
        found.boxes, found.scores.tolist(), found.classes.tolist(), strict=True
    ):
        colour = tuple(colours[number % 256].tolist())
        corners = _in_pixels(box, size)
        draw.rectangle(corners, outline=colour, width=width)
        if names:
            words = f"{names[number - 1]} {score:.0%}"
            draw.text((corners[0] + 2, corners[1] + 1), words, fill=colour)


def _in_pixels(box: Boxes, size: tuple[int, int]) -> tuple[float, float, float, float]:
    left, top, right, bottom = box.tolist()
    width, height = size[0] - 1, size[1] - 1
    return left * width, top * height, right * width, bottom * height
