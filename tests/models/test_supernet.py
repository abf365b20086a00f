"""The supernet: members are slices, are extracted as they answer, and take over weights."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pocketvision.errors import ConfigError
from pocketvision.models import registry
from pocketvision.models.arch import Network
from pocketvision.models.space import Member, SearchSpace, StageSpace
from pocketvision.models.spaces import SPACES, V3_SMALL, member_at_any_side, member_of
from pocketvision.models.supernet import Supernet

SMALL = replace(V3_SMALL, widths=(0.25, 0.5), resolutions=(32, 48))


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    """With statistics of its own in every norm; not to be changed."""
    made = Supernet(SMALL, num_classes=3, seed=0)
    generator = torch.Generator().manual_seed(1)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var, module.bias.data):
                assert tensor is not None
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return made.eval()


def images(side: int = 32) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def drawn(seed: int) -> Member:
    return SMALL.sample(random.Random(seed))


def members() -> list[Member]:
    return [SMALL.smallest(), SMALL.largest(), *(drawn(seed) for seed in range(6))]


@pytest.mark.parametrize("member", members(), ids=lambda member: member.described[:24])
def test_what_is_extracted_answers_as_the_slice_does(supernet: Supernet, member: Member) -> None:
    network = supernet.extract(member)
    assert network.spec == SMALL.spec(member, 3)
    assert torch.equal(network(images()), supernet(images(), member))
    owned = {tensor.data_ptr() for tensor in supernet.state_dict().values()}
    assert not owned & {tensor.data_ptr() for tensor in network.state_dict().values()}
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_largest_member_is_all_of_the_weights(supernet: Supernet) -> None:
    wanted = supernet.largest(images())
    assert torch.equal(supernet(images(), SMALL.largest()), wanted)


@pytest.mark.parametrize("seed", range(4))
def test_member_is_the_masked_largest(supernet: Supernet, seed: int) -> None:
    """Zeros in place of what it lacks: the border of kernels, further channels; blocks are skipped.

    That is another way to compute a member, with nothing in common with slices.
    """
    member = replace(SMALL.largest(), width=0.5)
    generator = random.Random(seed)
    stages = tuple(
        tuple(
            replace(
                block,
                kernel=generator.choice(stage.kernels),
                expansion=generator.choice(stage.expansions),
            )
            for block in blocks
        )
        for stage, blocks in zip(SMALL.stages, member.stages, strict=True)
    )
    member = replace(member, stages=stages)
    masked = supernet.extract(SMALL.largest())
    found = supernet.extract(member)
    for index, block in enumerate(found.blocks):
        _mask(masked.blocks[index], block)
    assert torch.allclose(masked(images()), supernet(images(), member), atol=1e-5, rtol=1e-4)


def _mask(large: nn.Module, small: nn.Module) -> None:
    """Zero the channels of a block's inside that `small` lacks, and the border of its kernel."""
    theirs, ours = (dict(block.named_modules()) for block in (large, small))
    if "depthwise.conv" not in theirs:
        return
    depthwise, inner = theirs["depthwise.conv"], ours["depthwise.conv"]
    assert isinstance(depthwise, nn.Conv2d)
    assert isinstance(inner, nn.Conv2d)
    border = (depthwise.kernel_size[0] - inner.kernel_size[0]) // 2
    if border:
        kept = depthwise.weight[:, :, border:-border, border:-border].clone()
        depthwise.weight.data.zero_()
        depthwise.weight.data[:, :, border:-border, border:-border] = kept
    width = inner.out_channels
    project = theirs["project.conv"]
    assert isinstance(project, nn.Conv2d)
    project.weight.data[:, width:] = 0  # whatever else the further channels hold is not read
    if "attention.reduce" in theirs:
        reduce, expand = theirs["attention.reduce"], theirs["attention.expand"]
        assert isinstance(reduce, nn.Conv2d)
        assert isinstance(expand, nn.Conv2d)
        reduce.weight.data[:, width:] = 0
        squeezed = ours["attention.reduce"]
        assert isinstance(squeezed, nn.Conv2d)
        expand.weight.data[:, squeezed.out_channels :] = 0


def test_shallower_member_has_the_first_blocks_of_each_stage(supernet: Supernet) -> None:
    deep = SMALL.largest()
    shallow = replace(deep, stages=tuple(blocks[:2] for blocks in deep.stages))
    network = supernet.extract(shallow)
    skipped = supernet.extract(deep)
    first = 1
    kept = [skipped.blocks[0]]
    for stage, blocks in zip(SMALL.stages, shallow.stages, strict=True):
        kept += list(skipped.blocks)[first : first + len(blocks)]
        first += max(stage.depths)
    x = images()
    for block in (*kept, skipped.blocks[first]):
        x = block(x)
    assert torch.allclose(network(images()), skipped.head(x), atol=1e-5)


def test_gradients_reach_the_shared_weights(supernet: Supernet) -> None:
    made = Supernet(SMALL, num_classes=3, seed=0).train()
    made(images(), SMALL.smallest()).sum().backward()
    stem = made.largest.get_parameter("blocks.0.conv.weight").grad
    assert stem is not None
    assert stem[:8].abs().sum() > 0
    assert stem[8:].abs().sum() == 0


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"])
def test_published_network_is_found_again_in_the_weights_that_adopted_it(name: str) -> None:
    space = replace(SPACES[name.removeprefix("mobilenet_")], resolutions=(32,))
    network = registry.spec(name, resolution=64, num_classes=4).build(seed=3).eval()
    made = Supernet(space, num_classes=4, seed=0).eval()
    member = made.adopt(network)
    found = made.extract(member)
    assert member_at_any_side(space, network.spec) == member
    assert torch.equal(found(images()), network(images()))


def test_classifier_of_other_classes_stays(supernet: Supernet) -> None:
    made = Supernet(replace(SMALL, widths=(1.0,)), num_classes=3, seed=0).eval()
    before = made.largest.state_dict()["head.classifier.weight"].clone()
    made.adopt(registry.spec("mobilenet_v3_small", resolution=32, num_classes=9).build(seed=3))
    assert torch.equal(made.largest.state_dict()["head.classifier.weight"], before)


def test_network_that_is_no_member_is_refused(supernet: Supernet) -> None:
    stranger: Network = registry.spec("mobilenet_v2", resolution=32, num_classes=3).build(seed=0)
    with pytest.raises(ConfigError, match=r"mobilenet_v2 x1 @32 is no member of v3_small"):
        supernet.adopt(stranger)


def test_member_without_expansion_is_a_slice_too() -> None:
    space = SearchSpace(
        name="mixed",
        stages=(StageSpace(c_out=16, stride=2, expansions=(1.0, 3.0), depths=(1,)),),
        last=32,
        hidden=16,
        resolutions=(32,),
    )
    made = Supernet(space, num_classes=2, seed=0).eval()
    member = space.smallest()
    network = made.extract(member)
    assert torch.equal(network(images()), made(images(), member))
    assert member_of(space, network.spec) == member


def test_same_seed_same_weights() -> None:
    first, second = (Supernet(SMALL, num_classes=2, seed=5).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
