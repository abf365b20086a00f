from dataclasses import replace

import pytest
import torch

from pocketvision.errors import ConfigError
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.channels import Axis, ChannelMap, channel_map
from pocketvision.nn.attention import CbamSpec, SqueezeExciteSpec
from pocketvision.nn.blocks import InvertedResidualSpec, SeparableSpec
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.heads import ClassifierSpec
from pocketvision.nn.shuffle import ShuffleV1Spec, ShuffleV2Spec

NAMES = registry.list_models()


def slots(found: ChannelMap, tensor: str, axis: int = 0) -> tuple[int, ...]:
    return axis_of(found, tensor, axis).slots


def axis_of(found: ChannelMap, tensor: str, axis: int = 0) -> Axis:
    return next(each for each in found.axes if (each.tensor, each.axis) == (tensor, axis))


def spec_of(*blocks: ConvSpec | InvertedResidualSpec | SeparableSpec | ShuffleV1Spec) -> ArchSpec:
    return ArchSpec(
        name="small",
        width=1.0,
        in_chans=blocks[0].c_in,
        resolution=32,
        blocks=blocks,
        head=ClassifierSpec(c_in=blocks[-1].c_out, num_classes=4),
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name.endswith(("101", "152")) else ())
        for name in NAMES
    ],
)
def test_every_axis_with_channels_is_there_once(name: str) -> None:
    spec = registry.spec(name, width=min(registry.widths(name)), resolution=32, num_classes=7)
    with torch.device("meta"):
        network = Network(spec)
    found = channel_map(spec)
    expected = {}
    for tensor, value in network.state_dict().items():
        if value.dim():
            expected[tensor, 0] = value.shape[0]
        if value.dim() > 1 and not is_depthwise(network, tensor):
            expected[tensor, 1] = value.shape[1]
    assert {
        (axis.tensor, axis.axis): len(axis.slots) // (axis.groups if axis.axis else 1)
        for axis in found.axes
    } == expected
    assert len(found.axes) == len(expected)
    assert all(len(set(axis.slots)) == len(axis.slots) for axis in found.axes)
    assert {slot for axis in found.axes for slot in axis.slots} <= {*found.places}


def is_depthwise(network: Network, tensor: str) -> bool:
    module = network.get_submodule(tensor.rpartition(".")[0])
    return isinstance(module, torch.nn.Conv2d) and module.groups == module.in_channels > 1


def test_a_channel_keeps_its_slot_from_filter_to_column() -> None:
    found = channel_map(registry.spec("mobilenet_v2", width=0.35, resolution=32))
    written = slots(found, "blocks.2.expand.conv.weight")
    for tensor in (
        "expand.norm.weight",
        "expand.norm.bias",
        "expand.norm.running_mean",
        "expand.norm.running_var",
        "depthwise.conv.weight",
        "depthwise.norm.weight",
    ):
        assert slots(found, f"blocks.2.{tensor}") == written
    assert slots(found, "blocks.2.project.conv.weight", 1) == written
    assert not {*written} & {*slots(found, "blocks.2.project.conv.weight")}


def test_residual_sums_tie_outputs() -> None:
    found = channel_map(registry.spec("mobilenet_v2", width=0.35, resolution=32))
    outputs = [slots(found, f"blocks.{block}.project.conv.weight") for block in range(1, 8)]
    assert outputs[1] == outputs[2]  # blocks 2 and 3
    assert outputs[3] == outputs[4] == outputs[5]  # blocks 4 to 6
    assert len({outputs[0], outputs[1], outputs[3], outputs[6]}) == 4
    assert slots(found, "blocks.7.expand.conv.weight", 1) == outputs[5]


def test_a_projection_on_the_shortcut_is_tied_to_the_branch() -> None:
    found = channel_map(registry.spec("resnet18", width=0.25, resolution=32))
    branch = slots(found, "blocks.4.branch.1.conv.weight")
    assert slots(found, "blocks.4.shortcut.conv.weight") == branch
    assert slots(found, "blocks.5.branch.1.conv.weight") == branch
    assert slots(found, "blocks.3.branch.1.conv.weight") == slots(found, "blocks.0.conv.weight")


def test_gates_have_the_slots_of_what_they_scale() -> None:
    block = InvertedResidualSpec(c_in=6, c_mid=10, c_out=6, attention=SqueezeExciteSpec(squeezed=3))
    found = channel_map(spec_of(ConvSpec(c_in=3, c_out=6), block))
    gate = axis_of(found, "blocks.1.attention.expand.weight")
    assert gate.gate
    assert gate.slots == slots(found, "blocks.1.expand.conv.weight")
    assert slots(found, "blocks.1.attention.expand.bias") == gate.slots
    assert slots(found, "blocks.1.attention.reduce.weight", 1) == gate.slots
    assert len(slots(found, "blocks.1.attention.reduce.weight")) == 3
    assert {axis.tensor for axis in found.axes if axis.gate} == {gate.tensor}
    norms = {axis.tensor: axis.norm for axis in found.axes if axis.role == "writes"}
    assert norms["blocks.1.expand.conv.weight"] == "blocks.1.expand.norm"
    assert norms["blocks.1.attention.expand.weight"] == norms["head.classifier.weight"] == ""


def test_maps_over_all_channels_have_slots_of_their_own() -> None:
    block = SeparableSpec(c_in=6, c_out=10, attention=CbamSpec(squeezed=3))
    found = channel_map(spec_of(ConvSpec(c_in=3, c_out=6), block))
    mean, largest = slots(found, "blocks.1.attention.spatial.weight", 1)
    assert dict(found.means) == {mean: 10}
    assert found.places[mean] != found.places[largest]
    written = slots(found, "blocks.1.pointwise.conv.weight")
    assert slots(found, "blocks.1.attention.expand.weight") == written
    (gate,) = slots(found, "blocks.1.attention.spatial.weight")
    assert gate not in written
    assert axis_of(found, "blocks.1.attention.spatial.weight").gate


def test_channels_of_input_and_logits_cannot_be_exchanged() -> None:
    found = channel_map(registry.spec("mobilenet_v1", width=0.25, resolution=32, num_classes=4))
    fixed = slots(found, "blocks.0.conv.weight", 1) + slots(found, "head.classifier.weight")
    assert len({found.places[slot] for slot in fixed}) == 3 + 4
    written = slots(found, "blocks.0.conv.weight")
    assert len({found.places[slot] for slot in written}) == 1


def test_halves_and_shuffle_say_which_unit_reads_a_channel() -> None:
    units = [
        ShuffleV2Spec(c_in=3 if stride == 2 else 8, c_out=8, stride=stride) for stride in (2, 1)
    ]
    spec = replace(
        spec_of(ConvSpec(c_in=3, c_out=3), ConvSpec(c_in=3, c_out=8)), blocks=tuple(units)
    )
    found = channel_map(spec)
    passed = slots(found, "blocks.0.shortcut.1.conv.weight")
    branch = slots(found, "blocks.0.branch.2.conv.weight")
    read = slots(found, "blocks.1.branch.0.conv.weight", 1)
    assert read == (passed[2], branch[2], passed[3], branch[3])
    last = slots(found, "blocks.1.branch.2.conv.weight")
    joined = slots(found, "head.classifier.weight", 1)
    first = (passed[0], branch[0], passed[1], branch[1])
    assert joined == tuple(slot for pair in zip(first, last, strict=True) for slot in pair)


def test_groups_of_a_convolution_are_told_apart() -> None:
    unit = ShuffleV1Spec(c_in=24, c_out=24, groups=2)
    found = channel_map(spec_of(ConvSpec(c_in=3, c_out=24), unit))
    reduce = axis_of(found, "blocks.1.reduce.conv.weight", 1)
    assert reduce.groups == 2
    assert reduce.by_group() == (reduce.slots[:12], reduce.slots[12:])
    inner = slots(found, "blocks.1.reduce.conv.weight")  # 0 1 2 in group 0, 3 4 5 in group 1
    order = tuple(inner[index] for index in (0, 3, 1, 4, 2, 5))
    assert slots(found, "blocks.1.depthwise.conv.weight") == order
    assert slots(found, "blocks.1.expand.conv.weight", 1) == order
    groups = [tuple(group for _, _, group in found.places[slot] if slot in inner) for slot in inner]
    assert len(set(groups)) == 4  # written in one of two, read in one of two
    assert slots(found, "blocks.1.expand.conv.weight") == slots(found, "blocks.0.conv.weight")


def test_concatenated_channels_keep_their_slots() -> None:
    unit = ShuffleV1Spec(c_in=8, c_out=24, groups=1, stride=2)
    found = channel_map(spec_of(ConvSpec(c_in=3, c_out=8), unit))
    outputs = slots(found, "blocks.0.conv.weight") + slots(found, "blocks.1.expand.conv.weight")
    assert slots(found, "head.classifier.weight", 1) == outputs


def test_one_channel_does_as_many_did() -> None:
    """A 1x1 convolution from one channel to one looks like a depthwise one."""
    attention = CbamSpec(squeezed=1)
    wide = spec_of(ConvSpec(c_in=3, c_out=4), SeparableSpec(c_in=4, c_out=4, attention=attention))
    thin = spec_of(ConvSpec(c_in=3, c_out=1), SeparableSpec(c_in=1, c_out=1, attention=attention))
    alone, like = channel_map(thin), channel_map(thin, like=wide)
    pointwise = "blocks.1.pointwise.conv.weight"
    assert slots(like, pointwise) != slots(like, "blocks.0.conv.weight")
    assert slots(like, pointwise, 1) == slots(like, "blocks.0.conv.weight")
    assert axis_of(alone, pointwise).role == "keeps"
    assert slots(like, "blocks.1.attention.spatial.weight") != slots(like, pointwise)
    assert {*like.places.values()} == {*channel_map(wide).places.values()}


def test_other_layers_than_expected_are_named() -> None:
    stem = ConvSpec(c_in=3, c_out=6)
    block = InvertedResidualSpec(c_in=6, c_mid=10, c_out=6)
    with pytest.raises(
        ConfigError,
        match=r"small x1 @32 has other layers: conv blocks\.1\.depthwise\.conv behind "
        r"blocks\.0\.act; expected conv blocks\.1\.expand\.conv\. Equal widths can add",
    ):
        channel_map(spec_of(stem, replace(block, c_mid=6)), like=spec_of(stem, block))
    with pytest.raises(ConfigError, match=r"add behind .*project\.norm; expected global_mean head"):
        channel_map(spec_of(stem, block), like=spec_of(stem, replace(block, c_out=7)))
    longer = spec_of(stem, replace(stem, c_in=6))
    with pytest.raises(ConfigError, match=r"global_mean .* behind blocks\.0\.act; expected conv"):
        channel_map(spec_of(stem), like=longer)
