"""Narrower patch classifiers: which widths there are, and that dropping channels is exact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from masking import is_kept, masked_answers
from torch import Tensor, nn

from pocketvision.errors import ConfigError
from pocketvision.models.dense import DenseTwin
from pocketvision.models.hybridsn import hybridsn
from pocketvision.models.mobile_patch import mobile_patch
from pocketvision.models.patch import PatchNetwork, PatchSpec
from pocketvision.models.patch_narrow import narrow_patch
from pocketvision.models.width_groups import WidthGroup
from pocketvision.models.widths import groups_of, narrower, widths_of
from pocketvision.nn.attention import CbamSpec, SqueezeExciteSpec

WINDOW, CLASSES = 11, 5
GATES = SqueezeExciteSpec(squeezed=6, gate="sigmoid")
SPECS = {
    "hybridsn": hybridsn(bands=15, window=WINDOW, num_classes=CLASSES),
    "hybridsn se": hybridsn(bands=15, window=WINDOW, num_classes=CLASSES, attention=GATES),
    "hybridsn cbam": hybridsn(
        bands=13, window=WINDOW, num_classes=CLASSES, attention=CbamSpec(squeezed=6)
    ),
    "mobile_patch": mobile_patch(bands=6, window=WINDOW, num_classes=CLASSES),
    "mobile_patch se": mobile_patch(bands=6, window=WINDOW, num_classes=CLASSES, attention=GATES),
}


def lively(spec: PatchSpec) -> PatchNetwork:
    """In double precision; no two channels have the same figures."""
    network = spec.build(seed=0).double().eval()
    random = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear) and module.bias is not None:
            nn.init.normal_(module.bias, 0.1, 0.5, generator=random)
    return network


def windows(spec: PatchSpec) -> Tensor:
    random = torch.Generator().manual_seed(2)
    shape = (3, spec.bands, spec.window, spec.window)
    return torch.randn(shape, generator=random, dtype=torch.float64)


def group_called(spec: PatchSpec, name: str) -> WidthGroup:
    return next(group for group in groups_of(spec) if group.name == name)


def moves(spec: PatchSpec) -> Iterator[PatchSpec]:
    """Every group at about half its width, and at its least."""
    for group in groups_of(spec):
        widths = widths_of(spec, group)
        for width in {widths[len(widths) // 2], widths[-1]}:
            yield narrower(spec, group, width)


def dropped(network: PatchNetwork, smaller: PatchSpec, bias: str) -> list[int]:
    """The channels that a narrower form lacks, by a bias that tells them apart."""
    narrowed = narrow_patch(network, smaller)
    kept = is_kept(network.get_parameter(bias), narrowed.get_parameter(bias))
    return [int(row) for row in torch.nonzero(~kept)[:, 0]]


def test_groups_of_hybridsn_are_its_layers() -> None:
    spec = hybridsn(bands=30, num_classes=16, attention=GATES)
    assert {group.name: group.width for group in groups_of(spec)} == {
        "volumes.0.output": 8,
        "volumes.1.output": 16,
        "volumes.2.output": 32,
        "head.squeeze": 6,
        "planes.0.output": 64,
        "head.hidden.0": 256,
        "head.hidden.1": 128,
    }
    assert widths_of(spec, group_called(spec, "volumes.2.output"), 8) == (24, 16, 8)
    assert widths_of(spec, group_called(spec, "volumes.0.output"), 8) == ()


def test_residual_sums_of_mobile_patch_share_a_width() -> None:
    groups = groups_of(mobile_patch(bands=6, window=11, num_classes=5))
    names = [(group.name, group.width) for group in groups]
    assert names.count(("planes.0.output", 32)) == 1
    assert sorted(name for name, _ in names) == [
        "planes.0.output",
        "planes.1.expansion",
        "planes.2.expansion",
        "planes.3.expansion",
    ]


@torch.no_grad()
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_narrowed_network_is_the_masked_one_for_every_group(spec: PatchSpec) -> None:
    network, x = lively(spec), windows(spec)
    for smaller in moves(spec):
        narrowed = narrow_patch(network, smaller)
        assert narrowed.spec == smaller
        torch.testing.assert_close(narrowed(x), masked_answers(network, narrowed, x))


@torch.no_grad()
@settings(max_examples=8)
@given(st.sampled_from(sorted(SPECS)), st.data())
def test_any_sequence_of_moves_gives_the_masked_network(name: str, data: st.DataObject) -> None:
    spec = SPECS[name]
    network, x = lively(spec), windows(spec)
    for _ in range(3):
        group = data.draw(st.sampled_from([g for g in groups_of(spec) if widths_of(spec, g)]))
        spec = narrower(spec, group, data.draw(st.sampled_from(widths_of(spec, group))))
    narrowed = narrow_patch(network, spec)
    torch.testing.assert_close(narrowed(x), masked_answers(network, narrowed, x))


@torch.no_grad()
def test_dense_form_of_a_narrowed_network_gives_what_its_windows_give() -> None:
    spec = SPECS["hybridsn se"]
    for smaller in moves(spec):
        narrowed, x = narrow_patch(lively(spec), smaller), windows(spec)
        torch.testing.assert_close(DenseTwin(narrowed)(x)[..., 0, 0], narrowed(x))


@torch.no_grad()
def test_the_smallest_filters_go() -> None:
    spec = SPECS["hybridsn"]
    network = lively(spec)
    network.get_parameter("volumes.1.conv.weight")[[3, 7]] *= 1e-3
    smaller = narrower(spec, group_called(spec, "volumes.1.output"), 14)
    assert dropped(network, smaller, "volumes.1.conv.bias") == [3, 7]


@torch.no_grad()
def test_of_filters_tied_by_a_sum_all_count() -> None:
    spec = SPECS["mobile_patch"]
    network = lively(spec)
    stem = network.get_parameter("planes.0.conv.weight")
    stem[5] = 0.0  # its sums come from the blocks behind it
    stem[6] *= 0.9
    for block in range(1, len(spec.planes)):
        network.get_parameter(f"planes.{block}.project.conv.weight")[6] *= 1e-3
    smaller = narrower(spec, group_called(spec, "planes.0.output"), 31)
    assert dropped(network, smaller, "planes.0.conv.bias") == [6]


def test_label_says_that_it_was_narrowed_and_once() -> None:
    spec = SPECS["hybridsn"]
    for _ in range(2):
        group = group_called(spec, "head.hidden.0")
        spec = narrower(spec, group, group.width - 8)
    assert spec.label == "hybridsn (narrowed) 11x11x15"


def test_widths_that_change_the_layers_are_not_offered() -> None:
    """An expansion as wide as its input would be none."""
    spec = SPECS["mobile_patch"]
    group = group_called(spec, "planes.1.expansion")
    assert 32 not in widths_of(spec, group, 8)
    with pytest.raises(
        ConfigError, match=r"planes.1.expansion of mobile_patch .* cannot be 32 wid"
    ):
        narrower(spec, group, 32)


def test_what_is_no_narrower_form_is_refused() -> None:
    spec = SPECS["hybridsn"]
    network = spec.build(seed=0)
    with pytest.raises(ConfigError, match="differs in more than its widths"):
        narrow_patch(network, replace(spec, bands=spec.bands).with_classes(7))
    group = group_called(spec, "planes.0.output")
    smaller = narrower(spec, group, 32)
    with pytest.raises(ConfigError, match=r"has 64 channels in planes.0.output, more than the 32"):
        narrow_patch(narrow_patch(network, smaller), spec)
    with pytest.raises(ConfigError, match=r"width=65 is out of range for planes.0.output"):
        narrower(spec, group, 65)
    with pytest.raises(ConfigError, match=r"planes.0.output of width 64 is no group of .*; it has"):
        narrower(smaller, group, 8)


def test_a_narrowed_network_shares_no_memory_and_keeps_its_mode() -> None:
    spec = SPECS["hybridsn"]
    network = spec.build(seed=0).train()
    copy = narrow_patch(network, spec)
    assert copy.training
    before = copy.head.classifier.weight.clone()
    with torch.no_grad():
        network.head.classifier.weight.zero_()
    assert torch.equal(copy.head.classifier.weight, before)
