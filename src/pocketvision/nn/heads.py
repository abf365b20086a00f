"""Heads: from the last feature map to the output."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from pocketvision.errors import ConfigError, at_least, choice
from pocketvision.nn.conv import Act, build_activation
from pocketvision.nn.layer import Layer, Size


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierSpec:
    """Global average pool, an optional hidden layer, dropout, linear classifier.

    hidden: width of the layer between pool and classifier; None: there is none.
    act: the hidden layer's activation. dropout: probability of dropping, 0 to below 1.

    Raises: ConfigError: a field outside what is allowed.
    """

    kind: Literal["classifier"] = "classifier"
    c_in: int
    num_classes: int
    hidden: int | None = None
    act: Act = "none"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        at_least("c_in", self.c_in, 1)
        if self.num_classes == 0:
            raise ConfigError(
                "num_classes=0 is not allowed; expected a whole number from 1 up. For features, "
                "call forward_features, or create the network with features_only=True."
            )
        at_least("num_classes", self.num_classes, 1)
        if self.hidden is not None:
            at_least("hidden", self.hidden, 1)
        choice("act", self.act, get_args(Act))
        if not 0 <= self.dropout < 1:
            raise ConfigError(
                f"dropout={self.dropout} is out of range; expected 0 to below 1, the probability "
                "of dropping."
            )

    def build(self) -> Classifier:
        """The module, newly initialised."""
        return Classifier(self)

    def layers(self, size: Size) -> tuple[Layer, ...]:
        """The linear layers as arithmetic; the pool has none, so `size` does not matter."""
        widths = [self.c_in, *([self.hidden] if self.hidden else []), self.num_classes]
        return tuple(
            Layer(kind="linear", c_in=c_in, c_out=c_out, bias=True)
            for c_in, c_out in itertools.pairwise(widths)
        )


class Classifier(nn.Module):
    """Class scores from the last feature map.

    Shape:  (N, c_in, H, W) float -> (N, num_classes) logits.
    Source: with the hidden layer behind the pool: Howard et al., Searching for MobileNetV3,
            section 5.1 and Fig. 5.
    """

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Linear(spec.c_in, spec.hidden) if spec.hidden else nn.Identity()
        self.act = build_activation(spec.act) if spec.hidden else nn.Identity()
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(spec.hidden or spec.c_in, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        features = self.pool(x).flatten(1)  # (N, c_in)
        out: Tensor = self.classifier(self.dropout(self.act(self.hidden(features))))
        return out
