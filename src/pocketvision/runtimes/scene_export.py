"""From a patch network and its band reduction to one ONNX file that takes raw spectra."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import pydantic
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from pocketvision.data.scene.bands import BandReduction
from pocketvision.data.scene.scene import Colour, Scene
from pocketvision.errors import ArtefactError, ConfigError, at_least, check_shape, choice
from pocketvision.models.patch import PatchNetwork, check_window
from pocketvision.runtimes.export import BATCH, finish_export, quiet_exporter
from pocketvision.runtimes.onnxfile import INPUT, OUTPUT, drop_unused_constants, metadata
from pocketvision.runtimes.scene_graph import FromSpectra
from pocketvision.scene_record import Form
from pocketvision.storage import from_json, to_json

SCENE_FORMAT_VERSION = 1
CARD_KEY = "scene"  # under which the card lies in a file's metadata
FORMS = ("dense", "patch")
LARGEST_SIDE = 2**20  # the exporter wants a bound for open axes
TILE = 64  # pixels: within 8 % of the fastest for HybridSN, in half the memory of 128 or less
WINDOWS_TILE = 16  # where attention keeps every window of a tile in memory

NoData = Annotated[  # NaN is kept as a word: JSON has no number for it
    float, pydantic.PlainSerializer(lambda value: "nan" if np.isnan(value) else value)
]


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneCard:
    """What an exported file says about itself: network, classes in the order of the logits, input.

    class_ids: the number each class has in the label file. window: odd, in pixels. fill: the
    spectrum of a pixel outside the scene or without a measurement, one value for each band, exact
    in float32. no_data: the value that marks such pixels, as in `Scene`; NaN is one.
    wavelengths_nm: of the bands; empty where unknown. tile: largest side of the parts in which a
    scene goes through the file, in pixels.

    Raises: ConfigError: lists of different lengths, an unknown form, an impossible window or tile.
    """

    name: str
    form: Form
    window: int
    classes: tuple[str, ...]
    class_ids: tuple[int, ...]
    colours: tuple[Colour, ...]
    fill: tuple[float, ...]
    no_data: NoData | None = None
    wavelengths_nm: tuple[float, ...] = ()
    tile: int = TILE
    format_version: int = SCENE_FORMAT_VERSION

    def __post_init__(self) -> None:
        choice("form", self.form, FORMS)
        check_window(self.window)
        at_least("tile", self.tile, 1)
        counts = {len(self.classes), len(self.class_ids), len(self.colours)}
        if len(counts) != 1 or 0 in counts:
            raise ConfigError(
                f"{len(self.classes)} classes, {len(self.class_ids)} class ids and "
                f"{len(self.colours)} colours; expected one of each for every class."
            )
        if len(self.wavelengths_nm) not in (0, self.bands):
            raise ConfigError(
                f"{len(self.wavelengths_nm)} wavelengths for {self.bands} bands; expected one for "
                "each band, or none."
            )

    @classmethod
    def for_scene(
        cls, scene: Scene, *, name: str, form: Form, window: int, reduction: BandReduction
    ) -> SceneCard:
        """The card of a network that was fitted on `scene`."""
        return cls(
            name=name,
            form=form,
            window=window,
            classes=scene.classes,
            class_ids=scene.class_ids,
            colours=scene.colours,
            fill=_fill(reduction),
            no_data=scene.no_data,
            wavelengths_nm=scene.wavelengths_nm,
        )

    @property
    def bands(self) -> int:
        """Of the raw spectra."""
        return len(self.fill)

    def to_metadata(self) -> dict[str, str]:
        """Text pairs for the file."""
        return {CARD_KEY: to_json(self, indent=None).strip()}

    @classmethod
    def from_metadata(cls, pairs: Mapping[str, str], *, source: str) -> SceneCard:
        """The inverse of `to_metadata`; other keys are left alone.

        Raises: ArtefactError: there is no card, it is damaged, or of a later version.
        """
        if CARD_KEY not in pairs:
            raise ArtefactError(
                f"{source} is not a network for scenes: its metadata lack {CARD_KEY!r}."
            )
        try:
            card = from_json(cls, pairs[CARD_KEY], source=f"the metadata of {source}")
        except ConfigError as error:
            raise ArtefactError(f"the metadata of {source} are unusable: {error}") from error
        if card.format_version > SCENE_FORMAT_VERSION:
            raise ArtefactError(
                f"{source} has format version {card.format_version}; this pocketvision reads up to "
                f"{SCENE_FORMAT_VERSION}: update pocketvision."
            )
        return card


def export_scene(
    network: PatchNetwork, reduction: BandReduction, path: Path, card: SceneCard
) -> None:
    """Write `network` behind its band reduction as one self-contained ONNX file, atomically.

    network: it is not changed. card: its form decides what the file takes, "input" float32 raw
    spectra, and gives, "logits" float32:
        patch: (batch, window, window, B) -> (batch, K)
        dense: (batch, height, width, B) -> (batch, height - window + 1, width - window + 1, K),
               height and width from the window up.
    The card goes into the file, with the tile that suits the network.
    Raises: ConfigError: network, reduction and card do not belong together.
    """
    _check_together(network, reduction, card)
    if card.form == "dense" and network.spec.head.attention is not None:
        card = replace(card, tile=WINDOWS_TILE)
    model = traced(FromSpectra(network, torch.tensor(card.fill), reduction, card.form), card)
    _fold_reshaped_weights(model.graph)
    finish_export(model, path, card.to_metadata())


def traced(from_spectra: FromSpectra, card: SceneCard) -> onnx.ModelProto:
    """What the exporter makes of it: nodes, and the tensors of its state as initializers."""
    # Sizes that differ from each other and from 1, which would be taken for constants.
    side, extra = card.window, (1, 2) if card.form == "dense" else (0, 0)
    spectra = torch.zeros(2, side + extra[0], side + extra[1], card.bands)
    axes = {0: torch.export.Dim(BATCH)}
    if card.form == "dense":
        for axis, name in ((1, "height"), (2, "width")):
            axes[axis] = torch.export.Dim(name, min=side, max=LARGEST_SIDE)
    with quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            from_spectra,
            (spectra,),
            dynamo=True,
            external_data=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(axes,),
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


def check_exported_scene(model: onnx.ModelProto, path: Path) -> SceneCard:
    """The card of a file. Raises: ArtefactError: unless `export_scene` wrote it, or its source."""
    card = SceneCard.from_metadata(metadata(model), source=str(path))
    inputs = model.graph.input
    kind = inputs[0].type.tensor_type if len(inputs) == 1 else None
    if (
        kind is None
        or inputs[0].name != INPUT
        or kind.elem_type != onnx.TensorProto.FLOAT
        or len(kind.shape.dim) != 4
        or kind.shape.dim[3].dim_value != card.bands
    ):
        raise ArtefactError(
            f"{path} must take one float32 input {INPUT!r} of four axes, the last of "
            f"{card.bands} bands."
        )
    return card


def _check_together(network: PatchNetwork, reduction: BandReduction, card: SceneCard) -> None:
    spec = network.spec
    check_shape("the reduction's matrix", reduction.matrix.shape, (card.bands, spec.bands))
    if (spec.window, spec.num_classes) != (card.window, len(card.classes)):
        raise ConfigError(
            f"the card says window {card.window} and {len(card.classes)} classes; the network has "
            f"window {spec.window} and {spec.num_classes}."
        )
    if card.fill != _fill(reduction):
        raise ConfigError("the card's fill must be the mean spectrum of the reduction.")


def _fill(reduction: BandReduction) -> tuple[float, ...]:
    """The mean spectrum in float32, so that a filled pixel is exactly zero after reduction."""
    mean: NDArray[np.float32] = reduction.mean.astype(np.float32)
    return tuple(mean.tolist())


def _fold_reshaped_weights(graph: onnx.GraphProto) -> None:
    """Reshape(weight) -> the weight in its shape: the dense form's kernels, stored once."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in list(graph.node):
        if node.op_type != "Reshape" or not set(node.input) <= set(tensors):
            continue
        weight, shape = (numpy_helper.to_array(tensors[name]) for name in node.input)
        folded = numpy_helper.from_array(weight.reshape(shape), node.output[0])
        graph.initializer.append(folded)
        graph.node.remove(node)
    drop_unused_constants(graph)
