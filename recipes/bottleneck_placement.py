"""Linear bottlenecks, and where the shortcut goes: MobileNetV2's Fig. 6, on CIFAR-10.

    python recipes/bottleneck_placement.py CIFAR10 > recipes/bottleneck_placement.md

Source: Sandler et al., MobileNetV2, section 6.4 and Fig. 6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cifar10 import (
    Contender,
    Options,
    Run,
    conditions,
    draw_curves,
    gain_cell,
    of,
    options,
    run_all,
    top1_cell,
)
from plotting import table
from torch import Tensor, nn

from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.editing import cifar_form
from pocketvision.models.mobilenet_v2 import mobilenet_v2
from pocketvision.nn.blocks import InvertedResidual, InvertedResidualSpec

V2 = cifar_form(mobilenet_v2(width=0.5, num_classes=10))
BASE = "MobileNetV2 x0.5"  # linear bottlenecks, shortcut between them


def linear(seed: int) -> Network:
    """The network of the paper."""
    return V2.build(seed)


def with_relu6(seed: int) -> Network:
    """Fig. 6a: ReLU6 behind the projection as well."""
    network = V2.build(seed)
    for block in _bottlenecks(network):
        block.project.add_module("act", nn.ReLU6())  # runs last
    return network


def without_shortcut(seed: int) -> Network:
    """Fig. 6b: no shortcut at all."""
    return _without_skips(V2).build(seed)


def between_expansions(seed: int) -> Network:
    """Fig. 6b: the shortcut joins the wide tensors of neighbouring blocks, not the bottlenecks."""
    network = _without_skips(V2).build(seed)
    previous: Expansion | None = None
    for block, spec in zip(_bottlenecks(network), _specs(V2), strict=True):
        joins = previous is not None and previous.is_like(spec)
        expansion = Expansion(block.expand or nn.Identity(), spec, previous if joins else None)
        block.expand = previous = expansion
    return network


class Expansion(nn.Module):
    """An expansion that adds the one before it, and keeps its output for the next.

    Shape: (N, c_in, H, W) float -> (N, c_mid, H, W).
    """

    def __init__(
        self, expand: nn.Module, spec: InvertedResidualSpec, previous: Expansion | None
    ) -> None:
        super().__init__()
        self.expand = expand
        self.spec = spec
        self.previous = (previous,)  # in a tuple: not a part of this module
        self.wide: Tensor | None = None

    def is_like(self, following: InvertedResidualSpec) -> bool:
        """True if the next block's wide tensor has the shape of this one's."""
        return self.spec.stride == 1 and self.spec.c_mid == following.c_mid

    def forward(self, x: Tensor) -> Tensor:
        wide: Tensor = self.expand(x)
        before = self.previous[0]
        if before is not None and before.wide is not None:
            wide = wide + before.wide
            before.wide = None
        self.wide = wide
        return wide


CONTENDERS: dict[str, Callable[[int], Network]] = {
    BASE: linear,
    "ReLU6 in the bottleneck": with_relu6,
    "shortcut between expansions": between_expansions,
    "no shortcut": without_shortcut,
}


def _without_skips(spec: ArchSpec) -> ArchSpec:
    return replace(
        spec,
        blocks=tuple(
            replace(block, skip=False) if isinstance(block, InvertedResidualSpec) else block
            for block in spec.blocks
        ),
    )


def _bottlenecks(network: Network) -> list[InvertedResidual]:
    return [block for block in network.blocks if isinstance(block, InvertedResidual)]


def _specs(spec: ArchSpec) -> list[InvertedResidualSpec]:
    return [block for block in spec.blocks if isinstance(block, InvertedResidualSpec)]


def page(runs: list[Run], asked: Options) -> list[str]:
    """The page, line by line."""
    rows = [
        (
            name,
            top1_cell(of(name, runs)),
            "" if name == BASE else gain_cell(of(name, runs), of(BASE, runs)),
        )
        for name in CONTENDERS
    ]
    return [
        "# Linear bottlenecks, and where the shortcut goes",
        "",
        "MobileNetV2 has no nonlinearity in its bottlenecks and joins bottlenecks, not expansions, "
        "with its shortcuts (Sandler et al., section 6.4, Fig. 6); here the same choices on "
        f"CIFAR-10, each against {BASE} (3x3 stem of stride 1).",
        "",
        "```",
        f"python recipes/bottleneck_placement.py CIFAR10 --epochs {asked.epochs} "
        f"--seeds {asked.seeds} --threads {asked.threads} --device {asked.device} "
        "> recipes/bottleneck_placement.md",
        "```",
        "",
        "![Top-1 on val by epoch](images/bottleneck_placement.svg)",
        "",
        *table(("network", "test top-1, %", "gain, points"), rows),
        *conditions(asked, runs),
    ]


def main() -> None:
    """Train what is not trained yet, draw the curves, print the page."""
    asked = options(__doc__)
    contenders = [Contender(name=name, build=build) for name, build in CONTENDERS.items()]
    runs = run_all(contenders, asked)
    draw_curves(list(CONTENDERS), runs, asked.out / "images" / "bottleneck_placement.svg")
    print("\n".join(page(runs, asked)))


if __name__ == "__main__":
    main()
