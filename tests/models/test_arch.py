from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.nn.blocks import InvertedResidualSpec, SeparableSpec
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.heads import ClassifierSpec
from pocketvision.storage import from_json, to_json

TINY = ArchSpec(
    name="tiny",
    width=0.5,
    in_chans=3,
    resolution=32,
    blocks=(
        ConvSpec(c_in=3, c_out=8, stride=2),
        SeparableSpec(c_in=8, c_out=8, stride=2),
        InvertedResidualSpec(c_in=8, c_mid=16, c_out=8),
    ),
    head=ClassifierSpec(c_in=8, num_classes=5),
)


def weights_differ(one: Network, two: Network) -> bool:
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    return any(not torch.equal(a, b) for a, b in pairs)


def test_label_is_for_people() -> None:
    assert TINY.label == "tiny x0.5 @32"
    assert replace(TINY, width=1.0).at(224).label == "tiny x1 @224"


def test_at_changes_the_resolution_alone() -> None:
    assert TINY.at(64).resolution == 64
    assert TINY.at(64).at(32) == TINY


def test_taps_are_the_last_block_of_each_stride() -> None:
    assert TINY.taps == {2: 0, 4: 2}
    assert TINY.feature_channels == {2: 8, 4: 8}


def test_a_map_of_the_input_size_is_no_feature() -> None:
    spec = replace(TINY, blocks=(ConvSpec(c_in=3, c_out=3), *TINY.blocks))
    assert spec.taps == {2: 1, 4: 3}


def test_equal_specs_hash_equal_and_build_equal_structures() -> None:
    again = replace(TINY)
    assert (again, hash(again)) == (TINY, hash(TINY))
    shapes = [
        {name: tensor.shape for name, tensor in spec.build().state_dict().items()}
        for spec in (TINY, again)
    ]
    assert shapes[0] == shapes[1]


def test_json_comes_back_as_the_same_spec() -> None:
    text = to_json(TINY)
    assert '"kind": "inverted_residual"' in text
    assert from_json(ArchSpec, text, source="a test") == TINY
    assert to_json(from_json(ArchSpec, text, source="a test")) == text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"kind": "separable"', '"kind": "unheard"', "blocks.1: .*'unheard'.* does not match"),
        ('"kind": "separable",', "", "blocks.1: Unable to extract tag"),
        ('"groups": 1', '"groups": 7', "groups=7 must divide"),
        ('"c_mid": 16', '"c_mid": 0', "c_mid=0 is not allowed"),
        ('"in_chans": 3', '"in_chans": 4', "block 0 takes 3 channels, but the input gives 4"),
        ('"groups": 1', '"gruops": 1', "gruops"),
    ],
)
def test_json_that_is_no_spec_says_where(old: str, new: str, message: str) -> None:
    text = to_json(TINY)
    assert old in text
    with pytest.raises(ArtefactError, match=f"a test is not a valid ArchSpec: .*{message}"):
        from_json(ArchSpec, text.replace(old, new, 1), source="a test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0.0}, "width=0.0 is out of range; expected 0.1 to 10.0"),
        ({"in_chans": 0}, "in_chans=0 is not allowed; expected a whole number from 1 up"),
        ({"resolution": 3}, "resolution=3 is not allowed; expected a whole number from 4 up"),
        ({"resolution": 64.5}, "resolution=64.5 is not allowed"),
        ({"blocks": ()}, "tiny has no blocks; expected at least one"),
        ({"in_chans": 1}, "block 0 takes 3 channels, but the input gives 1; set its c_in to 1"),
        (
            {"blocks": (TINY.blocks[0], SeparableSpec(c_in=16, c_out=8))},
            "block 1 takes 16 channels, but block 0 gives 8",
        ),
        (
            {"head": ClassifierSpec(c_in=9, num_classes=5)},
            "the head takes 9 channels, but block 2 gives 8",
        ),
    ],
)
def test_spec_refuses_what_is_not_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **change)


def test_same_seed_gives_the_same_weights() -> None:
    assert not weights_differ(TINY.build(seed=3), TINY.build(seed=3))
    assert weights_differ(TINY.build(seed=3), TINY.build(seed=4))


def test_seed_leaves_the_global_random_state_alone() -> None:
    state = torch.get_rng_state()
    TINY.build(seed=3)
    assert torch.equal(state, torch.get_rng_state())


def test_without_a_seed_weights_follow_the_global_random_state() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = TINY.build()
    assert not weights_differ(network, TINY.build(seed=3))


def test_weights_start_as_torchvision_starts_them() -> None:
    spec = replace(
        TINY,
        blocks=(ConvSpec(c_in=3, c_out=64), ConvSpec(c_in=64, c_out=128, norm=None)),
        head=ClassifierSpec(c_in=128, num_classes=100),
    )
    for module in spec.build(seed=0).modules():
        if isinstance(module, nn.Conv2d):
            std = (2 / (module.out_channels * 9)) ** 0.5  # kaiming, fan out
            assert module.weight.std().item() == pytest.approx(std, rel=0.05)
        elif isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.05)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            assert module.bias.eq(0).all()


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (3, 32, 32), (1, 4, 32, 32)])
def test_network_refuses_an_input_of_another_shape(shape: tuple[int, ...]) -> None:
    network = TINY.build(seed=0).eval()
    given = "x".join(map(str, shape))
    with pytest.raises(ConfigError, match=f"input is {given}; expected anyx3xanyxany"):
        network(torch.zeros(shape))
    with pytest.raises(ConfigError, match=f"input is {given}; expected"):
        network.features(torch.zeros(shape))


def test_last_feature_is_what_the_head_sees() -> None:
    network = TINY.build(seed=0).eval()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network.head(network.features(x)[4]), network(x))
