import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.models import registry
from pocketvision.models.arch import Network
from pocketvision.models.create import create_model
from pocketvision.models.editing import cifar_form
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


def test_classes_and_channels_of_the_file_are_taken_beside_attention_too(tmp_path: Path) -> None:
    source = create_model(
        "mobilenet_v1", width=0.25, attention="se", num_classes=7, in_chans=1, seed=1
    )
    save(source, tmp_path)
    network = create_model("mobilenet_v1", width=0.25, attention="se", weights=tmp_path)
    assert network.spec == source.spec
    assert torch.equal(classifier_of(network), classifier_of(source))
    three = create_model(
        "mobilenet_v1", width=0.25, attention="se", num_classes=3, weights=tmp_path
    )
    assert (three.spec.num_classes, three.spec.in_chans) == (3, 1)


def test_new_head_that_nobody_asked_for_is_said(tmp_path: Path) -> None:
    source = create_model("mobilenet_v3_small", width=0.35, num_classes=7, seed=1)
    save(source, tmp_path)
    with pytest.warns(
        UserWarning,
        match=r"does not fit the head of the network: head\.classifier\.weight, "
        r"head\.classifier\.bias are new\. Train them before use",
    ) as caught:
        network = create_model(source.spec.with_classes(1000), weights=tmp_path)
    assert caught[0].filename == __file__
    assert network.spec.num_classes == 1000
    wider = replace(source.spec, head=replace(source.spec.head, hidden=1280)).build()
    torch.save(wider.state_dict(), tmp_path / "w.pth")
    with pytest.warns(UserWarning, match=r"network: head\.hidden\.weight, head\.hidden\.bias are"):
        create_model("mobilenet_v3_small", width=0.35, num_classes=3, weights=tmp_path / "w.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # features have no head
        create_model(source.spec.with_classes(9), weights=tmp_path, features_only=True)


@pytest.mark.parametrize("name", ["network.safetensors", "w.pth"])
def test_classifier_that_is_no_matrix_is_refused(tmp_path: Path, name: str) -> None:
    source = create_model("mobilenet_v2", width=0.35, num_classes=7)
    save(source, tmp_path)
    state = source.state_dict()
    state["head.classifier.weight"] = state["head.classifier.weight"][:, :, None, None]
    torch.save(state, tmp_path / name)
    with pytest.raises(
        ArtefactError,
        match=r"has a classifier whose weight is 7x1280x1x1; expected classes x features\. Resh",
    ):
        create_model("mobilenet_v2", width=0.35, weights=tmp_path / name)


def test_momentum_in_tensorflow_s_sense_is_said(tmp_path: Path) -> None:
    save(create_model("mobilenet_v2", width=0.35, num_classes=3), tmp_path)
    path = tmp_path / "network.json"
    path.write_text(path.read_text().replace('"momentum": 0.1', '"momentum": 0.99'))
    with pytest.warns(UserWarning, match=r"momentum=0\.99 looks like TensorFlow's"):
        create_model("mobilenet_v2", width=0.35, weights=tmp_path)


def test_maps_are_those_of_the_file_s_network(tmp_path: Path) -> None:
    source = cifar_form(registry.spec("mobilenet_v2", width=0.35, num_classes=3)).build(seed=1)
    save(source, tmp_path)
    body = create_model("mobilenet_v2", width=0.35, weights=tmp_path, features_only=True)
    assert body.strides == (2, 4, 8, 16)  # one less: its stem has stride 1
    with pytest.raises(ConfigError, match=r"out_indices=\(4,\) is not allowed; .* has 4 maps"):
        create_model(
            "mobilenet_v2", width=0.35, weights=tmp_path, features_only=True, out_indices=(4,)
        )


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (None, {}, "model=None is not allowed; expected a name such as 'mobilenet_v3_small', or"),
        ("mobilenet_v2", {"weights": ""}, "weights='' is empty; give a"),
        (
            "mobilenet_v2",
            {"weights": "torchvisionn"},
            "weights='torchvisionn' does not exist; .* Did you mean 'torchvision'",
        ),
        ("mobilenet_v2", {"weights": True}, "weights=True is not allowed; expected a file, a"),
        (
            "mobilenet_v2",
            {"features_only": True, "out_indices": 3},
            r"out_indices=3 is not allowed; expected a tuple such as \(1, 2, 4\)",
        ),
        (
            "mobilenet_v2",
            {"features_only": True, "out_indices": ("a",)},
            r"out_indices=\('a',\) is not allowed; .* has 5 maps",
        ),
    ],
)
def test_arguments_of_another_type_get_a_sentence(
    model: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        create_model(model, **options)


def classifier_of(network: Network) -> torch.Tensor:
    return network.head.get_parameter("classifier.weight")
