"""Other forms of a network: edits of its specification."""

from __future__ import annotations

from dataclasses import replace

from pocketvision.errors import ConfigError
from pocketvision.models.arch import ArchSpec, Attentive, BlockSpec
from pocketvision.nn.attention import REDUCTION, attention_spec
from pocketvision.nn.blocks import InvertedResidualSpec, SeparableSpec
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.pool import PoolSpec

KINDS = {"se": "squeeze_excite", "cbam": "cbam"}


def with_attention(spec: ArchSpec, name: str, reduction: int | None = None) -> ArchSpec:
    """The network with the attention `name`: "se", "cbam", or "none" to take it away.

    Where some of its blocks have attention, theirs is exchanged; where none has, every block that
    can carry attention gets it. reduction: channels / hidden width; None: 16, and attention that is
    of that kind already stays as it is.

    Source: Hu et al., Squeeze-and-Excitation Networks, Table 3; Woo et al., CBAM, Table 5.
    Raises: ConfigError: an unknown name, a reduction below 1, a network that cannot carry any.
    """
    able = [block for block in spec.blocks if isinstance(block, Attentive)]
    if not able:
        raise ConfigError(f"{spec.label} has no block that can carry attention={name!r}.")
    exchanged = any(block.attention for block in able)

    def edited(block: BlockSpec) -> BlockSpec:
        if not isinstance(block, Attentive) or (exchanged and block.attention is None):
            return block
        if reduction is None and block.attention and block.attention.kind == KINDS.get(name):
            return block
        r = REDUCTION if reduction is None else reduction
        attention = attention_spec(name, block.attention_channels, r)
        return replace(block, attention=attention)

    blocks = tuple(edited(block) for block in spec.blocks)
    usual = reduction in (None, REDUCTION) or name == "none"
    words = name if usual else f"{name} r={reduction}"
    return spec if blocks == spec.blocks else _named(spec, words, blocks=blocks)


def cifar_form(spec: ArchSpec) -> ArchSpec:
    """The network for images of 32 px: a 3x3 stem of stride 1, and no pool behind it.

    Raises: ConfigError: a network that does not begin with a convolution.
    """
    stem, *rest = spec.blocks
    if not isinstance(stem, ConvSpec):
        raise ConfigError(f"{spec.label} begins with {stem.kind}; expected a convolution.")
    if isinstance(rest[0], PoolSpec):
        rest = rest[1:]
    blocks = (replace(stem, kernel=3, stride=1), *rest)
    return _named(spec.at(32), "CIFAR stem", blocks=blocks)


def with_output_stride(spec: ArchSpec, stride: int) -> ArchSpec:
    """The network with a last map of at most this stride: what would reduce further is dilated.

    A block whose stride goes, and all behind it, have twice the dilation; weights fit both forms.

    Source: Chen et al., Rethinking Atrous Convolution, section 3.1.
    Raises: ConfigError: a stride other than 8, 16, 32; a block there that cannot be dilated.
    """
    if stride not in (8, 16, 32):
        raise ConfigError(f"output_stride={stride} is not allowed; expected 8, 16 or 32.")
    blocks: list[BlockSpec] = []
    reached, dilation = 1, 1
    for block in spec.blocks:
        held = block.stride > 1 and reached * block.stride > stride
        reached *= 1 if held else block.stride
        dilation *= block.stride if held else 1
        blocks.append(_dilated(spec, block, dilation) if dilation > 1 else block)
    if tuple(blocks) == spec.blocks:
        return spec
    return _named(spec, f"output stride {stride}", blocks=tuple(blocks))


def _dilated(spec: ArchSpec, block: BlockSpec, dilation: int) -> BlockSpec:
    if isinstance(block, ConvSpec) and block.kernel == 1:
        return replace(block, stride=1)
    if isinstance(block, InvertedResidualSpec):  # without a shortcut where there was none
        block = replace(block, skip=block.skip and block.stride == 1)
    if isinstance(block, ConvSpec | InvertedResidualSpec | SeparableSpec):
        return replace(block, stride=1, dilation=dilation * block.dilation)
    raise ConfigError(
        f"{spec.label} cannot be dilated: {block.kind} has no dilation. Ask for output_stride=32."
    )


def _named(spec: ArchSpec, words: str, *, blocks: tuple[BlockSpec, ...]) -> ArchSpec:
    variant = ", ".join(filter(None, [spec.variant, words]))
    return replace(spec, variant=variant, blocks=blocks)
