"""Memory-efficient inference: the expansion of an inverted residual in slices, never all at once.

Source: Sandler et al., MobileNetV2, section 5.1: F(x) = sum_i B_i o N o A_i(x) over t slices of the
expansion, where A_i expands into a slice, N works within channels, and B_i projects from the slice.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pocketvision.errors import ConfigError, in_range
from pocketvision.nn.attention import SqueezeExcite
from pocketvision.nn.blocks import InvertedResidual
from pocketvision.nn.conv import ConvNormAct

M = TypeVar("M", bound=nn.Module)


def slice_width(channels: int, slices: int) -> int:
    """Channels of one slice, floor(n / t); what the division leaves is one slice more.

    Raises: ConfigError: slices outside 1..channels.
    """
    in_range("slices", slices, 1, channels)
    return channels // slices


def can_slice(block: nn.Module) -> bool:
    """True for an inverted residual without attention, or with squeeze-and-excitation.

    CBAM looks at all channels of every place: a block with it has to stay whole.
    """
    if not isinstance(block, InvertedResidual):
        return False
    return block.attention is None or isinstance(block.attention, SqueezeExcite)


def slice_expansions(module: M, slices: int) -> M:
    """A copy of `module` in which the inverted residuals run in slices; both share all weights.

    module: a network in eval mode; it is not changed. Blocks that `can_slice` refuses stay as they
    are. Names in the state dict stay too.

    Raises: ConfigError: train mode, or slices outside 1..channels of a block's expansion.
    """
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    sliced = copy.deepcopy(module, shared)
    for name, child in list(sliced.named_modules()):
        if name and isinstance(child, InvertedResidual) and can_slice(child):
            sliced.set_submodule(name, SlicedInvertedResidual(child, slices))
    return sliced


class SlicedInvertedResidual(nn.Module):
    """A built inverted residual, run slice by slice; it shares the block's weights.

    Shape:  as the block; no gradients.
    Args:   block: in eval mode. slices: t, from 1 to the channels of the expansion.
    Raises: ConfigError: train mode, slices out of range, attention other than
            squeeze-and-excitation.
    Source: Sandler et al., MobileNetV2, section 5.1.

    At most floor(n / t) of the n channels exist at a time, beside input and output. Norms are
    folded into the slices of the weights. Multiply-accumulates do not depend on t, but
    squeeze-and-excitation takes two passes: the first collects the means its gates need, the second
    computes each slice again and scales it.
    """

    def __init__(self, block: InvertedResidual, slices: int) -> None:
        super().__init__()
        if not can_slice(block):
            raise ConfigError(
                f"a block with {type(block.attention).__name__} cannot run in slices, since that "
                "looks at all channels at once; run the block itself."
            )
        _check_eval(block)
        self.has_skip = block.has_skip
        self.expand, self.depthwise = block.expand, block.depthwise
        self.attention, self.project = block.attention, block.project
        self.channels = int(block.project.get_parameter("conv.weight").shape[1])
        self.width = slice_width(self.channels, slices)
        self.eval()  # as the block: new modules begin in train mode

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        _check_eval(self)
        parts = [slice(i, i + self.width) for i in range(0, self.channels, self.width)]
        gates = self._gates(x, parts) if isinstance(self.attention, SqueezeExcite) else None
        weight, bias = _fold(self.project, slice(None))
        out = self._empty_output(x, len(bias)).copy_(bias[:, None, None])
        for part in parts:
            gate = None if gates is None else gates[:, part]
            self._add_slice(out, x, part, weight[:, part, 0, 0], gate)
        return out.add_(x) if self.has_skip else out

    def _add_slice(
        self, out: Tensor, x: Tensor, part: slice, weight: Tensor, gate: Tensor | None
    ) -> None:
        """out += B_i(N(A_i(x))), without a second map of the output's size."""
        inner = self._inner(x, part)
        if gate is not None:
            inner.mul_(gate)
        places = inner.flatten(2)  # (N, slice, places)
        rows = weight.expand(len(x), *weight.shape)
        out.view(*out.shape[:2], -1).baddbmm_(rows, places)

    def _inner(self, x: Tensor, part: slice) -> Tensor:
        """N(A_i(x)): the channels `part` behind the depthwise convolution."""
        x = _run(self.expand, x, part) if isinstance(self.expand, ConvNormAct) else x[:, part]
        return _run(self.depthwise, x, part)

    def _gates(self, x: Tensor, parts: list[slice]) -> Tensor:
        """First pass of squeeze-and-excitation: (N, channels, 1, 1)."""
        se = self.attention
        assert isinstance(se, SqueezeExcite)
        means = torch.cat([se.pool(self._inner(x, part)) for part in parts], 1)
        gates: Tensor = se.gate(se.expand(se.act(se.reduce(means))))
        return gates

    def _empty_output(self, x: Tensor, c_out: int) -> Tensor:
        """Unset memory of the output's shape, in the memory format of the input."""
        depthwise = self.depthwise
        assert isinstance(depthwise, ConvNormAct)
        last = x.is_contiguous(memory_format=torch.channels_last)
        return torch.empty(
            len(x),
            c_out,
            *(-(-s // step) for s, step in zip(x.shape[2:], depthwise.conv.stride, strict=True)),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last if last else torch.contiguous_format,
        )


def _run(layer: nn.Module, x: Tensor, part: slice) -> Tensor:
    """Output channels `part` of a convolution, norm and activation; `x` holds their inputs."""
    assert isinstance(layer, ConvNormAct)
    conv = layer.conv
    weight, bias = _fold(layer, part)
    groups = 1 if conv.groups == 1 else len(weight)
    out = functional.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, groups)
    activated: Tensor = layer.act(out) if hasattr(layer, "act") else out
    return activated


def _fold(layer: nn.Module, part: slice) -> tuple[Tensor, Tensor]:
    """Weight and bias of output channels `part`, with the norm folded in as it works in eval."""
    assert isinstance(layer, ConvNormAct)
    norm = layer.norm
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight[part] * torch.rsqrt(norm.running_var[part] + norm.eps)
    weight = layer.conv.weight[part] * scale[:, None, None, None]
    return weight, norm.bias[part] - norm.running_mean[part] * scale


def _check_eval(module: nn.Module) -> None:
    if module.training:
        raise ConfigError(
            "slices are for inference: the module is in train mode, where norms need whole "
            "batches; call eval() first."
        )
