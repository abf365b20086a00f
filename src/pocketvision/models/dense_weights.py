"""Start a segmenter or a detector from trained weights: of its kind, or of its backbone alone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from pocketvision.errors import ArtefactError
from pocketvision.models.arch import ArchSpec
from pocketvision.models.checkpoint import Checkpoint, Difference, read_checkpoint
from pocketvision.models.detector import Detector, DetectorSpec
from pocketvision.models.download import Progress
from pocketvision.models.foreign import V3_NORM, norm_of, renamed, with_norm
from pocketvision.models.foreign_dense import (
    AUXILIARY,
    is_torchvision_lr_aspp,
    is_torchvision_ssdlite,
    torchvision_lr_aspp,
    torchvision_ssdlite,
)
from pocketvision.models.networks import DenseSpec
from pocketvision.models.segmenter import Segmenter, SegmenterSpec
from pocketvision.models.weights import (
    WeightsReport,
    described,
    load_checkpoint,
    weights_path,
)
from pocketvision.nn.dense_heads import LrAsppSpec

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
    found = _torchvision_s(spec, checkpoint)
    if found is not None:
        theirs, pairs = found
        return _whole(theirs, checkpoint, pairs, f"torchvision's {_kind(theirs)}", seed)
    if file is not None and not isinstance(file.spec, ArchSpec):
        _check_same(spec, file.spec, path)
        return _whole(spec, checkpoint, {}, "pocketvision", seed)
    return _on_backbone(spec, checkpoint, seed)


def _torchvision_s(
    spec: DenseSpec, checkpoint: Checkpoint
) -> tuple[DenseSpec, dict[str, str]] | None:
    """The network as torchvision has it, and its names; None: the file is no such.

    Raises: ArtefactError: it is, but of the other kind.
    """
    state, path = checkpoint.state, checkpoint.path
    kind = (
        "LR-ASPP"
        if is_torchvision_lr_aspp(state)
        else "SSDLite"
        if is_torchvision_ssdlite(state)
        else None
    )
    if kind is None:
        return None
    if isinstance(spec, SegmenterSpec) and kind == "LR-ASPP" and isinstance(spec.head, LrAsppSpec):
        body = with_norm(spec.backbone, V3_NORM)
        theirs = replace(spec, backbone=body, head=replace(spec.head, pooling="global"))
        return theirs, dict(torchvision_lr_aspp(theirs))
    if isinstance(spec, DetectorSpec) and kind == "SSDLite":
        return spec, dict(torchvision_ssdlite(spec))
    raise ArtefactError(f"{path} is of torchvision's {kind}; expected weights of {spec.label}.")


def _kind(spec: DenseSpec) -> str:
    return "LR-ASPP" if isinstance(spec, SegmenterSpec) else "SSDLite"


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
    if not all(BY_CLASS.match(name) for name in difference.changed) or len(difference.names) > len(
        difference.changed
    ):
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
