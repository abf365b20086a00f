"""A depthwise 5x5 convolution whose weights get their gradient faster on a CPU.

oneDNN has a fast kernel for the weight gradient of 3x3 depthwise filters, but not of 5x5. Each
corner of a 5x5 gradient (3x3 places; they share the middle row and column) is that of a 3x3 filter
on a shifted image. On small maps the four together take a third to a half of the time.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LARGEST = 8  # height and width of a map; above, the one 5x5 gradient is as fast
CORNERS = ((0, 0), (0, 2), (2, 0), (2, 2))  # top, left


class DepthwiseConv5(nn.Conv2d):
    """`nn.Conv2d` with a kernel of 5, padding 2 and as many groups as channels, without bias.

    Its outputs are those of `nn.Conv2d`; so are its gradients, but for rounding.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) float -> (N, C, ceil(H / stride), ceil(W / stride))."""
        if not (self.training and self._is_slow(x)):
            return super().forward(x)
        found: Tensor = _Depthwise5.apply(x, self.weight, self.stride[0])  # type: ignore[no-untyped-call]
        return found

    def _is_slow(self, x: Tensor) -> bool:
        """Whether there is a gradient of the weights whose kernel is slow."""
        wanted = torch.is_grad_enabled() and self.weight.requires_grad
        here = x.device.type == "cpu" and x.dtype == torch.float32
        small = max(x.shape[2:]) <= LARGEST
        return wanted and here and small and not torch.is_autocast_enabled("cpu")


class _Depthwise5(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, stride=stride, padding=2, groups=x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, weight = ctx.saved_tensors
        stride, grad = ctx.stride, grad.contiguous(memory_format=torch.channels_last)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = _gradients(grad, x, weight, stride, 2, (True, False, False))[0]
        to_weight = torch.empty_like(weight)
        height, width = (stride * (size - 1) + 3 for size in grad.shape[2:])
        corner = weight[:, :, :3, :3].contiguous()
        for top, left in CORNERS:
            pads = (2 - left, width - x.shape[3] - 2 + left, 2 - top, height - x.shape[2] - 2 + top)
            found = _gradients(grad, F.pad(x, pads), corner, stride, 0, (False, True, False))[1]
            to_weight[:, :, top : top + 3, left : left + 3] = found
        return to_x, to_weight, None


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, wanted: tuple[bool, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Of x, the weights and the bias, as far as they are wanted."""
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        bias_sizes=None,
        stride=[stride] * 2,
        padding=[padding] * 2,
        dilation=[1, 1],
        transposed=False,
        output_padding=[0, 0],
        groups=x.shape[1],
        output_mask=wanted,
    )
    return found
