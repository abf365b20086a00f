"""Howard et al., Searching for MobileNetV3, arXiv 1905.02244v5 (ICCV 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from pocketvision.errors import choice
from pocketvision.models.arch import ArchSpec, check_input
from pocketvision.nn.attention import SqueezeExciteSpec
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.nn.conv import DEFAULT_NORM, Act, BatchNormSpec, ConvSpec, make_divisible
from pocketvision.nn.heads import ClassifierSpec


class Row(NamedTuple):
    """One bottleneck: k kernel, exp size, out channels, SE, NL nonlinearity, s stride."""

    k: int
    exp: int
    out: int
    se: bool
    nl: Literal["RE", "HS"]
    s: int


V3_STEM = 16
V3_TABLE_1_LARGE = (
    #   k  exp  out  SE     NL    s
    Row(3, 16, 16, False, "RE", 1),
    Row(3, 64, 24, False, "RE", 2),
    Row(3, 72, 24, False, "RE", 1),
    Row(5, 72, 40, True, "RE", 2),
    Row(5, 120, 40, True, "RE", 1),
    Row(5, 120, 40, True, "RE", 1),
    Row(3, 240, 80, False, "HS", 2),
    Row(3, 200, 80, False, "HS", 1),
    Row(3, 184, 80, False, "HS", 1),
    Row(3, 184, 80, False, "HS", 1),
    Row(3, 480, 112, True, "HS", 1),
    Row(3, 672, 112, True, "HS", 1),
    Row(5, 672, 160, True, "HS", 2),
    Row(5, 960, 160, True, "HS", 1),
    Row(5, 960, 160, True, "HS", 1),
)
V3_TABLE_2_SMALL = (
    #   k  exp  out  SE     NL    s
    Row(3, 16, 16, True, "RE", 2),
    Row(3, 72, 24, False, "RE", 2),
    Row(3, 88, 24, False, "RE", 1),
    Row(5, 96, 40, True, "HS", 2),
    Row(5, 240, 40, True, "HS", 1),
    Row(5, 240, 40, True, "HS", 1),
    Row(5, 120, 48, True, "HS", 1),
    Row(5, 144, 48, True, "HS", 1),
    Row(5, 288, 96, True, "HS", 2),
    Row(5, 576, 96, True, "HS", 1),
    Row(5, 576, 96, True, "HS", 1),
)
# The last 1x1 convolution is 6 x the last row's out in both tables (960, 576). The SE tick that
# Table 2 prints beside the 576 is in none of the authors' checkpoints, nor in torchvision.
V3_LAST_RATIO = 6
V3_HIDDEN_LARGE = 1280
V3_HIDDEN_SMALL = 1024  # arXiv v1 to v4 print 1280
V3_TAIL = 3  # blocks that `dilated` and `reduced_tail` change
V3_ACTS: dict[str, Act] = {"RE": "relu", "HS": "hswish"}


@dataclass(frozen=True, kw_only=True, slots=True)
class WidthRule:
    """What the multiplier does away from 1, where implementations differ.

    relative_exp: expansions keep their ratio to the rounded input width, and the last 1x1 is
    scaled by itself; otherwise expansions are scaled, and the last 1x1 is 6 x the last width.
    scaled_hidden: the layer behind the pool is scaled too.
    fixed_stem_below: multipliers under which the stem keeps its 16 channels.
    """

    relative_exp: bool
    scaled_hidden: bool
    fixed_stem_below: float


WIDTH_RULES = {
    # Reproduces the parameters and MAdds of the paper's Table 9.
    "paper": WidthRule(relative_exp=True, scaled_hidden=False, fixed_stem_below=0.0),
    "timm": WidthRule(relative_exp=True, scaled_hidden=False, fixed_stem_below=0.75),
    "torchvision": WidthRule(relative_exp=False, scaled_hidden=True, fixed_stem_below=0.0),
}


def mobilenet_v3_large(
    *,
    width: float = 1.0,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    dropout: float = 0.2,
    norm: BatchNormSpec = DEFAULT_NORM,
    width_rule: str = "paper",
    dilated: bool = False,
    reduced_tail: bool = False,
) -> ArchSpec:
    """MobileNetV3-Large. The authors trained with `norm=BatchNormSpec(eps=1e-3, momentum=0.01)`.

    width_rule: one of `WIDTH_RULES`. dilated: the last three blocks have dilation 2 and stride 1,
    so the last map has stride 16. reduced_tail: half the channels from the last stage on (section
    6.3).

    Raises: ConfigError: an option outside what is allowed.
    """
    return _arch(
        "mobilenet_v3_large",
        _reduce_tail(V3_TABLE_1_LARGE) if reduced_tail else V3_TABLE_1_LARGE,
        V3_HIDDEN_LARGE // 2 if reduced_tail else V3_HIDDEN_LARGE,
        width=width,
        resolution=resolution,
        num_classes=num_classes,
        in_chans=in_chans,
        dropout=dropout,
        norm=norm,
        width_rule=width_rule,
        dilated=dilated,
    )


def mobilenet_v3_small(
    *,
    width: float = 1.0,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    dropout: float = 0.2,
    norm: BatchNormSpec = DEFAULT_NORM,
    width_rule: str = "paper",
    dilated: bool = False,
    reduced_tail: bool = False,
) -> ArchSpec:
    """MobileNetV3-Small; the options are those of `mobilenet_v3_large`.

    Raises: ConfigError: an option outside what is allowed.
    """
    return _arch(
        "mobilenet_v3_small",
        _reduce_tail(V3_TABLE_2_SMALL) if reduced_tail else V3_TABLE_2_SMALL,
        V3_HIDDEN_SMALL // 2 if reduced_tail else V3_HIDDEN_SMALL,
        width=width,
        resolution=resolution,
        num_classes=num_classes,
        in_chans=in_chans,
        dropout=dropout,
        norm=norm,
        width_rule=width_rule,
        dilated=dilated,
    )


def mobilenet_v3_large_minimalistic(
    *,
    width: float = 1.0,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    dropout: float = 0.2,
    norm: BatchNormSpec = DEFAULT_NORM,
    width_rule: str = "paper",
) -> ArchSpec:
    """MobileNetV3-Large without squeeze-excite, h-swish and 5x5 kernels, for plain hardware.

    width_rule: one of `WIDTH_RULES`.
    Source: the authors' code, "minimalistic".

    Raises: ConfigError: an option outside what is allowed.
    """
    return _arch(
        "mobilenet_v3_large_minimalistic",
        _minimalistic(V3_TABLE_1_LARGE),
        V3_HIDDEN_LARGE,
        width=width,
        resolution=resolution,
        num_classes=num_classes,
        in_chans=in_chans,
        dropout=dropout,
        norm=norm,
        width_rule=width_rule,
    )


def mobilenet_v3_small_minimalistic(
    *,
    width: float = 1.0,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    dropout: float = 0.2,
    norm: BatchNormSpec = DEFAULT_NORM,
    width_rule: str = "paper",
) -> ArchSpec:
    """MobileNetV3-Small without squeeze-excite, h-swish and 5x5 kernels, for plain hardware.

    width_rule: one of `WIDTH_RULES`.
    Source: the authors' code, "minimalistic".

    Raises: ConfigError: an option outside what is allowed.
    """
    return _arch(
        "mobilenet_v3_small_minimalistic",
        _minimalistic(V3_TABLE_2_SMALL),
        V3_HIDDEN_SMALL,
        width=width,
        resolution=resolution,
        num_classes=num_classes,
        in_chans=in_chans,
        dropout=dropout,
        norm=norm,
        width_rule=width_rule,
    )


def _minimalistic(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    return tuple(row._replace(k=3, se=False, nl="RE") for row in rows)


def _reduce_tail(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    first, *rest = rows[-V3_TAIL:]  # the first still expands a stage of full width
    return (
        *rows[:-V3_TAIL],
        first._replace(out=first.out // 2),
        *(row._replace(exp=row.exp // 2, out=row.out // 2) for row in rest),
    )


def _arch(
    name: str,
    rows: tuple[Row, ...],
    hidden: int,
    *,
    width: float,
    resolution: int,
    num_classes: int,
    in_chans: int,
    dropout: float,
    norm: BatchNormSpec,
    width_rule: str,
    dilated: bool = False,
) -> ArchSpec:
    check_input(width=width, in_chans=in_chans, resolution=resolution)
    rule = WIDTH_RULES[choice("width_rule", width_rule, WIDTH_RULES)]
    act = V3_ACTS[rows[-1].nl]  # stem, last convolution and hidden layer share it
    stem = V3_STEM if width < rule.fixed_stem_below else make_divisible(V3_STEM * width)
    body = _body(rows, stem, width=width, rule=rule, norm=norm, dilated=dilated)
    c_in = body[-1].c_out
    scaled_last = make_divisible(V3_LAST_RATIO * rows[-1].out * width)
    last = scaled_last if rule.relative_exp else V3_LAST_RATIO * c_in
    return ArchSpec(
        name=name,
        width=width,
        in_chans=in_chans,
        resolution=resolution,
        blocks=(
            ConvSpec(c_in=in_chans, c_out=stem, stride=2, act=act, norm=norm),
            *body,
            ConvSpec(c_in=c_in, c_out=last, kernel=1, act=act, norm=norm),
        ),
        head=ClassifierSpec(
            c_in=last,
            num_classes=num_classes,
            hidden=make_divisible(hidden * width) if rule.scaled_hidden else hidden,
            act=act,
            dropout=dropout,
        ),
    )


def _body(
    rows: tuple[Row, ...],
    stem: int,
    *,
    width: float,
    rule: WidthRule,
    norm: BatchNormSpec,
    dilated: bool,
) -> list[InvertedResidualSpec]:
    blocks: list[InvertedResidualSpec] = []
    c_in, c_in_at_1 = stem, V3_STEM
    for index, row in enumerate(rows):
        factor = c_in / c_in_at_1 if rule.relative_exp else width
        c_mid, c_out = make_divisible(row.exp * factor), make_divisible(row.out * width)
        is_dilated = dilated and index >= len(rows) - V3_TAIL
        blocks.append(
            InvertedResidualSpec(
                c_in=c_in,
                c_mid=c_mid,
                c_out=c_out,
                kernel=row.k,
                stride=1 if is_dilated else row.s,
                dilation=2 if is_dilated else 1,
                act=V3_ACTS[row.nl],
                attention=SqueezeExciteSpec.for_channels(c_mid) if row.se else None,
                skip=row.s == 1,  # dilation in place of a stride does not bring a shortcut
                norm=norm,
            )
        )
        c_in, c_in_at_1 = c_out, row.out
    return blocks
