"""Howard et al., Searching for MobileNetV3, arXiv 1905.02244v5 (ICCV 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from pocketvision.errors import at_least, choice
from pocketvision.models.arch import ArchSpec, BlockSpec, check_input
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
V3_PROJECT_RATIO = 2  # of the original last stage: 320 channels (Fig. 5, upper half)
V3_TAIL = 3  # blocks that `dilated` and `reduced_tail` change
V3_ACTS: dict[str, Act] = {"RE": "relu", "HS": "hswish"}

LastStage = Literal["efficient", "original"]
HSwish = Literal["nowhere", "late", "everywhere"]  # "late": where the tables have it


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
    minimalistic: bool = False,
    dilated: bool = False,
    reduced_tail: bool = False,
    last_stage: LastStage = "efficient",
    stem: int = V3_STEM,
    hswish: HSwish = "late",
) -> ArchSpec:
    """MobileNetV3-Large. The authors trained with `norm=BatchNormSpec(eps=1e-3, momentum=0.01)`.

    width_rule: one of `WIDTH_RULES`. minimalistic: without squeeze-excite, h-swish and 5x5 kernels,
    for plain hardware (the authors' code). dilated: the last three blocks have dilation 2 and
    stride 1, so the last map has stride 16. reduced_tail: half the channels from the last stage
    on (section 6.3). What the paper improved on can be had back: last_stage "original" keeps the
    bottleneck of 960 channels and the 1x1 convolution before the pool (Fig. 5), stem=32 the wider
    stem (section 5.1), and hswish "nowhere" or "everywhere" moves the nonlinearity (Table 5).

    Raises: ConfigError: an option outside what is allowed.
    """
    return _arch(
        "mobilenet_v3_large",
        V3_TABLE_1_LARGE,
        V3_HIDDEN_LARGE,
        width=width,
        resolution=resolution,
        num_classes=num_classes,
        in_chans=in_chans,
        dropout=dropout,
        norm=norm,
        width_rule=width_rule,
        minimalistic=minimalistic,
        dilated=dilated,
        reduced_tail=reduced_tail,
        last_stage=last_stage,
        stem=stem,
        hswish=hswish,
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
    minimalistic: bool = False,
    dilated: bool = False,
    reduced_tail: bool = False,
    last_stage: LastStage = "efficient",
    stem: int = V3_STEM,
    hswish: HSwish = "late",
) -> ArchSpec:
    """MobileNetV3-Small; the options are those of `mobilenet_v3_large`.

    Raises: ConfigError: an option outside what is allowed.
    """
    return _arch(
        "mobilenet_v3_small",
        V3_TABLE_2_SMALL,
        V3_HIDDEN_SMALL,
        width=width,
        resolution=resolution,
        num_classes=num_classes,
        in_chans=in_chans,
        dropout=dropout,
        norm=norm,
        width_rule=width_rule,
        minimalistic=minimalistic,
        dilated=dilated,
        reduced_tail=reduced_tail,
        last_stage=last_stage,
        stem=stem,
        hswish=hswish,
    )


def _arch(
    name: str,
    table: tuple[Row, ...],
    hidden: int,
    *,
    width: float,
    resolution: int,
    num_classes: int,
    in_chans: int,
    dropout: float,
    norm: BatchNormSpec,
    width_rule: str,
    minimalistic: bool,
    dilated: bool,
    reduced_tail: bool,
    last_stage: LastStage,
    stem: int,
    hswish: HSwish,
) -> ArchSpec:
    check_input(width=width, in_chans=in_chans, resolution=resolution)
    at_least("stem", stem, 1)
    choice("last_stage", last_stage, get_args(LastStage))
    choice("hswish", hswish, get_args(HSwish))
    rule = WIDTH_RULES[choice("width_rule", width_rule, WIDTH_RULES)]
    rows = _rows(table, minimalistic, reduced_tail, stem, hswish)
    hidden = hidden // 2 if reduced_tail else hidden
    hidden = make_divisible(hidden * width) if rule.scaled_hidden else hidden
    act = V3_ACTS[rows[-1].nl]  # stem, last convolution and hidden layer share it
    c_stem = stem if width < rule.fixed_stem_below else make_divisible(stem * width)
    body = _body(rows, stem, c_stem, width=width, rule=rule, norm=norm, dilated=dilated)
    out = rows[-1].out  # before the multiplier
    scaled_last = make_divisible(V3_LAST_RATIO * out * width)
    last = scaled_last if rule.relative_exp else V3_LAST_RATIO * body[-1].c_out
    tail: tuple[BlockSpec, ...] = (
        ConvSpec(c_in=body[-1].c_out, c_out=last, kernel=1, act=act, norm=norm),
    )
    if last_stage == "original":
        project = make_divisible(V3_PROJECT_RATIO * out * width)
        tail = (
            InvertedResidualSpec(
                c_in=body[-1].c_out, c_mid=last, c_out=project, act=act, norm=norm
            ),
            ConvSpec(c_in=project, c_out=hidden, kernel=1, act=act, norm=norm),
        )
    changes = {
        "dilated": dilated,
        "reduced tail": reduced_tail,
        "original last stage": last_stage == "original",
        f"stem {stem}": stem != V3_STEM,
        f"h-swish {hswish}": hswish != "late",
        f"{width_rule} widths": width_rule != "paper" and width != 1,
    }
    return ArchSpec(
        name=f"{name}_minimalistic" if minimalistic else name,
        variant=", ".join(words for words, changed in changes.items() if changed),
        width=width,
        in_chans=in_chans,
        resolution=resolution,
        blocks=(
            ConvSpec(c_in=in_chans, c_out=c_stem, stride=2, act=act, norm=norm),
            *body,
            *tail,
        ),
        head=ClassifierSpec(
            c_in=tail[-1].c_out,
            num_classes=num_classes,
            hidden=None if last_stage == "original" else hidden,
            act=act,
            dropout=dropout,
        ),
    )


def _rows(
    table: tuple[Row, ...], minimalistic: bool, reduced_tail: bool, stem: int, hswish: HSwish
) -> list[Row]:
    """The table with the changes asked for."""
    rows = list(table)
    rows[0] = rows[0]._replace(exp=stem)  # the first bottleneck does not expand
    if hswish != "late":
        rows = [row._replace(nl="RE" if hswish == "nowhere" else "HS") for row in rows]
    if minimalistic:
        rows = [row._replace(k=3, se=False, nl="RE") for row in rows]
    if reduced_tail:
        first, *rest = rows[-V3_TAIL:]  # the first still expands a stage of full width
        rows[-V3_TAIL:] = [
            first._replace(out=first.out // 2),
            *(row._replace(exp=row.exp // 2, out=row.out // 2) for row in rest),
        ]
    return rows


def _body(
    rows: list[Row],
    stem: int,
    c_stem: int,
    *,
    width: float,
    rule: WidthRule,
    norm: BatchNormSpec,
    dilated: bool,
) -> list[InvertedResidualSpec]:
    blocks: list[InvertedResidualSpec] = []
    c_in, c_in_at_1 = c_stem, stem
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
