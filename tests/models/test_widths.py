"""Widths of segmenters and detectors: which there are, and that a narrower one is masked."""

from __future__ import annotations

import pytest
import torch
from masking import enlivened, masked_answers

from pocketvision.compress.netadapt import narrowest
from pocketvision.errors import ConfigError
from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec
from pocketvision.models.detector import DetectorSpec, ssdlite
from pocketvision.models.narrow import narrow
from pocketvision.models.networks import DenseSpec
from pocketvision.models.segmenter import lr_aspp, r_aspp
from pocketvision.models.width_groups import WidthGroup
from pocketvision.models.widths import groups_of, least_width, narrower, widths_of

SIDE = 64


def body(name: str, width: float | None = 0.35, *, reduced_tail: bool = False) -> ArchSpec:
    return registry.spec(name, width=width, resolution=SIDE, reduced_tail=reduced_tail)


NETWORKS: dict[str, DenseSpec] = {
    "lr_aspp of V3-Small": lr_aspp(body("mobilenet_v3_small"), 5),
    "lr_aspp of V2": lr_aspp(body("mobilenet_v2"), 5, output_stride=32),
    "lr_aspp of V3-Large, global": lr_aspp(body("mobilenet_v3_large"), 5, pooling="global"),
    "lr_aspp of ShuffleNetV2": lr_aspp(body("shufflenet_v2_x0_5", None), 5, output_stride=32),
    "r_aspp of V1": r_aspp(body("mobilenet_v1", 0.25), 5),
    "ssdlite of V3-Small": ssdlite(body("mobilenet_v3_small", reduced_tail=True), 4),
    "ssdlite of V2": ssdlite(body("mobilenet_v2"), 4),
    "ssdlite of V1": ssdlite(body("mobilenet_v1", 0.25), 4),
}
# Structures that the others and test_narrow.py have.
COVERED = ("lr_aspp of V2", "ssdlite of V2", "ssdlite of V1")
every_network = pytest.mark.parametrize(
    "spec",
    [
        pytest.param(spec, id=name, marks=pytest.mark.slow if name in COVERED else ())
        for name, spec in NETWORKS.items()
    ],
)


def called(spec: DenseSpec, name: str) -> WidthGroup:
    return next(group for group in groups_of(spec) if group.name == name)


def halved(spec: DenseSpec, group: WidthGroup) -> DenseSpec:
    widths = widths_of(spec, group, max(1, group.width // 4)) or widths_of(spec, group)
    if not widths:
        return spec
    found = narrower(spec, group, widths[len(widths) // 2])
    assert isinstance(found, type(spec))
    return found


@torch.no_grad()
@every_network
def test_narrowed_network_is_the_masked_one(spec: DenseSpec) -> None:
    """For every width of a map that the head sees, for those inside the head, and for all."""
    network = enlivened(spec.build(seed=0), 0)
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).double()
    seen = {tap.block for tap in spec.taps}
    groups = groups_of(spec)
    moves = [halved(spec, g) for g in groups if seen & {*g.blocks} or not g.blocks]
    together = spec
    for group in groups:
        together = halved(together, called(together, group.name))
    for move in (*moves, together):
        found = narrow(network, move)
        expected = masked_answers(network, found, x)
        torch.testing.assert_close(found(x), expected, rtol=1e-8, atol=1e-9)
        assert count(move).parameters == sum(p.numel() for p in found.parameters())
        assert count(move).parameters <= count(spec).parameters
    assert count(together).parameters < 0.8 * count(spec).parameters


@every_network
def test_no_width_is_left_that_no_map_needs(spec: DenseSpec) -> None:
    """Each of them, narrowed, makes the network smaller."""
    names = [group.name for group in groups_of(spec)]
    assert len(names) == len(set(names))
    for group in groups_of(spec):
        if (smaller := halved(spec, group)) != spec:
            assert count(smaller).parameters < count(spec).parameters, group.name


def test_head_and_unused_tail() -> None:
    large = lr_aspp(body("mobilenet_v3_large", 1.0), 5)
    assert groups_of(large)[-1] == WidthGroup(name="head.filters", kind="hidden", width=128)
    assert groups_of(large)[-2].width == 960  # the last map; the hidden layer behind is not there
    of_v2 = lr_aspp(body("mobilenet_v2", 1.0), 5)
    assert max(group.width for group in groups_of(of_v2)) == 960  # an expansion: 1280 is not there
    extras = [group.width for group in groups_of(NETWORKS["ssdlite of V2"])][-4:]
    assert extras == [512, 256, 256, 128]


def test_maps_and_head_follow_the_backbone() -> None:
    spec = NETWORKS["ssdlite of V3-Small"]
    c4 = called(spec, f"blocks.{spec.taps[0].block}.expansion")
    changed = narrower(spec, c4, 24)
    assert isinstance(spec, DetectorSpec)
    assert isinstance(changed, DetectorSpec)
    assert changed.head.c_maps == (24, *spec.head.c_maps[1:])
    assert "narrowed" in changed.label


def test_widths_are_multiples_below_the_present_one() -> None:
    spec = NETWORKS["lr_aspp of V3-Small"]
    assert widths_of(spec, called(spec, "head.filters"), 32) == (96, 64, 32)
    assert all(w % 8 == 0 for g in groups_of(spec) for w in widths_of(spec, g, 8))
    with pytest.raises(ConfigError, match="multiple=0"):
        widths_of(spec, called(spec, "head.filters"), 0)


@every_network
def test_least_width_is_the_last_of_all(spec: DenseSpec) -> None:
    for group in groups_of(spec):
        multiple = max(1, group.width // 4)
        widths = widths_of(spec, group, multiple)
        assert least_width(spec, group, multiple) == (widths[-1] if widths else None)


@every_network
def test_narrowest_form_can_be_built_and_narrowed_to(spec: DenseSpec) -> None:
    least = narrowest(spec, 8)
    assert count(least).macs < 0.7 * count(spec).macs
    found = narrow(spec.build(seed=0), least)
    assert found.spec == least


def test_what_is_refused() -> None:
    spec = NETWORKS["lr_aspp of V3-Small"]
    filters = called(spec, "head.filters")
    with pytest.raises(ConfigError, match=r"width=129 is out of range for head\.filters of lrasp"):
        narrower(spec, filters, 129)
    with pytest.raises(ConfigError, match=r"width=0 is out of range for head\.filters"):
        narrower(spec, filters, 0)
    hidden = WidthGroup(name="head.hidden", kind="hidden", width=1)
    with pytest.raises(ConfigError, match=r"head\.hidden of width 1 is no group of"):
        narrower(spec, hidden, 1)
    other = NETWORKS["lr_aspp of V2"]
    with pytest.raises(ConfigError, match="is no narrower form of"):
        narrow(spec.build(seed=0), other)
