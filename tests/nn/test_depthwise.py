import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pocketvision.models.create import create_model
from pocketvision.nn import depthwise
from pocketvision.nn.conv import BatchNormSpec, ConvSpec
from pocketvision.nn.depthwise import LARGEST, DepthwiseConv5

MEMORY_FORMATS = (torch.contiguous_format, torch.channels_last)


def pair(channels: int, stride: int) -> tuple[DepthwiseConv5, nn.Conv2d]:
    """Two convolutions with the same weights: ours and PyTorch's, in training mode."""
    ours, plain = (
        kind(channels, channels, 5, stride=stride, padding=2, groups=channels, bias=False)
        for kind in (DepthwiseConv5, nn.Conv2d)
    )
    assert isinstance(ours, DepthwiseConv5)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def gradients(conv: nn.Conv2d, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output and the gradients of x and of the weights, of a sum in which every place counts."""
    x = x.clone().requires_grad_()
    out = conv(x)
    factors = torch.arange(out.numel(), dtype=x.dtype).reshape(out.shape).sin()
    (out * factors).sum().backward()
    assert x.grad is not None
    assert conv.weight.grad is not None
    return out, x.grad, conv.weight.grad


@given(
    batch=st.integers(1, 3),
    channels=st.integers(2, 9),
    height=st.integers(1, LARGEST + 2),
    width=st.integers(1, LARGEST + 2),
    stride=st.sampled_from((1, 2)),
    layout=st.sampled_from(MEMORY_FORMATS),
)
def test_outputs_and_gradients_are_those_of_the_plain_convolution(
    batch: int, channels: int, height: int, width: int, stride: int, layout: torch.memory_format
) -> None:
    ours, plain = pair(channels, stride)
    x = torch.randn(batch, channels, height, width).contiguous(memory_format=layout)
    for found, expected in zip(gradients(ours, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_frozen_weights_and_inputs_without_gradient_are_left_alone() -> None:
    ours, plain = pair(4, 1)
    x = torch.randn(2, 4, 6, 6)
    ours(x).sum().backward()  # x wants none
    plain(x).sum().backward()
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad)
    ours.zero_grad()
    ours.requires_grad_(False)
    x.requires_grad_()
    ours(x).sum().backward()
    assert ours.weight.grad is None
    assert x.grad is not None


@pytest.mark.parametrize("state", ["eval", "no gradient", "frozen", "large map", "float64"])
def test_the_fast_gradient_is_kept_to_where_it_is_fast(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(depthwise._Depthwise5, "apply", refuse)
    conv, x = pair(4, 1)[0], torch.randn(1, 4, 8, 8)
    with pytest.raises(AssertionError):
        conv(x)
    match state:
        case "eval":
            conv(x) if conv.eval() else None
        case "no gradient":
            with torch.no_grad():
                conv(x)
        case "frozen":
            conv.requires_grad_(False)(x)
        case "large map":
            conv(torch.randn(1, 4, LARGEST + 1, 1))
        case "float64":
            conv.double()(x.double())


@pytest.mark.parametrize(
    ("kernel", "dilation", "groups", "norm", "fast"),
    [
        (5, 1, 8, BatchNormSpec(), True),
        (3, 1, 8, BatchNormSpec(), False),
        (5, 2, 8, BatchNormSpec(), False),
        (5, 1, 4, BatchNormSpec(), False),
        (5, 1, 8, None, False),
    ],
)
def test_blocks_use_it_for_depthwise_filters_of_5x5(
    kernel: int, dilation: int, groups: int, norm: BatchNormSpec | None, fast: bool
) -> None:
    spec = ConvSpec(c_in=8, c_out=8, kernel=kernel, dilation=dilation, groups=groups, norm=norm)
    assert isinstance(spec.build().conv, DepthwiseConv5) == fast


def test_a_network_gets_the_gradients_of_plain_convolutions() -> None:
    """MobileNetV3-Small: 5x5 filters of both strides on maps of 6x6 and 3x3."""
    torch.manual_seed(0)
    ours = create_model("mobilenet_v3_small", width=0.35, resolution=96, num_classes=4, seed=0)
    plain = copy.deepcopy(ours)
    for module in plain.modules():
        if isinstance(module, DepthwiseConv5):
            module.__class__ = nn.Conv2d  # type: ignore[assignment]  # the same but for forward
    images = torch.randn(4, 3, 96, 96)
    for network in (ours, plain):
        network.train()
        torch.manual_seed(1)  # of dropout
        network(images).square().sum().backward()
    assert any(isinstance(module, DepthwiseConv5) for module in ours.modules())
    expected = dict(plain.named_parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-3, atol=1e-3)
