"""What every patch classifier promises, and what its spec refuses."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.models.hybridsn import hybridsn
from pocketvision.models.mobile_patch import mobile_patch
from pocketvision.models.patch import PatchHeadSpec, PatchSpec
from pocketvision.nn.attention import CbamSpec, SqueezeExciteSpec
from pocketvision.nn.conv import DEFAULT_NORM, ConvSpec
from pocketvision.storage import from_json, to_json

HYBRIDSN = hybridsn(bands=14, window=11, num_classes=5)
MOBILE = mobile_patch(bands=14, window=11, num_classes=5)
SPECS = [
    HYBRIDSN,
    MOBILE,
    hybridsn(bands=14, window=11, num_classes=5, attention=SqueezeExciteSpec(squeezed=4)),
    mobile_patch(bands=14, window=11, num_classes=5, attention=CbamSpec(squeezed=4)),
]


def windows(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 14, 11, 11, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=SPECS, ids=lambda spec: spec.label)
def spec(request: pytest.FixtureRequest) -> PatchSpec:
    found: PatchSpec = request.param
    return found


@torch.no_grad()
def test_logits_have_their_shape_and_do_not_mix_windows(spec: PatchSpec) -> None:
    network = spec.build(0).eval()
    logits = network(windows())
    assert logits.shape == (3, spec.num_classes)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[1:2], network(windows()[1:2]), rtol=1e-4, atol=1e-5)


def test_every_parameter_gets_a_gradient(spec: PatchSpec) -> None:
    network = spec.build(0).train()
    network(windows(8)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_spec_round_trips_through_json(spec: PatchSpec) -> None:
    again = from_json(PatchSpec, to_json(spec), source="a test")
    assert again == spec
    assert hash(again) == hash(spec)
    expected = spec.build(3).state_dict()
    for name, tensor in again.build(3).state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_json_that_does_not_chain_is_refused() -> None:
    text = to_json(HYBRIDSN).replace('"bands": 14', '"bands": 15')
    with pytest.raises(
        ArtefactError, match=r"x\.json is not a valid PatchSpec: .* a 2-D block tak"
    ):
        from_json(PatchSpec, text, source="x.json")


def test_weights_depend_on_the_seed_alone(spec: PatchSpec) -> None:
    first, other = spec.build(1).state_dict(), spec.build(2).state_dict()
    torch.manual_seed(99)
    again = spec.build(1).state_dict()
    assert first.keys() == again.keys() == other.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_build_with_a_seed_leaves_the_global_random_state(spec: PatchSpec) -> None:
    before = torch.get_rng_state()
    spec.build(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_build_without_a_seed_follows_the_global_random_state() -> None:
    first, second = MOBILE.build(), MOBILE.build()
    weights = [network.head.classifier.weight for network in (first, second)]
    assert not torch.equal(*weights)


@torch.no_grad()
def test_activations_keep_their_size_at_the_start() -> None:
    """Else a deep stack of convolutions would start with gradients of nothing."""
    x = torch.randn(8, 30, 25, 25, generator=torch.Generator().manual_seed(0))
    features = hybridsn(bands=30, num_classes=16).build(0).trunk(x)
    assert 0.5 < features.square().mean() < 2


def test_dropout_differs_in_train_mode_alone(spec: PatchSpec) -> None:
    network = spec.build(0).eval()
    assert torch.equal(network(windows()), network(windows()))
    head = network.head.train()
    features = network.trunk(windows()).detach()
    assert not torch.equal(head(features), head(features))


@pytest.mark.parametrize("build", [hybridsn, mobile_patch])
def test_label_names_network_attention_and_input(build: Callable[..., PatchSpec]) -> None:
    name = build.__name__
    assert build(bands=14, window=11, num_classes=5).label == f"{name} 11x11x14"
    attended = build(bands=14, window=11, num_classes=5, attention=CbamSpec(squeezed=4))
    assert attended.label == f"{name} + cbam 11x11x14"


def test_with_classes_changes_the_last_layer_alone(spec: PatchSpec) -> None:
    changed = spec.with_classes(9)
    assert changed.num_classes == 9
    assert changed.layers()[:-1] == spec.layers()[:-1]
    assert spec.num_classes == 5


def test_layers_chain(spec: PatchSpec) -> None:
    layers = spec.trunk_layers((13, 15))
    for before, after in itertools.pairwise(layers):
        assert before.out_elements == after.in_elements
        assert before.out_size == after.in_size


@pytest.mark.parametrize("shape", [(2, 13, 11, 11), (2, 14, 11, 13), (14, 11, 11)])
def test_input_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    given = "x".join(map(str, shape))
    with pytest.raises(ConfigError, match=f"input is {given}; expected anyx14x11x11"):
        MOBILE.build(0)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("spec", "change", "message"),
    [
        (MOBILE, {"window": 10}, "window=10 is not allowed; expected an odd number of pixels, 3 t"),
        (MOBILE, {"bands": 0}, "bands=0 is not allowed"),
        (MOBILE, {"bands": 15}, "a 2-D block takes 14 channels, but gets 15"),
        (HYBRIDSN, {"bands": 12}, "hybridsn needs at least 13 bands; got 12"),
        (HYBRIDSN, {"volumes": HYBRIDSN.volumes[1:]}, "a 3-D convolution takes 8 channels, but g"),
        (
            MOBILE,
            {"head": replace(MOBILE.head, c_in=33)},
            "the head takes 33 channels, but gets 32",
        ),
        (
            HYBRIDSN,
            {"window": 13},
            "window=13 leaves hybridsn a map of 5x5, but its head takes 3x3; the window must be 11",
        ),
        (MOBILE, {"window": 9}, "leaves mobile_patch a map of -1x-1, .* the window must be 11"),
    ],
)
def test_spec_refuses_what_does_not_chain(
    spec: PatchSpec, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(spec, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"padding": "same"}, "a 2-D block has padding='same' and stride=1; .* valid padding and"),
        ({"stride": 2}, "a 2-D block has padding='valid' and stride=2"),
        (
            {"attention": SqueezeExciteSpec(squeezed=4)},
            r"a 2-D block has attention \(squeeze_excite\), which would look at the whole scene",
        ),
    ],
)
def test_blocks_that_would_see_the_scene_s_border_or_all_of_it_are_refused(
    change: dict[str, Any], message: str
) -> None:
    stem, *blocks = MOBILE.planes
    with pytest.raises(ConfigError, match=message):
        replace(MOBILE, planes=(stem, replace(blocks[0], **change), *blocks[1:]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c_in": 0}, "c_in=0 is not allowed"),
        ({"size": 0}, "size=0 is not allowed"),
        ({"num_classes": 0}, "num_classes=0 is not allowed"),
        ({"hidden": (8, 0)}, "hidden=0 is not allowed; expected a whole number from 1 up"),
        ({"dropout": 1.0}, "dropout=1.0 is out of range; expected 0.0 to 0.99"),
    ],
)
def test_head_refuses_what_is_not_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PatchHeadSpec(**{"c_in": 4, "size": 1, "num_classes": 2, **change})


def test_plain_convolutions_are_a_patch_classifier_too() -> None:
    spec = PatchSpec(
        name="plain",
        bands=3,
        window=3,
        volumes=(),
        planes=(ConvSpec(c_in=3, c_out=4, norm=None, padding="valid"),),
        head=PatchHeadSpec(c_in=4, size=1, num_classes=2),
    )
    network = spec.build(0)
    assert isinstance(network.volumes, nn.Sequential)
    assert network.eval()(torch.zeros(1, 3, 3, 3)).shape == (1, 2)


def test_batch_norms_are_refused() -> None:
    spec = mobile_patch(bands=4, window=9, num_classes=3)
    planes = (replace(spec.planes[0], norm=DEFAULT_NORM), *spec.planes[1:])
    with pytest.raises(ConfigError, match=r"batch norm, whose statistics .* set norm=None"):
        replace(spec, planes=planes)
