"""The inception module: branches side by side, joined along the channels."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Annotated, Literal

import pydantic
import torch
from torch import Tensor, nn

from pocketvision.errors import ConfigError
from pocketvision.nn.attention import Attention
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.layer import Layer, Size
from pocketvision.nn.pool import PoolSpec

Branch = tuple[Annotated[ConvSpec | PoolSpec, pydantic.Discriminator("kind")], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class InceptionSpec:
    """Branches that all see the input; attention on their joined outputs.

    branches: each a chain of convolutions and pools. All take the same channels and have the same
    stride in total, 1 or 2.

    Raises: ConfigError: no branch or an empty one, widths that do not chain, branches that differ
        in input channels or stride.
    """

    kind: Literal["inception"] = "inception"
    branches: tuple[Branch, ...]
    attention: Attention | None = None

    def __post_init__(self) -> None:
        if not self.branches or not all(self.branches):
            raise ConfigError("an inception module has an empty branch, or none; fill or drop it.")
        for index, branch in enumerate(self.branches):
            for before, after in itertools.pairwise(branch):
                if after.c_in != before.c_out:
                    raise ConfigError(
                        f"branch {index} takes {after.c_in} channels where {before.c_out} come; "
                        f"set that c_in to {before.c_out}."
                    )
        _check_same("input channels", [branch[0].c_in for branch in self.branches])
        strides = [_stride(branch) for branch in self.branches]
        _check_same("strides", strides)
        if self.stride not in (1, 2):
            raise ConfigError(f"branches of stride {self.stride} are not allowed; expected 1 or 2.")

    @property
    def c_in(self) -> int:
        """Channels that every branch takes."""
        return self.branches[0][0].c_in

    @property
    def c_out(self) -> int:
        """The branches' output channels together."""
        return sum(branch[-1].c_out for branch in self.branches)

    @property
    def stride(self) -> int:
        """Of every branch."""
        return _stride(self.branches[0])

    @property
    def attention_channels(self) -> int:
        """Channels that attention sees."""
        return self.c_out

    def build(self) -> nn.Module:
        """The module, newly initialised."""
        return Inception(self)

    def out_size(self, size: Size) -> Size:
        """Height and width of the output: the input's divided by the stride, rounded up."""
        return -(-size[0] // self.stride), -(-size[1] // self.stride)

    def layers(self, size: Size) -> tuple[Layer, ...]:
        """All convolutions as arithmetic, branch by branch, for an input of height x width.

        The input is alive until the last branch has read it, the outputs until they are joined.
        """
        out = self.out_size(size)
        x, finished = self.c_in * size[0] * size[1], 0
        layers: tuple[Layer, ...] = ()
        for index, branch in enumerate(self.branches):
            needed = x if index < len(self.branches) - 1 else 0
            between = size
            for place, unit in enumerate(branch):
                if isinstance(unit, ConvSpec):
                    layers += (unit.layer(between, kept=finished + (needed if place else 0)),)
                between = unit.out_size(between)
            finished += branch[-1].c_out * out[0] * out[1]
        return layers + (self.attention.layers(self.c_out, out) if self.attention else ())


def _stride(branch: Branch) -> int:
    return math.prod(unit.stride for unit in branch)


def _check_same(what: str, values: list[int]) -> None:
    if len(set(values)) > 1:
        raise ConfigError(f"branches have {what} {values}; expected the same for all.")


class Inception(nn.Module):
    """Inception module, with attention on its output.

    Shape:  (N, c_in, H, W) float -> (N, c_out, ceil(H / stride), ceil(W / stride)).
    Source: Szegedy et al., Going Deeper with Convolutions, Fig. 2b; with attention: Hu et al.,
            Squeeze-and-Excitation Networks, Fig. 2.
    """

    def __init__(self, spec: InceptionSpec) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(unit.build() for unit in branch)) for branch in spec.branches
        )
        self.attention = spec.attention.build(spec.c_out) if spec.attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([branch(x) for branch in self.branches], 1)  # (N, c_out, H', W')
        out: Tensor = self.attention(joined)
        return out
