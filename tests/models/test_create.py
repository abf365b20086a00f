from pathlib import Path

import pytest
import torch

from pocketvision.errors import ConfigError
from pocketvision.models import registry
from pocketvision.models.arch import Network
from pocketvision.models.create import create_model
from pocketvision.models.weights import save


def test_create_model_takes_a_name_or_a_spec() -> None:
    spec = registry.spec("mobilenet_v3_small", width=0.35, resolution=64, num_classes=3)
    named = create_model("mobilenet_v3_small", width=0.35, resolution=64, num_classes=3, seed=1)
    built = create_model(spec, seed=1)
    assert named.spec == built.spec == spec
    x = torch.ones(1, 3, 64, 64)
    assert torch.equal(named.eval()(x), built.eval()(x))


def test_create_model_refuses_options_beside_a_spec() -> None:
    spec = registry.spec("mobilenet_v3_small", width=0.35)
    with pytest.raises(
        ConfigError, match=r"mobilenet_v3_small x0\.35 @224 is a specification and already fixes"
    ):
        create_model(spec, num_classes=7)


def test_create_model_refuses_an_unknown_name() -> None:
    with pytest.raises(ConfigError, match="model 'resnet17' is unknown"):
        create_model("resnet17")


@torch.no_grad()
def test_features_only_gives_the_maps_asked_for() -> None:
    network = create_model("mobilenet_v3_small", width=0.35, seed=0).eval()
    body = create_model(
        "mobilenet_v3_small", width=0.35, features_only=True, out_indices=(-1, 1, 2), seed=0
    ).eval()
    assert body.strides == (4, 8, 32)
    x = torch.rand(1, 3, 64, 64)
    maps, expected = body(x), network.features(x)
    assert [m.shape[1] for m in maps] == list(body.channels)
    for stride, found in zip(body.strides, maps, strict=True):
        assert torch.equal(found, expected[stride])


def test_features_only_drops_the_blocks_behind_the_last_map() -> None:
    body = create_model("mobilenet_v2", width=0.35, features_only=True, out_indices=(0, 1))
    assert len(list(body.blocks.children())) == 4  # the stem and the blocks up to stride 4


@pytest.mark.parametrize("indices", [(5,), (-6,), ()])
def test_indices_of_maps_that_are_not_there_are_refused(indices: tuple[int, ...]) -> None:
    with pytest.raises(
        ConfigError,
        match=r"out_indices=.* is not allowed; .* has 5 maps, of strides \[2, 4, 8, 16, 32\]",
    ):
        create_model("mobilenet_v2", features_only=True, out_indices=indices)


def test_indices_need_features_only() -> None:
    with pytest.raises(ConfigError, match=r"out_indices=\(1,\) needs features_only=True"):
        create_model("mobilenet_v2", out_indices=(1,))  # type: ignore[call-overload]


def test_weights_of_ours_bring_their_classes_and_channels(tmp_path: Path) -> None:
    source = create_model("mobilenet_v3_small", width=0.35, num_classes=5, in_chans=1, seed=1)
    save(source, tmp_path)
    for place in (tmp_path, str(tmp_path / "network.safetensors")):
        network = create_model("mobilenet_v3_small", width=0.35, weights=place)
        assert network.spec == source.spec
        assert torch.equal(network.head.state_dict()["classifier.weight"], classifier_of(source))


def test_other_classes_get_a_new_head(tmp_path: Path) -> None:
    source = create_model("mobilenet_v3_small", width=0.35, num_classes=5, seed=1)
    save(source, tmp_path)
    network = create_model(
        "mobilenet_v3_small", width=0.35, num_classes=3, resolution=96, weights=tmp_path, seed=0
    )
    assert (network.spec.num_classes, network.spec.resolution) == (3, 96)
    fresh = create_model("mobilenet_v3_small", width=0.35, num_classes=3, seed=0)
    assert torch.equal(classifier_of(network), classifier_of(fresh))
    assert torch.equal(
        network.blocks[0].get_parameter("conv.weight"),
        source.blocks[0].get_parameter("conv.weight"),
    )


@torch.no_grad()
def test_features_and_specifications_take_weights_too(tmp_path: Path) -> None:
    source = create_model("mobilenet_v3_small", width=0.35, num_classes=5, seed=1).eval()
    save(source, tmp_path)
    x = torch.rand(1, 3, 64, 64)
    same = create_model(source.spec, weights=tmp_path).eval()
    assert torch.equal(same(x), source(x))
    body = create_model("mobilenet_v3_small", width=0.35, weights=tmp_path, features_only=True)
    assert torch.equal(body.eval()(x)[-1], source.forward_features(x))


def classifier_of(network: Network) -> torch.Tensor:
    return network.head.get_parameter("classifier.weight")
