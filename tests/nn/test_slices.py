"""Inverted residuals in slices: the same answers, less memory, the same arithmetic."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pocketvision.errors import ConfigError
from pocketvision.models import registry
from pocketvision.models.arch import Network
from pocketvision.nn.attention import CbamSpec, SqueezeExciteSpec
from pocketvision.nn.blocks import InvertedResidual, InvertedResidualSpec
from pocketvision.nn.slices import SlicedInvertedResidual, slice_expansions, slice_width

PLAIN = InvertedResidualSpec(c_in=8, c_mid=24, c_out=8)
NO_EXPANSION = InvertedResidualSpec(c_in=10, c_mid=10, c_out=6, stride=2)
SQUEEZED = InvertedResidualSpec(c_in=8, c_mid=24, c_out=8, attention=SqueezeExciteSpec(squeezed=4))
MACS: dict[str, Callable[[Any, Tensor], int]] = {
    "convolution": lambda args, out: out.numel() * math.prod(args[1].shape[1:]),
    "baddbmm_": lambda args, out: out.numel() * args[1].shape[-1],
}


@dataclass
class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts elements of new maps alive at once, channels of each, and multiply-accumulates.

    Maps are larger than kernels here; views of the input are not new.
    """

    given: Tensor

    alive: int = 0
    peak: int = 0
    macs: int = 0
    channels: list[int] = field(default_factory=list)
    known: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known.add(self.given.untyped_storage().data_ptr())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in MACS:
            self.macs += MACS[name](args, out)
        if isinstance(out, Tensor) and out.ndim == 4 and out.shape[2] > 5:
            self._see(out)
        return out

    def _see(self, out: Tensor) -> None:
        storage = out.untyped_storage()
        if storage.data_ptr() in self.known:
            return
        self.channels.append(out.shape[1])
        self.known.add(storage.data_ptr())
        self.alive += out.numel()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, storage.data_ptr(), out.numel())

    def _forget(self, address: int, count: int) -> None:
        self.known.discard(address)
        self.alive -= count


def block_of(spec: InvertedResidualSpec) -> InvertedResidual:
    """The block in eval mode, with norms that are no identities."""
    torch.manual_seed(0)
    block = spec.build()
    assert isinstance(block, InvertedResidual)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (*module.parameters(), *module.buffers()):
                if tensor.ndim == 1:
                    tensor.data.uniform_(0.5, 1.5)
    return block.eval()


def watched(spec: InvertedResidualSpec, slices: int) -> Watch:
    sliced = SlicedInvertedResidual(block_of(spec), slices)
    x = torch.randn(1, spec.c_in, 12, 12)
    watch = Watch(x)
    with watch:
        sliced(x)
    return watch


@st.composite
def specs(draw: st.DrawFn) -> InvertedResidualSpec:
    c_in = draw(st.integers(1, 9))
    c_mid = draw(st.one_of(st.just(c_in), st.integers(1, 20)))
    squeezed = draw(st.sampled_from([None, 1, 5]))
    return InvertedResidualSpec(
        c_in=c_in,
        c_mid=c_mid,
        c_out=draw(st.one_of(st.just(c_in), st.integers(1, 9))),
        kernel=draw(st.sampled_from([1, 3, 5])),
        stride=draw(st.sampled_from([1, 2])),
        dilation=draw(st.sampled_from([1, 2])),
        act=draw(st.sampled_from(["relu", "relu6", "hswish"])),
        attention=SqueezeExciteSpec(squeezed=squeezed) if squeezed else None,
    )


@given(data=st.data(), spec=specs(), layout=st.sampled_from(["contiguous", "channels last"]))
@settings(max_examples=50)
def test_sliced_block_answers_as_the_whole_one(
    data: st.DataObject, spec: InvertedResidualSpec, layout: str
) -> None:
    slices = data.draw(st.integers(1, spec.c_mid))
    size = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    block = block_of(spec)
    x = torch.randn(data.draw(st.integers(1, 3)), spec.c_in, *size)
    before = x.clone()
    if layout == "channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        SlicedInvertedResidual(block, slices)(x), block(x).detach(), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(x, before, rtol=0, atol=0)


@pytest.mark.parametrize("spec", [PLAIN, NO_EXPANSION, SQUEEZED], ids=["plain", "t1", "se"])
@pytest.mark.parametrize("slices", [1, 2, 3, 5, 7])
def test_no_map_holds_more_than_a_slice(spec: InvertedResidualSpec, slices: int) -> None:
    watch = watched(spec, slices)
    watch.channels.remove(spec.c_out)  # the output itself
    assert max(watch.channels) == spec.c_mid // slices


@pytest.mark.parametrize("spec", [PLAIN, NO_EXPANSION, SQUEEZED], ids=["plain", "t1", "se"])
@pytest.mark.parametrize("slices", [1, 2, 3, 5, 7])
def test_maps_alive_are_the_output_and_one_slice(spec: InvertedResidualSpec, slices: int) -> None:
    watch = watched(spec, slices)
    out_pixels = math.prod(spec.out_size((12, 12)))
    before_depthwise = 12 * 12 if spec.expand else 0
    slice_elements = spec.c_mid // slices * (out_pixels + before_depthwise)
    assert watch.peak == spec.c_out * out_pixels + slice_elements


@pytest.mark.parametrize("slices", [1, 2, 3, 5, 24])
@pytest.mark.parametrize(("spec", "passes"), [(PLAIN, 1), (SQUEEZED, 2)], ids=["plain", "se"])
def test_macs_do_not_depend_on_the_slices(
    spec: InvertedResidualSpec, passes: int, slices: int
) -> None:
    watch = watched(spec, slices)
    layers = spec.layers((12, 12))
    again = (passes - 1) * sum(layer.macs for layer in layers[:2])
    assert watch.macs == sum(layer.macs for layer in layers) + again


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small"])
def test_sliced_network_answers_as_the_whole_one(name: str) -> None:
    network = registry.spec(name, width=0.5, resolution=64, num_classes=5).build(seed=0).eval()
    sliced = slice_expansions(network, 3)
    x = torch.randn(2, 3, 64, 64)
    assert isinstance(sliced, Network)
    assert sum(isinstance(m, SlicedInvertedResidual) for m in sliced.modules()) > 10
    with torch.no_grad():
        torch.testing.assert_close(sliced(x), network(x), rtol=1e-3, atol=1e-4)


def test_slicing_shares_the_weights_and_their_names_and_leaves_the_original() -> None:
    network = registry.spec("mobilenet_v2", width=0.35, num_classes=5).build(seed=0).eval()
    sliced = slice_expansions(network, 2)
    before, after = network.state_dict(), sliced.state_dict()
    assert list(before) == list(after)
    assert all(before[name].data_ptr() == after[name].data_ptr() for name in before)
    assert isinstance(network.blocks[3], InvertedResidual)


def test_block_with_cbam_stays_whole() -> None:
    spec = InvertedResidualSpec(c_in=8, c_mid=24, c_out=8, attention=CbamSpec(squeezed=4))
    sliced = slice_expansions(nn.Sequential(block_of(spec), block_of(PLAIN)).eval(), 3)
    assert [type(block) for block in sliced] == [InvertedResidual, SlicedInvertedResidual]
    with pytest.raises(ConfigError, match="a block with Cbam cannot run in slices"):
        SlicedInvertedResidual(block_of(spec), 2)


def test_train_mode_is_refused() -> None:
    block = block_of(PLAIN)
    sliced = SlicedInvertedResidual(block, 2)
    with pytest.raises(ConfigError, match=r"train mode.*call eval\(\) first"):
        sliced.train()(torch.zeros(1, 8, 4, 4))
    with pytest.raises(ConfigError, match="slices are for inference"):
        SlicedInvertedResidual(block.train(), 2)


@pytest.mark.parametrize("slices", [0, 25])
def test_slices_outside_the_channels_are_refused(slices: int) -> None:
    with pytest.raises(ConfigError, match=rf"slices={slices} is out of range; expected 1 to 24"):
        SlicedInvertedResidual(block_of(PLAIN), slices)


@given(channels=st.integers(1, 2000), data=st.data())
def test_slice_width_is_the_floor(channels: int, data: st.DataObject) -> None:
    slices = data.draw(st.integers(1, channels))
    width = slice_width(channels, slices)
    assert width * slices <= channels < (width + 1) * slices
