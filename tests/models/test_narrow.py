import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from masking import enlivened, masked_answers
from torch import Tensor, nn

from pocketvision.errors import ConfigError
from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.channels import channel_map
from pocketvision.models.narrow import check_narrows, largest_first, narrow, squared_norms
from pocketvision.models.width_groups import WidthGroup, resized, width_groups
from pocketvision.models.widths import widths_of
from pocketvision.nn.attention import CbamSpec, SqueezeExciteSpec
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.heads import ClassifierSpec
from pocketvision.nn.residual import BasicResidualSpec
from pocketvision.nn.shuffle import ShuffleV2Spec

FAMILIES = (
    ("mobilenet_v1", 0.25, None),
    ("mobilenet_v1", 0.25, "cbam"),
    ("mobilenet_v2", 0.35, None),
    ("mobilenet_v3_small", 0.35, None),
    ("mobilenet_v3_large", 0.35, None),
    ("mnasnet_a1", 0.35, None),
    ("shufflenet_v1_g1", 0.25, None),
    ("shufflenet_v1_g1", 0.25, "se"),
    ("shufflenet_v1_g3", 0.5, None),
    ("shufflenet_v2_x0_5", None, None),
    ("shufflenet_v2_x0_5", None, "se"),
    ("resnet50", 0.25, None),
    ("se_resnet18", 0.25, None),
    ("cbam_resnet18", 0.25, None),
    ("se_inception", 0.25, None),
)
COVERED = (FAMILIES[0], FAMILIES[4], FAMILIES[6], FAMILIES[9])  # others have all their groups
WITH_BIASES = tuple(each for each in FAMILIES if "se_" not in each[0] and each[2] != "se")


def family_spec(family: tuple[str, float | None, str | None]) -> ArchSpec:
    name, width, attention = family
    return registry.spec(name, width=width, resolution=32, num_classes=5, attention=attention)


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def lively(spec: ArchSpec, seed: int = 0) -> Network:
    """No two channels have the same figures, and none is a constant."""
    return enlivened(spec.build(seed=seed), seed)


def without_maximum_over_signs(network: Network) -> Network:
    """On the branches of ResNets, masked channels can be the largest; so it is not looked at."""
    for path, module in network.named_modules():
        if path.endswith("attention.spatial") and isinstance(module, nn.Conv2d):
            module.weight.detach()[:, 1] = 0
    return network


def shortened(spec: ArchSpec) -> ArchSpec:
    """Without blocks equal to the one before, but where they deal channels out anew."""
    blocks = [
        block
        for index, block in enumerate(spec.blocks)
        if isinstance(block, ShuffleV2Spec) or block not in spec.blocks[max(0, index - 1) : index]
    ]
    return replace(spec, blocks=tuple(blocks))


def halved(spec: ArchSpec, group: WidthGroup) -> ArchSpec:
    """With about half the width; as it is where nothing is allowed."""
    widths = widths_of(spec, group, max(1, group.width // 4)) or widths_of(spec, group)
    return resized(spec, group, widths[len(widths) // 2]) if widths else spec


def single_moves(spec: ArchSpec) -> Iterator[tuple[str, ArchSpec]]:
    """Every group halved alone; hidden layers of attention, which do not meet, together."""
    squeezed = spec
    for group in width_groups(spec):
        if group.kind == "squeeze":
            squeezed = halved(squeezed, group)
        else:
            yield group.name, halved(spec, group)
    if squeezed != spec:
        yield "squeeze", squeezed


@torch.no_grad()
@pytest.mark.parametrize(
    "family",
    [
        pytest.param(
            family,
            marks=pytest.mark.slow if family in COVERED else (),
            id=f"{family[0]}-{family[2]}",
        )
        for family in FAMILIES
    ],
)
def test_narrowed_network_is_the_masked_one_for_every_group(
    family: tuple[str, float | None, str | None],
) -> None:
    spec = shortened(family_spec(family))
    network, x = lively(spec), images().double()
    if "resnet" in spec.name:
        without_maximum_over_signs(network)
    before = network(x)
    for name, narrower in single_moves(spec):
        found = narrow(network, narrower)
        logits = found(x)
        expected = masked_answers(network, found, x)
        torch.testing.assert_close(logits, expected, rtol=1e-8, atol=1e-9, msg=name)
        assert not torch.allclose(logits, before, rtol=1e-6), name
        assert count(narrower).parameters == sum(p.numel() for p in found.parameters())
        assert count(narrower).parameters < count(spec).parameters, name


@torch.no_grad()
@pytest.mark.parametrize("family", WITH_BIASES, ids=lambda family: f"{family[0]}-{family[2]}")
def test_narrowed_network_is_the_masked_one_for_all_groups_at_once(
    family: tuple[str, float | None, str | None],
) -> None:
    spec = narrower = family_spec(family)
    for name in [group.name for group in width_groups(spec)]:
        narrower = halved(narrower, group_called(narrower, name))
    network = lively(spec, seed=1)
    if "resnet" in spec.name:
        without_maximum_over_signs(network)
    found, x = narrow(network, narrower), images().double()
    torch.testing.assert_close(found(x), masked_answers(network, found, x), rtol=1e-8, atol=1e-9)
    assert count(narrower).parameters < 0.8 * count(spec).parameters


@settings(max_examples=6)
@given(
    family=st.sampled_from(WITH_BIASES),
    steps=st.lists(st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)), min_size=1, max_size=5),
)
def test_any_sequence_of_moves_gives_the_masked_network(
    family: tuple[str, float | None, str | None], steps: list[tuple[float, float]]
) -> None:
    spec = narrower = family_spec(family)
    for which, share in steps:
        groups = width_groups(narrower)
        group = groups[math.floor(which * len(groups))]
        widths = widths_of(narrower, group, max(4, group.width // 32 * 4))
        if widths:
            narrower = resized(narrower, group, widths[math.floor(share * len(widths))])
    network = lively(spec, seed=2)
    if "resnet" in spec.name:
        without_maximum_over_signs(network)
    found, x = narrow(network, narrower), images().double()
    assert found.spec == narrower
    torch.testing.assert_close(found(x), masked_answers(network, found, x), rtol=1e-8, atol=1e-9)


def small(*, attention: SqueezeExciteSpec | CbamSpec | None = None, mid: int = 10) -> ArchSpec:
    """Stem, an inverted residual with a shortcut, a last convolution, a hidden layer."""
    return ArchSpec(
        name="small",
        width=1.0,
        in_chans=3,
        resolution=32,
        blocks=(
            ConvSpec(c_in=3, c_out=6, stride=2),
            InvertedResidualSpec(c_in=6, c_mid=mid, c_out=6, attention=attention),
            ConvSpec(c_in=6, c_out=8, kernel=1),
        ),
        head=ClassifierSpec(c_in=8, num_classes=4, hidden=7, act="relu"),
    )


def group_called(spec: ArchSpec, name: str) -> WidthGroup:
    return next(group for group in width_groups(spec) if group.name == name)


def moved(spec: ArchSpec, name: str, width: int) -> ArchSpec:
    return resized(spec, group_called(spec, name), width)


def norm_weight(network: Network, path: str) -> Tensor:
    module = network.get_submodule(path)
    assert isinstance(module, nn.BatchNorm2d)
    return module.weight.detach()


@torch.no_grad()
@pytest.mark.parametrize("how", ["filter", "scale", "variance"])
def test_the_smallest_filter_goes(how: str) -> None:
    spec = small()
    network = lively(spec)
    state = network.state_dict()
    match how:
        case "filter":
            state["blocks.1.expand.conv.weight"][3] *= 1e-3
        case "scale":
            state["blocks.1.expand.norm.weight"][3] *= 1e-3
        case "variance":
            state["blocks.1.expand.norm.running_var"][3] *= 1e6
    found = narrow(network, moved(spec, "blocks.1.expansion", 9))
    kept = [0, 1, 2, 4, 5, 6, 7, 8, 9]
    after = found.state_dict()
    for name in ("expand.conv.weight", "expand.norm.bias", "depthwise.conv.weight"):
        assert torch.equal(after[f"blocks.1.{name}"], state[f"blocks.1.{name}"][kept])
    project = "blocks.1.project.conv.weight"
    assert torch.equal(after[project], state[project][:, kept])


@torch.no_grad()
def test_of_tied_filters_all_count() -> None:
    spec = small()
    network = lively(spec)
    norm_weight(network, "blocks.0.norm")[:] = torch.tensor([1.0, 1, 0.01, 0.01, 1, 1])
    norm_weight(network, "blocks.1.project.norm")[:] = torch.tensor([1.0, 1, 9, 0.01, 1, 1])
    found = narrow(network, moved(spec, "blocks.0-1.output", 5))
    assert norm_weight(found, "blocks.1.project.norm").tolist() == [1, 1, 9, 1, 1]
    narrower = narrow(found, moved(found.spec, "blocks.0-1.output", 1))
    assert norm_weight(narrower, "blocks.1.project.norm").tolist() == [9]


@torch.no_grad()
def test_of_equal_filters_the_first_stay() -> None:
    network = lively(small())
    for parameter in network.parameters():
        parameter.fill_(1.0)
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(1.0)
    bias = network.state_dict()["blocks.2.norm.bias"]
    bias[:] = torch.arange(8)
    found = narrow(network, moved(network.spec, "blocks.2.output", 3))
    assert found.state_dict()["blocks.2.norm.bias"].tolist() == [0, 1, 2]


@torch.no_grad()
def test_gates_do_not_make_a_channel_large() -> None:
    spec = small(attention=SqueezeExciteSpec(squeezed=4))
    network = lively(spec)
    norm_weight(network, "blocks.1.expand.norm")[7] = 1e-3
    network.state_dict()["blocks.1.attention.expand.weight"][7] = 100.0
    before = norm_weight(network, "blocks.1.depthwise.norm").tolist()
    found = narrow(network, moved(spec, "blocks.1.expansion", 9))
    assert norm_weight(found, "blocks.1.depthwise.norm").tolist() == before[:7] + before[8:]


@torch.no_grad()
def test_squared_norms_are_those_of_the_folded_filters() -> None:
    network = lively(small())
    norms, state = squared_norms(network), network.state_dict()
    by_tensor = {(a.tensor, a.axis): a for a in channel_map(network.spec).axes}
    weight, prefix = state["blocks.2.conv.weight"], "blocks.2.norm"
    factor = state[f"{prefix}.weight"] / (state[f"{prefix}.running_var"] + 1e-5).sqrt()
    folded = weight * factor.view(-1, 1, 1, 1)
    slots = by_tensor["blocks.2.conv.weight", 0].slots
    expected = folded.flatten(1).norm(dim=1) ** 2
    torch.testing.assert_close(torch.tensor([norms[s] for s in slots]).double(), expected)
    hidden = by_tensor["head.hidden.weight", 0].slots
    rows = state["head.hidden.weight"].norm(dim=1) ** 2
    torch.testing.assert_close(torch.tensor([norms[s] for s in hidden]).double(), rows)
    assert [norms[s] for s in by_tensor["blocks.0.conv.weight", 1].slots] == [0, 0, 0]


def test_moves_far_apart_give_the_same_one_by_one_and_at_once() -> None:
    spec = registry.spec("mobilenet_v2", width=0.35, resolution=32, num_classes=5)
    network = lively(spec)
    first = moved(spec, "blocks.3.expansion", 24)
    both = moved(first, "blocks.8.expansion", 80)
    one_by_one, at_once = narrow(narrow(network, first), both), narrow(network, both)
    for name, tensor in at_once.state_dict().items():
        assert torch.equal(one_by_one.state_dict()[name], tensor), name


def test_present_widths_give_the_same_weights_in_other_memory() -> None:
    network = lively(registry.spec("shufflenet_v2_x0_5", resolution=32, num_classes=5))
    found = narrow(network, network.spec)
    before = network.state_dict()
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        assert tensor.data_ptr() != before[name].data_ptr(), name


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_largest_channels_first_compute_the_same(
    family: tuple[str, float | None, str | None],
) -> None:
    network = lively(family_spec(family))
    found = largest_first(network)
    torch.testing.assert_close(found(images().double()), network(images().double()))
    norms, channels = squared_norms(found), channel_map(found.spec)
    by_places: dict[object, list[float]] = {}
    for slot, places in channels.places.items():
        by_places.setdefault(places, []).append(norms[slot])
    assert all(each == sorted(each, reverse=True) for each in by_places.values())
    assert not all(map(torch.equal, found.state_dict().values(), network.state_dict().values()))


def test_the_first_of_them_are_those_that_stay_when_it_is_narrowed() -> None:
    spec = registry.spec("mobilenet_v2", width=0.35, resolution=32, num_classes=5)
    network, slim = lively(spec), moved(spec, "blocks.3.expansion", 24)
    ordered = largest_first(network)
    kept, name = narrow(ordered, slim), "blocks.3.expand.conv.weight"
    assert torch.equal(kept.state_dict()[name], ordered.state_dict()[name][:24])
    x = images().double()
    torch.testing.assert_close(kept(x), narrow(network, slim)(x))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_mode_dtype_and_counters_are_taken_over(training: bool, dtype: torch.dtype) -> None:
    network = lively(small(attention=CbamSpec(squeezed=3, kernel=3))).to(dtype).train(training)
    found = narrow(network, moved(network.spec, "blocks.1.expansion", 4))
    assert found.training is training
    assert {p.dtype for p in found.parameters()} == {dtype}
    assert all(parameter.requires_grad for parameter in found.parameters())
    assert {p.device.type for p in found.parameters()} == {"cpu"}
    counters = [b for name, b in found.named_buffers() if name.endswith("num_batches_tracked")]
    assert [int(counter) for counter in counters] == [1] * len(counters)
    found.train()(images().to(dtype)).sum().backward()  # what it has can be trained


def test_mean_over_fewer_channels_weighs_less() -> None:
    network = lively(small(attention=CbamSpec(squeezed=3, kernel=3)))
    found = narrow(network, moved(network.spec, "blocks.1.expansion", 5))
    name = "blocks.1.attention.spatial.weight"
    before, after = network.state_dict()[name], found.state_dict()[name]
    assert torch.equal(after[:, 0], before[:, 0] * 0.5)
    assert torch.equal(after[:, 1], before[:, 1])


@torch.no_grad()
@pytest.mark.parametrize("attention", [None, SqueezeExciteSpec(squeezed=2), CbamSpec(squeezed=2)])
def test_one_channel_is_enough(attention: SqueezeExciteSpec | CbamSpec | None) -> None:
    network = lively(small(attention=attention))
    for name in ("blocks.0-1.output", "blocks.1.expansion", "blocks.1.squeeze", "head.hidden"):
        if name in [group.name for group in width_groups(network.spec)]:
            width = 2 if name == "blocks.1.expansion" else 1  # as wide as the input: no expansion
            found, x = narrow(network, moved(network.spec, name, width)), images().double()
            torch.testing.assert_close(found(x), masked_answers(network, found, x))
            network = found
    again = narrow(network, network.spec)
    assert torch.equal(again(images().double()), network(images().double()))


def test_channels_read_by_another_unit_cannot_be_taken() -> None:
    spec = registry.spec("shufflenet_v2_x0_5", resolution=32)
    blocks = []
    for block in spec.blocks:
        if isinstance(block, ShuffleV2Spec):
            ends = [64 if channels == 96 else channels for channels in (block.c_in, block.c_out)]
            block = replace(block, c_in=ends[0], c_out=ends[1])
        blocks.append(block)
    with pytest.raises(
        ConfigError,
        match=r"cannot take all its channels from shufflenet_v2_x0_5 x1 @32: it has 1, but there "
        r"are 0 that are at once in blocks\.6\..* \(outputs, group 0\), .*\. Take a width that",
    ):
        check_narrows(spec, replace(spec, blocks=tuple(blocks)))


def test_a_wider_network_is_refused() -> None:
    network = lively(small())
    with pytest.raises(
        ConfigError, match=r"it has 11, but there are 10 .* blocks\.1\.expand\.conv"
    ):
        narrow(network, small(mid=11))


def test_more_than_widths_may_not_differ() -> None:
    spec = small()
    network = lively(spec)
    stem, *rest = spec.blocks
    assert isinstance(stem, ConvSpec)
    hidden = replace(spec.head, hidden=None)
    for other, where in (
        (replace(spec, blocks=(replace(stem, act="relu"), *rest)), "block 0 differs"),
        (replace(spec, blocks=(replace(stem, stride=1), *rest)), "block 0 differs"),
        (replace(spec, blocks=(*spec.blocks, replace(stem, c_in=8, c_out=8))), "number of blocks"),
        (spec.with_classes(3), "the head differs"),
        (replace(spec, head=hidden), "the head differs"),
        (replace(spec, in_chans=1, blocks=(replace(stem, c_in=1), *rest)), "in_chans differs"),
        (small(attention=SqueezeExciteSpec(squeezed=4)), "block 1 differs"),
    ):
        with pytest.raises(ConfigError, match=f"no narrower form of small x1 @32: .*{where}"):
            narrow(network, other)
    narrow(network, replace(spec.at(64), name="other", variant="smaller"))


def test_widths_that_change_the_layers_are_refused() -> None:
    network = lively(small())
    with pytest.raises(
        ConfigError,
        match=r"other layers: conv blocks\.1\.depthwise\.conv behind blocks\.0\.act; expected conv "
        r"blocks\.1\.expand\.conv",
    ):
        narrow(network, small(mid=6))
    block = BasicResidualSpec(c_in=8, c_out=6)
    projected = replace(small(), blocks=(ConvSpec(c_in=3, c_out=8), block), head=_head(6))
    plain = replace(
        small(), blocks=(ConvSpec(c_in=3, c_out=6), replace(block, c_in=6)), head=_head(6)
    )
    with pytest.raises(ConfigError, match=r"other layers: add behind blocks\.1\.branch\.1\.norm"):
        check_narrows(projected, plain)


def _head(c_in: int) -> ClassifierSpec:
    return ClassifierSpec(c_in=c_in, num_classes=4)
