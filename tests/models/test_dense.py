"""The law of the dense form: at every pixel the numbers of the window around it."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pocketvision.errors import ConfigError
from pocketvision.models import dense
from pocketvision.models.dense import DenseTwin, gather_windows, logits_at
from pocketvision.models.hybridsn import hybridsn
from pocketvision.models.mobile_patch import mobile_patch
from pocketvision.models.patch import PatchNetwork, PatchSpec
from pocketvision.nn.attention import CbamSpec, SqueezeExciteSpec

ATTENTIONS = (None, SqueezeExciteSpec(squeezed=4, gate="sigmoid"), CbamSpec(squeezed=4, kernel=3))
LAW = {torch.float32: 1e-5, torch.float64: 1e-12}

specs = st.builds(
    lambda build, **fields: build(num_classes=3, **fields),
    st.sampled_from([hybridsn, mobile_patch]),
    bands=st.integers(13, 15),
    window=st.sampled_from([9, 11]),
    attention=st.sampled_from(ATTENTIONS),
)


def settled_network(spec: PatchSpec, dtype: torch.dtype = torch.float64) -> PatchNetwork:
    """In eval mode, with biases and running statistics that are not those of the start."""
    network = spec.build(0).to(dtype).eval()
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
    return network


def scene(spec: PatchSpec, height: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Two scenes whose dense output is height x width."""
    size = (2, spec.bands, height + spec.window - 1, width + spec.window - 1)
    return torch.randn(size, generator=torch.Generator().manual_seed(2), dtype=dtype)


def window_by_window(network: PatchNetwork, x: Tensor) -> Tensor:
    """What the dense form must equal: (N, K, H, W) from single windows."""
    side = network.spec.window
    height, width = x.shape[2] - side + 1, x.shape[3] - side + 1
    rows = [
        torch.stack(
            [network(x[:, :, row : row + side, left : left + side]) for left in range(width)], -1
        )
        for row in range(height)
    ]
    return torch.stack(rows, -2)


@pytest.mark.parametrize("dtype", LAW, ids=str)
@settings(max_examples=12)
@given(spec=specs, height=st.integers(1, 4), width=st.integers(1, 4))
@torch.no_grad()
def test_dense_twin_equals_its_patches(
    dtype: torch.dtype, spec: PatchSpec, height: int, width: int
) -> None:
    network, x = settled_network(spec, dtype), scene(spec, height, width, dtype)
    found, expected = DenseTwin(network)(x), window_by_window(network, x)
    assert found.shape == (2, 3, height, width)
    bound = LAW[dtype] * max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found, expected, rtol=0, atol=bound)


@torch.no_grad()
@pytest.mark.parametrize("build", [hybridsn, mobile_patch])
def test_dense_twin_of_a_window_is_the_network(build: Callable[..., PatchSpec]) -> None:
    network = settled_network(build(bands=13, window=11, num_classes=4))
    x = scene(network.spec, 1, 1)
    torch.testing.assert_close(DenseTwin(network)(x)[:, :, 0, 0], network(x))


@torch.no_grad()
@settings(max_examples=10)
@given(spec=specs, row=st.integers(0, 3), column=st.integers(0, 3))
def test_trunk_of_a_shifted_scene_is_the_shifted_map(
    spec: PatchSpec, row: int, column: int
) -> None:
    network, x = settled_network(spec), scene(spec, 5, 4)
    found, whole = network.trunk(x[:, :, row:, column:]), network.trunk(x)
    torch.testing.assert_close(found, whole[:, :, row:, column:])


@torch.no_grad()
@settings(max_examples=10)
@given(spec=specs, data=st.data())
def test_logits_at_places_are_entries_of_the_dense_form(
    spec: PatchSpec, data: st.DataObject
) -> None:
    place = st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 4))
    places = torch.tensor(data.draw(st.lists(place, min_size=1, max_size=9)))  # repeated ones too
    network, x = settled_network(spec), scene(spec, 4, 5)
    image, row, column = places.unbind(1)
    expected = DenseTwin(network)(x)[image, :, row, column]
    torch.testing.assert_close(logits_at(network, x, places), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
@pytest.mark.parametrize("build", [hybridsn, mobile_patch])
def test_gradients_of_logits_at_are_those_of_the_windows(
    build: Callable[..., PatchSpec], attention: SqueezeExciteSpec | CbamSpec | None
) -> None:
    network = settled_network(build(bands=13, window=11, num_classes=3, attention=attention))
    x = scene(network.spec, 4, 5)
    places = torch.tensor([(0, 0, 0), (1, 3, 4), (0, 2, 1), (0, 2, 2), (0, 2, 1)])
    targets = torch.tensor([0, 1, 2, 0, 2])
    side = network.spec.window
    windows = torch.stack(
        [x[n, :, row : row + side, left : left + side] for n, row, left in places.tolist()]
    )
    parameters = list(network.parameters())
    losses = [
        nn.functional.cross_entropy(logits, targets)
        for logits in (logits_at(network, x, places), network(windows))
    ]
    shared, single = (torch.autograd.grad(loss, parameters) for loss in losses)
    torch.testing.assert_close(shared, single, rtol=1e-9, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_windows_at_once_do_not_change_the_map(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = settled_network(
        mobile_patch(bands=5, window=5, num_classes=3, attention=ATTENTIONS[1])
    )
    x = scene(network.spec, 3, 4)
    expected = window_by_window(network, x)
    monkeypatch.setattr(dense, "WINDOWS_AT_ONCE", at_once)
    torch.testing.assert_close(DenseTwin(network)(x), expected)


@pytest.mark.parametrize("build", [hybridsn, mobile_patch])
def test_dense_macs_are_those_of_the_module(build: Callable[..., PatchSpec]) -> None:
    """Indian Pines whole, border included."""
    spec = build(bands=30, num_classes=16)
    with torch.device("meta"):
        twin = DenseTwin(PatchNetwork(spec)).eval()
        x = torch.zeros(1, 30, 145 + 24, 145 + 24)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        assert twin(x).shape == (1, 16, 145, 145)
    assert spec.dense_macs(145, 145) * 2 == counter.get_total_flops()
    assert spec.dense_macs(1, 1) == sum(layer.macs for layer in spec.layers())


def test_dense_macs_count_attention_for_every_window() -> None:
    spec = hybridsn(bands=13, window=11, num_classes=3, attention=CbamSpec(squeezed=4))
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        DenseTwin(spec.build(0)).eval()(torch.zeros(1, 13, 15, 16))
    assert spec.dense_macs(5, 6) * 2 == counter.get_total_flops()


def test_twin_shares_the_weights() -> None:
    network = mobile_patch(bands=5, window=5, num_classes=3).build(0)
    twin = DenseTwin(network)
    assert {id(p) for p in twin.parameters()} == {id(p) for p in network.parameters()}
    twin.eval()
    assert not network.training


def test_gathered_windows_are_slices() -> None:
    features = torch.arange(2 * 3 * 5 * 6, dtype=torch.float32).view(2, 3, 5, 6)
    places = torch.tensor([(0, 0, 0), (1, 2, 3), (1, 1, 2)])
    for window, (n, row, left) in zip(
        gather_windows(features, places, 3), places.tolist(), strict=True
    ):
        assert torch.equal(window, features[n, :, row : row + 3, left : left + 3])


@pytest.mark.parametrize("place", [(2, 0, 0), (0, 3, 0), (0, 0, 4), (0, -1, 0)])
def test_places_beyond_the_map_are_refused(place: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match=r"places must lie in \[2, 3, 4\]; some do not"):
        gather_windows(torch.zeros(2, 1, 5, 6), torch.tensor([place]), 3)


def test_places_of_another_shape_are_refused() -> None:
    with pytest.raises(ConfigError, match="places is 4x2; expected anyx3"):
        gather_windows(torch.zeros(2, 1, 5, 6), torch.zeros(4, 2, dtype=torch.int64), 3)


@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
@pytest.mark.parametrize(("height", "width"), [(10, 20), (20, 9), (3, 3)])
def test_scene_smaller_than_a_window_is_refused(
    height: int, width: int, attention: SqueezeExciteSpec | CbamSpec | None
) -> None:
    twin = DenseTwin(hybridsn(bands=13, window=11, num_classes=2, attention=attention).build(0))
    message = f"input is {height}x{width} pixels; expected at least the window, 11x11: pad the sc"
    with pytest.raises(ConfigError, match=message):
        twin(torch.zeros(1, 13, height, width))


def test_scene_with_other_bands_is_refused() -> None:
    twin = DenseTwin(mobile_patch(bands=5, window=5, num_classes=2).build(0))
    with pytest.raises(ConfigError, match="input is 1x6x9x9; expected anyx5xanyxany"):
        twin(torch.zeros(1, 6, 9, 9))
