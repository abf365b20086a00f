"""How good answers are: scores with their intervals, calibration, mistakes, places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AliasChoices, Field

from pocketvision.record.words import Metric


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """How good a network is on n images, 0..1; low..high is a 95 % interval.

    top-1: the share of images it names rightly, `correct` of them, with Wilson's interval. mIoU:
    the mean over the classes of intersection over union, in pixels. mAP: COCO's mean average
    precision. These two with the bootstrap's interval, over images.
    """

    value: Annotated[float, Field(validation_alias=AliasChoices("value", "top1"))]
    low: float
    high: float
    correct: int | None = None
    n: int
    metric: Metric = "top-1"

    def reached(self, images: str) -> str:
        """'gets 87.3% of 540 test images right', or the like; images: what they are called."""
        if self.metric == "top-1":
            return f"gets {self.value:.1%} of {self.n} {images} right"
        return f"reaches {self.metric} {self.value:.1%} on {self.n} {images}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One network against its reference on the same images, in pairs.

    drop = reference score minus subject score, with the 95 % interval of the paired difference.
    agreement = share of what both name alike: of the images, of their pixels, or of the boxes.
    largest_difference = max |logit difference|; None: the answers are not logits.
    """

    subject: str
    reference: str
    split: str
    accuracy: Score
    reference_accuracy: Score
    drop: float
    drop_low: float
    drop_high: float
    agreement: float
    largest_difference: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReliabilityBin:
    """Images whose highest probability lies in one tenth of 0..1."""

    confidence: float  # mean of the highest probability
    top1: float
    n: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Whether probabilities mean what they say, on `split`; the temperature is fitted on val.

    ece: expected calibration error, 0..1; ece_scaled: with logits divided by the temperature.
    """

    split: str
    temperature: float
    ece: float
    ece_scaled: float
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """One image of the headline split that the shipped file names wrongly.

    probability: of the class it names. thumbnail: a small JPEG, base64.
    """

    path: str
    true: str
    named: str
    probability: float
    thumbnail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentedImage:
    """One image of the headline split and what the shipped file says of its pixels.

    picture: the image, its mask and the answer side by side, a JPEG, base64.
    """

    path: str
    miou: float
    picture: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationFigures:
    """What the shipped file says of pixels, on the headline split; `Record.confusion` counts them.

    class_ious: 0..1; None of a class that occurs neither in masks nor in answers. images: the worst
    first.
    """

    pixel_accuracy: float
    class_ious: tuple[float | None, ...]
    images: tuple[SegmentedImage, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectedImage:
    """One image of the headline split and what the shipped file finds in it.

    objects: to be found; found: boxes with a score of 0.3 or more. picture: the image with the
    objects in white and what was found in colours, a JPEG, base64.
    """

    path: str
    objects: int
    found: int
    picture: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionFigures:
    """COCO's figures of the shipped file on the headline split; None where there is no such object.

    class_aps, class_ap50s: of each class. recall: of at most 100 boxes a class and image.
    precisions: of each class at IoU 0.5, at the recalls 0, 0.01 .. 1; empty without objects.
    images: those with most boxes too many or too few first.
    """

    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    class_aps: tuple[float | None, ...]
    class_ap50s: tuple[float | None, ...]
    recall: float | None
    precisions: tuple[tuple[float, ...], ...]
    images: tuple[DetectedImage, ...]
