"""Segmenters and detectors that start from trained weights: of their kind, or of the backbone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pocketvision.errors import ArtefactError
from pocketvision.models import registry, weights
from pocketvision.models.arch import ArchSpec
from pocketvision.models.dense_weights import start_dense
from pocketvision.models.detector import DetectorSpec, ssdlite
from pocketvision.models.foreign import V3_NORM
from pocketvision.models.foreign_dense import torchvision_lr_aspp, torchvision_ssdlite
from pocketvision.models.mobilenet_v3 import mobilenet_v3_large
from pocketvision.models.networks import AnyNetwork, DenseSpec
from pocketvision.models.segmenter import lr_aspp, r_aspp
from pocketvision.nn.conv import BatchNormSpec

BACKBONE = registry.spec("mobilenet_v3_small", width=0.35, resolution=64)
SPECS = (lr_aspp(BACKBONE, 3), r_aspp(BACKBONE, 3), ssdlite(BACKBONE, 3))


def tensors(network: AnyNetwork) -> dict[str, torch.Tensor]:
    return dict(network.state_dict())


def same(one: AnyNetwork, other: AnyNetwork, prefix: str = "") -> bool:
    ours, theirs = tensors(one), tensors(other)
    return all(torch.equal(ours[n], theirs[n]) for n in ours if n.startswith(prefix))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_saved_network_comes_back(spec: DenseSpec, tmp_path: Path) -> None:
    network = spec.build(seed=1)
    names = ("a", "b", "c")[: spec.num_classes - isinstance(spec, DetectorSpec)]
    weights.save(network, tmp_path, classes=names)
    loaded, file = weights.load(tmp_path)
    assert (file.spec, file.classes) == (spec, names)
    assert same(network, loaded)
    with pytest.raises(ArtefactError, match="expected a network that classifies"):
        weights.load_classifier(tmp_path)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_its_own_weights_are_taken_and_what_depends_on_the_classes_is_new(
    spec: DenseSpec, tmp_path: Path
) -> None:
    saved = spec.build(seed=1)
    weights.save(saved, tmp_path)
    started, report = start_dense(spec.at(96), tmp_path, seed=2)
    assert same(saved, started)
    assert report.replaced == ()
    other, report = start_dense(spec.with_classes(5), tmp_path, seed=2)
    assert same(other, saved, "blocks.")
    assert report.replaced
    assert all("classifier" in name or "scores" in name for name in report.replaced)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_classifier_gives_its_body(spec: DenseSpec, tmp_path: Path) -> None:
    """Its norms come along; and dilated or not, the weights are the same."""
    theirs = registry.spec("mobilenet_v3_small", width=0.35, resolution=224)
    norm = BatchNormSpec(eps=1e-3, momentum=0.05)
    saved = replace(theirs, blocks=tuple(replace(b, norm=norm) for b in theirs.blocks)).build(3)  # type: ignore[arg-type]  # all have norms
    weights.save(saved, tmp_path)
    started, report = start_dense(spec, tmp_path, seed=2)
    assert report.norm == norm
    assert started.spec.backbone.blocks[0].norm == norm  # type: ignore[union-attr]  # a convolution
    state = tensors(saved)
    assert all(torch.equal(v, state[n]) for n, v in tensors(started).items() if "blocks" in n)
    assert all(name.startswith("head.") for name in report.replaced)


def as_torchvision(spec: DenseSpec, folder: Path) -> Path:
    """A state dict under torchvision's names."""
    rule = torchvision_ssdlite if spec.name.startswith("ssd") else torchvision_lr_aspp
    theirs = dict(rule(spec))  # type: ignore[arg-type]  # of its own kind
    state = {}
    for name, tensor in spec.build(seed=4).state_dict().items():
        module, _, leaf = name.rpartition(".")
        state[f"{theirs[module]}.{leaf}"] = tensor
    torch.save(state, folder / "theirs.pth")
    return folder / "theirs.pth"


def large(*, reduced_tail: bool = False) -> ArchSpec:
    return mobilenet_v3_large(width=0.35, resolution=64, reduced_tail=reduced_tail)


def test_torchvision_s_lr_aspp_brings_its_norms_and_its_pooling(tmp_path: Path) -> None:
    spec = lr_aspp(large(), 3)
    path = as_torchvision(spec, tmp_path)
    started, report = start_dense(spec, path)
    assert same(started, spec.build(seed=4))
    assert started.spec.head.pooling == "global"  # type: ignore[union-attr]  # LR-ASPP
    assert report.norm == V3_NORM
    assert report.source == "torchvision's LR-ASPP"


def test_torchvision_s_ssdlite(tmp_path: Path) -> None:
    spec = ssdlite(large(reduced_tail=True), 3)
    started, report = start_dense(spec, as_torchvision(spec, tmp_path))
    assert same(started, spec.build(seed=4))
    assert report.source == "torchvision's SSDLite"


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    segmenter, detector = lr_aspp(large(), 3), ssdlite(large(), 3)
    path = as_torchvision(segmenter, tmp_path)
    with pytest.raises(ArtefactError, match="is of torchvision's LR-ASPP; expected weights of ssd"):
        start_dense(detector, path)
    with pytest.raises(ArtefactError, match=r"is not of lraspp_mobilenet_v3_large x0.5 .*: \d+"):
        start_dense(lr_aspp(mobilenet_v3_large(width=0.5), 3), path)
    weights.save(detector.build(seed=0), tmp_path)
    with pytest.raises(ArtefactError, match=r"is of ssdlite_.*, which differs from lraspp_"):
        start_dense(segmenter, tmp_path)
    weights.save(registry.spec("mobilenet_v2", width=0.35).build(seed=0), tmp_path)
    with pytest.raises(ArtefactError, match="is not of the architecture mobilenet_v3_large"):
        start_dense(segmenter, tmp_path)
