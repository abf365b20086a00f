"""Every kind of network here: classifiers, segmenters, detectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import pydantic

from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.detector import Detector, DetectorSpec
from pocketvision.models.segmenter import Segmenter, SegmenterSpec
from pocketvision.record.words import TaskName

AnyNetwork = Network | Segmenter | Detector
DenseSpec = SegmenterSpec | DetectorSpec


def _kind(value: object) -> str:
    """By the fields that no other kind has; in JSON, or of a specification."""
    fields = value if isinstance(value, Mapping) else ()
    if isinstance(value, DetectorSpec) or "taps" in fields:
        return "detector"
    return "segmenter" if isinstance(value, SegmenterSpec) or "high" in fields else "classifier"


AnySpec = Annotated[
    Annotated[ArchSpec, pydantic.Tag("classifier")]
    | Annotated[SegmenterSpec, pydantic.Tag("segmenter")]
    | Annotated[DetectorSpec, pydantic.Tag("detector")],
    pydantic.Discriminator(_kind),
]


def task_of(spec: ArchSpec | SegmenterSpec | DetectorSpec) -> TaskName:
    """What a network is for."""
    match spec:
        case ArchSpec():
            return "classify"
        case SegmenterSpec():
            return "segment"
        case DetectorSpec():
            return "detect"


def module_of(spec: ArchSpec | SegmenterSpec | DetectorSpec) -> AnyNetwork:
    """The module of a specification, with the weights its parts draw for themselves."""
    match spec:
        case ArchSpec():
            return Network(spec)
        case SegmenterSpec():
            return Segmenter(spec)
        case DetectorSpec():
            return Detector(spec)
