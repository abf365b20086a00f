"""A network as the papers print it: equal blocks that follow each other share a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from fractions import Fraction
from typing import Any

from pocketvision.models.arch import ArchSpec, BlockSpec
from pocketvision.nn.heads import ClassifierSpec
from pocketvision.nn.layer import Layer, Size

Shape = tuple[int, int, int]  # height, width, channels

_IN_COLUMNS = ("kind", "c_in", "c_out", "stride", "num_classes", "norm")  # not among the details
_SYMBOLS = {"kernel": "k", "dilation": "d", "groups": "g"}
_SHORT = {"squeeze_excite": "SE", "cbam": "CBAM"}
_SPEAKS_FOR_ITSELF = ("act", "pooling", "gate")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """n equal blocks; the first has stride s and may change the channels, the others have 1.

    blocks: "3", "3-6" or "head". details: k is the kernel, t the expansion (inner channels / input
    channels; where it is no whole number, the inner channels c_mid), g groups, d dilation; further
    fields by their names, where they are not as usual. c: output channels, or classes.
    macs, parameters: of all n together.
    """

    blocks: str
    in_shape: Shape
    kind: str
    details: str
    c: int
    n: int
    s: int
    macs: int
    parameters: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerRow:
    """One convolution or linear layer, and the block it is in: "3" or "head"."""

    block: str
    layer: Layer


def table_rows(spec: ArchSpec) -> tuple[Row, ...]:
    """The network's table, from the stem to the head.

    A block joins those before it where it has stride 1, keeps their channels, and agrees with them
    in every field: as it stands, or with the inner channels taken as a multiple of its input.
    """
    rows: list[Row] = []
    size: Size = (spec.resolution, spec.resolution)
    for first, group in _groups(spec.blocks):
        in_size, layers = size, list[Layer]()
        for block in group:
            layers += block.layers(size)
            size = block.out_size(size)
        last = first + len(group) - 1
        rows.append(
            Row(
                blocks=str(first) if first == last else f"{first}-{last}",
                in_shape=(*in_size, group[0].c_in),
                kind=_words(group[0].kind),
                details=_details(group),
                c=group[-1].c_out,
                n=len(group),
                s=group[0].stride,
                macs=sum(layer.macs for layer in layers),
                parameters=sum(layer.parameters for layer in layers),
            )
        )
    return (*rows, _head_row(spec.head, size))


def layer_rows(spec: ArchSpec) -> tuple[LayerRow, ...]:
    """Every convolution and linear layer in order, with its block."""
    rows: list[LayerRow] = []
    size: Size = (spec.resolution, spec.resolution)
    for index, block in enumerate(spec.blocks):
        rows += [LayerRow(block=str(index), layer=layer) for layer in block.layers(size)]
        size = block.out_size(size)
    return (*rows, *(LayerRow(block="head", layer=layer) for layer in spec.head.layers(size)))


def _head_row(head: ClassifierSpec, size: Size) -> Row:
    layers = head.layers(size)
    return Row(
        blocks="head",
        in_shape=(*size, head.c_in),
        kind=_words(head.kind),
        details=_details([head]),
        c=head.num_classes,
        n=1,
        s=1,
        macs=sum(layer.macs for layer in layers),
        parameters=sum(layer.parameters for layer in layers),
    )


def _groups(blocks: Sequence[BlockSpec]) -> list[tuple[int, list[BlockSpec]]]:
    """Runs of blocks that share a row, each with the index of its first."""
    groups: list[tuple[int, list[BlockSpec]]] = []
    for index, block in enumerate(blocks):
        if groups and _joins(groups[-1][1], block):
            groups[-1][1].append(block)
        else:
            groups.append((index, [block]))
    return groups


def _joins(group: list[BlockSpec], block: BlockSpec) -> bool:
    if (block.kind, block.c_in, block.stride) != (group[0].kind, block.c_out, 1):
        return False
    return any(
        all(_form(block, relative) == _form(other, relative) for other in group)
        for relative in (True, False)
    )


def _form(block: BlockSpec, relative: bool) -> dict[str, object]:
    """What must agree in a row. relative: inner widths as multiples of what they are made from."""
    form = {f.name: getattr(block, f.name) for f in fields(block) if f.name != "c_in"}
    for column in ("stride", "c_out"):
        form.pop(column, None)  # a pool has no c_out of its own
    if "skip" in form and not _keeps_shape(block):
        form["skip"] = True  # there is none, whatever the field says
    if not relative:
        return form
    if "c_mid" in form:
        form["c_mid"] = Fraction(form["c_mid"], block.c_in)
    attention = form.get("attention")
    if attention is not None:
        channels = getattr(block, "attention_channels", block.c_out)
        form["attention"] = {f.name: getattr(attention, f.name) for f in fields(attention)}
        form["attention"]["squeezed"] = Fraction(attention.squeezed, channels)
    return form


def _keeps_shape(block: BlockSpec) -> bool:
    return block.stride == 1 and block.c_in == block.c_out


def _details(group: Sequence[Any], sign: str = ", ") -> str:
    """The fields of equal specifications in words, those that have columns left out."""
    shown = [f for f in fields(group[0]) if f.name not in _IN_COLUMNS]
    shown.sort(key=lambda field: field.name != "c_mid")  # the papers begin with it
    return sign.join(filter(None, (_field_words(field, group) for field in shown)))


def _field_words(field: Field[Any], group: Sequence[Any]) -> str:
    name, values = field.name, [getattr(spec, field.name) for spec in group]
    value = values[-1]
    if name == "c_mid":
        return _expansion(group)
    if name == "squeezed":
        return "/".join(dict.fromkeys(map(str, values)))
    if is_dataclass(value):
        kind = getattr(value, "kind", name)
        return f"{_SHORT.get(kind, _words(kind))} {_details(values, ' ')}".rstrip()
    if isinstance(value, tuple):
        return f"{_words(name)} {_branches(value)}" if value else ""
    usual = field.default if field.default is not MISSING else None
    if value is None or (value == usual and (name not in ("kernel", *_SPEAKS_FOR_ITSELF))):
        return ""
    if name == "skip" and not any(_keeps_shape(spec) for spec in group):
        return ""
    if isinstance(value, bool):
        return f"{name}={'yes' if value else 'no'}"
    if name == "act" and value == "none":
        return "" if usual == "none" else "linear"
    if name in _SPEAKS_FOR_ITSELF:
        return str(value)
    return f"{_SYMBOLS.get(name, name)}={value}"


def _expansion(group: Sequence[Any]) -> str:
    """t where it is a whole number, as MobileNetV2's table has it; else the width, as V3's."""
    ratios = {Fraction(spec.c_mid, spec.c_in) for spec in group}
    ratio = max(ratios)
    if len(ratios) == 1 and ratio.denominator == 1:
        return f"t={ratio}"
    widths = dict.fromkeys(spec.c_mid for spec in group)
    return f"c_mid={'/'.join(map(str, widths))}"


def _branches(value: object) -> str:
    """Branches side by side ("64 | 64-96"), each as the widths of what follows each other."""
    if isinstance(value, tuple):
        sign = " | " if value and isinstance(value[0], tuple) else "-"
        return sign.join(_branches(part) for part in value)
    pooling = getattr(value, "pooling", None)
    return f"{pooling} pool" if pooling else str(getattr(value, "c_out", value))


def _words(name: str) -> str:
    return name.replace("_", " ")
