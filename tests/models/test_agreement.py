"""Networks that differ in nothing that a tensor shows, and so must be told by their description."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pocketvision.errors import ArtefactError
from pocketvision.models import registry, weights
from pocketvision.models.agreement import as_saved
from pocketvision.models.arch import ArchSpec
from pocketvision.models.create import create_model
from pocketvision.models.inception import bn_inception
from pocketvision.models.mobilenet_v1 import mobilenet_v1
from pocketvision.models.mobilenet_v3 import mobilenet_v3_small
from pocketvision.models.resnet import resnet
from pocketvision.models.shufflenet_v1 import shufflenet_v1
from pocketvision.nn.conv import BatchNormSpec

NORM = BatchNormSpec(eps=1e-3, momentum=0.01)


@pytest.mark.parametrize(
    ("saved", "name", "words"),
    [
        (
            mobilenet_v1(width=0.25, act="relu6"),
            "mobilenet_v1",
            "blocks.0.act is 'relu6' there, 'relu' in the one asked for",
        ),
        (
            mobilenet_v3_small(width=0.35, hswish="nowhere"),
            "mobilenet_v3_small",
            "blocks.0.act is 'relu' there, 'hswish' in the one asked for",
        ),
        (
            shufflenet_v1(groups=3, width=0.25, shuffle=False),
            "shufflenet_v1_g3",
            "blocks.2.shuffle is False there, True in the one asked for",
        ),
        (
            resnet(depth=18, width=0.25, attention="se", position="identity"),
            "se_resnet18",
            "blocks.2.position is 'identity' there, 'standard' in the one asked for",
        ),
    ],
    ids=["ReLU6", "h-swish", "shuffle", "position"],
)
def test_network_of_the_same_shapes_but_another_one_is_refused(
    tmp_path: Path, saved: ArchSpec, name: str, words: str
) -> None:
    weights.save(saved.build(seed=1), tmp_path)
    asked = registry.spec(name, width=saved.width)
    network = asked.build(seed=2)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(ArtefactError, match=re.escape(words)):
        weights.load_weights(network, tmp_path)
    with pytest.raises(ArtefactError, match=re.escape(words)):
        create_model(asked, weights=tmp_path)
    assert network.spec == asked
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_refusal_says_how_to_get_the_network_that_was_saved(tmp_path: Path) -> None:
    saved = mobilenet_v1(width=0.25, act="relu6", num_classes=3).build(seed=1)
    weights.save(saved, tmp_path)
    path = tmp_path / weights.WEIGHTS_FILE
    with pytest.raises(
        ArtefactError,
        match=r"For the network that was saved take weights\.load\(Path\('.*'\)\), create_model\("
        r"weights\.spec_of\(path\), weights=path\), or `fit --weights .*` without --models",
    ):
        weights.load_weights(create_model("mobilenet_v1", width=0.25), tmp_path)
    assert weights.load(tmp_path)[0].spec == saved.spec
    assert create_model(weights.spec_of(path), weights=path).spec == saved.spec
    assert create_model("mobilenet_v1", width=0.25, weights=path).spec == saved.spec


def test_attention_in_another_place_is_refused_where_it_is_asked_for_by_name(
    tmp_path: Path,
) -> None:
    saved = resnet(depth=50, width=0.25, attention="se", position="identity")
    weights.save(saved.build(seed=1), tmp_path)
    with pytest.raises(ArtefactError, match=r"blocks\.2\.position is 'identity' there, 'standard'"):
        create_model("resnet50", width=0.25, attention="se", weights=tmp_path)


def test_activation_of_the_head_is_compared_where_the_head_fits() -> None:
    asked = registry.spec("mobilenet_v3_small", width=0.35)
    saved = replace(asked, head=replace(asked.head, act="relu"))
    with pytest.raises(ArtefactError, match=r"head\.act is 'relu' there, 'hswish' in the one"):
        as_saved(asked, saved, Path("network.safetensors"))
    wider = replace(saved, head=replace(saved.head, hidden=1280))
    assert as_saved(asked, wider, Path("network.safetensors")) == asked


def test_norms_are_taken_and_input_channels_and_classes_are_not() -> None:
    asked = registry.spec("mobilenet_v2", width=0.35)
    saved = registry.spec("mobilenet_v2", width=0.35, num_classes=3, in_chans=1)
    assert as_saved(asked, saved, Path("network.safetensors")) == asked


@torch.no_grad()
def test_norms_deep_in_an_inception_unit_are_taken_too(tmp_path: Path) -> None:
    source = bn_inception(width=0.25, num_classes=3, norm=NORM).build(seed=1).eval()
    weights.save(source, tmp_path)
    network = bn_inception(width=0.25, num_classes=3).build(seed=2)
    assert weights.load_weights(network, tmp_path).norm == NORM
    assert network.spec == source.spec
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(network.eval()(x), source(x))
