"""LR-ASPP, R-ASPP and SSDLite counted, beside what the papers and torchvision print.

python recipes/dense_counts.py > recipes/dense_counts.md
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from plotting import head, table

from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec
from pocketvision.models.detector import ssdlite
from pocketvision.models.mobilenet_v3 import V3_TAIL, mobilenet_v3_large, mobilenet_v3_small
from pocketvision.models.networks import DenseSpec
from pocketvision.models.segmenter import lr_aspp, r_aspp
from pocketvision.nn.attention import SqueezeExciteSpec
from pocketvision.nn.blocks import InvertedResidualSpec

CITYSCAPES, VOC, COCO, COCO_NUMBERS = 19, 21, 81, 91  # classes; of boxes with the background
PAPER = "MobileNetV3, Table 7"


class Row(NamedTuple):
    """A network, and what is printed of it: parameters, and multiply-accumulates in 1e9."""

    name: str
    spec: DenseSpec
    side: int  # of the square that is counted, in pixels
    parameters: str
    mult_adds: float
    source: str
    squares: int = 1  # side by side, are the input

    @property
    def macs(self) -> int:
        """At the input. What follows a pool is counted once a square: too little to be seen."""
        return self.squares * count(self.spec, self.side).macs


def half_expanded(backbone: ArchSpec) -> ArchSpec:
    """A MobileNetV3 of half the tail, to which the first block there expands by half as well."""
    place = len(backbone.blocks) - 1 - V3_TAIL
    block = backbone.blocks[place]
    assert isinstance(block, InvertedResidualSpec)
    middle = block.c_mid // 2
    halved = replace(block, c_mid=middle, attention=SqueezeExciteSpec.for_channels(middle))
    return replace(
        backbone, blocks=(*backbone.blocks[:place], halved, *backbone.blocks[place + 1 :])
    )


def segmenter(name: str, spec: DenseSpec, parameters: str, mult_adds: float) -> Row:
    """A row of the paper's, at 1024 x 2048."""
    return Row(name, spec, 1024, parameters, mult_adds, PAPER, squares=2)


V1, V2 = registry.spec("mobilenet_v1"), registry.spec("mobilenet_v2")
LARGE, HALF_LARGE = mobilenet_v3_large(), mobilenet_v3_large(reduced_tail=True)
SMALL, HALF_SMALL = mobilenet_v3_small(), mobilenet_v3_small(reduced_tail=True)
LESS_LARGE, LESS_SMALL = half_expanded(HALF_LARGE), half_expanded(HALF_SMALL)
FULL = (
    segmenter("R-ASPP, V2", r_aspp(V2, CITYSCAPES), "2.11 M", 21.29),
    segmenter("R-ASPP, V3-Large", r_aspp(LARGE, CITYSCAPES), "3.60 M", 18.43),
)
HALF_TAIL = (
    segmenter("R-ASPP, V3-Large, half the tail", r_aspp(HALF_LARGE, CITYSCAPES), "1.76 M", 11.24),
    segmenter("LR-ASPP, V3-Large, half the tail", lr_aspp(HALF_LARGE, CITYSCAPES), "1.51 M", 9.74),
    segmenter("LR-ASPP, V3-Small, half the tail", lr_aspp(HALF_SMALL, CITYSCAPES), "0.47 M", 2.90),
)
HALF_EXPANDED = tuple(
    row._replace(name=f"{row.name} and expansion", spec=spec)
    for row, spec in zip(
        HALF_TAIL,
        (
            r_aspp(LESS_LARGE, CITYSCAPES),
            lr_aspp(LESS_LARGE, CITYSCAPES),
            lr_aspp(LESS_SMALL, CITYSCAPES),
        ),
        strict=True,
    )
)
# 1x1 convolutions from 128 filters to 19 classes on the map of stride 8, not on that of stride 16.
BEHIND_RESIZING = 128 * CITYSCAPES * (128 * 256 - 64 * 128)
TV_SEGMENTER = Row(
    "LR-ASPP, V3-Large, one mean for the gate",
    lr_aspp(LARGE, VOC, pooling="global"),
    520,
    "3,221,538",
    2.086,
    "torchvision",
)
DETECTORS = (
    Row("SSDLite, V1", ssdlite(V1, COCO), 320, "5.1 M", 1.3, "MobileNetV2, Table 6"),
    Row("SSDLite, V2", ssdlite(V2, COCO), 320, "4.3 M", 0.80, "MobileNetV2, Table 6"),
    *(
        Row(f"SSDLite, {name}", ssdlite(body, COCO), 320, parameters, macs, "MobileNetV3, Table 6")
        for name, body, parameters, macs in (
            ("V3-Large", LARGE, "4.97 M", 0.62),
            ("V3-Large, half the tail", HALF_LARGE, "3.22 M", 0.51),
            ("V3-Small", SMALL, "2.49 M", 0.21),
            ("V3-Small, half the tail", HALF_SMALL, "1.77 M", 0.16),
        )
    ),
)
TV_DETECTOR = Row(
    "SSDLite, V3-Large, half the tail, 91 classes",
    ssdlite(HALF_LARGE, COCO_NUMBERS),
    320,
    "3,440,060",
    0.583,
    "torchvision",
)


def cells(row: Row) -> tuple[str, ...]:
    """One line of a table."""
    return (
        row.name,
        f"{row.side} x {row.squares * row.side}",
        f"{count(row.spec).parameters:,}",
        row.parameters,
        f"{row.macs / 1e9:.3f}",
        f"{row.mult_adds:g}",
        row.source,
    )


def gaps(rows: tuple[Row, ...]) -> str:
    """How far the multiply-accumulates are from those printed, in percent: '-2 to +3 %'."""
    found = [100 * (row.macs / 1e9 / row.mult_adds - 1) for row in rows]
    return f"{min(found):+.0f} to {max(found):+.0f} %"


def lines() -> list[str]:
    """The page, line by line."""
    titles = ("network", "input", "parameters", "printed", "GMACs", "printed", "in")
    idea = (
        "Parameters (scale and shift of the norms included, running statistics not) and "
        "multiply-accumulates (convolutions alone) of the networks as this package builds them, "
        "beside the figures of the papers and of torchvision. R-ASPP has 256 filters, LR-ASPP 128."
    )
    segmenters = (*FULL, *HALF_TAIL, *HALF_EXPANDED, TV_SEGMENTER)
    return [
        *head("dense_counts", "Segmenters and detectors, counted", idea, picture=False),
        *table(titles, map(cells, segmenters)),
        "Where ours depart: the paper classifies LR-ASPP's filters behind their resizing to stride "
        "8; here the classes are resized, which gives the same numbers for "
        f"{BEHIND_RESIZING / 1e9:.2f} GMACs less. Half the tail is torchvision's reading of half "
        "the channels in the last stage: it halves every width from there on but the one that the "
        "first block expands to. Expanded by half too, the networks have the paper's parameters "
        "to every digit that it prints. Of that no option is offered: "
        "weights that are published have the first form. Multiply-accumulates are then "
        f"{gaps(HALF_EXPANDED)} from those printed, and {gaps(FULL)} on the full networks, where "
        "nothing had to be guessed; it does not say what else it counts. torchvision has one "
        "mean of the map for the gate where the paper has windows of 49 x 49, and the full tail.",
        "",
        *table(titles, map(cells, (*DETECTORS, TV_DETECTOR))),
        "Where ours depart: the papers print neither how wide the maps behind the network are, nor "
        "how many anchors a place has. Here both are torchvision's, as are the norms behind every "
        "convolution but the last; its own network, whose classes go by COCO's numbers up to 90, "
        "is met to the last parameter. The papers' are counted with 80 classes and the "
        f"background: multiply-accumulates are {gaps(DETECTORS)} from those printed.",
    ]


if __name__ == "__main__":
    print("\n".join(lines()))
