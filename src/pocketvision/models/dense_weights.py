"""Start a segmenter or a detector from trained weights: of its kind, or of its backbone alone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ArtefactError
from pocketvision.models.arch import ArchSpec
from pocketvision.models.checkpoint import Checkpoint, Difference, read_checkpoint
from pocketvision.models.detector import Detector, DetectorSpec, ssdlite
from pocketvision.models.download import Progress
from pocketvision.models.foreign import V3_NORM, norm_of, renamed, with_norm
from pocketvision.models.foreign_dense import (
    AUXILIARY,
    is_torchvision_lr_aspp,
    is_torchvision_ssdlite,
    torchvision_lr_aspp,
    torchvision_ssdlite,
)
from pocketvision.models.mobilenet_v3 import mobilenet_v3_large
from pocketvision.models.networks import DenseSpec
from pocketvision.models.segmenter import Segmenter, SegmenterSpec, lr_aspp
from pocketvision.models.weights import (
    WeightsReport,
    described,
    load_checkpoint,
    spec_of,
    weights_path,
)
from pocketvision.nn.dense_heads import LrAsppSpec

SSDLITE_SIDE = 320  # pixels, of torchvision's file
GREY = (127.5, 127.5, 127.5)  # torchvision's SSDLite maps 0..255 to -1..1

# Layers whose width is the number of classes.
BY_CLASS = re.compile(r"head\.((low_|high_)?classifier|scores\.\d+\.1)\.")


def start_dense(
    spec: DenseSpec, source: str | Path, seed: int | None = None, progress: Progress | None = None
) -> tuple[Segmenter | Detector, WeightsReport]:
    """A segmenter or detector with trained weights, and what was done.

    source, progress: as `weights.weights_path`, for the backbone. The file may be of this very
    network, of torchvision's LR-ASPP or SSDLite, or of a classifier that is the backbone. New are
    then layers whose width is another number of classes, or the whole head. The network's
    specification has what the weights were trained with: norms, and torchvision's pooling. seed: of
    what is new.

    Raises: ConfigError: no such file. ArtefactError: weights of another network.
    """
    path = weights_path(source, spec.backbone.name, spec.width, progress)
    checkpoint, file = read_checkpoint(path), described(path)
    if is_torchvision_lr_aspp(checkpoint.state):
        theirs, pairs = _lr_aspp_there(spec, path)
        return _whole(theirs, checkpoint, pairs, "torchvision's LR-ASPP", seed)
    if is_torchvision_ssdlite(checkpoint.state):
        if not isinstance(spec, DetectorSpec):
            raise _of_another_kind(path, "SSDLite", spec)
        pairs = dict(torchvision_ssdlite(spec))
        return _whole(spec, checkpoint, pairs, "torchvision's SSDLite", seed)
    if file is not None and not isinstance(file.spec, ArchSpec):
        _check_same(spec, file.spec, path)
        return _whole(spec, checkpoint, {}, "pocketvision", seed)
    return _on_backbone(spec, checkpoint, seed)


def source_of(path: Path) -> ArchSpec | SegmenterSpec | DetectorSpec:
    """What a file of weights is of: one that tells places, saved here or by torchvision, or a
    classifier.

    Raises: ArtefactError: as `weights.spec_of`.
    """
    file = described(path)
    if file is not None:
        return file.spec
    state = read_checkpoint(path).state
    if is_torchvision_lr_aspp(state):
        return lr_aspp(mobilenet_v3_large(), 21)
    if is_torchvision_ssdlite(state):
        return ssdlite(mobilenet_v3_large(reduced_tail=True), 91)
    return spec_of(path)


def preprocessing_of(path: Path) -> Preprocessing | None:
    """What a file's network of this kind was trained with; None where the usual one is right.

    torchvision's LR-ASPP takes ImageNet's mean and deviation, but its SSDLite grey for both.
    Raises: ArtefactError: it cannot be read.
    """
    if file := described(path):
        return file.preprocessing
    if not is_torchvision_ssdlite(read_checkpoint(path).state):
        return None
    return replace(Preprocessing.of_whole(SSDLITE_SIDE), mean=GREY, std=GREY)


def _lr_aspp_there(spec: DenseSpec, path: Path) -> tuple[SegmenterSpec, dict[str, str]]:
    """The network as torchvision has it, and its names. Raises: ArtefactError: another kind."""
    if not isinstance(spec, SegmenterSpec) or not isinstance(spec.head, LrAsppSpec):
        raise _of_another_kind(path, "LR-ASPP", spec)
    body = with_norm(spec.backbone, V3_NORM)
    theirs = replace(spec, backbone=body, head=replace(spec.head, pooling="global"))
    return theirs, dict(torchvision_lr_aspp(theirs))


def _of_another_kind(path: Path, found: str, spec: DenseSpec) -> ArtefactError:
    return ArtefactError(f"{path} is of torchvision's {found}; expected weights of {spec.label}.")


def _check_same(spec: DenseSpec, saved: DenseSpec, path: Path) -> None:
    """Raises: ArtefactError: weights of another network, classes and resolution apart."""
    if saved.at(spec.resolution).with_classes(spec.num_classes) != spec:
        raise ArtefactError(
            f"{path} is of {saved.label}, which differs from {spec.label} in more than classes and "
            "resolution; load it with weights.load."
        )


def _whole(
    spec: DenseSpec, checkpoint: Checkpoint, pairs: dict[str, str], source: str, seed: int | None
) -> tuple[Segmenter | Detector, WeightsReport]:
    """With all that fits. Raises: ArtefactError: more differs than what depends on the classes."""
    network = spec.build(seed)
    expected = network.state_dict()
    kept = {k: v for k, v in checkpoint.state.items() if not k.startswith(AUXILIARY)}
    state = renamed(kept, pairs, expected)
    difference = Difference.between(state, expected)
    by_class = {name for name in difference.changed if BY_CLASS.match(name)}
    if set(difference.names) - by_class:
        raise ArtefactError(f"{checkpoint.path} is not of {spec.label}: {difference}.")
    replaced = tuple(difference.changed)
    taken = {name: tensor for name, tensor in state.items() if name not in replaced}
    network.load_state_dict(taken, strict=False)
    norm = norm_of(spec.backbone)
    return network, WeightsReport(replaced=replaced, loaded=len(taken), source=source, norm=norm)


def _on_backbone(
    spec: DenseSpec, checkpoint: Checkpoint, seed: int | None
) -> tuple[Segmenter | Detector, WeightsReport]:
    """With the weights of a classifier in the body. Raises: ArtefactError: as `load_weights`."""
    backbone = spec.backbone.build(seed)
    report = load_checkpoint(backbone, checkpoint)
    network = replace(spec, backbone=backbone.spec).build(seed)
    body = backbone.blocks[: len(network.blocks)].state_dict()
    network.blocks.load_state_dict(body)
    replaced = tuple(n for n in network.state_dict() if n.startswith("head."))
    return network, replace(report, replaced=replaced, loaded=len(body))
