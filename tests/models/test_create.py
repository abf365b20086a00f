import pytest
import torch

from pocketvision.errors import ConfigError
from pocketvision.models import registry
from pocketvision.models.create import create_model


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
